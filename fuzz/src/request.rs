//! What holds for every request head?
//!
//! It is read the same however it is cut; what is accepted is what a strict reader sees, and what is forwarded
//! in its place says the same to a strict reader. Never asserts which rule refused what: that is for tables.

use proto::http1::field::{Field, KnownField};
use proto::http1::framing::RequestFraming;
use proto::http1::head::{Limits, Method, Parsed, RequestHead, Version, parse_request};
use proto::http1::rejected::RequestRejected;
use proto::http1::rewrite::{RequestPlan, rewrite_request};
use proto::http1::target::TargetForm;

use crate::naive::{self, Body, Read};
use crate::splits::assert_split_independent;

/// Roomy: only the shape of a head matters.
pub(crate) const WIDE: Limits =
    Limits { head_bytes_max: 32 * 1024, fields_max: 100, target_bytes_max: 32 * 1024, is_secured: false };

/// So small that short inputs meet each limit.
pub(crate) const TIGHT: Limits =
    Limits { head_bytes_max: 96, fields_max: 3, target_bytes_max: 24, is_secured: false };

/// Room for what a rewritten head has more than the one it stands for.
const REWRITTEN: Limits =
    Limits { head_bytes_max: 65_535, fields_max: 128, target_bytes_max: 65_535, is_secured: false };

/// Every promise about request heads.
pub fn request_head(bytes: &[u8]) {
    for limits in [WIDE, TIGHT] {
        let mut head = RequestHead::new();
        assert_split_independent(bytes, Some(b"\r\n\r\n"), |part, examined| {
            parse(part, examined, &limits, &mut head).map(|parsed| parsed.map(|()| Summary::of(&head)))
        });
    }
    let mut head = RequestHead::new();
    if parse(bytes, 0, &WIDE, &mut head) == Ok(Some(())) {
        assert_read_alike(bytes, &head);
        for plan in PLANS {
            assert_rewritten_alike(bytes, &head, plan);
        }
    } else {
        assert_not_plainly_valid(bytes);
    }
}

fn parse(
    bytes: &[u8],
    examined: usize,
    limits: &Limits,
    head: &mut RequestHead,
) -> Result<Option<()>, RequestRejected> {
    parse_request(bytes, examined, limits, head).map(|parsed| (parsed == Parsed::Complete).then_some(()))
}

/// Everything a head says.
#[derive(Debug, PartialEq)]
struct Summary {
    spans: [proto::http1::field::Span; 5],
    method: Method,
    form: TargetForm,
    version: Version,
    fields: Vec<Field>,
    head_bytes: u32,
    framing: RequestFraming,
    flags: [bool; 6],
}

impl Summary {
    fn of(head: &RequestHead) -> Self {
        let connection = head.connection;
        Self {
            spans: [head.method_span, head.target, head.authority, head.path, head.path_and_query],
            method: head.method,
            form: head.target_form,
            version: head.version,
            fields: head.fields.to_vec(),
            head_bytes: head.head_bytes,
            framing: head.framing,
            flags: [
                connection.close,
                connection.keep_alive,
                connection.upgrade,
                head.expect_continue,
                head.upgrade,
                head.te_trailers,
            ],
        }
    }
}

/// The empty lines that may stand before a request, RFC 9112 §2.2.
pub(crate) fn without_empty_lines(bytes: &[u8]) -> &[u8] {
    let mut rest = bytes;
    while let Some(next) = rest.strip_prefix(b"\r\n") {
        rest = next;
    }
    rest
}

/// The body a request with this framing has.
pub(crate) fn body_of(framing: RequestFraming) -> Body {
    match framing {
        RequestFraming::None => Body::None,
        RequestFraming::Length(bytes) => Body::Length(bytes),
        RequestFraming::Chunked => Body::Chunked,
    }
}

