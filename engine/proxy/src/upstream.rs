//! Which connection carries the request to its endpoint? A kept one of this core, else a new one.
//!
//! Never shares a connection between cores, never uses one that showed a sign of life while it was idle.

mod again;
mod connect;
mod inherit;
mod room;

use std::cell::{Cell, RefCell};
use std::net::SocketAddr;
use std::rc::{Rc, Weak};
use std::sync::Arc;
use std::time::Duration;

use config::snapshot::balance::StickyRule;
use config::snapshot::{EndpointId, Snapshot, Upstream, UpstreamId};
use proto::http1::head::RequestHead;
use proto::retry::Budget;
use runtime::{Core, ParkEvent, Stream};

use crate::client::Client;
use crate::core_main::{CoreState, Fellow};
use crate::generation::Generation;
use crate::outcome::Fault;
use crate::private::Private;
use crate::response::Progress;
use crate::roster::Roster;
use crate::roster::member::Members;
use crate::roster::report::Failure;
use crate::schedule::{self, Chooser, Circumstances, Wish};
use crate::stats::{CoreStats, EndpointCounters};
use crate::sticky::Cookies;
use crate::wire::{ParkedWire, Wire};

pub(crate) use self::room::NOBODY;
use self::room::{Bounded, Lines};

/// What a failure counts as where the time to an answer decides: a second, so that an endpoint which refuses at once is not
/// the fastest.
const FAILURE_NANOS: u64 = 1_000_000_000;

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
struct Active(Arc<EndpointCounters>);

impl Active {
    fn new(stats: &Arc<CoreStats>, endpoint: EndpointId) -> Self {
        let counters = Arc::clone(&stats.endpoints[usize::from(endpoint.0)]);
        counters.active.add(1);
        Self(counters)
    }
}

impl Drop for Active {
    fn drop(&mut self) {
        self.0.active.sub(1);
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
    /// None that may have another connection for now.
    Full,
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
    /// Which of them bound their connections, and who waits for one.
    bounded: Bounded,
    lines: Rc<Lines>,
    /// There is a newer generation, which keeps the connections; see `upstream/inherit.rs`.
    is_superseded: Cell<bool>,
    successor: RefCell<Weak<CoreState>>,
    pool: RefCell<Pool>,
}

/// Whose turn it is in one upstream.
struct Turns {
    /// Its endpoints as last seen.
    members: Arc<Members>,
    chooser: Chooser,
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
        generation: &Arc<Generation>,
        fellows: &Arc<[Fellow]>,
        former: Option<&Self>,
        tag_bit: u32,
    ) -> Self {
        let Generation { snapshot, roster, private, stats, .. } = &**generation;
        let by_endpoint = (0..snapshot.slots_count).map(|_| Vec::new()).collect();
        let ids = (0..).map(UpstreamId).zip(&snapshot.upstreams);
        let turns = ids.map(|(id, upstream)| {
            let (members, mut chooser) =
                (roster.members(id), Chooser::new(upstream, core.index(), generation));
            chooser.members_changed(&members);
            Turns { members, chooser }
        });
        let budgets = snapshot.upstreams.iter().map(|upstream| {
            let same = former.and_then(|former| former.budget(upstream));
            same.unwrap_or_else(|| Budget::new(upstream.retry.budget_percent))
        });
        let bounded = Bounded::new(snapshot.upstreams.len());
        for (id, _) in (0..).map(UpstreamId).zip(&snapshot.upstreams) {
            bounded.set(id, roster.members(id).is_bounded());
        }
        Self {
            core: core.clone(),
            snapshot: Arc::clone(snapshot),
            stats: Arc::clone(&stats[core.index()]),
            roster: Arc::clone(roster),
            private: Arc::clone(private),
            tag_bit,
            turns: RefCell::new(turns.collect()),
            budgets: RefCell::new(budgets.collect()),
            bounded,
            lines: Lines::new(core, generation, fellows, former.map(|former| &*former.lines)),
            is_superseded: Cell::new(false),
            successor: RefCell::default(),
            pool: RefCell::new(Pool { by_endpoint, ..Pool::default() }),
        }
    }

    fn settings(&self, id: UpstreamId) -> &Upstream {
        &self.snapshot.upstreams[usize::from(id.0)]
    }

    /// The endpoint whose turn it is among those that may have the request.
    fn pick(&self, id: UpstreamId, wish: &Wish, may_have: impl Fn(EndpointId) -> bool) -> Option<EndpointId> {
        let turns = &mut self.turns.borrow_mut()[usize::from(id.0)];
        if turns.members.revision != self.roster.revision(id) {
            self.refresh(id, turns);
        }
        let Turns { members, chooser } = turns;
        let what = Circumstances {
            wish,
            sessions: self.roster.sessions(id),
            counters: &self.stats.upstreams[usize::from(id.0)],
            now: self.core.turn_time(),
            dice: if chooser.is_by_chance() { self.core.random() } else { 0 },
            may_have,
        };
        chooser.pick(members, &what)
    }

