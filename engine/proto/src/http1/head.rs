//! What does a message head say?
//!
//! Parses in place and keeps ranges; never copies, and never accepts what RFC 9112 lets a recipient merely
//! tolerate. Start lines are taken apart here, field lines by httparse and then checked again by
//! [`super::field`].

use std::ops::Range;

use arrayvec::ArrayVec;
use memchr::memchr;

use super::field::{
    Field, Judgement, KnownField, Span, is_token_byte, is_value_byte, judge_lines, list_elements, tokenise,
};
use super::framing::{FramingFields, RequestFraming};
use super::persist::{ConnectionOptions, WellKnownOption};
use super::rejected::{RequestRejected, RequestRule, ResponseRejected, ResponseRule, SyntaxRejected};
use super::target::{Target, TargetForm, is_same_authority, parse_target, split_authority};

/// Most field lines a head can have. Twice what any browser sends, and what a vectored write can carry.
pub const FIELDS_MAX: usize = 128;

/// Most empty lines skipped before a request line. RFC 9112 §2.2 asks for one at least; old clients send one
/// after a POST body.
pub const EMPTY_LINES_MAX: usize = 4;

/// Bounds of a head.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Bytes from the first received to the end of the empty line. Above 65,535 counts as 65,535.
    pub head_bytes_max: u32,
    /// Field lines. Above [`FIELDS_MAX`] counts as that.
    pub fields_max: u16,
    /// Bytes of a request target.
    pub target_bytes_max: u32,
    /// The client has been shown who we are, so that it may ask for an `https` resource (RFC 9110 §7.4).
    pub is_secured: bool,
}

impl Limits {
    /// The largest head whose ranges a [`Span`] can hold.
    fn head_bytes(&self) -> usize {
        self.head_bytes_max.min(u32::from(u16::MAX)) as usize
    }
}

/// Whether a head was all there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Parsed {
    /// It was; the head object holds it.
    Complete,
    /// More bytes are needed; the head object holds nothing.
    Incomplete,
}

/// Protocol version of a message; later minor versions of HTTP/1 count as 1.1 (RFC 9110 §2.5).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Version {
    /// HTTP/1.0
    Http10,
    /// HTTP/1.1
    Http11,
}

/// Request method.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Method {
    /// GET
    Get,
    /// HEAD
    Head,
    /// POST
    Post,
    /// PUT
    Put,
    /// DELETE
    Delete,
    /// PATCH
    Patch,
    /// OPTIONS
    Options,
    /// TRACE
    Trace,
    /// CONNECT
    Connect,
    /// Any other token; the head has its name.
    Extension,
}

impl Method {
    /// The method of this name; names are case-sensitive (RFC 9110 §9.1).
    #[must_use]
    pub fn of(name: &[u8]) -> Self {
        match name {
            b"GET" => Self::Get,
            b"HEAD" => Self::Head,
            b"POST" => Self::Post,
            b"PUT" => Self::Put,
            b"DELETE" => Self::Delete,
            b"PATCH" => Self::Patch,
            b"OPTIONS" => Self::Options,
            b"TRACE" => Self::Trace,
            b"CONNECT" => Self::Connect,
            _ => Self::Extension,
        }
    }

    /// Whether it only reads, RFC 9110 §9.2.1.
    #[must_use]
    pub fn is_safe(self) -> bool {
        matches!(self, Self::Get | Self::Head | Self::Options | Self::Trace)
    }

    /// Whether sending it twice does what sending it once does, RFC 9110 §9.2.2.
    #[must_use]
    pub fn is_idempotent(self) -> bool {
        self.is_safe() || matches!(self, Self::Put | Self::Delete)
    }
}

