//! How does a client's connection become a private one? It waits for a first word, for a place, and for its part of the core.
//!
//! Never lets those who come keep waiting those who are here: a handshake computes, and strangers ask for it, so there is a
//! bound to how many are in progress, to how many wait for that, and to what they take of a turn.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::future::poll_fn;
use std::net::SocketAddr;
use std::pin::pin;
use std::rc::Rc;
use std::time::Duration;

use arrayvec::ArrayVec;
use config::snapshot::{Listener, ListenerId, Protocol, Snapshot};
use proto::http1::answer::{ANSWER_BYTES_MAX, AnswerPlan, answer_head};
use runtime::{Core, Instant, Stream};
use rustls::{HandshakeKind, ProtocolVersion};
use tls::{Handshake, HandshakeError, TlsStream};

use crate::client::{Client, Open, linger, serve_if_asked};
use crate::core_main::CoreState;
use crate::handshake_fault::{HandshakeFault, is_http};
use crate::identity::Identity;
use crate::preface::Told;
use crate::stats::ListenerCounters;
use crate::wire::Wire;

/// Clients of one listener that wait on one core for a place; each holds a socket and its place in the line.
const WAITING_MAX: usize = 4096;
/// How much of a turn handshakes may take. A step that has begun is done: a signature takes from 20 µs (ECDSA P-256) to 2 ms
/// (RSA-4096), as decision 0015 measured.
const COMPUTING_PER_TURN: Duration = Duration::from_micros(250);

/// What a client is told that speaks HTTP in the clear where TLS is spoken.
const PLAIN_HTTP: &str = "This port speaks HTTPS: ask again with https:// in place of http://.\n";

/// A client that has said something and has not been heard.
struct Newcomer {
    stream: Stream,
    peer: SocketAddr,
    told: Option<Box<Told>>,
    /// What it has said, if that came with something else.
    early: Vec<u8>,
    open: Open,
    /// When it must have become a private connection.
    deadline: Instant,
}

/// The handshakes of one core.
pub(crate) struct Handshakes {
    /// By [`ListenerId`].
    doors: Box<[Door]>,
    /// The turn in which handshakes have computed last, and for how long.
    turn: Cell<Instant>,
    computed: Cell<Duration>,
}

/// Those of one listener.
#[derive(Default)]
struct Door {
    in_progress: Cell<u32>,
    waiting: RefCell<VecDeque<Newcomer>>,
    /// A task sees to it that who waits too long is sent away.
    is_watched: Cell<bool>,
}

impl Handshakes {
    pub(crate) fn new(snapshot: &Snapshot) -> Self {
        Self {
            doors: snapshot.listeners.iter().map(|_| Door::default()).collect(),
            turn: Cell::new(Instant::from_nanos(0)),
            computed: Cell::new(Duration::ZERO),
        }
    }

    fn door(&self, listener: ListenerId) -> &Door {
        &self.doors[usize::from(listener.0)]
    }

    /// Lets a future compute when it is its turn: those that were ready before it come first.
    async fn compute<T>(&self, core: &Core, step: impl Future<Output = T>) -> T {
        while self.turn.get() == core.turn_time() && self.computed.get() >= COMPUTING_PER_TURN {
            core.yield_now().await;
        }
        let mut step = pin!(step);
        poll_fn(|context| {
            let began = core.now();
            let outcome = step.as_mut().poll(context);
            let before = if self.turn.replace(core.turn_time()) == core.turn_time() {
                self.computed.get()
            } else {
                Duration::ZERO
            };
            self.computed.set(before + core.now().since(began));
            outcome
        })
        .await
    }
}

/// Begins a handshake with a client whose first bytes are there, or lets it wait for a place.
pub(crate) fn begin(state: &Rc<CoreState>, client: Client, deadline: Instant) {
    let Client { stream: Wire::Plain(stream), peer, told, unread, open, .. } = client else { return };
    // In memory of its own size: a place may be long in coming.
    let early = unread.map_or_else(Vec::new, |chunk| chunk.to_vec());
    let newcomer = Newcomer { stream, peer, told, early, open, deadline };
    let id = newcomer.open.listener();
    let Protocol::Https(settings) = &state.listener(id).protocol else { return };
    let door = state.handshakes.door(id);
    if door.in_progress.get() < settings.handshakes_max {
        return start(state, door, newcomer);
    }
    let mut waiting = door.waiting.borrow_mut();
    if waiting.len() >= WAITING_MAX {
        return count_fault(state, &newcomer.open, HandshakeFault::TooMany);
    }
    waiting.push_back(newcomer);
    if !door.is_watched.replace(true) {
        state.core.spawn(watch(Rc::clone(state), id));
    }
}

/// Counts a client that never said a word.
pub(crate) fn count_silence(state: &CoreState, open: &Open) {
    count_fault(state, open, HandshakeFault::TimedOut);
}

fn start(state: &Rc<CoreState>, door: &Door, newcomer: Newcomer) {
    door.in_progress.set(door.in_progress.get() + 1);
    state.core.spawn(welcome(Rc::clone(state), newcomer));
}

/// Sends those away who wait for a place longer than they may, until nobody waits.
async fn watch(state: Rc<CoreState>, id: ListenerId) {
    let door = state.handshakes.door(id);
    loop {
        let now = state.core.now();
        let next = {
            let mut waiting = door.waiting.borrow_mut();
            waiting.retain(|newcomer| {
                let is_late = newcomer.deadline <= now;
                if is_late {
                    count_fault(&state, &newcomer.open, HandshakeFault::TimedOut);
                }
                !is_late
            });
            waiting.iter().map(|newcomer| newcomer.deadline).min()
        };
        let Some(deadline) = next else { break };
        state.core.sleep_until(deadline).await;
    }
    door.is_watched.set(false);
}

