//! How is latency recorded, and how is it written down?
//!
//! Fixes bounds and precision so that every histogram of the project merges with every other without loss; never
//! averages a percentile.

use std::fmt;

use hdrhistogram::Histogram;

/// What one core records into: small counters, since a core hands its histogram over within seconds.
pub type LatencyHistogram = Histogram<u32>;

/// What the cores' histograms are merged into.
pub type MergedHistogram = Histogram<u64>;

/// Smallest difference told apart, in nanoseconds. A coarser unit would take digits from the smallest latencies
/// (with 1 µs, 20 µs would be known to 3 % only) and save a quarter of the 132 KiB that a core's histogram takes.
pub const LATENCY_NANOS_MIN: u64 = 1;

/// Largest latency recorded, in nanoseconds: 1 h. Record with `saturating_record`.
pub const LATENCY_NANOS_MAX: u64 = 3_600_000_000_000;

/// Significant decimal digits of a recorded value.
pub const LATENCY_DIGITS: u8 = 3;

/// An empty histogram for one core, nanoseconds.
///
/// # Panics
/// Never: the bounds are constants that the histogram accepts.
#[must_use]
pub fn latency_histogram() -> LatencyHistogram {
    Histogram::new_with_bounds(LATENCY_NANOS_MIN, LATENCY_NANOS_MAX, LATENCY_DIGITS).expect("constant bounds")
}

/// An empty histogram to merge those of cores into, nanoseconds.
///
/// # Panics
/// Never: the bounds are constants that the histogram accepts.
#[must_use]
pub fn merged_histogram() -> MergedHistogram {
    Histogram::new_with_bounds(LATENCY_NANOS_MIN, LATENCY_NANOS_MAX, LATENCY_DIGITS).expect("constant bounds")
}

/// Adds what one core recorded to `merged`. Lossless: both count in the same buckets.
///
/// # Panics
/// When they have other bounds than this module's.
pub fn merge(merged: &mut MergedHistogram, recorded: &LatencyHistogram) {
    for step in recorded.iter_recorded() {
        let count = u64::from(step.count_at_value());
        merged
            .record_n(step.value_iterated_to(), count)
            .expect("the project's histograms share their bounds");
    }
}

/// The value of the `rank`-th of all recorded values in ascending order, counted from 1, to the width of its bucket;
/// 0 when there are fewer.
#[must_use]
pub fn value_at_rank(histogram: &MergedHistogram, rank: u64) -> u64 {
    let mut seen = 0;
    let step = histogram.iter_recorded().find(|step| {
        seen += step.count_at_value();
        seen >= rank
    });
    step.map_or(0, |step| step.value_iterated_to())
}

/// The value that `percentile` percent of all recorded values do not exceed; 0 when there are none.
///
/// The rank is rounded up, as HdrHistogram does, but not where it is whole and only its floating-point product is not:
/// 99.9 % of 1,000 values are 999 of them, although 99.9 ÷ 100 × 1,000 comes out above.
#[must_use]
pub fn value_at_percentile(histogram: &MergedHistogram, percentile: f64) -> u64 {
    let rank = (percentile / 100.0 * histogram.len() as f64).next_down().ceil() as u64;
    value_at_rank(histogram, rank.max(1))
}

/// Lines of the text form per halving of the distance to 100 %, as HdrHistogram's own tools write it.
const TICKS_PER_HALF_DISTANCE: f64 = 5.0;

