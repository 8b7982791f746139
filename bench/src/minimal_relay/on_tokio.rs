//! How does the relay look on tokio, with one thread?

use std::future::poll_fn;
use std::io;
use std::pin::Pin;

use anyhow::Context as _;
use tokio::io::{AsyncRead as _, AsyncWrite as _, ReadBuf};
use tokio::net::{TcpListener, TcpStream};

use crate::Route;
use crate::message::{BUFFER_BYTES, reply_is_whole, request_is_whole};

/// Serves until it is ended.
pub(crate) fn run(route: Route) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build()?;
    // Tasks need not be `Send`, as on the other runtimes.
    let local = tokio::task::LocalSet::new();
    local.block_on(&runtime, async move {
        let listener = TcpListener::bind(route.listen)
            .await
            .with_context(|| format!("cannot listen on {}", route.listen))?;
        loop {
            let (client, _) = listener.accept().await?;
            tokio::task::spawn_local(async move {
                // A connection that breaks ends its pair, and nothing else.
                let _ = relay(client, route).await;
            });
        }
    })
}

async fn relay(mut client: TcpStream, route: Route) -> io::Result<()> {
    client.set_nodelay(true)?;
    let mut upstream = TcpStream::connect(route.upstream).await?;
    upstream.set_nodelay(true)?;
    let mut buffer = vec![0; BUFFER_BYTES];
    loop {
        let Some(bytes) = receive(&mut client, &mut buffer, request_is_whole).await? else { return Ok(()) };
        send(&mut upstream, &buffer[..bytes]).await?;
        let is_whole = |bytes: &[u8]| reply_is_whole(bytes, route.body_bytes);
        let Some(bytes) = receive(&mut upstream, &mut buffer, is_whole).await? else { return Ok(()) };
        send(&mut client, &buffer[..bytes]).await?;
    }
}

/// Length of a whole message in `buffer`, or `None` at the end of the stream.
async fn receive(
    stream: &mut TcpStream,
    buffer: &mut [u8],
    is_whole: impl Fn(&[u8]) -> bool,
) -> io::Result<Option<usize>> {
    let mut filled = 0;
    while !is_whole(&buffer[..filled]) {
        let mut rest = ReadBuf::new(&mut buffer[filled..]);
        // Not `try_read`: after a short read `poll_read` knows that the socket is drained, and saves a system call.
        poll_fn(|context| Pin::new(&mut *stream).poll_read(context, &mut rest)).await?;
        match rest.filled().len() {
            // The end, or a message that is larger than the buffer.
            0 => return Ok(None),
            count => filled += count,
        }
    }
    Ok(Some(filled))
}

async fn send(stream: &mut TcpStream, mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        let count = poll_fn(|context| Pin::new(&mut *stream).poll_write(context, bytes)).await?;
        bytes = &bytes[count..];
    }
    Ok(())
}
