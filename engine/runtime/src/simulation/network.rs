//! What is there in the simulated world, and what happens next in it? Listeners, connections, and what is due.
//!
//! Never runs a task: the simulation moves its clock and gives its cores their turns.

use std::collections::{BTreeMap, VecDeque};
use std::io::IoSlice;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::ops::Range;
use std::time::Duration;

use rustix::event::epoll::EventFlags;
use rustix::io::Errno;

use super::connection::{Connection, Owner, State};
use super::dice::nanos_of;
use super::medium::{Due, Host, Key, Medium, Side, Watch};
use super::trace::TraceKind;
use super::world::HostConfig;

/// Ports that connections come from: Linux's default.
pub(super) const EPHEMERAL_PORTS: Range<u16> = 32_768..60_999;
/// How long a connection attempt may stay without an answer: six repetitions (`tcp_syn_retries`), 127 s.
const UNANSWERED_MAX: Duration = Duration::from_secs(127);
/// The pause before the first repetition, doubled each time (RFC 6298 §2.1).
const REPEAT_AFTER: Duration = Duration::from_secs(1);
const REPEATS_MAX: u32 = 6;

/// A listening socket.
#[derive(Debug)]
struct Listening {
    host: usize,
    address: SocketAddr,
    backlog: usize,
    /// Connections that wait for their accept, and places kept for those under way.
    queue: VecDeque<u32>,
    under_way: usize,
    /// No new connection may begin.
    is_refusing: bool,
    watch: Option<Watch>,
}

impl Listening {
    fn serves(&self, address: SocketAddr, host: Option<usize>) -> bool {
        self.address.port() == address.port()
            && (self.address == address || self.address.ip().is_unspecified() && host == Some(self.host))
    }

    fn has_room(&self) -> bool {
        // Linux lets one more in than the backlog says.
        self.queue.len() + self.under_way <= self.backlog
    }
}

/// Everything in the world.
#[derive(Debug)]
pub(super) struct Network {
    pub(super) medium: Medium,
    listeners: BTreeMap<u32, Listening>,
    listeners_made: u32,
    /// By number; none when it is over.
    connections: Vec<Option<Box<Connection>>>,
}

impl Network {
    pub(super) fn new(medium: Medium) -> Self {
        Self { medium, listeners: BTreeMap::new(), listeners_made: 0, connections: Vec::new() }
    }

    pub(super) fn add_host(&mut self, config: HostConfig) -> usize {
        let number = self.medium.hosts.len();
        let mut addresses = config.addresses;
        if addresses.is_empty() {
            let [high, low] = (number as u16 + 1).to_be_bytes();
            addresses.push(IpAddr::V4(Ipv4Addr::new(10, 0, high, low)));
        }
        let faults = config.faults.unwrap_or_else(|| self.medium.default_host.clone());
        self.medium.hosts.push(Host::new(config.name, addresses, config.descriptors_max, faults));
        number
    }

    pub(super) fn add_core(&mut self, host: usize) -> usize {
        self.medium.told.push(Vec::new());
        self.medium.hosts_of_cores.push(host);
        self.medium.told.len() - 1
    }

    pub(super) fn connections(&self) -> impl Iterator<Item = &Connection> {
        self.connections.iter().flatten().map(|connection| &**connection)
    }

    /// Does something with a connection; none that is over is ever asked for by an owner.
    fn with<T>(&mut self, number: u32, act: impl FnOnce(&mut Connection, &mut Medium) -> T) -> Option<T> {
        let place = self.connections.get_mut(number as usize)?;
        let connection = place.as_mut()?;
        let answer = act(connection, &mut self.medium);
        if connection.is_over() {
            *place = None;
        }
        Some(answer)
    }

    // ---- sockets -------------------------------------------------------------------------------------------

    pub(super) fn listen(&mut self, host: usize, address: SocketAddr, backlog: u32) -> Result<Key, Errno> {
        if self.medium.is_full(host) {
            return Err(Errno::MFILE);
        }
        if !address.ip().is_unspecified() && !self.medium.hosts[host].addresses.contains(&address.ip()) {
            return Err(Errno::ADDRNOTAVAIL);
        }
        self.medium.hosts[host].descriptors_open += 1;
        let number = self.listeners_made;
        self.listeners_made += 1;
        let listening = Listening {
            host,
            address,
            backlog: backlog as usize,
            queue: VecDeque::new(),
            under_way: 0,
            is_refusing: false,
            watch: None,
        };
        self.listeners.insert(number, listening);
        Ok(Key::Listener(number))
    }

