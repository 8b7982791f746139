//! What does one core of the gateway own, and how does it begin and end?
//!
//! Never touched by another thread: mail in, statistics out, nothing else.

use std::cell::{Cell, OnceCell, RefCell};
use std::io;
use std::rc::{Rc, Weak};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Poll, Waker};
use std::time::Duration;

use config::snapshot::{Listener, ListenerId, Snapshot, UpstreamId};
use proto::matching::MatchCaches;
use runtime::mailbox::{Receiver, Sender};
use runtime::{Core, CoreConfig, Handle, Instant};

use crate::access::Access;
use crate::admission::Admission;
use crate::client::Client;
use crate::commons::{self, Commons, Successor};
use crate::date::DateText;
use crate::exchange::Route;
use crate::generation::Generation;
use crate::handshake::Handshakes;
use crate::message::{CoreMessage, LastWord};
use crate::private::Private;
use crate::relay::SetAside;
use crate::roster::Roster;
use crate::rules::edits::Paths;
use crate::stats::{CoreStats, HistogramSet, Phase};
use crate::tokens::TokenCache;
use crate::upstream::Upstreams;
use crate::workspace::{AnswerSpace, Spaces, Workspace};

/// Marks the tags of parked upstream connections; clients' tags lack it.
const UPSTREAM_TAG: u32 = 1 << 31;

/// Everything a core is given.
#[derive(Debug)]
pub struct CoreSetup {
    /// Executor: CPU, driver, buffers.
    pub config: CoreConfig,
    /// What it begins with; the same for all cores.
    pub generation: Arc<Generation>,
    /// This core's own listening sockets.
    pub listeners: Vec<(ListenerId, Handle)>,
    /// What this core is told.
    pub mailbox: Receiver<CoreMessage>,
    /// All cores by index, this one included.
    pub fellows: Arc<[Fellow]>,
}

/// What a core knows of another.
#[derive(Clone, Debug)]
pub struct Fellow {
    /// Its mailbox.
    pub sender: Sender<CoreMessage>,
}

/// One core's own things in one generation, reached by all of its tasks.
pub(crate) struct CoreState {
    pub(crate) core: Core,
    pub(crate) generation: Arc<Generation>,
    pub(crate) snapshot: Arc<Snapshot>,
    pub(crate) stats: Arc<CoreStats>,
    pub(crate) fellows: Arc<[Fellow]>,
    pub(crate) admission: Arc<Admission>,
    /// What outlives it.
    pub(crate) commons: Rc<Commons>,
    /// There is a newer generation, where connections go on that have nothing under way; see `commons.rs`.
    pub(crate) is_superseded: Cell<bool>,
    pub(crate) successor: RefCell<Option<Rc<Successor>>>,
    /// By listener: whether its connections end with the exchange they carry.
    pub(crate) closing: Box<[Cell<bool>]>,
    pub(crate) upstreams: Upstreams,
    /// `Host` for requests of HTTP/1.0 without one, by upstream: the address of its first endpoint.
    pub(crate) host_fallbacks: Box<[String]>,
    pub(crate) workspaces: Spaces<Workspace>,
    pub(crate) answer_spaces: Spaces<AnswerSpace>,
    pub(crate) match_caches: RefCell<MatchCaches>,
    /// Itself, for tasks that outlive the exchange that begins them.
    pub(crate) myself: OnceCell<Weak<CoreState>>,
    /// Requests that are let wait on purpose, and copies of requests on their way; see [`crate::rules`].
    pub(crate) delayed: Cell<u32>,
    pub(crate) copies: Cell<u32>,
    /// What paths are written anew with.
    pub(crate) paths: Paths,
    /// What is known of tokens that requests have brought.
    pub(crate) token_cache: TokenCache,
    /// What answers without a `Date` are given.
    pub(crate) date: DateText,
    pub(crate) histograms: RefCell<Box<HistogramSet>>,
    pub(crate) private: Arc<Private>,
    pub(crate) handshakes: Handshakes,
    /// Bytes of messages whose receivers do not take them.
    pub(crate) set_aside: SetAside,
    /// Where exchanges are written down, if anywhere.
    pub(crate) access: Option<Rc<Access>>,
    /// Tasks that wait for another request of their client; see [`crate::client`].
    pub(crate) lingering: Cell<u32>,
}

impl CoreState {
    /// What the core begins with.
    fn first(core: &Core, generation: Arc<Generation>, fellows: &Arc<[Fellow]>) -> Rc<Self> {
        let upstreams = Upstreams::new(core, &generation, fellows, None, UPSTREAM_TAG);
        Self::new(core, generation, fellows, &Rc::default(), upstreams)
    }

    /// What follows `former`.
    pub(crate) fn next(former: &Self, generation: Arc<Generation>) -> Rc<Self> {
        let Self { core, fellows, commons, upstreams, .. } = former;
        let upstreams = Upstreams::new(core, &generation, fellows, Some(upstreams), UPSTREAM_TAG);
        Self::new(core, generation, fellows, commons, upstreams)
    }

