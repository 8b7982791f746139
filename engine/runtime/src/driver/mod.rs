//! Where do time, bytes and waiting come from? The one seam between a core and the world.
//!
//! Never decides anything about a protocol; never blocks outside [`Io::wait`].
//!
//! Everything a task does to a socket is a `poll_*` method of [`Io`]. The drivers differ in how they learn that
//! a socket can go on; system calls are tried at once, and only what would block waits. A third driver needs
//! no more than these methods: sockets in memory, a virtual clock behind [`Io::clock`], dice behind
//! [`crate::Core::random`].

mod epoll;
mod ring_buffers;
mod socket;
mod uring;

use std::fmt;
use std::io::{self, IoSlice};
use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::rc::Rc;
use std::str::FromStr;
use std::task::{Poll, Waker};
use std::time::Duration;

use rustix::io::Errno;
use rustix::net::{RecvFlags, SendAncillaryBuffer, SendFlags, Shutdown, SocketFlags};

use self::epoll::{Epoll, Waited};
use self::socket::{Flags, NO_DEADLINE, Socket, Sockets};
use self::uring::Uring;
use crate::buffer::{BufferPool, Chunk, Lane};
use crate::time::{self, Instant};
use crate::wheel::Wheel;

/// Nanoseconds in a tick of the timer wheel.
const TICK_NANOS: u64 = 1_000_000;
/// Buffers are scarce when fewer than one in this many is free.
const SCARCE_SHARE: usize = 2;
/// Marks a key of the wheel as a sleeper's; others are socket slots.
const SLEEPER: u32 = 1 << 31;

/// What the operator asked for with `--driver`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum DriverChoice {
    /// The one that measured best among those this kernel and sandbox allow.
    #[default]
    Auto,
    /// io_uring; epoll when its set-up fails.
    Uring,
    /// epoll.
    Epoll,
}

/// Why a value of `--driver` was refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DriverChoiceError(String);

impl fmt::Display for DriverChoiceError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "'{}' is not a driver: give 'auto', 'uring' or 'epoll'", self.0)
    }
}

impl std::error::Error for DriverChoiceError {}

impl FromStr for DriverChoice {
    type Err = DriverChoiceError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "auto" => Ok(Self::Auto),
            "uring" | "io_uring" => Ok(Self::Uring),
            "epoll" => Ok(Self::Epoll),
            _ => Err(DriverChoiceError(text.to_owned())),
        }
    }
}

/// A driver that runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DriverKind {
    /// Edge-triggered epoll.
    Epoll,
    /// io_uring with receives into provided buffers.
    Uring,
}

impl fmt::Display for DriverKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Epoll => "epoll",
            Self::Uring => "io_uring",
        })
    }
}

/// The driver that won, and why it was not the other one.
#[derive(Debug)]
pub struct Chosen {
    /// The driver to run.
    pub kind: DriverKind,
    /// The error that made io_uring unusable, if it was tried.
    pub uring_error: Option<io::Error>,
}

impl DriverChoice {
    /// Tries what was asked for and settles for what works. Any io_uring error falls back to epoll.
    #[must_use]
    pub fn settle(self) -> Chosen {
        match self {
            Self::Epoll => Chosen { kind: DriverKind::Epoll, uring_error: None },
            Self::Auto | Self::Uring => match uring::probe() {
                Ok(()) => Chosen { kind: DriverKind::Uring, uring_error: None },
                Err(error) => Chosen { kind: DriverKind::Epoll, uring_error: Some(error) },
            },
        }
    }
}

enum Backend {
    Epoll(Epoll),
    Uring(Box<Uring>),
}

/// Why a parked socket came back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ParkEvent {
    /// Bytes, an end or an error are there to be received.
    Readable,
    /// Its deadline has passed.
    Deadline,
}

/// Sockets, timers and buffers of one core.
pub(crate) struct Io {
    sockets: Sockets,
    backend: Backend,
    wheel: Wheel,
    now_tick: u64,
    sleepers: Vec<Option<Waker>>,
    sleepers_free: Vec<u32>,
    accepted: Rc<BufferPool>,
    connected: Rc<BufferPool>,
    parked_events: Vec<(u32, ParkEvent)>,
}

