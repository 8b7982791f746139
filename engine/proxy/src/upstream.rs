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
use crate::stats::CoreStats;
use crate::wire::{ParkedWire, Wire};

/// Endpoints of one upstream tried for a request before it is answered 502; nothing has been sent by then.
const ENDPOINTS_TRIED_MAX: u16 = 3;

/// A connection to an endpoint that carries an exchange.
pub(crate) struct Connection {
    pub(crate) stream: Wire,
    pub(crate) endpoint: EndpointId,
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
}

/// One core's upstreams: schedulers, and idle connections by endpoint.
pub(crate) struct Upstreams {
    core: Core,
    snapshot: Arc<Snapshot>,
    stats: Arc<CoreStats>,
    addresses: Arc<[Address]>,
    private: Arc<Private>,
    tag_bit: u32,
    schedulers: RefCell<Box<[RoundRobin]>>,
    pool: RefCell<Pool>,
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
        addresses: &Arc<[Address]>,
        private: &Arc<Private>,
        tag_bit: u32,
    ) -> Self {
        // Each core starts its rounds elsewhere, or the first endpoint would get every core's first request.
        let offset = u16::try_from(core.index()).unwrap_or(0);
        let by_endpoint = snapshot.endpoints.iter().map(|_| Vec::new()).collect();
        Self {
            core: core.clone(),
            snapshot: Arc::clone(snapshot),
            stats: Arc::clone(stats),
            addresses: Arc::clone(addresses),
            private: Arc::clone(private),
            tag_bit,
            schedulers: RefCell::new(snapshot.upstreams.iter().map(|_| RoundRobin::new(offset)).collect()),
            pool: RefCell::new(Pool { by_endpoint, ..Pool::default() }),
        }
    }

    fn settings(&self, id: UpstreamId) -> &Upstream {
        &self.snapshot.upstreams[usize::from(id.0)]
    }

    /// The endpoint whose turn it is.
    fn pick(&self, id: UpstreamId) -> EndpointId {
        let settings = self.settings(id);
        let scheduler = &mut self.schedulers.borrow_mut()[usize::from(id.0)];
        let turn = scheduler.next(settings.endpoints_count, |_| true).unwrap_or(0);
        EndpointId(settings.endpoints_first.0 + turn)
    }

    /// A kept connection to the endpoint whose turn it is, or else the endpoint.
    pub(crate) fn reuse(&self, id: UpstreamId) -> Result<Connection, EndpointId> {
        let endpoint = self.pick(id);
        while let Some(stream) = self.take_idle(endpoint) {
            if stream.stays_idle() {
                let active = Active::new(&self.stats, endpoint);
                return Ok(Connection { stream, endpoint, is_reused: true, active });
            }
            self.stats.endpoints[usize::from(endpoint.0)].idle_closed.add(1);
        }
        Err(endpoint)
    }

    /// Makes a new connection to the endpoint whose turn it is, or if that fails to others.
    pub(crate) async fn open(
        &self,
        id: UpstreamId,
        total: Instant,
        client: &Client,
    ) -> Result<Connection, Fault> {
        self.connect(id, self.pick(id), total, client).await
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
            let deadline = (self.core.turn_time() + settings.timeouts.connect).min(total);
            let counters = &self.stats.endpoints[usize::from(endpoint.0)];
            match self.connect_to(endpoint, deadline).await {
                Ok(stream) => {
                    if let Some(version) = settings.proxy_protocol {
                        let announcing = Box::pin(announce(&stream, client, version, deadline));
                        announcing.await.map_err(|error| {
                            counters.connect_failures.add(1);
                            fault_of(&error, Fault::ConnectTimeout, Fault::ConnectFailed)
                        })?;
                    }
                    let stream = match self.private.endpoint(id, settings, endpoint) {
                        None => Wire::Plain(stream),
                        Some((config, name)) => {
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
                    return Ok(Connection { stream, endpoint, is_reused: false, active });
                }
                // Not the endpoint's failure, and no other endpoint would fare better.
                Err(error) if is_exhaustion(&error) => return Err(Fault::ResourcesExhausted),
                Err(error) => {
                    counters.connect_failures.add(1);
                    let is_late = error.kind() == io::ErrorKind::TimedOut;
                    if is_late || tried >= settings.endpoints_count.min(ENDPOINTS_TRIED_MAX) {
                        return Err(fault_of(&error, Fault::ConnectTimeout, Fault::ConnectFailed));
                    }
                    endpoint = self.pick(id);
                    tried += 1;
                }
            }
        }
    }

    async fn connect_to(&self, endpoint: EndpointId, deadline: Instant) -> io::Result<Stream> {
        match &self.addresses[usize::from(endpoint.0)] {
            Address::Tcp(address) => self.core.connect(*address, deadline).await,
            // Apart, so that the task of every client need not hold it: most have no such endpoint.
            Address::Unix(path) => Box::pin(self.core.connect_unix(path, deadline)).await,
        }
    }

    /// Keeps a connection for the next request, if there is room.
    pub(crate) fn keep(&self, connection: Connection) {
        let Connection { stream, endpoint, active, .. } = connection;
        drop(active);
        if stream.has_unsent() {
            return; // answered before all of the request had left
        }
        let settings = self.settings(self.snapshot.endpoints[usize::from(endpoint.0)].upstream);
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
        pool.idle[index as usize] = Some(Idle { parked: stream.park(index | self.tag_bit), endpoint });
        pool.by_endpoint[usize::from(endpoint.0)].push(index);
        self.stats.endpoints[usize::from(endpoint.0)].idle.add(1);
    }

    fn take_idle(&self, endpoint: EndpointId) -> Option<Wire> {
        let mut pool = self.pool.borrow_mut();
        while let Some(index) = pool.by_endpoint[usize::from(endpoint.0)].pop() {
            self.stats.endpoints[usize::from(endpoint.0)].idle.sub(1);
            let idle = pool.idle[index as usize].take();
            pool.free.push(index);
            if let Some(stream) = idle.and_then(|mut idle| idle.parked.resume(&self.core)) {
                return Some(stream);
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
            pool.idle[index as usize] = Some(Idle { parked: stream.park(tag), endpoint: idle.endpoint });
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
