//! Which bytes go out in place of a head that came in?
//!
//! Copies runs of the received head and the texts between them into one piece; never looks into a field that stays
//! as it is, and never lets through a field that belongs to one hop.

use std::ops::Range;

use super::cookie;
use super::field::{Field, KnownField, Span};
use super::framing::{Delivery, RequestFraming};
use super::head::{Method, RequestHead, ResponseHead, Version};
use super::persist::ConnectionOption;
use super::target::TargetForm;

/// What a gateway adds to a request.
#[derive(Clone, Copy, Debug)]
pub struct RequestPlan<'a> {
    /// The client's address as text, without port or brackets; empty if it has none, as one by a Unix socket.
    pub client: &'a str,
    /// Scheme the client used, `http` or `https`.
    pub scheme: &'a str,
    /// Whether the client's own forwarding fields and request id are believed; others' are dropped.
    pub is_trusted: bool,
    /// Add the client to `X-Forwarded-For`.
    pub x_forwarded_for: bool,
    /// Set `X-Forwarded-Proto` unless a trusted client did.
    pub x_forwarded_proto: bool,
    /// Set `X-Forwarded-Host` unless a trusted client did.
    pub x_forwarded_host: bool,
    /// Add an element to `Forwarded`, RFC 7239.
    pub forwarded: bool,
    /// Our pseudonym in `Via`, RFC 9110 §7.6.3.
    pub via: Option<&'a str>,
    /// `X-Request-ID`, unless a trusted client sent one.
    pub request_id: Option<&'a str>,
    /// `Host` for a client of HTTP/1.0 that named none.
    pub host_fallback: &'a str,
    /// Pass on the client's offer to upgrade, see [`RequestHead::upgrade`].
    pub upgrade: bool,
    /// Pass on `Expect`; false when the client has been answered 100 here.
    pub expect: bool,
    /// Who the client has proved to be, where clients do.
    pub proof: Proof<'a>,
    /// Name of the cookie that is between the client and us, and goes no further.
    pub own_cookie: Option<&'a [u8]>,
}

/// What becomes of the fields that say whose certificate a client has shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Proof<'a> {
    /// Clients are not asked for certificates here: the fields are like any other.
    NotAsked,
    /// They are: the client's own are dropped, and these lines, each with its end, are sent.
    Fields(&'a str),
}

impl<'a> RequestPlan<'a> {
    /// A plan that adds nothing. `client` and `host_fallback` are as in its fields.
    #[must_use]
    pub const fn bare(client: &'a str, host_fallback: &'a str) -> Self {
        Self {
            client,
            scheme: "http",
            is_trusted: false,
            x_forwarded_for: false,
            x_forwarded_proto: false,
            x_forwarded_host: false,
            forwarded: false,
            via: None,
            request_id: None,
            host_fallback,
            upgrade: false,
            expect: true,
            proof: Proof::NotAsked,
            own_cookie: None,
        }
    }
}

/// What a gateway adds to a response.
#[derive(Clone, Copy, Debug)]
pub struct ResponsePlan<'a> {
    /// How the body reaches the client.
    pub delivery: Delivery,
    /// What the client is told of its connection. `None` for interim responses.
    pub connection: Option<ConnectionOption>,
    /// Our pseudonym in `Via`, RFC 9110 §7.6.3.
    pub via: Option<&'a str>,
    /// Pass on the upstream's `Upgrade`: it answered 101, or 426 naming what it wants.
    pub upgrade: bool,
    /// `Date` for an answer that has none, RFC 9110 §6.6.1. `None` for interim responses, which need none.
    pub date: Option<&'a str>,
    /// A line that sets a cookie of ours, with its end.
    pub set_cookie: Option<&'a str>,
}

/// Longest name in `Via`: generous for any host name.
pub const PSEUDONYM_BYTES_MAX: usize = 128;

/// Whether `text` may be our name in `Via`: a token or an authority of bounded length (RFC 9110 §7.6.3).
#[must_use]
pub fn is_pseudonym(text: &str) -> bool {
    let is_valid = |byte: u8| super::field::is_token_byte(byte) || matches!(byte, b':' | b'[' | b']');
    (1..=PSEUDONYM_BYTES_MAX).contains(&text.len()) && text.bytes().all(is_valid)
}

