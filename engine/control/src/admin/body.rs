//! What does the JSON object in a request's body say? Key by key, each with its bounds.
//!
//! Never passes over a key that means nothing: who wrote it believes that it does something.

use std::ops::RangeInclusive;

use axum::http::StatusCode;
use serde_json::{Map, Value};

use super::Refusal;

/// Longest body: a handful of keys.
pub(super) const BODY_BYTES_MAX: usize = 16 * 1024;

/// An object being read.
#[derive(Debug)]
pub(super) struct Object {
    entries: Map<String, Value>,
    asked: Vec<&'static str>,
}

impl Object {
    pub(super) fn parse(bytes: &[u8]) -> Result<Self, Refusal> {
        let value: Value = serde_json::from_slice(bytes).map_err(|error| {
            Refusal::new(StatusCode::BAD_REQUEST, format!("the body is no JSON: {error}"))
                .help("for example {\"address\": \"10.0.0.3:8000\"}")
        })?;
        match value {
            Value::Object(entries) => Ok(Self { entries, asked: Vec::new() }),
            _ => Err(Refusal::new(StatusCode::BAD_REQUEST, "the body is no JSON object")
                .help("for example {\"address\": \"10.0.0.3:8000\"}")),
        }
    }

    /// A string; `None` if the key is left out.
    pub(super) fn text(&mut self, key: &'static str) -> Result<Option<String>, Refusal> {
        match self.take(key) {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text)),
            Some(other) => Err(wrong(key, format!("expected a string, found {}", kind(&other)))),
        }
    }

    /// Yes or no; `None` if the key is left out.
    pub(super) fn boolean(&mut self, key: &'static str) -> Result<Option<bool>, Refusal> {
        match self.take(key) {
            None => Ok(None),
            Some(Value::Bool(value)) => Ok(Some(value)),
            Some(other) => Err(wrong(key, format!("expected true or false, found {}", kind(&other)))),
        }
    }

    /// A list of strings; `None` if the key is left out.
    pub(super) fn texts(&mut self, key: &'static str) -> Result<Option<Vec<String>>, Refusal> {
        let Some(value) = self.take(key) else { return Ok(None) };
        let wrong = |other: &Value| wrong(key, format!("expected a list of strings, found {}", kind(other)));
        let Value::Array(items) = value else { return Err(wrong(&value)) };
        let text = |item: Value| match item {
            Value::String(text) => Ok(text),
            other => Err(wrong(&other)),
        };
        items.into_iter().map(text).collect::<Result<_, _>>().map(Some)
    }

    /// A whole number within these bounds; `None` if the key is left out.
    pub(super) fn number(
        &mut self,
        key: &'static str,
        bounds: RangeInclusive<u32>,
    ) -> Result<Option<u32>, Refusal> {
        let Some(value) = self.take(key) else { return Ok(None) };
        let number = value.as_u64().and_then(|number| u32::try_from(number).ok());
        match number.filter(|number| bounds.contains(number)) {
            Some(number) => Ok(Some(number)),
            None => {
                let found = if value.is_number() { value.to_string() } else { kind(&value).to_owned() };
                let (least, greatest) = bounds.into_inner();
                Err(wrong(key, format!("expected a whole number from {least} to {greatest}, found {found}")))
            }
        }
    }

    /// Refuses every key that was not asked for.
    pub(super) fn finish(self) -> Result<(), Refusal> {
        match self.entries.keys().next() {
            None => Ok(()),
            Some(key) => {
                let known = format!("known: {}", self.asked.join(", "));
                Err(Refusal::new(StatusCode::UNPROCESSABLE_ENTITY, "unknown key")
                    .at(key.as_str())
                    .help(known))
            }
        }
    }

    fn take(&mut self, key: &'static str) -> Option<Value> {
        self.asked.push(key);
        // null is how some programs leave a key out.
        self.entries.remove(key).filter(|value| !value.is_null())
    }
}

/// A key whose value cannot be used.
pub(super) fn wrong(key: &str, cause: impl Into<String>) -> Refusal {
    Refusal::new(StatusCode::UNPROCESSABLE_ENTITY, cause).at(key)
}

/// A key that cannot be left out.
pub(super) fn missing(key: &str, example: &str) -> Refusal {
    Refusal::new(StatusCode::UNPROCESSABLE_ENTITY, "is missing")
        .at(key)
        .help(format!("for example {example}"))
}

fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(body: &str) -> Result<(Option<String>, Option<u32>), Refusal> {
        let mut object = Object::parse(body.as_bytes())?;
        let (text, number) = (object.text("address")?, object.number("weight", 0..=100)?);
        object.finish()?;
        Ok((text, number))
    }

    #[test]
    fn reads_what_is_there() {
        let address = Some("a".to_owned());
        assert_eq!(read(r#"{"address": "a", "weight": 100}"#).expect("an object"), (address, Some(100)));
        assert_eq!(read(r#"{"weight": null}"#).expect("an object"), (None, None));
    }

    #[test]
    fn each_mistake_names_its_key_and_what_was_meant() {
        let check = |body: &str, status: u16, error: &str, at: Option<&str>| {
            let refusal = read(body).expect_err(body);
            let told = (refusal.status.as_u16(), refusal.error.as_str(), refusal.at.as_deref());
            assert_eq!(told, (status, error, at), "{body}");
        };
        check("[]", 400, "the body is no JSON object", None);
        check("", 400, "the body is no JSON: EOF while parsing a value at line 1 column 0", None);
        check(r#"{"address": 5}"#, 422, "expected a string, found a number", Some("address"));
        for (value, found) in [("101", "101"), ("-1", "-1"), ("1.5", "1.5"), ("\"1\"", "a string")] {
            let error = format!("expected a whole number from 0 to 100, found {found}");
            check(&format!(r#"{{"weight": {value}}}"#), 422, &error, Some("weight"));
        }
        check(r#"{"wieght": 1}"#, 422, "unknown key", Some("wieght"));
    }
}
