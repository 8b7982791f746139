//! How does a body get from one connection to the other? Buffer by buffer, never more than one at a time.
//!
//! Never holds a body whole: a receiver that does not read stops the sender through the kernel's own windows.

use std::cell::Cell;
use std::io::{self, IoSlice};
use std::num::NonZeroUsize;
use std::time::Duration;

use arrayvec::ArrayVec;
use proto::http1::chunked::{CHUNK_HEADER_BYTES_MAX, ChunkRejected, LAST_CHUNK, Mode, chunk_header};
use runtime::counter::Counter;
use runtime::{Chunk, Core, Instant};

use crate::access::Note;
use crate::body::{Body, RANGES_MAX, Ranges};
use crate::core_main::deadline;
use crate::wire::Wire;

/// A message of up to this many bytes is put together in one piece. The kernel spends more on a second slice than
/// copying its bytes costs.
const ASSEMBLED_BYTES_MAX: usize = 2 * 1024;

/// Bytes that one core may set aside for receivers that do not read; beyond, they hold buffers of the pool.
const SET_ASIDE_BYTES_MAX: usize = 64 << 20;

/// How the bytes of a body are written to the receiving side.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Coding {
    /// As they come, chunk framing included.
    AsReceived,
    /// Data alone: chunk framing is taken off.
    DataOnly,
    /// Data put into chunks here.
    Chunks,
}

impl Coding {
    pub(crate) fn mode(self) -> Mode {
        match self {
            Self::AsReceived => Mode::Framed,
            Self::DataOnly | Self::Chunks => Mode::DataOnly,
        }
    }
}

/// Why a relay ended early.
#[derive(Debug)]
pub(crate) enum Broken {
    /// The sending side failed or ran into its deadline.
    Source(io::Error),
    /// The sending side is slower than [`Way::bytes_per_second_min`].
    Slow,
    /// The sending side closed before the body's end.
    Truncated,
    /// The sending side's chunks break a rule.
    Malformed(ChunkRejected),
    /// The receiving side failed or ran into its deadline.
    Sink(io::Error),
}

/// Bytes of one core set aside now.
#[derive(Debug, Default)]
pub(crate) struct SetAside(Cell<usize>);

impl SetAside {
    /// A copy of bytes whose receiver does not take them, unless there are too many already.
    pub(crate) fn copy(&self, bytes: &[u8]) -> Option<Aside<'_>> {
        (self.0.get() < SET_ASIDE_BYTES_MAX).then(|| Aside::new(bytes.to_vec(), self))
    }
}

/// A part of a message that its receiver does not take, in memory of its own.
pub(crate) struct Aside<'a> {
    bytes: Vec<u8>,
    account: &'a SetAside,
}

impl<'a> Aside<'a> {
    fn new(bytes: Vec<u8>, account: &'a SetAside) -> Self {
        account.0.set(account.0.get() + bytes.len());
        Self { bytes, account }
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        &self.bytes
    }
}

impl Drop for Aside<'_> {
    fn drop(&mut self) {
        self.account.0.set(self.account.0.get() - self.bytes.len());
    }
}

/// What goes out in one send: a text, and stretches of a received buffer behind it.
pub(crate) struct Parcel<'a> {
    pub(crate) text: &'a [u8],
    /// How much of the text is a message's head; the rest is body.
    pub(crate) head_bytes: usize,
    /// The received buffer; gone once it was set aside or nothing of it is left.
    pub(crate) chunk: Option<Chunk>,
    /// Where in the buffer the bytes begin that `ranges` speaks of.
    pub(crate) body_start: usize,
    pub(crate) ranges: &'a Ranges,
    pub(crate) coding: Coding,
    /// Bytes of the buffer that are dealt with once the parcel is sent.
    pub(crate) consumed: usize,
}

