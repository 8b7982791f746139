//! What have the tasks of this turn sent? Small messages, kept until the turn's computing is done.
//!
//! Never keeps one past the next wait, never changes their order.

/// A larger message goes to the kernel at once: copying it would cost more than the batch gains.
pub(crate) const LETTER_BYTES_MAX: usize = 2048;

/// All letters of a turn together; beyond, messages go to the kernel at once.
const LETTERS_BYTES_MAX: usize = 512 * 1024;

/// How many letters; a socket counts its own in a `u16`.
const LETTERS_MAX: usize = 16 * 1024;

/// One message to one socket.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Letter {
    pub(crate) socket: u32,
    start: u32,
    end: u32,
}

/// The messages of one turn, in the order they were sent.
#[derive(Debug, Default)]
pub(crate) struct Outbox {
    letters: Vec<Letter>,
    bytes: Vec<u8>,
}

impl Outbox {
    pub(crate) fn has_room(&self, bytes: usize) -> bool {
        bytes <= LETTER_BYTES_MAX
            && self.bytes.len() + bytes <= LETTERS_BYTES_MAX
            && self.letters.len() < LETTERS_MAX
    }

    pub(crate) fn post<'a>(&mut self, socket: u32, slices: impl Iterator<Item = &'a [u8]>) {
        let start = self.bytes.len() as u32;
        slices.for_each(|slice| self.bytes.extend_from_slice(slice));
        self.letters.push(Letter { socket, start, end: self.bytes.len() as u32 });
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.letters.is_empty()
    }

    /// The letter at `index`, with its bytes.
    pub(crate) fn letter(&self, index: usize) -> Option<(Letter, &[u8])> {
        let letter = *self.letters.get(index)?;
        Some((letter, &self.bytes[letter.start as usize..letter.end as usize]))
    }

    pub(crate) fn clear(&mut self) {
        self.letters.clear();
        self.bytes.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn letters_keep_their_order_and_the_bound_holds() {
        let mut outbox = Outbox::default();
        outbox.post(3, [b"one ".as_slice(), b"two"].into_iter());
        outbox.post(5, [b"three".as_slice()].into_iter());
        assert_eq!(
            outbox.letter(0).map(|(letter, bytes)| (letter.socket, bytes)),
            Some((3, &b"one two"[..]))
        );
        assert_eq!(outbox.letter(1).map(|(letter, bytes)| (letter.socket, bytes)), Some((5, &b"three"[..])));
        assert!(outbox.letter(2).is_none());
        assert!(!outbox.has_room(LETTER_BYTES_MAX + 1));
        let letter = [0; LETTER_BYTES_MAX];
        for _ in 0..LETTERS_BYTES_MAX / LETTER_BYTES_MAX - 1 {
            outbox.post(1, [letter.as_slice()].into_iter());
        }
        assert!(!outbox.has_room(LETTER_BYTES_MAX));
        outbox.clear();
        assert!(outbox.is_empty() && outbox.has_room(LETTER_BYTES_MAX));
        for _ in 0..LETTERS_MAX {
            assert!(outbox.has_room(1));
            outbox.post(1, [b"x".as_slice()].into_iter());
        }
        assert!(!outbox.has_room(1));
    }
}
