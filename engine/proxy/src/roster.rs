//! Who are an upstream's endpoints now, and how are they? What control says, all cores read, and what cores report.
//!
//! Never a lock: control publishes a new list whole, and a core that sees a new number takes it. Never decided here: a core
//! says what it has met, and control what follows.

pub mod keeper;
pub mod member;

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use arc_swap::ArcSwap;
use config::snapshot::{EndpointId, Snapshot, UpstreamId};
use crossbeam_utils::CachePadded;

use self::member::Members;

/// The endpoints of all upstreams.
#[derive(Debug)]
pub struct Roster {
    upstreams: Box<[CachePadded<Published>]>,
    seats: Box<[Seat]>,
}

/// What is said of one upstream, and how often it has changed.
#[derive(Debug)]
struct Published {
    revision: AtomicU64,
    members: ArcSwap<Members>,
}

/// What the cores share of one slot.
#[derive(Debug, Default)]
#[repr(align(64))]
pub struct Seat {
    /// Counts its occupants; a connection made to an earlier one is not kept.
    generation: AtomicU32,
}

impl Seat {
    /// Number of its occupant.
    pub(crate) fn generation(&self) -> u32 {
        self.generation.load(Ordering::Relaxed)
    }
}

impl Roster {
    /// All upstreams without an endpoint; [`keeper::Keeper`] fills them.
    fn new(snapshot: &Snapshot) -> Arc<Self> {
        let published = |_| {
            let members = ArcSwap::from_pointee(Members::default());
            CachePadded::new(Published { revision: AtomicU64::new(0), members })
        };
        let seats = (0..snapshot.slots_count).map(|_| Seat::default()).collect();
        Arc::new(Self { upstreams: snapshot.upstreams.iter().map(published).collect(), seats })
    }

    /// The endpoints of an upstream now.
    #[must_use]
    pub fn members(&self, upstream: UpstreamId) -> Arc<Members> {
        self.published(upstream).members.load_full()
    }

    /// How often the endpoints of an upstream have changed: those [`Self::members`] gives next are at least as new.
    #[inline]
    pub(crate) fn revision(&self, upstream: UpstreamId) -> u64 {
        self.published(upstream).revision.load(Ordering::Acquire)
    }

    /// What the cores share of a slot.
    #[inline]
    pub(crate) fn seat(&self, endpoint: EndpointId) -> &Seat {
        &self.seats[usize::from(endpoint.0)]
    }

    fn published(&self, upstream: UpstreamId) -> &Published {
        &self.upstreams[usize::from(upstream.0)]
    }

    fn publish(&self, upstream: UpstreamId, mut members: Members) {
        let published = self.published(upstream);
        let revision = published.revision.load(Ordering::Relaxed) + 1;
        members.revision = revision;
        published.members.store(Arc::new(members));
        published.revision.store(revision, Ordering::Release);
    }
}
