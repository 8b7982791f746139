//! Which field lines does a head have, and which of them mean something to a gateway?
//!
//! Tokenises and classifies; never acts on a field and never accepts a line a stricter peer might read otherwise.

use arrayvec::ArrayVec;
use httparse::Status;
use memchr::memchr_iter;

use super::head::FIELDS_MAX;
use super::rejected::SyntaxRejected;

/// A range of the receive buffer, relative to the slice that was parsed. Never longer than 64 KiB.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Span {
    start: u16,
    len: u16,
}

impl Span {
    /// The range `start..end`, both below 64 KiB because heads are ([`super::head::Limits`]).
    pub(super) fn new(start: usize, end: usize) -> Self {
        debug_assert!(start <= end && end <= usize::from(u16::MAX));
        Self { start: start as u16, len: (end - start) as u16 }
    }

    /// Where it starts.
    #[must_use]
    pub fn start(self) -> usize {
        usize::from(self.start)
    }

    /// One past its last byte.
    #[must_use]
    pub fn end(self) -> usize {
        self.start() + self.len()
    }

    /// Number of bytes.
    #[must_use]
    pub fn len(self) -> usize {
        usize::from(self.len)
    }

    /// Whether it covers nothing.
    #[must_use]
    pub fn is_empty(self) -> bool {
        self.len == 0
    }

    /// The bytes it covers in the buffer it was made from.
    ///
    /// # Panics
    /// When `buf` is shorter than the slice that was parsed.
    #[must_use]
    pub fn of(self, buf: &[u8]) -> &[u8] {
        &buf[self.start()..self.end()]
    }
}

/// One field line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Field {
    /// The name as received.
    pub name: Span,
    /// The value without surrounding white space.
    pub value: Span,
    /// What the name means here.
    pub known: KnownField,
    /// Whether `Connection` names this field and may do so: it ends at this hop (RFC 9110 §7.6.1).
    pub connection_named: bool,
}

/// Field names that a gateway acts on, protects, or refuses in trailers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum KnownField {
    /// `Host`
    Host,
    /// `Content-Length`
    ContentLength,
    /// `Transfer-Encoding`
    TransferEncoding,
    /// `Connection`
    Connection,
    /// `Keep-Alive`
    KeepAlive,
    /// `Proxy-Connection`
    ProxyConnection,
    /// `TE`
    Te,
    /// `Trailer`
    Trailer,
    /// `Upgrade`
    Upgrade,
    /// `HTTP2-Settings`, which only ever accompanies `Upgrade: h2c`
    Http2Settings,
    /// `Expect`
    Expect,
    /// `Via`
    Via,
    /// `X-Forwarded-For`
    XForwardedFor,
    /// `X-Forwarded-Proto`
    XForwardedProto,
    /// `X-Forwarded-Host`
    XForwardedHost,
    /// Any other name that starts with `X-Forwarded-`, also when spelled with `_`, which some servers equate to `-`
    XForwardedOther,
    /// `Forwarded`
    Forwarded,
    /// `X-Request-ID`
    XRequestId,
    /// `Date`
    Date,
    /// `Server`
    Server,
    /// `Authorization`, `Proxy-Authorization`, `Cookie`, `WWW-Authenticate`, `Proxy-Authenticate`, `Set-Cookie`
    Credentials,
    /// `Content-Type`, `Content-Encoding`, `Content-Range`
    Content,
    /// `Cache-Control`, `Age`, `Expires`, `Location`, `Retry-After`, `Vary`, `Warning`
    Control,
    /// `If-*`, `Range`
    Modifier,
    /// `Max-Forwards`
    MaxForwards,
    /// `Content_Length`, `Transfer_Encoding`, which some servers equate to the fields with `-`
    FramingLookalike,
    /// Any name that means nothing to a gateway.
    Other,
}

impl KnownField {
    /// The class of `name`, a token, compared without regard to ASCII case.
    #[must_use]
    pub fn classify(name: &[u8]) -> Self {
        let len = name.len();
        if len <= KNOWN_NAME_BYTES_MAX {
            let ends = Ends::of(name);
            let alike = &KNOWN[usize::from(KNOWN_FROM[len])..usize::from(KNOWN_FROM[len + 1])];
            // Two ends of eight bytes are all of a name of sixteen.
            let is = |known: &Known| {
                known.ends == ends && (len <= 16 || name.eq_ignore_ascii_case(known.name.as_bytes()))
            };
            if let Some(known) = alike.iter().find(|known| is(known)) {
                return known.field;
            }
        }
        if is_x_forwarded(name) { Self::XForwardedOther } else { Self::Other }
    }

