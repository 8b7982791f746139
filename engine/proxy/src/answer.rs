//! What does the gateway answer itself, and what becomes of the request's unread rest?
//!
//! Never reads more of a body nobody wants than a small bound; never keeps a connection whose framing is in doubt.

use arrayvec::ArrayVec;
use config::snapshot::{Channel, StaticResponse};
use proto::http1::answer::{ANSWER_BYTES_MAX, AnswerPlan, answer_head, error_answer, has_body};
use proto::http1::framing::{Delivery, RequestFraming};
use proto::http1::head::{Method, RequestHead, Version};
use proto::http1::persist::{Persistence, decide_downstream};
use runtime::Chunk;

use crate::access;
use crate::client::{Client, Next};
use crate::core_main::CoreState;
use crate::error_answer;
use crate::exchange::Route;
use crate::outcome::Fault;
use crate::response::count_answer;
use crate::rules;
use crate::standing::Readiness;
use crate::stats::Phase;
use crate::tokens;
use crate::workspace::{AnswerSpace, Lent, Workspace};

/// Largest rest of a body that is read and dropped to keep the connection. Beyond, a new connection is cheaper for
/// both sides.
const DROPPED_BYTES_MAX: u64 = 64 * 1024;

/// What is left of a request when its answer is known before it was read.
pub(crate) struct Rest {
    /// Bytes of its body still to be read; `None` where nobody knows.
    body_bytes: Option<u64>,
    at_hand: Option<Chunk>,
}

impl Rest {
    /// Everything behind the head.
    pub(crate) fn after_head(request: &RequestHead, mut chunk: Chunk) -> Self {
        chunk.consume(request.head_bytes as usize);
        let body_bytes = match request.framing {
            RequestFraming::None => Some(0),
            RequestFraming::Length(bytes) => Some(bytes),
            RequestFraming::Chunked => None,
        };
        Self { body_bytes, at_hand: (!chunk.is_empty()).then_some(chunk) }
    }

    /// Nothing but what came behind the request.
    pub(crate) fn behind(at_hand: Option<Chunk>) -> Self {
        Self { body_bytes: Some(0), at_hand }
    }

    fn is_small(&self) -> bool {
        self.body_bytes.is_some_and(|bytes| bytes <= DROPPED_BYTES_MAX)
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
        retry_after_seconds: fault.retry_after_seconds().or_else(|| retry_after(state, client, status)),
        date: Some(&date),
    };
    let listener = client.settings(state);
    let mut space = state.answer_spaces.take();
    error_answer::compose(status, &work.request_text, listener, channel, &plan, &mut space.text);
    if let Some(line) = tokens::challenge(fault, channel) {
        error_answer::add_line(&line, &mut space.text);
    }
    note(state, client, status, &space.text);
    if send(state, client, space).await.is_err() {
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
    let mut space = state.answer_spaces.take();
    space.text.clear();
    space.text.extend_from_slice(&answer);
    note(state, client, status, &space.text);
    match send(state, client, space).await {
        Ok(()) => finish(state, client, rest).await,
        Err(_) => Next::Close,
    }
}

/// Says whether new traffic is welcome: what balancers in front ask, and what everybody is told while another process acts.
pub(crate) async fn say_readiness(
    state: &CoreState,
    client: &mut Client,
    rest: Rest,
    readiness: Readiness,
    work: &mut Workspace,
) -> Next {
    let (status, body) = match readiness {
        Readiness::Ready => (200, "ok\n"),
        Readiness::Draining => (503, "draining\n"),
        Readiness::Standby => (503, "standby\n"),
    };
    let rest = Some(rest).filter(|rest| keeps(state, client, &work.request, rest));
    let date = state.date.now(&state.core);
    let plan = AnswerPlan {
        keep_alive: rest.is_some(),
        head_only: work.request.method == Method::Head,
        retry_after_seconds: retry_after(state, client, status),
        date: Some(&date),
    };
    let mut head = ArrayVec::<u8, ANSWER_BYTES_MAX>::new();
    let written = answer_head(status, "text/plain; charset=utf-8", body.len(), &plan, &mut head);
    written.expect("the content type is short");
    let mut space = state.answer_spaces.take();
    space.text.clear();
    space.text.extend_from_slice(&head);
    if has_body(status, &plan) {
        space.text.extend_from_slice(body.as_bytes());
    }
    note(state, client, status, &space.text);
    match send(state, client, space).await {
        Ok(()) => finish(state, client, rest).await,
        Err(_) => Next::Close,
    }
}

/// Answers from the configuration, with these further field lines.
pub(crate) async fn respond(
    state: &CoreState,
    client: &mut Client,
    route: &Route<'_>,
    rest: Rest,
    response: &StaticResponse,
    lines: &[u8],
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
    let mut space = state.answer_spaces.take();
    space.text.clear();
    let before_end = head.len() - b"\r\n".len();
    space.text.extend_from_slice(&head[..before_end]);
    space.text.extend_from_slice(lines);
    space.text.extend_from_slice(b"\r\n");
    if let Some(rules) = &route.channel.rules {
        rules::edits::edit_answer(route, rules, &mut space.text);
    }
    if has_body(response.status, &plan) {
        space.text.extend_from_slice(&response.body);
        route.counters.body_bytes_sent.add(response.body.len() as u64);
    }
    count_answer(route.counters, Some(response.status));
    note(state, client, response.status, &space.text);
    let sent = send(state, client, space).await;
    state.record_of(client, route, Phase::Total, state.core.now().since(route.began));
    match sent {
        Ok(()) => finish(state, client, rest).await,
        Err(_) => Next::Close,
    }
}

/// RFC 9110 §15.6.4 and RFC 6585 §4: who is turned away for now is told when to come back.
fn retry_after(state: &CoreState, client: &Client, status: u16) -> Option<u32> {
    matches!(status, 429 | 503).then_some(client.settings(state).retry_after_seconds)
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
        && (!request.expect_continue || rest.body_bytes == Some(0))
}

/// Tells the logs that want the exchange what it is answered.
fn note(state: &CoreState, client: &Client, status: u16, text: &[u8]) {
    if let Some(note) = client.note.get() {
        access::note_answer(state, note, status, text);
    }
}

/// Sends the text in `space`, and gives the space back.
async fn send(state: &CoreState, client: &Client, space: Lent<'_, AnswerSpace>) -> std::io::Result<()> {
    let timeout = client.settings(state).timeouts.send;
    client.stream.set_send_deadline(state.core.turn_time() + timeout);
    client.stream.send_all(&space.text).await?;
    client.counters().bytes_sent.add(space.text.len() as u64);
    if let Some(note) = client.note.get() {
        let head =
            space.text.windows(4).position(|end| end == b"\r\n\r\n").map_or(space.text.len(), |at| at + 4);
        note.sent[0].add(space.text.len() as u64);
        note.sent[1].add((space.text.len() - head) as u64);
    }
    Ok(())
}

/// Reads what is left of the request, or gives the connection up.
async fn finish(state: &CoreState, client: &mut Client, rest: Option<Rest>) -> Next {
    let Some(Rest { body_bytes: Some(mut left), mut at_hand }) = rest else { return Next::Linger };
    // One deadline for all of it: a rest this small is not worth waiting for again and again.
    let deadline = state.core.turn_time() + client.settings(state).timeouts.body;
    while left > 0 {
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
        let dropped = usize::try_from(left).map_or(chunk.len(), |left| left.min(chunk.len()));
        chunk.consume(dropped);
        left -= dropped as u64;
        at_hand = (!chunk.is_empty()).then_some(chunk);
    }
    client.unread = at_hand;
    Next::Keep
}
