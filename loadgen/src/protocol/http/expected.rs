//! What must an answer be to count as right?
//!
//! Looks at bodies as they pass by: never keeps one.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use proto::http1::head::ResponseHead;
use sha2::{Digest as _, Sha256};

use crate::target::Field;

/// What the answer to one request must be.
#[derive(Clone, Debug)]
pub(crate) struct Expected {
    pub(crate) statuses: Arc<[u16]>,
    /// Each must be among the answer's fields.
    pub(crate) fields: Arc<[Field]>,
    pub(crate) body: ExpectedBody,
}

impl Expected {
    /// The first expected field that `head`, read from `bytes`, does not have.
    pub(crate) fn missing(&self, bytes: &[u8], head: &ResponseHead) -> Option<usize> {
        self.fields.iter().position(|expected| {
            !head.fields.iter().any(|field| {
                field.name.of(bytes).eq_ignore_ascii_case(expected.name.as_bytes())
                    && field.value.of(bytes) == expected.value.as_bytes()
            })
        })
    }
}

/// What the body of an answer must be.
#[derive(Clone, Debug)]
pub(crate) enum ExpectedBody {
    Any,
    /// What has this SHA-256.
    Hash(Sha256Sum),
    /// These bytes.
    Same(Arc<[u8]>),
}

impl ExpectedBody {
    /// A check of one body from its first byte on. `hasher` is used from the start again, and made only when needed.
    pub(crate) fn check<'a>(&'a self, hasher: &'a mut Hasher) -> BodyCheck<'a> {
        match self {
            Self::Any => BodyCheck::Any,
            Self::Hash(sum) => {
                let state = hasher.get_or_insert_default();
                state.reset();
                BodyCheck::Hash { state, expected: sum }
            }
            Self::Same(expected) => BodyCheck::Same { rest: Some(expected) },
        }
    }
}

/// A connection's room for the hash of one body after the other. Apart from the connection's task, which stays small.
pub(crate) type Hasher = Option<Box<Sha256>>;

/// Looks at one body, part by part.
pub(crate) enum BodyCheck<'a> {
    Any,
    Hash {
        state: &'a mut Sha256,
        expected: &'a Sha256Sum,
    },
    /// What must still come; `None` after something else came.
    Same {
        rest: Option<&'a [u8]>,
    },
}

impl BodyCheck<'_> {
    /// Takes the next part of the body.
    pub(crate) fn take(&mut self, part: &[u8]) {
        match self {
            Self::Any => {}
            Self::Hash { state, .. } => state.update(part),
            Self::Same { rest } => *rest = rest.and_then(|rest| rest.strip_prefix(part)),
        }
    }

    /// Whether the body, now whole, is the one expected.
    pub(crate) fn matches(self) -> bool {
        match self {
            Self::Any => true,
            Self::Hash { state, expected } => state.finalize_reset()[..] == expected.0,
            Self::Same { rest } => rest.is_some_and(<[u8]>::is_empty),
        }
    }
}

/// A SHA-256 in hexadecimal, as `sha256sum` prints it.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct Sha256Sum([u8; 32]);

impl FromStr for Sha256Sum {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let refused =
            || format!("'{text}' is no SHA-256: expected 64 hexadecimal digits, as sha256sum prints");
        let digits: Option<Vec<u8>> =
            text.chars().map(|digit| digit.to_digit(16).map(|value| value as u8)).collect();
        let digits = digits.filter(|digits| digits.len() == 64).ok_or_else(refused)?;
        Ok(Self(std::array::from_fn(|index| digits[2 * index] << 4 | digits[2 * index + 1])))
    }
}

impl fmt::Debug for Sha256Sum {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(formatter, "{byte:02x}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Of the three bytes `abc`: FIPS 180-2, appendix B.1.
    const ABC: &str = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";

    #[test]
    fn a_body_is_right_however_it_is_split() {
        let hash = ExpectedBody::Hash(ABC.parse().expect("a hash"));
        let same = ExpectedBody::Same((*b"abc").into());
        let mut hasher = None;
        for (parts, is_right) in [
            (&["abc"][..], true),
            (&["a", "b", "c"], true),
            (&["", "ab", "", "c"], true),
            (&[], false),
            (&["ab"], false),
            (&["abcd"], false),
            (&["abc", "d"], false),
            (&["x", "abc"], false),
        ] {
            for expected in [&hash, &same] {
                let mut check = expected.check(&mut hasher);
                parts.iter().for_each(|part| check.take(part.as_bytes()));
                assert_eq!(check.matches(), is_right, "{expected:?}: {parts:?}");
            }
        }
    }

    #[test]
    fn a_hash_is_64_digits() {
        assert_eq!(format!("{:?}", ABC.to_uppercase().parse::<Sha256Sum>().expect("a hash")), ABC);
        for text in ["", "abc", &ABC[1..], &format!("{ABC}0"), &ABC.replace('b', "g")] {
            assert!(text.parse::<Sha256Sum>().is_err_and(|error| error.contains("64 hexadecimal")), "{text}");
        }
    }
}
