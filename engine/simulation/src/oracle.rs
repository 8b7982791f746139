//! Was anything mixed up, lost, repeated or invented? The laws, and the judgement over everything that was written down.
//!
//! Never lenient without a reason: what did not go well must be excused by something that a peer or the network did.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use runtime::Instant;

use crate::ledger::{AnswerSent, Ledger, RequestRecord, SeenAnswer};
use crate::plan::{
    AnswerPlan, Character, ClientEnd, ConnectionPlan, Destination, Fate, Network, Reading, RequestPlan,
    Scenario, Stop, Timing,
};
use crate::wire::Ended;

/// What must never happen, whatever peers and network do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Law {
    /// A client got an answer that belongs to a request of somebody else.
    AnswerOfAnother,
    /// A client got the answers to its pipelined requests in another order.
    AnswersOutOfOrder,
    /// A client got an answer, or part of one, that it had not asked for.
    AnswerUnasked,
    /// An answer differs from what the origin sent: its status, its length, a byte, a trailer.
    AnswerAltered,
    /// An answer breaks the rules of HTTP.
    AnswerMalformed,
    /// A sound answer to a sound request did not arrive, or not whole, though nothing failed.
    AnswerLost,
    /// The engine refused, or failed, a sound request though nothing failed.
    FailureInvented,
    /// An answer that its origin did not finish looks complete to the client.
    TruncationHidden,
    /// An interim answer that nobody sent, out of order, or to a client that cannot know it.
    InterimMisplaced,
    /// An origin got a request that no client sent.
    RequestInvented,
    /// An origin got a request that differs from what the client sent.
    RequestAltered,
    /// An origin got something that breaks the rules of HTTP.
    RequestMalformed,
    /// An origin saw the end of a request whose client had not finished it.
    IncompleteCompleted,
    /// A request that no recipient may accept was passed on or answered as if it were one.
    AttackPassed,
    /// A request with effects reached origins twice.
    RepeatedWithEffect,
    /// A request reached origins more than twice.
    RepeatedTooOften,
    /// A request was repeated although its first delivery may have been answered.
    RepeatedWithoutCause,
    /// A connection that had bytes nobody asked for carried another request.
    DirtyConnectionReused,
    /// More than a configured limit was passed on or answered.
    LimitIgnored,
    /// A field that is meant for one hop was passed on.
    HopByHopPassed,
    /// A connection or an answer came later, or an end earlier, than the deadlines say.
    DeadlineMissed,
    /// A clean request after the storm was not answered by its origin.
    Unserved,
    /// A request was answered by a configuration that had been renewed everywhere before it began.
    GenerationStale,
    /// Tasks, sockets or buffers were left when everything was over.
    Leak,
    /// A counter disagrees with what peers saw.
    CounterWrong,
    /// A core or a task of it panicked.
    Panicked,
    /// The engine did not come to rest, or to its end.
    Restless,
}

/// A law that was broken.
#[derive(Clone, Debug)]
pub struct Broken {
    /// Which one.
    pub law: Law,
    /// By what.
    pub detail: String,
    /// What happened before, oldest first.
    pub last_events: Vec<String>,
}

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}: {}", self.law, self.detail)
    }
}

/// How often each outcome, fault and law was met; what shows that a sweep was not empty.
#[derive(Clone, Debug, Default)]
pub struct Tally(BTreeMap<String, u64>);

impl Tally {
    pub(crate) fn add(&mut self, what: impl Into<String>, count: u64) {
        if count > 0 {
            *self.0.entry(what.into()).or_default() += count;
        }
    }

    /// Takes another tally's counts in.
    pub fn merge(&mut self, other: &Self) {
        for (what, count) in &other.0 {
            *self.0.entry(what.clone()).or_default() += count;
        }
    }

    /// How often `what` was met.
    #[must_use]
    pub fn of(&self, what: &str) -> u64 {
        self.0.get(what).copied().unwrap_or(0)
    }

