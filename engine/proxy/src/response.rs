//! How is an answer received, rewritten and passed on? The endpoint's side of an exchange, step by step.
//!
//! Never sends to a client what is not framed beyond doubt; never waits without a deadline.

use std::cell::Cell;
use std::io;

use config::snapshot::Upstream;
use proto::http1::chunked::CHUNK_HEADER_BYTES_MAX;
use proto::http1::framing::{Delivery, decide_response_framing};
use proto::http1::head::{Parsed, RequestHead, ResponseHead, Version, parse_response};
use proto::http1::persist::{Persistence, connection_option, decide_downstream, decide_upstream};
use proto::http1::rewrite::{ResponsePlan, rewrite_response};
use runtime::{Chunk, Instant};

use crate::body::Body;
use crate::client::Client;
use crate::core_main::{CoreState, deadline};
use crate::exchange::Route;
use crate::outcome::{Fault, fault_of};
use crate::relay::{Broken, Coding, Way, push_ranges, send_slices};
use crate::request::{Slices, limits};
use crate::stats::{ChannelCounters, Phase};
use crate::upstream::Connection;
use crate::workspace::Workspace;

/// How far an exchange has come; written by one direction, read by the other.
pub(crate) struct Progress {
    /// The request is with the endpoint to its last byte.
    pub(crate) is_request_sent: Cell<bool>,
    /// Something came back, were it half a head.
    pub(crate) is_response_begun: Cell<bool>,
    /// The client has been sent something of a final answer.
    pub(crate) is_answer_begun: Cell<bool>,
    /// When the wait for the answer began: with the connection, or with the last byte of the body.
    waiting_since: Cell<Instant>,
}

impl Progress {
    pub(crate) fn new(connected_at: Instant) -> Self {
        Self {
            is_request_sent: Cell::new(false),
            is_response_begun: Cell::new(false),
            is_answer_begun: Cell::new(false),
            waiting_since: Cell::new(connected_at),
        }
    }

    /// The body is up: from now on the endpoint has its time to answer.
    pub(crate) fn request_sent(
        &self,
        state: &CoreState,
        route: &Route<'_>,
        settings: &Upstream,
        connection: &Connection,
    ) {
        self.is_request_sent.set(true);
        if !self.is_response_begun.get() {
            let now = state.core.now();
            self.waiting_since.set(now);
            connection.stream.set_recv_deadline((now + settings.timeouts.first_byte).min(route.total));
        }
    }
}

/// What an answer leaves behind.
pub(crate) struct Answered {
    /// Whether the client's connection serves another request.
    pub(crate) client: Persistence,
    /// Whether the endpoint's does.
    pub(crate) upstream: Persistence,
}

/// Receives the answer and passes it on, interim ones first.
pub(crate) async fn relay_answer(
    state: &CoreState,
    client: &Client,
    route: &Route<'_>,
    settings: &Upstream,
    connection: &Connection,
    progress: &Progress,
    work: &mut Workspace,
) -> Result<Answered, Fault> {
    // 1. The final head.
    let mut first_byte_at;
    let mut at_hand = None;
    let mut chunk = loop {
        let mut chunk;
        (chunk, first_byte_at) =
            receive_head(state, route, settings, connection, progress, at_hand.take(), &mut work.response)
                .await?;
        if !work.response.is_interim() {
            break chunk;
        }
        pass_interim(state, client, route, &chunk, work).await?;
        chunk.consume(work.response.head_bytes as usize);
        at_hand = (!chunk.is_empty()).then_some(chunk);
    };
    if work.response.status == 101 {
        return Err(Fault::UnaskedUpgrade); // no Upgrade is passed on, so nobody asked
    }

    // 2. What becomes of its body, and of both connections.
    let framing = decide_response_framing(&work.response, work.request.method);
    let delivery = Delivery::of(framing, work.request.version);
    let reusable = decide_upstream(&work.response, framing);
    let persistence = client_persistence(state, &work.request, delivery, progress);
    let mut body = Body::of_response(framing);
    let coding = coding_of(delivery);

    // 3. The rewritten head, and what is at hand of the body.
    rewrite(state, client, &chunk, delivery, Some(persistence), work);
    let head_bytes = work.response.head_bytes as usize;
    let passed = body.pass(&chunk[head_bytes..], coding.mode(), &mut work.ranges);
    let consumed = passed.map_err(Fault::ResponseBodyRejected)?;
    progress.is_answer_begun.set(true);
    send(state, client, route, &chunk, coding, work).await?;
    count_answer(route.counters, Some(work.response.status));
    chunk.consume(head_bytes + consumed);

    // 4. The rest of the body.
    let mut beyond = (!chunk.is_empty()).then_some(chunk);
    if !body.is_done() || coding == Coding::Chunks {
        let relayed = relay_body(state, client, route, settings, connection, &mut body, coding, beyond).await;
        beyond = relayed.map_err(|broken| download_fault(state, route, &broken))?;
    }
    record_phases(state, route, progress, first_byte_at);

    // Bytes that nobody asked for make the connection unfit for the next request.
    let upstream = if beyond.is_some() { Persistence::Close } else { reusable };
    Ok(Answered { client: persistence, upstream })
}

