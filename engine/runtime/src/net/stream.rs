//! How does a task talk over one connection? Receive, send, park; every wait under the stream's deadline.
//!
//! Never buffers what it sends: what the kernel does not take at once stays the caller's.

use std::future::poll_fn;
use std::io::{self, IoSlice};
use std::net::SocketAddr;
use std::task::{Context, Poll};

use crate::buffer::Chunk;
use crate::core::Core;
use crate::time::Instant;

/// Why a parked connection came back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ParkEvent {
    /// Bytes, an end or an error are there to be received.
    Readable,
    /// Its deadline has passed.
    Deadline,
}

/// An open connection of this core; closed when dropped.
#[derive(Debug)]
pub struct Stream {
    core: Core,
    index: u32,
}

/// A connection that waits without a task; see [`Stream::park`]. Stays open when this is dropped.
#[derive(Clone, Copy, Debug)]
pub struct Parked {
    index: u32,
    generation: u32,
}

impl Stream {
    pub(crate) fn new(core: Core, index: u32) -> Self {
        Self { core, index }
    }

    /// Its place among the core's sockets.
    pub(super) fn index(&self) -> u32 {
        self.index
    }

    /// Waits until the kernel has made the connection that is under way.
    pub(crate) async fn connected(&self) -> io::Result<()> {
        self.core.io().connecting(self.index);
        poll_fn(|context| self.core.io().poll_connected(self.index, context.waker())).await
    }

    /// Lets waits for reading, for writing and for a connection end at `deadline`, until set again.
    /// [`Instant::FAR_FUTURE`] is none.
    pub fn set_deadline(&self, deadline: Instant) {
        self.set_recv_deadline(deadline);
        self.set_send_deadline(deadline);
    }

    /// Lets waits for reading, and parking, end at `deadline`. Bytes that are there are received even later.
    #[inline]
    pub fn set_recv_deadline(&self, deadline: Instant) {
        self.core.io().set_recv_deadline(self.index, deadline);
    }

    /// Lets waits for writing, and for a connection, end at `deadline`.
    #[inline]
    pub fn set_send_deadline(&self, deadline: Instant) {
        self.core.io().set_send_deadline(self.index, deadline);
    }

    /// Waits for bytes; a buffer is taken only once there are some. `None` is the end of the stream.
    ///
    /// # Errors
    /// `TimedOut` past the deadline, or the kernel's.
    #[inline]
    pub async fn recv(&self) -> io::Result<Option<Chunk>> {
        poll_fn(|context| self.poll_recv(context)).await
    }

    /// [`Self::recv`] for callers that wait for several things.
    ///
    /// # Errors
    /// As [`Self::recv`].
    #[inline]
    pub fn poll_recv(&self, context: &mut Context<'_>) -> Poll<io::Result<Option<Chunk>>> {
        self.core.io().poll_recv(self.index, context.waker())
    }

    /// Receives behind a copy of `prefix`: what came earlier of a message that has to be in one piece. Whoever waits
    /// for the rest of one so holds no buffer meanwhile. `None` is the end of the stream.
    ///
    /// # Errors
    /// `StorageFull` when a buffer has no room behind the prefix, otherwise as [`Self::recv`].
    pub async fn recv_behind(&self, prefix: &[u8]) -> io::Result<Option<Chunk>> {
        poll_fn(|context| self.poll_recv_behind(prefix, context)).await
    }

    /// [`Self::recv_behind`] for callers that wait for several things.
    ///
    /// # Errors
    /// As [`Self::recv_behind`].
    #[inline]
    pub fn poll_recv_behind(
        &self,
        prefix: &[u8],
        context: &mut Context<'_>,
    ) -> Poll<io::Result<Option<Chunk>>> {
        self.core.io().poll_recv_behind(self.index, prefix, context.waker())
    }

    /// Waits until there is something to be received, an end or an error included, and takes nothing of it.
    ///
    /// # Errors
    /// `TimedOut` past the deadline.
    #[inline]
    pub fn poll_readable(&self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.core.io().poll_readable(self.index, context.waker())
    }

    /// Whether the connection is broken both ways, reset for example; a peer that only stopped sending has not broken
    /// it. For callers that wait for something else on behalf of this peer.
    #[inline]
    pub fn poll_broken(&self, context: &mut Context<'_>) -> Poll<()> {
        self.core.io().poll_broken(self.index, context.waker())
    }

