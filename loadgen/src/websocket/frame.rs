//! Where does a WebSocket frame begin and end, and may it be sent at all?
//!
//! Looks at headers alone: a payload is neither kept nor copied here, so that its length needs no bound.

use std::io::Cursor;

use arrayvec::ArrayVec;
use tungstenite::protocol::frame::FrameHeader;
use tungstenite::protocol::frame::coding::{Control, Data, OpCode};

/// Longest header: two bytes, eight of length, four of mask (RFC 6455 §5.2).
pub(crate) const HEADER_BYTES_MAX: usize = 14;
/// Longest payload of a control frame (RFC 6455 §5.5).
pub(crate) const CONTROL_PAYLOAD_MAX: usize = 125;

/// A frame's header, or one to write.
pub(crate) type Header = ArrayVec<u8, HEADER_BYTES_MAX>;
/// A whole control frame.
pub(crate) type ControlFrame = ArrayVec<u8, { HEADER_BYTES_MAX + CONTROL_PAYLOAD_MAX }>;

/// What a frame is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Continuation,
    Text,
    Binary,
    Close,
    Ping,
    Pong,
}

impl Kind {
    /// Whether it may come between the fragments of a message.
    pub(crate) const fn is_control(self) -> bool {
        matches!(self, Self::Close | Self::Ping | Self::Pong)
    }

    fn of(code: OpCode) -> Option<Self> {
        match code {
            OpCode::Data(Data::Continue) => Some(Self::Continuation),
            OpCode::Data(Data::Text) => Some(Self::Text),
            OpCode::Data(Data::Binary) => Some(Self::Binary),
            OpCode::Control(Control::Close) => Some(Self::Close),
            OpCode::Control(Control::Ping) => Some(Self::Ping),
            OpCode::Control(Control::Pong) => Some(Self::Pong),
            OpCode::Data(Data::Reserved(_)) | OpCode::Control(Control::Reserved(_)) => None,
        }
    }

    const fn code(self) -> OpCode {
        match self {
            Self::Continuation => OpCode::Data(Data::Continue),
            Self::Text => OpCode::Data(Data::Text),
            Self::Binary => OpCode::Data(Data::Binary),
            Self::Close => OpCode::Control(Control::Close),
            Self::Ping => OpCode::Control(Control::Ping),
            Self::Pong => OpCode::Control(Control::Pong),
        }
    }
}

/// Who sent a frame: a client masks, a server never does (RFC 6455 §5.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sender {
    Client,
    Server,
}

/// What the header of a frame says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Frame {
    pub(crate) kind: Kind,
    /// The message ends with it.
    pub(crate) is_final: bool,
    pub(crate) mask: Option<[u8; 4]>,
    pub(crate) header_bytes: usize,
    pub(crate) payload_bytes: u64,
}

/// The rule that a frame broke.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Violation {
    /// RFC 6455 §5.2: no extension was agreed on that gives them a meaning.
    ReservedBits,
    /// RFC 6455 §5.2.
    ReservedKind,
    /// RFC 6455 §5.2: "the minimal number of bytes MUST be used", and the most significant bit is 0.
    Length,
    /// RFC 6455 §5.1.
    Unmasked,
    /// RFC 6455 §5.1.
    Masked,
    /// RFC 6455 §5.5.
    ControlTooLong,
    /// RFC 6455 §5.5.
    ControlFragmented,
    /// RFC 6455 §5.4.
    NothingToContinue,
    /// RFC 6455 §5.4.
    MessageUnfinished,
    /// RFC 6455 §5.5.1: a code of two bytes or nothing.
    CloseTooShort,
    /// RFC 6455 §7.4.
    CloseCode,
    /// RFC 6455 §5.5.1: the reason is UTF-8.
    CloseReason,
}

