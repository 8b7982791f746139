//! Is there room for one more? What all cores together have under way of an upstream, and have open to an endpoint.
//!
//! Never touched where nothing is bounded. Never a lock, and never one too many: what is counted is counted before it is there,
//! and given back when it is gone.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering, fence};

use crossbeam_utils::CachePadded;

use super::member::Member;

/// Set beside the count while an endpoint that was full has to become less so before it gets more.
const IS_OVERLOADED: u32 = 1 << 31;

/// Connections to one endpoint, of all cores, those that are being made and those that are idle included.
#[derive(Debug, Default)]
pub(crate) struct Occupancy(AtomicU32);

impl Occupancy {
    /// Counts one more connection if `member` may have it.
    pub(super) fn take(&self, member: &Member) -> bool {
        let Some(max) = member.connections_max else { return true };
        let take =
            |state| may_take(state, max, member.connections_min).then(|| after_taking(state, max, member));
        self.0.fetch_update(Ordering::SeqCst, Ordering::SeqCst, take).is_ok()
    }

    /// Whether it looks as if `member` may have one more.
    pub(super) fn has_room(&self, member: &Member) -> bool {
        let state = self.0.load(Ordering::SeqCst);
        member.connections_max.is_none_or(|max| may_take(state, max, member.connections_min))
    }

    /// Counts one less.
    pub(super) fn give_back(&self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }

    /// How many there are.
    pub(crate) fn count(&self) -> u32 {
        self.0.load(Ordering::Relaxed) & !IS_OVERLOADED
    }
}

/// As in LVS, one that was full gets more when it has fewer than its lower threshold, where it has one.
fn may_take(state: u32, max: u32, min: Option<u32>) -> bool {
    let count = state & !IS_OVERLOADED;
    // One that has none left has rested, whatever its threshold.
    let is_resting = state & IS_OVERLOADED != 0 && min.is_some_and(|min| count >= min.max(1));
    count < max && !is_resting
}

fn after_taking(state: u32, max: u32, member: &Member) -> u32 {
    let count = (state & !IS_OVERLOADED) + 1;
    if count >= max && member.connections_min.is_some() { count | IS_OVERLOADED } else { count }
}

/// What is bounded of one upstream as a whole.
#[derive(Debug, Default)]
pub(crate) struct Room {
    in_flight: Gauge,
    pending: Gauge,
    waiting: Gauge,
}

impl Room {
    /// Exchanges in progress.
    pub(crate) fn in_flight(&self) -> &Gauge {
        &self.in_flight
    }

    /// Those that have no connection yet.
    pub(crate) fn pending(&self) -> &Gauge {
        &self.pending
    }

    /// Those that wait until some endpoint may have another connection.
    pub(crate) fn waiting(&self) -> &Gauge {
        &self.waiting
    }
}

/// One that is counted among those in flight, whatever becomes of the roster.
#[derive(Debug)]
pub(crate) struct EnteredForLong(Arc<Room>);

impl EnteredForLong {
    pub(super) fn new(room: &Arc<Room>, max: u32) -> Option<Self> {
        room.in_flight.count_one(max).then(|| Self(Arc::clone(room)))
    }
}

impl Drop for EnteredForLong {
    fn drop(&mut self) {
        self.0.in_flight.0.fetch_sub(1, Ordering::SeqCst);
    }
}

/// A number of things that there may be so many of.
#[derive(Debug, Default)]
pub(crate) struct Gauge(CachePadded<AtomicU32>);

impl Gauge {
    /// Counts one more until what is given back is dropped, unless there are `max` already.
    pub(crate) fn enter(&self, max: u32) -> Option<Entered<'_>> {
        self.count_one(max).then(|| Entered(self))
    }

    fn count_one(&self, max: u32) -> bool {
        let enter = |count| (count < max).then_some(count + 1);
        self.0.fetch_update(Ordering::SeqCst, Ordering::SeqCst, enter).is_ok()
    }

    /// Whether there is one, after everything that this core has written before: either it is seen here, or what was written
    /// is seen by whoever has entered.
    pub(crate) fn is_any(&self) -> bool {
        fence(Ordering::SeqCst);
        self.0.load(Ordering::SeqCst) > 0
    }
}

