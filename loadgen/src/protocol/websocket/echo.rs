//! Has the message come back whole and unchanged, and what else did the server say?
//!
//! Pure, and keeps no payload: a message in any fragments is compared where it lies, so that only its length bounds it.

use arrayvec::ArrayVec;

use crate::failure::Failure;
use crate::protocol::http::response::Fault;
use crate::protocol::message::Message;
use crate::protocol::websocket::wrong_echo;
use crate::websocket::frame::{
    CONTROL_PAYLOAD_MAX, ControlFrame, Frame, Kind, Sender, Sequence, Violation, read_close,
};

/// Frames in a row that bring no message further: pings, and empty fragments. Ten a second over the longest time-out
/// there is, one hour; a server that sends more keeps us busy for nothing.
const IDLE_FRAMES_MAX: u32 = 36_000;

/// How far one connection's frames have come.
#[derive(Debug, Default)]
pub(crate) struct Echo {
    sequence: Sequence,
    /// Payload left of the data frame that has begun.
    left: u64,
    /// The begin of a header or of a control frame whose rest has not come.
    begun: ControlFrame,
    awaited: Option<Awaited>,
    idle_frames: u32,
}

/// The message that is to come back.
#[derive(Clone, Copy, Debug)]
struct Awaited {
    kind: Kind,
    received: usize,
    has_begun: bool,
}

/// What came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Event {
    /// Nothing that must be acted on.
    Nothing,
    /// To be answered with this payload.
    Ping(ArrayVec<u8, CONTROL_PAYLOAD_MAX>),
    /// The server ends the conversation, with this code.
    Close(Option<u16>),
}

impl From<Violation> for Fault {
    fn from(violation: Violation) -> Self {
        Self { kind: Failure::BadFrame, text: violation.text() }
    }
}

impl Echo {
    /// Awaits the next message.
    pub(crate) fn expect(&mut self, kind: Kind) {
        self.awaited = Some(Awaited { kind, received: 0, has_begun: false });
        self.idle_frames = 0;
    }

    /// Whether a message is awaited that has not come back whole.
    pub(crate) fn is_awaited(&self) -> bool {
        self.awaited.is_some()
    }

    /// Whether the last message has come back.
    pub(crate) fn is_whole(&self) -> bool {
        self.awaited.is_none()
    }

    /// Whether a part of the awaited message has come.
    pub(crate) fn has_begun(&self) -> bool {
        self.awaited.is_some_and(|awaited| awaited.has_begun)
    }

    /// What the end of the connection means, without a close frame before it.
    pub(crate) fn ended(&self) -> Fault {
        match self.has_begun() {
            true => Fault { kind: Failure::ClosedEarly, text: "closed within the message that came back" },
            false => Fault { kind: Failure::ClosedUnanswered, text: "closed before the message came back" },
        }
    }

    /// Reads on in `bytes`, which must not be empty, and takes what was read off their front.
    ///
    /// # Errors
    /// The server broke a rule, or what comes is not the message.
    pub(crate) fn read(
        &mut self,
        bytes: &mut &[u8],
        message: &Message,
        filler: &[u8],
    ) -> Result<Event, Fault> {
        if self.left > 0 {
            let taken = self.left.min(bytes.len() as u64) as usize;
            self.compare(&bytes[..taken], message, filler)?;
            self.left -= taken as u64;
            *bytes = &bytes[taken..];
            self.end_fragment(filler)?;
            return Ok(Event::Nothing);
        }
        if self.begun.is_empty() {
            // In one piece, as nearly all are: read where it lies.
            let Some((frame, taken)) = whole_frame(bytes)? else {
                self.begun.extend(bytes.iter().copied());
                *bytes = &[];
                return Ok(Event::Nothing);
            };
            let event = self.begin(&frame, &bytes[frame.header_bytes..taken], filler)?;
            *bytes = &bytes[taken..];
            return Ok(event);
        }
        // One more byte at a time: a frame that came in parts is short and rare.
        self.begun.push(bytes[0]);
        *bytes = &bytes[1..];
        let Some((frame, taken)) = whole_frame(&self.begun)? else { return Ok(Event::Nothing) };
        let begun = std::mem::take(&mut self.begun);
        self.begin(&frame, &begun[frame.header_bytes..taken], filler)
    }

