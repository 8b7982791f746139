//! What becomes of a client's connection between its requests? Parked, served, drained, closed.
//!
//! Never holds a task or a buffer for a connection that waits for its next request.

use std::cell::RefCell;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use config::snapshot::{Listener, ListenerId};
use runtime::{Chunk, Core, ParkEvent, Parked, Stream};

use crate::core_main::CoreState;
use crate::exchange::exchange;
use crate::stats::CoreStats;

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
        stream.set_recv_deadline(state.core.now() + idle_timeout);
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

/// Serves requests until the connection waits or ends.
async fn serve(state: Rc<CoreState>, mut client: Client) {
    let mut workspace = state.workspaces.take();
    let next = loop {
        match exchange(&state, &mut client, &mut workspace).await {
            Next::Keep if client.unread.is_none() => break Next::Keep,
            // A pipelined request is there already; others get their turn first.
            Next::Keep => state.core.yield_now().await,
            end => break end,
        }
    };
    state.workspaces.give_back(workspace);
    match next {
        Next::Keep if !state.is_draining() => client.park(&state),
        Next::Keep | Next::Close => {}
        Next::Linger => linger(&state, client).await,
    }
}

/// Lets the client read our last answer before the connection is gone.
async fn linger(state: &CoreState, client: Client) {
    if client.stream.shutdown_write().is_err() {
        return;
    }
    client.stream.set_recv_deadline(state.core.now() + LINGER_MAX);
    let mut dropped = 0;
    while let Ok(Some(chunk)) = client.stream.recv().await {
        dropped += chunk.len();
        if dropped > LINGER_BYTES_MAX {
            return;
        }
    }
}
