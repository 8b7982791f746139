//! Which configuration was asked for, and can it be used? File, flags or the embedded default.
//!
//! Never opens a socket: a check is safe beside a running process.

use std::collections::BTreeSet;
use std::fmt::Display;
use std::io::{self, IsTerminal};
use std::path::Path;
use std::process::ExitCode;
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{anyhow, bail};
use config::snapshot::Snapshot;
use config::{Loaded, Problems, Severity, Text};
use control::{Candidate, Certificates, LocalTerms, Note, Origin, Own};

use crate::cli::RunArgs;
use crate::logging::{self, stderr_has_color};
use crate::{print, privileges, say};

/// Where a configuration comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Source<'a> {
    /// `--config`.
    File(&'a Path),
    /// `--listen` and `--to`.
    Flags { listen: &'a [String], to: &'a [String] },
    /// `--store` alone.
    Store,
    /// Nothing was given.
    Default,
}

impl<'a> Source<'a> {
    /// What these arguments ask for.
    pub(crate) fn of(args: &'a RunArgs) -> Self {
        match &args.config {
            Some(path) => Self::File(path),
            None if args.store.is_some() => Self::Store,
            None if args.listen.is_empty() => Self::Default,
            None => Self::Flags { listen: &args.listen, to: &args.to },
        }
    }

    pub(crate) fn name(self) -> String {
        match self {
            Self::File(path) => path.display().to_string(),
            Self::Flags { .. } => "the command line".to_owned(),
            Self::Store => "the store".to_owned(),
            Self::Default => "the embedded default".to_owned(),
        }
    }

    /// Reads it; shows every problem.
    fn text(self) -> anyhow::Result<Text> {
        match self {
            Self::File(path) => Text::read(path).map_err(|problems| self.refusal(&problems)),
            Self::Flags { listen, to } => Ok(Text::Flags { listen: listen.to_vec(), to: to.to_vec() }),
            Self::Store => {
                bail!("what is in the store was checked before it got there; give a file by --config")
            }
            Self::Default => Ok(Text::Default),
        }
    }

    /// Loads it and shows every problem, warnings too.
    pub(crate) fn load(self) -> anyhow::Result<Loaded> {
        self.load_text(&self.text()?)
    }

    fn load_text(self, text: &Text) -> anyhow::Result<Loaded> {
        let loaded = text.load(&BTreeSet::new()).map_err(|problems| self.refusal(&problems))?;
        show(&loaded.warnings);
        Ok(loaded)
    }

    fn refusal(self, problems: &Problems) -> anyhow::Error {
        show(problems);
        let errors = problems.iter().filter(|problem| problem.severity == Severity::Error);
        anyhow!("{} cannot be used: {}", self.name(), count(errors.count(), "error"))
    }
}

/// The configuration to run: as written, then moved as the flags say; and what is read again when it changes.
pub(crate) fn load(args: &RunArgs) -> anyhow::Result<(Candidate, Own)> {
    let source = Source::of(args);
    let text = source.text()?;
    let loaded = source.load_text(&text)?;
    let terms = LocalTerms { admin: args.admin, port_offset: args.port_offset };
    let origin = Origin { source: source.name(), version: None };
    let candidate = Candidate::new(loaded, &terms, origin).map_err(|error| anyhow!(error))?;
    Ok((candidate, Own::new(text, terms)))
}

/// What the files of certificates hold, once every mistake in them is shown.
pub(crate) fn certificates(snapshot: &Arc<Snapshot>) -> anyhow::Result<Certificates> {
    let (certificates, notes) = match Certificates::load(snapshot) {
        Ok((certificates, notes)) => (Ok(certificates), notes),
        Err(notes) => (Err(count(notes.problems.len(), "error")), notes),
    };
    notes.problems.iter().for_each(|note| show_note(Severity::Error, note));
    notes.warnings.iter().for_each(|note| show_note(Severity::Warning, note));
    certificates.map_err(|errors| anyhow!("certificates cannot be used: {errors}"))
}

