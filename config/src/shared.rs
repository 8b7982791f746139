//! What of a configuration do all processes of a node share, and how is it read back? The whole, but for what is one process's own.
//!
//! Never puts the environment in: each process does that with its own, and a store holds no secret that way.

use std::collections::BTreeSet;
use std::path::Path;

use serde::ser::{Serialize, SerializeMap, SerializeSeq, Serializer};

use crate::document::include::EDITOR_SCHEMA;
use crate::document::source::{Naming, Source};
use crate::document::{Document, Entry, Files, Format, Node, Value};
use crate::load::{Loaded, load_document};
use crate::problem::Problems;

/// The table that says where the store is.
const STORE: &str = "store";
/// Keys of `[node]` that are one process's own.
const OWN_OF_NODE: [&str; 1] = ["server_port_offset"];

/// What goes into the store of a configuration: JSON, its tables in the order written, references to the environment as they are.
/// `[store]` and `node.server_port_offset` stay behind; what is included is part of it.
///
/// # Errors
/// Every problem of form. Whether it can be used is for [`load_shared`] to say.
pub fn shared_document(files: &crate::Files) -> Result<String, Problems> {
    let mut root = whole(files)?;
    if let Value::Table(entries) = &mut root.value {
        entries.retain(|entry| entry.name != STORE);
        for entry in entries.iter_mut().filter(|entry| entry.name == "node") {
            if let Value::Table(keys) = &mut entry.node.value {
                keys.retain(|key| !OWN_OF_NODE.contains(&key.name.as_str()));
            }
        }
    }
    Ok(written(&root))
}

/// A configuration as one JSON text, references to the environment as they are, to be sent to a process: see [`load_sent`].
///
/// # Errors
/// Every problem of form.
pub fn whole_document(files: &crate::Files) -> Result<String, Problems> {
    Ok(written(&whole(files)?))
}

fn whole(files: &crate::Files) -> Result<Node, Problems> {
    let mut root = files.set().tree()?;
    root.take(EDITOR_SCHEMA);
    Ok(root)
}

fn written(root: &Node) -> String {
    // Every key is a string and every value has a JSON form.
    serde_json::to_string_pretty(&Written(root)).unwrap_or_default() + "\n"
}

/// Loads what [`whole_document`] made, as if it stood in a file of `directory`; without one, files are named by absolute paths.
/// `name` stands for it in messages; the environment is the process's.
///
/// # Errors
/// Every problem found, warnings among them, in the order of the text.
pub fn load_sent(
    name: &str,
    document: &str,
    directory: Option<&Path>,
    stopped: &BTreeSet<String>,
) -> Result<Loaded, Problems> {
    let source = Source::new(name, document, Naming::Keys);
    let mut document = Document::parse(source, Format::Json, &|variable| std::env::var(variable).ok())?;
    document.files = directory.map_or(Files::Anywhere, |directory| Files::Beside(directory.to_owned()));
    load_document(&document, stopped)
}

/// Loads what [`shared_document`] made, without the modules in `stopped` and those that need one of them. Files that it names are
/// named by absolute paths, as it has no directory of its own.
///
/// # Errors
/// Every problem found, warnings among them, in the order of the text.
pub fn load_shared(
    name: &str,
    document: &str,
    stopped: &BTreeSet<String>,
    environment: &dyn Fn(&str) -> Option<String>,
) -> Result<Loaded, Problems> {
    let source = Source::new(name, document, Naming::Keys);
    let mut document = Document::parse(source, Format::Json, environment)?;
    document.files = Files::Anywhere;
    load_document(&document, stopped)
}

/// A tree as JSON.
struct Written<'n>(&'n Node);

impl Serialize for Written<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match &self.0.value {
            Value::Text { text, .. } => serializer.serialize_str(text),
            Value::Integer(number) => match i64::try_from(*number) {
                Ok(number) => serializer.serialize_i64(number),
                // Beyond every bound of every key; the reader says so.
                Err(_) => serializer.serialize_i64(i64::MAX),
            },
            Value::Boolean(boolean) => serializer.serialize_bool(*boolean),
            // No key takes one of these; what stands there instead is refused as well.
            Value::Float | Value::Date | Value::Null | Value::Unresolved => serializer.serialize_unit(),
            Value::List(items) => {
                let mut list = serializer.serialize_seq(Some(items.len()))?;
                items.iter().try_for_each(|item| list.serialize_element(&Written(item)))?;
                list.end()
            }
            Value::Table(entries) => {
                let mut map = serializer.serialize_map(Some(entries.len()))?;
                let write = |Entry { name, node, .. }: &Entry| map.serialize_entry(name, &Written(node));
                entries.iter().try_for_each(write)?;
                map.end()
            }
        }
    }
}
