//! What did the operator write, and where? One tree of values with their positions, whatever the format.
//!
//! Nothing here knows a key's meaning; a tree may hold anything.

pub(crate) mod key;
pub(crate) mod source;

mod form;
pub(crate) mod include;
mod interpolate;
mod json;
mod toml;

use std::ops::Range;
use std::path::{Path, PathBuf};

use self::include::FileSet;
use self::key::Key;
use self::source::Source;
use crate::problem::{Problem, Problems};

/// Largest configuration text in bytes; ten thousand channels written out stay well below it.
pub(crate) const TEXT_BYTES_MAX: usize = 4 << 20;

/// How a configuration is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// TOML 1.0.
    Toml,
    /// JSON as of RFC 8259: no comments, no trailing commas.
    Json,
}

impl Format {
    /// JSON when the file's name ends so, else TOML.
    pub(crate) fn of(path: &Path) -> Self {
        let is_json = path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("json"));
        if is_json { Self::Json } else { Self::Toml }
    }
}

/// A value of the environment by its name.
pub(crate) type Environment<'e> = &'e dyn Fn(&str) -> Option<String>;

/// A parsed text.
pub(crate) struct Document {
    pub(crate) source: Source,
    pub(crate) root: Node,
    /// What the environment could not fill in.
    pub(crate) problems: Vec<Problem>,
    /// Where files are that it names.
    pub(crate) files: Files,
}

/// Where the files are that a document names.
pub(crate) enum Files {
    /// It is a text that stands for itself: none is opened while it is read.
    Nowhere,
    /// It comes from a store and has no place of its own: named by absolute paths.
    Anywhere,
    /// It is a file: relative paths begin at this directory.
    Beside(PathBuf),
}

/// A value and the bytes it was read from.
pub(crate) struct Node {
    pub(crate) span: Range<usize>,
    pub(crate) value: Value,
}

pub(crate) enum Value {
    Text {
        text: String,
        interpolated: bool,
    },
    Integer(i128),
    Float,
    Boolean(bool),
    Date,
    Null,
    /// A string whose references could not be replaced; a problem says why.
    Unresolved,
    List(Vec<Node>),
    Table(Vec<Entry>),
}

/// A key of a table with its value.
pub(crate) struct Entry {
    pub(crate) name: String,
    pub(crate) name_span: Range<usize>,
    pub(crate) node: Node,
}

impl Document {
    /// Reads the tree and puts the environment in.
    ///
    /// # Errors
    /// Every problem of form; past one of them the meaning would be guesswork.
    pub(crate) fn parse(
        source: Source,
        format: Format,
        environment: Environment<'_>,
    ) -> Result<Self, Problems> {
        let root = parse_tree(&source, source.first(), format);
        let mut root = root.map_err(|problems| Problems::new(problems, &source))?;
        let problems = interpolate::interpolate(&mut root, &Key::root(), &source, environment);
        Ok(Self { source, root, problems, files: Files::Nowhere })
    }

    /// The tree of a file and of those that it includes, with the environment put in. Files that it names begin at the directory
    /// of the first one, whichever of them names them.
    ///
    /// # Errors
    /// As [`FileSet::tree`].
    pub(crate) fn parse_files(files: &FileSet, environment: Environment<'_>) -> Result<Self, Problems> {
        let mut root = files.tree()?;
        let source = files.source().clone();
        let problems = interpolate::interpolate(&mut root, &Key::root(), &source, environment);
        let directory = files.path().parent().map(Path::to_owned).unwrap_or_default();
        Ok(Self { source, root, problems, files: Files::Beside(directory) })
    }

    /// A tree that was put together rather than read.
    pub(crate) fn of(source: Source, root: Node) -> Self {
        Self { source, root, problems: Vec::new(), files: Files::Nowhere }
    }

    /// Where a key stands: its value, for a table its name; for a key left out, the table it belongs to.
    pub(crate) fn find(&self, key: &Key) -> Range<usize> {
        self.walk(key).last().map_or(0..0, |(_, span)| span)
    }