    /// Whether the kernel refused the first message sent since the connection was made or last received from: it went
    /// nowhere.
    #[must_use]
    pub fn send_was_refused(&self) -> bool {
        self.core.io().send_was_refused(self.index)
    }

    /// Whether most buffers for sockets like this one are in use, so that holding one keeps others waiting.
    #[must_use]
    pub fn buffers_are_scarce(&self) -> bool {
        self.core.io().is_scarce(self.index)
    }

    /// Sends what the kernel takes at once. A message of up to 2 KiB is taken whole and goes to the kernel at the end of
    /// the turn, with those of the other tasks; should that fail, the next receive tells.
    ///
    /// # Errors
    /// `WouldBlock` when nothing is taken, or the kernel's.
    #[inline]
    pub fn try_send(&self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        self.core.io().try_send(self.index, slices)
    }

    /// Waits until the kernel takes bytes again.
    ///
    /// # Errors
    /// `TimedOut` past the deadline.
    pub async fn writable(&self) -> io::Result<()> {
        poll_fn(|context| self.poll_writable(context)).await
    }

    /// [`Self::writable`] for callers that wait for several things.
    ///
    /// # Errors
    /// As [`Self::writable`].
    #[inline]
    pub fn poll_writable(&self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.core.io().poll_writable(self.index, context.waker())
    }

    /// Sends all of `bytes`, waiting as often as it takes.
    ///
    /// # Errors
    /// As [`Self::try_send`], except `WouldBlock`.
    pub async fn send_all(&self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            match self.try_send(&[IoSlice::new(bytes)]) {
                Ok(count) => bytes = &bytes[count..],
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => self.writable().await?,
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Says that nothing more will be sent, and goes on receiving.
    ///
    /// # Errors
    /// The kernel's.
    pub fn shutdown_write(&self) -> io::Result<()> {
        self.core.io().shutdown_write(self.index)
    }

    /// Lets the peer see a reset when the connection is closed, because an end would say that a message is whole which
    /// is not. What has not left by then is lost.
    ///
    /// # Errors
    /// The kernel's.
    pub fn reset_on_close(&self) -> io::Result<()> {
        Ok(self.core.io().fd(self.index).reset_on_close()?)
    }

    /// Finds out whether bytes that were announced are still there: what announced them may have come to notice only after
    /// they were moved. Costs a system call.
    pub fn settle(&self) {
        self.core.io().settle(self.index);
    }

    /// Whether nothing was received or noticed since the last receive; what an idle connection should be.
    #[must_use]
    pub fn is_quiet(&self) -> bool {
        self.core.io().is_quiet(self.index)
    }

    /// The peer's address.
    ///
    /// # Errors
    /// `Unsupported` over a Unix socket, whose client has none; the kernel's, when the connection is gone.
    pub fn peer_address(&self) -> io::Result<SocketAddr> {
        Ok(self.core.io().fd(self.index).peer_address()?)
    }

    /// The address that the peer knows this end by.
    ///
    /// # Errors
    /// As [`Self::peer_address`].
    pub fn local_address(&self) -> io::Result<SocketAddr> {
        Ok(self.core.io().fd(self.index).local_address()?)
    }

    /// Holds something until the connection is closed, however that comes about and whoever owns it then. When it is dropped
    /// the peer has been told the end. Its drop may wake tasks and send mail; it may not touch a connection.
    pub fn hold_until_closed(&self, held: impl std::any::Any) {
        self.core.io().hold(self.index, held);
    }

    /// Lets the connection wait for bytes or its deadline without a task, at the cost of its slot alone. What
    /// happens to it goes, with `tag`, to the handler given to [`Core::on_parked`].
    pub fn park(self, tag: u32) -> Parked {
        let index = self.index;
        let generation = self.core.io().park(index, tag);
        let mut unowned = std::mem::ManuallyDrop::new(self);
        // SAFETY: `unowned` is never touched again and `ManuallyDrop` keeps it from being dropped, so the `Core`
        // inside is dropped here once, while the socket stays open.
        unsafe { std::ptr::drop_in_place(&raw mut unowned.core) };
        Parked { index, generation }
    }
}

impl Parked {
    /// Ends the parking. `None` when the handler has the connection already.
    #[must_use]
    pub fn resume(self, core: &Core) -> Option<Stream> {
        let parked = core.io().resume(self.index, self.generation);
        parked.then(|| Stream::new(core.clone(), self.index))
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        // Dropped when nothing of the driver is borrowed any more.
        let _held = self.core.io().close(self.index);
    }
}
