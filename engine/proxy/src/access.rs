//! Which exchanges of this core are written down, and how do they get to whoever writes? By pages, each of one log.
//!
//! Never there where no log is configured: an exchange pays for looking whether it is. Never waits, never allocates once there are
//! as many pages and notes as it takes, and never calls the kernel for a record.
//!
//! Suggested reading order: `note` (what is kept while an exchange runs), [`record`] (what is left of it), [`tray`] (how that leaves
//! the core).

mod note;
pub mod record;
pub mod tray;

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

use config::snapshot::access_log::{AccessLog, AccessLogId, LogSet, LogSetId, LogTarget, NotedId};
use config::snapshot::{Channel, ChannelId, Snapshot, UpstreamId};
use proto::http1::accept::field_values;
use runtime::{Core, Instant};
use rustls::HandshakeKind;

pub(crate) use self::note::{Note, Noted};
pub(crate) use self::record::{Kind, Marks};
use self::record::{Numbers, Text, TraceIds};
use self::tray::{Log, Origin, Page};
use crate::client::Client;
use crate::core_main::CoreState;
use crate::generation::Generation;
use crate::trace::{self, TraceContext};
use crate::upstream::Connection;
use crate::wire::Wire;
use crate::workspace::Workspace;

/// How long a record may lie on a page that is not full.
const LIE_MAX: Duration = Duration::from_millis(200);

/// Notes kept for reuse; beyond, memory goes back to the allocator.
const NOTES_KEPT_MAX: usize = 256;

/// How long the wall clock is believed to run as evenly as the other.
const ANCHOR_LASTS: Duration = Duration::from_secs(1);

/// What one core has to do with the logs of one generation.
pub(crate) struct Access {
    core: Core,
    /// Not the generation itself: a tunnel that is to be written down may last longer.
    snapshot: Arc<Snapshot>,
    generation: u64,
    logs: Arc<[Arc<Log>]>,
    /// The page that records of a log are put on, by [`AccessLogId`].
    pages: Box<[RefCell<Option<Box<Page>>>]>,
    #[expect(clippy::vec_box, reason = "a note goes to its exchange and comes back without being copied")]
    notes: RefCell<Vec<Box<Note>>>,
    /// A task sees to it that no record lies for long.
    is_watched: Cell<bool>,
    /// The core ends: no task of it begins any more. One for all generations.
    has_ended: Rc<Cell<bool>>,
    anchor: Cell<Anchor>,
}

/// A moment by both clocks.
#[derive(Clone, Copy, Default)]
struct Anchor {
    at: Instant,
    unix_us: u64,
    lasts_until: Instant,
}

impl Access {
    /// Nothing where nothing is written down.
    pub(crate) fn new(core: &Core, generation: &Generation, has_ended: &Rc<Cell<bool>>) -> Option<Rc<Self>> {
        if generation.logs.is_empty() {
            return None;
        }
        Some(Rc::new(Self {
            core: core.clone(),
            pages: generation.logs.iter().map(|_| RefCell::default()).collect(),
            snapshot: Arc::clone(&generation.snapshot),
            generation: generation.number,
            logs: Arc::clone(&generation.logs),
            notes: RefCell::default(),
            is_watched: Cell::new(false),
            has_ended: Rc::clone(has_ended),
            anchor: Cell::default(),
        }))
    }

    fn set(&self, id: LogSetId) -> &LogSet {
        &self.snapshot.access_logs.sets[usize::from(id.0)]
    }

    fn noted_text(&self, id: NotedId) -> &str {
        &self.snapshot.access_logs.noted[usize::from(id.0)].name
    }

    fn noted_name(&self, id: NotedId) -> &[u8] {
        self.noted_text(id).as_bytes()
    }

    fn note(self: &Rc<Self>, began: Instant) -> Noted {
        let note = self.notes.borrow_mut().pop().unwrap_or_default();
        Noted::new(note, self, began)
    }

    fn put_away(&self, note: Box<Note>) {
        let mut notes = self.notes.borrow_mut();
        if notes.len() < NOTES_KEPT_MAX {
            notes.push(note);
        }
    }

