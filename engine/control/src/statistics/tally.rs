//! What have one process, or many together, counted? By name, so that processes with other configurations add up too.
//!
//! Never averages anything: counters are summed, histograms merged bucket by bucket.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use hdrhistogram::serialization::{Deserializer, Serializer as _, V2DeflateSerializer};
use proto::histogram::{LATENCY_NANOS_MAX, MergedHistogram, merged_histogram};
use proxy::stats::Phase;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::admin::runtime_status::ProcessStatus;

/// How this text is laid out; who reads another number leaves it alone.
const FORMAT: u32 = 1;

/// Names kept apart of each kind. Those that come beyond are counted together, as the name that nothing can have: a cluster
/// lives longer than the names of its configurations.
const NAMES_MAX: usize = 4_096;

/// Longest text that is read: far more than [`NAMES_MAX`] rows of figures take.
const BYTES_MAX: usize = 64 * 1024 * 1024;

/// Figures of one listener, channel or upstream.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub(crate) struct Figures {
    /// Whether totals leave it out: it is the second half of what is counted already.
    pub(crate) internal: bool,
    /// What only grows.
    pub(crate) counters: BTreeMap<String, u64>,
    /// What is so now, in processes that live.
    pub(crate) gauges: BTreeMap<String, u64>,
}

impl Figures {
    fn add(&mut self, other: &Self) {
        self.internal |= other.internal;
        for (mine, theirs) in [(&mut self.counters, &other.counters), (&mut self.gauges, &other.gauges)] {
            for (name, count) in theirs {
                let sum = mine.entry(name.clone()).or_default();
                *sum = sum.wrapping_add(*count);
            }
        }
    }

    /// What has been counted since `before`, which is part of it.
    fn less(&mut self, before: &Self) {
        for (name, count) in &before.counters {
            if let Some(mine) = self.counters.get_mut(name) {
                *mine = mine.saturating_sub(*count);
            }
        }
    }
}

/// Objects of one kind, by name.
pub(crate) type ByName = BTreeMap<String, Figures>;

/// Whose latencies: a channel's exchanges or a listener's messages, in one phase.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Series {
    pub(crate) kind: SeriesKind,
    pub(crate) name: String,
    /// Index in [`Phase::ALL`].
    pub(crate) phase: usize,
}

/// What a series is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum SeriesKind {
    Channel,
    Listener,
}

/// Everything that is added up.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Tally {
    /// How many processes it is of, whether they live or not.
    pub(crate) processes: u64,
    pub(crate) listeners: ByName,
    pub(crate) channels: ByName,
    pub(crate) upstreams: ByName,
    pub(crate) faults: BTreeMap<String, u64>,
    pub(crate) latencies: BTreeMap<Series, MergedHistogram>,
}

impl Tally {
    /// Adds what others have counted.
    pub(crate) fn add(&mut self, other: &Self) {
        self.processes += other.processes;
        add_by_name(&mut self.listeners, &other.listeners);
        add_by_name(&mut self.channels, &other.channels);
        add_by_name(&mut self.upstreams, &other.upstreams);
        for (fault, count) in &other.faults {
            *self.faults.entry(fault.clone()).or_default() += count;
        }
        for (series, histogram) in &other.latencies {
            self.record(series.clone(), histogram);
        }
    }

    /// Adds the figures of a listener.
    pub(crate) fn count_listener(&mut self, name: &str, figures: Figures) {
        add_by_name(&mut self.listeners, &[(name.to_owned(), figures)].into());
    }

    /// Adds the figures of a channel.
    pub(crate) fn count_channel(&mut self, name: &str, figures: Figures) {
        add_by_name(&mut self.channels, &[(name.to_owned(), figures)].into());
    }

    /// Adds a histogram; all have the same bounds, so that every value stays in its bucket.
    pub(crate) fn record(&mut self, mut series: Series, histogram: &MergedHistogram) {
        if !self.latencies.contains_key(&series) && self.latencies.len() >= NAMES_MAX * Phase::ALL.len() {
            series.name.clear();
        }
        let merged = self.latencies.entry(series).or_insert_with(merged_histogram);
        for step in histogram.iter_recorded() {
            merged.saturating_record_n(step.value_iterated_to(), step.count_at_value());
        }
    }

    /// Takes away what is counted elsewhere: an earlier state of the same process.
    pub(crate) fn less(&mut self, before: &Self) {
        self.processes = self.processes.saturating_sub(before.processes);
        for (mine, theirs) in [
            (&mut self.listeners, &before.listeners),
            (&mut self.channels, &before.channels),
            (&mut self.upstreams, &before.upstreams),
        ] {
            for (name, figures) in theirs {
                if let Some(mine) = mine.get_mut(name) {
                    mine.less(figures);
                }
            }
        }
        for (fault, count) in &before.faults {
            if let Some(mine) = self.faults.get_mut(fault) {
                *mine = mine.saturating_sub(*count);
            }
        }
        for (series, histogram) in &before.latencies {
            if let Some(mine) = self.latencies.get_mut(series) {
                // What was there before is part of it; were it not, the rest is left as it is.
                let _ = mine.subtract(histogram);
            }
        }
    }

