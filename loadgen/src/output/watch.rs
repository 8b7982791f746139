//! What do the counters say now, and how has that changed since the run began?
//!
//! Reads counters and nothing else, and remembers a bounded time; callers tell it the time.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use runtime::counter::Counter;

use crate::counts::{Counts, Pulse, quantiles_of};
use crate::failure::Failure;
use crate::protocol::Unit;
use crate::schedule::rate_plan::RatePlan;

/// What one point of a curve stands for.
pub(crate) const SAMPLE: Duration = Duration::from_millis(500);
/// Five minutes: more points than a terminal has columns.
const SAMPLES_MAX: usize = 600;

/// What happened within one [`SAMPLE`], or a little more when the machine was slow.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Sample {
    /// Seconds from the start to its end.
    pub(crate) at_s: f64,
    /// Completed per second; bytes per second of streams.
    pub(crate) rate: f64,
    /// In nanoseconds; `None` when nothing was completed.
    pub(crate) p50: Option<u64>,
    pub(crate) p99: Option<u64>,
    /// Failed requests and failed attempts to connect, per second.
    pub(crate) errors: f64,
    /// CPU time of this process over the time: 1 is a whole CPU.
    pub(crate) cpu_share: f64,
}

/// The sums since the start.
#[derive(Clone, Debug, Default)]
pub(crate) struct Sums {
    pub(crate) sent: u64,
    pub(crate) completed: u64,
    pub(crate) errors: u64,
    pub(crate) bytes_sent: u64,
    pub(crate) bytes_received: u64,
    pub(crate) connects: u64,
    pub(crate) reconnects: u64,
    pub(crate) late_sends: u64,
    pub(crate) late_max: u64,
    /// Open loop: due by now, but not sent.
    pub(crate) behind: Option<u64>,
    /// p50, p90, p99, p99.9 and the largest latency, in nanoseconds.
    pub(crate) latency: [u64; 5],
    pub(crate) by_kind: Vec<(&'static str, u64)>,
    pub(crate) statuses: Vec<(u16, u64)>,
}

/// A run as it is seen from outside its threads.
#[derive(Debug)]
pub(crate) struct Watch {
    unit: Unit,
    counts: Vec<Arc<Counts>>,
    plan: Option<RatePlan>,
    samples: VecDeque<Sample>,
    before: Before,
}

/// What was read for the last sample.
#[derive(Debug, Default)]
struct Before {
    at: Duration,
    cpu: Duration,
    counted: u64,
    errors: u64,
    latencies: Vec<u64>,
}

impl Watch {
    /// Watches `counts` from the start of a schedule on, `cpu` having been used before it.
    pub(crate) fn new(unit: Unit, counts: &[Arc<Counts>], plan: Option<RatePlan>, cpu: Duration) -> Self {
        let before = Before { cpu, ..Before::default() };
        Self { unit, counts: counts.to_vec(), plan, samples: VecDeque::new(), before }
    }

    /// Looks at the counters `elapsed` after the start, when another sample is due.
    pub(crate) fn look(&mut self, elapsed: Duration, cpu: Duration) {
        let length = elapsed.saturating_sub(self.before.at);
        if length < SAMPLE {
            return;
        }
        let latencies = Pulse::totals(&self.pulses());
        let counted = self.counts.iter().map(|counts| self.unit.counted(counts)).sum::<u64>();
        let errors = self.errors();
        let before = &self.before;
        let old = before.latencies.iter().copied().chain(std::iter::repeat(0));
        let added: Vec<u64> = latencies.iter().zip(old).map(|(now, before)| now - before).collect();
        let is_empty = added.iter().all(|count| *count == 0);
        let [p50, p99] = quantiles_of(&added, [0.5, 0.99]).map(|value| (!is_empty).then_some(value));
        let seconds = length.as_secs_f64();
        let sample = Sample {
            at_s: elapsed.as_secs_f64(),
            rate: (counted - before.counted) as f64 / seconds,
            p50,
            p99,
            errors: (errors - before.errors) as f64 / seconds,
            cpu_share: cpu.saturating_sub(before.cpu).as_secs_f64() / seconds,
        };
        if self.samples.len() == SAMPLES_MAX {
            self.samples.pop_front();
        }
        self.samples.push_back(sample);
        self.before = Before { at: elapsed, cpu, counted, errors, latencies };
    }

    /// The last five minutes, oldest first.
    pub(crate) fn samples(&self) -> &VecDeque<Sample> {
        &self.samples
    }

