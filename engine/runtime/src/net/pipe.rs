//! How do many bytes get from one connection to another without being copied? Through a pipe, by splice(2).
//!
//! Never takes bytes while some are in it, never gives away a pipe that is not empty.

use std::fmt;
use std::io;
use std::task::{Context, Poll};

use super::conduit::Conduit;
use super::stream::Stream;
use crate::core::Core;

/// Bytes that are asked for in one move: as many as the largest pipe holds.
pub const MOVE_BYTES_MAX: usize = 1 << 20;

/// A move that brings so many bytes has made room for more at the source, which may be there already: one send of all
/// wakes the receiver less often than one of each. So often that is tried.
const MORE_BYTES_MIN: usize = 64 * 1024;
const MORE_MAX: u32 = 4;

/// A pipe of its core's bounded set. Goes back when dropped, or is closed with what is in it.
pub struct Pipe {
    core: Core,
    /// There until this is dropped.
    conduit: Option<Conduit>,
    held: usize,
}

impl Pipe {
    /// An empty pipe; none when the core's are all in use, or the machine refuses one. Copying is always possible.
    #[must_use]
    pub fn take(core: &Core) -> Option<Self> {
        let conduit = core.io().take_conduit()?;
        Some(Self { core: core.clone(), conduit: Some(conduit), held: 0 })
    }

    /// Bytes in it.
    #[must_use]
    pub fn held(&self) -> usize {
        self.held
    }

    /// Takes up to `limit` bytes of `source`, waiting for the first of them as [`Stream::poll_recv`] does. 0 is the end of
    /// the stream. Bytes that are in the pipe have to leave first.
    ///
    /// # Errors
    /// As [`Stream::recv`]; `InvalidInput` where the machine moves no bytes of such a stream, before any was moved.
    ///
    /// # Panics
    /// When the pipe is not empty: a full one could not be told from a silent source.
    pub fn poll_fill(
        &mut self,
        source: &Stream,
        limit: usize,
        context: &mut Context<'_>,
    ) -> Poll<io::Result<usize>> {
        assert_eq!(self.held, 0, "bytes are to leave before others come");
        let Some(conduit) = &mut self.conduit else { return Poll::Ready(Ok(0)) };
        let limit = limit.min(MOVE_BYTES_MAX);
        let mut io = self.core.io();
        let Poll::Ready(mut filled) = io.poll_fill(source.index(), conduit, limit, context.waker())? else {
            return Poll::Pending;
        };
        let mut more = filled;
        for _ in 0..MORE_MAX {
            if more < MORE_BYTES_MIN || filled == limit {
                break;
            }
            more = io.fill_more(source.index(), conduit, limit - filled);
            filled += more;
        }
        if filled == limit {
            // Otherwise the connection would seem to have spoken, and would not be kept.
            io.settle(source.index());
        }
        self.held = filled;
        Poll::Ready(Ok(filled))
    }

    /// Gives `sink` what it takes at once of the bytes, and says how many that was.
    ///
    /// # Errors
    /// As [`Stream::try_send`].
    pub fn try_drain(&mut self, sink: &Stream) -> io::Result<usize> {
        let Some(conduit) = &mut self.conduit else { return Ok(0) };
        if self.held == 0 {
            return Ok(0);
        }
        let count = self.core.io().try_drain(sink.index(), conduit, self.held)?;
        self.held -= count;
        self.core.counters().spliced_bytes.add(count as u64);
        Ok(count)
    }
}

impl Drop for Pipe {
    fn drop(&mut self) {
        if let Some(conduit) = self.conduit.take() {
            self.core.io().give_conduit_back(conduit, self.held == 0);
        }
    }
}

impl fmt::Debug for Pipe {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Pipe({} bytes)", self.held)
    }
}
