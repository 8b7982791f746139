//! What happens to one request, from its first byte to the last byte of its answer? Read this first.
//!
//! All branching of a request is here or one call below; the leaves compute. Never holds a body whole, never
//! forwards a request that is not framed beyond doubt, never sends one twice that may have had an effect.

use std::cell::OnceCell;
use std::future::poll_fn;
use std::io;
use std::pin::pin;
use std::task::Poll;
use std::time::Duration;

use config::snapshot::{Action, Channel, ChannelId, EndpointId, ListenerId, UpstreamId};
use proto::http1::chunked::Limits;
use proto::http1::framing::{Delivery, RequestFraming};
use proto::http1::head::{Method, Parsed, RequestHead};
use proto::http1::persist::{Persistence, decide_downstream};
use proto::matching::Query;
use proto::retry::{Cause, may_repeat};
use runtime::{Chunk, Instant};

use crate::access;
use crate::answer::{self, Rest};
use crate::body::{Body, Ranges};
use crate::client::{Client, Next};
use crate::core_main::CoreState;
use crate::hedge;
use crate::outcome::Fault;
use crate::relay::{Broken, Coding};
use crate::request::{self, AtHand};
use crate::response::{self, Answered, Answering, Passed, Progress, Upload};
use crate::rules::{self, Held};
use crate::standing::{READINESS_PATH, Readiness};
use crate::stats::{ChannelCounters, ListenerCounters, Phase};
use crate::trace;
use crate::upgrade::{self, Switched};
use crate::upstream::{Connection, Found};
use crate::workspace::Workspace;

/// What is known of a request once its channel is found.
pub(crate) struct Route<'a> {
    pub(crate) channel: &'a Channel,
    pub(crate) id: ChannelId,
    pub(crate) counters: &'a ChannelCounters,
    /// When the head was complete.
    pub(crate) began: Instant,
    /// When the exchange must be over.
    pub(crate) total: Instant,
    /// How long the request's body may be.
    pub(crate) body_limits: Limits,
    /// Field lines that its answer gets by the channel's rules, where they depend on the request.
    pub(crate) answer_lines: OnceCell<Box<[u8]>>,
    /// What it holds of the channel's allowances; a tunnel takes it along.
    pub(crate) held: Option<Box<Held>>,
}

