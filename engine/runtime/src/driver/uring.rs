//! How does a core do its waiting through io_uring? Receives into a buffer ring, polls for the rest.
//!
//! Never lets the kernel hold memory of a task: receives fill pool buffers, and sends are tried by system call at
//! once, so a task may be dropped at any await without anything left in flight.
//!
//! A receive is armed only while somebody waits for its bytes, and takes one buffer at most. A multishot receive would
//! save its submission, but fills buffer after buffer for a reader that is busy elsewhere, until the others have none.
//! When a whole buffer is filled at once the connection moves bulk bytes: what follows is read by system call.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, RawFd};
use std::rc::Rc;
use std::time::Duration;

use io_uring::types::{CancelBuilder, Fd, SubmitArgs, Timespec};
use io_uring::{IoUring, cqueue, opcode, squeue};

use super::epoll::Waited;
use super::ring_buffers::RingBuffers;
use super::socket::{Flags, Socket, Sockets};
use crate::buffer::{BufferPool, Lane};

/// Submission entries; a full queue is submitted at once and filled again.
const SUBMISSIONS: u32 = 1024;
/// Completion entries: more than one turn produces; beyond, the kernel keeps them in its overflow list.
const COMPLETIONS: u32 = 8192;
/// `IORING_RECVSEND_POLL_FIRST`: whoever waits has found nothing just now, so the kernel need not look either.
const POLL_FIRST: u16 = 1;
/// `IORING_ENTER_GETEVENTS`: lets deferred task work run without waiting.
const ENTER_GETEVENTS: u32 = 1;

/// What an operation was for, in the upper half of its user data; the lower half is the socket's slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Operation {
    Receive = 1,
    PollIn = 2,
    PollOut = 3,
    PollEnd = 4,
    Wakeup = 5,
    Cancel = 6,
}

impl Operation {
    const fn user_data(self, index: u32) -> u64 {
        (self as u64) << 32 | index as u64
    }

    const fn from_user_data(data: u64) -> Option<(Self, u32)> {
        let operation = match data >> 32 {
            1 => Self::Receive,
            2 => Self::PollIn,
            3 => Self::PollOut,
            4 => Self::PollEnd,
            5 => Self::Wakeup,
            6 => Self::Cancel,
            _ => return None,
        };
        Some((operation, data as u32))
    }
}

/// The io_uring instance of one core.
pub(crate) struct Uring {
    ring: IoUring,
    accepted: RingBuffers,
    connected: RingBuffers,
    starved: Vec<u32>,
    wakeup: RawFd,
    /// Counts submissions to the kernel, to know whether a socket still has unsubmitted operations.
    turn: u32,
}

fn build_ring() -> io::Result<IoUring> {
    IoUring::builder()
        .setup_clamp()
        .setup_cqsize(COMPLETIONS)
        .setup_submit_all()
        .setup_single_issuer()
        .setup_coop_taskrun()
        .setup_taskrun_flag()
        .setup_defer_taskrun()
        .build(SUBMISSIONS)
}

/// Whether this kernel and sandbox allow what the driver needs, tried on a ring that is closed again.
pub(crate) fn probe() -> io::Result<()> {
    let ring = build_ring()?;
    let pool = BufferPool::new(1, 4096)?;
    let buffers = RingBuffers::register(pool, 0, &ring.submitter())?;
    let mut probe = io_uring::Probe::new();
    ring.submitter().register_probe(&mut probe)?;
    let needed = [opcode::Recv::CODE, opcode::PollAdd::CODE, opcode::AsyncCancel::CODE];
    drop(ring);
    drop(buffers);
    if needed.iter().all(|code| probe.is_supported(*code)) {
        Ok(())
    } else {
        Err(io::Error::new(io::ErrorKind::Unsupported, "the kernel lacks an io_uring operation"))
    }
}

