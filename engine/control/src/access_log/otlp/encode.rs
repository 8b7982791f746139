//! How is a record a span? In the Protobuf of OTLP 1, message by message.
//!
//! Never a query, a field line or anything else of a request that may be a secret: what is told is in [`push_span`].

use std::borrow::Cow;

use config::snapshot::Snapshot;
use proxy::access::record::{Marks, Numbers, Record};
use proxy::outcome::Fault;
use proxy::stats::Phase;

/// Methods that are told as they are: RFC 9110 §9, RFC 5789, as OpenTelemetry's conventions for HTTP have it.
const METHODS: [&[u8]; 9] =
    [b"GET", b"HEAD", b"POST", b"PUT", b"DELETE", b"CONNECT", b"OPTIONS", b"TRACE", b"PATCH"];

/// `SPAN_KIND_SERVER`.
const KIND_SERVER: u64 = 2;
/// `STATUS_CODE_ERROR`.
const STATUS_ERROR: u64 = 2;
/// The flag of the trace that it is sampled.
const FLAG_SAMPLED: u32 = 1;

const NANOS_PER_MICRO: u64 = 1_000;

/// Spans of one configuration, on their way into one message.
#[derive(Default)]
pub(super) struct Batch {
    /// Fields `spans` of `ScopeSpans`.
    spans: Vec<u8>,
    pub(super) count: u64,
}

impl Batch {
    /// Adds the exchange of a record.
    pub(super) fn push(&mut self, record: &Record<'_>, snapshot: &Snapshot) {
        message(&mut self.spans, 2, |span| push_span(span, record, snapshot));
        self.count += 1;
    }

    /// An `ExportTraceServiceRequest` of all.
    pub(super) fn request(&self, node: &str, instance: &str, version: &str) -> Vec<u8> {
        let mut request = Vec::with_capacity(self.spans.len() + 256);
        message(&mut request, 1, |resource_spans| {
            message(resource_spans, 1, |resource| {
                text(resource, 1, "service.name", "corelane");
                text(resource, 1, "service.namespace", node);
                text(resource, 1, "service.instance.id", instance);
                text(resource, 1, "service.version", version);
            });
            message(resource_spans, 2, |scope_spans| {
                message(scope_spans, 1, |scope| {
                    bytes(scope, 1, b"corelane");
                    bytes(scope, 2, version.as_bytes());
                });
                scope_spans.extend_from_slice(&self.spans);
            });
        });
        request
    }
}

fn push_span(span: &mut Vec<u8>, record: &Record<'_>, snapshot: &Snapshot) {
    const ATTRIBUTE: u32 = 9;
    let numbers = &record.numbers;
    let phase = |phase: Phase| numbers.phases_us[phase as usize].map(u64::from);
    let began = numbers.began_us.saturating_mul(NANOS_PER_MICRO);
    let at = |micros: u64| began.saturating_add(micros.saturating_mul(NANOS_PER_MICRO));
    bytes(span, 1, &numbers.trace.trace_id);
    bytes(span, 2, &numbers.trace.span_id);
    if numbers.trace.parent_id != [0; 8] {
        bytes(span, 4, &numbers.trace.parent_id);
    }
    let is_known = METHODS.contains(&record.method());
    bytes(span, 5, if is_known { record.method() } else { b"HTTP" });
    number(span, 6, KIND_SERVER);
    fixed64(span, 7, began);
    fixed64(span, 8, at(phase(Phase::Total).unwrap_or_default()));

    text(
        span,
        ATTRIBUTE,
        "http.request.method",
        if is_known { lossy(record.method()) } else { "_OTHER".into() },
    );
    let path = record.target().split(|&byte| byte == b'?').next().unwrap_or_default();
    text(span, ATTRIBUTE, "url.path", lossy(path));
    text(span, ATTRIBUTE, "url.scheme", if numbers.marks.has(Marks::PRIVATE) { "https" } else { "http" });
    let (host, port) = without_port(record.host());
    text(span, ATTRIBUTE, "server.address", lossy(host));
    if let Some(port) = port {
        whole(span, ATTRIBUTE, "server.port", u64::from(port));
    }
    if !numbers.client.is_unspecified() {
        text(span, ATTRIBUTE, "client.address", numbers.client.to_string());
    }
    let version = if numbers.marks.has(Marks::HTTP10) { "1.0" } else { "1.1" };
    text(span, ATTRIBUTE, "network.protocol.version", version);
    if let Some(status) = numbers.status {
        whole(span, ATTRIBUTE, "http.response.status_code", u64::from(status));
    }
    whole(span, ATTRIBUTE, "http.request.body.size", numbers.body_bytes_received);
    whole(span, ATTRIBUTE, "http.response.body.size", numbers.body_bytes_sent);
    push_own(span, ATTRIBUTE, record, snapshot);

    // When each phase ended, one after the other.
    let mut ended = 0;
    for phase_of in [Phase::Wait, Phase::Connect, Phase::FirstByte, Phase::Body] {
        let Some(micros) = phase(phase_of) else { continue };
        ended += micros;
        message(span, 11, |event| {
            fixed64(event, 1, at(ended));
            bytes(event, 2, phase_of.name().as_bytes());
        });
    }
    if let Some(cause) = error(numbers) {
        text(span, ATTRIBUTE, "error.type", cause);
        message(span, 15, |status| number(status, 3, STATUS_ERROR));
    }
    fixed32(span, 16, FLAG_SAMPLED);
}