    /// Acts on the header of a data frame, or on a whole control frame.
    fn begin(&mut self, frame: &Frame, payload: &[u8], filler: &[u8]) -> Result<Event, Fault> {
        self.sequence.accept(frame)?;
        if frame.kind.is_control() || frame.payload_bytes == 0 {
            self.idle_frames += 1;
            if self.idle_frames > IDLE_FRAMES_MAX {
                return Err(Fault { kind: Failure::BadFrame, text: "pings or empty fragments without end" });
            }
        }
        match frame.kind {
            Kind::Ping => return Ok(Event::Ping(payload.iter().copied().collect())),
            Kind::Close => return Ok(Event::Close(read_close(payload)?)),
            Kind::Pong => return Ok(Event::Nothing),
            Kind::Continuation | Kind::Text | Kind::Binary => {}
        }
        let Some(awaited) = &mut self.awaited else {
            return Err(Fault { kind: Failure::Surplus, text: "a message that was not sent" });
        };
        let fits = (filler.len() - awaited.received) as u64 >= frame.payload_bytes;
        let is_kind = frame.kind == Kind::Continuation || frame.kind == awaited.kind;
        if !fits || !is_kind {
            return Err(wrong_echo());
        }
        awaited.has_begun = true;
        self.left = frame.payload_bytes;
        self.end_fragment(filler)?;
        Ok(Event::Nothing)
    }

    fn compare(&mut self, bytes: &[u8], message: &Message, filler: &[u8]) -> Result<(), Fault> {
        let awaited = self.awaited.as_mut().ok_or_else(wrong_echo)?;
        if !message.holds(filler, awaited.received, bytes) {
            return Err(wrong_echo());
        }
        awaited.received += bytes.len();
        Ok(())
    }

    /// Ends the message if its last fragment is all there.
    fn end_fragment(&mut self, filler: &[u8]) -> Result<(), Fault> {
        if self.left > 0 || self.sequence == Sequence::WithinMessage {
            return Ok(());
        }
        match self.awaited.take() {
            Some(awaited) if awaited.received == filler.len() => Ok(()),
            _ => Err(wrong_echo()),
        }
    }
}

