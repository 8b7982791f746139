//! How are bytes read and written by system call, and what does the outcome tell of the socket?
//!
//! Never waits: a socket that can do nothing now is marked, and whoever wants it waits in [`super::io`].

use std::io::IoSlice;

use rustix::io::Errno;

use super::socket::{Flags, Socket, Then};
use crate::net::conduit::Conduit;

/// Reads by system call. A short read means that the socket is drained: the next bytes bring a new event.
pub(super) fn recv_direct(socket: &mut Socket, spare: &mut [u8]) -> Result<usize, Errno> {
    let Some(fd) = &socket.fd else { return Err(Errno::BADF) };
    let room = spare.len();
    let outcome = loop {
        match fd.recv(&mut *spare) {
            Err(Errno::INTR) => {}
            other => break other,
        }
    };
    let drained = match outcome {
        Ok(count) => count < room && count > 0,
        Err(error) => error == Errno::AGAIN,
    };
    if drained && !socket.flags.has(Flags::READ_CLOSED) || outcome == Err(Errno::AGAIN) {
        socket.flags.clear(Flags::READABLE);
    }
    outcome
}

/// Sends by system call; whether more follows at once, so that the kernel may wait for it. What it does not take tells that it
/// is full.
pub(super) fn send_direct(socket: &mut Socket, slices: &[IoSlice<'_>], more: bool) -> Result<usize, Errno> {
    let Some(fd) = &socket.fd else { return Err(Errno::BADF) };
    let outcome = loop {
        match fd.send(slices, more) {
            Err(Errno::INTR) => {}
            other => break other,
        }
    };
    let is_full = match outcome {
        Ok(count) => count < slices.iter().map(|slice| slice.len()).sum(),
        Err(error) => error == Errno::AGAIN,
    };
    if is_full {
        socket.flags.clear(Flags::WRITABLE);
    }
    outcome
}

/// Moves bytes from a socket into an empty pipe. A short move does not say that the socket is drained: a pipe of many small
/// pieces is full early.
pub(super) fn fill_direct(socket: &mut Socket, conduit: &mut Conduit, limit: usize) -> Result<usize, Errno> {
    let Some(fd) = &socket.fd else { return Err(Errno::BADF) };
    let outcome = loop {
        match conduit.fill(fd, limit) {
            Err(Errno::INTR) => {}
            other => break other,
        }
    };
    if outcome == Err(Errno::AGAIN) {
        socket.flags.clear(Flags::READABLE);
    }
    outcome
}

/// Moves bytes from a pipe into a socket.
pub(super) fn drain_direct(socket: &mut Socket, conduit: &mut Conduit, count: usize) -> Result<usize, Errno> {
    let Some(fd) = &socket.fd else { return Err(Errno::BADF) };
    let outcome = loop {
        match conduit.drain(fd, count) {
            Err(Errno::INTR) => {}
            other => break other,
        }
    };
    if outcome == Err(Errno::AGAIN) {
        socket.flags.clear(Flags::WRITABLE);
    }
    outcome
}

/// What became of the rest of a message.
pub(super) enum Rest {
    Sent,
    Blocked,
    /// Sent, or beyond help, and nobody owns the socket any more.
    Orphaned,
}

/// Sends what the kernel did not take of a message earlier.
pub(super) fn send_rest(socket: &mut Socket) -> Rest {
    let Some(mut unsent) = socket.unsent.take() else { return Rest::Sent };
    match send_direct(socket, &[IoSlice::new(&unsent.bytes[unsent.sent..])], false) {
        Ok(count) => unsent.sent += count,
        Err(Errno::AGAIN) => {}
        Err(error) => {
            socket.error = error.raw_os_error();
            unsent.sent = unsent.bytes.len();
        }
    }
    if unsent.sent < unsent.bytes.len() {
        socket.unsent = Some(unsent);
        return Rest::Blocked;
    }
    match unsent.then {
        Then::GoOn => Rest::Sent,
        Then::ShutDown => {
            // A connection that is gone meanwhile needs no farewell.
            let _ = shutdown_direct(socket);
            Rest::Sent
        }
        Then::Close => Rest::Orphaned,
    }
}

/// Tells the peer that nothing more follows.
pub(super) fn shutdown_direct(socket: &Socket) -> Result<(), Errno> {
    let Some(fd) = &socket.fd else { return Err(Errno::BADF) };
    fd.shutdown_write()
}