    /// Whether `Connection` may take this field away. Naming a field there that is meant for every recipient
    /// is forbidden (RFC 9110 §7.6.1), and believed it would let a client strip what a proxy before us added.
    #[must_use]
    pub fn yields_to_connection(self) -> bool {
        // The hop-by-hop fields known here are removed whether named or not.
        self == Self::Other
    }

    /// Whether a trailer of this name is refused: framing, routing, authentication, request modifiers and
    /// response control have no business after the body (RFC 9110 §6.5.1). That is every name known here.
    #[must_use]
    pub fn is_forbidden_in_trailer(self) -> bool {
        self != Self::Other
    }
}

/// Longest name in [`KNOWN`], in bytes; `proxy-authorization`.
pub(super) const KNOWN_NAME_BYTES_MAX: usize = 19;

/// The first and the last eight bytes of a name, in lower case: what known names are told apart by.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Ends {
    head: u64,
    tail: u64,
}

impl Ends {
    #[inline]
    const fn of(name: &[u8]) -> Self {
        // Of the bytes of a token, the bit that makes letters small changes only `^` and `_` besides, into bytes that no
        // known name has.
        const SMALL: u64 = u64::from_le_bytes([b' '; 8]);
        match (name.first_chunk::<8>(), name.last_chunk::<8>()) {
            (Some(head), Some(tail)) => {
                Self { head: u64::from_le_bytes(*head) | SMALL, tail: u64::from_le_bytes(*tail) | SMALL }
            }
            _ => {
                let (mut head, mut at) = (0, 0);
                while at < name.len() {
                    head = head << 8 | (name[at] | b' ') as u64;
                    at += 1;
                }
                Self { head, tail: 0 }
            }
        }
    }
}

/// A name and its class.
struct Known {
    name: &'static str,
    ends: Ends,
    field: KnownField,
}

const fn known(name: &'static str, field: KnownField) -> Known {
    Known { name, ends: Ends::of(name.as_bytes()), field }
}

/// Every known name, the shorter ones first.
static KNOWN: [Known; 44] = [
    known("te", KnownField::Te),
    known("via", KnownField::Via),
    known("age", KnownField::Control),
    known("host", KnownField::Host),
    known("date", KnownField::Date),
    known("vary", KnownField::Control),
    known("range", KnownField::Modifier),
    known("cookie", KnownField::Credentials),
    known("expect", KnownField::Expect),
    known("server", KnownField::Server),
    known("upgrade", KnownField::Upgrade),
    known("trailer", KnownField::Trailer),
    known("expires", KnownField::Control),
    known("warning", KnownField::Control),
    known("location", KnownField::Control),
    known("if-match", KnownField::Modifier),
    known("if-range", KnownField::Modifier),
    known("forwarded", KnownField::Forwarded),
    known("connection", KnownField::Connection),
    known("keep-alive", KnownField::KeepAlive),
    known("set-cookie", KnownField::Credentials),
    known("retry-after", KnownField::Control),
    known("content-type", KnownField::Content),
    known("x-request-id", KnownField::XRequestId),
    known("max-forwards", KnownField::MaxForwards),
    known("authorization", KnownField::Credentials),
    known("cache-control", KnownField::Control),
    known("content-range", KnownField::Content),
    known("if-none-match", KnownField::Modifier),
    known("content-length", KnownField::ContentLength),
    known("content_length", KnownField::FramingLookalike),
    known("http2-settings", KnownField::Http2Settings),
    known("x-forwarded-for", KnownField::XForwardedFor),
    known("x-forwarded-host", KnownField::XForwardedHost),
    known("content-encoding", KnownField::Content),
    known("proxy-connection", KnownField::ProxyConnection),
    known("www-authenticate", KnownField::Credentials),
    known("transfer-encoding", KnownField::TransferEncoding),
    known("transfer_encoding", KnownField::FramingLookalike),
    known("x-forwarded-proto", KnownField::XForwardedProto),
    known("if-modified-since", KnownField::Modifier),
    known("proxy-authenticate", KnownField::Credentials),
    known("proxy-authorization", KnownField::Credentials),
    known("if-unmodified-since", KnownField::Modifier),
];

/// Where in [`KNOWN`] the names of each length begin, and at the next index end.
static KNOWN_FROM: [u8; KNOWN_NAME_BYTES_MAX + 2] = {
    let mut from = [0; KNOWN_NAME_BYTES_MAX + 2];
    let mut len = 0;
    let mut at = 0;
    while len < from.len() {
        while at < KNOWN.len() && KNOWN[at].name.len() < len {
            at += 1;
        }
        from[len] = at as u8;
        len += 1;
    }
    from
};

