//! Where do chunks and trailers end, and which of their bytes may be passed on?
//!
//! Scans a chunked body wherever it is split and points at the bytes to forward (RFC 9112 §7.1); never copies
//! one, and never lets the last byte of a malformed body through.

use std::num::NonZeroUsize;
use std::ops::Range;

use arrayvec::ArrayVec;

use super::field::{KNOWN_NAME_BYTES_MAX, KnownField, is_token_byte, is_value_byte};
use super::framing::BODY_BYTES_MAX;
use crate::rule::rules;

/// Most bytes of one chunk's extensions. RFC 9112 §7.1.1 asks for a limit; nobody uses them.
pub const EXTENSION_BYTES_MAX: u32 = 1024;

/// Extension bytes a body may carry beyond as many as its data has. Without this a peer makes us read a kilobyte
/// for each byte of body (the fault behind CVE-2023-39326).
pub const EXTENSION_EXCESS_BYTES_MAX: u64 = 16 * 1024;

/// Most bytes of the whole trailer section, unless [`Limits`] say otherwise.
pub const TRAILER_BYTES_MAX: u32 = 8 * 1024;

/// Most trailer lines, unless [`Limits`] say otherwise. A checksum, a signature and a status are three.
pub const TRAILERS_MAX: u16 = 32;

/// Digits of the largest chunk size; more are refused even if they are zeros.
const SIZE_DIGITS_MAX: u8 = 16;

rules! {
    /// Why a chunked body is refused.
    pub enum ChunkRejected {
        /// A chunk line does not start with a hexadecimal digit, RFC 9112 §7.1.
        SizeInvalid = "chunk_size_invalid",
        /// More than 16 digits, or 2^63 bytes or more: RFC 9112 §7.1 asks to anticipate overflow.
        SizeOverflow = "chunk_size_overflow",
        /// A chunk line or trailer line ends with a line feed alone, RFC 9112 §2.2 and §7.1.
        BareLineFeed = "chunk_bare_line_feed",
        /// A carriage return that no line feed follows, RFC 9112 §2.2.
        BareCarriageReturn = "chunk_bare_carriage_return",
        /// A control byte in a chunk extension, RFC 9112 §7.1.1.
        ExtensionByte = "chunk_extension_byte",
        /// A chunk extension that is not `;name` or `;name=value`, RFC 9112 §7.1.1.
        ExtensionMalformed = "chunk_extension_malformed",
        /// A chunk's extensions are longer than [`EXTENSION_BYTES_MAX`], RFC 9112 §7.1.1.
        ExtensionTooLong = "chunk_extension_too_long",
        /// All extensions together outweigh the data by more than [`EXTENSION_EXCESS_BYTES_MAX`], RFC 9112 §7.1.1.
        ExtensionsTooMany = "chunk_extensions_too_many",
        /// Chunk data is not followed by CRLF, RFC 9112 §7.1.
        DataEndMissing = "chunk_data_end_missing",
        /// A trailer line starts with white space, RFC 9112 §5.2.
        TrailerFolded = "trailer_folded",
        /// A trailer line without a name, RFC 9110 §5.1.
        TrailerNameEmpty = "trailer_name_empty",
        /// A byte that is not a token's in a trailer's name, RFC 9110 §5.1.
        TrailerNameByte = "trailer_name_byte",
        /// A control byte in a trailer's value, RFC 9110 §5.5.
        TrailerValueByte = "trailer_value_byte",
        /// A trailer that has no business after the body, RFC 9110 §6.5.1.
        TrailerForbidden = "trailer_forbidden",
        /// The trailer section is longer than [`Limits::trailer_bytes_max`], RFC 9110 §5.4.
        TrailersTooLarge = "trailers_too_large",
        /// More trailer lines than [`Limits::trailers_max`], RFC 9110 §5.4.
        TrailersTooMany = "trailers_too_many",
        /// A chunk that makes the body longer than [`Limits::body_bytes_max`], RFC 9110 §15.5.14.
        BodyTooLarge = "chunked_body_too_large",
    }
}

/// Bounds of a chunked body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of chunk data.
    pub body_bytes_max: u64,
    /// Bytes of the trailer section, its last line end included.
    pub trailer_bytes_max: u32,
    /// Trailer lines.
    pub trailers_max: u16,
}

impl Default for Limits {
    fn default() -> Self {
        Self { body_bytes_max: u64::MAX, trailer_bytes_max: TRAILER_BYTES_MAX, trailers_max: TRAILERS_MAX }
    }
}

/// Which bytes of a chunked body are passed on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Everything but chunk extensions: the next hop reads chunks too.
    Framed,
    /// Chunk data alone: the next hop speaks HTTP/1.0.
    DataOnly,
}

