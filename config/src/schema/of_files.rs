//! What may stand in a file that is not part of the configuration itself? What it includes, and what editors are told by.
//!
//! Never a key that anything is configured by: once the files are read, these have done their work.

use schemars::Schema;
use serde_json::{Value, json};

use crate::document::include::{EDITOR_SCHEMA, INCLUDE};

/// Adds the keys to the schema of the whole.
pub(super) fn add(schema: &mut Schema) {
    let include = json!({
        "description": "Further files, whose tables and keys are as if they were written here: one path or a list, relative to this \
                        file. The last part of a path may hold `*` and `?` and then stands for all files that match, in the order \
                        of their names; those that begin with a dot are left out. No key may be in two files, though a table may; \
                        paths in them begin at the directory of this file, and they include no others.",
        "anyOf": [
            { "type": "string", "minLength": 1 },
            { "type": "array", "items": { "type": "string", "minLength": 1 } },
        ],
        "examples": ["conf.d/*.toml"],
    });
    let editor_schema = json!({
        "description": "Where an editor finds the JSON schema of a JSON file; nothing else looks at it. In TOML, write `#:schema PATH`.",
        "type": "string",
        "examples": ["corelane.schema.json"],
    });
    if let Some(properties) = schema.get_mut("properties").and_then(Value::as_object_mut) {
        properties.insert(INCLUDE.to_owned(), include);
        properties.insert(EDITOR_SCHEMA.to_owned(), editor_schema);
    }
}
