//! Whose turn is it?
//!
//! Goes round the endpoints in order; never skips one that may be used, never looks at one twice in a turn.

/// Where one core stands in its round.
#[derive(Clone, Copy, Debug)]
pub struct RoundRobin {
    next: u16,
}

impl RoundRobin {
    /// Starts at endpoint `offset` (modulo the count). Cores that start at different ones spread their first
    /// requests too.
    #[must_use]
    pub fn new(offset: u16) -> Self {
        Self { next: offset }
    }

    /// The next of `count` endpoints that may be used, or none if none may. The count may change between calls.
    pub fn next(&mut self, count: u16, is_eligible: impl Fn(u16) -> bool) -> Option<u16> {
        let start = self.next.checked_rem(count)?;
        let chosen = (start..count).chain(0..start).find(|&endpoint| is_eligible(endpoint))?;
        self.next = if chosen + 1 == count { 0 } else { chosen + 1 };
        Some(chosen)
    }
}

#[cfg(test)]
mod tests {
    use super::RoundRobin;

    #[track_caller]
    fn check(offset: u16, count: u16, down: &[u16], expected: &[u16]) {
        let mut turns = RoundRobin::new(offset);
        let chosen: Vec<u16> =
            expected.iter().map_while(|_| turns.next(count, |endpoint| !down.contains(&endpoint))).collect();
        assert_eq!(chosen, expected);
    }

    #[test]
    fn goes_round_from_its_offset() {
        check(0, 3, &[], &[0, 1, 2, 0, 1, 2]);
        check(2, 3, &[], &[2, 0, 1, 2]);
        check(7, 3, &[], &[1, 2, 0]);
        check(65_535, 1, &[], &[0, 0]);
        check(u16::MAX - 1, u16::MAX, &[], &[u16::MAX - 1, 0, 1]);
    }

    #[test]
    fn passes_over_those_that_may_not_be_used() {
        check(0, 4, &[1], &[0, 2, 3, 0, 2, 3]);
        check(1, 4, &[1, 2, 3], &[0, 0, 0]);
    }

    #[test]
    fn finds_none_when_none_may() {
        assert_eq!(RoundRobin::new(0).next(0, |_| true), None);
        assert_eq!(RoundRobin::new(1).next(3, |_| false), None);
    }

    #[test]
    fn survives_a_change_of_count() {
        let mut turns = RoundRobin::new(0);
        assert_eq!(turns.next(5, |endpoint| endpoint == 4), Some(4));
        assert_eq!(turns.next(2, |_| true), Some(0));
        assert_eq!(turns.next(5, |_| true), Some(1));
    }
}
