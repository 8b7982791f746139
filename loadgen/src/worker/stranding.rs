//! For how long has a thread been without any connection?
//!
//! Never takes an idle connection for a lost one: callers say whether any is open.

use std::time::Duration;

use runtime::Instant;

/// Looks again and again, and forgets what it saw whenever a connection was opened in between.
#[derive(Debug, Default)]
pub(crate) struct Stranding {
    since: Option<Instant>,
    opened: u64,
}

impl Stranding {
    /// How long ago the connections were first seen to be gone, when that has been so ever since. `opened` counts all
    /// that ever were: with a new one for every request, each look may come between two.
    pub(crate) fn look(&mut self, now: Instant, is_stranded: bool, opened: u64) -> Duration {
        if !is_stranded || self.opened != opened {
            *self = Self { since: None, opened };
        }
        if !is_stranded {
            return Duration::ZERO;
        }
        now.since(*self.since.get_or_insert(now))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_an_unbroken_time_without_a_connection_counts() {
        let mut stranding = Stranding::default();
        let looks = [
            (0, true, 0, 0),
            (10, true, 0, 10),
            (20, false, 1, 0),
            (30, true, 1, 0),
            (45, true, 1, 15),
            // One was opened, and lost again, since the last look.
            (50, true, 2, 0),
            (70, true, 2, 20),
        ];
        for (at_ms, is_stranded, opened, expected_ms) in looks {
            let at = Instant::from_nanos(1 + at_ms * 1_000_000);
            let stranded = stranding.look(at, is_stranded, opened);
            assert_eq!(stranded, Duration::from_millis(expected_ms), "at {at_ms} ms");
        }
    }
}