/// Serves one request of `client`, whose first bytes are in [`Client::unread`].
pub(crate) async fn exchange(state: &CoreState, client: &mut Client, work: &mut Workspace) -> Next {
    // 1. The head.
    let Some(first_bytes) = client.unread.take() else { return Next::Close };
    let received = match request::read_head(state, client, &first_bytes, &mut work.request) {
        Ok(Parsed::Complete) => Ok(first_bytes),
        Ok(Parsed::Incomplete) => {
            pin!(request::receive_head(state, client, first_bytes, &mut work.request)).await
        }
        Err(rule) => Err(Fault::RequestRejected(rule)),
    };
    let chunk = match received {
        Ok(chunk) => chunk,
        Err(fault) => {
            state.stats.count_fault(fault);
            if matches!(fault, Fault::RequestRejected(_)) {
                client.counters().requests.add(1);
            }
            if let Some(access) = &state.access {
                access::begin_headless(state, access, client);
                note_refused(client, fault);
            }
            return answer::refuse(state, client, None, None, fault, work).await;
        }
    };
    // The turn's beginning is when the bytes were there: what the request has waited for others counts.
    let began = state.core.turn_time();
    let listener = client.listener();
    let _in_progress = InProgress::new(&state.stats.listeners[usize::from(listener.0)]);

    if let Some(tracing) = state.snapshot.tracing {
        work.trace = trace::begin(state, client, tracing, &chunk, &work.request);
    }
    if let Some(identity) = &client.identity
        && !identity.serves(work.request.authority(&chunk))
    {
        state.stats.count_fault(Fault::Misdirected);
        note_unrouted(state, client, &chunk, work, Some(Fault::Misdirected));
        let rest = Some(unforwarded(chunk, work));
        return answer::refuse(state, client, None, rest, Fault::Misdirected, work).await;
    }
    if work.request.max_forwards == Some(0) {
        note_unrouted(state, client, &chunk, work, None);
        let rest = Rest::after_head(&work.request, chunk);
        return Box::pin(answer::last_hop(state, client, rest, work)).await;
    }
    if let Some(readiness) = readiness_asked(state, listener, &chunk, &work.request) {
        note_unrouted(state, client, &chunk, work, None);
        let rest = Rest::after_head(&work.request, chunk);
        return Box::pin(answer::say_readiness(state, client, rest, readiness, work)).await;
    }

    // 2. The channel.
    let id = match find_channel(state, listener, &chunk, work) {
        Ok(id) => id,
        Err(fault) => {
            state.stats.count_fault(fault);
            note_unrouted(state, client, &chunk, work, Some(fault));
            let rest = Some(unforwarded(chunk, work));
            return answer::refuse(state, client, None, rest, fault, work).await;
        }
    };
    let channel = &state.snapshot.channels[usize::from(id.0)];
    let counters = &state.stats.channels[usize::from(id.0)];
    if let Some(access) = &state.access {
        access::begin(state, access, client, Some((id, channel)), &chunk, work);
    }
    if work.request.upgrade && !upgrade::is_allowed(channel, &chunk, &work.request) {
        // It is not passed on, so the request is one like any other.
        work.request.upgrade = false;
    }
    let total = channel.total_timeout.map_or(Instant::FAR_FUTURE, |limit| began + limit);
    let body_limits = request::body_limits(state, client, channel);
    let answer_lines = OnceCell::new();
    let mut route = Route { channel, id, counters, began, total, body_limits, answer_lines, held: None };
    let refused = match &channel.rules {
        None => None,
        Some(rules) => {
            let entered = rules::enforce(state, client, &route, rules, &chunk, &work.request);
            entered.map(|held| route.held = held).err()
        }
    };
    let is_too_large = is_too_large(work.request.framing, &body_limits);
    let mut refused = refused.or(is_too_large.then_some(Fault::RequestBodyTooLarge));
    if let Some(faults) = channel.rules.as_ref().and_then(|rules| rules.faults).filter(|_| refused.is_none())
    {
        refused = Box::pin(rules::faults::inject(state, client, &route, faults)).await;
    }

    // 3. What the channel does with it.
    let outcome = match (&route.channel.action, refused) {
        (_, Some(fault)) => {
            let rest = Answerable::Yes(Some(unforwarded(chunk, work)));
            Err(Failed { fault, rest })
        }
        (Action::Respond(response), None) => {
            let rest = Rest::after_head(&work.request, chunk);
            Ok(answer::respond(state, client, &route, rest, response, &[], work).await)
        }
        (Action::Redirect(redirect), None) => {
            let location = rules::edits::location(state, client, &route, redirect, &chunk, &work.request);
            let rest = Rest::after_head(&work.request, chunk);
            let answer = &redirect.answer;
            Ok(pin!(answer::respond(state, client, &route, rest, answer, &location, work)).await)
        }
        (Action::Forward(upstream), None) if work.request.method == Method::Connect => {
            let opened = pin!(upgrade::connect(state, client, &route, *upstream, &work.request, chunk)).await;
            opened.map_err(Failed::unanswered)
        }
        (Action::Forward(upstream), None) => {
            pin!(forward(state, client, &route, *upstream, chunk, work)).await
        }
    };

    // 4. The account.
    let next = match outcome {
        Ok(Next::Switch(mut switched)) => {
            switched.held = route.held.take();
            Next::Switch(switched)
        }
        Ok(next) => next,
        Err(Failed { fault, rest }) => {
            state.stats.count_fault(fault);
            counters.faults.add(1);
            state.record(&route, Phase::Total, state.core.now().since(began));
            note_refused(client, fault);
            match rest {
                Answerable::Yes(rest) => {
                    response::count_answer(counters, fault.status());
                    answer::refuse(state, client, Some(channel), rest, fault, work).await
                }
                // The client has part of an answer: only cutting it off tells that the rest will not come.
                Answerable::No => Next::Close,
                Answerable::Cut => {
                    // Where that is refused the answer looks whole: HTTP/1.0 has no other means.
                    let _ = client.stream.reset_on_close();
                    Next::Cut
                }
            }
        }
    };
    counters.requests.add(1);
    next
}

/// An exchange that ended in a fault.
struct Failed {
    fault: Fault,
    rest: Answerable,
}

impl Failed {
    /// Before anything of an answer was sent; what is left of the request is in doubt.
    fn unanswered(fault: Fault) -> Self {
        Self { fault, rest: Answerable::Yes(None) }
    }
}

/// Whether the client can still be told.
enum Answerable {
    /// Nothing of an answer was sent; what is left of the request, where that is known.
    Yes(Option<Rest>),
    /// Part of an answer was sent.
    No,
    /// Part of an answer was sent whose end is that of the connection.
    Cut,
}