    /// Begins a connection from `host`.
    pub(super) fn connect(&mut self, host: usize, to: SocketAddr) -> Result<Key, Errno> {
        let medium = &mut self.medium;
        medium.take_descriptor(host)?;
        let from_host = &mut medium.hosts[host];
        let address = medium.dice.pick(&from_host.addresses);
        let from = SocketAddr::new(address, from_host.next_port);
        from_host.next_port += 1;
        if from_host.next_port == EPHEMERAL_PORTS.end {
            from_host.next_port = EPHEMERAL_PORTS.start;
        }
        let to_host = medium.host_of(to.ip());
        let number = self.connections.len() as u32;
        let connection = Connection::new(number, (host, from), (to_host.unwrap_or(host), to), medium);
        self.connections.push(Some(Box::new(connection)));
        medium.note(TraceKind::Connect, number, Side::Connected, 0);
        let link = medium.link(host, to_host.unwrap_or(host));
        let there = medium.now + medium.dice.nanos(&link.latency);
        if to_host.is_none() || medium.dice.happens(link.black_hole) {
            medium.counts.black_holes += u64::from(to_host.is_some());
            let at = medium.now + nanos_of(UNANSWERED_MAX);
            medium.schedule(at, Due::Failed { connection: number, is_refused: false });
        } else if medium.dice.happens(link.refused) {
            medium.counts.refusals += 1;
            let back = there + medium.dice.nanos(&link.latency);
            medium.schedule(back, Due::Failed { connection: number, is_refused: true });
        } else {
            let is_slow = medium.dice.happens(link.slow_connect);
            medium.counts.slow_connects += u64::from(is_slow);
            let extra = if is_slow { medium.dice.nanos(&link.connect_delay) } else { 0 };
            medium.schedule(there + extra, Due::Asked { connection: number, attempt: 0 });
        }
        Ok(Key::End(number, Side::Connected))
    }

    pub(super) fn accept(&mut self, key: Key) -> Result<(Key, SocketAddr), Errno> {
        let Key::Listener(number) = key else { return Err(Errno::INVAL) };
        let listening = self.listeners.get_mut(&number).ok_or(Errno::BADF)?;
        let medium = &mut self.medium;
        // Linux looks for a descriptor before it looks for a connection.
        if medium.is_full(listening.host) {
            medium.counts.descriptors_refused += 1;
            medium.note(TraceKind::DescriptorRefused, listening.host as u32, Side::Connected, 0);
            return Err(Errno::MFILE);
        }
        if listening.queue.is_empty() {
            return Err(Errno::AGAIN);
        }
        medium.take_descriptor(listening.host)?;
        let faults = std::sync::Arc::clone(&medium.hosts[listening.host].faults);
        let connection = listening.queue.pop_front().ok_or(Errno::AGAIN)?;
        if medium.dice.happens(faults.accept_aborted) {
            medium.counts.accepts_aborted += 1;
            medium.give_descriptor_back(listening.host);
            self.with(connection, |connection, medium| connection.refuse(Side::Connected, medium));
            return Err(Errno::CONNABORTED);
        }
        self.with(connection, |connection, medium| {
            let side = Side::Accepted;
            connection.end_mut(side).owner = Owner::Process;
            medium.note(TraceKind::Accept, connection.number, side, 0);
            (Key::End(connection.number, side), connection.end(side.other()).address)
        })
        .ok_or(Errno::CONNABORTED)
    }

    pub(super) fn refuse_new(&mut self, key: Key) {
        if let Key::Listener(number) = key
            && let Some(listening) = self.listeners.get_mut(&number)
        {
            listening.is_refusing = true;
        }
    }

    pub(super) fn close(&mut self, key: Key) {
        match key {
            Key::Listener(number) => {
                let Some(listening) = self.listeners.remove(&number) else { return };
                self.medium.give_descriptor_back(listening.host);
                for connection in listening.queue {
                    self.with(connection, |connection, medium| connection.refuse(Side::Connected, medium));
                }
            }
            Key::End(number, side) => {
                self.with(number, |connection, medium| {
                    medium.give_descriptor_back(connection.end(side).host);
                    connection.close(side, medium);
                });
            }
        }
    }

