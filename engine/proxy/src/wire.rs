//! Over what does an exchange talk? A connection in the clear, or a private one; both have the same verbs.
//!
//! Never decides which, and never costs a plain connection more than a branch that is always taken the same way.

use std::future::poll_fn;
use std::io::{self, IoSlice};
use std::net::SocketAddr;
use std::task::{Context, Poll};

use runtime::{Chunk, Core, Instant, Parked, Stream};
use tls::{Dormant, TlsStream};

/// One connection, to a client or to an endpoint.
#[derive(Debug)]
pub(crate) enum Wire {
    /// In the clear.
    Plain(Stream),
    /// Over TLS.
    Private(TlsStream),
}

/// A connection that waits without a task. The connection stays open when this is dropped.
#[derive(Debug)]
pub(crate) struct ParkedWire {
    parked: Parked,
    /// What a private one needs besides its slot.
    dormant: Option<Dormant>,
}

impl Wire {
    /// Whether the peer has been agreed with on keys.
    #[inline]
    pub(crate) fn is_private(&self) -> bool {
        matches!(self, Self::Private(_))
    }

    #[inline]
    pub(crate) fn poll_recv(&self, context: &mut Context<'_>) -> Poll<io::Result<Option<Chunk>>> {
        match self {
            Self::Plain(stream) => stream.poll_recv(context),
            Self::Private(stream) => stream.poll_recv(context),
        }
    }

    /// Waits for bytes; `None` is the end. That of a private connection is one that its peer has said.
    #[inline]
    pub(crate) async fn recv(&self) -> io::Result<Option<Chunk>> {
        poll_fn(|context| self.poll_recv(context)).await
    }

    /// Receives behind a copy of `prefix`; see [`Stream::recv_behind`].
    pub(crate) async fn recv_behind(&self, prefix: &[u8]) -> io::Result<Option<Chunk>> {
        poll_fn(|context| match self {
            Self::Plain(stream) => stream.poll_recv_behind(prefix, context),
            Self::Private(stream) => stream.poll_recv_behind(prefix, context),
        })
        .await
    }

    /// Sends what goes at once. What a private connection has taken leaves with its next call of any kind: before it ends
    /// or is parked, [`Self::has_unsent`] is to be asked.
    #[inline]
    pub(crate) fn try_send(&self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        match self {
            Self::Plain(stream) => stream.try_send(slices),
            Self::Private(stream) => stream.try_send(slices),
        }
    }

