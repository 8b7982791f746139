//! How is an answer received, rewritten and passed on? The endpoint's side of an exchange, step by step.
//!
//! Never sends to a client what is not framed beyond doubt; never waits without a deadline.

use std::cell::Cell;
use std::future::poll_fn;
use std::io;
use std::sync::Arc;
use std::task::Poll;

use config::snapshot::balance::{Balance, StickyRule};
use config::snapshot::{EndpointId, Upstream};
use proto::http1::chunked::Limits as BodyLimits;
use proto::http1::framing::{Delivery, decide_response_framing};
use proto::http1::head::{Limits, Parsed, RequestHead, ResponseHead, Version, parse_response};
use proto::http1::persist::{Persistence, connection_option, decide_downstream, decide_upstream};
use proto::http1::rewrite::{ResponsePlan, rewrite_response};
use proto::retry::{Cause, Reached, may_repeat};
use runtime::{Chunk, Instant};

use crate::access;
use crate::body::Body;
use crate::client::Client;
use crate::core_main::{CoreState, deadline};
use crate::exchange::Route;
use crate::outcome::{Fault, fault_of};
use crate::relay::{Broken, Coding, Parcel, Way, assemble};
use crate::rules;
use crate::stats::{ChannelCounters, Phase};
use crate::sticky::Cookies;
use crate::tries::Tries;
use crate::upgrade;
use crate::upstream::Connection;
use crate::workspace::{AnswerSpace, Lent};

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
pub(crate) struct Progress<'a> {
    pub(crate) upload: Cell<Upload>,
    /// Whether all of the request is still there, to be sent again.
    pub(crate) is_at_hand: bool,
    /// Who has had it.
    pub(crate) tries: &'a Tries,
    /// Who gets it next, when an answer has not been passed on.
    pub(crate) next: Cell<Option<EndpointId>>,
    /// Something came back, were it half a head.
    pub(crate) is_response_begun: Cell<bool>,
    /// A head is waited for of which nothing has come; an interim one does not end the wait for the final one.
    is_head_awaited: Cell<bool>,
    /// The client has been sent something, were it interim.
    is_client_told: Cell<bool>,
    /// The client has been sent something of a final answer.
    pub(crate) is_answer_begun: Cell<bool>,
    /// That answer ends with the connection: only a reset tells that it is not whole (RFC 9112 §8).
    pub(crate) ends_with_connection: Cell<bool>,
    /// When the wait for the answer began: with the connection, or with the last byte of the body.
    waiting_since: Cell<Instant>,
}

impl<'a> Progress<'a> {
    /// Of a request of which all that was at hand is sent; `is_small` if that is all there is, and all of it in its text.
    pub(crate) fn new(upload: Upload, is_small: bool, connected_at: Instant, tries: &'a Tries) -> Self {
        Self {
            upload: Cell::new(upload),
            is_at_hand: upload == Upload::Done && is_small,
            tries,
            next: Cell::new(None),
            is_response_begun: Cell::new(false),
            is_head_awaited: Cell::new(false),
            is_client_told: Cell::new(false),
            is_answer_begun: Cell::new(false),
            ends_with_connection: Cell::new(false),
            waiting_since: Cell::new(connected_at),
        }
    }

    /// How far a try over `connection` has got.
    pub(crate) fn reached(&self, connection: &Connection) -> Reached {
        if self.is_answer_begun.get() || self.is_client_told.get() {
            Reached::Client
        } else if self.is_response_begun.get() {
            Reached::Answer
        } else if connection.stream.send_was_refused() {
            Reached::Nothing
        } else {
            Reached::Endpoint
        }
    }

