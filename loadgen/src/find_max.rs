//! What is the highest rate at which a latency target is kept?
//!
//! Never tries without end, and never calls a rate kept at which requests failed, or at which more went unsent than the
//! percentile leaves out.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use anyhow::{Result, bail};
use proto::histogram::{MergedHistogram, value_at_rank};
use serde::Serialize;

use crate::output::report::Summary;
use crate::units::{RATE_MAX, parse_positive_duration, show_count, show_duration, show_nanoseconds};

/// How long a try sends when `-d` does not say so.
pub(crate) const TRY_DURATION_DEFAULT: Duration = Duration::from_secs(5);
/// Where the search begins when `--rate` does not say so, in requests per second.
pub(crate) const RATE_LOWEST_DEFAULT: f64 = 100.0;
/// Most tries. From 100 per second, 14 doublings pass a million and 5 halvings then come within [`PRECISION`], each
/// missed rate being tried [`MISSES_BELIEVED`] times.
const TRIES_MAX: usize = 32;
/// A rate is missed when it was missed so often in a row: one hiccup of the machine would halve the answer.
const MISSES_BELIEVED: u32 = 2;
/// The search ends when the lowest missed rate is above the highest kept one by at most this factor: runs of seconds
/// do not tell closer rates apart.
const PRECISION: f64 = 1.05;

/// A percentile and the latency it must not exceed, such as `p99=5ms`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Goal {
    percentile: f64,
    bound: Duration,
}

impl Goal {
    /// The latency at the goal's percentile of all requests that were due, one that was never sent counting as slower
    /// than any; `None` when it falls among those.
    fn value(&self, latency: &MergedHistogram, unsent: u64) -> Option<u64> {
        let due = latency.len() + unsent;
        let rank = ((self.percentile / 100.0 * due as f64).next_down().ceil() as u64).max(1);
        (rank <= latency.len()).then(|| value_at_rank(latency, rank))
    }

    /// What became of a run at `rate`.
    fn judge(&self, rate: f64, summary: &Summary, latency: &MergedHistogram) -> Try {
        let unsent = summary.requests.unsent;
        let value = self.value(latency, unsent);
        let bound = show_duration(self.bound);
        let missed = match value {
            _ if !summary.is_clean() => Some(format!(
                "{} errors, {} requests unanswered",
                show_count(summary.errors.total),
                show_count(summary.requests.unanswered)
            )),
            None => Some(format!("{} requests were due but never sent", show_count(unsent))),
            Some(value) if u128::from(value) > self.bound.as_nanos() => Some(format!("above {bound}")),
            Some(_) => None,
        };
        Try {
            rate,
            achieved: summary.rate.achieved,
            value_ns: value,
            kept: missed.is_none(),
            missed,
            unsent,
            errors: summary.errors.total,
            generator_limited: summary.generator.is_bottleneck(),
        }
    }
}

impl Goal {
    /// Reads a target such as `p95 < 600ms`.
    pub(crate) fn parse_target(text: &str) -> Result<Self, String> {
        let (name, bound) =
            text.split_once('<').ok_or("expected PERCENTILE < TIME, such as 'p95 < 600ms'")?;
        format!("{}={}", name.trim(), bound.trim()).parse()
    }

    /// What became of this target in a run.
    pub(crate) fn outcome(&self, summary: &Summary, latency: &MergedHistogram) -> TargetOutcome {
        let value_ns = self.value(latency, summary.requests.unsent);
        TargetOutcome {
            target: format!("p{} < {}", self.percentile, show_duration(self.bound)),
            value_ns,
            kept: value_ns.is_some_and(|value| u128::from(value) < self.bound.as_nanos()),
        }
    }
}

/// Whether a run kept its target. Requests that were due and never sent count as slower than any.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct TargetOutcome {
    pub(crate) target: String,
    /// The latency at the target's percentile; `None` when it falls among requests that were never sent.
    pub(crate) value_ns: Option<u64>,
    pub(crate) kept: bool,
}

impl fmt::Display for TargetOutcome {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let verdict = if self.kept { "kept" } else { "missed" };
        let value = self.value_ns.map_or("never sent".into(), |value| show_nanoseconds(value as f64));
        write!(formatter, "{}: {verdict} ({value})", self.target)
    }
}

impl FromStr for Goal {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (name, bound) = text.split_once('=').ok_or("expected PERCENTILE=TIME, such as p99=5ms")?;
        let percentile = name.strip_prefix('p').and_then(|number| number.parse::<f64>().ok());
        let percentile =
            percentile.filter(|percentile| *percentile > 0.0 && *percentile < 100.0).ok_or_else(|| {
                format!("'{name}' is no percentile: use one between p0 and p100, such as p99 or p99.9")
            })?;
        let bound = parse_positive_duration(bound).map_err(|error| format!("the time '{bound}': {error}"))?;
        Ok(Self { percentile, bound })
    }
}

impl fmt::Display for Goal {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "p{} <= {}", self.percentile, show_duration(self.bound))
    }
}

