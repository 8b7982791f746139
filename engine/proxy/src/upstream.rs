//! Which connection carries the request to its endpoint? A kept one of this core, else a new one.
//!
//! Never shares a connection between cores, never uses one that showed a sign of life while it was idle.

mod again;
mod connect;

use std::cell::RefCell;
use std::sync::Arc;

use config::snapshot::{EndpointId, Snapshot, Upstream, UpstreamId};
use proto::balance::round_robin::RoundRobin;
use proto::retry::Budget;
use runtime::{Core, ParkEvent, Stream};

use crate::outcome::Fault;
use crate::private::Private;
use crate::response::Progress;
use crate::roster::Roster;
use crate::roster::member::Members;
use crate::roster::report::Failure;
use crate::stats::CoreStats;
use crate::wire::{ParkedWire, Wire};

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
    /// How many requests may go out again.
    budgets: RefCell<Box<[Budget]>>,
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
        let budgets = snapshot.upstreams.iter().map(|upstream| Budget::new(upstream.retry.budget_percent));
        Self {
            core: core.clone(),
            snapshot: Arc::clone(snapshot),
            stats: Arc::clone(stats),
            roster: Arc::clone(roster),
            private: Arc::clone(private),
            tag_bit,
            turns: RefCell::new(turns.collect()),
            budgets: RefCell::new(budgets.collect()),
            pool: RefCell::new(Pool { by_endpoint, ..Pool::default() }),
        }
    }

    fn settings(&self, id: UpstreamId) -> &Upstream {
        &self.snapshot.upstreams[usize::from(id.0)]
    }

    /// The endpoint whose turn it is among those that may have the request.
    fn pick(&self, id: UpstreamId, may_have: impl Fn(EndpointId) -> bool) -> Option<EndpointId> {
        let turns = &mut self.turns.borrow_mut()[usize::from(id.0)];
        if turns.members.revision != self.roster.revision(id) {
            self.refresh(id, turns);
        }
        let Turns { members, scheduler } = turns;
        let count = members.candidates.len() as u16;
        let turn = scheduler.next(count, |index| may_have(members.candidate(index).id))?;
        Some(members.candidate(turn).id)
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
        let Some(endpoint) = self.pick(id, |_| true) else { return Found::Nobody };
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

    /// The endpoints of an upstream as this core sees them.
    fn members(&self, id: UpstreamId) -> Arc<Members> {
        Arc::clone(&self.turns.borrow()[usize::from(id.0)].members)
    }

    /// Notes the status that an endpoint has answered with.
    #[inline]
    pub(crate) fn note_answer(&self, connection: &Connection, settings: &Upstream, status: u16) {
        let Connection { endpoint, generation, .. } = *connection;
        self.roster.note_answer(settings, endpoint, generation, status);
    }

    /// Notes that a try over a connection has failed, if that was the endpoint's fault.
    #[cold]
    pub(crate) fn note_fault(&self, connection: &Connection, fault: Fault, progress: &Progress<'_>) {
        let failure = match fault {
            // A kept connection may have been closed before the request came.
            Fault::UpstreamGone if connection.is_reused && !progress.is_response_begun.get() => return,
            Fault::UpstreamGone | Fault::ResponseTruncated => Failure::Broken,
            Fault::UpstreamSendTimeout | Fault::FirstByteTimeout | Fault::ResponseTimeout => Failure::Late,
            Fault::ResponseRejected(_)
            | Fault::ResponseBodyRejected(_)
            | Fault::UnaskedUpgrade
            | Fault::InterimAnswersTooMany => Failure::Malformed,
            _ => return,
        };
        self.roster.note_failure(connection.endpoint, connection.generation, failure);
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
