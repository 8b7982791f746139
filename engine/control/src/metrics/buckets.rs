//! What is a latency histogram to a collector? Cumulative counts up to fixed bounds, a sum and a count.
//!
//! Never other bounds from one scrape to the next: a collector takes differences.

use std::sync::Arc;

use proto::histogram::MergedHistogram;

use super::families::Labels;
use crate::latency::{Latency, Owner};

/// Upper bounds of the latency buckets in microseconds: 1, 2.5 and 5 in each decade from 50 µs to 1 min. A value
/// counts in the first bucket whose bound is not below it, at the histograms' precision of 0.1 %.
const BUCKET_BOUNDS_MICROS: [u32; 19] = [
    50, 100, 250, 500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 500_000, 1_000_000,
    2_500_000, 5_000_000, 10_000_000, 30_000_000, 60_000_000,
];

const NANOS_PER_SECOND: f64 = 1e9;

/// A histogram as buckets of fixed bounds.
#[derive(Debug, PartialEq)]
pub(super) struct Buckets {
    pub(super) sum_seconds: f64,
    pub(super) count: u64,
    /// Upper bound in seconds and how many lie in this bucket alone.
    pub(super) counts: Vec<(f64, u64)>,
}

impl Buckets {
    fn of(histogram: &MergedHistogram) -> Self {
        let mut counts: Vec<(f64, u64)> =
            BUCKET_BOUNDS_MICROS.iter().map(|micros| (f64::from(*micros) / 1e6, 0)).collect();
        counts.push((f64::INFINITY, 0));
        let mut at = 0;
        // The mean takes the middle of each recorded slot: the sum is exact to 0.05 %. Added up here, so that the histogram is walked once.
        let mut sum_nanos = 0.0;
        for step in histogram.iter_recorded() {
            let value = histogram.lowest_equivalent(step.value_iterated_to());
            while BUCKET_BOUNDS_MICROS.get(at).is_some_and(|micros| value > u64::from(*micros) * 1_000) {
                at += 1;
            }
            counts[at].1 += step.count_at_value();
            sum_nanos += histogram.median_equivalent(value) as f64 * step.count_at_value() as f64;
        }
        Self { sum_seconds: sum_nanos / NANOS_PER_SECOND, count: histogram.len(), counts }
    }
}

/// The histograms of the rows that have a label, each with its phase.
pub(super) fn buckets<'l>(
    latency: &'l Latency,
    label: impl Fn(&'l Owner) -> Option<(&'static str, &'l Arc<str>)>,
) -> Vec<(Labels, Buckets)> {
    let labelled = latency.totals().filter_map(|(owner, phase, total)| {
        let (key, name) = label(owner)?;
        let labels = vec![(key, name.to_string()), ("phase", phase.name().to_owned())];
        Some((labels, Buckets::of(total)))
    });
    labelled.collect()
}

#[cfg(test)]
mod tests {
    use proto::histogram::merged_histogram;

    use super::*;

    #[test]
    fn every_sample_lands_in_the_first_bucket_that_holds_it() {
        let mut histogram = merged_histogram();
        for micros in [1, 50, 51, 100, 999, 1_000, 61_000_000, 3_600_000_000] {
            histogram.saturating_record(micros * 1_000);
        }
        let buckets = Buckets::of(&histogram);
        let filled: Vec<_> = buckets.counts.iter().filter(|(_, count)| *count > 0).copied().collect();
        assert_eq!(filled, [(50e-6, 2), (100e-6, 2), (1e-3, 2), (f64::INFINITY, 2)]);
        assert_eq!(buckets.count, 8);
        let sum = 3_661.002_2;
        assert!((buckets.sum_seconds - sum).abs() < sum * 0.001, "{}", buckets.sum_seconds);
    }

    /// A bound is counted with what is below it, and a value beyond it by more than the precision is not.
    #[test]
    fn bounds_are_exact_to_the_precision_of_the_histograms() {
        for (index, micros) in BUCKET_BOUNDS_MICROS.iter().enumerate() {
            let nanos = u64::from(*micros) * 1_000;
            let mut histogram = merged_histogram();
            histogram.saturating_record(nanos);
            histogram.saturating_record(nanos + nanos / 999);
            let counts: Vec<u64> = Buckets::of(&histogram).counts.iter().map(|(_, count)| *count).collect();
            assert_eq!(counts[index..=index + 1], [1, 1], "{micros} µs");
        }
    }
}
