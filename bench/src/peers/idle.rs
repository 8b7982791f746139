//! How much memory does a connection hold that nobody uses right now?
//!
//! It counts what a server's processes have in memory, not what the kernel keeps for their sockets: that is the same
//! for all.

use std::io::ErrorKind;
use std::net::TcpStream;
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use bench::traffic::{ask, connect};

use crate::contender::{Place, Server};
use crate::scenario::WaitingFor;

/// For what a server does between its last answer and rest.
const SETTLE: Duration = Duration::from_millis(300);

/// Growth of the resident memory of `server`, which has served little yet, by `place.connections` connections; for
/// each of them, in bytes.
///
/// # Errors
/// When a connection fails, or is closed before the memory is read.
pub(crate) fn bytes_per_connection(
    server: &Server,
    place: &Place<'_>,
    waiting_for: WaitingFor,
) -> anyhow::Result<f64> {
    let before = server.child.resident_bytes()?;
    let mut connections = Vec::new();
    for number in 0..place.connections {
        let open = || -> anyhow::Result<TcpStream> {
            let mut stream = connect(server.addr)?;
            if waiting_for == WaitingFor::NextRequest {
                ask(&mut stream, place.body_bytes)?;
            }
            Ok(stream)
        };
        connections.push(open().with_context(|| format!("connection {number}"))?);
    }
    // Accepted in order: once this one is served, none waits in the kernel.
    ask(&mut connect(server.addr)?, place.body_bytes).context("behind all connections")?;
    thread::sleep(SETTLE);
    let after = server.child.resident_bytes()?;
    let closed = connections.iter().filter(|stream| !is_open(stream)).count();
    ensure!(closed == 0, "{closed} of {} connections were not kept", connections.len());
    // A server that gave something back meanwhile has grown by less than nothing.
    Ok((after as f64 - before as f64) / f64::from(place.connections))
}

/// Whether the other end has neither closed the connection nor said anything.
fn is_open(stream: &TcpStream) -> bool {
    let peek = || {
        stream.set_nonblocking(true)?;
        stream.peek(&mut [0])
    };
    peek().is_err_and(|error| error.kind() == ErrorKind::WouldBlock)
}
