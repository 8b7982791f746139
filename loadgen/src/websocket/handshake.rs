//! Do both sides agree to speak WebSocket from here on?
//!
//! Never takes an answer for consent that was not given to this very request (RFC 6455 §4).

use proto::http1::field::Field;
use proto::http1::head::{FIELDS_MAX, Limits, Method, Parsed, RequestHead, ResponseHead, parse_response};
use tungstenite::handshake::client::generate_key;
use tungstenite::handshake::derive_accept_key;

/// The only version there is (RFC 6455 §4.1).
const VERSION: &[u8] = b"13";
/// A key is 16 bytes in base64 (RFC 6455 §4.1).
const KEY_BYTES: usize = 24;
/// The answer to an upgrade is a head without a body: a server with more to say has not agreed.
const LIMITS: Limits = Limits {
    head_bytes_max: 16 * 1024,
    fields_max: FIELDS_MAX as u16,
    target_bytes_max: 0,
    is_secured: false,
};

/// What a request says about WebSocket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Wish {
    /// It is a plain request.
    None,
    /// It asks for WebSocket; this head agrees.
    Granted(Vec<u8>),
    /// It asks for WebSocket in a way that must be refused; this head does.
    Refused(Vec<u8>),
}

/// Reads the wish of a request whose head lies at the start of `bytes` (RFC 6455 §4.2.1).
pub(crate) fn read_wish(bytes: &[u8], head: &RequestHead) -> Wish {
    let of = |name: &'static str| values(bytes, &head.fields, name);
    if !head.upgrade || !of("upgrade").any(|value| lists(value, b"websocket")) {
        return Wish::None;
    }
    if !of("sec-websocket-version").any(|value| value == VERSION) {
        let head = "HTTP/1.1 426 Upgrade Required\r\nUpgrade: websocket\r\nConnection: Upgrade, close\r\n\
                    Sec-WebSocket-Version: 13\r\nContent-Length: 0\r\n\r\n";
        return Wish::Refused(head.into());
    }
    let mut keys = of("sec-websocket-key");
    match (head.method, keys.next(), keys.next()) {
        (Method::Get, Some(key), None) if is_key(key) => Wish::Granted(
            format!(
                "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
                 Sec-WebSocket-Accept: {}\r\n\r\n",
                derive_accept_key(key)
            )
            .into(),
        ),
        _ => {
            let head = "HTTP/1.1 400 Bad Request\r\nConnection: close\r\nContent-Length: 0\r\n\r\n";
            Wish::Refused(head.into())
        }
    }
}

/// A client's side of the handshake.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Offer {
    key: String,
}

/// Why an answer is no consent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// It is no HTTP/1 head.
    Malformed,
    /// RFC 6455 §4.1: any status but 101.
    Status(u16),
    /// `Upgrade` does not name websocket, or `Connection` does not list `Upgrade`.
    NotUpgraded,
    /// `Sec-WebSocket-Accept` is missing, repeated, or made from another key.
    WrongAccept,
    /// `Sec-WebSocket-Extensions` names what was not offered.
    Extension,
    /// `Sec-WebSocket-Protocol` names what was not offered.
    Subprotocol,
    /// The connection ended before the answer did.
    Ended,
}

impl std::fmt::Display for Refusal {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Malformed => formatter.write_str("the answer is no HTTP/1 head"),
            Self::Status(status) => write!(formatter, "status {status} and not 101"),
            Self::NotUpgraded => {
                formatter.write_str("101 without Upgrade: websocket, or without Connection: Upgrade")
            }
            Self::WrongAccept => {
                formatter.write_str("Sec-WebSocket-Accept does not belong to the key that was sent")
            }
            Self::Extension => formatter.write_str("an extension that was not offered"),
            Self::Subprotocol => formatter.write_str("a subprotocol that was not offered"),
            Self::Ended => formatter.write_str("closed before the whole answer"),
        }
    }
}

impl Offer {
    /// With a fresh key.
    pub(crate) fn new() -> Self {
        Self { key: generate_key() }
    }

