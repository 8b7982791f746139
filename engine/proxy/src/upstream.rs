//! Which connection carries the request to its endpoint? A kept one of this core, else a new one.
//!
//! Never shares a connection between cores, never uses one that showed a sign of life while it was idle.

use std::cell::RefCell;
use std::io;
use std::sync::Arc;

use config::snapshot::{EndpointId, ProxyVersion, Snapshot, Upstream, UpstreamId};
use proto::balance::round_robin::RoundRobin;
use runtime::{Core, Instant, ParkEvent, Stream};
use rustls::HandshakeKind;
use tls::HandshakeError;

use crate::address::Address;
use crate::client::Client;
use crate::handshake_fault::HandshakeFault;
use crate::outcome::{Fault, fault_of, is_exhaustion};
use crate::preface;
use crate::private::Private;
use crate::roster::Roster;
use crate::roster::member::Members;
use crate::stats::CoreStats;
use crate::wire::{ParkedWire, Wire};

/// Endpoints of one upstream tried for a request before it is answered 502; nothing has been sent by then.
const ENDPOINTS_TRIED_MAX: usize = 3;

/// A connection to an endpoint that carries an exchange.
pub(crate) struct Connection {
    pub(crate) stream: Wire,
    pub(crate) upstream: UpstreamId,
    pub(crate) endpoint: EndpointId,
    /// Which occupant of the endpoint's slot it leads to.
    generation: u32,
    /// Has carried an exchange before, so that its peer may be gone already.
    pub(crate) is_reused: bool,
    active: Active,
}

/// Counts a connection in use, however it ends.
struct Active {
    stats: Arc<CoreStats>,
    endpoint: EndpointId,
}

impl Active {
    fn new(stats: &Arc<CoreStats>, endpoint: EndpointId) -> Self {
        stats.endpoints[usize::from(endpoint.0)].active.add(1);
        Self { stats: Arc::clone(stats), endpoint }
    }
}

impl Drop for Active {
    fn drop(&mut self) {
        self.stats.endpoints[usize::from(self.endpoint.0)].active.sub(1);
    }
}

/// An idle connection. Its index is the tag it is parked under.
struct Idle {
    parked: ParkedWire,
    endpoint: EndpointId,
    generation: u32,
}

/// What there is for an exchange.
pub(crate) enum Found {
    /// A kept connection.
    Kept(Connection),
    /// Somebody to make a connection to.
    New(EndpointId),
    /// No endpoint that may be used.
    Nobody,
}

/// One core's upstreams: schedulers, and idle connections by endpoint.
pub(crate) struct Upstreams {
    core: Core,
    snapshot: Arc<Snapshot>,
    stats: Arc<CoreStats>,
    roster: Arc<Roster>,
    private: Arc<Private>,
    tag_bit: u32,
    turns: RefCell<Box<[Turns]>>,
    pool: RefCell<Pool>,
}

/// Whose turn it is in one upstream.
struct Turns {
    /// Its endpoints as last seen.
    members: Arc<Members>,
    scheduler: RoundRobin,
}

#[derive(Default)]
struct Pool {
    idle: Vec<Option<Idle>>,
    free: Vec<u32>,
    /// Indices into `idle` by endpoint. The one used last is taken first, so that surplus ones grow old.
    by_endpoint: Box<[Vec<u32>]>,
}

impl Upstreams {
    /// `tag_bit` marks the tags of parked connections that are an upstream's.
    pub(crate) fn new(
        core: &Core,
        snapshot: &Arc<Snapshot>,
        stats: &Arc<CoreStats>,
        roster: &Arc<Roster>,
        private: &Arc<Private>,
        tag_bit: u32,
    ) -> Self {
        // Each core starts its rounds elsewhere, or the first endpoint would get every core's first request.
        let offset = u16::try_from(core.index()).unwrap_or(0);
        let by_endpoint = (0..snapshot.slots_count).map(|_| Vec::new()).collect();
        let ids = (0..).map(UpstreamId).zip(&snapshot.upstreams);
        let turns =
            ids.map(|(id, _)| Turns { members: roster.members(id), scheduler: RoundRobin::new(offset) });
        Self {
            core: core.clone(),
            snapshot: Arc::clone(snapshot),
            stats: Arc::clone(stats),
            roster: Arc::clone(roster),
            private: Arc::clone(private),
            tag_bit,
            turns: RefCell::new(turns.collect()),
            pool: RefCell::new(Pool { by_endpoint, ..Pool::default() }),
        }
    }

    fn settings(&self, id: UpstreamId) -> &Upstream {
        &self.snapshot.upstreams[usize::from(id.0)]
    }

    /// The endpoint whose turn it is.
    fn pick(&self, id: UpstreamId) -> Option<EndpointId> {
        let turns = &mut self.turns.borrow_mut()[usize::from(id.0)];
        if turns.members.revision != self.roster.revision(id) {
            self.refresh(id, turns);
        }
        let candidates = &turns.members.candidates;
        let turn = turns.scheduler.next(candidates.len() as u16, |_| true)?;
        Some(turns.members.candidate(turn).id)
    }

