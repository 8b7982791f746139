//! What have the generations of one core in common, and how does a core go over from one to the next?
//!
//! Never ends what has begun: whatever waits moves at once, whatever is under way moves when it is done, and what cannot move
//! stays where it began. Nothing here is on a request's way.

use std::cell::{Cell, RefCell};
use std::io;
use std::net::SocketAddr;
use std::rc::{Rc, Weak};
use std::sync::Arc;
use std::time::Duration;

use config::snapshot::{Listener, ListenerId, Protocol};
use runtime::Handle;

use crate::admission::Permit;
use crate::client::{Clients, LAST_WAIT, Open};
use crate::core_main::{CoreState, Drain};
use crate::generation::{Generation, keeps_socket};
use crate::listener::{self, Door, is_denied};
use crate::relay::SetAside;
use crate::stats::{Collected, HistogramSet, ListenerCounters, Phase, Recorded};

/// Sets of ended generations that wait for control; beyond them the oldest is dropped, because nobody collects.
const LEFT_MAX: usize = 64;

/// What outlives a generation on one core.
#[derive(Default)]
pub(crate) struct Commons {
    /// Connections that wait without a task.
    pub(crate) clients: Clients,
    pub(crate) drain: Drain,
    /// Bytes that the receivers of tunnels do not take.
    pub(crate) set_aside: SetAside,
    /// Listeners that a drain closes and that are still open.
    pub(crate) accepting: Cell<u32>,
    /// The core ends: what still runs is cut off.
    pub(crate) has_ended: Rc<Cell<bool>>,
    current: RefCell<Option<Rc<CoreState>>>,
    /// All that live, the current one included, by number.
    living: RefCell<Vec<Weak<CoreState>>>,
    doors: RefCell<Vec<Rc<Door>>>,
    /// What ended generations have recorded and nobody has collected.
    left: RefCell<Vec<Recorded>>,
}

/// Where the connections of an older generation go on.
#[derive(Clone)]
pub(crate) struct Successor {
    state: Rc<CoreState>,
    /// By listener of the older generation; nothing for those whose connections end with it.
    listeners: Rc<[Option<ListenerId>]>,
}

/// Where a connection goes on that has nothing under way.
pub(crate) enum Place {
    /// In the generation that it is in: the latest, or one with which it ends.
    Here,
    /// In this one.
    There(Rc<CoreState>),
    /// Its client is not let in any more.
    Nowhere,
}

impl Commons {
    /// What the core serves by now.
    ///
    /// # Panics
    /// Before the first generation, and after the core's end.
    pub(crate) fn current(&self) -> Rc<CoreState> {
        self.current.borrow().as_ref().map(Rc::clone).expect("a core that runs has a generation")
    }

    /// The generation of this number, if it lives.
    pub(crate) fn find(&self, number: u64) -> Option<Rc<CoreState>> {
        let living = self.living.borrow();
        living.iter().filter_map(Weak::upgrade).find(|state| state.generation.number == number)
    }

    /// Serves by `state` from now on.
    pub(crate) fn begin(&self, state: &Rc<CoreState>) {
        state.stats.core.generations.add(1);
        let mut living = self.living.borrow_mut();
        living.retain(|state| state.strong_count() > 0);
        living.push(Rc::downgrade(state));
        drop(living);
        let former = self.current.borrow_mut().replace(Rc::clone(state));
        drop(former);
    }

    /// Goes over to the next generation, with the sockets of its new listeners.
    pub(crate) fn renew(&self, generation: Arc<Generation>, opened: Vec<(ListenerId, Handle)>) {
        let former = self.current();
        if former.is_draining() || generation.number <= former.generation.number {
            return; // nothing new is begun any more, or somebody was faster
        }
        let state = CoreState::next(&former, generation);
        state.upstreams.inherit(&former.upstreams);
        self.begin(&state);
        let older: Vec<_> = self.living.borrow().iter().filter_map(Weak::upgrade).collect();
        for older in older.iter().filter(|older| !Rc::ptr_eq(older, &state)) {
            older.supersede(&state);
        }
        self.pass_doors_on(&former, &state);
        for (id, socket) in opened {
            self.open(&state, id, socket);
        }
        state.stats.core.generation.set(state.generation.number);
        self.clients.renew(&former, &state);
        // What another core hands over had its place in the former one.
        state.core.spawn(async move { former.core.sleep(LAST_WAIT).await });
    }

