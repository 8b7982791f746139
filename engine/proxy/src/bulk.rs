//! When do bytes that are only passed on go from socket to socket inside the kernel? When they are many.
//!
//! Never holds a pipe for a source that is silent, never moves a byte beyond the body's end.

use std::future::poll_fn;
use std::io;
use std::task::Poll;

use runtime::Pipe;
use runtime::net::pipe::MOVE_BYTES_MAX;

use crate::body::Body;
use crate::relay::{Broken, Coding, Speed, Way};
use crate::wire::Wire;

/// A receive or a move that brings so many bytes is a large one. Below, splicing costs as much as copying.
const LARGE_BYTES: usize = 16 * 1024;
/// Large receives in a row after which bytes are moved, and small moves in a row after which they are not.
const CHANGE_AFTER: u8 = 4;
/// Of a body of known length so much must be left to begin with moving: four buffers of the usual size.
const BODY_BYTES_MIN: u64 = 256 * 1024;
/// After moves of so many bytes the other tasks have their turn.
const YIELD_AFTER: usize = 256 * 1024;

/// How bytes that are only passed on get from one connection to the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mode {
    /// By way of a buffer; so many receives in a row were large.
    Copying { large: u8 },
    /// By way of a pipe; so many moves in a row were small.
    Moving { small: u8 },
    /// By way of a buffer whatever comes.
    AlwaysCopying,
}

impl Mode {
    pub(crate) const COPYING: Self = Self::Copying { large: 0 };
    pub(crate) const MOVING: Self = Self::Moving { small: 0 };

    pub(crate) fn is_moving(self) -> bool {
        matches!(self, Self::Moving { .. })
    }

    /// Takes note of a receive or a move of so many bytes.
    pub(crate) fn after(self, bytes: usize) -> Self {
        let is_large = bytes >= LARGE_BYTES;
        match self {
            Self::Copying { large } if is_large && large + 1 >= CHANGE_AFTER => Self::MOVING,
            Self::Copying { large } if is_large => Self::Copying { large: large + 1 },
            Self::Moving { .. } if is_large => Self::MOVING,
            Self::Moving { small } if small + 1 < CHANGE_AFTER => Self::Moving { small: small + 1 },
            Self::Copying { .. } | Self::Moving { .. } => Self::COPYING,
            Self::AlwaysCopying => Self::AlwaysCopying,
        }
    }
}

/// Whether the machine refuses to move bytes of such a connection at all.
pub(crate) fn is_unable(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::InvalidInput | io::ErrorKind::Unsupported)
}

impl Way<'_> {
    /// How to begin with what is left of a body. Chunks are looked at, and so copied.
    pub(crate) fn mode(&self, body: &Body, coding: Coding) -> Mode {
        let is_plain = matches!((self.source, self.sink), (Wire::Plain(_), Wire::Plain(_)));
        match body {
            Body::Length(left) if is_plain && *left >= BODY_BYTES_MIN && coding != Coding::Chunks => {
                Mode::MOVING
            }
            Body::UntilClose if is_plain && coding != Coding::Chunks => Mode::COPYING,
            Body::Done | Body::Length(_) | Body::Chunked(_) | Body::UntilClose => Mode::AlwaysCopying,
        }
    }

    /// Moves the rest of `body`, as long as many bytes come at a time; says how to go on with what is left.
    pub(crate) async fn splice(&self, body: &mut Body, speed: &mut Speed) -> Result<Mode, Broken> {
        let (Wire::Plain(source), Wire::Plain(sink)) = (self.source, self.sink) else {
            return Ok(Mode::AlwaysCopying);
        };
        let mut mode = Mode::MOVING;
        while mode.is_moving() && !body.is_done() {
            let limit = body.left().min(MOVE_BYTES_MAX as u64) as usize;
            // A pipe is taken once more for each look: none is held while nothing comes.
            let filled = poll_fn(|context| {
                let Some(mut pipe) = Pipe::take(self.core) else { return Poll::Ready(Ok(None)) };
                pipe.poll_fill(source, limit, context).map_ok(|count| Some((pipe, count)))
            });
            let (mut pipe, count) = match self.recv_by(speed, filled, filled_bytes).await {
                Ok(Some(filled)) => filled,
                Ok(None) => return Ok(Mode::COPYING),
                Err(Broken::Source(error)) if is_unable(&error) => return Ok(Mode::AlwaysCopying),
                Err(broken) => return Err(broken),
            };
            if count == 0 {
                body.end().map_err(|_| Broken::Truncated)?;
                break;
            }
            body.moved(count);
            while pipe.held() > 0 {
                match pipe.try_drain(sink) {
                    Ok(count) => self.count_sent(count, count),
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                        self.writable().await.map_err(Broken::Sink)?;
                    }
                    Err(error) => return Err(Broken::Sink(error)),
                }
            }
            drop(pipe);
            mode = mode.after(count);
            if count >= YIELD_AFTER {
                self.core.yield_now().await;
            }
        }
        Ok(mode)
    }
}

fn filled_bytes(filled: &Option<(Pipe, usize)>) -> u64 {
    filled.as_ref().map_or(0, |(_, count)| *count as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The mode after receives or moves of so many bytes.
    fn mode_after(bytes: &[usize]) -> Mode {
        bytes.iter().fold(Mode::COPYING, |mode, bytes| mode.after(*bytes))
    }

    #[test]
    fn bulk_is_moved_and_a_trickle_is_copied() {
        const LARGE: usize = LARGE_BYTES;
        assert_eq!(mode_after(&[LARGE; 3]), Mode::Copying { large: 3 });
        assert_eq!(mode_after(&[LARGE; 4]), Mode::MOVING);
        assert_eq!(mode_after(&[LARGE, LARGE, 1, LARGE, LARGE]), Mode::Copying { large: 2 });
        assert_eq!(mode_after(&[LARGE, LARGE, LARGE, LARGE, 1, 1, 1, LARGE]), Mode::MOVING);
        assert_eq!(mode_after(&[LARGE, LARGE, LARGE, LARGE, 1, 1, 1, 1]), Mode::COPYING);
        assert_eq!(Mode::AlwaysCopying.after(LARGE), Mode::AlwaysCopying);
    }
}