    /// Takes the list of endpoints that control has published, and leaves those alone that are no longer on it.
    #[cold]
    fn refresh(&self, id: UpstreamId, turns: &mut Turns) {
        turns.members = self.roster.members(id);
        for slot in self.settings(id).slots() {
            self.forget_former(slot);
        }
    }

    /// Looks whether control has published another list of an upstream's endpoints; its idle connections may have to go.
    pub(crate) fn look(&self, id: UpstreamId) {
        let turns = &mut self.turns.borrow_mut()[usize::from(id.0)];
        if turns.members.revision != self.roster.revision(id) {
            self.refresh(id, turns);
        }
    }

    /// Closes the idle connections to whoever had a slot before, or is to be left alone.
    fn forget_former(&self, endpoint: EndpointId) {
        let generation = self.roster.seat(endpoint).generation();
        let mut pool = self.pool.borrow_mut();
        let Pool { idle, free, by_endpoint } = &mut *pool;
        by_endpoint[usize::from(endpoint.0)].retain(|index| {
            let place = &mut idle[*index as usize];
            let stays = place.as_ref().is_some_and(|idle| idle.generation == generation);
            if !stays {
                if let Some(mut former) = place.take() {
                    drop(former.parked.resume(&self.core));
                }
                free.push(*index);
                let counters = &self.stats.endpoints[usize::from(endpoint.0)];
                counters.idle.sub(1);
                counters.idle_closed.add(1);
            }
            stays
        });
    }

    /// A kept connection to the endpoint whose turn it is, or else the endpoint.
    pub(crate) fn reuse(&self, id: UpstreamId) -> Found {
        let Some(endpoint) = self.pick(id) else { return Found::Nobody };
        while let Some((stream, generation)) = self.take_idle(endpoint) {
            if stream.stays_idle() {
                let active = Active::new(&self.stats, endpoint);
                let connection =
                    Connection { stream, upstream: id, endpoint, generation, is_reused: true, active };
                return Found::Kept(connection);
            }
            self.stats.endpoints[usize::from(endpoint.0)].idle_closed.add(1);
        }
        Found::New(endpoint)
    }

    /// Makes a new connection to the endpoint whose turn it is, or if that fails to others.
    pub(crate) async fn open(
        &self,
        id: UpstreamId,
        total: Instant,
        client: &Client,
    ) -> Result<Connection, Fault> {
        let endpoint = self.pick(id).ok_or(Fault::NoEndpoint)?;
        self.connect(id, endpoint, total, client).await
    }

    /// Makes a new connection to `first` on behalf of `client`, or if that fails to others whose turn comes next.
    pub(crate) async fn connect(
        &self,
        id: UpstreamId,
        first: EndpointId,
        total: Instant,
        client: &Client,
    ) -> Result<Connection, Fault> {
        let settings = self.settings(id);
        let mut endpoint = first;
        let mut tried = 1;
        loop {
            // Kept as a list, because one of its entries is larger and would be in the task.
            let members = Arc::clone(&self.turns.borrow()[usize::from(id.0)].members);
            let Some(member) = members.find(endpoint) else {
                // Gone since it was chosen.
                endpoint = self.pick(id).ok_or(Fault::NoEndpoint)?;
                continue;
            };
            let deadline = (self.core.turn_time() + settings.timeouts.connect).min(total);
            let counters = &self.stats.endpoints[usize::from(endpoint.0)];
            match self.connect_to(&member.address, deadline).await {
                Ok(stream) => {
                    if let Some(version) = settings.proxy_protocol {
                        let announcing = Box::pin(announce(&stream, client, version, deadline));
                        announcing.await.map_err(|error| {
                            counters.connect_failures.add(1);
                            fault_of(&error, Fault::ConnectTimeout, Fault::ConnectFailed)
                        })?;
                    }
                    let stream = match self.private.endpoint(id, member.server_name.as_ref()) {
                        None => Wire::Plain(stream),
                        // Control lets no such endpoint in.
                        Some((_, None)) => return Err(Fault::UpstreamTlsFailed),
                        Some((config, Some(name))) => {
                            let agreeing = Box::pin(tls::connect(stream, config, name, deadline));
                            {
                                let stream = agreeing.await.map_err(|error| {
                                    counters.connect_failures.add(1);
                                    let fault = HandshakeFault::of(&error);
                                    self.stats.upstream_handshake_faults[fault.index()].add(1);
                                    fault_of_handshake(&error)
                                })?;
                                let is_resumed = stream.handshake_kind() == Some(HandshakeKind::Resumed);
                                let counter =
                                    if is_resumed { &counters.resumptions } else { &counters.handshakes };
                                counter.add(1);
                                Wire::Private(stream)
                            }
                        }
                    };
                    counters.connections_opened.add(1);
                    let active = Active::new(&self.stats, endpoint);
                    let generation = member.generation;
                    let is_reused = false;
                    return Ok(Connection { stream, upstream: id, endpoint, generation, is_reused, active });
                }
                // Not the endpoint's failure, and no other endpoint would fare better.
                Err(error) if is_exhaustion(&error) => return Err(Fault::ResourcesExhausted),
                Err(error) => {
                    counters.connect_failures.add(1);
                    let is_late = error.kind() == io::ErrorKind::TimedOut;
                    if is_late || tried >= self.candidates(id).min(ENDPOINTS_TRIED_MAX) {
                        return Err(fault_of(&error, Fault::ConnectTimeout, Fault::ConnectFailed));
                    }
                    endpoint = self.pick(id).ok_or(Fault::ConnectFailed)?;
                    tried += 1;
                }
            }
        }
    }