/// What logs are to know of a request that is answered before it has found its channel.
#[cold]
fn note_unrouted(
    state: &CoreState,
    client: &mut Client,
    head: &[u8],
    work: &Workspace,
    fault: Option<Fault>,
) {
    let Some(access) = &state.access else { return };
    access::begin(state, access, client, None, head, work);
    if let Some(fault) = fault {
        note_refused(client, fault);
    }
}

fn note_refused(client: &Client, fault: Fault) {
    if let Some(note) = client.note.get() {
        note.fault(fault);
    }
}

/// What is left of a request that goes nowhere. Its head is kept as what the answer goes by.
fn unforwarded(chunk: Chunk, work: &mut Workspace) -> Rest {
    work.request_text.clear();
    work.request_text.extend_from_slice(&chunk[..work.request.head_bytes as usize]);
    Rest::after_head(&work.request, chunk)
}

/// Whether a body says of itself that it is longer than allowed.
fn is_too_large(framing: RequestFraming, limits: &Limits) -> bool {
    matches!(framing, RequestFraming::Length(bytes) if bytes > limits.body_bytes_max)
}

/// What a request is told instead of being served: it asks how the process stands, or the process does not act.
#[inline]
fn readiness_asked(
    state: &CoreState,
    listener: ListenerId,
    head: &[u8],
    request: &RequestHead,
) -> Option<Readiness> {
    let standing = &state.generation.standing;
    if request.path(head) != READINESS_PATH && standing.may_act() {
        return None;
    }
    // What comes by an internal one was let in elsewhere.
    (!state.listener(listener).internal).then(|| standing.readiness())
}

fn find_channel(
    state: &CoreState,
    listener: ListenerId,
    head: &[u8],
    work: &Workspace,
) -> Result<ChannelId, Fault> {
    let request = &work.request;
    let query = Query {
        listener: listener.0,
        host: request.authority(head),
        path: request.path(head),
        method: request.method,
        method_name: request.method_span.of(head),
    };
    let found = state.snapshot.channel_table.find(&mut state.match_caches.borrow_mut(), &query);
    if request.method == Method::Connect {
        let allowed = found.filter(|id| state.snapshot.channels[usize::from(*id)].connect);
        return allowed.map(ChannelId).ok_or(Fault::TunnelRefused);
    }
    found.map(ChannelId).ok_or(Fault::NoChannel)
}

