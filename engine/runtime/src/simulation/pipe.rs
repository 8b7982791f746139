//! Where are the bytes of one direction? Accepted from the sender, on their way, or arrived and unread.
//!
//! Never knows the time or the dice: its connection says what leaves and when it arrives.

use std::collections::VecDeque;
use std::io::IoSlice;

/// What travels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Segment {
    /// So many bytes.
    Bytes(usize),
    /// The sender's word that nothing more follows.
    End,
}

/// How far the end of the stream has got.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    NotSaid,
    Waiting,
    OnItsWay,
    Arrived,
}

/// One direction of a connection.
#[derive(Debug)]
pub(super) struct Pipe {
    /// Arrived, on their way, waiting: in this order.
    bytes: VecDeque<u8>,
    arrived: usize,
    on_their_way: usize,
    segments: VecDeque<Segment>,
    end: End,
    send_buffer: usize,
    receive_window: usize,
    /// When the last segment arrives, in nanoseconds: none arrives before it.
    pub(super) last_arrival: u64,
    /// Until when the sender's side is full by fault.
    pub(super) full_until: u64,
    /// A send was cut short: the sender is told when there is room again.
    pub(super) sender_waits: bool,
    /// Nothing leaves any more.
    pub(super) is_dead: bool,
    /// Counts the times that everything on its way was lost, so that an arrival that was due then is not taken for another's.
    pub(super) losses: u32,
}

impl Pipe {
    pub(super) fn new(send_buffer: usize, receive_window: usize) -> Self {
        Self {
            bytes: VecDeque::new(),
            arrived: 0,
            on_their_way: 0,
            segments: VecDeque::new(),
            end: End::NotSaid,
            // Without room for a byte nothing would ever move.
            send_buffer: send_buffer.max(1),
            receive_window: receive_window.max(1),
            last_arrival: 0,
            full_until: 0,
            sender_waits: false,
            is_dead: false,
            losses: 0,
        }
    }

    // ---- the sender's side ---------------------------------------------------------------------------------

    fn outstanding(&self) -> usize {
        self.bytes.len() - self.arrived
    }

    /// Bytes that a send may add.
    pub(super) fn room(&self, now: u64) -> usize {
        if now < self.full_until { 0 } else { self.send_buffer.saturating_sub(self.outstanding()) }
    }

    /// Whether a waiting sender is worth telling: a third of the buffer is free, as Linux has it.
    pub(super) fn is_writable(&self, now: u64) -> bool {
        now >= self.full_until && self.outstanding() * 3 <= self.send_buffer * 2
    }

