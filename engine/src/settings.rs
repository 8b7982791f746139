//! Which configuration was asked for, and can it be used? File, flags or the embedded default.
//!
//! Never opens a socket: a check is safe beside a running process.

use std::io::{self, IsTerminal};
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::{anyhow, bail};
use config::snapshot::{Admin, Snapshot};
use config::{Format, Loaded, Problems, Severity};
use control::{Certificates, Note};

use crate::cli::RunArgs;
use crate::logging::{self, stderr_has_color};
use crate::{print, say};

/// Where a configuration comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Source<'a> {
    /// `--config`.
    File(&'a Path),
    /// `--listen` and `--to`.
    Flags { listen: &'a [String], to: &'a [String] },
    /// Nothing was given.
    Default,
}

impl<'a> Source<'a> {
    /// What these arguments ask for.
    pub(crate) fn of(args: &'a RunArgs) -> Self {
        match &args.config {
            Some(path) => Self::File(path),
            None if args.listen.is_empty() => Self::Default,
            None => Self::Flags { listen: &args.listen, to: &args.to },
        }
    }

    pub(crate) fn name(self) -> String {
        match self {
            Self::File(path) => path.display().to_string(),
            Self::Flags { .. } => "the command line".to_owned(),
            Self::Default => "the embedded default".to_owned(),
        }
    }

    /// Loads it and shows every problem, warnings too.
    pub(crate) fn load(self) -> anyhow::Result<Loaded> {
        let loaded = match self {
            Self::File(path) => config::load_file(path),
            Self::Flags { listen, to } => config::quick_proxy(listen, to),
            Self::Default => {
                config::load_str("default.toml", config::default_config(), Format::Toml, &|_| None)
            }
        };
        match loaded {
            Ok(loaded) => {
                show(&loaded.warnings);
                Ok(loaded)
            }
            Err(problems) => {
                show(&problems);
                let errors = problems.iter().filter(|problem| problem.severity == Severity::Error);
                let errors = count(errors.count(), "error");
                bail!("{} cannot be used: {errors}", self.name())
            }
        }
    }
}

/// The snapshot to run: as configured, then moved as the flags say.
pub(crate) fn load(args: &RunArgs) -> anyhow::Result<Arc<Snapshot>> {
    let Loaded { schema, mut snapshot, .. } = Source::of(args).load()?;
    if let Some(bind) = args.admin {
        let written = snapshot.admin.take();
        let admin = written.unwrap_or(Admin { bind, security: None, is_open_to_all: false });
        let admin = Admin { bind, ..admin };
        if admin.is_exposed() {
            bail!(
                "--admin {bind}: the admin listener asks no one who he is and could be reached from the network; bind it to 127.0.0.1, or see [admin] security and allow_open in docs/configuration.md"
            );
        }
        snapshot.admin = Some(admin);
    }
    let (offset, owner) = match (args.port_offset, schema.node.server_port_offset) {
        (0, written) => (written, "node.server_port_offset"),
        (given, _) => (given, "--port-offset"),
    };
    config::apply_port_offset(&mut snapshot, offset).map_err(|error| anyhow!("{owner}: {error}"))?;
    Ok(Arc::new(snapshot))
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
    let snapshot = load(args)?;
    certificates(&snapshot)?;
    print(&fine(&Source::of(args).name(), &snapshot))
}

/// `engine check`: whether a file can be used.
pub(crate) fn check_file(path: &Path) -> anyhow::Result<ExitCode> {
    let source = Source::File(path);
    let snapshot = Arc::new(source.load()?.snapshot);
    certificates(&snapshot)?;
    print(&fine(&source.name(), &snapshot))
}

/// `engine config dump`: a configuration with every default filled in.
pub(crate) fn dump(path: Option<&Path>) -> anyhow::Result<ExitCode> {
    let loaded = path.map_or(Source::Default, Source::File).load()?;
    print(&config::dump(&loaded.schema))
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

/// People get the lines that the problems are about; scripts one line for each problem; a log in JSON its events.
fn show(problems: &Problems) {
    if problems.is_empty() {
        return;
    }
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