/// The frame at the start of `bytes` and how many of them it needs at once: a header, or a whole control frame.
fn whole_frame(bytes: &[u8]) -> Result<Option<(Frame, usize)>, Violation> {
    let Some(frame) = Frame::read(bytes, Sender::Server)? else { return Ok(None) };
    let needed = frame.control_bytes().unwrap_or(frame.header_bytes);
    Ok((bytes.len() >= needed).then_some((frame, needed)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::message::filler;
    use crate::websocket::frame::{write_control, write_header};

    const LENGTH: usize = 300;

    fn frame(kind: Kind, is_final: bool, payload: &[u8]) -> Vec<u8> {
        [&write_header(kind, is_final, None, payload.len() as u64), payload].concat()
    }

    /// What `sent` comes to when it arrives in two pieces, cut at every place: events, and a fault or whether it is whole.
    fn check(sent: &[u8], events: &[Event], outcome: Result<bool, Failure>) {
        let (message, filler) = (Message::new(7), filler(LENGTH));
        for cut in 0..=sent.len() {
            let mut echo = Echo::default();
            echo.expect(Kind::Binary);
            let mut seen = Vec::new();
            let mut read = |mut bytes: &[u8]| {
                while !bytes.is_empty() {
                    match echo.read(&mut bytes, &message, &filler)? {
                        Event::Nothing => {}
                        event => seen.push(event),
                    }
                }
                Ok(())
            };
            let (front, back) = sent.split_at(cut);
            let read: Result<(), Fault> = read(front).and_then(|()| read(back));
            assert_eq!(read.map(|()| echo.is_whole()).map_err(|fault| fault.kind), outcome, "cut at {cut}");
            assert_eq!(seen, events, "cut at {cut}");
        }
    }

    fn message() -> Vec<u8> {
        Message::new(7).from(&filler(LENGTH), 0).concat()
    }

    fn ping(payload: &[u8]) -> Event {
        Event::Ping(payload.iter().copied().collect())
    }

    #[test]
    fn a_message_is_whole_in_one_frame_and_in_fragments() {
        let all = message();
        check(&frame(Kind::Binary, true, &all), &[], Ok(true));
        let fragments = [
            frame(Kind::Binary, false, &all[..1]),
            frame(Kind::Continuation, false, &[]),
            frame(Kind::Ping, true, b"still there?"),
            frame(Kind::Continuation, false, &all[1..200]),
            frame(Kind::Pong, true, b""),
            frame(Kind::Continuation, true, &all[200..]),
            frame(Kind::Ping, true, b""),
        ];
        check(&fragments.concat(), &[ping(b"still there?"), ping(b"")], Ok(true));
        check(&fragments[..4].concat(), &[ping(b"still there?")], Ok(false));
    }

    #[test]
    fn what_is_not_the_message_is_a_wrong_echo() {
        let all = message();
        let mut changed = all.clone();
        changed[250] ^= 1;
        let longer = [&all[..], b"x"].concat();
        for wrong in [
            frame(Kind::Binary, true, &changed),
            frame(Kind::Binary, true, &all[..299]),
            frame(Kind::Binary, true, &longer),
            frame(Kind::Text, true, &all),
            frame(Kind::Binary, true, &[]),
            [frame(Kind::Binary, false, &all[..200]), frame(Kind::Continuation, true, &all[201..])].concat(),
        ] {
            check(&wrong, &[], Err(Failure::WrongEcho));
        }
    }

    #[test]
    fn a_second_message_belongs_to_no_request() {
        let twice = frame(Kind::Binary, true, &message()).repeat(2);
        check(&twice, &[], Err(Failure::Surplus));
    }

    #[test]
    fn broken_rules_and_closes_are_told() {
        check(b"\x82\x85\0\0\0\0", &[], Err(Failure::BadFrame));
        check(&frame(Kind::Continuation, true, b"x"), &[], Err(Failure::BadFrame));
        check(&write_control(Kind::Close, b"\x03", None), &[], Err(Failure::BadFrame));
        let close = write_control(Kind::Close, b"\x03\xf3oops", None);
        check(&close, &[Event::Close(Some(1011))], Ok(false));
        check(&write_control(Kind::Close, b"", None), &[Event::Close(None)], Ok(false));
    }

    #[test]
    fn no_bytes_make_it_panic_or_stand_still() {
        let (message, filler) = (Message::new(7), filler(20));
        let mut state = 1_u64;
        for round in 0..20_000 {
            let bytes: Vec<u8> = (0..round % 40)
                .map(|_| {
                    // Knuth's MMIX generator.
                    state =
                        state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                    // Half of them as frames often begin.
                    match state >> 63 {
                        0 => [0x02, 0x82, 0x80, 0x89, 0x88, 0x14][(state >> 33) as usize % 6],
                        _ => (state >> 56) as u8,
                    }
                })
                .collect();
            let mut echo = Echo::default();
            echo.expect(Kind::Binary);
            let mut rest = bytes.as_slice();
            while let before @ 1.. = rest.len() {
                if echo.read(&mut rest, &message, &filler).is_err() {
                    break;
                }
                assert!(rest.len() < before, "{bytes:02x?}");
            }
        }
    }

    #[test]
    fn a_server_that_only_pings_is_given_up() {
        let (message, filler, pings) = (Message::new(7), filler(LENGTH), frame(Kind::Ping, true, b""));
        let mut echo = Echo::default();
        echo.expect(Kind::Binary);
        let mut read = || echo.read(&mut &pings[..], &message, &filler).map_err(|fault| fault.kind);
        for _ in 0..IDLE_FRAMES_MAX {
            assert_eq!(read(), Ok(ping(b"")));
        }
        assert_eq!(read(), Err(Failure::BadFrame));
    }
}
