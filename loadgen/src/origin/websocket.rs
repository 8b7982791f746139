//! How does the origin send WebSocket messages back?
//!
//! Frame by frame, as they come: a message is never held, so that its length needs no bound. Never checks that a text is
//! UTF-8: it is handed back unread.

use std::io;

use runtime::{Chunk, Core};

use super::{IDLE_MAX, Service};
use crate::connection::transport::Transport;
use crate::websocket::frame::{
    Frame, Kind, Sender, Sequence, Violation, apply_mask, read_close, write_control, write_header,
};

/// A protocol error (RFC 6455 §7.4.1).
const CLOSE_PROTOCOL_ERROR: u16 = 1002;

/// Serves a connection whose handshake is done; `rest` came in behind it.
pub(super) async fn echo(
    core: &Core,
    stream: &Transport,
    service: &Service,
    rest: Option<Chunk>,
) -> io::Result<()> {
    let (mut echo, mut out) = (Echo::default(), Vec::new());
    let mut received = rest;
    loop {
        let mut chunk = match received.take() {
            Some(chunk) => chunk,
            None => match receive(core, stream, &[]).await? {
                Some(chunk) => chunk,
                None => return stream.shutdown_write().await,
            },
        };
        let consumed = echo.answer(&chunk, &mut out);
        chunk.consume(consumed);
        let begun = chunk.to_vec();
        drop(chunk);
        if !out.is_empty() {
            service.hold(core).await;
            stream.set_deadline(core.now() + IDLE_MAX);
            stream.send_all(&out).await?;
            out.clear();
        }
        if echo.is_over {
            return stream.shutdown_write().await;
        }
        core.yield_now().await;
        if !begun.is_empty() {
            // A header or a control frame came in parts.
            received = receive(core, stream, &begun).await?;
            if received.is_none() {
                return stream.shutdown_write().await;
            }
        }
    }
}

async fn receive(core: &Core, stream: &Transport, begun: &[u8]) -> io::Result<Option<Chunk>> {
    stream.set_deadline(core.now() + IDLE_MAX);
    if begun.is_empty() { stream.recv().await } else { stream.recv_behind(begun).await }
}

/// How far the client's frames have come.
#[derive(Debug, Default)]
struct Echo {
    sequence: Sequence,
    /// The data frame whose payload comes next.
    open: Option<Open>,
    is_over: bool,
}

/// A data frame whose header has gone back already.
#[derive(Debug)]
struct Open {
    mask: [u8; 4],
    /// Bytes of its payload that were sent back.
    offset: u64,
    left: u64,
}

impl Echo {
    /// Writes to `out` what answers `bytes`, never more than they are and a close frame; says how many of them are done
    /// with. The others must be there again, with more behind them, at the next call.
    fn answer(&mut self, bytes: &[u8], out: &mut Vec<u8>) -> usize {
        let mut consumed = 0;
        while !self.is_over {
            let rest = &bytes[consumed..];
            let taken = match &mut self.open {
                Some(open) => {
                    let taken = (rest.len() as u64).min(open.left) as usize;
                    let begin = out.len();
                    out.extend_from_slice(&rest[..taken]);
                    apply_mask(&mut out[begin..], open.mask, open.offset);
                    open.offset += taken as u64;
                    open.left -= taken as u64;
                    if open.left == 0 {
                        self.open = None;
                    }
                    taken
                }
                None => match self.begin(rest, out) {
                    Ok(taken) => taken,
                    Err(violation) => {
                        let code = CLOSE_PROTOCOL_ERROR.to_be_bytes();
                        let payload = [&code, violation.text().as_bytes()].concat();
                        out.extend_from_slice(&write_control(Kind::Close, &payload, None));
                        self.is_over = true;
                        bytes.len() - consumed
                    }
                },
            };
            consumed += taken;
            if taken == 0 {
                break;
            }
        }
        consumed
    }