/// An accepted head is one to a strict reader, and to a parser of other make.
fn assert_read_alike(bytes: &[u8], head: &RequestHead) {
    let message = &bytes[..head.head_bytes as usize];
    let Read::Whole(seen) = naive::head(without_empty_lines(message)) else {
        panic!("no head to a strict reader: {}", message.escape_ascii());
    };
    assert_eq!(without_empty_lines(message).len(), seen.bytes);
    let words = seen.words().expect("three words");
    assert_eq!(words[..2], [head.method_span.of(bytes), head.target.of(bytes)]);
    assert_eq!(fields_of(bytes, &head.fields), seen.fields);
    assert_eq!(seen.declared_body(Body::None), Some(body_of(head.framing)));
    assert!(head.version == Version::Http11 || head.framing != RequestFraming::Chunked);
    assert_authority(bytes, head, &seen);
    // httparse knows two versions of HTTP/1.
    if matches!(words[2], b"HTTP/1.0" | b"HTTP/1.1") {
        assert_httparse_agrees(message, &seen, words);
    }
}

pub(crate) fn fields_of<'b>(bytes: &'b [u8], fields: &[Field]) -> Vec<(&'b [u8], &'b [u8])> {
    fields.iter().map(|field| (field.name.of(bytes), field.value.of(bytes))).collect()
}

/// RFC 9112 §3.2: one Host at most, none only in HTTP/1.0, and the target's authority before it.
fn assert_authority(bytes: &[u8], head: &RequestHead, seen: &naive::Head<'_>) {
    let hosts: Vec<_> = seen.values("host").collect();
    assert!(hosts.len() == 1 || (hosts.is_empty() && head.version == Version::Http10));
    let target = head.target.of(bytes);
    let expected = match head.target_form {
        TargetForm::Origin | TargetForm::Asterisk => hosts.first().copied(),
        TargetForm::Authority => Some(target),
        TargetForm::Absolute => {
            let colon = target.iter().position(|&byte| byte == b':').expect("a scheme");
            let rest = &target[colon + 3..];
            let end = rest.iter().position(|byte| b"/?#".contains(byte)).unwrap_or(rest.len());
            Some(&rest[..end])
        }
    };
    assert_eq!(head.authority(bytes), expected);
    // Whatever stands there is an authority to anybody: no space, no list, no user, no path.
    let is_plain = |byte: &u8| byte.is_ascii_graphic() && !b",@/\\?#\"<>^`{|}".contains(byte);
    assert!(expected.is_none_or(|authority| !authority.is_empty() && authority.iter().all(is_plain)));
}

fn assert_httparse_agrees(message: &[u8], seen: &naive::Head<'_>, words: [&[u8]; 3]) {
    let mut headers = [httparse::EMPTY_HEADER; 128];
    let mut request = httparse::Request::new(&mut headers);
    assert_eq!(request.parse(message), Ok(httparse::Status::Complete(message.len())));
    let named = [request.method.unwrap_or_default().as_bytes(), request.path.unwrap_or_default().as_bytes()];
    assert_eq!(named, words[..2]);
    let fields: Vec<_> =
        request.headers.iter().map(|header| (header.name.as_bytes(), header.value)).collect();
    assert_eq!(fields, seen.fields);
}

/// Fields with rules of their own, some of them stricter than the grammar.
const STRICTER: [&str; 5] = ["expect", "connection", "max-forwards", "content_length", "transfer_encoding"];

/// What nobody could take amiss is not refused.
fn assert_not_plainly_valid(bytes: &[u8]) {
    let Read::Whole(seen) = naive::head(bytes) else { return };
    let Some([method, target, version]) = seen.words() else { return };
    let is_small = seen.bytes <= 1024 && seen.fields.len() <= 16 && method.len() <= 16;
    let is_plain_start = !method.is_empty()
        && method.iter().all(u8::is_ascii_uppercase)
        && method != b"CONNECT"
        && target.starts_with(b"/")
        && target.iter().all(|byte| byte.is_ascii_alphanumeric() || *byte == b'/')
        && version == b"HTTP/1.1";
    let hosts: Vec<_> = seen.values("host").collect();
    let is_plain_host =
        matches!(hosts[..], [host] if !host.is_empty() && host.iter().all(u8::is_ascii_alphanumeric));
    let is_plain = is_small
        && is_plain_start
        && is_plain_host
        && seen.declared_body(Body::None).is_some()
        && !STRICTER.iter().any(|name| seen.has(name));
    assert!(!is_plain, "refused: {}", bytes.escape_ascii());
}