    /// Calls on one side of a connection; listeners and strangers are refused as the kernel does.
    pub(super) fn recv(&mut self, key: Key, spare: &mut [u8]) -> Result<usize, Errno> {
        self.on_end(key, |connection, side, medium| connection.recv(side, spare, medium))
    }

    pub(super) fn has_unread(&mut self, key: Key) -> Result<bool, Errno> {
        self.on_end(key, |connection, side, _| Ok(connection.has_unread(side)))
    }

    pub(super) fn send(&mut self, key: Key, slices: &[IoSlice<'_>]) -> Result<usize, Errno> {
        self.on_end(key, |connection, side, medium| connection.send(side, slices, medium))
    }

    pub(super) fn shutdown_write(&mut self, key: Key) -> Result<(), Errno> {
        self.on_end(key, |connection, side, medium| connection.shutdown_write(side, medium))
    }

    pub(super) fn reset_on_close(&mut self, key: Key) -> Result<(), Errno> {
        self.on_end(key, |connection, side, _| {
            connection.end_mut(side).resets_on_close = true;
            Ok(())
        })
    }

    pub(super) fn take_error(&mut self, key: Key) -> Result<(), Errno> {
        self.on_end(key, |connection, side, _| connection.take_error(side))
    }

    pub(super) fn peer_address(&mut self, key: Key) -> Result<SocketAddr, Errno> {
        self.on_end(key, |connection, side, _| connection.peer_address(side))
    }

    pub(super) fn local_address(&mut self, key: Key) -> Result<SocketAddr, Errno> {
        self.on_end(key, |connection, side, _| Ok(connection.local_address(side)))
    }

    fn on_end<T>(
        &mut self,
        key: Key,
        act: impl FnOnce(&mut Connection, Side, &mut Medium) -> Result<T, Errno>,
    ) -> Result<T, Errno> {
        let Key::End(number, side) = key else { return Err(Errno::NOTCONN) };
        self.with(number, |connection, medium| act(connection, side, medium)).unwrap_or(Err(Errno::BADF))
    }

    // ---- readiness -----------------------------------------------------------------------------------------

    /// Lets a core watch a socket; what is true of it already is an event too.
    pub(super) fn watch(&mut self, key: Key, core: usize, slot: u32) {
        let watch = Some(Watch::new(core, slot));
        let events = self.events(key);
        self.with_watch(key, |place, medium| {
            *place = watch;
            if !events.is_empty() {
                medium.tell(place, key);
            }
        });
    }

    pub(super) fn forget(&mut self, key: Key) {
        self.with_watch(key, |place, _| *place = None);
    }

    fn events(&self, key: Key) -> EventFlags {
        match key {
            Key::Listener(number) => match self.listeners.get(&number) {
                Some(listening) if !listening.queue.is_empty() => EventFlags::IN,
                _ => EventFlags::empty(),
            },
            Key::End(number, side) => match self.connections.get(number as usize) {
                Some(Some(connection)) => connection.events(side, self.medium.now),
                _ => EventFlags::empty(),
            },
        }
    }

    /// Whether a core has events to take.
    pub(super) fn has_events(&self, core: usize) -> bool {
        !self.medium.told[core].is_empty()
    }

    fn is_opening(&self, key: Key) -> bool {
        let Key::End(number, side) = key else { return false };
        match self.connections.get(number as usize) {
            Some(Some(connection)) => connection.end(side).state == State::Opening,
            _ => false,
        }
    }

    fn with_watch<T>(
        &mut self,
        key: Key,
        act: impl FnOnce(&mut Option<Watch>, &mut Medium) -> T,
    ) -> Option<T> {
        match key {
            Key::Listener(number) => {
                self.listeners.get_mut(&number).map(|listening| act(&mut listening.watch, &mut self.medium))
            }
            Key::End(number, side) => {
                self.with(number, |connection, medium| act(&mut connection.end_mut(side).watch, medium))
            }
        }
    }

    /// The next event of a core: the slot of the socket and what is true of it now.
    pub(super) fn next_event(&mut self, core: usize) -> Option<(u32, EventFlags)> {
        while let Some(key) = self.medium.take_told(core) {
            let events = self.events(key);
            if self.is_opening(key) {
                // Nothing is ever said of these: their owners take the first event for the end of the handshake.
                self.with_watch(key, |watch, _| watch.as_mut().map(Watch::calm));
                continue;
            }
            let heard = self.with_watch(key, |watch, medium| medium.hear(watch, core, events));
            if let Some((slot, events)) = heard.flatten() {
                if let Key::End(number, side) = key {
                    self.medium.note(TraceKind::Ready, number, side, events.bits() as usize);
                }
                return Some((slot, events));
            }
        }
        None
    }

    // ---- time ----------------------------------------------------------------------------------------------

    /// Moves the clock, and lets everything happen that is due by then.
    pub(super) fn advance(&mut self, now: u64) {
        while let Some(at) = self.medium.next_due().filter(|at| *at <= now) {
            self.medium.now = self.medium.now.max(at);
            while let Some(due) = self.medium.take_due() {
                self.happen(due);
            }
        }
        self.medium.now = self.medium.now.max(now);
    }

    fn happen(&mut self, due: Due) {
        match due {
            Due::Asked { connection, attempt } => self.asked(connection, attempt),
            Due::Answered { connection } => {
                self.with(connection, |connection, medium| {
                    medium.note(TraceKind::Connected, connection.number, Side::Connected, 0);
                    connection.open(Side::Connected, medium);
                });
            }
            Due::Settled { connection } => self.settled(connection),
            Due::Failed { connection, is_refused } => {
                let error = if is_refused { Errno::CONNREFUSED } else { Errno::TIMEDOUT };
                self.with(connection, |connection, medium| {
                    medium.note(TraceKind::ConnectFailed, connection.number, Side::Connected, 0);
                    connection.end_mut(Side::Accepted).owner = Owner::Nobody;
                    connection.breaks(Side::Connected, error, medium);
                });
            }
            Due::Arrives { connection, at, losses } => {
                self.with(connection, |connection, medium| connection.arrives(at, losses, medium));
            }
            Due::Reset { connection, at } => {
                self.with(connection, |connection, medium| {
                    let error = connection.error_of_reset(at);
                    connection.breaks(at, error, medium);
                });
            }
            Due::Drained { connection, side } => {
                self.with(connection, |connection, medium| connection.room_may_be_there(side, medium));
            }
            Due::Told { key, is_spurious } => {
                self.with_watch(key, |watch, medium| medium.tell_at_last(watch, key, is_spurious));
            }
        }
    }

    /// A connection attempt reaches the other host.
    fn asked(&mut self, number: u32, attempt: u32) {
        let Some(Some(connection)) = self.connections.get(number as usize) else { return };
        let (to, hash) = (connection.end(Side::Accepted).address, connection.hash);
        let link = connection.link(&self.medium);
        let host = self.medium.host_of(to.ip());
        let serving: Vec<u32> = self
            .listeners
            .iter()
            .filter(|(_, listening)| listening.serves(to, host))
            .map(|(number, _)| *number)
            .collect();
        let medium = &mut self.medium;
        let latency = medium.dice.nanos(&link.latency);
        if serving.is_empty() {
            medium.schedule(medium.now + latency, Due::Failed { connection: number, is_refused: true });
            return;
        }
        let chosen = serving[(hash % serving.len() as u64) as usize];
        let Some(listening) = self.listeners.get_mut(&chosen) else { return };
        if listening.is_refusing || !listening.has_room() {
            let pause = nanos_of(REPEAT_AFTER) << attempt;
            let again = if attempt < REPEATS_MAX {
                Due::Asked { connection: number, attempt: attempt + 1 }
            } else {
                Due::Failed { connection: number, is_refused: false }
            };
            medium.schedule(medium.now + pause, again);
            return;
        }
        listening.under_way += 1;
        let answered = medium.now + latency;
        let settled = answered + medium.dice.nanos(&link.latency);
        medium.schedule(answered, Due::Answered { connection: number });
        medium.schedule(settled, Due::Settled { connection: number });
        self.with(number, |connection, _| {
            connection.listener = Some(chosen);
            connection.nothing_arrives_before(Side::Connected, settled);
        });
    }

    /// The handshake is over: the connection waits for its accept.
    fn settled(&mut self, number: u32) {
        let Some(Some(connection)) = self.connections.get_mut(number as usize) else { return };
        let Some(chosen) = connection.listener.take() else { return };
        let Some(listening) = self.listeners.get_mut(&chosen) else {
            self.with(number, |connection, medium| connection.refuse(Side::Connected, medium));
            return;
        };
        listening.under_way -= 1;
        listening.queue.push_back(number);
        self.medium.tell(&mut listening.watch, Key::Listener(chosen));
        self.with(number, |connection, medium| connection.open(Side::Accepted, medium));
    }
}
