//! What can be done with a socket, and what does the world answer? Sockets, timers and buffers of one core.
//!
//! Never decides anything about a protocol; never blocks outside [`Io::wait`].
//!
//! A turn of the core is two stretches of like work, because code that stays in the cache runs faster: first the tasks
//! compute, then what they have sent goes to the kernel in one row.

mod moves;
mod receives;
mod sends;

use std::any::Any;
use std::io;
use std::net::SocketAddr;
use std::os::fd::BorrowedFd;
use std::path::Path;
use std::rc::Rc;
use std::task::{Poll, Waker};
use std::time::{Duration, SystemTime};

use rustix::io::Errno;

use super::choice::DriverKind;
use super::direct::{Rest, send_rest, shutdown_direct};
use super::epoll::{Epoll, Waited};
use super::outbox::Outbox;
use super::socket::{Flags, Held, NO_DEADLINE, Socket, Sockets, Then};
use super::uring::Uring;
use crate::buffer::{BufferPool, Lane};
use crate::net::conduit::Conduits;
use crate::net::handle::Handle;
use crate::net::stream::ParkEvent;
#[cfg(feature = "simulation")]
use crate::simulation::Driver;
use crate::time::{self, Instant};
use crate::wheel::Wheel;

/// Nanoseconds in a tick of the timer wheel.
const TICK_NANOS: u64 = 1_000_000;
/// How long the rest of a small message may take once its owner has closed the socket.
const ORPHAN_MAX: Duration = Duration::from_secs(5);
/// Buffers are scarce when fewer than one in this many is free.
const SCARCE_SHARE: usize = 2;
/// Marks a key of the wheel as a sleeper's; others are socket slots.
const SLEEPER: u32 = 1 << 31;

/// How a core waits.
pub(crate) enum Backend {
    Epoll(Epoll),
    Uring(Box<Uring>),
    #[cfg(feature = "simulation")]
    Simulated(Driver),
}

impl Backend {
    pub(crate) fn new(kind: DriverKind, wakeup: BorrowedFd<'_>) -> io::Result<Self> {
        Ok(match kind {
            DriverKind::Epoll => Self::Epoll(Epoll::new(wakeup)?),
            DriverKind::Uring => Self::Uring(Box::new(Uring::new(wakeup)?)),
            // A simulated core is made by its simulation, which has its world.
            #[cfg(feature = "simulation")]
            DriverKind::Simulated => return Err(io::ErrorKind::Unsupported.into()),
        })
    }

    /// The clock that tasks and deadlines go by.
    #[inline]
    fn clock(&self) -> Instant {
        #[cfg(feature = "simulation")]
        if let Self::Simulated(driver) = self {
            return driver.world().now();
        }
        time::monotonic()
    }
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
    outbox: Outbox,
    conduits: Conduits,
    /// Sockets whose unsent rest is over with its owner gone.
    finished: Vec<u32>,
    /// What they held.
    let_go: Vec<Held>,
}

fn tick_of(deadline: Instant) -> u64 {
    if deadline == Instant::FAR_FUTURE { NO_DEADLINE } else { deadline.as_nanos().div_ceil(TICK_NANOS) }
}

fn timed_out() -> io::Error {
    io::Error::from(io::ErrorKind::TimedOut)
}

impl Io {
    pub(crate) fn new(
        backend: Backend,
        accepted: Rc<BufferPool>,
        connected: Rc<BufferPool>,
        pipes_max: u16,
    ) -> Self {
        let mut wheel = Wheel::new();
        let now_tick = backend.clock().as_nanos() / TICK_NANOS;
        wheel.advance(now_tick, |_| {});
        Self {
            sockets: Sockets::default(),
            backend,
            wheel,
            now_tick,
            sleepers: Vec::new(),
            sleepers_free: Vec::new(),
            accepted,
            connected,
            parked_events: Vec::new(),
            outbox: Outbox::default(),
            conduits: Conduits::new(pipes_max),
            finished: Vec::new(),
            let_go: Vec::new(),
        }
    }

