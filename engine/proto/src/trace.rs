//! Which trace is a request part of? What `traceparent` and `tracestate` say, and what is said to the next (W3C Trace Context,
//! Level 1).
//!
//! Never knows dice or who is to be believed: the caller brings both. Never passes on what it could not read.

use std::fmt;

/// Length of a `traceparent` of version 00, the one that is written: `00-{trace}-{parent}-{flags}`.
pub const PARENT_BYTES: usize = 55;

/// Most members of a `tracestate` (§3.3.1.1).
pub const STATE_MEMBERS_MAX: usize = 32;

/// Longest `tracestate` that is passed on whole: as much as everybody has to (§3.3.1.5). Of a longer one the members of more than
/// [`STATE_MEMBER_BYTES_LARGE`] go first, then the oldest.
pub const STATE_BYTES_MAX: usize = 512;

/// A member that is longer than this goes first where room is short (§3.3.1.5).
pub const STATE_MEMBER_BYTES_LARGE: usize = 128;

/// Longest value of a member, and longest key (§3.3.1.3).
const STATE_WORD_BYTES_MAX: usize = 256;

/// One trace, as it is told apart from all others.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct TraceId(pub [u8; 16]);

/// One stretch of work in a trace.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct SpanId(pub [u8; 8]);

/// What a caller says of the trace that its request is part of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Parent {
    /// The trace.
    pub trace: TraceId,
    /// The caller's own span.
    pub span: SpanId,
    /// Whether the caller may have recorded it. No other flag has a meaning in this version (§3.2.2.5).
    pub is_sampled: bool,
}

/// Why a `traceparent` is of no use: the trace begins anew, and `tracestate` goes with it (§4.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ParentRejected {
    /// There are several.
    Repeated,
    /// It is shorter than its version, or longer where that has a length (§3.2.2, §3.2.4).
    Length,
    /// A version that is no number, or `ff` (§3.2.2.1).
    Version,
    /// Something else than `-` between its parts (§3.2.2).
    Separator,
    /// A part that is not in lower-case hexadecimal digits (§3.2.2).
    Digit,
    /// A trace of zeros (§3.2.2.3).
    TraceZero,
    /// A span of zeros (§3.2.2.4).
    SpanZero,
}

/// Why a `tracestate` is of no use: it goes, and the trace goes on (§3.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StateRejected {
    /// More members than [`STATE_MEMBERS_MAX`] (§3.3.1.1).
    MembersTooMany,
    /// A member without `=` (§3.3.1.2).
    ValueMissing,
    /// A key of other bytes, or of another length, than the grammar allows (§3.3.1.3.1).
    Key,
    /// A value likewise (§3.3.1.3.2).
    Value,
    /// A key that is there twice (§3.3.1.3.1).
    KeyRepeated,
}

impl Parent {
    /// Reads the value of a `traceparent`, without white space around it. Of a version that is not known yet as much is believed as
    /// has to be in every version (§3.2.4).
    ///
    /// # Errors
    /// The rule that it breaks.
    pub fn parse(value: &[u8]) -> Result<Self, ParentRejected> {
        use ParentRejected::{Length, Separator, SpanZero, TraceZero, Version};
        let (known, beyond) = value.split_at_checked(PARENT_BYTES).ok_or(Length)?;
        let [version] = hex(&known[..2]).map_err(|_| Version)?;
        match (version, beyond.first()) {
            (0xff, _) => return Err(Version),
            (0, Some(_)) => return Err(Length),
            (_, Some(byte)) if *byte != b'-' => return Err(Separator),
            _ => {}
        }
        if [known[2], known[35], known[52]] != *b"---" {
            return Err(Separator);
        }
        let (trace, span) = (hex(&known[3..35])?, hex(&known[36..52])?);
        let [flags] = hex(&known[53..])?;
        if trace == [0; 16] {
            return Err(TraceZero);
        }
        if span == [0; 8] {
            return Err(SpanZero);
        }
        Ok(Self { trace: TraceId(trace), span: SpanId(span), is_sampled: flags & 1 == 1 })
    }

    /// Reads the only one of these values; `None` if there is none.
    ///
    /// # Errors
    /// The rule that it breaks.
    pub fn of<'v>(mut values: impl Iterator<Item = &'v [u8]>) -> Option<Result<Self, ParentRejected>> {
        let first = values.next()?;
        Some(if values.next().is_some() { Err(ParentRejected::Repeated) } else { Self::parse(first) })
    }

    /// The value of a `traceparent` of version 00.
    #[must_use]
    pub fn text(&self) -> [u8; PARENT_BYTES] {
        let mut text = *b"00-00000000000000000000000000000000-0000000000000000-00";
        digits(&self.trace.0, &mut text[3..35]);
        digits(&self.span.0, &mut text[36..52]);
        text[54] += u8::from(self.is_sampled);
        text
    }
}

impl TraceId {
    /// Of 128 random bits. Never the one that means nothing.
    #[must_use]
    pub fn from_dice(dice: u128) -> Self {
        Self(dice.max(1).to_be_bytes())
    }
}