/// A request head as ranges of the buffer it was parsed from. Made once, used for many.
#[derive(Clone, Debug)]
pub struct RequestHead {
    /// What kind of request.
    pub method: Method,
    /// The method as received.
    pub method_span: Span,
    /// The target as received.
    pub target: Span,
    /// Its form.
    pub target_form: TargetForm,
    /// The effective authority: the target's if it has one, else `Host`'s value; empty if there is neither.
    pub authority: Span,
    /// The target's path without the query. Empty for CONNECT and for an absolute-form target without path.
    pub path: Span,
    /// Path and query. Empty for CONNECT, empty or starting with `?` for an absolute-form target without path.
    pub path_and_query: Span,
    /// The client's version.
    pub version: Version,
    /// Field lines in order.
    pub fields: ArrayVec<Field, FIELDS_MAX>,
    /// Bytes from the first of the buffer to the end of the empty line; the body starts there.
    pub head_bytes: u32,
    /// Where the body ends.
    pub framing: RequestFraming,
    /// What `Connection` says.
    pub connection: ConnectionOptions,
    /// The client waits for 100 before it sends the body. Never set in HTTP/1.0 (RFC 9110 §10.1.1).
    pub expect_continue: bool,
    /// The client offers to switch to a protocol other than HTTP/2 (RFC 9110 §7.8; h2c is gone since RFC 9113).
    pub upgrade: bool,
    /// The client understands trailers, RFC 9110 §6.5.1.
    pub te_trailers: bool,
    /// How many more hops an OPTIONS or TRACE may take, RFC 9110 §7.6.2; 0: it is answered here.
    pub max_forwards: Option<u32>,
    /// Where the first field line, or the empty line, starts.
    pub(super) fields_start: u16,
}

impl RequestHead {
    /// An empty head to parse into.
    #[must_use]
    pub fn new() -> Self {
        Self {
            method: Method::Get,
            method_span: Span::default(),
            target: Span::default(),
            target_form: TargetForm::Origin,
            authority: Span::default(),
            path: Span::default(),
            path_and_query: Span::default(),
            version: Version::Http11,
            fields: ArrayVec::new(),
            head_bytes: 0,
            framing: RequestFraming::None,
            connection: ConnectionOptions::default(),
            expect_continue: false,
            upgrade: false,
            te_trailers: false,
            max_forwards: None,
            fields_start: 0,
        }
    }

    /// The effective authority, `host[:port]`, if the client named one; HTTP/1.0 clients need not.
    #[must_use]
    pub fn authority<'a>(&self, buf: &'a [u8]) -> Option<&'a [u8]> {
        (!self.authority.is_empty()).then(|| self.authority.of(buf))
    }

    /// The path to match on, without the query: `/` where an absolute-form target has none, `*` for OPTIONS,
    /// empty for CONNECT.
    #[must_use]
    pub fn path<'a>(&self, buf: &'a [u8]) -> &'a [u8] {
        if self.target_form == TargetForm::Absolute && self.path.is_empty() {
            b"/"
        } else {
            self.path.of(buf)
        }
    }

    /// The protocols that `Upgrade` names, each with its version if it has one, as written.
    pub fn upgrade_protocols<'a>(&'a self, buf: &'a [u8]) -> impl Iterator<Item = &'a [u8]> {
        upgrade_protocols(&self.fields, buf)
    }

    fn clear(&mut self) {
        self.authority = Span::default();
        self.fields.clear();
        self.connection = ConnectionOptions::default();
        self.expect_continue = false;
        self.upgrade = false;
        self.te_trailers = false;
        self.max_forwards = None;
    }
}

impl Default for RequestHead {
    fn default() -> Self {
        Self::new()
    }
}

/// A response head as ranges of the buffer it was parsed from. Made once, used for many.
#[derive(Clone, Debug)]
pub struct ResponseHead {
    /// The upstream's version.
    pub version: Version,
    /// 100 to 599.
    pub status: u16,
    /// The reason phrase, often empty.
    pub reason: Span,
    /// Field lines in order.
    pub fields: ArrayVec<Field, FIELDS_MAX>,
    /// Bytes from the first of the buffer to the end of the empty line; the body starts there.
    pub head_bytes: u32,
    /// What `Connection` says.
    pub connection: ConnectionOptions,
    pub(super) framing_fields: FramingFields,
    /// Where the first field line, or the empty line, starts.
    pub(super) fields_start: u16,
}

impl ResponseHead {
    /// An empty head to parse into.
    #[must_use]
    pub fn new() -> Self {
        Self {
            version: Version::Http11,
            status: 0,
            reason: Span::default(),
            fields: ArrayVec::new(),
            head_bytes: 0,
            connection: ConnectionOptions::default(),
            framing_fields: FramingFields::default(),
            fields_start: 0,
        }
    }

