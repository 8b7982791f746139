//! What does this key of this table hold? One question per type of value.
//!
//! Never knows which tables there are; a key that was not asked for is one that does not exist.

use std::collections::HashSet;
use std::fmt::Display;
use std::hash::Hash;
use std::ops::RangeInclusive;

use super::{ITEMS_MAX, TABLES_MAX};
use crate::document::include::INCLUDE;
use crate::document::key::Key;
use crate::document::{Entry, Node, Value};
use crate::report::Report;
use crate::schema::table::Table;
use crate::suggest;
use crate::value::duration::Timespan;
use crate::value::share::Share;
use crate::value::size::ByteSize;
use crate::value::{Refusal, name};

/// A table being read.
pub(super) struct Fields<'r> {
    report: &'r Report<'r>,
    key: Key,
    entries: &'r [Entry],
    asked: Vec<&'static str>,
}

impl<'r> Fields<'r> {
    /// Opens a table, or reports what stands in its place.
    pub(super) fn open(report: &'r Report<'_>, key: Key, node: &'r Node) -> Option<Self> {
        match &node.value {
            Value::Table(entries) => Some(Self { report, key, entries, asked: Vec::new() }),
            Value::Unresolved => None,
            _ => {
                let suggestion = table_wanted(&key, node);
                let cause = format!("expected a table, found {}", node.kind());
                report.error_at(node.span.clone(), &key, cause, suggestion);
                None
            }
        }
    }

    /// Reports every key that was not asked for.
    pub(super) fn finish(self) {
        for entry in self.entries.iter().filter(|entry| !self.asked.contains(&entry.name.as_str())) {
            let known = self.asked.iter().copied();
            let suggestion = suggest::did_you_mean(&entry.name, known.clone())
                .or_else(|| suggest::belongs_to(&entry.name))
                .or_else(|| suggest::one_of(known));
            let key = self.key.child(&entry.name);
            self.report.error_at(entry.name_span.clone(), &key, "unknown key", suggestion);
        }
    }

    /// Something is wrong with this key.
    pub(super) fn error(&self, name: &str, cause: impl Display, suggestion: Option<String>) {
        self.report.error(&self.key.child(name), cause, suggestion);
    }

    /// Something is wrong with the table as a whole.
    pub(super) fn error_here(&self, cause: impl Display, suggestion: Option<String>) {
        self.report.error(&self.key, cause, suggestion);
    }

    /// Something is wrong with a key of this table or one below it.
    pub(super) fn error_below(&self, names: &[&str], cause: impl Display, suggestion: Option<String>) {
        self.report.error(&self.below(names), cause, suggestion);
    }

    /// Whether a key of this table or one below it was written at all.
    pub(super) fn has_below(&self, names: &[&str]) -> bool {
        self.report.is_written(&self.below(names))
    }

    /// Whether the key was written at all.
    pub(super) fn has(&self, name: &str) -> bool {
        self.find(name).is_some()
    }

    /// Whether there is a value to read for a key that has no default and may be left out.
    pub(super) fn is_given(&mut self, name: &'static str) -> bool {
        self.ask(name).is_some()
    }

    /// Reports a key that has no default and was left out.
    pub(super) fn require(&self, name: &str, example: &str) {
        if !self.has(name) {
            self.error(name, "is missing", Some(format!("for example {name} = {example}")));
        }
    }

    pub(super) fn boolean(&mut self, name: &'static str, default: bool) -> bool {
        let Some(node) = self.ask(name) else { return default };
        match &node.value {
            Value::Boolean(boolean) => *boolean,
            Value::Text { text, interpolated: true } if text == "true" => true,
            Value::Text { text, interpolated: true } if text == "false" => false,
            _ => {
                self.wrong_type(name, "true or false", node);
                default
            }
        }
    }

