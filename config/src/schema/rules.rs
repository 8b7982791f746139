//! What may a channel demand of its requests, and do to them?
//!
//! Every rule says what a client is answered that breaks it.

use std::borrow::Cow;
use std::fmt;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Serialize, Serializer};

use crate::value::duration::Timespan;
use crate::value::rate::Rate;
use crate::value::share::Share;
use crate::value::size::ByteSize;

/// What precedes the name of a field that requests are told apart by.
pub(crate) const HEADER_PREFIX: &str = "header:";

/// How often requests may come.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct RateLimit {
    /// Whose requests are counted together.
    #[schemars(default)]
    pub by: RateKey,
    /// How many in each second, minute or hour.
    pub rate: Rate,
    /// How many of them may come at once after a rest.
    #[schemars(default, with = "u32", range(min = 1, max = 1_000_000))]
    pub burst: u32,
    /// Addresses, or values of the field, that are told apart at a time.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(default, with = "u32", range(min = 1024, max = 1_048_576))]
    pub keys: Option<u32>,
}

/// Whose requests are counted together.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum RateKey {
    /// All of the channel's.
    #[default]
    Channel,
    /// Those of one client address.
    Address,
    /// Those with the same value of this field.
    Header(String),
}

impl fmt::Display for RateKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Channel => f.write_str("channel"),
            Self::Address => f.write_str("address"),
            Self::Header(name) => write!(f, "{HEADER_PREFIX}{name}"),
        }
    }
}

impl Serialize for RateKey {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl JsonSchema for RateKey {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "RateKey".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "description": "Whose requests are counted together: \"channel\", \"address\" or \"header:NAME\".",
            "type": "string",
        })
    }
}

/// Exchanges of a channel in progress at a time, over all cores; one that has become a tunnel counts as long as that lasts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, JsonSchema)]
#[schemars(deny_unknown_fields, default)]
pub struct Concurrency {
    /// Of all clients together; then 503 with `Retry-After`. 1 to 10000000.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "u32", range(min = 1, max = 10_000_000), example = 1000)]
    pub channel: Option<u32>,
    /// Of one client address, of which in IPv6 the first 64 bits count; then 429. 1 to 10000000.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "u32", range(min = 1, max = 10_000_000), example = 10)]
    pub address: Option<u32>,
}

impl Concurrency {
    pub(super) fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// Faults made on purpose, to see what clients make of them. The delay comes first; both may hit the same request.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, JsonSchema)]
#[schemars(deny_unknown_fields, default)]
pub struct Faults {
    /// Requests that are let wait.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Delay")]
    pub delay: Option<Delay>,
    /// Requests that are answered with an error.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Abort")]
    pub abort: Option<Abort>,
}

/// Requests that are let wait.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct Delay {
    /// How long. 1ms to 24h.
    #[schemars(example = &"100ms")]
    pub time: Timespan,
    /// How many of them, by dice. 0% to 100%.
    #[schemars(default = "share_default", example = &"10%")]
    pub share: Share,
}

/// Requests that are answered with an error.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, JsonSchema)]
#[schemars(deny_unknown_fields, default)]
pub struct Abort {
    /// The status. 400 to 599.
    #[schemars(range(min = 400, max = 599), example = 500)]
    pub status: u16,
    /// How many of them, by dice. 0% to 100%.
    #[schemars(example = &"1%")]
    pub share: Share,
}

/// Copies of requests to another upstream, whose answers are dropped and whose failures nobody notices but the counters.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct Mirror {
    /// Name of the upstream that gets the copies.
    #[schemars(example = &"shadow")]
    pub upstream: String,
    /// How many requests are copied, by dice. 0% to 100%.
    #[schemars(default = "share_default", example = &"10%")]
    pub share: Share,
    /// Longest body of a request that is copied; it also has to come with the head. 0B to 64KiB.
    #[schemars(default = "mirror_body_default", example = &"1KiB")]
    pub body_bytes: ByteSize,
    /// Whether requests are copied that may have effects, such as POST: whatever gets the copies would do it once more.
    #[schemars(default, example = true)]
    pub unsafe_methods: bool,
}

impl Default for Abort {
    fn default() -> Self {
        Self { status: 503, share: share_default() }
    }
}

impl Faults {
    pub(super) fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

pub(crate) fn share_default() -> Share {
    Share::from_percent(100)
}

pub(crate) fn mirror_body_default() -> ByteSize {
    ByteSize::from_kib(16)
}
