//! What becomes of a connection whose bytes go straight to an upstream? Connected, relayed, counted.
//!
//! Never looks at the bytes for anything but where a message ends; never ends one side as if it were whole when the other
//! broke off.

use std::future::poll_fn;
use std::pin::pin;
use std::rc::Rc;
use std::task::Poll;

use config::snapshot::TcpService;
use runtime::Instant;

use crate::client::Open;
use crate::conversation::Conversation;
use crate::core_main::CoreState;
use crate::outcome::Fault;
use crate::tunnel::{self, Terms};
use crate::upstream::Connection;
use crate::wire::Wire;

/// Serves a client's connection from accept to its end.
pub(crate) async fn serve(state: Rc<CoreState>, client: Wire, open: Open, service: TcpService) {
    let relayed = match connect(&state, &client, service).await {
        Ok(connection) => relay(&state, &client, &connection, &open, service).await,
        Err(fault) => {
            // An end would say that the upstream had nothing to say. Where this is refused, the client is gone.
            let _ = client.reset_on_close();
            Err(fault)
        }
    };
    if let Err(fault) = relayed {
        state.stats.count_fault(fault);
        if fault == Fault::TunnelIdle {
            open.counters().idle_timeouts.add(1);
        }
    }
}

/// Makes the connection to the endpoint whose turn it is, as long as there is a client to have it.
async fn connect(state: &CoreState, client: &Wire, service: TcpService) -> Result<Connection, Fault> {
    let mut connecting = pin!(state.upstreams.open(service.upstream, Instant::FAR_FUTURE));
    poll_fn(|context| match connecting.as_mut().poll(context) {
        Poll::Ready(outcome) => Poll::Ready(outcome),
        Poll::Pending => client.poll_broken(context).map(|()| Err(Fault::TunnelClientGone)),
    })
    .await
}

async fn relay(
    state: &CoreState,
    client: &Wire,
    connection: &Connection,
    open: &Open,
    service: TcpService,
) -> Result<(), Fault> {
    let timeouts = &state.listener(open.listener()).timeouts;
    let counters = open.counters();
    let terms = Terms {
        idle_timeout: timeouts.tunnel,
        lifetime: timeouts.lifetime,
        received: &counters.bytes_received,
        sent: &counters.bytes_sent,
        set_aside: &state.set_aside,
        conversation: Conversation::of(state, open.listener(), service.framing),
    };
    tunnel::relay(&state.core, client, &connection.stream, terms, [None, None]).await
}

#[cfg(test)]
mod tests {
    use super::*;

    fn future_bytes<F: Future>(_: fn(Rc<CoreState>, Wire, Open, TcpService) -> F) -> usize {
        size_of::<F>()
    }

    /// A relayed connection holds its task even when nothing comes, so that is its memory.
    #[test]
    fn a_relayed_connections_task_is_small() {
        let bytes = future_bytes(serve);
        assert!(bytes <= 1024, "{bytes}");
    }
}
