//! Which key signs now, which still verify, and when is the next due? The life of a signing key.
//!
//! Never lets a key go before the last token that it signed is over, and never signs with one that others may not know yet.

use std::time::Duration;

/// How long a new key is shown before it signs: who reads sets of keys over the network keeps them for a while, processes of one
/// store read it twice a second.
pub const SHOWN_BEFORE: Duration = Duration::from_secs(10);

/// When a key serves, in Unix seconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeyTimes {
    /// From when on it signs.
    pub active_from: u64,
    /// From when on it does not verify any more, once a successor has been made.
    pub retire_at: Option<u64>,
}

/// How keys of an issuer follow each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rotation {
    /// How long each signs.
    pub period: Duration,
    /// How long what it signs holds.
    pub token_lifetime: Duration,
    /// How far clocks may differ.
    pub skew: Duration,
}

/// What a new key is given, and what becomes of those before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Successor {
    /// When it begins to sign.
    pub active_from: u64,
    /// When its predecessors stop verifying.
    pub predecessors_retire_at: u64,
}

impl Rotation {
    /// The index of the key that signs at `now`: the youngest that is active. Before the first is, the first: nobody knows another.
    #[must_use]
    pub fn signer(keys: &[KeyTimes], now: u64) -> Option<usize> {
        let live = || keys.iter().enumerate().filter(|(_, key)| Self::verifies(key, now));
        let active = live().filter(|(_, key)| key.active_from <= now).max_by_key(|(_, key)| key.active_from);
        let first = || live().min_by_key(|(_, key)| key.active_from);
        active.or_else(first).map(|(index, _)| index)
    }

    /// Whether what a key has signed is believed at `now`.
    #[must_use]
    pub fn verifies(key: &KeyTimes, now: u64) -> bool {
        key.retire_at.is_none_or(|retire_at| now < retire_at)
    }

    /// Whether another key is to be made at `now`.
    #[must_use]
    pub fn is_due(&self, keys: &[KeyTimes], now: u64) -> bool {
        let live = keys.iter().filter(|key| Self::verifies(key, now) && key.retire_at.is_none());
        let youngest = live.map(|key| key.active_from).max();
        youngest.is_none_or(|began| now >= began.saturating_add(self.period.as_secs()))
    }

    /// The times of a key made at `now`. The first signs at once; one that comes after others is shown first.
    #[must_use]
    pub fn successor(&self, keys: &[KeyTimes], now: u64) -> Successor {
        let has_predecessor = keys.iter().any(|key| Self::verifies(key, now));
        let active_from = if has_predecessor { now.saturating_add(SHOWN_BEFORE.as_secs()) } else { now };
        // The last token of a predecessor is signed just before the new key begins, by a clock that may be behind.
        let holds = self.token_lifetime.as_secs() + 2 * self.skew.as_secs();
        Successor { active_from, predecessors_retire_at: active_from.saturating_add(holds) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROTATION: Rotation = Rotation {
        period: Duration::from_secs(10_000),
        token_lifetime: Duration::from_secs(300),
        skew: Duration::from_secs(30),
    };

    fn key(active_from: u64, retire_at: Option<u64>) -> KeyTimes {
        KeyTimes { active_from, retire_at }
    }

    #[test]
    fn the_first_signs_at_once_and_the_next_is_shown_before() {
        assert!(ROTATION.is_due(&[], 1_000));
        assert_eq!(ROTATION.successor(&[], 1_000).active_from, 1_000);
        let keys = [key(1_000, None)];
        assert!(!ROTATION.is_due(&keys, 10_999) && ROTATION.is_due(&keys, 11_000));
        let next = ROTATION.successor(&keys, 11_000);
        assert_eq!(next, Successor { active_from: 11_010, predecessors_retire_at: 11_010 + 300 + 60 });
        let keys = [key(1_000, Some(next.predecessors_retire_at)), key(next.active_from, None)];
        assert!(!ROTATION.is_due(&keys, 11_001), "one was made");
        assert_eq!(Rotation::signer(&keys, 11_009), Some(0));
        assert_eq!(Rotation::signer(&keys, 11_010), Some(1));
    }

    #[test]
    fn a_key_verifies_until_the_last_token_that_it_signed_is_over() {
        let next = ROTATION.successor(&[key(1_000, None)], 11_000);
        let old = key(1_000, Some(next.predecessors_retire_at));
        let last_token_over =
            next.active_from - 1 + ROTATION.token_lifetime.as_secs() + ROTATION.skew.as_secs();
        assert!(Rotation::verifies(&old, last_token_over));
        assert!(!Rotation::verifies(&old, next.predecessors_retire_at));
        assert!(Rotation::verifies(&key(0, None), u64::MAX));
    }

    #[test]
    fn a_clock_that_jumps_back_leaves_somebody_to_sign() {
        let keys = [key(1_000, Some(11_370)), key(11_010, None)];
        assert_eq!(Rotation::signer(&keys, 5), Some(0));
        assert_eq!(Rotation::signer(&keys, 20_000), Some(1));
        assert_eq!(Rotation::signer(&keys[..1], 20_000), None, "what is retired does not sign");
    }
}
