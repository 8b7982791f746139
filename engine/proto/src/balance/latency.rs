//! How long does an endpoint take to answer, of late?
//!
//! Never knows the time: the caller says when. Never keeps a bad memory for ever: what was not renewed fades.

/// In this time, in nanoseconds, the weight of what was seen falls to half. Short, because an endpoint that has become slow
/// is to be noticed; long against the time between two answers under load.
const HALF_LIFE: u64 = 1_000_000_000;

/// An average of times in which the newest weigh most: exponentially weighted by age, not by number, so that it says the same
/// whether answers are many or few. While none come it sinks, so that an endpoint which was too slow to be chosen is tried
/// again: one with a hundredfold time after about seven seconds.
///
/// Source: the form for irregular intervals of the exponentially weighted moving average (Eckner, 2019), as in Finagle's
/// `PeakEwma` without its peaks: one slow answer is no reason to do without an endpoint.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Latency {
    /// In nanoseconds; 0 before the first.
    average: u64,
    /// When it was true, in nanoseconds of the caller's clock.
    at: u64,
}

impl Latency {
    /// An answer has taken so long.
    pub fn record(&mut self, nanos: u64, now: u64) {
        if self.average == 0 {
            *self = Self { average: nanos.max(1), at: now };
            return;
        }
        let age = now.saturating_sub(self.at);
        // What remains of the old average, and the new time for the rest.
        let new = nanos.saturating_sub(halved(nanos, age));
        // At the same moment it still counts for something: a millionth of the half-life.
        let new = new.max(nanos >> 20);
        self.average = halved(self.average, age).saturating_add(new).max(1);
        self.at = self.at.max(now);
    }

    /// The average, if anything is known.
    #[must_use]
    pub fn value(&self, now: u64) -> Option<u64> {
        (self.average > 0).then(|| halved(self.average, now.saturating_sub(self.at)).max(1))
    }
}

/// What remains after a time. A straight line between halvings, up to 6 % above the curve; in many short steps that adds up to
/// a half-life longer by two fifths.
fn halved(nanos: u64, age: u64) -> u64 {
    let halvings = age / HALF_LIFE;
    if halvings >= 64 {
        return 0;
    }
    let nanos = nanos >> halvings;
    let lost = u128::from(nanos) * u128::from(age % HALF_LIFE) / u128::from(2 * HALF_LIFE);
    nanos - lost as u64
}

#[cfg(test)]
mod tests {
    use proptest::prelude::{any, prop_assert, proptest};

    use super::*;

    #[test]
    fn follows_what_it_is_told() {
        let mut latency = Latency::default();
        assert_eq!(latency.value(0), None);
        latency.record(1_000, 5);
        assert_eq!(latency.value(5), Some(1_000));
        // A thousand answers a second, ten times slower from now on.
        let mut now = 5;
        for _ in 0..1_000 {
            now += HALF_LIFE / 1_000;
            latency.record(10_000, now);
        }
        let value = latency.value(now).unwrap();
        assert!((4_500..6_500).contains(&value), "about half the way after one half-life: {value}");
        for _ in 0..9_000 {
            now += HALF_LIFE / 1_000;
            latency.record(10_000, now);
        }
        let value = latency.value(now).unwrap();
        assert!((9_800..=10_200).contains(&value), "{value}");
    }

    #[test]
    fn one_slow_answer_of_many_hardly_counts() {
        let mut latency = Latency::default();
        let mut now = 0;
        for n in 0..2_000_u64 {
            now += HALF_LIFE / 1_000;
            latency.record(if n == 1_900 { 1_000_000 } else { 1_000 }, now);
        }
        assert!(latency.value(now).unwrap() < 2_000);
    }

    #[test]
    fn fades_while_nothing_comes() {
        let mut latency = Latency::default();
        latency.record(100_000, 0);
        assert_eq!(latency.value(HALF_LIFE), Some(50_000));
        assert_eq!(latency.value(HALF_LIFE + HALF_LIFE / 2), Some(37_500));
        assert_eq!(latency.value(7 * HALF_LIFE), Some(100_000 >> 7));
        assert_eq!(latency.value(1 << 62), Some(1));
        // After so long the newest is all that counts.
        latency.record(3_000, 100 * HALF_LIFE);
        assert_eq!(latency.value(100 * HALF_LIFE), Some(3_000));
    }

    proptest! {
        #[test]
        fn never_lies_outside_of_what_was_seen(times in proptest::collection::vec((any::<u32>(), 0_u64..1 << 33), 1..50)) {
            let (mut latency, mut now) = (Latency::default(), 0);
            for &(nanos, passed) in &times {
                now += passed;
                latency.record(u64::from(nanos), now);
            }
            let most = u64::from(times.iter().map(|(nanos, _)| *nanos).max().unwrap());
            let value = latency.value(now).unwrap();
            prop_assert!(value >= 1 && value <= most + (most >> 14) + 1, "{value} {most}");
        }

        #[test]
        fn any_number_is_taken(nanos in any::<u64>(), other in any::<u64>(), now in any::<u64>(), then in any::<u64>()) {
            let mut latency = Latency::default();
            latency.record(nanos, now);
            latency.record(other, then);
            prop_assert!(latency.value(now).is_some());
        }
    }
}
