//! How is an answer received, rewritten and passed on? The endpoint's side of an exchange, step by step.
//!
//! Never sends to a client what is not framed beyond doubt; never waits without a deadline.

use std::cell::Cell;
use std::future::poll_fn;
use std::io;
use std::task::Poll;

use config::snapshot::Upstream;
use proto::http1::chunked::Limits as BodyLimits;
use proto::http1::framing::{Delivery, decide_response_framing};
use proto::http1::head::{Limits, Parsed, RequestHead, ResponseHead, Version, parse_response};
use proto::http1::persist::{Persistence, connection_option, decide_downstream, decide_upstream};
use proto::http1::rewrite::{ResponsePlan, rewrite_response};
use runtime::{Chunk, Instant};

use crate::body::Body;
use crate::client::Client;
use crate::core_main::{CoreState, deadline};
use crate::exchange::Route;
use crate::outcome::{Fault, fault_of};
use crate::relay::{Broken, Coding, Parcel, Way, assemble};
use crate::stats::{ChannelCounters, Phase};
use crate::upstream::Connection;
use crate::workspace::Workspace;

/// Interim answers to one request that are passed on. Nobody sends more than a few, and each puts off nothing but the
/// final one.
const INTERIM_ANSWERS_MAX: u32 = 100;

/// What has become of a request's body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Upload {
    /// More of it is to come.
    Underway,
    /// The endpoint has been sent all of it.
    Done,
    /// The endpoint takes no more.
    Refused,
}

/// How far an exchange has come; written by one direction, read by the other.
pub(crate) struct Progress {
    pub(crate) upload: Cell<Upload>,
    /// Something came back, were it half a head.
    pub(crate) is_response_begun: Cell<bool>,
    /// A head is waited for of which nothing has come; an interim one does not end the wait for the final one.
    is_head_awaited: Cell<bool>,
    /// The client has been sent something of a final answer.
    pub(crate) is_answer_begun: Cell<bool>,
    /// That answer ends with the connection: only a reset tells that it is not whole (RFC 9112 §8).
    pub(crate) ends_with_connection: Cell<bool>,
    /// When the wait for the answer began: with the connection, or with the last byte of the body.
    waiting_since: Cell<Instant>,
}

impl Progress {
    pub(crate) fn new(upload: Upload, connected_at: Instant) -> Self {
        Self {
            upload: Cell::new(upload),
            is_response_begun: Cell::new(false),
            is_head_awaited: Cell::new(false),
            is_answer_begun: Cell::new(false),
            ends_with_connection: Cell::new(false),
            waiting_since: Cell::new(connected_at),
        }
    }

