//! What carries the bytes of a connection? A plain stream of the core's, or a private one over it.
//!
//! Never adds to a plain connection more than a branch, and never opens one.

use std::io::{self, IoSlice};
use std::task::{Context, Poll};

use runtime::{Chunk, Instant, Stream};
use tls::TlsStream;

/// An open connection.
#[derive(Debug)]
pub(crate) enum Transport {
    Plain(Stream),
    Tls(Box<TlsStream>),
}

impl Transport {
    /// See [`Stream::set_deadline`].
    #[inline]
    pub(crate) fn set_deadline(&self, deadline: Instant) {
        match self {
            Self::Plain(stream) => stream.set_deadline(deadline),
            Self::Tls(stream) => stream.set_deadline(deadline),
        }
    }

    /// See [`Stream::recv`].
    #[inline]
    pub(crate) async fn recv(&self) -> io::Result<Option<Chunk>> {
        match self {
            Self::Plain(stream) => stream.recv().await,
            Self::Tls(stream) => stream.recv().await,
        }
    }

    /// See [`Stream::poll_recv`].
    #[inline]
    pub(crate) fn poll_recv(&self, context: &mut Context<'_>) -> Poll<io::Result<Option<Chunk>>> {
        match self {
            Self::Plain(stream) => stream.poll_recv(context),
            Self::Tls(stream) => stream.poll_recv(context),
        }
    }

    /// See [`Stream::recv_behind`].
    pub(crate) async fn recv_behind(&self, prefix: &[u8]) -> io::Result<Option<Chunk>> {
        match self {
            Self::Plain(stream) => stream.recv_behind(prefix).await,
            Self::Tls(stream) => stream.recv_behind(prefix).await,
        }
    }

    /// See [`Stream::try_send`].
    #[inline]
    pub(crate) fn try_send(&self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        match self {
            Self::Plain(stream) => stream.try_send(slices),
            Self::Tls(stream) => stream.try_send(slices),
        }
    }

    /// See [`Stream::writable`].
    pub(crate) async fn writable(&self) -> io::Result<()> {
        match self {
            Self::Plain(stream) => stream.writable().await,
            Self::Tls(stream) => stream.writable().await,
        }
    }

    /// See [`Stream::send_all`].
    pub(crate) async fn send_all(&self, bytes: &[u8]) -> io::Result<()> {
        match self {
            Self::Plain(stream) => stream.send_all(bytes).await,
            Self::Tls(stream) => stream.send_all(bytes).await,
        }
    }

    /// Says that nothing more will be sent, and goes on receiving.
    pub(crate) async fn shutdown_write(&self) -> io::Result<()> {
        match self {
            Self::Plain(stream) => stream.shutdown_write(),
            Self::Tls(stream) => stream.shutdown_write().await,
        }
    }
}
