//! How do two sides agree? By the handshake, within a deadline, as a client or as a server.
//!
//! Never hands out a connection whose peer was not accepted by the configuration.

use std::io;
use std::sync::Arc;

use runtime::{Instant, Stream};
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, Connection, ServerConfig, ServerConnection};

use crate::session::Session;
use crate::stream::TlsStream;

/// Why there is no private connection.
#[derive(Debug, thiserror::Error)]
pub enum HandshakeError {
    /// The handshake was not over by its deadline.
    #[error("the TLS handshake was not over in time")]
    TimedOut,
    /// The peer closed the connection within the handshake and said nothing.
    #[error("the connection was closed within the TLS handshake")]
    Ended,
    /// What a client sent first is no TLS; it was told nothing.
    #[error("the peer does not speak TLS")]
    NotTls(Box<[u8]>),
    /// The client asked for a name that there is no certificate for; it was told so.
    #[error("there is no certificate for the name that the client asked for")]
    NameUnknown,
    /// The client speaks nothing as new as TLS 1.2; it was told so.
    #[error("the client speaks no version as new as TLS 1.2")]
    VersionTooOld,
    /// One side refused the other: a certificate, a version, a message.
    #[error("{0}")]
    Refused(#[source] rustls::Error),
    /// The connection broke.
    #[error("{0} within the TLS handshake")]
    Io(#[source] io::Error),
}

impl From<io::Error> for HandshakeError {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::TimedOut => Self::TimedOut,
            _ => Self::Io(error),
        }
    }
}

/// A handshake under way, for callers that say when it may compute: a step with a signature takes up to two milliseconds
/// (decision 0015).
#[derive(Debug)]
pub struct Handshake {
    stream: TlsStream,
    /// Nothing has come of a client yet.
    awaits_hello: bool,
}

impl Handshake {
    /// Begins to make `stream` a private connection to the server that can prove to be `name`.
    ///
    /// # Errors
    /// [`HandshakeError::Refused`] when the configuration cannot be used for that name.
    pub fn client(
        stream: Stream,
        config: &Arc<ClientConfig>,
        name: ServerName<'static>,
    ) -> Result<Self, HandshakeError> {
        let connection = ClientConnection::new(config.clone(), name).map_err(HandshakeError::Refused)?;
        Ok(Self::new(stream, connection.into(), false))
    }

    /// Begins to make `stream` a private connection to the client that opened it.
    ///
    /// # Errors
    /// [`HandshakeError::Refused`] when the configuration cannot be used.
    pub fn server(stream: Stream, config: &Arc<ServerConfig>) -> Result<Self, HandshakeError> {
        let connection = ServerConnection::new(config.clone()).map_err(HandshakeError::Refused)?;
        Ok(Self::new(stream, connection.into(), true))
    }

    /// [`Self::server`] with a client of which `early` was received already.
    ///
    /// # Errors
    /// As [`Self::server`].
    pub fn server_behind(
        stream: Stream,
        config: &Arc<ServerConfig>,
        early: Vec<u8>,
    ) -> Result<Self, HandshakeError> {
        let handshake = Self::server(stream, config)?;
        handshake.stream.set_unheard(early);
        Ok(handshake)
    }

    fn new(stream: Stream, connection: Connection, awaits_hello: bool) -> Self {
        Self { stream: TlsStream::new(stream, Session::new(connection)), awaits_hello }
    }

    /// Waits until the kernel has what was said and there is something to [`Self::step`] on; false when both sides agree.
    /// Computes nothing and holds no buffer.
    ///
    /// # Errors
    /// The connection's, and `TimedOut` past the stream's deadlines.
    pub async fn wait(&self) -> Result<bool, HandshakeError> {
        // The tickets of a server go out with its last message.
        self.stream.writable().await?;
        if !self.stream.is_handshaking() {
            return Ok(false);
        }
        if !self.stream.has_unheard() {
            self.stream.readable().await?;
        }
        Ok(true)
    }

    /// Receives what the peer says next, and computes the answer.
    ///
    /// # Errors
    /// [`HandshakeError`] says which side ended it. The peer was sent an alert where there is one to send.
    pub async fn step(&mut self) -> Result<(), HandshakeError> {
        self.stream.advance(std::mem::take(&mut self.awaits_hello)).await
    }

    /// The private connection that both sides have agreed on. The stream's deadlines are the handshake's still.
    #[must_use]
    pub fn finish(self) -> TlsStream {
        debug_assert!(!self.stream.is_handshaking());
        self.stream
    }

    /// The connection as it was, for a peer that speaks no TLS.
    #[must_use]
    pub fn into_plain(self) -> Stream {
        self.stream.into_plain()
    }

    async fn run(mut self, deadline: Instant) -> Result<TlsStream, HandshakeError> {
        self.stream.set_deadline(deadline);
        while self.wait().await? {
            self.step().await?;
        }
        Ok(self.finish())
    }
}

/// Makes `stream` a private connection to the server that can prove to be `name`.
///
/// The stream's deadlines are the handshake's afterwards: set them anew.
///
/// # Errors
/// [`HandshakeError`] says which side ended it. The peer was sent an alert where there is one to send.
pub async fn connect(
    stream: Stream,
    config: &Arc<ClientConfig>,
    name: ServerName<'static>,
    deadline: Instant,
) -> Result<TlsStream, HandshakeError> {
    Handshake::client(stream, config, name)?.run(deadline).await
}

/// Makes `stream` a private connection to the client that opened it.
///
/// The stream's deadlines are the handshake's afterwards: set them anew.
///
/// # Errors
/// [`HandshakeError`] says which side ended it. The peer was sent an alert where there is one to send.
pub async fn accept(
    stream: Stream,
    config: &Arc<ServerConfig>,
    deadline: Instant,
) -> Result<TlsStream, HandshakeError> {
    Handshake::server(stream, config)?.run(deadline).await
}
