//! When are so few endpoints well that health is not asked any more?
//!
//! Never with the threshold left out: then nobody is sent where nobody answers.

use crate::share::Share;

/// Whether all of `members` get traffic, because fewer than this share of them are up. Those that are told to rest or to
/// leave are no members here. Sent to few, all traffic would bring these down too; sent to all, some of it is answered.
#[must_use]
pub fn is_panic(threshold: Option<Share>, up: usize, members: usize) -> bool {
    threshold.is_some_and(|threshold| threshold.exceeds(up as u64, members as u64))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fewer_up_than_the_threshold_is_a_panic() {
        let half = Some(Share::percent(50));
        for (up, members, expected) in [
            (3, 3, false),
            (2, 3, false),
            (1, 3, true),
            (0, 3, true),
            (1, 2, false),
            (0, 1, true),
            (0, 0, false),
        ] {
            assert_eq!(is_panic(half, up, members), expected, "{up} of {members}");
            assert!(!is_panic(None, up, members));
        }
        assert!(!is_panic(Some(Share::NONE), 0, 3));
        assert!(is_panic(Some(Share::ALL), 2, 3));
    }
}