/// Writes `histogram` as the percentile distribution that HdrHistogram's plotters read (`.hgrm`), each recorded
/// value divided by `values_per_unit`: 1,000,000 turns nanoseconds into milliseconds.
///
/// # Errors
/// Whatever `out` says.
pub fn write_hgrm(
    histogram: &MergedHistogram,
    values_per_unit: f64,
    out: &mut impl fmt::Write,
) -> fmt::Result {
    writeln!(out, "{:>12} {:>14} {:>10} {:>14}\n", "Value", "Percentile", "TotalCount", "1/(1-Percentile)")?;
    let all = histogram.len();
    let mut total = 0;
    // In percent, where every step is an exact binary fraction: steps of a part of one would add up to a little more
    // than 75 %, and the line would show the value after it.
    let mut level = 0.0;
    for step in histogram.iter_recorded() {
        total += step.count_at_value();
        let value = step.value_iterated_to() as f64 / values_per_unit;
        while level <= 100.0 * (total as f64 / all as f64) && level < 100.0 {
            let quantile = level / 100.0;
            writeln!(out, "{value:12.3} {quantile:.12} {total:10} {:14.2}", 1.0 / (1.0 - quantile))?;
            let halvings = (100.0 / (100.0 - level)).log2().floor() as i32 + 1;
            level += 100.0 / (TICKS_PER_HALF_DISTANCE * 2.0_f64.powi(halvings));
            if total == all {
                break;
            }
        }
        if total == all {
            writeln!(out, "{value:12.3} {:.12} {total:10}", 1.0)?;
        }
    }
    let mean = histogram.mean() / values_per_unit;
    let deviation = histogram.stdev() / values_per_unit;
    let max = histogram.max() as f64 / values_per_unit;
    let sub_buckets = (2 * 10_u64.pow(u32::from(histogram.sigfig()))).next_power_of_two();
    writeln!(out, "#[Mean    = {mean:12.3}, StdDeviation   = {deviation:12.3}]")?;
    writeln!(out, "#[Max     = {max:12.3}, Total count    = {:12}]", histogram.len())?;
    writeln!(out, "#[Buckets = {:12}, SubBuckets     = {sub_buckets:12}]", histogram.buckets())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hgrm(values: impl IntoIterator<Item = u64>) -> String {
        let mut histogram = merged_histogram();
        values.into_iter().for_each(|value| histogram.saturating_record(value));
        let mut text = String::new();
        write_hgrm(&histogram, 1e6, &mut text).unwrap();
        text
    }

    #[test]
    fn writes_the_percentile_distribution() {
        let text = hgrm((1..=1000).map(|micros| micros * 1000));
        let lines: Vec<_> = text.lines().collect();
        assert_eq!(lines[0], "       Value     Percentile TotalCount 1/(1-Percentile)");
        assert_eq!(lines[1], "");
        assert_eq!(lines[2], "       0.001 0.000000000000          1           1.00");
        assert!(lines.contains(&"       0.500 0.500000000000        500           2.00"), "{text}");
        assert!(lines.contains(&"       1.000 1.000000000000       1000"), "{text}");
        let footer = &lines[lines.len() - 3..];
        assert_eq!(footer[0], "#[Mean    =        0.501, StdDeviation   =        0.289]");
        assert_eq!(footer[1], "#[Max     =        1.000, Total count    =         1000]");
        assert_eq!(footer[2], "#[Buckets =           32, SubBuckets     =         2048]");
    }

    #[test]
    fn rows_rise_to_the_total() {
        let text = hgrm((0..5000).map(|step| 1000 + step * step));
        let rows: Vec<Vec<f64>> = text
            .lines()
            .skip(2)
            .filter(|line| !line.starts_with('#'))
            .map(|line| line.split_whitespace().map(|column| column.parse().unwrap()).collect())
            .collect();
        assert!(rows.iter().rev().skip(1).all(|row| row.len() == 4));
        assert!(rows.is_sorted_by(|low, high| low[0] <= high[0] && low[1] <= high[1] && low[2] <= high[2]));
        assert_eq!(rows.last().unwrap()[1..], [1.0, 5000.0]);
    }

    #[test]
    fn each_row_is_the_percentile_it_names() {
        for count in [1, 4, 20, 1_000, 5_072] {
            for row in hgrm((1..=count).map(|value| value * 1_000_000)).lines().skip(2) {
                if row.starts_with('#') {
                    continue;
                }
                let columns: Vec<f64> =
                    row.split_whitespace().map(|column| column.parse().unwrap()).collect();
                // The shown level has twelve digits: less than a rank is lost.
                let rank = ((columns[1] - 1e-11) * count as f64).ceil().max(1.0);
                assert!((columns[0] / rank - 1.0).abs() < 0.001, "of {count}: {row}");
            }
        }
    }

    #[test]
    fn a_whole_rank_is_not_rounded_up() {
        for (count, percentile, rank) in
            [(1_000, 99.9, 999), (1_001, 99.9, 1_000), (1_000, 50.0, 500), (7, 99.0, 7), (1, 0.0, 1)]
        {
            let mut histogram = merged_histogram();
            (1..=count).for_each(|value| histogram.record(value).unwrap());
            assert_eq!(value_at_percentile(&histogram, percentile), rank, "p{percentile} of {count}");
        }
        assert_eq!(value_at_percentile(&merged_histogram(), 99.0), 0);
    }

    #[test]
    fn an_empty_histogram_has_no_rows() {
        let text = hgrm([]);
        assert_eq!(text.lines().filter(|line| !line.starts_with('#')).count(), 2);
        assert!(text.contains("Total count    =            0]"));
    }

    #[test]
    fn cores_merge_without_loss() {
        let mut merged = merged_histogram();
        let mut at_once = merged_histogram();
        for core in 1..=4 {
            let mut recorded = latency_histogram();
            for value in (0..1000).map(|step| step * step * step * core) {
                recorded.saturating_record(value);
                at_once.saturating_record(value);
            }
            merge(&mut merged, &recorded);
        }
        assert_eq!(merged, at_once);
        assert_eq!((merged.len(), merged.max()), (4000, at_once.max()));
    }

    #[test]
    fn three_digits_hold_from_a_microsecond_to_an_hour() {
        let mut histogram = latency_histogram();
        for value in [1_000, 20_123, 999_999, 1_234_567_890, LATENCY_NANOS_MAX] {
            histogram.reset();
            histogram.record(value).unwrap();
            assert!(histogram.max().abs_diff(value) * 1000 <= value, "{value}");
        }
        histogram.saturating_record(u64::MAX);
        assert_eq!(histogram.len(), 2);
    }
}
