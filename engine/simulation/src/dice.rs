//! What comes out when a scenario leaves something to chance? Numbers that depend on the seed alone.
//!
//! Never asks the operating system or a clock: the same seed throws the same dice on every machine.

use std::time::Duration;

/// A sequence of numbers from one seed. SplitMix64 (Steele, Lea, Flood 2014).
#[derive(Clone, Debug)]
pub(crate) struct Dice(u64);

/// SplitMix64's output function: a number in which every bit depends on every bit of `state`.
pub(crate) const fn mix(state: u64) -> u64 {
    let mixed = (state ^ (state >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    mixed ^ (mixed >> 31)
}

impl Dice {
    pub(crate) fn new(seed: u64) -> Self {
        Self(mix(seed ^ 0x5EED_5EED_5EED_5EED))
    }

    pub(crate) fn number(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        mix(self.0)
    }

    /// One of `from` to `to`, both included.
    pub(crate) fn between(&mut self, from: u64, to: u64) -> u64 {
        from + self.number() % (to - from + 1)
    }

    /// An index below `count`.
    pub(crate) fn index(&mut self, count: usize) -> usize {
        (self.number() % count as u64) as usize
    }

    /// True in `percent` of a hundred throws.
    pub(crate) fn chance(&mut self, percent: u64) -> bool {
        self.number() % 100 < percent
    }

    pub(crate) fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.index(from.len())]
    }

    pub(crate) fn millis(&mut self, from: u64, to: u64) -> Duration {
        Duration::from_millis(self.between(from, to))
    }

    /// A number of bytes up to `max`: mostly small, sometimes none, now and then near the maximum.
    pub(crate) fn size(&mut self, max: u64) -> u64 {
        match self.between(0, 9) {
            0 => 0,
            1..=5 => self.between(1, 200.min(max)),
            6..=7 => self.between(1, 5_000.min(max)),
            8 => self.between(1, 70_000.min(max)),
            _ => self.between(1, max),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_throws_the_same_numbers_again() {
        let throw = |seed| {
            std::iter::repeat_with({
                let mut dice = Dice::new(seed);
                move || dice.number()
            })
            .take(8)
            .collect::<Vec<_>>()
        };
        assert_eq!(throw(7), throw(7));
        assert_ne!(throw(7), throw(8));
    }

    #[test]
    fn bounds_are_included_and_kept() {
        let mut dice = Dice::new(1);
        let thrown: Vec<u64> = (0..200).map(|_| dice.between(3, 5)).collect();
        assert!([3, 4, 5].iter().all(|number| thrown.contains(number)));
        assert!(thrown.iter().all(|number| (3..=5).contains(number)));
    }
}
