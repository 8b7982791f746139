//! How do bytes get from a socket to the task that waits for them? In a buffer that is taken once they are there.
//!
//! Never holds a buffer for a socket that is silent.

use std::io;
use std::task::{Poll, Waker};

use rustix::io::Errno;

use super::{Io, end_of, has_news, may_have_bytes, unless_late};
use crate::buffer::Chunk;
use crate::driver::direct::recv_direct;
use crate::driver::socket::Flags;

/// What is received of a connection whose last bytes a pipe has moved: enough to say what comes, the head of a message above all.
/// The rest is likely to be moved too, and is not copied before.
const LOOK_BYTES: usize = 1536;

impl Io {
    pub(crate) fn poll_recv(&mut self, index: u32, waker: &Waker) -> Poll<io::Result<Option<Chunk>>> {
        if !may_have_bytes(&self.sockets[index]) {
            return self.wait_bytes(index, waker);
        }
        self.receive_now(index, &[], waker)
    }

    /// Receives behind a copy of `prefix`, in one buffer that is taken only once there are bytes. `None` is the end of
    /// the stream.
    pub(crate) fn poll_recv_behind(
        &mut self,
        index: u32,
        prefix: &[u8],
        waker: &Waker,
    ) -> Poll<io::Result<Option<Chunk>>> {
        if prefix.len() >= self.pool(index).buffer_bytes() as usize {
            return Poll::Ready(Err(io::Error::from(io::ErrorKind::StorageFull)));
        }
        if !may_have_bytes(&self.sockets[index]) {
            return self.wait_bytes(index, waker);
        }
        self.receive_now(index, prefix, waker)
    }

    /// Waits for something to be received, an end or an error included.
    pub(crate) fn poll_readable(&mut self, index: u32, waker: &Waker) -> Poll<io::Result<()>> {
        let socket = &mut self.sockets[index];
        if has_news(socket) {
            return Poll::Ready(Ok(()));
        }
        socket.wait_read(waker);
        unless_late(Poll::Pending, socket, self.now_tick).map_ok(|_: Option<()>| ())
    }

    /// Reads by system call into a buffer of its own.
    fn receive_now(&mut self, index: u32, prefix: &[u8], waker: &Waker) -> Poll<io::Result<Option<Chunk>>> {
        let Some(mut chunk) = self.pool(index).take() else {
            self.pool(index).wait(waker);
            let socket = &mut self.sockets[index];
            socket.wait_read(waker);
            return unless_late(Poll::Pending, socket, self.now_tick);
        };
        if !prefix.is_empty() {
            chunk.append(prefix);
        }
        let socket = &mut self.sockets[index];
        let mut spare = chunk.spare();
        if socket.flags.has(Flags::MOVED) {
            socket.flags.clear(Flags::MOVED);
            let room = spare.len().min(LOOK_BYTES);
            spare = &mut spare[..room];
        }
        match recv_direct(socket, spare) {
            Ok(0) => {
                socket.flags.set(Flags::ENDED);
                self.wait_bytes(index, waker)
            }
            Ok(count) => {
                chunk.filled(count);
                Poll::Ready(Ok(Some(chunk)))
            }
            Err(Errno::AGAIN) => self.wait_bytes(index, waker),
            Err(error) => Poll::Ready(Err(error.into())),
        }
    }

    /// Tells how the stream has ended if it has; otherwise wakes the reader once there is something to be received.
    pub(super) fn wait_bytes<T>(&mut self, index: u32, waker: &Waker) -> Poll<io::Result<Option<T>>> {
        let socket = &mut self.sockets[index];
        if let Some(end) = end_of(socket) {
            return Poll::Ready(end.map(|()| None));
        }
        socket.wait_read(waker);
        unless_late(Poll::Pending, socket, self.now_tick)
    }
}
