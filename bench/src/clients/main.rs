//! What does our load generator take for a request, beside wrk?
//!
//! Arguments in, table out; it never leaves a process behind. Run it as `bench/clients`, which builds what it needs.

mod wrk;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use bench::client::{Client, Load};
use bench::origin::Origin;
use bench::process::{CoreList, WorkDir};
use bench::summary::Summary;
use bench::traffic::Traffic;
use clap::Parser;
use serde_json::{Value, json};

use crate::wrk::Wrk;

/// Where both clients run.
const CLIENT_CORE: CoreList = CoreList("0");
/// Where the origin runs.
const ORIGIN_CORE: CoreList = CoreList("1");
/// Bytes in the body of every response.
const BODY_BYTES: usize = 128;
/// What our load generator is held to: its CPU time per request ÷ that of wrk.
const RATIO_MAX: f64 = 1.00;

/// Measures the CPU time that a client takes for a request: our load generator and wrk share core 0 at the same moment,
/// ask the same origin on core 1, and only their ratio is read.
#[derive(Parser)]
#[command(name = "clients", version)]
struct Arguments {
    /// Connections of each client; several numbers are measured one after the other
    #[arg(long, value_name = "N,…", value_delimiter = ',', default_values_t = [64, 256],
          value_parser = clap::value_parser!(u32).range(1..=10_000))]
    connections: Vec<u32>,
    /// Driver of our load generator; both by default
    #[arg(long, value_name = "NAME", value_delimiter = ',', default_values_t = [Driver::Epoll, Driver::Uring])]
    driver: Vec<Driver>,
    /// Turns of every driver
    #[arg(long, default_value_t = 6, value_parser = clap::value_parser!(u32).range(1..=100))]
    rounds: u32,
    /// Length of one turn in seconds
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u64).range(1..=600))]
    seconds: u64,
    /// Write every round as JSON
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

/// How our load generator talks to the kernel.
#[derive(Clone, Copy, Debug, clap::ValueEnum)]
enum Driver {
    Epoll,
    Uring,
}

impl Driver {
    /// As `loadgen --driver` takes it.
    fn name(self) -> &'static str {
        match self {
            Self::Epoll => "epoll",
            Self::Uring => "uring",
        }
    }
}

impl std::fmt::Display for Driver {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(self.name())
    }
}

fn main() -> ExitCode {
    match run(&Arguments::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("clients: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let cores = std::thread::available_parallelism()?.get();
    ensure!(cores >= 2, "two cores are needed, one for the clients and one for the origin; there is {cores}");
    let own_path = std::env::current_exe()?;
    let binaries = own_path.parent().context("this binary lies in no directory")?;
    let dir = WorkDir::create("clients")?;
    let origin = Origin::start(binaries, &dir.path, ORIGIN_CORE, Traffic::Kept, BODY_BYTES)
        .context("the origin does not run")?;
    let bench = Bench { binaries, dir: &dir.path, origin, duration: Duration::from_secs(arguments.seconds) };

    let mut tables = Vec::new();
    for &connections in &arguments.connections {
        let mut rows: Vec<Row> = arguments.driver.iter().map(|driver| Row::new(*driver)).collect();
        for round in 0..arguments.rounds {
            for row in &mut rows {
                eprintln!("c{connections}: round {} of {}, {}", round + 1, arguments.rounds, row.name());
                // Whoever starts first has the core to itself for a moment: they take turns.
                let pair = bench.measure(connections, row.driver, round % 2 == 1)?;
                row.pairs.push(pair);
            }
        }
        print!("{}", table(connections, &rows));
        tables.push(json!({
            "connections": connections,
            "rows": rows.iter().map(Row::to_json).collect::<Vec<_>>(),
        }));
    }
    if let Some(path) = &arguments.json {
        let report = json!({ "rounds": arguments.rounds, "seconds": arguments.seconds, "tables": tables });
        let text = serde_json::to_string_pretty(&report)?;
        fs::write(path, text + "\n").with_context(|| format!("cannot write {}", path.display()))?;
    }
    Ok(())
}

/// What is common to every round.
struct Bench<'a> {
    /// Directory of `loadgen`.
    binaries: &'a Path,
    /// Directory for logs and reports.
    dir: &'a Path,
    /// What both clients ask.
    origin: Origin,
    /// Length of one turn.
    duration: Duration,
}

impl Bench<'_> {
    /// Lets both clients run at the same moment; the one that is started first is ours unless `swapped`.
    fn measure(&self, connections: u32, driver: Driver, swapped: bool) -> anyhow::Result<Pair> {
        let load = Load {
            body_bytes: BODY_BYTES,
            connections,
            threads: 1,
            duration: self.duration,
            traffic: Traffic::Kept,
            driver: Some(driver.name()),
        };
        let start_ours = || Client::start(self.binaries, self.dir, CLIENT_CORE, self.origin.addr, load);
        let start_wrk = || Wrk::start(self.dir, CLIENT_CORE, self.origin.addr, connections, self.duration);
        let (ours, wrk) = if swapped {
            let wrk = start_wrk()?;
            (start_ours()?, wrk)
        } else {
            let ours = start_ours()?;
            (ours, start_wrk()?)
        };
        let (cpu, report) = ours.finish_with_cpu_time()?;
        ensure!(report.errors == 0, "{} requests of loadgen failed", report.errors);
        let ours = Usage { cpu, requests: report.completed };
        let (cpu, requests) = wrk.finish()?;
        let wrk = Usage { cpu, requests };
        ensure!(ours.requests > 0 && wrk.requests > 0, "no request was answered");
        Ok(Pair { ours, wrk })
    }
}

