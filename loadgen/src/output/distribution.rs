//! Which figures stand for many measured times?
//!
//! Never averages percentiles: it reads one histogram, which was merged before.

use proto::histogram::{MergedHistogram, value_at_percentile};
use serde::Serialize;

/// A latency distribution in nanoseconds.
#[derive(Debug, Serialize)]
pub(crate) struct Distribution {
    pub(crate) min: u64,
    pub(crate) mean: f64,
    pub(crate) p50: u64,
    pub(crate) p75: u64,
    pub(crate) p90: u64,
    pub(crate) p99: u64,
    pub(crate) p99_9: u64,
    pub(crate) p99_99: u64,
    pub(crate) p99_999: u64,
    pub(crate) max: u64,
}

impl Distribution {
    /// What `histogram` says.
    pub(crate) fn of(histogram: &MergedHistogram) -> Self {
        let at = |percentile| value_at_percentile(histogram, percentile);
        Self {
            min: histogram.min(),
            mean: histogram.mean(),
            p50: at(50.0),
            p75: at(75.0),
            p90: at(90.0),
            p99: at(99.0),
            p99_9: at(99.9),
            p99_99: at(99.99),
            p99_999: at(99.999),
            max: histogram.max(),
        }
    }

    /// The figures with their names, ascending.
    pub(crate) fn rows(&self) -> [(&'static str, f64); 10] {
        [
            ("min", self.min as f64),
            ("mean", self.mean),
            ("p50", self.p50 as f64),
            ("p75", self.p75 as f64),
            ("p90", self.p90 as f64),
            ("p99", self.p99 as f64),
            ("p99.9", self.p99_9 as f64),
            ("p99.99", self.p99_99 as f64),
            ("p99.999", self.p99_999 as f64),
            ("max", self.max as f64),
        ]
    }
}