    /// Forgets what was so only while the process lived.
    pub(crate) fn end(&mut self) {
        for kind in [&mut self.listeners, &mut self.channels, &mut self.upstreams] {
            kind.values_mut().for_each(|figures| figures.gauges.clear());
        }
    }

    /// Together, one series after the other.
    pub(crate) fn merged(&self, is_wanted: impl Fn(&Series) -> bool) -> MergedHistogram {
        let mut merged = merged_histogram();
        for (_, histogram) in self.latencies.iter().filter(|(series, _)| is_wanted(series)) {
            for step in histogram.iter_recorded() {
                merged.saturating_record_n(step.value_iterated_to(), step.count_at_value());
            }
        }
        merged
    }
}

/// What lies in the store: of a process, or of all those that are gone.
#[derive(Clone, Debug)]
pub(crate) struct Report {
    /// How it was when it told this.
    pub(crate) status: Option<ProcessStatus>,
    pub(crate) tally: Tally,
}

impl Report {
    /// As text, the histograms in HdrHistogram's own compressed form (V2).
    pub(crate) fn encode(&self) -> Vec<u8> {
        let tally = &self.tally;
        let mut serializer = V2DeflateSerializer::new();
        let latencies = tally.latencies.iter().map(|(series, histogram)| {
            let mut bytes = Vec::new();
            // Into memory, and with bounds that the form can hold: neither fails.
            let written = serializer.serialize(histogram, &mut bytes);
            debug_assert!(written.is_ok(), "{written:?}");
            StoredSeries {
                kind: series.kind,
                name: series.name.clone(),
                phase: Phase::ALL[series.phase].name().to_owned(),
                v2: STANDARD_NO_PAD.encode(bytes),
            }
        });
        let stored = Stored {
            format: FORMAT,
            status: self.status.clone(),
            processes: tally.processes,
            latencies: latencies.collect(),
            listeners: tally.listeners.clone(),
            channels: tally.channels.clone(),
            upstreams: tally.upstreams.clone(),
            faults: tally.faults.clone(),
        };
        // Maps with text as keys: nothing here can fail to be written.
        serde_json::to_vec(&stored).unwrap_or_default()
    }

    /// What [`Self::encode`] has written.
    ///
    /// # Errors
    /// When it is something else, or of a version that lays it out otherwise.
    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, String> {
        if bytes.len() > BYTES_MAX {
            return Err(format!("longer than {BYTES_MAX} bytes"));
        }
        let stored: Stored = serde_json::from_slice(bytes).map_err(|error| error.to_string())?;
        if stored.format != FORMAT {
            return Err(format!("of format {}, and this version reads {FORMAT}", stored.format));
        }
        let mut tally = Tally {
            processes: stored.processes,
            listeners: stored.listeners,
            channels: stored.channels,
            upstreams: stored.upstreams,
            faults: stored.faults,
            latencies: BTreeMap::new(),
        };
        let mut deserializer = Deserializer::new();
        for StoredSeries { kind, name, phase, v2 } in stored.latencies {
            let phase = Phase::ALL.iter().position(|known| known.name() == phase);
            let phase = phase.ok_or("a phase that is not known")?;
            let bytes = STANDARD_NO_PAD.decode(v2).map_err(|error| error.to_string())?;
            let histogram: MergedHistogram =
                deserializer.deserialize(&mut &bytes[..]).map_err(|error| error.to_string())?;
            if histogram.max() > LATENCY_NANOS_MAX.next_power_of_two() {
                return Err("a histogram of other bounds".to_owned());
            }
            tally.record(Series { kind, name, phase }, &histogram);
        }
        Ok(Self { status: stored.status, tally })
    }
}

fn add_by_name(mine: &mut ByName, theirs: &ByName) {
    for (name, figures) in theirs {
        let is_known = mine.contains_key(name) || mine.len() < NAMES_MAX;
        mine.entry(if is_known { name.clone() } else { String::new() }).or_default().add(figures);
    }
}

/// The layout in the store.
#[derive(Serialize, Deserialize)]
struct Stored {
    format: u32,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    status: Option<ProcessStatus>,
    processes: u64,
    listeners: ByName,
    channels: ByName,
    upstreams: ByName,
    faults: BTreeMap<String, u64>,
    latencies: Vec<StoredSeries>,
}

#[derive(Serialize, Deserialize)]
struct StoredSeries {
    kind: SeriesKind,
    name: String,
    phase: String,
    /// Compressed V2 form in base64.
    v2: String,
}

#[cfg(test)]
mod tests {
    use proto::histogram::value_at_percentile;

    use super::*;

