//! May this text stand in a message: as a method, a pseudonym, a field value?
//!
//! Never repairs one: what is sent is what was written.

use proto::http1::answer::CONTENT_TYPE_BYTES_MAX;
use proto::http1::field::is_token;
use proto::http1::rewrite::{PSEUDONYM_BYTES_MAX, is_pseudonym};
use thiserror::Error;

use super::Refusal;

/// The methods of RFC 9110 §9.3 and RFC 5789.
const METHODS: [&str; 9] = ["GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH"];

/// Why a text was refused.
#[derive(Debug, PartialEq, Eq, Error)]
pub(crate) enum FieldError {
    #[error("expected a token (letters, digits and !#$%&'*+-.^_`|~), found {found:?}")]
    NoToken { found: String },
    #[error("methods are case-sensitive, found {found:?}")]
    MethodCase { found: String, meant: &'static str },
    #[error("a field value has no control characters, found {found:?}")]
    Control { found: char },
    #[error("a field value neither starts nor ends with a space")]
    OuterSpace,
    #[error("at most {limit} bytes, found {found}")]
    TooLong { limit: usize, found: usize },
    #[error("an upgrade to HTTP/2 would carry requests past every rule here")]
    ClearHttp2,
    #[error("requests are counted by channel, address or header:NAME, found {found:?}")]
    NoKey { found: String },
    #[error("a content type is written type/subtype, found {found:?}")]
    NoMediaType { found: String },
}

impl Refusal for FieldError {
    fn suggestion(&self) -> Option<String> {
        match self {
            Self::MethodCase { meant, .. } => Some(format!("did you mean {meant:?}?")),
            Self::NoMediaType { .. } => Some("for example \"text/plain; charset=utf-8\"".to_owned()),
            Self::NoKey { .. } => Some("for example \"header:X-Api-Key\"".to_owned()),
            Self::NoToken { .. }
            | Self::Control { .. }
            | Self::OuterSpace
            | Self::TooLong { .. }
            | Self::ClearHttp2 => None,
        }
    }
}

/// A token of RFC 9110 §5.6.2.
pub(crate) fn check_token(text: &str) -> Result<(), FieldError> {
    if is_token(text.as_bytes()) { Ok(()) } else { Err(FieldError::NoToken { found: text.to_owned() }) }
}

/// Our name in `Via`, RFC 9110 §7.6.3.
pub(crate) fn check_pseudonym(text: &str) -> Result<(), FieldError> {
    check_token(text)?;
    if is_pseudonym(text) {
        return Ok(());
    }
    Err(FieldError::TooLong { limit: PSEUDONYM_BYTES_MAX, found: text.len() })
}

/// A request method, in the case it is sent in.
pub(crate) fn check_method(text: &str) -> Result<(), FieldError> {
    check_token(text)?;
    match METHODS.into_iter().find(|known| known.eq_ignore_ascii_case(text)) {
        Some(meant) if meant != text => Err(FieldError::MethodCase { found: text.to_owned(), meant }),
        Some(_) | None => Ok(()),
    }
}

/// A protocol in `Upgrade` (RFC 9110 §7.8), without its version or with it, or `*` for any.
pub(crate) fn check_upgrade(text: &str) -> Result<(), FieldError> {
    if text.eq_ignore_ascii_case("h2c") {
        return Err(FieldError::ClearHttp2);
    }
    match text.split_once('/') {
        None => check_token(text),
        Some((name, version)) => check_token(name).and_then(|()| check_token(version)),
    }
}

/// A value of `Content-Type`: a media type (RFC 9110 §8.3.1) in a valid field value (§5.5).
pub(crate) fn check_content_type(text: &str) -> Result<(), FieldError> {
    if text.len() > CONTENT_TYPE_BYTES_MAX {
        return Err(FieldError::TooLong { limit: CONTENT_TYPE_BYTES_MAX, found: text.len() });
    }
    if let Some(found) = text.chars().find(|c| c.is_control()) {
        return Err(FieldError::Control { found });
    }
    if text != text.trim() {
        return Err(FieldError::OuterSpace);
    }
    let media_type = text.split(';').next().unwrap_or(text).trim_end();
    match media_type.split_once('/') {
        Some((kind, subtype)) if is_token(kind.as_bytes()) && is_token(subtype.as_bytes()) => Ok(()),
        _ => Err(FieldError::NoMediaType { found: text.to_owned() }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_method_keeps_its_case() {
        assert_eq!(check_method("GET"), Ok(()));
        assert_eq!(check_method("PURGE"), Ok(()));
        assert_eq!(check_method("purge"), Ok(()));
        let refused = FieldError::MethodCase { found: "get".to_owned(), meant: "GET" };
        assert_eq!(check_method("get"), Err(refused));
        assert_eq!(check_method("G T"), Err(FieldError::NoToken { found: "G T".to_owned() }));
        assert_eq!(check_method(""), Err(FieldError::NoToken { found: String::new() }));
    }

    #[test]
    fn an_upgrade_is_to_a_protocol_other_than_http2() {
        for text in ["websocket", "*", "IRC/6.9"] {
            assert_eq!(check_upgrade(text), Ok(()), "{text}");
        }
        assert_eq!(check_upgrade("H2C"), Err(FieldError::ClearHttp2));
        for (text, found) in
            [("", ""), ("web socket", "web socket"), ("irc/", ""), ("/1", ""), ("a/b/c", "b/c")]
        {
            assert_eq!(check_upgrade(text), Err(FieldError::NoToken { found: found.to_owned() }), "{text}");
        }
    }

    #[test]
    fn a_content_type_cannot_break_the_head() {
        assert_eq!(check_content_type("text/plain; charset=utf-8"), Ok(()));
        assert_eq!(check_content_type("application/fhir+json"), Ok(()));
        assert_eq!(check_content_type("text/plain\r\nX: y"), Err(FieldError::Control { found: '\r' }));
        let long = format!("text/{}", "x".repeat(CONTENT_TYPE_BYTES_MAX));
        assert_eq!(
            check_content_type(&long),
            Err(FieldError::TooLong { limit: CONTENT_TYPE_BYTES_MAX, found: long.len() })
        );
        assert_eq!(
            check_pseudonym(&"v".repeat(129)),
            Err(FieldError::TooLong { limit: PSEUDONYM_BYTES_MAX, found: 129 })
        );
        assert_eq!(check_content_type(" text/plain"), Err(FieldError::OuterSpace));
        assert_eq!(check_content_type("json"), Err(FieldError::NoMediaType { found: "json".to_owned() }));
        assert_eq!(check_content_type(""), Err(FieldError::NoMediaType { found: String::new() }));
    }
}
