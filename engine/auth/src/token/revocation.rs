//! Which tokens are believed no more, although they hold? Those revoked, until they would be over anyway.
//!
//! Never forgets one that could still be shown.

use std::collections::HashMap;

/// Revoked tokens, by id.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Revocations {
    /// Unix seconds at which each is over.
    by_id: HashMap<Box<str>, u64>,
}

impl Revocations {
    /// Those of `revoked`, an id and when the token is over, that may still be shown at `now`.
    #[must_use]
    pub fn new(revoked: impl IntoIterator<Item = (Box<str>, u64)>, skew_seconds_max: u64, now: u64) -> Self {
        let is_live = |(_, over_at): &(Box<str>, u64)| over_at.saturating_add(skew_seconds_max) > now;
        Self { by_id: revoked.into_iter().filter(is_live).collect() }
    }

    /// Whether the token of this id was revoked. One without an id cannot be.
    #[must_use]
    pub fn hold(&self, id: Option<&str>) -> bool {
        !self.by_id.is_empty() && id.is_some_and(|id| self.by_id.contains_key(id))
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.by_id.len()
    }

    /// Whether nothing is revoked.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.by_id.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_revoked_token_is_held_until_it_is_over_for_everybody() {
        let revoked = || [("a".into(), 100), ("b".into(), 200)];
        let at = |now| Revocations::new(revoked(), 60, now);
        assert!(at(0).hold(Some("a")) && at(0).hold(Some("b")));
        assert!(at(159).hold(Some("a")), "a clock may be behind by the skew");
        assert!(!at(160).hold(Some("a")) && at(160).hold(Some("b")));
        assert!(!at(0).hold(Some("c")) && !at(0).hold(None));
        assert!(at(260).is_empty());
    }
}
