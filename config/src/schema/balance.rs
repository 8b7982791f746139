//! Which endpoint gets the next exchange, and which comes back to the one it had?
//!
//! Every default is what gives each endpoint its share; nothing here says whether an endpoint is well.

use std::borrow::Cow;
use std::fmt;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::ser::SerializeStruct;
use serde::{Serialize, Serializer};

use super::text::Target;
use crate::value::duration::Timespan;

/// How an endpoint is chosen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Balance {
    /// Each endpoint in turn, on each core; as often as its weight says, spread evenly.
    #[default]
    RoundRobin,
    /// The one with the fewest exchanges in use for its weight, those of all cores counted.
    LeastConnections,
    /// The one with fewer exchanges in use for its weight, of two chosen by chance.
    RandomTwo,
    /// The same for the same client address.
    SourceHash,
    /// The same for the same value of what `hash` names.
    Hash,
    /// The one that would have the fewest exchanges for its weight with this one.
    ShortestExpectedDelay,
    /// One that has none in use, else as `shortest_expected_delay`.
    NeverQueue,
    /// The one whose average time to an answer, times the exchanges in use and this one, is shortest.
    LeastTime,
}

/// What `balance = "hash"` goes by, and where that leads.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct Hash {
    /// What is hashed: `uri`, the path with its query; `destination`, the host that is asked for; `source`, the client's
    /// address; `header:NAME` or `cookie:NAME`. Requests that have none of it take turns. Of connections that are relayed it
    /// is the client's address.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(default, with = "String", example = &"header:X-Tenant")]
    pub on: Option<String>,
    /// Where that leads: `maglev`, evenly and at once; `ketama`, a ring on which nothing moves but what must when an endpoint is
    /// removed.
    #[schemars(default, example = &"ketama")]
    pub table: HashTable,
    /// Leading bits of an IPv4 address that tell clients apart. 0 to 32.
    #[schemars(default = "mask_default", range(min = 0, max = 32), example = 24)]
    pub mask: u8,
    /// The same for IPv6. 0 to 128.
    #[schemars(default = "mask6_default", range(min = 0, max = 128), example = 64)]
    pub mask6: u8,
}

/// Where a hash leads.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum HashTable {
    /// Equal shares, found at once.
    #[default]
    Maglev,
    /// A ring.
    Ketama,
}

/// Clients of the same address come back to the endpoint they had. Kept in memory, for all cores together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct PersistenceTerms {
    /// How long an endpoint is remembered after the last exchange. 1s to 24h.
    #[schemars(default = "persistence_timeout_default", example = &"30m")]
    pub timeout: Timespan,
    /// Leading bits of an IPv4 address that tell clients apart. 0 to 32.
    #[schemars(default = "mask_default", range(min = 0, max = 32), example = 24)]
    pub mask: u8,
    /// The same for IPv6. 0 to 128.
    #[schemars(default = "mask6_default", range(min = 0, max = 128), example = 64)]
    pub mask6: u8,
    /// Clients that are remembered at a time, at 8 bytes each; then the one that would be forgotten first makes room. 64 to
    /// 16777216.
    #[schemars(default = "clients_default", range(min = 64, max = 16_777_216), example = 1_000_000)]
    pub clients: u32,
}

/// Clients come back to the endpoint they had by a cookie that they are given. It is signed, and says nothing of the endpoint to
/// anybody else.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct Sticky {
    /// Name of the cookie.
    #[schemars(default = "cookie_default", example = &"session_at")]
    pub cookie: String,
    /// What the cookie is signed with, at least 16 bytes: the same in every process that gets the same clients, and after a
    /// restart. Written out, it is left out. Exactly one of `secret` and `secret_file`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(default, with = "String", example = &"a long sentence that nobody guesses")]
    pub secret: Option<Secret>,
    /// The same from a file, without the line end; read when the configuration is.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(default, with = "String", example = &"/etc/corelane/sticky.secret")]
    pub secret_file: Option<String>,
    /// What is in that file.
    #[serde(skip)]
    pub(crate) from_file: Option<Secret>,
    /// The secret before this one: what was signed with it is still believed.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(default, with = "String", example = &"the sentence that it was before")]
    pub previous_secret: Option<Secret>,
    /// How long a client keeps the cookie, from the answer that set it; without it, as long as the client runs. 1s to 8760h.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(default, with = "Timespan", example = &"1h")]
    pub lifetime: Option<Timespan>,
    /// Requests that carry it: those whose path begins with this.
    #[schemars(default = "path_default", example = &"/app/")]
    pub path: String,
    /// Whether it is for HTTPS alone: where the request came by it, always or never.
    #[schemars(default, example = &"always")]
    pub secure: Secure,
    /// Whether it goes along with requests that another site has caused (`SameSite`).
    #[schemars(default, example = &"strict")]
    pub same_site: SameSite,
    /// Whether it is passed on to the endpoint.
    #[schemars(default, example = true)]
    pub pass: bool,
}