    /// Serves a connection that another core has accepted, of which it may know another generation than this core.
    pub(crate) fn adopt(
        &self,
        fd: Handle,
        peer: SocketAddr,
        generation: &Generation,
        id: ListenerId,
        permit: Option<Permit>,
    ) {
        if let Some(state) = self.find(generation.number) {
            return listener::adopt(&state, fd, peer, id, permit);
        }
        // Where there is no such listener any more, the connection ends here, unheard: it came by a door that was closing.
        let state = self.current();
        if let Some(id) = place_of(&generation.snapshot.listeners[usize::from(id.0)], &state) {
            let permit = state.admission.carry(permit, id, None);
            listener::adopt(&state, fd, peer, id, permit);
        }
    }

    /// Begins to accept connections by a socket.
    pub(crate) fn open(&self, state: &Rc<CoreState>, id: ListenerId, socket: Handle) {
        match listener::open(state, id, socket) {
            Ok(door) => self.doors.borrow_mut().push(door),
            Err(_) => state.stats.listeners[usize::from(id.0)].accept_errors.add(1),
        }
    }

    /// The sockets of listeners that stay go over; others are closed once their queue is empty. Those of an internal one that is
    /// gone last as long as the generation: what its clients are still owed may come by them.
    fn pass_doors_on(&self, former: &Rc<CoreState>, state: &Rc<CoreState>) {
        let mut doors = self.doors.borrow_mut();
        doors.retain(|door| !door.is_closed());
        for door in doors.iter().filter(|door| door.is_of(former)) {
            let old = former.listener(door.listener());
            let kept = (0..).map(ListenerId).zip(&state.snapshot.listeners);
            match kept.into_iter().find(|(_, new)| keeps_socket(old, new)) {
                Some((id, _)) => door.pass_on(state, id),
                None if old.internal => {}
                None => door.close(former),
            }
        }
    }

    /// Closes what a drain closes, of all generations. By the sockets of listeners that are `left` another process accepts: they
    /// are let go as they are, those of internal ones too.
    pub(crate) fn close(&self, left: &[Box<str>]) {
        let is_left = |listener: &Listener| left.iter().any(|name| **name == *listener.name);
        for state in self.living.borrow().iter().filter_map(Weak::upgrade) {
            for (listener, closing) in state.snapshot.listeners.iter().zip(&state.closing) {
                closing.set(closing.get() || !listener.internal || is_left(listener));
            }
        }
        for door in self.doors.borrow().iter() {
            if door.place().is_some_and(|(state, id)| is_left(state.listener(id))) {
                door.leave();
            } else if !door.is_internal() {
                door.close(&self.current());
            }
        }
    }

    /// What has been recorded: in the generation of this number into `empty`'s predecessor, and in all others.
    pub(crate) fn collect(&self, number: u64, empty: Box<HistogramSet>) -> Collected {
        let core = self.current().core.index();
        let mut others = self.left.take();
        let mut asked = empty;
        for state in self.living.borrow().iter().filter_map(Weak::upgrade) {
            let mut set = state.histograms.borrow_mut();
            if state.generation.number == number {
                std::mem::swap(&mut *set, &mut asked);
            } else if !set.is_empty() {
                let empty = Box::new(HistogramSet::new(&state.snapshot));
                let mut histograms = std::mem::replace(&mut *set, empty);
                histograms.complete();
                others.push(Recorded { generation: Arc::clone(&state.generation), histograms });
            }
        }
        asked.complete();
        Collected { core, histograms: asked, others }
    }

    /// Records how long a message took at a listener, if the core has it still: connections with messages outlast generations.
    pub(crate) fn record(&self, counters: &Arc<ListenerCounters>, phase: Phase, duration: Duration) {
        let current = self.current.borrow();
        let Some(state) = current.as_ref() else { return };
        // What keeps its name keeps its counters.
        let mut listeners = (0..).map(ListenerId).zip(&state.stats.listeners);
        if let Some((id, _)) = listeners.find(|(_, other)| Arc::ptr_eq(other, counters)) {
            state.histograms.borrow_mut().listener(id).record(phase, duration);
        }
    }

