//! What do a shell and man(1) know of the command line? What the parser knows, written out in their words.
//!
//! Never a text of its own: every word stands at its command or flag.

use std::io::{self, Write};
use std::path::Path;
use std::process::ExitCode;

use anyhow::Context as _;
use clap::CommandFactory as _;

use crate::cli::Cli;

/// `loadgen completions`: on standard output.
pub(crate) fn completions(shell: clap_complete::Shell, name: &str) -> anyhow::Result<ExitCode> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), name, &mut script);
    io::stdout().write_all(&script).context("cannot write to standard output")?;
    Ok(ExitCode::SUCCESS)
}

/// `loadgen man`: a file for each command.
pub(crate) fn pages(directory: &Path, name: &str) -> anyhow::Result<ExitCode> {
    // A command's name lives as long as the program, which ends after this.
    let name: &'static str = Box::leak(name.to_owned().into_boxed_str());
    let command = Cli::command().name(name).bin_name(name).disable_help_subcommand(true);
    clap_mangen::generate_to(command, directory)
        .with_context(|| format!("cannot write manual pages to {}", directory.display()))?;
    Ok(ExitCode::SUCCESS)
}
