//! Which core serves a connection that was just accepted? This one, unless another is clearly idler.
//!
//! Never moves a connection later: what has begun on a core stays there.

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::rc::{Rc, Weak};
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use config::snapshot::{ListenerId, Protocol};
use proto::handoff::{Choice, choose_core};
use runtime::buffer::Lane;
use runtime::{Core, Handle, Instant, Listener};

use crate::address::of_client;
use crate::admission::{Permit, Refused};
use crate::client::{self, Client, Open, WaitsFor};
use crate::commons::Place;
use crate::core_main::CoreState;
use crate::handshake;
use crate::message::CoreMessage;
use crate::preface;
use crate::stats::CoreStats;
use crate::tcp;
use crate::wire::Wire;

/// Connections accepted in a row before other tasks get their turn.
const ACCEPTS_IN_A_ROW: u32 = 32;
/// Pause after a failed accept. The usual cause is that no descriptor is left, and trying at once would only burn
/// the core until a connection ends.
const PAUSE_AFTER_ERROR: Duration = Duration::from_millis(50);

/// A listening socket, and by which generation is served who comes by it.
pub(crate) struct Door {
    /// Weak, so that the door of an internal listener that is gone ends with its generation.
    place: RefCell<(Weak<CoreState>, ListenerId)>,
    is_internal: bool,
    /// How many may wait in the queue, if that is another number now.
    backlog: Cell<Option<u32>>,
    closing: RefCell<Closing>,
    waiting: RefCell<Option<Waker>>,
}

/// Whether a door is open.
#[derive(Default)]
enum Closing {
    #[default]
    No,
    /// Who is in the queue is still served, by this generation if there is one.
    Yes(Option<Rc<CoreState>>),
    /// Another process accepts by the socket, and serves who is in the queue.
    Left,
    /// It is being closed.
    Begun,
}

impl Door {
    fn new(state: &Rc<CoreState>, id: ListenerId) -> Rc<Self> {
        Rc::new(Self {
            place: RefCell::new((Rc::downgrade(state), id)),
            is_internal: state.listener(id).internal,
            backlog: Cell::new(None),
            closing: RefCell::default(),
            waiting: RefCell::default(),
        })
    }

    /// Its number in the generation that it belongs to.
    pub(crate) fn listener(&self) -> ListenerId {
        self.place.borrow().1
    }

    /// Which generation it belongs to, if that lives, and as which of its listeners.
    pub(crate) fn place(&self) -> Option<(Rc<CoreState>, ListenerId)> {
        let place = self.place.borrow();
        Some((place.0.upgrade()?, place.1))
    }

    /// Whether it belongs to this generation.
    pub(crate) fn is_of(&self, state: &Rc<CoreState>) -> bool {
        std::ptr::eq(self.place.borrow().0.as_ptr(), Rc::as_ptr(state))
    }

    /// Whether its generation has ended.
    pub(crate) fn is_orphaned(&self) -> bool {
        self.place.borrow().0.strong_count() == 0
    }

    pub(crate) fn is_internal(&self) -> bool {
        self.is_internal
    }

    pub(crate) fn is_closed(&self) -> bool {
        !matches!(*self.closing.borrow(), Closing::No)
    }

    /// Who comes from now on is served by another generation.
    pub(crate) fn pass_on(&self, state: &Rc<CoreState>, id: ListenerId) {
        *self.place.borrow_mut() = (Rc::downgrade(state), id);
        self.backlog.set(Some(state.listener(id).backlog));
        self.waiting.take().into_iter().for_each(Waker::wake);
    }

    /// Lets nobody more in; who is in the queue is served by `state`, to which it belongs.
    pub(crate) fn close(&self, state: &Rc<CoreState>) {
        self.close_for(Closing::Yes(Some(Rc::clone(state))));
    }

    /// Lets nobody more in, and nobody is left to serve who is in the queue.
    pub(crate) fn end(&self) {
        self.close_for(Closing::Yes(None));
    }

    /// Lets the socket go as it is: nobody is turned away, for another process accepts by it.
    pub(crate) fn leave(&self) {
        self.close_for(Closing::Left);
    }

    fn close_for(&self, closing: Closing) {
        if !self.is_closed() {
            *self.closing.borrow_mut() = closing;
            self.waiting.take().into_iter().for_each(Waker::wake);
        }
    }

