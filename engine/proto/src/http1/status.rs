//! Is this one of those status codes?
//!
//! Never anything but a bit: a set is asked on the way of every answer.

use std::fmt;

/// The least status code there is (RFC 9110 §15).
pub const STATUS_MIN: u16 = 100;

/// The greatest (RFC 9110 §15).
pub const STATUS_MAX: u16 = 599;

const WORDS: usize = 8;

/// A set of status codes.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub struct StatusSet([u64; WORDS]);

impl StatusSet {
    /// Adds every status from `first` to `last`; what no status can be is left out.
    pub fn insert(&mut self, first: u16, last: u16) {
        for status in first.max(STATUS_MIN)..=last.min(STATUS_MAX) {
            let at = usize::from(status - STATUS_MIN);
            self.0[at / 64] |= 1 << (at % 64);
        }
    }

    /// Whether it is one of them.
    #[must_use]
    pub fn contains(&self, status: u16) -> bool {
        let at = usize::from(status.wrapping_sub(STATUS_MIN));
        self.0.get(at / 64).is_some_and(|word| word & 1 << (at % 64) != 0)
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0 == [0; WORDS]
    }

    /// Runs of statuses that follow each other, in order.
    pub fn ranges(&self) -> impl Iterator<Item = (u16, u16)> {
        let mut next = STATUS_MIN;
        std::iter::from_fn(move || {
            let first = (next..=STATUS_MAX).find(|status| self.contains(*status))?;
            let last = (first..=STATUS_MAX).take_while(|status| self.contains(*status)).last()?;
            next = last + 1;
            Some((first, last))
        })
    }
}

impl FromIterator<(u16, u16)> for StatusSet {
    fn from_iter<I: IntoIterator<Item = (u16, u16)>>(ranges: I) -> Self {
        let mut set = Self::default();
        for (first, last) in ranges {
            set.insert(first, last);
        }
        set
    }
}

impl fmt::Debug for StatusSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.ranges()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_set_holds_its_ranges_and_nothing_else() {
        let set: StatusSet = [(200, 399), (404, 404), (599, 700)].into_iter().collect();
        for status in 0..=u16::MAX {
            let expected = matches!(status, 200..=399 | 404 | 599);
            assert_eq!(set.contains(status), expected, "{status}");
        }
        assert_eq!(set.ranges().collect::<Vec<_>>(), [(200, 399), (404, 404), (599, 599)]);
    }

    #[test]
    fn an_empty_set_holds_none() {
        let set: StatusSet = [(300, 299), (0, 99), (600, 700)].into_iter().collect();
        assert!(set.is_empty());
        assert!(!(0..=u16::MAX).any(|status| set.contains(status)));
    }
}