/// What one client took for how much.
#[derive(Clone, Copy, Debug)]
struct Usage {
    /// CPU time of all its threads, from its start to its end.
    cpu: Duration,
    /// Requests that were answered.
    requests: u64,
}

impl Usage {
    fn us_per_request(self) -> f64 {
        self.cpu.as_secs_f64() * 1e6 / self.requests as f64
    }

    fn to_json(self) -> Value {
        json!({
            "requests": self.requests,
            "cpu_s": self.cpu.as_secs_f64(),
            "cpu_us_per_request": self.us_per_request(),
        })
    }
}

/// One round.
#[derive(Clone, Copy, Debug)]
struct Pair {
    ours: Usage,
    wrk: Usage,
}

impl Pair {
    fn ratio(self) -> f64 {
        self.ours.us_per_request() / self.wrk.us_per_request()
    }
}

/// All rounds of one driver.
struct Row {
    driver: Driver,
    pairs: Vec<Pair>,
}

impl Row {
    fn new(driver: Driver) -> Self {
        Self { driver, pairs: Vec::new() }
    }

    fn name(&self) -> String {
        format!("loadgen-{}", self.driver.name())
    }

    fn ratio(&self) -> Option<Summary> {
        Summary::of(self.pairs.iter().map(|pair| pair.ratio()))
    }

    fn to_json(&self) -> Value {
        let ratio = self.ratio();
        json!({
            "client": self.name(),
            "median": ratio.map(|ratio| ratio.median),
            "min": ratio.map(|ratio| ratio.min),
            "max": ratio.map(|ratio| ratio.max),
            "rounds": self.pairs.iter().map(|pair| json!({
                "ratio": pair.ratio(),
                "loadgen": pair.ours.to_json(),
                "wrk": pair.wrk.to_json(),
            })).collect::<Vec<_>>(),
        })
    }
}

/// The table and the verdicts.
fn table(connections: u32, rows: &[Row]) -> String {
    let line = |cells: [&str; 6]| {
        let [name, ratio, range, cpu, wrk, requests] = cells;
        format!("  {name:<13} {ratio:>7} {range:>11} {cpu:>12} {wrk:>12} {requests:>10}\n")
    };
    let mut text = format!("\nc{connections}: {connections} connections each, {BODY_BYTES} B bodies\n");
    text += &line(["", "÷ wrk", "range", "CPU/request", "that of wrk", "requests"]);
    let mut verdicts = String::new();
    for row in rows {
        let of = |figure: fn(&Pair) -> f64| Summary::of(row.pairs.iter().map(figure));
        let (Some(ratio), Some(ours), Some(wrk)) =
            (row.ratio(), of(|pair| pair.ours.us_per_request()), of(|pair| pair.wrk.us_per_request()))
        else {
            continue;
        };
        let requests: u64 = row.pairs.iter().map(|pair| pair.ours.requests).sum();
        text += &line([
            &row.name(),
            &format!("{:.2}", ratio.median),
            &format!("{:.2}–{:.2}", ratio.min, ratio.max),
            &format!("{:.2} µs", ours.median),
            &format!("{:.2} µs", wrk.median),
            &requests.to_string(),
        ]);
        let verdict = if ratio.median <= RATIO_MAX { "met" } else { "MISSED" };
        verdicts += &format!(
            "  target  {:<13} {:.2} × wrk (at most {RATIO_MAX:.2}): {verdict}\n",
            row.name(),
            ratio.median
        );
    }
    text + &verdicts
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{Driver, Pair, Row, Usage, table};

    /// Rounds in which our client took as many microseconds for a request as `figures` say, and wrk 10.
    fn row(figures: &[u64]) -> Row {
        let usage = |us: u64| Usage { cpu: Duration::from_micros(us * 100), requests: 100 };
        let pairs = figures.iter().map(|us| Pair { ours: usage(*us), wrk: usage(10) }).collect();
        Row { driver: Driver::Epoll, pairs }
    }

    #[test]
    fn a_row_is_the_median_of_ratios_and_their_range() {
        let text = table(64, &[row(&[9, 7, 8])]);
        assert!(
            text.contains("loadgen-epoll    0.80   0.70–0.90      8.00 µs     10.00 µs        300"),
            "{text}"
        );
    }

    #[test]
    fn the_target_is_to_cost_no_more_than_wrk() {
        assert!(table(64, &[row(&[10])]).contains("1.00 × wrk (at most 1.00): met"));
        assert!(table(64, &[row(&[11])]).contains("1.10 × wrk (at most 1.00): MISSED"));
    }
}