    /// The protocols that `Upgrade` names, each with its version if it has one, as written.
    pub fn upgrade_protocols<'a>(&'a self, buf: &'a [u8]) -> impl Iterator<Item = &'a [u8]> {
        upgrade_protocols(&self.fields, buf)
    }

    /// Whether another response to the same request follows. 101 is final: HTTP ends there.
    #[must_use]
    pub fn is_interim(&self) -> bool {
        (100..200).contains(&self.status) && self.status != 101
    }
}

impl Default for ResponseHead {
    fn default() -> Self {
        Self::new()
    }
}

/// Parses the request head at the start of `buf`, after up to [`EMPTY_LINES_MAX`] empty lines.
///
/// `examined` is how many bytes of `buf` an earlier call found incomplete, 0 at first: the search for the
/// head's end resumes there, so that a head that trickles in costs no more than one that comes at once.
///
/// # Errors
/// The first rule found broken. What follows in `buf` must then not be read as a request.
pub fn parse_request(
    buf: &[u8],
    examined: usize,
    limits: &Limits,
    head: &mut RequestHead,
) -> Result<Parsed, RequestRejected> {
    head.clear();
    let window = &buf[..buf.len().min(limits.head_bytes())];
    let start = skip_empty_lines(window)?;
    let method_len = judge_request_line_start(&window[start..], limits)?;
    let Some(line_len) = memchr(b'\n', &window[start..]) else {
        return if is_full(window, limits) {
            Err(RequestRule::TargetTooLong.into())
        } else {
            Ok(Parsed::Incomplete)
        };
    };
    let fields_start = start + line_len + 1;
    let target = parse_request_line(window, start, method_len, fields_start, limits, head)?;
    let Some(end) = tokenise(window, fields_start, examined, &mut head.fields)? else {
        refuse_if_full(window, fields_start, limits)?;
        return Ok(Parsed::Incomplete);
    };
    if head.fields.len() > usize::from(limits.fields_max) {
        return Err(SyntaxRejected::FieldsTooMany.into());
    }
    head.fields_start = fields_start as u16;
    head.head_bytes = end as u32;
    read_request_fields(buf, &target, head)?;
    Ok(Parsed::Complete)
}

/// Parses the response head at the start of `buf`; `examined` as for [`parse_request`].
///
/// # Errors
/// The first rule found broken. The connection cannot be used any more.
pub fn parse_response(
    buf: &[u8],
    examined: usize,
    limits: &Limits,
    head: &mut ResponseHead,
) -> Result<Parsed, ResponseRejected> {
    head.fields.clear();
    head.connection = ConnectionOptions::default();
    head.framing_fields = FramingFields::default();
    let window = &buf[..buf.len().min(limits.head_bytes())];
    let expected = &b"HTTP/"[..window.len().min(5)];
    if !window.starts_with(expected) {
        return Err(ResponseRule::StatusLineMalformed.into());
    }
    let Some(line_len) = memchr(b'\n', window) else {
        return if is_full(window, limits) {
            Err(SyntaxRejected::HeadTooLarge.into())
        } else {
            Ok(Parsed::Incomplete)
        };
    };
    let fields_start = line_len + 1;
    parse_status_line(window, fields_start, head)?;
    let Some(end) = tokenise(window, fields_start, examined, &mut head.fields)? else {
        refuse_if_full(window, fields_start, limits)?;
        return Ok(Parsed::Incomplete);
    };
    if head.fields.len() > usize::from(limits.fields_max) {
        return Err(SyntaxRejected::FieldsTooMany.into());
    }
    head.fields_start = fields_start as u16;
    head.head_bytes = end as u32;
    read_response_fields(buf, head)?;
    Ok(Parsed::Complete)
}

fn is_full(window: &[u8], limits: &Limits) -> bool {
    window.len() >= limits.head_bytes()
}

/// Refuses an unfinished head for which no more room is left.
fn refuse_if_full(window: &[u8], fields_start: usize, limits: &Limits) -> Result<(), SyntaxRejected> {
    if !is_full(window, limits) {
        return Ok(());
    }
    match judge_lines(&window[fields_start..]) {
        Judgement::Broken(rule) => Err(rule),
        Judgement::Unfinished | Judgement::Sound => Err(SyntaxRejected::HeadTooLarge),
    }
}