impl SpanId {
    /// Of 64 random bits. Never the one that means nothing.
    #[must_use]
    pub fn from_dice(dice: u64) -> Self {
        Self(dice.max(1).to_be_bytes())
    }
}

impl fmt::Display for TraceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", u128::from_be_bytes(self.0))
    }
}

impl fmt::Display for SpanId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", u64::from_be_bytes(self.0))
    }
}

/// Bytes of lower-case hexadecimal digits (§3.2.2).
fn hex<const N: usize>(text: &[u8]) -> Result<[u8; N], ParentRejected> {
    let digit = |byte: u8| match byte {
        b'0'..=b'9' => Ok(byte - b'0'),
        b'a'..=b'f' => Ok(byte - b'a' + 10),
        _ => Err(ParentRejected::Digit),
    };
    let mut bytes = [0; N];
    for (byte, pair) in bytes.iter_mut().zip(text.chunks_exact(2)) {
        *byte = digit(pair[0])? << 4 | digit(pair[1])?;
    }
    Ok(bytes)
}

fn digits(bytes: &[u8], text: &mut [u8]) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    for (pair, byte) in text.chunks_exact_mut(2).zip(bytes) {
        pair[0] = DIGITS[usize::from(byte >> 4)];
        pair[1] = DIGITS[usize::from(byte & 15)];
    }
}

/// Replaces `out` by the members of these values of `tracestate`, in order, as one value of at most [`STATE_BYTES_MAX`]; empty if
/// there are none (§3.3.1, §4.3).
///
/// # Errors
/// The rule that one of them breaks; `out` is empty then.
pub fn combine_state<'v>(
    values: impl Iterator<Item = &'v [u8]>,
    out: &mut Vec<u8>,
) -> Result<(), StateRejected> {
    out.clear();
    let mut members: [&[u8]; STATE_MEMBERS_MAX] = [&[]; STATE_MEMBERS_MAX];
    let mut count = 0;
    let listed = values.flat_map(|value| value.split(|&byte| byte == b','));
    // Members without anything in them are allowed, and mean nothing.
    for member in listed.map(trim_white).filter(|member| !member.is_empty()) {
        let key = check_member(member)?;
        let place = members.get_mut(count).ok_or(StateRejected::MembersTooMany)?;
        *place = member;
        if members[..count].iter().any(|earlier| key_of(earlier) == Some(key)) {
            return Err(StateRejected::KeyRepeated);
        }
        count += 1;
    }
    let members = &members[..count];
    let bytes = |kept: &dyn Fn(&[u8]) -> bool| {
        let lengths = members.iter().filter(|member| kept(member)).map(|member| member.len() + 1);
        lengths.sum::<usize>().saturating_sub(1)
    };
    let drops_large = bytes(&|_| true) > STATE_BYTES_MAX;
    for member in members.iter().filter(|member| !drops_large || member.len() <= STATE_MEMBER_BYTES_LARGE) {
        let comma = usize::from(!out.is_empty());
        // The newest come first.
        if out.len() + comma + member.len() > STATE_BYTES_MAX {
            break;
        }
        out.extend_from_slice(&b","[..comma]);
        out.extend_from_slice(member);
    }
    Ok(())
}

fn trim_white(text: &[u8]) -> &[u8] {
    let is_white = |byte: &u8| matches!(byte, b' ' | b'\t');
    let start = text.iter().position(|byte| !is_white(byte)).unwrap_or(text.len());
    let end = text.iter().rposition(|byte| !is_white(byte)).map_or(start, |last| last + 1);
    &text[start..end]
}

fn key_of(member: &[u8]) -> Option<&[u8]> {
    Some(&member[..member.iter().position(|&byte| byte == b'=')?])
}

/// The key of a member that follows the grammar.
fn check_member(member: &[u8]) -> Result<&[u8], StateRejected> {
    let key = key_of(member).ok_or(StateRejected::ValueMissing)?;
    if !is_key(key) {
        return Err(StateRejected::Key);
    }
    let value = &member[key.len() + 1..];
    let is_valid = |byte: &u8| matches!(byte, 0x20..=0x7e) && !matches!(byte, b',' | b'=');
    // It does not end with a space: what surrounds a member is taken off.
    if value.is_empty() || value.len() > STATE_WORD_BYTES_MAX || !value.iter().all(is_valid) {
        return Err(StateRejected::Value);
    }
    Ok(key)
}

/// `key`, or `tenant@system` (§3.3.1.3.1).
fn is_key(key: &[u8]) -> bool {
    let is_inner = |byte: &u8| {
        byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b'_' | b'-' | b'*' | b'/')
    };
    let is_word = |word: &[u8], bytes_max: usize, may_begin_with_digit: bool| {
        word.len() <= bytes_max
            && word.first().is_some_and(|first| {
                first.is_ascii_lowercase() || (may_begin_with_digit && first.is_ascii_digit())
            })
            && word.iter().all(is_inner)
    };
    match key.iter().position(|&byte| byte == b'@') {
        None => is_word(key, STATE_WORD_BYTES_MAX, false),
        Some(at) => is_word(&key[..at], 241, true) && is_word(&key[at + 1..], 14, false),
    }
}

#[cfg(test)]
mod tests;
