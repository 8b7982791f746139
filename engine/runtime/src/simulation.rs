//! What happens when the network, the clock and the machine misbehave in every way at once? Several cores in one thread,
//! on a network in memory and a virtual clock, everything decided by one seed.
//!
//! Never reads the real clock, sleeps or touches a socket: the same seed gives the same run, to the bit.
//!
//! ```
//! use std::time::Duration;
//! use runtime::simulation::{Faults, HostConfig, Limits, Simulation};
//!
//! let mut simulation = Simulation::new(7, Faults::jittery(), Limits::default());
//! let world = simulation.world().clone();
//! let (here, there) = (world.host(HostConfig::new("client")), world.host(HostConfig::new("server")));
//! let address = world.address(there, 80);
//! let listener = world.listen(there, address, 16).expect("a free port");
//! simulation.start(there, |_| {}, |core| async move {
//!     let listener = core.adopt_listener(listener).expect("adopt");
//!     let (stream, _) = listener.accept().await.expect("accept");
//!     while let Some(chunk) = stream.recv().await.expect("recv") {
//!         stream.send_all(&chunk).await.expect("send");
//!     }
//! }).expect("a core");
//! simulation.start(here, |_| {}, move |core| async move {
//!     let stream = core.connect(address, core.now() + Duration::from_secs(10)).await.expect("connect");
//!     stream.send_all(b"hello").await.expect("send");
//!     stream.shutdown_write().expect("shutdown");
//!     let mut answer = Vec::new();
//!     while let Some(chunk) = stream.recv().await.expect("recv") {
//!         answer.extend_from_slice(&chunk);
//!     }
//!     assert_eq!(answer, b"hello");
//! }).expect("a core");
//! simulation.run().unwrap_or_else(|stopped| panic!("{stopped}"));
//! let remains = simulation.finish();
//! assert!(remains.is_clean(), "{remains}");
//! ```

mod conduit;
mod connection;
mod dice;
mod driver;
mod endpoint;
mod faults;
mod medium;
mod network;
mod pipe;
mod trace;
mod world;

use std::cell::Cell;
use std::fmt::{self, Write};
use std::io;
use std::rc::Rc;
use std::time::Duration;

pub(crate) use self::conduit::Conduit;
use self::dice::nanos_of;
pub(crate) use self::driver::Driver;
pub(crate) use self::endpoint::Endpoint;
pub use self::faults::{FaultCounts, Faults, HostFaults, LinkFaults, Odds};
pub use self::trace::{TraceEvent, TraceKind};
pub use self::world::{HostConfig, HostId, World};
use crate::core::{Core, CoreConfig, MainState, NextTurn};
use crate::driver::DriverKind;

/// Events shown of a run that was stopped.
const EVENTS_SHOWN: usize = 40;

/// When a run is given up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Virtual time from the start.
    pub virtual_time_max: Duration,
    /// Turns of all cores and moves of the clock together.
    pub steps_max: u64,
}

impl Default for Limits {
    /// An hour of virtual time; two million steps, some seconds of real time.
    fn default() -> Self {
        Self { virtual_time_max: Duration::from_secs(3600), steps_max: 2_000_000 }
    }
}

/// Why a run ended before it was done, and what was still alive.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stopped {
    /// Which bound it met.
    pub reason: StopReason,
    /// The cores with their tasks and the connections with their bytes, and the last events; for people.
    pub alive: String,
}

/// Which bound a run met.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StopReason {
    /// [`Limits::virtual_time_max`] is over.
    VirtualTime,
    /// [`Limits::steps_max`] are done.
    Steps,
    /// Nothing is ready, on its way or timed: nothing can happen any more.
    Stuck,
    /// The main task of the core with this number panicked.
    Panicked(usize),
}

/// What one core holds on to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Tasks that have not ended.
    pub tasks_live: usize,
    /// Sockets of the core: its share of the descriptors of its host.
    pub sockets_open: usize,
    /// Receive buffers in use, both lanes together.
    pub buffers_in_use: usize,
    /// Waits for time that have not ended.
    pub sleepers: usize,
}

/// What was left once all tasks were dropped and all sockets closed: nothing, or something leaks.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Remains {
    /// By core.
    pub cores: Vec<Usage>,
    /// By host: its name and its open descriptors. A [`crate::Handle`] that somebody still holds is one.
    pub handles_open: Vec<(String, usize)>,
}

