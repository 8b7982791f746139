//! Which bytes does a body consist of? Bytes that follow from the message they belong to and from their place in it.
//!
//! Never stored: whoever receives them computes what should be there.

use crate::dice::mix;
use crate::plan::RequestId;

/// The bytes of one body, by the number they are computed from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Pattern(u64);

impl Pattern {
    pub(crate) fn of_request(id: RequestId) -> Self {
        Self(mix(u64::from(id.0) | 1 << 40))
    }

    /// An answer's body also tells for which delivery of the request it was given.
    pub(crate) fn of_answer(id: RequestId, attempt: u8) -> Self {
        Self(mix(u64::from(id.0) | 2 << 40 | u64::from(attempt) << 48))
    }

    fn word(self, index: u64) -> [u8; 8] {
        mix(self.0 ^ index.wrapping_mul(0x9E37_79B9_7F4A_7C15)).to_le_bytes()
    }

    /// Appends `count` bytes from place `at` on.
    pub(crate) fn append(self, at: u64, count: usize, out: &mut Vec<u8>) {
        let end = out.len() + count;
        let mut skipped = (at % 8) as usize;
        let mut index = at / 8;
        while out.len() < end {
            let word = self.word(index);
            let wanted = (end - out.len()).min(8 - skipped);
            out.extend_from_slice(&word[skipped..skipped + wanted]);
            (skipped, index) = (0, index + 1);
        }
    }
}

/// What a body should be.
#[derive(Debug)]
enum Expected {
    Pattern(Pattern),
    Text(Vec<u8>),
    Anything,
}

/// Compares a body with what it should be as it arrives.
#[derive(Debug)]
pub(crate) struct Check {
    expected: Expected,
    at: u64,
    wrong_at: Option<u64>,
    scratch: Vec<u8>,
}

impl Check {
    pub(crate) fn new(pattern: Pattern) -> Self {
        Self::of(Expected::Pattern(pattern))
    }

    pub(crate) fn of_text(text: &str) -> Self {
        Self::of(Expected::Text(text.as_bytes().to_vec()))
    }

    /// For a body whose bytes are the engine's own business.
    pub(crate) fn of_anything() -> Self {
        Self::of(Expected::Anything)
    }

    fn of(expected: Expected) -> Self {
        Self { expected, at: 0, wrong_at: None, scratch: Vec::new() }
    }

    pub(crate) fn take(&mut self, bytes: &[u8]) {
        self.scratch.clear();
        match &self.expected {
            Expected::Pattern(pattern) => pattern.append(self.at, bytes.len(), &mut self.scratch),
            Expected::Text(text) => {
                let rest = text.get(self.at as usize..).unwrap_or_default();
                self.scratch.extend_from_slice(&rest[..rest.len().min(bytes.len())]);
            }
            Expected::Anything => self.scratch.extend_from_slice(bytes),
        }
        if self.wrong_at.is_none() && self.scratch != bytes {
            let same = self.scratch.iter().zip(bytes).take_while(|(expected, byte)| expected == byte).count();
            self.wrong_at = Some(self.at + same as u64);
        }
        self.at += bytes.len() as u64;
    }

    /// Bytes that have come.
    pub(crate) fn count(&self) -> u64 {
        self.at
    }

    /// Where the first wrong byte is.
    pub(crate) fn wrong_at(&self) -> Option<u64> {
        self.wrong_at
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_are_the_whole() {
        let pattern = Pattern::of_answer(RequestId(77), 1);
        let mut whole = Vec::new();
        pattern.append(0, 100, &mut whole);
        let mut pieces = Vec::new();
        for (at, count) in [(0, 1), (1, 6), (7, 10), (17, 0), (17, 83)] {
            pattern.append(at, count, &mut pieces);
        }
        assert_eq!(whole, pieces);
    }

    #[test]
    fn a_byte_lost_or_of_another_message_is_found() {
        let mut body = Vec::new();
        Pattern::of_answer(RequestId(1), 0).append(0, 64, &mut body);
        let check = |id, bytes: &[u8]| {
            let mut check = Check::new(Pattern::of_answer(RequestId(id), 0));
            bytes.chunks(7).for_each(|piece| check.take(piece));
            check.wrong_at()
        };
        assert_eq!(check(1, &body), None);
        assert!(check(2, &body).is_some());
        body.remove(30);
        assert!(check(1, &body).is_some_and(|at| (30..34).contains(&at)));
    }
}
