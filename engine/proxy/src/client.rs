//! What becomes of a client's connection between its requests? Parked, served, drained, closed.
//!
//! Never holds a buffer for a connection that waits for its next request, nor a task for long: a busy connection
//! keeps its task for a moment, because the next request is usually on its way; then it is parked.

use std::cell::{Cell, OnceCell, RefCell};
use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use arrayvec::ArrayString;
use config::snapshot::{Listener, ListenerId};
use proto::http1::head::EMPTY_LINES_MAX;
use runtime::{Chunk, Core, Instant, ParkEvent, Stream};

use crate::access::Noted;
use crate::admission::Permit;
use crate::commons::Place;
use crate::core_main::CoreState;
use crate::exchange::exchange;
use crate::handshake;
use crate::identity::Identity;
use crate::listener;
use crate::outcome::{Fault, fault_of};
use crate::preface::{self, Told};
use crate::request::address_text;
use crate::stats::{CoreStats, ListenerCounters};
use crate::upgrade::{self, Switched};
use crate::wire::{ParkedWire, Wire};

/// How long a task waits for its client's next request before the connection is parked.
const WAIT_IN_TASK: Duration = Duration::from_millis(100);
/// Tasks of one core that may wait so; with a few KiB each they stay far below the buffers.
const WAITING_TASKS_MAX: u32 = 256;
/// How long an idle connection stays open once the core drains: longer than a packet takes around the world, so that a
/// request which was on its way when the drain began is answered and not reset.
pub(crate) const LAST_WAIT: Duration = Duration::from_millis(200);
/// How long a connection that is closed with unread bytes goes on being read, so that the kernel does not answer
/// them with a reset that would overtake our last answer (RFC 9112 §9.6).
const LINGER_MAX: Duration = Duration::from_secs(2);
/// Bytes read and dropped meanwhile, at most.
const LINGER_BYTES_MAX: usize = 1 << 20;

/// A client's connection while it is served.
pub(crate) struct Client {
    pub(crate) stream: Wire,
    /// The client: the other end, or whom a trusted proxy there speaks for.
    pub(crate) peer: SocketAddr,
    /// What that proxy said besides.
    pub(crate) told: Option<Box<Told>>,
    /// Bytes received beyond the last request: the next one, or its beginning.
    pub(crate) unread: Option<Chunk>,
    /// Requests begun on this connection.
    pub(crate) requests: u64,
    /// Requests in a row that were there before the one ahead of them was answered.
    pub(crate) pipelined: u32,
    pub(crate) open: Open,
    /// Who it is, and for which host, where clients are asked for certificates.
    pub(crate) identity: Option<Box<Identity>>,
    /// What logs want of its exchange.
    pub(crate) note: Noted,
    /// The text of its address, once it was asked for.
    address: OnceCell<ArrayString<46>>,
}

/// Counts an open connection of a listener, however it ends.
pub(crate) struct Open {
    counters: Arc<ListenerCounters>,
    listener: ListenerId,
    /// Held as long as the connection is open.
    permit: Option<Permit>,
}

impl Open {
    pub(crate) fn new(stats: &Arc<CoreStats>, listener: ListenerId, permit: Option<Permit>) -> Self {
        let counters = Arc::clone(&stats.listeners[usize::from(listener.0)]);
        counters.connections_open.add(1);
        Self { counters, listener, permit }
    }

    pub(crate) fn listener(&self) -> ListenerId {
        self.listener
    }

    /// The connection is one of this listener of a newer generation from now on; of this client, once that is known.
    pub(crate) fn pass_on(&mut self, state: &CoreState, listener: ListenerId, peer: Option<SocketAddr>) {
        let counters = &state.stats.listeners[usize::from(listener.0)];
        if !Arc::ptr_eq(&self.counters, counters) {
            counters.connections_open.add(1);
            self.counters.connections_open.sub(1);
            self.counters = Arc::clone(counters);
        }
        self.permit = state.admission.carry(self.permit.take(), listener, peer.map(|peer| peer.ip()));
        self.listener = listener;
    }