impl Remains {
    /// Whether nothing was left.
    #[must_use]
    pub fn is_clean(&self) -> bool {
        self.cores.iter().all(|usage| *usage == Usage::default())
            && self.handles_open.iter().all(|(_, open)| *open == 0)
    }
}

impl fmt::Display for Remains {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (core, usage) in self.cores.iter().enumerate() {
            writeln!(f, "core {core}: {usage}")?;
        }
        self.handles_open.iter().try_for_each(|(host, open)| writeln!(f, "{host}: {open} descriptors"))
    }
}

impl fmt::Display for Usage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { tasks_live, sockets_open, buffers_in_use, sleepers } = self;
        write!(
            f,
            "{tasks_live} tasks, {sockets_open} sockets, {buffers_in_use} buffers in use, {sleepers} sleepers"
        )
    }
}

impl fmt::Display for Stopped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.reason {
            StopReason::VirtualTime => f.write_str("the run took too much virtual time")?,
            StopReason::Steps => f.write_str("the run took too many steps")?,
            StopReason::Stuck => f.write_str("nothing can happen any more")?,
            StopReason::Panicked(core) => write!(f, "the main task of core {core} panicked")?,
        }
        write!(f, "; alive:\n{}", self.alive)
    }
}

impl std::error::Error for Stopped {}

/// Cores on a simulated network, run by one thread.
///
/// Cores are numbered in the order in which they start. Which of those that have something to do goes next is decided by
/// the dice; when none has, the clock moves to the next thing that happens.
#[derive(Debug)]
pub struct Simulation {
    world: World,
    limits: Limits,
    steps: u64,
    cores: Vec<Place>,
}

/// A core and how it fares.
#[derive(Debug)]
struct Place {
    core: Core,
    host: HostId,
    main: Rc<Cell<MainState>>,
    /// When its last turn is over, in nanoseconds.
    busy_until: u64,
}

impl Place {
    /// When the core takes its next turn, if nothing else happens; the present, when that is at once.
    fn next_turn(&self, now: u64) -> Option<u64> {
        match self.core.next_turn() {
            NextTurn::Now => Some(self.busy_until.max(now)),
            NextTurn::At(at) => Some(at.as_nanos().max(self.busy_until).max(now)),
            NextTurn::WhenTold => None,
        }
    }
}

impl Simulation {
    /// A world without hosts, its clock at the start.
    #[must_use]
    pub fn new(seed: u64, faults: Faults, limits: Limits) -> Self {
        Self { world: World::new(seed, faults), limits, steps: 0, cores: Vec::new() }
    }

    /// The network, the clock and the dice. Clones are the same world.
    #[must_use]
    pub fn world(&self) -> &World {
        &self.world
    }

    /// Puts a core on `host` and gives it its main task; returns its number. `configure` may change everything but the
    /// driver, [`CoreConfig::index`] included, which is that number otherwise. Nothing is pinned, and there is no busy wait.
    ///
    /// # Errors
    /// When the machine has no memory or descriptor left for it.
    pub fn start<F>(
        &mut self,
        host: HostId,
        configure: impl FnOnce(&mut CoreConfig),
        main: impl FnOnce(Core) -> F,
    ) -> io::Result<usize>
    where
        F: Future<Output = ()> + 'static,
    {
        let number = self.cores.len();
        let mut config = CoreConfig::new(number, DriverKind::Simulated)?;
        configure(&mut config);
        let driver = Driver::new(self.world.clone(), host);
        let core = Core::simulated(config, driver, self.world.random())?;
        let main = core.spawn_main(main);
        self.cores.push(Place { core, host, main, busy_until: 0 });
        Ok(number)
    }

    /// Runs until the main tasks of all cores have ended.
    ///
    /// # Errors
    /// [`Stopped`] says which bound was met before.
    pub fn run(&mut self) -> Result<(), Stopped> {
        while self.cores.iter().any(|place| place.main.get() == MainState::Running) {
            self.step(u64::MAX)?;
        }
        self.panicked()
    }

    /// Runs until `is_done`, asked between turns.
    ///
    /// # Errors
    /// [`Stopped`] says which bound was met before.
    pub fn run_until(&mut self, mut is_done: impl FnMut() -> bool) -> Result<(), Stopped> {
        while !is_done() {
            self.step(u64::MAX)?;
        }
        self.panicked()
    }

