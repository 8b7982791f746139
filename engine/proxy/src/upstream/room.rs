//! What becomes of a request while every endpoint has as many connections as it may have? It waits in line for one that is given
//! back, on this core or another.
//!
//! Never past its deadline, and never more of them than allowed. Never served out of turn for long: who has waited longest is
//! called, wherever that is, and nobody who comes later takes what became free before.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::future::poll_fn;
use std::pin::pin;
use std::rc::{Rc, Weak};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Poll, Waker};
use std::time::Duration;

use config::snapshot::{EndpointId, Upstream, UpstreamId};
use runtime::{Core, Instant};

use super::{Connection, Found, Upstreams};
use crate::client::Client;
use crate::core_main::Fellow;
use crate::generation::{Generation, find_upstream};
use crate::message::CoreMessage;
use crate::outcome::Fault;
use crate::roster::member::Members;
use crate::roster::room::{Entered, EnteredForLong};
use crate::roster::{Roster, Seat};
use crate::schedule::Wish;
use crate::stats::UpstreamCounters;
use crate::tries::Tries;
use crate::wire::Wire;

/// Somebody on another core is served before one here only if it has waited so much longer: a connection does not change its core,
/// so that a closed one and a new one are the price.
const LEAD_MAX: Duration = Duration::from_millis(10);
/// The first in line looks again so often without being called, should a call have met a full mailbox.
const LOOK_AGAIN: Duration = Duration::from_millis(50);
/// What [`UpstreamCounters::waiting_since`] says where nobody waits.
pub(crate) const NOBODY: u64 = u64::MAX;

/// The right to one connection to an endpoint; given back when dropped, which is when the connection is closed.
pub(super) struct Permit {
    /// Weak: the connection may outlast the generation that made it.
    lines: Weak<Lines>,
    upstream: UpstreamId,
    seat: Arc<Seat>,
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.seat.give_back();
        // Who waits in a later generation looks again soon.
        if let Some(lines) = self.lines.upgrade() {
            lines.call_next(self.upstream);
        }
    }
}

/// What a wait has led to.
pub(super) enum Given {
    /// A connection of this core's.
    Kept(Connection),
    /// The right to make one.
    New(EndpointId, Permit),
}

/// One core's lines, by upstream.
pub(super) struct Lines {
    core: Core,
    generation: Arc<Generation>,
    roster: Arc<Roster>,
    fellows: Arc<[Fellow]>,
    /// Of all generations, where the upstream keeps its name.
    lines: Box<[Rc<Line>]>,
}

type Line = RefCell<VecDeque<Rc<Waiter>>>;

struct Waiter {
    since: Instant,
    waker: RefCell<Option<Waker>>,
}

/// Who is to be served next.
enum Turn {
    Nobody,
    Here,
    There(usize),
}

impl Lines {
    pub(super) fn new(
        core: &Core,
        generation: &Arc<Generation>,
        fellows: &Arc<[Fellow]>,
        former: Option<&Self>,
    ) -> Rc<Self> {
        let line = |upstream: &Upstream| {
            let former = former?;
            let id = find_upstream(&former.generation.snapshot, &upstream.name)?;
            Some(Rc::clone(former.line(id)))
        };
        Rc::new(Self {
            core: core.clone(),
            generation: Arc::clone(generation),
            roster: Arc::clone(&generation.roster),
            fellows: Arc::clone(fellows),
            lines: generation
                .snapshot
                .upstreams
                .iter()
                .map(|upstream| line(upstream).unwrap_or_default())
                .collect(),
        })
    }

    fn line(&self, id: UpstreamId) -> &Rc<Line> {
        &self.lines[usize::from(id.0)]
    }

    fn counters(&self, core: usize, id: UpstreamId) -> &UpstreamCounters {
        &self.generation.stats[core].upstreams[usize::from(id.0)]
    }

    /// Says to the other cores since when the first in line here waits.
    fn publish(&self, id: UpstreamId) {
        let since = self.line(id).borrow().front().map_or(NOBODY, |first| first.since.as_nanos());
        self.counters(self.core.index(), id).waiting_since.store(since, Ordering::SeqCst);
    }

    fn whose_turn(&self, id: UpstreamId) -> Turn {
        let here = self.core.index();
        let since = |core| self.counters(core, id).waiting_since.load(Ordering::SeqCst);
        let others = (0..self.fellows.len()).filter(|core| *core != here);
        let other = others.map(|core| (since(core), core)).min().filter(|(since, _)| *since != NOBODY);
        match (since(here), other) {
            (NOBODY, None) => Turn::Nobody,
            (NOBODY, Some((_, core))) => Turn::There(core),
            (mine, Some((since, core))) if since.saturating_add(LEAD_MAX.as_nanos() as u64) < mine => {
                Turn::There(core)
            }
            (_, _) => Turn::Here,
        }
    }

    /// Something has become free: calls who is to have it.
    fn call_next(&self, id: UpstreamId) {
        if !self.roster.room(id).waiting().is_any() {
            return;
        }
        match self.whose_turn(id) {
            Turn::Nobody => {}
            Turn::Here => self.call_first(id),
            Turn::There(core) => {
                if !self.tell(core, id) {
                    self.call_first(id);
                }
            }
        }
    }