    pub(crate) fn counters(&self) -> &ListenerCounters {
        &self.counters
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.counters().connections_open.sub(1);
    }
}

/// What a connection does after an exchange.
pub(crate) enum Next {
    /// Serves another request.
    Keep,
    /// Ends; everything the client sent has been read.
    Close,
    /// Ends although the client may be sending: its bytes are read and dropped for a while.
    Linger,
    /// Ends at once, with a reset: its last answer must not look whole.
    Cut,
    /// Is not HTTP any more.
    Switch(Box<Switched>),
}

/// A connection that waits without a task.
struct Waiting {
    state: Rc<CoreState>,
    parked: ParkedWire,
    peer: SocketAddr,
    told: Option<Box<Told>>,
    open: Open,
    what: WaitsFor,
}

/// What it waits for.
pub(crate) enum WaitsFor {
    /// The next request, the first included.
    Request { requests: u64, identity: Option<Box<Identity>> },
    /// The first word of a TLS client, whose hello or handshake is then to be over by the deadline.
    Hello { deadline: Instant },
    /// The first byte of a PROXY header, likewise.
    Header { deadline: Instant },
}

/// The connections of one core that wait without a task. The index is the tag they are parked under.
#[derive(Default)]
pub(crate) struct Clients {
    waiting: RefCell<Vec<Option<Waiting>>>,
    free: RefCell<Vec<u32>>,
}

impl Client {
    pub(crate) fn new(stream: Wire, peer: SocketAddr, open: Open) -> Self {
        Self {
            stream,
            peer,
            told: None,
            unread: None,
            requests: 0,
            pipelined: 0,
            open,
            identity: None,
            note: Noted::default(),
            address: OnceCell::new(),
        }
    }

    pub(crate) fn listener(&self) -> ListenerId {
        self.open.listener
    }

    /// The client's address as text, without port; empty if it has none.
    #[inline]
    pub(crate) fn address(&self) -> &str {
        self.address.get_or_init(|| address_text(self.peer))
    }

    pub(crate) fn settings<'a>(&self, state: &'a CoreState) -> &'a Listener {
        state.listener(self.open.listener)
    }

    /// What this core counts of the listener.
    pub(crate) fn counters(&self) -> &ListenerCounters {
        self.open.counters()
    }

    /// Counts the connection as one of [`Client::peer`], which was not known when it was let in; false if that has as many as
    /// it may have.
    pub(crate) fn name_permit(&mut self) -> bool {
        let named = self.open.permit.as_mut().map_or(Ok(()), |permit| permit.name(self.peer.ip()));
        if named.is_err() {
            self.counters().over_connections_per_address.add(1);
        }
        named.is_ok()
    }

    /// Whether the connection ends with the exchange it carries: because the core drains, or the client has had its
    /// share.
    pub(crate) fn is_last_exchange(&self, state: &CoreState) -> bool {
        let limits = &self.settings(state).limits;
        self.requests >= limits.requests_max
            || self.pipelined >= limits.pipelined_max
            || state.closes(self.open.listener)
    }

    /// Waits for the next request without a task.
    pub(crate) fn park(mut self, state: &Rc<CoreState>) {
        let state = &match state.place(&mut self.open, Some(self.peer)) {
            Place::Here => Rc::clone(state),
            Place::There(newer) => newer,
            Place::Nowhere => return,
        };
        let idle_timeout = self.settings(state).timeouts.idle;
        let is_last_wait = state.closes(self.open.listener);
        let timeout = if is_last_wait { idle_timeout.min(LAST_WAIT) } else { idle_timeout };
        self.stream.set_recv_deadline(state.core.turn_time() + timeout);
        self.park_again(state);
    }

    /// Goes on waiting, as long as was left.
    fn park_again(mut self, state: &Rc<CoreState>) {
        let what = WaitsFor::Request { requests: self.requests, identity: self.identity.take() };
        state.commons.clients.add(state, self, what);
    }

    /// Waits without a task for what comes before requests; a drain leaves it as little time as any other.
    pub(crate) fn park_until(self, state: &Rc<CoreState>, deadline: Instant, what: WaitsFor) {
        let last = state.core.turn_time() + LAST_WAIT;
        let is_last_wait = state.closes(self.open.listener);
        self.stream.set_recv_deadline(if is_last_wait { deadline.min(last) } else { deadline });
        state.commons.clients.add(state, self, what);
    }
}

