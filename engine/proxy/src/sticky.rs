//! Which endpoint does a client's cookie name, and what cookie does it get for the one it has?
//!
//! Never computes anything for a request: what cookies can say is known when the endpoints are. Never says who an endpoint
//! is: to anybody without the secret, a cookie is 22 characters.

use std::fmt::Write as _;

use aws_lc_rs::hmac;
use config::snapshot::EndpointId;
use config::snapshot::balance::{SecretBytes, SecureCookie, StickyRule};
use proto::http1::cookie;
use proto::http1::field::KnownField;
use proto::http1::head::RequestHead;

/// Bytes of the signature that a cookie holds: 128 bits, which nobody guesses.
const SIGNATURE_BYTES: usize = 16;

/// Characters of a cookie's value: base64url without padding (RFC 4648 §5).
const VALUE_BYTES: usize = 22;

/// What a signature is of, besides the names: no other signature with the same secret is taken for one.
const PURPOSE: &[u8] = b"corelane sticky 1\0";

/// The value of a cookie.
type Value = [u8; VALUE_BYTES];

/// What the cookies of one upstream can say.
#[derive(Debug, Default)]
pub(crate) struct Cookies {
    /// Sorted by value.
    known: Box<[(Value, EndpointId)]>,
    /// What is set, by endpoint; sorted by that.
    lines: Box<[(EndpointId, Line)]>,
}

/// A line that sets the cookie, with its end; and the same for HTTPS alone.
#[derive(Debug)]
struct Line {
    plain: Box<str>,
    secure: Box<str>,
}

/// What a request's cookie says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Told {
    /// There is none.
    Nothing,
    /// It is one of ours.
    Endpoint(EndpointId),
    /// It is not, or names an endpoint that is gone.
    Unknown,
}

impl Cookies {
    /// For the endpoints of `upstream`, by their slots and names.
    pub(crate) fn new<'n>(
        rule: &StickyRule,
        upstream: &str,
        endpoints: impl Iterator<Item = (EndpointId, &'n str)>,
    ) -> Self {
        let keys: Vec<_> = rule.secrets.iter().map(key).collect();
        let (mut known, mut lines) = (Vec::new(), Vec::new());
        for (id, name) in endpoints {
            let values = keys.iter().map(|key| value(key, upstream, name));
            // The first signs, all are believed.
            for (index, value) in values.enumerate() {
                if index == 0 {
                    lines.push((id, Line::new(rule, &value)));
                }
                known.push((value, id));
            }
        }
        known.sort_unstable();
        lines.sort_by_key(|(id, _)| *id);
        Self { known: known.into(), lines: lines.into() }
    }

    /// What the cookie of a request says.
    pub(crate) fn read(&self, rule: &StickyRule, buf: &[u8], head: &RequestHead) -> Told {
        let mut told = Told::Nothing;
        for value in values(&rule.cookie, buf, head) {
            let found = self.known.binary_search_by(|(known, _)| known[..].cmp(value));
            match found {
                Ok(index) => return Told::Endpoint(self.known[index].1),
                // Another may follow: one of another path has the same name (RFC 6265 §5.4).
                Err(_) => told = Told::Unknown,
            }
        }
        told
    }

    /// The line that sets the cookie for an endpoint, if that is there.
    pub(crate) fn line(&self, rule: &StickyRule, endpoint: EndpointId, is_private: bool) -> Option<&str> {
        let index = self.lines.binary_search_by_key(&endpoint, |(id, _)| *id).ok()?;
        let line = &self.lines[index].1;
        let is_secure = match rule.secure {
            SecureCookie::Auto => is_private,
            SecureCookie::Always => true,
            SecureCookie::Never => false,
        };
        Some(if is_secure { &line.secure } else { &line.plain })
    }
}

impl Line {
    fn new(rule: &StickyRule, value: &Value) -> Self {
        let mut line = String::new();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        // Writing to a String does not fail. The reader of the configuration takes visible ASCII alone.
        let _ = write!(line, "Set-Cookie: {}={}{}", text(&rule.cookie), text(value), text(&rule.attributes));
        Self { plain: format!("{line}\r\n").into(), secure: format!("{line}; Secure\r\n").into() }
    }
}

/// The values that a request has of the cookie of this name.
pub(crate) fn values<'b>(
    name: &'b [u8],
    buf: &'b [u8],
    head: &'b RequestHead,
) -> impl Iterator<Item = &'b [u8]> + 'b {
    let is_cookie = |name: &[u8]| name.eq_ignore_ascii_case(b"cookie");
    let lines = head.fields.iter().filter(|field| field.known == KnownField::Credentials);
    let lines = lines.filter(move |field| is_cookie(field.name.of(buf)));
    let pairs = lines.flat_map(|field| cookie::pairs(field.value.of(buf)));
    pairs.filter_map(|(_, pair)| cookie::value_of(pair, name))
}

fn key(secret: &SecretBytes) -> hmac::Key {
    hmac::Key::new(hmac::HMAC_SHA256, &secret.0)
}

fn value(key: &hmac::Key, upstream: &str, endpoint: &str) -> Value {
    let mut context = hmac::Context::with_key(key);
    // A name holds no control character, so that no two pairs of names look alike.
    for part in [PURPOSE, upstream.as_bytes(), b"\0", endpoint.as_bytes()] {
        context.update(part);
    }
    base64url(&context.sign().as_ref()[..SIGNATURE_BYTES])
}

fn base64url(bytes: &[u8]) -> Value {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let mut text = [b'A'; VALUE_BYTES];
    let bit = |index: usize| {
        let byte = bytes.get(index / 8).copied().unwrap_or(0);
        usize::from(byte >> (7 - index % 8) & 1)
    };
    for (index, character) in text.iter_mut().enumerate() {
        let six = (0..6).fold(0, |six, offset| six << 1 | bit(index * 6 + offset));
        *character = ALPHABET[six];
    }
    text
}