fn tick_of(deadline: Instant) -> u64 {
    if deadline == Instant::FAR_FUTURE { NO_DEADLINE } else { deadline.as_nanos().div_ceil(TICK_NANOS) }
}

fn timed_out() -> io::Error {
    io::Error::from(io::ErrorKind::TimedOut)
}

impl Io {
    pub(crate) fn new(
        kind: DriverKind,
        wakeup: BorrowedFd<'_>,
        accepted: Rc<BufferPool>,
        connected: Rc<BufferPool>,
    ) -> io::Result<Self> {
        let backend = match kind {
            DriverKind::Epoll => Backend::Epoll(Epoll::new(wakeup)?),
            DriverKind::Uring => Backend::Uring(Box::new(Uring::new(wakeup, &accepted, &connected)?)),
        };
        let mut wheel = Wheel::new();
        let now_tick = time::monotonic().as_nanos() / TICK_NANOS;
        wheel.advance(now_tick, |_| {});
        Ok(Self {
            sockets: Sockets::default(),
            backend,
            wheel,
            now_tick,
            sleepers: Vec::new(),
            sleepers_free: Vec::new(),
            accepted,
            connected,
            parked_events: Vec::new(),
        })
    }

    pub(crate) fn kind(&self) -> DriverKind {
        match self.backend {
            Backend::Epoll(_) => DriverKind::Epoll,
            Backend::Uring(_) => DriverKind::Uring,
        }
    }

    /// The clock that tasks and deadlines go by.
    #[inline]
    pub(crate) fn clock(&self) -> Instant {
        time::monotonic()
    }

    pub(crate) fn sockets_open(&self) -> usize {
        self.sockets.open_count()
    }

    // ---- sockets -------------------------------------------------------------------------------------------

    /// Takes over a non-blocking socket.
    pub(crate) fn open(&mut self, fd: OwnedFd, lane: Lane) -> io::Result<u32> {
        let index = self.sockets.open(fd, lane);
        if let Backend::Epoll(epoll) = &self.backend {
            let socket = &mut self.sockets[index];
            let registered = match &socket.fd {
                Some(fd) => epoll.register(fd.as_fd(), index),
                None => Ok(()),
            };
            if let Err(error) = registered {
                socket.fd = None;
                self.sockets.release(index);
                return Err(error);
            }
        }
        Ok(index)
    }

    pub(crate) fn close(&mut self, index: u32) {
        let socket = &mut self.sockets[index];
        if let Some(timer) = socket.timer() {
            self.wheel.cancel(timer);
            socket.clear_timer();
        }
        socket.reader = None;
        socket.writer = None;
        socket.flags.clear(Flags::PARKED);
        socket.flags.clear(Flags::STARVED);
        let reusable = match &mut self.backend {
            Backend::Epoll(_) => {
                socket.fd = None;
                true
            }
            Backend::Uring(uring) => uring.close(socket, index),
        };
        if reusable {
            self.sockets.release(index);
        }
    }

