//! What does a runtime charge for a small exchange? The same relay on our executor, on either driver, and on tokio.
//!
//! It waits for a whole request and a whole reply, as a proxy must, and parses neither. Each client connection has one
//! task and one kept upstream connection. It runs on the thread that calls it, and pins nothing itself.
//!
//! Usage: `minimal_relay epoll|uring|tokio LISTEN UPSTREAM BODY_BYTES`; the last is the size of every reply's body.

mod message;
mod on_tokio;
mod ours;

use std::net::SocketAddr;
use std::process::ExitCode;

use anyhow::{Context as _, bail};
use runtime::DriverKind;

/// Where to listen, and what to pass on.
#[derive(Clone, Copy, Debug)]
struct Route {
    listen: SocketAddr,
    upstream: SocketAddr,
    /// Bytes in the body of every reply.
    body_bytes: usize,
}

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [runtime, listen, upstream, body_bytes] = arguments.as_slice() else {
        eprintln!("usage: minimal_relay epoll|uring|tokio LISTEN UPSTREAM BODY_BYTES");
        return ExitCode::from(2);
    };
    match run(runtime, listen, upstream, body_bytes) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("minimal_relay: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(runtime: &str, listen: &str, upstream: &str, body_bytes: &str) -> anyhow::Result<()> {
    let route = Route {
        listen: listen.parse().with_context(|| format!("bad address {listen}"))?,
        upstream: upstream.parse().with_context(|| format!("bad address {upstream}"))?,
        body_bytes: body_bytes.parse().with_context(|| format!("bad size {body_bytes}"))?,
    };
    match runtime {
        "epoll" => ours::run(DriverKind::Epoll, route),
        "uring" => ours::run(DriverKind::Uring, route),
        "tokio" => on_tokio::run(route),
        other => bail!("no runtime {other:?}: epoll, uring or tokio"),
    }
}
