//! What does the gateway take, CPU time per request and memory per idle connection, beside nginx, HAProxy and a relay
//! that parses nothing?
//!
//! Arguments in, table out; it never leaves a process behind. Run it as `bench/peers`, which builds what it needs.

mod certificate;
mod configuration;
mod contender;
mod idle;
mod measure;
mod report;
mod scenario;

use std::fs;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use bench::process::WorkDir;
use clap::{Parser, ValueEnum as _};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use serde_json::json;

use crate::contender::{Contender, ENGINES, PEERS, busier_engines};
use crate::measure::Bench;
use crate::report::Outcome;
use crate::scenario::{Figure, SCENARIOS, Scenario};

/// Measures CPU time per request side by side: candidate and reference share core 0 at the same moment, each under
/// a client of its own on core 1, and only their ratio is read. Memory per idle connection is read from one at a time.
#[derive(Parser)]
#[command(name = "peers", version)]
struct Arguments {
    /// Scenario to run; may be repeated [default: all]
    #[arg(long = "scenario", value_name = "NAME")]
    scenarios: Vec<String>,
    /// Contender to measure; may be repeated [default: both drivers, nginx and haproxy]
    #[arg(long = "candidate", value_name = "NAME")]
    candidates: Vec<Contender>,
    /// What shares the core with each candidate; nginx where clients come over TLS and null was meant
    #[arg(long, value_name = "NAME", default_value = "null")]
    against: Contender,
    /// Turns of every candidate
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=100))]
    rounds: u32,
    /// Length of one turn in seconds
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u64).range(1..=600))]
    seconds: u64,
    /// Connections to open instead of the scenario's own number
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    connections: Option<u32>,
    /// Write every round as JSON
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Name scenarios and contenders, and end
    #[arg(long)]
    list: bool,
    /// One round of one second: shows that the measurement works, says nothing about speed
    #[arg(long, conflicts_with_all = ["scenarios", "candidates", "rounds", "seconds", "connections"])]
    smoke: bool,
}

fn main() -> ExitCode {
    let mut arguments = Arguments::parse();
    if arguments.list {
        print_list();
        return ExitCode::SUCCESS;
    }
    if arguments.smoke {
        arguments.scenarios = vec![SCENARIOS[0].name.to_owned()];
        arguments.candidates = vec![Contender::Null, Contender::EngineEpoll];
        (arguments.rounds, arguments.seconds) = (1, 1);
    }
    match run(&arguments) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("peers: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn print_list() {
    println!("scenarios:");
    for scenario in SCENARIOS {
        println!("  {:<13} {}", scenario.name, scenario.about);
    }
    println!("contenders:");
    for contender in Contender::value_variants() {
        println!("  {:<13} {}", contender.name(), contender.about());
    }
}

/// Runs every scenario that was asked for; returns whether every row counts.
fn run(arguments: &Arguments) -> anyhow::Result<bool> {
    let cores = std::thread::available_parallelism()?.get();
    ensure!(
        cores >= 2,
        "two cores are needed, one for the servers and one for the clients; there is {cores}"
    );
    let mut scenarios = chosen_scenarios(&arguments.scenarios)?;
    for scenario in &mut scenarios {
        scenario.connections = arguments.connections.unwrap_or(scenario.connections);
    }
    raise_descriptor_limit()?;
    let own_path = std::env::current_exe()?;
    let binaries = own_path.parent().context("this binary lies in no directory")?;
    let dir = WorkDir::create("peers")?;
    let bench = Bench {
        binaries,
        dir: &dir.path,
        reference: arguments.against,
        rounds: arguments.rounds,
        duration: Duration::from_secs(arguments.seconds),
    };

    let mut outcomes = Vec::new();
    for scenario in &scenarios {
        let reference = bench.reference_for(scenario);
        if let Some(cause) = reference.cannot_take(scenario.traffic) {
            bail!("{} cannot be the reference of {}: {cause}", reference.name(), scenario.name);
        }
        let (contenders, left_out) = contenders_of(scenario, &arguments.candidates);
        let progress = |round: u32, contender: Contender| {
            eprintln!("{}: round {} of {}, {}", scenario.name, round + 1, arguments.rounds, contender.name());
        };
        let rows = bench.run(scenario, &contenders, &progress)?;
        let outcome = Outcome { scenario, reference, rows, left_out };
        print!("{}", outcome.to_text());
        outcomes.push(outcome);
    }
    if let Some(path) = &arguments.json {
        let report = json!({
            "rounds": arguments.rounds,
            "seconds": arguments.seconds,
            "scenarios": outcomes.iter().map(Outcome::to_json).collect::<Vec<_>>(),
        });
        let text = serde_json::to_string_pretty(&report)?;
        fs::write(path, text + "\n").with_context(|| format!("cannot write {}", path.display()))?;
    }
    Ok(outcomes.iter().all(Outcome::is_complete))
}

/// A connection is a descriptor here, and two in a contender, which inherits the limit.
fn raise_descriptor_limit() -> anyhow::Result<()> {
    let limit = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit })
        .context("cannot raise the limit of open files")
}

fn chosen_scenarios(names: &[String]) -> anyhow::Result<Vec<Scenario>> {
    if names.is_empty() {
        return Ok(SCENARIOS.to_vec());
    }
    let find = |name: &String| match SCENARIOS.iter().find(|scenario| scenario.name == name) {
        Some(scenario) => Ok(scenario.clone()),
        None => bail!("no scenario {name:?}; --list names them"),
    };
    names.iter().map(find).collect()
}

/// Those asked for, as far as the scenario is about them, and those that cannot take part, with the cause.
fn contenders_of(
    scenario: &Scenario,
    asked: &[Contender],
) -> (Vec<Contender>, Vec<(Contender, &'static str)>) {
    let mut contenders = asked.to_vec();
    if contenders.is_empty() {
        // What something costs is seen by our gateway beside itself.
        let others = busier_engines(scenario.traffic).unwrap_or(PEERS);
        contenders.extend(ENGINES.iter().chain(&others));
        if scenario.figure == Figure::SoloLatency {
            contenders.insert(0, Contender::Null);
        }
    }
    if scenario.figure == Figure::Scaling {
        contenders.retain(|contender| ENGINES.contains(contender));
    }
    let cause = |contender: &Contender| contender.cannot_take(scenario.traffic);
    let left_out = contenders.iter().filter_map(|contender| Some((*contender, cause(contender)?))).collect();
    contenders.retain(|contender| cause(contender).is_none());
    (contenders, left_out)
}