/// One that is counted.
#[derive(Debug)]
pub(crate) struct Entered<'a>(&'a Gauge);

impl Drop for Entered<'_> {
    fn drop(&mut self) {
        self.0.0.fetch_sub(1, Ordering::SeqCst);
    }
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use config::snapshot::EndpointId;

    use super::*;
    use crate::roster::member::{Source, State, WEIGHT_ONE};

    fn member(max: Option<u32>, min: Option<u32>) -> Member {
        Member {
            id: EndpointId(0),
            generation: 0,
            name: "a".into(),
            address: SocketAddr::from(([127, 0, 0, 1], 1)).into(),
            server_name: None,
            weight: WEIGHT_ONE,
            weight_full: WEIGHT_ONE,
            priority: 0,
            zone: None,
            connections_max: max,
            connections_min: min,
            source: Source::Written,
            state: State::Up,
        }
    }

    #[test]
    fn an_endpoint_gets_as_many_as_it_may_have() {
        let (occupancy, member) = (Occupancy::default(), member(Some(2), None));
        assert!(occupancy.take(&member) && occupancy.has_room(&member) && occupancy.take(&member));
        assert!(!occupancy.has_room(&member) && !occupancy.take(&member));
        occupancy.give_back();
        assert!(occupancy.take(&member) && !occupancy.take(&member));
        assert_eq!(occupancy.count(), 2);
    }

    #[test]
    fn one_that_was_full_gets_more_only_below_its_lower_threshold() {
        let (occupancy, member) = (Occupancy::default(), member(Some(4), Some(3)));
        assert!((0..4).all(|_| occupancy.take(&member)) && !occupancy.take(&member));
        occupancy.give_back();
        assert_eq!(occupancy.count(), 3);
        assert!(!occupancy.has_room(&member) && !occupancy.take(&member), "3 is not fewer than 3");
        occupancy.give_back();
        assert!(occupancy.take(&member) && occupancy.take(&member), "2 are, and it is full again at 4 only");
        assert!(!occupancy.take(&member));
    }

    #[test]
    fn no_threshold_keeps_an_endpoint_out_for_ever() {
        let (occupancy, member) = (Occupancy::default(), member(Some(1), Some(0)));
        assert!(occupancy.take(&member) && !occupancy.take(&member));
        occupancy.give_back();
        assert!(occupancy.take(&member));
    }

    #[test]
    fn threads_never_have_more_than_the_bound_and_give_all_of_it_back() {
        let (occupancy, member, open) = (Occupancy::default(), member(Some(5), None), AtomicU32::new(0));
        let reached = AtomicU32::new(0);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    let mut held = 0;
                    for round in 0..20_000_u32 {
                        if round % 3 < 2 && occupancy.take(&member) {
                            let count = open.fetch_add(1, Ordering::SeqCst) + 1;
                            assert!(count <= 5, "{count}");
                            reached.fetch_max(count, Ordering::SeqCst);
                            held += 1;
                        } else if held > 0 {
                            open.fetch_sub(1, Ordering::SeqCst);
                            occupancy.give_back();
                            held -= 1;
                        }
                    }
                    for _ in 0..held {
                        open.fetch_sub(1, Ordering::SeqCst);
                        occupancy.give_back();
                    }
                });
            }
        });
        assert_eq!((occupancy.count(), reached.into_inner()), (0, 5));
    }

    #[test]
    fn so_many_enter_and_no_more() {
        let gauge = Gauge::default();
        let first = gauge.enter(2).expect("one");
        let _second = gauge.enter(2).expect("two");
        assert!(gauge.enter(2).is_none() && gauge.is_any());
        drop(first);
        assert!(gauge.enter(2).is_some());
        assert!(gauge.enter(1).is_none(), "another bound counts the same");
    }
}
