//! How do the access logs fare? What was written, what was dropped and why.
//!
//! Never asks a writer: everything is counted where it happens, by whoever does it.

use std::sync::atomic::Ordering;

use proxy::access::tray::{Log, Tray};
use serde::Serialize;
use utoipa::ToSchema;

/// Figures of one log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub(crate) struct AccessLogStatus {
    pub(crate) name: String,
    /// Exchanges that were handed to its writer.
    pub(crate) recorded: u64,
    /// Lines that were written.
    pub(crate) written: u64,
    /// Exchanges left out because the writer did not keep up with a core.
    pub(crate) dropped: u64,
    /// Lines lost by the writer: a log daemon refused them.
    pub(crate) failed: u64,
    /// Times that writing failed; it is tried again.
    pub(crate) errors: u64,
    /// Exchanges left out by `sample`.
    pub(crate) left_out: u64,
    /// What was dropped, by core.
    pub(crate) dropped_per_core: Vec<u64>,
}

/// A number of a log, as collectors get it: its name, its description, where it is.
pub(crate) type Figure = (&'static str, &'static str, fn(&AccessLogStatus) -> u64);

/// Those of each log.
pub(crate) static FIGURES: [Figure; 6] = [
    ("access_log_recorded", "Exchanges handed to the writer of an access log", |log| log.recorded),
    ("access_log_written", "Lines written to an access log", |log| log.written),
    ("access_log_dropped", "Exchanges left out of an access log because its writer did not keep up", |log| {
        log.dropped
    }),
    ("access_log_failed", "Lines of an access log that a log daemon refused", |log| log.failed),
    ("access_log_errors", "Times that writing an access log failed", |log| log.errors),
    ("access_log_left_out", "Exchanges left out of an access log by chance", |log| log.left_out),
];

impl AccessLogStatus {
    pub(crate) fn of(log: &Log) -> Self {
        let sum = |read: fn(&Tray) -> u64| log.trays.iter().map(|tray| read(tray)).sum();
        Self {
            name: log.name.clone(),
            recorded: sum(|tray| tray.recorded.value()),
            written: log.written.load(Ordering::Relaxed),
            dropped: sum(|tray| tray.dropped.value()),
            failed: log.failed.load(Ordering::Relaxed),
            errors: log.errors.load(Ordering::Relaxed),
            left_out: sum(|tray| tray.left_out.value()),
            dropped_per_core: log.trays.iter().map(|tray| tray.dropped.value()).collect(),
        }
    }
}
