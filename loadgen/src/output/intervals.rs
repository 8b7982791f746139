//! How did the run go, second by second?
//!
//! Threads hand over what they measured in whole seconds; never makes a thread wait, and never loses what it measured.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::io;
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::time::{Duration, SystemTime};

use proto::histogram::{MergedHistogram, merged_histogram, value_at_percentile};
use serde::{Deserialize, Serialize};

use crate::counts::Counts;
use crate::output::hlog::IntervalLog;
use crate::output::report::ThreadResult;

/// Slices of each thread that may wait for the main thread, which looks fifty times a second. A thread that finds the
/// line full keeps its slice and goes on recording into it.
const WAITING_PER_THREAD: usize = 4;
/// Seconds kept open for a thread that lags; later its measurements count in a later second.
const OPEN_MAX: usize = 30;

/// What one thread measured since its last slice.
#[derive(Debug)]
pub(crate) struct Slice {
    pub(crate) thread: usize,
    /// Whole seconds from the start to the end of this slice.
    pub(crate) until: u64,
    pub(crate) latency: MergedHistogram,
    /// Counted by this thread from the start to the end of this slice.
    pub(crate) tally: Tally,
}

impl Slice {
    /// Hands over what a thread has put into `latency`, or leaves it there when the line is full: then the next slice
    /// brings it.
    pub(crate) fn hand_over(
        slices: &SyncSender<Self>,
        thread: usize,
        until: u64,
        latency: &RefCell<MergedHistogram>,
        tally: Tally,
    ) {
        let slice = Self { thread, until, latency: latency.replace(merged_histogram()), tally };
        if let Err(TrySendError::Full(slice) | TrySendError::Disconnected(slice)) = slices.try_send(slice) {
            latency.replace(slice.latency);
        }
    }
}

#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Tally {
    completed: u64,
    failed: u64,
    bytes_sent: u64,
    bytes_received: u64,
}

impl Tally {
    pub(crate) fn of(counts: &Counts) -> Self {
        Self {
            completed: counts.completed.value(),
            failed: counts.failures_total(),
            bytes_sent: counts.bytes_sent.value(),
            bytes_received: counts.bytes_received.value(),
        }
    }
}

/// One interval of a run, in the JSON summary: a second, except for the last one.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Interval {
    /// Since the start of the schedule.
    pub(crate) start_s: f64,
    pub(crate) length_s: f64,
    pub(crate) completed: u64,
    /// Failed requests and failed attempts to connect.
    pub(crate) failed: u64,
    /// Bytes handed to the kernel, and received; 0 in summaries older than these fields.
    #[serde(default)]
    pub(crate) bytes_sent: u64,
    #[serde(default)]
    pub(crate) bytes_received: u64,
    /// Latencies in nanoseconds; null when nothing was completed.
    pub(crate) p50: Option<u64>,
    pub(crate) p99: Option<u64>,
    pub(crate) max: Option<u64>,
}

/// Puts the threads' slices together.
pub(crate) struct Intervals {
    sender: SyncSender<Slice>,
    receiver: Receiver<Slice>,
    threads: Vec<Part>,
    open: BTreeMap<u64, Second>,
    closed_until: u64,
    closed: Vec<Interval>,
    log: Option<IntervalLog>,
    log_outcome: io::Result<()>,
}

/// What has come from one thread.
struct Part {
    reached: u64,
    tally: Tally,
    latency: MergedHistogram,
}

struct Second {
    latency: MergedHistogram,
    counted: Tally,
}

impl Intervals {
    /// For a run of so many `threads`, also written to `log` as it goes.
    pub(crate) fn new(threads: usize, log: Option<IntervalLog>) -> Self {
        let (sender, receiver) = sync_channel(threads * WAITING_PER_THREAD);
        let part = || Part { reached: 0, tally: Tally::default(), latency: merged_histogram() };
        Self {
            sender,
            receiver,
            threads: (0..threads).map(|_| part()).collect(),
            open: BTreeMap::new(),
            closed_until: 0,
            closed: Vec::new(),
            log,
            log_outcome: Ok(()),
        }
    }

