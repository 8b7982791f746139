//! How many requests per second are meant to be sent at each moment, and how many until then?
//!
//! Never reads a clock and never adds up small steps: every time is computed from the whole, so that none drifts.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use crate::units::{parse_positive_duration, parse_rate};

const NANOSECONDS_PER_SECOND: f64 = 1e9;
/// Most parts of one plan: more would be a table, not an argument.
const PARTS_MAX: usize = 100;

/// An open loop's rate over time: one part after the other, the last one's final rate held for ever.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct RatePlan {
    parts: Arc<[Part]>,
}

/// A stretch in which the rate stays or changes evenly.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Part {
    /// When it begins, in nanoseconds since the start.
    begin: f64,
    /// Requests due before it begins.
    count: f64,
    /// Requests per second at its begin.
    from: f64,
    /// And at its end.
    to: f64,
    /// How long it lasts; `None` for ever, with `from` and `to` the same.
    length: Option<Duration>,
}

impl Part {
    fn seconds(&self) -> f64 {
        self.length.map_or(f64::INFINITY, |length| length.as_secs_f64())
    }

    /// Requests due within its first `seconds`.
    fn count_within(&self, seconds: f64) -> f64 {
        let slope = (self.to - self.from) / self.seconds();
        seconds * (self.from + slope * seconds / 2.0)
    }

    /// Nanoseconds after its begin until `count` requests are due: [`Part::count_within`] inverted.
    fn time_of(&self, count: f64) -> f64 {
        if count <= 0.0 {
            return 0.0;
        }
        // The root of `slope/2 · t² + from · t = count` in the form that loses no digits when the slope is small.
        let slope = (self.to - self.from) / self.seconds();
        let at = (self.from * self.from + 2.0 * slope * count).max(0.0).sqrt();
        2.0 * count * NANOSECONDS_PER_SECOND / (self.from + at)
    }
}

impl RatePlan {
    /// The same rate all the time, in requests per second.
    pub(crate) fn constant(rate: f64) -> Self {
        Self::new(&[(rate, rate, None)])
    }

    /// From, to and length of each part. What follows the last part's end holds its last rate.
    fn new(stretches: &[(f64, f64, Option<Duration>)]) -> Self {
        let mut parts: Vec<Part> = Vec::with_capacity(stretches.len() + 1);
        let (mut begin, mut count, mut last) = (Duration::ZERO, 0.0, 0.0);
        for &(from, to, length) in stretches {
            let part = Part { begin: begin.as_nanos() as f64, count, from, to, length };
            parts.push(part);
            if let Some(length) = length {
                begin += length;
                count += part.count_within(length.as_secs_f64());
            }
            last = to;
        }
        if parts.last().is_none_or(|part| part.length.is_some()) {
            parts.push(Part { begin: begin.as_nanos() as f64, count, from: last, to: last, length: None });
        }
        Self { parts: parts.into() }
    }

    /// When, in nanoseconds since the start, `count` requests have become due. Grows with `count`.
    pub(crate) fn time_of(&self, count: f64) -> f64 {
        let after = self.parts.partition_point(|part| part.count <= count).max(1);
        let part = &self.parts[after - 1];
        part.begin + part.time_of(count - part.count)
    }

    /// How many requests become due in the first `elapsed`; a fraction is one under way.
    pub(crate) fn count_at(&self, elapsed: Duration) -> f64 {
        let nanoseconds = elapsed.as_nanos() as f64;
        let after = self.parts.partition_point(|part| part.begin <= nanoseconds).max(1);
        let part = &self.parts[after - 1];
        part.count + part.count_within((nanoseconds - part.begin) / NANOSECONDS_PER_SECOND)
    }

    /// The rate, when it is always the same.
    pub(crate) fn fixed(&self) -> Option<f64> {
        match self.parts.as_ref() {
            [part] => Some(part.from),
            _ => None,
        }
    }

    /// How long the rate is planned to change; `None` when it never does.
    pub(crate) fn length(&self) -> Option<Duration> {
        let last = self.parts.last().filter(|part| part.begin > 0.0)?;
        Some(Duration::from_nanos(last.begin as u64))
    }

    /// Requests per second over the first `elapsed`.
    pub(crate) fn mean(&self, elapsed: Duration) -> f64 {
        match self.fixed() {
            Some(rate) => rate,
            None if elapsed.is_zero() => self.parts[0].from,
            None => self.count_at(elapsed) / elapsed.as_secs_f64(),
        }
    }
}

impl FromStr for RatePlan {
    type Err = String;

    /// Reads `1k`, `1k..50k/30s`, `1k/10s,5k/10s,20k`, and any sequence of such parts.
    fn from_str(text: &str) -> Result<Self, String> {
        let parts: Vec<&str> = text.split(',').collect();
        if parts.len() > PARTS_MAX {
            return Err(format!("{} parts; use at most {PARTS_MAX}", parts.len()));
        }
        let last = parts.len() - 1;
        let stretches: Result<Vec<_>, String> = parts
            .iter()
            .enumerate()
            .map(|(index, part)| {
                let context = |error| if last == 0 { error } else { format!("in '{part}': {error}") };
                parse_part(part, index == last).map_err(context)
            })
            .collect();
        Ok(Self::new(&stretches?))
    }
}

