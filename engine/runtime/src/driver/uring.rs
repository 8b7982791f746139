//! How does a core learn of readiness from io_uring? One multishot poll for each socket, both directions.
//!
//! Never reads or writes, and never lets the kernel hold memory of this process: only readiness goes through the ring,
//! so a task may be dropped at any await without anything left in flight.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, RawFd};
use std::time::Duration;

use io_uring::types::{Fd, SubmitArgs, Timespec};
use io_uring::{IoUring, cqueue, opcode, squeue};
use rustix::event::epoll::EventFlags;

use super::epoll::{Waited, mark};
use super::socket::{Socket, Sockets};
use crate::net::handle::Handle;

/// Submission entries; a full queue is submitted at once and filled again.
const SUBMISSIONS: u32 = 1024;
/// Completion entries: more than one turn produces; beyond, the kernel keeps them in its overflow list.
const COMPLETIONS: u32 = 8192;
/// `IORING_ENTER_GETEVENTS`: lets deferred task work run without waiting.
const ENTER_GETEVENTS: u32 = 1;

/// User data of the poll of the wake-up descriptor.
const WAKEUP: u64 = u64::MAX;
/// User data of cancellations, whose outcome concerns nobody.
const CANCELLED: u64 = u64::MAX - 1;

/// Names the poll of one use of a slot: one that ends late is told from that of the slot's next socket.
fn user_data(index: u32, generation: u32) -> u64 {
    u64::from(generation & GENERATION_MASK) << 32 | u64::from(index)
}

/// Generations that user data tells apart; keeps clear of [`WAKEUP`] and [`CANCELLED`].
const GENERATION_MASK: u32 = u32::MAX >> 1;

/// The io_uring instance of one core.
pub(crate) struct Uring {
    ring: IoUring,
    wakeup: RawFd,
    /// Counts submissions to the kernel, to know whether a socket's poll is still in the queue.
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
    let mut probe = io_uring::Probe::new();
    ring.submitter().register_probe(&mut probe)?;
    let needed = [opcode::PollAdd::CODE, opcode::AsyncCancel::CODE];
    if needed.iter().all(|code| probe.is_supported(*code)) {
        Ok(())
    } else {
        Err(io::Error::new(io::ErrorKind::Unsupported, "the kernel lacks an io_uring operation"))
    }
}

impl Uring {
    pub(crate) fn new(wakeup: BorrowedFd<'_>) -> io::Result<Self> {
        let mut uring = Self { ring: build_ring()?, wakeup: wakeup.as_raw_fd(), turn: 1 };
        uring.arm_wakeup();
        Ok(uring)
    }

    /// Queues an entry; when the queue is full, what is in it goes to the kernel first.
    fn push(&mut self, entry: &squeue::Entry) {
        loop {
            // SAFETY: every entry of this driver refers to a descriptor that stays open until it is submitted (see
            // `forget`) and to no memory.
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

    fn poll(&mut self, fd: RawFd, events: i16, user_data: u64) {
        let entry = opcode::PollAdd::new(Fd(fd), events as u32).multi(true).build().user_data(user_data);
        self.push(&entry);
    }

    fn arm_wakeup(&mut self) {
        self.poll(self.wakeup, libc::POLLIN, WAKEUP);
    }

    /// Begins to watch a socket, for as long as it is open.
    pub(crate) fn watch(&mut self, socket: &mut Socket, index: u32) {
        let Some(fd) = socket.fd.as_ref().map(Handle::as_raw_fd) else { return };
        let events = libc::POLLIN | libc::POLLOUT | libc::POLLRDHUP;
        socket.queued_turn = self.turn;
        self.poll(fd, events, user_data(index, socket.generation));
    }

    /// Ends the watch of a socket that is about to be closed: the kernel keeps a polled socket open.
    pub(crate) fn forget(&mut self, socket: &Socket, index: u32) {
        let cancel = opcode::AsyncCancel::new(user_data(index, socket.generation));
        self.push(&cancel.build().user_data(CANCELLED));
        if socket.queued_turn == self.turn {
            // The entry that names this descriptor was not submitted yet: were it closed first, its number could be
            // another socket's by then.
            self.submit();
        }
    }

    /// Submits, waits for completions and marks the sockets they concern; `None` waits without a limit.
    pub(crate) fn wait(
        &mut self,
        timeout: Option<Duration>,
        sockets: &mut Sockets,
        mut on_ready: impl FnMut(&mut Sockets, u32),
    ) -> io::Result<Waited> {
        self.enter(timeout)?;
        let mut waited = Waited::default();
        // The completion queue borrows the ring, and a poll that has ended is queued anew.
        while let Some(entry) = self.next_completion() {
            let (data, has_ended) = (entry.user_data(), !cqueue::more(entry.flags()));
            if data == CANCELLED {
                continue;
            }
            waited.events += 1;
            if data == WAKEUP {
                waited.wakeup = true;
                if has_ended {
                    self.arm_wakeup();
                }
                continue;
            }
            let index = data as u32;
            let socket = &mut sockets[index];
            if socket.fd.is_none() || user_data(index, socket.generation) != data {
                continue;
            }
            mark(socket, events_of(entry.result()));
            if has_ended && entry.result() != -libc::ECANCELED {
                self.watch(&mut sockets[index], index);
            }
            on_ready(sockets, index);
        }
        Ok(waited)
    }

    fn next_completion(&mut self) -> Option<cqueue::Entry> {
        self.ring.completion().next()
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
}

/// What a poll has found: the events of poll(2) have the numbers of epoll's. One that the kernel could not go on with says
/// to look by system call.
fn events_of(result: i32) -> EventFlags {
    u32::try_from(result).map_or(EventFlags::IN | EventFlags::OUT, EventFlags::from_bits_retain)
}
