//! What does an exchange keep for the logs that want it? In memory that the next one uses again.
//!
//! Never there for an exchange that no log wants. Dropping it is what writes it down, so that no end of an exchange, however
//! sudden, is left out or written twice.

use std::cell::{Cell, RefCell};
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use config::snapshot::access_log::{LogSet, LogSetId};
use config::snapshot::{ChannelId, ListenerId, UpstreamId};
use proto::http1::head::{RequestHead, Version};
use runtime::counter::Counter;
use runtime::{Chunk, Instant};

use super::Access;
use super::record::{self, Kind, Marks, Numbers, Text, TraceIds};
use crate::outcome::Fault;
use crate::stats::Phase;

/// Longest target kept, and longest value of a field line.
const TARGET_BYTES_MAX: usize = 8 * 1024;
const VALUE_BYTES_MAX: usize = 1024;
/// Text memory that a note holds on to when it is put away.
const TEXTS_BYTES_KEPT_MAX: usize = 4 * 1024;

/// What is kept of one exchange.
#[derive(Default)]
pub(crate) struct Note {
    home: Option<Rc<Access>>,
    set: Cell<Option<LogSetId>>,
    began: Cell<Instant>,
    client: Cell<Option<SocketAddr>>,
    listener: Cell<u16>,
    channel: Cell<Option<u16>>,
    upstream: Cell<Option<u16>>,
    status: Cell<Option<u16>>,
    fault: Cell<Option<u16>>,
    retries: Cell<u16>,
    tls: Cell<(u16, u16)>,
    marks: Cell<Marks>,
    phases: [Cell<Option<u32>>; 5],
    trace: Cell<TraceIds>,
    kind: Cell<Kind>,
    texts: RefCell<Vec<u8>>,
    /// Bytes received from the client, and of those a body's.
    pub(crate) received: [Counter; 2],
    /// Bytes sent to it, likewise.
    pub(crate) sent: [Counter; 2],
}

/// A note of an exchange that goes on, or none.
#[derive(Default)]
pub(crate) struct Noted(Option<Box<Note>>);

impl Noted {
    pub(super) fn new(mut note: Box<Note>, home: &Rc<Access>, began: Instant) -> Self {
        note.home = Some(Rc::clone(home));
        note.began.set(began);
        Self(Some(note))
    }

    /// The note, where a log wants the exchange.
    #[inline]
    pub(crate) fn get(&self) -> Option<&Note> {
        self.0.as_deref()
    }

    /// The exchange is over: writes it down, if some log wants it.
    #[inline]
    pub(crate) fn end(&mut self) {
        if let Some(note) = self.0.take() {
            end(note);
        }
    }
}

impl Drop for Noted {
    fn drop(&mut self) {
        self.end();
    }
}

#[cold]
#[inline(never)]
fn end(mut note: Box<Note>) {
    let Some(home) = note.home.take() else { return };
    home.write(&note);
    note.clear();
    home.put_away(note);
}

impl Note {
    fn clear(&mut self) {
        let mut texts = self.texts.take();
        texts.clear();
        texts.shrink_to(TEXTS_BYTES_KEPT_MAX);
        *self = Self { texts: RefCell::new(texts), ..Self::default() };
    }

    /// By which listener it came, from whom.
    pub(super) fn of_client(&self, listener: ListenerId, peer: SocketAddr, is_reused: bool) {
        self.listener.set(listener.0);
        self.client.set(Some(peer));
        self.mark(Marks::default().with_if(is_reused, Marks::CLIENT_REUSED));
    }

    /// Who wants it, and what of the head they want.
    pub(super) fn of_request(
        &self,
        set: Option<(LogSetId, &LogSet)>,
        access: &Access,
        head: &[u8],
        request: &RequestHead,
    ) {
        self.set.set(set.map(|(id, _)| id));
        self.mark(Marks::HAS_HEAD.with_if(request.version == Version::Http10, Marks::HTTP10));
        let mut texts = self.texts.borrow_mut();
        let mut push = |text: Text, value: &[u8], max| record::push_text(&mut texts, text as u8, value, max);
        push(Text::Method, request.method_span.of(head), VALUE_BYTES_MAX);
        push(Text::Target, request.target.of(head), TARGET_BYTES_MAX);
        if let Some(host) = request.authority(head) {
            push(Text::Host, host, VALUE_BYTES_MAX);
        }
        self.received[0].add(u64::from(request.head_bytes));
        let Some((_, set)) = set else { return };
        for field in &request.fields {
            let name = field.name.of(head);
            let wanted = set.request_fields.iter().find(|id| {
                let wanted = access.noted_name(**id);
                wanted.len() == name.len() && wanted.eq_ignore_ascii_case(name)
            });
            if let Some(id) = wanted {
                record::push_text(&mut texts, record::noted_tag(id.0), field.value.of(head), VALUE_BYTES_MAX);
            }
        }
    }

    /// Who wants it that has no head.
    pub(super) fn of_connection(&self, set: Option<LogSetId>, kind: Kind) {
        self.set.set(set);
        self.kind.set(kind);
    }

    pub(super) fn of_channel(&self, channel: ChannelId) {
        self.channel.set(Some(channel.0));
    }

