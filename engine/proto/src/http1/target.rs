//! What does a request target mean, and is an authority well formed?
//!
//! Decides form and parts (RFC 9112 §3.2); never decodes, normalises or otherwise changes a byte of them.

use memchr::{memchr, memchr2};

use super::field::Span;
use super::head::Method;
use super::rejected::RequestRule;

/// The four forms of a request target, RFC 9112 §3.2.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TargetForm {
    /// `/path?query`
    Origin,
    /// `http://authority/path?query`
    Absolute,
    /// `host:port`, for CONNECT.
    Authority,
    /// `*`, for OPTIONS.
    Asterisk,
}

/// A request target's parts, as ranges of the buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Target {
    pub(super) form: TargetForm,
    /// Authority of an absolute-form or authority-form target, else empty.
    pub(super) authority: Span,
    /// Port the scheme implies when the authority names none.
    pub(super) port_default: u16,
    /// Without the query; empty when an absolute-form target has none.
    pub(super) path: Span,
    /// What an origin server is sent; empty or starting with `?` when the path is empty.
    pub(super) path_and_query: Span,
}

/// Takes apart the target at `target` of `buf`.
pub(super) fn parse_target(
    buf: &[u8],
    target: Span,
    method: Method,
    is_secured: bool,
) -> Result<Target, RequestRule> {
    let bytes = target.of(buf);
    // Folding without an early exit lets the compiler compare many bytes at once.
    let bad = bytes.iter().fold(false, |bad, &byte| bad | !(0x21..=0x7e).contains(&byte) | (byte == b'#'));
    let has_backslash = bytes.iter().fold(false, |has, &byte| has | (byte == b'\\'));
    // Browsers send it in queries.
    if bad || (has_backslash && is_before_query(bytes, b'\\')) {
        return Err(RequestRule::TargetByte);
    }
    if method == Method::Connect {
        return parse_authority_form(buf, target);
    }
    match bytes {
        [b'/', ..] => {
            let path = Span::new(target.start(), path_end(buf, target.start(), target.end()));
            Ok(Target {
                form: TargetForm::Origin,
                authority: Span::default(),
                port_default: 80,
                path,
                path_and_query: target,
            })
        }
        b"*" if method == Method::Options => Ok(Target {
            form: TargetForm::Asterisk,
            authority: Span::default(),
            port_default: 80,
            path: target,
            path_and_query: target,
        }),
        b"*" => Err(RequestRule::TargetAsteriskWithoutOptions),
        _ => parse_absolute_form(buf, target, is_secured),
    }
}

fn is_before_query(target: &[u8], byte: u8) -> bool {
    memchr2(byte, b'?', target).is_some_and(|at| target[at] == byte)
}

fn parse_authority_form(buf: &[u8], target: Span) -> Result<Target, RequestRule> {
    match split_authority(target.of(buf)) {
        Some(Authority { port: Some(_), .. }) => Ok(Target {
            form: TargetForm::Authority,
            authority: target,
            port_default: 0,
            path: Span::default(),
            path_and_query: Span::default(),
        }),
        Some(_) | None => Err(RequestRule::TargetNotAuthority),
    }
}

fn parse_absolute_form(buf: &[u8], target: Span, is_secured: bool) -> Result<Target, RequestRule> {
    let bytes = target.of(buf);
    let is_scheme = |scheme: &str| {
        bytes.get(..scheme.len()).is_some_and(|start| start.eq_ignore_ascii_case(scheme.as_bytes()))
    };
    let (scheme_len, port_default) = if is_scheme("http://") {
        (7, 80)
    } else if is_scheme("https://") && is_secured {
        (8, 443)
    } else if is_scheme("https://") {
        // In the clear nobody has shown who we are to the client (RFC 9110 §7.4).
        return Err(RequestRule::TargetSchemeUnsecured);
    } else if memchr(b':', bytes).is_some_and(|colon| bytes[colon..].starts_with(b"://")) {
        return Err(RequestRule::TargetSchemeUnsupported);
    } else {
        return Err(RequestRule::TargetFormUnknown);
    };
    let after_scheme = &bytes[scheme_len..];
    let authority_len = memchr2(b'/', b'?', after_scheme).unwrap_or(after_scheme.len());
    if split_authority(&after_scheme[..authority_len]).is_none() {
        return Err(RequestRule::TargetAuthorityInvalid);
    }
    let authority_start = target.start() + scheme_len;
    let path_start = authority_start + authority_len;
    Ok(Target {
        form: TargetForm::Absolute,
        authority: Span::new(authority_start, path_start),
        port_default,
        path: Span::new(path_start, path_end(buf, path_start, target.end())),
        path_and_query: Span::new(path_start, target.end()),
    })
}

