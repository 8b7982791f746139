//! How does a simulated connection behave? As Linux's TCP does, as far as a process can tell.
//!
//! Never schedules for another connection; what it needs of the world it is given.
//!
//! What a process sees of a broken or half-closed connection (which error once, which ever after, which events) follows
//! Linux: `tcp_poll`, `tcp_recvmsg`, `tcp_sendmsg`, `tcp_reset` and `tcp_close`.

use std::io::IoSlice;
use std::net::SocketAddr;

use rustix::event::epoll::EventFlags;
use rustix::io::Errno;

use super::faults::LinkFaults;
use super::medium::{Due, Key, Medium, Side, Watch};
use super::pipe::{Pipe, Segment};
use super::trace::TraceKind;

/// How far a side has got.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    /// The handshake is not over.
    Opening,
    Open,
    /// Reset, refused or given up.
    Broken,
}

/// Who has a side in hand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Owner {
    /// Nobody yet: it waits for its accept.
    Kernel,
    /// A process, by its [`crate::net::Handle`].
    Process,
    /// Nobody any more.
    Nobody,
}

/// One side of a connection.
#[derive(Debug)]
pub(super) struct End {
    pub(super) address: SocketAddr,
    pub(super) host: usize,
    pub(super) state: State,
    pub(super) owner: Owner,
    pub(super) watch: Option<Watch>,
    /// What the next call tells.
    error: Option<Errno>,
    /// Closing it is a reset (SO_LINGER of zero).
    pub(super) resets_on_close: bool,
    /// Carries what this side sends.
    out: Pipe,
}

/// A connection, from the first word of its handshake until no side has an owner.
#[derive(Debug)]
pub(super) struct Connection {
    pub(super) number: u32,
    /// Decides which of several listeners gets it.
    pub(super) hash: u64,
    /// The listener that keeps a place for it, until it is accepted.
    pub(super) listener: Option<u32>,
    ends: [End; 2],
}

impl Connection {
    /// A connection that `from` asks for.
    pub(super) fn new(
        number: u32,
        from: (usize, SocketAddr),
        to: (usize, SocketAddr),
        medium: &mut Medium,
    ) -> Self {
        let link = medium.link(from.0, to.0);
        let mut end = |(host, address), owner| End {
            address,
            host,
            state: State::Opening,
            owner,
            watch: None,
            error: None,
            resets_on_close: false,
            out: Pipe::new(
                medium.dice.bytes(&link.send_buffer_bytes),
                medium.dice.bytes(&link.receive_window_bytes),
            ),
        };
        let ends = [end(from, Owner::Process), end(to, Owner::Kernel)];
        Self { number, hash: medium.dice.next(), listener: None, ends }
    }

    pub(super) fn end(&self, side: Side) -> &End {
        &self.ends[side as usize]
    }

    pub(super) fn end_mut(&mut self, side: Side) -> &mut End {
        &mut self.ends[side as usize]
    }

    /// What `side` receives.
    fn incoming(&mut self, side: Side) -> &mut Pipe {
        &mut self.ends[side.other() as usize].out
    }

    fn key(&self, side: Side) -> Key {
        Key::End(self.number, side)
    }

    fn tell(&mut self, side: Side, medium: &mut Medium) {
        let key = self.key(side);
        medium.tell(&mut self.end_mut(side).watch, key);
    }

    pub(super) fn link(&self, medium: &Medium) -> std::sync::Arc<LinkFaults> {
        medium.link(self.ends[0].host, self.ends[1].host)
    }

    /// Whether nobody can notice any more what becomes of it.
    pub(super) fn is_over(&self) -> bool {
        self.ends.iter().all(|end| end.owner == Owner::Nobody)
    }

    // ---- the handshake -------------------------------------------------------------------------------------

    pub(super) fn open(&mut self, side: Side, medium: &mut Medium) {
        if self.end(side).state == State::Opening {
            self.end_mut(side).state = State::Open;
            self.tell(side, medium);
            self.push_on(side, medium);
        }
    }

    /// No segment of `side` arrives before `at`.
    pub(super) fn nothing_arrives_before(&mut self, side: Side, at: u64) {
        let out = &mut self.end_mut(side).out;
        out.last_arrival = out.last_arrival.max(at);
    }

