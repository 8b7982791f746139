//! What do probes say of an endpoint, and when is it to be asked next?
//!
//! Never changes its mind on a single outcome, except the very first: nothing is known before it.

use std::time::Duration;

use crate::share::Share;

/// By which rules probes are counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CheckTerms {
    /// From one probe to the next of an endpoint that is up and answers.
    pub interval: Duration,
    /// The same while it is down, or its last probe said otherwise than those before.
    pub fast_interval: Duration,
    /// How far an interval may be from what it is, so that endpoints and processes do not ask in step.
    pub jitter: Share,
    /// Good probes in a row that bring one up that is down; 0 counts as 1.
    pub rise: u16,
    /// Bad probes in a row that take one down that is up; 0 counts as 1.
    pub fall: u16,
}

/// What a probe changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Turn {
    /// It is up from now on.
    Up,
    /// It is down from now on.
    Down,
}

/// What is known of one endpoint by its probes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Check {
    standing: Standing,
    /// Outcomes in a row that speak against the standing.
    against: u16,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Standing {
    /// Nobody has asked yet; taken for up, as a server that was configured is expected to be. The first outcome decides.
    Unknown,
    Up,
    Down,
}

impl Default for Check {
    fn default() -> Self {
        Self::new()
    }
}

impl Check {
    /// Of an endpoint that was never asked: up until the first probe has an outcome.
    #[must_use]
    pub const fn new() -> Self {
        Self { standing: Standing::Unknown, against: 0 }
    }

    /// Whether traffic may go there, as far as probes know.
    #[must_use]
    pub const fn is_up(&self) -> bool {
        !matches!(self.standing, Standing::Down)
    }

    /// Whether no probe has had an outcome yet.
    #[must_use]
    pub const fn is_unknown(&self) -> bool {
        matches!(self.standing, Standing::Unknown)
    }

    /// Outcomes in a row that speak against what it is taken for.
    #[must_use]
    pub const fn against(&self) -> u16 {
        self.against
    }

    /// Takes the outcome of a probe.
    pub fn take(&mut self, terms: &CheckTerms, is_good: bool) -> Option<Turn> {
        let (against_max, turn) = match (self.standing, is_good) {
            (Standing::Unknown, true) => {
                *self = Self { standing: Standing::Up, against: 0 };
                return None;
            }
            (Standing::Unknown, false) => (1, Turn::Down),
            (Standing::Up, false) => (terms.fall.max(1), Turn::Down),
            (Standing::Down, true) => (terms.rise.max(1), Turn::Up),
            (Standing::Up, true) | (Standing::Down, false) => {
                self.against = 0;
                return None;
            }
        };
        self.against += 1;
        if self.against < against_max {
            return None;
        }
        let standing = match turn {
            Turn::Up => Standing::Up,
            Turn::Down => Standing::Down,
        };
        *self = Self { standing, against: 0 };
        Some(turn)
    }

    /// From the end of the last probe to the beginning of the next. Any `dice` will do.
    #[must_use]
    pub fn pause(&self, terms: &CheckTerms, dice: u64) -> Duration {
        let is_quiet = self.standing == Standing::Up && self.against == 0;
        let mean = if is_quiet { terms.interval } else { terms.fast_interval };
        let mean = u64::try_from(mean.as_nanos()).unwrap_or(u64::MAX / 4);
        let spread = terms.jitter.of(mean);
        Duration::from_nanos(mean - spread + dice % (2 * spread + 1))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn terms(rise: u16, fall: u16) -> CheckTerms {
        CheckTerms {
            interval: Duration::from_secs(2),
            fast_interval: Duration::from_millis(500),
            jitter: Share::percent(10),
            rise,
            fall,
        }
    }

    /// `+` and `-` are outcomes; `U` and `D` what each changed, `.` nothing.
    #[track_caller]
    fn check(rise: u16, fall: u16, outcomes: &str, expected: &str) {
        let mut check = Check::new();
        let turns = outcomes.chars().map(|outcome| match check.take(&terms(rise, fall), outcome == '+') {
            Some(Turn::Up) => 'U',
            Some(Turn::Down) => 'D',
            None => '.',
        });
        assert_eq!(turns.collect::<String>(), expected, "rise {rise}, fall {fall}: {outcomes}");
    }

    #[test]
    fn the_first_outcome_decides_alone() {
        check(2, 3, "-", "D");
        check(2, 3, "+", ".");
        check(2, 3, "+--", "...");
        check(2, 3, "-+", "D.");
    }

    #[test]
    fn it_takes_so_many_in_a_row_to_fall_and_to_rise() {
        check(2, 3, "+---", "...D");
        check(2, 3, "+--+---", "......D");
        check(2, 3, "+---++", "...D.U");
        check(2, 3, "+---+-++", "...D...U");
        check(1, 1, "+-+-", ".DUD");
        check(0, 0, "+-+-", ".DUD");
    }

    #[test]
    fn it_is_asked_more_often_unless_all_is_well() {
        let terms = CheckTerms { jitter: Share::NONE, ..terms(2, 3) };
        let mut check = Check::new();
        let mut pause_after = |is_good| {
            check.take(&terms, is_good);
            check.pause(&terms, 7)
        };
        assert_eq!(pause_after(true), terms.interval, "up");
        assert_eq!(pause_after(false), terms.fast_interval, "failing");
        assert_eq!(pause_after(true), terms.interval, "up again");
        for _ in 0..3 {
            assert_eq!(pause_after(false), terms.fast_interval, "going down, and down");
        }
        assert_eq!(pause_after(true), terms.fast_interval, "coming up");
        assert_eq!(pause_after(true), terms.interval, "up");
    }

    proptest! {
        #[test]
        fn a_pause_keeps_within_its_jitter(dice: u64, percent in 0_u16..=100, millis in 0_u64..86_400_000) {
            let interval = Duration::from_millis(millis);
            let terms = CheckTerms { interval, jitter: Share::percent(percent), ..terms(2, 3) };
            let mut check = Check::new();
            check.take(&terms, true);
            let pause = check.pause(&terms, dice);
            let spread = interval * u32::from(percent) / 100;
            prop_assert!(pause >= interval - spread && pause <= interval + spread, "{pause:?}");
        }

        /// Against the rule said in other words: it is down after `fall` bad ones in a row, up after `rise` good ones.
        #[test]
        fn it_stands_as_the_last_run_that_was_long_enough_says(
            rise in 1_u16..5, fall in 1_u16..5, outcomes in proptest::collection::vec(any::<bool>(), 1..60),
        ) {
            let mut check = Check::new();
            let mut is_up = outcomes[0];
            check.take(&terms(rise, fall), outcomes[0]);
            for end in 1..outcomes.len() {
                check.take(&terms(rise, fall), outcomes[end]);
                let run = outcomes[..=end].iter().rev().take_while(|outcome| **outcome == outcomes[end]).count();
                let needed = if outcomes[end] { rise } else { fall };
                if run >= usize::from(needed) {
                    is_up = outcomes[end];
                }
                prop_assert_eq!(check.is_up(), is_up, "after {:?}", &outcomes[..=end]);
            }
        }
    }
}
