//! How much of its weight has an endpoint that came back a while ago?
//!
//! Never none of it: a weight of 0 would tell it to rest.

use std::time::Duration;

/// Steps in which a weight grows: each is at most a twentieth of the time.
const STEPS: u32 = 20;

/// The shortest step: each is told to all cores, and fewer requests than a core can tell apart lie between two.
const STEP_MIN: Duration = Duration::from_millis(50);

/// How a weight grows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Curve {
    /// In proportion to the time.
    #[default]
    Linear,
    /// Twice as much after each eighth of the time, from 1/256 on; in a straight line in between.
    Exponential,
}

/// How long a weight grows, and how.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SlowStartTerms {
    /// From coming up to the full weight.
    pub time: Duration,
    /// The way there.
    pub curve: Curve,
}

impl SlowStartTerms {
    /// The part of `weight` that counts `since` coming up; at least 1 of any weight but 0.
    #[must_use]
    pub fn weight(&self, weight: u32, since: Duration) -> u32 {
        if since >= self.time || weight == 0 {
            return weight;
        }
        // In 1/65536 of the time; it is not zero, or it would be over.
        let passed = (since.as_nanos() << 16) / self.time.as_nanos();
        let factor = match self.curve {
            Curve::Linear => passed,
            Curve::Exponential => {
                let (eighth, within) = (passed >> 13, passed & 0x1fff);
                // 1/256 of 65536, doubled for each eighth, and on the way to the next doubling.
                (((1 << 8) << eighth) * ((1 << 13) + within)) >> 13
            }
        };
        let part = (u128::from(weight) * factor) >> 16;
        u32::try_from(part).unwrap_or(weight).max(1)
    }

    /// From one change of the weight to the next.
    #[must_use]
    pub fn step(&self) -> Duration {
        (self.time / STEPS).max(STEP_MIN)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const TIME: Duration = Duration::from_secs(80);

    #[track_caller]
    fn check(curve: Curve, weight: u32, expected: &[u32]) {
        let terms = SlowStartTerms { time: TIME, curve };
        let weights = (0..=8).map(|eighth| terms.weight(weight, TIME * eighth / 8));
        assert_eq!(weights.collect::<Vec<_>>(), expected);
    }

    #[test]
    fn a_straight_line_grows_with_the_time() {
        check(Curve::Linear, 256, &[1, 32, 64, 96, 128, 160, 192, 224, 256]);
        check(Curve::Linear, 512, &[1, 64, 128, 192, 256, 320, 384, 448, 512]);
        check(Curve::Linear, 0, &[0; 9]);
    }

    #[test]
    fn an_exponential_curve_doubles_in_each_eighth() {
        check(Curve::Exponential, 256, &[1, 2, 4, 8, 16, 32, 64, 128, 256]);
        check(Curve::Exponential, 1 << 16, &[256, 512, 1024, 2048, 4096, 8192, 16384, 32768, 65536]);
        let terms = SlowStartTerms { time: TIME, curve: Curve::Exponential };
        assert_eq!(terms.weight(256, TIME * 15 / 16), 192, "half way between 128 and 256");
    }

    #[test]
    fn no_time_is_no_slow_start() {
        let terms = SlowStartTerms { time: Duration::ZERO, curve: Curve::Linear };
        assert_eq!(terms.weight(256, Duration::ZERO), 256);
    }

    #[test]
    fn steps_are_a_twentieth_and_never_too_short() {
        let step = |time| SlowStartTerms { time, curve: Curve::Linear }.step();
        assert_eq!(step(Duration::from_secs(30)), Duration::from_millis(1_500));
        assert_eq!(step(Duration::from_millis(100)), Duration::from_millis(50));
    }

    proptest! {
        #[test]
        fn a_weight_never_shrinks_and_never_passes_its_end(
            weight in 1_u32..=u32::MAX, millis in 1_u64..86_400_000, exponential: bool, from: f64, to: f64,
        ) {
            let curve = if exponential { Curve::Exponential } else { Curve::Linear };
            let time = Duration::from_millis(millis);
            let terms = SlowStartTerms { time, curve };
            let at = |share: f64| time.mul_f64(share.abs().fract());
            let (from, to) = (at(from).min(at(to)), at(from).max(at(to)));
            let (before, after) = (terms.weight(weight, from), terms.weight(weight, to));
            prop_assert!(before >= 1 && before <= after && after <= weight, "{before} {after}");
        }
    }
}