/// Carries the request to an endpoint and its answer back.
///
/// Nearly every request and every answer is there whole when its first bytes are. So each is dealt with in one stretch
/// that waits for nothing and leaves nothing in this future; what cannot be done at once goes on beside, pinned where it is
/// made, since a future that is awaited by value is copied first. What few exchanges need is boxed, beside this task's memory.
async fn forward(
    state: &CoreState,
    client: &mut Client,
    route: &Route<'_>,
    upstream: UpstreamId,
    chunk: Chunk,
    work: &mut Workspace,
) -> Result<Next, Failed> {
    let settings = &state.snapshot.upstreams[usize::from(upstream.0)];

    let _in_flight = match state.upstreams.enter(upstream) {
        Ok(entered) => entered,
        Err(fault) => {
            let rest = Answerable::Yes(Some(unforwarded(chunk, work)));
            return Err(Failed { fault, rest });
        }
    };

    // 1. The rewritten head, and what is at hand of the body, over a connection.
    let sent = match send_at_once(state, client, route, upstream, chunk, work)? {
        Dispatch::Sent(sent) => sent,
        Dispatch::Held(held) => Box::pin(send_held(state, client, route, upstream, held, work)).await?,
    };
    let SentRequest { mut connection, connected_at, mut rest, fault } = sent;
    if let Some(note) = client.note.get() {
        access::note_endpoint(state, note, &connection);
    }

    // 2. The rest of the body up, and the answer down: at the same time, since an endpoint may answer early.
    let upload = if work.body.is_done() { Upload::Done } else { Upload::Underway };
    let progress = Progress::new(upload, work.ranges.is_empty(), connected_at, &work.tries);
    let hedged = match route.channel.hedge_after {
        Some(after) if progress.is_at_hand && fault.is_none() && hedge::is_harmless(&work.request) => {
            let (connection, progress) = (&mut connection, &progress);
            let first = hedge::first_bytes(state, client, route, settings, connection, progress, work, after);
            // Beside this task's memory, which few need for that.
            let first = Box::pin(first).await;
            if let Some(note) = client.note.get() {
                access::note_endpoint(state, note, connection);
            }
            Some(first)
        }
        _ => None,
    };
    let mut outcome = {
        let (connection, progress, request) = (&connection, &progress, &work.request);
        let answering = Answering { state, client, route, settings, connection, progress, request };
        if let Some(fault) = fault {
            Err(fault)
        } else if upload == Upload::Done {
            let first = match hedged {
                Some(first) => first,
                None => answering.first_bytes().await,
            };
            match first.and_then(|bytes| answering.pass_on(bytes)) {
                Ok(Passed::Whole(answered)) => Ok(answered),
                Ok(Passed::Partly(rest)) => pin!(answering.relay_rest(rest)).await,
                Err(fault) => Err(fault),
            }
        } else {
            Box::pin(duplex(answering, &mut work.body, &mut work.ranges, &mut rest)).await
        }
    };
    let mut connection = Some(connection);
    if matches!(outcome, Err(_) | Ok(Answered::Refused { .. }))
        && let Some(connection_used) = connection.take()
    {
        // Beside this task's memory, which few need for that.
        let repeating = repeat(state, client, route, connection_used, &progress, work, outcome);
        (outcome, connection) = Box::pin(repeating).await;
    }
    let is_request_over = progress.upload.get() == Upload::Done;
    if is_request_over {
        client.unread = rest;
    }

    // 3. What follows for both connections.
    match outcome {
        Ok(Answered::Switched) => {
            let Some(connection) = connection else { unreachable!("it has just been used") };
            let switched = Switched::new(connection, route.id, client.unread.take());
            Ok(Next::Switch(Box::new(switched)))
        }
        Ok(Answered::Http { client: persistence, upstream: reusable }) => {
            if reusable == Persistence::Keep
                && is_request_over
                && let Some(connection) = connection
            {
                state.upstreams.keep(connection);
            }
            Ok(match persistence {
                _ if !is_request_over => Next::Linger,
                Persistence::Keep => Next::Keep,
                // Its next request may be on its way, and must not meet a closed socket: RFC 9112 §9.6.
                Persistence::Close if wants_more(&work.request) => Next::Linger,
                Persistence::Close => Next::Close,
            })
        }
        Ok(Answered::Refused { .. }) => unreachable!("it was asked for elsewhere"),
        Err(fault) if progress.ends_with_connection.get() => Err(Failed { fault, rest: Answerable::Cut }),
        Err(fault) if progress.is_answer_begun.get() => Err(Failed { fault, rest: Answerable::No }),
        Err(fault) => {
            let rest = is_request_over.then(|| Rest::behind(client.unread.take()));
            Err(Failed { fault, rest: Answerable::Yes(rest) })
        }
    }
}

/// Whether the client takes its connection for one that is kept.
fn wants_more(request: &RequestHead) -> bool {
    decide_downstream(request, Delivery::None) == Persistence::Keep
}

/// A request that is on its way, as far as it is at hand.
struct SentRequest {
    connection: Connection,
    connected_at: Instant,
    /// What was received beyond the bytes sent.
    rest: Option<Chunk>,
    /// Why it is not on its way after all, when all of it is still at hand.
    fault: Option<Fault>,
}

/// How far a request got at once.
enum Dispatch {
    Sent(SentRequest),
    Held(HeldRequest),
}

/// A request that has to wait before all that is at hand of it is on its way.
struct HeldRequest {
    place: Place,
    at_hand: AtHand,
    chunk: Chunk,
}

/// What it waits for.
enum Place {
    /// A new connection to this endpoint, or to any that may have one.
    Endpoint(Option<EndpointId>),
    /// That this one takes more than the bytes it has.
    Connection { connection: Connection, sent: usize },
}

