//! What does the gateway answer itself, and what becomes of the request's unread rest?
//!
//! Never reads more of a body nobody wants than a small bound; never keeps a connection whose framing is in doubt.

use arrayvec::ArrayVec;
use config::snapshot::{Channel, StaticResponse};
use proto::http1::answer::{ANSWER_BYTES_MAX, AnswerPlan, answer_head, error_answer, has_body};
use proto::http1::chunked::Limits;
use proto::http1::framing::Delivery;
use proto::http1::head::{Method, RequestHead, Version};
use proto::http1::persist::{Persistence, decide_downstream};
use runtime::Chunk;

use crate::body::{Body, Ranges};
use crate::client::{Client, Next};
use crate::core_main::CoreState;
use crate::error_answer;
use crate::exchange::Route;
use crate::outcome::Fault;
use crate::relay::Coding;
use crate::response::count_answer;
use crate::stats::Phase;
use crate::workspace::Workspace;

/// Largest rest of a body that is read and dropped to keep the connection. Beyond, a new connection is cheaper for
/// both sides.
const DROPPED_BYTES_MAX: u64 = 64 * 1024;

/// What is left of a request when its answer is known before it was read.
pub(crate) struct Rest {
    pub(crate) body: Body,
    pub(crate) at_hand: Option<Chunk>,
}

impl Rest {
    /// Everything behind the head.
    pub(crate) fn after_head(request: &RequestHead, mut chunk: Chunk) -> Self {
        chunk.consume(request.head_bytes as usize);
        // A body of unknown length is never read to its end here, so its bounds do not matter.
        let body = Body::of_request(request.framing, Limits::default());
        Self { body, at_hand: (!chunk.is_empty()).then_some(chunk) }
    }

    fn is_small(&self) -> bool {
        match self.body {
            Body::Done => true,
            Body::Length(bytes) => bytes <= DROPPED_BYTES_MAX,
            // Nobody knows how much is to come.
            Body::Chunked(_) | Body::UntilClose => false,
        }
    }
}

/// Answers a request that ended in `fault`, if its kind has a status; closes the connection otherwise. What is known of
/// the request's head is in [`Workspace::request_text`].
pub(crate) async fn refuse(
    state: &CoreState,
    client: &mut Client,
    channel: Option<&Channel>,
    rest: Option<Rest>,
    fault: Fault,
    work: &mut Workspace,
) -> Next {
    let Some(status) = fault.status() else { return Next::Close };
    let rest = rest.filter(|rest| fault.keeps_framing() && keeps(state, client, &work.request, rest));
    let date = state.date.now(&state.core);
    let plan = AnswerPlan {
        keep_alive: rest.is_some(),
        // A head that was refused may have left the method of an earlier request behind.
        head_only: !matches!(fault, Fault::RequestRejected(_) | Fault::HeadTimeout)
            && work.request.method == Method::Head,
        retry_after_seconds: retry_after(state, client, status),
        date: Some(&date),
    };
    let listener = client.settings(state);
    error_answer::compose(status, &work.request_text, listener, channel, &plan, &mut work.answer_text);
    if send(state, client, work).await.is_err() {
        return Next::Close;
    }
    finish(state, client, rest).await
}

/// Answers OPTIONS or TRACE that may go no further, RFC 9110 §7.6.2.
pub(crate) async fn last_hop(
    state: &CoreState,
    client: &mut Client,
    rest: Rest,
    work: &mut Workspace,
) -> Next {
    // What TRACE echoes may be meant for an endpoint alone, RFC 9110 §9.3.8: it is not implemented.
    let status = if work.request.method == Method::Options { 200 } else { 501 };
    let rest = Some(rest).filter(|rest| keeps(state, client, &work.request, rest));
    let date = state.date.now(&state.core);
    let keep_alive = rest.is_some();
    let plan = AnswerPlan { keep_alive, head_only: false, retry_after_seconds: None, date: Some(&date) };
    let mut answer = ArrayVec::<u8, ANSWER_BYTES_MAX>::new();
    error_answer(status, &plan, &mut answer);
    work.answer_text.clear();
    work.answer_text.extend_from_slice(&answer);
    match send(state, client, work).await {
        Ok(()) => finish(state, client, rest).await,
        Err(_) => Next::Close,
    }
}