impl Violation {
    /// What is wrong, in words.
    pub(crate) const fn text(self) -> &'static str {
        match self {
            Self::ReservedBits => "a frame with reserved bits set",
            Self::ReservedKind => "a frame of a reserved kind",
            Self::Length => "a frame whose length is not in its shortest form",
            Self::Unmasked => "a client's frame without a mask",
            Self::Masked => "a server's frame with a mask",
            Self::ControlTooLong => "a control frame of more than 125 bytes",
            Self::ControlFragmented => "a control frame in fragments",
            Self::NothingToContinue => "a continuation of no message",
            Self::MessageUnfinished => "a new message within the fragments of another",
            Self::CloseTooShort => "a close frame of one byte",
            Self::CloseCode => "a close code that must not be sent",
            Self::CloseReason => "a close reason that is not UTF-8",
        }
    }
}

impl Frame {
    /// Reads the header at the start of `bytes`; `None` when it is not all there.
    ///
    /// # Errors
    /// The first rule found broken.
    pub(crate) fn read(bytes: &[u8], sender: Sender) -> Result<Option<Self>, Violation> {
        let mut cursor = Cursor::new(bytes);
        let (header, payload_bytes) = match FrameHeader::parse(&mut cursor) {
            Ok(Some(read)) => read,
            Ok(None) => return Ok(None),
            Err(_) => return Err(Violation::ReservedKind),
        };
        let kind = Kind::of(header.opcode).ok_or(Violation::ReservedKind)?;
        let header_bytes = cursor.position() as usize;
        if header.rsv1 || header.rsv2 || header.rsv3 {
            return Err(Violation::ReservedBits);
        }
        match (sender, header.mask) {
            (Sender::Client, None) => return Err(Violation::Unmasked),
            (Sender::Server, Some(_)) => return Err(Violation::Masked),
            (Sender::Client, Some(_)) | (Sender::Server, None) => {}
        }
        if kind.is_control() && !header.is_final {
            return Err(Violation::ControlFragmented);
        }
        if kind.is_control() && payload_bytes > CONTROL_PAYLOAD_MAX as u64 {
            return Err(Violation::ControlTooLong);
        }
        if header.len(payload_bytes) != header_bytes || payload_bytes > i64::MAX as u64 {
            return Err(Violation::Length);
        }
        Ok(Some(Self { kind, is_final: header.is_final, mask: header.mask, header_bytes, payload_bytes }))
    }

    /// Bytes of the whole frame, header and payload, when it is a control frame.
    pub(crate) fn control_bytes(&self) -> Option<usize> {
        // Checked when it was read: no longer than its bound.
        self.kind.is_control().then_some(self.header_bytes + self.payload_bytes as usize)
    }
}

/// Writes the header of a frame.
pub(crate) fn write_header(kind: Kind, is_final: bool, mask: Option<[u8; 4]>, payload_bytes: u64) -> Header {
    let header = FrameHeader { is_final, opcode: kind.code(), mask, ..FrameHeader::default() };
    let mut bytes = [0; HEADER_BYTES_MAX];
    let mut room = Cursor::new(bytes.as_mut_slice());
    header.format(payload_bytes, &mut room).expect("room for the longest header");
    let length = room.position() as usize;
    bytes[..length].iter().copied().collect()
}

/// Writes a control frame, its payload cut at the bound.
pub(crate) fn write_control(kind: Kind, payload: &[u8], mask: Option<[u8; 4]>) -> ControlFrame {
    let payload = &payload[..payload.len().min(CONTROL_PAYLOAD_MAX)];
    let mut frame: ControlFrame = write_header(kind, true, mask, payload.len() as u64)
        .into_iter()
        .chain(payload.iter().copied())
        .collect();
    if let Some(mask) = mask {
        let header_bytes = frame.len() - payload.len();
        apply_mask(&mut frame[header_bytes..], mask, 0);
    }
    frame
}

/// Puts a mask on, or takes it off. `bytes` lie `offset` bytes into the payload (RFC 6455 §5.3).
pub(crate) fn apply_mask(bytes: &mut [u8], mask: [u8; 4], offset: u64) {
    let mut turned = mask;
    turned.rotate_left((offset % 4) as usize);
    let [a, b, c, d] = turned;
    let doubled = u64::from_ne_bytes([a, b, c, d, a, b, c, d]);
    let (words, rest) = bytes.as_chunks_mut::<8>();
    for word in words {
        *word = (u64::from_ne_bytes(*word) ^ doubled).to_ne_bytes();
    }
    for (byte, key) in rest.iter_mut().zip(turned.iter().cycle()) {
        *byte ^= key;
    }
}

