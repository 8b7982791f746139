//! What does an origin do with what reaches it? It checks that it is a request of a client's, and answers as was planned.
//!
//! Never believes the engine: every field and every byte is compared with what the client was to send.

use std::cell::RefCell;
use std::rc::Rc;

use runtime::{Core, Listener, Stream};

use crate::client::id_of;
use crate::hostile::SMUGGLED;
use crate::ledger::{AnswerSent, Delivery, Event, Ledger, OriginRecord};
use crate::oracle::Law;
use crate::pattern::{Check, Pattern};
use crate::plan::{
    After, AnswerPlan, BROKEN_HEADS, Defect, Destination, Fate, Framing, Network, Reading, RequestId,
    RequestPlan, Scenario, Timing,
};
use crate::wire::{Ended, Head, Reader, Received, Writer, append_body, framing_line};

/// An endpoint: accepts whatever comes, for as long as its core runs.
pub(crate) async fn listen(core: Core, ledger: Rc<RefCell<Ledger>>, listener: Listener, endpoint: usize) {
    loop {
        let Ok((stream, _)) = listener.accept().await else {
            // Its descriptor table is full, or the connection was gone: others come.
            core.sleep(std::time::Duration::from_millis(20)).await;
            continue;
        };
        let number = {
            let mut ledger = ledger.borrow_mut();
            let number = ledger.origins.len();
            ledger.origins.push(OriginRecord { requests: 0, is_dirty: false });
            ledger.origins_open += 1;
            ledger.note(core.now(), Event::Accepted(endpoint, number));
            number
        };
        let scenario = Rc::clone(&ledger.borrow().scenario);
        let origin = Origin { core: core.clone(), ledger: Rc::clone(&ledger), scenario, endpoint, number };
        core.spawn(async move { origin.play(Rc::new(stream)).await });
    }
}

/// One accepted connection.
struct Origin {
    core: Core,
    ledger: Rc<RefCell<Ledger>>,
    scenario: Rc<Scenario>,
    endpoint: usize,
    number: usize,
}

/// A request that has begun to arrive.
struct Arrived<'a> {
    plan: &'a RequestPlan,
    attempt: u8,
    body: Received,
    expects_continue: bool,
}

/// Whether the connection is used again.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Then {
    Next,
    CloseOnNext,
    Close,
}

impl Origin {
    fn note(&self, event: Event) {
        self.ledger.borrow_mut().note(self.core.now(), event);
    }

    fn breaks(&self, law: Law, detail: impl Into<String>) {
        self.ledger.borrow_mut().breaks(self.core.now(), law, detail);
    }

    fn delivery(&self, arrived: &Arrived<'_>, change: impl FnOnce(&mut Delivery)) {
        let mut ledger = self.ledger.borrow_mut();
        change(&mut ledger.request(arrived.plan.id).deliveries[usize::from(arrived.attempt)]);
    }

    async fn play(self, stream: Rc<Stream>) {
        // An idle connection of the engine's pool may be older than any other wait.
        let patience = self.scenario.patience() + self.scenario.times.upstream_idle;
        let mut reader = Reader::new(&self.core, &stream, patience, Reading::Prompt);
        let mut writer = Writer::new(&self.core, &stream, patience);
        let ended = loop {
            match self.serve(&mut reader, &mut writer).await {
                Ok(Then::Next) => {}
                Ok(Then::CloseOnNext) => {
                    let _ = reader.fill().await;
                    break Ended::Closed;
                }
                Ok(Then::Close) => break Ended::Closed,
                Err(ended) => break ended,
            }
        };
        match &ended {
            Ended::Garbled(what) => self.breaks(Law::RequestMalformed, what.clone()),
            Ended::Late if !self.scenario.character.has_network_faults() => {
                self.breaks(
                    Law::DeadlineMissed,
                    format!("connection {} to endpoint {}", self.number, self.endpoint),
                );
            }
            _ => {}
        }
        self.note(Event::OriginEnds(self.number, format!("{ended:?}")));
        self.ledger.borrow_mut().origins_open -= 1;
    }

