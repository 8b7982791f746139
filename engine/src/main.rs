//! What was asked for on the command line? Arguments to configuration, cores and control, or to one short answer.
//!
//! Never holds logic of its own: each command has its module, each room its crate.

mod cli;
mod logging;

mod announce;
mod join;
mod privileges;
mod settings;
mod start;

mod client;
mod cluster;
mod difference;
mod drain;
mod log_level;
mod logs;
mod manual;
mod reload;
mod render;
mod report;
mod top;
mod upgrade;
mod upstream;
mod user;
mod versions;

use std::io::{self, Write};
use std::process::ExitCode;

use clap::Parser;

use crate::cli::{Cli, Command, ConfigCommand, LogsCommand};

#[cfg(feature = "mimalloc")]
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Exit code of anything that could not be done; clap uses 2 for arguments it does not understand.
const FAILURE: u8 = 1;

fn main() -> ExitCode {
    // Huge pages would round the memory of every idle connection up to 2 MiB steps. A kernel that refuses costs
    // memory and nothing else.
    let _ = rustix::thread::disable_transparent_huge_pages(true);
    let cli = Cli::parse();
    let outcome = match &cli.command {
        None if cli.run.check => settings::check(&cli.run),
        None => start::run(&cli.run),
        Some(Command::Check(args)) => settings::check_file(&args.config),
        Some(Command::Config(ConfigCommand::Default)) => print(config::default_config()),
        Some(Command::Config(ConfigCommand::Schema)) => print(&config::json_schema()),
        Some(Command::Config(ConfigCommand::Dump(args))) => settings::dump(args.config.as_deref()),
        Some(Command::Config(ConfigCommand::Push(args))) => versions::push(args),
        Some(Command::Config(ConfigCommand::Diff(args))) => versions::diff(args),
        Some(Command::Config(ConfigCommand::History(args))) => versions::history(args),
        Some(Command::Config(ConfigCommand::Rollback(args))) => versions::rollback(args),
        Some(Command::Cluster(command)) => cluster::run(command),
        Some(Command::Status(args)) => report::status(args),
        Some(Command::Reload(args)) => reload::run(args),
        Some(Command::Upgrade(args)) => upgrade::run(args),
        Some(Command::Stats(args)) => report::stats(args),
        Some(Command::Top(args)) => top::run(args),
        Some(Command::Drain(args)) => drain::run(args),
        Some(Command::LogLevel(args)) => log_level::run(args),
        Some(Command::Logs(LogsCommand::Reopen(args))) => logs::reopen(args),
        Some(Command::Upstream(command)) => upstream::run(command),
        Some(Command::User(command)) => user::run(command),
        Some(Command::Render(args)) => render::render(args),
        Some(Command::Completions(args)) => manual::completions(args),
        Some(Command::Man(args)) => manual::pages(args),
    };
    match outcome {
        Ok(code) => code,
        Err(error) => {
            if logging::is_json() {
                tracing::error!("{error:#}");
            } else {
                say(&format!("error: {error:#}\n"));
            }
            ExitCode::from(FAILURE)
        }
    }
}

/// Writes an answer to standard output. A reader that has seen enough is no error.
fn print(text: &str) -> anyhow::Result<ExitCode> {
    match io::stdout().write_all(text.as_bytes()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            Err(anyhow::Error::new(error).context("cannot write to standard output"))
        }
        _ => Ok(ExitCode::SUCCESS),
    }
}

/// Writes a message to standard error, if there is one.
fn say(text: &str) {
    // Whoever closed it does not want to know.
    let _ = io::stderr().write_all(text.as_bytes());
}