    /// Answers the header of a data frame, or a whole control frame, at the start of `bytes`; says how long that was.
    fn begin(&mut self, bytes: &[u8], out: &mut Vec<u8>) -> Result<usize, Violation> {
        let Some(frame) = Frame::read(bytes, Sender::Client)? else { return Ok(0) };
        self.sequence.accept(&frame)?;
        // Without a mask it would have been refused.
        let mask = frame.mask.unwrap_or_default();
        let Some(frame_bytes) = frame.control_bytes() else {
            out.extend_from_slice(&write_header(frame.kind, frame.is_final, None, frame.payload_bytes));
            self.open =
                (frame.payload_bytes > 0).then_some(Open { mask, offset: 0, left: frame.payload_bytes });
            return Ok(frame.header_bytes);
        };
        if bytes.len() < frame_bytes {
            return Ok(0);
        }
        let mut payload = bytes[frame.header_bytes..frame_bytes].to_vec();
        apply_mask(&mut payload, mask, 0);
        match frame.kind {
            Kind::Ping => out.extend_from_slice(&write_control(Kind::Pong, &payload, None)),
            Kind::Close => {
                // RFC 6455 §5.5.1: the answer typically repeats the code.
                let code = read_close(&payload)?.map(u16::to_be_bytes);
                let payload = code.as_ref().map_or(&[][..], |code| code);
                out.extend_from_slice(&write_control(Kind::Close, payload, None));
                self.is_over = true;
            }
            // Nobody asked for it, which is allowed (RFC 6455 §5.5.3).
            Kind::Pong | Kind::Continuation | Kind::Text | Kind::Binary => {}
        }
        Ok(frame_bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MASK: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];

    fn frame(kind: Kind, is_final: bool, payload: &[u8]) -> Vec<u8> {
        let mut bytes = write_header(kind, is_final, Some(MASK), payload.len() as u64).to_vec();
        let begin = bytes.len();
        bytes.extend_from_slice(payload);
        apply_mask(&mut bytes[begin..], MASK, 0);
        bytes
    }

    /// Feeds `bytes` in two pieces, cut at every place.
    fn check(bytes: &[u8], expected: &[u8], is_over: bool) {
        for cut in 0..=bytes.len() {
            let (mut echo, mut out) = (Echo::default(), Vec::new());
            let consumed = echo.answer(&bytes[..cut], &mut out);
            let consumed =
                if echo.is_over { consumed } else { consumed + echo.answer(&bytes[consumed..], &mut out) };
            assert_eq!((out.as_slice(), echo.is_over), (expected, is_over), "cut at {cut}");
            assert!(is_over || consumed == bytes.len(), "cut at {cut}: {consumed}");
        }
    }

    #[test]
    fn messages_come_back_in_the_fragments_they_came_in() {
        let long = [b'y'; 300];
        let sent = [
            frame(Kind::Text, true, b"Hello"),
            frame(Kind::Binary, false, &long),
            frame(Kind::Ping, true, b"there?"),
            frame(Kind::Continuation, true, b""),
            frame(Kind::Pong, true, b"unasked"),
        ]
        .concat();
        let echoed = [&b"\x81\x05Hello\x02\x7e\x01\x2c"[..], &long, b"\x8a\x06there?\x80\x00"].concat();
        check(&sent, &echoed, false);
    }

    #[test]
    fn no_bytes_make_it_panic_or_answer_more_than_came() {
        let mut state = 1_u64;
        for round in 0..20_000 {
            let bytes: Vec<u8> = (0..round % 40)
                .map(|_| {
                    // Knuth's MMIX generator.
                    state =
                        state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                    // Half of them as frames often begin.
                    if state >> 63 == 0 {
                        [0x81, 0x82, 0x80, 0x89, 0x88, 0xfe][(state >> 33) as usize % 6]
                    } else {
                        (state >> 56) as u8
                    }
                })
                .collect();
            let (mut echo, mut out) = (Echo::default(), Vec::new());
            let consumed = echo.answer(&bytes, &mut out);
            assert!(consumed <= bytes.len() && (echo.is_over || out.len() <= bytes.len()), "{bytes:02x?}");
        }
    }

    #[test]
    fn a_close_is_answered_with_its_code_and_is_the_end() {
        check(&frame(Kind::Close, true, b"\x03\xe8bye"), b"\x88\x02\x03\xe8", true);
        check(&frame(Kind::Close, true, b""), b"\x88\x00", true);
    }

    #[test]
    fn what_breaks_a_rule_is_told_and_is_the_end() {
        for (bytes, violation) in [
            (b"\x81\x05Hello".to_vec(), Violation::Unmasked),
            (frame(Kind::Continuation, true, b"x"), Violation::NothingToContinue),
            (frame(Kind::Close, true, b"\x00\x00"), Violation::CloseCode),
        ] {
            let reason = [&b"\x03\xea"[..], violation.text().as_bytes()].concat();
            let told = write_control(Kind::Close, &reason, None);
            check(&bytes, &told, true);
        }
    }
}
