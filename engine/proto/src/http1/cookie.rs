//! Which cookies are in a `Cookie` field (RFC 6265 §4.2.1)?
//!
//! Never says what a value means; what is no `name=value` is a pair like any other, and nobody's.

use std::iter;

use memchr::memchr;

/// The pairs of a field's value without the white space around them, each with its place in the value. Empty ones are among
/// them.
#[inline]
pub fn pairs(value: &[u8]) -> impl Iterator<Item = (usize, &[u8])> {
    let mut rest = Some((0, value));
    iter::from_fn(move || {
        let (start, bytes) = rest.take()?;
        let end = memchr(b';', bytes).unwrap_or(bytes.len());
        rest = bytes.get(end + 1..).map(|behind| (start + end + 1, behind));
        let pair = bytes[..end].trim_ascii_start();
        Some((start + end - pair.len(), pair.trim_ascii_end()))
    })
}

/// The value of a pair, if it is the cookie of this name.
#[inline]
#[must_use]
pub fn value_of<'p>(pair: &'p [u8], name: &[u8]) -> Option<&'p [u8]> {
    pair.strip_prefix(name)?.strip_prefix(b"=")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(value: &str, expected: &[(usize, &str)]) {
        let found: Vec<_> = pairs(value.as_bytes())
            .map(|(place, pair)| (place, std::str::from_utf8(pair).expect("text")))
            .collect();
        assert_eq!(found, expected, "{value:?}");
        for (place, pair) in found {
            assert_eq!(&value[place..place + pair.len()], pair);
        }
    }

    #[test]
    fn every_pair_has_its_place() {
        check("a=1", &[(0, "a=1")]);
        check("a=1; b=2;c", &[(0, "a=1"), (5, "b=2"), (9, "c")]);
        check("  a=1\t; ;b ", &[(2, "a=1"), (8, ""), (9, "b")]);
        check(";", &[(0, ""), (1, "")]);
        check("", &[(0, "")]);
    }

    #[test]
    fn a_name_is_the_whole_of_what_stands_before_the_sign() {
        assert_eq!(value_of(b"id=a=b", b"id"), Some(&b"a=b"[..]));
        for other in [&b"id"[..], b"idx=1", b"ID=1", b"xid=1", b""] {
            assert_eq!(value_of(other, b"id"), None);
        }
    }
}