    /// No more of the body follows: from now on the endpoint has its time to answer.
    pub(crate) fn upload_ended(
        &self,
        upload: Upload,
        state: &CoreState,
        route: &Route<'_>,
        settings: &Upstream,
        connection: &Connection,
    ) {
        self.upload.set(upload);
        let now = state.core.now();
        if !self.is_answer_begun.get() {
            self.waiting_since.set(now);
        }
        if self.is_head_awaited.get() {
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
    let mut interim_answers = 0;
    let chunk = loop {
        let chunk;
        (chunk, first_byte_at) = receive_head(
            state,
            client,
            route,
            settings,
            connection,
            progress,
            at_hand.take(),
            &mut work.response,
        )
        .await?;
        if !work.response.is_interim() {
            break chunk;
        }
        interim_answers += 1;
        if interim_answers > INTERIM_ANSWERS_MAX {
            return Err(Fault::InterimAnswersTooMany);
        }
        let way = way_down(state, client, route, settings, connection);
        at_hand = pass_interim(state, client, &way, route, chunk, work).await?;
    };
    if work.response.status == 101 {
        return Err(Fault::UnaskedUpgrade); // no Upgrade is passed on, so nobody asked
    }

    // 2. What becomes of its body, and of both connections.
    let framing = decide_response_framing(&work.response, work.request.method);
    let delivery = Delivery::of(framing, work.request.version);
    let reusable = decide_upstream(&work.response, framing);
    let persistence = client_persistence(state, client, &work.request, delivery, progress);
    let mut body = Body::of_response(framing, body_limits(settings));
    let coding = coding_of(delivery);

    // 3. The rewritten head, and what is at hand of the body.
    rewrite(state, client, &chunk, delivery, Some(persistence), work);
    let rewritten_bytes = work.answer_text.len();
    let head_bytes = work.response.head_bytes as usize;
    let at_hand = &chunk[head_bytes..];
    let passed = body.pass(at_hand, coding.mode(), &mut work.ranges);
    let consumed = head_bytes + passed.map_err(Fault::ResponseBodyRejected)?;
    if coding != Coding::Chunks {
        assemble(at_hand, &mut work.ranges, &mut work.answer_text);
    }
    progress.is_answer_begun.set(true);
    progress.ends_with_connection.set(delivery == Delivery::UntilClose);
    let way = way_down(state, client, route, settings, connection);
    let sent = send(&way, rewritten_bytes, chunk, coding, consumed, work).await;
    let mut beyond = sent.map_err(|error| download_fault(state, route, &Broken::Sink(error)))?;
    count_answer(route.counters, Some(work.response.status));

    // 4. The rest of the body.
    if !body.is_done() || coding == Coding::Chunks {
        let relayed = way.relay(&mut body, coding, beyond).await;
        beyond = relayed.map_err(|broken| download_fault(state, route, &broken))?;
    }
    record_phases(state, route, progress, first_byte_at);

    // Bytes that nobody asked for make the connection unfit for the next request.
    let upstream = if beyond.is_some() { Persistence::Close } else { reusable };
    Ok(Answered { client: persistence, upstream })
}

/// The bounds of a response head as proto takes them.
fn head_limits(settings: &Upstream) -> Limits {
    let limits = &settings.limits.head;
    Limits {
        head_bytes_max: limits.head_bytes_max,
        fields_max: limits.fields_max,
        target_bytes_max: 0, // there is none
    }
}

/// The bounds of an answer's body; its length is the endpoint's business.
fn body_limits(settings: &Upstream) -> BodyLimits {
    let trailers = settings.limits.trailers;
    BodyLimits {
        body_bytes_max: u64::MAX,
        trailer_bytes_max: trailers.bytes_max,
        trailers_max: trailers.count_max,
    }
}

/// Receives a response head; says when its first byte was there.
#[expect(clippy::too_many_arguments, reason = "who waits for whom, how long, and where it goes")]
async fn receive_head(
    state: &CoreState,
    client: &Client,
    route: &Route<'_>,
    settings: &Upstream,
    connection: &Connection,
    progress: &Progress,
    at_hand: Option<Chunk>,
    head: &mut ResponseHead,
) -> Result<(Chunk, Instant), Fault> {
    let stream = &connection.stream;
    let limits = head_limits(settings);
    let mut chunk = match at_hand {
        Some(chunk) => chunk,
        None => {
            // While a body is on its way up, its own deadlines bound the wait.
            let limit = if progress.upload.get() != Upload::Underway {
                (progress.waiting_since.get() + settings.timeouts.first_byte).min(route.total)
            } else {
                route.total
            };
            stream.set_recv_deadline(limit);
            progress.is_head_awaited.set(true);
            match first_bytes(client, connection).await? {
                Ok(Some(chunk)) => chunk,
                Ok(None) => return Err(Fault::UpstreamGone),
                Err(error) => {
                    return Err(late(state, route, &error, Fault::FirstByteTimeout, Fault::UpstreamGone));
                }
            }
        }
    };
    progress.is_response_begun.set(true);
    progress.is_head_awaited.set(false);
    let first_byte_at = state.core.turn_time();
    let mut examined = 0;
    loop {
        match parse_response(&chunk, examined, &limits, head).map_err(Fault::ResponseRejected)? {
            Parsed::Complete => return Ok((chunk, first_byte_at)),
            Parsed::Incomplete => {}
        }
        if examined == 0 {
            // Once for the whole head: more bytes of it do not buy more time.
            stream.set_recv_deadline(deadline(&state.core, settings.timeouts.body, route.total));
        }
        examined = chunk.len();
        // As with a client: half a head holds no buffer.
        let begun = chunk.to_vec();
        drop(chunk);
        chunk = match stream.recv_behind(&begun).await {
            Ok(Some(chunk)) => chunk,
            Ok(None) => return Err(Fault::UpstreamGone),
            Err(error) => {
                return Err(late(state, route, &error, Fault::ResponseTimeout, Fault::UpstreamGone));
            }
        };
    }
}

/// Waits for the first bytes of an answer, as long as there is a client to have it.
async fn first_bytes(client: &Client, connection: &Connection) -> Result<io::Result<Option<Chunk>>, Fault> {
    poll_fn(|context| {
        if let Poll::Ready(received) = connection.stream.poll_recv(context) {
            return Poll::Ready(Ok(received));
        }
        client.stream.poll_broken(context).map(|()| Err(Fault::ClientGoneInResponse))
    })
    .await
}

/// Passes on an interim answer, which a client of HTTP/1.0 would not understand (RFC 9110 §15.2). Gives back what
/// follows it.
async fn pass_interim(
    state: &CoreState,
    client: &Client,
    way: &Way<'_>,
    route: &Route<'_>,
    mut chunk: Chunk,
    work: &mut Workspace,
) -> Result<Option<Chunk>, Fault> {
    let consumed = work.response.head_bytes as usize;
    if work.request.version == Version::Http10 {
        chunk.consume(consumed);
        return Ok((!chunk.is_empty()).then_some(chunk));
    }
    work.ranges.clear();
    rewrite(state, client, &chunk, Delivery::None, None, work);
    let sent = send(way, work.answer_text.len(), chunk, Coding::AsReceived, consumed, work).await;
    sent.map_err(|error| download_fault(state, route, &Broken::Sink(error)))
}

/// Whether the client's connection serves another request after this answer.
fn client_persistence(
    state: &CoreState,
    client: &Client,
    request: &RequestHead,
    delivery: Delivery,
    progress: &Progress,
) -> Persistence {
    // An answer that overtakes its request leaves bytes behind that nobody will read.
    if client.is_last_exchange(state) || progress.upload.get() != Upload::Done {
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
    let date = state.date.now(&state.core);
    let plan = ResponsePlan {
        delivery,
        connection: persistence.and_then(|persistence| connection_option(version, persistence)),
        via: client.settings(state).forwarding.via.as_deref(),
        upgrade: work.response.status == 426,
        date: persistence.is_some().then_some(&*date),
    };
    rewrite_response(head, &work.response, &plan, &mut work.answer_text);
}

/// Sends the rewritten head and what goes with it of the body. Gives back what was received beyond.
async fn send(
    way: &Way<'_>,
    head_bytes: usize,
    chunk: Chunk,
    coding: Coding,
    consumed: usize,
    work: &Workspace,
) -> io::Result<Option<Chunk>> {
    let mut parcel = Parcel {
        text: &work.answer_text,
        head_bytes,
        chunk: Some(chunk),
        body_start: work.response.head_bytes as usize,
        ranges: &work.ranges,
        coding,
        consumed,
    };
    way.send(&mut parcel, 0).await?;
    Ok(parcel.into_rest())
}

/// The way of an answer to its client.
fn way_down<'a>(
    state: &'a CoreState,
    client: &'a Client,
    route: &Route<'a>,
    settings: &Upstream,
    connection: &'a Connection,
) -> Way<'a> {
    let listener = client.counters();
    Way {
        core: &state.core,
        source: &connection.stream,
        sink: &client.stream,
        recv_timeout: settings.timeouts.body,
        // An answer may be a line now and then, for hours.
        bytes_per_second_min: 0,
        send_timeout: client.settings(state).timeouts.send,
        total: route.total,
        received: None,
        sent: Some([&listener.bytes_sent, &route.counters.body_bytes_sent]),
        set_aside: &state.set_aside,
    }
}

/// Whose fault it was that an answer did not get down.
fn download_fault(state: &CoreState, route: &Route<'_>, broken: &Broken) -> Fault {
    match broken {
        Broken::Malformed(rule) => Fault::ResponseBodyRejected(*rule),
        Broken::Truncated => Fault::ResponseTruncated,
        Broken::Slow => Fault::ResponseTimeout,
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
    let ended = state.core.now();
    histograms.record(Phase::Body, ended.since(first_byte_at));
    histograms.record(Phase::Total, ended.since(route.began));
}
