//! Which endpoint of an upstream gets the next exchange, as one core decides it?
//!
//! Never waits for another core, and never writes what another core writes: what others have in use is read where they count
//! it. Costs a request that has no wish, in an upstream without weights, no more than its turn.

use std::net::SocketAddr;
use std::sync::Arc;

use config::snapshot::balance::{Balance, HashOn, HashRule};
use config::snapshot::{EndpointId, Upstream};
use proto::balance::View;
use proto::balance::hash;
use proto::balance::latency::Latency;
use proto::balance::least::Measure;
use proto::balance::scheduler::{Method, Scheduler};
use proto::http1::head::RequestHead;
use runtime::Instant;

use crate::address::is_nobodys;
use crate::core_main::Fellow;
use crate::roster::member::{Member, Members, State};
use crate::sessions::{Session, Sessions, Settled};
use crate::stats::UpstreamCounters;
use crate::sticky::{self, Told};

/// What of a request decides on its endpoint. Nothing in most upstreams.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Wish {
    /// The number of what is hashed.
    key: Option<u64>,
    /// The number of the client, where clients come back to what they had.
    client: Option<u64>,
    /// The endpoint that its cookie names.
    pub(crate) home: Option<EndpointId>,
}

impl Wish {
    /// Of a client whose connection is relayed.
    pub(crate) fn of_client(upstream: &Upstream, peer: SocketAddr) -> Self {
        if !upstream.depends_on_request || is_nobodys(peer) {
            return Self::default();
        }
        Self {
            key: upstream.balance.hash().map(|rule| rule.mask.number(peer.ip())),
            client: upstream.persistence.map(|rule| rule.mask.number(peer.ip())),
            home: None,
        }
    }

    /// Of a request.
    #[cold]
    pub(crate) fn of_request(
        upstream: &Upstream,
        members: &Members,
        counters: &UpstreamCounters,
        peer: SocketAddr,
        buf: &[u8],
        head: &RequestHead,
    ) -> Self {
        let mut wish = Self::of_client(upstream, peer);
        if let Some(rule) = upstream.balance.hash() {
            wish.key = key(rule, peer, buf, head);
        }
        if let (Some(rule), Some(cookies)) = (&upstream.sticky, &members.guide.cookies) {
            match cookies.read(rule, buf, head) {
                Told::Nothing => {}
                Told::Endpoint(endpoint) => wish.home = Some(endpoint),
                Told::Unknown => counters.cookies_unknown.add(1),
            }
        }
        wish
    }
}

/// The number of what a rule hashes of a request, if the request has it.
fn key(rule: &HashRule, peer: SocketAddr, buf: &[u8], head: &RequestHead) -> Option<u64> {
    let some = |bytes: &[u8]| (!bytes.is_empty()).then(|| hash::of_bytes(bytes));
    match &rule.on {
        HashOn::Source => (!is_nobodys(peer)).then(|| rule.mask.number(peer.ip())),
        HashOn::Uri => some(head.path_and_query.of(buf)),
        HashOn::Destination => head.authority(buf).and_then(some),
        HashOn::Header(name) => {
            let is_named = |field: &[u8]| field.eq_ignore_ascii_case(name);
            let field = head.fields.iter().find(|field| is_named(field.name.of(buf)))?;
            some(field.value.of(buf))
        }
        HashOn::Cookie(name) => some(sticky::values(name, buf, head).next()?),
    }
}

/// One core's choice in one upstream.
pub(crate) struct Chooser {
    scheduler: Scheduler,
    slots_first: u16,
    is_by_chance: bool,
    /// Times to an answer by slot, where they decide.
    latencies: Box<[Latency]>,
    /// All cores.
    fellows: Arc<[Fellow]>,
}