    pub(crate) fn kind(&self) -> DriverKind {
        match self.backend {
            Backend::Epoll(_) => DriverKind::Epoll,
            Backend::Uring(_) => DriverKind::Uring,
            #[cfg(feature = "simulation")]
            Backend::Simulated(_) => DriverKind::Simulated,
        }
    }

    /// The clock that tasks and deadlines go by.
    #[inline]
    pub(crate) fn clock(&self) -> Instant {
        self.backend.clock()
    }

    /// What people and other hosts call the time.
    pub(crate) fn wall_clock(&self) -> SystemTime {
        #[cfg(feature = "simulation")]
        if let Backend::Simulated(driver) = &self.backend {
            return driver.wall_clock();
        }
        SystemTime::now()
    }

    /// Begins a connection; false while it is under way.
    pub(crate) fn connect(&mut self, address: SocketAddr) -> Result<(Handle, bool), Errno> {
        match self.begin_connection(address) {
            Err(error) if self.conduits.makes_room(error) => self.begin_connection(address),
            outcome => outcome,
        }
    }

    fn begin_connection(&self, address: SocketAddr) -> Result<(Handle, bool), Errno> {
        #[cfg(feature = "simulation")]
        if let Backend::Simulated(driver) = &self.backend {
            return driver.connect(address);
        }
        Handle::connect(address)
    }

    /// Connects to a Unix socket; `AGAIN` while its listener's queue is full. A simulated network has none.
    pub(crate) fn connect_unix(&self, path: &Path) -> Result<Handle, Errno> {
        #[cfg(feature = "simulation")]
        if matches!(self.backend, Backend::Simulated(_)) {
            return Err(Errno::AFNOSUPPORT);
        }
        Handle::connect_unix(path)
    }

    pub(crate) fn sockets_open(&self) -> usize {
        self.sockets.open_count()
    }

    /// Whether a wait would find something at once.
    #[cfg(feature = "simulation")]
    pub(crate) fn has_events(&self) -> bool {
        match &self.backend {
            Backend::Simulated(driver) => driver.has_events(),
            Backend::Epoll(_) | Backend::Uring(_) => false,
        }
    }

    /// Sleeps that have not ended.
    #[cfg(feature = "simulation")]
    pub(crate) fn sleepers(&self) -> usize {
        self.sleepers.len() - self.sleepers_free.len()
    }

    // ---- sockets -------------------------------------------------------------------------------------------

    /// Takes over a non-blocking socket.
    pub(crate) fn open(&mut self, fd: Handle, lane: Lane) -> io::Result<u32> {
        let index = self.sockets.open(fd, lane);
        let socket = &mut self.sockets[index];
        let watched = match (&mut self.backend, &socket.fd) {
            (Backend::Epoll(epoll), Some(fd)) => {
                fd.kernel().map_err(io::Error::from).and_then(|fd| epoll.watch(fd, index))
            }
            (Backend::Uring(uring), _) => {
                uring.watch(socket, index);
                Ok(())
            }
            #[cfg(feature = "simulation")]
            (Backend::Simulated(driver), Some(fd)) => driver.watch(fd, index),
            (_, None) => Ok(()),
        };
        if let Err(error) = watched {
            socket.fd = None;
            self.sockets.release(index);
            return Err(error);
        }
        Ok(index)
    }

    /// Gives a listening socket back; the kernel may keep it watched until the next wait is over.
    pub(crate) fn give_up(&mut self, index: u32) -> Option<Handle> {
        let fd = self.sockets[index].fd.take()?;
        match &self.backend {
            Backend::Epoll(epoll) => {
                if let Ok(fd) = fd.kernel() {
                    epoll.forget(fd);
                }
            }
            // Its poll is cancelled when the slot is given up.
            Backend::Uring(_) => {}
            #[cfg(feature = "simulation")]
            Backend::Simulated(driver) => driver.forget(&fd),
        }
        let held = self.finish(index);
        self.let_go.extend(held);
        Some(fd)
    }

    /// Lets the connection hold something until it is closed. What that does when it is dropped may not touch a socket.
    pub(crate) fn hold(&mut self, index: u32, held: impl Any) {
        self.sockets[index].held = Some(Held::new(held));
    }