    // ---- what a process does -------------------------------------------------------------------------------

    /// What `epoll_wait` would say of a side.
    pub(super) fn events(&self, side: Side, now: u64) -> EventFlags {
        let (end, incoming) = (self.end(side), &self.end(side.other()).out);
        let mut events = EventFlags::empty();
        match end.state {
            State::Opening => return events,
            State::Broken => {
                events = EventFlags::IN | EventFlags::OUT | EventFlags::RDHUP | EventFlags::HUP;
                events.set(EventFlags::ERR, end.error.is_some());
                return events;
            }
            State::Open => {}
        }
        events.set(EventFlags::IN, incoming.arrived() > 0);
        if incoming.end_has_arrived() {
            events |= EventFlags::IN | EventFlags::RDHUP;
        }
        events.set(EventFlags::OUT, end.out.end_was_said() || end.out.is_writable(now));
        events.set(EventFlags::HUP, end.out.end_was_said() && incoming.end_has_arrived());
        events
    }

    pub(super) fn has_unread(&mut self, side: Side) -> bool {
        self.incoming(side).arrived() > 0 || self.incoming(side).end_has_arrived()
    }

    pub(super) fn recv(&mut self, side: Side, spare: &mut [u8], medium: &mut Medium) -> Result<usize, Errno> {
        let state = self.end(side).state;
        let there = self.incoming(side).arrived().min(spare.len());
        if there == 0 {
            // As in Linux, an end that came before a reset is still read as one.
            let has_ended = self.incoming(side).end_has_arrived();
            if !has_ended && let Some(error) = self.end_mut(side).error.take() {
                return Err(error);
            }
            return match state {
                State::Opening => Err(Errno::AGAIN),
                State::Broken => Ok(0),
                State::Open if self.incoming(side).end_has_arrived() => Ok(0),
                State::Open => Err(Errno::AGAIN),
            };
        }
        let mut count = there;
        let link = self.link(medium);
        if there > 1 && medium.dice.happens(link.partial_receive) {
            medium.counts.partial_receives += 1;
            count = medium.dice.between(1, there as u64 - 1) as usize;
        }
        self.incoming(side).take(&mut spare[..count]);
        medium.note(TraceKind::Receive, self.number, side, count);
        if count < spare.len() && self.incoming(side).arrived() > 0 {
            // A short read says that no more was there; so the rest must have come after it.
            self.tell(side, medium);
        }
        self.push_on(side.other(), medium);
        Ok(count)
    }