/// Where the request line starts, or would.
fn skip_empty_lines(window: &[u8]) -> Result<usize, RequestRejected> {
    let mut start = 0;
    while window[start..].starts_with(b"\r\n") {
        start += 2;
        if start > 2 * EMPTY_LINES_MAX {
            return Err(RequestRule::EmptyLinesTooMany.into());
        }
    }
    match window[start..] {
        [b'\r', _, ..] => Err(SyntaxRejected::BareCarriageReturn.into()),
        _ => Ok(start),
    }
}

/// Refuses a request line, finished or not, that no further byte can make valid: a TLS hello or other noise is
/// told by its first bytes instead of by a deadline, and an endless line by its length. Tells how long the method is as
/// far as it is there.
fn judge_request_line_start(line: &[u8], limits: &Limits) -> Result<usize, RequestRejected> {
    let mut method_len = 0;
    for &byte in line.iter().take(METHOD_BYTES_MAX) {
        if matches!(byte, b' ' | b'\r' | b'\n') {
            break;
        }
        if !is_token_byte(byte) {
            return Err(RequestRule::MethodInvalid.into());
        }
        method_len += 1;
    }
    // RFC 9112 §3: a method longer than any that is implemented deserves 501.
    if method_len == METHOD_BYTES_MAX && line.get(METHOD_BYTES_MAX).is_some_and(|&byte| is_token_byte(byte)) {
        return Err(RequestRule::MethodTooLong.into());
    }
    let line_bytes_max =
        (limits.target_bytes_max as usize).saturating_add(METHOD_BYTES_MAX + "  HTTP/1.1\r\n".len());
    if line.len() > line_bytes_max && memchr(b'\n', &line[..line_bytes_max]).is_none() {
        return Err(RequestRule::TargetTooLong.into());
    }
    Ok(method_len)
}

/// Longest method, in bytes. The IANA registry's longest has 17.
pub const METHOD_BYTES_MAX: usize = 32;

fn parse_request_line(
    buf: &[u8],
    start: usize,
    method_len: usize,
    line_end: usize,
    limits: &Limits,
    head: &mut RequestHead,
) -> Result<Target, RequestRejected> {
    let line = buf[start..line_end].strip_suffix(b"\r\n").ok_or(SyntaxRejected::BareLineFeed)?;
    take_request_line_apart(buf, start..start + line.len(), method_len, limits, head).map_err(|rule| {
        // No part of a request line may have a carriage return in it, so a sound line need not be searched for one.
        if line.contains(&b'\r') { SyntaxRejected::BareCarriageReturn.into() } else { rule }
    })
}

fn take_request_line_apart(
    buf: &[u8],
    Range { start, end }: Range<usize>,
    method_len: usize,
    limits: &Limits,
    head: &mut RequestHead,
) -> Result<Target, RequestRejected> {
    let line = &buf[start..end];
    // Up to there are token bytes alone.
    if line.get(method_len) != Some(&b' ') {
        let has_method = line.contains(&b' ');
        return Err(
            if has_method { RequestRule::MethodInvalid } else { RequestRule::RequestLineMalformed }.into()
        );
    }
    let target_start = start + method_len + 1;
    let target_len = memchr(b' ', &buf[target_start..end]).ok_or(RequestRule::RequestLineMalformed)?;
    let version_start = target_start + target_len + 1;
    let method = &line[..method_len];
    if method.is_empty() {
        return Err(RequestRule::MethodInvalid.into());
    }
    if target_len == 0 {
        return Err(RequestRule::RequestLineMalformed.into());
    }
    if target_len > limits.target_bytes_max as usize {
        return Err(RequestRule::TargetTooLong.into());
    }
    head.version = match parse_version(&buf[version_start..end]) {
        Some((1, 0)) => Version::Http10,
        Some((1, _)) => Version::Http11,
        Some(_) => return Err(RequestRule::VersionUnsupported.into()),
        None => return Err(RequestRule::VersionInvalid.into()),
    };
    head.method = Method::of(method);
    head.method_span = Span::new(start, start + method_len);
    head.target = Span::new(target_start, target_start + target_len);
    let target = parse_target(buf, head.target, head.method, limits.is_secured)?;
    head.target_form = target.form;
    head.path = target.path;
    head.path_and_query = target.path_and_query;
    Ok(target)
}

