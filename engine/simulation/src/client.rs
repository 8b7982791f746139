//! What does a client do with its connection? It sends what was planned, reads what comes, and checks every byte of it.
//!
//! Never takes an answer for its own because it came next: the answer says which request it belongs to.

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::pin::pin;
use std::rc::Rc;
use std::task::{Poll, Waker};
use std::time::Duration;

use runtime::{Core, Stream};

use crate::ledger::{Event, Ledger, SeenAnswer};
use crate::oracle::Law;
use crate::pattern::{Check, Pattern};
use crate::plan::{
    ClientEnd, ConnectionPlan, Destination, Fate, Framing, RequestId, RequestPlan, Scenario, Stop,
};
use crate::renewals::{self, number_min};
use crate::wire::{Ended, Head, Reader, Received, Writer, append_body, framing_line};

/// How long a client that expects 100 waits for it before it sends its body anyway (RFC 9110 §10.1.1).
const CONTINUE_WAIT: Duration = Duration::from_millis(800);

/// What the sending and the reading half of a client tell each other.
#[derive(Default)]
struct Progress {
    /// Requests of which something was sent.
    begun: Cell<usize>,
    /// Final answers read to their end.
    answered: Cell<usize>,
    /// The status of the final answer being read to the request after those answered.
    status: Cell<Option<u16>>,
    /// Requests that were told 100.
    continued: Cell<usize>,
    /// No further answer will come.
    is_over: Cell<bool>,
    waiting: RefCell<Option<Waker>>,
}

impl Progress {
    /// The status of the answer to a request, once its head is there and until it is read.
    fn status_of(&self, nth: usize) -> Option<u16> {
        self.status.get().filter(|_| self.answered.get() == nth)
    }

    fn changed(&self) {
        if let Some(waker) = self.waiting.borrow_mut().take() {
            waker.wake();
        }
    }

    async fn until(&self, is_so: impl Fn() -> bool) {
        poll_fn(|context| {
            if is_so() {
                return Poll::Ready(());
            }
            *self.waiting.borrow_mut() = Some(context.waker().clone());
            Poll::Pending
        })
        .await;
    }
}

/// One connection of a client, from its planned beginning to its end.
pub(crate) async fn play(core: Core, ledger: Rc<RefCell<Ledger>>, number: usize) {
    let scenario = Rc::clone(&ledger.borrow().scenario);
    let plan = &scenario.connections[number];
    core.sleep(plan.starts_after).await;
    let deadline = core.now() + scenario.patience();
    match core.connect(scenario.listeners[plan.listener], deadline).await {
        Ok(stream) => {
            ledger.borrow_mut().note(core.now(), Event::Connected(number));
            ledger.borrow_mut().clients[number].is_connected = true;
            let client =
                Client { core: core.clone(), ledger: Rc::clone(&ledger), plan, scenario: &scenario, number };
            client.converse(Rc::new(stream)).await;
        }
        Err(error) => {
            ledger.borrow_mut().note(core.now(), Event::ConnectFailed(number, error.kind().to_string()));
        }
    }
    ledger.borrow_mut().clients_open -= 1;
}

struct Client<'a> {
    core: Core,
    ledger: Rc<RefCell<Ledger>>,
    plan: &'a ConnectionPlan,
    scenario: &'a Scenario,
    number: usize,
}

