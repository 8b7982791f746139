//! Who are an upstream's endpoints now, and how are they? What control says, all cores read, and what cores report.
//!
//! Never a lock: control publishes a new list whole, and a core that sees a new number takes it. Never decided here: a core
//! says what it has met, and control what follows.

mod guide;
pub mod keeper;
pub mod member;
pub mod report;
pub(crate) mod room;
pub mod ward;
pub mod warden;

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use arc_swap::ArcSwap;
use config::snapshot::{EndpointId, Snapshot, Upstream, UpstreamId};
use crossbeam_utils::CachePadded;

use self::guide::Rules;
use self::member::{Member, Members};
use self::report::{Failure, Report, Reports, Row, RowTerms};
use self::room::{EnteredForLong, Occupancy, Room};
use crate::sessions::Sessions;

/// The endpoints of all upstreams.
#[derive(Debug)]
pub struct Roster {
    upstreams: Box<[CachePadded<Published>]>,
    /// By upstream.
    sessions: Box<[Option<Arc<Sessions>>]>,
    seats: Box<[Arc<Seat>]>,
    /// When failures in a row are told of, by slot.
    rows: Box<[RowTerms]>,
    reports: Reports,
}

/// The upstream that has the same name in the generation before.
struct Same {
    id: UpstreamId,
    /// Its sessions are by the same rule.
    has_sessions: bool,
}

/// What an upstream has in common with the one of its name in the generation before.
#[derive(Default)]
struct Shared {
    room: Arc<Room>,
    sessions: Option<Arc<Sessions>>,
}

/// What is said of one upstream, and how often it has changed.
#[derive(Debug)]
struct Published {
    revision: AtomicU64,
    members: ArcSwap<Members>,
    rules: Rules,
    room: Arc<Room>,
}

/// What the cores share of one slot.
#[derive(Debug, Default)]
#[repr(align(64))]
pub struct Seat {
    /// Counts its occupants; a connection made to an earlier one is not kept.
    generation: AtomicU32,
    /// How often its occupant has failed in a row.
    row: Row,
    /// Connections to it, where they are bounded.
    occupancy: Occupancy,
}

impl Seat {
    /// Number of its occupant.
    pub(crate) fn generation(&self) -> u32 {
        self.generation.load(Ordering::Relaxed)
    }

    /// Counts one more connection to `member`, whose seat this is, if it may have it.
    pub(crate) fn take(&self, member: &Member) -> bool {
        self.occupancy.take(member)
    }

    /// Whether it looks as if `member` may have one more.
    pub(crate) fn has_room(&self, member: &Member) -> bool {
        self.occupancy.has_room(member)
    }

    /// Counts one less.
    pub(crate) fn give_back(&self) {
        self.occupancy.give_back();
    }

    /// How many connections all cores have to it, where they are bounded.
    #[must_use]
    pub fn connections(&self) -> u32 {
        self.occupancy.count()
    }
}

impl Roster {
    /// All upstreams without an endpoint; [`keeper::Keeper`] fills them.
    fn new(snapshot: &Snapshot) -> Arc<Self> {
        Self::with(snapshot, |_, _| Shared::default(), |_| Arc::default())
    }

    /// The same, with what `former` has in common with it: `seat_of` says which slot's seat there a slot goes on with.
    fn next(
        former: &Self,
        snapshot: &Snapshot,
        same: impl Fn(&Upstream) -> Option<Same>,
        seat_of: impl Fn(EndpointId) -> Option<EndpointId>,
    ) -> Arc<Self> {
        let shared = |_, upstream: &Upstream| {
            let Some(Same { id, has_sessions }) = same(upstream) else { return Shared::default() };
            let sessions = former.sessions[usize::from(id.0)].clone().filter(|_| has_sessions);
            Shared { room: Arc::clone(&former.published(id).room), sessions }
        };
        let seat = |slot| seat_of(slot).map(|old| Arc::clone(former.seat(old))).unwrap_or_default();
        Self::with(snapshot, shared, seat)
    }