/// Answers from the configuration.
pub(crate) async fn respond(
    state: &CoreState,
    client: &mut Client,
    route: &Route<'_>,
    rest: Rest,
    response: &StaticResponse,
    work: &mut Workspace,
) -> Next {
    let rest = Some(rest).filter(|rest| keeps(state, client, &work.request, rest));
    let head_only = work.request.method == Method::Head;
    let date = state.date.now(&state.core);
    let plan = AnswerPlan {
        keep_alive: rest.is_some(),
        head_only,
        retry_after_seconds: retry_after(state, client, response.status),
        date: Some(&date),
    };
    let mut head = ArrayVec::<u8, ANSWER_BYTES_MAX>::new();
    let written = answer_head(response.status, &response.content_type, response.body.len(), &plan, &mut head);
    written.expect("the configuration bounds the content type");
    work.answer_text.clear();
    work.answer_text.extend_from_slice(&head);
    if has_body(response.status, &plan) {
        work.answer_text.extend_from_slice(&response.body);
        route.counters.body_bytes_sent.add(response.body.len() as u64);
    }
    count_answer(route.counters, Some(response.status));
    let sent = send(state, client, work).await;
    state.record(route, Phase::Total, state.core.now().since(route.began));
    match sent {
        Ok(()) => finish(state, client, rest).await,
        Err(_) => Next::Close,
    }
}

/// RFC 9110 §15.6.4: who is turned away for now is told when to come back.
fn retry_after(state: &CoreState, client: &Client, status: u16) -> Option<u32> {
    (status == 503).then_some(client.settings(state).retry_after_seconds)
}

/// Whether the connection serves another request after an answer of ours.
fn keeps(state: &CoreState, client: &Client, request: &RequestHead, rest: &Rest) -> bool {
    // The answers here never say keep-alive, which a client of HTTP/1.0 would have to be told.
    let is_new = request.version == Version::Http11;
    let wanted = decide_downstream(request, Delivery::Length(0)) == Persistence::Keep;
    is_new
        && wanted
        && !client.is_last_exchange(state)
        && rest.is_small()
        && (!request.expect_continue || rest.body.is_done())
}

async fn send(state: &CoreState, client: &Client, work: &Workspace) -> std::io::Result<()> {
    let timeout = client.settings(state).timeouts.send;
    client.stream.set_send_deadline(state.core.turn_time() + timeout);
    client.stream.send_all(&work.answer_text).await?;
    client.counters().bytes_sent.add(work.answer_text.len() as u64);
    Ok(())
}

/// Reads what is left of the request, or gives the connection up.
async fn finish(state: &CoreState, client: &mut Client, rest: Option<Rest>) -> Next {
    let Some(Rest { mut body, mut at_hand }) = rest else { return Next::Linger };
    let mut ranges = Ranges::new();
    // One deadline for all of it: a rest this small is not worth waiting for again and again.
    let deadline = state.core.turn_time() + client.settings(state).timeouts.body;
    while !body.is_done() {
        let mut chunk = match at_hand.take() {
            Some(chunk) => chunk,
            None => {
                client.stream.set_recv_deadline(deadline);
                match client.stream.recv().await {
                    Ok(Some(chunk)) => {
                        client.counters().bytes_received.add(chunk.len() as u64);
                        chunk
                    }
                    Ok(None) | Err(_) => return Next::Close,
                }
            }
        };
        let Ok(consumed) = body.pass(&chunk, Coding::AsReceived.mode(), &mut ranges) else {
            return Next::Linger;
        };
        chunk.consume(consumed);
        at_hand = (!chunk.is_empty()).then_some(chunk);
    }
    client.unread = at_hand;
    Next::Keep
}
