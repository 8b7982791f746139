//! How long did exchanges take, in all and lately? What the cores recorded, merged without loss, over all configurations that
//! the process has run.
//!
//! Never averages a percentile, never asks the time: the caller says when.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use config::snapshot::Snapshot;
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

/// Rows that no configuration has any more and that are kept by name; the oldest by name are merged beyond that.
const FORMER_MAX: usize = 64;

/// Whose latencies, by name: a number means another channel in another configuration.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Owner {
    /// Of the exchanges that a channel took.
    Channel(Arc<str>),
    /// Of the messages of a listener that relays bytes.
    Listener(Arc<str>),
}

impl Owner {
    /// Whose row it is, and whether that is internal.
    pub(crate) fn of(row: Row, snapshot: &Snapshot) -> (Self, bool) {
        match row {
            Row::Channel(id) => {
                let channel = &snapshot.channels[usize::from(id.0)];
                (Self::Channel(channel.name.as_str().into()), channel.internal)
            }
            Row::Listener(id) => {
                let listener = &snapshot.listeners[usize::from(id.0)];
                (Self::Listener(listener.name.as_str().into()), listener.internal)
            }
        }
    }

    fn name(&self) -> &str {
        match self {
            Self::Channel(name) | Self::Listener(name) => name,
        }
    }

    /// Of those that are merged, whatever they were called: no name is empty.
    fn nameless(&self) -> Self {
        match self {
            Self::Channel(_) => Self::Channel("".into()),
            Self::Listener(_) => Self::Listener("".into()),
        }
    }
}

/// An owner's phase: its index in [`Phase::ALL`].
type Series = (Owner, usize);

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
    /// Those that are left out of totals.
    internal: BTreeSet<Owner>,
}

impl Latency {
    /// Merges what one core recorded under this configuration.
    pub(crate) fn add_set(&mut self, set: &HistogramSet, snapshot: &Snapshot) {
        for (row, histograms) in set.rows() {
            let (owner, is_internal) = Owner::of(row, snapshot);
            if is_internal {
                self.internal.insert(owner.clone());
            } else {
                self.internal.remove(&owner);
            }
            for phase in Phase::ALL {
                self.add(&owner, phase, histograms.of(phase));
            }
        }
    }

    /// Merges one histogram.
    pub(crate) fn add(&mut self, owner: &Owner, phase: Phase, recorded: &LatencyHistogram) {
        if recorded.is_empty() {
            return;
        }
        let series = (owner.clone(), phase as usize);
        let total = self.totals.entry(series.clone()).or_insert_with(merged_histogram);
        let slice = self.open.entry(series).or_default();
        for step in recorded.iter_recorded() {
            let (value, count) = (step.value_iterated_to(), u64::from(step.count_at_value()));
            total.saturating_record_n(value, count);
            *slice.entry(value).or_default() += count;
        }
    }

    /// Bounds what is kept of channels and listeners that `snapshot` does not have: the sum stays, the names go.
    pub(crate) fn fold(&mut self, snapshot: &Snapshot) {
        let is_there = |owner: &Owner| match owner {
            Owner::Channel(name) => snapshot.channels.iter().any(|channel| *channel.name == **name),
            Owner::Listener(name) => snapshot.listeners.iter().any(|listener| *listener.name == **name),
        };
        let owners: BTreeSet<Owner> = self.totals.keys().map(|(owner, _)| owner.clone()).collect();
        let former: Vec<Owner> =
            owners.into_iter().filter(|owner| !owner.name().is_empty() && !is_there(owner)).collect();
        for owner in &former[..former.len().saturating_sub(FORMER_MAX)] {
            for phase in 0..Phase::ALL.len() {
                let Some(histogram) = self.totals.remove(&(owner.clone(), phase)) else { continue };
                // What was left out of totals is left out of them for good.
                if !self.internal.contains(owner) {
                    let sum = self.totals.entry((owner.nameless(), phase)).or_insert_with(merged_histogram);
                    let steps = histogram.iter_recorded();
                    merge(sum, steps.map(|step| (step.value_iterated_to(), step.count_at_value())));
                }
            }
            self.internal.remove(owner);
        }
    }

    /// Whether an owner is left out of totals.
    pub(crate) fn is_internal(&self, owner: &Owner) -> bool {
        self.internal.contains(owner)
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
        is_wanted: impl Fn(&Owner) -> bool,
        phase: Phase,
        window: Window,
        now: Instant,
    ) -> MergedHistogram {
        let mut merged = merged_histogram();
        let Some(length) = window.length() else {
            for (_, _, total) in self.totals().filter(|(id, of, _)| is_wanted(id) && *of == phase) {
                merge(
                    &mut merged,
                    total.iter_recorded().map(|step| (step.value_iterated_to(), step.count_at_value())),
                );
            }
            return merged;
        };
        for slice in self.recent(length, now) {
            for (_, counts) in slice.iter().filter(|((id, of), _)| is_wanted(id) && *of == phase as usize) {
                merge(&mut merged, counts.iter().map(|(value, count)| (*value, *count)));
            }
        }
        merged
    }