impl Uring {
    pub(crate) fn new(
        wakeup: BorrowedFd<'_>,
        accepted: &Rc<BufferPool>,
        connected: &Rc<BufferPool>,
    ) -> io::Result<Self> {
        let ring = build_ring()?;
        let accepted = RingBuffers::register(Rc::clone(accepted), 0, &ring.submitter())?;
        let connected = RingBuffers::register(Rc::clone(connected), 1, &ring.submitter())?;
        let mut uring =
            Self { ring, accepted, connected, starved: Vec::new(), wakeup: wakeup.as_raw_fd(), turn: 1 };
        uring.arm_wakeup();
        Ok(uring)
    }

    fn buffers(&mut self, lane: Lane) -> &mut RingBuffers {
        match lane {
            Lane::Accepted => &mut self.accepted,
            Lane::Connected => &mut self.connected,
        }
    }

    /// Queues an entry; when the queue is full, what is in it goes to the kernel first.
    fn push(&mut self, entry: &squeue::Entry) {
        loop {
            // SAFETY: every entry of this driver refers to a descriptor that stays open until it is submitted (see
            // `close`) and to no memory besides the registered buffer rings.
            if unsafe { self.ring.submission().push(entry) }.is_ok() {
                return;
            }
            self.submit();
        }
    }

    /// Hands queued entries to the kernel without waiting.
    fn submit(&mut self) {
        self.turn = self.turn.wrapping_add(1);
        while let Err(error) = self.ring.submit() {
            // EBUSY and EAGAIN: completions have to be taken first, which the next wait does; the entries stay queued.
            if error.kind() != io::ErrorKind::Interrupted {
                break;
            }
        }
    }

    fn arm_wakeup(&mut self) {
        let entry = opcode::PollAdd::new(Fd(self.wakeup), libc::POLLIN as u32)
            .multi(true)
            .build()
            .user_data(Operation::Wakeup.user_data(0));
        self.push(&entry);
    }

    fn arm_receive(&mut self, socket: &mut Socket, index: u32) {
        let Some(fd) = &socket.fd else { return };
        let fd = Fd(fd.as_raw_fd());
        let buffers = self.buffers(socket.lane());
        let entry = opcode::Recv::new(fd, std::ptr::null_mut(), buffers.pool().buffer_bytes())
            .ioprio(POLL_FIRST)
            .buf_group(buffers.group())
            .build()
            .flags(squeue::Flags::BUFFER_SELECT)
            .user_data(Operation::Receive.user_data(index));
        socket.flags.set(Flags::RECEIVING);
        socket.operations += 1;
        socket.queued_turn = self.turn;
        self.push(&entry);
    }

    fn cancel(&mut self, operation: Operation, index: u32) {
        let entry = opcode::AsyncCancel::new(operation.user_data(index))
            .build()
            .user_data(Operation::Cancel.user_data(index));
        self.push(&entry);
    }

    fn arm_poll(&mut self, socket: &mut Socket, index: u32, operation: Operation) {
        let (flag, events) = match operation {
            Operation::PollIn => (Flags::POLLING_IN, libc::POLLIN | libc::POLLRDHUP),
            // Errors and hang-ups are always reported.
            Operation::PollEnd => (Flags::POLLING_END, 0),
            _ => (Flags::POLLING_OUT, libc::POLLOUT),
        };
        let Some(fd) = &socket.fd else { return };
        if socket.flags.has(flag) {
            return;
        }
        let entry = opcode::PollAdd::new(Fd(fd.as_raw_fd()), events as u32)
            .build()
            .user_data(operation.user_data(index));
        socket.flags.set(flag);
        socket.operations += 1;
        socket.queued_turn = self.turn;
        self.push(&entry);
    }

    /// Wakes the socket's reader once a read would find something.
    pub(crate) fn wait_readable(&mut self, socket: &mut Socket, index: u32) {
        self.arm_poll(socket, index, Operation::PollIn);
    }

    /// Wakes the socket's writer once a write would find room.
    pub(crate) fn wait_writable(&mut self, socket: &mut Socket, index: u32) {
        self.arm_poll(socket, index, Operation::PollOut);
    }

    /// Wakes the socket's reader once the connection is closed both ways or reset. Armed once, for as long as it lives.
    pub(crate) fn wait_broken(&mut self, socket: &mut Socket, index: u32) {
        self.arm_poll(socket, index, Operation::PollEnd);
    }