    fn new(
        core: &Core,
        generation: Arc<Generation>,
        fellows: &Arc<[Fellow]>,
        commons: &Rc<Commons>,
        upstreams: Upstreams,
    ) -> Rc<Self> {
        let snapshot = Arc::clone(&generation.snapshot);
        let state = Rc::new(Self {
            match_caches: RefCell::new(snapshot.channel_table.caches()),
            histograms: RefCell::new(Box::new(HistogramSet::new(&snapshot))),
            closing: snapshot.listeners.iter().map(|_| Cell::new(false)).collect(),
            host_fallbacks: host_fallbacks(&snapshot, &generation.roster),
            is_superseded: Cell::new(false),
            successor: RefCell::default(),
            upstreams,
            workspaces: Spaces::default(),
            answer_spaces: Spaces::default(),
            myself: OnceCell::new(),
            delayed: Cell::new(0),
            copies: Cell::new(0),
            paths: Paths::new(&snapshot),
            token_cache: TokenCache::default(),
            date: DateText::default(),
            set_aside: SetAside::default(),
            access: Access::new(core, &generation, &commons.has_ended),
            lingering: Cell::new(0),
            handshakes: Handshakes::new(&snapshot),
            private: Arc::clone(&generation.private),
            stats: Arc::clone(&generation.stats[core.index()]),
            admission: Arc::clone(&generation.admission),
            commons: Rc::clone(commons),
            core: core.clone(),
            fellows: Arc::clone(fellows),
            generation,
            snapshot,
        });
        // Nobody has set it before.
        let _ = state.myself.set(Rc::downgrade(&state));
        state
    }

    pub(crate) fn listener(&self, id: ListenerId) -> &Listener {
        &self.snapshot.listeners[usize::from(id.0)]
    }

    /// Whether the core drains.
    pub(crate) fn is_draining(&self) -> bool {
        self.commons.drain.timeout.get().is_some()
    }

    /// Whether a listener's connections end with the exchange they carry: the core drains, or the listener is gone. In a drain
    /// those of an internal one last as long as the core: what its clients are still owed may come by them.
    #[inline]
    pub(crate) fn closes(&self, listener: ListenerId) -> bool {
        self.closing[usize::from(listener.0)].get()
    }

    /// Records how long a phase of an exchange took, and for the logs that want it.
    pub(crate) fn record_of(&self, client: &Client, route: &Route<'_>, phase: Phase, duration: Duration) {
        self.record(route, phase, duration);
        if let Some(note) = client.note.get() {
            note.phase(phase, duration);
        }
    }

    /// Records how long a phase of an exchange took.
    pub(crate) fn record(&self, route: &Route<'_>, phase: Phase, duration: Duration) {
        self.histograms.borrow_mut().channel(route.id).record(phase, duration);
    }
}

impl Drop for CoreState {
    fn drop(&mut self) {
        self.commons.ended(self, self.histograms.take());
    }
}

/// Runs a core on the calling thread, until it is told to drain and has done so.
///
/// # Errors
/// When the driver cannot be set up or fails.
pub fn serve(setup: CoreSetup) -> io::Result<()> {
    let failure = Rc::new(Cell::new(None));
    let failed = Rc::clone(&failure);
    runtime::run(setup.config.clone(), move |core| async move {
        if let Err(error) = serve_on(core, setup).await {
            failed.set(Some(error));
        }
    })?;
    failure.take().map_or(Ok(()), Err)
}

/// What [`serve`] does, on a core that runs already; its configuration in `setup` is not looked at again.
///
/// # Errors
/// When the driver refuses a listener.
pub async fn serve_on(core: Core, setup: CoreSetup) -> io::Result<()> {
    let CoreSetup { config: _, generation, listeners, mailbox, fellows } = setup;
    let state = CoreState::first(&core, generation, &fellows);
    let commons = Rc::clone(&state.commons);
    commons.begin(&state);
    let _end = End(&commons);
    let parked = Rc::clone(&commons);
    core.on_parked(move |stream, tag, event| {
        if tag & UPSTREAM_TAG != 0 {
            parked.current().upstreams.wake_idle(stream, tag, event);
        } else {
            parked.clients.wake(stream, tag, event);
        }
    });
    commons::open_all(&state, listeners)?;
    drop(state);
    core.spawn(read_mail(core.clone(), Rc::clone(&commons), mailbox));
    let timeout = commons.drain.begun().await;
    finish(&core, &commons, timeout).await;
    if let Some(LastWord { generation, empty, reply }) = commons.drain.last.take() {
        // As with every set: a full queue means that control is gone.
        let _ = reply.push(commons.collect(generation, empty));
    }
    Ok(())
}

/// Lets a core go: what its generations share leads back to them.
struct End<'a>(&'a Commons);

impl Drop for End<'_> {
    fn drop(&mut self) {
        self.0.end();
    }
}

