//! Where does a message body end?
//!
//! Decides by RFC 9112 §6.3 and refuses what two recipients could read differently; never picks the likelier.

use super::field::{is_token, trim};
use super::head::{Method, ResponseHead, Version};
use super::rejected::FramingRejected;

/// How a request's body is delimited.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum RequestFraming {
    /// No body.
    #[default]
    None,
    /// This many bytes, possibly none.
    Length(u64),
    /// Chunked coding.
    Chunked,
}

/// How a response's body is delimited.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ResponseFraming {
    /// No body, whatever the fields say of the representation.
    None,
    /// This many bytes, possibly none.
    Length(u64),
    /// Chunked coding.
    Chunked,
    /// All bytes until the peer closes.
    UntilClose,
}

/// How a response's body is delimited towards the client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Delivery {
    /// No body.
    None,
    /// This many bytes, passed as they come.
    Length(u64),
    /// The upstream's chunks, passed with their framing.
    Chunked,
    /// Bytes until the upstream closes, put into chunks here.
    ChunkedHere,
    /// Bytes until we close: the client speaks HTTP/1.0. An upstream's chunks lose their framing.
    UntilClose,
}

impl Delivery {
    /// How a response framed so by the upstream reaches a client of `version`.
    #[must_use]
    pub fn of(framing: ResponseFraming, version: Version) -> Self {
        match (framing, version) {
            (ResponseFraming::None, _) => Self::None,
            (ResponseFraming::Length(bytes), _) => Self::Length(bytes),
            (ResponseFraming::Chunked, Version::Http11) => Self::Chunked,
            (ResponseFraming::UntilClose, Version::Http11) => Self::ChunkedHere,
            // RFC 9112 §6.1: no transfer coding unless the client is known to understand HTTP/1.1.
            (ResponseFraming::Chunked | ResponseFraming::UntilClose, Version::Http10) => Self::UntilClose,
        }
    }
}

/// What `Content-Length` and `Transfer-Encoding` of one head say, checked for contradictions.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct FramingFields {
    length: Option<u64>,
    is_chunked: bool,
}

impl FramingFields {
    pub(super) fn note_length(&mut self, value: &[u8]) -> Result<(), FramingRejected> {
        if self.length.is_some() {
            return Err(FramingRejected::LengthRepeated);
        }
        self.length = Some(parse_length(value)?);
        Ok(())
    }

    pub(super) fn note_transfer_encoding(&mut self, value: &[u8]) -> Result<(), FramingRejected> {
        if !value.eq_ignore_ascii_case(b"chunked") {
            return Err(broken_coding_rule(value));
        }
        if self.is_chunked {
            return Err(FramingRejected::ChunkedRepeated);
        }
        self.is_chunked = true;
        Ok(())
    }

    pub(super) fn check(self, version: Version) -> Result<(), FramingRejected> {
        if !self.is_chunked {
            Ok(())
        } else if self.length.is_some() {
            Err(FramingRejected::LengthWithTransferEncoding)
        } else if version == Version::Http10 {
            Err(FramingRejected::TransferEncodingInHttp10)
        } else {
            Ok(())
        }
    }

    pub(super) fn length(self) -> Option<u64> {
        self.length
    }

    /// RFC 9112 §6.3 for requests.
    pub(super) fn of_request(self) -> RequestFraming {
        match (self.is_chunked, self.length) {
            (true, _) => RequestFraming::Chunked,
            (false, Some(bytes)) => RequestFraming::Length(bytes),
            (false, None) => RequestFraming::None,
        }
    }
}

/// RFC 9112 §6.3 for responses to a request with `method`.
///
/// A 101 or a 2xx to CONNECT has no body either: what follows is not HTTP any more.
#[must_use]
pub fn decide_response_framing(head: &ResponseHead, method: Method) -> ResponseFraming {
    let is_tunnel = method == Method::Connect && (200..300).contains(&head.status);
    if method == Method::Head || matches!(head.status, 100..=199 | 204 | 304) || is_tunnel {
        return ResponseFraming::None;
    }
    match (head.framing_fields.is_chunked, head.framing_fields.length) {
        (true, _) => ResponseFraming::Chunked,
        (false, Some(bytes)) => ResponseFraming::Length(bytes),
        (false, None) => ResponseFraming::UntilClose,
    }
}

/// Largest body length understood, in bytes; see [`FramingRejected::LengthOverflow`].
pub(super) const BODY_BYTES_MAX: u64 = i64::MAX as u64;

fn parse_length(value: &[u8]) -> Result<u64, FramingRejected> {
    // Anything else is only asked which rule it breaks.
    if value.is_empty() || !value.iter().all(u8::is_ascii_digit) {
        let is_list = value.contains(&b',');
        return Err(if is_list { FramingRejected::LengthRepeated } else { FramingRejected::LengthInvalid });
    }
    let length = value
        .iter()
        .try_fold(0_u64, |length, &digit| length.checked_mul(10)?.checked_add(u64::from(digit - b'0')));
    length.filter(|&length| length <= BODY_BYTES_MAX).ok_or(FramingRejected::LengthOverflow)
}

/// Which rule does a `Transfer-Encoding` break that is not just `chunked`?
fn broken_coding_rule(value: &[u8]) -> FramingRejected {
    let is_chunked = |coding: &[u8]| coding.eq_ignore_ascii_case(b"chunked");
    let mut codings = value.split(|&byte| byte == b',').map(trim);
    // Codings with parameters are none we know, so they are no tokens here.
    if !codings.clone().all(is_token) {
        return FramingRejected::TransferEncodingInvalid;
    }
    if codings.clone().filter(|coding| is_chunked(coding)).count() > 1 {
        return FramingRejected::ChunkedRepeated;
    }
    match codings.next_back() {
        Some(last) if is_chunked(last) => FramingRejected::TransferCodingUnsupported,
        Some(_) | None => FramingRejected::ChunkedNotLast,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delivery_suits_the_clients_version() {
        for (framing, to_http11, to_http10) in [
            (ResponseFraming::None, Delivery::None, Delivery::None),
            (ResponseFraming::Length(7), Delivery::Length(7), Delivery::Length(7)),
            (ResponseFraming::Chunked, Delivery::Chunked, Delivery::UntilClose),
            (ResponseFraming::UntilClose, Delivery::ChunkedHere, Delivery::UntilClose),
        ] {
            assert_eq!(Delivery::of(framing, Version::Http11), to_http11);
            assert_eq!(Delivery::of(framing, Version::Http10), to_http10);
        }
    }
}