    /// One phase of one row, put into `merged` in place of what is there; whether there is anything.
    pub(crate) fn of_one(
        &self,
        owner: &Owner,
        phase: Phase,
        window: Window,
        now: Instant,
        merged: &mut MergedHistogram,
    ) -> bool {
        merged.reset();
        let series = (owner.clone(), phase as usize);
        let Some(length) = window.length() else {
            let Some(total) = self.totals.get(&series) else { return false };
            merge(
                merged,
                total.iter_recorded().map(|step| (step.value_iterated_to(), step.count_at_value())),
            );
            return true;
        };
        for slice in self.recent(length, now) {
            let counts = slice.get(&series).into_iter().flatten();
            merge(merged, counts.map(|(value, count)| (*value, *count)));
        }
        !merged.is_empty()
    }

    /// What came in since `length` ago.
    fn recent(&self, length: Duration, now: Instant) -> impl Iterator<Item = &Slice> {
        let is_recent = move |at: Instant| now.saturating_duration_since(at) < length;
        let sealed = self.sealed.iter().rev().take_while(move |(at, _)| is_recent(*at));
        sealed.map(|(_, slice)| slice).chain([&self.open])
    }

    /// Every histogram since the beginning that holds something.
    pub(crate) fn totals(&self) -> impl Iterator<Item = (&Owner, Phase, &MergedHistogram)> {
        self.totals.iter().map(|((owner, phase), total)| (owner, Phase::ALL[*phase], total))
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
    use proto::histogram::latency_histogram;

    use super::*;

    fn channel(name: &str) -> Owner {
        Owner::Channel(name.into())
    }

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
            latency.add(&channel("web"), Phase::Total, &histogram_of(of_core));
        }
        for window in Window::ALL {
            assert_eq!(
                latency.merged(|id| *id == channel("web"), Phase::Total, window, now),
                all,
                "{}",
                window.name()
            );
            assert_eq!(latency.merged(|_| true, Phase::Total, window, now), all, "{}", window.name());
            let mut one = merged_histogram();
            assert!(latency.of_one(&channel("web"), Phase::Total, window, now, &mut one));
            assert_eq!(one, all, "{}", window.name());
            assert!(!latency.of_one(&channel("api"), Phase::Total, window, now, &mut one) && one.is_empty());
            assert!(latency.merged(|id| *id == channel("api"), Phase::Total, window, now).is_empty());
            assert!(latency.merged(|_| true, Phase::Body, window, now).is_empty());
        }
        assert_eq!(latency.totals().count(), 1);
    }

    #[test]
    fn the_wanted_channels_are_merged() {
        let mut latency = Latency::default();
        latency.add(&channel("web"), Phase::Wait, &histogram_of([5_000]));
        latency.add(&channel("api"), Phase::Wait, &histogram_of([7_000_000, 9_000_000]));
        for window in Window::ALL {
            let merged = latency.merged(|_| true, Phase::Wait, window, Instant::now());
            assert_eq!((merged.len(), merged.count_at(5_000), merged.count_at(9_000_000)), (3, 1, 1));
            let merged = latency.merged(|id| *id != channel("web"), Phase::Wait, window, Instant::now());
            assert_eq!((merged.len(), merged.count_at(5_000)), (2, 0));
        }
    }

    #[test]
    fn a_window_forgets_what_is_older_than_its_length() {
        let begin = Instant::now();
        let mut latency = Latency::default();
        for second in 1..=90 {
            latency.add(&channel("web"), Phase::Total, &histogram_of([second * 1_000_000]));
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
        latency.add(&channel("web"), Phase::Total, &latency_histogram());
        latency.seal(Instant::now());
        assert!(latency.sealed.is_empty());
        assert_eq!(latency.totals().count(), 0);
    }

    #[test]
    fn what_vanished_stays_in_totals_and_is_bounded() {
        let text = "channel.web.respond = {}\nlistener.in.bind = '127.0.0.1:0'";
        let loaded = config::load_str("a.toml", text, config::Format::Toml, &|_| None);
        let snapshot = loaded.unwrap_or_else(|problems| panic!("{problems}")).snapshot;
        let mut latency = Latency::default();
        let count = 3 * FORMER_MAX as u64;
        for index in 0..count {
            latency.add(&channel(&format!("former-{index}")), Phase::Total, &histogram_of([1_000]));
            latency.add(&channel("web"), Phase::Total, &histogram_of([1_000]));
            latency.fold(&snapshot);
        }
        assert_eq!(latency.totals().count(), FORMER_MAX + 2);
        let merged = latency.merged(|_| true, Phase::Total, Window::Total, Instant::now());
        assert_eq!(merged.len(), 2 * count);
        let web =
            latency.merged(|owner| *owner == channel("web"), Phase::Total, Window::Total, Instant::now());
        assert_eq!(web.len(), count);
    }
}