    /// Whether a key was written, whatever it holds.
    pub(crate) fn holds(&self, key: &Key) -> bool {
        self.walk(key).count() == key.steps().len()
    }

    /// The last item of a list that holds this text, itself or as a key of its own; else the list.
    pub(crate) fn item_key(&self, list: &Key, text: &str) -> Key {
        let index = match self.walk(list).last().map(|(node, _)| &node.value) {
            Some(Value::List(items)) => items.iter().rposition(|item| item.holds_text(text)),
            _ => None,
        };
        index.map_or_else(|| list.clone(), |index| list.item(index))
    }

    /// The nodes along a key, as far as they were written.
    fn walk<'k>(&'k self, key: &'k Key) -> impl Iterator<Item = (&'k Node, Range<usize>)> {
        key.steps().iter().scan(&self.root, |node, step| {
            let found = node.step(step)?;
            *node = found.0;
            Some(found)
        })
    }
}

/// The tree of the text that lies at `range`.
fn parse_tree(source: &Source, range: Range<usize>, format: Format) -> Result<Node, Vec<Problem>> {
    if range.len() > TEXT_BYTES_MAX {
        let cause = format!("the text has {} bytes, at most {TEXT_BYTES_MAX} are read", range.len());
        return Err(vec![Problem::new(source, range.start..range.start, &Key::root(), cause, None)]);
    }
    match format {
        Format::Toml => toml::parse(source, range),
        Format::Json => json::parse(source, range),
    }
}

impl Node {
    pub(crate) fn text(text: impl Into<String>, span: Range<usize>) -> Self {
        Self { span, value: Value::Text { text: text.into(), interpolated: false } }
    }

    pub(crate) fn list(items: Vec<Self>, span: Range<usize>) -> Self {
        Self { span, value: Value::List(items) }
    }

    pub(crate) fn table<N: Into<String>>(
        entries: impl IntoIterator<Item = (N, Self)>,
        span: Range<usize>,
    ) -> Self {
        let entry = |(name, node): (N, Self)| Entry { name: name.into(), name_span: span.clone(), node };
        let entries = entries.into_iter().map(entry).collect();
        Self { span, value: Value::Table(entries) }
    }

    /// What this is, with its article, as in "expected a table, found a string".
    pub(crate) fn kind(&self) -> &'static str {
        match self.value {
            Value::Text { .. } => "a string",
            Value::Integer(_) => "an integer",
            Value::Float => "a fractional number",
            Value::Boolean(_) => "a boolean",
            Value::Date => "a date",
            Value::Null => "null",
            Value::Unresolved => "an unresolved string",
            Value::List(_) => "a list",
            Value::Table(_) => "a table",
        }
    }

    /// Takes a key out of a table, if it has it.
    pub(crate) fn take(&mut self, name: &str) -> Option<Self> {
        let Value::Table(entries) = &mut self.value else { return None };
        let index = entries.iter().position(|entry| entry.name == name)?;
        Some(entries.remove(index).node)
    }

    fn holds_text(&self, wanted: &str) -> bool {
        match &self.value {
            Value::Text { text, .. } => text == wanted,
            Value::Table(entries) => entries.iter().any(|entry| entry.node.holds_text(wanted)),
            _ => false,
        }
    }

    fn step(&self, step: &key::Step) -> Option<(&Self, Range<usize>)> {
        match (&self.value, step) {
            (Value::Table(entries), key::Step::Name(name)) => {
                let entry = entries.iter().find(|entry| entry.name == *name)?;
                let span = match entry.node.value {
                    Value::Table(_) => &entry.name_span,
                    _ => &entry.node.span,
                };
                Some((&entry.node, span.clone()))
            }
            (Value::List(items), key::Step::Index(index)) => {
                items.get(*index).map(|item| (item, item.span.clone()))
            }
            _ => None,
        }
    }
}