/// One run of a search.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Try {
    /// Requests per second asked for.
    rate: f64,
    /// And completed.
    achieved: f64,
    /// Latency at the goal's percentile; `None` when it falls among requests that were never sent.
    value_ns: Option<u64>,
    kept: bool,
    /// Why the goal was missed.
    missed: Option<String>,
    unsent: u64,
    errors: u64,
    /// The result says more about the generator than about the server.
    generator_limited: bool,
}

impl Try {
    /// One line, the `number`-th.
    fn describe(&self, number: usize, goal: &Goal) -> String {
        let value = self.value_ns.map_or("-".into(), |value| show_nanoseconds(value as f64));
        let verdict = self.missed.as_ref().map_or("kept".into(), |missed| format!("missed: {missed}"));
        let limit =
            if self.generator_limited && !self.kept { " (the generator is the bottleneck)" } else { "" };
        format!("try {number:>2}  {:>11.1} /s  p{} {value:>9}  {verdict}{limit}", self.rate, goal.percentile)
    }
}

/// Which rate is to be tried next? First doubled until one is missed, then halved between.
#[derive(Debug)]
struct Search {
    lowest: f64,
    kept: Option<f64>,
    missed: Option<f64>,
    /// A rate that was missed, but not often enough to be believed, and how often.
    in_doubt: Option<(f64, u32)>,
    tries_left: usize,
}

impl Search {
    fn new(lowest: f64) -> Self {
        Self { lowest, kept: None, missed: None, in_doubt: None, tries_left: TRIES_MAX }
    }

    fn next(&mut self) -> Option<f64> {
        self.tries_left = self.tries_left.checked_sub(1)?;
        if let Some((rate, _)) = self.in_doubt {
            return Some(rate);
        }
        match (self.kept, self.missed) {
            (None, None) => Some(self.lowest),
            (None, Some(_)) => None,
            (Some(kept), None) => Some(kept * 2.0).filter(|rate| *rate <= RATE_MAX),
            (Some(kept), Some(missed)) => (missed / kept > PRECISION).then_some(f64::midpoint(kept, missed)),
        }
    }

    /// Takes in what became of a try, and says whether that is believed.
    fn learn(&mut self, rate: f64, kept: bool) -> bool {
        let misses = self.in_doubt.take().map_or(0, |(_, misses)| misses) + 1;
        match kept {
            true => self.kept = Some(rate),
            false if misses < MISSES_BELIEVED => self.in_doubt = Some((rate, misses)),
            false => self.missed = Some(rate),
        }
        self.in_doubt.is_none()
    }
}

/// What a search found; a part of the summary of its best run.
#[derive(Debug, Serialize)]
pub(crate) struct FindMax {
    target: String,
    /// The highest rate that kept the target.
    highest_rate: Option<f64>,
    /// The lowest one that missed it.
    lowest_missed: Option<f64>,
    tries: Vec<Try>,
}

impl FindMax {
    /// Whether any rate kept the target.
    pub(crate) fn is_found(&self) -> bool {
        self.highest_rate.is_some()
    }
}

/// Searches from `lowest` on, and returns the best run that kept the goal, or the only one when none did. `run` puts one rate on the server; nothing more is tried once it returns `None`.
///
/// # Errors
/// What `run` says; or it was ended before the first try was over.
pub(crate) fn search(
    goal: &Goal,
    lowest: f64,
    mut run: impl FnMut(f64) -> Result<Option<(Summary, MergedHistogram)>>,
) -> Result<(Summary, MergedHistogram)> {
    println!("searching for the highest rate with {goal}");
    let mut search = Search::new(lowest);
    let mut tries = Vec::new();
    let mut best: Option<(Summary, MergedHistogram)> = None;
    while let Some(rate) = search.next() {
        let Some((summary, latency)) = run(rate)? else { break };
        let tried = goal.judge(rate, &summary, &latency);
        let line = tried.describe(tries.len() + 1, goal);
        let is_believed = search.learn(rate, tried.kept);
        println!("{line}{}", if is_believed { "" } else { "; once more" });
        if tried.kept || best.is_none() {
            best = Some((summary, latency));
        }
        tries.push(tried);
    }
    let Some((mut summary, latency)) = best else {
        bail!("the search was ended before its first try was over")
    };
    let find_max =
        FindMax { target: goal.to_string(), highest_rate: search.kept, lowest_missed: search.missed, tries };
    println!("\n{find_max}\n");
    summary.find_max = Some(find_max);
    Ok((summary, latency))
}

