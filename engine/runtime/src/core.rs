//! What does one core do, turn after turn? Timers, mail, parked connections, ready tasks, then the driver.
//!
//! Never runs on two threads, never shares anything but its [`Remote`] and its counters.

use std::cell::{Cell, RefCell, RefMut};
use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;
use std::task::Poll;
use std::time::{Duration, SystemTime};

use rustix::io::Errno;

use crate::buffer::{BufferPool, Lane};
use crate::cores::{self, CoreId};
use crate::counter::RuntimeCounters;
use crate::driver::{Backend, DriverKind, Io};
use crate::mailbox::{Remote, Waiters};
use crate::net::handle::Handle;
use crate::net::listener::Listener;
use crate::net::stream::{ParkEvent, Stream};
use crate::spin::Spin;
use crate::task::{Entered, Polled, Tasks};
use crate::time::Instant;
use crate::wheel::EntryId;

/// Tasks polled in one turn before timers, mail and the driver get their share again.
const POLLS_PER_TURN: usize = 256;
/// Parked connections handled in one turn.
const PARKED_PER_TURN: usize = 256;
/// First pause before a Unix socket with a full queue is asked again, and the longest; each pause is twice the last.
const UNIX_PAUSE_MIN: Duration = Duration::from_millis(1);
const UNIX_PAUSE_MAX: Duration = Duration::from_millis(50);

/// How a core is set up.
#[derive(Clone, Debug)]
pub struct CoreConfig {
    /// Number of this core among its fellows, from 0.
    pub index: usize,
    /// CPU to pin the thread to; `None` leaves it where the kernel likes.
    pub cpu: Option<CoreId>,
    /// Driver, settled before by [`crate::DriverChoice::settle`].
    pub driver: DriverKind,
    /// Receive buffers of each lane.
    pub buffers_per_lane: u16,
    /// Size of a buffer in bytes.
    pub buffer_bytes: u32,
    /// Pipes for moving bytes from socket to socket, two descriptors and up to 1 MiB of the kernel's memory each; zero
    /// lets all bytes be copied.
    pub pipes_max: u16,
    /// Longest busy wait before sleeping; zero turns it off.
    pub spin_max: Duration,
    /// The part of the core that other threads reach.
    pub remote: Arc<Remote>,
    /// Where the core counts.
    pub counters: Arc<RuntimeCounters>,
}

impl CoreConfig {
    /// A core with the defaults: 256 buffers of 64 KiB a lane, 64 pipes, 50 µs of busy wait, not pinned.
    ///
    /// # Errors
    /// When no file descriptor is left.
    pub fn new(index: usize, driver: DriverKind) -> io::Result<Self> {
        Ok(Self {
            index,
            cpu: None,
            driver,
            buffers_per_lane: 256,
            buffer_bytes: 64 * 1024,
            pipes_max: 64,
            spin_max: Duration::from_micros(50),
            remote: Remote::new()?,
            counters: Arc::new(RuntimeCounters::default()),
        })
    }
}

/// What a task may ask of its core: time, dice, sockets, other tasks.
#[derive(Clone)]
pub struct Core(Rc<Inner>);

/// Gets a parked connection back, with the tag it was parked under.
type ParkedHandler = Rc<dyn Fn(Stream, u32, ParkEvent)>;

struct Inner {
    index: usize,
    tasks: Tasks,
    io: RefCell<Io>,
    on_parked: RefCell<Option<ParkedHandler>>,
    mailbox_waiters: Waiters,
    remote: Arc<Remote>,
    counters: Arc<RuntimeCounters>,
    pools: [Rc<BufferPool>; 2],
    dice: Cell<u64>,
    turn_time: Cell<Instant>,
}