impl Clients {
    fn add(&self, state: &Rc<CoreState>, client: Client, what: WaitsFor) {
        let Client { stream, peer, told, open, .. } = client;
        let index = self.free.borrow_mut().pop();
        let mut waiting = self.waiting.borrow_mut();
        let index = index.unwrap_or_else(|| {
            waiting.push(None);
            waiting.len() as u32 - 1
        });
        let state = Rc::clone(state);
        waiting[index as usize] = Some(Waiting { state, parked: stream.park(index), peer, told, open, what });
    }

    /// A parked connection came back.
    pub(crate) fn wake(&self, stream: Stream, tag: u32, event: ParkEvent) {
        let waiting = self.waiting.borrow_mut()[tag as usize].take();
        let Some(Waiting { state, parked, peer, told, open, what }) = waiting else { return };
        self.free.borrow_mut().push(tag);
        let parked = parked.wake(stream);
        if event == ParkEvent::Deadline {
            return sleep_is_over(&state, &parked, &open, &what);
        }
        let mut client = Client { told, ..Client::new(parked, peer, open) };
        match what {
            WaitsFor::Request { requests, identity } => {
                client.requests = requests;
                client.identity = identity;
                let core = state.core.clone();
                if client.stream.is_private() {
                    core.spawn(serve_if_asked(state, client));
                } else {
                    core.spawn(serve(state, client));
                }
            }
            WaitsFor::Hello { deadline } => listener::hear_hello(&state, client, deadline),
            WaitsFor::Header { deadline } => {
                let core = state.core.clone();
                core.spawn(preface::take_header(state, client, deadline));
            }
        }
    }

    /// Gives the connections that a drain closes their last wait for a request.
    pub(crate) fn shorten_waits(&self, core: &Core) {
        for (index, waiting) in (0..).zip(self.waiting.borrow_mut().iter_mut()) {
            if let Some(waiting) = waiting.as_mut().filter(|waiting| waiting.is_last()) {
                waiting.shorten(core, index);
            }
        }
    }

    /// Moves who waits in older generations to the latest one; who waits in the one before and has no place is given a last wait.
    pub(crate) fn renew(&self, former: &Rc<CoreState>, state: &Rc<CoreState>) {
        for (index, place) in (0..).zip(self.waiting.borrow_mut().iter_mut()) {
            let Some(waiting) = place.as_mut().filter(|waiting| !Rc::ptr_eq(&waiting.state, state)) else {
                continue;
            };
            // Whose it is that begins with a header is not known yet.
            let peer = Some(waiting.peer).filter(|_| !matches!(waiting.what, WaitsFor::Header { .. }));
            match waiting.state.place(&mut waiting.open, peer) {
                Place::There(newer) => waiting.state = newer,
                Place::Here if Rc::ptr_eq(&waiting.state, former) => waiting.shorten(&state.core, index),
                // It has its last wait.
                Place::Here => {}
                Place::Nowhere => {
                    drop(waiting.parked.resume(&state.core));
                    *place = None;
                    self.free.borrow_mut().push(index);
                }
            }
        }
    }

    /// The core ends, and closes what waits by itself.
    pub(crate) fn forget(&self) {
        let waiting = self.waiting.take();
        drop(waiting);
    }
}

impl Waiting {
    /// Whether nothing is waited for beyond what is on its way.
    fn is_last(&self) -> bool {
        self.state.closes(self.open.listener)
    }

    fn shorten(&mut self, core: &Core, index: u32) {
        if let Some(stream) = self.parked.resume(core) {
            stream.set_recv_deadline(core.turn_time() + LAST_WAIT);
            self.parked = stream.park(index);
        }
    }
}

