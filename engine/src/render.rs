//! What would the kernel's own balancer be told, to do what this configuration says? LVS by ipvsadm or keepalived.
//!
//! Never touches the kernel, and never passes over in silence what LVS does otherwise: a comment and a line on standard error
//! say it.

mod input;
mod ipvsadm;
mod keepalived;
mod live;
mod table;

use std::fmt;
use std::process::ExitCode;

use anyhow::bail;

use self::input::Input;
use self::table::Table;
use crate::cli::{RenderArgs, RenderForm};
use crate::client::AdminClient;
use crate::settings::Source;
use crate::{print, say};

/// `engine render`: the text for LVS on standard output.
pub(crate) fn render(args: &RenderArgs) -> anyhow::Result<ExitCode> {
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
    let (text, comment) = match args.form {
        RenderForm::Ipvsadm => (ipvsadm::text(&table), "engine render ipvsadm"),
        RenderForm::Keepalived => (keepalived::text(&table), "engine render keepalived"),
    };
    print(&format!("# Written by `{comment}` from {source}.\n{text}"))
}

/// Something that LVS does not do, or does otherwise.
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