    pub(crate) fn fd(&self, index: u32) -> BorrowedFd<'_> {
        match &self.sockets[index].fd {
            Some(fd) => fd.as_fd(),
            None => unreachable!("a stream owns an open socket"),
        }
    }

    /// Sets the end of waits for reading, and of parking.
    pub(crate) fn set_recv_deadline(&mut self, index: u32, deadline: Instant) {
        let tick = tick_of(deadline);
        self.sockets[index].recv_deadline = tick;
        self.arm_timer(index, tick);
    }

    /// Sets the end of waits for writing.
    pub(crate) fn set_send_deadline(&mut self, index: u32, deadline: Instant) {
        let tick = tick_of(deadline);
        self.sockets[index].send_deadline = tick;
        self.arm_timer(index, tick);
    }

    /// Makes sure that the socket's timer comes up no later than `tick`.
    ///
    /// A later deadline keeps the entry: it comes up early, finds the new tick and moves on. Restarting a deadline is
    /// so a single store in all but the first case.
    fn arm_timer(&mut self, index: u32, tick: u64) {
        let socket = &mut self.sockets[index];
        if socket.timer_due() <= tick {
            return; // no deadline at all counts as the latest: an entry left in the wheel finds none and goes
        }
        if let Some(timer) = socket.timer() {
            self.wheel.cancel(timer);
        }
        let timer = self.wheel.insert(tick, index);
        socket.set_timer(timer, tick);
    }

    pub(crate) fn poll_recv(&mut self, index: u32, waker: &Waker) -> Poll<io::Result<Option<Chunk>>> {
        let socket = &mut self.sockets[index];
        let now = self.now_tick;
        if let Backend::Uring(uring) = &mut self.backend
            && let Some(outcome) = uring.poll_received(socket, index, waker)
        {
            return unless_late(outcome, socket, now);
        }
        if !socket.flags.has(Flags::READABLE) {
            return unless_late(wait_read(&mut self.backend, socket, index, waker), socket, now);
        }
        let pool = match socket.lane() {
            Lane::Accepted => &self.accepted,
            Lane::Connected => &self.connected,
        };
        let Some(mut chunk) = pool.take() else {
            pool.wait(waker);
            socket.wait_read(waker);
            return unless_late(Poll::Pending, socket, now);
        };
        match recv_direct(socket, chunk.spare()) {
            Ok(0) => Poll::Ready(Ok(None)),
            Ok(count) => {
                chunk.filled(count);
                Poll::Ready(Ok(Some(chunk)))
            }
            Err(Errno::AGAIN) => unless_late(wait_read(&mut self.backend, socket, index, waker), socket, now),
            Err(error) => Poll::Ready(Err(error.into())),
        }
    }

    /// Receives behind a copy of `prefix`, in one buffer that is taken only once there are bytes. `None` is the end of
    /// the stream.
    pub(crate) fn poll_recv_behind(
        &mut self,
        index: u32,
        prefix: &[u8],
        waker: &Waker,
    ) -> Poll<io::Result<Option<Chunk>>> {
        let socket = &mut self.sockets[index];
        let now = self.now_tick;
        let pool = match socket.lane() {
            Lane::Accepted => &self.accepted,
            Lane::Connected => &self.connected,
        };
        if prefix.len() >= pool.buffer_bytes() as usize {
            return Poll::Ready(Err(io::Error::from(io::ErrorKind::StorageFull)));
        }
        if let Backend::Uring(uring) = &mut self.backend
            && let Some(outcome) = uring.poll_received(socket, index, waker)
        {
            let Poll::Ready(Ok(Some(mut chunk))) = outcome else { return unless_late(outcome, socket, now) };
            if chunk.prepend(prefix) {
                return Poll::Ready(Ok(Some(chunk)));
            }
            let Some(mut whole) = pool.take() else {
                uring.unread(socket, chunk);
                pool.wait(waker);
                return unless_late(Poll::Pending, socket, now);
            };
            whole.append(prefix);
            let count = whole.append(&chunk);
            chunk.consume(count);
            if !chunk.is_empty() {
                uring.unread(socket, chunk);
            }
            return Poll::Ready(Ok(Some(whole)));
        }
        if !socket.flags.has(Flags::READABLE) {
            return unless_late(wait_read(&mut self.backend, socket, index, waker), socket, now);
        }
        let Some(mut chunk) = pool.take() else {
            pool.wait(waker);
            socket.wait_read(waker);
            return unless_late(Poll::Pending, socket, now);
        };
        chunk.append(prefix);
        match recv_direct(socket, chunk.spare()) {
            Ok(0) => Poll::Ready(Ok(None)),
            Ok(count) => {
                chunk.filled(count);
                Poll::Ready(Ok(Some(chunk)))
            }
            Err(Errno::AGAIN) => unless_late(wait_read(&mut self.backend, socket, index, waker), socket, now),
            Err(error) => Poll::Ready(Err(error.into())),
        }
    }

    /// Whether the connection is broken both ways: reset, or closed by both sides. Wakes as a read does otherwise.
    pub(crate) fn poll_broken(&mut self, index: u32, waker: &Waker) -> Poll<()> {
        let socket = &mut self.sockets[index];
        if socket.flags.has(Flags::BROKEN) || socket.error != 0 {
            return Poll::Ready(());
        }
        socket.wait_read(waker);
        if let Backend::Uring(uring) = &mut self.backend {
            uring.wait_broken(socket, index);
        }
        Poll::Pending
    }

    /// Whether most buffers of the socket's lane are in use.
    pub(crate) fn is_scarce(&self, index: u32) -> bool {
        let lane = self.sockets[index].lane();
        let pool = match lane {
            Lane::Accepted => &self.accepted,
            Lane::Connected => &self.connected,
        };
        let with_kernel = match &self.backend {
            Backend::Epoll(_) => 0,
            Backend::Uring(uring) => uring.provided(lane),
        };
        (pool.free_count() + with_kernel) * SCARCE_SHARE < usize::from(pool.count())
    }

    /// Whether an idle connection shows no sign of bytes, end or error.
    pub(crate) fn is_quiet(&self, index: u32) -> bool {
        !has_news(&self.sockets[index])
    }

    /// Sends what the kernel takes at once; `WouldBlock` when that is nothing.
    pub(crate) fn try_send(&mut self, index: u32, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        let socket = &mut self.sockets[index];
        let Some(fd) = socket.fd.as_ref().filter(|_| socket.flags.has(Flags::WRITABLE)) else {
            return Err(io::Error::from(io::ErrorKind::WouldBlock));
        };
        let total: usize = slices.iter().map(|slice| slice.len()).sum();
        let flags = SendFlags::NOSIGNAL | SendFlags::DONTWAIT;
        let sent = loop {
            let outcome = if let [slice] = slices {
                rustix::net::send(fd, slice, flags)
            } else {
                rustix::net::sendmsg(fd, slices, &mut SendAncillaryBuffer::default(), flags)
            };
            match outcome {
                Err(Errno::INTR) => {}
                other => break other,
            }
        };
        match sent {
            Ok(count) => {
                if count < total {
                    socket.flags.clear(Flags::WRITABLE);
                }
                Ok(count)
            }
            Err(Errno::AGAIN) => {
                socket.flags.clear(Flags::WRITABLE);
                Err(io::Error::from(io::ErrorKind::WouldBlock))
            }
            Err(error) => Err(error.into()),
        }
    }

    pub(crate) fn poll_writable(&mut self, index: u32, waker: &Waker) -> Poll<io::Result<()>> {
        let socket = &mut self.sockets[index];
        if socket.flags.has(Flags::WRITABLE) {
            return Poll::Ready(Ok(()));
        }
        if socket.send_deadline <= self.now_tick {
            return Poll::Ready(Err(timed_out()));
        }
        socket.wait_write(waker);
        if let Backend::Uring(uring) = &mut self.backend {
            uring.wait_writable(socket, index);
        }
        Poll::Pending
    }

    /// Says that a connection attempt of this socket is under way.
    pub(crate) fn connecting(&mut self, index: u32) {
        self.sockets[index].flags.clear(Flags::WRITABLE);
    }

    /// Waits for the end of a connection attempt that is under way.
    pub(crate) fn poll_connected(&mut self, index: u32, waker: &Waker) -> Poll<io::Result<()>> {
        let outcome = self.poll_writable(index, waker)?;
        outcome.map(|()| {
            // What epoll said of the socket while it was not connected is no sign of its peer.
            rustix::net::sockopt::socket_error(self.fd(index))??;
            Ok(())
        })
    }

    pub(crate) fn poll_accept(
        &mut self,
        index: u32,
        waker: &Waker,
    ) -> Poll<io::Result<(OwnedFd, Option<SocketAddr>)>> {
        let socket = &mut self.sockets[index];
        if !socket.flags.has(Flags::READABLE) {
            return wait_read(&mut self.backend, socket, index, waker);
        }
        loop {
            let Some(fd) = &socket.fd else { unreachable!("a listener owns an open socket") };
            match rustix::net::acceptfrom_with(fd, SocketFlags::NONBLOCK | SocketFlags::CLOEXEC) {
                Ok((fd, peer)) => {
                    let peer = peer.and_then(|peer| SocketAddr::try_from(peer).ok());
                    return Poll::Ready(Ok((fd, peer)));
                }
                Err(Errno::INTR | Errno::CONNABORTED) => {}
                Err(Errno::AGAIN) => {
                    socket.flags.clear(Flags::READABLE);
                    return wait_read(&mut self.backend, socket, index, waker);
                }
                Err(error) => return Poll::Ready(Err(error.into())),
            }
        }
    }

    pub(crate) fn shutdown_write(&mut self, index: u32) -> io::Result<()> {
        rustix::net::shutdown(self.fd(index), Shutdown::Write)?;
        Ok(())
    }

    // ---- parked sockets ------------------------------------------------------------------------------------

    /// Lets a socket wait without a task; returns its generation.
    pub(crate) fn park(&mut self, index: u32, tag: u32) -> u32 {
        let socket = &mut self.sockets[index];
        socket.tag = tag;
        socket.reader = None;
        socket.writer = None;
        socket.flags.set(Flags::PARKED);
        if let Backend::Uring(uring) = &mut self.backend {
            uring.want_receive(socket, index);
        }
        let generation = socket.generation;
        self.queue_parked_event(index);
        generation
    }

    /// Ends the parking of a socket; false when it is not parked any more.
    pub(crate) fn resume(&mut self, index: u32, generation: u32) -> bool {
        let socket = &mut self.sockets[index];
        let parked = socket.generation == generation && socket.flags.has(Flags::PARKED);
        if parked {
            socket.flags.clear(Flags::PARKED);
        }
        parked
    }

    /// Takes the next parked socket that came back, with its tag. The socket is the caller's from here on.
    pub(crate) fn next_parked_event(&mut self) -> Option<(u32, u32, ParkEvent)> {
        while let Some((index, event)) = self.parked_events.pop() {
            let socket = &mut self.sockets[index];
            socket.flags.clear(Flags::EVENT_QUEUED);
            // Resumed and parked again meanwhile, the socket may not deserve the event any more.
            let is_due = match event {
                ParkEvent::Readable => has_news(socket),
                ParkEvent::Deadline => socket.recv_deadline <= self.now_tick,
            };
            if socket.flags.has(Flags::PARKED) && is_due {
                socket.flags.clear(Flags::PARKED);
                return Some((index, socket.tag, event));
            }
        }
        None
    }

    pub(crate) fn has_parked_events(&self) -> bool {
        !self.parked_events.is_empty()
    }

    fn queue_parked_event(&mut self, index: u32) {
        note_parked(&mut self.sockets, &mut self.parked_events, index, ParkEvent::Readable);
    }

    // ---- time ----------------------------------------------------------------------------------------------

    /// Starts a sleep; the returned number is for [`Self::poll_sleep`] and [`Self::cancel_sleep`].
    pub(crate) fn sleep(&mut self, deadline: Instant, waker: &Waker) -> (u32, crate::wheel::EntryId) {
        let sleeper = self.sleepers_free.pop().unwrap_or_else(|| {
            self.sleepers.push(None);
            self.sleepers.len() as u32 - 1
        });
        self.sleepers[sleeper as usize] = Some(waker.clone());
        (sleeper, self.wheel.insert(tick_of(deadline), sleeper | SLEEPER))
    }

    /// Ends a sleep early, or for good when `fired`.
    pub(crate) fn cancel_sleep(&mut self, sleeper: u32, entry: crate::wheel::EntryId) {
        if self.sleepers[sleeper as usize].take().is_some() {
            self.wheel.cancel(entry);
        }
        self.sleepers_free.push(sleeper);
    }

    /// Whether a sleep has ended; otherwise `waker` will be woken when it does.
    pub(crate) fn poll_sleep(&mut self, sleeper: u32, waker: &Waker) -> Poll<()> {
        match &mut self.sleepers[sleeper as usize] {
            None => Poll::Ready(()),
            Some(known) => {
                known.clone_from(waker);
                Poll::Pending
            }
        }
    }

    /// Moves time forward and wakes whatever was due.
    pub(crate) fn advance(&mut self, now: Instant) {
        let tick = now.as_nanos() / TICK_NANOS;
        if tick == self.now_tick {
            return;
        }
        self.now_tick = tick;
        let Self { wheel, sockets, sleepers, parked_events, .. } = self;
        let mut postponed = std::mem::take(sockets.postponed());
        wheel.advance(tick, |key| {
            if key & SLEEPER != 0 {
                if let Some(waker) = sleepers[(key & !SLEEPER) as usize].take() {
                    waker.wake();
                }
                return;
            }
            let socket = &mut sockets[key];
            socket.clear_timer();
            if socket.recv_deadline <= tick && socket.flags.has(Flags::PARKED) {
                note_parked(sockets, parked_events, key, ParkEvent::Deadline);
                return;
            }
            if socket.recv_deadline <= tick {
                socket.wake_reader();
            }
            if socket.send_deadline <= tick {
                socket.wake_writer();
            }
            if next_deadline(socket, tick) != NO_DEADLINE {
                postponed.push(key);
            }
        });
        for index in postponed.drain(..) {
            let due = next_deadline(&sockets[index], tick);
            let timer = wheel.insert(due, index);
            sockets[index].set_timer(timer, due);
        }
        *sockets.postponed() = postponed;
    }

    /// Time until a timer may be due.
    pub(crate) fn next_timer(&self, now: Instant) -> Option<Duration> {
        let due_tick = self.now_tick + self.wheel.ticks_until_next()?;
        Some(Instant::from_nanos(due_tick * TICK_NANOS).since(now))
    }

    /// Waits for the world, at most `timeout`, and wakes the tasks whose sockets can go on.
    pub(crate) fn wait(&mut self, timeout: Option<Duration>) -> io::Result<Waited> {
        let Self { backend, sockets, parked_events, .. } = self;
        let on_ready = |sockets: &mut Sockets, index: u32| {
            note_parked(sockets, parked_events, index, ParkEvent::Readable);
        };
        match backend {
            Backend::Epoll(epoll) => epoll.wait(timeout, sockets, on_ready),
            Backend::Uring(uring) => uring.wait(timeout, sockets, on_ready),
        }
    }

    /// All sockets, for closing them at the end.
    pub(crate) fn close_all(&mut self) {
        for index in self.sockets.indices() {
            if self.sockets[index].fd.is_some() {
                self.close(index);
            }
        }
    }
}

