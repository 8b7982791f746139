//! From a file, a text or flags to what the cores read: parse, read, check, compile.
//!
//! Never returns half of it: one error anywhere and there is no snapshot.

use std::collections::BTreeSet;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::check;
use crate::compile;
use crate::document::source::{Naming, Source};
use crate::document::{Document, Format, Node};
use crate::problem::Problems;
use crate::read;
use crate::report::Report;
use crate::schema::Config;
use crate::schema::text::Target;
use crate::snapshot::{EndpointAddress, Snapshot};
use crate::text::Text;
use crate::value::duration::Timespan;
use crate::value::{Refusal as _, address, name};

/// A configuration that can be used.
#[derive(Debug)]
pub struct Loaded {
    /// Every key, defaults filled in.
    pub schema: Config,
    /// What the cores read.
    pub snapshot: Snapshot,
    /// What hardly does what was meant.
    pub warnings: Problems,
}

/// Loads a file and those that it includes: JSON when its name ends in `.json`, else TOML. `${NAME}` in strings is the process's
/// environment; relative paths of further files begin at this one's directory.
///
/// # Errors
/// Every problem found, warnings among them, in the order of the text.
pub fn load_file(path: impl AsRef<Path>) -> Result<Loaded, Problems> {
    Text::read(path.as_ref())?.load(&BTreeSet::new())
}

/// Loads a text; `name` stands for it in messages, `environment` resolves `${NAME}`. It can name no further files.
///
/// # Errors
/// Every problem found, warnings among them, in the order of the text.
pub fn load_str(
    name: &str,
    text: &str,
    format: Format,
    environment: &dyn Fn(&str) -> Option<String>,
) -> Result<Loaded, Problems> {
    load_document(
        &Document::parse(Source::new(name, text, Naming::Keys), format, environment)?,
        &BTreeSet::new(),
    )
}

/// The configuration behind `--listen ADDR --to ADDR[,ADDR…]`: listeners `web`, `web-2` …, upstream `upstream`,
/// channel `default`, admin at its default. Both flags may be repeated, and both take lists.
///
/// # Errors
/// Every problem found, named by its flag and placed in the command line.
pub fn quick_proxy(listen: &[String], to: &[String]) -> Result<Loaded, Problems> {
    load_quick_proxy(listen, to, &BTreeSet::new())
}

/// The same without the modules in `stopped`.
pub(crate) fn load_quick_proxy(
    listen: &[String],
    to: &[String],
    stopped: &BTreeSet<String>,
) -> Result<Loaded, Problems> {
    let mut line = CommandLine::default();
    let listeners = line.flag("--listen", listen);
    let endpoints = line.flag("--to", to);
    let listener = |(index, bind): (usize, Node)| {
        let name = if index == 0 { "web".to_owned() } else { format!("web-{}", index + 1) };
        let span = bind.span.clone();
        (name, Node::table([("bind", bind)], span))
    };
    let end = line.text.len();
    let table = |entries: Vec<(&'static str, Node)>| Node::table(entries, end..end);
    let upstream = table(vec![("endpoints", Node::list(endpoints, end..end))]);
    let channel = table(vec![("upstream", Node::text("upstream", end..end))]);
    let root = table(vec![
        ("listener", Node::table(listeners.into_iter().enumerate().map(listener), end..end)),
        ("upstream", table(vec![("upstream", upstream)])),
        ("channel", table(vec![("default", channel)])),
    ]);
    load_document(&Document::of(Source::new("command line", line.text, Naming::Flags), root), stopped)
}

/// Where an endpoint is that is named while the process runs: `IP:PORT`, `localhost:PORT` or `unix:/PATH`.
///
/// # Errors
/// What is wrong with it, and what may have been meant.
pub fn parse_address(text: &str) -> Result<EndpointAddress, (String, Option<String>)> {
    let target =
        address::parse_endpoint(text).map_err(|refusal| (refusal.to_string(), refusal.suggestion()))?;
    match target {
        Target::Tcp(address) => Ok(EndpointAddress::Tcp(address)),
        Target::Localhost(port) => Ok(EndpointAddress::Tcp(SocketAddr::from((Ipv4Addr::LOCALHOST, port)))),
        Target::Unix(path) => Ok(EndpointAddress::Unix(Path::new(&path).into())),
        Target::Listener(_) => Err(("a listener of this process can only be written".to_owned(), None)),
        Target::Name { .. } | Target::Service(_) => {
            let suggestion = "write the name into the configuration file, or give an address of it";
            Err(("only names of the configuration are resolved".to_owned(), Some(suggestion.to_owned())))
        }
    }
}

/// How long a text such as "10m" is, written as durations of the configuration are.
///
/// # Errors
/// What is wrong with it, and what may have been meant.
pub fn parse_duration(text: &str) -> Result<Duration, (String, Option<String>)> {
    let parsed = Timespan::parse(text).map(Timespan::duration);
    parsed.map_err(|refusal| (refusal.to_string(), refusal.suggestion()))
}

/// Whether a zone may bear this name.
///
/// # Errors
/// What is wrong with it, and what may have been meant.
pub fn check_zone(text: &str) -> Result<(), (String, Option<String>)> {
    name::check(text).map_err(|refusal| (refusal.to_string(), refusal.suggestion()))
}

/// The configuration of a process that was given none: a listener, a built-in origin behind it, and admin.
#[must_use]
pub fn default_config() -> &'static str {
    include_str!("default.toml")
}

/// The JSON schema of the configuration, for editors and validators.
#[must_use]
pub fn json_schema() -> String {
    format!("{:#}\n", schemars::schema_for!(Config).as_value())
}

/// The configuration as TOML with every default filled in; loads back to the same fingerprint.
#[must_use]
pub fn dump(config: &Config) -> String {
    // Every key is a string and every value has a TOML form, so there is nothing that could fail.
    let text = toml::to_string(config).unwrap_or_else(|error| format!("# {error}\n"));
    // What the environment was put into must not be taken for a reference again; no name holds a dollar sign,
    // so this stands in strings alone.
    text.replace("${", "$${")
}

/// The files that a document names, whatever is wrong with it.
pub(crate) fn named_files(document: &Document) -> BTreeSet<PathBuf> {
    let report = Report::new(document);
    // What was read is of no use here.
    read::read(document, &report);
    report.into_named()
}

/// What is left of a document when the modules in `stopped` do not run; the mistakes are those of the whole.
pub(crate) fn load_document(document: &Document, stopped: &BTreeSet<String>) -> Result<Loaded, Problems> {
    let report = Report::new(document);
    let schema = read::read(document, &report);
    check::check(&schema, &report);
    match compile::compile(&schema, stopped, &report) {
        Some(snapshot) if !report.has_errors() => Ok(Loaded { schema, snapshot, warnings: report.finish() }),
        _ => Err(report.finish()),
    }
}

/// The flags as they would be typed, so that a problem can point into them.
#[derive(Default)]
struct CommandLine {
    text: String,
}

impl CommandLine {
    /// Writes a flag with its values down and returns each address among them.
    fn flag(&mut self, flag: &str, values: &[String]) -> Vec<Node> {
        let mut addresses = Vec::new();
        for value in values {
            let gap = if self.text.is_empty() { "" } else { " " };
            self.text.push_str(&format!("{gap}{flag} "));
            for (index, address) in value.split(',').enumerate() {
                let comma = if index == 0 { "" } else { "," };
                self.text.push_str(comma);
                let start = self.text.len();
                self.text.push_str(address);
                addresses.push(Node::text(address, start..self.text.len()));
            }
        }
        addresses
    }
}