fn is_x_forwarded(name: &[u8]) -> bool {
    const PREFIX: &[u8] = b"x-forwarded-";
    name.len() >= PREFIX.len()
        && name.iter().zip(PREFIX).all(|(&byte, &expected)| {
            byte.to_ascii_lowercase() == expected || (byte == b'_' && expected == b'-')
        })
}

/// Whether `byte` may stand in a token: a method or a field name (RFC 9110 §5.6.2).
#[must_use]
pub fn is_token_byte(byte: u8) -> bool {
    const TABLE: [bool; 256] = {
        let mut table = [false; 256];
        let mut byte = 0;
        while byte < 256 {
            table[byte] = matches!(byte as u8,
                b'!' | b'#' | b'$' | b'%' | b'&' | b'\'' | b'*' | b'+' | b'-' | b'.' | b'^' | b'_' | b'`' | b'|' | b'~'
                | b'0'..=b'9' | b'A'..=b'Z' | b'a'..=b'z');
            byte += 1;
        }
        table
    };
    TABLE[usize::from(byte)]
}

/// Whether `text` is a token: at least one [token byte](is_token_byte) and nothing else.
#[must_use]
pub fn is_token(text: &[u8]) -> bool {
    !text.is_empty() && text.iter().all(|&byte| is_token_byte(byte))
}

/// Whether `byte` may stand in a field value (RFC 9110 §5.5).
pub(super) fn is_value_byte(byte: u8) -> bool {
    byte == b'\t' || (byte >= b' ' && byte != 0x7f)
}

/// The elements of a comma-separated list, trimmed, empty ones left out (RFC 9110 §5.6.1).
pub(super) fn list_elements(value: &[u8]) -> impl Iterator<Item = &[u8]> {
    value.split(|&byte| byte == b',').map(trim).filter(|element| !element.is_empty())
}

/// Without optional white space at either end (RFC 9110 §5.6.3).
pub(super) fn trim(mut text: &[u8]) -> &[u8] {
    while let [b' ' | b'\t', rest @ ..] = text {
        text = rest;
    }
    while let [rest @ .., b' ' | b'\t'] = text {
        text = rest;
    }
    text
}

/// Heads up to this many fields, nearly all there are, tokenise into a small array: clearing room for
/// [`FIELDS_MAX`] costs as much as the parsing itself.
const FIELDS_COMMON_MAX: usize = 16;

/// Splits the field section that starts at `first` of `window` into `fields` and tells where the head ends, or
/// `None` while it does not. Bytes before `examined` have been through this before.
///
/// Only whole lines are judged, in order, so the rule found broken does not depend on how the head was split.
pub(super) fn tokenise(
    window: &[u8],
    first: usize,
    examined: usize,
    fields: &mut ArrayVec<Field, FIELDS_MAX>,
) -> Result<Option<usize>, SyntaxRejected> {
    // A head that trickles in is tokenised once, when its end is in sight.
    if examined > first && !may_have_ended(window, first, examined) {
        return Ok(None);
    }
    let section = &window[first..];
    let outcome = match tokenise_within::<FIELDS_COMMON_MAX>(window, section, fields) {
        Err(httparse::Error::TooManyHeaders) => tokenise_within::<FIELDS_MAX>(window, section, fields),
        outcome => outcome,
    };
    match outcome {
        Ok(Status::Complete(bytes)) if ends_lines_properly(window, first, first + bytes, fields) => {
            Ok(Some(first + bytes))
        }
        Ok(Status::Partial) => Ok(None),
        Ok(Status::Complete(_)) | Err(_) => match judge_lines(section) {
            Judgement::Broken(rule) => Err(rule),
            // What the tokeniser minds is either in a line still to come or the number of them.
            Judgement::Unfinished => Ok(None),
            Judgement::Sound => Err(SyntaxRejected::FieldsTooMany),
        },
    }
}

/// Whether the bytes from `examined` on hold an empty line, or what a lenient recipient takes for one: a bare line
/// feed, or one behind two carriage returns.
fn may_have_ended(window: &[u8], first: usize, examined: usize) -> bool {
    memchr_iter(b'\n', &window[examined..]).any(|offset| {
        let at = examined + offset;
        window[at - 1] != b'\r' || at < first + 2 || matches!(window[at - 2], b'\n' | b'\r')
    })
}