impl Client<'_> {
    fn note(&self, event: Event) {
        self.ledger.borrow_mut().note(self.core.now(), event);
    }

    fn breaks(&self, law: Law, detail: impl Into<String>) {
        self.ledger.borrow_mut().breaks(self.core.now(), law, detail);
    }

    /// Sends and reads at the same time, until the reading half is done or the client is gone.
    async fn converse(&self, stream: Rc<Stream>) {
        let patience = self.scenario.patience();
        let progress = Progress::default();
        let mut reader = Reader::new(&self.core, &stream, patience, self.plan.reading);
        let mut writer = Writer::new(&self.core, &stream, patience);
        let ended = {
            let mut sending = pin!(self.send_all(&mut writer, &progress, &stream));
            let mut reading = pin!(self.read_all(&mut reader, &progress));
            let mut is_sent = false;
            poll_fn(|context| {
                if !is_sent && let Poll::Ready(done) = sending.as_mut().poll(context) {
                    is_sent = true;
                    if done == Sending::Vanished {
                        return Poll::Ready(None);
                    }
                }
                reading.as_mut().poll(context).map(Some)
            })
            .await
        };
        self.note(Event::ClientEnds(self.number, format!("{ended:?}")));
        let record = &mut self.ledger.borrow_mut().clients[self.number];
        record.ended = ended;
        record.ended_at = Some(self.core.now());
        record.bytes_sent = writer.sent;
        record.bytes_received = reader.received;
    }

    async fn send_all(&self, writer: &mut Writer, progress: &Progress, stream: &Stream) -> Sending {
        for (nth, request) in self.plan.requests.iter().enumerate() {
            progress
                .until(|| nth - progress.answered.get() < self.plan.window || progress.is_over.get())
                .await;
            self.core.sleep(request.waits_before).await;
            if progress.is_over.get() {
                return Sending::Over;
            }
            progress.begun.set(nth + 1);
            {
                let mut ledger = self.ledger.borrow_mut();
                let generation_min = number_min(&ledger.generations);
                let record = ledger.request(request.id);
                (record.begun_at, record.generation_min) = (Some(self.core.now()), generation_min);
            }
            self.note(Event::Sends(request.id));
            match self.send(writer, progress, nth, request).await {
                Ok(Sending::Whole) => {}
                Ok(ended) => {
                    if let Fate::Stops { how, .. } = request.fate {
                        self.note(Event::Stopped(request.id, how));
                    }
                    if ended == Sending::HalfClosed {
                        let _ = stream.shutdown_write();
                    }
                    return ended;
                }
                Err(_) => {
                    self.note(Event::SendFailed(request.id));
                    return Sending::Over;
                }
            }
        }
        match self.plan.end {
            ClientEnd::Vanish => Sending::Vanished,
            ClientEnd::HalfClose => {
                // The connection may be gone already; the reading half finds out.
                let _ = stream.shutdown_write();
                Sending::HalfClosed
            }
            ClientEnd::Close | ClientEnd::Idle => Sending::Whole,
        }
    }

    /// Sends one request, or as much of it as was planned.
    async fn send(
        &self,
        writer: &mut Writer,
        progress: &Progress,
        nth: usize,
        request: &RequestPlan,
    ) -> Result<Sending, Ended> {
        let goes_on = || !progress.is_over.get();
        let target = self.scenario.target(request);
        match request.fate {
            Fate::Hostile(attack) => {
                writer.send(&attack.bytes(request.id, &target), &request.pace, goes_on).await?;
                return Ok(Sending::Over);
            }
            Fate::Stops { permille, how } => {
                let mut text = head_text(request, &target);
                append_body(
                    &request.body,
                    Pattern::of_request(request.id),
                    &request.id.to_string(),
                    &mut text,
                );
                let count = (text.len() as u64 * permille / 1000).clamp(1, text.len() as u64 - 1);
                writer.send(&text[..count as usize], &request.pace, goes_on).await?;
                return Ok(match how {
                    Stop::Vanish => Sending::Vanished,
                    Stop::HalfClose => Sending::HalfClosed,
                    Stop::Stall => Sending::Over,
                });
            }
            Fate::Whole => {}
        }
        let mut text = head_text(request, &target);
        if request.expects_continue {
            writer.send(&text, &request.pace, goes_on).await?;
            text.clear();
            self.wait_to_continue(progress, nth).await;
            if progress.is_over.get() {
                return Ok(Sending::Over);
            }
            if progress.answered.get() > nth || progress.status_of(nth).is_some_and(|status| status >= 400) {
                // Refused before the body: it is not sent, and so nothing can follow it.
                return Ok(Sending::Over);
            }
        }
        append_body(&request.body, Pattern::of_request(request.id), &request.id.to_string(), &mut text);
        if !writer.send(&text, &request.pace, goes_on).await? {
            return Ok(Sending::Over);
        }
        self.ledger.borrow_mut().request(request.id).sent_at = Some(self.core.now());
        self.note(Event::Sent(request.id));
        Ok(Sending::Whole)
    }

    async fn wait_to_continue(&self, progress: &Progress, nth: usize) {
        let told = || {
            progress.continued.get() > nth
                || progress.answered.get() > nth
                || progress.status_of(nth).is_some()
                || progress.is_over.get()
        };
        let mut told = pin!(progress.until(told));
        let mut late = pin!(self.core.sleep(CONTINUE_WAIT));
        poll_fn(|context| match told.as_mut().poll(context) {
            Poll::Ready(()) => Poll::Ready(()),
            Poll::Pending => late.as_mut().poll(context),
        })
        .await;
    }

    /// Reads answers until the plan or the connection ends; says how it ended, `Closed` by the plan too.
    async fn read_all(&self, reader: &mut Reader, progress: &Progress) -> Ended {
        let ended = loop {
            let is_done = progress.answered.get() == self.plan.requests.len();
            if is_done && self.plan.end == ClientEnd::Close && !reader.has_unread() {
                break Ended::Closed;
            }
            match self.read_answer(reader, progress).await {
                Ok(Then::Next) => {}
                Ok(Then::End) => break self.read_end(reader).await,
                Err(ended) => break ended,
            }
        };
        if let Ended::Garbled(what) = &ended {
            self.breaks(Law::AnswerMalformed, format!("connection {}: {what}", self.number));
        }
        progress.is_over.set(true);
        progress.changed();
        ended
    }

    /// Nothing may follow an answer that says that nothing follows.
    async fn read_end(&self, reader: &mut Reader) -> Ended {
        loop {
            if reader.has_unread() {
                let text = reader.unread_text();
                self.breaks(
                    Law::AnswerUnasked,
                    format!("after the last answer of {}: {text:?}", self.number),
                );
                return Ended::Garbled("bytes after the last answer".to_owned());
            }
            if let Err(ended) = reader.fill().await {
                return ended;
            }
        }
    }

    /// Reads interim answers and a final one.
    async fn read_answer(&self, reader: &mut Reader, progress: &Progress) -> Result<Then, Ended> {
        loop {
            let Some(head) = reader.head().await? else { return Err(Ended::Closed) };
            let nth = progress.answered.get();
            let status = status_of(&head)?;
            if nth >= progress.begun.get() {
                self.breaks(
                    Law::AnswerUnasked,
                    format!("{} to nothing on connection {}", head.start, self.number),
                );
                return Err(Ended::Closed);
            }
            let request = &self.plan.requests[nth];
            self.check_fields(request, &head);
            if status >= 200 {
                return self.read_final(reader, progress, request, status, &head).await;
            }
            self.note(Event::Interim(request.id, status));
            self.check_interim(request, status, &head);
            if status == 100 {
                progress.continued.set(nth + 1);
                progress.changed();
            }
            self.ledger.borrow_mut().request(request.id).interim.push(status);
        }
    }

    fn check_interim(&self, request: &RequestPlan, status: u16, head: &Head) {
        if request.is_http10 {
            self.breaks(Law::InterimMisplaced, format!("{status} to {} of HTTP/1.0", request.id));
        }
        match head.field("x-id") {
            Some(id) if id == request.id.to_string() => {}
            Some(id) => self.breaks(Law::AnswerOfAnother, format!("{status} of {id} to {}", request.id)),
            None if status == 100 && request.expects_continue => {}
            None => self.breaks(Law::InterimMisplaced, format!("{status} to {} of nobody", request.id)),
        }
    }

    /// Fields that hold between the engine and its neighbours only (RFC 9110 §7.6.1).
    fn check_fields(&self, request: &RequestPlan, head: &Head) {
        for name in ["keep-alive", "proxy-connection", "te", "upgrade", "x-hop", "x-unsolicited"] {
            if head.has(name) {
                self.breaks(Law::HopByHopPassed, format!("{name} in the answer to {}", request.id));
            }
        }
        let option = head.field("connection").unwrap_or("close");
        if !["close", "keep-alive"].contains(&option) {
            self.breaks(Law::HopByHopPassed, format!("Connection: {option} in the answer to {}", request.id));
        }
        if request.is_http10 && head.has("transfer-encoding") {
            self.breaks(Law::AnswerMalformed, format!("chunks to {} of HTTP/1.0", request.id));
        }
    }

    /// Whoever answers was current at some moment since the request began.
    fn check_generation(&self, request: &RequestPlan, head: &Head) {
        let Some(number) = head.field(renewals::FIELD) else { return };
        let mut ledger = self.ledger.borrow_mut();
        let latest = ledger.generations.last().map_or(0, |generation| generation.number);
        let record = ledger.request(request.id);
        let oldest = record.generation_min;
        record.is_renewed = number.parse().is_ok_and(|number: u64| number > oldest);
        if !number.parse().is_ok_and(|number: u64| (oldest..=latest).contains(&number)) {
            let detail = format!("{} is answered by {number}, not {oldest} to {latest}", request.id);
            ledger.breaks(self.core.now(), Law::GenerationStale, detail);
        }
    }

    async fn read_final(
        &self,
        reader: &mut Reader,
        progress: &Progress,
        request: &RequestPlan,
        status: u16,
        head: &Head,
    ) -> Result<Then, Ended> {
        let attempt = self.check_belongs(request, head);
        self.check_generation(request, head);
        self.note(Event::Answer(request.id, status, attempt));
        self.ledger.borrow_mut().request(request.id).answer =
            Some(SeenAnswer { status, attempt, is_whole: false, body_bytes: 0 });
        progress.status.set(Some(status));
        progress.changed();
        let (check, outcome, until_close) = self.read_body(reader, request, status, attempt, head).await;
        self.check_body(request, attempt, &check, status);
        let keeps = match head.field("connection") {
            Some(option) => option == "keep-alive",
            None => !request.is_http10,
        };
        let mut ledger = self.ledger.borrow_mut();
        let now = self.core.now();
        if !keeps || until_close || outcome.is_err() {
            ledger.clients[self.number].was_told = true;
        }
        let record = ledger.request(request.id);
        if let Some(answer) = &mut record.answer {
            answer.is_whole = outcome.is_ok();
            answer.body_bytes = check.count();
        }
        if let Err(ended) = outcome {
            ledger.note(now, Event::AnswerCut(request.id, check.count(), format!("{ended:?}")));
            return Err(ended);
        }
        ledger.note(now, Event::AnswerWhole(request.id, check.count()));
        ledger.clients[self.number].answered_at = Some(now);
        drop(ledger);
        progress.answered.set(progress.answered.get() + 1);
        progress.status.set(None);
        progress.changed();
        if until_close {
            return Err(Ended::Closed);
        }
        Ok(if keeps { Then::Next } else { Then::End })
    }

    /// Says which delivery of the request an answer is for; none when the engine made it.
    fn check_belongs(&self, request: &RequestPlan, head: &Head) -> Option<u8> {
        let id = head.field("x-id")?;
        if id != request.id.to_string() {
            let is_neighbour = self.plan.requests.iter().any(|other| other.id.to_string() == id);
            let law = if is_neighbour { Law::AnswersOutOfOrder } else { Law::AnswerOfAnother };
            self.breaks(law, format!("{} got the answer to {id}", request.id));
        }
        head.field("x-attempt").and_then(|attempt| attempt.parse().ok())
    }

    /// Reads a body as its head frames it; says how it ended, and whether by the end of the connection.
    async fn read_body(
        &self,
        reader: &mut Reader,
        request: &RequestPlan,
        status: u16,
        attempt: Option<u8>,
        head: &Head,
    ) -> (Check, Result<(), Ended>, bool) {
        let mut check = match attempt {
            Some(attempt) => Check::new(Pattern::of_answer(request.id, attempt)),
            None if request.destination == Destination::Respond && status == self.scenario.respond.status => {
                Check::of_text(&self.scenario.respond.body)
            }
            None => Check::of_anything(),
        };
        let framing = match head.framing() {
            Ok(framing) => framing,
            Err(ended) => return (check, Err(ended), false),
        };
        let outcome = match framing {
            // Whoever is told that half a head took too long gets a body: its method was not known.
            _ if request.answer_has_no_body(status) && (attempt.is_some() || status != 408) => Ok(()),
            Received::Length(length) => reader.data(length, &mut check).await,
            Received::Chunked => match reader.chunks(&mut check).await {
                Ok(trailers) => self.check_trailers(request, &trailers),
                Err(ended) => Err(ended),
            },
            Received::Unsaid => {
                let outcome = match reader.rest(&mut check).await {
                    Ended::Closed => Ok(()),
                    ended => Err(ended),
                };
                return (check, outcome, true);
            }
        };
        (check, outcome, false)
    }

    fn check_trailers(&self, request: &RequestPlan, trailers: &[(String, String)]) -> Result<(), Ended> {
        for (name, value) in trailers {
            if name != "x-trailer" || *value != request.id.to_string() {
                self.breaks(Law::AnswerAltered, format!("trailer {name}: {value} to {}", request.id));
            }
        }
        Ok(())
    }

    /// The bytes of a body must be the planned ones, however far it came.
    fn check_body(&self, request: &RequestPlan, attempt: Option<u8>, check: &Check, status: u16) {
        if let Some(at) = check.wrong_at() {
            self.breaks(Law::AnswerAltered, format!("byte {at} of the answer to {} is another", request.id));
        }
        let Some(attempt) = attempt else { return };
        let Some(planned) = request.answers.get(usize::from(attempt)) else {
            return self.breaks(Law::AnswerAltered, format!("delivery {attempt} of {}", request.id));
        };
        if status != planned.status {
            self.breaks(
                Law::AnswerAltered,
                format!("{status} instead of {} to {}", planned.status, request.id),
            );
        }
        if check.count() > planned.body.bytes {
            let (got, planned) = (check.count(), planned.body.bytes);
            self.breaks(Law::AnswerAltered, format!("{got} of {planned} bytes to {}", request.id));
        }
    }
}