    /// Takes the list of endpoints that control has published, and leaves those alone that are no longer on it.
    #[cold]
    fn refresh(&self, id: UpstreamId, turns: &mut Turns) {
        turns.members = self.roster.members(id);
        turns.chooser.members_changed(&turns.members);
        self.bounded.set(id, turns.members.is_bounded());
        // There may be somebody new with room, or nobody left to wait for.
        self.lines.call_first(id);
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
    pub(crate) fn reuse(&self, id: UpstreamId, wish: &Wish) -> Found {
        if self.bounded.get(id) {
            return self.reuse_bounded(id, wish);
        }
        let Some(endpoint) = self.pick_first(id, wish) else { return Found::Nobody };
        match self.reuse_of(id, endpoint) {
            Some(connection) => Found::Kept(connection),
            None => Found::New(endpoint),
        }
    }

    /// The endpoint whose turn it is for a request that nobody has had: in most upstreams that is all there is to it.
    #[inline]
    fn pick_first(&self, id: UpstreamId, wish: &Wish) -> Option<EndpointId> {
        {
            let turns = &mut self.turns.borrow_mut()[usize::from(id.0)];
            if turns.members.revision != self.roster.revision(id) {
                self.refresh(id, turns);
            }
            if turns.chooser.is_plain() {
                return turns.chooser.next(&turns.members);
            }
        }
        self.pick(id, wish, |_| true)
    }

    /// A kept connection to this endpoint. One that is called is moved from place to place.
    #[inline(always)]
    fn reuse_of(&self, id: UpstreamId, endpoint: EndpointId) -> Option<Connection> {
        while let Some((stream, generation)) = self.take_idle(endpoint) {
            if stream.stays_idle() {
                let active = Active::new(&self.stats, endpoint);
                let connection =
                    Connection { stream, upstream: id, endpoint, generation, is_reused: true, active };
                return Some(connection);
            }
            self.stats.endpoints[usize::from(endpoint.0)].idle_closed.add(1);
        }
        None
    }

    /// The endpoints of an upstream as this core sees them.
    /// Has somebody told the name of the endpoint that a connection leads to, if it is there still.
    pub(crate) fn tell_name(&self, connection: &Connection, hear: impl FnOnce(&str)) {
        let turns = self.turns.borrow();
        let member = turns[usize::from(connection.upstream.0)].members.find(connection.endpoint);
        if let Some(member) = member.filter(|member| member.generation == connection.generation) {
            hear(&member.name);
        }
    }

    fn members(&self, id: UpstreamId) -> Arc<Members> {
        Arc::clone(&self.turns.borrow()[usize::from(id.0)].members)
    }

    /// What of a request has a say in which endpoint it gets, in an upstream where anything has.
    #[cold]
    pub(crate) fn wish(&self, id: UpstreamId, client: &Client, buf: &[u8], head: &RequestHead) -> Wish {
        let counters = &self.stats.upstreams[usize::from(id.0)];
        // Borrowed: the count of those who hold the list is one for all cores.
        let members = &self.turns.borrow()[usize::from(id.0)].members;
        Wish::of_request(self.settings(id), members, counters, client.peer, buf, head)
    }

    /// What says that the client is to come back to the endpoint that answers it, unless it has been told or is to come back to
    /// another that is busy just now.
    #[cold]
    pub(crate) fn cookie(
        &self,
        connection: &Connection,
        rule: &StickyRule,
        wish: &Wish,
    ) -> Option<Arc<Cookies>> {
        let Connection { upstream: id, endpoint, .. } = *connection;
        let turns = &self.turns.borrow()[usize::from(id.0)];
        let stays = wish.home.is_some_and(|home| {
            home == endpoint
                || turns.members.find(home).is_some_and(|home| schedule::is_there(&turns.members, home))
        });
        let cookies = turns.members.guide.cookies.as_ref().filter(|_| !stays)?;
        cookies.line(rule, endpoint, false)?;
        self.stats.upstreams[usize::from(id.0)].cookies_set.add(1);
        Some(Arc::clone(cookies))
    }

    /// The client's connection has ended: from now on its session lasts a timeout, however long the connection was.
    pub(crate) fn renew(&self, connection: &Connection, peer: SocketAddr) {
        let Connection { upstream: id, endpoint, generation, .. } = *connection;
        let Some(sessions) = self.roster.sessions(id) else { return };
        let chooser = &self.turns.borrow()[usize::from(id.0)].chooser;
        let wish = Wish::of_client(self.settings(id), peer);
        chooser.renew(sessions, &wish, endpoint, generation, self.core.turn_time());
    }

    /// Notes how long an endpoint took to answer, where that decides who is next.
    pub(crate) fn note_time(&self, connection: &Connection, time: Duration) {
        let nanos = u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        self.note_nanos(connection.upstream, connection.endpoint, nanos);
    }

    fn note_nanos(&self, id: UpstreamId, endpoint: EndpointId, nanos: u64) {
        let chooser = &mut self.turns.borrow_mut()[usize::from(id.0)].chooser;
        chooser.note_time(endpoint, nanos, self.core.turn_time());
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
        self.note_nanos(connection.upstream, connection.endpoint, FAILURE_NANOS);
    }

    /// Keeps a connection for the next request, if there is room.
    pub(crate) fn keep(&self, connection: Connection) {
        if self.is_superseded.get() {
            return self.keep_in_successor(connection);
        }
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
        drop(pool);
        if self.bounded.get(upstream) {
            self.offer(upstream, endpoint);
        }
    }

    #[inline(always)]
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
