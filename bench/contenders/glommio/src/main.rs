//! What does glommio charge for a small exchange? The relay of bench/src/minimal_relay.
//!
//! Usage: `glommio_relay LISTEN UPSTREAM BODY_BYTES`.

#[path = "../../../src/minimal_relay/message.rs"]
mod message;

use std::io;
use std::net::SocketAddr;
use std::process::ExitCode;

use futures_lite::{AsyncReadExt as _, AsyncWriteExt as _};
use glommio::net::{TcpListener, TcpStream};
use glommio::{LocalExecutorBuilder, Placement};

use crate::message::{BUFFER_BYTES, reply_is_whole, request_is_whole};

#[derive(Clone, Copy)]
struct Route {
    listen: SocketAddr,
    upstream: SocketAddr,
    body_bytes: usize,
}

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let Some(route) = parse(&arguments) else {
        eprintln!("usage: glommio_relay LISTEN UPSTREAM BODY_BYTES");
        return ExitCode::from(2);
    };
    // Whoever starts this process pins it.
    let outcome = match LocalExecutorBuilder::new(Placement::Unbound).make() {
        Ok(executor) => executor.run(serve(route)),
        Err(error) => Err(io::Error::other(error.to_string())),
    };
    if let Err(error) = outcome {
        eprintln!("glommio_relay: {error}");
    }
    ExitCode::FAILURE
}

fn parse(arguments: &[String]) -> Option<Route> {
    let [listen, upstream, body_bytes] = arguments else { return None };
    Some(Route {
        listen: listen.parse().ok()?,
        upstream: upstream.parse().ok()?,
        body_bytes: body_bytes.parse().ok()?,
    })
}

async fn serve(route: Route) -> io::Result<()> {
    let listener = TcpListener::bind(route.listen)?;
    loop {
        let client = listener.accept().await?;
        glommio::spawn_local(async move {
            // A connection that breaks ends its pair, and nothing else.
            let _ = relay(client, route).await;
        })
        .detach();
    }
}

async fn relay(mut client: TcpStream, route: Route) -> io::Result<()> {
    client.set_nodelay(true)?;
    let mut upstream = TcpStream::connect(route.upstream).await?;
    upstream.set_nodelay(true)?;
    let mut buffer = vec![0; BUFFER_BYTES];
    loop {
        let filled = receive(&mut client, &mut buffer, request_is_whole).await?;
        if filled == 0 {
            return Ok(());
        }
        upstream.write_all(&buffer[..filled]).await?;
        let is_whole = |bytes: &[u8]| reply_is_whole(bytes, route.body_bytes);
        let filled = receive(&mut upstream, &mut buffer, is_whole).await?;
        if filled == 0 {
            return Ok(());
        }
        client.write_all(&buffer[..filled]).await?;
    }
}

/// Length of a whole message in `buffer`, zero at the end of the stream.
async fn receive(
    stream: &mut TcpStream,
    buffer: &mut [u8],
    is_whole: impl Fn(&[u8]) -> bool,
) -> io::Result<usize> {
    let mut filled = 0;
    while !is_whole(&buffer[..filled]) {
        match stream.read(&mut buffer[filled..]).await? {
            // The end, or a message that is larger than the buffer.
            0 => return Ok(0),
            count => filled += count,
        }
    }
    Ok(filled)
}