    /// Takes the first `count` bytes of `slices`.
    pub(super) fn put(&mut self, slices: &[IoSlice<'_>], count: usize) {
        let mut left = count;
        for slice in slices {
            let part = &slice[..slice.len().min(left)];
            self.bytes.extend(part);
            left -= part.len();
        }
    }

    /// Says that nothing more follows; false when that was said before.
    pub(super) fn say_end(&mut self) -> bool {
        let is_new = self.end == End::NotSaid;
        if is_new {
            self.end = End::Waiting;
        }
        is_new
    }

    pub(super) fn end_was_said(&self) -> bool {
        self.end != End::NotSaid
    }

    // ---- on the way ----------------------------------------------------------------------------------------

    /// Bytes that may leave now: what waits, as far as the receiver has room.
    pub(super) fn ready_to_leave(&self) -> usize {
        let waiting = self.outstanding() - self.on_their_way;
        waiting.min(self.receive_window.saturating_sub(self.arrived + self.on_their_way))
    }

    /// Whether the end may leave: nothing waits before it.
    pub(super) fn end_may_leave(&self) -> bool {
        self.end == End::Waiting && self.outstanding() == self.on_their_way
    }

    pub(super) fn leave(&mut self, segment: Segment) {
        match segment {
            Segment::Bytes(count) => self.on_their_way += count,
            Segment::End => self.end = End::OnItsWay,
        }
        self.segments.push_back(segment);
    }

    /// The next segment arrives.
    pub(super) fn arrive(&mut self) -> Option<Segment> {
        let segment = self.segments.pop_front()?;
        match segment {
            Segment::Bytes(count) => {
                self.on_their_way -= count;
                self.arrived += count;
            }
            Segment::End => self.end = End::Arrived,
        }
        Some(segment)
    }

    /// What has not arrived never will.
    pub(super) fn lose_all(&mut self) {
        self.bytes.truncate(self.arrived);
        self.on_their_way = 0;
        self.segments.clear();
        self.losses += 1;
    }

    /// What has not left never will; what is on its way arrives.
    pub(super) fn lose_waiting(&mut self) {
        self.bytes.truncate(self.arrived + self.on_their_way);
    }

    // ---- the receiver's side -------------------------------------------------------------------------------

    /// Bytes that can be received now.
    pub(super) fn arrived(&self) -> usize {
        self.arrived
    }

    pub(super) fn end_has_arrived(&self) -> bool {
        self.end == End::Arrived
    }

    /// Hands out the first bytes: as many as `spare` holds, which are there.
    pub(super) fn take(&mut self, spare: &mut [u8]) {
        let (front, back) = self.bytes.as_slices();
        let from_front = front.len().min(spare.len());
        spare[..from_front].copy_from_slice(&front[..from_front]);
        let rest = spare.len() - from_front;
        spare[from_front..].copy_from_slice(&back[..rest]);
        self.bytes.drain(..spare.len());
        self.arrived -= spare.len();
    }
}

impl std::fmt::Display for Pipe {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let waiting = self.outstanding() - self.on_their_way;
        write!(f, "{} unread, {} on their way, {waiting} waiting", self.arrived, self.on_their_way)?;
        match self.end {
            End::NotSaid => {}
            End::Waiting => write!(f, ", end waiting")?,
            End::OnItsWay => write!(f, ", end on its way")?,
            End::Arrived => write!(f, ", ended")?,
        }
        if self.is_dead { write!(f, ", stalled for ever") } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_keep_their_order_and_both_bounds_hold() {
        let mut pipe = Pipe::new(8, 4);
        assert_eq!(pipe.room(0), 8);
        pipe.put(&[IoSlice::new(b"abc"), IoSlice::new(b"defghijk")], 8);
        assert_eq!((pipe.room(0), pipe.ready_to_leave()), (0, 4));
        pipe.leave(Segment::Bytes(3));
        pipe.leave(Segment::Bytes(1));
        assert_eq!((pipe.ready_to_leave(), pipe.arrived()), (0, 0));
        assert_eq!(pipe.arrive(), Some(Segment::Bytes(3)));
        assert_eq!((pipe.arrived(), pipe.room(0), pipe.ready_to_leave()), (3, 3, 0));
        let mut spare = [0; 2];
        pipe.take(&mut spare);
        assert_eq!((&spare, pipe.ready_to_leave()), (b"ab", 2));
        assert!(pipe.say_end() && !pipe.say_end() && !pipe.end_may_leave());
        pipe.leave(Segment::Bytes(2));
        pipe.lose_waiting();
        assert!(pipe.end_may_leave());
        pipe.leave(Segment::End);
        while pipe.arrive().is_some() {}
        let mut rest = [0; 4];
        pipe.take(&mut rest);
        assert_eq!((&rest, pipe.end_has_arrived()), (b"cdef", true));
    }

    #[test]
    fn what_is_lost_was_not_there_yet() {
        let mut pipe = Pipe::new(100, 100);
        pipe.put(&[IoSlice::new(b"abcdef")], 6);
        pipe.leave(Segment::Bytes(2));
        pipe.leave(Segment::Bytes(2));
        pipe.arrive();
        pipe.lose_all();
        assert_eq!((pipe.arrived(), pipe.ready_to_leave(), pipe.arrive()), (2, 0, None));
    }
}