/// What a choice is made of, besides the endpoints.
pub(crate) struct Circumstances<'a, F> {
    pub(crate) wish: &'a Wish,
    pub(crate) sessions: Option<&'a Sessions>,
    pub(crate) counters: &'a UpstreamCounters,
    pub(crate) now: Instant,
    /// Random bits, if chance decides.
    pub(crate) dice: u64,
    /// Whether an endpoint may have the exchange.
    pub(crate) may_have: F,
}

impl Chooser {
    pub(crate) fn new(upstream: &Upstream, core: usize, fellows: &Arc<[Fellow]>) -> Self {
        let method = match upstream.balance {
            // Those without a key take turns.
            Balance::RoundRobin | Balance::SourceHash(_) | Balance::Hash(_) => Method::RoundRobin,
            Balance::LeastConnections => Method::Least(Measure::Connections),
            Balance::RandomTwo => Method::RandomTwo,
            Balance::ShortestExpectedDelay => Method::Least(Measure::Delay),
            Balance::NeverQueue => Method::Least(Measure::Queue),
            Balance::LeastTime => Method::Least(Measure::Time),
        };
        let latencies = if upstream.balance == Balance::LeastTime { upstream.slots_count } else { 0 };
        let offset = u16::try_from(core).unwrap_or(0);
        Self {
            scheduler: Scheduler::new(method, upstream.slots_count, offset),
            slots_first: upstream.slots_first.0,
            is_by_chance: method == Method::RandomTwo,
            latencies: (0..latencies).map(|_| Latency::default()).collect(),
            fellows: Arc::clone(fellows),
        }
    }

    /// Whether chance decides.
    pub(crate) fn is_by_chance(&self) -> bool {
        self.is_by_chance
    }

    /// The endpoint that gets an exchange.
    #[inline]
    pub(crate) fn pick<F: Fn(EndpointId) -> bool>(
        &mut self,
        members: &Members,
        what: &Circumstances<'_, F>,
    ) -> Option<EndpointId> {
        if what.wish.home.is_some() || what.wish.client.is_some() {
            return self.pick_again(members, what);
        }
        self.pick_anew(members, what)
    }

    /// The endpoint that a client had, if it may have the exchange; else another, and from now on that if the one that it had is
    /// no longer there.
    #[cold]
    fn pick_again<F: Fn(EndpointId) -> bool>(
        &mut self,
        members: &Members,
        what: &Circumstances<'_, F>,
    ) -> Option<EndpointId> {
        let home = what.wish.home.and_then(|home| members.find(home)).filter(|member| is_there(member));
        if let Some(home) = home {
            if (what.may_have)(home.id) {
                return Some(home.id);
            }
            return self.pick_anew(members, what);
        }
        let (Some(client), Some(sessions)) = (what.wish.client, what.sessions) else {
            return self.pick_anew(members, what);
        };
        let former = sessions.find(client, what.now);
        if let Some(home) = former.and_then(|session| self.member(members, session)) {
            if (what.may_have)(home.id) {
                return Some(home.id);
            }
            return self.pick_anew(members, what);
        }
        let chosen = self.pick_anew(members, what)?;
        let session = self.session(members, chosen)?;
        match sessions.settle(client, session, former, what.now) {
            Settled::New => {}
            Settled::Displacing => what.counters.sessions_displaced.add(1),
            Settled::Forgotten => what.counters.sessions_forgotten.add(1),
            Settled::Known(session) => {
                let home = self.member(members, session).filter(|home| (what.may_have)(home.id));
                return Some(home.map_or(chosen, |home| home.id));
            }
        }
        Some(chosen)
    }

    /// The endpoint that the scheduler says.
    #[inline]
    fn pick_anew<F: Fn(EndpointId) -> bool>(
        &mut self,
        members: &Members,
        what: &Circumstances<'_, F>,
    ) -> Option<EndpointId> {
        let count = members.candidates.len() as u16;
        let may_take = |index| (what.may_have)(members.candidate(index).id);
        let guide = &members.guide;
        if let Some(key) = what.wish.key {
            return guide.find(key, count, may_take).map(|index| members.candidate(index).id);
        }
        let view = |count| Candidates {
            members,
            count,
            slots_first: self.slots_first,
            fellows: &self.fellows,
            latencies: &self.latencies,
            now: what.now,
            may_have: &what.may_have,
        };
        let near = (guide.near_count > 0 && guide.near_count < count).then(|| view(guide.near_count));
        let near = near.and_then(|view| self.scheduler.pick(&view, what.dice));
        let index = near.or_else(|| self.scheduler.pick(&view(count), what.dice))?;
        Some(members.candidate(index).id)
    }

