//! What has run out? A line for the operator when a core had to turn work away, and another while that goes on.
//!
//! Never a line for each connection or request, whatever a flood of them does.

use crate::catalogue::sum;
use crate::live::Live;

/// Rounds of a second from one line to the next.
const ROUNDS_BETWEEN: u32 = 10;

/// Something of which there is only so much.
struct Scarce {
    /// What follows the number of times, and what to look at.
    what: &'static str,
    turned_away: fn(&Live) -> u64,
}

static SCARCE: [Scarce; 5] = [
    Scarce {
        what: "connections not accepted, mostly for want of descriptors (limit of open files)",
        turned_away: |live| sum(live.all_listeners(), |listener| listener.accept_errors.value()),
    },
    Scarce {
        what: "connections closed at once (limits.connections)",
        turned_away: |live| sum(live.all_listeners(), |listener| listener.over_connections.value()),
    },
    Scarce {
        what: "connections closed at once (limits.connections_per_address)",
        turned_away: |live| {
            sum(live.all_listeners(), |listener| listener.over_connections_per_address.value())
        },
    },
    Scarce {
        what: "requests answered 503 for want of descriptors, ports or memory (limit of open files)",
        turned_away: |live| live.fault("resources_exhausted"),
    },
    Scarce {
        what: "reads put off for want of buffers (process.buffers_per_core)",
        turned_away: |live| sum(live.cores(), |core| core.runtime.buffers_exhausted.value()),
    },
];

/// What has been told so far.
#[derive(Debug)]
pub(crate) struct Scarcity {
    told: [u64; SCARCE.len()],
    rounds_since: u32,
}

impl Default for Scarcity {
    fn default() -> Self {
        Self { told: [0; SCARCE.len()], rounds_since: ROUNDS_BETWEEN }
    }
}

impl Scarcity {
    /// The round of every second: what to tell the operator, if there is something.
    pub(crate) fn tick(&mut self, live: &Live) -> Option<String> {
        self.rounds_since = self.rounds_since.saturating_add(1);
        if self.rounds_since <= ROUNDS_BETWEEN {
            return None;
        }
        let now = SCARCE.each_ref().map(|scarce| (scarce.turned_away)(live));
        let news = SCARCE.iter().zip(now.iter().zip(self.told)).filter(|(_, (now, told))| **now != *told);
        let parts: Vec<_> =
            news.map(|(scarce, (now, told))| format!("{} {}", now.wrapping_sub(told), scarce.what)).collect();
        if parts.is_empty() {
            return None;
        }
        (self.told, self.rounds_since) = (now, 0);
        Some(parts.join("; "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing;

    #[test]
    fn a_flood_is_told_at_once_and_then_now_and_then() {
        let (shared, _cores) = testing::shared(2);
        let live = shared.live();
        let mut scarcity = Scarcity::default();
        let mut flood = |times| {
            let [first, second] = [0, 1].map(|index| &live.generation.stats[index].listeners[0]);
            first.accept_errors.add(times);
            second.over_connections.add(1);
            scarcity.tick(&live)
        };
        let line =
            |errors: u32, refused: u32| format!("{errors} {}; {refused} {}", SCARCE[0].what, SCARCE[1].what);
        assert_eq!(flood(5), Some(line(5, 1)));
        for _ in 0..ROUNDS_BETWEEN {
            assert_eq!(flood(7), None);
        }
        assert_eq!(flood(7), Some(line(77, 11)));
    }

    #[test]
    fn nothing_is_told_while_there_is_enough() {
        let (shared, _cores) = testing::shared(1);
        let live = shared.live();
        let mut scarcity = Scarcity::default();
        assert!((0..100).all(|_| scarcity.tick(&live).is_none()));
        live.generation.stats[0].runtime.buffers_exhausted.add(1);
        assert_eq!(scarcity.tick(&live), Some(format!("1 {}", SCARCE[4].what)));
    }
}
