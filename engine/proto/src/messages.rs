//! How many messages do the bytes of a stream hold? Lines, or blocks of the Minimal Lower Layer Protocol (MLLP).
//!
//! Looks at bytes that are on their way; never copies or keeps one, never changes or refuses one.

use memchr::{memchr, memchr_iter};

/// Begins a block of MLLP, release 1.
const START_BLOCK: u8 = 0x0b;
/// Ends its content if [`CARRIAGE_RETURN`] follows.
const END_BLOCK: u8 = 0x1c;
/// Ends the block.
const CARRIAGE_RETURN: u8 = 0x0d;

/// What is a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Delimiting {
    /// Bytes up to a line feed, also none.
    Line,
    /// `<VT> content <FS> <CR>`, as HL7 messages travel. What lies between two blocks belongs to none.
    Mllp,
}

/// Follows one direction of a connection, however its bytes are cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MessageScanner {
    delimiting: Delimiting,
    place: Place,
}

/// Where the next byte belongs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    /// No message has begun.
    Between,
    /// Into a message.
    Within,
    /// Behind an [`END_BLOCK`], which may be content after all.
    AtEnd,
}

impl MessageScanner {
    /// Begins at the first byte of a stream.
    #[must_use]
    pub const fn new(delimiting: Delimiting) -> Self {
        Self { delimiting, place: Place::Between }
    }

    /// Goes over the next bytes and says how many messages ended in them.
    pub fn forward(&mut self, bytes: &[u8]) -> u64 {
        match self.delimiting {
            Delimiting::Line => self.forward_lines(bytes),
            Delimiting::Mllp => self.forward_blocks(bytes),
        }
    }

    /// Whether a message has begun and not ended.
    #[must_use]
    pub fn is_within(&self) -> bool {
        self.place != Place::Between
    }

    fn forward_lines(&mut self, bytes: &[u8]) -> u64 {
        if let Some(&last) = bytes.last() {
            self.place = if last == b'\n' { Place::Between } else { Place::Within };
        }
        memchr_iter(b'\n', bytes).count() as u64
    }

    fn forward_blocks(&mut self, mut bytes: &[u8]) -> u64 {
        let mut ended = 0;
        while let [first, rest @ ..] = bytes {
            let sought = match self.place {
                Place::Between => START_BLOCK,
                Place::Within => END_BLOCK,
                Place::AtEnd => {
                    self.place = match *first {
                        CARRIAGE_RETURN => Place::Between,
                        END_BLOCK => Place::AtEnd,
                        _ => Place::Within,
                    };
                    ended += u64::from(self.place == Place::Between);
                    bytes = rest;
                    continue;
                }
            };
            let Some(at) = memchr(sought, bytes) else { break };
            self.place = if sought == START_BLOCK { Place::Within } else { Place::AtEnd };
            bytes = &bytes[at + 1..];
        }
        ended
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Messages that ended in `stream`, and whether one is left unfinished, the same for every cut in two and byte by byte.
    #[track_caller]
    fn check(delimiting: Delimiting, stream: &[u8], ended: u64, is_within: bool) {
        for cut in 0..=stream.len() {
            let mut scanner = MessageScanner::new(delimiting);
            let sum = scanner.forward(&stream[..cut]) + scanner.forward(&stream[cut..]);
            assert_eq!((sum, scanner.is_within()), (ended, is_within), "cut at {cut}");
        }
        let mut scanner = MessageScanner::new(delimiting);
        let sum: u64 = stream.chunks(1).map(|byte| scanner.forward(byte)).sum();
        assert_eq!((sum, scanner.is_within()), (ended, is_within), "byte by byte");
    }

    #[test]
    fn a_line_ends_with_a_line_feed() {
        check(Delimiting::Line, b"", 0, false);
        check(Delimiting::Line, b"PING", 0, true);
        check(Delimiting::Line, b"PING\r\n", 1, false);
        check(Delimiting::Line, b"PING\r\nPI", 1, true);
        check(Delimiting::Line, b"a\n\nb\n", 3, false);
        check(Delimiting::Line, b"\r\r", 0, true);
    }

    #[test]
    fn a_block_ends_with_both_of_its_last_bytes() {
        check(Delimiting::Mllp, b"", 0, false);
        check(Delimiting::Mllp, b"\x0bMSH|^~\\&|\rPID|\r\x1c\r", 1, false);
        check(Delimiting::Mllp, b"\x0b\x1c\r", 1, false);
        check(Delimiting::Mllp, b"\x0ba\x1c\r\x0bb\x1c\r\x0bc", 2, true);
        check(Delimiting::Mllp, b"\x0ba\x1c", 0, true);
        check(Delimiting::Mllp, b"\x0ba\x1cb\x1c\r", 1, false);
        check(Delimiting::Mllp, b"\x0ba\x1c\x1c\x1c\r", 1, false);
        check(Delimiting::Mllp, b"\x0ba\r\x1c\n", 0, true);
    }

    #[test]
    fn what_lies_between_blocks_is_no_message() {
        check(Delimiting::Mllp, b"\x1c\r", 0, false);
        check(Delimiting::Mllp, b"\r\n\x0ba\x1c\r\r\n\x1c\r\x0bb\x1c\r", 2, false);
        // A start inside of a block is content: only ends are counted.
        check(Delimiting::Mllp, b"\x0ba\x0bb\x1c\r", 1, false);
    }
}