/// Whether a cookie is for HTTPS alone.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Secure {
    /// Where the request came by it.
    #[default]
    Auto,
    /// Even where this process does not see it: something in front ends it.
    Always,
    /// Not even there.
    Never,
}

/// Which requests of other sites a cookie goes along with.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum SameSite {
    /// Links that are followed.
    #[default]
    Lax,
    /// None.
    Strict,
    /// All; browsers then want `Secure`.
    None,
}

/// What must not be read by others. Never written out.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Secret(pub(crate) Box<[u8]>);

/// What stands for a secret where it would have been written out; too short to be taken for one.
const REDACTED: &str = "(left out)";

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(REDACTED)
    }
}

impl Serialize for Secret {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(REDACTED)
    }
}

/// One server of an upstream, with what holds for it alone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EndpointEntry {
    /// Where it listens.
    pub address: Target,
    /// Its share, beside those of the others; 0 takes no new sessions.
    pub weight: u16,
    /// Connections that it may have, from all cores together.
    pub max_connections: Option<u32>,
    /// With fewer than these it gets new sessions again, once it had the most it may have.
    pub min_connections: Option<u32>,
    /// Those of the lowest number that has one that is up are used.
    pub priority: u8,
    /// Where it stands.
    pub zone: Option<String>,
}

impl EndpointEntry {
    /// An endpoint like any other.
    #[must_use]
    pub fn at(address: Target) -> Self {
        Self { address, weight: 1, max_connections: None, min_connections: None, priority: 0, zone: None }
    }
}

/// An address that has nothing of its own is written as it is.
impl Serialize for EndpointEntry {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Self { address, weight, max_connections, min_connections, priority, zone } = self;
        if *self == Self::at(address.clone()) {
            return address.serialize(serializer);
        }
        let mut written = serializer.serialize_struct("Endpoint", 6)?;
        written.serialize_field("address", address)?;
        written.serialize_field("weight", weight)?;
        if let Some(connections) = max_connections {
            written.serialize_field("max_connections", connections)?;
        }
        if let Some(connections) = min_connections {
            written.serialize_field("min_connections", connections)?;
        }
        written.serialize_field("priority", priority)?;
        if let Some(zone) = zone {
            written.serialize_field("zone", zone)?;
        }
        written.end()
    }
}

impl JsonSchema for EndpointEntry {
    fn schema_name() -> Cow<'static, str> {
        "Endpoint".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let address = generator.subschema_for::<Target>();
        json_schema!({
            "anyOf": [
                address,
                {
                    "type": "object",
                    "properties": {
                        "address": address,
                        "weight": { "type": "integer", "minimum": 0, "maximum": 65_535, "default": 1 },
                        "max_connections": { "type": "integer", "minimum": 1, "maximum": 1_000_000 },
                        "min_connections": { "type": "integer", "minimum": 0, "maximum": 1_000_000 },
                        "backup": { "type": "boolean", "default": false },
                        "priority": { "type": "integer", "minimum": 0, "maximum": 255, "default": 0 },
                        "zone": { "type": "string" },
                    },
                    "required": ["address"],
                    "additionalProperties": false,
                },
            ],
        })
    }
}

pub(crate) fn mask_default() -> u8 {
    32
}

pub(crate) fn mask6_default() -> u8 {
    128
}

/// LVS's own: `ipvsadm -p` without a value.
pub(crate) fn persistence_timeout_default() -> Timespan {
    Timespan::from_secs(300)
}

/// Half a MiB.
pub(crate) fn clients_default() -> u32 {
    65_536
}

pub(crate) fn cookie_default() -> String {
    "corelane".to_owned()
}

pub(crate) fn path_default() -> String {
    "/".to_owned()
}