/// `Host` for requests without one. That of an upstream that begins with no endpoint says no more than where it is not.
fn host_fallbacks(snapshot: &Snapshot, roster: &Roster) -> Box<[String]> {
    let first = |id| roster.members(id).all.first().map(|member| member.address.host());
    let ids = (0..snapshot.upstreams.len() as u16).map(UpstreamId);
    ids.map(|id| first(id).unwrap_or_else(|| "localhost".to_owned())).collect()
}

/// Does what the core is told. While it drains too: another core may not know yet, and hand connections over.
async fn read_mail(core: Core, commons: Rc<Commons>, mailbox: Receiver<CoreMessage>) {
    loop {
        match mailbox.recv(&core).await {
            CoreMessage::Adopt { fd, peer, generation, listener, permit } => {
                commons.adopt(fd, peer, &generation, listener, permit);
                // Counted last: until then nobody takes the connection for gone.
                commons.current().stats.taken_over.add(1);
            }
            CoreMessage::CollectHistograms { generation, empty, reply } => {
                // A full queue means that control is gone or far behind: what was recorded is dropped with it.
                let _ = reply.push(commons.collect(generation, empty));
            }
            // Of a generation that has ended, or that this core has yet to take up, nobody is there to be told.
            CoreMessage::Look { generation, upstream } => {
                commons.find(generation).iter().for_each(|state| state.upstreams.look(upstream));
            }
            CoreMessage::Room { generation, upstream } => {
                commons.find(generation).iter().for_each(|state| state.upstreams.called(upstream));
            }
            CoreMessage::Renew { generation, opened } => commons.renew(generation, opened),
            CoreMessage::Turn => {}
            CoreMessage::Open(sockets) => {
                let state = commons.current();
                sockets.into_iter().for_each(|(id, socket)| commons.open(&state, id, socket));
            }
            CoreMessage::Drain { timeout, left, last } => {
                commons.drain.last.set(last);
                commons.drain.begin(timeout);
                commons.close(&left);
            }
        }
        commons.count();
    }
}

/// Lets what has begun end, at most for `timeout`.
async fn finish(core: &Core, commons: &Commons, timeout: Duration) {
    let deadline = core.now() + timeout;
    commons.clients.shorten_waits(core);
    wait_until(core, deadline, || commons.accepting.get() == 0).await;
    let state = commons.current();
    state.stats.accepts_no_more.store(true, Ordering::Release);
    wait_until(core, deadline, || is_over(&state)).await;
}

/// Looks again and again, because what is waited for may happen on another core.
async fn wait_until(core: &Core, deadline: Instant, is_so: impl Fn() -> bool) {
    const LOOK_EVERY: Duration = Duration::from_millis(5);
    while !is_so() && core.now() < deadline {
        core.sleep_until((core.now() + LOOK_EVERY).min(deadline)).await;
    }
}

/// Whether no core has a client left or will get one. Not this core alone: another's exchange may come in by an
/// internal listener here, and a connection may be on its way in a mailbox.
fn is_over(state: &CoreState) -> bool {
    let cores = || state.generation.stats.iter().map(|stats| &**stats);
    let sum = |count: fn(&CoreStats) -> u64| cores().map(count).fold(0, u64::wrapping_add);
    let listeners = || cores().flat_map(|core| state.snapshot.listeners.iter().zip(&core.listeners));
    let former = || state.generation.former_listeners().iter().filter(|former| !former.internal);
    cores().all(|core| core.accepts_no_more.load(Ordering::Acquire))
        && sum(|core| core.handed_over.value()) == sum(|core| core.taken_over.value())
        && listeners().all(|(listener, counters)| listener.internal || counters.connections_open.value() == 0)
        && former().flat_map(|former| &former.shards).all(|counters| counters.connections_open.value() == 0)
}

/// Tells a core's tasks that it drains.
#[derive(Default)]
pub(crate) struct Drain {
    /// How long what has begun may go on; `None` before the drain.
    timeout: Cell<Option<Duration>>,
    waiting: RefCell<Vec<Waker>>,
    /// Who is told at the end what was recorded.
    last: Cell<Option<LastWord>>,
}

impl Drain {
    fn begin(&self, timeout: Duration) {
        self.timeout.set(Some(timeout));
        self.waiting.take().into_iter().for_each(Waker::wake);
    }

    /// Waits until the core drains; says how long it may take. For the few tasks that live as long as the core.
    pub(crate) async fn begun(&self) -> Duration {
        std::future::poll_fn(|context| {
            if let Some(timeout) = self.timeout.get() {
                return Poll::Ready(timeout);
            }
            let mut waiting = self.waiting.borrow_mut();
            if !waiting.iter().any(|waker| waker.will_wake(context.waker())) {
                waiting.push(context.waker().clone());
            }
            Poll::Pending
        })
        .await
    }
}

/// The earlier of `timeout` from now and the end of the exchange.
pub(crate) fn deadline(core: &Core, timeout: Duration, total: Instant) -> Instant {
    (core.turn_time() + timeout).min(total)
}