/// A connection has waited too long.
fn sleep_is_over(state: &CoreState, stream: &Wire, open: &Open, what: &WaitsFor) {
    match what {
        WaitsFor::Request { .. } => {
            stream.say_end();
            count_idle_timeout(state, open);
        }
        WaitsFor::Hello { .. } if state.private.listener(open.listener).is_some() => {
            handshake::count_silence(state, open);
        }
        // Who had not said anything when a drain closed the door has failed at nothing.
        WaitsFor::Hello { .. } | WaitsFor::Header { .. } if state.closes(open.listener) => {}
        WaitsFor::Hello { .. } | WaitsFor::Header { .. } => {
            // An end would say that who was asked for had nothing to say.
            let _ = stream.reset_on_close();
            state.stats.count_fault(Fault::HandshakeTimeout);
        }
    }
}

/// How a wait for the first bytes of a request ended.
enum Waited {
    /// They are in [`Client::unread`].
    Bytes,
    /// The client has closed, or the connection broke.
    Closed,
    /// Nothing came in time.
    Late,
}

/// Serves a private connection if it is a request that has come, and not something that TLS says by itself.
pub(crate) async fn serve_if_asked(state: Rc<CoreState>, mut client: Client) {
    let look = poll_fn(|context| Poll::Ready(client.stream.poll_recv(context))).await;
    match look {
        Poll::Ready(Ok(Some(chunk))) => {
            client.counters().bytes_received.add(chunk.len() as u64);
            client.unread = without_empty_lines(chunk);
        }
        Poll::Pending if client.stream.waits_for_peer() => return client.park_again(&state),
        Poll::Pending => {}
        Poll::Ready(Ok(None)) => return client.stream.say_end(),
        Poll::Ready(Err(error)) if error.kind() == io::ErrorKind::TimedOut => {
            client.stream.say_end();
            return count_idle_timeout(&state, &client.open);
        }
        Poll::Ready(Err(_)) => return,
    }
    // In a task of its own, which is laid out for what nearly all of its time goes to.
    let core = state.core.clone();
    core.spawn(serve(state, client));
}

/// Serves requests until the connection is parked or ends.
#[expect(
    clippy::manual_async_fn,
    reason = "an async fn would keep the client in its task twice: as it came, and as it is used"
)]
pub(crate) fn serve(state: Rc<CoreState>, mut client: Client) -> impl Future<Output = ()> {
    async move {
        // A client that was parked has its idle deadline still; one that was just answered is waited for here at first.
        let mut is_idle_counted = true;
        let next = loop {
            if client.unread.is_none() {
                match first_bytes(&state, &mut client).await {
                    Waited::Bytes => {}
                    Waited::Closed => break Next::Close,
                    // It woke up for nothing, or for an empty line, which buys no time.
                    Waited::Late if is_idle_counted => {
                        count_idle_timeout(&state, &client.open);
                        break Next::Close;
                    }
                    Waited::Late => break Next::Keep,
                }
            }
            if state.is_superseded.get() {
                match state.place(&mut client.open, Some(client.peer)) {
                    Place::Here => {}
                    Place::There(newer) => return go_on(newer, client),
                    Place::Nowhere => break Next::Close,
                }
            }
            client.requests += 1;
            let next = {
                let mut workspace = state.workspaces.take();
                exchange(&state, &mut client, &mut workspace).await
            };
            if !matches!(next, Next::Switch(_)) {
                client.note.end();
            }
            is_idle_counted = false;
            match next {
                // A pipelined request is there already; others get their turn first.
                Next::Keep if client.unread.is_some() => {
                    client.unread = client.unread.take().and_then(without_empty_lines);
                    client.pipelined += 1;
                    if client.unread.is_none() {
                        client.stream.set_recv_deadline(state.core.turn_time() + WAIT_IN_TASK);
                    }
                    state.core.yield_now().await;
                }
                Next::Keep if state.lingering.get() < WAITING_TASKS_MAX => {
                    client.stream.set_recv_deadline(state.core.turn_time() + WAIT_IN_TASK);
                }
                end => break end,
            }
        };
        if client.stream.has_unsent() && !flush(&state, &client).await {
            return;
        }
        match next {
            Next::Keep => client.park(&state),
            // Closed with unread bytes, the kernel would answer them with a reset.
            Next::Close if client.unread.is_some() || !client.stream.is_quiet() => {
                linger(&state, client).await;
            }
            Next::Close => client.stream.say_end(),
            Next::Cut => {}
            Next::Linger => linger(&state, client).await,
            Next::Switch(switched) => state.core.spawn(upgrade::serve(&state, client, *switched)),
        }
    }
}

