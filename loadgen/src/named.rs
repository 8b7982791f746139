//! How did each of several kinds of requests fare?
//!
//! Only where a file of requests names them; never instead of the account of all.

use std::fmt;

use hdrhistogram::Histogram;
use proto::histogram::{LATENCY_NANOS_MAX, LATENCY_NANOS_MIN, value_at_percentile};
use serde::Serialize;

use crate::counts::{Account, Counts};
use crate::output::report::ThreadResult;
use crate::units::{show_count, show_nanoseconds};

/// Latencies of the requests of one name. Two digits take a seventh of the memory of three, and there may be many names.
pub(crate) type NamedHistogram = Histogram<u64>;

/// Significant decimal digits of a latency by name.
const DIGITS: u8 = 2;

/// An empty one, nanoseconds.
pub(crate) fn named_histogram() -> NamedHistogram {
    Histogram::new_with_bounds(LATENCY_NANOS_MIN, LATENCY_NANOS_MAX, DIGITS).expect("constant bounds")
}

/// What became of the requests of one name: `sent = completed + failed + unanswered`.
#[derive(Debug, Serialize)]
pub(crate) struct NamedRequests {
    pub(crate) name: String,
    pub(crate) sent: u64,
    pub(crate) completed: u64,
    pub(crate) failed: u64,
    pub(crate) unanswered: u64,
    /// Latencies in nanoseconds to two digits; null when nothing was completed.
    pub(crate) p50_ns: Option<u64>,
    pub(crate) p99_ns: Option<u64>,
}

/// What is told of each name, beside the name itself.
pub(crate) const NAMED_COLUMNS: [&str; 6] = ["sent", "completed", "failed", "unanswered", "p50", "p99"];
/// How wide each is in text.
const WIDTHS: [usize; 6] = [13, 13, 12, 12, 11, 11];

impl NamedRequests {
    /// What stands in each column.
    pub(crate) fn cells(&self) -> [String; 6] {
        let latency = |value: Option<u64>| value.map_or("-".into(), |value| show_nanoseconds(value as f64));
        [
            show_count(self.sent),
            show_count(self.completed),
            show_count(self.failed),
            show_count(self.unanswered),
            latency(self.p50_ns),
            latency(self.p99_ns),
        ]
    }
}

/// Adds up the threads.
pub(crate) fn named_requests(names: &[String], results: &[ThreadResult]) -> Vec<NamedRequests> {
    let row = |(index, name): (usize, &String)| {
        let sum = |of: fn(&Account) -> u64| {
            let accounts = |counts: &Counts| counts.accounts.get(index).map_or(0, of);
            results.iter().map(|result| accounts(&result.counts)).sum::<u64>()
        };
        let mut latency = named_histogram();
        for histogram in results.iter().filter_map(|result| result.named.get(index)) {
            latency.add(histogram).expect("histograms of one shape");
        }
        let at = |percentile| (!latency.is_empty()).then(|| value_at_percentile(&latency, percentile));
        let (sent, completed, failed) = (
            sum(|account| account.sent.value()),
            sum(|account| account.completed.value()),
            sum(|account| account.failed.value()),
        );
        NamedRequests {
            name: name.clone(),
            sent,
            completed,
            failed,
            unanswered: sent - completed - failed,
            p50_ns: at(50.0),
            p99_ns: at(99.0),
        }
    };
    names.iter().enumerate().map(row).collect()
}

/// Longest name shown whole.
const NAME_WIDTH_MAX: usize = 40;

/// A table, when there are any.
pub(crate) fn write_named(rows: &[NamedRequests], formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
    let longest = rows.iter().map(|row| row.name.chars().count()).max();
    let Some(width) = longest.map(|longest| longest.clamp("request".len(), NAME_WIDTH_MAX)) else {
        return Ok(());
    };
    write!(formatter, "\n{:<width$}", "request")?;
    for (heading, width) in NAMED_COLUMNS.into_iter().zip(WIDTHS) {
        write!(formatter, "{heading:>width$}")?;
    }
    writeln!(formatter)?;
    for row in rows {
        let name: String = row.name.chars().take(width).collect();
        write!(formatter, "{name:<width$}")?;
        for (cell, width) in row.cells().into_iter().zip(WIDTHS) {
            write!(formatter, "{cell:>width$}")?;
        }
        writeln!(formatter)?;
    }
    Ok(())
}