impl Parcel<'_> {
    /// Sends what the kernel takes at once, without the first `sent` bytes; true when all of it is gone. Slices live
    /// on the stack, never across a wait.
    pub(crate) fn try_send(&self, sink: &Wire, sent: &mut usize) -> io::Result<bool> {
        if self.ranges.is_empty() {
            // Nearly every small message: its head has been put together with its body.
            return send_slices(sink, &mut [IoSlice::new(self.text)], sent);
        }
        let mut header = [0; CHUNK_HEADER_BYTES_MAX];
        let mut slices = self.slices(&mut header);
        send_slices(sink, &mut slices, sent)
    }

    fn slices<'s>(
        &'s self,
        header: &'s mut [u8; CHUNK_HEADER_BYTES_MAX],
    ) -> ArrayVec<IoSlice<'s>, { RANGES_MAX + 3 }> {
        let mut slices = ArrayVec::new();
        if !self.text.is_empty() {
            slices.push(IoSlice::new(self.text));
        }
        let Some(chunk) = &self.chunk else { return slices };
        // An empty chunk would end the body.
        let Some(bytes) = NonZeroUsize::new(self.body_bytes()) else { return slices };
        if self.coding == Coding::Chunks {
            slices.push(IoSlice::new(chunk_header(bytes, header)));
        }
        let body = &chunk[self.body_start..];
        slices.extend(self.ranges.iter().map(|range| IoSlice::new(&body[range.clone()])));
        if self.coding == Coding::Chunks {
            slices.push(IoSlice::new(b"\r\n"));
        }
        slices
    }

    pub(crate) fn body_bytes(&self) -> usize {
        self.ranges.iter().map(|range| range.len()).sum()
    }

    /// Copies what is left, if nothing of the buffer is needed beyond it, so that the buffer can go back.
    fn set_aside(&mut self, sent: usize) -> Option<Vec<u8>> {
        self.chunk.as_ref().filter(|chunk| chunk.len() == self.consumed)?;
        let mut header = [0; CHUNK_HEADER_BYTES_MAX];
        let whole: Vec<u8> =
            self.slices(&mut header).iter().flat_map(|slice| slice.iter().copied()).skip(sent).collect();
        self.chunk = None;
        Some(whole)
    }

    /// What was received beyond the parcel.
    pub(crate) fn into_rest(self) -> Option<Chunk> {
        let mut chunk = self.chunk?;
        chunk.consume(self.consumed);
        (!chunk.is_empty()).then_some(chunk)
    }
}

/// How fast a source is. Its own time alone counts, not the time in which the sink took nothing.
#[derive(Default)]
pub(crate) struct Speed {
    waited: Duration,
    bytes: u64,
}

impl Speed {
    /// How much longer the source may take for its next bytes.
    fn left(&self, way: &Way<'_>) -> Duration {
        let Some(earned) = self.bytes.checked_div(u64::from(way.bytes_per_second_min)) else {
            return Duration::MAX;
        };
        (way.recv_timeout + Duration::from_secs(earned)).saturating_sub(self.waited)
    }
}

