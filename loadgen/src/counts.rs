//! What has a thread sent, what came back, and what did not?
//!
//! Written by one thread with plain stores and read by any: never a lock, never a second writer.

use std::sync::OnceLock;

use runtime::counter::Counter;

use crate::failure::Failure;

const KINDS: usize = Failure::ALL.len();
const STATUS_MIN: u16 = 100;
const STATUS_MAX: u16 = 999;

/// The counters of one thread.
#[derive(Debug)]
pub(crate) struct Counts {
    /// Requests whose sending began.
    pub(crate) sent: Counter,
    /// Requests answered whole and as expected.
    pub(crate) completed: Counter,
    /// Intended requests that were due but not sent before the end of the run.
    pub(crate) unsent: Counter,
    /// Connections opened.
    pub(crate) connects: Counter,
    /// Connections found closed by the server between two requests, and opened again.
    pub(crate) reconnects: Counter,
    /// Connections closed by us after as many answers as were asked of each.
    pub(crate) retired: Counter,
    /// Request bytes handed to the kernel.
    pub(crate) bytes_sent: Counter,
    /// Response bytes received, heads and framing included.
    pub(crate) bytes_received: Counter,
    /// Requests that a free connection sent later than [`LATE_NANOSECONDS`] after their time.
    pub(crate) late_sends: Counter,
    /// The latest of them, in nanoseconds.
    pub(crate) late_max: Counter,
    /// Latencies at coarse resolution, for the progress line.
    pub(crate) pulse: Pulse,
    /// One for each name in a file of requests.
    pub(crate) accounts: Box<[Account]>,
    failures: [Counter; KINDS],
    details: [OnceLock<String>; KINDS],
    statuses: Box<[Counter]>,
}

/// What became of the requests of one name.
#[derive(Debug, Default)]
pub(crate) struct Account {
    pub(crate) sent: Counter,
    pub(crate) completed: Counter,
    pub(crate) failed: Counter,
}

/// From here on the generator's own delay is worth a warning: a tick of the runtime's timers.
pub(crate) const LATE_NANOSECONDS: u64 = 1_000_000;

impl Default for Counts {
    fn default() -> Self {
        Self {
            sent: Counter::default(),
            completed: Counter::default(),
            unsent: Counter::default(),
            connects: Counter::default(),
            reconnects: Counter::default(),
            retired: Counter::default(),
            bytes_sent: Counter::default(),
            bytes_received: Counter::default(),
            late_sends: Counter::default(),
            late_max: Counter::default(),
            pulse: Pulse::default(),
            accounts: Box::default(),
            failures: Default::default(),
            details: Default::default(),
            statuses: (STATUS_MIN..=STATUS_MAX).map(|_| Counter::default()).collect(),
        }
    }
}

impl Counts {
    /// With so many named accounts.
    pub(crate) fn with_accounts(accounts: usize) -> Self {
        Self { accounts: (0..accounts).map(|_| Account::default()).collect(), ..Self::default() }
    }

    /// Counts one failure. `detail` is asked only for the first of its kind.
    pub(crate) fn fail(&self, kind: Failure, detail: impl FnOnce() -> String) {
        self.failures[kind as usize].add(1);
        self.details[kind as usize].get_or_init(detail);
    }

    /// Counts the status of a whole answer.
    pub(crate) fn status(&self, status: u16) {
        if let Some(counter) =
            status.checked_sub(STATUS_MIN).and_then(|index| self.statuses.get(usize::from(index)))
        {
            counter.add(1);
        }
    }

    /// Counts a request sent `lateness` nanoseconds after both its time and the moment its connection was free.
    pub(crate) fn lateness(&self, lateness: u64) {
        if lateness > LATE_NANOSECONDS {
            self.late_sends.add(1);
            self.late_max.set(self.late_max.value().max(lateness));
        }
    }

    /// How often `kind` occurred.
    pub(crate) fn failures(&self, kind: Failure) -> u64 {
        self.failures[kind as usize].value()
    }

    /// The first failure of `kind` in words.
    pub(crate) fn detail(&self, kind: Failure) -> Option<&str> {
        self.details[kind as usize].get().map(String::as_str)
    }

    /// All failures, including those before anything was sent.
    pub(crate) fn failures_total(&self) -> u64 {
        self.failures.iter().map(Counter::value).sum()
    }

    /// The statuses that occurred, ascending, and how often.
    pub(crate) fn statuses(&self) -> impl Iterator<Item = (u16, u64)> {
        (STATUS_MIN..).zip(self.statuses.iter().map(Counter::value)).filter(|(_, count)| *count > 0)
    }
}