    /// Everything that was met, by name.
    pub fn iter(&self) -> impl Iterator<Item = (&str, u64)> {
        self.0.iter().map(|(what, count)| (what.as_str(), *count))
    }
}

/// What the engine counted of a whole scenario, over all of its cores.
#[derive(Debug, Default)]
pub(crate) struct Counted {
    pub(crate) accepted: u64,
    pub(crate) requests: u64,
    pub(crate) bytes_received: u64,
    pub(crate) bytes_sent: u64,
    pub(crate) channel_requests: u64,
    /// By first digit of the status, from 1.
    pub(crate) responses: [u64; 5],
    pub(crate) endpoint_requests: u64,
    pub(crate) connections_opened: u64,
    pub(crate) faults: BTreeMap<&'static str, u64>,
    /// Gauges that must be zero at rest, by name.
    pub(crate) gauges: Vec<(&'static str, u64)>,
}

/// Judges a scenario that is over; tells what was met in it.
pub(crate) fn judge(ledger: &mut Ledger, counted: &Counted, now: Instant) -> Tally {
    let mut tally = Tally::default();
    let scenario = std::rc::Rc::clone(&ledger.scenario);
    let mut broken = Vec::new();
    for (number, connection) in scenario.connections.iter().enumerate() {
        judge_connection(ledger, connection, number, &mut broken, &mut tally);
        for request in &connection.requests {
            judge_request(ledger, &scenario, connection, request, &mut broken, &mut tally);
        }
    }
    judge_counters(ledger, counted, &mut broken, &mut tally);
    for (law, detail) in broken {
        ledger.breaks(now, law, detail);
    }
    tally
}

/// What was renewed, where anything was.
pub(crate) fn tally_generations(ledger: &Ledger, tally: &mut Tally) {
    let renewed = ledger.generations.len().saturating_sub(1) as u64;
    tally.add("generation.renewed", renewed);
    let requests = ledger.requests.iter().flatten();
    tally.add("generation.by_another", requests.filter(|request| request.is_renewed).count() as u64);
}

type Breaches = Vec<(Law, String)>;

fn judge_connection(
    ledger: &Ledger,
    plan: &ConnectionPlan,
    number: usize,
    broken: &mut Breaches,
    tally: &mut Tally,
) {
    let record = &ledger.clients[number];
    let scenario = &ledger.scenario;
    let Some(ended) = &record.ended else {
        tally.add(if record.is_connected { "connection.vanished" } else { "connection.refused" }, 1);
        return;
    };
    tally.add(
        match ended {
            Ended::Closed => "connection.closed",
            Ended::Broken(_) => "connection.broken",
            Ended::Late => "connection.late",
            Ended::Garbled(_) => "connection.garbled",
        },
        1,
    );
    let answers = ledger.requests[number].iter().filter(|request| request.answer.is_some()).count();
    if let Some(limit) = scenario.limits.requests {
        tally.add(if answers == limit { "limit.requests_met" } else { "limit.requests_kept" }, 1);
        if answers > limit {
            broken
                .push((Law::LimitIgnored, format!("{answers} answers on connection {number}, not {limit}")));
        }
    }
    if scenario.may_fail_at(number) {
        return;
    }
    if *ended == Ended::Late {
        broken.push((Law::DeadlineMissed, format!("connection {number} was left waiting")));
    }
    let is_all_answered = ledger.requests[number].iter().all(|request| request.answer.is_some());
    let Some((last, end)) = record.answered_at.zip(record.ended_at) else { return };
    // Whoever reads late does not know when the engine was done.
    let is_prompt = plan.reading == Reading::Prompt && plan.requests.iter().all(RequestPlan::is_whole);
    if plan.end == ClientEnd::Idle
        && is_prompt
        && is_all_answered
        && !record.was_told
        && *ended == Ended::Closed
    {
        let (idle, slack) = (scenario.times.idle, Duration::from_secs(3));
        let waited = end.since(last);
        if waited + slack < idle || waited > idle + slack {
            broken.push((Law::DeadlineMissed, format!("connection {number} idled {waited:?} of {idle:?}")));
        }
        tally.add("deadline.idle", 1);
    }
}

fn judge_request(
    ledger: &Ledger,
    scenario: &Scenario,
    connection: &ConnectionPlan,
    plan: &RequestPlan,
    broken: &mut Breaches,
    tally: &mut Tally,
) {
    let record = &ledger.requests[plan.id.connection()][plan.id.nth()];
    if record.begun_at.is_none() {
        return tally.add("request.not_begun", 1);
    }
    match plan.fate {
        Fate::Whole => tally.add("request.whole", 1),
        Fate::Stops { how, .. } => tally.add(
            match how {
                Stop::Vanish => "request.vanishes",
                Stop::HalfClose => "request.half_closes",
                Stop::Stall => "request.stalls",
            },
            1,
        ),
        Fate::Hostile(attack) => tally.add(format!("attack.{}", attack.name()), 1),
    }
    tally.add(format!("delivered.{}_times", record.deliveries.len()), 1);
    for (delivery, answer) in record.deliveries.iter().zip(&plan.answers) {
        tally_answer_plan(answer, delivery.answer, tally);
    }
    tally.add(outcome_of(record), 1);
    if scenario.is_too_large(plan) {
        tally.add("limit.body_exceeded", 1);
        if record.deliveries.iter().any(|delivery| delivery.is_whole) {
            let (bytes, limit) = (plan.body.bytes, scenario.limits.body_bytes);
            broken.push((Law::LimitIgnored, format!("{bytes} bytes of {}, {limit:?} allowed", plan.id)));
        }
    }
    if let Some(answer) = &record.answer {
        judge_answer(scenario, plan, record, answer, broken);
    }
    if !scenario.may_fail_at(plan.id.connection()) {
        judge_unexcused(ledger, scenario, connection, plan, record, broken, tally);
    }
}

/// What became of a request, for the table.
fn outcome_of(record: &RequestRecord) -> String {
    match &record.answer {
        None => "outcome.unanswered".to_owned(),
        Some(SeenAnswer { attempt: Some(_), is_whole: true, .. }) => "outcome.answered".to_owned(),
        Some(SeenAnswer { attempt: Some(_), .. }) => "outcome.cut".to_owned(),
        Some(SeenAnswer { status, .. }) => format!("outcome.own_{status}"),
    }
}

fn tally_answer_plan(answer: &AnswerPlan, sent: AnswerSent, tally: &mut Tally) {
    use crate::plan::{After, Defect};

    let defect = match answer.defect {
        None if sent == AnswerSent::Whole => "origin.sound",
        None => "origin.interrupted",
        Some(Defect::NoAnswer) => "origin.no_answer",
        Some(Defect::NeverAnswers) => "origin.never_answers",
        Some(Defect::Truncated { .. }) => "origin.truncated",
        Some(Defect::Stalls { .. }) => "origin.stalls",
        Some(Defect::BrokenHead(_)) => "origin.broken_head",
        Some(Defect::BrokenChunk) => "origin.broken_chunk",
        Some(Defect::Switches) => "origin.switches",
    };
    tally.add(defect, 1);
    match answer.timing {
        Timing::AfterRequest => {}
        Timing::Early => tally.add("origin.early", 1),
        Timing::EarlyAndGone => tally.add("origin.early_and_gone", 1),
    }
    match answer.after {
        After::Keep => {}
        After::Close => tally.add("origin.closes", 1),
        After::CloseQuietly => tally.add("origin.closes_quietly", 1),
        After::CloseOnNext => tally.add("origin.closes_on_next", 1),
        After::Unsolicited { .. } => tally.add("origin.unsolicited", 1),
    }
}

/// What holds for every answer that came, whatever else happened.
fn judge_answer(
    scenario: &Scenario,
    plan: &RequestPlan,
    record: &RequestRecord,
    answer: &SeenAnswer,
    broken: &mut Breaches,
) {
    let id = plan.id;
    if let Fate::Hostile(attack) = plan.fate {
        // Where the head is fine, an origin may answer before the rest shows what it is.
        let may_be_early = attack.may_reach_origin() && plan.answers[0].timing != Timing::AfterRequest;
        if (answer.attempt.is_some() || answer.status < 400) && !may_be_early {
            broken.push((Law::AttackPassed, format!("{attack:?} was answered {} as {id}", answer.status)));
        }
    }
    let Some(attempt) = answer.attempt else {
        let is_ours = match plan.destination {
            Destination::Respond => answer.status == scenario.respond.status,
            _ => false,
        };
        if !is_ours && !(400..600).contains(&answer.status) {
            broken.push((Law::AnswerOfAnother, format!("{} of nobody to {id}", answer.status)));
        }
        return;
    };
    let Some((delivery, planned)) =
        record.deliveries.get(usize::from(attempt)).zip(plan.answers.get(usize::from(attempt)))
    else {
        return broken.push((Law::AnswerOfAnother, format!("delivery {attempt} of {id} never was")));
    };
    let mut interim = planned.interim.to_vec();
    if plan.expects_continue && planned.timing == Timing::AfterRequest {
        interim.insert(0, 100);
    }
    if plan.is_http10 {
        interim.clear();
    }
    if record.interim != interim {
        broken.push((Law::InterimMisplaced, format!("{:?} instead of {interim:?} to {id}", record.interim)));
    }
    if !answer.is_whole {
        return;
    }
    let has_body = !plan.answer_has_no_body(answer.status);
    let is_complete = !has_body || answer.body_bytes == planned.body.bytes;
    if !is_complete || delivery.answer != AnswerSent::Whole || !planned.is_sound() {
        let got = answer.body_bytes;
        broken.push((
            Law::TruncationHidden,
            format!("{got} of {} bytes to {id} look whole", planned.body.bytes),
        ));
    }
}

/// What must have happened because nothing excuses anything else.
fn judge_unexcused(
    ledger: &Ledger,
    scenario: &Scenario,
    connection: &ConnectionPlan,
    plan: &RequestPlan,
    record: &RequestRecord,
    broken: &mut Breaches,
    tally: &mut Tally,
) {
    let id = plan.id;
    // The rest of such a body is read for a while only, so that its connection may break.
    let is_too_large = |request: &RequestPlan| scenario.is_too_large(request);
    if is_client_excused(connection, plan) || connection.requests[..=id.nth()].iter().any(is_too_large) {
        return;
    }
    let Some(answer) = &record.answer else {
        // The answer before was the last one, and said so.
        if !ledger.clients[id.connection()].was_told {
            broken.push((Law::AnswerLost, format!("{id} was not answered at all")));
        }
        return;
    };
    if is_origin_excused(scenario, plan, record) {
        return;
    }
    tally.add("judged.strictly", 1);
    let law = if scenario.is_probe(id.connection()) { Law::Unserved } else { Law::FailureInvented };
    let (status, attempt) = (answer.status, answer.attempt);
    match (plan.destination, attempt) {
        (Destination::Upstream(_), None) => broken.push((law, format!("{status} of ours to {id}"))),
        (Destination::Respond, _) if status != scenario.respond.status => {
            broken.push((law, format!("{status} instead of {} to {id}", scenario.respond.status)));
        }
        (Destination::Nowhere, _) if status != 404 => {
            broken.push((law, format!("{status} instead of 404 to {id}")));
        }
        _ if !answer.is_whole => broken.push((Law::AnswerLost, format!("the answer to {id} was cut off"))),
        _ => {}
    }
}

/// Whether the client's own doing explains that a request failed.
fn is_client_excused(connection: &ConnectionPlan, plan: &RequestPlan) -> bool {
    let is_early = |request: &RequestPlan| {
        request.body.bytes > 0 && request.answers.iter().any(|answer| answer.timing != Timing::AfterRequest)
    };
    let vanishes = |request: &RequestPlan| matches!(request.fate, Fate::Stops { how: Stop::Vanish, .. });
    !plan.is_whole()
        || connection.end == ClientEnd::Vanish
        || matches!(connection.reading, Reading::Stalls { .. })
        || connection.requests.iter().any(vanishes)
        || connection.requests[..=plan.id.nth()].iter().any(is_early)
}

/// Whether an origin's doing explains that a request failed.
fn is_origin_excused(scenario: &Scenario, plan: &RequestPlan, record: &RequestRecord) -> bool {
    if !matches!(plan.destination, Destination::Upstream(_)) {
        return false;
    }
    let mut answers = plan.answers.iter().take(record.deliveries.len().max(1));
    if answers.any(|answer| !answer.is_sound() || answer.timing == Timing::EarlyAndGone) {
        return true;
    }
    if scenario.total_timeout.is_some() {
        return true;
    }
    let is_neighbour = |other: &&RequestPlan| other.destination == plan.destination && other.id != plan.id;
    let may_be_spoiled =
        scenario.requests().filter(is_neighbour).any(|other| other.answers[0].spoils_connection());
    // A kept connection that died may have taken the request along; one without a body is sent again.
    let is_repeatable =
        plan.method.is_idempotent() && plan.body.bytes == 0 && scenario.network == Network::Calm;
    may_be_spoiled && !is_repeatable && !scenario.is_probe(plan.id.connection())
}

/// What the engine counted must be what peers saw.
fn judge_counters(ledger: &Ledger, counted: &Counted, broken: &mut Breaches, tally: &mut Tally) {
    for (name, count) in &counted.faults {
        tally.add(format!("fault.{name}"), *count);
    }
    let mut must_be = |name: &str, counted: u64, seen: u64| {
        if counted != seen {
            broken.push((Law::CounterWrong, format!("{name}: {counted} counted, {seen} seen")));
        }
    };
    for (name, value) in &counted.gauges {
        must_be(name, *value, 0);
    }
    if ledger.scenario.character != Character::Clean {
        return;
    }
    tally.add("counters.exact", 1);
    let answers = || ledger.requests.iter().flatten().filter_map(|request| request.answer.as_ref());
    let requests = || ledger.scenario.requests().zip(ledger.requests.iter().flatten());
    let nowhere = requests()
        .filter(|(plan, record)| plan.destination == Destination::Nowhere && record.answer.is_some())
        .count() as u64;
    let answered = answers().count() as u64;
    let clients = || ledger.clients.iter();
    must_be("accepted", counted.accepted, clients().filter(|client| client.is_connected).count() as u64);
    must_be("requests", counted.requests, answered);
    must_be("bytes_received", counted.bytes_received, clients().map(|client| client.bytes_sent).sum());
    must_be("bytes_sent", counted.bytes_sent, clients().map(|client| client.bytes_received).sum());
    must_be("channel requests", counted.channel_requests, answered - nowhere);
    for class in 1..=5 {
        let mut seen = answers().filter(|answer| answer.status / 100 == class).count() as u64;
        if class == 4 {
            seen -= nowhere;
        }
        must_be(&format!("responses {class}xx"), counted.responses[usize::from(class) - 1], seen);
    }
    let deliveries: usize = ledger.requests.iter().flatten().map(|request| request.deliveries.len()).sum();
    must_be("endpoint requests", counted.endpoint_requests, deliveries as u64);
    must_be("connections opened", counted.connections_opened, ledger.origins.len() as u64);
    for (name, count) in &counted.faults {
        must_be(name, *count, if *name == "no_channel" { nowhere } else { 0 });
    }
}
