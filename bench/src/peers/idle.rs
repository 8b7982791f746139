//! How much memory does a connection hold that nobody uses right now?
//!
//! It counts what a server's processes have in memory, not what the kernel keeps for their sockets: that is the same
//! for all.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, ensure};

use crate::contender::{Place, Server};
use crate::scenario::WaitingFor;

/// Longest wait for an answer.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);
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

fn connect(addr: SocketAddr) -> anyhow::Result<TcpStream> {
    let stream = TcpStream::connect_timeout(&addr, ANSWER_TIMEOUT)?;
    stream.set_read_timeout(Some(ANSWER_TIMEOUT))?;
    Ok(stream)
}

/// Sends `GET /` and reads an answer with a body of `body_bytes`, leaving the connection to be used again.
fn ask(stream: &mut TcpStream, body_bytes: usize) -> anyhow::Result<()> {
    stream.write_all(b"GET / HTTP/1.1\r\nHost: bench\r\n\r\n")?;
    let mut answer = Vec::new();
    let mut part = [0; 4096];
    loop {
        let received = stream.read(&mut part)?;
        ensure!(received > 0, "closed in the middle of an answer");
        answer.extend_from_slice(&part[..received]);
        let head_end = answer.windows(4).position(|window| window == b"\r\n\r\n");
        if head_end.is_some_and(|head_end| answer.len() >= head_end + 4 + body_bytes) {
            break;
        }
    }
    ensure!(answer.starts_with(b"HTTP/1.1 200 "), "answered {:?}", String::from_utf8_lossy(&answer));
    Ok(())
}

/// Whether the other end has neither closed the connection nor said anything.
fn is_open(stream: &TcpStream) -> bool {
    let peek = || {
        stream.set_nonblocking(true)?;
        stream.peek(&mut [0])
    };
    peek().is_err_and(|error| error.kind() == ErrorKind::WouldBlock)
}
