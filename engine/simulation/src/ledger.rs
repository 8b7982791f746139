//! What has happened so far? Written down by those who did it or saw it, in the order of the virtual clock.
//!
//! Never judges by itself, except that the first law broken is kept with the moment it broke at.

use std::collections::VecDeque;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::rc::Rc;
use std::sync::Arc;

use proxy::generation::Generation;
use runtime::Instant;

use crate::oracle::{Broken, Law};
use crate::plan::{RequestId, Scenario, Stop};
use crate::wire::Ended;

/// Events kept for the report of a broken law.
const EVENTS_KEPT: usize = 60;

/// Something that a peer did or saw.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Event {
    /// Client, by the number of its connection.
    Connected(usize),
    ConnectFailed(usize, String),
    Sends(RequestId),
    Sent(RequestId),
    SendFailed(RequestId),
    Stopped(RequestId, Stop),
    Interim(RequestId, u16),
    /// Status, and the delivery that an origin says it answers.
    Answer(RequestId, u16, Option<u8>),
    AnswerWhole(RequestId, u64),
    AnswerCut(RequestId, u64, String),
    ClientEnds(usize, String),
    /// Endpoint, and the number of the connection among all that origins accepted.
    Accepted(usize, usize),
    Reads(usize, RequestId, u8),
    ReadWhole(usize, RequestId, u8),
    ReadCut(usize, RequestId, u8),
    Answers(usize, RequestId, u8),
    Answered(usize, RequestId, u8),
    AnswerStopped(usize, RequestId, u8),
    OriginEnds(usize, String),
    Phase(&'static str),
    /// Control hands the cores the generation of this number.
    Renews(u64),
}

/// One time that a request reached an origin.
#[derive(Debug)]
pub(crate) struct Delivery {
    /// Who got it.
    pub(crate) endpoint: usize,
    /// Whether its connection had carried a request before.
    pub(crate) is_reused: bool,
    pub(crate) is_whole: bool,
    pub(crate) answer: AnswerSent,
}

/// How far an origin came with its answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum AnswerSent {
    Nothing,
    Partly,
    /// Every byte was handed to the network.
    Whole,
}

/// What a client got for a request.
#[derive(Debug)]
pub(crate) struct SeenAnswer {
    pub(crate) status: u16,
    /// The delivery that it answers; none when the engine answered by itself.
    pub(crate) attempt: Option<u8>,
    pub(crate) is_whole: bool,
    pub(crate) body_bytes: u64,
}

/// What is known of a request.
#[derive(Debug, Default)]
pub(crate) struct RequestRecord {
    pub(crate) begun_at: Option<Instant>,
    /// When its last byte was handed to the network.
    pub(crate) sent_at: Option<Instant>,
    /// Number of the oldest generation that may answer it.
    pub(crate) generation_min: u64,
    /// Whether it was answered by a later one.
    pub(crate) is_renewed: bool,
    pub(crate) interim: Vec<u16>,
    pub(crate) answer: Option<SeenAnswer>,
    pub(crate) deliveries: Vec<Delivery>,
}

/// What is known of a client's connection.
#[derive(Debug, Default)]
pub(crate) struct ClientRecord {
    pub(crate) is_connected: bool,
    /// An answer said that it is the last one, or was cut off.
    pub(crate) was_told: bool,
    pub(crate) ended: Option<Ended>,
    pub(crate) ended_at: Option<Instant>,
    /// When the last answer was read to its end.
    pub(crate) answered_at: Option<Instant>,
    pub(crate) bytes_sent: u64,
    pub(crate) bytes_received: u64,
}

/// What is known of a connection that an origin accepted.
#[derive(Debug)]
pub(crate) struct OriginRecord {
    pub(crate) requests: u32,
    /// The origin has sent bytes that nobody asked for.
    pub(crate) is_dirty: bool,
}

/// Everything that happened in one scenario.
pub(crate) struct Ledger {
    pub(crate) scenario: Rc<Scenario>,
    pub(crate) began_at: Instant,
    pub(crate) requests: Vec<Vec<RequestRecord>>,
    pub(crate) clients: Vec<ClientRecord>,
    pub(crate) origins: Vec<OriginRecord>,
    /// Client connections that are not over.
    pub(crate) clients_open: usize,
    /// Origin connections that are not over.
    pub(crate) origins_open: usize,
    /// All that there have been, where the configuration is renewed.
    pub(crate) generations: Vec<Arc<Generation>>,
    /// There is another to come.
    pub(crate) renews: bool,
    pub(crate) broken: Option<Broken>,
    pub(crate) events_count: u64,
    recent: VecDeque<(Instant, Event)>,
    hasher: DefaultHasher,
    prints: bool,
}

impl Ledger {
    /// `prints` shows every event as it comes.
    pub(crate) fn new(scenario: &Rc<Scenario>, began_at: Instant, prints: bool) -> Self {
        let records = |count: usize| (0..count).map(|_| RequestRecord::default()).collect();
        Self {
            requests: scenario.connections.iter().map(|plan| records(plan.requests.len())).collect(),
            clients: scenario.connections.iter().map(|_| ClientRecord::default()).collect(),
            origins: Vec::new(),
            clients_open: 0,
            origins_open: 0,
            generations: Vec::new(),
            renews: false,
            broken: None,
            events_count: 0,
            recent: VecDeque::new(),
            hasher: DefaultHasher::new(),
            prints,
            scenario: Rc::clone(scenario),
            began_at,
        }
    }

    pub(crate) fn note(&mut self, at: Instant, event: Event) {
        self.events_count += 1;
        at.hash(&mut self.hasher);
        event.hash(&mut self.hasher);
        if self.prints {
            println!("{}", self.line(at, &event));
        }
        if self.recent.len() == EVENTS_KEPT {
            self.recent.pop_front();
        }
        self.recent.push_back((at, event));
    }

    /// Keeps the first law that was broken.
    pub(crate) fn breaks(&mut self, at: Instant, law: Law, detail: impl Into<String>) {
        let detail = format!("{} (at {:.6} s)", detail.into(), self.seconds(at));
        if self.prints {
            println!("BROKEN {law:?}: {detail}");
        }
        if self.broken.is_some() {
            return;
        }
        let last_events = self.recent.iter().map(|(at, event)| self.line(*at, event)).collect();
        self.broken = Some(Broken { law, detail, last_events });
    }

    pub(crate) fn request(&mut self, id: RequestId) -> &mut RequestRecord {
        &mut self.requests[id.connection()][id.nth()]
    }

    /// A number that differs when anything happened otherwise or at another time.
    pub(crate) fn trace_hash(&self) -> u64 {
        self.hasher.finish()
    }

    fn line(&self, at: Instant, event: &Event) -> String {
        format!("{:>12.6}  {event:?}", self.seconds(at))
    }

    fn seconds(&self, at: Instant) -> f64 {
        at.since(self.began_at).as_secs_f64()
    }
}