    /// Reads one request and answers it.
    async fn serve(&self, reader: &mut Reader, writer: &mut Writer) -> Result<Then, Ended> {
        let Some(head) = reader.head().await? else { return Err(Ended::Closed) };
        let Some(arrived) = self.arrive(&head)? else { return Ok(Then::Close) };
        let plan = arrived.plan;
        let answer = plan.answers[usize::from(arrived.attempt).min(1)];
        match answer.timing {
            Timing::AfterRequest => {
                if arrived.expects_continue {
                    let text = format!("HTTP/1.1 100 Continue\r\nx-id: {}\r\n\r\n", plan.id);
                    writer.send_now(text.as_bytes()).await?;
                }
                self.read_body(reader, &arrived).await?;
                self.answer(reader, writer, &arrived, &answer).await
            }
            Timing::Early => {
                let then = self.answer(reader, writer, &arrived, &answer).await?;
                self.read_body(reader, &arrived).await?;
                Ok(then)
            }
            Timing::EarlyAndGone => {
                self.answer(reader, writer, &arrived, &answer).await?;
                Ok(Then::Close)
            }
        }
    }

    /// Takes a request head for what it says it is, and checks that a client sends it.
    fn arrive(&self, head: &Head) -> Result<Option<Arrived<'_>>, Ended> {
        let garbled = |what: &str| Err(Ended::Garbled(format!("{what}: {:?}", head.start)));
        let mut parts = head.start.split(' ');
        let (Some(method), Some(target), Some("HTTP/1.1"), None) =
            (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return garbled("request line");
        };
        let id = head.field("x-id").and_then(|id| u32::from_str_radix(id, 16).ok()).map(RequestId);
        let Some(plan) = id.filter(|_| !target.contains(SMUGGLED)).and_then(|id| self.scenario.request(id))
        else {
            self.breaks(Law::RequestInvented, format!("{} at endpoint {}", head.start, self.endpoint));
            return Ok(None);
        };
        self.check_head(plan, method, target, head);
        let body = head.framing()?;
        self.check_framing(plan, body);
        let attempt = self.deliver(plan);
        let expects_continue = head.field("expect").is_some_and(|value| value == "100-continue");
        if expects_continue && !plan.expects_continue {
            self.breaks(Law::RequestAltered, format!("{} expects to be told to continue", plan.id));
        }
        Ok(Some(Arrived { plan, attempt, body, expects_continue }))
    }

    fn check_head(&self, plan: &RequestPlan, method: &str, target: &str, head: &Head) {
        let altered = |what: String| self.breaks(Law::RequestAltered, format!("{}: {what}", plan.id));
        if id_of(target) != Some(plan.id) || target != self.scenario.target(plan) {
            altered(format!("target {target}"));
        }
        let is_attack = matches!(plan.fate, Fate::Hostile(_));
        if method != plan.method.name() && !is_attack {
            altered(format!("method {method}"));
        }
        let upstream =
            |index: usize| self.scenario.upstreams[index].endpoint_numbers().contains(&self.endpoint);
        if !matches!(plan.destination, Destination::Upstream(index) if upstream(index)) {
            altered(format!("came to endpoint {}", self.endpoint));
        }
        if plan.fate == Fate::Whole || !is_attack {
            let host = head.field("host");
            if host != Some("a.example") {
                altered(format!("host {host:?}"));
            }
        }
        for name in ["keep-alive", "proxy-connection", "upgrade", "x-hop"] {
            if head.has(name) {
                self.breaks(Law::HopByHopPassed, format!("{name} in {}", plan.id));
            }
        }
        // The engine takes trailers itself, and says so for this hop; what else the client took is its own affair.
        let hop = [head.field("te"), head.field("connection")];
        if ![[None, None], [None, Some("close")], [Some("trailers"), Some("TE")]].contains(&hop) {
            self.breaks(Law::HopByHopPassed, format!("TE and Connection {hop:?} in {}", plan.id));
        }
        if let Fate::Hostile(attack) = plan.fate
            && !attack.may_reach_origin()
        {
            self.breaks(Law::AttackPassed, format!("{} as {}", attack.name(), plan.id));
        }
    }

    fn check_framing(&self, plan: &RequestPlan, body: Received) {
        let is_same = match (plan.body.framing, body) {
            _ if matches!(plan.fate, Fate::Hostile(_)) => true,
            (Framing::Nothing, Received::Unsaid | Received::Length(0))
            | (Framing::Chunked { .. }, Received::Chunked) => true,
            (Framing::Length, Received::Length(length)) => length == plan.body.bytes,
            _ => false,
        };
        if !is_same {
            self.breaks(Law::RequestAltered, format!("{} is framed by {body:?}", plan.id));
        }
    }

    /// Whether a request may come here that was lost there: to another endpoint, or where there is none if its connection was
    /// a kept one.
    fn may_follow(&self, plan: &RequestPlan, last: &Delivery) -> bool {
        let is_alone = match plan.destination {
            Destination::Upstream(nth) => self.scenario.upstreams[nth].endpoints.len() == 1,
            _ => true,
        };
        last.endpoint != self.endpoint || (is_alone && last.is_reused)
    }

    /// Writes the delivery down; says which of this request it is.
    fn deliver(&self, plan: &RequestPlan) -> u8 {
        let mut ledger = self.ledger.borrow_mut();
        let now = self.core.now();
        let connection = &mut ledger.origins[self.number];
        let is_reused = connection.requests > 0;
        connection.requests += 1;
        if connection.is_dirty && self.scenario.network == Network::Calm {
            ledger.breaks(now, Law::DirtyConnectionReused, format!("for {} on {}", plan.id, self.number));
        }
        let deliveries = &mut ledger.request(plan.id).deliveries;
        let attempt = deliveries.len() as u8;
        let before = deliveries.last().map(|last| (self.may_follow(plan, last), last.answer));
        let endpoint = self.endpoint;
        deliveries.push(Delivery { endpoint, is_reused, is_whole: false, answer: AnswerSent::Nothing });
        ledger.note(now, Event::Reads(self.number, plan.id, attempt));
        match before {
            None => {}
            Some(_) if !plan.method.is_idempotent() => {
                ledger.breaks(now, Law::RepeatedWithEffect, format!("{} {}", plan.method.name(), plan.id));
            }
            Some(_) if attempt > 1 => ledger.breaks(now, Law::RepeatedTooOften, format!("{}", plan.id)),
            Some((true, AnswerSent::Nothing)) => {}
            // What was sent may have been lost with the connection.
            Some((true, _)) if self.scenario.character.has_network_faults() => {}
            Some(before) => {
                ledger.breaks(now, Law::RepeatedWithoutCause, format!("{} after {before:?}", plan.id));
            }
        }
        attempt
    }

    async fn read_body(&self, reader: &mut Reader, arrived: &Arrived<'_>) -> Result<(), Ended> {
        let plan = arrived.plan;
        let is_attack = matches!(plan.fate, Fate::Hostile(_));
        let mut check =
            if is_attack { Check::of_anything() } else { Check::new(Pattern::of_request(plan.id)) };
        let outcome = match arrived.body {
            Received::Unsaid => Ok(Vec::new()),
            Received::Length(length) => reader.data(length, &mut check).await.map(|()| Vec::new()),
            Received::Chunked => reader.chunks(&mut check).await,
        };
        if let Some(at) = check.wrong_at() {
            self.breaks(Law::RequestAltered, format!("byte {at} of the body of {} is another", plan.id));
        }
        let trailers = match outcome {
            Ok(trailers) => trailers,
            Err(ended) => {
                self.note(Event::ReadCut(self.number, plan.id, arrived.attempt));
                return Err(ended);
            }
        };
        let is_right =
            |(name, value): &(String, String)| name == "x-trailer" && *value == plan.id.to_string();
        if !is_attack && (check.count() != plan.body.bytes || !trailers.iter().all(is_right)) {
            let (got, planned) = (check.count(), plan.body.bytes);
            self.breaks(
                Law::RequestAltered,
                format!("{got} of {planned} bytes of {}, {trailers:?}", plan.id),
            );
        }
        self.delivery(arrived, |delivery| delivery.is_whole = true);
        self.note(Event::ReadWhole(self.number, plan.id, arrived.attempt));
        let is_sent = self.ledger.borrow_mut().request(plan.id).sent_at.is_some();
        if !is_sent {
            self.breaks(Law::IncompleteCompleted, format!("{} ({:?})", plan.id, plan.fate));
        }
        Ok(())
    }

    /// Sends the planned answer, with its planned defect.
    async fn answer(
        &self,
        reader: &mut Reader,
        writer: &mut Writer,
        arrived: &Arrived<'_>,
        answer: &AnswerPlan,
    ) -> Result<Then, Ended> {
        let plan = arrived.plan;
        self.core.sleep(answer.waits_before).await;
        let text = answer_text(plan, arrived.attempt, answer);
        let mut text = match answer.defect {
            None => text,
            Some(Defect::NoAnswer) => return Ok(Then::Close),
            Some(Defect::NeverAnswers) => return Err(hold(reader).await),
            Some(Defect::Truncated { permille } | Defect::Stalls { permille }) => {
                let count = (text.len() as u64 * permille / 1000).clamp(1, text.len() as u64 - 1);
                text[..count as usize].to_vec()
            }
            Some(Defect::BrokenHead(index)) => {
                BROKEN_HEADS[index].replace("ID", &plan.id.to_string()).into_bytes()
            }
            Some(Defect::BrokenChunk) => {
                let heads = answer_heads(plan, arrived.attempt, answer);
                [heads.as_bytes(), b"0x5\r\nabcde\r\n0\r\n\r\n"].concat()
            }
            Some(Defect::Switches) => {
                let fields = format!("x-id: {}\r\nConnection: upgrade\r\nUpgrade: x", plan.id);
                format!("HTTP/1.1 101 Switching\r\n{fields}\r\n\r\n").into_bytes()
            }
        };
        self.note(Event::Answers(self.number, plan.id, arrived.attempt));
        self.delivery(arrived, |delivery| delivery.answer = AnswerSent::Partly);
        if let After::Unsolicited { looks_like_an_answer } = answer.after {
            text.extend_from_slice(if looks_like_an_answer { UNASKED } else { b"?!" });
            self.ledger.borrow_mut().origins[self.number].is_dirty = true;
        }
        let sent = writer.send(&text, &answer.pace, || true).await;
        if let Err(ended) = sent {
            self.note(Event::AnswerStopped(self.number, plan.id, arrived.attempt));
            return Err(ended);
        }
        match answer.defect {
            None => {}
            Some(Defect::Stalls { .. }) => return Err(hold(reader).await),
            Some(_) => {
                self.note(Event::AnswerStopped(self.number, plan.id, arrived.attempt));
                return Ok(Then::Close);
            }
        }
        self.delivery(arrived, |delivery| delivery.answer = AnswerSent::Whole);
        self.note(Event::Answered(self.number, plan.id, arrived.attempt));
        Ok(match answer.after {
            _ if answer.body.framing == Framing::UntilClose => Then::Close,
            After::Keep | After::Unsolicited { .. } => Then::Next,
            After::CloseOnNext => Then::CloseOnNext,
            After::Close | After::CloseQuietly => Then::Close,
        })
    }
}

