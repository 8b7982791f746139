//! What do a shell and man(1) know of the command line? What the parser knows, written out in their words.
//!
//! Never a text of its own: every word stands at its command or flag.

use std::process::ExitCode;

use anyhow::Context as _;
use clap::CommandFactory as _;

use crate::cli::{Cli, CompletionsArgs, ManArgs};
use crate::print;

/// `engine completions`: on standard output.
pub(crate) fn completions(args: &CompletionsArgs) -> anyhow::Result<ExitCode> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), args.name.as_str(), &mut script);
    print(&String::from_utf8(script).context("a script is text")?)
}

/// `engine man`: a file for each command.
pub(crate) fn pages(args: &ManArgs) -> anyhow::Result<ExitCode> {
    // A command's name lives as long as the program, which ends after this.
    let name: &'static str = Box::leak(args.name.clone().into_boxed_str());
    let command = Cli::command().name(name).bin_name(name).disable_help_subcommand(true);
    clap_mangen::generate_to(command, &args.directory)
        .with_context(|| format!("cannot write manual pages to {}", args.directory.display()))?;
    Ok(ExitCode::SUCCESS)
}