/// A head being written anew. Neighbouring runs of the received one are copied together.
struct Writer<'a> {
    received: &'a [u8],
    run: Range<usize>,
    out: &'a mut Vec<u8>,
}

impl<'a> Writer<'a> {
    fn new(received: &'a [u8], out: &'a mut Vec<u8>) -> Self {
        out.clear();
        Self { received, run: 0..0, out }
    }

    /// Bytes of the received head.
    fn head(&mut self, range: Range<usize>) {
        if range.start == self.run.end {
            self.run.end = range.end;
        } else {
            self.flush();
            self.run = range;
        }
    }

    fn span(&mut self, span: Span) {
        self.head(span.start()..span.end());
    }

    /// Bytes that were not received.
    #[inline]
    fn text(&mut self, text: &str) {
        self.flush();
        self.out.extend_from_slice(text.as_bytes());
    }

    #[inline]
    fn flush(&mut self) {
        if !self.run.is_empty() {
            self.out.extend_from_slice(&self.received[self.run.clone()]);
            self.run = 0..0;
        }
    }

    /// The empty line.
    fn end(mut self) {
        self.text("\r\n");
    }
}

/// The bytes of field line `index`, its line end included.
fn field_line(fields: &[Field], index: usize, head_bytes: u32) -> Range<usize> {
    // The empty line ends the head, so the last field line ends before its two bytes.
    let end = fields.get(index + 1).map_or(head_bytes as usize - 2, |next| next.name.start());
    fields[index].name.start()..end
}

/// Whether a field line is spelled `name: value` to the letter, so that no recipient can read it otherwise.
fn is_canonical(buf: &[u8], field: &Field, line: &Range<usize>, value: &str) -> bool {
    let spelled =
        buf[field.name.end()..line.end].strip_prefix(b": ").and_then(|rest| rest.strip_suffix(b"\r\n"));
    spelled == Some(value.as_bytes())
}

/// What happens to one field line.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Fate {
    Keep,
    Drop,
    /// Kept when it is spelled as we would, else spelled anew.
    Spell,
    /// Kept, with an element added to its list.
    Extend,
}

/// Replaces `out` by the request head that goes to the upstream in place of `head`, parsed from `buf`.
///
/// The request line is in origin-form with our version; `Host` is the effective authority; fields of this hop
/// are gone; what frames the body is there once, spelled to the letter.
pub fn rewrite_request(buf: &[u8], head: &RequestHead, plan: &RequestPlan<'_>, out: &mut Vec<u8>) {
    let mut writer = Writer::new(buf, out);
    let out = &mut writer;
    request_line(buf, head, out);
    if !keeps_host(head) {
        out.text("Host: ");
        authority(head, plan, out);
        out.text("\r\n");
    }
    let ends = ListEnds::of(head, plan);
    for (index, field) in head.fields.iter().enumerate() {
        let line = field_line(&head.fields, index, head.head_bytes);
        match request_field_fate(buf, field, index, head, plan, &ends) {
            Fate::Keep => out.head(line),
            Fate::Drop => {}
            Fate::Spell if field.known == KnownField::Credentials => other_cookies(buf, field, plan, out),
            Fate::Spell => spell_request_field(buf, head, field, line, out),
            Fate::Extend => {
                out.head(line.start..field.value.end());
                out.text(", ");
                list_element(field.known, head, plan, out);
                out.text("\r\n");
            }
        }
    }
    append_request_fields(head, plan, &ends, out);
    writer.end();
}

fn request_line(buf: &[u8], head: &RequestHead, out: &mut Writer<'_>) {
    let line_end = usize::from(head.fields_start);
    let is_unchanged =
        head.target_form != TargetForm::Absolute && buf[..line_end].ends_with(b" HTTP/1.1\r\n");
    if is_unchanged {
        out.head(head.method_span.start()..line_end);
        return;
    }
    out.head(head.method_span.start()..head.target.start());
    if head.target_form == TargetForm::Absolute {
        // RFC 9112 §3.2.4 and §3.2.1: OPTIONS of a bare authority asks about the server; else the path is `/`.
        match (head.path_and_query.is_empty(), head.path.is_empty(), head.method) {
            (true, _, Method::Options) => out.text("*"),
            (_, true, _) => out.text("/"),
            (_, false, _) => {}
        }
        out.span(head.path_and_query);
    } else {
        out.span(head.target);
    }
    out.text(" HTTP/1.1\r\n");
}