fn parse_part(text: &str, is_last: bool) -> Result<(f64, f64, Option<Duration>), String> {
    let (rates, length) = match text.split_once('/') {
        Some((rates, length)) => {
            let length = parse_positive_duration(length)
                .map_err(|error| format!("the time '{length}' after '/': {error}"))?;
            (rates, Some(length))
        }
        None => (text, None),
    };
    let (from, to) = match rates.split_once("..") {
        // A ramp may begin with nothing.
        Some(("0", to)) => (0.0, parse_rate(to)?),
        Some((from, to)) => (parse_rate(from)?, parse_rate(to)?),
        None => {
            let rate = parse_rate(rates)?;
            (rate, rate)
        }
    };
    match length {
        None if rates.contains("..") => Err(format!("a ramp needs a time; write {rates}/30s")),
        None if !is_last => Err(format!(
            "only the last step can go without a time; write {rates}/10s, or leave out what follows"
        )),
        length => Ok((from, to, length)),
    }
}

impl fmt::Display for RatePlan {
    /// As it can be read again.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut separator = "";
        for (index, part) in self.parts.iter().enumerate() {
            let repeats = index > 0 && part.length.is_none() && self.parts[index - 1].to == part.from;
            if repeats {
                break;
            }
            write!(formatter, "{separator}{}", part.from)?;
            if part.from != part.to {
                write!(formatter, "..{}", part.to)?;
            }
            if let Some(length) = part.length {
                write!(formatter, "/{}s", length.as_secs_f64())?;
            }
            separator = ",";
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(text: &str) -> RatePlan {
        text.parse().unwrap_or_else(|error| panic!("{text}: {error}"))
    }

    #[test]
    fn the_integral_of_a_plan_is_exact() {
        let counts = [
            ("1k", 10.0, 10_000.0),
            ("1k..3k/2s", 1.0, 1_500.0),
            ("1k..3k/2s", 2.0, 4_000.0),
            ("1k..3k/2s", 5.0, 13_000.0),
            ("3k..1k/2s", 1.0, 2_500.0),
            ("0..1k/10s", 10.0, 5_000.0),
            ("1k/10s,5k/10s,20k/10s", 10.0, 10_000.0),
            ("1k/10s,5k/10s,20k/10s", 15.0, 35_000.0),
            ("1k/10s,5k/10s,20k/10s", 31.0, 280_000.0),
            ("100/1s,100..300/1s,50", 4.0, 400.0),
        ];
        for (text, seconds, count) in counts {
            let found = plan(text).count_at(Duration::from_secs_f64(seconds));
            assert!((found - count).abs() < 1e-6, "{text} after {seconds} s: {found}, not {count}");
        }
    }

    #[test]
    fn the_time_of_a_count_is_the_inverse_of_the_count_at_a_time() {
        for text in ["7", "1k..50k/30s", "50k..1/30s", "0..1k/10s", "1k/10s,5k/10s,20k/10s", "9/1s,0..8/3s,2"]
        {
            let plan = plan(text);
            let mut before = -1.0;
            for step in 0..4_000 {
                let count = f64::from(step) * 0.5;
                let at = plan.time_of(count);
                let back = plan.count_at(Duration::from_nanos(at.round() as u64));
                assert!((back - count).abs() < 1e-4, "{text}: {count} at {at} ns, where {back} are due");
                assert!(at > before, "{text}: {count} is due at {at} ns, not after {before}");
                before = at;
            }
        }
    }

    #[test]
    fn a_plan_is_shown_as_it_is_read() {
        for (text, shown) in [
            ("1.5k", "1500"),
            ("2M", "2000000"),
            ("1k..50k/30s", "1000..50000/30s"),
            ("1k/10s,5k/10s,20k", "1000/10s,5000/10s,20000"),
            ("0..1k/500ms", "0..1000/0.5s"),
        ] {
            assert_eq!(plan(text).to_string(), shown);
            assert_eq!(plan(shown), plan(text), "{shown} is read again");
        }
    }

    #[test]
    fn a_plan_knows_its_length_and_its_mean() {
        let ramp = plan("1k..3k/2s");
        assert_eq!((ramp.length(), ramp.fixed()), (Some(Duration::from_secs(2)), None));
        assert!((ramp.mean(Duration::from_secs(2)) - 2_000.0).abs() < 1e-9);
        assert_eq!((plan("1k").length(), plan("1k").fixed()), (None, Some(1_000.0)));
        assert_eq!(plan("1k/3s,2k").length(), Some(Duration::from_secs(3)));
    }

    #[test]
    fn a_bad_plan_says_which_part_and_the_way_out() {
        let mistakes = [
            ("", "requests per second"),
            ("0", "requests per second"),
            ("1k..5k", "write 1k..5k/30s"),
            ("1k..5k/30", "after '/': expected a number with a unit"),
            ("1k..5k/0s", "longer than zero"),
            ("1k/10s,5k,20k", "in '5k': only the last step"),
            ("1k/10s,many", "in 'many': "),
            ("1k/10s,", "in '': "),
            ("5k..0/3s", "requests per second"),
            ("1k...5k/3s", "requests per second"),
        ];
        for (text, hint) in mistakes {
            let error = text.parse::<RatePlan>().expect_err(text);
            assert!(error.contains(hint), "{text}: {error}");
        }
        let long = vec!["1/1s"; PARTS_MAX + 1].join(",");
        assert!(long.parse::<RatePlan>().is_err_and(|error| error.contains("at most 100")));
    }
}