    /// Buffers of a lane that the kernel may still fill.
    pub(crate) fn provided(&self, lane: Lane) -> usize {
        match lane {
            Lane::Accepted => self.accepted.provided(),
            Lane::Connected => self.connected.provided(),
        }
    }

    /// Makes sure that bytes, an end or an error will be noticed.
    pub(crate) fn want_receive(&mut self, socket: &mut Socket, index: u32) {
        let is_armed = socket.flags.has(Flags::RECEIVING) || socket.flags.has(Flags::STARVED);
        let has_news = socket.received_bytes > 0 || socket.error != 0 || socket.flags.has(Flags::ENDED);
        if !is_armed && !has_news {
            // What a read by system call would have found, the kernel finds as well.
            socket.flags.clear(Flags::READABLE);
            self.arm_receive(socket, index);
        }
    }

    /// Closes a socket. True when its slot may be reused at once; otherwise [`Self::wait`] releases it when the
    /// kernel has let go of the last operation.
    pub(crate) fn close(&mut self, socket: &mut Socket, index: u32) -> bool {
        if socket.operations == 0 {
            socket.fd = None;
            return true;
        }
        socket.flags.set(Flags::CLOSING);
        let operations = [
            (Flags::RECEIVING, Operation::Receive),
            (Flags::POLLING_IN, Operation::PollIn),
            (Flags::POLLING_OUT, Operation::PollOut),
            (Flags::POLLING_END, Operation::PollEnd),
        ];
        for (flag, operation) in operations {
            if socket.flags.has(flag) {
                self.cancel(operation, index);
            }
        }
        if socket.queued_turn == self.turn {
            // An entry that names this descriptor was not submitted yet: were it closed first, its number could be
            // another socket's by then.
            self.submit();
        }
        socket.fd = None;
        false
    }

    /// Submits, waits for completions and marks the sockets they concern; `None` waits without a limit.
    pub(crate) fn wait(
        &mut self,
        timeout: Option<Duration>,
        sockets: &mut Sockets,
        mut on_ready: impl FnMut(&mut Sockets, u32),
    ) -> io::Result<Waited> {
        self.replenish(sockets);
        self.enter(timeout)?;
        let mut waited = Waited::default();
        let mut rearm_wakeup = false;
        // The completion queue borrows the ring, and handling one may queue submissions: taken out first.
        while let Some(entry) = self.next_completion() {
            waited.events += 1;
            let Some((operation, index)) = Operation::from_user_data(entry.user_data()) else { continue };
            match operation {
                Operation::Cancel => waited.events -= 1,
                Operation::Wakeup => {
                    waited.wakeup = true;
                    rearm_wakeup |= !cqueue::more(entry.flags());
                }
                Operation::Receive | Operation::PollIn | Operation::PollOut | Operation::PollEnd => {
                    self.complete(operation, &entry, sockets, index);
                    let socket = &mut sockets[index];
                    if socket.flags.has(Flags::CLOSING) {
                        if socket.operations == 0 {
                            sockets.release(index);
                        }
                    } else {
                        on_ready(sockets, index);
                    }
                }
            }
        }
        if rearm_wakeup {
            self.arm_wakeup();
        }
        Ok(waited)
    }

    fn next_completion(&mut self) -> Option<cqueue::Entry> {
        self.ring.completion().next()
    }

    /// Gives the kernel the buffers that came back, and arms the receives that had run out of them.
    fn replenish(&mut self, sockets: &mut Sockets) {
        self.accepted.provide();
        self.connected.provide();
        if self.starved.is_empty() {
            return;
        }
        for index in std::mem::take(&mut self.starved) {
            let socket = &mut sockets[index];
            if !socket.flags.has(Flags::STARVED) {
                continue; // closed meanwhile, perhaps another socket by now
            }
            if self.buffers(socket.lane()).provided() > 0 {
                socket.flags.clear(Flags::STARVED);
                self.arm_receive(socket, index);
            } else {
                self.starved.push(index);
            }
        }
    }