/// Whether the client's `Host` line is the one to send. The target's authority replaces it, RFC 9112 §3.2.2.
fn keeps_host(head: &RequestHead) -> bool {
    matches!(head.target_form, TargetForm::Origin | TargetForm::Asterisk) && !head.authority.is_empty()
}

fn authority(head: &RequestHead, plan: &RequestPlan<'_>, out: &mut Writer<'_>) {
    if head.authority.is_empty() { out.text(plan.host_fallback) } else { out.span(head.authority) }
}

/// The last line of each list that gets another element, by its index.
struct ListEnds {
    x_forwarded_for: Option<usize>,
    forwarded: Option<usize>,
    via: Option<usize>,
}

impl ListEnds {
    fn of(head: &RequestHead, plan: &RequestPlan<'_>) -> Self {
        let last =
            |known: KnownField, wanted: bool| if wanted { last_list_line(&head.fields, known) } else { None };
        Self {
            x_forwarded_for: last(KnownField::XForwardedFor, plan.is_trusted && plan.x_forwarded_for),
            forwarded: last(KnownField::Forwarded, plan.is_trusted && plan.forwarded),
            via: last(KnownField::Via, plan.via.is_some()),
        }
    }

    fn contains(&self, index: usize) -> bool {
        [self.x_forwarded_for, self.forwarded, self.via].contains(&Some(index))
    }
}

fn last_list_line(fields: &[Field], known: KnownField) -> Option<usize> {
    fields.iter().rposition(|field| field.known == known && !field.value.is_empty())
}

fn request_field_fate(
    buf: &[u8],
    field: &Field,
    index: usize,
    head: &RequestHead,
    plan: &RequestPlan<'_>,
    ends: &ListEnds,
) -> Fate {
    let keep_if = |keep: bool| if keep { Fate::Keep } else { Fate::Drop };
    match field.known {
        KnownField::Other if field.connection_named => Fate::Drop,
        KnownField::Other if plan.proof != Proof::NotAsked => keep_if(!is_proof_name(field.name.of(buf))),
        KnownField::Host => keep_if(keeps_host(head)),
        KnownField::ContentLength | KnownField::TransferEncoding => Fate::Spell,
        KnownField::Connection
        | KnownField::KeepAlive
        | KnownField::ProxyConnection
        | KnownField::Te
        | KnownField::Http2Settings => Fate::Drop,
        KnownField::Upgrade => keep_if(plan.upgrade),
        KnownField::Expect => keep_if(plan.expect && head.expect_continue),
        KnownField::MaxForwards if head.max_forwards.is_some() => Fate::Spell,
        KnownField::Credentials if plan.own_cookie.is_some_and(|own| has_cookie(buf, field, own)) => {
            Fate::Spell
        }
        KnownField::XForwardedFor | KnownField::Forwarded | KnownField::Via if ends.contains(index) => {
            Fate::Extend
        }
        KnownField::XForwardedFor
        | KnownField::XForwardedProto
        | KnownField::XForwardedHost
        | KnownField::XForwardedOther
        | KnownField::Forwarded
        | KnownField::XRequestId => keep_if(plan.is_trusted),
        KnownField::Via
        | KnownField::Trailer
        | KnownField::Date
        | KnownField::Server
        | KnownField::Credentials
        | KnownField::Content
        | KnownField::Control
        | KnownField::Modifier
        | KnownField::MaxForwards
        | KnownField::FramingLookalike
        | KnownField::Other => Fate::Keep,
    }
}