    /// The request's last lines, the empty one included, to follow `begin`: its first line and other fields.
    pub(crate) fn request(&self, begin: &[u8]) -> Vec<u8> {
        let fields = format!(
            "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {}\r\n\r\n",
            self.key
        );
        [begin, fields.as_bytes()].concat()
    }

    /// Reads the answer at the start of `bytes`: how long its head is, or `None` when it is not all there.
    /// `subprotocols` is what the request offered, separated by commas.
    ///
    /// # Errors
    /// The server does not agree, or not as it must.
    pub(crate) fn check(&self, bytes: &[u8], subprotocols: &[u8]) -> Result<Option<usize>, Refusal> {
        let mut head = Box::new(ResponseHead::new());
        match parse_response(bytes, 0, &LIMITS, &mut head) {
            Ok(Parsed::Incomplete) => return Ok(None),
            Ok(Parsed::Complete) => {}
            Err(_) => return Err(Refusal::Malformed),
        }
        let of = |name: &'static str| values(bytes, &head.fields, name);
        if head.status != 101 {
            return Err(Refusal::Status(head.status));
        }
        if !head.connection.upgrade || !of("upgrade").any(|value| value.eq_ignore_ascii_case(b"websocket")) {
            return Err(Refusal::NotUpgraded);
        }
        let mut accepts = of("sec-websocket-accept");
        match (accepts.next(), accepts.next()) {
            (Some(accept), None) if accept == derive_accept_key(self.key.as_bytes()).as_bytes() => {}
            _ => return Err(Refusal::WrongAccept),
        }
        if of("sec-websocket-extensions").any(|value| !value.is_empty()) {
            return Err(Refusal::Extension);
        }
        let mut chosen = of("sec-websocket-protocol");
        match (chosen.next(), chosen.next()) {
            (None, _) => {}
            (Some(one), None) if elements(subprotocols).any(|offered| offered == one) => {}
            (Some(_), _) => return Err(Refusal::Subprotocol),
        }
        Ok(Some(head.head_bytes as usize))
    }
}

/// The values of all fields of this name.
fn values<'a>(bytes: &'a [u8], fields: &'a [Field], name: &'static str) -> impl Iterator<Item = &'a [u8]> {
    fields
        .iter()
        .filter(move |field| field.name.of(bytes).eq_ignore_ascii_case(name.as_bytes()))
        .map(|field| field.value.of(bytes))
}

fn elements(list: &[u8]) -> impl Iterator<Item = &[u8]> {
    list.split(|byte| *byte == b',').map(<[u8]>::trim_ascii)
}

fn lists(list: &[u8], wanted: &[u8]) -> bool {
    elements(list).any(|element| element.eq_ignore_ascii_case(wanted))
}

/// Sixteen bytes in base64 end with `==`, and nothing else of this length does.
fn is_key(text: &[u8]) -> bool {
    let is_digit = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/');
    text.len() == KEY_BYTES && text.ends_with(b"==") && text[..KEY_BYTES - 2].iter().all(is_digit)
}

#[cfg(test)]
mod tests {
    use proto::http1::head::parse_request;

    use super::*;

    // RFC 6455 §1.3.
    const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";
    const ACCEPT: &str = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";

    fn wish(head: &str) -> Wish {
        let limits = Limits { target_bytes_max: 100, ..LIMITS };
        let mut parsed = RequestHead::new();
        assert_eq!(parse_request(head.as_bytes(), 0, &limits, &mut parsed), Ok(Parsed::Complete), "{head}");
        read_wish(head.as_bytes(), &parsed)
    }

    fn asking(method: &str, fields: &str) -> Wish {
        wish(&format!(
            "{method} / HTTP/1.1\r\nHost: h\r\nConnection: keep-alive, Upgrade\r\nUpgrade: WebSocket\r\n{fields}\r\n"
        ))
    }

    #[test]
    fn a_wish_is_granted_with_the_accept_of_its_key() {
        let granted = asking("GET", &format!("Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {KEY}\r\n"));
        let Wish::Granted(head) = granted else { panic!("{granted:?}") };
        let head = String::from_utf8(head).expect("text");
        assert!(
            head.starts_with("HTTP/1.1 101 ") && head.contains(&format!("Accept: {ACCEPT}\r\n\r\n")),
            "{head}"
        );
    }