/// One direction of an exchange.
pub(crate) struct Way<'a> {
    pub(crate) core: &'a Core,
    pub(crate) source: &'a Wire,
    pub(crate) sink: &'a Wire,
    /// Longest wait for the next bytes of the source.
    pub(crate) recv_timeout: Duration,
    /// Bytes that each second must bring on average, once the source has been waited for that long; zero for any.
    pub(crate) bytes_per_second_min: u32,
    /// Longest wait for the sink to take bytes.
    pub(crate) send_timeout: Duration,
    /// The end of the exchange, whatever happens.
    pub(crate) total: Instant,
    /// Counters of the bytes received from the source, and of those sent to the sink: all, and a body's alone.
    pub(crate) received: Option<[&'a Counter; 2]>,
    pub(crate) sent: Option<[&'a Counter; 2]>,
    /// Who is to know of them besides, if a log wants the exchange.
    pub(crate) note: Option<&'a Note>,
    pub(crate) set_aside: &'a SetAside,
}

impl Way<'_> {
    /// Moves the rest of `body`, beginning with `at_hand`; `ranges` is memory to work in. Gives back bytes received beyond
    /// the body's end.
    pub(crate) async fn relay(
        &self,
        body: &mut Body,
        ranges: &mut Ranges,
        coding: Coding,
        mut at_hand: Option<Chunk>,
    ) -> Result<Option<Chunk>, Broken> {
        let mut speed = Speed::default();
        let mut mode = self.mode(body, coding);
        while !body.is_done() {
            let chunk = match at_hand.take() {
                Some(chunk) => chunk,
                // Beside this task's memory, which few need for that.
                None if mode.is_moving() => {
                    mode = Box::pin(self.splice(body, &mut speed)).await?;
                    continue;
                }
                None => match self.recv(&mut speed).await? {
                    Some(chunk) => {
                        mode = mode.after(chunk.len());
                        chunk
                    }
                    None => {
                        body.end().map_err(|_| Broken::Truncated)?;
                        break;
                    }
                },
            };
            let consumed = body.pass(&chunk, coding.mode(), ranges).map_err(Broken::Malformed)?;
            let chunk = Some(chunk);
            let mut parcel =
                Parcel { text: &[], head_bytes: 0, chunk, body_start: 0, ranges, coding, consumed };
            self.send(&mut parcel, 0).await.map_err(Broken::Sink)?;
            at_hand = parcel.into_rest();
        }
        if coding == Coding::Chunks {
            ranges.clear();
            let mut end = Parcel {
                text: LAST_CHUNK,
                head_bytes: 0,
                chunk: None,
                body_start: 0,
                ranges,
                coding,
                consumed: 0,
            };
            self.send(&mut end, 0).await.map_err(Broken::Sink)?;
        }
        Ok(at_hand)
    }

    async fn recv(&self, speed: &mut Speed) -> Result<Option<Chunk>, Broken> {
        let bytes_of = |chunk: &Option<Chunk>| chunk.as_ref().map_or(0, |chunk| chunk.len() as u64);
        self.recv_by(speed, self.source.recv(), bytes_of).await
    }

    /// Receives by `receiving`, as long as the source may take.
    pub(crate) async fn recv_by<T>(
        &self,
        speed: &mut Speed,
        receiving: impl Future<Output = io::Result<T>>,
        bytes_of: impl Fn(&T) -> u64,
    ) -> Result<T, Broken> {
        let (since, left) = (self.core.turn_time(), speed.left(self));
        self.source.set_recv_deadline(deadline(self.core, left.min(self.recv_timeout), self.total));
        let received = receiving.await.map_err(|error| {
            let is_slow = error.kind() == io::ErrorKind::TimedOut && left < self.recv_timeout;
            if is_slow { Broken::Slow } else { Broken::Source(error) }
        })?;
        let bytes = bytes_of(&received);
        speed.waited += self.core.turn_time().since(since);
        speed.bytes += bytes;
        self.received.iter().flatten().for_each(|counter| counter.add(bytes));
        if let (Some(note), Some(_)) = (self.note, self.received) {
            note.received.iter().for_each(|counter| counter.add(bytes));
        }
        Ok(received)
    }

    /// Sends the parcel without its first `sent` bytes.
    pub(crate) async fn send(&self, parcel: &mut Parcel<'_>, mut sent: usize) -> io::Result<()> {
        while !self.try_send(parcel, &mut sent)? {
            // A receiver that does not read must not keep a buffer from the others.
            if self.source.buffers_are_scarce()
                && self.set_aside.0.get() < SET_ASIDE_BYTES_MAX
                && let Some(rest) = parcel.set_aside(sent)
            {
                sent += self.send_aside(&Aside::new(rest, self.set_aside)).await?;
                self.count(parcel, sent);
                return Ok(());
            }
            self.writable().await?;
        }
        Ok(())
    }

    /// Sends what goes at once of the parcel, without its first `sent` bytes; true when all of it is gone, and counted.
    pub(crate) fn try_send(&self, parcel: &Parcel<'_>, sent: &mut usize) -> io::Result<bool> {
        let is_gone = parcel.try_send(self.sink, sent)?;
        if is_gone {
            self.count(parcel, *sent);
        }
        Ok(is_gone)
    }

    fn count(&self, parcel: &Parcel<'_>, sent: usize) {
        self.count_sent(sent, sent - parcel.head_bytes);
    }

    /// Counts bytes sent, and how many of them were a body's.
    pub(crate) fn count_sent(&self, sent: usize, of_body: usize) {
        if let Some([all, body]) = self.sent {
            all.add(sent as u64);
            body.add(of_body as u64);
            if let Some(note) = self.note {
                note.sent[0].add(sent as u64);
                note.sent[1].add(of_body as u64);
            }
        }
    }

    async fn send_aside(&self, aside: &Aside<'_>) -> io::Result<usize> {
        let mut sent = 0;
        while !send_slices(self.sink, &mut [IoSlice::new(&aside.bytes)], &mut sent)? {
            self.writable().await?;
        }
        Ok(sent)
    }

    pub(crate) async fn writable(&self) -> io::Result<()> {
        self.sink.set_send_deadline(deadline(self.core, self.send_timeout, self.total));
        self.sink.writable().await
    }
}

/// Appends the stretches of `body` to the head in `text` if all of it is small; they are listed no more then.
pub(crate) fn assemble(body: &[u8], ranges: &mut Ranges, text: &mut Vec<u8>) {
    let body_bytes: usize = ranges.iter().map(|range| range.len()).sum();
    if text.len() + body_bytes <= ASSEMBLED_BYTES_MAX {
        ranges.drain(..).for_each(|range| text.extend_from_slice(&body[range]));
    }
}

/// Sends what goes at once of `slices`, without the first `sent` bytes; true when all of it is gone.
fn send_slices(stream: &Wire, mut slices: &mut [IoSlice<'_>], sent: &mut usize) -> io::Result<bool> {
    if *sent > 0 {
        IoSlice::advance_slices(&mut slices, *sent);
        if slices.is_empty() {
            return Ok(true);
        }
    }
    let total: usize = slices.iter().map(|slice| slice.len()).sum();
    match stream.try_send(slices) {
        Ok(count) => {
            *sent += count;
            Ok(count == total)
        }
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(false),
        Err(error) => Err(error),
    }
}
