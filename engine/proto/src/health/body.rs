//! Does the body of a probe's answer say what it has to?
//!
//! Never looks beyond what was read of it, and takes time in proportion to that (see `matching`).

use std::fmt;

use regex_automata::Input;
use regex_automata::meta::Regex;

use crate::matching::compile_pattern;

/// Bytes of a body that are read and searched; a page that says whether all is well is shorter.
pub const BODY_BYTES_MAX: usize = 64 * 1024;

/// A regular expression that is found anywhere in a body that is well; `^` and `$` anchor it.
#[derive(Clone)]
pub struct BodyPattern {
    written: Box<str>,
    regex: Regex,
}

impl BodyPattern {
    /// Compiles it.
    ///
    /// # Errors
    /// What is wrong with it, in words for the operator.
    pub fn new(pattern: &str) -> Result<Self, String> {
        Ok(Self { written: pattern.into(), regex: compile_pattern(pattern)? })
    }

    /// Whether it is found. Takes a lock of its own, so it is for one thread.
    #[must_use]
    pub fn is_match(&self, body: &[u8]) -> bool {
        self.regex.is_match(Input::new(body))
    }

    /// As it was written.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.written
    }
}

impl fmt::Debug for BodyPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.written.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pattern_is_found_anywhere_unless_it_is_anchored() {
        for (pattern, body, expected) in [
            ("ok", &b"all is ok."[..], true),
            ("^ok$", b"ok", true),
            ("^ok$", b"not ok", false),
            (r#""status"\s*:\s*"UP""#, b"{\"status\": \"UP\"}", true),
            (r"\xff", b"a\xffb", false),
            (r"(?-u)\xff", b"a\xffb", true),
            ("", b"", true),
        ] {
            let compiled = BodyPattern::new(pattern).expect(pattern);
            assert_eq!(compiled.is_match(body), expected, "{pattern}");
        }
    }

    #[test]
    fn what_is_no_pattern_says_why() {
        assert!(BodyPattern::new("(").is_err());
        assert!(BodyPattern::new(r"\p{L}{1000}").is_err_and(|error| error.contains("bytes")));
    }
}
