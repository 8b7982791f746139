//! When does what a task sends leave? A small message with the others of its turn, a larger one at once.
//!
//! Never waits, never changes the order of what one socket is sent.

use std::io::{self, IoSlice};

use rustix::io::Errno;

use super::{Io, note_parked};
use crate::driver::direct::send_direct;
use crate::driver::socket::{Flags, Then, Unsent};
use crate::net::stream::ParkEvent;

/// No socket.
const NOBODY: u32 = u32::MAX;

impl Io {
    /// Takes a small message whole, to be sent with the others of this turn; sends what the kernel takes at once of a
    /// larger one. `WouldBlock` when that is nothing.
    pub(crate) fn try_send(&mut self, index: u32, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        let total: usize = slices.iter().map(|slice| slice.len()).sum();
        let has_room = self.outbox.has_room(total);
        if !has_room && self.sockets[index].letters > 0 {
            self.deliver();
        }
        let socket = &mut self.sockets[index];
        if socket.error != 0 {
            return Err(io::Error::from_raw_os_error(socket.error));
        }
        if !socket.flags.has(Flags::WRITABLE) {
            return Err(io::Error::from(io::ErrorKind::WouldBlock));
        }
        if has_room {
            socket.letters += 1;
            self.outbox.post(index, slices.iter().map(|slice| &**slice));
            return Ok(total);
        }
        send_direct(socket, slices, false).map_err(|error| match error {
            Errno::AGAIN => io::Error::from(io::ErrorKind::WouldBlock),
            error => {
                self.sockets[index].flags.set(Flags::SEND_FAILED);
                error.into()
            }
        })
    }

    /// Sends what the tasks have left in the outbox.
    pub(super) fn deliver(&mut self) {
        self.deliver_before(NOBODY);
    }

    /// [`Self::deliver`], when bytes for the socket at `index` follow at once: what it is sent goes out with them.
    pub(super) fn deliver_before(&mut self, follows: u32) {
        let Self { outbox, sockets, parked_events, .. } = self;
        let mut next = 0;
        while let Some((letter, bytes)) = outbox.letter(next) {
            next += 1;
            let index = letter.socket;
            let socket = &mut sockets[index];
            socket.letters -= 1;
            if let Some(unsent) = &mut socket.unsent {
                unsent.bytes.extend_from_slice(bytes);
                continue;
            }
            let sent = match send_direct(socket, &[IoSlice::new(bytes)], index == follows) {
                Ok(count) => count,
                Err(Errno::AGAIN) => 0,
                Err(error) => {
                    socket.error = error.raw_os_error();
                    socket.flags.set(Flags::SEND_REFUSED);
                    socket.wake_reader();
                    note_parked(sockets, parked_events, index, ParkEvent::Readable);
                    continue;
                }
            };
            if sent < bytes.len() {
                let bytes = bytes[sent..].to_vec();
                socket.unsent = Some(Box::new(Unsent { bytes, sent: 0, then: Then::GoOn }));
            }
        }
        outbox.clear();
    }

    /// Whether the kernel has refused a message whole: not a byte of it left.
    pub(crate) fn send_was_refused(&self, index: u32) -> bool {
        self.sockets[index].flags.has(Flags::SEND_REFUSED)
    }
}
