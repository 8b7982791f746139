//! What did wrk see?
//!
//! It runs `wrk` and reads what it prints; a run with an error is no run.

use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, bail};
use bench::process::{Child, CoreList};

/// What a run may take beyond its duration: connecting, and waiting for its last answers.
const GRACE: Duration = Duration::from_secs(15);

/// A run of wrk.
pub(crate) struct Wrk {
    child: Child,
    duration: Duration,
}

impl Wrk {
    /// Starts a closed loop of one thread against `target`, for whole seconds.
    pub(crate) fn start(
        dir: &Path,
        cores: CoreList,
        target: SocketAddr,
        connections: u32,
        duration: Duration,
    ) -> anyhow::Result<Self> {
        let command = [
            "wrk".to_owned(),
            "-t1".to_owned(),
            format!("-c{connections}"),
            format!("-d{}s", duration.as_secs()),
            format!("http://{target}/"),
        ];
        let child = Child::start("wrk", cores, dir, &command)?;
        Ok(Self { child, duration })
    }

    /// Waits for the end of the run; returns its CPU time and the requests that were answered.
    pub(crate) fn finish(mut self) -> anyhow::Result<(Duration, u64)> {
        let cpu = self.child.cpu_time_when_done(self.duration + GRACE)?;
        Ok((cpu, parse_output(&self.child.output()?)?))
    }
}

/// Requests that were answered, all of them rightly.
fn parse_output(text: &str) -> anyhow::Result<u64> {
    let find = |wanted: &str| text.lines().find(|line| line.contains(wanted));
    if let Some(complaint) = find("Socket errors:").or(find("Non-2xx")) {
        bail!("wrk: {}", complaint.trim());
    }
    let line = find(" requests in ").with_context(|| format!("wrk counts no requests: {text:?}"))?;
    let count = line.split_whitespace().next().and_then(|word| word.parse().ok());
    count.with_context(|| format!("no number of requests in {line:?}"))
}

#[cfg(test)]
mod tests {
    use super::parse_output;

    const GOOD: &str = "Running 1s test @ http://127.0.0.1:18081/
  1 threads and 64 connections
  Thread Stats   Avg      Stdev     Max   +/- Stdev
    Latency     1.10ms  220.00us   5.00ms   90.00%
    Req/Sec    37.00k     1.00k   39.00k    70.00%
  37151 requests in 1.05s, 6.87MB read
Requests/sec:  36000.00
Transfer/sec:      6.00MB
";

    #[test]
    fn reads_what_wrk_prints() {
        assert_eq!(parse_output(GOOD).unwrap(), 37_151);
    }

    #[test]
    fn refuses_a_run_with_errors() {
        for complaint in
            ["  Socket errors: connect 0, read 3, write 0, timeout 0", "  Non-2xx or 3xx responses: 7"]
        {
            let text = GOOD.replace("Requests/sec:", &format!("{complaint}\nRequests/sec:"));
            let error = parse_output(&text).unwrap_err().to_string();
            assert_eq!(error, format!("wrk: {}", complaint.trim()));
        }
    }

    #[test]
    fn refuses_output_without_a_count() {
        assert!(parse_output("unable to connect").unwrap_err().to_string().contains("unable to connect"));
    }
}
