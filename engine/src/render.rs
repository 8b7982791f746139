//! What is another program told? The kernel's own balancer, to do what this configuration says (LVS by ipvsadm or keepalived), and systemd,
//! to run it.
//!
//! Never touches the kernel, and never passes over in silence what the other does otherwise: a comment and a line on standard error
//! say it.

mod input;
mod ipvsadm;
mod keepalived;
mod live;
mod systemd;
mod table;

use std::fmt;
use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context as _, bail};

use self::input::Input;
use self::systemd::Unit;
use self::table::Table;
use crate::cli::{RenderArgs, RenderForm};
use crate::client::AdminClient;
use crate::settings::Source;
use crate::{print, say};

/// `engine render`: the text for the other program on standard output.
pub(crate) fn render(args: &RenderArgs) -> anyhow::Result<ExitCode> {
    let (text, command): (fn(&Table) -> String, _) = match args.form {
        RenderForm::Ipvsadm => (ipvsadm::text, "engine render ipvsadm"),
        RenderForm::Keepalived => (keepalived::text, "engine render keepalived"),
        RenderForm::Systemd => return render_unit(args),
    };
    if args.program.is_some() {
        bail!("--program is for a unit of systemd: engine render systemd");
    }
    let (input, source) = match &args.config {
        Some(path) => {
            let source = Source::File(path);
            (Input::of_snapshot(&source.load()?.snapshot), source.name())
        }
        None => {
            let answer = AdminClient::new(&args.admin).json("/upstreams", &[])?;
            (live::parse(&answer)?, format!("the engine at {}", args.admin))
        }
    };
    let table = Table::of(&input, args.address);
    for note in table.notes() {
        say(&format!("note: {note}\n"));
    }
    if table.services.is_empty() {
        bail!("nothing of {source} can be done by LVS");
    }
    print(&format!("# Written by `{command}` from {source}.\n{}", text(&table)))
}

/// `engine render systemd`.
fn render_unit(args: &RenderArgs) -> anyhow::Result<ExitCode> {
    if args.address.is_some() {
        bail!("--address is for LVS; a unit of systemd has no addresses");
    }
    let Some(config) = &args.config else {
        bail!("a unit of systemd is written from a file: engine render systemd --config FILE");
    };
    let absolute = |path: &Path| std::path::absolute(path).with_context(|| format!("{}", path.display()));
    let program = match &args.program {
        Some(program) => absolute(program)?,
        None => {
            std::env::current_exe().context("this program's own path cannot be had; say it by --program")?
        }
    };
    let source = Source::File(config);
    let snapshot = source.load()?.snapshot;
    let (config, version, drain_grace) = (absolute(config)?, args.systemd_version, control::DRAIN_GRACE);
    let unit = Unit { snapshot: &snapshot, program: &program, config: &config, version, drain_grace };
    for note in unit.notes() {
        say(&format!("note: {note}\n"));
    }
    print(&format!("# Written by `engine render systemd` from {}.\n{}", source.name(), unit.text()))
}

/// Something that the other program does not do, or does otherwise.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Note {
    /// Such as `listener web`.
    of: String,
    what: String,
}

impl fmt::Display for Note {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.of, self.what)
    }
}
