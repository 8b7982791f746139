//! How long did exchanges take, in all and lately? What the cores recorded, merged without loss.
//!
//! Never averages a percentile, never asks the time: the caller says when.

use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

use proto::histogram::{LatencyHistogram, MergedHistogram, merged_histogram};
use proxy::stats::{HistogramSet, Phase, Row};

/// A stretch of the past, until now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Window {
    /// Since the process began.
    Total,
    /// The last minute.
    Minute,
    /// The last ten seconds.
    TenSeconds,
    /// The last second.
    Second,
}

impl Window {
    pub(crate) const ALL: [Self; 4] = [Self::Total, Self::Minute, Self::TenSeconds, Self::Second];

    /// The longest of those that end.
    const LONGEST: Duration = Duration::from_secs(60);

    /// Name in queries.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Total => "total",
            Self::Minute => "60s",
            Self::TenSeconds => "10s",
            Self::Second => "1s",
        }
    }

    /// How far it reaches back; `None` is to the beginning.
    const fn length(self) -> Option<Duration> {
        match self {
            Self::Total => None,
            Self::Minute => Some(Self::LONGEST),
            Self::TenSeconds => Some(Duration::from_secs(10)),
            Self::Second => Some(Duration::from_secs(1)),
        }
    }
}

/// A row's phase: its index in [`Phase::ALL`].
type Series = (Row, usize);

/// Recorded values and how often each, by series. A second's worth of a histogram holds a few hundred of its
/// 25,000 slots, so a minute of slices costs less than one histogram would.
type Slice = BTreeMap<Series, BTreeMap<u64, u64>>;

/// Everything collected so far.
#[derive(Debug, Default)]
pub(crate) struct Latency {
    /// Since the beginning; exists once there is something in it.
    totals: BTreeMap<Series, MergedHistogram>,
    /// What came in since the last seal.
    open: Slice,
    /// Earlier slices and when each was sealed, oldest first; none older than the longest window.
    sealed: VecDeque<(Instant, Slice)>,
}

impl Latency {
    /// Merges what one core recorded.
    pub(crate) fn add_set(&mut self, set: &HistogramSet) {
        for (row, histograms) in set.rows() {
            for phase in Phase::ALL {
                self.add(row, phase, histograms.of(phase));
            }
        }
    }

    /// Merges one histogram.
    pub(crate) fn add(&mut self, row: Row, phase: Phase, recorded: &LatencyHistogram) {
        if recorded.is_empty() {
            return;
        }
        let series = (row, phase as usize);
        let total = self.totals.entry(series).or_insert_with(merged_histogram);
        let slice = self.open.entry(series).or_default();
        for step in recorded.iter_recorded() {
            let (value, count) = (step.value_iterated_to(), u64::from(step.count_at_value()));
            total.saturating_record_n(value, count);
            *slice.entry(value).or_default() += count;
        }
    }

    /// Ends the open slice and forgets what no window reaches. To be called about once a second: that bounds the
    /// number of slices, and a window is exact to the time between two calls.
    pub(crate) fn seal(&mut self, now: Instant) {
        while self.sealed.front().is_some_and(|(at, _)| now.duration_since(*at) >= Window::LONGEST) {
            self.sealed.pop_front();
        }
        if !self.open.is_empty() {
            self.sealed.push_back((now, std::mem::take(&mut self.open)));
        }
    }

    /// One phase of the rows that are wanted, together. A window holds at least its length, and what came
    /// in since the last seal besides.
    pub(crate) fn merged(
        &self,
        is_wanted: impl Fn(Row) -> bool,
        phase: Phase,
        window: Window,
        now: Instant,
    ) -> MergedHistogram {
        let mut merged = merged_histogram();
        let Some(length) = window.length() else {
            for (_, _, total) in self.totals().filter(|(id, of, _)| is_wanted(*id) && *of == phase) {
                merge(
                    &mut merged,
                    total.iter_recorded().map(|step| (step.value_iterated_to(), step.count_at_value())),
                );
            }
            return merged;
        };
        let recent =
            self.sealed.iter().rev().take_while(|(at, _)| now.saturating_duration_since(*at) < length);
        for slice in recent.map(|(_, slice)| slice).chain([&self.open]) {
            for (_, counts) in slice.iter().filter(|((id, of), _)| is_wanted(*id) && *of == phase as usize) {
                merge(&mut merged, counts.iter().map(|(value, count)| (*value, *count)));
            }
        }
        merged
    }