const PLAIN: RequestPlan<'_> = RequestPlan::bare("192.0.2.1", "fallback.test");

const FULL: RequestPlan<'_> = RequestPlan {
    client: "2001:db8::1",
    x_forwarded_for: true,
    x_forwarded_proto: true,
    x_forwarded_host: true,
    forwarded: true,
    via: Some("gateway"),
    request_id: Some("0123456789abcdef"),
    expect: false,
    ..PLAIN
};

const PLANS: &[RequestPlan<'_>] = &[PLAIN, FULL, RequestPlan { is_trusted: true, ..FULL }];

/// Writes the head anew and appends it.
pub(crate) fn forward(bytes: &[u8], head: &RequestHead, out: &mut Vec<u8>) {
    let mut text = Vec::new();
    rewrite_request(bytes, head, &FULL, &mut text);
    out.extend_from_slice(&text);
}

/// What goes out in place of a head says the same to us, to a strict reader and to another parser.
fn assert_rewritten_alike(bytes: &[u8], head: &RequestHead, plan: &RequestPlan<'_>) {
    let mut out = Vec::new();
    rewrite_request(bytes, head, plan, &mut out);
    let mut again = RequestHead::new();
    let parsed = parse_request(&out, 0, &REWRITTEN, &mut again);
    assert_eq!(parsed, Ok(Parsed::Complete), "{}", out.escape_ascii());
    assert_eq!(again.head_bytes as usize, out.len());
    assert_eq!(again.framing, head.framing);
    assert_eq!(again.method_span.of(&out), head.method_span.of(bytes));
    assert_eq!(again.path(&out), if is_server_wide(head) { b"*" } else { head.path(bytes) });
    assert_eq!(again.version, Version::Http11);
    assert_ne!(again.target_form, TargetForm::Absolute);
    let authority = head.authority(bytes).unwrap_or(plan.host_fallback.as_bytes());
    assert_eq!(again.authority(&out), Some(authority));
    assert_read_alike(&out, &again);
    let Read::Whole(seen) = naive::head(&out) else { unreachable!("just read") };
    assert_eq!(seen.values("host").collect::<Vec<_>>(), [authority]);
    assert_hop_by_hop_gone(bytes, head, &seen);
}

/// OPTIONS of an absolute form without path and query asks about the server, RFC 9112 §3.2.4.
fn is_server_wide(head: &RequestHead) -> bool {
    head.method == Method::Options
        && head.target_form == TargetForm::Absolute
        && head.path_and_query.is_empty()
}

/// RFC 9110 §7.6.1: what was for us alone, or named in Connection, goes no further.
fn assert_hop_by_hop_gone(bytes: &[u8], head: &RequestHead, seen: &naive::Head<'_>) {
    for name in ["keep-alive", "proxy-connection", "http2-settings", "upgrade"] {
        assert!(!seen.has(name), "{name} went on");
    }
    let ours: &[&[u8]] = if head.te_trailers { &[b"TE"] } else { &[] };
    assert_eq!(seen.values("connection").collect::<Vec<_>>(), ours);
    assert_eq!(seen.has("te"), head.te_trailers);
    for (_, list) in
        fields_of(bytes, &head.fields).iter().filter(|(name, _)| name.eq_ignore_ascii_case(b"connection"))
    {
        for name in list.split(|&byte| byte == b',').map(<[u8]>::trim_ascii) {
            let is_ours_to_drop = KnownField::classify(name) == KnownField::Other;
            let is_there = seen.fields.iter().any(|(field, _)| field.eq_ignore_ascii_case(name));
            assert!(!(is_ours_to_drop && is_there), "{} went on", name.escape_ascii());
        }
    }
}