#[cfg(test)]
mod tests {
    use proto::http1::head::{Limits, Parsed, parse_request};

    use super::*;

    const NAMES: [(EndpointId, &str); 2] = [(EndpointId(4), "10.0.0.1:80"), (EndpointId(7), "10.0.0.2:80")];

    fn rule(secrets: &[&str]) -> StickyRule {
        StickyRule {
            cookie: b"at"[..].into(),
            secrets: secrets.iter().map(|secret| SecretBytes(secret.as_bytes().into())).collect(),
            attributes: b"; Path=/; HttpOnly; SameSite=Lax"[..].into(),
            secure: SecureCookie::Auto,
            is_passed: false,
        }
    }

    fn cookies(rule: &StickyRule) -> Cookies {
        Cookies::new(rule, "fhir", NAMES.into_iter())
    }

    fn read(cookies: &Cookies, rule: &StickyRule, fields: &str) -> Told {
        let text = format!("GET / HTTP/1.1\r\nHost: a\r\n{fields}\r\n");
        let limits =
            Limits { head_bytes_max: 8192, fields_max: 100, target_bytes_max: 8192, is_secured: false };
        let mut head = RequestHead::default();
        let parsed = parse_request(text.as_bytes(), 0, &limits, &mut head).expect("a request");
        assert!(matches!(parsed, Parsed::Complete));
        cookies.read(rule, text.as_bytes(), &head)
    }

    /// The value in a line that sets it.
    fn value_of(line: &str) -> &str {
        line.strip_prefix("Set-Cookie: at=").and_then(|rest| rest.split(';').next()).expect("a value")
    }

    #[test]
    fn a_cookie_comes_back_to_the_endpoint_that_it_was_set_for() {
        let rule = rule(&["0123456789abcdef"]);
        let cookies = cookies(&rule);
        for (id, _) in NAMES {
            let value = value_of(cookies.line(&rule, id, false).expect("an endpoint"));
            let told = read(&cookies, &rule, &format!("Cookie: a=b; at={value}; c=d\r\n"));
            assert_eq!(told, Told::Endpoint(id));
            assert_eq!(read(&cookies, &rule, &format!("COOKIE: x=1\r\ncookie: at={value}\r\n")), told);
        }
        assert_eq!(cookies.line(&rule, EndpointId(5), false), None);
    }

    #[test]
    fn what_is_not_ours_names_nobody() {
        let rule = rule(&["0123456789abcdef"]);
        let cookies = cookies(&rule);
        assert_eq!(read(&cookies, &rule, ""), Told::Nothing);
        assert_eq!(read(&cookies, &rule, "Cookie: bat=1; ta=2; atx=3; at\r\n"), Told::Nothing);
        for value in ["", "10.0.0.1:80", "AAAAAAAAAAAAAAAAAAAAAA", &"x".repeat(4000)] {
            assert_eq!(read(&cookies, &rule, &format!("Cookie: at={value}\r\n")), Told::Unknown);
        }
        // Of another secret, or of another upstream.
        let other = rule_line(&self::rule(&["fedcba9876543210"]), "fhir");
        assert_eq!(read(&cookies, &rule, &format!("Cookie: at={other}\r\n")), Told::Unknown);
        let other = rule_line(&rule, "shop");
        assert_eq!(read(&cookies, &rule, &format!("Cookie: at={other}\r\n")), Told::Unknown);
    }

    fn rule_line(rule: &StickyRule, upstream: &str) -> String {
        let cookies = Cookies::new(rule, upstream, NAMES.into_iter());
        value_of(cookies.line(rule, NAMES[0].0, false).expect("an endpoint")).to_owned()
    }

    #[test]
    fn the_secret_before_is_believed_and_signs_no_more() {
        let (old, new) = (rule(&["0123456789abcdef"]), rule(&["fedcba9876543210", "0123456789abcdef"]));
        let (before, after) = (cookies(&old), cookies(&new));
        let value = value_of(before.line(&old, NAMES[1].0, false).expect("an endpoint"));
        assert_eq!(read(&after, &new, &format!("Cookie: at={value}\r\n")), Told::Endpoint(NAMES[1].0));
        assert_ne!(value_of(after.line(&new, NAMES[1].0, false).expect("an endpoint")), value);
    }

    #[test]
    fn the_line_says_secure_where_it_came_by_https_or_is_told_to() {
        let mut rule = rule(&["0123456789abcdef"]);
        for (secure, plain, private) in [
            (SecureCookie::Auto, false, true),
            (SecureCookie::Always, true, true),
            (SecureCookie::Never, false, false),
        ] {
            rule.secure = secure;
            let cookies = cookies(&rule);
            for (is_private, expected) in [(false, plain), (true, private)] {
                let line = cookies.line(&rule, NAMES[0].0, is_private).expect("an endpoint");
                assert_eq!(line.contains("; Secure"), expected, "{line}");
                assert!(
                    line.ends_with("\r\n") && line.contains("; Path=/; HttpOnly; SameSite=Lax"),
                    "{line}"
                );
                assert!(!line.contains("10.0.0.1"), "{line}");
            }
        }
    }

    #[test]
    fn base64url_is_that_of_rfc_4648() {
        assert_eq!(&base64url(&[0xff; 16]), b"_____________________w");
        assert_eq!(
            &base64url(b"\x00\x10\x83\x10\x51\x87\x20\x92\x8b\x30\xd3\x8f\x41\x14\x93\x51"),
            b"ABCDEFGHIJKLMNOPQRSTUQ"
        );
    }
}