    /// Where a thread hands over its slices.
    pub(crate) fn sender(&self) -> SyncSender<Slice> {
        self.sender.clone()
    }

    /// Says when the schedule began. Only the first call does anything.
    pub(crate) fn begin(&mut self, start: SystemTime) {
        if let (Some(log), Ok(())) = (&mut self.log, &self.log_outcome) {
            self.log_outcome = log.begin(start);
        }
    }

    /// Takes what has been handed over, and closes the seconds that no thread which still runs can add to.
    pub(crate) fn collect(&mut self, has_ended: impl Fn(usize) -> bool) {
        while let Ok(slice) = self.receiver.try_recv() {
            let part = &mut self.threads[slice.thread];
            part.reached = slice.until;
            add(&mut part.latency, &slice.latency);
            self.add(slice.thread, slice.until, &slice.latency, slice.tally);
        }
        let running = self.threads.iter().enumerate().filter(|(index, _)| !has_ended(*index));
        let mut reached = running.map(|(_, part)| part.reached).min().unwrap_or(0);
        if self.open.len() > OPEN_MAX {
            reached = self.open.keys().next_back().copied().unwrap_or(reached);
        }
        while let Some(second) = self.open.first_entry().filter(|second| *second.key() <= reached) {
            let (until, second) = second.remove_entry();
            self.close(&second, until as f64);
            self.closed_until = until;
        }
    }

    /// Adds what the threads measured since their last slices, makes their results whole again, and says how it went.
    ///
    /// # Errors
    /// The interval log could not be written.
    pub(crate) fn finish(mut self, results: &mut [ThreadResult]) -> io::Result<Vec<Interval>> {
        // Has begun long ago, unless the run was stopped before its start.
        self.begin(SystemTime::now());
        self.collect(|_| true);
        for (index, result) in results.iter_mut().enumerate() {
            let until = result.sending.as_secs_f64().ceil() as u64;
            self.add(index, until, &result.latency, Tally::of(&result.counts));
            add(&mut result.latency, &self.threads[index].latency);
        }
        let sending = results.iter().map(|result| result.sending).max().unwrap_or_default();
        while let Some((until, second)) = self.open.pop_first() {
            let end = if self.open.is_empty() { sending.as_secs_f64() } else { until as f64 };
            self.close(&second, end.max(self.closed_until as f64));
            self.closed_until = until;
        }
        self.log_outcome?;
        Ok(self.closed)
    }

    fn add(&mut self, thread: usize, until: u64, latency: &MergedHistogram, tally: Tally) {
        let before = std::mem::replace(&mut self.threads[thread].tally, tally);
        let empty = || Second { latency: merged_histogram(), counted: Tally::default() };
        let second = self.open.entry(until.max(self.closed_until + 1)).or_insert_with(empty);
        add(&mut second.latency, latency);
        let counted = &mut second.counted;
        counted.completed += tally.completed - before.completed;
        counted.failed += tally.failed - before.failed;
        counted.bytes_sent += tally.bytes_sent - before.bytes_sent;
        counted.bytes_received += tally.bytes_received - before.bytes_received;
    }

    fn close(&mut self, second: &Second, end: f64) {
        let start = self.closed_until as f64;
        let latency = &second.latency;
        if let (Some(log), Ok(())) = (&mut self.log, &self.log_outcome) {
            let [start, length] = [start, end - start].map(Duration::from_secs_f64);
            self.log_outcome = log.write(latency, start, length);
        }
        let figure = |value: u64| (!latency.is_empty()).then_some(value);
        self.closed.push(Interval {
            start_s: start,
            length_s: end - start,
            completed: second.counted.completed,
            failed: second.counted.failed,
            bytes_sent: second.counted.bytes_sent,
            bytes_received: second.counted.bytes_received,
            p50: figure(value_at_percentile(latency, 50.0)),
            p99: figure(value_at_percentile(latency, 99.0)),
            max: figure(latency.max()),
        });
    }
}