    /// Tells another core that there may be room, or that somebody waits for it; false if its mailbox is full.
    fn tell(&self, core: usize, upstream: UpstreamId) -> bool {
        let generation = self.generation.number;
        self.fellows[core].sender.send(CoreMessage::Room { generation, upstream }).is_ok()
    }

    /// Calls the first in line here.
    pub(super) fn call_first(&self, id: UpstreamId) {
        let first = self.line(id).borrow().front().cloned();
        if let Some(waker) = first.and_then(|first| first.waker.borrow_mut().take()) {
            waker.wake();
        }
    }
}

/// A place in a line, left when dropped.
struct Place<'a> {
    lines: &'a Lines,
    id: UpstreamId,
    waiter: Rc<Waiter>,
    gauge: &'a UpstreamCounters,
}

impl<'a> Place<'a> {
    fn join(lines: &'a Lines, id: UpstreamId) -> Self {
        let waiter = Rc::new(Waiter { since: lines.core.now(), waker: RefCell::new(None) });
        lines.line(id).borrow_mut().push_back(Rc::clone(&waiter));
        lines.publish(id);
        let gauge = lines.counters(lines.core.index(), id);
        gauge.waiting.add(1);
        Self { lines, id, waiter, gauge }
    }

    fn is_first(&self) -> bool {
        self.lines.line(self.id).borrow().front().is_some_and(|first| Rc::ptr_eq(first, &self.waiter))
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.lines.line(self.id).borrow_mut().retain(|waiter| !Rc::ptr_eq(waiter, &self.waiter));
        self.gauge.waiting.sub(1);
        self.lines.publish(self.id);
        // There may be more than one was called for, or this one was called and did not take it.
        self.lines.call_next(self.id);
    }
}

