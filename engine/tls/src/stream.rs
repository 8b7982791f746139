//! How does a task talk over a private connection? As over a plain one: receive pooled buffers, send, wait, say the end.
//!
//! Never holds a pooled buffer while it waits, never takes more to send than a bound, and never takes a connection that
//! broke off for one that was ended.

use std::cell::{Ref, RefCell};
use std::future::poll_fn;
use std::io::{self, IoSlice, Write};
use std::net::SocketAddr;
use std::task::{Context, Poll, Waker};

use runtime::{Chunk, Instant, Stream};
use rustls::pki_types::CertificateDer;
use rustls::{HandshakeKind, NamedGroup, ProtocolVersion, SupportedCipherSuite};

use crate::handshake::HandshakeError;
use crate::session::Session;

/// Receives in one poll that brought no plaintext, as tickets and key updates do; then the other tasks have their turn.
const FRUITLESS_MAX: usize = 8;

/// A private connection of this core; closed when dropped. Without [`Self::shutdown_write`] before, the peer is told that
/// it broke off.
///
/// A core whose streams become private needs receive buffers of at least 32 KiB: a record must fit in one.
#[derive(Debug)]
pub struct TlsStream {
    stream: Stream,
    inner: RefCell<Inner>,
}

/// What one task at a time looks at, never across a wait.
struct Inner {
    session: Session,
    /// The beginning of a record whose rest has not come. Gives its memory back when the peer pauses between records.
    begun: Vec<u8>,
    /// Plaintext that came with the last message of the handshake.
    early: Option<Chunk>,
    /// The task that waits to send: the socket knows one task, which may be the one that receives.
    sender: Option<Waker>,
    has_failed: bool,
}

impl std::fmt::Debug for Inner {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} bytes of a record, {:?}", self.begun.len(), self.early)
    }
}

/// Sends what rustls has sealed.
struct Wire<'a>(&'a Stream);

