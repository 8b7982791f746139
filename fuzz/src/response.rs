//! What holds for every response head, whoever asked?
//!
//! It is read the same however it is cut; a client of either version is sent one that ends where ours ended.
//! Never asserts which rule refused what: that is for tables.

use proto::http1::framing::{Delivery, ResponseFraming, decide_response_framing};
use proto::http1::head::{Method, Parsed, ResponseHead, Version, parse_response};
use proto::http1::persist::{ConnectionOption, Persistence, connection_option, decide_upstream};
use proto::http1::rewrite::{ResponsePlan, rewrite_response};

use crate::naive::{self, Body, Read};
use crate::request::{TIGHT, WIDE, fields_of};
use crate::splits::assert_split_independent;

/// Every promise about response heads.
pub fn response_head(bytes: &[u8]) {
    for limits in [WIDE, TIGHT] {
        let mut head = ResponseHead::new();
        assert_split_independent(bytes, Some(b"\r\n\r\n"), |part, examined| {
            let parsed = parse_response(part, examined, &limits, &mut head)?;
            Ok::<_, proto::http1::rejected::ResponseRejected>((parsed == Parsed::Complete).then(|| {
                let framing = decide_response_framing(&head, Method::Get);
                let persistence = decide_upstream(&head, framing);
                (
                    head.version,
                    head.status,
                    head.reason,
                    head.fields.to_vec(),
                    head.head_bytes,
                    framing,
                    persistence,
                )
            }))
        });
    }
    let mut head = ResponseHead::new();
    if parse_response(bytes, 0, &WIDE, &mut head) == Ok(Parsed::Complete) {
        assert_read_alike(bytes, &head);
        for method in [Method::Get, Method::Head, Method::Connect] {
            for version in [Version::Http11, Version::Http10] {
                assert_rewritten_alike(bytes, &head, method, version);
            }
        }
    }
}

/// The body that this framing means.
pub(crate) fn body_of(framing: ResponseFraming) -> Body {
    match framing {
        ResponseFraming::None => Body::None,
        ResponseFraming::Length(bytes) => Body::Length(bytes),
        ResponseFraming::Chunked => Body::Chunked,
        ResponseFraming::UntilClose => Body::UntilClose,
    }
}

/// The body that a strict client expects after a head, RFC 9112 §6.3.
pub(crate) fn expected_body(seen: &naive::Head<'_>, method: Method) -> Option<Body> {
    let status = status_of(seen)?;
    let is_tunnel = method == Method::Connect && status.starts_with('2');
    let is_without = method == Method::Head || status.starts_with('1') || ["204", "304"].contains(&status);
    let declared = seen.declared_body(Body::UntilClose)?;
    Some(if is_tunnel || is_without { Body::None } else { declared })
}

fn status_of<'h>(seen: &'h naive::Head<'_>) -> Option<&'h str> {
    let (version, rest) = seen.start_line.split_at_checked(9)?;
    let code = str::from_utf8(rest.get(..3)?).ok()?;
    (version.starts_with(b"HTTP/1.") && version.ends_with(b" ") && code.parse::<u16>().is_ok())
        .then_some(code)
}

/// An accepted head is one to a strict reader, and to a parser of other make.
fn assert_read_alike(bytes: &[u8], head: &ResponseHead) {
    let message = &bytes[..head.head_bytes as usize];
    let Read::Whole(seen) = naive::head(message) else {
        panic!("no head to a strict reader: {}", message.escape_ascii());
    };
    assert_eq!(seen.bytes, message.len());
    assert_eq!(status_of(&seen), Some(head.status.to_string().as_str()));
    assert_eq!(fields_of(bytes, &head.fields), seen.fields);
    let framing = decide_response_framing(head, Method::Get);
    assert_eq!(expected_body(&seen, Method::Get), Some(body_of(framing)));
    if matches!(&seen.start_line[..8], b"HTTP/1.0" | b"HTTP/1.1") {
        let mut headers = [httparse::EMPTY_HEADER; 128];
        let mut response = httparse::Response::new(&mut headers);
        assert_eq!(response.parse(message), Ok(httparse::Status::Complete(message.len())));
        assert_eq!(response.code, Some(head.status));
        let fields: Vec<_> =
            response.headers.iter().map(|field| (field.name.as_bytes(), field.value)).collect();
        assert_eq!(fields, seen.fields);
    }
}

/// How a response goes on to a client, as the data plane decides it.
pub(crate) fn plan_of(head: &ResponseHead, method: Method, version: Version) -> ResponsePlan<'static> {
    let delivery = Delivery::of(decide_response_framing(head, method), version);
    let persistence = if delivery == Delivery::UntilClose { Persistence::Close } else { Persistence::Keep };
    ResponsePlan {
        delivery,
        connection: connection_option(version, persistence).filter(|_| !head.is_interim()),
        via: Some("gateway"),
        upgrade: head.status == 426,
        date: (!head.is_interim()).then_some("Sun, 06 Nov 1994 08:49:37 GMT"),
        set_cookie: None,
    }
}

fn assert_rewritten_alike(bytes: &[u8], head: &ResponseHead, method: Method, version: Version) {
    let plan = plan_of(head, method, version);
    let mut out = Vec::new();
    rewrite_response(bytes, head, &plan, &mut out);
    let mut again = ResponseHead::new();
    let limits = proto::http1::head::Limits {
        head_bytes_max: 65_535,
        fields_max: 128,
        target_bytes_max: 0,
        is_secured: false,
    };
    let parsed = parse_response(&out, 0, &limits, &mut again);
    assert_eq!(parsed, Ok(Parsed::Complete), "{}", out.escape_ascii());
    assert_eq!(again.head_bytes as usize, out.len());
    assert_eq!((again.status, again.reason.of(&out)), (head.status, head.reason.of(bytes)));
    assert_eq!(again.version, Version::Http11);
    assert_read_alike(&out, &again);
    let expected = match plan.delivery {
        Delivery::None => ResponseFraming::None,
        Delivery::Length(length) => ResponseFraming::Length(length),
        Delivery::Chunked | Delivery::ChunkedHere => ResponseFraming::Chunked,
        Delivery::UntilClose => ResponseFraming::UntilClose,
    };
    assert_eq!(decide_response_framing(&again, method), expected);
    let Read::Whole(seen) = naive::head(&out) else { unreachable!("just read") };
    assert_eq!(expected_body(&seen, method), Some(body_of(expected)));
    // RFC 9112 §6.1: a client of HTTP/1.0 does not know the field.
    assert!(version == Version::Http11 || !seen.has("transfer-encoding"));
    // RFC 9110 §8.6 and RFC 9112 §6.1.
    let is_never_framed = matches!(head.status, 100..=199 | 204);
    assert!(!is_never_framed || !(seen.has("content-length") || seen.has("transfer-encoding")));
    assert!(!seen.has("keep-alive") && !seen.has("proxy-connection"));
    assert!(plan.upgrade || !seen.has("upgrade"));
    let is_closing = plan.connection == Some(ConnectionOption::Close);
    assert_eq!(again.connection.close, is_closing);
}
