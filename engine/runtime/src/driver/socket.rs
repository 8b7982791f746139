//! What does a core remember of each open socket? One small slot, whatever the driver.
//!
//! Never holds a buffer or a task for a socket that is merely open.

use std::any::Any;
use std::task::Waker;

use crate::buffer::Lane;
use crate::net::handle::Handle;
use crate::wheel::EntryId;

/// No deadline, no tag, no buffer.
pub(crate) const NO_DEADLINE: u64 = u64::MAX;
const NO_TIMER: u32 = u32::MAX;

/// Facts about a socket that are true or not at any moment, packed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Flags(u16);

impl Flags {
    /// A read would probably find something (bytes, end or error).
    pub(crate) const READABLE: Self = Self(1);
    /// A write would probably find room.
    pub(crate) const WRITABLE: Self = Self(1 << 1);
    /// The peer has closed its side, or the connection broke: what is left to read ends soon.
    pub(crate) const READ_CLOSED: Self = Self(1 << 2);
    /// Waits without a task; see [`crate::net::stream::Stream::park`].
    pub(crate) const PARKED: Self = Self(1 << 3);
    /// The lane of buffers is [`Lane::Connected`].
    const CONNECTED: Self = Self(1 << 11);
    /// A parked event of this socket is queued for the core already.
    pub(crate) const EVENT_QUEUED: Self = Self(1 << 12);
    /// A receive has found the end of the stream.
    pub(crate) const ENDED: Self = Self(1 << 6);
    /// Its last bytes were moved by a pipe.
    pub(crate) const MOVED: Self = Self(1 << 4);
    /// The kernel refused a message before it took any byte of it.
    pub(crate) const SEND_REFUSED: Self = Self(1 << 15);
    /// The kernel has told a sender that the connection broke, and tells a receiver no more than that it ended.
    pub(crate) const SEND_FAILED: Self = Self(1 << 14);
    /// Both directions are closed, or the connection was reset.
    pub(crate) const BROKEN: Self = Self(1 << 13);

    #[inline]
    pub(crate) const fn has(self, other: Self) -> bool {
        self.0 & other.0 != 0
    }

    #[inline]
    pub(crate) const fn set(&mut self, other: Self) {
        self.0 |= other.0;
    }

    #[inline]
    pub(crate) const fn clear(&mut self, other: Self) {
        self.0 &= !other.0;
    }
}

/// The rest of a letter.
#[derive(Debug)]
pub(crate) struct Unsent {
    pub(crate) bytes: Vec<u8>,
    pub(crate) sent: usize,
    pub(crate) then: Then,
}

/// What its owner has asked of a socket once the rest of a letter is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Then {
    /// Nothing: it goes on.
    GoOn,
    /// To tell the peer that nothing more follows.
    ShutDown,
    /// To close it, when this is sent or late: nobody owns it any more.
    Close,
}

/// One open socket.
#[derive(Debug)]
pub(crate) struct Socket {
    /// `None` in a free slot, and once closed.
    pub(crate) fd: Option<Handle>,
    /// Counts the uses of this slot, so that a stale [`crate::net::stream::Parked`] is told from a live one.
    pub(crate) generation: u32,
    pub(crate) flags: Flags,
    /// What the next receive tells: an errno, 0 for none.
    pub(crate) error: i32,
    /// What the owner of a parked socket calls it.
    pub(crate) tag: u32,
    timer: u32,
    /// When that timer comes up, to spare a look at the wheel.
    timer_due: u64,
    /// When a wait for reading, or parking, is over; and one for writing.
    pub(crate) recv_deadline: u64,
    pub(crate) send_deadline: u64,
    /// The turn in which the kernel was last asked to watch it (io_uring).
    pub(crate) queued_turn: u32,
    /// Letters in the outbox.
    pub(crate) letters: u16,
    /// What the kernel did not take of a letter; nothing else is sent before.
    pub(crate) unsent: Option<Box<Unsent>>,
    pub(crate) reader: Option<Waker>,
    pub(crate) writer: Option<Waker>,
    /// What is let go once the connection is closed.
    pub(crate) held: Option<Held>,
}