/// Major and minor of `HTTP/d.d`, RFC 9112 §2.3.
fn parse_version(text: &[u8]) -> Option<(u8, u8)> {
    match text {
        [b'H', b'T', b'T', b'P', b'/', major @ b'0'..=b'9', b'.', minor @ b'0'..=b'9'] => {
            Some((major - b'0', minor - b'0'))
        }
        _ => None,
    }
}

fn parse_status_line(buf: &[u8], line_end: usize, head: &mut ResponseHead) -> Result<(), ResponseRejected> {
    let line = buf[..line_end].strip_suffix(b"\r\n").ok_or(SyntaxRejected::BareLineFeed)?;
    let (version, rest) = line.split_at_checked(8).ok_or(ResponseRule::StatusLineMalformed)?;
    head.version = match parse_version(version) {
        Some((1, 0)) => Version::Http10,
        Some((1, _)) => Version::Http11,
        Some(_) => return Err(ResponseRule::ResponseVersionInvalid.into()),
        None => return Err(ResponseRule::StatusLineMalformed.into()),
    };
    // The space before an empty reason is often left out; everyone reads that line the same way.
    let (code, reason) = match rest {
        [b' ', code @ ..] if code.len() == 3 => (code, &[][..]),
        [b' ', a, b, c, b' ', reason @ ..] => (&[*a, *b, *c][..], reason),
        _ => return Err(ResponseRule::StatusLineMalformed.into()),
    };
    if !code.iter().all(u8::is_ascii_digit) {
        return Err(ResponseRule::StatusLineMalformed.into());
    }
    head.status = code.iter().fold(0, |status, digit| status * 10 + u16::from(digit - b'0'));
    if !(100..=599).contains(&head.status) {
        return Err(ResponseRule::StatusInvalid.into());
    }
    if !reason.iter().all(|&byte| is_value_byte(byte)) {
        let is_return = reason.contains(&b'\r');
        return Err(if is_return {
            SyntaxRejected::BareCarriageReturn.into()
        } else {
            ResponseRule::ReasonByte.into()
        });
    }
    head.reason = Span::new(line.len() - reason.len(), line.len());
    Ok(())
}

/// One pass over the fields for everything that is decided from them.
fn read_request_fields(buf: &[u8], target: &Target, head: &mut RequestHead) -> Result<(), RequestRejected> {
    let mut framing = FramingFields::default();
    let mut host = None;
    let mut upgrade = UpgradeOffer::None;
    for field in &head.fields {
        let value = field.value.of(buf);
        match field.known {
            KnownField::Host if host.is_some() => return Err(RequestRule::HostRepeated.into()),
            KnownField::Host => host = Some(field.value),
            KnownField::ContentLength => framing.note_length(value)?,
            KnownField::TransferEncoding => framing.note_transfer_encoding(value)?,
            KnownField::Connection => head.connection.note(value)?,
            KnownField::Expect => head.expect_continue |= expects_continue(value)?,
            KnownField::MaxForwards if matches!(head.method, Method::Options | Method::Trace) => {
                head.max_forwards = Some(parse_max_forwards(value, head.max_forwards)?);
            }
            KnownField::FramingLookalike => return Err(RequestRule::FramingLookalike.into()),
            KnownField::Upgrade => upgrade.note(value),
            KnownField::Te => head.te_trailers |= accepts_trailers(value),
            _ => {}
        }
    }
    framing.check(head.version)?;
    head.framing = framing.of_request();
    head.authority = decide_authority(buf, target, host, head.version)?;
    let is_http11 = head.version == Version::Http11;
    head.expect_continue &= is_http11;
    head.te_trailers &= is_http11;
    // RFC 9110 §7.8: an Upgrade in HTTP/1.0, or one that Connection does not list, is ignored.
    head.upgrade = is_http11 && head.connection.upgrade && upgrade == UpgradeOffer::Offered;
    if head.connection.names > 0 {
        mark_connection_named(buf, &mut head.fields);
    }
    Ok(())
}