/// Whether the frames of one side make messages, one after the other.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Sequence {
    #[default]
    Between,
    WithinMessage,
}

impl Sequence {
    /// Takes the next frame into account.
    ///
    /// # Errors
    /// It may not come here.
    pub(crate) fn accept(&mut self, frame: &Frame) -> Result<(), Violation> {
        match (frame.kind, *self) {
            (Kind::Close | Kind::Ping | Kind::Pong, _) => return Ok(()),
            (Kind::Continuation, Self::Between) => return Err(Violation::NothingToContinue),
            (Kind::Text | Kind::Binary, Self::WithinMessage) => return Err(Violation::MessageUnfinished),
            (Kind::Continuation, Self::WithinMessage) | (Kind::Text | Kind::Binary, Self::Between) => {}
        }
        *self = if frame.is_final { Self::Between } else { Self::WithinMessage };
        Ok(())
    }
}

/// Reads the unmasked payload of a close frame: its code, if there is one.
///
/// # Errors
/// It is none that may be sent.
pub(crate) fn read_close(payload: &[u8]) -> Result<Option<u16>, Violation> {
    let (code, reason) = match payload {
        [] => return Ok(None),
        [_] => return Err(Violation::CloseTooShort),
        [high, low, reason @ ..] => (u16::from_be_bytes([*high, *low]), reason),
    };
    // RFC 6455 §7.4.1 keeps 1004 and forbids 1005, 1006 and 1015 in a frame; 1012 to 1014 were registered since.
    match code {
        1000..=1003 | 1007..=1014 | 3000..=4999 if std::str::from_utf8(reason).is_ok() => Ok(Some(code)),
        1000..=1003 | 1007..=1014 | 3000..=4999 => Err(Violation::CloseReason),
        _ => Err(Violation::CloseCode),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_examples_of_the_standard_are_read() {
        // RFC 6455 §5.7.
        let examples: [(&[u8], Sender, Kind, bool, u64); 7] = [
            (b"\x81\x05Hello", Sender::Server, Kind::Text, true, 5),
            (b"\x81\x85\x37\xfa\x21\x3d\x7f\x9f\x4d\x51\x58", Sender::Client, Kind::Text, true, 5),
            (b"\x01\x03Hel", Sender::Server, Kind::Text, false, 3),
            (b"\x80\x02lo", Sender::Server, Kind::Continuation, true, 2),
            (b"\x89\x05Hello", Sender::Server, Kind::Ping, true, 5),
            (b"\x82\x7e\x01\x00", Sender::Server, Kind::Binary, true, 256),
            (b"\x82\x7f\0\0\0\0\0\x01\0\0", Sender::Server, Kind::Binary, true, 65_536),
        ];
        for (bytes, sender, kind, is_final, payload_bytes) in examples {
            let frame = Frame::read(bytes, sender).expect("a frame").expect("its header");
            assert_eq!((frame.kind, frame.is_final, frame.payload_bytes), (kind, is_final, payload_bytes));
            for length in 0..frame.header_bytes {
                assert_eq!(Frame::read(&bytes[..length], sender), Ok(None), "{length} bytes of {bytes:?}");
            }
            let written = write_header(kind, is_final, frame.mask, payload_bytes);
            assert_eq!(written.as_slice(), &bytes[..frame.header_bytes]);
        }
    }

    #[test]
    fn each_rule_refuses_what_breaks_it() {
        let client: [(&[u8], Violation); 1] = [(b"\x81\x05Hello", Violation::Unmasked)];
        let server: [(&[u8], Violation); 12] = [
            (b"\xc1\x00", Violation::ReservedBits),
            (b"\xa1\x00", Violation::ReservedBits),
            (b"\x91\x00", Violation::ReservedBits),
            (b"\x83\x00", Violation::ReservedKind),
            (b"\x8b\x00", Violation::ReservedKind),
            (b"\x81\x85\x37\xfa\x21\x3d", Violation::Masked),
            (b"\x09\x00", Violation::ControlFragmented),
            (b"\x89\x7e\x00\x7e", Violation::ControlTooLong),
            (b"\x82\x7e\x00\x7d", Violation::Length),
            (b"\x82\x7f\0\0\0\0\0\0\xff\xff", Violation::Length),
            (b"\x82\x7f\x80\0\0\0\0\0\0\0", Violation::Length),
            (b"\x88\x7f\0\0\0\0\0\0\0\x7e", Violation::ControlTooLong),
        ];
        let cases = client
            .into_iter()
            .map(|case| (Sender::Client, case))
            .chain(server.into_iter().map(|case| (Sender::Server, case)));
        for (sender, (bytes, violation)) in cases {
            assert_eq!(Frame::read(bytes, sender), Err(violation), "{bytes:02x?}");
        }
    }

    #[test]
    fn fragments_come_in_order_and_control_frames_between_them() {
        let check = |kinds: &[(Kind, bool)], expected: Result<(), Violation>| {
            let mut sequence = Sequence::default();
            let outcome = kinds.iter().try_for_each(|&(kind, is_final)| {
                sequence.accept(&Frame { kind, is_final, mask: None, header_bytes: 2, payload_bytes: 0 })
            });
            assert_eq!(outcome, expected, "{kinds:?}");
        };
        check(&[(Kind::Text, true), (Kind::Binary, true)], Ok(()));
        check(
            &[
                (Kind::Text, false),
                (Kind::Ping, true),
                (Kind::Continuation, false),
                (Kind::Continuation, true),
                (Kind::Text, true),
            ],
            Ok(()),
        );
        check(&[(Kind::Continuation, true)], Err(Violation::NothingToContinue));
        check(&[(Kind::Text, true), (Kind::Continuation, true)], Err(Violation::NothingToContinue));
        check(&[(Kind::Text, false), (Kind::Binary, true)], Err(Violation::MessageUnfinished));
    }

    #[test]
    fn a_mask_taken_off_in_any_pieces_gives_the_payload() {
        // RFC 6455 §5.7: "Hello" under this mask.
        let mask = [0x37, 0xfa, 0x21, 0x3d];
        let mut hello = *b"\x7f\x9f\x4d\x51\x58";
        apply_mask(&mut hello, mask, 0);
        assert_eq!(&hello, b"Hello");
        let payload: Vec<u8> = (0..100).collect();
        for cut in 0..=payload.len() {
            let mut bytes = payload.clone();
            apply_mask(&mut bytes, mask, 0);
            let (front, back) = bytes.split_at_mut(cut);
            apply_mask(front, mask, 0);
            apply_mask(back, mask, cut as u64);
            assert_eq!(bytes, payload, "cut at {cut}");
        }
    }

    #[test]
    fn control_frames_are_whole_and_masked_as_their_sender_must() {
        assert_eq!(write_control(Kind::Pong, b"Hello", None).as_slice(), b"\x8a\x05Hello");
        // RFC 6455 §5.7.
        let masked = write_control(Kind::Pong, b"Hello", Some([0x37, 0xfa, 0x21, 0x3d]));
        assert_eq!(masked.as_slice(), b"\x8a\x85\x37\xfa\x21\x3d\x7f\x9f\x4d\x51\x58");
        assert_eq!(write_control(Kind::Ping, &[b'x'; 200], None).len(), 2 + CONTROL_PAYLOAD_MAX);
    }

    #[test]
    fn only_codes_that_may_be_sent_close() {
        let check = |code: u16, reason: &[u8]| read_close(&[&code.to_be_bytes(), reason].concat());
        assert_eq!(read_close(b""), Ok(None));
        assert_eq!(read_close(b"\x03"), Err(Violation::CloseTooShort));
        for code in [1000, 1001, 1002, 1003, 1007, 1011, 1014, 3000, 4999] {
            assert_eq!(check(code, b"why"), Ok(Some(code)));
        }
        for code in [0, 999, 1004, 1005, 1006, 1015, 2000, 2999, 5000, 65_535] {
            assert_eq!(check(code, b""), Err(Violation::CloseCode), "{code}");
        }
        assert_eq!(check(1000, b"\xff"), Err(Violation::CloseReason));
    }
}
