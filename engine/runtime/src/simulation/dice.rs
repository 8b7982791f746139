//! Which way does it go this time? The one generator that a seed starts.
//!
//! Never for secrets, never read from outside: the same seed gives the same numbers in the same order.

use std::ops::RangeInclusive;
use std::time::Duration;

use super::faults::Odds;

/// A generator of random numbers: SplitMix64 (Steele, Lea, Flood 2014).
#[derive(Clone, Debug)]
pub(crate) struct Dice(u64);

impl Dice {
    pub(crate) const fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub(crate) const fn next(&mut self) -> u64 {
        let (state, number) = crate::core::split_mix(self.0);
        self.0 = state;
        number
    }

    /// A number from `low` to `high`, both included; `low` when they are the wrong way round.
    pub(crate) fn between(&mut self, low: u64, high: u64) -> u64 {
        let number = self.next();
        if high <= low {
            return low;
        }
        // The upper half of the product of the number and the width: as even as the width is small against 2^64.
        let width = u128::from(high - low) + 1;
        low + ((u128::from(number) * width) >> 64) as u64
    }

    pub(crate) fn index(&mut self, len: usize) -> usize {
        self.between(0, len.saturating_sub(1) as u64) as usize
    }

    pub(crate) fn pick<T: Copy>(&mut self, values: &[T]) -> T {
        values[self.index(values.len())]
    }

    pub(crate) fn one_in(&mut self, count: u64) -> bool {
        self.between(1, count) == 1
    }

    /// Whether something with these odds happens. What never happens takes no number.
    pub(crate) fn happens(&mut self, odds: Odds) -> bool {
        odds != Odds::NEVER && self.between(1, 1_000_000) <= u64::from(odds.millionths())
    }

    /// A duration of `range`, in nanoseconds.
    pub(crate) fn nanos(&mut self, range: &RangeInclusive<Duration>) -> u64 {
        self.between(nanos_of(*range.start()), nanos_of(*range.end()))
    }

    pub(crate) fn bytes(&mut self, range: &RangeInclusive<u32>) -> usize {
        self.between(u64::from(*range.start()), u64::from(*range.end())) as usize
    }
}

pub(crate) fn nanos_of(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_stay_within_their_bounds_and_reach_them() {
        let mut dice = Dice::new(1);
        let numbers: Vec<u64> = (0..1000).map(|_| dice.between(3, 5)).collect();
        assert_eq!((numbers.iter().min(), numbers.iter().max()), (Some(&3), Some(&5)));
        assert_eq!((dice.between(7, 7), dice.between(9, 2)), (7, 9));
    }

    #[test]
    fn odds_are_kept() {
        let mut dice = Dice::new(2);
        let mut count = |odds| (0..10_000).filter(|_| dice.happens(odds)).count();
        assert_eq!((count(Odds::NEVER), count(Odds::ALWAYS)), (0, 10_000));
        assert!((800..1200).contains(&count(Odds::percent(10))));
    }
}