    /// Puts what is known of an exchange that is over on a page of each log that wants it.
    fn write(self: &Rc<Self>, note: &Note) {
        let Some(set) = note.set() else { return };
        if self.has_ended.get() {
            note.mark(Marks::CUT);
        }
        let now = || if self.has_ended.get() { self.core.turn_time() } else { self.core.now() };
        let core = self.core.index();
        let numbers = note.numbers(self.unix_us(note.began()), now, core as u32);
        let texts = note.texts();
        for id in &self.set(set).logs {
            let log = &self.logs[usize::from(id.0)];
            let terms = &self.snapshot.access_logs.logs[usize::from(id.0)];
            if self.is_drawn(terms, &numbers) {
                self.put(*id, log, core, &numbers, &texts);
            } else {
                log.trays[core].left_out.add(1);
            }
        }
    }

    /// Whether an exchange is one of those that are written.
    fn is_drawn(&self, terms: &AccessLog, numbers: &Numbers) -> bool {
        const WHOLE: u64 = 100;
        if matches!(terms.target, LogTarget::Otlp { .. }) {
            return numbers.marks.has(Marks::SAMPLED);
        }
        let class = numbers.status.unwrap_or_default() / 100;
        u64::from(terms.sample_percent) >= WHOLE
            || (terms.always.faults && (numbers.fault.is_some() || numbers.marks.has(Marks::CUT)))
            || (terms.always.client_errors && class == 4)
            || (terms.always.server_errors && class == 5)
            // The upper half of a random number, scaled.
            || ((self.core.random() >> 32) * WHOLE) >> 32 < u64::from(terms.sample_percent)
    }

    fn put(self: &Rc<Self>, id: AccessLogId, log: &Log, core: usize, numbers: &Numbers, texts: &[u8]) {
        let mut page = self.pages[usize::from(id.0)].borrow_mut();
        if page.is_none() {
            *page = log.trays[core].blank().map(|mut page| {
                page.begin(Origin {
                    snapshot: Arc::clone(&self.snapshot),
                    generation: self.generation,
                    log: id,
                });
                page
            });
        }
        let Some(open) = page.as_mut() else { return log.trays[core].dropped.add(1) };
        log.trays[core].recorded.add(1);
        if open.add(numbers, texts) {
            drop(page);
            return self.watch();
        }
        if let Some(full) = page.take() {
            log.put(core, full, true);
        }
    }

    /// Sees to it that a record that lies on a page is handed over in time.
    fn watch(self: &Rc<Self>) {
        if self.has_ended.get() || self.is_watched.replace(true) {
            return;
        }
        let access = Rc::clone(self);
        self.core.spawn(async move {
            loop {
                access.core.sleep(LIE_MAX).await;
                if !access.hand_over() {
                    break;
                }
            }
            access.is_watched.set(false);
        });
    }

    /// Hands over every page with a record on it; whether there was one.
    fn hand_over(&self) -> bool {
        let mut was_any = false;
        for (log, page) in self.logs.iter().zip(&self.pages) {
            if let Some(page) = page.borrow_mut().take() {
                was_any = true;
                log.put(self.core.index(), page, false);
            }
        }
        was_any
    }

    /// A moment by the clock on the wall, in microseconds since 1970.
    fn unix_us(&self, moment: Instant) -> u64 {
        let mut anchor = self.anchor.get();
        let now = self.core.turn_time();
        if now >= anchor.lasts_until {
            let since_1970 = self.core.wall_clock().duration_since(UNIX_EPOCH).unwrap_or_default();
            let unix_us = u64::try_from(since_1970.as_micros()).unwrap_or(u64::MAX);
            anchor = Anchor { at: self.core.now(), unix_us, lasts_until: now + ANCHOR_LASTS };
            self.anchor.set(anchor);
        }
        let micros = |duration: Duration| u64::try_from(duration.as_micros()).unwrap_or(u64::MAX);
        if moment >= anchor.at {
            anchor.unix_us.saturating_add(micros(moment.since(anchor.at)))
        } else {
            anchor.unix_us.saturating_sub(micros(anchor.at.since(moment)))
        }
    }
}

impl Drop for Access {
    fn drop(&mut self) {
        self.hand_over();
    }
}

