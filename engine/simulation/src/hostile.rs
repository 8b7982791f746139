//! What do attackers send? Messages that no HTTP recipient may take for a request, or not for a whole one.
//!
//! Never ambiguous: each is refused by a rule of RFC 9112, whatever reading of it is chosen.

use crate::plan::RequestId;

/// Part of the target of requests that are hidden inside others: no origin may ever see it.
pub(crate) const SMUGGLED: &str = "smuggled";

/// An attack, by its place in [`Hostile::ALL`].
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Hostile(usize);

/// What the engine may do with an attack.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Reach {
    /// Nothing of it reaches an origin.
    Head,
    /// The head is fine: an origin may see the request, but never its end.
    Body,
}

struct Attack {
    name: &'static str,
    reach: Reach,
    /// `TARGET` and `ID` are put in, `NEXT` is a smuggled request.
    text: &'static str,
}

const fn head(name: &'static str, text: &'static str) -> Attack {
    Attack { name, reach: Reach::Head, text }
}

const fn body(name: &'static str, text: &'static str) -> Attack {
    Attack { name, reach: Reach::Body, text }
}

const ATTACKS: [Attack; 30] = [
    head(
        "length_and_chunked",
        "POST TARGET HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nNEXT",
    ),
    head(
        "chunked_and_length",
        "POST TARGET HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\nNEXT",
    ),
    head(
        "two_lengths",
        "POST TARGET HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\nContent-Length: 6\r\n\r\nNEXT",
    ),
    head("length_list", "POST TARGET HTTP/1.1\r\nHost: a\r\nContent-Length: 0, 6\r\n\r\nNEXT"),
    head("length_signed", "POST TARGET HTTP/1.1\r\nHost: a\r\nContent-Length: +3\r\n\r\nabcNEXT"),
    head("length_negative", "POST TARGET HTTP/1.1\r\nHost: a\r\nContent-Length: -1\r\n\r\nNEXT"),
    head("length_hexadecimal", "POST TARGET HTTP/1.1\r\nHost: a\r\nContent-Length: 0x3\r\n\r\nabcNEXT"),
    head(
        "length_overflow",
        "POST TARGET HTTP/1.1\r\nHost: a\r\nContent-Length: 18446744073709551617\r\n\r\naNEXT",
    ),
    head("xchunked", "POST TARGET HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: xchunked\r\n\r\n0\r\n\r\nNEXT"),
    head(
        "chunked_twice",
        "POST TARGET HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked, chunked\r\n\r\n0\r\n\r\nNEXT",
    ),
    head(
        "chunked_not_last",
        "POST TARGET HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked, gzip\r\n\r\n0\r\n\r\nNEXT",
    ),
    head(
        "chunked_identity",
        "POST TARGET HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: identity\r\nContent-Length: 3\r\n\r\nabcNEXT",
    ),
    head(
        "chunked_in_http10",
        "POST TARGET HTTP/1.0\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nNEXT",
    ),
    head(
        "space_before_colon",
        "POST TARGET HTTP/1.1\r\nHost: a\r\nTransfer-Encoding : chunked\r\n\r\n0\r\n\r\nNEXT",
    ),
    head(
        "folded_line",
        "POST TARGET HTTP/1.1\r\nHost: a\r\nTransfer-Encoding:\r\n chunked\r\n\r\n0\r\n\r\nNEXT",
    ),
    head("leading_space", "GET TARGET HTTP/1.1\r\n Host: a\r\n\r\nNEXT"),
    head("bare_line_feed", "GET TARGET HTTP/1.1\nHost: a\n\nNEXT"),
    head(
        "bare_carriage_return",
        "GET TARGET HTTP/1.1\r\nHost: a\r\nx-a: b\rTransfer-Encoding: chunked\r\n\r\nNEXT",
    ),
    head("null_in_name", "GET TARGET HTTP/1.1\r\nHost: a\r\nx-\0a: b\r\n\r\nNEXT"),
    head("null_in_value", "GET TARGET HTTP/1.1\r\nHost: a\r\nx-a: \0b\r\n\r\nNEXT"),
    head("host_missing", "GET TARGET HTTP/1.1\r\nx-id: ID\r\n\r\nNEXT"),
    head("host_twice", "GET TARGET HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\nNEXT"),
    head("version_two", "GET TARGET HTTP/2.0\r\nHost: a\r\n\r\nNEXT"),
    head("version_garbled", "GET TARGET HTTP/1.1x\r\nHost: a\r\n\r\nNEXT"),
    head("target_with_space", "GET TARGET /b HTTP/1.1\r\nHost: a\r\n\r\nNEXT"),
    body(
        "chunk_size_prefixed",
        "POST TARGET HTTP/1.1\r\nHost: a\r\nx-id: ID\r\nTransfer-Encoding: chunked\r\n\r\n0x3\r\nabc\r\n0\r\n\r\nNEXT",
    ),
    body(
        "chunk_size_overflow",
        "POST TARGET HTTP/1.1\r\nHost: a\r\nx-id: ID\r\nTransfer-Encoding: chunked\r\n\r\n10000000000000003\r\nabc\r\n0\r\n\r\nNEXT",
    ),
    body(
        "chunk_end_missing",
        "POST TARGET HTTP/1.1\r\nHost: a\r\nx-id: ID\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabcd0\r\n\r\nNEXT",
    ),
    body(
        "chunk_line_feed",
        "POST TARGET HTTP/1.1\r\nHost: a\r\nx-id: ID\r\nTransfer-Encoding: chunked\r\n\r\n3\nabc\r\n0\r\n\r\nNEXT",
    ),
    body(
        "trailer_forbidden",
        "POST TARGET HTTP/1.1\r\nHost: a\r\nx-id: ID\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nContent-Length: 5\r\n\r\nNEXT",
    ),
];

impl Hostile {
    /// Number of attacks; every index below it names one.
    pub(crate) const COUNT: usize = ATTACKS.len();

    pub(crate) fn nth(index: usize) -> Self {
        assert!(index < Self::COUNT);
        Self(index)
    }

    pub(crate) fn name(self) -> &'static str {
        ATTACKS[self.0].name
    }

    /// Whether an origin may see the beginning of the request.
    pub(crate) fn may_reach_origin(self) -> bool {
        ATTACKS[self.0].reach == Reach::Body
    }

    /// The bytes, as the request `id` to `target`, with a smuggled one behind.
    pub(crate) fn bytes(self, id: RequestId, target: &str) -> Vec<u8> {
        let next = format!("GET /u0/{SMUGGLED}/{id} HTTP/1.1\r\nHost: a\r\nx-id: {id}\r\n\r\n");
        let text = ATTACKS[self.0].text.replace("NEXT", &next);
        text.replace("TARGET", target).replace("ID", &id.to_string()).into_bytes()
    }
}

impl std::fmt::Debug for Hostile {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_attack_has_a_name_of_its_own_and_hides_a_request() {
        let mut names: Vec<_> = ATTACKS.iter().map(|attack| attack.name).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), Hostile::COUNT);
        for index in 0..Hostile::COUNT {
            let bytes = Hostile::nth(index).bytes(RequestId(5), "/u0/0005");
            let text = String::from_utf8(bytes).expect("text");
            assert!(text.contains(SMUGGLED) && text.contains(" /u0/0005 "), "{text}");
        }
    }
}
