//! What does a harness tell the simulated world, and what does it ask it? Hosts, listeners, links, time, dice, trace.
//!
//! Never run by itself: time passes when a [`super::Simulation`] lets it.

use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use super::endpoint::Endpoint;
use super::faults::{FaultCounts, Faults, HostFaults, LinkFaults};
use super::medium::{Medium, Side};
use super::network::Network;
use super::trace::{TraceEvent, TraceKind};
use crate::net::handle::Handle;
use crate::time::Instant;

/// Where the monotonic clock starts: at an hour, so that a moment before the start exists.
pub(super) const START: Instant = Instant::from_nanos(3_600_000_000_000);
/// What the wall clock says then, in seconds since the epoch: 2026-01-01 00:00 UTC.
const WALL_CLOCK_START: u64 = 1_767_225_600;
/// How far a wall clock jumps by fault, in seconds: an hour either way, 400 days on.
const CLOCK_JUMPS: [i64; 3] = [-3_600, 3_600, 400 * 86_400];
/// Descriptors of a host unless it is told otherwise: what a server process is usually given.
const DESCRIPTORS_MAX: usize = 65_536;

/// Number of a host in its world.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct HostId(pub(super) usize);

/// A machine of the simulated network.
#[derive(Clone, Debug)]
pub struct HostConfig {
    /// What it is called in reports.
    pub name: String,
    /// Where its connections come from: one is drawn for each. Empty: the world gives it one of 10.0.0.0/8.
    pub addresses: Vec<IpAddr>,
    /// Descriptors that its cores may have open together.
    pub descriptors_max: usize,
    /// What goes wrong on it; `None` for what the world was made with.
    pub faults: Option<HostFaults>,
}

impl HostConfig {
    /// A host with one address, 65,536 descriptors and the world's faults.
    #[must_use]
    pub fn new(name: impl Into<String>) -> Self {
        Self { name: name.into(), addresses: Vec::new(), descriptors_max: DESCRIPTORS_MAX, faults: None }
    }
}

/// The network, the clock and the dice of one simulation; clones are the same world.
///
/// It may be reached from several threads only because sockets may, on their way between cores. Its cores run on one.
#[derive(Clone)]
pub struct World(Arc<Shared>);

struct Shared {
    network: Mutex<Network>,
    /// What [`Medium::now`] says, to be read without the lock.
    now: AtomicU64,
    /// By how much the wall clock was set, in seconds.
    wall_clock_offset: Mutex<i64>,
}

impl fmt::Debug for World {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "World at {} ns", self.0.now.load(Ordering::Relaxed))
    }
}

impl World {
    pub(super) fn new(seed: u64, faults: Faults) -> Self {
        let network = Mutex::new(Network::new(Medium::new(seed, faults, START.as_nanos())));
        Self(Arc::new(Shared {
            network,
            now: AtomicU64::new(START.as_nanos()),
            wall_clock_offset: Mutex::new(0),
        }))
    }