    /// The request goes out again: its answer is waited for anew.
    pub(crate) fn begin_again(&self, connected_at: Instant) {
        self.is_response_begun.set(false);
        self.is_head_awaited.set(false);
        self.waiting_since.set(connected_at);
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
pub(crate) enum Answered {
    /// Two connections.
    Http {
        /// Whether the client's serves another request.
        client: Persistence,
        /// Whether the endpoint's does.
        upstream: Persistence,
    },
    /// Two ends of another protocol.
    Switched,
    /// Nothing: it was not passed on, since another endpoint is asked instead. Whether the connection serves another request.
    Refused { is_reusable: bool },
}

/// An answer on its way: from which connection to which client, and what it answers.
#[derive(Clone, Copy)]
pub(crate) struct Answering<'a> {
    pub(crate) state: &'a CoreState,
    pub(crate) client: &'a Client,
    pub(crate) route: &'a Route<'a>,
    pub(crate) settings: &'a Upstream,
    pub(crate) connection: &'a Connection,
    pub(crate) progress: &'a Progress<'a>,
    pub(crate) request: &'a RequestHead,
}

/// How far an answer got at once.
pub(crate) enum Passed<'a> {
    /// All of it is on its way.
    Whole(Answered),
    /// Something is to be waited for.
    Partly(Rest<'a>),
}

/// What has come of an answer that is not whole, and what has become of it.
pub(crate) enum Rest<'a> {
    /// Part of a head, or an interim answer.
    Head(Chunk),
    /// A final head and what came of the body. The client has taken `sent` bytes, and no more for now.
    Unsent { begun: Begun, space: Lent<'a, AnswerSpace>, chunk: Chunk, consumed: usize, sent: usize },
    /// The head of a 101, and what came behind it.
    Switch { space: Lent<'a, AnswerSpace>, chunk: Chunk },
    /// All that has come is on its way, but for bytes that are dealt with next.
    Body { begun: Begun, space: Lent<'a, AnswerSpace>, at_hand: Option<Chunk> },
}

/// What the final head of an answer has decided, apart from its body's end.
#[derive(Clone, Copy)]
pub(crate) struct Begun {
    first_byte_at: Instant,
    coding: Coding,
    /// Bytes of the rewritten head.
    head_bytes: usize,
    client: Persistence,
    upstream: Persistence,
}

impl<'a> Answering<'a> {
    /// Waits for the first bytes, as long as there is a client to have them.
    pub(crate) fn first_bytes(&self) -> impl Future<Output = Result<Chunk, Fault>> {
        let Self { state, client, route, settings, connection, progress, .. } = *self;
        // While a body is on its way up, its own deadlines bound the wait.
        let limit = if progress.upload.get() != Upload::Underway {
            (progress.waiting_since.get() + settings.timeouts.first_byte).min(route.total)
        } else {
            route.total
        };
        connection.stream.set_recv_deadline(limit);
        progress.is_head_awaited.set(true);
        poll_fn(move |context| {
            let received = match connection.stream.poll_recv(context) {
                Poll::Ready(received) => received,
                Poll::Pending => {
                    let broken = client.stream.poll_broken(context);
                    return broken.map(|()| Err(Fault::ClientGoneInResponse));
                }
            };
            Poll::Ready(match received {
                Ok(Some(chunk)) => Ok(chunk),
                Ok(None) => Err(Fault::UpstreamGone),
                Err(error) => Err(late(state, route, &error, Fault::FirstByteTimeout, Fault::UpstreamGone)),
            })
        })
    }

    /// Passes on what has come, as far as that needs no waiting: nearly always all of the answer.
    pub(crate) fn pass_on(&self, bytes: Chunk) -> Result<Passed<'a>, Fault> {
        self.note_first_bytes();
        let mut space = self.state.answer_spaces.take();
        let parsed = parse_response(&bytes, 0, &head_limits(self.settings), &mut space.response);
        match parsed.map_err(Fault::ResponseRejected)? {
            Parsed::Complete if !space.response.is_interim() => {
                self.begin(space, bytes, self.state.core.turn_time())
            }
            Parsed::Complete | Parsed::Incomplete => Ok(Passed::Partly(Rest::Head(bytes))),
        }
    }

    /// Receives the answer and passes it on, interim ones first.
    pub(crate) async fn relay(self) -> Result<Answered, Fault> {
        let bytes = self.first_bytes().await?;
        match self.pass_on(bytes)? {
            Passed::Whole(answered) => Ok(answered),
            Passed::Partly(rest) => self.relay_rest(rest).await,
        }
    }

    /// Goes on where [`Self::pass_on`] could not.
    pub(crate) async fn relay_rest(self, mut rest: Rest<'a>) -> Result<Answered, Fault> {
        let way = self.way_down();
        let (begun, mut space, mut beyond) = loop {
            match rest {
                Rest::Head(bytes) => match self.relay_head(bytes).await? {
                    Passed::Whole(answered) => return Ok(answered),
                    Passed::Partly(next) => rest = next,
                },
                Rest::Unsent { begun, space, chunk, consumed, sent } => {
                    let mut parcel = parcel(&space, &begun, chunk, consumed);
                    let outcome = way.send(&mut parcel, sent).await;
                    outcome.map_err(|error| self.download_fault(&Broken::Sink(error)))?;
                    let beyond = parcel.into_rest();
                    count_answer(self.route.counters, Some(space.response.status));
                    break (begun, space, beyond);
                }
                Rest::Switch { space, chunk } => return self.switch(space, chunk).await,
                Rest::Body { begun, space, at_hand } => break (begun, space, at_hand),
            }
        };
        let AnswerSpace { body, ranges, .. } = &mut *space;
        if !begun.is_over(body) {
            let relayed = way.relay(body, ranges, begun.coding, beyond).await;
            beyond = relayed.map_err(|broken| self.download_fault(&broken))?;
        }
        Ok(self.end(&begun, beyond.is_some()))
    }

    fn note_first_bytes(&self) {
        self.progress.is_response_begun.set(true);
        self.progress.is_head_awaited.set(false);
    }

    /// Receives what is missing of the final head, passes interim ones on, and begins the answer.
    async fn relay_head(&self, mut bytes: Chunk) -> Result<Passed<'a>, Fault> {
        let mut space = self.state.answer_spaces.take();
        let mut interim_answers = 0;
        loop {
            let first_byte_at = self.state.core.turn_time();
            let chunk = self.receive_head(bytes, &mut space.response).await?;
            if !space.response.is_interim() {
                return self.begin(space, chunk, first_byte_at);
            }
            interim_answers += 1;
            if interim_answers > INTERIM_ANSWERS_MAX {
                return Err(Fault::InterimAnswersTooMany);
            }
            bytes = match self.pass_interim(chunk, &mut space).await? {
                Some(beyond) => beyond,
                None => self.first_bytes().await?,
            };
            self.note_first_bytes();
        }
    }

    /// Decides what becomes of an answer and of both connections, and sends what has come of it in its new form.
    fn begin(
        &self,
        mut space: Lent<'a, AnswerSpace>,
        chunk: Chunk,
        first_byte_at: Instant,
    ) -> Result<Passed<'a>, Fault> {
        if space.response.status == 101 {
            return Ok(Passed::Partly(Rest::Switch { space, chunk }));
        }
        // 1. What becomes of its body, and of both connections.
        let framing = decide_response_framing(&space.response, self.request.method);
        let delivery = Delivery::of(framing, self.request.version);
        let upstream = decide_upstream(&space.response, framing);
        let client = self.client_persistence(delivery);
        space.body = Body::of_response(framing, body_limits(self.settings));
        let coding = coding_of(delivery);
        self.state.upstreams.note_answer(self.connection, self.settings, space.response.status);
        if matches!(self.settings.balance, Balance::LeastTime) {
            let waited = first_byte_at.since(self.progress.waiting_since.get());
            self.state.upstreams.note_time(self.connection, waited);
        }
        if self.settings.retry.causes.contain(Cause::Status) && self.is_asked_elsewhere(space.response.status)
        {
            let is_reusable = upstream == Persistence::Keep && is_whole(&mut space, &chunk);
            return Ok(Passed::Whole(Answered::Refused { is_reusable }));
        }

        // 2. The rewritten head, and what is at hand of the body.
        self.rewrite(&chunk, delivery, Some(client), &mut space);
        self.note(&space);
        let AnswerSpace { response, text, ranges, body } = &mut *space;
        let head_bytes = text.len();
        let at_hand = &chunk[response.head_bytes as usize..];
        let passed = body.pass(at_hand, coding.mode(), ranges);
        let consumed = response.head_bytes as usize + passed.map_err(Fault::ResponseBodyRejected)?;
        if coding != Coding::Chunks {
            assemble(at_hand, ranges, text);
        }
        let begun = Begun { first_byte_at, coding, head_bytes, client, upstream };
        self.progress.is_answer_begun.set(true);
        self.progress.ends_with_connection.set(delivery == Delivery::UntilClose);

        // 3. As much as the client takes at once.
        let parcel = parcel(&space, &begun, chunk, consumed);
        let mut sent = 0;
        let outcome = self.way_down().try_send(&parcel, &mut sent);
        if !outcome.map_err(|error| self.download_fault(&Broken::Sink(error)))? {
            let Some(chunk) = parcel.chunk else {
                unreachable!("a parcel keeps its buffer until it is sent")
            };
            return Ok(Passed::Partly(Rest::Unsent { begun, space, chunk, consumed, sent }));
        }
        let beyond = parcel.into_rest();
        count_answer(self.route.counters, Some(space.response.status));
        if !begun.is_over(&space.body) {
            return Ok(Passed::Partly(Rest::Body { begun, space, at_hand: beyond }));
        }
        Ok(Passed::Whole(self.end(&begun, beyond.is_some())))
    }

