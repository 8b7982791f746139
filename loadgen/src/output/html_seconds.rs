//! Which seconds of a run does a chart show?
//!
//! Never averages a latency: where seconds are put together, the slowest of them speaks for all.

use crate::output::intervals::Interval;

/// About two units of a chart's width for each step; more would run into each other.
const STEPS_MAX: usize = 300;
/// Seconds put together in one step, in lengths that a clock has.
const GROUPS: [usize; 12] = [1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 1_800, 3_600];

/// The intervals as steps of a chart, and how many seconds each step is.
pub(crate) fn thinned(seconds: &[Interval]) -> (Vec<Interval>, usize) {
    let group = GROUPS.into_iter().find(|group| seconds.len().div_ceil(*group) <= STEPS_MAX);
    let group = group.unwrap_or(seconds.len().div_ceil(STEPS_MAX));
    (seconds.chunks(group).filter_map(together).collect(), group)
}

fn together(seconds: &[Interval]) -> Option<Interval> {
    let slowest = |of: fn(&Interval) -> Option<u64>| seconds.iter().filter_map(of).max();
    Some(Interval {
        start_s: seconds.first()?.start_s,
        length_s: seconds.iter().map(|second| second.length_s).sum(),
        completed: seconds.iter().map(|second| second.completed).sum(),
        failed: seconds.iter().map(|second| second.failed).sum(),
        bytes_sent: seconds.iter().map(|second| second.bytes_sent).sum(),
        bytes_received: seconds.iter().map(|second| second.bytes_received).sum(),
        p50: slowest(|second| second.p50),
        p99: slowest(|second| second.p99),
        max: slowest(|second| second.max),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seconds(count: usize) -> Vec<Interval> {
        let second = |index: usize| Interval {
            start_s: index as f64,
            length_s: 1.0,
            completed: 10,
            failed: u64::from(index == 7),
            bytes_sent: 1_000,
            bytes_received: 2_000,
            p50: Some(100 + index as u64 % 50),
            p99: index.is_multiple_of(2).then_some(1_000),
            max: None,
        };
        (0..count).map(second).collect()
    }

    #[test]
    fn a_short_run_is_shown_second_by_second() {
        let all = seconds(STEPS_MAX);
        assert_eq!(thinned(&all), (all, 1));
        assert_eq!(thinned(&[]), (Vec::new(), 1));
    }

    #[test]
    fn a_long_run_is_shown_in_steps_that_hide_no_slow_second() {
        let all = seconds(4 * 3_600 + 3);
        let (steps, group) = thinned(&all);
        assert_eq!((group, steps.len()), (60, 241));
        assert_eq!(steps.iter().map(|step| step.completed).sum::<u64>(), 10 * all.len() as u64);
        assert_eq!(steps.iter().map(|step| step.failed).sum::<u64>(), 1);
        assert_eq!((steps[0].bytes_sent, steps[240].bytes_received), (60_000, 6_000));
        assert_eq!((steps[0].p50, steps[0].p99, steps[0].max), (Some(149), Some(1_000), None));
        assert_eq!((steps[240].start_s, steps[240].length_s), (14_400.0, 3.0));
    }
}