/// How far a call came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    /// Bytes of the input that are dealt with. Fewer than given when `out` was full or the body ended.
    pub consumed: usize,
    /// The body has ended; what follows belongs to the next message.
    pub is_done: bool,
}

/// Follows one chunked body through however many pieces it arrives in.
#[derive(Clone, Debug)]
pub struct ChunkedScanner {
    state: State,
    body_bytes: u64,
    extension_bytes: u64,
    trailer_bytes: u32,
    trailers: u16,
    limits: Limits,
    name: TrailerName,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Size { bytes: u64, digits: u8 },
    Extension { bytes: u64, len: u32, part: ExtensionPart },
    SizeLineFeed { bytes: u64 },
    Data { left: u64 },
    DataReturn,
    DataLineFeed,
    TrailerStart,
    TrailerName,
    TrailerValue,
    TrailerLineFeed,
    EndLineFeed,
    Done,
    Rejected(ChunkRejected),
}

/// Where in `*( BWS ";" BWS name [ BWS "=" BWS ( token / quoted-string ) ] )` the scan is, RFC 9112 §7.1.1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ExtensionPart {
    /// After the size, where only space or `;` may stand: a size with a space at its end is read in two ways.
    SizeEnd,
    NameStart,
    Name,
    NameEnd,
    ValueStart,
    Value,
    Quoted,
    QuotedPair,
    QuotedEnd,
    ValueEnd,
}

impl ExtensionPart {
    /// The part that `byte`, which is a field value's, leads to; `None` when it may not stand here.
    fn next(self, byte: u8) -> Option<Self> {
        let is_space = matches!(byte, b' ' | b'\t');
        Some(match (self, byte) {
            (Self::Quoted, b'"') => Self::QuotedEnd,
            (Self::Quoted, b'\\') => Self::QuotedPair,
            (Self::Quoted | Self::QuotedPair, _) => Self::Quoted,
            (Self::SizeEnd | Self::NameStart | Self::NameEnd | Self::ValueStart | Self::ValueEnd, _)
                if is_space =>
            {
                self
            }
            (Self::Name, _) if is_space => Self::NameEnd,
            (Self::Value | Self::QuotedEnd, _) if is_space => Self::ValueEnd,
            (
                Self::SizeEnd | Self::Name | Self::NameEnd | Self::Value | Self::QuotedEnd | Self::ValueEnd,
                b';',
            ) => Self::NameStart,
            (Self::Name | Self::NameEnd, b'=') => Self::ValueStart,
            (Self::ValueStart, b'"') => Self::Quoted,
            (Self::NameStart | Self::Name, _) if is_token_byte(byte) => Self::Name,
            (Self::ValueStart | Self::Value, _) if is_token_byte(byte) => Self::Value,
            _ => return None,
        })
    }

    /// Whether the chunk line may end here.
    fn is_whole(self) -> bool {
        matches!(self, Self::Name | Self::Value | Self::QuotedEnd)
    }
}

/// The name of the trailer line being scanned, as far as it can matter.
#[derive(Clone, Debug, Default)]
struct TrailerName {
    start: ArrayVec<u8, KNOWN_NAME_BYTES_MAX>,
    is_longer: bool,
}

impl TrailerName {
    fn push(&mut self, byte: u8) {
        self.is_longer |= self.start.try_push(byte).is_err();
    }

    fn is_forbidden(&self) -> bool {
        // A longer name is none of the table's, but may be one of the family that is told by its start.
        match KnownField::classify(&self.start) {
            KnownField::XForwardedOther => true,
            known => !self.is_longer && known.is_forbidden_in_trailer(),
        }
    }
}

impl Default for ChunkedScanner {
    fn default() -> Self {
        Self::new()
    }
}

impl ChunkedScanner {
    /// At the first byte of a body of any length.
    #[must_use]
    pub fn new() -> Self {
        Self::within(Limits::default())
    }

    /// At the first byte of a body that has to keep these bounds.
    #[must_use]
    pub fn within(limits: Limits) -> Self {
        Self {
            state: State::Size { bytes: 0, digits: 0 },
            body_bytes: 0,
            extension_bytes: 0,
            trailer_bytes: 0,
            trailers: 0,
            limits,
            name: TrailerName::default(),
        }
    }

    /// Bytes of chunk data seen so far.
    #[must_use]
    pub fn body_bytes(&self) -> u64 {
        self.body_bytes
    }

    /// Whether the body has ended.
    #[must_use]
    pub fn is_done(&self) -> bool {
        self.state == State::Done
    }

    /// Bytes of chunk data that follow the input dealt with so far before anything else can: these may be moved
    /// without being looked at, see [`Self::skip_data`].
    #[must_use]
    pub fn data_left(&self) -> u64 {
        match self.state {
            State::Data { left } => left,
            _ => 0,
        }
    }

