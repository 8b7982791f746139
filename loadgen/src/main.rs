//! What does an HTTP server do under load? Sends requests, checks every response, and reports latencies.
//!
//! Never trusts a response it has not checked, and never hides a request that was not answered.

mod cli;
mod client;
mod counts;
mod dial;
mod failure;
mod origin;
mod pacer;
mod progress;
mod report;
mod response;
mod run;
mod schedule;
mod target;
mod threads;
mod units;
mod worker;

use std::process::ExitCode;

use clap::Parser;

use crate::cli::{Cli, Command};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// The load could not be started, or its reports not be written.
const EXIT_USAGE: u8 = 2;

fn main() -> ExitCode {
    let cli = Cli::parse();
    let outcome = match &cli.command {
        Some(Command::Origin(args)) => origin::run(args),
        None => run::run(&cli.load),
    };
    outcome.unwrap_or_else(|error| {
        eprintln!("loadgen: {error:#}");
        ExitCode::from(EXIT_USAGE)
    })
}