    fn with(
        snapshot: &Snapshot,
        shared: impl Fn(UpstreamId, &Upstream) -> Shared,
        seat: impl Fn(EndpointId) -> Arc<Seat>,
    ) -> Arc<Self> {
        let upstreams = || (0..).map(UpstreamId).zip(&snapshot.upstreams);
        let published = |(id, upstream): (UpstreamId, &Upstream)| {
            let members = ArcSwap::from_pointee(Members::default());
            let (rules, room) = (Rules::new(snapshot, upstream), shared(id, upstream).room);
            CachePadded::new(Published { revision: AtomicU64::new(0), members, rules, room })
        };
        let sessions = |(id, upstream): (UpstreamId, &Upstream)| {
            let rule = upstream.persistence.as_ref()?;
            Some(shared(id, upstream).sessions.unwrap_or_else(|| Arc::new(Sessions::new(rule))))
        };
        // Slots of the upstreams lie one after the other.
        let slots = || {
            snapshot.upstreams.iter().flat_map(|upstream| upstream.slots().map(move |slot| (upstream, slot)))
        };
        Arc::new(Self {
            upstreams: upstreams().map(published).collect(),
            sessions: upstreams().map(sessions).collect(),
            seats: slots().map(|(_, slot)| seat(slot)).collect(),
            rows: slots().map(|(upstream, _)| RowTerms::of(upstream)).collect(),
            reports: Reports::new(),
        })
    }

    /// The endpoints of an upstream now.
    #[must_use]
    pub fn members(&self, upstream: UpstreamId) -> Arc<Members> {
        self.published(upstream).members.load_full()
    }

    /// How often the endpoints of an upstream have changed: those [`Self::members`] gives next are at least as new.
    #[inline]
    #[must_use]
    pub fn revision(&self, upstream: UpstreamId) -> u64 {
        self.published(upstream).revision.load(Ordering::Acquire)
    }

    /// Which endpoints the clients of an upstream had, where they come back to them.
    pub(crate) fn sessions(&self, upstream: UpstreamId) -> Option<&Sessions> {
        self.sessions[usize::from(upstream.0)].as_deref()
    }

    /// What is bounded of an upstream as a whole.
    pub(crate) fn room(&self, upstream: UpstreamId) -> &Room {
        &self.published(upstream).room
    }

    /// Counts one more in flight that may outlast this roster, unless there are `max` already.
    pub(crate) fn enter_for_long(&self, upstream: UpstreamId, max: u32) -> Option<EnteredForLong> {
        EnteredForLong::new(&self.published(upstream).room, max)
    }

    /// What the cores share of a slot.
    #[inline]
    #[must_use]
    pub fn seat(&self, endpoint: EndpointId) -> &Arc<Seat> {
        &self.seats[usize::from(endpoint.0)]
    }

    /// Counts a failure of an endpoint that was its own fault, and tells control if there are enough in a row.
    pub fn note_failure(&self, endpoint: EndpointId, generation: u32, failure: Failure) {
        let seat = self.seat(endpoint);
        // Who had the slot before, or is on the way out, is nobody's concern any more.
        if seat.generation() == generation
            && let Some(failures) = seat.row.lengthen(self.rows[usize::from(endpoint.0)])
        {
            self.reports.push(Report { endpoint, generation, failures, failure });
        }
    }

    /// Notes that an endpoint has answered as it should: what it failed before is no longer in a row.
    #[inline]
    pub fn note_success(&self, endpoint: EndpointId) {
        self.seat(endpoint).row.end();
    }

    /// Notes the answer of an endpoint of `upstream`, whichever of the two its status makes of it.
    #[inline]
    pub fn note_answer(&self, upstream: &Upstream, endpoint: EndpointId, generation: u32, status: u16) {
        match &upstream.ejection {
            Some(ejection) if ejection.statuses.contains(status) => {
                self.note_failure(endpoint, generation, Failure::Status(status));
            }
            _ => self.note_success(endpoint),
        }
    }

    /// Has `bell` called when there is a report, once until all have been taken.
    pub fn on_report(&self, bell: Box<dyn Fn() + Send + Sync>) {
        self.reports.on_report(bell);
    }

    /// The next report of a core.
    #[must_use]
    pub fn next_report(&self) -> Option<Report> {
        self.reports.pop()
    }

    fn published(&self, upstream: UpstreamId) -> &Published {
        &self.upstreams[usize::from(upstream.0)]
    }

    fn publish(&self, upstream: UpstreamId, mut members: Members) {
        let published = self.published(upstream);
        let revision = published.revision.load(Ordering::Relaxed) + 1;
        members.revision = revision;
        published.rules.guide(&mut members, &published.members.load());
        published.members.store(Arc::new(members));
        published.revision.store(revision, Ordering::Release);
    }
}
