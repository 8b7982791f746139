//! What has happened, and was it the same as last time? A hash over everything, and the last events for people.
//!
//! Never decides anything; whatever is not in it may differ between two runs of a seed.

use std::collections::VecDeque;
use std::fmt;

use super::world::START;
use crate::time::Instant;

/// Events kept for people: the end of a long run.
const EVENTS_KEPT: usize = 65_536;

/// What happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TraceKind {
    /// A core took a turn; the number is the core's.
    Turn,
    /// A connection attempt began.
    Connect,
    /// A connection was made, at the side that asked for it.
    Connected,
    /// A connection attempt failed: refused or given up.
    ConnectFailed,
    /// A connection was accepted.
    Accept,
    /// Bytes were taken from a sender.
    Send,
    /// A sender was told to wait (EAGAIN).
    SendFull,
    /// A segment arrived.
    Arrive,
    /// A receiver took bytes.
    Receive,
    /// A side said that it sends nothing more.
    ShutDown,
    /// That arrived.
    EndArrives,
    /// A reset left for the peer, or the network broke the connection.
    Reset,
    /// A reset arrived.
    ResetArrives,
    /// A side was closed by its owner.
    Close,
    /// A core learned that a socket can go on; the bytes are the event's bits.
    Ready,
    /// No descriptor was left; the number is the host's.
    DescriptorRefused,
    /// The wall clock jumped.
    ClockJump,
}

/// One thing that happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TraceEvent {
    /// When.
    pub at: Instant,
    /// What.
    pub kind: TraceKind,
    /// Number of the connection, from 0 in the order they were asked for; see [`TraceKind`] for other meanings.
    pub number: u32,
    /// True where the side of the connection concerned is the one that was accepted.
    pub accepted_side: bool,
    /// How many bytes.
    pub bytes: u32,
}

impl fmt::Display for TraceEvent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let micros = self.at.since(START).as_micros();
        let side = if self.accepted_side { "accepted" } else { "connected" };
        write!(f, "{:>6}.{:06} ", micros / 1_000_000, micros % 1_000_000)?;
        match self.kind {
            TraceKind::Turn => write!(f, "core {} takes a turn", self.number),
            TraceKind::DescriptorRefused => write!(f, "host {} has no descriptor left", self.number),
            TraceKind::ClockJump => write!(f, "the wall clock jumps"),
            kind => write!(f, "connection {} {side}: {kind:?} {}", self.number, self.bytes),
        }
    }
}

/// Everything that has happened, as a hash, and its end.
#[derive(Debug, Default)]
pub(super) struct Trace {
    hash: u64,
    last: VecDeque<TraceEvent>,
}

impl Trace {
    pub(super) fn note(&mut self, event: TraceEvent) {
        self.fold(event.at.as_nanos());
        let what = (event.kind as u64) << 1 | u64::from(event.accepted_side);
        self.fold(what << 32 | u64::from(event.number));
        self.fold(u64::from(event.bytes));
        if self.last.len() == EVENTS_KEPT {
            self.last.pop_front();
        }
        self.last.push_back(event);
    }

    /// Lets the bytes of a message count, not only their number.
    pub(super) fn note_bytes(&mut self, bytes: &[u8]) {
        let (words, rest) = bytes.as_chunks::<8>();
        words.iter().for_each(|word| self.fold(u64::from_le_bytes(*word)));
        rest.iter().for_each(|byte| self.fold(u64::from(*byte)));
    }

    fn fold(&mut self, number: u64) {
        // The multiplier of FxHash; one multiplication a word, and order matters.
        self.hash = (self.hash.rotate_left(5) ^ number).wrapping_mul(0x517C_C1B7_2722_0A95);
    }

    pub(super) fn hash(&self) -> u64 {
        self.hash
    }

    pub(super) fn last(&self, count: usize) -> Vec<TraceEvent> {
        self.last.iter().skip(self.last.len().saturating_sub(count)).copied().collect()
    }
}
