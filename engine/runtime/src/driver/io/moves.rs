//! How do bytes get from one socket to another without passing through this process? By way of a pipe, as far as both allow.
//!
//! Never waits: what cannot move now is waited for as any receive or send is.

use std::io;
use std::task::{Poll, Waker};

use rustix::io::Errno;

use super::{Backend, Io, may_have_bytes};
use crate::driver::direct::{drain_direct, fill_direct};
use crate::driver::socket::Flags;
use crate::net::conduit::Conduit;

impl Io {
    /// An empty pipe, unless all are in use or none can be had.
    pub(crate) fn take_conduit(&mut self) -> Option<Conduit> {
        let Self { conduits, backend, .. } = self;
        conduits.take(|| match backend {
            Backend::Epoll(_) | Backend::Uring(_) => Conduit::open(),
            #[cfg(feature = "simulation")]
            Backend::Simulated(driver) => driver.open_conduit().map(Conduit::from),
        })
    }

    pub(crate) fn give_conduit_back(&mut self, conduit: Conduit, is_empty: bool) {
        self.conduits.give_back(conduit, is_empty);
    }

    pub(crate) fn conduits_open(&self) -> u16 {
        self.conduits.open_count()
    }

    /// Moves up to `limit` bytes of a socket into an empty pipe; 0 is the end of the stream.
    pub(crate) fn poll_fill(
        &mut self,
        index: u32,
        conduit: &mut Conduit,
        limit: usize,
        waker: &Waker,
    ) -> Poll<io::Result<usize>> {
        let socket = &mut self.sockets[index];
        if may_have_bytes(socket) {
            match fill_direct(socket, conduit, limit) {
                Ok(0) => socket.flags.set(Flags::ENDED),
                Ok(count) => {
                    socket.flags.set(Flags::MOVED);
                    return Poll::Ready(Ok(count));
                }
                Err(Errno::AGAIN) => {}
                Err(error) => return Poll::Ready(Err(error.into())),
            }
        }
        self.wait_bytes::<usize>(index, waker).map_ok(|_| 0)
    }

    /// Moves what is there of up to `limit` further bytes into a pipe that is not empty; 0 may as well mean that it is full.
    pub(crate) fn fill_more(&mut self, index: u32, conduit: &mut Conduit, limit: usize) -> usize {
        let socket = &mut self.sockets[index];
        let Some(fd) = socket.fd.as_ref().filter(|_| may_have_bytes(socket)) else { return 0 };
        match conduit.fill(fd, limit) {
            Ok(0) => {
                socket.flags.set(Flags::ENDED);
                0
            }
            Ok(count) => count,
            Err(Errno::AGAIN | Errno::INTR) => 0,
            // The kernel says it once; the next receive passes it on.
            Err(error) => {
                socket.error = error.raw_os_error();
                0
            }
        }
    }

    /// Finds out whether a socket still has what it was marked for: a move that took all it was told to take does not say.
    pub(crate) fn settle(&mut self, index: u32) {
        let socket = &mut self.sockets[index];
        let is_drained = socket.fd.as_ref().is_some_and(|fd| fd.has_unread() == Ok(false));
        if is_drained && !socket.flags.has(Flags::READ_CLOSED) {
            socket.flags.clear(Flags::READABLE);
        }
    }

    /// Moves what the kernel takes at once of the first `count` bytes of a pipe to a socket, behind what was sent before.
    pub(crate) fn try_drain(&mut self, index: u32, conduit: &mut Conduit, count: usize) -> io::Result<usize> {
        if self.sockets[index].letters > 0 {
            self.deliver_before(index);
        }
        let socket = &mut self.sockets[index];
        if socket.error != 0 {
            return Err(io::Error::from_raw_os_error(socket.error));
        }
        if !socket.flags.has(Flags::WRITABLE) {
            return Err(io::Error::from(io::ErrorKind::WouldBlock));
        }
        drain_direct(socket, conduit, count).map_err(|error| match error {
            Errno::AGAIN => io::Error::from(io::ErrorKind::WouldBlock),
            error => {
                socket.flags.set(Flags::SEND_FAILED);
                error.into()
            }
        })
    }
}
