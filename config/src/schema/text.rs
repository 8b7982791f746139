//! How are the values spelled that have more than one form?
//!
//! Nothing here decides whether a value is allowed: that is the reader's part.

use std::borrow::Cow;
use std::fmt::{self, Write as _};
use std::net::SocketAddr;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Serialize, Serializer};

use crate::value::address::{LISTENER_PREFIX, SERVICE_PREFIX, UNIX_PREFIX};
use crate::value::fingerprint::FINGERPRINT_PREFIX;

/// Where a listener listens, as written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Bind {
    /// `IP:PORT`.
    Tcp(SocketAddr),
    /// `unix:/PATH`.
    Unix(String),
}

impl Bind {
    /// The TCP address, if it is one.
    pub(crate) fn tcp(&self) -> Option<SocketAddr> {
        match self {
            Self::Tcp(address) => Some(*address),
            Self::Unix(_) => None,
        }
    }
}

impl fmt::Display for Bind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => address.fmt(f),
            Self::Unix(path) => write!(f, "{UNIX_PREFIX}{path}"),
        }
    }
}

impl Serialize for Bind {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl JsonSchema for Bind {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "Bind".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string" })
    }
}

/// Permissions of a Unix socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UnixMode(pub(crate) u32);

impl Default for UnixMode {
    /// Who runs the process, and the group it runs as.
    fn default() -> Self {
        Self(0o660)
    }
}

impl Serialize for UnixMode {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&format_args!("{:04o}", self.0))
    }
}

impl JsonSchema for UnixMode {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "UnixMode".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "pattern": "^0?[0-7]{3}$|\\$\\{" })
    }
}

/// Upstreams by server name, sorted by the name, which is in lower case.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ServerNames(pub(crate) Vec<(String, String)>);

impl ServerNames {
    /// Names, `*.` in front of those that stand for all below, and upstreams.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (&str, &str)> {
        self.0.iter().map(|(name, upstream)| (name.as_str(), upstream.as_str()))
    }
}

impl Serialize for ServerNames {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.iter())
    }
}

impl JsonSchema for ServerNames {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "ServerNames".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "object", "additionalProperties": { "type": "string" } })
    }
}

/// SHA-256 of a certificate in DER.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fingerprint(pub(crate) [u8; 32]);

impl Serialize for Fingerprint {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut text = FINGERPRINT_PREFIX.to_owned();
        for byte in self.0 {
            // Writing to a String does not fail.
            let _ = write!(text, "{byte:02x}");
        }
        serializer.serialize_str(&text)
    }
}

impl JsonSchema for Fingerprint {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "Fingerprint".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string" })
    }
}

/// Where an endpoint listens, as written.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Target {
    /// `IP:PORT`.
    Tcp(SocketAddr),
    /// `localhost:PORT`, always 127.0.0.1.
    Localhost(u16),
    /// `unix:/PATH`.
    Unix(String),
    /// `listener:NAME`: one of this process's own listeners, at whatever port it was bound.
    Listener(String),
    /// `NAME:PORT`: every address of a host.
    Name {
        /// In lower case, without a final dot.
        host: String,
        /// 1 to 65535.
        port: u16,
    },
    /// `srv:NAME`: every server of a service.
    Service(String),
}

impl Target {
    /// The name of the listener, if it is one of this process's own.
    pub(crate) fn listener(&self) -> Option<&str> {
        match self {
            Self::Listener(name) => Some(name),
            Self::Tcp(_) | Self::Localhost(_) | Self::Unix(_) | Self::Name { .. } | Self::Service(_) => None,
        }
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => address.fmt(f),
            Self::Localhost(port) => write!(f, "localhost:{port}"),
            Self::Unix(path) => write!(f, "{UNIX_PREFIX}{path}"),
            Self::Listener(name) => write!(f, "{LISTENER_PREFIX}{name}"),
            Self::Name { host, port } => write!(f, "{host}:{port}"),
            Self::Service(name) => write!(f, "{SERVICE_PREFIX}{name}"),
        }
    }
}

impl Serialize for Target {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl JsonSchema for Target {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "Target".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "description": "\"IP:PORT\", \"localhost:PORT\", \"unix:/PATH\", \"listener:NAME\", \"NAME:PORT\" or \"srv:NAME\".",
            "type": "string",
            "examples": ["10.0.0.1:8000", "localhost:8000", "unix:/run/app.sock", "listener:origin", "app.example:8000"],
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

/// The same, and the list may be empty.
pub(super) fn one_or_many_or_none(_: &mut SchemaGenerator) -> Schema {
    json_schema!({ "anyOf": [{ "type": "string" }, { "type": "array", "items": { "type": "string" } }] })
}

/// A channel has an upstream, a response or a redirect.
pub(super) fn exactly_one_action(schema: &mut Schema) {
    let actions = serde_json::json!([
        { "required": ["upstream"] },
        { "required": ["respond"] },
        { "required": ["redirect"] },
    ]);
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
