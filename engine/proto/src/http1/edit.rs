//! Which header fields does the operator want otherwise than they came?
//!
//! Never touches what frames a message, what belongs to one hop, or a body; only for those who asked for it: other heads never
//! come through here.

use memchr::memchr;

use super::field::KnownField;
use crate::template::{Template, Values};

/// Changes to the fields of a head.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HeadEdits {
    /// Names of fields that are taken out, in lower case and with `-` for `_`.
    dropped: Box<[Box<[u8]>]>,
    /// Fields that are put in.
    added: Box<[(Box<str>, Template)]>,
    /// Their lines, if they say the same in every message.
    fixed: Option<Box<[u8]>>,
}

/// What a field is wanted for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wish {
    /// To replace all of its name.
    Set,
    /// To stand beside those of its name.
    Add,
    /// To go.
    Remove,
}

/// Whether a field may be changed so in a request, or in an answer. Those that frame the message, that belong to a hop, or
/// that say where a request goes are not the operator's; `Host` may be set.
#[must_use]
pub fn may_change(name: &str, wish: Wish, is_request: bool) -> bool {
    match KnownField::classify(name.as_bytes()) {
        KnownField::ContentLength
        | KnownField::TransferEncoding
        | KnownField::FramingLookalike
        | KnownField::Connection
        | KnownField::KeepAlive
        | KnownField::ProxyConnection
        | KnownField::Te
        | KnownField::Trailer
        | KnownField::Upgrade
        | KnownField::Http2Settings
        | KnownField::Expect
        | KnownField::MaxForwards => false,
        KnownField::Host => is_request && wish == Wish::Set,
        _ => true,
    }
}

impl HeadEdits {
    /// `set` replaces all fields of a name, `add` puts one beside them, `remove` takes them out. What is set or removed goes
    /// wherever a server that takes `_` for `-`, as CGI does (RFC 3875 §4.1.18), would read the same name.
    #[must_use]
    pub fn new(set: Vec<(String, Template)>, add: Vec<(String, Template)>, remove: &[String]) -> Self {
        let names = set.iter().map(|(name, _)| name).chain(remove);
        let dropped = names.map(|name| name.bytes().map(fold).collect()).collect();
        let added: Box<[_]> =
            set.into_iter().chain(add).map(|(name, value)| (name.into_boxed_str(), value)).collect();
        let is_fixed = added.iter().all(|(_, value)| value.is_fixed());
        let mut edits = Self { dropped, added, fixed: None };
        if is_fixed {
            let mut lines = Vec::new();
            edits.render(&Values::default(), &mut lines);
            edits.fixed = Some(lines.into());
        }
        edits
    }

    /// Whether the lines that are put in are the same in every message.
    #[must_use]
    pub fn is_fixed(&self) -> bool {
        self.fixed.is_some()
    }

    /// Replaces `lines` by the field lines that are put in.
    pub fn render(&self, values: &Values<'_>, lines: &mut Vec<u8>) {
        lines.clear();
        for (name, value) in &self.added {
            lines.extend_from_slice(name.as_bytes());
            lines.extend_from_slice(b": ");
            value.render(values, lines);
            lines.extend_from_slice(b"\r\n");
        }
    }

    /// Changes the head that `message` begins with, which is one of ours: well formed, each line ended by CR LF. `lines` are
    /// what was rendered for it, and not looked at where they are fixed.
    pub fn apply(&self, lines: &[u8], message: &mut Vec<u8>) {
        let lines = self.fixed.as_deref().unwrap_or(lines);
        let line_end =
            |message: &[u8], start: usize| memchr(b'\n', &message[start..]).map(|at| start + at + 1);
        let Some(mut read) = line_end(message, 0) else { return };
        let mut written = read;
        while let Some(end) = line_end(message, read) {
            let line = &message[read..end];
            if line == b"\r\n" {
                break;
            }
            let name = &line[..memchr(b':', line).unwrap_or(0)];
            if !self.drops(name) {
                message.copy_within(read..end, written);
                written += end - read;
            }
            read = end;
        }
        message.splice(written..read, lines.iter().copied());
    }

    fn drops(&self, name: &[u8]) -> bool {
        let is_same = |dropped: &[u8]| {
            dropped.len() == name.len() && name.iter().zip(dropped).all(|(byte, known)| fold(*byte) == *known)
        };
        self.dropped.iter().any(|dropped| is_same(dropped))
    }
}

fn fold(byte: u8) -> u8 {
    if byte == b'_' { b'-' } else { byte.to_ascii_lowercase() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fields(list: &[(&str, &str)]) -> Vec<(String, Template)> {
        list.iter().map(|(name, value)| ((*name).to_owned(), Template::parse(value).unwrap())).collect()
    }

    #[track_caller]
    fn check(edits: &HeadEdits, message: &str, expected: &str) {
        let values = Values { authority: b"a.example:80", ..Values::default() };
        let (mut lines, mut out) = (b"before".to_vec(), message.as_bytes().to_vec());
        edits.render(&values, &mut lines);
        edits.apply(&lines, &mut out);
        assert_eq!(String::from_utf8(out).unwrap(), expected);
    }

    #[test]
    fn fields_are_set_added_and_removed_and_the_rest_stays() {
        let edits = HeadEdits::new(
            fields(&[("X-A", "${host}"), ("Via", "me")]),
            fields(&[("Set-Cookie", "a=b")]),
            &["Server".to_owned()],
        );
        assert!(!edits.is_fixed());
        check(
            &edits,
            "HTTP/1.1 200 OK\r\nserver: x\r\nX-A: 1\r\nContent-Length: 3\r\nx_a: 2\r\nX-AB: 3\r\nSet-Cookie: c=d\r\nVIA: 1\r\n\r\nb\r\n",
            "HTTP/1.1 200 OK\r\nContent-Length: 3\r\nX-AB: 3\r\nSet-Cookie: c=d\r\n\
             X-A: a.example\r\nVia: me\r\nSet-Cookie: a=b\r\n\r\nb\r\n",
        );
        check(
            &edits,
            "HTTP/1.1 204 No Content\r\n\r\n",
            "HTTP/1.1 204 No Content\r\nX-A: a.example\r\nVia: me\r\nSet-Cookie: a=b\r\n\r\n",
        );
    }

    #[test]
    fn no_wish_changes_nothing() {
        let edits = HeadEdits::new(Vec::new(), Vec::new(), &["Server".to_owned()]);
        assert!(edits.is_fixed());
        let message = "GET / HTTP/1.1\r\nHost: a\r\nX: y\r\n\r\nServer: x\r\n";
        check(&edits, message, message);
    }

    #[test]
    fn what_frames_a_message_or_belongs_to_a_hop_is_not_the_operators() {
        for name in [
            "content-length",
            "Transfer-Encoding",
            "Transfer_Encoding",
            "Connection",
            "Keep-Alive",
            "Proxy-Connection",
            "TE",
            "Trailer",
            "Upgrade",
            "HTTP2-Settings",
            "Expect",
            "Max-Forwards",
        ] {
            for wish in [Wish::Set, Wish::Add, Wish::Remove] {
                assert!(!may_change(name, wish, true) && !may_change(name, wish, false), "{name}");
            }
        }
        assert!(may_change("host", Wish::Set, true) && !may_change("Host", Wish::Set, false));
        assert!(!may_change("Host", Wish::Add, true) && !may_change("Host", Wish::Remove, true));
        assert!(may_change("X-Forwarded-For", Wish::Remove, true) && may_change("Server", Wish::Set, false));
    }
}
