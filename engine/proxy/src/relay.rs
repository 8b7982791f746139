//! How does a body get from one connection to the other? Buffer by buffer, never more than one at a time.
//!
//! Never holds a body whole: a receiver that does not read stops the sender through the kernel's own windows.

use std::io::{self, IoSlice};
use std::num::NonZeroUsize;
use std::time::Duration;

use arrayvec::ArrayVec;
use proto::http1::chunked::{CHUNK_HEADER_BYTES_MAX, ChunkRejected, LAST_CHUNK, Mode, chunk_header};
use runtime::counter::Counter;
use runtime::{Chunk, Core, Instant, Stream};

use crate::body::{Body, RANGES_MAX, Ranges};

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
    /// The sending side closed before the body's end.
    Truncated,
    /// The sending side's chunks break a rule.
    Malformed(ChunkRejected),
    /// The receiving side failed or ran into its deadline.
    Sink(io::Error),
}

/// One direction of an exchange.
pub(crate) struct Way<'a> {
    pub(crate) core: &'a Core,
    pub(crate) source: &'a Stream,
    pub(crate) sink: &'a Stream,
    /// Longest wait for the next bytes of the source.
    pub(crate) recv_timeout: Duration,
    /// Longest wait for the sink to take bytes.
    pub(crate) send_timeout: Duration,
    /// The end of the exchange, whatever happens.
    pub(crate) total: Instant,
    /// Counters of the bytes received from the source, and of those sent to the sink.
    pub(crate) received: &'a [&'a Counter],
    pub(crate) sent: &'a [&'a Counter],
}

impl Way<'_> {
    /// Moves the rest of `body`, beginning with `at_hand`. Gives back bytes received beyond the body's end.
    pub(crate) async fn relay(
        &self,
        body: &mut Body,
        coding: Coding,
        mut at_hand: Option<Chunk>,
    ) -> Result<Option<Chunk>, Broken> {
        let mut ranges = Ranges::new();
        while !body.is_done() {
            let mut chunk = match at_hand.take() {
                Some(chunk) => chunk,
                None => match self.recv().await.map_err(Broken::Source)? {
                    Some(chunk) => chunk,
                    None => {
                        body.end().map_err(|_| Broken::Truncated)?;
                        break;
                    }
                },
            };
            let consumed = body.pass(&chunk, coding.mode(), &mut ranges).map_err(Broken::Malformed)?;
            self.send(&chunk, &ranges, coding).await.map_err(Broken::Sink)?;
            chunk.consume(consumed);
            if !chunk.is_empty() {
                at_hand = Some(chunk);
            }
        }
        if coding == Coding::Chunks {
            self.send_bytes(LAST_CHUNK).await.map_err(Broken::Sink)?;
        }
        Ok(at_hand)
    }

    async fn recv(&self) -> io::Result<Option<Chunk>> {
        self.source.set_recv_deadline((self.core.now() + self.recv_timeout).min(self.total));
        let chunk = self.source.recv().await?;
        let bytes = chunk.as_ref().map_or(0, |chunk| chunk.len() as u64);
        self.received.iter().for_each(|counter| counter.add(bytes));
        Ok(chunk)
    }

    async fn send(&self, chunk: &[u8], ranges: &Ranges, coding: Coding) -> io::Result<()> {
        let mut sent = 0;
        while !self.try_send(chunk, ranges, coding, &mut sent)? {
            self.writable().await?;
        }
        Ok(())
    }

    /// Sends what goes at once; true when all of it is gone.
    fn try_send(&self, chunk: &[u8], ranges: &Ranges, coding: Coding, sent: &mut usize) -> io::Result<bool> {
        let mut header = [0; CHUNK_HEADER_BYTES_MAX];
        let mut slices = ArrayVec::<IoSlice<'_>, { RANGES_MAX + 2 }>::new();
        push_ranges(chunk, ranges, coding, &mut header, &mut slices);
        if slices.is_empty() {
            return Ok(true);
        }
        self.try_send_slices(&mut slices, sent)
    }

    fn try_send_slices(&self, slices: &mut [IoSlice<'_>], sent: &mut usize) -> io::Result<bool> {
        let before = *sent;
        let is_gone = send_slices(self.sink, slices, sent)?;
        self.sent.iter().for_each(|counter| counter.add((*sent - before) as u64));
        Ok(is_gone)
    }

    async fn send_bytes(&self, bytes: &[u8]) -> io::Result<()> {
        let mut sent = 0;
        while !self.try_send_slices(&mut [IoSlice::new(bytes)], &mut sent)? {
            self.writable().await?;
        }
        Ok(())
    }

    async fn writable(&self) -> io::Result<()> {
        self.sink.set_send_deadline((self.core.now() + self.send_timeout).min(self.total));
        self.sink.writable().await
    }
}

/// Sends what goes at once of `slices`, without the first `sent` bytes; true when all of it is gone.
pub(crate) fn send_slices(
    stream: &Stream,
    mut slices: &mut [IoSlice<'_>],
    sent: &mut usize,
) -> io::Result<bool> {
    IoSlice::advance_slices(&mut slices, *sent);
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

/// Appends the slices of `chunk` that `ranges` lists, put into one chunk if `coding` says so.
pub(crate) fn push_ranges<'a, const N: usize>(
    chunk: &'a [u8],
    ranges: &Ranges,
    coding: Coding,
    header: &'a mut [u8; CHUNK_HEADER_BYTES_MAX],
    slices: &mut ArrayVec<IoSlice<'a>, N>,
) {
    let Some(bytes) = NonZeroUsize::new(ranges.iter().map(|range| range.len()).sum()) else {
        return; // an empty chunk would end the body
    };
    if coding == Coding::Chunks {
        slices.push(IoSlice::new(chunk_header(bytes, header)));
    }
    slices.extend(ranges.iter().map(|range| IoSlice::new(&chunk[range.clone()])));
    if coding == Coding::Chunks {
        slices.push(IoSlice::new(b"\r\n"));
    }
}