/// Sixteen steps to each power of two: a percentile read from it is at most 6 % too high.
const STEPS_BITS: u32 = 4;
const STEPS: usize = 1 << STEPS_BITS;
/// Values from 2^44 ns, five hours, on share the last bucket.
const BUCKETS: usize = (44 - STEPS_BITS as usize) * STEPS;

/// A coarse latency histogram that others may read while it is written.
#[derive(Debug)]
pub(crate) struct Pulse(Box<[Counter]>);

impl Default for Pulse {
    fn default() -> Self {
        Self((0..BUCKETS).map(|_| Counter::default()).collect())
    }
}

impl Pulse {
    /// Counts a latency in nanoseconds.
    pub(crate) fn record(&self, latency: u64) {
        self.0[bucket(latency)].add(1);
    }

    /// What all `pulses` have counted together, by bucket.
    pub(crate) fn totals(pulses: &[&Self]) -> Vec<u64> {
        (0..BUCKETS).map(|index| pulses.iter().map(|pulse| pulse.0[index].value()).sum()).collect()
    }

    /// The values, in nanoseconds, below which the given shares (ascending) of all `pulses` lie; 0 when they are empty.
    pub(crate) fn quantiles<const N: usize>(pulses: &[&Self], shares: [f64; N]) -> [u64; N] {
        quantiles_of(&Self::totals(pulses), shares)
    }
}

/// The same of counts as [`Pulse::totals`] gives them, or of what was added between two of them.
pub(crate) fn quantiles_of<const N: usize>(counts: &[u64], shares: [f64; N]) -> [u64; N] {
    let total: u64 = counts.iter().sum();
    shares.map(|share| {
        let rank = (share * total as f64).ceil() as u64;
        let mut seen = 0;
        let found = counts.iter().position(|count| {
            seen += count;
            *count > 0 && seen >= rank
        });
        found.map_or(0, bucket_end)
    })
}

fn bucket(value: u64) -> usize {
    let value = value.max(STEPS as u64);
    let shift = value.ilog2() - STEPS_BITS;
    let step = (value >> shift) as usize - STEPS;
    (shift as usize * STEPS + step).min(BUCKETS - 1)
}

fn bucket_end(index: usize) -> u64 {
    ((STEPS + index % STEPS + 1) as u64) << (index / STEPS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pulse_is_at_most_a_sixteenth_off() {
        for value in [16, 17, 1_000, 52_300, 1_000_000, 987_654_321, 3_600_000_000_000] {
            let pulse = Pulse::default();
            pulse.record(value);
            let [read] = Pulse::quantiles(&[&pulse], [0.5]);
            assert!(read >= value && read <= value + value / 16 + 1, "{value} read as {read}");
        }
    }

    #[test]
    fn quantiles_are_taken_over_all_threads() {
        let (fast, slow) = (Pulse::default(), Pulse::default());
        (0..98).for_each(|_| fast.record(1_000));
        (0..2).for_each(|_| slow.record(1_000_000));
        let [p50, p98, p99] = Pulse::quantiles(&[&fast, &slow], [0.5, 0.98, 0.99]);
        assert!(p50 < 1_100 && p98 < 1_100, "{p50} {p98}");
        assert!(p99 >= 1_000_000, "{p99}");
        assert_eq!(Pulse::quantiles(&[&Pulse::default()], [0.5]), [0]);
    }

    #[test]
    fn extremes_have_a_bucket() {
        let pulse = Pulse::default();
        pulse.record(0);
        pulse.record(u64::MAX);
        assert_eq!(pulse.0.iter().map(Counter::value).sum::<u64>(), 2);
    }

    #[test]
    fn the_first_failure_of_a_kind_is_kept() {
        let counts = Counts::default();
        counts.fail(Failure::Reset, || "first".into());
        counts.fail(Failure::Reset, || unreachable!("asked twice"));
        counts.fail(Failure::Timeout, || "late".into());
        assert_eq!(counts.detail(Failure::Reset), Some("first"));
        assert_eq!((counts.failures(Failure::Reset), counts.failures_total()), (2, 3));
    }

    #[test]
    fn only_lateness_beyond_a_tick_counts() {
        let counts = Counts::default();
        for lateness in [0, LATE_NANOSECONDS, 3 * LATE_NANOSECONDS, 2 * LATE_NANOSECONDS] {
            counts.lateness(lateness);
        }
        assert_eq!((counts.late_sends.value(), counts.late_max.value()), (2, 3 * LATE_NANOSECONDS));
    }

    #[test]
    fn statuses_are_counted_and_odd_ones_ignored() {
        let counts = Counts::default();
        for status in [200, 503, 200, 0, 99, 1_000] {
            counts.status(status);
        }
        assert_eq!(counts.statuses().collect::<Vec<_>>(), [(200, 2), (503, 1)]);
    }
}