    /// Every histogram since the beginning that holds something.
    pub(crate) fn totals(&self) -> impl Iterator<Item = (Row, Phase, &MergedHistogram)> {
        self.totals.iter().map(|((row, phase), total)| (*row, Phase::ALL[*phase], total))
    }
}

fn merge(into: &mut MergedHistogram, counts: impl Iterator<Item = (u64, u64)>) {
    for (value, count) in counts {
        // All histograms have the same bounds: nothing is out of range here.
        into.saturating_record_n(value, count);
    }
}

#[cfg(test)]
mod tests {
    use config::snapshot::ChannelId;
    use proto::histogram::latency_histogram;

    use super::*;

    const WEB: Row = Row::Channel(ChannelId(0));
    const API: Row = Row::Channel(ChannelId(1));

    /// Latencies from below the smallest to beyond the largest, the same ones on every run.
    fn samples(count: usize) -> impl Iterator<Item = u64> {
        let mut dice = 1_u64;
        (0..count).map(move |_| {
            dice = dice.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (dice >> 20) >> (dice % 44)
        })
    }

    fn histogram_of(values: impl IntoIterator<Item = u64>) -> LatencyHistogram {
        let mut histogram = latency_histogram();
        values.into_iter().for_each(|value| histogram.saturating_record(value));
        histogram
    }

    #[test]
    fn merging_the_cores_equals_recording_everything_in_one() {
        let now = Instant::now();
        let mut all = merged_histogram();
        samples(10_000).for_each(|value| all.saturating_record(value));
        let mut latency = Latency::default();
        for core in 0..3 {
            let of_core =
                samples(10_000).enumerate().filter(|(index, _)| index % 3 == core).map(|(_, value)| value);
            latency.add(WEB, Phase::Total, &histogram_of(of_core));
        }
        for window in Window::ALL {
            assert_eq!(latency.merged(|id| id == WEB, Phase::Total, window, now), all, "{}", window.name());
            assert_eq!(latency.merged(|_| true, Phase::Total, window, now), all, "{}", window.name());
            assert!(latency.merged(|id| id == API, Phase::Total, window, now).is_empty());
            assert!(latency.merged(|_| true, Phase::Body, window, now).is_empty());
        }
        assert_eq!(latency.totals().count(), 1);
    }

    #[test]
    fn the_wanted_channels_are_merged() {
        let mut latency = Latency::default();
        latency.add(WEB, Phase::Wait, &histogram_of([5_000]));
        latency.add(API, Phase::Wait, &histogram_of([7_000_000, 9_000_000]));
        for window in Window::ALL {
            let merged = latency.merged(|_| true, Phase::Wait, window, Instant::now());
            assert_eq!((merged.len(), merged.count_at(5_000), merged.count_at(9_000_000)), (3, 1, 1));
            let merged = latency.merged(|id| id != WEB, Phase::Wait, window, Instant::now());
            assert_eq!((merged.len(), merged.count_at(5_000)), (2, 0));
        }
    }

    #[test]
    fn a_window_forgets_what_is_older_than_its_length() {
        let begin = Instant::now();
        let mut latency = Latency::default();
        for second in 1..=90 {
            latency.add(WEB, Phase::Total, &histogram_of([second * 1_000_000]));
            latency.seal(begin + Duration::from_secs(second));
        }
        let now = begin + Duration::from_secs(90);
        let held = |window, now| latency.merged(|_| true, Phase::Total, window, now).len();
        assert_eq!(Window::ALL.map(|window| held(window, now)), [90, 60, 10, 1]);
        let later = now + Duration::from_secs(5);
        assert_eq!(Window::ALL.map(|window| held(window, later)), [90, 55, 5, 0]);
        assert!(latency.sealed.len() <= 60);
    }

    #[test]
    fn nothing_recorded_costs_no_slice() {
        let mut latency = Latency::default();
        latency.add(WEB, Phase::Total, &latency_histogram());
        latency.seal(Instant::now());
        assert!(latency.sealed.is_empty());
        assert_eq!(latency.totals().count(), 0);
    }
}
