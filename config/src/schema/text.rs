//! How are the values spelled that have more than one form?
//!
//! Nothing here decides whether a value is allowed: that is the reader's part.

use std::borrow::Cow;
use std::fmt;
use std::net::SocketAddr;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Serialize, Serializer};

use crate::value::address::LISTENER_PREFIX;

/// Where an endpoint listens, as written.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Target {
    /// `IP:PORT`.
    Tcp(SocketAddr),
    /// `localhost:PORT`, always 127.0.0.1.
    Localhost(u16),
    /// `listener:NAME`: one of this process's own listeners, at whatever port it was bound.
    Listener(String),
}

impl Target {
    /// The name of the listener, if it is one of this process's own.
    pub(crate) fn listener(&self) -> Option<&str> {
        match self {
            Self::Listener(name) => Some(name),
            Self::Tcp(_) | Self::Localhost(_) => None,
        }
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => address.fmt(f),
            Self::Localhost(port) => write!(f, "localhost:{port}"),
            Self::Listener(name) => write!(f, "{LISTENER_PREFIX}{name}"),
        }
    }
}

impl Serialize for Target {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl JsonSchema for Target {
    fn schema_name() -> Cow<'static, str> {
        "Endpoint".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        let address = json_schema!({
            "description": "\"IP:PORT\", \"localhost:PORT\" or \"listener:NAME\".",
            "type": "string",
            "examples": ["10.0.0.1:8000", "localhost:8000", "listener:origin"],
        });
        json_schema!({
            "anyOf": [
                address,
                {
                    "type": "object",
                    "properties": { "address": address },
                    "required": ["address"],
                    "additionalProperties": false,
                },
            ],
        })
    }
}

/// Our name in `Via`, if we add one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Via {
    /// `false`: no `Via` is added.
    Off,
    /// A pseudonym, a token of RFC 9110 §5.6.2.
    Name(String),
}

impl Default for Via {
    fn default() -> Self {
        Self::Name("corelane".to_owned())
    }
}

impl Serialize for Via {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Off => serializer.serialize_bool(false),
            Self::Name(name) => serializer.serialize_str(name),
        }
    }
}

impl JsonSchema for Via {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "Via".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "anyOf": [{ "type": "string", "minLength": 1 }, { "type": "boolean" }] })
    }
}

/// A string or a list of strings.
pub(super) fn one_or_many(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "anyOf": [{ "type": "string" }, { "type": "array", "items": { "type": "string" }, "minItems": 1 }],
    })
}

/// A channel has an upstream or a response.
pub(super) fn exactly_one_action(schema: &mut Schema) {
    let actions = serde_json::json!([{ "required": ["upstream"] }, { "required": ["respond"] }]);
    schema.insert("oneOf".to_owned(), actions);
}

/// No two of the three ways to name a path.
pub(super) fn at_most_one_path(schema: &mut Schema) {
    let pairs = serde_json::json!([
        { "required": ["path", "path_prefix"] },
        { "required": ["path", "path_exact"] },
        { "required": ["path_prefix", "path_exact"] },
    ]);
    schema.insert("not".to_owned(), serde_json::json!({ "anyOf": pairs }));
}
