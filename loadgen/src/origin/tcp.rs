//! What does the origin do with a connection that carries no HTTP: give back, swallow, or pour out?
//!
//! Never holds more than one buffer of what came in, and never keeps other connections from their turn.

use std::io;

use runtime::Core;

use super::{IDLE_MAX, Service};
use crate::connection::transport::Transport;

/// Sent again and again by [`source`]: as much as a socket's send buffer takes at once by default on most machines.
const POUR_BYTES: usize = 64 * 1024;
/// What is poured out.
static POUR: [u8; POUR_BYTES] = [b'x'; POUR_BYTES];

/// Sends every byte back, in order, until the client says that it is done.
pub(super) async fn echo(core: &Core, stream: &Transport, service: &Service) -> io::Result<()> {
    loop {
        stream.set_deadline(core.now() + IDLE_MAX);
        let Some(chunk) = stream.recv().await? else { return stream.shutdown_write().await };
        service.hold(core).await;
        stream.set_deadline(core.now() + IDLE_MAX);
        stream.send_all(&chunk).await?;
        drop(chunk);
        core.yield_now().await;
    }
}

/// Receives and forgets, and closes once the client is done.
pub(super) async fn sink(core: &Core, stream: &Transport) -> io::Result<()> {
    loop {
        stream.set_deadline(core.now() + IDLE_MAX);
        let Some(chunk) = stream.recv().await? else { return stream.shutdown_write().await };
        drop(chunk);
        core.yield_now().await;
    }
}

/// Sends as fast as the client takes it, until the client closes.
pub(super) async fn source(core: &Core, stream: &Transport, service: &Service) -> io::Result<()> {
    loop {
        service.hold(core).await;
        stream.set_deadline(core.now() + IDLE_MAX);
        stream.send_all(&POUR).await?;
        core.yield_now().await;
    }
}