impl Write for Wire<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.try_send(&[IoSlice::new(bytes)])
    }

    fn write_vectored(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        self.0.try_send(slices)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Inner {
    /// Hands the kernel what is sealed; false when it does not take all of it now.
    fn transmit(&mut self, stream: &Stream) -> io::Result<bool> {
        match self.session.transmit(&mut Wire(stream)) {
            Ok(()) => {
                if let Some(sender) = self.sender.take() {
                    sender.wake();
                }
                Ok(true)
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Receives ciphertext behind `prefix` and the beginning of a record.
    fn poll_ciphertext(
        &self,
        prefix: &[u8],
        stream: &Stream,
        context: &mut Context<'_>,
    ) -> Poll<io::Result<Option<Chunk>>> {
        if prefix.is_empty() {
            return stream.poll_recv_behind(&self.begun, context);
        }
        stream.poll_recv_behind(&[prefix, &self.begun].concat(), context)
    }

    /// Waits for room to send as well: whoever waits for an answer waits for its question to leave.
    fn poll_unsent<T>(&self, stream: &Stream, context: &mut Context<'_>) -> Poll<io::Result<T>> {
        if self.session.wants_write()
            && let Poll::Ready(Err(error)) = stream.poll_writable(context)
        {
            return Poll::Ready(Err(error));
        }
        Poll::Pending
    }

    /// Leaves the plaintext of whole records in `chunk`, behind the `kept` bytes at its front, and keeps the beginning of
    /// the next record.
    fn open(&mut self, chunk: &mut Chunk, kept: usize, stream: &Stream) -> Result<(), rustls::Error> {
        let opened = match self.session.open(&mut chunk.bytes_mut()[kept..]) {
            Ok(opened) => opened,
            Err(error) => {
                self.has_failed = true;
                self.begun = Vec::new();
                // The alert; a peer that does not take it will not miss it.
                let _ = self.transmit(stream);
                return Err(error);
            }
        };
        let rest = &chunk[kept + opened.consumed..];
        if rest.is_empty() {
            self.begun = Vec::new();
        } else {
            self.begun.clear();
            self.begun.extend_from_slice(rest);
        }
        chunk.truncate(kept + opened.plaintext);
        Ok(())
    }
}

impl TlsStream {
    pub(crate) fn new(stream: Stream, session: Session) -> Self {
        let inner = Inner { session, begun: Vec::new(), early: None, sender: None, has_failed: false };
        Self { stream, inner: RefCell::new(inner) }
    }

    pub(crate) fn is_handshaking(&self) -> bool {
        self.inner.borrow().session.is_handshaking()
    }

    /// One step of the handshake: what the peer says next. False when it has closed the connection.
    pub(crate) async fn advance(&self) -> Result<bool, HandshakeError> {
        let received = poll_fn(|context| {
            let begun = &self.inner.borrow().begun;
            self.stream.poll_recv_behind(begun, context)
        });
        let Some(mut chunk) = received.await? else { return Ok(false) };
        let mut inner = self.inner.borrow_mut();
        inner.open(&mut chunk, 0, &self.stream).map_err(HandshakeError::Refused)?;
        if inner.session.has_peer_closed() && inner.session.is_handshaking() {
            return Ok(false);
        }
        inner.early = (!chunk.is_empty()).then_some(chunk);
        Ok(true)
    }

    /// Waits for plaintext; a buffer is taken only once there is some. `None` is the end as the peer said it.
    ///
    /// # Errors
    /// `UnexpectedEof` when the connection ended and the peer did not say so: what it sent may be cut short.
    /// `InvalidData` when what came is no TLS, was forged, or was an alert. `TimedOut` past the deadline, or the kernel's.
    pub async fn recv(&self) -> io::Result<Option<Chunk>> {
        poll_fn(|context| self.poll_recv(context)).await
    }

    /// [`Self::recv`] for callers that wait for several things. What is still to be sent is sent meanwhile.
    ///
    /// # Errors
    /// As [`Self::recv`].
    pub fn poll_recv(&self, context: &mut Context<'_>) -> Poll<io::Result<Option<Chunk>>> {
        self.poll_recv_behind(&[], context)
    }

    /// Receives behind a copy of `prefix`: what came earlier of a message that has to be in one piece. `None` is the end.
    ///
    /// # Errors
    /// `StorageFull` when the two do not fit into a buffer, otherwise as [`Self::recv`].
    pub async fn recv_behind(&self, prefix: &[u8]) -> io::Result<Option<Chunk>> {
        poll_fn(|context| self.poll_recv_behind(prefix, context)).await
    }

    /// [`Self::recv_behind`] for callers that wait for several things.
    ///
    /// # Errors
    /// As [`Self::recv_behind`].
    pub fn poll_recv_behind(
        &self,
        prefix: &[u8],
        context: &mut Context<'_>,
    ) -> Poll<io::Result<Option<Chunk>>> {
        let inner = &mut *self.inner.borrow_mut();
        if let Some(early) = inner.early.take() {
            return Poll::Ready(put_behind(prefix, early).map(Some));
        }
        // Should this fail, what the peer said before may still be there; the receive tells.
        let _ = inner.transmit(&self.stream);
        for _ in 0..FRUITLESS_MAX {
            if inner.session.has_peer_closed() {
                return Poll::Ready(Ok(None));
            }
            if inner.has_failed {
                return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
            }
            let Poll::Ready(received) = inner.poll_ciphertext(prefix, &self.stream, context)? else {
                return inner.poll_unsent(&self.stream, context);
            };
            let Some(mut chunk) = received else {
                return Poll::Ready(Err(io::Error::new(io::ErrorKind::UnexpectedEof, Truncated)));
            };
            inner
                .open(&mut chunk, prefix.len(), &self.stream)
                .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?;
            if chunk.len() > prefix.len() {
                return Poll::Ready(Ok(Some(chunk)));
            }
            // A key update wants an answer.
            let _ = inner.transmit(&self.stream);
        }
        context.waker().wake_by_ref();
        Poll::Pending
    }

    /// Takes as much to send as the bound leaves room for, and sends what the kernel takes at once. The rest leaves with the
    /// next call of any kind, [`Self::recv`] included.
    ///
    /// # Errors
    /// `WouldBlock` when nothing is taken, or the kernel's.
    pub fn try_send(&self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        let inner = &mut *self.inner.borrow_mut();
        if inner.has_failed {
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        if !inner.transmit(&self.stream)? {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        let taken = inner.session.seal(slices)?;
        inner.transmit(&self.stream)?;
        Ok(taken)
    }

    /// Waits until everything that was taken is the kernel's, so that it takes more.
    ///
    /// # Errors
    /// `TimedOut` past the deadline, or the kernel's.
    pub async fn writable(&self) -> io::Result<()> {
        poll_fn(|context| self.poll_writable(context)).await
    }

    /// [`Self::writable`] for callers that wait for several things.
    ///
    /// # Errors
    /// As [`Self::writable`].
    pub fn poll_writable(&self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let inner = &mut *self.inner.borrow_mut();
        while !inner.transmit(&self.stream)? {
            if self.stream.poll_writable(context)?.is_pending() {
                inner.sender = Some(context.waker().clone());
                return Poll::Pending;
            }
        }
        Poll::Ready(Ok(()))
    }

    /// Sends all of `bytes`, waiting as often as it takes.
    ///
    /// # Errors
    /// As [`Self::try_send`] and [`Self::writable`], except `WouldBlock`.
    pub async fn send_all(&self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            match self.try_send(&[IoSlice::new(bytes)]) {
                Ok(count) => bytes = &bytes[count..],
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => self.writable().await?,
                Err(error) => return Err(error),
            }
        }
        self.writable().await
    }

    /// Says that nothing more will be sent (close_notify), so that the peer knows it has everything; goes on receiving.
    ///
    /// # Errors
    /// As [`Self::writable`].
    pub async fn shutdown_write(&self) -> io::Result<()> {
        self.inner.borrow_mut().session.close();
        self.writable().await?;
        self.stream.shutdown_write()
    }

    /// Lets waits for reading and for writing end at `deadline`, until set again.
    pub fn set_deadline(&self, deadline: Instant) {
        self.stream.set_deadline(deadline);
    }

    /// Lets waits for reading end at `deadline`. Bytes that are there are received even later.
    pub fn set_recv_deadline(&self, deadline: Instant) {
        self.stream.set_recv_deadline(deadline);
    }

    /// Lets waits for writing end at `deadline`.
    pub fn set_send_deadline(&self, deadline: Instant) {
        self.stream.set_send_deadline(deadline);
    }

    /// Whether the connection is broken both ways; see [`Stream::poll_broken`].
    pub fn poll_broken(&self, context: &mut Context<'_>) -> Poll<()> {
        self.stream.poll_broken(context)
    }

    /// Lets the peer see a reset when the connection is closed.
    ///
    /// # Errors
    /// The kernel's.
    pub fn reset_on_close(&self) -> io::Result<()> {
        self.stream.reset_on_close()
    }

    /// The peer's address; see [`Stream::peer_address`].
    ///
    /// # Errors
    /// The kernel's.
    pub fn peer_address(&self) -> io::Result<SocketAddr> {
        self.stream.peer_address()
    }

    /// The version that both sides agreed on.
    #[must_use]
    pub fn version(&self) -> Option<ProtocolVersion> {
        self.inner.borrow().session.protocol_version()
    }

    /// The cipher suite that both sides agreed on.
    #[must_use]
    pub fn cipher_suite(&self) -> Option<SupportedCipherSuite> {
        self.inner.borrow().session.negotiated_cipher_suite()
    }

    /// The group of the key exchange; none where a TLS 1.2 session was resumed.
    #[must_use]
    pub fn key_exchange(&self) -> Option<NamedGroup> {
        self.inner.borrow().session.negotiated_key_exchange_group().map(|group| group.name())
    }

    /// Whether the handshake was a full one or resumed an earlier session.
    #[must_use]
    pub fn handshake_kind(&self) -> Option<HandshakeKind> {
        self.inner.borrow().session.handshake_kind()
    }

    /// The protocol that both sides agreed on above TLS (ALPN, RFC 7301).
    #[must_use]
    pub fn alpn(&self) -> Option<Ref<'_, [u8]>> {
        Ref::filter_map(self.inner.borrow(), |inner| inner.session.alpn_protocol()).ok()
    }

    /// The peer's certificates, its own first; none from a client that was not asked.
    #[must_use]
    pub fn peer_certificates(&self) -> Option<Ref<'_, [CertificateDer<'static>]>> {
        Ref::filter_map(self.inner.borrow(), |inner| inner.session.peer_certificates()).ok()
    }

    /// The name that the client asked for (SNI, RFC 6066 §3); none on the client's side.
    #[must_use]
    pub fn server_name(&self) -> Option<Ref<'_, str>> {
        Ref::filter_map(self.inner.borrow(), |inner| inner.session.server_name()).ok()
    }
}

/// The end of a connection whose peer did not say that it was the end.
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error("the connection ended without close_notify: what came may be cut short")]
struct Truncated;

/// Puts `prefix` in front of the plaintext in `chunk`.
fn put_behind(prefix: &[u8], mut chunk: Chunk) -> io::Result<Chunk> {
    if prefix.is_empty() {
        return Ok(chunk);
    }
    let plaintext = chunk.len();
    if chunk.append(prefix) < prefix.len() {
        return Err(io::ErrorKind::StorageFull.into());
    }
    chunk.bytes_mut().rotate_left(plaintext);
    Ok(chunk)
}
