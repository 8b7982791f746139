//! What has a core met at an endpoint that control has to know? Failures in a row, told once there are enough of them.
//!
//! Never told of each: a core counts, and speaks up when a row begins or is long enough.

use std::fmt;
use std::io;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use config::snapshot::{EndpointId, Upstream};
use crossbeam_queue::ArrayQueue;

/// Reports that wait for control. Beyond them one is dropped: a row that goes on is told of again.
pub(super) const REPORTS_MAX: usize = 1024;

/// What went wrong with a connection or an exchange through the endpoint's own fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    /// No connection.
    Connect(io::ErrorKind),
    /// No agreement on TLS.
    Handshake,
    /// The connection ended or broke before the head of an answer.
    Broken,
    /// No answer in time.
    Late,
    /// What came was no answer.
    Malformed,
    /// An answer whose status counts as a failure.
    Status(u16),
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Connect(io::ErrorKind::TimedOut) => f.write_str("no connection in time"),
            Self::Connect(kind) => kind.fmt(f),
            Self::Handshake => f.write_str("TLS handshake failed"),
            Self::Broken => f.write_str("connection broken before an answer"),
            Self::Late => f.write_str("no answer in time"),
            Self::Malformed => f.write_str("malformed answer"),
            Self::Status(status) => write!(f, "status {status}"),
        }
    }
}

/// What a core tells control of an endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Report {
    /// Its slot.
    pub endpoint: EndpointId,
    /// Number of the slot's occupant.
    pub generation: u32,
    /// How often it failed in a row, over all cores.
    pub failures: u32,
    /// How it failed last.
    pub failure: Failure,
}

/// Failures in a row of one slot, over all cores.
#[derive(Debug, Default)]
pub(super) struct Row {
    failures: AtomicU32,
}

/// When a row is told of.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct RowTerms {
    /// Each time that so many have come; 0 for never.
    every: u32,
    /// At its first, because a probe can find out more.
    is_begin_told: bool,
}

impl RowTerms {
    pub(super) fn of(upstream: &Upstream) -> Self {
        let every = upstream.ejection.as_ref().map_or(0, |ejection| ejection.terms.failures);
        Self { every, is_begin_told: upstream.health.is_some() }
    }
}

impl Row {
    /// Counts a failure; says how many there are if that is to be told.
    pub(super) fn lengthen(&self, terms: RowTerms) -> Option<u32> {
        let RowTerms { every, is_begin_told } = terms;
        if every == 0 && !is_begin_told {
            return None;
        }
        let failures = self.failures.fetch_add(1, Ordering::Relaxed).wrapping_add(1);
        let is_told = failures == 1 && is_begin_told || every != 0 && failures.is_multiple_of(every);
        is_told.then_some(failures)
    }

    /// Ends the row, if there is one.
    #[inline]
    pub(super) fn end(&self) {
        // Written only when there is something to write, or every core would wait for the line at every answer.
        if self.failures.load(Ordering::Relaxed) != 0 {
            self.failures.store(0, Ordering::Relaxed);
        }
    }
}

/// Reports of all cores.
pub(super) struct Reports {
    queue: ArrayQueue<Report>,
    bell: OnceLock<Box<dyn Fn() + Send + Sync>>,
    /// Rung, and control has not looked since.
    is_rung: AtomicBool,
}

impl Reports {
    pub(super) fn new() -> Self {
        Self { queue: ArrayQueue::new(REPORTS_MAX), bell: OnceLock::new(), is_rung: AtomicBool::new(false) }
    }

    pub(super) fn on_report(&self, bell: Box<dyn Fn() + Send + Sync>) {
        // The first stays: there is one control.
        let _ = self.bell.set(bell);
    }

    #[cold]
    pub(super) fn push(&self, report: Report) {
        let _ = self.queue.push(report);
        if !self.is_rung.swap(true, Ordering::AcqRel)
            && let Some(bell) = self.bell.get()
        {
            bell();
        }
    }

    /// The next one. Once there is none, the next report rings again.
    pub(super) fn pop(&self) -> Option<Report> {
        self.queue.pop().or_else(|| {
            self.is_rung.store(false, Ordering::Release);
            // One that came just before has not rung.
            self.queue.pop()
        })
    }
}

impl fmt::Debug for Reports {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reports").field("waiting", &self.queue.len()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    fn row(every: u32, is_begin_told: bool) -> (Row, RowTerms) {
        (Row::default(), RowTerms { every, is_begin_told })
    }

    #[track_caller]
    fn check((row, terms): &(Row, RowTerms), failures: u32, expected: &[u32]) {
        let told: Vec<u32> = (0..failures).filter_map(|_| row.lengthen(*terms)).collect();
        assert_eq!(told, expected);
    }

    #[test]
    fn a_row_is_told_of_when_it_is_long_enough_and_again_as_it_goes_on() {
        check(&row(3, false), 7, &[3, 6]);
        check(&row(1, false), 3, &[1, 2, 3]);
        check(&row(3, true), 7, &[1, 3, 6]);
        check(&row(0, true), 7, &[1]);
        check(&row(0, false), 7, &[]);
    }

    #[test]
    fn a_success_ends_a_row() {
        let row = row(3, true);
        check(&row, 2, &[1]);
        row.0.end();
        check(&row, 3, &[1, 3]);
    }

    #[test]
    fn the_bell_rings_once_until_all_is_read() {
        let reports = Reports::new();
        let rung = Arc::new(AtomicU32::new(0));
        let bell = Arc::clone(&rung);
        reports.on_report(Box::new(move || {
            bell.fetch_add(1, Ordering::Relaxed);
        }));
        let report = Report { endpoint: EndpointId(0), generation: 2, failures: 3, failure: Failure::Late };
        for (before, expected) in [(2, 1), (1, 2)] {
            (0..before).for_each(|_| reports.push(report));
            assert_eq!(rung.load(Ordering::Relaxed), expected);
            assert_eq!(std::iter::from_fn(|| reports.pop()).count(), before);
        }
        (0..REPORTS_MAX + 1).for_each(|_| reports.push(report));
        assert_eq!(std::iter::from_fn(|| reports.pop()).count(), REPORTS_MAX, "bounded");
    }
}