/// What other programs have no word for.
fn push_own(span: &mut Vec<u8>, field: u32, record: &Record<'_>, snapshot: &Snapshot) {
    let numbers = &record.numbers;
    if let Some(listener) = snapshot.listeners.get(usize::from(numbers.listener)) {
        text(span, field, "corelane.listener", listener.name.as_str());
    }
    if let Some(channel) = numbers.channel.and_then(|id| snapshot.channels.get(usize::from(id))) {
        text(span, field, "corelane.channel", channel.name.as_str());
    }
    if let Some(upstream) = numbers.upstream.and_then(|id| snapshot.upstreams.get(usize::from(id))) {
        text(span, field, "corelane.upstream", upstream.name.as_str());
    }
    if let Some(endpoint) = record.endpoint() {
        text(span, field, "corelane.endpoint", lossy(endpoint));
    }
    whole(span, field, "corelane.retries", u64::from(numbers.retries));
    whole(span, field, "corelane.core", u64::from(numbers.core));
}

/// Whether it failed on this side: by its fault, else by a status of the class 5xx.
fn error(numbers: &Numbers) -> Option<Cow<'static, str>> {
    let fault = numbers.fault.and_then(|fault| Fault::NAMES.get(usize::from(fault)));
    let status = numbers.status.filter(|status| *status >= 500);
    fault.map(|fault| (*fault).into()).or_else(|| Some(status?.to_string().into()))
}

/// The host of an authority, and its port if it has one; colons in brackets belong to an address.
fn without_port(authority: &[u8]) -> (&[u8], Option<u16>) {
    let port = authority.iter().rposition(|&byte| byte == b':').and_then(|colon| {
        let digits = str::from_utf8(&authority[colon + 1..]).ok()?;
        Some((&authority[..colon], digits.parse().ok()?))
    });
    match port {
        Some((host, port)) => (host, Some(port)),
        None => (authority, None),
    }
}

fn lossy(text: &[u8]) -> Cow<'_, str> {
    String::from_utf8_lossy(text)
}

/// A `KeyValue` with a `string_value`.
fn text<'t>(out: &mut Vec<u8>, field: u32, key: &str, value: impl Into<Cow<'t, str>>) {
    let value = value.into();
    message(out, field, |pair| {
        bytes(pair, 1, key.as_bytes());
        message(pair, 2, |any| bytes(any, 1, value.as_bytes()));
    });
}

/// A `KeyValue` with an `int_value`.
fn whole(out: &mut Vec<u8>, field: u32, key: &str, value: u64) {
    message(out, field, |pair| {
        bytes(pair, 1, key.as_bytes());
        message(pair, 2, |any| number(any, 3, value));
    });
}

/// The wire types of Protobuf: varint, 64 bits, bytes with their length, 32 bits.
const VARINT: u32 = 0;
const FIXED64: u32 = 1;
const LENGTH: u32 = 2;
const FIXED32: u32 = 5;

fn varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

fn key(out: &mut Vec<u8>, field: u32, wire: u32) {
    varint(out, u64::from(field << 3 | wire));
}

fn number(out: &mut Vec<u8>, field: u32, value: u64) {
    key(out, field, VARINT);
    varint(out, value);
}

fn fixed64(out: &mut Vec<u8>, field: u32, value: u64) {
    key(out, field, FIXED64);
    out.extend_from_slice(&value.to_le_bytes());
}

fn fixed32(out: &mut Vec<u8>, field: u32, value: u32) {
    key(out, field, FIXED32);
    out.extend_from_slice(&value.to_le_bytes());
}

fn bytes(out: &mut Vec<u8>, field: u32, value: &[u8]) {
    key(out, field, LENGTH);
    varint(out, value.len() as u64);
    out.extend_from_slice(value);
}

fn message(out: &mut Vec<u8>, field: u32, write: impl FnOnce(&mut Vec<u8>)) {
    let mut inner = Vec::new();
    write(&mut inner);
    bytes(out, field, &inner);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_is_told_apart_from_its_host() {
        let check = |authority: &str, expected: (&str, Option<u16>)| {
            let (host, port) = without_port(authority.as_bytes());
            assert_eq!((str::from_utf8(host), port), (Ok(expected.0), expected.1), "{authority}");
        };
        check("a.example", ("a.example", None));
        check("a.example:8080", ("a.example", Some(8080)));
        check("a.example:", ("a.example:", None));
        check("[::1]", ("[::1]", None));
        check("[::1]:80", ("[::1]", Some(80)));
        check("", ("", None));
    }

    /// The examples of Protobuf's own description of its encoding.
    #[test]
    fn numbers_and_texts_are_written_as_protobuf_has_it() {
        let mut out = Vec::new();
        number(&mut out, 1, 150);
        assert_eq!(out, [0x08, 0x96, 0x01]);
        out.clear();
        bytes(&mut out, 2, b"testing");
        assert_eq!(out, [0x12, 0x07, 0x74, 0x65, 0x73, 0x74, 0x69, 0x6e, 0x67]);
        out.clear();
        message(&mut out, 3, |inner| number(inner, 1, 150));
        assert_eq!(out, [0x1a, 0x03, 0x08, 0x96, 0x01]);
        out.clear();
        number(&mut out, 16, u64::MAX);
        assert_eq!(out, [[0x80, 0x01].as_slice(), &[0xff; 9], &[0x01]].concat());
    }
}
