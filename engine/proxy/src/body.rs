//! Which of the bytes that have come belong to the body, and which of those are passed on?
//!
//! Never copies a byte, never reads past the body's end.

use std::ops::Range;

use arrayvec::ArrayVec;
use proto::http1::chunked::{ChunkRejected, ChunkedScanner, Limits, Mode};
use proto::http1::framing::{RequestFraming, ResponseFraming};

/// Most separate stretches of one buffer that go out in one send. A buffer is one stretch unless chunk framing is
/// taken off or extensions are cut out; then the rest goes with the next send.
pub(crate) const RANGES_MAX: usize = 16;

/// Stretches of a buffer to pass on.
pub(crate) type Ranges = ArrayVec<Range<usize>, RANGES_MAX>;

/// A body being received, and how much of it is still to come.
#[derive(Debug, Default)]
pub(crate) enum Body {
    /// Nothing more.
    #[default]
    Done,
    /// This many bytes.
    Length(u64),
    /// Chunks.
    Chunked(ChunkedScanner),
    /// Whatever comes until the peer closes.
    UntilClose,
}

/// The source ended before the body did.
#[derive(Debug)]
pub(crate) struct Truncated;

impl Body {
    /// `limits` are kept where the length is not known beforehand.
    pub(crate) fn of_request(framing: RequestFraming, limits: Limits) -> Self {
        match framing {
            RequestFraming::None | RequestFraming::Length(0) => Self::Done,
            RequestFraming::Length(bytes) => Self::Length(bytes),
            RequestFraming::Chunked => Self::Chunked(ChunkedScanner::within(limits)),
        }
    }

    pub(crate) fn of_response(framing: ResponseFraming, limits: Limits) -> Self {
        match framing {
            ResponseFraming::None | ResponseFraming::Length(0) => Self::Done,
            ResponseFraming::Length(bytes) => Self::Length(bytes),
            ResponseFraming::Chunked => Self::Chunked(ChunkedScanner::within(limits)),
            ResponseFraming::UntilClose => Self::UntilClose,
        }
    }

    pub(crate) fn is_done(&self) -> bool {
        matches!(self, Self::Done)
    }

    /// Lists the stretches of `bytes` to pass on and says how many bytes are dealt with: fewer than there are when
    /// the body has ended or `ranges` is full.
    pub(crate) fn pass(
        &mut self,
        bytes: &[u8],
        mode: Mode,
        ranges: &mut Ranges,
    ) -> Result<usize, ChunkRejected> {
        ranges.clear();
        match self {
            Self::Done => Ok(0),
            Self::Length(left) => {
                let count = usize::try_from(*left).map_or(bytes.len(), |left| left.min(bytes.len()));
                *left -= count as u64;
                if *left == 0 {
                    *self = Self::Done;
                }
                if count > 0 {
                    ranges.push(0..count);
                }
                Ok(count)
            }
            Self::Chunked(scanner) => {
                let progress = scanner.forward(bytes, mode, ranges)?;
                if progress.is_done {
                    *self = Self::Done;
                }
                Ok(progress.consumed)
            }
            Self::UntilClose => {
                if !bytes.is_empty() {
                    ranges.push(0..bytes.len());
                }
                Ok(bytes.len())
            }
        }
    }

    /// Bytes of a body without chunks that may come yet.
    pub(crate) fn left(&self) -> u64 {
        match self {
            Self::Done | Self::Chunked(_) => 0,
            Self::Length(left) => *left,
            Self::UntilClose => u64::MAX,
        }
    }

    /// So many bytes of a body without chunks were passed on unseen, at most those that are left.
    pub(crate) fn moved(&mut self, count: usize) {
        if let Self::Length(left) = self {
            *left -= (count as u64).min(*left);
            if *left == 0 {
                *self = Self::Done;
            }
        }
    }

    /// Takes note that the source has closed.
    pub(crate) fn end(&mut self) -> Result<(), Truncated> {
        match self {
            Self::Done => Ok(()),
            Self::UntilClose => {
                *self = Self::Done;
                Ok(())
            }
            Self::Length(_) | Self::Chunked(_) => Err(Truncated),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_length_ends_where_it_says() {
        let mut body = Body::of_request(RequestFraming::Length(5), Limits::default());
        let mut ranges = Ranges::new();
        assert_eq!(body.pass(b"abc", Mode::Framed, &mut ranges), Ok(3));
        assert!(body.end().is_err());
        assert_eq!(body.pass(b"deGET /", Mode::Framed, &mut ranges), Ok(2));
        assert_eq!(ranges.as_slice(), std::slice::from_ref(&(0..2)));
        assert!(body.is_done() && body.end().is_ok());
        assert_eq!(body.pass(b"GET /", Mode::Framed, &mut ranges), Ok(0));
    }

    #[test]
    fn until_close_ends_only_there() {
        let mut body = Body::of_response(ResponseFraming::UntilClose, Limits::default());
        let mut ranges = Ranges::new();
        assert_eq!(body.pass(b"abc", Mode::DataOnly, &mut ranges), Ok(3));
        assert!(!body.is_done());
        assert!(body.end().is_ok() && body.is_done());
    }
}