/// A place at a listener's door, given back when dropped.
struct Place<'a>(&'a Door, &'a ListenerCounters);

impl<'a> Place<'a> {
    fn new(door: &'a Door, counters: &'a ListenerCounters) -> Self {
        counters.handshakes_open.add(1);
        Self(door, counters)
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.0.in_progress.set(self.0.in_progress.get() - 1);
        self.1.handshakes_open.sub(1);
    }
}

/// Agrees with one client, gives its place to the next who waits, and serves it.
async fn welcome(state: Rc<CoreState>, newcomer: Newcomer) {
    let id = newcomer.open.listener();
    let door = state.handshakes.door(id);
    let Newcomer { stream, peer, told, early, open, deadline } = newcomer;
    stream.set_deadline(deadline);
    let outcome = {
        let _place = Place::new(door, &state.stats.listeners[usize::from(id.0)]);
        agree(&state, stream, early, id).await
    };
    let next = door.waiting.borrow_mut().pop_front();
    if let Some(next) = next {
        start(&state, door, next);
    }
    match outcome {
        Ok(stream) => greet(state, stream, peer, told, open),
        Err(refused) => {
            count_fault(&state, &open, HandshakeFault::of(&refused.error));
            if let Some(stream) = refused.stream
                && matches!(&refused.error, HandshakeError::NotTls(first) if is_http(first))
            {
                drop(refused.error);
                let client = Client::new(Wire::Plain(stream), peer, open);
                explain(&state, client).await;
            }
        }
    }
}

/// A handshake that failed, and the connection where it is still good for something.
struct Refused {
    error: HandshakeError,
    stream: Option<Stream>,
}

impl From<HandshakeError> for Refused {
    fn from(error: HandshakeError) -> Self {
        Self { error, stream: None }
    }
}

async fn agree(
    state: &CoreState,
    stream: Stream,
    early: Vec<u8>,
    id: ListenerId,
) -> Result<TlsStream, Refused> {
    let Some(config) = state.private.listener(id) else { return Err(HandshakeError::Ended.into()) };
    let mut handshake = Handshake::server_behind(stream, config, early)?;
    while handshake.wait().await? {
        if let Err(error) = state.handshakes.compute(&state.core, handshake.step()).await {
            let stream = matches!(error, HandshakeError::NotTls(_)).then(|| handshake.into_plain());
            return Err(Refused { error, stream });
        }
    }
    Ok(handshake.finish())
}

/// Makes a client of a private connection; its first request is often there already.
fn greet(state: Rc<CoreState>, stream: TlsStream, peer: SocketAddr, told: Option<Box<Told>>, open: Open) {
    count_agreement(open.counters(), &stream);
    let listener = state.listener(open.listener());
    let identity = asks_for_certificates(listener)
        .then(|| Box::new(Identity::of(&stream, listener.forwarding.client_certificate)));
    stream.set_recv_deadline(state.core.turn_time() + listener.timeouts.idle);
    let mut client = Client::new(Wire::Private(stream), peer, open);
    (client.told, client.identity) = (told, identity);
    let core = state.core.clone();
    core.spawn(serve_if_asked(state, client));
}

fn asks_for_certificates(listener: &Listener) -> bool {
    matches!(&listener.protocol, Protocol::Https(settings) if settings.client_auth.is_some())
}

fn count_agreement(counters: &ListenerCounters, stream: &TlsStream) {
    let is_resumed = stream.handshake_kind() == Some(HandshakeKind::Resumed);
    let counter = match (stream.version(), is_resumed) {
        (Some(ProtocolVersion::TLSv1_3), false) => &counters.handshakes_tls13,
        (Some(ProtocolVersion::TLSv1_3), true) => &counters.resumptions_tls13,
        (_, false) => &counters.handshakes_tls12,
        (_, true) => &counters.resumptions_tls12,
    };
    counter.add(1);
}

fn count_fault(state: &CoreState, open: &Open, fault: HandshakeFault) {
    // Who had not said anything when a drain closed the door has failed at nothing.
    if fault == HandshakeFault::TimedOut && state.closes(open.listener()) {
        return;
    }
    open.counters().handshakes_failed.add(1);
    state.stats.handshake_faults[fault.index()].add(1);
}

/// Tells a client that speaks HTTP in the clear where it is. As nginx and others do, since a closed connection would tell
/// nobody.
async fn explain(state: &CoreState, client: Client) {
    let date = state.date.now(&state.core);
    let plan =
        AnswerPlan { keep_alive: false, head_only: false, retry_after_seconds: None, date: Some(&date) };
    let mut answer = ArrayVec::<u8, ANSWER_BYTES_MAX>::new();
    let written = answer_head(400, "text/plain; charset=utf-8", PLAIN_HTTP.len(), &plan, &mut answer);
    written.expect("a short content type");
    let text = [&answer, PLAIN_HTTP.as_bytes()].concat();
    client.stream.set_send_deadline(state.core.turn_time() + client.settings(state).timeouts.send);
    if client.stream.send_all(&text).await.is_ok() {
        client.counters().bytes_sent.add(text.len() as u64);
        linger(state, client).await;
    }
}