    /// What TLS agreed on.
    pub(super) fn of_tls(
        &self,
        version: u16,
        cipher: u16,
        is_resumed: bool,
        texts: [(Text, Option<&[u8]>); 2],
    ) {
        self.tls.set((version, cipher));
        self.mark(Marks::default().with_if(is_resumed, Marks::RESUMED));
        for (tag, value) in texts {
            if let Some(value) = value {
                record::push_text(&mut self.texts.borrow_mut(), tag as u8, value, VALUE_BYTES_MAX);
            }
        }
    }

    /// Who was asked last.
    pub(super) fn of_endpoint(&self, upstream: UpstreamId, name: &str, is_reused: bool) {
        self.upstream.set(Some(upstream.0));
        self.marks
            .set(self.marks.get().without(Marks::ENDPOINT_REUSED).with_if(is_reused, Marks::ENDPOINT_REUSED));
        record::push_text(
            &mut self.texts.borrow_mut(),
            Text::Endpoint as u8,
            name.as_bytes(),
            VALUE_BYTES_MAX,
        );
    }

    /// Which upstream it is for.
    pub(super) fn upstream(&self, upstream: UpstreamId) {
        self.upstream.set(Some(upstream.0));
    }

    /// The id that the request goes by.
    pub(super) fn of_request_id(&self, id: &[u8]) {
        record::push_text(&mut self.texts.borrow_mut(), Text::RequestId as u8, id, VALUE_BYTES_MAX);
    }

    /// The answer's head as it is sent.
    pub(super) fn of_answer(&self, set: &LogSet, access: &Access, head: &[u8]) {
        for id in &set.answer_fields {
            for value in proto::http1::accept::field_values(head, access.noted_text(*id)) {
                record::push_text(
                    &mut self.texts.borrow_mut(),
                    record::noted_tag(id.0),
                    value,
                    VALUE_BYTES_MAX,
                );
            }
        }
    }

    /// What of its request is kept in `set`.
    pub(super) fn set(&self) -> Option<LogSetId> {
        self.set.get()
    }

    pub(crate) fn mark(&self, marks: Marks) {
        self.marks.set(self.marks.get().with(marks));
    }

    /// What was answered.
    pub(crate) fn status(&self, status: Option<u16>) {
        self.status.set(status);
    }

    /// It has failed.
    pub(crate) fn fault(&self, fault: Fault) {
        self.fault.set(u16::try_from(fault.index()).ok());
    }

    /// It goes out again.
    pub(crate) fn again(&self) {
        self.retries.set(self.retries.get().saturating_add(1));
    }

    /// It has become a tunnel, of which the client has sent this already.
    pub(crate) fn tunnel(&self, early: Option<&Chunk>) {
        self.kind.set(Kind::Tunnel);
        self.early(early);
    }

    /// The client has sent this already of what is relayed.
    pub(crate) fn early(&self, early: Option<&Chunk>) {
        let bytes = early.map_or(0, |chunk| chunk.len() as u64);
        self.received.iter().for_each(|counter| counter.add(bytes));
    }

    /// How long a phase took.
    pub(crate) fn phase(&self, phase: Phase, duration: Duration) {
        let micros = u32::try_from(duration.as_micros()).unwrap_or(u32::MAX - 1).min(u32::MAX - 1);
        self.phases[phase as usize].set(Some(micros));
    }

    /// The trace that it is part of, and whether that is sampled.
    pub(super) fn trace(&self, trace: TraceIds, is_sampled: bool) {
        self.trace.set(trace);
        self.mark(Marks::TRACED.with_if(is_sampled, Marks::SAMPLED));
    }

    /// As it is written down, with the end of a clock that is `now`.
    pub(super) fn numbers(&self, began_us: u64, now: impl Fn() -> Instant, core: u32) -> Numbers {
        let mut phases_us = self.phases.each_ref().map(Cell::get);
        let total = &mut phases_us[Phase::Total as usize];
        if total.is_none() || self.kind.get() != Kind::Http {
            let micros = now().since(self.began.get()).as_micros();
            *total = Some(u32::try_from(micros).unwrap_or(u32::MAX - 1).min(u32::MAX - 1));
        }
        let client = self.client.get();
        let (tls_version, tls_cipher) = self.tls.get();
        Numbers {
            began_us,
            client: client
                .map_or(std::net::Ipv4Addr::UNSPECIFIED.into(), |client| client.ip().to_canonical()),
            client_port: client.map_or(0, |client| client.port()),
            listener: self.listener.get(),
            channel: self.channel.get(),
            upstream: self.upstream.get(),
            status: self.status.get(),
            fault: self.fault.get(),
            retries: self.retries.get(),
            tls_version,
            tls_cipher,
            marks: self.marks.get(),
            phases_us,
            core,
            bytes_received: self.received[0].value(),
            bytes_sent: self.sent[0].value(),
            body_bytes_received: self.received[1].value(),
            body_bytes_sent: self.sent[1].value(),
            trace: self.trace.get(),
            kind: self.kind.get(),
        }
    }

    pub(super) fn began(&self) -> Instant {
        self.began.get()
    }

    pub(super) fn texts(&self) -> std::cell::Ref<'_, Vec<u8>> {
        self.texts.borrow()
    }
}
