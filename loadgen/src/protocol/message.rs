//! Which bytes does a message hold that is to come back, and are those that came the same?
//!
//! Never two messages alike: an echo of an earlier one, or of another connection's, is no echo.

/// Longest message: every thread keeps one filler, and no connection a copy.
pub(crate) const MESSAGE_BYTES_MAX: u64 = 256 * 1024 * 1024;
/// Digits of a stamp.
const STAMP_BYTES: usize = 16;

/// A message: a stamp of its own, as far as it fits, and a filler that all share.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Message {
    stamp: [u8; STAMP_BYTES],
}

impl Message {
    /// With a stamp of these random bits, in digits that are text.
    pub(crate) fn new(mut bits: u64) -> Self {
        let mut stamp = [0; STAMP_BYTES];
        for digit in &mut stamp {
            *digit = b"0123456789abcdef"[(bits % 16) as usize];
            bits /= 16;
        }
        Self { stamp }
    }

    /// What of the message lies from `offset` on: its stamp's part and its filler's.
    pub(crate) fn from<'a>(&'a self, filler: &'a [u8], offset: usize) -> [&'a [u8]; 2] {
        let stamped = filler.len().min(STAMP_BYTES);
        [&self.stamp[offset.min(stamped)..stamped], &filler[offset.max(stamped).min(filler.len())..]]
    }

    /// Whether `bytes` are what the message holds from `offset` on.
    pub(crate) fn holds(&self, filler: &[u8], offset: usize, bytes: &[u8]) -> bool {
        let [stamp, rest] = self.from(filler, offset);
        let (front, back) = bytes.split_at(bytes.len().min(stamp.len()));
        stamp.starts_with(front) && rest.starts_with(back)
    }
}

/// As many bytes of text as a message is to have. They differ from place to place, so that a shift shows.
pub(crate) fn filler(length: usize) -> Vec<u8> {
    // Two periods without a common factor: the pattern repeats after 61 × 95 bytes only.
    (0..length).map(|index| b' ' + ((index % 61 + index % 95) % 95) as u8).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn whole(message: &Message, filler: &[u8]) -> Vec<u8> {
        message.from(filler, 0).concat()
    }

    #[test]
    fn a_message_is_text_of_its_length_and_unlike_the_next() {
        for length in [1, 2, 15, 16, 17, 1_000] {
            let filler = filler(length);
            let [one, other] = [0x1234_5678_9abc_def0, 1].map(|bits| whole(&Message::new(bits), &filler));
            assert_eq!((one.len(), other.len()), (length, length));
            assert!(one.iter().all(|byte| (b' '..=b'~').contains(byte)));
            assert_ne!(one, other);
        }
    }

    #[test]
    fn the_parts_from_any_offset_are_the_rest_of_the_whole() {
        let message = Message::new(0xfeed);
        for length in [1, 15, 16, 17, 40] {
            let filler = filler(length);
            let all = whole(&message, &filler);
            for offset in 0..=length {
                assert_eq!(message.from(&filler, offset).concat(), all[offset..], "{offset} of {length}");
            }
        }
    }

    #[test]
    fn any_byte_that_differs_is_noticed_in_any_pieces() {
        let (message, filler) = (Message::new(0xfeed), filler(40));
        let all = whole(&message, &filler);
        for begin in 0..40 {
            for end in begin..=40 {
                assert!(message.holds(&filler, begin, &all[begin..end]));
                for at in begin..end {
                    let mut wrong = all.clone();
                    wrong[at] ^= 1;
                    assert!(!message.holds(&filler, begin, &wrong[begin..end]), "byte {at}");
                }
            }
        }
        assert!(!message.holds(&filler, 0, &[&all[..], b"x"].concat()), "one too many");
        assert!(!message.holds(&filler, 1, &all[..39]), "shifted");
    }
}