/// Builds an executor on the calling thread, pins it and runs `main`; returns when `main` is done.
///
/// All other tasks are dropped then, and their sockets closed.
///
/// # Errors
/// When the driver cannot be set up, its wait fails, or `main` panics.
pub fn run<F>(config: CoreConfig, main: impl FnOnce(Core) -> F) -> io::Result<()>
where
    F: Future<Output = ()> + 'static,
{
    if let Some(cpu) = config.cpu {
        // A sandbox may refuse; the core works as well unpinned, and /proc shows where it runs.
        let _ = cores::pin(cpu);
    }
    let mut spin = Spin::new(config.spin_max);
    let core = Core::new(config)?;
    let main_state = core.spawn_main(main);
    let outcome = loop {
        core.work();
        match main_state.get() {
            MainState::Running => {}
            MainState::Finished => break Ok(()),
            MainState::Panicked => break Err(io::Error::other("the main task of a core panicked")),
        }
        if let Err(error) = core.wait(&mut spin) {
            break Err(error);
        }
    };
    core.shut_down();
    outcome
}

/// How the main task of a core fares.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum MainState {
    Running,
    Finished,
    Panicked,
}

/// Tells when the main task is gone without having finished.
struct MainEnds(Rc<Cell<MainState>>);

impl Drop for MainEnds {
    fn drop(&mut self) {
        if self.0.get() == MainState::Running {
            self.0.set(MainState::Panicked);
        }
    }
}

/// The buffers of accepted sockets, and those of connected ones.
fn pools(config: &CoreConfig) -> io::Result<[Rc<BufferPool>; 2]> {
    let pool = || BufferPool::new(config.buffers_per_lane, config.buffer_bytes);
    Ok([pool()?, pool()?])
}

