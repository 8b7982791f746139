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
    let connection = ClientConnection::new(config.clone(), name).map_err(HandshakeError::Refused)?;
    agree(stream, connection.into(), deadline).await
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
    let connection = ServerConnection::new(config.clone()).map_err(HandshakeError::Refused)?;
    agree(stream, connection.into(), deadline).await
}

async fn agree(
    stream: Stream,
    connection: Connection,
    deadline: Instant,
) -> Result<TlsStream, HandshakeError> {
    stream.set_deadline(deadline);
    let stream = TlsStream::new(stream, Session::new(connection));
    loop {
        // The tickets of a server go out with its last message.
        stream.writable().await?;
        if !stream.is_handshaking() {
            return Ok(stream);
        }
        if !stream.advance().await? {
            return Err(HandshakeError::Ended);
        }
    }
}
