//! How many is "10 %" of them?
//!
//! Never rounds up: a bound that is given as a share is not passed by one.

use std::fmt;

/// A share of a whole, 0 to 100 %.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Share(u8);

impl Share {
    /// Nothing of it.
    pub const NONE: Self = Self(0);

    /// All of it.
    pub const ALL: Self = Self(100);

    /// This many per cent; more than a hundred are a hundred.
    #[must_use]
    pub const fn percent(percent: u16) -> Self {
        Self(if percent > 100 { 100 } else { percent as u8 })
    }

    /// So much of `whole`, rounded down.
    #[must_use]
    pub fn of(self, whole: u64) -> u64 {
        (u128::from(whole) * u128::from(self.0) / 100) as u64
    }

    /// Whether `part` is less than this share of `whole`, without rounding.
    #[must_use]
    pub fn exceeds(self, part: u64, whole: u64) -> bool {
        u128::from(part) * 100 < u128::from(whole) * u128::from(self.0)
    }
}

/// As it is written in the configuration.
impl fmt::Display for Share {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}%", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::Share;

    #[test]
    fn a_share_is_rounded_down() {
        for (percent, whole, expected) in
            [(50, 3, 1), (50, 4, 2), (50, 1, 0), (0, 9, 0), (100, 9, 9), (10, 1_000_000_007, 100_000_000)]
        {
            assert_eq!(Share::percent(percent).of(whole), expected, "{percent} % of {whole}");
        }
        assert_eq!(Share::ALL.of(u64::MAX), u64::MAX);
        assert_eq!(Share::percent(u16::MAX), Share::ALL);
    }

    #[test]
    fn a_part_is_compared_without_rounding() {
        let half = Share::percent(50);
        assert!(half.exceeds(1, 3) && !half.exceeds(2, 3));
        assert!(!half.exceeds(1, 2));
        assert!(!Share::NONE.exceeds(0, 5), "nothing is never undercut");
    }
}
