//! Does anything that an operator does cost one request? The gateway is operated under load, and everything that was asked of it accounted for.
//!
//! Arguments in, tables out; it never leaves a process behind. What is done and what came out: docs/reload-runs.md.

mod drain;
mod gateway;
mod lasting;
mod load;
mod plan;
mod reloads;
mod source;
mod upgrades;

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context as _;
use bench::process::WorkDir;
use clap::{Args, Parser, Subcommand, ValueEnum};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Operates a gateway under load, and counts what failed. Exit code: 0 when nothing did.
#[derive(Parser)]
#[command(name = "operations", version)]
struct Arguments {
    #[command(subcommand)]
    what: What,
}

#[derive(Subcommand)]
enum What {
    /// Another configuration, again and again
    Reload(Terms),
    /// Another program in the place of the one that runs, again and again
    Upgrade(Terms),
    /// The end, by SIGTERM, within several deadlines
    Drain(Terms),
}

/// How much, and how long.
#[derive(Args, Clone, Debug)]
pub(crate) struct Terms {
    /// Driver of the gateway; may be repeated [default: both]
    #[arg(long = "driver", value_enum, value_name = "NAME")]
    drivers: Vec<Driver>,
    /// How often it is done
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    times: u32,
    /// Requests per second over kept connections; other kinds come in proportion
    #[arg(long, default_value_t = 2_000, value_parser = clap::value_parser!(u32).range(20..=100_000))]
    rate: u32,
    /// Shortest and longest pause between two, in milliseconds
    #[arg(long, num_args = 2, value_names = ["FROM", "TO"], default_values_t = [300, 1_500])]
    pause: Vec<u64>,
    /// Seconds of the same load before, undisturbed. Statistics keep a minute's histograms: memory grows as long
    #[arg(long, default_value_t = 75)]
    calm: u64,
    /// Seconds that a download and an upload take
    #[arg(long, default_value_t = 6)]
    lasting: u64,
    /// Start of the random numbers that settle the pauses
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Few, and quickly: shows that nothing is lost, says nothing of memory
    #[arg(long)]
    smoke: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Driver {
    Epoll,
    Uring,
}

impl Driver {
    const fn name(self) -> &'static str {
        match self {
            Self::Epoll => "epoll",
            Self::Uring => "uring",
        }
    }
}

impl Terms {
    fn settled(mut self) -> Self {
        if self.smoke {
            (self.times, self.rate, self.calm, self.lasting) = (self.times.min(10), 200, 1, 2);
            self.pause = vec![100, 400];
        }
        if self.drivers.is_empty() {
            self.drivers = vec![Driver::Epoll, Driver::Uring];
        }
        self.pause.sort_unstable();
        self
    }

    /// When each is due from the beginning on.
    pub(crate) fn due(&self) -> Vec<Duration> {
        let (from, to) = (self.pause[0], self.pause[1]);
        let mut state = self.seed;
        let mut at = Duration::ZERO;
        let pauses = (0..self.times).map(|_| {
            // Knuth's MMIX: its upper half is random enough for pauses.
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            from + (state >> 33) % (to - from + 1)
        });
        pauses
            .map(|pause| {
                at += Duration::from_millis(pause);
                at
            })
            .collect()
    }
}

/// Where programs are, and where there is room to write.
#[derive(Clone, Copy)]
pub(crate) struct Bench<'a> {
    pub(crate) binaries: &'a Path,
    pub(crate) dir: &'a Path,
}

fn main() -> ExitCode {
    match run(Arguments::parse()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("operations: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Does what was asked for; returns whether nothing was lost.
fn run(arguments: Arguments) -> anyhow::Result<bool> {
    let limit = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit })
        .context("cannot raise the limit of open files")?;
    let own_path: PathBuf = std::env::current_exe()?;
    let binaries = own_path.parent().context("this binary lies in no directory")?;
    let dir = WorkDir::create("operations")?;
    let bench = Bench { binaries, dir: &dir.path };
    let mut is_clean = true;
    match arguments.what {
        What::Reload(terms) => {
            let terms = terms.settled();
            for driver in &terms.drivers {
                is_clean &= reloads::run(bench, driver.name(), &terms)?;
            }
        }
        What::Upgrade(terms) => {
            let mut terms = terms.settled();
            if terms.smoke {
                // One broken program is among them.
                terms.times = terms.times.min(5);
            }
            for driver in &terms.drivers {
                is_clean &= upgrades::run(bench, driver.name(), &terms)?;
            }
        }
        What::Drain(terms) => {
            let terms = terms.settled();
            for driver in &terms.drivers {
                is_clean &= drain::run(bench, driver.name(), &terms)?;
            }
        }
    }
    Ok(is_clean)
}