    pub(super) fn send(
        &mut self,
        side: Side,
        slices: &[IoSlice<'_>],
        medium: &mut Medium,
    ) -> Result<usize, Errno> {
        let end = self.end_mut(side);
        if let Some(error) = end.error.take() {
            return Err(error);
        }
        match end.state {
            State::Opening => return Err(Errno::AGAIN),
            State::Broken => return Err(Errno::PIPE),
            State::Open if end.out.end_was_said() => return Err(Errno::PIPE),
            State::Open => {}
        }
        let total: usize = slices.iter().map(|slice| slice.len()).sum();
        let fits = end.out.room(medium.now).min(total);
        let taken = if fits == 0 { 0 } else { self.cut_send(side, fits, medium) };
        let out = &mut self.end_mut(side).out;
        out.sender_waits |= taken < total;
        if taken == 0 && total > 0 {
            medium.note(TraceKind::SendFull, self.number, side, total);
            return Err(Errno::AGAIN);
        }
        out.put(slices, taken);
        medium.note(TraceKind::Send, self.number, side, taken);
        let mut left = taken;
        for slice in slices {
            let part = &slice[..slice.len().min(left)];
            medium.trace.note_bytes(part);
            left -= part.len();
        }
        self.push_on(side, medium);
        Ok(taken)
    }

    /// Lets a fault take less of a send than fits. The sender's side is full for a while then.
    fn cut_send(&mut self, side: Side, fits: usize, medium: &mut Medium) -> usize {
        let link = self.link(medium);
        let taken = if medium.dice.happens(link.blocked_send) {
            medium.counts.blocked_sends += 1;
            0
        } else if fits > 1 && medium.dice.happens(link.partial_send) {
            medium.counts.partial_sends += 1;
            medium.dice.between(1, fits as u64 - 1) as usize
        } else {
            return fits;
        };
        let until = medium.now + medium.dice.nanos(&link.send_pause);
        self.end_mut(side).out.full_until = until;
        medium.schedule(until, Due::Drained { connection: self.number, side });
        taken
    }

    pub(super) fn shutdown_write(&mut self, side: Side, medium: &mut Medium) -> Result<(), Errno> {
        if self.end(side).state != State::Open {
            return Err(Errno::NOTCONN);
        }
        if self.end_mut(side).out.say_end() {
            medium.note(TraceKind::ShutDown, self.number, side, 0);
            if self.incoming(side).end_has_arrived() {
                self.tell(side, medium); // closed both ways now
            }
            self.push_on(side, medium);
        }
        Ok(())
    }

    pub(super) fn take_error(&mut self, side: Side) -> Result<(), Errno> {
        self.end_mut(side).error.take().map_or(Ok(()), Err)
    }

    pub(super) fn peer_address(&self, side: Side) -> Result<SocketAddr, Errno> {
        match self.end(side).state {
            State::Open => Ok(self.end(side.other()).address),
            State::Opening | State::Broken => Err(Errno::NOTCONN),
        }
    }

    pub(super) fn local_address(&self, side: Side) -> SocketAddr {
        self.end(side).address
    }

    /// Its owner lets go of a side. With bytes unread that is a reset, otherwise what was sent still arrives.
    pub(super) fn close(&mut self, side: Side, medium: &mut Medium) {
        medium.note(TraceKind::Close, self.number, side, 0);
        let end = self.end_mut(side);
        end.owner = Owner::Nobody;
        end.watch = None;
        let (state, resets) = (end.state, end.resets_on_close);
        match state {
            State::Broken => {}
            // No listener has heard of it: nobody ever will.
            State::Opening if self.listener.is_none() => self.end_mut(side.other()).owner = Owner::Nobody,
            State::Opening => self.send_reset(side, medium),
            State::Open if resets || self.incoming(side).arrived() > 0 => self.send_reset(side, medium),
            State::Open => {
                self.end_mut(side).out.say_end();
                self.push_on(side, medium);
            }
        }
    }

    // ---- what happens on the way ---------------------------------------------------------------------------

    /// Lets what waits at `side` leave, as far as the receiver has room.
    fn push_on(&mut self, side: Side, medium: &mut Medium) {
        if self.end(side).state != State::Open {
            return;
        }
        let link = self.link(medium);
        loop {
            let out = &self.end(side).out;
            let ready = out.ready_to_leave();
            if out.is_dead || ready == 0 && !out.end_may_leave() {
                return;
            }
            if medium.dice.happens(link.reset) {
                medium.counts.resets += 1;
                return self.break_both(medium);
            }
            if medium.dice.happens(link.stalled_for_ever) {
                medium.counts.stalls_for_ever += 1;
                self.end_mut(side).out.is_dead = true;
                return;
            }
            let segment = match ready {
                0 => Segment::End,
                ready => {
                    Segment::Bytes(segment_bytes(ready.min(link.segment_bytes_max as usize), &link, medium))
                }
            };
            let at = arrival(self.end(side).out.last_arrival, &link, medium);
            let (number, out) = (self.number, &mut self.end_mut(side).out);
            out.last_arrival = at;
            out.leave(segment);
            medium.schedule(at, Due::Arrives { connection: number, at: side.other(), losses: out.losses });
        }
    }

    /// The next segment for `side` arrives.
    pub(super) fn arrives(&mut self, side: Side, losses: u32, medium: &mut Medium) {
        let pipe = self.incoming(side);
        if pipe.losses != losses {
            return; // it was lost meanwhile
        }
        let (number, kind) = match pipe.arrive() {
            None => return,
            Some(Segment::Bytes(count)) => (count, TraceKind::Arrive),
            Some(Segment::End) => (0, TraceKind::EndArrives),
        };
        medium.note(kind, self.number, side, number);
        if self.end(side).owner == Owner::Nobody {
            if kind == TraceKind::Arrive && self.end(side).state == State::Open {
                self.send_reset(side, medium); // nobody will read it
            }
            return;
        }
        self.tell(side, medium);
        self.room_may_be_there(side.other(), medium);
    }

    /// Tells a sender that was cut short, once it is worth it.
    pub(super) fn room_may_be_there(&mut self, side: Side, medium: &mut Medium) {
        let out = &mut self.end_mut(side).out;
        if out.sender_waits && out.is_writable(medium.now) {
            out.sender_waits = false;
            self.tell(side, medium);
        }
    }

    /// `side` resets the connection: what it has sent already arrives first.
    fn send_reset(&mut self, side: Side, medium: &mut Medium) {
        medium.note(TraceKind::Reset, self.number, side, 0);
        let link = self.link(medium);
        let end = self.end_mut(side);
        end.state = State::Broken;
        end.out.lose_waiting();
        if !end.out.is_dead {
            let at = arrival(end.out.last_arrival, &link, medium);
            self.reset_arrives_at(side.other(), at, medium);
        }
    }

    /// The network breaks the connection: what is on its way is lost, both sides are told.
    fn break_both(&mut self, medium: &mut Medium) {
        medium.note(TraceKind::Reset, self.number, Side::Connected, 0);
        let link = self.link(medium);
        for side in [Side::Connected, Side::Accepted] {
            let out = &mut self.end_mut(side).out;
            out.lose_all();
            out.is_dead = true;
            let at = medium.now + medium.dice.nanos(&link.latency);
            self.reset_arrives_at(side, at, medium);
        }
    }

    fn reset_arrives_at(&self, side: Side, at: u64, medium: &mut Medium) {
        medium.schedule(at, Due::Reset { connection: self.number, at: side });
    }

    /// The peer of `side`, or the network, is refusing it.
    pub(super) fn refuse(&mut self, side: Side, medium: &mut Medium) {
        let at = medium.now + medium.dice.nanos(&self.link(medium).latency);
        self.end_mut(side.other()).state = State::Broken;
        self.end_mut(side.other()).owner = Owner::Nobody;
        self.reset_arrives_at(side, at, medium);
    }

    /// Nothing goes any further at `side`; its next call tells `error`.
    pub(super) fn breaks(&mut self, side: Side, error: Errno, medium: &mut Medium) {
        if self.end(side).state == State::Broken {
            return;
        }
        medium.note(TraceKind::ResetArrives, self.number, side, 0);
        let end = self.end_mut(side);
        end.state = State::Broken;
        end.error = Some(error);
        end.out.lose_all();
        self.incoming(side).lose_all();
        self.tell(side, medium);
    }

    /// What a reset means to `side`: `tcp_reset` has three words for it.
    pub(super) fn error_of_reset(&mut self, side: Side) -> Errno {
        let was_closing = self.incoming(side).end_has_arrived() && !self.end(side).out.end_was_said();
        match self.end(side).state {
            State::Opening => Errno::CONNREFUSED,
            _ if was_closing => Errno::PIPE,
            _ => Errno::CONNRESET,
        }
    }
}

/// How many of `ready` bytes the next segment carries.
fn segment_bytes(ready: usize, link: &LinkFaults, medium: &mut Medium) -> usize {
    if ready < 2 || !medium.dice.happens(link.split) {
        return ready;
    }
    medium.counts.splits += 1;
    let longest = if medium.dice.one_in(2) { ready - 1 } else { 8.min(ready - 1) };
    medium.dice.between(1, longest as u64) as usize
}

/// When what leaves now arrives: never before what left earlier.
fn arrival(last_arrival: u64, link: &LinkFaults, medium: &mut Medium) -> u64 {
    let mut at = medium.now + medium.dice.nanos(&link.latency);
    if medium.dice.happens(link.delayed) {
        medium.counts.delays += 1;
        at += medium.dice.nanos(&link.delay);
    }
    if medium.dice.happens(link.stalled) {
        medium.counts.stalls += 1;
        at += medium.dice.nanos(&link.stall);
    }
    at.max(last_arrival)
}

impl std::fmt::Display for Connection {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let [connected, accepted] = &self.ends;
        write!(f, "connection {} from {} to {}", self.number, connected.address, accepted.address)?;
        for end in &self.ends {
            let Owner::Process = end.owner else { continue };
            write!(f, "\n    {} {:?}: sends {}", end.address, end.state, end.out)?;
            if let Some(watch) = &end.watch {
                write!(f, "; socket {} of core {}", watch.slot, watch.core)?;
            }
        }
        Ok(())
    }
}