    /// Whether the request goes to another endpoint in place of passing this answer on; who that is stands in
    /// [`Progress::next`] then.
    #[cold]
    fn is_asked_elsewhere(&self, status: u16) -> bool {
        let Self { state, settings, connection, progress, .. } = *self;
        if !settings.retry.statuses.contains(&status)
            || !progress.is_at_hand
            || !may_repeat(Cause::Status, progress.reached(connection), self.request.method.is_idempotent())
        {
            return false;
        }
        progress.tries.begin(connection.endpoint);
        progress.next.set(state.upstreams.again(connection.upstream, Cause::Status, progress.tries, None));
        progress.next.get().is_some()
    }

    /// Passes on that another protocol is spoken from now on, and its first bytes. What the client was not offered to change
    /// to, or while its request is still on its way, nobody asked for.
    async fn switch(&self, mut space: Lent<'a, AnswerSpace>, chunk: Chunk) -> Result<Answered, Fault> {
        let is_asked = self.request.upgrade && self.progress.upload.get() == Upload::Done;
        if !is_asked || !upgrade::is_agreed(self.route.channel, &chunk, &space.response) {
            return Err(Fault::UnaskedUpgrade);
        }
        let waited = self.state.core.turn_time().since(self.progress.waiting_since.get());
        self.state.record_of(self.client, self.route, Phase::FirstByte, waited);
        self.rewrite(&chunk, Delivery::None, None, &mut space);
        self.note(&space);
        let AnswerSpace { response, text, ranges, .. } = &mut *space;
        let head_bytes = response.head_bytes as usize;
        ranges.clear();
        if chunk.len() > head_bytes {
            ranges.push(0..chunk.len() - head_bytes);
        }
        let mut parcel = Parcel {
            text,
            head_bytes: text.len(),
            body_start: head_bytes,
            ranges,
            coding: Coding::AsReceived,
            consumed: chunk.len(),
            chunk: Some(chunk),
        };
        self.progress.is_answer_begun.set(true);
        // Part of a 101 is no answer that could look whole.
        let sent = self.way_down().send(&mut parcel, 0).await;
        sent.map_err(|error| self.download_fault(&Broken::Sink(error)))?;
        count_answer(self.route.counters, Some(101));
        Ok(Answered::Switched)
    }

