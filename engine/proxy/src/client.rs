//! What becomes of a client's connection between its requests? Parked, served, drained, closed.
//!
//! Never holds a buffer for a connection that waits for its next request, nor a task for long: a busy connection
//! keeps its task for a moment, because the next request is usually on its way; then it is parked.

use std::cell::{Cell, RefCell};
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use config::snapshot::{Listener, ListenerId};
use runtime::{Chunk, Core, ParkEvent, Parked, Stream};

use crate::core_main::CoreState;
use crate::exchange::exchange;
use crate::stats::CoreStats;

/// How long a task waits for its client's next request before the connection is parked.
const WAIT_IN_TASK: Duration = Duration::from_millis(100);
/// Tasks of one core that may wait so; with a few KiB each they stay far below the buffers.
const WAITING_TASKS_MAX: u32 = 256;
/// How long a connection that is closed with unread bytes goes on being read, so that the kernel does not answer
/// them with a reset that would overtake our last answer (RFC 9112 §9.6).
const LINGER_MAX: Duration = Duration::from_secs(2);
/// Bytes read and dropped meanwhile, at most.
const LINGER_BYTES_MAX: usize = 1 << 20;

/// A client's connection while it is served.
pub(crate) struct Client {
    pub(crate) stream: Stream,
    pub(crate) peer: SocketAddr,
    pub(crate) listener: ListenerId,
    /// Bytes received beyond the last request: the next one, or its beginning.
    pub(crate) unread: Option<Chunk>,
    open: Open,
}

/// Counts an open connection, however it ends.
struct Open(Arc<CoreStats>);

impl Open {
    fn new(stats: &Arc<CoreStats>) -> Self {
        stats.connections_open.add(1);
        Self(Arc::clone(stats))
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.0.connections_open.sub(1);
    }
}

/// What a connection does after an exchange.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Next {
    /// Serves another request.
    Keep,
    /// Ends; everything the client sent has been read.
    Close,
    /// Ends although the client may be sending: its bytes are read and dropped for a while.
    Linger,
}

/// A connection between two requests.
struct Waiting {
    parked: Parked,
    peer: SocketAddr,
    listener: ListenerId,
    open: Open,
}

/// The connections of one core that wait for a request. The index is the tag they are parked under.
#[derive(Default)]
pub(crate) struct Clients {
    waiting: RefCell<Vec<Option<Waiting>>>,
    free: RefCell<Vec<u32>>,
}

impl Client {
    pub(crate) fn new(
        stream: Stream,
        peer: SocketAddr,
        listener: ListenerId,
        stats: &Arc<CoreStats>,
    ) -> Self {
        Self { stream, peer, listener, unread: None, open: Open::new(stats) }
    }

    pub(crate) fn settings<'a>(&self, state: &'a CoreState) -> &'a Listener {
        &state.snapshot.listeners[usize::from(self.listener.0)]
    }

    /// Waits for the next request without a task.
    pub(crate) fn park(self, state: &CoreState) {
        let idle_timeout = self.settings(state).timeouts.idle;
        let Self { stream, peer, listener, open, .. } = self;
        stream.set_recv_deadline(state.core.turn_time() + idle_timeout);
        let index = state.clients.free.borrow_mut().pop();
        let mut waiting = state.clients.waiting.borrow_mut();
        let index = index.unwrap_or_else(|| {
            waiting.push(None);
            waiting.len() as u32 - 1
        });
        waiting[index as usize] = Some(Waiting { parked: stream.park(index), peer, listener, open });
    }
}

impl Clients {
    /// A parked connection came back.
    pub(crate) fn wake(state: &Rc<CoreState>, stream: Stream, tag: u32, event: ParkEvent) {
        let Some(Waiting { peer, listener, open, .. }) =
            state.clients.waiting.borrow_mut()[tag as usize].take()
        else {
            return;
        };
        state.clients.free.borrow_mut().push(tag);
        match event {
            ParkEvent::Readable => {
                let client = Client { stream, peer, listener, unread: None, open };
                state.core.spawn(serve(Rc::clone(state), client));
            }
            ParkEvent::Deadline => state.stats.listeners[usize::from(listener.0)].idle_timeouts.add(1),
        }
    }

    /// Closes all connections that wait for a request.
    pub(crate) fn close_waiting(&self, core: &Core) {
        for (index, waiting) in self.waiting.borrow_mut().iter_mut().enumerate() {
            if let Some(waiting) = waiting.take() {
                self.free.borrow_mut().push(index as u32);
                drop(waiting.parked.resume(core));
            }
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

/// Serves requests until the connection is parked or ends.
async fn serve(state: Rc<CoreState>, mut client: Client) {
    let next = loop {
        if client.unread.is_none() {
            match first_bytes(&state, &mut client).await {
                Waited::Bytes => {}
                Waited::Closed => break Next::Close,
                Waited::Late => break Next::Keep,
            }
        }
        // Taken for each request anew: the one given back last is still in the cache.
        let mut workspace = state.workspaces.take();
        let next = exchange(&state, &mut client, &mut workspace).await;
        state.workspaces.give_back(workspace);
        match next {
            // A pipelined request is there already; others get their turn first.
            Next::Keep if client.unread.is_some() => {
                client.unread = client.unread.take().and_then(without_empty_lines);
                state.core.yield_now().await;
            }
            Next::Keep if state.lingering.get() < WAITING_TASKS_MAX && !state.is_draining() => {
                client.stream.set_recv_deadline(state.core.turn_time() + WAIT_IN_TASK);
            }
            end => break end,
        }
    };
    match next {
        Next::Keep if !state.is_draining() => client.park(&state),
        // Closed with unread bytes, the kernel would answer them with a reset.
        Next::Close if client.unread.is_some() || !client.stream.is_quiet() => linger(&state, client).await,
        Next::Keep | Next::Close => {}
        Next::Linger => linger(&state, client).await,
    }
}

async fn first_bytes(state: &CoreState, client: &mut Client) -> Waited {
    let _waiting = WaitingTask::new(&state.lingering);
    while client.unread.is_none() {
        match client.stream.recv().await {
            Ok(Some(chunk)) => {
                let counters = &state.stats.listeners[usize::from(client.listener.0)];
                counters.bytes_received.add(chunk.len() as u64);
                client.unread = without_empty_lines(chunk);
            }
            Err(error) if error.kind() == io::ErrorKind::TimedOut => return Waited::Late,
            Ok(None) | Err(_) => return Waited::Closed,
        }
    }
    Waited::Bytes
}

/// Takes off empty lines, which some clients send after a body and which begin no request (RFC 9112 §2.2).
fn without_empty_lines(mut chunk: Chunk) -> Option<Chunk> {
    while chunk.starts_with(b"\r\n") {
        chunk.consume(2);
    }
    (!chunk.is_empty()).then_some(chunk)
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

/// Lets the client read our last answer before the connection is gone.
async fn linger(state: &CoreState, client: Client) {
    if client.stream.shutdown_write().is_err() {
        return;
    }
    client.stream.set_recv_deadline(state.core.turn_time() + LINGER_MAX);
    let mut dropped = 0;
    while let Ok(Some(chunk)) = client.stream.recv().await {
        dropped += chunk.len();
        if dropped > LINGER_BYTES_MAX {
            return;
        }
    }
}