    pub(super) fn integer<T: TryFrom<i128> + PartialOrd + Display>(
        &mut self,
        name: &'static str,
        bounds: RangeInclusive<T>,
        default: T,
    ) -> T {
        let Some(node) = self.ask(name) else { return default };
        let number = match &node.value {
            Value::Integer(number) => Some(*number),
            Value::Text { text, interpolated: true } => text.parse().ok(),
            _ => None,
        };
        let Some(number) = number else {
            self.wrong_type(name, "an integer", node);
            return default;
        };
        match T::try_from(number) {
            Ok(number) if bounds.contains(&number) => number,
            // More than was counted.
            _ if number == i128::MAX => {
                self.error(name, format!("must be {} to {}", bounds.start(), bounds.end()), None);
                default
            }
            _ => {
                self.out_of_bounds(name, &bounds, number);
                default
            }
        }
    }

    pub(super) fn duration(
        &mut self,
        name: &'static str,
        bounds: RangeInclusive<Timespan>,
        default: Timespan,
    ) -> Timespan {
        self.quantity(name, "a duration such as \"30s\"", Timespan::parse, bounds).unwrap_or(default)
    }

    pub(super) fn size(
        &mut self,
        name: &'static str,
        bounds: RangeInclusive<ByteSize>,
        default: ByteSize,
    ) -> ByteSize {
        self.quantity(name, "a size such as \"64KiB\"", ByteSize::parse, bounds).unwrap_or(default)
    }

    pub(super) fn share(
        &mut self,
        name: &'static str,
        bounds: RangeInclusive<Share>,
        default: Share,
    ) -> Share {
        self.quantity(name, "a share such as \"20%\"", Share::parse, bounds).unwrap_or(default)
    }

    /// A string with rules of its own.
    pub(super) fn parsed<T, R: Refusal>(
        &mut self,
        name: &'static str,
        parse: impl FnOnce(&str) -> Result<T, R>,
    ) -> Option<T> {
        let text = self.text(name)?;
        parse(text).map_err(|refusal| self.report.refuse(&self.key.child(name), &refusal)).ok()
    }