    pub(crate) fn poll_writable(&self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            Self::Plain(stream) => stream.poll_writable(context),
            Self::Private(stream) => stream.poll_writable(context),
        }
    }

    pub(crate) async fn writable(&self) -> io::Result<()> {
        poll_fn(|context| self.poll_writable(context)).await
    }

    /// Sends all of `bytes`, waiting as often as it takes.
    pub(crate) async fn send_all(&self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            match self.try_send(&[IoSlice::new(bytes)]) {
                Ok(count) => bytes = &bytes[count..],
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => self.writable().await?,
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Whether something that was taken to be sent is not the kernel's yet.
    #[inline]
    pub(crate) fn has_unsent(&self) -> bool {
        match self {
            Self::Plain(_) => false,
            Self::Private(stream) => stream.has_unsent(),
        }
    }

    /// Says that nothing more will be sent, and goes on receiving.
    pub(crate) async fn shutdown_write(&self) -> io::Result<()> {
        poll_fn(|context| self.poll_shutdown_write(context)).await
    }

    /// [`Self::shutdown_write`] for callers that wait for several things; to be asked until it is ready.
    pub(crate) fn poll_shutdown_write(&self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            Self::Plain(stream) => Poll::Ready(stream.shutdown_write()),
            Self::Private(stream) => stream.poll_shutdown_write(context),
        }
    }

    /// Tells the peer of a private connection that all is said; closing a plain one does so by itself.
    #[inline]
    pub(crate) fn say_end(&self) {
        if let Self::Private(stream) = self {
            stream.say_end();
        }
    }

    #[inline]
    pub(crate) fn set_recv_deadline(&self, deadline: Instant) {
        match self {
            Self::Plain(stream) => stream.set_recv_deadline(deadline),
            Self::Private(stream) => stream.set_recv_deadline(deadline),
        }
    }

    #[inline]
    pub(crate) fn set_send_deadline(&self, deadline: Instant) {
        match self {
            Self::Plain(stream) => stream.set_send_deadline(deadline),
            Self::Private(stream) => stream.set_send_deadline(deadline),
        }
    }

    /// Lets waits for reading and for writing end at `deadline`.
    pub(crate) fn set_deadline(&self, deadline: Instant) {
        self.set_recv_deadline(deadline);
        self.set_send_deadline(deadline);
    }

    #[inline]
    pub(crate) fn poll_broken(&self, context: &mut Context<'_>) -> Poll<()> {
        match self {
            Self::Plain(stream) => stream.poll_broken(context),
            Self::Private(stream) => stream.poll_broken(context),
        }
    }

    /// Whether the first message sent went nowhere; see [`Stream::send_was_refused`].
    pub(crate) fn send_was_refused(&self) -> bool {
        match self {
            Self::Plain(stream) => stream.send_was_refused(),
            Self::Private(stream) => stream.send_was_refused(),
        }
    }

    /// Whether holding a buffer keeps others waiting; see [`Stream::buffers_are_scarce`].
    pub(crate) fn buffers_are_scarce(&self) -> bool {
        match self {
            Self::Plain(stream) => stream.buffers_are_scarce(),
            Self::Private(stream) => stream.buffers_are_scarce(),
        }
    }

    /// Lets the peer see a reset when the connection is closed.
    pub(crate) fn reset_on_close(&self) -> io::Result<()> {
        match self {
            Self::Plain(stream) => stream.reset_on_close(),
            Self::Private(stream) => stream.reset_on_close(),
        }
    }

    /// The address that the peer knows this end by; see [`Stream::local_address`].
    pub(crate) fn local_address(&self) -> io::Result<SocketAddr> {
        match self {
            Self::Plain(stream) => stream.local_address(),
            Self::Private(stream) => stream.local_address(),
        }
    }

    /// Whether nothing was received or noticed since the last receive.
    #[inline]
    pub(crate) fn is_quiet(&self) -> bool {
        match self {
            Self::Plain(stream) => stream.is_quiet(),
            Self::Private(stream) => stream.is_quiet(),
        }
    }

    /// Whether there is nothing to be done until more comes, were it the rest of a record.
    pub(crate) fn waits_for_peer(&self) -> bool {
        match self {
            Self::Plain(stream) => stream.is_quiet(),
            Self::Private(stream) => stream.waits_for_peer() && !stream.has_unsent(),
        }
    }

    /// Whether a connection that should be idle is so, but for what TLS says by itself.
    #[inline]
    pub(crate) fn stays_idle(&self) -> bool {
        match self {
            Self::Plain(stream) => {
                // A body that was moved may be announced after it is gone.
                stream.is_quiet() || {
                    stream.settle();
                    stream.is_quiet()
                }
            }
            Self::Private(stream) => stream.is_quiet() || stream.stays_idle(),
        }
    }

    /// Lets the connection wait for bytes or its deadline without a task.
    pub(crate) fn park(self, tag: u32) -> ParkedWire {
        match self {
            Self::Plain(stream) => ParkedWire { parked: stream.park(tag), dormant: None },
            Self::Private(stream) => {
                let (parked, dormant) = stream.park(tag);
                ParkedWire { parked, dormant: Some(dormant) }
            }
        }
    }
}

impl ParkedWire {
    /// Ends the parking. `None` when the handler of parked connections has the connection already.
    pub(crate) fn resume(&mut self, core: &Core) -> Option<Wire> {
        let stream = self.parked.resume(core)?;
        Some(Self::of(stream, self.dormant.take()))
    }

    /// The connection that the handler was given.
    pub(crate) fn wake(self, stream: Stream) -> Wire {
        Self::of(stream, self.dormant)
    }

    fn of(stream: Stream, dormant: Option<Dormant>) -> Wire {
        match dormant {
            None => Wire::Plain(stream),
            Some(dormant) => Wire::Private(TlsStream::wake(stream, dormant)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Two of them are in the task of every exchange, and one in the table of every idle connection.
    #[test]
    fn a_wire_costs_a_word_more_than_a_plain_connection() {
        assert_eq!(size_of::<Wire>(), size_of::<Stream>() + size_of::<usize>());
        assert_eq!(size_of::<ParkedWire>(), size_of::<Parked>() + size_of::<usize>());
    }
}