impl fmt::Display for FindMax {
    /// The verdict in words.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let target = &self.target;
        match (self.highest_rate, self.lowest_missed) {
            (None, _) => {
                let lowest = self.tries.first().map_or(0.0, |tried| tried.rate);
                write!(formatter, "not even {lowest:.1} /s keeps {target}; try a lower --rate")?;
            }
            (Some(kept), Some(missed)) => {
                write!(formatter, "{kept:.1} /s keeps {target}, {missed:.1} /s does not")?;
            }
            (Some(kept), None) => {
                write!(formatter, "{kept:.1} /s keeps {target}, and no higher rate was tried")?;
            }
        }
        let is_own_limit = |tried: &&Try| !tried.kept && Some(tried.rate) == self.lowest_missed;
        if self.tries.iter().find(is_own_limit).is_some_and(|tried| tried.generator_limited) {
            write!(formatter, "; but there the generator was the bottleneck: the server may do more")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proto::histogram::merged_histogram;

    use super::*;

    /// Searches on a server that keeps the target up to `limit`; returns what was tried and found.
    fn search_up_to(limit: f64, lowest: f64) -> (Vec<f64>, Option<f64>) {
        let mut search = Search::new(lowest);
        let mut tried = Vec::new();
        while let Some(rate) = search.next() {
            tried.push(rate);
            search.learn(rate, rate <= limit);
        }
        (tried, search.kept)
    }

    #[test]
    fn one_hiccup_does_not_decide() {
        let mut search = Search::new(100.0);
        let mut tried = Vec::new();
        while let Some(rate) = search.next() {
            tried.push(rate);
            // The third try meets a machine that is busy.
            search.learn(rate, rate <= 1_000.0 && tried.len() != 3);
        }
        assert_eq!(tried[..5], [100.0, 200.0, 400.0, 400.0, 800.0]);
        assert_eq!(search.kept, Some(1_000.0));
        assert!(search.missed.is_some_and(|missed| missed <= 1_050.0), "{search:?}");
    }

    #[test]
    fn a_search_doubles_and_then_halves() {
        let (tried, found) = search_up_to(1_000.0, 100.0);
        let ascending = [100.0, 200.0, 400.0, 800.0];
        assert_eq!(tried[..4], ascending);
        // What is missed is tried twice.
        assert_eq!(
            tried[4..],
            [1_600.0, 1_600.0, 1_200.0, 1_200.0, 1_000.0, 1_100.0, 1_100.0, 1_050.0, 1_050.0]
        );
        assert_eq!(found, Some(1_000.0));
    }

    #[test]
    fn a_search_comes_as_close_as_it_says() {
        for limit in [100.0, 101.0, 777.0, 4_321.0, 99_999.0, 1_234_567.0] {
            let (tried, found) = search_up_to(limit, 100.0);
            let found = found.expect("the lowest is kept");
            assert!(found <= limit && limit < found * PRECISION, "{limit}: {found} after {tried:?}");
        }
    }

    #[test]
    fn a_search_ends() {
        assert_eq!(search_up_to(50.0, 100.0), (vec![100.0; 2], None), "when even the lowest is missed");
        let (tried, found) = search_up_to(f64::INFINITY, 100.0);
        assert!(tried.len() <= TRIES_MAX && found.is_some_and(|found| found * 2.0 > RATE_MAX), "{tried:?}");
        let (tried, _) = search_up_to(f64::INFINITY, 0.001);
        assert_eq!(tried.len(), TRIES_MAX);
    }

    #[test]
    fn requests_never_sent_are_slower_than_any() {
        let goal: Goal = "p90=5ms".parse().expect("a goal");
        let mut latency = merged_histogram();
        (1..=90).for_each(|step| latency.record(step * 1_000).expect("within an hour"));
        let at = |unsent| goal.value(&latency, unsent);
        assert!(latency.equivalent(at(0).expect("sent"), 81_000));
        assert!(latency.equivalent(at(10).expect("sent"), 90_000), "the 90th of 100");
        assert_eq!(at(11), None, "the 91st of 101 was never sent");
        assert_eq!(goal.value(&merged_histogram(), 0), None);
    }

    #[test]
    fn targets_are_read_and_mistakes_explained() {
        let goal = Goal::parse_target("p95 < 600ms").expect("a target");
        assert_eq!((goal.percentile, goal.bound), (95.0, Duration::from_millis(600)));
        assert_eq!(Goal::parse_target("p95<600ms"), Ok(goal));
        for (text, hint) in [
            ("p95=600ms", "such as 'p95 < 600ms'"),
            ("p95 < 600", "a number with a unit"),
            ("95 < 1s", "no percentile"),
        ] {
            let error = Goal::parse_target(text).expect_err(text);
            assert!(error.contains(hint), "{text}: {error}");
        }
    }

    #[test]
    fn goals_are_read_and_mistakes_explained() {
        let goal: Goal = "p99.9=5ms".parse().expect("a goal");
        assert_eq!((goal.percentile, goal.bound), (99.9, Duration::from_millis(5)));
        assert_eq!(goal.to_string(), "p99.9 <= 5 ms");
        for (text, hint) in [
            ("p99", "such as p99=5ms"),
            ("99=5ms", "'99' is no percentile"),
            ("p100=5ms", "between p0 and p100"),
            ("pNaN=5ms", "between p0 and p100"),
            ("p99=5", "the time '5': expected a number with a unit"),
            ("p99=0ms", "longer than zero"),
        ] {
            let error = text.parse::<Goal>().expect_err(text);
            assert!(error.contains(hint), "{text}: {error}");
        }
    }
}