    /// Notes that `bytes` of chunk data have been moved past the scanner.
    ///
    /// # Panics
    /// When that is more than [`Self::data_left`].
    pub fn skip_data(&mut self, bytes: u64) {
        if bytes == 0 {
            return;
        }
        let left = self.data_left().checked_sub(bytes).expect("skips chunk data that is there");
        self.body_bytes += bytes;
        self.state = if left == 0 { State::DataReturn } else { State::Data { left } };
    }

    /// Scans `bytes` and appends to `out` the ranges of it to pass on. Stops early when `out` is full: pass those
    /// on, then call again with the rest.
    ///
    /// # Errors
    /// The rule broken. `out` is then not to be passed on, and every later call returns the same.
    pub fn forward<const N: usize>(
        &mut self,
        bytes: &[u8],
        mode: Mode,
        out: &mut ArrayVec<Range<usize>, N>,
    ) -> Result<Progress, ChunkRejected> {
        let mut at = 0;
        while at < bytes.len() && self.state != State::Done {
            let is_adjacent = out.last().is_some_and(|last| last.end == at);
            if out.is_full() && !is_adjacent {
                break;
            }
            let Step { kind, len } =
                self.step(&bytes[at..]).inspect_err(|&rule| self.state = State::Rejected(rule))?;
            let is_passed = kind == Kind::Data || (kind == Kind::Framing && mode == Mode::Framed);
            match out.last_mut() {
                _ if !is_passed || len == 0 => {}
                Some(last) if is_adjacent => last.end = at + len,
                _ => out.push(at..at + len),
            }
            at += len;
        }
        Ok(Progress { consumed: at, is_done: self.is_done() })
    }

    /// Takes the first bytes of `bytes`, which is not empty, that are of one kind.
    fn step(&mut self, bytes: &[u8]) -> Result<Step, ChunkRejected> {
        let byte = bytes[0];
        match self.state {
            State::Size { bytes: size, digits } => self.size(byte, size, digits),
            State::Extension { bytes: size, len, part } => self.extension(byte, size, len, part),
            State::SizeLineFeed { bytes: 0 } => self.line_feed(byte, State::TrailerStart),
            // Told by the chunk's size, so that not a byte beyond the bound is passed on.
            State::SizeLineFeed { bytes: size }
                if self.body_bytes.saturating_add(size) > self.limits.body_bytes_max =>
            {
                Err(ChunkRejected::BodyTooLarge)
            }
            State::SizeLineFeed { bytes: size } => self.line_feed(byte, State::Data { left: size }),
            State::Data { left } => {
                let len = usize::try_from(left).map_or(bytes.len(), |left| left.min(bytes.len()));
                self.skip_data(len as u64);
                Ok(Step { kind: Kind::Data, len })
            }
            State::DataReturn if byte == b'\r' => Ok(self.framing(State::DataLineFeed)),
            State::DataLineFeed if byte == b'\n' => Ok(self.framing(State::Size { bytes: 0, digits: 0 })),
            State::DataReturn | State::DataLineFeed => Err(ChunkRejected::DataEndMissing),
            State::TrailerStart
            | State::TrailerName
            | State::TrailerValue
            | State::TrailerLineFeed
            | State::EndLineFeed => self.trailer(byte),
            State::Done => Ok(Step { kind: Kind::Framing, len: 0 }),
            State::Rejected(rule) => Err(rule),
        }
    }

    fn framing(&mut self, state: State) -> Step {
        self.state = state;
        Step { kind: Kind::Framing, len: 1 }
    }

    fn line_feed(&mut self, byte: u8, state: State) -> Result<Step, ChunkRejected> {
        if byte == b'\n' { Ok(self.framing(state)) } else { Err(ChunkRejected::BareCarriageReturn) }
    }

    fn size(&mut self, byte: u8, size: u64, digits: u8) -> Result<Step, ChunkRejected> {
        let state = match (byte, char::from(byte).to_digit(16)) {
            (_, Some(_)) if digits == SIZE_DIGITS_MAX => return Err(ChunkRejected::SizeOverflow),
            (_, Some(digit)) => {
                // Sixteen digits fit in 64 bits, so no bit is lost here.
                State::Size { bytes: size << 4 | u64::from(digit), digits: digits + 1 }
            }
            (_, None) if digits == 0 => return Err(ChunkRejected::SizeInvalid),
            (b'\r' | b';' | b' ' | b'\t', None) if size > BODY_BYTES_MAX => {
                return Err(ChunkRejected::SizeOverflow);
            }
            (b'\r', None) => State::SizeLineFeed { bytes: size },
            (b';' | b' ' | b'\t', None) => {
                self.state = State::Extension { bytes: size, len: 0, part: ExtensionPart::SizeEnd };
                return Ok(Step { kind: Kind::Extension, len: 0 });
            }
            (b'\n', None) => return Err(ChunkRejected::BareLineFeed),
            (_, None) => return Err(ChunkRejected::SizeInvalid),
        };
        Ok(self.framing(state))
    }