    pub(super) fn network(&self) -> MutexGuard<'_, Network> {
        self.0.network.lock().unwrap_or_else(PoisonError::into_inner)
    }

    // ---- hosts and links -----------------------------------------------------------------------------------

    /// Adds a machine.
    pub fn host(&self, config: HostConfig) -> HostId {
        HostId(self.network().add_host(config))
    }

    /// The first address of a host, with this port.
    #[must_use]
    pub fn address(&self, host: HostId, port: u16) -> SocketAddr {
        SocketAddr::new(self.network().medium.hosts[host.0].addresses[0], port)
    }

    /// Makes a listening socket on `host`. Several with one address share its connections, as with `SO_REUSEPORT`.
    ///
    /// # Errors
    /// `AddrNotAvailable` when the address is not the host's, or that no descriptor is left.
    pub fn listen(&self, host: HostId, address: SocketAddr, backlog: u32) -> io::Result<Handle> {
        let key = self.network().listen(host.0, address, backlog)?;
        Ok(Endpoint::new(self.clone(), key).into())
    }

    /// Says what the link between two hosts does from now on, both ways. Both may be the same host.
    pub fn set_link(&self, a: HostId, b: HostId, faults: LinkFaults) {
        let pair = (a.min(b).0, a.max(b).0);
        self.network().medium.links.insert(pair, Arc::new(faults));
    }

    /// Says what goes wrong on a host from now on.
    pub fn set_host_faults(&self, host: HostId, faults: HostFaults) {
        self.network().medium.hosts[host.0].faults = Arc::new(faults);
    }

    /// Says how many descriptors the cores of a host may have from now on; those that are open stay.
    pub fn set_descriptors_max(&self, host: HostId, descriptors_max: usize) {
        self.network().medium.hosts[host.0].descriptors_max = descriptors_max;
    }

    /// Lets nothing fail any more, on any link and any host. What has stopped for ever does not go on.
    pub fn calm(&self) {
        let medium = &mut self.network().medium;
        medium.links.clear();
        medium.default_link = Arc::new(LinkFaults::calm());
        medium.default_host = HostFaults::calm();
        let calm = Arc::new(HostFaults::calm());
        medium.hosts.iter_mut().for_each(|host| host.faults = Arc::clone(&calm));
    }

    // ---- time and dice -------------------------------------------------------------------------------------

    /// The monotonic clock, common to all hosts.
    #[must_use]
    pub fn now(&self) -> Instant {
        Instant::from_nanos(self.0.now.load(Ordering::Relaxed))
    }

    /// The time since the world began.
    #[must_use]
    pub fn elapsed(&self) -> Duration {
        self.now().since(START)
    }

    /// What the wall clocks say, common to all hosts.
    #[must_use]
    pub fn wall_clock(&self) -> SystemTime {
        let seconds = *self.0.wall_clock_offset.lock().unwrap_or_else(PoisonError::into_inner);
        let unset = SystemTime::UNIX_EPOCH + Duration::from_secs(WALL_CLOCK_START) + self.elapsed();
        let distance = Duration::from_secs(seconds.unsigned_abs());
        if seconds < 0 { unset - distance } else { unset + distance }
    }

    /// Sets the wall clocks forward, or back; no deadline may notice.
    pub fn jump_wall_clock(&self, seconds: i64) {
        let mut offset = self.0.wall_clock_offset.lock().unwrap_or_else(PoisonError::into_inner);
        *offset = offset.saturating_add(seconds);
    }

    /// What the wall clock says on a host, after a jump perhaps.
    pub(super) fn read_wall_clock(&self, host: HostId) -> SystemTime {
        let jump = {
            let medium = &mut self.network().medium;
            let odds = medium.hosts[host.0].faults.clock_jump;
            medium.dice.happens(odds).then(|| {
                medium.counts.clock_jumps += 1;
                medium.note(TraceKind::ClockJump, host.0 as u32, Side::Connected, 0);
                medium.dice.pick(&CLOCK_JUMPS)
            })
        };
        if let Some(seconds) = jump {
            self.jump_wall_clock(seconds);
        }
        self.wall_clock()
    }

    /// A number from the world's dice.
    #[must_use]
    pub fn random(&self) -> u64 {
        self.network().medium.dice.next()
    }

    /// One of `count` things, by number.
    pub(super) fn choose(&self, count: usize) -> usize {
        self.network().medium.dice.index(count)
    }

    /// When the next thing is due, in nanoseconds.
    pub(super) fn next_due(&self) -> Option<u64> {
        self.network().medium.next_due()
    }

    /// How long the turn takes that a core begins now.
    pub(super) fn turn_nanos(&self, host: HostId, core: usize) -> u64 {
        let medium = &mut self.network().medium;
        medium.note(TraceKind::Turn, core as u32, Side::Connected, 0);
        let faults = Arc::clone(&medium.hosts[host.0].faults);
        let nanos = medium.dice.nanos(&faults.turn).max(1);
        if !medium.dice.happens(faults.slow_turn) {
            return nanos;
        }
        medium.counts.slow_turns += 1;
        nanos + medium.dice.nanos(&faults.slow_turn_extra)
    }

    /// Moves the clock, and lets everything happen that is due by then.
    pub(super) fn advance(&self, now: u64) {
        let mut network = self.network();
        network.advance(now);
        self.0.now.store(network.medium.now, Ordering::Relaxed);
    }

    // ---- accounts ------------------------------------------------------------------------------------------

    /// Descriptors that are open on a host: sockets of its cores, and [`Handle`]s on their way between them.
    #[must_use]
    pub fn handles_open(&self, host: HostId) -> usize {
        self.network().medium.hosts[host.0].descriptors_open
    }

    /// By host: its name and its open descriptors.
    #[must_use]
    pub fn handles_open_by_host(&self) -> Vec<(String, usize)> {
        let network = self.network();
        network.medium.hosts.iter().map(|host| (host.name.clone(), host.descriptors_open)).collect()
    }

    /// Connections of which a process holds a side, or whose accept is awaited.
    #[must_use]
    pub fn connections_open(&self) -> usize {
        self.network().connections().count()
    }

    /// How often each fault has happened so far.
    #[must_use]
    pub fn fault_counts(&self) -> FaultCounts {
        self.network().medium.counts
    }

    /// A hash of everything that has happened, to the byte: two runs are the same when theirs are.
    #[must_use]
    pub fn trace_hash(&self) -> u64 {
        self.network().medium.trace.hash()
    }

    /// The last `count` events, oldest first; 65,536 are kept.
    #[must_use]
    pub fn trace(&self, count: usize) -> Vec<TraceEvent> {
        self.network().medium.trace.last(count)
    }

    /// The connections that are open and how far their bytes have got, for people.
    #[must_use]
    pub fn describe_connections(&self) -> String {
        self.network().connections().map(|connection| format!("  {connection}\n")).collect()
    }
}