    /// Everything since the start, `elapsed` ago.
    pub(crate) fn sums(&self, elapsed: Duration) -> Sums {
        let sent = self.sum(|counts| &counts.sent);
        let due = self.plan.as_ref().map(|plan| plan.count_at(elapsed) as u64);
        let kinds = Failure::ALL
            .into_iter()
            .map(|kind| (kind.name(), self.counts.iter().map(|counts| counts.failures(kind)).sum::<u64>()));
        let mut statuses = std::collections::BTreeMap::new();
        for (status, count) in self.counts.iter().flat_map(|counts| counts.statuses()) {
            *statuses.entry(status).or_default() += count;
        }
        Sums {
            sent,
            completed: self.sum(|counts| &counts.completed),
            errors: self.errors(),
            bytes_sent: self.sum(|counts| &counts.bytes_sent),
            bytes_received: self.sum(|counts| &counts.bytes_received),
            connects: self.sum(|counts| &counts.connects),
            reconnects: self.sum(|counts| &counts.reconnects),
            late_sends: self.sum(|counts| &counts.late_sends),
            late_max: self.counts.iter().map(|counts| counts.late_max.value()).max().unwrap_or(0),
            behind: due.map(|due| due.saturating_sub(sent)),
            latency: Pulse::quantiles(&self.pulses(), [0.5, 0.9, 0.99, 0.999, 1.0]),
            by_kind: kinds.filter(|(_, count)| *count > 0).collect(),
            statuses: statuses.into_iter().collect(),
        }
    }

    fn pulses(&self) -> Vec<&Pulse> {
        self.counts.iter().map(|counts| &counts.pulse).collect()
    }

    fn errors(&self) -> u64 {
        self.counts.iter().map(|counts| counts.failures_total()).sum()
    }

    fn sum(&self, of: fn(&Counts) -> &Counter) -> u64 {
        self.counts.iter().map(|counts| of(counts).value()).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn millis(count: u64) -> Duration {
        Duration::from_millis(count)
    }

    #[test]
    fn a_sample_is_what_was_added_since_the_last() {
        let counts = Arc::new(Counts::default());
        let mut watch = Watch::new(Unit::Requests, std::slice::from_ref(&counts), None, millis(70));
        let complete = |count: u64, latency: u64| {
            (0..count).for_each(|_| counts.pulse.record(latency));
            counts.completed.add(count);
        };
        complete(100, 1_000_000);
        watch.look(millis(499), millis(90));
        assert!(watch.samples().is_empty(), "not due yet");
        watch.look(millis(500), millis(120));
        complete(50, 64_000_000);
        counts.fail(Failure::Reset, String::new);
        watch.look(millis(1_500), millis(620));
        watch.look(millis(2_000), millis(620));
        let rates: Vec<_> = watch.samples().iter().map(|sample| (sample.rate, sample.errors)).collect();
        assert_eq!(rates, [(200.0, 0.0), (50.0, 1.0), (0.0, 0.0)]);
        let cpu: Vec<_> = watch.samples().iter().map(|sample| (sample.cpu_share * 10.0).round()).collect();
        assert_eq!(cpu, [1.0, 5.0, 0.0]);
        let p50: Vec<_> = watch.samples().iter().map(|sample| sample.p50).collect();
        assert!(p50[0].is_some_and(|value| value < 1_100_000), "{p50:?}");
        assert!(p50[1].is_some_and(|value| value >= 64_000_000) && p50[2].is_none(), "{p50:?}");
    }

    #[test]
    fn streams_are_seen_by_their_bytes() {
        let counts = Arc::new(Counts::default());
        let mut watch = Watch::new(Unit::Streams, std::slice::from_ref(&counts), None, Duration::ZERO);
        counts.bytes_sent.add(4_000);
        counts.bytes_received.add(1_000);
        watch.look(millis(500), Duration::ZERO);
        assert_eq!((watch.samples()[0].rate, watch.samples()[0].p50), (10_000.0, None));
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let mut watch = Watch::new(Unit::Requests, &[], None, Duration::ZERO);
        (1..=2 * SAMPLES_MAX as u32).for_each(|count| watch.look(SAMPLE * count, Duration::ZERO));
        assert_eq!(watch.samples().len(), SAMPLES_MAX);
        assert!(watch.samples()[0].at_s > 300.0, "the oldest are gone");
    }

    #[test]
    fn an_open_loop_knows_how_far_it_is_behind() {
        let counts = Arc::new(Counts::default());
        counts.sent.add(90);
        let watch = Watch::new(Unit::Requests, &[counts], Some(RatePlan::constant(100.0)), Duration::ZERO);
        assert_eq!(watch.sums(Duration::from_secs(1)).behind, Some(10));
        assert_eq!(watch.sums(millis(500)).behind, Some(0));
    }
}
