//! How does a task talk over a private connection? As over a plain one: receive pooled buffers, send, wait, say the end.
//!
//! Never holds a pooled buffer while it waits, never takes more to send than a bound, and never takes a connection that
//! broke off for one that was ended.

use std::cell::{Ref, RefCell};
use std::future::poll_fn;
use std::io::{self, IoSlice, Write};
use std::net::SocketAddr;
use std::task::{Context, Poll, Waker};

use runtime::{Chunk, Instant, Parked, Stream};
use rustls::pki_types::CertificateDer;
use rustls::{HandshakeKind, NamedGroup, ProtocolVersion, SupportedCipherSuite};

use crate::handshake::HandshakeError;
use crate::record::{Front, front, hello_version};
use crate::session::Session;

/// Receives in one poll that brought no plaintext, as tickets and key updates do; then the other tasks have their turn.
const FRUITLESS_MAX: usize = 8;

const TLS12_VERSION: u16 = 0x0303;
/// A record of the alert protocol_version, fatal (RFC 8446 §6), in the first version of records.
const PROTOCOL_VERSION_ALERT: [u8; 7] = [21, 3, 1, 0, 2, 2, 70];

/// A private connection of this core; closed when dropped. Without [`Self::shutdown_write`] before, the peer is told that
/// it broke off.
///
/// A core whose streams become private needs receive buffers of at least 32 KiB: a record must fit in one.
#[derive(Debug)]
pub struct TlsStream {
    stream: Stream,
    inner: Box<RefCell<Inner>>,
}

/// What a parked private connection needs besides its slot; see [`TlsStream::park`]. To drop it forgets the keys; the
/// connection stays open.
#[derive(Debug)]
pub struct Dormant(Box<RefCell<Inner>>);

/// What one task at a time looks at, never across a wait.
struct Inner {
    session: Session,
    /// The beginning of a record whose rest has not come. Gives its memory back when the peer pauses between records.
    begun: Vec<u8>,
    /// What was received before the handshake began.
    unheard: Vec<u8>,
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
struct Wire<'a> {
    stream: &'a Stream,
    /// Whether the kernel took anything.
    has_sent: bool,
}

