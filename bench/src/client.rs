//! What did the client see?
//!
//! It runs `loadgen` and reads its JSON report, or `tcp_load` and reads what it prints; it never measures anything itself.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::process::{Child, CoreList};
use crate::traffic::{Traffic, cookies_of};
use anyhow::Context as _;
use serde_json::{Value, json};

/// What a run may take beyond its duration: connecting, draining, writing the report.
const GRACE: Duration = Duration::from_secs(15);

/// Endpoints behind those who are asked by [`Traffic::Sessions`].
pub const ENDPOINTS: usize = 4;

/// Requests of one turn when each has a connection of its own: fewer than the ports that Linux has for connections to
/// one address (28,232 by default), each of which may be taken for a second after its connection (`tcp_tw_reuse`).
const CHURN_REQUESTS_MAX: u32 = 20_000;

/// A load that is running.
pub struct Client {
    child: Child,
    traffic: Traffic,
    report: PathBuf,
    duration: Duration,
}

/// What one client saw.
#[derive(Clone, Copy, Debug)]
pub struct Report {
    /// Requests answered in full, or what else is [counted](Traffic::units).
    pub completed: u64,
    /// Requests that failed, and requests never answered. Where none is counted, the first ends the run.
    pub errors: u64,
    /// How long answers took; of HTTP requests only.
    pub latency: Option<Latency>,
}

/// Two percentiles.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Latency {
    /// At the median, in nanoseconds.
    pub p50_ns: u64,
    /// At the 99th percentile, in nanoseconds.
    pub p99_ns: u64,
}

/// What load to put on, for how long.
#[derive(Clone, Copy, Debug)]
pub struct Load {
    /// What goes over the connections.
    pub traffic: Traffic,
    /// Bytes in the body of every answer.
    pub body_bytes: usize,
    /// Connections kept open, one request at a time on each.
    pub connections: u32,
    /// Threads of the client.
    pub threads: u32,
    /// Length of the run.
    pub duration: Duration,
    /// `--driver` of an HTTP client; `None` leaves it to the client.
    pub driver: Option<&'static str>,
}

impl Client {
    /// Starts a closed loop against `target`.
    ///
    /// # Errors
    /// When it cannot be started.
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
        let mut command = load.command(binaries, target, &report);
        if load.traffic == Traffic::Sessions {
            let requests = dir.join(format!("requests-{}.jsonl", target.port()));
            let cookies = cookies_of(target, load.body_bytes, ENDPOINTS)?;
            fs::write(&requests, session_requests(&cookies)).context("cannot write the requests")?;
            command.extend(["--requests-file".to_owned(), requests.display().to_string()]);
        }
        let child = Child::start(&format!("client-{}", target.port()), cores, dir, &command)?;
        Ok(Self { child, traffic: load.traffic, report, duration: load.duration })
    }

    /// Waits for the end of the run and reads its report.
    ///
    /// # Errors
    /// When the run fails, takes too long, or leaves no report.
    pub fn finish(mut self) -> anyhow::Result<Report> {
        self.child.wait_until_done(self.duration + GRACE)?;
        self.read_report()
    }

    /// [`Self::finish`], with the CPU time that the client itself has used.
    ///
    /// # Errors
    /// As [`Self::finish`].
    pub fn finish_with_cpu_time(mut self) -> anyhow::Result<(Duration, Report)> {
        let cpu = self.child.cpu_time_when_done(self.duration + GRACE)?;
        Ok((cpu, self.read_report()?))
    }

    fn read_report(&self) -> anyhow::Result<Report> {
        if !self.traffic.is_http() {
            return parse_count(&self.child.output()?);
        }
        let text = fs::read_to_string(&self.report).context("the load generator wrote no report")?;
        parse_report(&text).with_context(|| format!("unexpected report {text}"))
    }
}