fn tokenise_within<const COUNT_MAX: usize>(
    window: &[u8],
    section: &[u8],
    fields: &mut ArrayVec<Field, FIELDS_MAX>,
) -> Result<Status<usize>, httparse::Error> {
    let mut headers = [httparse::EMPTY_HEADER; COUNT_MAX];
    let Status::Complete((bytes, headers)) = httparse::parse_headers(section, &mut headers)? else {
        return Ok(Status::Partial);
    };
    let span = |part: &[u8]| {
        // Both point into the same buffer, so the distance is the offset.
        let start = part.as_ptr().addr() - window.as_ptr().addr();
        Span::new(start, start + part.len())
    };
    for header in headers {
        let name = header.name.as_bytes();
        fields.push(Field {
            name: span(name),
            // An empty value may be an empty slice from anywhere: it has no place of its own.
            value: if header.value.is_empty() { Span::default() } else { span(header.value) },
            known: KnownField::classify(name),
            connection_named: false,
        });
    }
    Ok(Status::Complete(bytes))
}

/// Whether each line of a tokenised section ends with CRLF. The tokeniser takes a bare line feed for a line end,
/// and nothing else, so what stands before a name or before the head's end is all there is to look at.
fn ends_lines_properly(window: &[u8], first: usize, end: usize, fields: &[Field]) -> bool {
    let is_line_end = |at: usize| window[..at].ends_with(b"\r\n");
    fields.iter().skip(1).all(|field| is_line_end(field.name.start()))
        && is_line_end(end)
        && (end == first + 2 || is_line_end(end - 2))
}

/// What is known of the lines of a field section.
pub(super) enum Judgement {
    /// This rule is the first one broken.
    Broken(SyntaxRejected),
    /// None is broken so far, and the empty line is not there.
    Unfinished,
    /// None is broken up to the empty line.
    Sound,
}

/// Judges whole lines, in order, up to the empty one. Only asked once something is amiss.
pub(super) fn judge_lines(section: &[u8]) -> Judgement {
    for (index, line) in section.split_inclusive(|&byte| byte == b'\n').enumerate() {
        let Some(line) = line.strip_suffix(b"\n") else {
            return Judgement::Unfinished;
        };
        let Some(line) = line.strip_suffix(b"\r") else {
            return Judgement::Broken(SyntaxRejected::BareLineFeed);
        };
        if line.is_empty() {
            return Judgement::Sound;
        }
        if let Some(rule) = broken_line_rule(line, index == 0) {
            return Judgement::Broken(rule);
        }
    }
    Judgement::Unfinished
}

fn broken_line_rule(line: &[u8], is_first: bool) -> Option<SyntaxRejected> {
    if line.contains(&b'\r') {
        return Some(SyntaxRejected::BareCarriageReturn);
    }
    if matches!(line.first(), Some(b' ' | b'\t')) {
        let rule = if is_first { SyntaxRejected::FieldLeadingSpace } else { SyntaxRejected::FieldFolded };
        return Some(rule);
    }
    let Some(colon) = line.iter().position(|&byte| byte == b':') else {
        return Some(SyntaxRejected::FieldColonMissing);
    };
    let (name, value) = (&line[..colon], &line[colon + 1..]);
    if name.is_empty() {
        Some(SyntaxRejected::FieldNameEmpty)
    } else if matches!(name.last(), Some(b' ' | b'\t')) {
        Some(SyntaxRejected::FieldSpaceBeforeColon)
    } else if !is_token(name) {
        Some(SyntaxRejected::FieldNameByte)
    } else if !value.iter().all(|&byte| is_value_byte(byte)) {
        Some(SyntaxRejected::FieldValueByte)
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_names_stand_in_order_of_length_and_are_found_in_any_case() {
        assert!(KNOWN.is_sorted_by_key(|known| known.name.len()));
        assert_eq!(KNOWN.last().map(|known| known.name.len()), Some(KNOWN_NAME_BYTES_MAX));
        for known in &KNOWN {
            assert_eq!(KnownField::classify(known.name.as_bytes()), known.field, "{}", known.name);
            assert_eq!(KnownField::classify(known.name.to_ascii_uppercase().as_bytes()), known.field);
        }
    }

    /// Exhaustive over one changed byte, because names are compared by their ends alone.
    #[test]
    fn a_name_with_another_token_byte_in_it_is_not_known() {
        for known in &KNOWN {
            for at in 0..known.name.len() {
                for byte in (0..=u8::MAX).filter(|&byte| is_token_byte(byte)) {
                    let mut name = known.name.as_bytes().to_vec();
                    name[at] = byte;
                    let is_listed =
                        KNOWN.iter().any(|other| name.eq_ignore_ascii_case(other.name.as_bytes()));
                    let found = KnownField::classify(&name);
                    let is_known = !matches!(found, KnownField::Other | KnownField::XForwardedOther);
                    assert_eq!(is_known, is_listed, "{}", name.escape_ascii());
                }
            }
        }
    }
}
