//! Does a connection outlive this exchange?
//!
//! Decides from heads and framing (RFC 9112 §9.3); never from time or load, which a caller adds.

use super::field::list_elements;
use super::framing::{Delivery, ResponseFraming};
use super::head::{RequestHead, ResponseHead, Version};
use super::rejected::SyntaxRejected;

/// Most field names `Connection` may list besides `close`, `keep-alive`, `upgrade` and `te`. Each is compared
/// with each field, so the number bounds the work one head can cause.
pub const CONNECTION_NAMES_MAX: u8 = 32;

/// What the `Connection` fields of one head say.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ConnectionOptions {
    /// `close` is among them.
    pub close: bool,
    /// `keep-alive` is among them.
    pub keep_alive: bool,
    /// `upgrade` is among them.
    pub upgrade: bool,
    /// How many other names are.
    pub(super) names: u8,
}

impl ConnectionOptions {
    pub(super) fn note(&mut self, value: &[u8]) -> Result<(), SyntaxRejected> {
        for option in list_elements(value) {
            match WellKnownOption::of(option) {
                Some(WellKnownOption::Close) => self.close = true,
                Some(WellKnownOption::KeepAlive) => self.keep_alive = true,
                Some(WellKnownOption::Upgrade) => self.upgrade = true,
                Some(WellKnownOption::Te) => {}
                None if self.names == CONNECTION_NAMES_MAX => {
                    return Err(SyntaxRejected::ConnectionNamesTooMany);
                }
                None => self.names += 1,
            }
        }
        Ok(())
    }

    /// Whether the sender of a `version` message wants the connection to stay. RFC 9112 §9.3 has a proxy ignore
    /// a 1.0 client's `keep-alive`; a gateway is the origin to its clients.
    fn wants_persistence(self, version: Version) -> bool {
        !self.close && (version == Version::Http11 || self.keep_alive)
    }
}

/// A connection option that names no field, or one that is removed whether named or not.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum WellKnownOption {
    Close,
    KeepAlive,
    Upgrade,
    Te,
}

impl WellKnownOption {
    pub(super) fn of(option: &[u8]) -> Option<Self> {
        let is = |known: &str| option.eq_ignore_ascii_case(known.as_bytes());
        match option.len() {
            2 if is("te") => Some(Self::Te),
            5 if is("close") => Some(Self::Close),
            7 if is("upgrade") => Some(Self::Upgrade),
            10 if is("keep-alive") => Some(Self::KeepAlive),
            _ => None,
        }
    }
}

/// Whether a connection serves another exchange.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Persistence {
    /// It does.
    Keep,
    /// It ends with this exchange.
    Close,
}

/// The connection option a response carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConnectionOption {
    /// `Connection: close`
    Close,
    /// `Connection: keep-alive`, for a client of HTTP/1.0 that asked.
    KeepAlive,
}

/// Whether the client's connection serves another request after a response delivered so.
#[must_use]
pub fn decide_downstream(request: &RequestHead, delivery: Delivery) -> Persistence {
    // RFC 9112 §9.3: a message without a self-defined length ends with its connection.
    if delivery != Delivery::UntilClose && request.connection.wants_persistence(request.version) {
        Persistence::Keep
    } else {
        Persistence::Close
    }
}

/// Whether the upstream's connection serves another request once this final response has been read to its end.
#[must_use]
pub fn decide_upstream(response: &ResponseHead, framing: ResponseFraming) -> Persistence {
    if framing != ResponseFraming::UntilClose
        && response.status != 101
        && response.connection.wants_persistence(response.version)
    {
        Persistence::Keep
    } else {
        Persistence::Close
    }
}

/// What to tell a client of `version` (RFC 9112 §9.3, §9.6).
#[must_use]
pub fn connection_option(version: Version, persistence: Persistence) -> Option<ConnectionOption> {
    match (persistence, version) {
        (Persistence::Close, _) => Some(ConnectionOption::Close),
        (Persistence::Keep, Version::Http10) => Some(ConnectionOption::KeepAlive),
        (Persistence::Keep, Version::Http11) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http1::head::{Limits, Parsed, parse_request, parse_response};

    const LIMITS: Limits =
        Limits { head_bytes_max: 4096, fields_max: 100, target_bytes_max: 1024, is_secured: false };

    #[track_caller]
    fn check_downstream(version: &str, connection: &str, delivery: Delivery, expected: Persistence) {
        let input = format!("GET / HTTP/{version}\r\nHost: a\r\nConnection: {connection}\r\n\r\n");
        let mut head = RequestHead::new();
        assert_eq!(parse_request(input.as_bytes(), 0, &LIMITS, &mut head), Ok(Parsed::Complete));
        assert_eq!(decide_downstream(&head, delivery), expected, "{version} {connection} {delivery:?}");
    }

    #[test]
    fn a_client_stays_if_it_wants_to_and_can_tell_the_end() {
        use Persistence::{Close, Keep};
        for (version, connection, expected) in [
            ("1.1", "", Keep),
            ("1.1", "keep-alive", Keep),
            ("1.1", "close", Close),
            ("1.1", "x, CLOSE", Close),
            ("1.1", "keep-alive, close", Close),
            ("1.1", "closed", Keep),
            ("1.0", "", Close),
            ("1.0", "Keep-Alive", Keep),
            ("1.0", "x,keep-alive", Keep),
            ("1.0", "keep-alive, close", Close),
        ] {
            check_downstream(version, connection, Delivery::Length(1), expected);
            check_downstream(version, connection, Delivery::None, expected);
            check_downstream(version, connection, Delivery::UntilClose, Close);
        }
        check_downstream("1.1", "", Delivery::ChunkedHere, Keep);
    }

    #[track_caller]
    fn check_upstream(line: &str, connection: &str, framing: ResponseFraming, expected: Persistence) {
        let input = format!("{line}\r\nConnection: {connection}\r\n\r\n");
        let mut head = ResponseHead::new();
        assert_eq!(parse_response(input.as_bytes(), 0, &LIMITS, &mut head), Ok(Parsed::Complete));
        assert_eq!(decide_upstream(&head, framing), expected, "{line} {connection} {framing:?}");
    }

    #[test]
    fn an_upstream_connection_is_kept_when_its_answer_ends_by_itself() {
        use Persistence::{Close, Keep};
        let length = ResponseFraming::Length(0);
        check_upstream("HTTP/1.1 200 OK", "", length, Keep);
        check_upstream("HTTP/1.1 200 OK", "", ResponseFraming::Chunked, Keep);
        check_upstream("HTTP/1.1 204 x", "", ResponseFraming::None, Keep);
        check_upstream("HTTP/1.1 200 OK", "", ResponseFraming::UntilClose, Close);
        check_upstream("HTTP/1.1 200 OK", "close", length, Close);
        check_upstream("HTTP/1.0 200 OK", "", length, Close);
        check_upstream("HTTP/1.0 200 OK", "keep-alive", length, Keep);
        check_upstream("HTTP/1.1 101 x", "upgrade", ResponseFraming::None, Close);
    }

    #[test]
    fn a_client_is_told_what_it_would_not_assume() {
        use Persistence::{Close, Keep};
        assert_eq!(connection_option(Version::Http11, Keep), None);
        assert_eq!(connection_option(Version::Http10, Keep), Some(ConnectionOption::KeepAlive));
        assert_eq!(connection_option(Version::Http11, Close), Some(ConnectionOption::Close));
        assert_eq!(connection_option(Version::Http10, Close), Some(ConnectionOption::Close));
    }
}
