//! Did every byte of a large body arrive in its place? Bytes that tell where they belong.
//!
//! Never held whole: a body of any length is slices of one block, compared where they arrive.

use std::sync::LazyLock;

/// Length of the block that repeats. A prime: no buffer or chunk size falls into step with it, so that a piece
/// lost, doubled or swapped cannot look right.
const PERIOD: usize = 1_048_573;

static BLOCK: LazyLock<Vec<u8>> = LazyLock::new(|| {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let next = || {
        // xorshift64, Marsaglia 2003.
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()
    };
    std::iter::repeat_with(next).flatten().take(PERIOD).collect()
});

/// The pattern's bytes from `at` on, at most `length` of them and at least one.
pub(crate) fn piece(at: u64, length: u64) -> &'static [u8] {
    let start = (at % PERIOD as u64) as usize;
    let end = start.saturating_add(length as usize).min(PERIOD);
    &BLOCK[start..end]
}

/// Sends `length` bytes in writes of these sizes, in turn. False when `send` is.
pub(crate) fn send(length: u64, sizes: &[u64], mut send: impl FnMut(&[u8]) -> bool) -> bool {
    let mut at = 0;
    for &size in sizes.iter().cycle() {
        if at == length {
            return true;
        }
        let piece = piece(at, size.min(length - at));
        if !send(piece) {
            return false;
        }
        at += piece.len() as u64;
    }
    unreachable!("sizes is not empty")
}

/// `bytes` as one chunk of a chunked body.
pub(crate) fn chunk(bytes: &[u8]) -> Vec<u8> {
    [format!("{:x}\r\n", bytes.len()).as_bytes(), bytes, b"\r\n"].concat()
}

/// Compares what arrives with what belongs there.
#[derive(Debug, Default)]
pub(crate) struct Check {
    at: u64,
}

impl Check {
    #[track_caller]
    pub(crate) fn take(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let expected = piece(self.at, bytes.len() as u64);
            let (part, rest) = bytes.split_at(expected.len());
            assert!(part == expected, "wrong bytes in {} to {}", self.at, self.at + part.len() as u64);
            self.at += part.len() as u64;
            bytes = rest;
        }
    }

    /// Bytes that were right.
    pub(crate) fn length(&self) -> u64 {
        self.at
    }
}