/// The next state of a generator, and its number. SplitMix64 (Steele, Lea, Flood 2014).
pub(crate) const fn split_mix(state: u64) -> (u64, u64) {
    let state = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
    let mixed = (state ^ (state >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    (state, mixed ^ (mixed >> 31))
}

impl std::fmt::Debug for Core {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Core({})", self.0.index)
    }
}

impl Core {
    fn new(config: CoreConfig) -> io::Result<Self> {
        let [accepted, connected] = pools(&config)?;
        let backend = Backend::new(config.driver, config.remote.eventfd())?;
        let mut seed = [0; 8];
        rustix::rand::getrandom(&mut seed, rustix::rand::GetRandomFlags::empty())?;
        Ok(Self::assemble(config, backend, [accepted, connected], u64::from_ne_bytes(seed)))
    }

    /// A core whose turns a simulation takes.
    ///
    /// # Errors
    /// When no memory is left for buffers.
    #[cfg(feature = "simulation")]
    pub(crate) fn simulated(
        config: CoreConfig,
        driver: crate::simulation::Driver,
        seed: u64,
    ) -> io::Result<Self> {
        let pools = pools(&config)?;
        Ok(Self::assemble(config, Backend::Simulated(driver), pools, seed))
    }

    fn assemble(config: CoreConfig, backend: Backend, pools: [Rc<BufferPool>; 2], seed: u64) -> Self {
        let io = Io::new(backend, Rc::clone(&pools[0]), Rc::clone(&pools[1]), config.pipes_max);
        let now = io.clock();
        Self(Rc::new(Inner {
            index: config.index,
            tasks: Tasks::new(config.remote.number()),
            io: RefCell::new(io),
            on_parked: RefCell::new(None),
            mailbox_waiters: Waiters::default(),
            remote: config.remote,
            counters: config.counters,
            pools,
            dice: Cell::new(seed),
            turn_time: Cell::new(now),
        }))
    }

    /// Starts the main task; the answer tells how it fares.
    pub(crate) fn spawn_main<F>(&self, main: impl FnOnce(Self) -> F) -> Rc<Cell<MainState>>
    where
        F: Future<Output = ()> + 'static,
    {
        let state = Rc::new(Cell::new(MainState::Running));
        let ends = MainEnds(Rc::clone(&state));
        let main = main(self.clone());
        self.spawn(async move {
            main.await;
            ends.0.set(MainState::Finished);
        });
        state
    }

    /// Number of this core among its fellows, from 0.
    #[must_use]
    pub fn index(&self) -> usize {
        self.0.index
    }

    /// The driver that runs this core.
    #[must_use]
    pub fn driver(&self) -> DriverKind {
        self.io().kind()
    }

    /// The time, read from the clock now.
    #[inline]
    #[must_use]
    pub fn now(&self) -> Instant {
        self.io().clock()
    }

    /// The time at which this turn of the loop began: what deadlines are counted from, at no cost.
    #[inline]
    #[must_use]
    pub fn turn_time(&self) -> Instant {
        self.0.turn_time.get()
    }

    /// Wall-clock time, for what people and other hosts read. Never for deadlines.
    #[must_use]
    pub fn wall_clock(&self) -> SystemTime {
        self.io().wall_clock()
    }

    /// The next of this core's random numbers; not for secrets.
    #[must_use]
    pub fn random(&self) -> u64 {
        let (state, number) = split_mix(self.0.dice.get());
        self.0.dice.set(state);
        number
    }

    /// Starts a task on this core, in recycled memory.
    pub fn spawn(&self, future: impl Future<Output = ()> + 'static) {
        self.0.tasks.spawn(future);
    }

    /// Waits until `deadline`, to the millisecond.
    pub async fn sleep_until(&self, deadline: Instant) {
        let mut sleep = Sleep { core: self, started: None };
        poll_fn(|context| {
            if let Some((sleeper, _)) = sleep.started {
                return self.io().poll_sleep(sleeper, context.waker());
            }
            if deadline <= self.now() {
                return Poll::Ready(());
            }
            sleep.started = Some(self.io().sleep(deadline, context.waker()));
            Poll::Pending
        })
        .await;
    }

    /// Waits for `duration`, to the millisecond.
    pub async fn sleep(&self, duration: Duration) {
        self.sleep_until(self.now() + duration).await;
    }

    /// Lets the other ready tasks go first.
    pub async fn yield_now(&self) {
        let mut yielded = false;
        poll_fn(|context| {
            if std::mem::replace(&mut yielded, true) {
                return Poll::Ready(());
            }
            context.waker().wake_by_ref();
            Poll::Pending
        })
        .await;
    }

    /// Opens a connection to `address`, which must be made before `deadline`.
    ///
    /// # Errors
    /// `TimedOut` past the deadline, or the kernel's.
    pub async fn connect(&self, address: SocketAddr, deadline: Instant) -> io::Result<Stream> {
        // Registered only once the connection is under way: epoll calls an unconnected socket hung up.
        let (handle, is_made) = self.io().connect(address)?;
        let stream = self.adopt(handle, Lane::Connected)?;
        stream.set_deadline(deadline);
        if !is_made {
            stream.connected().await?;
        }
        Ok(stream)
    }

    /// Opens a connection to the Unix socket at `path`, which must be made before `deadline`.
    ///
    /// # Errors
    /// `TimedOut` when the listener's queue is full until past the deadline, or the kernel's: `NotFound` without a file,
    /// `ConnectionRefused` when nobody listens there. A simulated network knows no Unix sockets and says so.
    pub async fn connect_unix(&self, path: &Path, deadline: Instant) -> io::Result<Stream> {
        let mut pause = UNIX_PAUSE_MIN;
        loop {
            // The borrow must end before the sleep.
            let connected = self.io().connect_unix(path);
            match connected {
                Ok(handle) => {
                    let stream = self.adopt(handle, Lane::Connected)?;
                    stream.set_deadline(deadline);
                    return Ok(stream);
                }
                // The kernel has no event for a queue that has room again (unix(7): EAGAIN).
                Err(Errno::AGAIN) if self.now() < deadline => {
                    self.sleep_until(deadline.min(self.now() + pause)).await;
                    pause = (pause * 2).min(UNIX_PAUSE_MAX);
                }
                Err(Errno::AGAIN) => return Err(io::ErrorKind::TimedOut.into()),
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Makes a listening socket this core's.
    ///
    /// # Errors
    /// When the driver cannot watch it.
    pub fn adopt_listener(&self, listener: impl Into<Handle>) -> io::Result<Listener> {
        Listener::new(self.clone(), listener.into())
    }

    /// Makes a non-blocking connected socket this core's.
    ///
    /// # Errors
    /// When the driver cannot watch it.
    pub fn adopt(&self, handle: impl Into<Handle>, lane: Lane) -> io::Result<Stream> {
        let index = self.io().open(handle.into(), lane)?;
        Ok(Stream::new(self.clone(), index))
    }

    /// Says who gets parked connections back; the handler must not block.
    pub fn on_parked(&self, handler: impl Fn(Stream, u32, ParkEvent) + 'static) {
        *self.0.on_parked.borrow_mut() = Some(Rc::new(handler));
    }

    /// Number of tasks that have not ended.
    #[must_use]
    pub fn tasks_live(&self) -> usize {
        self.0.tasks.live()
    }

    #[inline]
    pub(crate) fn io(&self) -> RefMut<'_, Io> {
        self.0.io.borrow_mut()
    }

    pub(crate) fn counters(&self) -> &RuntimeCounters {
        &self.0.counters
    }

    pub(crate) fn mailbox_waiters(&self) -> &Waiters {
        &self.0.mailbox_waiters
    }

    /// First half of a turn: everything that can be done now.
    fn work(&self) {
        let inner = &*self.0;
        let _entered = Entered::new(&inner.tasks);
        inner.counters.turns.add(1);
        if inner.remote.take_pending() {
            inner.remote.take_woken().into_iter().for_each(|task| inner.tasks.wake(task));
            inner.mailbox_waiters.wake_all();
        }
        {
            let mut io = self.io();
            let now = io.clock();
            io.advance(now);
            inner.turn_time.set(now);
        }
        let let_go = self.io().let_go();
        drop(let_go);
        inner.pools.iter().for_each(|pool| pool.wake_waiting());
        self.hand_back_parked();
        self.poll_ready();
    }

    /// Second half: what the world has to say, at once while there is work left.
    fn wait(&self, spin: &mut Spin) -> io::Result<()> {
        let _entered = Entered::new(&self.0.tasks);
        let busy = self.0.tasks.ready_count() > 0
            || self.io().has_parked_events()
            || self.0.pools.iter().any(|pool| pool.can_wake());
        spin.moved(self.0.counters.spliced_bytes.value());
        if busy { self.look(Some(Duration::ZERO), spin).map(|_| ()) } else { self.idle(spin) }
    }

    /// Gives parked connections that came back to their handler.
    fn hand_back_parked(&self) {
        for _ in 0..PARKED_PER_TURN {
            let Some((index, tag, event)) = self.io().next_parked_event() else { return };
            let stream = Stream::new(self.clone(), index);
            let handler = self.0.on_parked.borrow().clone();
            if let Some(handler) = handler {
                handler(stream, tag, event);
            }
        }
    }

    fn poll_ready(&self) {
        let inner = &*self.0;
        let ready = inner.tasks.ready_count().min(POLLS_PER_TURN);
        for _ in 0..ready {
            match inner.tasks.poll_next() {
                Some(Polled::Pending | Polled::Done) => {}
                Some(Polled::Panicked) => inner.counters.task_panics.add(1),
                None => break,
            }
        }
        inner.counters.polls.add(ready as u64);
    }

    /// Asks the driver once; says whether there was anything.
    fn look(&self, timeout: Option<Duration>, spin: &mut Spin) -> io::Result<bool> {
        let waited = self.io().wait(timeout)?;
        spin.saw(waited.events);
        if waited.wakeup {
            self.0.remote.drain_eventfd();
        }
        Ok(waited.events > 0)
    }

    /// Nothing is ready: looks for a while if that has paid off lately, then sleeps in the kernel.
    fn idle(&self, spin: &mut Spin) -> io::Result<()> {
        let inner = &*self.0;
        let began = self.now();
        let budget = spin.budget();
        if !budget.is_zero() {
            loop {
                if self.look(Some(Duration::ZERO), spin)? || inner.remote.has_pending() {
                    inner.counters.spins_won.add(1);
                    spin.won();
                    return Ok(());
                }
                if self.now().since(began) >= budget {
                    break;
                }
                std::hint::spin_loop();
            }
            inner.counters.spins_lost.add(1);
            spin.lost();
        }
        self.publish_gauges();
        let now = self.now();
        let timeout = self.io().next_timer(now);
        if !inner.remote.fall_asleep() {
            return Ok(());
        }
        inner.counters.sleeps.add(1);
        let outcome = self.look(timeout, spin);
        inner.remote.wake_up();
        spin.slept(self.now().since(began));
        outcome.map(|_| ())
    }

    fn publish_gauges(&self) {
        let inner = &*self.0;
        inner.counters.sockets.set(self.io().sockets_open() as u64);
        inner.counters.pipes.set(self.io().conduits_open().into());
        let in_use = |pool: &BufferPool| usize::from(pool.count()) - pool.free_count();
        inner.counters.buffers.set(inner.pools.iter().map(|pool| in_use(pool)).sum::<usize>() as u64);
        inner.counters.buffers_exhausted.set(inner.pools.iter().map(|pool| pool.exhausted()).sum());
    }

    /// Drops all tasks and closes all sockets. What refers to the core in a circle is cut here.
    pub(crate) fn shut_down(&self) {
        let _entered = Entered::new(&self.0.tasks);
        self.0.tasks.clear();
        let handler = self.0.on_parked.borrow_mut().take();
        drop(handler);
        self.io().close_all();
    }
}

/// When a simulated core goes on.
#[cfg(feature = "simulation")]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NextTurn {
    /// It has something to do.
    Now,
    /// A timer may be due.
    At(Instant),
    /// Only when something comes from outside.
    WhenTold,
}

/// What a simulation does instead of [`run`].
#[cfg(feature = "simulation")]
impl Core {
    pub(crate) fn next_turn(&self) -> NextTurn {
        let inner = &*self.0;
        let io = self.io();
        let now = io.clock();
        let has_work = inner.tasks.ready_count() > 0
            || inner.remote.has_pending()
            || io.has_parked_events()
            || io.has_events()
            || inner.pools.iter().any(|pool| pool.can_wake());
        match io.next_timer(now) {
            _ if has_work => NextTurn::Now,
            Some(left) if left.is_zero() => NextTurn::Now,
            Some(left) => NextTurn::At(now + left),
            None => NextTurn::WhenTold,
        }
    }

    /// A turn: everything that can be done now, then what the world has to say.
    pub(crate) fn take_turn(&self) {
        self.work();
        let _entered = Entered::new(&self.0.tasks);
        let looked = self.look(Some(Duration::ZERO), &mut Spin::new(Duration::ZERO));
        debug_assert!(looked.is_ok(), "nothing can fail in memory");
        self.publish_gauges();
    }

    pub(crate) fn usage(&self) -> crate::simulation::Usage {
        self.publish_gauges();
        let io = self.io();
        crate::simulation::Usage {
            tasks_live: self.tasks_live(),
            sockets_open: io.sockets_open(),
            buffers_in_use: self.0.counters.buffers.value() as usize,
            sleepers: io.sleepers(),
        }
    }

    pub(crate) fn task_panics(&self) -> u64 {
        self.0.counters.task_panics.value()
    }
}

/// Gives its place among the sleepers back, however the sleep ends.
struct Sleep<'a> {
    core: &'a Core,
    started: Option<(u32, EntryId)>,
}

impl Drop for Sleep<'_> {
    fn drop(&mut self) {
        if let Some((sleeper, entry)) = self.started {
            self.core.io().cancel_sleep(sleeper, entry);
        }
    }
}
