//! How does the relay look on our own executor?

use std::io::{self, IoSlice};

use anyhow::Context as _;
use runtime::net::listener::bind_per_core;
use runtime::{Chunk, Core, CoreConfig, DriverKind, Instant, Stream};

use crate::Route;
use crate::message::{reply_is_whole, request_is_whole};

/// Length of the accept queue, as in the null relay.
const BACKLOG: u32 = 1024;

/// Serves until it is ended.
pub(crate) fn run(driver: DriverKind, route: Route) -> anyhow::Result<()> {
    let listener = bind_per_core(route.listen, BACKLOG, 1)
        .with_context(|| format!("cannot listen on {}", route.listen))?
        .pop()
        .context("no socket to listen on")?;
    let config = CoreConfig::new(0, driver)?;
    runtime::run(config, move |core| async move {
        let listener = core.adopt_listener(listener).expect("a new socket can be watched");
        while let Ok((client, _)) = listener.accept().await {
            core.spawn(serve(core.clone(), client, route));
        }
    })?;
    anyhow::bail!("no connection can be accepted any more")
}

async fn serve(core: Core, client: Stream, route: Route) {
    // A connection that breaks ends its pair, and nothing else.
    let _ = relay(&core, &client, route).await;
}

async fn relay(core: &Core, client: &Stream, route: Route) -> io::Result<()> {
    client.set_deadline(Instant::FAR_FUTURE);
    let upstream = core.connect(route.upstream, Instant::FAR_FUTURE).await?;
    while let Some(request) = receive(client, request_is_whole).await? {
        send(&upstream, &request).await?;
        drop(request);
        let is_whole = |bytes: &[u8]| reply_is_whole(bytes, route.body_bytes);
        let Some(reply) = receive(&upstream, is_whole).await? else { break };
        send(client, &reply).await?;
    }
    Ok(())
}

/// A whole message, or `None` at the end of the stream.
async fn receive(stream: &Stream, is_whole: impl Fn(&[u8]) -> bool) -> io::Result<Option<Chunk>> {
    let Some(mut chunk) = stream.recv().await? else { return Ok(None) };
    while !is_whole(&chunk) {
        let begun = chunk.to_vec();
        drop(chunk);
        let Some(more) = stream.recv_behind(&begun).await? else { return Ok(None) };
        chunk = more;
    }
    Ok(Some(chunk))
}

async fn send(stream: &Stream, bytes: &[u8]) -> io::Result<()> {
    let sent = match stream.try_send(&[IoSlice::new(bytes)]) {
        Ok(sent) => sent,
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => 0,
        Err(error) => return Err(error),
    };
    stream.send_all(&bytes[sent..]).await
}
