//! When does a request go out twice although nothing has failed? Where its answer takes longer than its channel has patience for.
//!
//! Never one with a body or with effects, never to the same endpoint, never beyond the budget of repetitions. The first answer
//! wins, and nobody waits for the other.

use std::future::poll_fn;
use std::pin::pin;
use std::task::Poll;
use std::time::Duration;

use config::snapshot::Upstream;
use proto::http1::framing::RequestFraming;
use proto::http1::head::RequestHead;
use runtime::Chunk;

use crate::client::Client;
use crate::core_main::CoreState;
use crate::exchange::Route;
use crate::outcome::Fault;
use crate::request;
use crate::response::{Answering, Progress, Upload};
use crate::upstream::Connection;
use crate::workspace::Workspace;

/// Whether a request may be in two places at once.
pub(crate) fn is_harmless(request: &RequestHead) -> bool {
    request.method.is_idempotent() && request.framing == RequestFraming::None && !request.upgrade
}

/// Waits for the first bytes of an answer over `connection`, and after a while sends the request to another endpoint too.
/// `connection` is the one that they have come by then.
#[expect(clippy::too_many_arguments, reason = "an exchange is what it is made of")]
pub(crate) async fn first_bytes(
    state: &CoreState,
    client: &Client,
    route: &Route<'_>,
    settings: &Upstream,
    connection: &mut Connection,
    progress: &Progress<'_>,
    work: &Workspace,
    after: Duration,
) -> Result<Chunk, Fault> {
    let request = &work.request;
    let upstream = connection.upstream;
    let counters = &state.stats.upstreams[usize::from(upstream.0)];
    let (winner, bytes, first_fault) = {
        let connection = &*connection;
        let answering = Answering { state, client, route, settings, connection, progress, request };
        let mut first = pin!(answering.first_bytes());
        let mut waiting = pin!(state.core.sleep_until(state.core.turn_time() + after));
        let early = poll_fn(|context| match first.as_mut().poll(context) {
            Poll::Ready(outcome) => Poll::Ready(Some(outcome)),
            Poll::Pending => waiting.as_mut().poll(context).map(|()| None),
        });
        if let Some(outcome) = early.await {
            return outcome;
        }
        work.tries.begin(connection.endpoint);
        let Some(endpoint) = state.upstreams.another(upstream, &work.tries) else { return first.await };
        counters.hedges.add(1);
        let mut second = pin!(async {
            let opened = state.upstreams.open_to(upstream, endpoint, route.total, client, &work.tries).await;
            let connection = opened?;
            request::send_again(state, route, settings, &connection, work).await?;
            let progress = Progress::new(Upload::Done, true, state.core.now(), &work.tries);
            let bytes = {
                let (connection, progress) = (&connection, &progress);
                let answering = Answering { state, client, route, settings, connection, progress, request };
                answering.first_bytes().await
            };
            if let Err(fault) = bytes {
                state.upstreams.note_fault(&connection, fault, &progress);
            }
            Ok::<_, Fault>((connection, bytes?))
        });
        let (mut first_fault, mut is_second_over) = (None, false);
        let won = poll_fn(|context| {
            if first_fault.is_none()
                && let Poll::Ready(outcome) = first.as_mut().poll(context)
            {
                match outcome {
                    Ok(bytes) => return Poll::Ready(Ok(Winner::First(bytes))),
                    Err(Fault::ClientGoneInResponse) => {
                        return Poll::Ready(Err(Fault::ClientGoneInResponse));
                    }
                    Err(fault) => first_fault = Some(fault),
                }
            }
            if !is_second_over && let Poll::Ready(outcome) = second.as_mut().poll(context) {
                match outcome {
                    Ok((connection, bytes)) => {
                        return Poll::Ready(Ok(Winner::Second(Box::new(connection), bytes)));
                    }
                    Err(_) => is_second_over = true,
                }
            }
            match first_fault {
                Some(fault) if is_second_over => Poll::Ready(Err(fault)),
                _ => Poll::Pending,
            }
        });
        match won.await? {
            Winner::First(bytes) => return Ok(bytes),
            Winner::Second(connection, bytes) => (connection, bytes, first_fault),
        }
    };
    if let Some(fault) = first_fault {
        state.upstreams.note_fault(connection, fault, progress);
    }
    counters.hedges_won.add(1);
    // The other answer is nobody's: its connection ends here.
    *connection = *winner;
    progress.begin_again(state.core.turn_time());
    Ok(bytes)
}

/// Whose first bytes came first.
enum Winner {
    First(Chunk),
    Second(Box<Connection>, Chunk),
}
