//! What does monoio charge for a small exchange? The relay of bench/src/minimal_relay, on io_uring or on epoll.
//!
//! Usage: `monoio_relay uring|epoll LISTEN UPSTREAM BODY_BYTES`.

#[path = "../../../src/minimal_relay/message.rs"]
mod message;

use std::io;
use std::net::SocketAddr;
use std::process::ExitCode;

use monoio::buf::{IoBuf as _, IoBufMut as _};
use monoio::io::{AsyncReadRent, AsyncWriteRentExt as _};
use monoio::net::{TcpListener, TcpStream};
use monoio::{IoUringDriver, LegacyDriver, RuntimeBuilder};

use crate::message::{BUFFER_BYTES, reply_is_whole, request_is_whole};

/// Entries of the submission queue; more than the connections of any measurement.
const ENTRIES: u32 = 4096;

#[derive(Clone, Copy)]
struct Route {
    listen: SocketAddr,
    upstream: SocketAddr,
    body_bytes: usize,
}

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let Some((driver, route)) = parse(&arguments) else {
        eprintln!("usage: monoio_relay uring|epoll LISTEN UPSTREAM BODY_BYTES");
        return ExitCode::from(2);
    };
    let outcome = if driver == "uring" {
        // Without these flags it takes a fifth more CPU time for a request.
        let mut flags = io_uring::IoUring::builder();
        flags.setup_coop_taskrun().setup_single_issuer().setup_defer_taskrun();
        let runtime =
            RuntimeBuilder::<IoUringDriver>::new().with_entries(ENTRIES).uring_builder(flags).build();
        runtime.and_then(|mut runtime| runtime.block_on(serve(route)))
    } else {
        let runtime = RuntimeBuilder::<LegacyDriver>::new().with_entries(ENTRIES).build();
        runtime.and_then(|mut runtime| runtime.block_on(serve(route)))
    };
    if let Err(error) = outcome {
        eprintln!("monoio_relay: {error}");
    }
    ExitCode::FAILURE
}

fn parse(arguments: &[String]) -> Option<(&str, Route)> {
    let [driver, listen, upstream, body_bytes] = arguments else { return None };
    let route = Route {
        listen: listen.parse().ok()?,
        upstream: upstream.parse().ok()?,
        body_bytes: body_bytes.parse().ok()?,
    };
    ["uring", "epoll"].contains(&driver.as_str()).then_some((driver, route))
}

async fn serve(route: Route) -> io::Result<()> {
    let listener = TcpListener::bind(route.listen)?;
    loop {
        let (client, _) = listener.accept().await?;
        monoio::spawn(async move {
            // A connection that breaks ends its pair, and nothing else.
            let _ = relay(client, route).await;
        });
    }
}

async fn relay(mut client: TcpStream, route: Route) -> io::Result<()> {
    client.set_nodelay(true)?;
    let mut upstream = TcpStream::connect(route.upstream).await?;
    upstream.set_nodelay(true)?;
    let mut buffer = vec![0; BUFFER_BYTES];
    loop {
        let filled;
        (buffer, filled) = receive(&mut client, buffer, request_is_whole).await?;
        if filled == 0 {
            return Ok(());
        }
        buffer = send(&mut upstream, buffer, filled).await?;
        let is_whole = |bytes: &[u8]| reply_is_whole(bytes, route.body_bytes);
        let filled;
        (buffer, filled) = receive(&mut upstream, buffer, is_whole).await?;
        if filled == 0 {
            return Ok(());
        }
        buffer = send(&mut client, buffer, filled).await?;
    }
}

/// The buffer with a whole message and its length, zero at the end of the stream.
async fn receive(
    stream: &mut TcpStream,
    mut buffer: Vec<u8>,
    is_whole: impl Fn(&[u8]) -> bool,
) -> io::Result<(Vec<u8>, usize)> {
    let mut filled = 0;
    while !is_whole(&buffer[..filled]) {
        let (count, rest) = stream.read(buffer.slice_mut(filled..)).await;
        buffer = rest.into_inner();
        match count? {
            // The end, or a message that is larger than the buffer.
            0 => return Ok((buffer, 0)),
            count => filled += count,
        }
    }
    Ok((buffer, filled))
}

async fn send(stream: &mut TcpStream, buffer: Vec<u8>, filled: usize) -> io::Result<Vec<u8>> {
    let (outcome, sent) = stream.write_all(buffer.slice(..filled)).await;
    outcome?;
    Ok(sent.into_inner())
}