    pub(super) fn text(&mut self, name: &'static str) -> Option<&'r str> {
        let node = self.ask(name)?;
        match &node.value {
            Value::Text { text, .. } => Some(text),
            _ => {
                self.wrong_type(name, "a string", node);
                None
            }
        }
    }

    /// One of these words, or what it stands for.
    pub(super) fn word<T: Copy + Default>(&mut self, name: &'static str, known: &[(&str, T)]) -> T {
        let Some(text) = self.text(name) else { return T::default() };
        let meant = known.iter().find(|(word, _)| *word == text).map(|(_, meaning)| *meaning);
        meant.unwrap_or_else(|| {
            let words = known.iter().map(|(word, _)| *word);
            let suggestion = suggest::did_you_mean(text, words.clone()).or_else(|| suggest::one_of(words));
            self.error(name, format!("unknown {name} {text:?}"), suggestion);
            T::default()
        })
    }

    /// The name of a file, which is read when the process starts.
    pub(super) fn path(&mut self, name: &'static str) -> Option<String> {
        let path = self.text(name)?;
        self.report.check_path(&self.key.child(name), path);
        Some(path.to_owned())
    }

    /// What stands at this key is refused.
    pub(super) fn refuse(&self, name: &str, refusal: &impl Refusal) {
        self.report.refuse(&self.key.child(name), refusal);
    }

    /// Where a file is to be written that is named in part of a string.
    pub(super) fn check_place(&self, name: &str, path: &str) {
        if self.report.resolve(path).is_none() {
            let cause = "a relative path can be given in a configuration file only";
            self.error(name, cause, Some("write one that begins with a slash".to_owned()));
        }
    }

    /// A file that is named in part of a string.
    pub(super) fn check_path(&self, name: &str, path: &str) {
        self.report.check_path(&self.key.child(name), path);
    }

    /// What is included is in the document already, unless there was no file to include it.
    pub(super) fn refuse_include(&mut self) {
        if self.ask(INCLUDE).is_some() {
            let suggestion = self
                .report
                .is_shared()
                .then(|| "push the file that includes them: engine config push FILE".to_owned());
            self.error(INCLUDE, "files can be included by a configuration file only", suggestion);
        }
    }

    /// The node itself, where more than one type is allowed.
    pub(super) fn node(&mut self, name: &'static str) -> Option<&'r Node> {
        self.ask(name)
    }

    /// Each item of a list.
    pub(super) fn items(&mut self, name: &'static str) -> Vec<Item<'r>> {
        let Some(node) = self.ask(name) else { return Vec::new() };
        let Value::List(nodes) = &node.value else {
            self.wrong_type(name, "a list", node);
            return Vec::new();
        };
        if nodes.len() > ITEMS_MAX {
            self.error(name, format!("at most {ITEMS_MAX} items are possible, found {}", nodes.len()), None);
        }
        let (report, key) = (self.report, self.key.child(name));
        nodes
            .iter()
            .take(ITEMS_MAX)
            .enumerate()
            .map(|(index, node)| Item { report, key: key.item(index), node })
            .collect()
    }

    /// Each item of a list that would mean nothing if it were empty.
    pub(super) fn items_some(&mut self, name: &'static str) -> Vec<Item<'r>> {
        let items = self.items(name);
        if items.is_empty() && self.find(name).is_some_and(|node| matches!(node.value, Value::List(_))) {
            self.error(name, "the list is empty", Some("name at least one, or leave the key out".to_owned()));
        }
        items
    }

    /// Each item of such a list, or the one value that stands for a list of one.
    pub(super) fn one_or_many(&mut self, name: &'static str) -> Vec<Item<'r>> {
        self.one(name).map_or_else(|| self.items_some(name), |item| vec![item])
    }

    /// Each item of a list that may be empty, or the one value that stands for a list of one.
    pub(super) fn one_or_many_or_none(&mut self, name: &'static str) -> Vec<Item<'r>> {
        self.one(name).map_or_else(|| self.items(name), |item| vec![item])
    }

    fn one(&mut self, name: &'static str) -> Option<Item<'r>> {
        let node = self.ask(name).filter(|node| matches!(node.value, Value::Text { .. }))?;
        Some(Item { report: self.report, key: self.key.child(name), node })
    }

    /// A table with known keys.
    pub(super) fn table<T>(
        &mut self,
        name: &'static str,
        read: impl FnOnce(&mut Fields<'_>) -> T,
    ) -> Option<T> {
        let node = self.ask(name)?;
        let mut fields = Fields::open(self.report, self.key.child(name), node)?;
        let value = read(&mut fields);
        fields.finish();
        Some(value)
    }

    /// A text from a file that is named.
    pub(super) fn file(&mut self, name: &'static str, bytes_max: usize) -> Option<String> {
        let path = self.text(name)?;
        let read = self.report.read_file(path, bytes_max);
        read.map_err(|cause| self.error(name, cause, None)).ok()
    }

    /// A table of strings, each with its own rule for names and values; in the order written.
    pub(super) fn texts<N: Clone + Eq + Hash, R: Refusal>(
        &mut self,
        name: &'static str,
        parse: impl Fn(&str) -> Result<N, R>,
    ) -> Option<Vec<(N, String)>> {
        let node = self.ask(name)?;
        let key = self.key.child(name);
        let outer = Fields::open(self.report, key.clone(), node)?;
        if outer.entries.len() > ITEMS_MAX {
            let cause = format!("at most {ITEMS_MAX} of these are possible, found {}", outer.entries.len());
            self.report.error(&key, cause, None);
        }
        let (mut texts, mut seen) = (Vec::new(), HashSet::new());
        for entry in outer.entries.iter().take(ITEMS_MAX) {
            let key = key.child(&entry.name);
            let item = Item { report: self.report, key: key.clone(), node: &entry.node };
            let text = item.text();
            match parse(&entry.name) {
                Ok(name) if !seen.insert(name.clone()) => {
                    let cause = "the same as one above, written in another way";
                    self.report.error_at(entry.name_span.clone(), &key, cause, None);
                }
                Ok(name) => texts.extend(text.map(|text| (name, text.to_owned()))),
                Err(refusal) => {
                    let suggestion = refusal.suggestion();
                    self.report.error_at(entry.name_span.clone(), &key, &refusal, suggestion);
                }
            }
        }
        Some(texts)
    }

    /// A table of tables whose names `parse` takes, in the order written.
    pub(super) fn tables_by<N, T, R: Refusal>(
        &mut self,
        name: &'static str,
        parse: impl Fn(&str) -> Result<N, R>,
        mut read: impl FnMut(&mut Fields<'_>) -> T,
    ) -> Vec<(N, T)> {
        let Some(node) = self.ask(name) else { return Vec::new() };
        let key = self.key.child(name);
        let Some(outer) = Fields::open(self.report, key.clone(), node) else { return Vec::new() };
        let mut tables = Vec::new();
        for entry in outer.entries {
            let key = key.child(&entry.name);
            let parsed = parse(&entry.name).map_err(|refusal| {
                let suggestion = refusal.suggestion();
                self.report.error_at(entry.name_span.clone(), &key, &refusal, suggestion);
            });
            let Some(mut fields) = Fields::open(self.report, key, &entry.node) else { continue };
            let table = read(&mut fields);
            fields.finish();
            tables.extend(parsed.ok().map(|name| (name, table)));
        }
        tables
    }

    /// A table of named tables, in the order written.
    pub(super) fn tables<T>(
        &mut self,
        name: &'static str,
        mut read: impl FnMut(&mut Fields<'_>) -> Option<T>,
    ) -> Table<T> {
        let Some(node) = self.ask(name) else { return Table::default() };
        let key = self.key.child(name);
        let Some(outer) = Fields::open(self.report, key.clone(), node) else { return Table::default() };
        if outer.entries.len() > TABLES_MAX {
            let cause = format!("at most {TABLES_MAX} of these are possible, found {}", outer.entries.len());
            self.report.error(&key, cause, None);
        }
        let mut tables = Vec::new();
        for entry in outer.entries.iter().take(TABLES_MAX) {
            let key = key.child(&entry.name);
            if let Err(refusal) = name::check(&entry.name) {
                self.report.error_at(entry.name_span.clone(), &key, &refusal, refusal.suggestion());
            }
            let Some(mut fields) = Fields::open(self.report, key, &entry.node) else { continue };
            if let Some(value) = read(&mut fields) {
                tables.push((entry.name.clone(), value));
            }
            fields.finish();
        }
        tables.into_iter().collect()
    }

    /// Reports that none of the tables that cannot be missing altogether was written.
    pub(super) fn require_some(&self, name: &str, cause: &str, suggestion: &str) {
        let written = self.find(name).is_some_and(|node| match &node.value {
            Value::Table(entries) => !entries.is_empty(),
            _ => true,
        });
        // One that was misspelt has its own message.
        let is_misspelt =
            |entry: &Entry| entry.name != name && suggest::did_you_mean(&entry.name, [name]).is_some();
        if !written && !self.entries.iter().any(is_misspelt) {
            self.error(name, cause, Some(suggestion.to_owned()));
        }
    }

    fn below(&self, names: &[&str]) -> Key {
        names.iter().fold(self.key.clone(), |key, name| key.child(name))
    }

    fn ask(&mut self, name: &'static str) -> Option<&'r Node> {
        if !self.asked.contains(&name) {
            self.asked.push(name);
        }
        // What the environment failed to fill in has its own message and stands in for anything.
        self.find(name).filter(|node| !matches!(node.value, Value::Unresolved))
    }

    fn find(&self, name: &str) -> Option<&'r Node> {
        self.entries.iter().find(|entry| entry.name == name).map(|entry| &entry.node)
    }

    fn quantity<T: PartialOrd + Display, R: Refusal>(
        &mut self,
        name: &'static str,
        expected: &str,
        parse: impl FnOnce(&str) -> Result<T, R>,
        bounds: RangeInclusive<T>,
    ) -> Option<T> {
        let node = self.ask(name)?;
        let written = match &node.value {
            Value::Text { text, .. } => text.clone(),
            // A bare number is refused by the parser of quantities, which knows the units to suggest.
            Value::Integer(number) => number.to_string(),
            _ => {
                self.wrong_type(name, expected, node);
                return None;
            }
        };
        match parse(&written) {
            Ok(quantity) if bounds.contains(&quantity) => Some(quantity),
            Ok(_) => {
                self.out_of_bounds(name, &bounds, written);
                None
            }
            Err(refusal) => {
                self.report.refuse(&self.key.child(name), &refusal);
                None
            }
        }
    }

    fn wrong_type(&self, name: &str, expected: &str, node: &Node) {
        match &node.value {
            Value::Text { text, interpolated: true } => {
                self.error(name, format!("expected {expected}, found {text:?}"), None);
            }
            _ => {
                let suggestion = as_wanted(name, expected, node);
                self.error(name, format!("expected {expected}, found {}", node.kind()), suggestion);
            }
        }
    }

    fn out_of_bounds<T: Display>(&self, name: &str, bounds: &RangeInclusive<T>, found: impl Display) {
        self.error(name, format!("must be {} to {}, found {found}", bounds.start(), bounds.end()), None);
    }
}

/// How a table is written that something else stands in place of.
fn table_wanted(key: &Key, node: &Node) -> Option<String> {
    let (steps, is_named) = (
        key.steps().len(),
        matches!(key.head(), Some("listener" | "channel" | "upstream" | "security" | "access_log")),
    );
    match (steps, &node.value) {
        (1, Value::List(_)) if is_named => Some(format!("each has a name: [{key}.NAME]")),
        (2, _) if is_named => {
            let kind = key.head().unwrap_or_default();
            Some(format!("tables of this kind have names, and keys in them: [{kind}.NAME]"))
        }
        _ => None,
    }
}

/// The same value as what is expected, where that is plain.
fn as_wanted(name: &str, expected: &str, node: &Node) -> Option<String> {
    match (&node.value, expected) {
        (Value::Text { text, .. }, "true or false") => match text.to_ascii_lowercase().as_str() {
            "true" | "yes" | "on" | "1" => Some("write true".to_owned()),
            "false" | "no" | "off" | "0" => Some("write false".to_owned()),
            _ => None,
        },
        (Value::Text { text, .. }, "an integer") => {
            text.parse::<i128>().ok().map(|number| format!("write {number}, without quotes"))
        }
        (Value::Text { text, .. }, "a list") => Some(format!("write [{text:?}]")),
        (Value::Integer(port @ 0..=65_535), "a string") if name == "bind" => {
            Some(format!("write \"127.0.0.1:{port}\", or \"0.0.0.0:{port}\" for every address"))
        }
        (Value::Integer(number), "a string") => Some(format!("write \"{number}\"")),
        (Value::Date | Value::Float | Value::Boolean(_), "a string") => Some("put it in quotes".to_owned()),
        _ => None,
    }
}

/// One item of a list being read.
pub(super) struct Item<'r> {
    pub(super) report: &'r Report<'r>,
    pub(super) key: Key,
    pub(super) node: &'r Node,
}

impl<'r> Item<'r> {
    pub(super) fn text(&self) -> Option<&'r str> {
        match &self.node.value {
            Value::Text { text, .. } => Some(text),
            Value::Unresolved => None,
            _ => {
                self.report.error(&self.key, format!("expected a string, found {}", self.node.kind()), None);
                None
            }
        }
    }

    /// A string with rules of its own.
    pub(super) fn parsed<T, R: Refusal>(&self, parse: impl FnOnce(&str) -> Result<T, R>) -> Option<T> {
        parse(self.text()?).map_err(|refusal| self.report.refuse(&self.key, &refusal)).ok()
    }
}

impl Item<'_> {
    /// The name of a file, which is read when the process starts.
    pub(super) fn path(&self) -> Option<String> {
        let path = self.text()?;
        self.report.check_path(&self.key, path);
        Some(path.to_owned())
    }

    /// A table with known keys.
    pub(super) fn table<T>(&self, read: impl FnOnce(&mut Fields<'_>) -> T) -> Option<T> {
        let mut fields = Fields::open(self.report, self.key.clone(), self.node)?;
        let value = read(&mut fields);
        fields.finish();
        Some(value)
    }
}
