//! How does the gateway grow with cores? Starts it with each count in turn, puts load on it, and says what limits it.
//!
//! Never promises a throughput that this machine cannot show, and never leaves anything running.

mod child;
mod usl;
mod verdict;

use std::fs::File;
use std::io::Write;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use runtime::cores::CoreCount;
use serde_json::Value;

pub(crate) use self::child::tether;

use self::child::{Child, Interrupted};
use self::verdict::{Report, Round, Setup};
use crate::cli::ScaleArgs;
use crate::threads::stop_on_signals;

/// What a shell reports for a process ended by SIGINT.
const EXIT_INTERRUPTED: u8 = 130;
/// A fresh process first touches its memory and opens its connections: that much of the load is not measured.
const WARM_UP: &str = "300ms";
/// What a client may take beyond its time of sending: starting, waiting for the last answers, reporting.
const CLIENT_EXTRA_MAX: Duration = Duration::from_secs(15);
/// With fewer the hash by which the kernel deals connections to cores leaves some cores idle.
const CONNECTIONS_PER_CORE: u32 = 16;
/// At least so many, as in `bench/peers`.
const CONNECTIONS_MIN: u32 = 64;

/// Measures, reports, and says what it means.
///
/// # Errors
/// Something could not be started, or a request failed: a measurement with errors is none.
pub(crate) fn run(args: &ScaleArgs) -> Result<ExitCode> {
    let engine = find_engine(args.engine.as_deref())?;
    let json = args.json.as_deref().map(create).transpose()?;
    let stop = stop_on_signals()?;
    let cpus: Vec<usize> = CoreCount::Auto.placement().iter().map(|cpu| cpu.id).collect();
    let stand = Stand::plan(args, &engine, &cpus)?;
    let rounds = match stand.measure(args, &stop) {
        Err(error) if error.is::<Interrupted>() => {
            eprintln!("loadgen: interrupted; everything that was started has ended");
            return Ok(ExitCode::from(EXIT_INTERRUPTED));
        }
        rounds => rounds?,
    };
    let report = Report::new(stand.setup, rounds);
    print!("{report}");
    if let Some(mut file) = json {
        let text = serde_json::to_string_pretty(&report).context("cannot write the report")?;
        writeln!(file, "{text}").context("cannot write the report")?;
    }
    Ok(ExitCode::SUCCESS)
}

fn create(path: &Path) -> Result<File> {
    File::create(path).with_context(|| format!("cannot write {}", path.display()))
}

/// The engine's program: the one asked for, or the one beside this program.
fn find_engine(asked: Option<&Path>) -> Result<PathBuf> {
    let path = match asked {
        Some(path) => path.to_owned(),
        None => {
            std::env::current_exe().context("cannot find this program's own file")?.with_file_name("engine")
        }
    };
    if !path.is_file() {
        let hint = "build it (cargo build --release -p corelane-engine) or name it with --engine PATH";
        bail!("there is no engine at {}: {hint}", path.display());
    }
    Ok(path)
}

/// Who runs where.
struct Stand {
    setup: Setup,
    /// CPUs of the origin alone; none when it has to share.
    origin_cpus: Vec<usize>,
    /// CPUs of the client alone; none when it has to share.
    client_cpus: Vec<usize>,
}

impl Stand {
    /// Gives client and origin the CPUs that the engine never uses, if there is one for each.
    fn plan(args: &ScaleArgs, engine: &Path, cpus: &[usize]) -> Result<Self> {
        let cores_max = args.cores.max();
        let connections = args.connections.unwrap_or((cores_max * CONNECTIONS_PER_CORE).max(CONNECTIONS_MIN));
        ensure!(
            connections >= cores_max,
            "{connections} connections leave some of {cores_max} cores without one: use -c {} or more",
            cores_max * CONNECTIONS_PER_CORE
        );
        // The engine takes the first ones.
        let spare = cpus.get(cores_max as usize..).unwrap_or_default();
        let (origin_cpus, client_cpus) = match spare.len() {
            0 | 1 => Default::default(),
            count => spare.split_at(count / 2),
        };
        let setup = Setup {
            engine: engine.display().to_string(),
            is_debug: cfg!(debug_assertions),
            cpus: cpus.len(),
            client_threads: client_cpus.len().max(1),
            origin_threads: origin_cpus.len().max(1),
            connections,
            rounds: args.rounds,
            seconds: args.seconds,
        };
        Ok(Self { setup, origin_cpus: origin_cpus.to_vec(), client_cpus: client_cpus.to_vec() })
    }

    /// All rounds, each with every core count once, and each beginning with another one.
    fn measure(&self, args: &ScaleArgs, stop: &Arc<AtomicBool>) -> Result<Vec<Round>> {
        let counts = args.cores.counts();
        let mut rounds = Vec::with_capacity(counts.len() * args.rounds as usize);
        for round in 0..args.rounds as usize {
            for turn in 0..counts.len() {
                let cores = counts[(round + turn) % counts.len()];
                let measured = self.measure_once(round, cores, stop);
                let measured = measured.with_context(|| format!("round {}, {cores} cores", round + 1))?;
                eprintln!("round {} of {}: {}", round + 1, args.rounds, measured.line());
                rounds.push(measured);
            }
        }
        Ok(rounds)
    }

