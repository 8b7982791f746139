//! What did the load generator see?
//!
//! It runs `loadgen` and reads its JSON report; it never measures anything itself.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::process::{Child, CoreList};
use anyhow::Context as _;
use serde_json::Value;

/// What a run may take beyond its duration: connecting, draining, writing the report.
const GRACE: Duration = Duration::from_secs(15);

/// A load that is running.
pub struct Client {
    child: Child,
    report: PathBuf,
    duration: Duration,
}

/// What one client saw.
#[derive(Clone, Copy, Debug)]
pub struct Report {
    /// Requests answered in full.
    pub completed: u64,
    /// Requests that failed, and requests never answered.
    pub errors: u64,
    /// Latency at the median, in nanoseconds.
    pub latency_p50_ns: u64,
    /// Latency at the 99th percentile, in nanoseconds.
    pub latency_p99_ns: u64,
}

/// What load to put on, for how long.
#[derive(Clone, Copy, Debug)]
pub struct Load {
    /// Connections kept open, one request at a time on each.
    pub connections: u32,
    /// Threads of the client.
    pub threads: u32,
    /// Length of the run.
    pub duration: Duration,
}

impl Client {
    /// Starts a closed loop against `target`.
    pub fn start(
        binaries: &Path,
        dir: &Path,
        cores: CoreList,
        target: SocketAddr,
        load: Load,
    ) -> anyhow::Result<Self> {
        let report = dir.join(format!("client-{}.json", target.port()));
        // A report left by an earlier run must not be taken for this one's.
        let _ = fs::remove_file(&report);
        let command = [
            binaries.join("loadgen").display().to_string(),
            format!("http://{target}/"),
            "-c".to_owned(),
            load.connections.to_string(),
            "-t".to_owned(),
            load.threads.to_string(),
            "-d".to_owned(),
            format!("{}ms", load.duration.as_millis()),
            "--json".to_owned(),
            report.display().to_string(),
        ];
        let child = Child::start(&format!("client-{}", target.port()), cores, dir, &command)?;
        Ok(Self { child, report, duration: load.duration })
    }

    /// Waits for the end of the run and reads its report.
    pub fn finish(mut self) -> anyhow::Result<Report> {
        self.child.wait_until_done(self.duration + GRACE)?;
        let text = fs::read_to_string(&self.report).context("the load generator wrote no report")?;
        parse_report(&text).with_context(|| format!("unexpected report {text}"))
    }
}

fn parse_report(text: &str) -> anyhow::Result<Report> {
    let report: Value = serde_json::from_str(text)?;
    let number = |pointer: &str| {
        report.pointer(pointer).and_then(Value::as_u64).with_context(|| format!("no number at {pointer}"))
    };
    Ok(Report {
        completed: number("/requests/completed")?,
        errors: number("/errors/total")? + number("/requests/unanswered")?,
        latency_p50_ns: number("/latency_ns/p50")?,
        latency_p99_ns: number("/latency_ns/p99")?,
    })
}

#[cfg(test)]
mod tests {
    use super::parse_report;

    const GOOD: &str = r#"{"requests":{"sent":12,"completed":10,"unanswered":2},"errors":{"total":1},
        "latency_ns":{"p50":5,"p90":6,"p99":7,"max":8},"duration_s":3.0}"#;

    #[test]
    fn reads_what_the_load_generator_writes() {
        let report = parse_report(GOOD).unwrap();
        assert_eq!((report.completed, report.latency_p50_ns, report.latency_p99_ns), (10, 5, 7));
    }

    #[test]
    fn counts_unanswered_requests_as_errors() {
        assert_eq!(parse_report(GOOD).unwrap().errors, 3);
    }

    #[test]
    fn refuses_a_report_without_an_error_count() {
        let error = parse_report(&GOOD.replace("errors", "mistakes")).unwrap_err();
        assert_eq!(error.to_string(), "no number at /errors/total");
    }
}