    fn poll_closed(&self, context: &Context<'_>) -> Poll<()> {
        if self.is_closed() {
            return Poll::Ready(());
        }
        let mut waiting = self.waiting.borrow_mut();
        if !waiting.as_ref().is_some_and(|waker| waker.will_wake(context.waker())) {
            *waiting = Some(context.waker().clone());
        }
        Poll::Pending
    }
}

/// Begins to accept connections, until the door is closed.
pub(crate) fn open(state: &Rc<CoreState>, id: ListenerId, socket: Handle) -> io::Result<Rc<Door>> {
    let listener = state.core.adopt_listener(socket)?;
    let door = Door::new(state, id);
    if !door.is_internal {
        state.commons.accepting.set(state.commons.accepting.get() + 1);
    }
    state.core.spawn(accept_until_closed(state.core.clone(), Rc::clone(&door), listener));
    Ok(door)
}

async fn accept_until_closed(core: Core, door: Rc<Door>, listener: Listener) {
    {
        let mut accepting = pin!(accept_all(&core, &door, &listener));
        poll_fn(|context| {
            if let Some(backlog) = door.backlog.take() {
                listener.set_backlog(backlog);
            }
            match door.poll_closed(context) {
                Poll::Ready(()) => Poll::Ready(()),
                Poll::Pending => accepting.as_mut().poll(context),
            }
        })
        .await;
    }
    match door.closing.replace(Closing::Begun) {
        Closing::Yes(Some(state)) => {
            let id = door.listener();
            let backlog = listener.stop().await;
            // The kernel lets one more in than the backlog says.
            for accepted in backlog.take(state.listener(id).backlog as usize + 1) {
                state.stats.listeners[usize::from(id.0)].accepted.add(1);
                if let Some(permit) = admit(&state, id, accepted.peer) {
                    adopt(&state, accepted.fd, accepted.peer, id, permit);
                }
            }
            is_shut(&door, &state);
        }
        Closing::Left => {
            drop(listener);
            if let Some((state, _)) = door.place() {
                is_shut(&door, &state);
            }
        }
        Closing::Yes(None) | Closing::No | Closing::Begun => {
            listener.stop().await;
        }
    }
}

/// A drain that waits for it need not wait any longer.
fn is_shut(door: &Door, state: &CoreState) {
    if !door.is_internal {
        state.commons.accepting.set(state.commons.accepting.get() - 1);
    }
}

async fn accept_all(core: &Core, door: &Door, listener: &Listener) {
    loop {
        for _ in 0..ACCEPTS_IN_A_ROW {
            accept_one(core, door, listener).await;
        }
        core.yield_now().await;
    }
}

async fn accept_one(core: &Core, door: &Door, listener: &Listener) {
    let outcome = listener.accept_fd().await;
    // Whose it is is asked now: another generation may have begun meanwhile.
    let Some((state, id)) = door.place() else { return };
    let counters = &state.stats.listeners[usize::from(id.0)];
    match outcome {
        Ok(accepted) => {
            counters.accepted.add(1);
            // Who is not let in is gone with his socket, before any core has spent more on him.
            let Some(permit) = admit(&state, id, accepted.peer) else { return };
            if let Some((fd, permit)) = hand_over(&state, accepted.fd, accepted.peer, id, permit) {
                adopt(&state, fd, accepted.peer, id, permit);
            }
        }
        Err(_) => {
            counters.accept_errors.add(1);
            drop(state);
            core.sleep(PAUSE_AFTER_ERROR).await;
        }
    }
}

/// Asks whether the listener may have one more connection from this client, and counts it if not.
fn admit(state: &CoreState, listener: ListenerId, peer: SocketAddr) -> Option<Option<Permit>> {
    let settings = state.listener(listener);
    // Whose it is that begins with a header is not known yet.
    let outcome = if preface::begins_with_header(settings, peer) {
        state.admission.admit_unnamed(listener)
    } else if is_denied(settings, peer) {
        state.stats.listeners[usize::from(listener.0)].denied.add(1);
        return None;
    } else {
        state.admission.admit(listener, peer.ip())
    };
    let refused = match outcome {
        Ok(permit) => return Some(permit),
        Err(refused) => refused,
    };
    let counters = &state.stats.listeners[usize::from(listener.0)];
    match refused {
        Refused::Listener => counters.over_connections.add(1),
        Refused::Address => counters.over_connections_per_address.add(1),
    }
    None
}