    fn measure_once(&self, round: usize, cores: u32, stop: &Arc<AtomicBool>) -> Result<Round> {
        let own = std::env::current_exe().context("cannot find this program's own file")?;
        let threads = self.setup.origin_threads.to_string();
        let origin_args = words(&["origin", "--listen", "127.0.0.1:0", "--threads", &threads]);
        let mut origin = Child::start("origin", &own, &origin_args, &self.origin_cpus, stop)?;
        let origin_address = origin.wait_for_line(|line| address_in(line, "origin listening on http://"))?;
        // The quick reverse proxy: its configuration is in the engine, nothing is left behind on the disk.
        let (cores_text, to) = (cores.to_string(), origin_address.to_string());
        let listen = ["--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0", "--to", &to];
        let engine_args = words(&[&["--cores", &cores_text, "--log-level", "warn"], &listen[..]].concat());
        let mut engine = Child::start("engine", Path::new(&self.setup.engine), &engine_args, &[], stop)?;
        let address = engine.wait_for_line(listener_in)?;
        self.put_load(&own, address, WARM_UP, stop)?;
        let (engine_before, origin_before) = (engine.cpu_time()?, origin.cpu_time()?);
        let summary = self.put_load(&own, address, &format!("{}s", self.setup.seconds), stop)?;
        let engine_cpu = engine.cpu_time()? - engine_before;
        let origin_cpu = origin.cpu_time()? - origin_before;
        Round::new(round, cores, &summary, engine_cpu, origin_cpu)
    }

    /// One run of the client; its summary.
    fn put_load(
        &self,
        own: &Path,
        address: SocketAddr,
        duration: &str,
        stop: &Arc<AtomicBool>,
    ) -> Result<Value> {
        let (threads, connections) =
            (self.setup.client_threads.to_string(), self.setup.connections.to_string());
        let url = format!("http://{address}/");
        // The summary comes through the pipe like everything else it says.
        let load = [&url, "-t", &threads, "-c", &connections, "-d", duration, "--json", "/dev/stdout"];
        let mut client = Child::start("client", own, &words(&load), &self.client_cpus, stop)?;
        let limit = Duration::from_secs(self.setup.seconds.into()) + CLIENT_EXTRA_MAX;
        let (status, said) = client.wait_until_done(limit)?;
        ensure!(
            status.success(),
            "not every request was answered rightly, which no figure can make good ({status}):\n    {}",
            said.join("\n    ")
        );
        summary_in(&said).with_context(|| format!("the client gave no summary:\n    {}", said.join("\n    ")))
    }
}

fn words(words: &[&str]) -> Vec<String> {
    words.iter().map(|word| (*word).to_owned()).collect()
}

/// The address behind `label`.
fn address_in(line: &str, label: &str) -> Option<SocketAddr> {
    line.split_once(label)?.1.split_whitespace().next()?.parse().ok()
}

/// The address in the engine's line `listener NAME http://ADDRESS (2 cores)`.
fn listener_in(line: &str) -> Option<SocketAddr> {
    line.starts_with("listener ").then(|| address_in(line, " http://")).flatten()
}

/// The JSON object that stands at the beginning of a line, among other output.
fn summary_in(said: &[String]) -> Option<Value> {
    let begin = said.iter().position(|line| line == "{")?;
    let end = begin + said[begin..].iter().position(|line| line == "}")?;
    serde_json::from_str(&said[begin..=end].join("\n")).ok()
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::cli::{Cli, Command};

    fn plan(line: &str, cpus: usize) -> Result<Stand> {
        let cli = Cli::try_parse_from(format!("loadgen scale {line}").split(' ')).expect("arguments");
        let Some(Command::Scale(args)) = cli.command else { panic!("not scale: {line}") };
        Stand::plan(&args, Path::new("engine"), &(0..cpus).collect::<Vec<_>>())
    }

    #[test]
    fn client_and_origin_have_cpus_of_their_own_where_there_are_enough() {
        let stand = plan("--cores 1,4", 9).expect("a plan");
        assert_eq!((stand.origin_cpus, stand.client_cpus), (vec![4, 5], vec![6, 7, 8]));
        assert_eq!((stand.setup.origin_threads, stand.setup.client_threads), (2, 3));
        assert!(!stand.setup.shares_cpus(4));
        for (cores, cpus) in [("1,2", 2), ("1,2", 3), ("1,8", 2)] {
            let stand = plan(&format!("--cores {cores}"), cpus).expect("a plan");
            assert!(stand.origin_cpus.is_empty() && stand.client_cpus.is_empty());
            assert!(stand.setup.shares_cpus(2), "{cores} on {cpus}");
        }
    }

    #[test]
    fn every_core_gets_connections() {
        assert_eq!(plan("--cores 1,2", 2).expect("a plan").setup.connections, 64);
        assert_eq!(plan("--cores 1,8", 2).expect("a plan").setup.connections, 128);
        assert_eq!(plan("--cores 1,8 -c 8", 2).expect("a plan").setup.connections, 8);
        let error = plan("--cores 1,8 -c 7", 2).err().expect("too few").to_string();
        assert!(error.contains("use -c 128 or more"), "{error}");
    }

    #[test]
    fn addresses_and_summaries_are_found_among_other_lines() {
        let listener = "listener web     http://127.0.0.1:41391 (8 cores)";
        assert_eq!(listener_in(listener), "127.0.0.1:41391".parse().ok());
        assert_eq!(listener_in("admin            http://127.0.0.1:32773"), None);
        let said = words(&["p99 1 ms {", "{", "  \"a\": {", "    \"b\": 1", "  }", "}", "bye"]);
        assert_eq!(summary_in(&said).expect("a summary")["a"]["b"], 1);
        assert!(summary_in(&said[..3]).is_none());
    }

    #[test]
    fn a_missing_engine_is_named_with_the_way_to_get_one() {
        let error = find_engine(Some(Path::new("/nowhere/engine"))).expect_err("nothing there").to_string();
        assert!(error.contains("/nowhere/engine") && error.contains("--engine"), "{error}");
    }
}