fn spell_request_field(
    buf: &[u8],
    head: &RequestHead,
    field: &Field,
    line: Range<usize>,
    out: &mut Writer<'_>,
) {
    match (field.known, head.framing) {
        // RFC 9110 §7.6.2: one hop fewer. At 0 nothing is forwarded.
        (KnownField::MaxForwards, _) => {
            let hops = head.max_forwards.unwrap_or(0).saturating_sub(1);
            number(buf, field, line, "Max-Forwards: ", hops.into(), out);
        }
        (_, RequestFraming::Length(bytes)) => number(buf, field, line, CONTENT_LENGTH, bytes, out),
        (_, RequestFraming::Chunked) => transfer_encoding(buf, field, line, out),
        // Neither field is there when there is no body.
        (_, RequestFraming::None) => {}
    }
}

fn has_cookie(buf: &[u8], field: &Field, name: &[u8]) -> bool {
    field.name.of(buf).eq_ignore_ascii_case(b"cookie")
        && cookie::pairs(field.value.of(buf)).any(|(_, pair)| cookie::value_of(pair, name).is_some())
}

/// The cookies of a line that are not ours; no line if there is none.
fn other_cookies(buf: &[u8], field: &Field, plan: &RequestPlan<'_>, out: &mut Writer<'_>) {
    let is_ours = |pair: &[u8]| plan.own_cookie.is_some_and(|own| cookie::value_of(pair, own).is_some());
    let first = field.value.start();
    let mut before = "Cookie: ";
    let pairs = cookie::pairs(field.value.of(buf));
    for (place, pair) in pairs.filter(|(_, pair)| !pair.is_empty() && !is_ours(pair)) {
        out.text(before);
        out.head(first + place..first + place + pair.len());
        before = "; ";
    }
    if before != "Cookie: " {
        out.text("\r\n");
    }
}

const CONTENT_LENGTH: &str = "Content-Length: ";

fn number(buf: &[u8], field: &Field, line: Range<usize>, name: &str, number: u64, out: &mut Writer<'_>) {
    let mut digits = itoa::Buffer::new();
    let digits = digits.format(number);
    if is_canonical(buf, field, &line, digits) {
        out.head(line);
    } else {
        out.text(name);
        out.text(digits);
        out.text("\r\n");
    }
}

fn transfer_encoding(buf: &[u8], field: &Field, line: Range<usize>, out: &mut Writer<'_>) {
    if is_canonical(buf, field, &line, "chunked") {
        out.head(line);
    } else {
        out.text(TRANSFER_ENCODING_CHUNKED);
    }
}

const TRANSFER_ENCODING_CHUNKED: &str = "Transfer-Encoding: chunked\r\n";

/// Whether a field says who the client is, or may be read so by a server that takes `_` for `-`, as CGI does
/// (RFC 3875 §4.1.18).
fn is_proof_name(name: &[u8]) -> bool {
    const EXACT: [&[u8]; 2] = [b"client-cert", b"client-cert-chain"];
    const BELOW: &[u8] = b"x-client-certificate-";
    let is_folded = |name: &[u8], known: &[u8]| {
        let fold = |byte: u8| if byte == b'_' { b'-' } else { byte.to_ascii_lowercase() };
        name.len() == known.len() && name.iter().zip(known).all(|(byte, known)| fold(*byte) == *known)
    };
    EXACT.into_iter().any(|known| is_folded(name, known))
        || name.get(..BELOW.len()).is_some_and(|start| is_folded(start, BELOW))
}

