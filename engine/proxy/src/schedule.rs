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
use crate::generation::Generation;
use crate::roster::member::{Member, Members, State};
use crate::sessions::{Session, Sessions, Settled};
use crate::stats::{CoreStats, UpstreamCounters};
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
    /// Nothing of a request has a say.
    is_blind: bool,
    /// Endpoints take turns, whatever the request.
    is_plain: bool,
    /// Times to an answer by slot, where they decide.
    latencies: Box<[Latency]>,
    /// Where all cores count.
    generation: Arc<Generation>,
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
    pub(crate) fn new(upstream: &Upstream, core: usize, generation: &Arc<Generation>) -> Self {
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
            is_blind: method == Method::RoundRobin && !upstream.depends_on_request,
            is_plain: false,
            latencies: (0..latencies).map(|_| Latency::default()).collect(),
            generation: Arc::clone(generation),
        }
    }

    /// Whether chance decides.
    pub(crate) fn is_by_chance(&self) -> bool {
        self.is_by_chance
    }

    /// Whether the endpoints take turns, all alike and whatever the request.
    #[inline]
    pub(crate) fn is_plain(&self) -> bool {
        self.is_plain
    }

    /// The endpoint whose turn it is, where that is all that counts.
    #[inline]
    pub(crate) fn next(&mut self, members: &Members) -> Option<EndpointId> {
        let index = self.scheduler.next(members.candidates.len() as u16)?;
        Some(members.candidate(index).id)
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
        let home =
            what.wish.home.and_then(|home| members.find(home)).filter(|member| is_there(members, member));
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
            stats: &self.generation.stats,
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
        members.find(id).filter(|member| session.is_of(member.generation) && is_there(members, member))
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
            stats: &[],
            latencies: &[],
            now: Instant::default(),
            may_have: &|_| true,
        };
        self.scheduler.endpoints_changed(&view);
        self.is_plain = self.is_blind && members.guide.is_even && members.guide.near_count == 0;
    }

    /// An endpoint has taken so long to answer, or to fail.
    pub(crate) fn note_time(&mut self, endpoint: EndpointId, nanos: u64, now: Instant) {
        let latency = self.latencies.get_mut(usize::from(endpoint.0.wrapping_sub(self.slots_first)));
        if let Some(latency) = latency {
            latency.record(nanos, now.as_nanos());
        }
    }
}

/// Whether an endpoint goes on with sessions that it has: one of weight 0 does, and so does one that is down while that is said of
/// so many that it is not believed.
pub(crate) fn is_there(members: &Members, member: &Member) -> bool {
    match member.state {
        State::Up => true,
        State::Down | State::Ejected => members.is_panic,
        State::Draining => false,
    }
}

/// The first candidates of a list, as a scheduler sees them.
struct Candidates<'a, F> {
    members: &'a Members,
    count: u16,
    slots_first: u16,
    stats: &'a [Arc<CoreStats>],
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
        let active = self.stats.iter().map(|core| core.endpoints[slot].active.value());
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

#[cfg(test)]
mod tests {
    use config::snapshot::{EndpointAddress, Snapshot, UpstreamId};

    use super::*;
    use crate::roster::keeper::Keeper;

    const UPSTREAM: UpstreamId = UpstreamId(0);

    struct World {
        snapshot: Arc<Snapshot>,
        keeper: Keeper,
        chooser: Chooser,
        counters: UpstreamCounters,
    }

    impl World {
        /// Of an upstream with these keys and endpoints at the ports 1, 2 and 3.
        fn new(upstream: &str) -> Self {
            let text = format!(
                "[listener.web]\nbind = '127.0.0.1:1'\n[channel.c]\nupstream = 'u'\n\
                 [upstream.u]\nendpoints = ['10.0.0.1:1', '10.0.0.1:2', '10.0.0.1:3']\n{upstream}"
            );
            let loaded = config::load_str("a.toml", &text, config::Format::Toml, &|_| None);
            let snapshot = Arc::new(loaded.unwrap_or_else(|problems| panic!("{problems}")).snapshot);
            let keeper = Keeper::new(&snapshot, |written| match written {
                EndpointAddress::Tcp(address) => (*address).into(),
                other => panic!("{other:?}"),
            });
            let roster = Arc::clone(keeper.roster());
            let generation = Generation::first(Arc::clone(&snapshot), roster, Arc::default(), []);
            let chooser = Chooser::new(&snapshot.upstreams[0], 0, &generation);
            Self { snapshot, keeper, chooser, counters: UpstreamCounters::default() }
        }