/// Whether an idle socket shows bytes, an end or an error.
fn has_news(socket: &Socket) -> bool {
    socket.flags.has(Flags::READABLE)
        || socket.flags.has(Flags::READ_CLOSED)
        || socket.received_bytes > 0
        || socket.error != 0
}

/// The earlier of a socket's deadlines that have not passed at `tick`.
fn next_deadline(socket: &Socket, tick: u64) -> u64 {
    let ahead = |deadline: u64| if deadline > tick { deadline } else { NO_DEADLINE };
    ahead(socket.recv_deadline).min(ahead(socket.send_deadline))
}

/// Turns a wait for reading into its end when the deadline has passed. What is there already is never late.
#[inline]
fn unless_late<T>(outcome: Poll<io::Result<T>>, socket: &Socket, now_tick: u64) -> Poll<io::Result<T>> {
    if outcome.is_pending() && socket.recv_deadline <= now_tick {
        return Poll::Ready(Err(timed_out()));
    }
    outcome
}

/// Queues the event of a parked socket that has one, once.
fn note_parked(
    sockets: &mut Sockets,
    parked_events: &mut Vec<(u32, ParkEvent)>,
    index: u32,
    event: ParkEvent,
) {
    let socket = &mut sockets[index];
    if !socket.flags.has(Flags::PARKED) || socket.flags.has(Flags::EVENT_QUEUED) {
        return;
    }
    if has_news(socket) || event == ParkEvent::Deadline {
        socket.flags.set(Flags::EVENT_QUEUED);
        parked_events.push((index, event));
    }
}

/// Waits after a read by system call has found nothing, or for a listener.
fn wait_read<T>(backend: &mut Backend, socket: &mut Socket, index: u32, waker: &Waker) -> Poll<T> {
    socket.wait_read(waker);
    if let Backend::Uring(uring) = backend {
        uring.wait_readable(socket, index);
    }
    Poll::Pending
}

/// Reads by system call. A short read means that the socket is drained: the next bytes bring a new event.
fn recv_direct(socket: &mut Socket, spare: &mut [u8]) -> Result<usize, Errno> {
    let Some(fd) = &socket.fd else { return Err(Errno::BADF) };
    let room = spare.len();
    let outcome = loop {
        match rustix::net::recv(fd, &mut *spare, RecvFlags::DONTWAIT) {
            Err(Errno::INTR) => {}
            other => break other.map(|(_, count)| count),
        }
    };
    let drained = match outcome {
        Ok(count) => count < room && count > 0,
        Err(error) => error == Errno::AGAIN,
    };
    if drained && !socket.flags.has(Flags::READ_CLOSED) || outcome == Err(Errno::AGAIN) {
        socket.flags.clear(Flags::READABLE);
    }
    outcome
}