impl Write for Wire<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.write_vectored(&[IoSlice::new(bytes)])
    }

    fn write_vectored(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        let sent = self.stream.try_send(slices)?;
        self.has_sent = true;
        Ok(sent)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Inner {
    /// Hands the kernel what is sealed; false when it does not take all of it now.
    fn transmit(&mut self, stream: &Stream) -> io::Result<bool> {
        self.transmit_over(&mut Wire { stream, has_sent: false })
    }

    fn transmit_over(&mut self, wire: &mut Wire<'_>) -> io::Result<bool> {
        match self.session.transmit(wire) {
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
        let plaintext = self.open_bytes(&mut chunk.bytes_mut()[kept..], stream)?;
        chunk.truncate(kept + plaintext);
        Ok(())
    }

    /// Leaves the plaintext of whole records at the front of `bytes` and says how much that is.
    fn open_bytes(&mut self, bytes: &mut [u8], stream: &Stream) -> Result<usize, rustls::Error> {
        let opened = match self.session.open(bytes) {
            Ok(opened) => opened,
            Err(error) => {
                self.has_failed = true;
                self.begun = Vec::new();
                // The alert; a peer that does not take it will not miss it.
                let _ = self.transmit(stream);
                return Err(error);
            }
        };
        let rest = &bytes[opened.consumed..];
        if rest.is_empty() {
            self.begun = Vec::new();
        } else {
            self.begun.clear();
            self.begun.extend_from_slice(rest);
        }
        Ok(opened.plaintext)
    }

    /// What a step of the handshake has come to.
    fn account(&self, opened: Result<(), rustls::Error>) -> Result<(), HandshakeError> {
        opened.map_err(|error| match self.session.lacks_certificate() {
            true => HandshakeError::NameUnknown,
            false => HandshakeError::Refused(error),
        })?;
        let is_over = self.session.has_peer_closed() && self.session.is_handshaking();
        if is_over { Err(HandshakeError::Ended) } else { Ok(()) }
    }
}

impl TlsStream {
    pub(crate) fn new(stream: Stream, session: Session) -> Self {
        let (begun, unheard) = (Vec::new(), Vec::new());
        let inner = Inner { session, begun, unheard, early: None, sender: None, has_failed: false };
        Self { stream, inner: Box::new(RefCell::new(inner)) }
    }

    pub(crate) fn into_plain(self) -> Stream {
        self.stream
    }

    pub(crate) fn is_handshaking(&self) -> bool {
        self.inner.borrow().session.is_handshaking()
    }

    /// Waits until there is something to be received, and takes nothing of it.
    pub(crate) async fn readable(&self) -> io::Result<()> {
        poll_fn(|context| self.stream.poll_readable(context)).await
    }

    /// One step of the handshake: what the peer says next. What comes `first` of a client may be no TLS at all.
    pub(crate) async fn advance(&self, is_first: bool) -> Result<(), HandshakeError> {
        let early = std::mem::take(&mut self.inner.borrow_mut().unheard);
        if !early.is_empty() {
            return self.hear(early);
        }
        let received = poll_fn(|context| {
            let begun = &self.inner.borrow().begun;
            self.stream.poll_recv_behind(begun, context)
        });
        let Some(mut chunk) = received.await? else { return Err(HandshakeError::Ended) };
        if is_first {
            self.judge_first(&chunk)?;
        }
        let mut inner = self.inner.borrow_mut();
        let opened = inner.open(&mut chunk, 0, &self.stream);
        inner.account(opened)?;
        inner.early = (!chunk.is_empty()).then_some(chunk);
        Ok(())
    }

    /// Takes in the first bytes of a client, which came before there was a handshake.
    fn hear(&self, mut early: Vec<u8>) -> Result<(), HandshakeError> {
        self.judge_first(&early)?;
        let mut inner = self.inner.borrow_mut();
        // A client's first flight holds no plaintext.
        let opened = inner.open_bytes(&mut early, &self.stream).map(drop);
        inner.account(opened)
    }

    /// Whether to go on with a client whose first bytes these are.
    fn judge_first(&self, bytes: &[u8]) -> Result<(), HandshakeError> {
        if front(bytes) == Front::Malformed {
            return Err(HandshakeError::NotTls(bytes.into()));
        }
        if hello_version(bytes).is_some_and(|version| version < TLS12_VERSION) {
            // rustls would complain of what such a hello lacks, and its client would not know why.
            let _ = self.stream.try_send(&[IoSlice::new(&PROTOCOL_VERSION_ALERT)]);
            return Err(HandshakeError::VersionTooOld);
        }
        Ok(())
    }

    /// Lets the handshake begin with what was received before it.
    pub(crate) fn set_unheard(&self, early: Vec<u8>) {
        self.inner.borrow_mut().unheard = early;
    }

    /// Whether there is something to advance on that needs no receiving.
    pub(crate) fn has_unheard(&self) -> bool {
        !self.inner.borrow().unheard.is_empty()
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
        let mut wire = Wire { stream: &self.stream, has_sent: false };
        match inner.transmit_over(&mut wire) {
            // A caller that is told of an error may send the same again elsewhere.
            Err(error) if !wire.has_sent => Err(error),
            // The next call tells of it.
            Ok(_) | Err(_) => Ok(taken),
        }
    }

    /// Whether something that was taken is not the kernel's yet: a connection that is closed or parked now would lose it.
    #[must_use]
    pub fn has_unsent(&self) -> bool {
        self.inner.borrow().session.wants_write()
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
        poll_fn(|context| self.poll_shutdown_write(context)).await
    }

    /// [`Self::shutdown_write`] for callers that wait for several things; to be asked until it is ready.
    ///
    /// # Errors
    /// As [`Self::shutdown_write`].
    pub fn poll_shutdown_write(&self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.inner.borrow_mut().session.close();
        self.poll_writable(context)?.map(|()| self.stream.shutdown_write())
    }

    /// Says that nothing more will be sent, as far as that goes without waiting. For a connection that is closed next.
    pub fn say_end(&self) {
        let inner = &mut *self.inner.borrow_mut();
        inner.session.close();
        // A peer that does not take it has more to miss.
        let _ = inner.transmit(&self.stream);
    }

    /// Lets the connection wait for bytes or its deadline without a task, at the cost of its slot and its keys. What happens
    /// to it goes, with `tag`, to the handler given to [`runtime::Core::on_parked`], which makes it a private one again by
    /// [`Self::wake`]. What has not been received yet of a record waits with it; what was taken and has not left must have.
    pub fn park(self, tag: u32) -> (Parked, Dormant) {
        debug_assert!(!self.has_unsent() && self.inner.borrow().early.is_none());
        let Self { stream, inner } = self;
        (stream.park(tag), Dormant(inner))
    }

    /// The private connection that was parked.
    #[must_use]
    pub fn wake(stream: Stream, dormant: Dormant) -> Self {
        Self { stream, inner: dormant.0 }
    }

    /// Takes in what came of a connection that should be idle; false when that was more than TLS says by itself, as new
    /// tickets and keys are.
    #[must_use]
    pub fn stays_idle(&self) -> bool {
        self.poll_recv(&mut Context::from_waker(Waker::noop())).is_pending() && self.is_quiet()
    }

    /// Whether nothing was received or noticed since the last receive, nor part of a record before; what an idle connection
    /// should be.
    #[must_use]
    pub fn is_quiet(&self) -> bool {
        let inner = self.inner.borrow();
        self.stream.is_quiet() && inner.begun.is_empty() && inner.early.is_none()
    }

    /// Whether everything that has come was taken in: the beginning of a record may have been.
    #[must_use]
    pub fn waits_for_peer(&self) -> bool {
        self.stream.is_quiet() && self.inner.borrow().early.is_none()
    }

    /// Whether the kernel refused the first message sent; see [`Stream::send_was_refused`].
    #[must_use]
    pub fn send_was_refused(&self) -> bool {
        self.stream.send_was_refused()
    }

    /// Whether most buffers for sockets like this one are in use; see [`Stream::buffers_are_scarce`].
    #[must_use]
    pub fn buffers_are_scarce(&self) -> bool {
        self.stream.buffers_are_scarce()
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

    /// The address that the peer knows this end by; see [`Stream::local_address`].
    ///
    /// # Errors
    /// As [`Stream::local_address`].
    pub fn local_address(&self) -> io::Result<SocketAddr> {
        self.stream.local_address()
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
