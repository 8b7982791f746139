//! Is this a name that a client of TLS can ask for?
//!
//! Never an address: SNI carries names only (RFC 6066 §3).

use std::net::IpAddr;

use thiserror::Error;

use super::Refusal;

/// RFC 1035 §2.3.4, written with dots.
const NAME_LEN_MAX: usize = 253;
const LABEL_LEN_MAX: usize = 63;

/// Why a name was refused.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub(crate) enum ServerNameError {
    #[error("a server name has at least one character")]
    Empty,
    #[error("clients do not ask for addresses, only for names")]
    Address,
    #[error("a wildcard stands for whole labels in front: \"*.example.org\"")]
    Wildcard,
    #[error("a server name has letters, digits, '-', '_' and single dots; write others in their xn-- form")]
    Name,
    #[error("a server name has at most {NAME_LEN_MAX} characters, {LABEL_LEN_MAX} between two dots")]
    TooLong,
}

impl Refusal for ServerNameError {
    fn suggestion(&self) -> Option<String> {
        match self {
            Self::Address => Some("the key upstream takes clients that name no server".to_owned()),
            Self::Empty | Self::Wildcard | Self::Name | Self::TooLong => None,
        }
    }
}

/// Reads a name or `*.` and the name whose subdomains it stands for. In lower case, without a final dot.
pub(crate) fn parse_pattern(text: &str) -> Result<String, ServerNameError> {
    let (wildcard, name) = match text.strip_prefix("*.") {
        Some(name) => ("*.", name),
        None => ("", text),
    };
    parse(name).map(|name| format!("{wildcard}{name}"))
}

/// Reads a name. In lower case, without a final dot.
pub(crate) fn parse(text: &str) -> Result<String, ServerNameError> {
    let name = text.strip_suffix('.').unwrap_or(text);
    if name.is_empty() {
        return Err(ServerNameError::Empty);
    }
    if name.trim_matches(['[', ']']).parse::<IpAddr>().is_ok() {
        return Err(ServerNameError::Address);
    }
    if name.contains('*') {
        return Err(ServerNameError::Wildcard);
    }
    let is_label = |label: &str| {
        !label.is_empty() && label.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_'))
    };
    if !name.split('.').all(is_label) {
        return Err(ServerNameError::Name);
    }
    if name.len() > NAME_LEN_MAX || name.split('.').any(|label| label.len() > LABEL_LEN_MAX) {
        return Err(ServerNameError::TooLong);
    }
    Ok(name.to_ascii_lowercase())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_names_and_wildcards() {
        for (text, name) in [
            ("a.example", "a.example"),
            ("A.Example.", "a.example"),
            ("*.Example", "*.example"),
            ("localhost", "localhost"),
            ("_sip.xn--bcher-kva.example", "_sip.xn--bcher-kva.example"),
        ] {
            assert_eq!(parse_pattern(text), Ok(name.to_owned()));
        }
    }

    #[test]
    fn refuses_what_no_client_asks_for() {
        use ServerNameError::{Address, Empty, Name, TooLong, Wildcard};
        let (label, name) = ("a".repeat(64), "a.".repeat(127));
        for (text, error) in [
            ("", Empty),
            (".", Empty),
            ("*.", Empty),
            ("10.0.0.1", Address),
            ("[::1]", Address),
            ("::1", Address),
            ("*", Wildcard),
            ("a.*.example", Wildcard),
            ("*.*.example", Wildcard),
            ("*a.example", Wildcard),
            ("a..example", Name),
            (".example", Name),
            ("a.example:443", Name),
            ("bücher.example", Name),
            (&label, TooLong),
            (&format!("{name}a"), TooLong),
        ] {
            assert_eq!(parse_pattern(text), Err(error), "{text}");
        }
    }
}