/// Begins to keep what logs want of an exchange whose head is known: those of its channel, once that is found, else those of its
/// listener.
#[cold]
#[inline(never)]
pub(crate) fn begin(
    state: &CoreState,
    access: &Rc<Access>,
    client: &mut Client,
    found: Option<(ChannelId, &Channel)>,
    head: &[u8],
    work: &Workspace,
) {
    let own = found.and_then(|(_, channel)| channel.access_log);
    let Some(id) = own.unwrap_or(client.settings(state).access_log) else { return };
    let set = access.set(id);
    let note = access.note(state.core.turn_time());
    if let Some(note) = note.get() {
        note.of_client(client.listener(), client.peer, client.requests > 1);
        note.of_request(Some((id, set)), access, head, &work.request);
        if let Some(TraceContext { own, parent, .. }) = trace::of(state, work) {
            let parent_id = parent.map_or([0; 8], |parent| parent.0);
            note.trace(TraceIds { trace_id: own.trace.0, span_id: own.span.0, parent_id }, own.is_sampled);
        }
        if let Some((id, _)) = found {
            note.of_channel(id);
        }
        note_tls(note, client, set.wants_tls);
    }
    client.note = note;
}

/// Begins to keep what is left to say of a request whose head was not read.
#[cold]
#[inline(never)]
pub(crate) fn begin_headless(state: &CoreState, access: &Rc<Access>, client: &mut Client) {
    begin_unread(state, access, client, Kind::Http);
}

/// Begins to keep what there is to say of a connection whose bytes are relayed.
#[cold]
#[inline(never)]
pub(crate) fn begin_relay(state: &CoreState, access: &Rc<Access>, client: &mut Client, kind: Kind) {
    begin_unread(state, access, client, kind);
}

fn begin_unread(state: &CoreState, access: &Rc<Access>, client: &mut Client, kind: Kind) {
    let Some(id) = client.settings(state).access_log else { return };
    let note = access.note(state.core.turn_time());
    if let Some(note) = note.get() {
        note.of_client(client.listener(), client.peer, client.requests > 1);
        note.of_connection(Some(id), kind);
        note_tls(note, client, access.set(id).wants_tls);
    }
    client.note = note;
}

fn note_tls(note: &Note, client: &Client, is_wanted: bool) {
    let Wire::Private(stream) = &client.stream else { return };
    note.mark(Marks::PRIVATE);
    if !is_wanted {
        return;
    }
    let version = stream.version().map_or(0, u16::from);
    let cipher = stream.cipher_suite().map_or(0, |suite| u16::from(suite.suite()));
    let is_resumed = stream.handshake_kind() == Some(HandshakeKind::Resumed);
    let name = stream.server_name();
    let subject = client.identity.as_deref().and_then(|identity| identity.subject());
    let texts = [
        (Text::ServerName, name.as_deref().map(str::as_bytes)),
        (Text::Certificate, subject.map(str::as_bytes)),
    ];
    note.of_tls(version, cipher, is_resumed, texts);
}

/// Keeps to whom the request of an exchange goes.
#[cold]
#[inline(never)]
pub(crate) fn note_endpoint(state: &CoreState, note: &Note, connection: &Connection) {
    state
        .upstreams
        .tell_name(connection, |name| note.of_endpoint(connection.upstream, name, connection.is_reused));
}

/// Keeps for which upstream a request is, how much of its body came with its head, and the id that it goes by in its head as it goes
/// out, if a log wants that.
#[cold]
#[inline(never)]
pub(crate) fn note_forwarded(
    state: &CoreState,
    note: &Note,
    upstream: UpstreamId,
    head: &[u8],
    body_bytes: usize,
) {
    note.upstream(upstream);
    note.received.iter().for_each(|counter| counter.add(body_bytes as u64));
    let (Some(access), Some(set)) = (&state.access, note.set()) else { return };
    if access.set(set).wants_request_id
        && let Some(id) = field_values(head, "X-Request-ID").next()
    {
        note.of_request_id(id);
    }
}

/// Keeps what logs want of an answer, from its status and its head as it is sent.
#[cold]
#[inline(never)]
pub(crate) fn note_answer(state: &CoreState, note: &Note, status: u16, head: &[u8]) {
    note.status(Some(status));
    let (Some(access), Some(set)) = (&state.access, note.set()) else { return };
    let set = access.set(set);
    if !set.answer_fields.is_empty() {
        note.of_answer(set, access, head);
    }
}
