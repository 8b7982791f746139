//! What do all connections of a world share? The clock, the dice, what is due, the hosts and who is told.
//!
//! Never touches a connection: those come to it.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
use std::net::IpAddr;
use std::sync::Arc;

use rustix::event::epoll::EventFlags;
use rustix::io::Errno;

use super::dice::Dice;
use super::faults::{FaultCounts, Faults, HostFaults, LinkFaults};
use super::trace::{Trace, TraceEvent, TraceKind};
use crate::time::Instant;

/// Which socket of the world.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Key {
    /// A listening socket, by its number.
    Listener(u32),
    /// A side of the connection with this number.
    End(u32, Side),
}

/// A side of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Side {
    Connected,
    Accepted,
}

impl Side {
    pub(super) const fn other(self) -> Self {
        match self {
            Self::Connected => Self::Accepted,
            Self::Accepted => Self::Connected,
        }
    }
}

/// What is due at some time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Due {
    /// A connection attempt reaches the other host, for the first time or again.
    Asked { connection: u32, attempt: u32 },
    /// The answer to it reaches the side that asked.
    Answered { connection: u32 },
    /// The last word of the handshake reaches the listener.
    Settled { connection: u32 },
    /// A connection attempt comes to nothing.
    Failed { connection: u32, is_refused: bool },
    /// A segment arrives at a side, unless it was lost meanwhile.
    Arrives { connection: u32, at: Side, losses: u32 },
    /// A reset arrives at a side.
    Reset { connection: u32, at: Side },
    /// A side that was full by fault is not any more.
    Drained { connection: u32, side: Side },
    /// A core hears of a socket, late or again.
    Told { key: Key, is_spurious: bool },
}

/// Who watches a socket.
#[derive(Clone, Copy, Debug)]
pub(super) struct Watch {
    pub(super) core: usize,
    pub(super) slot: u32,
    /// Queued for the core already, or on the way to it.
    queued: bool,
    /// The event says "readable" whatever the socket says.
    pub(super) is_spurious: bool,
}

impl Watch {
    pub(super) fn new(core: usize, slot: u32) -> Self {
        Self { core, slot, queued: false, is_spurious: false }
    }

    /// The event that is queued says nothing after all.
    pub(super) fn calm(&mut self) {
        (self.queued, self.is_spurious) = (false, false);
    }
}

/// One machine.
#[derive(Debug)]
pub(super) struct Host {
    pub(super) name: String,
    pub(super) addresses: Vec<IpAddr>,
    pub(super) descriptors_max: usize,
    pub(super) descriptors_open: usize,
    /// Until when the table is full by fault.
    full_until: u64,
    pub(super) faults: Arc<HostFaults>,
    pub(super) next_port: u16,
}

impl Host {
    pub(super) fn new(
        name: String,
        addresses: Vec<IpAddr>,
        descriptors_max: usize,
        faults: HostFaults,
    ) -> Self {
        Self {
            name,
            addresses,
            descriptors_max,
            descriptors_open: 0,
            full_until: 0,
            faults: Arc::new(faults),
            next_port: super::network::EPHEMERAL_PORTS.start,
        }
    }
}

/// What connections and listeners share.
#[derive(Debug)]
pub(super) struct Medium {
    /// Nanoseconds on the monotonic clock.
    pub(super) now: u64,
    pub(super) dice: Dice,
    pub(super) hosts: Vec<Host>,
    pub(super) default_link: Arc<LinkFaults>,
    pub(super) default_host: HostFaults,
    pub(super) links: BTreeMap<(usize, usize), Arc<LinkFaults>>,
    pub(super) counts: FaultCounts,
    pub(super) trace: Trace,
    /// By core: the sockets that it has not heard of yet.
    pub(super) told: Vec<Vec<Key>>,
    /// By core: its host.
    pub(super) hosts_of_cores: Vec<usize>,
    due: BinaryHeap<Reverse<(u64, u64, Due)>>,
    sequence: u64,
}

impl Medium {
    pub(super) fn new(seed: u64, faults: Faults, now: u64) -> Self {
        Self {
            now,
            dice: Dice::new(seed),
            hosts: Vec::new(),
            default_link: Arc::new(faults.link),
            default_host: faults.host,
            links: BTreeMap::new(),
            counts: FaultCounts::default(),
            trace: Trace::default(),
            told: Vec::new(),
            hosts_of_cores: Vec::new(),
            due: BinaryHeap::new(),
            sequence: 0,
        }
    }

    // ---- what is due ---------------------------------------------------------------------------------------

