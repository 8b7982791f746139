//! What becomes of a message's head on its way, and where a client is sent instead?
//!
//! Every text here is the operator's; `${NAME}` in it is what the request puts in.

use std::borrow::Cow;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Serialize, Serializer};

/// Changes to header fields. Those that frame a message or belong to one hop are not to be touched. In values, `${NAME}` stands
/// for `client_address`, `host`, `authority`, `path`, `query`, `scheme`, `method`, `request_id`, `listener` or `channel`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, JsonSchema)]
#[schemars(deny_unknown_fields, default)]
pub struct HeadEdits {
    /// Fields, each in place of all of its name. `Host` of a request among them.
    #[serde(skip_serializing_if = "FieldTexts::is_empty")]
    #[schemars(with = "FieldTexts", extend("examples" = [{ "X-Client": "${client_address}" }]))]
    pub set: FieldTexts,
    /// Fields beside those of their name.
    #[serde(skip_serializing_if = "FieldTexts::is_empty")]
    #[schemars(with = "FieldTexts", extend("examples" = [{ "Vary": "Accept" }]))]
    pub add: FieldTexts,
    /// Names of fields that are taken out.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(min = 1), extend("examples" = [["Server", "X-Powered-By"]]))]
    pub remove: Vec<String>,
}

/// Field values by name, in the order written.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FieldTexts(pub(crate) Vec<(String, String)>);

impl FieldTexts {
    /// Names and values.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (&str, &str)> {
        self.0.iter().map(|(name, value)| (name.as_str(), value.as_str()))
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl Serialize for FieldTexts {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.iter())
    }
}

impl JsonSchema for FieldTexts {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "FieldTexts".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "object", "additionalProperties": { "type": "string" } })
    }
}

/// The path that an endpoint sees; the query is kept. Either one prefix in place of another, or what a regular expression finds
/// replaced.
#[derive(Clone, Debug, Default, PartialEq, Serialize, JsonSchema)]
#[schemars(deny_unknown_fields, default)]
pub struct Rewrite {
    /// Taken off where the path has it whole: `/api` of `/api` and `/api/x`, not of `/apis`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "String", example = &"/api")]
    pub strip_prefix: Option<String>,
    /// Put in front of what is left.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "String", example = &"/v1")]
    pub add_prefix: Option<String>,
    /// Regular expression; what it finds first in the path is replaced by `to`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "String", example = &"^/patient/([0-9]+)$")]
    pub path: Option<String>,
    /// What stands in its place; `$1` to `$9` are what the groups found, `$$` is a `$`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "String", example = &"/fhir/Patient/$1")]
    pub to: Option<String>,
}

impl Rewrite {
    pub(super) fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

impl HeadEdits {
    /// Whether nothing is changed.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// Sends the client elsewhere, in place of an upstream's answer.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct Redirect {
    /// Status code: `301` or `308` for good, `302` or `307` for now, `303` to GET something else; `307` and `308` keep the
    /// method. 301 to 308.
    #[schemars(default = "redirect_status_default", range(min = 301, max = 308), example = 308)]
    pub status: u16,
    /// Where to, a URL or a path; `${NAME}` as in header fields.
    #[schemars(example = &"https://${host}${path}${query}")]
    pub to: String,
}

pub(crate) fn redirect_status_default() -> u16 {
    302
}