    fn enter(&mut self, timeout: Option<Duration>) -> io::Result<()> {
        let outcome = if timeout == Some(Duration::ZERO) {
            let mut submission = self.ring.submission();
            submission.sync();
            let (queued, work) = (submission.len() as u32, submission.taskrun());
            let overflow = submission.cq_overflow();
            drop(submission);
            if queued == 0 && !work && !overflow {
                return Ok(());
            }
            // SAFETY: no argument is passed, and the entries are valid as `push` says.
            unsafe { self.ring.submitter().enter::<libc::sigset_t>(queued, 0, ENTER_GETEVENTS, None) }
        } else if let Some(limit) = timeout {
            let limit = Timespec::from(limit);
            self.ring.submitter().submit_with_args(1, &SubmitArgs::new().timespec(&limit))
        } else {
            self.ring.submitter().submit_and_wait(1)
        };
        self.turn = self.turn.wrapping_add(1);
        match outcome {
            Ok(_) => Ok(()),
            // ETIME: the wait is over. EINTR, EAGAIN, EBUSY: take completions, then try again next turn.
            Err(error) => match error.raw_os_error() {
                Some(libc::ETIME | libc::EINTR | libc::EAGAIN | libc::EBUSY) => Ok(()),
                _ => Err(error),
            },
        }
    }

    fn complete(&mut self, operation: Operation, entry: &cqueue::Entry, sockets: &mut Sockets, index: u32) {
        let socket = &mut sockets[index];
        match operation {
            Operation::Receive => self.complete_receive(entry, socket, index),
            Operation::PollIn => {
                socket.operations -= 1;
                socket.flags.clear(Flags::POLLING_IN);
                socket.flags.set(Flags::READABLE);
            }
            Operation::PollOut => {
                socket.operations -= 1;
                socket.flags.clear(Flags::POLLING_OUT);
                socket.flags.set(Flags::WRITABLE);
            }
            Operation::PollEnd => {
                // The flag stays: this poll also ends when the peer only stops sending, and would do so again at once.
                socket.operations -= 1;
                if entry.result() & i32::from(libc::POLLERR | libc::POLLHUP) != 0 && entry.result() > 0 {
                    socket.flags.set(Flags::BROKEN);
                }
            }
            Operation::Wakeup | Operation::Cancel => {}
        }
    }

    fn complete_receive(&mut self, entry: &cqueue::Entry, socket: &mut Socket, index: u32) {
        socket.operations -= 1;
        socket.flags.clear(Flags::RECEIVING);
        let is_closing = socket.flags.has(Flags::CLOSING);
        let buffers = self.buffers(socket.lane());
        if let Some(buffer) = cqueue::buffer_select(entry.flags()) {
            buffers.taken();
            let bytes = u32::try_from(entry.result()).unwrap_or(0);
            if is_closing || bytes == 0 {
                buffers.pool().give_back(buffer);
            } else {
                (socket.received_buffer, socket.received_bytes) = (buffer, bytes);
                if bytes == buffers.pool().buffer_bytes() {
                    socket.flags.set(Flags::READABLE); // bulk: more is likely to be there
                }
            }
        }
        match entry.result() {
            1.. => {}
            0 => socket.flags.set(Flags::ENDED),
            result if result == -libc::ECANCELED || result == -libc::EINTR => {}
            result if result == -libc::ENOBUFS => {
                buffers.pool().count_exhausted();
                if !is_closing && !socket.flags.has(Flags::STARVED) {
                    socket.flags.set(Flags::STARVED);
                    self.starved.push(index);
                }
            }
            result => socket.error = -result,
        }
    }
}

impl Drop for Uring {
    fn drop(&mut self) {
        // The kernel must be done with the buffers before their memory goes.
        let _ = self.ring.submitter().register_sync_cancel(None, CancelBuilder::any());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn user_data_keeps_operation_and_slot_apart() {
        for operation in [Operation::Receive, Operation::PollIn, Operation::PollOut, Operation::Wakeup] {
            let data = operation.user_data(u32::MAX);
            assert_eq!(Operation::from_user_data(data), Some((operation, u32::MAX)));
        }
        assert_eq!(Operation::from_user_data(0), None);
    }
}
