//! How far does a long sweep get? `--seeds 10000` plays that many, `--from` says where to begin.
//!
//! Never anything but a sweep: what a seed does is the library's.

use std::process::ExitCode;

use simulation::{Report, Sailed, play_fleet, play_relays, play_renewed, run};

const USAGE: &str = "usage: simulation [--relays|--fleets|--renewals] [--seeds COUNT] [--from SEED]\n\n\
    Plays COUNT scenarios (1000), the first of them SEED (0), on a simulated network. Exits with 1 at the first that\n\
    breaks a law, and says how to see it again.";

fn main() -> ExitCode {
    let (mut count, mut from) = (1_000, 0);
    let mut arguments = std::env::args().skip(1);
    let (mut relays, mut fleets, mut renewals) = (false, false, false);
    while let Some(flag) = arguments.next() {
        if flag == "--relays" {
            relays = true;
            continue;
        }
        if flag == "--fleets" {
            fleets = true;
            continue;
        }
        if flag == "--renewals" {
            renewals = true;
            continue;
        }
        let number = arguments.next().and_then(|value| value.parse().ok());
        match (flag.as_str(), number) {
            ("--seeds", Some(number)) => count = number,
            ("--from", Some(number)) => from = number,
            _ => {
                eprintln!("{USAGE}");
                return ExitCode::from(2);
            }
        }
    }
    if fleets {
        return sail(from..from + count);
    }
    if renewals {
        return renew(from..from + count);
    }
    if relays {
        for seed in from..from + count {
            let relayed = play_relays(seed, count == 1);
            if relayed.broken.is_some() {
                println!("seed {seed}: {relayed}");
                return ExitCode::FAILURE;
            }
        }
        println!("{count} seeds of relays keep every law");
        return ExitCode::SUCCESS;
    }
    let report: Report = run(from..from + count);
    print!("{report}");
    if report.failed.is_some() { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}

fn renew(seeds: std::ops::Range<u64>) -> ExitCode {
    let is_single = seeds.end - seeds.start == 1;
    for seed in seeds.clone() {
        if let Some(broken) = play_renewed(seed, is_single).broken {
            let played = seed - seeds.start + 1;
            println!("{played} seeds in renewals\n\nseed {seed} breaks {broken}");
            broken.last_events.iter().for_each(|event| println!("{event}"));
            println!("\nreplay: cargo run -p corelane-simulation -- --renewals --from {seed} --seeds 1");
            return ExitCode::FAILURE;
        }
    }
    println!("{} seeds of renewals keep every law", seeds.end - seeds.start);
    ExitCode::SUCCESS
}

fn sail(seeds: std::ops::Range<u64>) -> ExitCode {
    let is_single = seeds.end - seeds.start == 1;
    let mut met = Sailed::default();
    for seed in seeds.clone() {
        let sailed = play_fleet(seed, is_single);
        if let Some(broken) = sailed.broken {
            let played = seed - seeds.start + 1;
            println!("{played} seeds in fleets\n\nseed {seed} breaks {broken}");
            println!("\nreplay: cargo run -p corelane-simulation -- --fleets --from {seed} --seeds 1");
            return ExitCode::FAILURE;
        }
        met.merge(&sailed);
    }
    println!("{met}{} seeds of fleets keep every law", seeds.end - seeds.start);
    ExitCode::SUCCESS
}