    /// The endpoint of a session, if that is there.
    fn member<'m>(&self, members: &'m Members, session: Session) -> Option<&'m Member> {
        let id = EndpointId(self.slots_first.checked_add(session.slot)?);
        members.find(id).filter(|member| session.is_of(member.generation) && is_there(member))
    }

    fn session(&self, members: &Members, id: EndpointId) -> Option<Session> {
        let member = members.find(id)?;
        Some(Session { slot: id.0.checked_sub(self.slots_first)?, generation: member.generation })
    }

    /// A client leaves an endpoint: the session it has lasts again, or if that is over it has one with this.
    pub(crate) fn renew(
        &self,
        sessions: &Sessions,
        wish: &Wish,
        endpoint: EndpointId,
        generation: u32,
        now: Instant,
    ) {
        if let Some(client) = wish.client
            && sessions.find(client, now).is_none()
            && let Some(slot) = endpoint.0.checked_sub(self.slots_first)
        {
            sessions.settle(client, Session { slot, generation }, None, now);
        }
    }

    /// The endpoints are others now.
    pub(crate) fn members_changed(&mut self, members: &Members) {
        let view = Candidates {
            members,
            count: members.candidates.len() as u16,
            slots_first: self.slots_first,
            fellows: &[],
            latencies: &[],
            now: Instant::default(),
            may_have: &|_| true,
        };
        self.scheduler.endpoints_changed(&view);
    }

    /// An endpoint has taken so long to answer, or to fail.
    pub(crate) fn note_time(&mut self, endpoint: EndpointId, nanos: u64, now: Instant) {
        let latency = self.latencies.get_mut(usize::from(endpoint.0.wrapping_sub(self.slots_first)));
        if let Some(latency) = latency {
            latency.record(nanos, now.as_nanos());
        }
    }
}

/// Whether an endpoint goes on with sessions that it has: one of weight 0 does.
pub(crate) fn is_there(member: &Member) -> bool {
    match member.state {
        State::Up => true,
        State::Down | State::Ejected | State::Draining => false,
    }
}

/// The first candidates of a list, as a scheduler sees them.
struct Candidates<'a, F> {
    members: &'a Members,
    count: u16,
    slots_first: u16,
    fellows: &'a [Fellow],
    latencies: &'a [Latency],
    now: Instant,
    may_have: &'a F,
}

impl<F: Fn(EndpointId) -> bool> View for Candidates<'_, F> {
    #[inline]
    fn count(&self) -> u16 {
        self.count
    }

    fn slot(&self, index: u16) -> u16 {
        self.members.candidate(index).id.0 - self.slots_first
    }

    fn weight(&self, index: u16) -> u32 {
        self.members.candidate(index).weight
    }

    #[inline]
    fn is_even(&self) -> bool {
        self.members.guide.is_even
    }

    fn in_use(&self, index: u16) -> u32 {
        let slot = usize::from(self.members.candidate(index).id.0);
        let active = self.fellows.iter().map(|fellow| fellow.stats.endpoints[slot].active.value());
        u32::try_from(active.sum::<u64>()).unwrap_or(u32::MAX)
    }

    fn latency(&self, index: u16) -> Option<u64> {
        self.latencies.get(usize::from(self.slot(index)))?.value(self.now.as_nanos())
    }

    #[inline]
    fn may_take(&self, index: u16) -> bool {
        (self.may_have)(self.members.candidate(index).id)
    }
}