/// `engine -t`: whether what would be started can be.
pub(crate) fn check(args: &RunArgs) -> anyhow::Result<ExitCode> {
    let (Candidate { snapshot, .. }, own) = load(args)?;
    certificates(&snapshot)?;
    privileges::wanted(&snapshot)?;
    print(&format!("{}{}", fine(&Source::of(args).name(), &snapshot), included(own.text())))
}

/// `engine check`: whether a file can be used.
pub(crate) fn check_file(path: &Path) -> anyhow::Result<ExitCode> {
    let source = Source::File(path);
    let text = source.text()?;
    let snapshot = Arc::new(source.load_text(&text)?.snapshot);
    certificates(&snapshot)?;
    print(&format!("{}{}", fine(&source.name(), &snapshot), included(&text)))
}

/// `engine config dump`: a configuration with every default filled in.
pub(crate) fn dump(path: Option<&Path>) -> anyhow::Result<ExitCode> {
    let loaded = path.map_or(Source::Default, Source::File).load()?;
    print(&config::dump(&loaded.schema))
}

/// A line for each file that is read besides.
fn included(text: &Text) -> String {
    let Text::File(files) = text else { return String::new() };
    files.paths().skip(1).map(|path| format!("  with {}\n", path.display())).collect()
}

fn fine(name: &str, snapshot: &Snapshot) -> String {
    let parts = [
        count(snapshot.listeners.len(), "listener"),
        count(snapshot.channels.len(), "channel"),
        count(snapshot.upstreams.len(), "upstream"),
        count(
            snapshot.upstreams.iter().map(|upstream| upstream.endpoints.len() + upstream.names.len()).sum(),
            "endpoint",
        ),
    ];
    format!("{name}: configuration is fine: {}\n", parts.join(", "))
}

/// Every problem that was shown, one line each, for a process that waits to hear of it.
static SHOWN: Mutex<Vec<String>> = Mutex::new(Vec::new());

/// Problems that are kept; whoever has so many begins with the first.
const SHOWN_MAX: usize = 64;

fn remember(problem: &impl Display) {
    let mut shown = SHOWN.lock().unwrap_or_else(PoisonError::into_inner);
    if shown.len() < SHOWN_MAX {
        shown.push(problem.to_string());
    }
}

/// An error, with the problems that were shown before it.
pub(crate) fn with_problems(error: &anyhow::Error) -> String {
    let mut lines = vec![format!("{error:#}")];
    lines.extend_from_slice(&SHOWN.lock().unwrap_or_else(PoisonError::into_inner));
    lines.join("\n  ")
}

/// People get the lines that the problems are about; scripts one line for each problem; a log in JSON its events.
pub(crate) fn show(problems: &Problems) {
    if problems.is_empty() {
        return;
    }
    problems.iter().filter(|problem| problem.severity == Severity::Error).for_each(remember);
    if logging::is_json() {
        for problem in problems {
            match problem.severity {
                Severity::Error => tracing::error!("{problem}"),
                Severity::Warning => tracing::warn!("{problem}"),
            }
        }
    } else if io::stderr().is_terminal() {
        say(&format!("{}\n\n", problems.render(stderr_has_color())));
    } else {
        say(&format!("{problems}\n"));
    }
}

fn show_note(severity: Severity, note: &Note) {
    if severity == Severity::Error {
        remember(note);
    }
    match severity {
        Severity::Error if logging::is_json() => tracing::error!("{note}"),
        Severity::Warning if logging::is_json() => tracing::warn!("{note}"),
        Severity::Error => say(&format!("{note}\n")),
        Severity::Warning => say(&format!("warning: {note}\n")),
    }
}

/// A number with its noun: "1 listener", "2 listeners".
pub(crate) fn count(number: usize, noun: &str) -> String {
    let plural = if number == 1 { "" } else { "s" };
    format!("{number} {noun}{plural}")
}