    /// Records how long an answer took that has left. Bytes behind it that nobody asked for make the connection unfit for
    /// the next request.
    fn end(&self, begun: &Begun, has_surplus: bool) -> Answered {
        self.record_phases(begun.first_byte_at);
        let upstream = if has_surplus { Persistence::Close } else { begun.upstream };
        Answered::Http { client: begun.client, upstream }
    }

    /// Receives the rest of a head whose first bytes are there.
    async fn receive_head(&self, mut chunk: Chunk, head: &mut ResponseHead) -> Result<Chunk, Fault> {
        let Self { state, route, settings, .. } = *self;
        let stream = &self.connection.stream;
        let limits = head_limits(settings);
        let mut examined = 0;
        loop {
            match parse_response(&chunk, examined, &limits, head).map_err(Fault::ResponseRejected)? {
                Parsed::Complete => return Ok(chunk),
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

    /// Passes on an interim answer, which a client of HTTP/1.0 would not understand (RFC 9110 §15.2). Gives back what
    /// follows it.
    async fn pass_interim(&self, mut chunk: Chunk, space: &mut AnswerSpace) -> Result<Option<Chunk>, Fault> {
        let consumed = space.response.head_bytes as usize;
        if self.request.version == Version::Http10 {
            chunk.consume(consumed);
            return Ok((!chunk.is_empty()).then_some(chunk));
        }
        space.ranges.clear();
        self.rewrite(&chunk, Delivery::None, None, space);
        let mut parcel = Parcel {
            text: &space.text,
            head_bytes: space.text.len(),
            chunk: Some(chunk),
            body_start: consumed,
            ranges: &space.ranges,
            coding: Coding::AsReceived,
            consumed,
        };
        self.progress.is_client_told.set(true);
        let sent = self.way_down().send(&mut parcel, 0).await;
        sent.map_err(|error| self.download_fault(&Broken::Sink(error)))?;
        Ok(parcel.into_rest())
    }

    /// Whether the client's connection serves another request after this answer.
    fn client_persistence(&self, delivery: Delivery) -> Persistence {
        // An answer that overtakes its request leaves bytes behind that nobody will read.
        if self.client.is_last_exchange(self.state) || self.progress.upload.get() != Upload::Done {
            return Persistence::Close;
        }
        decide_downstream(self.request, delivery)
    }

    /// Writes the head that goes to the client in place of the one received.
    fn rewrite(
        &self,
        head: &[u8],
        delivery: Delivery,
        persistence: Option<Persistence>,
        space: &mut AnswerSpace,
    ) {
        let version = self.request.version;
        let date = self.state.date.now(&self.state.core);
        let is_final = persistence.is_some() || space.response.status == 101;
        let sticky = self.settings.sticky.as_ref().filter(|_| is_final);
        let cookies = sticky.and_then(|rule| Some((rule, self.cookies(rule)?)));
        let plan = ResponsePlan {
            delivery,
            connection: persistence.and_then(|persistence| connection_option(version, persistence)),
            via: self.client.settings(self.state).forwarding.via.as_deref(),
            upgrade: matches!(space.response.status, 101 | 426),
            date: persistence.is_some().then_some(&*date),
            set_cookie: cookies.as_ref().and_then(|(rule, cookies)| {
                cookies.line(rule, self.connection.endpoint, self.client.stream.is_private())
            }),
        };
        rewrite_response(head, &space.response, &plan, &mut space.text);
        if let Some(rules) = self.route.channel.rules.as_ref().filter(|_| persistence.is_some()) {
            rules::edits::edit_answer(self.route, rules, &mut space.text);
        }
    }

    /// What the client's cookie for its endpoint is taken from, if it is to get one.
    fn cookies(&self, rule: &StickyRule) -> Option<Arc<Cookies>> {
        self.state.upstreams.cookie(self.connection, rule, &self.progress.tries.wish())
    }

    /// The way of the answer to its client.
    fn way_down(&self) -> Way<'a> {
        let listener = self.client.counters();
        Way {
            core: &self.state.core,
            source: &self.connection.stream,
            sink: &self.client.stream,
            recv_timeout: self.settings.timeouts.body,
            // An answer may be a line now and then, for hours.
            bytes_per_second_min: 0,
            send_timeout: self.client.settings(self.state).timeouts.send,
            total: self.route.total,
            received: None,
            sent: Some([&listener.bytes_sent, &self.route.counters.body_bytes_sent]),
            note: self.client.note.get(),
            set_aside: &self.state.set_aside,
        }
    }

    /// Whose fault it was that the answer did not get down.
    fn download_fault(&self, broken: &Broken) -> Fault {
        let late = |error, timeout, gone| late(self.state, self.route, error, timeout, gone);
        match broken {
            Broken::Malformed(rule) => Fault::ResponseBodyRejected(*rule),
            Broken::Truncated => Fault::ResponseTruncated,
            Broken::Slow => Fault::ResponseTimeout,
            Broken::Source(error) => late(error, Fault::ResponseTimeout, Fault::ResponseTruncated),
            Broken::Sink(error) => late(error, Fault::ClientSendTimeout, Fault::ClientGoneInResponse),
        }
    }

    fn record_phases(&self, first_byte_at: Instant) {
        let waiting_since = self.progress.waiting_since.get();
        let mut histograms = self.state.histograms.borrow_mut();
        let histograms = histograms.channel(self.route.id);
        histograms.record(Phase::FirstByte, first_byte_at.since(waiting_since));
        let ended = self.state.core.now();
        histograms.record(Phase::Body, ended.since(first_byte_at));
        histograms.record(Phase::Total, ended.since(self.route.began));
        if let Some(note) = self.client.note.get() {
            note.phase(Phase::FirstByte, first_byte_at.since(waiting_since));
            note.phase(Phase::Body, ended.since(first_byte_at));
            note.phase(Phase::Total, ended.since(self.route.began));
        }
    }

    /// Tells the logs that want the exchange what it is answered.
    fn note(&self, space: &AnswerSpace) {
        if let Some(note) = self.client.note.get() {
            access::note_answer(self.state, note, space.response.status, &space.text);
        }
    }
}

impl Begun {
    /// Whether nothing more is to be received or sent.
    fn is_over(&self, body: &Body) -> bool {
        body.is_done() && self.coding != Coding::Chunks
    }
}

/// Whether all of an answer has come that is not passed on, and nothing behind it.
fn is_whole(space: &mut AnswerSpace, chunk: &[u8]) -> bool {
    let AnswerSpace { response, ranges, body, .. } = space;
    let at_hand = &chunk[response.head_bytes as usize..];
    let passed = body.pass(at_hand, Coding::DataOnly.mode(), ranges);
    passed.is_ok_and(|passed| passed == at_hand.len()) && body.is_done()
}

/// The rewritten head, with what goes with it of the body.
fn parcel<'s>(space: &'s AnswerSpace, begun: &Begun, chunk: Chunk, consumed: usize) -> Parcel<'s> {
    Parcel {
        text: &space.text,
        head_bytes: begun.head_bytes,
        chunk: Some(chunk),
        body_start: space.response.head_bytes as usize,
        ranges: &space.ranges,
        coding: begun.coding,
        consumed,
    }
}

/// The bounds of a response head as proto takes them.
pub(crate) fn head_limits(settings: &Upstream) -> Limits {
    let limits = &settings.limits.head;
    Limits {
        head_bytes_max: limits.head_bytes_max,
        fields_max: limits.fields_max,
        target_bytes_max: 0, // there is none
        is_secured: false,
    }
}

/// The bounds of an answer's body; its length is the endpoint's business.
pub(crate) fn body_limits(settings: &Upstream) -> BodyLimits {
    let trailers = settings.limits.trailers;
    BodyLimits {
        body_bytes_max: u64::MAX,
        trailer_bytes_max: trailers.bytes_max,
        trailers_max: trailers.count_max,
    }
}

fn coding_of(delivery: Delivery) -> Coding {
    match delivery {
        Delivery::None | Delivery::Length(_) | Delivery::Chunked => Coding::AsReceived,
        Delivery::ChunkedHere => Coding::Chunks,
        Delivery::UntilClose => Coding::DataOnly,
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
