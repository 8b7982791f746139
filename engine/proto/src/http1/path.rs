//! Which path does an endpoint see in place of the one that was asked for?
//!
//! Never makes one that could not stand in a request line, and never looks at the query.

use regex_automata::Input;
use regex_automata::meta::{self, Regex};
use regex_automata::util::captures::Captures;

use crate::matching;

/// How a path is written anew.
#[derive(Clone, Debug)]
pub enum PathRewrite {
    /// One prefix in place of another.
    Prefix {
        /// Taken off where the path has it whole: `/api` of `/api` and `/api/x`, not of `/apis`. Without a final slash.
        strip: Box<str>,
        /// Put in front. Without a final slash.
        add: Box<str>,
    },
    /// What a regular expression finds is replaced.
    Replace(Box<Replacement>),
}

/// What a regular expression finds, and what stands in its place.
#[derive(Clone, Debug)]
pub struct Replacement {
    regex: Regex,
    with: Box<[Piece]>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Piece {
    Text(Box<str>),
    Group(usize),
}

/// What a replacement needs to write to. Each core has its own, so that no regex ever waits for another core.
#[derive(Debug)]
pub struct PathCache(Option<(meta::Cache, Captures)>);

/// Why a replacement is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReplacementError {
    /// The pattern, in words for the operator.
    #[error("{0}")]
    Pattern(String),
    /// A group that the pattern does not have.
    #[error("there is no group ${0}; the pattern has {1}")]
    Group(usize, usize),
    /// `$` in front of something else than a digit.
    #[error("$ stands in front of the number of a group, 1 to 9, or of another $")]
    Dollar,
}

impl Replacement {
    /// What `pattern` finds first is replaced by `with`, in which `$1` to `$9` are what its groups found and `$$` is a `$`.
    ///
    /// # Errors
    /// [`ReplacementError`] says which of the two is wrong.
    pub fn new(pattern: &str, with: &str) -> Result<Self, ReplacementError> {
        let regex = matching::compile_pattern(pattern).map_err(ReplacementError::Pattern)?;
        let groups = regex.captures_len() - 1;
        let mut pieces = Vec::new();
        let mut text = String::new();
        let mut characters = with.chars();
        while let Some(character) = characters.next() {
            if character != '$' {
                text.push(character);
                continue;
            }
            match characters.next() {
                Some('$') => text.push('$'),
                Some(digit @ '1'..='9') => {
                    let group = usize::from(digit as u8 - b'0');
                    if group > groups {
                        return Err(ReplacementError::Group(group, groups));
                    }
                    pieces.push(Piece::Text(std::mem::take(&mut text).into()));
                    pieces.push(Piece::Group(group));
                }
                _ => return Err(ReplacementError::Dollar),
            }
        }
        pieces.push(Piece::Text(text.into()));
        Ok(Self { regex, with: pieces.into() })
    }
}

impl PathRewrite {
    /// A fresh cache for one core. It fits this alone.
    #[must_use]
    pub fn cache(&self) -> PathCache {
        PathCache(match self {
            Self::Prefix { .. } => None,
            Self::Replace(replacement) => {
                Some((replacement.regex.create_cache(), replacement.regex.create_captures()))
            }
        })
    }

    /// Replaces `out` by the path in place of `path`, which begins with a slash; so does what it becomes.
    pub fn rewrite(&self, cache: &mut PathCache, path: &[u8], out: &mut Vec<u8>) {
        out.clear();
        match self {
            Self::Prefix { strip, add } => {
                let stripped = path.strip_prefix(strip.as_bytes());
                let rest = stripped.filter(|rest| matches!(rest, [] | [b'/', ..])).unwrap_or(path);
                out.extend_from_slice(add.as_bytes());
                out.extend_from_slice(rest);
            }
            Self::Replace(replacement) => replacement.replace(cache, path, out),
        }
        if out.first() != Some(&b'/') {
            out.insert(0, b'/');
        }
    }
}

impl Replacement {
    fn replace(&self, cache: &mut PathCache, path: &[u8], out: &mut Vec<u8>) {
        let PathCache(Some((cache, captures))) = cache else { return out.extend_from_slice(path) };
        self.regex.search_captures_with(cache, &Input::new(path), captures);
        let Some(found) = captures.get_match() else { return out.extend_from_slice(path) };
        out.extend_from_slice(&path[..found.start()]);
        for piece in &self.with {
            match piece {
                Piece::Text(text) => out.extend_from_slice(text.as_bytes()),
                Piece::Group(group) => {
                    out.extend_from_slice(captures.get_group(*group).map_or(&[], |span| &path[span.range()]));
                }
            }
        }
        out.extend_from_slice(&path[found.end()..]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(rewrite: &PathRewrite, expected: &[(&str, &str)]) {
        let (mut cache, mut out) = (rewrite.cache(), b"before".to_vec());
        for (path, becomes) in expected {
            rewrite.rewrite(&mut cache, path.as_bytes(), &mut out);
            assert_eq!(String::from_utf8_lossy(&out), *becomes, "{path}");
        }
    }

    fn prefix(strip: &str, add: &str) -> PathRewrite {
        PathRewrite::Prefix { strip: strip.into(), add: add.into() }
    }

    fn replace(pattern: &str, with: &str) -> PathRewrite {
        PathRewrite::Replace(Box::new(Replacement::new(pattern, with).expect(pattern)))
    }

    #[test]
    fn a_prefix_is_taken_off_whole_or_not_at_all() {
        let expected =
            [("/api", "/"), ("/api/", "/"), ("/api/x/y", "/x/y"), ("/apis", "/apis"), ("/x", "/x")];
        check(&prefix("/api", ""), &expected);
        check(&prefix("/api", "/v1"), &[("/api", "/v1"), ("/api/x", "/v1/x"), ("/other", "/v1/other")]);
        check(&prefix("", "/v1"), &[("/", "/v1/"), ("/x", "/v1/x")]);
    }

    #[test]
    fn what_a_pattern_finds_is_replaced_with_its_groups() {
        let whole = replace("^/patient/([0-9]+)/(.*)$", "/fhir/Patient/$1?/$2".trim_end_matches('?'));
        check(&whole, &[("/x", "/x")]);
        let whole = replace("^/patient/([0-9]+)(/.*)?$", "/fhir/Patient/$1$2");
        let expected = [
            ("/patient/7/a", "/fhir/Patient/7/a"),
            ("/patient/7", "/fhir/Patient/7"),
            ("/patient", "/patient"),
        ];
        check(&whole, &expected);
        check(&replace("o+", "$$0"), &[("/foo/foo", "/f$0/foo")]);
        check(&replace("^.*$", "no-slash"), &[("/x", "/no-slash")]);
        check(&replace("^/x", ""), &[("/x/y", "/y"), ("/x", "/")]);
        check(&replace("(a)|(b)", "<$1$2>"), &[("/b", "/<b>")]);
    }

    #[test]
    fn a_replacement_that_means_nothing_is_refused() {
        let error = |pattern, with| Replacement::new(pattern, with).expect_err(with);
        assert_eq!(error("(a)", "$2"), ReplacementError::Group(2, 1));
        assert_eq!(error("a", "$1"), ReplacementError::Group(1, 0));
        for with in ["$", "a$", "$x", "$0", "${1}"] {
            assert_eq!(error("(a)", with), ReplacementError::Dollar);
        }
        assert!(matches!(error("(", ""), ReplacementError::Pattern(_)));
    }
}
