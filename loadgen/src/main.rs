//! What does a server do under load? Sends requests, messages or streams, checks all that comes back, and reports how
//! long it took.
//!
//! Never trusts an answer it has not checked, and never hides a request that was not answered.

mod cli;
mod client;
mod compare;
mod connection;
mod counts;
mod delivery;
mod failure;
mod find_max;
mod generator;
mod manual;
mod named;
mod origin;
mod output;
mod pacer;
mod profile;
mod protocol;
mod run;
mod scale;
mod schedule;
mod target;
mod threads;
mod units;
mod websocket;
mod worker;

use std::process::ExitCode;

use crate::cli::{Cli, Command};
use crate::profile::Profile;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// The load could not be started, or its reports not be written.
const EXIT_USAGE: u8 = 2;

fn main() -> ExitCode {
    let mut args: Vec<_> = std::env::args_os().collect();
    let profile = profile::named_in(&args).map(|name| Profile::load(&name, &Cli::rules())).transpose();
    let profile = match profile {
        Ok(profile) => profile,
        Err(error) => return refuse(&error),
    };
    if let Some(profile) = &profile {
        args = profile.put_before(args);
        profile.announce();
    }
    let cli = Cli::read(&args).unwrap_or_else(|error| {
        if let Some(profile) = profile.as_ref().filter(|_| error.use_stderr()) {
            eprintln!("{}", profile.explain());
        }
        error.exit()
    });
    let outcome = match &cli.command {
        Some(Command::Tcp(args)) => run::run_tcp(args),
        Some(Command::Origin(args)) => origin::run(args),
        Some(Command::Scale(args)) => scale::run(args),
        Some(Command::Tether(args)) => scale::tether(args),
        Some(Command::Compare(args)) => compare::run(args),
        Some(Command::Completions { shell, name }) => manual::completions(*shell, name),
        Some(Command::Man { directory, name }) => manual::pages(directory, name),
        Some(Command::Profile(asked)) => profile::run(asked, &Cli::rules()),
        None => run::run(&cli.load),
    };
    outcome.unwrap_or_else(|error| refuse(&error))
}

fn refuse(error: &anyhow::Error) -> ExitCode {
    eprintln!("loadgen: {error:#}");
    ExitCode::from(EXIT_USAGE)
}