    pub(super) fn schedule(&mut self, at: u64, due: Due) {
        self.sequence += 1;
        self.due.push(Reverse((at.max(self.now), self.sequence, due)));
    }

    pub(super) fn next_due(&self) -> Option<u64> {
        self.due.peek().map(|Reverse((at, ..))| *at)
    }

    /// Takes the next thing that is due by now.
    pub(super) fn take_due(&mut self) -> Option<Due> {
        if self.next_due()? > self.now {
            return None;
        }
        self.due.pop().map(|Reverse((.., due))| due)
    }

    // ---- who is told ---------------------------------------------------------------------------------------

    /// Tells the core that watches a socket that its state has changed: now, late, or also for nothing.
    pub(super) fn tell(&mut self, watch: &mut Option<Watch>, key: Key) {
        let Some(watch) = watch else { return };
        if watch.queued {
            return;
        }
        watch.queued = true;
        let faults = Arc::clone(&self.hosts[self.hosts_of_cores[watch.core]].faults);
        if self.dice.happens(faults.spurious_event) {
            self.counts.spurious_events += 1;
            let at = self.now + self.dice.nanos(&faults.event_delay);
            self.schedule(at, Due::Told { key, is_spurious: true });
        }
        if self.dice.happens(faults.late_event) {
            self.counts.late_events += 1;
            let at = self.now + self.dice.nanos(&faults.event_delay);
            self.schedule(at, Due::Told { key, is_spurious: false });
        } else {
            self.told[watch.core].push(key);
        }
    }

    /// A late or spurious event gets through.
    pub(super) fn tell_at_last(&mut self, watch: &mut Option<Watch>, key: Key, is_spurious: bool) {
        let Some(watch) = watch else { return };
        watch.is_spurious |= is_spurious;
        if !is_spurious || !watch.queued {
            watch.queued = true;
            let told = &mut self.told[watch.core];
            if !told.contains(&key) {
                told.push(key);
            }
        }
    }

    /// Takes an event of a core at random.
    pub(super) fn take_told(&mut self, core: usize) -> Option<Key> {
        let count = self.told[core].len();
        if count == 0 {
            return None;
        }
        let index = self.dice.index(count);
        Some(self.told[core].swap_remove(index))
    }

    /// What the core that watches a socket hears of it, if it does at all.
    pub(super) fn hear(
        &mut self,
        watch: &mut Option<Watch>,
        core: usize,
        mut events: EventFlags,
    ) -> Option<(u32, EventFlags)> {
        let watch = watch.as_mut().filter(|watch| watch.core == core)?;
        watch.queued = false;
        if std::mem::take(&mut watch.is_spurious) {
            events |= EventFlags::IN;
        }
        (!events.is_empty()).then_some((watch.slot, events))
    }

    // ---- hosts and links -----------------------------------------------------------------------------------

    pub(super) fn link(&self, a: usize, b: usize) -> Arc<LinkFaults> {
        Arc::clone(self.links.get(&(a.min(b), a.max(b))).unwrap_or(&self.default_link))
    }

    pub(super) fn host_of(&self, address: IpAddr) -> Option<usize> {
        self.hosts.iter().position(|host| host.addresses.contains(&address))
    }

    /// Whether a host's table is full, without drawing.
    pub(super) fn is_full(&self, host: usize) -> bool {
        let host = &self.hosts[host];
        host.descriptors_open >= host.descriptors_max || self.now < host.full_until
    }

    /// Takes a descriptor of a host.
    pub(super) fn take_descriptor(&mut self, host: usize) -> Result<(), Errno> {
        let faults = Arc::clone(&self.hosts[host].faults);
        if self.dice.happens(faults.exhausted) {
            self.hosts[host].full_until = self.now + self.dice.nanos(&faults.exhaustion);
        }
        if self.is_full(host) {
            self.counts.descriptors_refused += 1;
            self.note(TraceKind::DescriptorRefused, host as u32, Side::Connected, 0);
            return Err(Errno::MFILE);
        }
        self.hosts[host].descriptors_open += 1;
        Ok(())
    }

    pub(super) fn give_descriptor_back(&mut self, host: usize) {
        self.hosts[host].descriptors_open -= 1;
    }

    pub(super) fn note(&mut self, kind: TraceKind, number: u32, side: Side, bytes: usize) {
        self.trace.note(TraceEvent {
            at: Instant::from_nanos(self.now),
            kind,
            number,
            accepted_side: side == Side::Accepted,
            bytes: bytes as u32,
        });
    }
}