    /// Takes one byte: nobody sends extensions, so nothing is gained by taking more.
    fn extension(
        &mut self,
        byte: u8,
        size: u64,
        len: u32,
        part: ExtensionPart,
    ) -> Result<Step, ChunkRejected> {
        match byte {
            b'\r' if part.is_whole() => return Ok(self.framing(State::SizeLineFeed { bytes: size })),
            b'\n' => return Err(ChunkRejected::BareLineFeed),
            _ if part == ExtensionPart::SizeEnd && !matches!(byte, b' ' | b'\t' | b';') => {
                return Err(ChunkRejected::SizeInvalid);
            }
            b'\r' => return Err(ChunkRejected::ExtensionMalformed),
            _ if !is_value_byte(byte) => return Err(ChunkRejected::ExtensionByte),
            _ if len == EXTENSION_BYTES_MAX => return Err(ChunkRejected::ExtensionTooLong),
            _ if self.extension_bytes >= EXTENSION_EXCESS_BYTES_MAX + self.body_bytes => {
                return Err(ChunkRejected::ExtensionsTooMany);
            }
            _ => {}
        }
        let part = part.next(byte).ok_or(ChunkRejected::ExtensionMalformed)?;
        self.extension_bytes += 1;
        self.state = State::Extension { bytes: size, len: len + 1, part };
        Ok(Step { kind: Kind::Extension, len: 1 })
    }

    fn trailer(&mut self, byte: u8) -> Result<Step, ChunkRejected> {
        if self.trailer_bytes >= self.limits.trailer_bytes_max {
            return Err(ChunkRejected::TrailersTooLarge);
        }
        self.trailer_bytes += 1;
        let state = match (self.state, byte) {
            (State::TrailerStart, b'\r') => State::EndLineFeed,
            (State::EndLineFeed, _) => return self.line_feed(byte, State::Done),
            (State::TrailerLineFeed, _) => return self.line_feed(byte, State::TrailerStart),
            (State::TrailerStart | State::TrailerName | State::TrailerValue, b'\n') => {
                return Err(ChunkRejected::BareLineFeed);
            }
            (State::TrailerStart, b' ' | b'\t') => return Err(ChunkRejected::TrailerFolded),
            (State::TrailerStart, b':') => return Err(ChunkRejected::TrailerNameEmpty),
            (State::TrailerStart, _) if is_token_byte(byte) => {
                if self.trailers == self.limits.trailers_max {
                    return Err(ChunkRejected::TrailersTooMany);
                }
                self.trailers += 1;
                self.name = TrailerName::default();
                self.name.push(byte);
                State::TrailerName
            }
            (State::TrailerName, _) if is_token_byte(byte) => {
                self.name.push(byte);
                State::TrailerName
            }
            (State::TrailerName, b':') if self.name.is_forbidden() => {
                return Err(ChunkRejected::TrailerForbidden);
            }
            (State::TrailerName, b':') => State::TrailerValue,
            (State::TrailerValue, b'\r') => State::TrailerLineFeed,
            (State::TrailerValue, _) if is_value_byte(byte) => State::TrailerValue,
            (State::TrailerValue, _) => return Err(ChunkRejected::TrailerValueByte),
            _ => return Err(ChunkRejected::TrailerNameByte),
        };
        Ok(self.framing(state))
    }
}

/// Bytes of one kind.
struct Step {
    kind: Kind,
    len: usize,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Data,
    Framing,
    Extension,
}

/// What ends a body made of chunks: the last chunk, no trailers.
pub const LAST_CHUNK: &[u8] = b"0\r\n\r\n";

/// What follows a chunk's data.
pub const CHUNK_END: &[u8] = b"\r\n";

/// Longest [`chunk_header`]: sixteen digits and a line end.
pub const CHUNK_HEADER_BYTES_MAX: usize = 18;

/// The line before `len` bytes of chunk data; [`CHUNK_END`] goes after them. Never the last chunk's.
#[must_use]
pub fn chunk_header(len: NonZeroUsize, buf: &mut [u8; CHUNK_HEADER_BYTES_MAX]) -> &[u8] {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let mut left = len.get();
    let mut start = CHUNK_HEADER_BYTES_MAX - CHUNK_END.len();
    buf[start..].copy_from_slice(CHUNK_END);
    while left > 0 {
        start -= 1;
        buf[start] = DIGITS[left & 0xf];
        left >>= 4;
    }
    &buf[start..]
}

#[cfg(test)]
mod tests;