/// Whether the listener does not let this client in.
pub(crate) fn is_denied(settings: &config::snapshot::Listener, peer: SocketAddr) -> bool {
    settings.access.as_ref().is_some_and(|access| !access.allows(of_client(peer)))
}

/// Makes a connection this core's.
pub(crate) fn adopt(
    state: &Rc<CoreState>,
    fd: Handle,
    peer: SocketAddr,
    listener: ListenerId,
    permit: Option<Permit>,
) {
    let Ok(stream) = state.core.adopt(fd, Lane::Accepted) else {
        return state.stats.listeners[usize::from(listener.0)].accept_errors.add(1);
    };
    let settings = state.listener(listener);
    let client = Client::new(Wire::Plain(stream), peer, Open::new(&state.stats, listener, permit));
    if preface::begins_with_header(settings, peer) {
        let deadline = preface::deadline(state, settings);
        return client.park_until(state, deadline, WaitsFor::Header { deadline });
    }
    begin(state, client, None);
}

/// Serves a connection whose client is known: one for requests waits for its first, one for TLS for the client's hello, and
/// one with bytes to relay is relayed at once. What was received already is in [`Client::unread`]. What comes before an
/// application's first byte is to be there by `deadline`; without one, it begins here.
pub(crate) fn begin(state: &Rc<CoreState>, mut client: Client, deadline: Option<Instant>) {
    let state = &match state.place(&mut client.open, Some(client.peer)) {
        Place::Here => Rc::clone(state),
        Place::There(newer) => newer,
        Place::Nowhere => return,
    };
    let settings = client.settings(state);
    if matches!(settings.protocol, Protocol::Tcp(_) | Protocol::Tls(_))
        && !settings.internal
        && !state.generation.standing.may_act()
    {
        // An end would say that who was asked for had nothing to say. Where this is refused, the client is gone.
        let _ = client.stream.reset_on_close();
        return;
    }
    match settings.protocol {
        Protocol::Http if client.unread.is_none() => client.park(state),
        Protocol::Http => state.core.spawn(client::serve(Rc::clone(state), client)),
        Protocol::Tcp(service) => state.core.spawn(tcp::serve(Rc::clone(state), client, service)),
        Protocol::Https(_) | Protocol::Tls(_) => {
            let deadline = deadline.unwrap_or_else(|| preface::deadline(state, settings));
            if client.unread.is_some() {
                return hear_hello(state, client, deadline);
            }
            client.park_until(state, deadline, WaitsFor::Hello { deadline });
        }
    }
}

/// Goes on with a TLS client that has begun to speak.
pub(crate) fn hear_hello(state: &Rc<CoreState>, client: Client, deadline: Instant) {
    match client.settings(state).protocol {
        Protocol::Tls(_) => {
            client.stream.set_recv_deadline(deadline);
            state.core.spawn(preface::route_by_name(Rc::clone(state), client));
        }
        _ => handshake::begin(state, client, deadline),
    }
}

/// Offers the connection to one other core chosen at random, if that has clearly fewer. Gives it back to stay.
fn hand_over(
    state: &CoreState,
    fd: Handle,
    peer: SocketAddr,
    listener: ListenerId,
    permit: Option<Permit>,
) -> Option<(Handle, Option<Permit>)> {
    let others = state.fellows.len() - 1;
    if others == 0 || !state.snapshot.process.accept_handoff || state.is_draining() {
        return Some((fd, permit));
    }
    let here = state.core.index();
    let nth = (state.core.random() % others as u64) as usize;
    let nth = if nth < here { nth } else { nth + 1 };
    let fellow = &state.fellows[nth];
    let generation = &state.generation;
    // One that has yet to take up this generation may not know the listener. The first is what each core begins with.
    if generation.number > 1 && generation.stats[nth].core.generation.value() < generation.number {
        return Some((fd, permit));
    }
    let load = |stats: &CoreStats| u32::try_from(stats.connections_open()).unwrap_or(u32::MAX);
    if choose_core(load(&state.stats), load(&generation.stats[nth])) == Choice::Keep {
        return Some((fd, permit));
    }
    let generation = Arc::clone(generation);
    match fellow.sender.send(CoreMessage::Adopt { fd, peer, generation, listener, permit }) {
        Ok(()) => {
            state.stats.handed_over.add(1);
            None
        }
        Err(CoreMessage::Adopt { fd, permit, .. }) => {
            state.stats.handover_refused.add(1);
            Some((fd, permit))
        }
        Err(_) => unreachable!("the mailbox gives back what it was given"),
    }
}