/// Sends the rewritten head over a kept connection, with what is at hand of the body, as far as that needs no waiting.
fn send_at_once(
    state: &CoreState,
    client: &Client,
    route: &Route<'_>,
    upstream: UpstreamId,
    chunk: Chunk,
    work: &mut Workspace,
) -> Result<Dispatch, Failed> {
    request::rewrite(state, client, upstream, &chunk, work);
    work.tries.clear();
    if state.snapshot.tracing.is_some()
        && let Some(context) = &work.trace
    {
        trace::tell(context, &mut work.request_text);
    }
    if let Some(rules) = &route.channel.rules {
        rules::edits::edit_request(state, client, route, rules, &chunk, work);
    }
    if state.snapshot.upstreams[usize::from(upstream.0)].depends_on_request {
        work.tries.set_wish(state.upstreams.wish(upstream, client, &chunk, &work.request));
    }
    // Before a connection is spent on a body that breaks a rule.
    let at_hand = request::take_body_at_hand(&chunk, route.body_limits, work).map_err(Failed::unanswered)?;
    if let Some(note) = client.note.get() {
        access::note_forwarded(state, note, upstream, &work.request_text, at_hand.body_bytes);
    }
    if let Some(rules) = &route.channel.rules {
        rules::mirror::mirror(state, route, rules, &chunk, at_hand.body_bytes, work);
    }
    let connection = match state.upstreams.reuse(upstream, &work.tries.wish()) {
        Found::Kept(connection) => connection,
        Found::Nobody => {
            let rest = Some(Rest::after_head(&work.request, chunk));
            return Err(Failed { fault: Fault::NoEndpoint, rest: Answerable::Yes(rest) });
        }
        found @ (Found::New(_) | Found::Full) => {
            state.record_of(client, route, Phase::Wait, state.core.now().since(route.began));
            let place = Place::Endpoint(if let Found::New(endpoint) = found { Some(endpoint) } else { None });
            return Ok(Dispatch::Held(HeldRequest { place, at_hand, chunk }));
        }
    };
    // Not worth a look at the clock.
    state.histograms.borrow_mut().channel(route.id).record_no_wait();
    if let Some(note) = client.note.get() {
        note.phase(Phase::Wait, Duration::ZERO);
    }
    let parcel = request::parcel(work, chunk, &at_hand);
    let mut sent = 0;
    let attempt = parcel.try_send(&connection.stream, &mut sent);
    if let Ok(true) = attempt {
        let rest = parcel.into_rest();
        request::count_sent(state, route, &connection, at_hand.body_bytes);
        return Ok(Dispatch::Sent(SentRequest { connection, connected_at: route.began, rest, fault: None }));
    }
    let place = match attempt {
        Ok(_) => Place::Connection { connection, sent },
        // A kept connection that its peer has closed took nothing, so this is no repetition, whatever the method.
        Err(_) => {
            route.counters.retries.add(1);
            client.note.get().into_iter().for_each(access::Note::again);
            Place::Endpoint(Some(connection.endpoint))
        }
    };
    let Some(chunk) = parcel.chunk else { unreachable!("a parcel keeps its buffer until it is sent") };
    Ok(Dispatch::Held(HeldRequest { place, at_hand, chunk }))
}

/// Sends a request that could not be sent at once.
async fn send_held(
    state: &CoreState,
    client: &Client,
    route: &Route<'_>,
    upstream: UpstreamId,
    held: HeldRequest,
    work: &Workspace,
) -> Result<SentRequest, Failed> {
    let settings = &state.snapshot.upstreams[usize::from(upstream.0)];
    let HeldRequest { place, at_hand, chunk } = held;
    let (connection, connected_at, sent) = match place {
        Place::Connection { connection, sent } => (connection, route.began, sent),
        Place::Endpoint(endpoint) => match connect(state, client, route, upstream, endpoint, work).await {
            Ok((connection, connected_at)) => (connection, connected_at, 0),
            Err(fault) => {
                let rest = Some(Rest::after_head(&work.request, chunk));
                return Err(Failed { fault, rest: Answerable::Yes(rest) });
            }
        },
    };
    let mut parcel = request::parcel(work, chunk, &at_hand);
    let way = request::way_up(state, client, route, settings, &connection);
    let outcome = way.send(&mut parcel, sent).await;
    let rest = parcel.into_rest();
    let fault = outcome.err().map(|error| request::send_fault(&error));
    match fault {
        Some(fault) if !work.ranges.is_empty() => return Err(Failed::unanswered(fault)),
        Some(_) => {}
        None => request::count_sent(state, route, &connection, at_hand.body_bytes),
    }
    Ok(SentRequest { connection, connected_at, rest, fault })
}

/// Makes a new connection and records how long that took; says when it was there.
async fn connect(
    state: &CoreState,
    client: &Client,
    route: &Route<'_>,
    upstream: UpstreamId,
    endpoint: Option<EndpointId>,
    work: &Workspace,
) -> Result<(Connection, Instant), Fault> {
    let asked_at = state.core.now();
    let connection =
        state.upstreams.connect(upstream, endpoint, route.total, client, &work.tries, true).await?;
    let connected_at = state.core.now();
    state.record_of(client, route, Phase::Connect, connected_at.since(asked_at));
    Ok((connection, connected_at))
}