    /// Counts what is still served by older generations.
    pub(crate) fn count(&self) {
        let current = self.current();
        let living = self.living.borrow();
        // Each connection under way holds its generation; the former one is held for a moment besides.
        let held = |state: &Rc<CoreState>| Rc::strong_count(state) as u64 - 1;
        let older = living.iter().filter_map(Weak::upgrade).filter(|state| !Rc::ptr_eq(state, &current));
        current.stats.core.older.set(older.map(|state| held(&state)).sum());
    }

    /// The core ends: what it holds of itself goes.
    pub(crate) fn end(&self) {
        self.doors.take();
        self.has_ended.set(true);
        self.clients.forget();
        let last = self.current.take();
        drop(last);
    }

    /// A generation has ended: what it has recorded stays, and nothing is accepted for it any more.
    pub(crate) fn ended(&self, state: &CoreState, mut histograms: Box<HistogramSet>) {
        state.stats.core.generations.sub(1);
        if !histograms.is_empty() {
            histograms.complete();
            let mut left = self.left.borrow_mut();
            if left.len() >= LEFT_MAX {
                left.remove(0);
            }
            left.push(Recorded { generation: Arc::clone(&state.generation), histograms });
        }
        self.doors.borrow().iter().filter(|door| door.is_orphaned()).for_each(|door| door.end());
    }
}

impl CoreState {
    /// There is a newer generation: this one begins nothing any more, and what it has goes there or ends.
    fn supersede(&self, state: &Rc<Self>) {
        let listeners: Rc<[_]> = self.snapshot.listeners.iter().map(|old| place_of(old, state)).collect();
        for (closing, place) in self.closing.iter().zip(&*listeners) {
            closing.set(closing.get() || place.is_none());
        }
        self.upstreams.supersede(state);
        let successor = Rc::new(Successor { state: Rc::clone(state), listeners });
        let former = self.successor.replace(Some(successor));
        drop(former);
        self.is_superseded.set(true);
    }

    /// Where a connection goes on that has nothing under way, which is from then on one of that generation. `peer` is its
    /// client, once that is known.
    pub(crate) fn place(&self, open: &mut Open, peer: Option<SocketAddr>) -> Place {
        if !self.is_superseded.get() {
            return Place::Here;
        }
        let Some(Successor { state, listeners }) = self.successor.borrow().as_deref().cloned() else {
            return Place::Here;
        };
        let Some(id) = listeners[usize::from(open.listener().0)] else { return Place::Here };
        if peer.is_some_and(|peer| is_denied(state.listener(id), peer)) {
            open.counters().denied.add(1);
            return Place::Nowhere;
        }
        open.pass_on(&state, id, peer);
        Place::There(state)
    }
}

/// Where connections of a listener go on, if they may: in the one of its name, as long as that speaks the same and asks no other
/// proof of who they are.
fn place_of(old: &Listener, state: &CoreState) -> Option<ListenerId> {
    let listeners = (0..).map(ListenerId).zip(&state.snapshot.listeners);
    let (id, new) = listeners.into_iter().find(|(_, new)| keeps_socket(old, new))?;
    let speaks_the_same = match (&old.protocol, &new.protocol) {
        (Protocol::Http, Protocol::Http)
        | (Protocol::Tcp(_), Protocol::Tcp(_))
        | (Protocol::Tls(_), Protocol::Tls(_)) => true,
        (Protocol::Https(old), Protocol::Https(new)) => old.client_auth == new.client_auth,
        _ => false,
    };
    speaks_the_same.then_some(id)
}

/// Begins a core's first generation; an error where the driver refuses a socket.
pub(crate) fn open_all(state: &Rc<CoreState>, listeners: Vec<(ListenerId, Handle)>) -> io::Result<()> {
    for (id, socket) in listeners {
        let door = listener::open(state, id, socket)?;
        state.commons.doors.borrow_mut().push(door);
    }
    state.stats.core.generation.set(state.generation.number);
    Ok(())
}