impl Upstreams {
    /// Counts an exchange that goes to an upstream, where that is bounded, until what is given back is dropped.
    #[inline]
    pub(crate) fn enter(&self, id: UpstreamId) -> Result<Option<Entered<'_>>, Fault> {
        match self.settings(id).in_flight_max {
            None => Ok(None),
            Some(max) => self.roster.room(id).in_flight().enter(max).map(Some).ok_or(Fault::OverInFlight),
        }
    }

    /// The same for what may outlast this generation.
    pub(crate) fn enter_for_long(&self, id: UpstreamId) -> Result<Option<EnteredForLong>, Fault> {
        match self.settings(id).in_flight_max {
            None => Ok(None),
            Some(max) => self.roster.enter_for_long(id, max).map(Some).ok_or(Fault::OverInFlight),
        }
    }

    /// Whether anything is noted when a connection ends.
    pub(crate) fn has_sessions(&self, id: UpstreamId) -> bool {
        self.roster.sessions(id).is_some()
    }

    /// A kept connection, or somebody who may have another one, where connections are bounded and nobody waits already.
    #[cold]
    pub(super) fn reuse_bounded(&self, id: UpstreamId, wish: &Wish) -> Found {
        if self.roster.room(id).waiting().is_any() {
            return Found::Full;
        }
        let members = self.members(id);
        let has_room = |endpoint| self.has_idle(endpoint) || self.has_room(&members, endpoint);
        let Some(endpoint) = self.pick(id, wish, has_room) else {
            return if self.members(id).candidates.is_empty() { Found::Nobody } else { Found::Full };
        };
        self.reuse_of(id, endpoint).map_or(Found::New(endpoint), Found::Kept)
    }

    /// The right to one more connection to an endpoint; `None` where it may not have one.
    pub(super) fn take_permit(&self, id: UpstreamId, endpoint: EndpointId) -> Option<Permit> {
        let members = self.members(id);
        let member = members.find(endpoint)?;
        let taken = self.roster.seat(endpoint).take(member);
        let seat = || Arc::clone(self.roster.seat(endpoint));
        taken.then(|| Permit { lines: Rc::downgrade(&self.lines), upstream: id, seat: seat() })
    }

    /// Waits until an endpoint may have another connection, or one of this core's is free.
    pub(super) async fn wait_for_room(
        &self,
        id: UpstreamId,
        tries: &Tries,
        may_reuse: bool,
        total: Instant,
        client: &Client,
    ) -> Result<Given, Fault> {
        let queue = self.settings(id).queue;
        let counters = &self.stats.upstreams[usize::from(id.0)];
        let Some(_waiting) = self.roster.room(id).waiting().enter(queue.requests_max) else {
            return Err(Fault::QueueFull);
        };
        counters.queued.add(1);
        let deadline = (self.core.now() + queue.timeout).min(total);
        let place = Place::join(&self.lines, id);
        if !may_reuse {
            self.spare(id);
        }
        self.ask_for_idle(id);
        loop {
            let mut sleeping = pin!(self.core.sleep_until(deadline.min(self.core.now() + LOOK_AGAIN)));
            let given = poll_fn(|context| {
                if place.is_first() {
                    if self.is_superseded.get() {
                        self.spare_of_successor(id);
                    }
                    if let Some(given) = self.find_room(id, tries, may_reuse) {
                        return Poll::Ready(Ok(Some(given)));
                    }
                }
                if self.members(id).candidates.is_empty() {
                    return Poll::Ready(Err(Fault::NoEndpoint));
                }
                *place.waiter.waker.borrow_mut() = Some(context.waker().clone());
                if client.stream.poll_broken(context).is_ready() {
                    return Poll::Ready(Err(Fault::ClientGoneInResponse));
                }
                sleeping.as_mut().poll(context).map(|()| Ok(None))
            });
            match given.await? {
                Some(given) => return Ok(given),
                None if self.core.now() < deadline => {}
                None if deadline == total => return Err(Fault::TotalTimeout),
                None => return Err(Fault::QueueTimeout),
            }
        }
    }

    /// What the first in line here may have, if it is its turn.
    fn find_room(&self, id: UpstreamId, tries: &Tries, may_reuse: bool) -> Option<Given> {
        // Who has tried all of them may have one of them again.
        let is_new = |endpoint| !tries.contain(endpoint);
        let members = self.members(id);
        let is_any_new = members.candidates().any(|member| is_new(member.id));
        let has_room = |endpoint| (may_reuse && self.has_idle(endpoint)) || self.has_room(&members, endpoint);
        let endpoint =
            self.pick(id, &tries.wish(), |endpoint| (is_new(endpoint) || !is_any_new) && has_room(endpoint))?;
        if let Turn::There(_) = self.lines.whose_turn(id) {
            self.lines.call_next(id);
            return None;
        }
        if may_reuse && let Some(connection) = self.reuse_of(id, endpoint) {
            return Some(Given::Kept(connection));
        }
        self.take_permit(id, endpoint).map(|permit| Given::New(endpoint, permit))
    }

    fn has_idle(&self, endpoint: EndpointId) -> bool {
        !self.pool.borrow().by_endpoint[usize::from(endpoint.0)].is_empty()
    }

    fn has_room(&self, members: &Members, endpoint: EndpointId) -> bool {
        members.find(endpoint).is_some_and(|member| self.roster.seat(endpoint).has_room(member))
    }

    /// A connection has been kept. If somebody waits, here or on another core, it is theirs.
    #[cold]
    pub(super) fn offer(&self, id: UpstreamId, endpoint: EndpointId) {
        if !self.roster.room(id).waiting().is_any() {
            return;
        }
        match self.lines.whose_turn(id) {
            Turn::Nobody => {}
            Turn::Here => self.lines.call_first(id),
            // Closed, it makes room for one of theirs.
            Turn::There(_) => drop(self.give_up(id, endpoint)),
        }
    }

    /// Another core says that there may be room, or that it has none.
    pub(crate) fn called(&self, id: UpstreamId) {
        if !self.lines.line(id).borrow().is_empty() {
            self.lines.call_first(id);
        } else if self.roster.room(id).waiting().is_any() && !self.spare(id) {
            self.lines.call_next(id);
        }
    }

    /// Closes an idle connection that keeps others from having one, if there is any.
    pub(super) fn spare(&self, id: UpstreamId) -> bool {
        let members = self.members(id);
        let bounded = members.all.iter().filter(|member| member.connections_max.is_some());
        bounded.into_iter().any(|member| self.give_up(id, member.id).is_some())
    }

    fn give_up(&self, id: UpstreamId, endpoint: EndpointId) -> Option<Wire> {
        let (idle, _) = self.take_idle(endpoint)?;
        self.stats.upstreams[usize::from(id.0)].given_up.add(1);
        Some(idle)
    }

    /// Asks one other core that has idle connections for one of them. If none has, each of them looks who waits before it keeps
    /// another.
    fn ask_for_idle(&self, id: UpstreamId) {
        // What says that somebody waits is written; see [`crate::roster::room::Gauge::is_any`].
        let _ = self.roster.room(id).waiting().is_any();
        let here = self.core.index();
        let members = self.members(id);
        let has_idle = |core: &usize| {
            let counters = &self.lines.generation.stats[*core].endpoints;
            let mut bounded = members.all.iter().filter(|member| member.connections_max.is_some());
            bounded.any(|member| counters[usize::from(member.id.0)].idle.value() > 0)
        };
        let others = (1..self.lines.fellows.len()).map(|step| (here + step) % self.lines.fellows.len());
        for core in others.filter(has_idle) {
            if self.lines.tell(core, id) {
                return;
            }
        }
    }
}

/// Which upstreams bound the connections to some endpoint.
#[derive(Default)]
pub(super) struct Bounded(Box<[Cell<bool>]>);

impl Bounded {
    pub(super) fn new(upstreams: usize) -> Self {
        Self((0..upstreams).map(|_| Cell::new(false)).collect())
    }

    #[inline]
    pub(super) fn get(&self, id: UpstreamId) -> bool {
        self.0[usize::from(id.0)].get()
    }

    pub(super) fn set(&self, id: UpstreamId, is_bounded: bool) {
        self.0[usize::from(id.0)].set(is_bounded);
    }
}