/// An answer to nothing.
const UNASKED: &[u8] = b"HTTP/1.1 200 OK\r\nx-unsolicited: 1\r\nContent-Length: 2\r\n\r\n?!";

/// Waits until the engine gives up.
async fn hold(reader: &mut Reader) -> Ended {
    loop {
        if let Err(ended) = reader.fill().await {
            return ended;
        }
    }
}

/// Everything up to the end of the body, as it would be without a defect.
fn answer_text(plan: &RequestPlan, attempt: u8, answer: &AnswerPlan) -> Vec<u8> {
    let mut text = answer_heads(plan, attempt, answer).into_bytes();
    if !plan.answer_has_no_body(answer.status) {
        append_body(&answer.body, Pattern::of_answer(plan.id, attempt), &plan.id.to_string(), &mut text);
    }
    text
}

/// The heads of the interim answers and of the final one.
fn answer_heads(plan: &RequestPlan, attempt: u8, answer: &AnswerPlan) -> String {
    let interim = |status| format!("HTTP/1.1 {status} Interim\r\nx-id: {}\r\n\r\n", plan.id);
    let heads: String = answer.interim.iter().map(interim).collect();
    heads + &answer_head(plan, attempt, answer)
}

fn answer_head(plan: &RequestPlan, attempt: u8, answer: &AnswerPlan) -> String {
    let mut head =
        format!("HTTP/1.1 {} Reason\r\nx-id: {}\r\nx-attempt: {attempt}\r\n", answer.status, plan.id);
    let closes = matches!(answer.after, After::Close);
    if answer.hop_fields {
        let option = if closes { "close" } else { "keep-alive" };
        head += &format!("Connection: x-hop, {option}\r\nX-Hop: 1\r\nKeep-Alive: timeout=5\r\n");
        head += "Proxy-Connection: keep-alive\r\n";
    } else if closes {
        head += "Connection: close\r\n";
    }
    head + &framing_line(&answer.body) + "\r\n"
}
