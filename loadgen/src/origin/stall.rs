//! When does an origin that stalls on purpose answer nothing?
//!
//! Never reads a clock: the same schedule stalls at the same times, whoever asks.

use std::str::FromStr;
use std::time::Duration;

use crate::units::parse_positive_duration;

/// Stalls that come back: the last `time` of every `every` since the start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Stall {
    every: Duration,
    time: Duration,
}

impl Stall {
    /// How long a request that came in `elapsed` after the start waits for the end of a stall.
    pub(crate) fn wait(&self, elapsed: Duration) -> Duration {
        let phase = Duration::from_nanos((elapsed.as_nanos() % self.every.as_nanos()) as u64);
        if phase >= self.every - self.time { self.every - phase } else { Duration::ZERO }
    }
}

impl FromStr for Stall {
    type Err = String;

    /// Reads `EVERY,TIME`, such as `1s,200ms`.
    fn from_str(text: &str) -> Result<Self, String> {
        let (every, time) =
            text.split_once(',').ok_or("expected EVERY,TIME, such as 1s,200ms for 200 ms in each second")?;
        let read = |part: &str| parse_positive_duration(part).map_err(|error| format!("'{part}': {error}"));
        let (every, time) = (read(every)?, read(time)?);
        if time >= every {
            return Err("it would never answer: TIME, the second, must be shorter than EVERY".into());
        }
        Ok(Self { every, time })
    }
}

#[cfg(test)]
mod tests {
    use proto::histogram::{merged_histogram, value_at_percentile};

    use super::*;
    use crate::schedule::rate_plan::RatePlan;
    use crate::schedule::{Arrival, Pattern};

    fn millis(count: u64) -> Duration {
        Duration::from_millis(count)
    }

    #[test]
    fn the_last_part_of_each_period_waits_for_the_next() {
        let stall: Stall = "1s,200ms".parse().expect("a stall");
        for (elapsed, wait) in [(0, 0), (799, 0), (800, 200), (900, 100), (999, 1), (1_000, 0), (7_950, 50)] {
            assert_eq!(stall.wait(millis(elapsed)), millis(wait), "{elapsed} ms");
        }
    }

    #[test]
    fn mistakes_name_the_way_out() {
        for (text, hint) in [
            ("1s", "1s,200ms"),
            ("1s,", "'': expected a number with a unit"),
            ("1,2ms", "'1': expected a number with a unit"),
            ("1s,0s", "longer than zero"),
            ("200ms,1s", "must be shorter"),
            ("1s,1s", "must be shorter"),
        ] {
            let error = text.parse::<Stall>().expect_err(text);
            assert!(error.contains(hint), "{text}: {error}");
        }
    }

    /// A server that answers at once unless it stalls, seen by an open and by a closed loop: what each must report is
    /// known to the nanosecond, so that the percentiles can be held to the histogram's bucket.
    #[test]
    fn percentiles_of_a_known_stall_are_exact_to_the_bucket() {
        let stall: Stall = "1s,200ms".parse().expect("a stall");
        let wait = |at: u64| stall.wait(Duration::from_nanos(at)).as_nanos() as u64;
        let (mut open, mut closed) = (merged_histogram(), merged_histogram());
        let pattern = Pattern {
            arrival: Arrival::Constant(RatePlan::constant(1_000.0)),
            duration: Some(Duration::from_secs(10)),
            requests_max: None,
            seed: 0,
        };
        let mut schedule = pattern.share(0, 1);
        while let Some(due) = schedule.next(0) {
            open.record(wait(due)).expect("within an hour");
        }
        // The closed loop asks again 1 ms after each answer; a stall costs it one slow request of hundreds.
        let mut now = 0;
        while now < 10_000_000_000 {
            closed.record(wait(now)).expect("within an hour");
            now += wait(now) + 1_000_000;
        }
        // 200 of each 1,000 requests wait 200, 199, … 1 ms: ten each, in ascending order behind the 8,000 that wait for
        // nothing. Ranks in thousandths of a percent, so that they are whole numbers.
        assert_eq!(open.len(), 10_000);
        let expected = |rank: u64| rank.saturating_sub(8_000).div_ceil(10) * 1_000_000;
        for share in (1..=99_999).step_by(7).chain([50_000, 75_000, 90_000, 99_000, 99_900, 99_990, 99_999]) {
            let rank = (share * open.len()).div_ceil(100_000);
            let reported = value_at_percentile(&open, share as f64 / 1e3);
            let waited = expected(rank);
            assert!(open.equivalent(reported, waited), "{share}: {reported} ns, and not {waited}");
        }
        assert_eq!(value_at_percentile(&closed, 99.0), 0, "the closed loop hides the stall");
        assert!(closed.equivalent(closed.max(), 200_000_000), "although it met it");
    }
}