    /// Latencies from below the smallest to beyond the largest, the same ones on every run.
    fn samples(count: usize) -> impl Iterator<Item = u64> {
        let mut dice = 7_u64;
        (0..count).map(move |_| {
            dice = dice.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (dice >> 20) >> (dice % 44)
        })
    }

    fn series(name: &str) -> Series {
        Series { kind: SeriesKind::Channel, name: name.to_owned(), phase: Phase::Total as usize }
    }

    fn tally_of(values: impl IntoIterator<Item = u64>) -> Tally {
        let mut histogram = merged_histogram();
        values.into_iter().for_each(|value| histogram.saturating_record(value));
        let mut tally = Tally { processes: 1, ..Tally::default() };
        let requests = [("requests".to_owned(), histogram.len())].into();
        let open = [("exchanges_open".to_owned(), 3)].into();
        let figures = Figures { internal: false, counters: requests, gauges: open };
        tally.channels.insert("web".to_owned(), figures);
        tally.record(series("web"), &histogram);
        tally
    }

    /// Every process has samples of its own; what is in the store is read and added up.
    #[test]
    fn every_bucket_of_the_cluster_is_that_of_all_samples_together() {
        const PROCESSES: usize = 7;
        const SAMPLES: usize = 200_000;
        let mut all = merged_histogram();
        samples(SAMPLES).for_each(|value| all.saturating_record(value));
        let mut cluster = Tally::default();
        for process in 0..PROCESSES {
            // Of unequal sizes, one of them with the slowest alone: an average of percentiles would be far off.
            let own = samples(SAMPLES).enumerate().filter(|(index, value)| match process {
                0 => *value > 1 << 40,
                _ => *value <= 1 << 40 && 1 + index * index % (PROCESSES - 1) == process,
            });
            let tally = tally_of(own.map(|(_, value)| value));
            let stored = Report { status: None, tally }.encode();
            cluster.add(&Report::decode(&stored).expect("what was written").tally);
        }
        let merged = cluster.merged(|_| true);
        assert_eq!(merged.len(), SAMPLES as u64);
        for percentile in [50.0, 90.0, 99.0, 99.9, 99.99, 100.0] {
            let (of_cluster, of_all) =
                (value_at_percentile(&merged, percentile), value_at_percentile(&all, percentile));
            assert_eq!(of_cluster, of_all, "p{percentile}");
        }
        let buckets = |histogram: &MergedHistogram| -> Vec<(u64, u64)> {
            histogram.iter_recorded().map(|step| (step.value_iterated_to(), step.count_at_value())).collect()
        };
        assert_eq!(buckets(&merged), buckets(&all));
        assert_eq!(cluster.channels["web"].counters["requests"], SAMPLES as u64);
        assert_eq!(cluster.processes, PROCESSES as u64);
    }

    #[test]
    fn what_ends_leaves_its_counters_and_no_gauge() {
        let mut cluster = tally_of([1, 2, 3]);
        let mut gone = tally_of([4, 5]);
        gone.end();
        cluster.add(&gone);
        assert_eq!(cluster.channels["web"].counters["requests"], 5);
        assert_eq!(cluster.channels["web"].gauges["exchanges_open"], 3, "of the one that lives");
    }

    #[test]
    fn what_is_counted_elsewhere_is_taken_away_exactly() {
        let before = tally_of(samples(1_000));
        let mut now = tally_of(samples(1_000).chain([17, 1_000_000]));
        now.less(&before);
        let expected = tally_of([17, 1_000_000]);
        assert_eq!(now.channels, expected.channels);
        assert_eq!(now.merged(|_| true), expected.merged(|_| true));
        assert_eq!(now.processes, 0);
    }

    #[test]
    fn what_is_no_tally_is_refused() {
        let check = |text: &str| assert!(Report::decode(text.as_bytes()).is_err(), "{text}");
        check("");
        check("{}");
        let text = Report { status: None, tally: tally_of([1]) }.encode();
        let text = String::from_utf8(text).expect("text");
        assert!(Report::decode(text.as_bytes()).is_ok());
        check(&text.replace("\"format\":1", "\"format\":2"));
        check(&text.replace("\"phase\":\"total\"", "\"phase\":\"later\""));
        check(&text.replace("\"v2\":\"", "\"v2\":\"AAAA"));
        check(&text[..text.len() - 1]);
    }

    #[test]
    fn names_beyond_the_bound_are_counted_together() {
        let mut cluster = Tally::default();
        for number in 0..NAMES_MAX + 10 {
            let mut one = Tally::default();
            let counters = [("requests".to_owned(), 1)].into();
            one.channels.insert(format!("channel-{number}"), Figures { counters, ..Figures::default() });
            cluster.add(&one);
        }
        assert_eq!(cluster.channels.len(), NAMES_MAX + 1);
        assert_eq!(cluster.channels[""].counters["requests"], 10);
    }
}