fn read_response_fields(buf: &[u8], head: &mut ResponseHead) -> Result<(), ResponseRejected> {
    for field in &head.fields {
        match field.known {
            KnownField::ContentLength => head.framing_fields.note_length(field.value.of(buf))?,
            KnownField::TransferEncoding => {
                head.framing_fields.note_transfer_encoding(field.value.of(buf))?;
            }
            KnownField::Connection => head.connection.note(field.value.of(buf))?,
            _ => {}
        }
    }
    head.framing_fields.check(head.version)?;
    if head.connection.names > 0 {
        mark_connection_named(buf, &mut head.fields);
    }
    Ok(())
}

/// Whether `Expect` asks for 100; its list may be empty.
fn expects_continue(value: &[u8]) -> Result<bool, RequestRule> {
    let mut members = list_elements(value).peekable();
    let is_any = members.peek().is_some();
    if members.all(|member| member.eq_ignore_ascii_case(b"100-continue")) {
        Ok(is_any)
    } else {
        Err(RequestRule::ExpectationUnknown)
    }
}

/// RFC 9110 §7.6.2: `1*DIGIT`. More hops than there could ever be are as good as the largest number.
fn parse_max_forwards(value: &[u8], earlier: Option<u32>) -> Result<u32, RequestRule> {
    if earlier.is_some() || value.is_empty() || !value.iter().all(u8::is_ascii_digit) {
        return Err(RequestRule::MaxForwardsInvalid);
    }
    let digits = value.iter().map(|digit| u32::from(digit - b'0'));
    Ok(digits.fold(0, |hops: u32, digit| hops.saturating_mul(10).saturating_add(digit)))
}

fn accepts_trailers(te: &[u8]) -> bool {
    list_elements(te).any(|coding| coding.eq_ignore_ascii_case(b"trailers"))
}

fn upgrade_protocols<'a>(fields: &'a [Field], buf: &'a [u8]) -> impl Iterator<Item = &'a [u8]> {
    let lines = fields.iter().filter(|field| field.known == KnownField::Upgrade);
    lines.flat_map(|field| list_elements(field.value.of(buf)))
}

/// What the `Upgrade` fields of a request offer.
#[derive(Clone, Copy, PartialEq, Eq)]
enum UpgradeOffer {
    None,
    Offered,
    /// HTTP/2 is among them: the upstream might take it, and then speak what we do not.
    Http2,
}

impl UpgradeOffer {
    fn note(&mut self, value: &[u8]) {
        for protocol in list_elements(value) {
            // h2c and h2, with or without a version.
            if protocol.len() >= 2 && protocol[..2].eq_ignore_ascii_case(b"h2") {
                *self = Self::Http2;
            } else if *self == Self::None {
                *self = Self::Offered;
            }
        }
    }
}

/// The authority the request is for, RFC 9112 §3.2 and §3.2.2.
fn decide_authority(
    buf: &[u8],
    target: &Target,
    host: Option<Span>,
    version: Version,
) -> Result<Span, RequestRule> {
    let Some(host) = host else {
        return if version == Version::Http10 { Ok(target.authority) } else { Err(RequestRule::HostMissing) };
    };
    let named = split_authority(host.of(buf)).ok_or(RequestRule::HostInvalid)?;
    match target.form {
        TargetForm::Origin | TargetForm::Asterisk => Ok(host),
        TargetForm::Absolute => match split_authority(target.authority.of(buf)) {
            Some(wanted) if is_same_authority(wanted, named, target.port_default) => Ok(target.authority),
            Some(_) | None => Err(RequestRule::HostDiffers),
        },
        // Clients differ in whether Host repeats the port; nothing is routed by it.
        TargetForm::Authority => Ok(target.authority),
    }
}

/// Marks the fields that `Connection` names and may name.
fn mark_connection_named(buf: &[u8], fields: &mut [Field]) {
    for lister in 0..fields.len() {
        if fields[lister].known != KnownField::Connection {
            continue;
        }
        let value = fields[lister].value.of(buf);
        for name in list_elements(value).filter(|name| WellKnownOption::of(name).is_none()) {
            for field in fields.iter_mut().filter(|field| field.known.yields_to_connection()) {
                field.connection_named |= field.name.of(buf).eq_ignore_ascii_case(name);
            }
        }
    }
}

#[cfg(test)]
mod tests;