/// Receives a response head; says when its first byte was there.
async fn receive_head(
    state: &CoreState,
    route: &Route<'_>,
    settings: &Upstream,
    connection: &Connection,
    progress: &Progress,
    at_hand: Option<Chunk>,
    head: &mut ResponseHead,
) -> Result<(Chunk, Instant), Fault> {
    let stream = &connection.stream;
    let limits = limits(&settings.limits);
    let mut chunk = match at_hand {
        Some(chunk) => chunk,
        None => {
            // While a body is on its way up, its own deadlines bound the wait.
            let limit = if progress.is_request_sent.get() {
                (progress.waiting_since.get() + settings.timeouts.first_byte).min(route.total)
            } else {
                route.total
            };
            stream.set_recv_deadline(limit);
            match stream.recv().await {
                Ok(Some(chunk)) => chunk,
                Ok(None) => return Err(Fault::UpstreamGone),
                Err(error) => {
                    return Err(late(state, route, &error, Fault::FirstByteTimeout, Fault::UpstreamGone));
                }
            }
        }
    };
    progress.is_response_begun.set(true);
    let first_byte_at = state.core.now();
    let mut examined = 0;
    while parse_response(&chunk, examined, &limits, head).map_err(Fault::ResponseRejected)?
        == Parsed::Incomplete
    {
        examined = chunk.len();
        stream.set_recv_deadline(deadline(&state.core, settings.timeouts.body, route.total));
        match stream.recv_into(&mut chunk).await {
            Ok(0) => return Err(Fault::UpstreamGone),
            Ok(_) => {}
            Err(error) => {
                return Err(late(state, route, &error, Fault::ResponseTimeout, Fault::UpstreamGone));
            }
        }
    }
    Ok((chunk, first_byte_at))
}

/// Passes on an interim answer, which a client of HTTP/1.0 would not understand (RFC 9110 §15.2).
async fn pass_interim(
    state: &CoreState,
    client: &Client,
    route: &Route<'_>,
    chunk: &Chunk,
    work: &mut Workspace,
) -> Result<(), Fault> {
    if work.request.version == Version::Http10 {
        return Ok(());
    }
    work.ranges.clear();
    rewrite(state, client, chunk, Delivery::None, None, work);
    send(state, client, route, chunk, Coding::AsReceived, work).await
}

/// Whether the client's connection serves another request after this answer.
fn client_persistence(
    state: &CoreState,
    request: &RequestHead,
    delivery: Delivery,
    progress: &Progress,
) -> Persistence {
    // An answer that overtakes its request leaves bytes behind that nobody will read.
    if state.is_draining() || !progress.is_request_sent.get() {
        return Persistence::Close;
    }
    decide_downstream(request, delivery)
}

fn coding_of(delivery: Delivery) -> Coding {
    match delivery {
        Delivery::None | Delivery::Length(_) | Delivery::Chunked => Coding::AsReceived,
        Delivery::ChunkedHere => Coding::Chunks,
        Delivery::UntilClose => Coding::DataOnly,
    }
}

fn rewrite(
    state: &CoreState,
    client: &Client,
    head: &[u8],
    delivery: Delivery,
    persistence: Option<Persistence>,
    work: &mut Workspace,
) {
    let version = work.request.version;
    let plan = ResponsePlan {
        delivery,
        connection: persistence.and_then(|persistence| connection_option(version, persistence)),
        via: client.settings(state).forwarding.via.as_deref(),
        upgrade: work.response.status == 426,
    };
    let rewritten = rewrite_response(head, &work.response, &plan, &mut work.rewritten);
    // The configuration bounds the pseudonym, and there are no other texts.
    rewritten.expect("the texts of a plan are shorter than their bound");
}