        fn id(&self, port: u16) -> EndpointId {
            self.keeper.find(UPSTREAM, &format!("10.0.0.1:{port}")).expect("written")
        }

        /// Who gets an exchange with this wish, if `full` may not.
        fn pick(&mut self, wish: Wish, full: Option<EndpointId>) -> Option<EndpointId> {
            let roster = self.keeper.roster();
            let what = Circumstances {
                wish: &wish,
                sessions: roster.sessions(UPSTREAM),
                counters: &self.counters,
                now: Instant::from_nanos(1),
                dice: 0,
                may_have: |id| Some(id) != full,
            };
            self.chooser.pick(&roster.members(UPSTREAM), &what)
        }

        fn wish_of(&self, host: u8) -> Wish {
            Wish::of_client(&self.snapshot.upstreams[0], SocketAddr::from(([10, 1, 0, host], 1)))
        }
    }

    #[test]
    fn a_cookie_is_followed_as_long_as_its_endpoint_is_there() {
        let mut world = World::new("");
        let home = world.id(2);
        let wish = Wish { home: Some(home), ..Wish::default() };
        assert!((0..4).all(|_| world.pick(wish, None) == Some(home)));
        world.keeper.set_weight(UPSTREAM, home, 0).expect("it is there");
        assert_eq!(world.pick(wish, None), Some(home));
        assert!(world.pick(wish, Some(home)).is_some_and(|other| other != home), "it is full");
        world.keeper.drain(UPSTREAM, home, true).expect("it is there");
        assert!(world.pick(wish, None).is_some_and(|other| other != home));
    }

    #[test]
    fn a_session_stays_while_its_endpoint_is_full_and_moves_when_it_is_down() {
        let mut world = World::new("persistence = {}");
        let wish = world.wish_of(7);
        let home = world.pick(wish, None).expect("somebody");
        assert!((0..4).all(|_| world.pick(wish, None) == Some(home)));
        assert!(world.pick(wish, Some(home)).is_some_and(|other| other != home));
        assert_eq!(world.pick(wish, None), Some(home));
        world.keeper.set_health(UPSTREAM, home, false).expect("it is there");
        let other = world.pick(wish, None).expect("somebody");
        assert_ne!(other, home);
        world.keeper.set_health(UPSTREAM, home, true).expect("it is there");
        assert!((0..4).all(|_| world.pick(wish, None) == Some(other)), "it has moved");
        // Others take their turns.
        let all: Vec<_> = (10..13).filter_map(|host| world.pick(world.wish_of(host), None)).collect();
        assert!(all.iter().any(|id| *id != other), "{all:?}");
    }

    #[test]
    fn nobody_moves_while_so_many_are_said_to_be_down_that_it_is_not_believed() {
        let mut world = World::new("persistence = {}\npanic_threshold = '50%'");
        let wish = world.wish_of(7);
        let home = world.pick(wish, None).expect("somebody");
        for port in 1..=3 {
            let id = world.id(port);
            world.keeper.set_health(UPSTREAM, id, false).expect("it is there");
        }
        assert!(world.keeper.roster().members(UPSTREAM).is_panic);
        assert!((0..4).all(|_| world.pick(wish, None) == Some(home)));
    }

    #[test]
    fn a_client_without_an_address_is_nobody_s() {
        let world = World::new("persistence = {}\nbalance = 'source_hash'");
        let wish = Wish::of_client(&world.snapshot.upstreams[0], SocketAddr::from(([0, 0, 0, 0], 0)));
        assert!(wish.client.is_none() && wish.key.is_none());
    }
}