    /// What was held by connections that have been closed since nobody owned them.
    #[inline]
    pub(crate) fn let_go(&mut self) -> Vec<Held> {
        std::mem::take(&mut self.let_go)
    }

    /// Closes a socket, or sees to that it is once what was sent has left. Gives back what was held until then.
    pub(crate) fn close(&mut self, index: u32) -> Option<Held> {
        if self.sockets[index].letters > 0 {
            self.deliver();
        }
        let socket = &mut self.sockets[index];
        let Some(unsent) = &mut socket.unsent else { return self.finish(index) };
        unsent.then = Then::Close;
        socket.reader = None;
        socket.writer = None;
        socket.flags.clear(Flags::PARKED);
        socket.recv_deadline = NO_DEADLINE;
        let deadline = Instant::from_nanos(self.now_tick * TICK_NANOS) + ORPHAN_MAX;
        self.set_send_deadline(index, deadline);
        None
    }

    fn finish(&mut self, index: u32) -> Option<Held> {
        let socket = &mut self.sockets[index];
        if let Some(timer) = socket.timer() {
            self.wheel.cancel(timer);
            socket.clear_timer();
        }
        socket.reader = None;
        socket.writer = None;
        socket.flags.clear(Flags::PARKED);
        if let (Some(_), Some(fd)) = (socket.unsent.take(), &socket.fd) {
            // An end would say that everything has left. Where this is refused, the connection is gone already.
            let _ = fd.reset_on_close();
        }
        let held = socket.held.take();
        if let (Some(_), Some(fd)) = (&held, &socket.fd) {
            // io_uring keeps the socket open until its poll is cancelled, and who waits for the end is not to wait for that.
            let _ = fd.shutdown_write();
        }
        if let Backend::Uring(uring) = &mut self.backend {
            uring.forget(socket, index);
        }
        socket.fd = None;
        self.sockets.release(index);
        held
    }

    pub(crate) fn fd(&self, index: u32) -> &Handle {
        match &self.sockets[index].fd {
            Some(fd) => fd,
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

    fn pool(&self, index: u32) -> &Rc<BufferPool> {
        match self.sockets[index].lane() {
            Lane::Accepted => &self.accepted,
            Lane::Connected => &self.connected,
        }
    }

    /// Whether the connection is broken both ways: reset, or closed by both sides. Wakes as a read does otherwise.
    pub(crate) fn poll_broken(&mut self, index: u32, waker: &Waker) -> Poll<()> {
        let socket = &mut self.sockets[index];
        if socket.flags.has(Flags::BROKEN) || socket.error != 0 {
            return Poll::Ready(());
        }
        socket.wait_read(waker);
        Poll::Pending
    }

    /// Whether most buffers of the socket's lane are in use.
    pub(crate) fn is_scarce(&self, index: u32) -> bool {
        let pool = self.pool(index);
        pool.free_count() * SCARCE_SHARE < usize::from(pool.count())
    }

    /// Whether an idle connection shows no sign of bytes, end or error.
    pub(crate) fn is_quiet(&self, index: u32) -> bool {
        !has_news(&self.sockets[index])
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
            self.fd(index).take_error()?;
            Ok(())
        })
    }

    pub(crate) fn poll_accept(
        &mut self,
        index: u32,
        waker: &Waker,
    ) -> Poll<io::Result<(Handle, Option<SocketAddr>)>> {
        let Self { sockets, conduits, .. } = self;
        let socket = &mut sockets[index];
        if !socket.flags.has(Flags::READABLE) {
            socket.wait_read(waker);
            return Poll::Pending;
        }
        loop {
            let Some(fd) = &socket.fd else { unreachable!("a listener owns an open socket") };
            match fd.accept() {
                Ok(accepted) => return Poll::Ready(Ok(accepted)),
                Err(Errno::INTR | Errno::CONNABORTED) => {}
                Err(Errno::AGAIN) => {
                    socket.flags.clear(Flags::READABLE);
                    socket.wait_read(waker);
                    return Poll::Pending;
                }
                // Kept pipes are worth less than a connection.
                Err(error) if conduits.makes_room(error) => {}
                Err(error) => return Poll::Ready(Err(error.into())),
            }
        }
    }