    #[test]
    fn what_is_no_proper_wish_is_refused_or_plain() {
        assert_eq!(wish("GET / HTTP/1.1\r\nHost: h\r\n\r\n"), Wish::None);
        assert_eq!(wish("GET / HTTP/1.1\r\nHost: h\r\nUpgrade: websocket\r\n\r\n"), Wish::None, "not listed");
        assert_eq!(
            wish("GET / HTTP/1.1\r\nHost: h\r\nConnection: upgrade\r\nUpgrade: tls/1.0\r\n\r\n"),
            Wish::None,
            "another protocol"
        );
        let right = format!("Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {KEY}\r\n");
        let refused = [
            ("GET", format!("Sec-WebSocket-Version: 8\r\nSec-WebSocket-Key: {KEY}\r\n"), "426"),
            ("GET", format!("Sec-WebSocket-Key: {KEY}\r\n"), "426"),
            ("GET", "Sec-WebSocket-Version: 13\r\n".to_owned(), "400"),
            ("GET", "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: c2hvcnQ=\r\n".to_owned(), "400"),
            ("GET", format!("{right}Sec-WebSocket-Key: {KEY}\r\n"), "400"),
            ("POST", right, "400"),
        ];
        for (method, fields, status) in refused {
            let wish = asking(method, &fields);
            let Wish::Refused(head) = wish else { panic!("{method} {fields}: {wish:?}") };
            assert!(head.starts_with(format!("HTTP/1.1 {status} ").as_bytes()), "{method} {fields}");
        }
    }

    #[test]
    fn only_the_accept_of_the_own_key_is_consent() {
        let offer = Offer { key: KEY.into() };
        let check = |status: &str, fields: &str| {
            let head = format!("HTTP/1.1 {status} x\r\n{fields}\r\n");
            let checked = offer.check(head.as_bytes(), b"chat, mqtt");
            checked.map(|length| length.map(|length| length == head.len()))
        };
        let right =
            format!("upgrade: WebSocket\r\nConnection: upgrade\r\nSec-WebSocket-Accept: {ACCEPT}\r\n");
        assert_eq!(check("101", &right), Ok(Some(true)));
        assert_eq!(check("101", &format!("{right}Sec-WebSocket-Protocol: mqtt\r\n")), Ok(Some(true)));
        assert_eq!(offer.check(b"HTTP/1.1 101 x\r\nupgr", b""), Ok(None));
        let wrong = [
            ("200", right.clone(), Refusal::Status(200)),
            ("101", right.replace("upgrade: ", "x: "), Refusal::NotUpgraded),
            ("101", right.replace("Connection: ", "x: "), Refusal::NotUpgraded),
            ("101", right.replace("s3p", "S3P"), Refusal::WrongAccept),
            ("101", right.replace("Sec-", "x-"), Refusal::WrongAccept),
            ("101", format!("{right}Sec-WebSocket-Extensions: permessage-deflate\r\n"), Refusal::Extension),
            ("101", format!("{right}Sec-WebSocket-Protocol: other\r\n"), Refusal::Subprotocol),
        ];
        for (status, fields, refusal) in wrong {
            assert_eq!(check(status, &fields), Err(refusal), "{fields}");
        }
        assert_eq!(offer.check(b"SSH-2.0-x\r\n\r\n", b""), Err(Refusal::Malformed));
    }

    #[test]
    fn each_offer_has_a_key_of_its_own_that_can_be_granted() {
        let offers = [Offer::new(), Offer::new()];
        assert_ne!(offers[0], offers[1]);
        let request = offers[0].request(b"GET /x HTTP/1.1\r\nHost: h\r\n");
        let granted = wish(std::str::from_utf8(&request).expect("text"));
        let Wish::Granted(answer) = granted else { panic!("{granted:?}") };
        assert_eq!(offers[0].check(&answer, b""), Ok(Some(answer.len())));
        assert_eq!(offers[1].check(&answer, b""), Err(Refusal::WrongAccept));
    }
}