    /// Runs for `duration` of virtual time.
    ///
    /// # Errors
    /// [`Stopped`] says which bound was met before.
    pub fn run_for(&mut self, duration: Duration) -> Result<(), Stopped> {
        let until = self.now().saturating_add(nanos_of(duration));
        while self.now() < until {
            self.step(until)?;
        }
        self.panicked()
    }

    /// Lets one core take a turn, or moves the clock: to the next thing that happens, at most to `until`.
    fn step(&mut self, until: u64) -> Result<(), Stopped> {
        self.panicked()?;
        self.steps += 1;
        if self.steps > self.limits.steps_max {
            return Err(self.stopped(StopReason::Steps));
        }
        if self.world.elapsed() > self.limits.virtual_time_max {
            return Err(self.stopped(StopReason::VirtualTime));
        }
        let now = self.now();
        let turns: Vec<Option<u64>> = self.cores.iter().map(|place| place.next_turn(now)).collect();
        let ready = turns.iter().filter(|turn| **turn == Some(now)).count();
        if ready > 0 {
            let chosen = self.world.choose(ready);
            let mut indices = (0..turns.len()).filter(|index| turns[*index] == Some(now));
            if let Some(index) = indices.nth(chosen) {
                self.take_turn(index);
            }
            return Ok(());
        }
        let next = turns.into_iter().flatten().chain(self.world.next_due()).min();
        if next.is_none() && until == u64::MAX {
            return Err(self.stopped(StopReason::Stuck));
        }
        self.world.advance(next.unwrap_or(until).min(until));
        Ok(())
    }

    fn take_turn(&mut self, index: usize) {
        let place = &mut self.cores[index];
        place.busy_until = self.world.now().as_nanos() + self.world.turn_nanos(place.host, index);
        place.core.take_turn();
    }

    fn now(&self) -> u64 {
        self.world.now().as_nanos()
    }

    fn panicked(&self) -> Result<(), Stopped> {
        let panicked = self.cores.iter().position(|place| place.main.get() == MainState::Panicked);
        panicked.map_or(Ok(()), |core| Err(self.stopped(StopReason::Panicked(core))))
    }

    fn stopped(&self, reason: StopReason) -> Stopped {
        let mut alive = format!("  {:?} of virtual time, {} steps\n", self.world.elapsed(), self.steps);
        for (number, place) in self.cores.iter().enumerate() {
            let _ = writeln!(
                alive,
                "  core {number}: main {:?}, {}; next turn {:?}",
                place.main.get(),
                place.core.usage(),
                place.core.next_turn()
            );
        }
        alive.push_str(&self.world.describe_connections());
        alive.push_str("  last events:\n");
        for event in self.world.trace(EVENTS_SHOWN) {
            let _ = writeln!(alive, "    {event}");
        }
        Stopped { reason, alive }
    }

    /// The core with this number, to start tasks from outside, or to ask for the time.
    ///
    /// # Panics
    /// When no such core was started.
    #[must_use]
    pub fn core(&self, number: usize) -> &Core {
        &self.cores[number].core
    }

    /// Whether the main task of the core with this number has ended.
    ///
    /// # Panics
    /// When no such core was started.
    #[must_use]
    pub fn main_has_ended(&self, number: usize) -> bool {
        self.cores[number].main.get() != MainState::Running
    }

    /// Tasks of all cores that panicked.
    #[must_use]
    pub fn task_panics(&self) -> u64 {
        self.cores.iter().map(|place| place.core.task_panics()).sum()
    }

    /// Turns and moves of the clock so far.
    #[must_use]
    pub fn steps(&self) -> u64 {
        self.steps
    }

    /// What a core holds on to now.
    ///
    /// # Panics
    /// When no such core was started.
    #[must_use]
    pub fn usage(&self, number: usize) -> Usage {
        self.cores[number].core.usage()
    }

    /// Drops all tasks, closes all sockets, and says what is left. A message that nobody has read is left as long as an end
    /// of its mailbox is.
    #[must_use]
    pub fn finish(self) -> Remains {
        self.shut_down();
        Remains {
            cores: self.cores.iter().map(|place| place.core.usage()).collect(),
            handles_open: self.world.handles_open_by_host(),
        }
    }

    fn shut_down(&self) {
        self.cores.iter().for_each(|place| place.core.shut_down());
    }
}

impl Drop for Simulation {
    fn drop(&mut self) {
        self.shut_down(); // tasks hold their core, and the core its tasks
    }
}