    /// How many endpoints may be used.
    fn candidates(&self, id: UpstreamId) -> usize {
        self.turns.borrow()[usize::from(id.0)].members.candidates.len()
    }

    async fn connect_to(&self, address: &Address, deadline: Instant) -> io::Result<Stream> {
        match address {
            Address::Tcp(address) => self.core.connect(*address, deadline).await,
            // Apart, so that the task of every client need not hold it: most have no such endpoint.
            Address::Unix(path) => Box::pin(self.core.connect_unix(path, deadline)).await,
        }
    }

    /// Keeps a connection for the next request, if there is room.
    pub(crate) fn keep(&self, connection: Connection) {
        let Connection { stream, upstream, endpoint, generation, active, .. } = connection;
        drop(active);
        if stream.has_unsent() {
            return; // answered before all of the request had left
        }
        if self.roster.seat(endpoint).generation() != generation {
            return; // the endpoint has gone, or is to be left alone
        }
        let settings = self.settings(upstream);
        if settings.proxy_protocol.is_some() {
            return; // it was announced as one client's, and the next request may be another's
        }
        let mut pool = self.pool.borrow_mut();
        if pool.by_endpoint[usize::from(endpoint.0)].len() >= usize::from(settings.idle_connections_max) {
            return;
        }
        stream.set_recv_deadline(self.core.turn_time() + settings.idle_timeout);
        let index = pool.free.pop().unwrap_or_else(|| {
            pool.idle.push(None);
            pool.idle.len() as u32 - 1
        });
        pool.idle[index as usize] =
            Some(Idle { parked: stream.park(index | self.tag_bit), endpoint, generation });
        pool.by_endpoint[usize::from(endpoint.0)].push(index);
        self.stats.endpoints[usize::from(endpoint.0)].idle.add(1);
    }

    fn take_idle(&self, endpoint: EndpointId) -> Option<(Wire, u32)> {
        let mut pool = self.pool.borrow_mut();
        while let Some(index) = pool.by_endpoint[usize::from(endpoint.0)].pop() {
            self.stats.endpoints[usize::from(endpoint.0)].idle.sub(1);
            let idle = pool.idle[index as usize].take();
            pool.free.push(index);
            let Some(mut idle) = idle else { continue };
            if let Some(stream) = idle.parked.resume(&self.core) {
                return Some((stream, idle.generation));
            }
        }
        None
    }

    /// An idle connection spoke, ended or grew too old: it cannot be used any more, unless TLS alone has spoken.
    pub(crate) fn wake_idle(&self, stream: Stream, tag: u32, event: ParkEvent) {
        let index = tag & !self.tag_bit;
        let mut pool = self.pool.borrow_mut();
        let Some(idle) = pool.idle[index as usize].take() else { return };
        let stream = idle.parked.wake(stream);
        if event == ParkEvent::Readable && stream.stays_idle() && !stream.has_unsent() {
            pool.idle[index as usize] = Some(Idle { parked: stream.park(tag), ..idle });
            return;
        }
        pool.free.push(index);
        pool.by_endpoint[usize::from(idle.endpoint.0)].retain(|other| *other != index);
        let counters = &self.stats.endpoints[usize::from(idle.endpoint.0)];
        counters.idle.sub(1);
        counters.idle_closed.add(1);
    }
}

/// Tells an endpoint whose connection it gets, before anything else, TLS included.
async fn announce(
    stream: &Stream,
    client: &Client,
    version: ProxyVersion,
    deadline: Instant,
) -> io::Result<()> {
    stream.set_send_deadline(deadline);
    stream.send_all(&preface::header_for(client, version)).await
}

/// Another endpoint is not asked instead of one that cannot prove who it is: that is no failure to pass over in silence.
fn fault_of_handshake(error: &HandshakeError) -> Fault {
    match error {
        HandshakeError::TimedOut => Fault::ConnectTimeout,
        HandshakeError::Ended
        | HandshakeError::NotTls(_)
        | HandshakeError::NameUnknown
        | HandshakeError::VersionTooOld
        | HandshakeError::Refused(_)
        | HandshakeError::Io(_) => Fault::UpstreamTlsFailed,
    }
}