/// Sends the rewritten head and the listed stretches of the body, in one go if the kernel takes it.
async fn send(
    state: &CoreState,
    client: &Client,
    route: &Route<'_>,
    chunk: &Chunk,
    coding: Coding,
    work: &Workspace,
) -> Result<(), Fault> {
    let gone =
        |error: &io::Error| late(state, route, error, Fault::ClientSendTimeout, Fault::ClientGoneInResponse);
    let mut sent = 0;
    while !try_send(client, chunk, coding, work, &mut sent).map_err(|error| gone(&error))? {
        let limit = deadline(&state.core, client.settings(state).timeouts.send, route.total);
        client.stream.set_send_deadline(limit);
        client.stream.writable().await.map_err(|error| gone(&error))?;
    }
    let body_bytes: usize = work.ranges.iter().map(|range| range.len()).sum();
    route.counters.body_bytes_sent.add(body_bytes as u64);
    state.stats.listeners[usize::from(route.listener.0)].bytes_sent.add(sent as u64);
    Ok(())
}

/// One attempt; true when all of it is gone. Its slices live on the stack, never across a wait.
fn try_send(
    client: &Client,
    chunk: &Chunk,
    coding: Coding,
    work: &Workspace,
    sent: &mut usize,
) -> io::Result<bool> {
    let mut header = [0; CHUNK_HEADER_BYTES_MAX];
    let mut slices = Slices::new();
    work.rewritten.slices(chunk, 0, &mut slices);
    push_ranges(&chunk[work.response.head_bytes as usize..], &work.ranges, coding, &mut header, &mut slices);
    send_slices(&client.stream, &mut slices, sent)
}

#[expect(clippy::too_many_arguments, reason = "one direction of an exchange, and what it carries")]
async fn relay_body(
    state: &CoreState,
    client: &Client,
    route: &Route<'_>,
    settings: &Upstream,
    connection: &Connection,
    body: &mut Body,
    coding: Coding,
    at_hand: Option<Chunk>,
) -> Result<Option<Chunk>, Broken> {
    let sent =
        [&state.stats.listeners[usize::from(route.listener.0)].bytes_sent, &route.counters.body_bytes_sent];
    let way = Way {
        core: &state.core,
        source: &connection.stream,
        sink: &client.stream,
        recv_timeout: settings.timeouts.body,
        send_timeout: client.settings(state).timeouts.send,
        total: route.total,
        received: &[],
        sent: &sent,
    };
    way.relay(body, coding, at_hand).await
}

/// Whose fault it was that an answer did not get down.
fn download_fault(state: &CoreState, route: &Route<'_>, broken: &Broken) -> Fault {
    match broken {
        Broken::Malformed(rule) => Fault::ResponseBodyRejected(*rule),
        Broken::Truncated => Fault::ResponseTruncated,
        Broken::Source(error) => late(state, route, error, Fault::ResponseTimeout, Fault::ResponseTruncated),
        Broken::Sink(error) => {
            late(state, route, error, Fault::ClientSendTimeout, Fault::ClientGoneInResponse)
        }
    }
}

/// Tells the end of the whole exchange from the end of one wait, and both from a broken connection.
pub(crate) fn late(
    state: &CoreState,
    route: &Route<'_>,
    error: &io::Error,
    timeout: Fault,
    gone: Fault,
) -> Fault {
    if error.kind() == io::ErrorKind::TimedOut && state.core.now() >= route.total {
        return Fault::TotalTimeout;
    }
    fault_of(error, timeout, gone)
}

/// Counts a final answer by the class of its status.
pub(crate) fn count_answer(counters: &ChannelCounters, status: Option<u16>) {
    let class = status.map(|status| usize::from(status / 100).wrapping_sub(1));
    if let Some(counter) = class.and_then(|class| counters.responses.get(class)) {
        counter.add(1);
    }
}

fn record_phases(state: &CoreState, route: &Route<'_>, progress: &Progress, first_byte_at: Instant) {
    let waiting_since = progress.waiting_since.get();
    let mut histograms = state.histograms.borrow_mut();
    let histograms = histograms.channel(route.id);
    histograms.record(Phase::FirstByte, first_byte_at.since(waiting_since));
    histograms.record(Phase::Body, state.core.now().since(first_byte_at));
}