/// Something that lasts as long as a connection.
#[derive(Debug)]
pub(crate) struct Held(#[expect(dead_code, reason = "it is there to be dropped")] Box<dyn Any>);

impl Held {
    pub(crate) fn new(held: impl Any) -> Self {
        Self(Box::new(held))
    }
}

impl Socket {
    fn vacant() -> Self {
        Self {
            fd: None,
            generation: 0,
            flags: Flags::default(),
            error: 0,
            tag: 0,
            timer: NO_TIMER,
            timer_due: NO_DEADLINE,
            recv_deadline: NO_DEADLINE,
            send_deadline: NO_DEADLINE,
            queued_turn: 0,
            letters: 0,
            unsent: None,
            reader: None,
            writer: None,
            held: None,
        }
    }

    pub(crate) fn timer(&self) -> Option<EntryId> {
        (self.timer != NO_TIMER).then(|| EntryId::from_raw(self.timer))
    }

    /// When the socket's timer comes up; never without one.
    #[inline]
    pub(crate) fn timer_due(&self) -> u64 {
        self.timer_due
    }

    pub(crate) fn set_timer(&mut self, timer: EntryId, due: u64) {
        self.timer = timer.raw();
        self.timer_due = due;
    }

    pub(crate) fn clear_timer(&mut self) {
        self.timer = NO_TIMER;
        self.timer_due = NO_DEADLINE;
    }

    pub(crate) fn lane(&self) -> Lane {
        if self.flags.has(Flags::CONNECTED) { Lane::Connected } else { Lane::Accepted }
    }

    #[inline]
    pub(crate) fn wait_read(&mut self, waker: &Waker) {
        remember(&mut self.reader, waker);
    }

    #[inline]
    pub(crate) fn wait_write(&mut self, waker: &Waker) {
        remember(&mut self.writer, waker);
    }

    #[inline]
    pub(crate) fn wake_reader(&mut self) {
        if let Some(waker) = self.reader.take() {
            waker.wake();
        }
    }

    #[inline]
    pub(crate) fn wake_writer(&mut self) {
        if let Some(waker) = self.writer.take() {
            waker.wake();
        }
    }
}

#[inline]
fn remember(place: &mut Option<Waker>, waker: &Waker) {
    match place {
        Some(known) if known.will_wake(waker) => {}
        _ => *place = Some(waker.clone()),
    }
}

/// All sockets of one core, by slot index.
#[derive(Debug, Default)]
pub(crate) struct Sockets {
    slots: Vec<Socket>,
    free: Vec<u32>,
    postponed: Vec<u32>,
}

impl Sockets {
    pub(crate) fn open(&mut self, fd: Handle, lane: Lane) -> u32 {
        let index = self.free.pop().unwrap_or_else(|| {
            self.slots.push(Socket::vacant());
            u32::try_from(self.slots.len() - 1).expect("fewer sockets than 2^32")
        });
        let socket = &mut self.slots[index as usize];
        let generation = socket.generation.wrapping_add(1);
        *socket = Socket { fd: Some(fd), generation, ..Socket::vacant() };
        socket.flags.set(Flags::WRITABLE);
        if lane == Lane::Connected {
            socket.flags.set(Flags::CONNECTED);
        }
        index
    }

    /// Makes a slot free for the next socket. Its descriptor must be gone.
    pub(crate) fn release(&mut self, index: u32) {
        let socket = &mut self[index];
        debug_assert!(socket.fd.is_none() && socket.timer().is_none());
        socket.flags = Flags::default();
        self.free.push(index);
    }

    /// Memory for the sockets whose deadline turned out to be later than their timer.
    pub(crate) fn postponed(&mut self) -> &mut Vec<u32> {
        &mut self.postponed
    }

    pub(crate) fn open_count(&self) -> usize {
        self.slots.len() - self.free.len()
    }

    pub(crate) fn indices(&self) -> std::ops::Range<u32> {
        0..self.slots.len() as u32
    }
}

impl std::ops::Index<u32> for Sockets {
    type Output = Socket;

    #[inline]
    fn index(&self, index: u32) -> &Socket {
        &self.slots[index as usize]
    }
}

impl std::ops::IndexMut<u32> for Sockets {
    #[inline]
    fn index_mut(&mut self, index: u32) -> &mut Socket {
        &mut self.slots[index as usize]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slot_stays_small() {
        assert!(size_of::<Socket>() <= 128, "{}", size_of::<Socket>());
    }
}
