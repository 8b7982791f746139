//! What do our own error answers say, where the operator has a word of their own?
//!
//! A page is text; the file it may come from is read when the configuration is, and never again.

use std::borrow::Cow;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::ser::{Serialize, SerializeMap, Serializer};

/// Statuses that an answer to an error has.
pub(crate) const STATUS_PATTERN: &str = "^[45][0-9][0-9]$";

/// Bodies of our own error answers, by status, `[listener.NAME.error_page.STATUS]` or
/// `[channel.NAME.error_page.STATUS]`; a channel's come first.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ErrorPages(Vec<(u16, ErrorPage)>);

/// The body of an error answer, in place of the built-in one. Either `body` or `file`.
#[derive(Clone, Debug, PartialEq, serde::Serialize, JsonSchema)]
#[schemars(deny_unknown_fields, default, transform = or_file)]
pub struct ErrorPage {
    /// Value of `Content-Type`.
    #[schemars(example = &"application/json")]
    pub content_type: String,
    /// The body, at most 64KiB.
    #[schemars(example = &"<h1>Back in a minute</h1>")]
    pub body: String,
}

impl Default for ErrorPage {
    fn default() -> Self {
        Self { content_type: "text/html; charset=utf-8".to_owned(), body: String::new() }
    }
}

impl ErrorPages {
    /// By status, rising.
    pub(crate) fn new(mut pages: Vec<(u16, ErrorPage)>) -> Self {
        pages.sort_by_key(|(status, _)| *status);
        Self(pages)
    }

    /// Statuses and pages.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (u16, &ErrorPage)> {
        self.0.iter().map(|(status, page)| (*status, page))
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl Serialize for ErrorPages {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.0.len()))?;
        for (status, page) in self.iter() {
            map.serialize_entry(&status.to_string(), page)?;
        }
        map.end()
    }
}

impl JsonSchema for ErrorPages {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "ErrorPages".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "object",
            "propertyNames": { "pattern": STATUS_PATTERN },
            "additionalProperties": generator.subschema_for::<ErrorPage>(),
        })
    }
}

/// `file`, which is read into `body` and leaves no trace.
fn or_file(schema: &mut Schema) {
    let file = serde_json::json!({
        "description": "A UTF-8 file with the body, at most 64KiB; a relative path begins at the configuration file's \
                        directory. Read with the configuration, and `body` from then on.",
        "type": "string",
        "examples": ["pages/502.html"],
    });
    if let Some(properties) = schema.get_mut("properties").and_then(serde_json::Value::as_object_mut) {
        properties.insert("file".to_owned(), file);
    }
    schema.insert("not".to_owned(), serde_json::json!({ "required": ["body", "file"] }));
}
