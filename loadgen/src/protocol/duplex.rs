//! What happens first on a connection that is to send and to receive: bytes, or room for more?
//!
//! Never waits for one of them alone: a server that sends back while it receives would wait for us, and we for it.

use std::future::poll_fn;
use std::io;
use std::pin::pin;
use std::task::Poll;

use runtime::Chunk;

use crate::connection::transport::Transport;

/// What a connection was waited for.
pub(crate) enum Ready {
    /// Bytes, or the end.
    Received(Option<Chunk>),
    /// Room to send, which was asked for.
    Writable,
}

/// Waits for bytes, and for room to send if that `is_wanted`, under the stream's deadline.
///
/// # Errors
/// As [`Transport::recv`] and [`Transport::writable`].
pub(crate) async fn ready(stream: &Transport, is_wanted: bool) -> io::Result<Ready> {
    if !is_wanted {
        return stream.recv().await.map(Ready::Received);
    }
    let mut room = pin!(stream.writable());
    poll_fn(|context| {
        if let Poll::Ready(received) = stream.poll_recv(context) {
            return Poll::Ready(received.map(Ready::Received));
        }
        room.as_mut().poll(context).map_ok(|()| Ready::Writable)
    })
    .await
}