/// How the sending half of a client ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Sending {
    /// Everything was sent.
    Whole,
    /// Nothing more is sent, for a reason of the plan or because the connection is over.
    Over,
    HalfClosed,
    Vanished,
}

/// What follows an answer.
enum Then {
    Next,
    /// The end of the connection.
    End,
}

fn status_of(head: &Head) -> Result<u16, Ended> {
    let garbled = || Ended::Garbled(format!("status line {:?}", head.start));
    let rest = head.start.strip_prefix("HTTP/1.1 ").ok_or_else(garbled)?;
    let (status, _reason) = rest.split_once(' ').ok_or_else(garbled)?;
    let status: u16 = status.parse().map_err(|_| garbled())?;
    if (100..600).contains(&status) { Ok(status) } else { Err(garbled()) }
}

/// The head of a request as its client writes it.
fn head_text(request: &RequestPlan, target: &str) -> Vec<u8> {
    let version = if request.is_http10 { "1.0" } else { "1.1" };
    let authority = if request.absolute_form { "http://a.example" } else { "" };
    let mut text = format!("{} {authority}{target} HTTP/{version}\r\n", request.method.name());
    text += &format!("Host: a.example\r\nx-id: {}\r\n", request.id);
    if request.hop_fields {
        let options = request.connection.map_or(String::new(), |option| format!(", {option}"));
        text +=
            &format!("Connection: x-hop{options}\r\nX-Hop: 1\r\nKeep-Alive: 5\r\nTE: trailers, deflate\r\n");
        text += "Proxy-Connection: keep-alive\r\n";
    } else if let Some(option) = request.connection {
        text += &format!("Connection: {option}\r\n");
    }
    if request.expects_continue {
        text += "Expect: 100-continue\r\n";
    }
    if request.body.framing != Framing::Nothing {
        text += &framing_line(&request.body);
    }
    (text + "\r\n").into_bytes()
}

impl Scenario {
    /// The path of a request: where it is meant to go, and which it is.
    pub(crate) fn target(&self, request: &RequestPlan) -> String {
        match request.destination {
            Destination::Upstream(index) => format!("/u{index}/{}", request.id),
            Destination::Respond => format!("/respond/{}", request.id),
            Destination::Nowhere => format!("/nowhere/{}", request.id),
        }
    }

    /// Longest silence that a peer puts up with; longer, and a deadline of the engine's was missed.
    pub(crate) fn patience(&self) -> Duration {
        self.times.silence_max() + Duration::from_secs(20)
    }
}

/// The number in the last segment of a path.
pub(crate) fn id_of(target: &str) -> Option<RequestId> {
    let (_, id) = target.rsplit_once('/')?;
    u32::from_str_radix(id, 16).ok().map(RequestId)
}
