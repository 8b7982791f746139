//! What becomes of a connection whose bytes go straight to an upstream? Connected, relayed, counted.
//!
//! Never looks at the bytes for anything but where a message ends; never ends one side as if it were whole when the other
//! broke off.

use std::future::poll_fn;
use std::pin::pin;
use std::rc::Rc;
use std::task::Poll;

use config::snapshot::{Protocol, TcpService, UpstreamId};
use runtime::Instant;

use crate::access::{self, Kind};
use crate::client::Client;
use crate::conversation::Conversation;
use crate::core_main::CoreState;
use crate::outcome::Fault;
use crate::remains::Remains;
use crate::tunnel;
use crate::upstream::Connection;

/// Serves a client's connection to its end; what was received of it goes first.
pub(crate) async fn serve(state: Rc<CoreState>, mut client: Client, service: TcpService) {
    if let Some(access) = &state.access {
        let is_named = matches!(client.settings(&state).protocol, Protocol::Tls(_));
        let kind = if is_named { Kind::Tls } else { Kind::Tcp };
        access::begin_relay(&state, access, &mut client, kind);
    }
    // Held as long as the connection is relayed.
    let entered = state.upstreams.enter_for_long(service.upstream);
    let connected = match &entered {
        Ok(_) => connect(&state, &client, service.upstream).await,
        Err(fault) => Err(*fault),
    };
    if let (Some(note), Ok(connection)) = (client.note.get(), &connected) {
        access::note_endpoint(&state, note, connection);
    }
    // It may outlast its generation, unless something is to be noted there at its end.
    let remains = Remains::of(&state, &client, None);
    let conversation = Conversation::of(&state, client.listener(), service.framing);
    let state = Some(state).filter(|state| state.upstreams.has_sessions(service.upstream));
    let relayed = match connected {
        Ok(connection) => {
            let relayed = relay(&remains, &mut client, &connection, conversation).await;
            if let Some(state) = state {
                state.upstreams.renew(&connection, client.peer);
            }
            relayed
        }
        Err(fault) => {
            // An end would say that the upstream had nothing to say. Where this is refused, the client is gone.
            let _ = client.stream.reset_on_close();
            Err(fault)
        }
    };
    if let Err(fault) = relayed {
        remains.counters.count_fault(fault);
        if let Some(note) = client.note.get() {
            note.fault(fault);
        }
        if fault == Fault::TunnelIdle {
            client.counters().idle_timeouts.add(1);
        }
    }
}

/// Makes the connection to the endpoint whose turn it is, as long as there is a client to have it.
async fn connect(state: &CoreState, client: &Client, upstream: UpstreamId) -> Result<Connection, Fault> {
    let mut connecting = pin!(state.upstreams.open(upstream, Instant::FAR_FUTURE, client));
    poll_fn(|context| match connecting.as_mut().poll(context) {
        Poll::Ready(outcome) => Poll::Ready(outcome),
        Poll::Pending => client.stream.poll_broken(context).map(|()| Err(Fault::TunnelClientGone)),
    })
    .await
}

/// Not async itself: what it is given would be in the task twice.
fn relay<'a>(
    remains: &'a Remains,
    client: &'a mut Client,
    connection: &'a Connection,
    conversation: Option<Box<Conversation>>,
) -> impl Future<Output = Result<(), Fault>> + 'a {
    let early = client.unread.take();
    if let Some(note) = client.note.get() {
        note.early(early.as_ref());
    }
    let terms = remains.terms(client, conversation);
    tunnel::relay(&remains.core, &client.stream, &connection.stream, terms, [early, None])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn future_bytes<F: Future>(_: fn(Rc<CoreState>, Client, TcpService) -> F) -> usize {
        size_of::<F>()
    }

    /// A relayed connection holds its task even when nothing comes, so that is its memory.
    #[test]
    fn a_relayed_connections_task_is_small() {
        let bytes = future_bytes(serve);
        assert!(bytes <= 1024, "{bytes}");
    }
}