fn append_request_fields(head: &RequestHead, plan: &RequestPlan<'_>, ends: &ListEnds, out: &mut Writer<'_>) {
    let has = |known: KnownField| plan.is_trusted && head.fields.iter().any(|field| field.known == known);
    let lists = [
        (
            plan.x_forwarded_for && ends.x_forwarded_for.is_none(),
            KnownField::XForwardedFor,
            "X-Forwarded-For: ",
        ),
        (plan.forwarded && ends.forwarded.is_none(), KnownField::Forwarded, "Forwarded: "),
        (plan.via.is_some() && ends.via.is_none(), KnownField::Via, "Via: "),
    ];
    for (_, known, name) in lists.into_iter().filter(|(is_wanted, ..)| *is_wanted) {
        out.text(name);
        list_element(known, head, plan, out);
        out.text("\r\n");
    }
    if plan.x_forwarded_proto && !has(KnownField::XForwardedProto) {
        line(out, "X-Forwarded-Proto: ", plan.scheme);
    }
    if plan.x_forwarded_host && !head.authority.is_empty() && !has(KnownField::XForwardedHost) {
        out.text("X-Forwarded-Host: ");
        out.span(head.authority);
        out.text("\r\n");
    }
    if let Some(id) = plan.request_id.filter(|_| !has(KnownField::XRequestId)) {
        line(out, "X-Request-ID: ", id);
    }
    if let Proof::Fields(lines) = plan.proof {
        out.text(lines);
    }
    // RFC 9110 §10.1.4 and §7.8: both fields must be listed in Connection.
    match (head.te_trailers, plan.upgrade) {
        (true, true) => out.text("TE: trailers\r\nConnection: TE, upgrade\r\n"),
        (true, false) => out.text("TE: trailers\r\nConnection: TE\r\n"),
        (false, true) => out.text("Connection: upgrade\r\n"),
        (false, false) => {}
    }
}

#[inline]
fn line(out: &mut Writer<'_>, name: &str, value: &str) {
    out.text(name);
    out.text(value);
    out.text("\r\n");
}

/// Our element of a forwarding list.
fn list_element(known: KnownField, head: &RequestHead, plan: &RequestPlan<'_>, out: &mut Writer<'_>) {
    match known {
        KnownField::Forwarded => forwarded_element(head, plan, out),
        KnownField::Via => via_element(head.version, plan.via.unwrap_or(""), out),
        _ => out.text(plan.client),
    }
}

/// RFC 7239 §4 and §6: an IPv6 address stands in brackets and quotes, a host may need quotes and has them always.
fn forwarded_element(head: &RequestHead, plan: &RequestPlan<'_>, out: &mut Writer<'_>) {
    let is_ipv6 = plan.client.contains(':');
    out.text(if is_ipv6 { "for=\"[" } else { "for=" });
    out.text(if plan.client.is_empty() { "unknown" } else { plan.client }); // RFC 7239 §6.2
    out.text(if is_ipv6 { "]\"" } else { "" });
    if !head.authority.is_empty() {
        out.text(";host=\"");
        out.span(head.authority);
        out.text("\"");
    }
    out.text(";proto=");
    out.text(plan.scheme);
}

/// RFC 9110 §7.6.3: the version is the one the message was received with.
fn via_element(version: Version, pseudonym: &str, out: &mut Writer<'_>) {
    out.text(match version {
        Version::Http10 => "1.0 ",
        Version::Http11 => "1.1 ",
    });
    out.text(pseudonym);
}

/// Replaces `out` by the response head that goes to the client in place of `head`, parsed from `buf`.
pub fn rewrite_response(buf: &[u8], head: &ResponseHead, plan: &ResponsePlan<'_>, out: &mut Vec<u8>) {
    let mut writer = Writer::new(buf, out);
    let out = &mut writer;
    status_line(buf, head, out);
    let via_end = if plan.via.is_some() { last_list_line(&head.fields, KnownField::Via) } else { None };
    for (index, field) in head.fields.iter().enumerate() {
        let line = field_line(&head.fields, index, head.head_bytes);
        match response_field_fate(field, head, plan, via_end == Some(index)) {
            Fate::Keep => out.head(line),
            Fate::Drop => {}
            Fate::Spell => response_framing(buf, field, head, plan.delivery, line, out),
            Fate::Extend => {
                out.head(line.start..field.value.end());
                out.text(", ");
                via_element(head.version, plan.via.unwrap_or(""), out);
                out.text("\r\n");
            }
        }
    }
    append_response_fields(head, plan, via_end, out);
    writer.end();
}

fn status_line(buf: &[u8], head: &ResponseHead, out: &mut Writer<'_>) {
    const VERSION_BYTES: usize = "HTTP/1.1".len();
    const CODE_END: usize = "HTTP/1.1 200".len();
    let line_end = usize::from(head.fields_start);
    let has_space = buf[CODE_END] == b' ';
    if buf.starts_with(b"HTTP/1.1") && has_space {
        out.head(0..line_end);
        return;
    }
    out.text("HTTP/1.1");
    out.head(VERSION_BYTES..CODE_END);
    // RFC 9112 §4: the space stays when the reason is empty.
    out.text(" ");
    out.head(if has_space { CODE_END + 1..line_end } else { CODE_END..line_end });
}

