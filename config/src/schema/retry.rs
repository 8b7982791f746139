//! When does a request go out again, and what happens to one for which there is no room?
//!
//! Nothing here allows a request with effects to go out twice: no key does.

use std::borrow::Cow;
use std::fmt;

use proto::retry::Cause;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Serialize, Serializer};

use crate::value::duration::Timespan;
use crate::value::share::Share;

/// When a request goes out again, to another endpoint where there is one. One of which a byte may have arrived does so only
/// if its method is idempotent (RFC 9110 §9.2.2) and its body was short enough to be still at hand.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
#[schemars(deny_unknown_fields, default)]
pub struct Retry {
    /// How often a request may be tried, the first time included. Of three endpoints the third rarely fails for a reason of
    /// its own. 1 to 10.
    #[schemars(range(min = 1, max = 10), example = 2)]
    pub tries: u8,
    /// How many requests may be tried again, as a share of those sent, so that an upstream that is failing as a whole is not
    /// asked much more than usual. Ten a second are allowed in any case, on each core, unless it is 0%. 0% to 100%.
    #[schemars(example = &"10%")]
    pub budget: Share,
    /// After what: `connect`, no connection; `reset`, one that died before an answer began; `timeout`, no answer in time; or
    /// an answer with a status from 400 to 599, such as `"503"`.
    #[schemars(schema_with = "causes", extend("examples" = [["connect", "reset", "timeout", "503"]]))]
    pub on: Vec<RetryCause>,
}

/// After what a request goes out again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RetryCause {
    /// One of those that have a word.
    Word(Cause),
    /// An answer with this status.
    Status(u16),
}

/// Where a request waits while every endpoint has as many connections as it may have.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, JsonSchema)]
#[schemars(deny_unknown_fields, default)]
pub struct Queue {
    /// Requests that may wait at a time, over all cores; further ones are answered 503 at once. 0 to 1000000.
    #[schemars(range(min = 0, max = 1_000_000), example = 100)]
    pub size: u32,
    /// How long each may wait; then 503. Who has waited longer than that is mostly gone. 1ms to 24h.
    #[schemars(example = &"250ms")]
    pub timeout: Timespan,
}

/// A second copy of a request whose answer is slow in coming, to another endpoint; the first answer wins. Only of a request
/// without a body whose method is idempotent, and within `retry.budget` of the upstream.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct Hedge {
    /// How long the first byte of the answer is waited for before. Where the slowest twentieth begins, the second copy costs a
    /// twentieth more requests. 1ms to 24h.
    #[schemars(example = &"100ms")]
    pub after: Timespan,
}

impl Default for Retry {
    fn default() -> Self {
        let on = [Cause::Connect, Cause::Reset].map(RetryCause::Word).into();
        Self { tries: 3, budget: Share::from_percent(20), on }
    }
}

impl Default for Queue {
    fn default() -> Self {
        Self { size: 1024, timeout: Timespan::from_secs(1) }
    }
}

impl fmt::Display for RetryCause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Word(cause) => f.write_str(cause.name()),
            Self::Status(status) => status.fmt(f),
        }
    }
}

impl Serialize for RetryCause {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl JsonSchema for RetryCause {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "RetryCause".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string" })
    }
}

/// Some causes or none.
fn causes(_: &mut SchemaGenerator) -> Schema {
    let pattern = r"^(connect|reset|timeout|[45][0-9]{2})$|\$\{";
    json_schema!({ "type": "array", "items": { "type": "string", "pattern": pattern } })
}
