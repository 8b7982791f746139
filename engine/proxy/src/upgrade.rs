//! When does a connection stop being HTTP, and what becomes of it then? After a 101, or after CONNECT where that is allowed.
//!
//! Never lets a byte of another protocol through before both sides have agreed to speak it, and never one that the channel
//! does not allow.

use std::sync::Arc;

use config::snapshot::{Channel, ChannelId, Upgrades, UpstreamId};
use proto::http1::framing::RequestFraming;
use proto::http1::head::{RequestHead, ResponseHead};
use runtime::Chunk;

use crate::access;
use crate::client::{Client, Next};
use crate::core_main::CoreState;
use crate::exchange::Route;
use crate::outcome::{Fault, fault_of};
use crate::remains::Remains;
use crate::rules::Held;
use crate::stats::{ChannelCounters, Phase};
use crate::tunnel;
use crate::upstream::Connection;

/// What CONNECT is answered with once the endpoint is there (RFC 9110 §9.3.6).
const TUNNEL_OPEN: &[u8] = b"HTTP/1.1 200 OK\r\n\r\n";

/// A client's connection that another protocol takes over, and the one it leads to.
pub(crate) struct Switched {
    pub(crate) connection: Connection,
    pub(crate) channel: ChannelId,
    /// What the client has sent of the new protocol already.
    pub(crate) early: Option<Chunk>,
    /// What it holds of the channel's allowances, as long as it lasts.
    pub(crate) held: Option<Box<Held>>,
}

impl Switched {
    pub(crate) fn new(connection: Connection, channel: ChannelId, early: Option<Chunk>) -> Self {
        Self { connection, channel, early, held: None }
    }
}

/// Whether the channel lets the client change to what it offers; all of it, since the endpoint chooses.
pub(crate) fn is_allowed(channel: &Channel, head: &[u8], request: &RequestHead) -> bool {
    request.upgrade_protocols(head).all(|protocol| allows(&channel.upgrade, protocol))
}

/// Whether a 101 says what it has to (RFC 9110 §7.8): what is spoken now, and that this concerns this connection alone.
pub(crate) fn is_agreed(channel: &Channel, head: &[u8], response: &ResponseHead) -> bool {
    let mut protocols = response.upgrade_protocols(head).peekable();
    response.connection.upgrade
        && protocols.peek().is_some()
        && protocols.all(|protocol| allows(&channel.upgrade, protocol))
}

fn allows(upgrades: &Upgrades, protocol: &[u8]) -> bool {
    let name = protocol.split(|&byte| byte == b'/').next().unwrap_or(protocol);
    upgrades.allows(name)
}

/// Opens the tunnel that a CONNECT asks for: to an endpoint of the channel's upstream, whatever the request names.
pub(crate) async fn connect(
    state: &CoreState,
    client: &Client,
    route: &Route<'_>,
    upstream: UpstreamId,
    request: &RequestHead,
    mut chunk: Chunk,
) -> Result<Next, Fault> {
    // Nobody knows whether such bytes are content or the first ones for the other side (RFC 9110 §9.3.6).
    if request.framing != RequestFraming::None {
        return Err(Fault::TunnelRefused);
    }
    let asked_at = state.core.now();
    state.record_of(client, route, Phase::Wait, asked_at.since(route.began));
    let connection = state.upstreams.open(upstream, route.total, client).await?;
    let connected_at = state.core.now();
    state.record_of(client, route, Phase::Connect, connected_at.since(asked_at));
    if let Some(note) = client.note.get() {
        access::note_endpoint(state, note, &connection);
        note.status(Some(200));
        note.sent[0].add(TUNNEL_OPEN.len() as u64);
    }
    client.stream.set_send_deadline(connected_at + client.settings(state).timeouts.send);
    let sent = client.stream.send_all(TUNNEL_OPEN).await;
    sent.map_err(|error| fault_of(&error, Fault::ClientSendTimeout, Fault::ClientGoneInResponse))?;
    client.counters().bytes_sent.add(TUNNEL_OPEN.len() as u64);
    chunk.consume(request.head_bytes as usize);
    let early = (!chunk.is_empty()).then_some(chunk);
    Ok(Next::Switch(Box::new(Switched::new(connection, route.id, early))))
}

/// Relays what is spoken now, until that ends. A task of its own: an exchange has more than an idle tunnel should hold, and its
/// generation may end before the tunnel does.
pub(crate) fn serve(
    state: &CoreState,
    client: Client,
    switched: Switched,
) -> impl Future<Output = ()> + use<> {
    let channel = usize::from(switched.channel.0);
    let idle_timeout = state.snapshot.channels[channel].tunnel_timeout;
    let remains = Box::new(Remains::of(state, &client, idle_timeout));
    relay(remains, Arc::clone(&state.stats.channels[channel]), client, switched)
}

async fn relay(remains: Box<Remains>, channel: Arc<ChannelCounters>, client: Client, mut switched: Switched) {
    if let Some(note) = client.note.get() {
        note.tunnel(switched.early.as_ref());
    }
    // Used where it lies: what is moved out of an argument is in the task twice.
    let early = [switched.early.take(), None];
    let upstream = &switched.connection.stream;
    let relayed =
        tunnel::relay(&remains.core, &client.stream, upstream, remains.terms(&client, None), early).await;
    if let Err(fault) = relayed {
        remains.counters.count_fault(fault);
        channel.faults.add(1);
        if let Some(note) = client.note.get() {
            note.fault(fault);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn future_bytes<F: Future>(_: fn(Box<Remains>, Arc<ChannelCounters>, Client, Switched) -> F) -> usize {
        size_of::<F>()
    }

    /// A tunnel holds its task even when nothing comes, so that is its memory.
    #[test]
    fn a_tunnels_task_is_small() {
        let bytes = future_bytes(relay);
        assert!(bytes <= 1024, "{bytes}");
    }
}