/// Serves a client whose request has come by a newer generation.
#[cold]
fn go_on(newer: Rc<CoreState>, client: Client) {
    let core = newer.core.clone();
    core.spawn(serve(newer, client));
}

/// Counts a connection whose last wait for a request is over, unless a drain has shortened that.
fn count_idle_timeout(state: &CoreState, open: &Open) {
    if !state.closes(open.listener) {
        open.counters().idle_timeouts.add(1);
    }
}

async fn first_bytes(state: &CoreState, client: &mut Client) -> Waited {
    let _waiting = WaitingTask::new(&state.lingering);
    client.pipelined = 0;
    while client.unread.is_none() {
        match client.stream.recv().await {
            Ok(Some(chunk)) => {
                client.counters().bytes_received.add(chunk.len() as u64);
                client.unread = without_empty_lines(chunk);
            }
            Err(error) if error.kind() == io::ErrorKind::TimedOut => return Waited::Late,
            Ok(None) | Err(_) => return Waited::Closed,
        }
    }
    Waited::Bytes
}

/// Drops empty lines with nothing behind them, which some clients send after a body and which begin no request
/// (RFC 9112 §2.2). With something behind them, or too many, they are the parser's to judge.
fn without_empty_lines(chunk: Chunk) -> Option<Chunk> {
    let is_dropped = chunk.len() <= 2 * EMPTY_LINES_MAX && chunk.chunks(2).all(|line| line == b"\r\n");
    (!is_dropped).then_some(chunk)
}

/// Counts a task that waits for a request, however the wait ends.
struct WaitingTask<'a>(&'a Cell<u32>);

impl<'a> WaitingTask<'a> {
    fn new(count: &'a Cell<u32>) -> Self {
        count.set(count.get() + 1);
        Self(count)
    }
}

impl Drop for WaitingTask<'_> {
    fn drop(&mut self) {
        self.0.set(self.0.get() - 1);
    }
}

/// Waits until the client has taken what a private connection still holds of its answers; false if it does not.
async fn flush(state: &CoreState, client: &Client) -> bool {
    client.stream.set_send_deadline(state.core.turn_time() + client.settings(state).timeouts.send);
    let outcome = client.stream.writable().await;
    if let Err(error) = &outcome {
        state.stats.count_fault(fault_of(error, Fault::ClientSendTimeout, Fault::ClientGoneInResponse));
    }
    outcome.is_ok()
}

/// Lets the client read our last answer before the connection is gone.
pub(crate) async fn linger(state: &CoreState, client: Client) {
    client.stream.set_send_deadline(state.core.turn_time() + LINGER_MAX);
    if client.stream.shutdown_write().await.is_err() {
        return;
    }
    client.stream.set_recv_deadline(state.core.turn_time() + LINGER_MAX);
    let mut dropped = 0;
    while let Ok(Some(chunk)) = client.stream.recv().await {
        client.counters().bytes_received.add(chunk.len() as u64);
        dropped += chunk.len();
        if dropped > LINGER_BYTES_MAX {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn future_bytes<F: Future>(_: fn(Rc<CoreState>, Client) -> F) -> usize {
        size_of::<F>()
    }

    /// A busy connection's task is its memory; with the optimiser's help it fits a block of 4 KiB.
    #[test]
    fn a_connections_task_stays_small() {
        let bytes = future_bytes(serve);
        assert!(bytes <= 8 * 1024, "{bytes}");
    }
}