fn response_field_fate(
    field: &Field,
    head: &ResponseHead,
    plan: &ResponsePlan<'_>,
    is_via_end: bool,
) -> Fate {
    let keep_if = |keep: bool| if keep { Fate::Keep } else { Fate::Drop };
    match field.known {
        KnownField::Other if field.connection_named => Fate::Drop,
        // RFC 9110 §8.6 and RFC 9112 §6.1: neither in a 1xx or 204.
        KnownField::ContentLength | KnownField::TransferEncoding
            if matches!(head.status, 100..=199 | 204) =>
        {
            Fate::Drop
        }
        KnownField::ContentLength | KnownField::TransferEncoding => Fate::Spell,
        KnownField::Connection
        | KnownField::KeepAlive
        | KnownField::ProxyConnection
        | KnownField::Te
        | KnownField::Http2Settings => Fate::Drop,
        KnownField::Upgrade => keep_if(plan.upgrade),
        KnownField::Trailer => keep_if(plan.delivery == Delivery::Chunked),
        KnownField::Via if is_via_end => Fate::Extend,
        KnownField::Via
        | KnownField::Host
        | KnownField::Expect
        | KnownField::XForwardedFor
        | KnownField::XForwardedProto
        | KnownField::XForwardedHost
        | KnownField::XForwardedOther
        | KnownField::Forwarded
        | KnownField::XRequestId
        | KnownField::Date
        | KnownField::Server
        | KnownField::Credentials
        | KnownField::Content
        | KnownField::Control
        | KnownField::Modifier
        | KnownField::MaxForwards
        | KnownField::FramingLookalike
        | KnownField::Other => Fate::Keep,
    }
}

fn response_framing(
    buf: &[u8],
    field: &Field,
    head: &ResponseHead,
    delivery: Delivery,
    line: Range<usize>,
    out: &mut Writer<'_>,
) {
    match (field.known, delivery) {
        (KnownField::ContentLength, Delivery::Length(bytes)) => {
            number(buf, field, line, CONTENT_LENGTH, bytes, out);
        }
        // The length of the representation that HEAD or 304 speak of, RFC 9110 §8.6.
        (KnownField::ContentLength, Delivery::None) => {
            number(buf, field, line, CONTENT_LENGTH, head.framing_fields.length().unwrap_or(0), out);
        }
        (KnownField::TransferEncoding, Delivery::Chunked) => transfer_encoding(buf, field, line, out),
        // Towards HTTP/1.0, and where there is no body, no coding is named.
        _ => {}
    }
}

fn append_response_fields(
    head: &ResponseHead,
    plan: &ResponsePlan<'_>,
    via_end: Option<usize>,
    out: &mut Writer<'_>,
) {
    if let Some(via) = plan.via.filter(|_| via_end.is_none()) {
        out.text("Via: ");
        via_element(head.version, via, out);
        out.text("\r\n");
    }
    if let Some(date) = plan.date.filter(|_| !head.fields.iter().any(|field| field.known == KnownField::Date))
    {
        line(out, "Date: ", date);
    }
    if let Some(line) = plan.set_cookie {
        out.text(line);
    }
    if plan.delivery == Delivery::ChunkedHere {
        out.text(TRANSFER_ENCODING_CHUNKED);
    }
    match (plan.connection, plan.upgrade) {
        (Some(ConnectionOption::Close), true) => out.text("Connection: close, upgrade\r\n"),
        (Some(ConnectionOption::Close), false) => out.text("Connection: close\r\n"),
        (Some(ConnectionOption::KeepAlive), true) => out.text("Connection: keep-alive, upgrade\r\n"),
        (Some(ConnectionOption::KeepAlive), false) => out.text("Connection: keep-alive\r\n"),
        (None, true) => out.text("Connection: upgrade\r\n"),
        (None, false) => {}
    }
}

#[cfg(test)]
mod tests;