fn path_end(buf: &[u8], start: usize, end: usize) -> usize {
    memchr(b'?', &buf[start..end]).map_or(end, |query| start + query)
}

/// Whether it can stand in `Host`: a name or an address, with a port or without (RFC 9110 §7.2).
#[must_use]
pub fn is_authority(text: &[u8]) -> bool {
    !text.is_empty() && split_authority(text).is_some()
}

/// A valid authority's parts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Authority<'a> {
    /// Name, IPv4 address, or IPv6 address in brackets. Never empty.
    pub(super) host: &'a [u8],
    /// `None` when absent or empty.
    pub(super) port: Option<u16>,
}

/// `host[:port]` without user information, or `None` when it is not that (RFC 3986 §3.2).
///
/// The host must not be empty (RFC 9110 §4.2.1). Of `sub-delims` a comma is refused: it is how a proxy joins
/// repeated fields (RFC 9110 §5.3), so a host with one is two hosts to somebody.
pub(super) fn split_authority(text: &[u8]) -> Option<Authority<'_>> {
    let host_len = match text {
        [b'[', ..] => memchr(b']', text)? + 1,
        _ => reg_name_len(text),
    };
    let (host, rest) = text.split_at(host_len);
    let is_valid = match host {
        [b'[', address @ .., b']'] => is_ipv6(address),
        _ => !host.is_empty(),
    };
    if !is_valid {
        return None;
    }
    let port = match rest {
        [] | [b':'] => None,
        [b':', digits @ ..] => Some(parse_port(digits)?),
        _ => return None,
    };
    Some(Authority { host, port })
}

fn parse_port(digits: &[u8]) -> Option<u16> {
    let mut port = 0_u32;
    for &byte in digits {
        if !byte.is_ascii_digit() {
            return None;
        }
        port = port * 10 + u32::from(byte - b'0');
        if port > u32::from(u16::MAX) {
            return None;
        }
    }
    u16::try_from(port).ok()
}

fn is_ipv6(address: &[u8]) -> bool {
    // `IPvFuture` has no address in use and is refused with everything else.
    std::str::from_utf8(address).is_ok_and(|text| text.parse::<std::net::Ipv6Addr>().is_ok())
}

/// How much of `text` is a registered name or an IPv4 address (RFC 3986 §3.2.2).
fn reg_name_len(text: &[u8]) -> usize {
    let mut len = 0;
    loop {
        let rest = &text[len..];
        len += rest.iter().position(|&byte| !REG_NAME[usize::from(byte)]).unwrap_or(rest.len());
        match text[len..] {
            [b'%', a, b, ..] if a.is_ascii_hexdigit() && b.is_ascii_hexdigit() => len += 3,
            _ => return len,
        }
    }
}

/// The bytes of a registered name that stand for themselves.
const REG_NAME: [bool; 256] = {
    let mut table = [false; 256];
    let mut byte = 0;
    while byte < 256 {
        table[byte] = matches!(byte as u8,
            b'0'..=b'9' | b'A'..=b'Z' | b'a'..=b'z' | b'-' | b'.' | b'_' | b'~'
            | b'!' | b'$' | b'&' | b'\'' | b'(' | b')' | b'*' | b'+' | b';' | b'=');
        byte += 1;
    }
    table
};

/// Whether two authorities are the same server, when a missing port means `port_default`.
pub(super) fn is_same_authority(left: Authority<'_>, right: Authority<'_>, port_default: u16) -> bool {
    left.host.eq_ignore_ascii_case(right.host)
        && left.port.unwrap_or(port_default) == right.port.unwrap_or(port_default)
}