impl Load {
    fn command(&self, binaries: &Path, target: SocketAddr, report: &Path) -> Vec<String> {
        let milliseconds = self.duration.as_millis();
        let connections = self.connections.to_string();
        let tcp = |job: &str| {
            let program = binaries.join("tcp_load").display().to_string();
            vec![program, job.to_owned(), target.to_string(), connections.clone(), milliseconds.to_string()]
        };
        match self.traffic {
            Traffic::PingPong => return tcp("ping"),
            Traffic::Bulk => return tcp("drain"),
            Traffic::Kept
            | Traffic::Sessions
            | Traffic::Logged
            | Traffic::Churn
            | Traffic::PrivateKept
            | Traffic::PrivateFull
            | Traffic::PrivateResumed => {}
        }
        let mut command = vec![
            binaries.join("loadgen").display().to_string(),
            format!("{}://{target}/", if self.traffic.is_private() { "https" } else { "http" }),
            "-c".to_owned(),
            connections,
            "-t".to_owned(),
            self.threads.to_string(),
            "-d".to_owned(),
            format!("{milliseconds}ms"),
            "--json".to_owned(),
            report.display().to_string(),
        ];
        if let Some(driver) = self.driver {
            command.extend(["--driver".to_owned(), driver.to_owned()]);
        }
        if self.traffic.is_private() {
            // What OpenSSL 3.0 has, too: the contenders are to do the same work.
            command.extend(["--insecure", "--tls", "1.3", "--no-post-quantum"].map(str::to_owned));
        }
        if self.traffic == Traffic::PrivateFull {
            command.push("--no-resumption".to_owned());
        }
        if self.traffic.is_churn() {
            command.extend(["--no-keepalive".to_owned(), "-n".to_owned(), CHURN_REQUESTS_MAX.to_string()]);
        }
        command
    }
}

/// Each session is asked ten times, the first time without its cookie.
fn session_requests(cookies: &[String]) -> String {
    let line = |cookie: &String| json!({ "weight": 9, "headers": { "Cookie": cookie } }).to_string() + "\n";
    let begun: String = cookies.iter().map(line).collect();
    let new = json!({ "weight": cookies.len() }).to_string() + "\n";
    begun + &new
}

fn parse_report(text: &str) -> anyhow::Result<Report> {
    let report: Value = serde_json::from_str(text)?;
    let number = |pointer: &str| {
        report.pointer(pointer).and_then(Value::as_u64).with_context(|| format!("no number at {pointer}"))
    };
    Ok(Report {
        completed: number("/requests/completed")?,
        errors: number("/errors/total")? + number("/requests/unanswered")?,
        latency: Some(Latency { p50_ns: number("/latency_ns/p50")?, p99_ns: number("/latency_ns/p99")? }),
    })
}

/// Reads `completed N`.
fn parse_count(text: &str) -> anyhow::Result<Report> {
    let count = text.trim().strip_prefix("completed ").and_then(|count| count.parse().ok());
    let completed = count.with_context(|| format!("unexpected output {text:?}"))?;
    Ok(Report { completed, errors: 0, latency: None })
}

#[cfg(test)]
mod tests {
    use super::{Latency, parse_count, parse_report};

    const GOOD: &str = r#"{"requests":{"sent":12,"completed":10,"unanswered":2},"errors":{"total":1},
        "latency_ns":{"p50":5,"p90":6,"p99":7,"max":8},"duration_s":3.0}"#;

    #[test]
    fn reads_what_the_load_generator_writes() {
        let report = parse_report(GOOD).unwrap();
        assert_eq!(report.completed, 10);
        assert_eq!(report.latency, Some(Latency { p50_ns: 5, p99_ns: 7 }));
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

    #[test]
    fn reads_the_count_of_a_tcp_load() {
        assert_eq!(parse_count("completed 17\n").unwrap().completed, 17);
        assert!(parse_count("tcp_load: reset\n").unwrap_err().to_string().contains("reset"));
    }
}