    /// Tells the peer that nothing more follows, once what was sent has left.
    pub(crate) fn shutdown_write(&mut self, index: u32) -> io::Result<()> {
        if self.sockets[index].letters > 0 {
            self.deliver();
        }
        let socket = &mut self.sockets[index];
        match &mut socket.unsent {
            Some(unsent) => unsent.then = Then::ShutDown,
            None => shutdown_direct(socket)?,
        }
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
        let Self { wheel, sockets, sleepers, parked_events, finished, .. } = self;
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
                if socket.unsent.as_ref().is_some_and(|unsent| unsent.then == Then::Close) {
                    finished.push(key);
                    return;
                }
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
        self.finish_orphans();
    }

    /// Closes the sockets whose owners are gone and whose last message is sent or late.
    fn finish_orphans(&mut self) {
        while let Some(index) = self.finished.pop() {
            let held = self.finish(index);
            self.let_go.extend(held);
        }
    }

    /// Time until a timer may be due.
    pub(crate) fn next_timer(&self, now: Instant) -> Option<Duration> {
        let due_tick = self.now_tick + self.wheel.ticks_until_next()?;
        Some(Instant::from_nanos(due_tick * TICK_NANOS).since(now))
    }

    /// Sends what the turn has left, waits for the world, at most `timeout`, and wakes the tasks whose sockets can go on.
    pub(crate) fn wait(&mut self, timeout: Option<Duration>) -> io::Result<Waited> {
        if !self.outbox.is_empty() {
            self.deliver();
        }
        let Self { backend, sockets, parked_events, finished, .. } = self;
        let on_ready = |sockets: &mut Sockets, index: u32| {
            let socket = &mut sockets[index];
            if socket.unsent.is_some() && socket.flags.has(Flags::WRITABLE) {
                match send_rest(socket) {
                    Rest::Sent | Rest::Blocked => {}
                    Rest::Orphaned => return finished.push(index),
                }
            }
            if has_news(socket) || socket.flags.has(Flags::BROKEN) {
                socket.wake_reader();
            }
            if socket.flags.has(Flags::WRITABLE) {
                socket.wake_writer();
            }
            note_parked(sockets, parked_events, index, ParkEvent::Readable);
        };
        let waited = match backend {
            Backend::Epoll(epoll) => epoll.wait(timeout, sockets, on_ready),
            Backend::Uring(uring) => uring.wait(timeout, sockets, on_ready),
            #[cfg(feature = "simulation")]
            Backend::Simulated(driver) => Ok(driver.take_events(sockets, on_ready)),
        };
        self.finish_orphans();
        waited
    }

    /// Closes all sockets and pipes at the end.
    pub(crate) fn close_all(&mut self) {
        self.deliver();
        self.conduits.close_idle();
        for index in self.sockets.indices() {
            if self.sockets[index].fd.is_some() {
                let held = self.finish(index);
                self.let_go.extend(held);
            }
        }
    }
}

/// Whether a read is worth a system call. It is even when a send has failed: what the peer said before may be there still.
fn may_have_bytes(socket: &Socket) -> bool {
    socket.flags.has(Flags::READABLE) && !socket.flags.has(Flags::ENDED)
}

/// How a stream has ended, if it has.
fn end_of(socket: &mut Socket) -> Option<io::Result<()>> {
    if socket.error != 0 {
        return Some(Err(io::Error::from_raw_os_error(std::mem::take(&mut socket.error))));
    }
    // A broken connection is told of once. An end that follows is none that the peer has said.
    let is_broken = socket.flags.has(Flags::SEND_FAILED);
    let end = if is_broken { Err(io::ErrorKind::BrokenPipe.into()) } else { Ok(()) };
    socket.flags.has(Flags::ENDED).then_some(end)
}

/// Whether an idle socket shows bytes, an end or an error.
fn has_news(socket: &Socket) -> bool {
    socket.flags.has(Flags::READABLE)
        || socket.flags.has(Flags::READ_CLOSED)
        || socket.flags.has(Flags::ENDED)
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