fn add(sum: &mut MergedHistogram, latency: &MergedHistogram) {
    sum.add(latency).expect("the project's histograms share their bounds");
}

#[cfg(test)]
mod tests {
    use super::*;

    fn slice(thread: usize, until: u64, values: &[u64], completed: u64, failed: u64) -> Slice {
        let mut latency = merged_histogram();
        values.iter().for_each(|value| latency.saturating_record(*value));
        Slice { thread, until, latency, tally: Tally { completed, failed, ..Tally::default() } }
    }

    fn rows(intervals: &Intervals) -> Vec<(f64, f64, u64, u64)> {
        let row = |second: &Interval| (second.start_s, second.length_s, second.completed, second.failed);
        intervals.closed.iter().map(row).collect()
    }

    #[test]
    fn a_second_closes_when_every_running_thread_has_reached_its_end() {
        let mut intervals = Intervals::new(2, None);
        let sender = intervals.sender();
        let hand_over = |slice| sender.try_send(slice).expect("room");
        hand_over(slice(0, 1, &[100, 100], 2, 0));
        intervals.collect(|_| false);
        assert_eq!(rows(&intervals), []);
        hand_over(slice(1, 1, &[900], 1, 4));
        hand_over(slice(0, 2, &[], 2, 1));
        intervals.collect(|_| false);
        assert_eq!(rows(&intervals), [(0.0, 1.0, 3, 4)]);
        assert_eq!((intervals.closed[0].p50, intervals.closed[0].max), (Some(100), Some(900)));
        intervals.collect(|thread| thread == 1);
        assert_eq!(rows(&intervals)[1..], [(1.0, 1.0, 0, 1)]);
        assert_eq!((intervals.closed[1].p50, intervals.closed[1].max), (None, None));
    }

    #[test]
    fn a_full_line_loses_nothing() {
        let mut intervals = Intervals::new(1, None);
        let sender = intervals.sender();
        let latency = RefCell::new(merged_histogram());
        let measure = |until: u64| {
            latency.borrow_mut().record(until * 1_000).expect("within an hour");
            Slice::hand_over(&sender, 0, until, &latency, Tally { completed: until, ..Tally::default() });
        };
        let full = WAITING_PER_THREAD as u64;
        // The main thread does not look for two seconds more than it has room for.
        (1..=full + 2).for_each(measure);
        assert_eq!(latency.borrow().len(), 2, "the thread goes on with what it could not hand over");
        intervals.collect(|_| false);
        measure(full + 3);
        assert!(latency.borrow().is_empty());
        intervals.collect(|_| false);
        let counts: Vec<_> =
            intervals.closed.iter().map(|second| (second.length_s, second.completed)).collect();
        assert_eq!(counts, [(1.0, 1), (1.0, 1), (1.0, 1), (1.0, 1), (3.0, 3)]);
        assert_eq!(intervals.threads[0].latency.len(), full + 3, "every latency once");
    }

    #[test]
    fn what_comes_late_counts_later() {
        let mut intervals = Intervals::new(2, None);
        let sender = intervals.sender();
        sender.try_send(slice(0, 3, &[5], 1, 0)).expect("room");
        intervals.collect(|thread| thread == 1);
        sender.try_send(slice(1, 2, &[7, 7], 2, 0)).expect("room");
        sender.try_send(slice(0, 4, &[], 1, 0)).expect("room");
        sender.try_send(slice(1, 4, &[], 2, 0)).expect("room");
        intervals.collect(|_| false);
        assert_eq!(rows(&intervals), [(0.0, 3.0, 1, 0), (3.0, 1.0, 2, 0)]);
    }
}