/// Sends a request whose try failed again as long as it may be, each time over a new connection, and relays the answer.
async fn repeat(
    state: &CoreState,
    client: &Client,
    route: &Route<'_>,
    mut connection: Connection,
    progress: &Progress<'_>,
    work: &Workspace,
    mut outcome: Result<Answered, Fault>,
) -> (Result<Answered, Fault>, Option<Connection>) {
    let upstream = connection.upstream;
    let settings = &state.snapshot.upstreams[usize::from(upstream.0)];
    loop {
        if let Err(fault) = outcome {
            state.upstreams.note_fault(&connection, fault, progress);
        }
        let Some(endpoint) = next_try(state, route, &connection, progress, work, &outcome) else {
            return (outcome, Some(connection));
        };
        route.counters.retries.add(1);
        client.note.get().into_iter().for_each(access::Note::again);
        // Before there is another: it may be the one too many.
        match outcome {
            Ok(Answered::Refused { is_reusable: true }) => state.upstreams.keep(connection),
            _ => drop(connection),
        }
        match connect(state, client, route, upstream, Some(endpoint), work).await {
            Ok((next, connected_at)) => {
                connection = next;
                if let Some(note) = client.note.get() {
                    access::note_endpoint(state, note, &connection);
                }
                progress.begin_again(connected_at);
            }
            Err(fault) => return (Err(fault), None),
        }
        outcome = match request::send_again(state, route, settings, &connection, work).await {
            Ok(()) => {
                let (connection, request) = (&connection, &work.request);
                let answering = Answering { state, client, route, settings, connection, progress, request };
                answering.relay().await
            }
            Err(fault) => Err(fault),
        };
    }
}

/// Where a request goes next whose last try came to this, if it may go anywhere.
fn next_try(
    state: &CoreState,
    route: &Route<'_>,
    connection: &Connection,
    progress: &Progress<'_>,
    work: &Workspace,
    outcome: &Result<Answered, Fault>,
) -> Option<EndpointId> {
    let cause = match outcome {
        Ok(Answered::Refused { .. }) => return progress.next.take(),
        Ok(_) => return None,
        Err(fault) => fault.retry_cause()?,
    };
    if !progress.is_at_hand
        || !may_repeat(cause, progress.reached(connection), work.request.method.is_idempotent())
        || state.core.now() >= route.total
    {
        return None;
    }
    work.tries.begin(connection.endpoint);
    // A kept connection may have been closed behind our back, which says nothing about its endpoint; a new one that dies was
    // closed on this request.
    let same = (cause == Cause::Reset && connection.is_reused).then_some(connection.endpoint);
    state.upstreams.again(connection.upstream, cause, &work.tries, same)
}

/// Relays the rest of the request's body while the answer may already come. What the client sent beyond the body
/// is left in `at_hand`.
async fn duplex(
    answering: Answering<'_>,
    body: &mut Body,
    ranges: &mut Ranges,
    at_hand: &mut Option<Chunk>,
) -> Result<Answered, Fault> {
    let Answering { state, client, route, settings, connection, progress, .. } = answering;
    let way = request::way_up(state, client, route, settings, connection);
    let mut up = pin!(way.relay(body, ranges, Coding::AsReceived, at_hand.take()));
    let mut down = pin!(answering.relay());
    let mut is_up_over = false;
    poll_fn(|context| {
        if !is_up_over && let Poll::Ready(outcome) = up.as_mut().poll(context) {
            is_up_over = true;
            let upload = match outcome {
                Ok(beyond) => {
                    *at_hand = beyond;
                    Upload::Done
                }
                // An endpoint that takes no more may have answered: wait for that.
                Err(Broken::Sink(error)) if error.kind() != io::ErrorKind::TimedOut => Upload::Refused,
                Err(broken) => return Poll::Ready(Err(request::upload_fault(state, route, &broken))),
            };
            progress.upload_ended(upload, state, route, settings, connection);
        }
        down.as_mut().poll(context)
    })
    .await
}

/// Counts a request, and that its exchange is in progress, however it ends.
struct InProgress<'a>(&'a ListenerCounters);

impl<'a> InProgress<'a> {
    fn new(counters: &'a ListenerCounters) -> Self {
        counters.requests.add(1);
        counters.exchanges_open.add(1);
        Self(counters)
    }
}

impl Drop for InProgress<'_> {
    fn drop(&mut self) {
        self.0.exchanges_open.sub(1);
    }
}
