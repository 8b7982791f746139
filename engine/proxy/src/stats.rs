//! What has each core done? Counters and histograms that one core writes and others read.
//!
//! Never a lock, never a shared cache line, never an allocation once a channel has been used.
//!
//! Counters are read in place while the core goes on writing. Histograms are handed over whole: control sends an
//! empty set to the core's mailbox, the core puts it in place of the full one and sends that back.

use std::ops::Deref;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::time::Duration;

use config::snapshot::{ChannelId, ListenerId, Snapshot};
use crossbeam_queue::ArrayQueue;
use proto::client_hello::HelloRejected;
use proto::histogram::{LatencyHistogram, latency_histogram};
use proto::http1::chunked::ChunkRejected;
use proto::http1::rejected::{RequestRejected, ResponseRejected};
use proto::proxy_protocol::ProxyRejected;
use proto::retry::Cause;
use runtime::counter::{Counter, RuntimeCounters};

use crate::generation::Generation;
use crate::handshake_fault::HandshakeFault;
use crate::outcome::Fault;
use crate::upstream::NOBODY;

/// Everything one core counts in one generation. Written by that core alone; what keeps its name from one generation to the
/// next is counted in the same place.
#[derive(Debug)]
pub struct CoreStats {
    /// The executor's own counters.
    pub runtime: Arc<RuntimeCounters>,
    /// What is no single module's.
    pub core: Arc<CoreCounters>,
    /// By [`config::snapshot::ListenerId`].
    pub listeners: Box<[Arc<ListenerCounters>]>,
    /// By [`ChannelId`].
    pub channels: Box<[Arc<ChannelCounters>]>,
    /// By [`config::snapshot::UpstreamId`].
    pub upstreams: Box<[Arc<UpstreamCounters>]>,
    /// By [`config::snapshot::EndpointId`].
    pub endpoints: Box<[Arc<EndpointCounters>]>,
}

/// So that whoever counts need not know which of the numbers outlast a configuration.
impl Deref for CoreStats {
    type Target = CoreCounters;

    fn deref(&self) -> &CoreCounters {
        &self.core
    }
}

/// What one core counts whatever the configuration.
#[derive(Debug)]
#[repr(align(128))]
pub struct CoreCounters {
    /// Faults of exchanges by [`Fault::index`].
    pub faults: [Counter; Fault::COUNT],
    /// Failed handshakes with clients by [`HandshakeFault::index`].
    pub handshake_faults: [Counter; HandshakeFault::COUNT],
    /// Failed handshakes with endpoints, likewise.
    pub upstream_handshake_faults: [Counter; HandshakeFault::COUNT],
    /// Refused request heads by [`RequestRejected::index`].
    pub requests_rejected: [Counter; RequestRejected::COUNT],
    /// Refused response heads by [`ResponseRejected::index`].
    pub responses_rejected: [Counter; ResponseRejected::COUNT],
    /// Refused bodies of requests by rule, in the order of [`ChunkRejected::ALL`].
    pub request_bodies_rejected: [Counter; ChunkRejected::ALL.len()],
    /// Refused bodies of responses, likewise.
    pub response_bodies_rejected: [Counter; ChunkRejected::ALL.len()],
    /// Connections refused by a rule of PROXY headers, in the order of [`ProxyRejected::ALL`].
    pub proxy_headers_rejected: [Counter; ProxyRejected::ALL.len()],
    /// Connections refused by a rule of TLS hellos, in the order of [`HelloRejected::ALL`].
    pub hellos_rejected: [Counter; HelloRejected::ALL.len()],
    /// Connections handed to a less loaded core when accepted.
    pub handed_over: Counter,
    /// Connections taken from another core.
    pub taken_over: Counter,
    /// Hand-overs that the other core's full mailbox refused; the connection stayed.
    pub handover_refused: Counter,
    /// Number of the generation that the core has taken up (gauge).
    pub generation: Counter,
    /// Generations by which something is still served, the latest included (gauge).
    pub generations: Counter,
    /// What is still served by older ones, in tasks and connections that wait, when the core was last told something (gauge).
    pub older: Counter,
    /// The core drains, has closed its listeners and hands nothing over any more. Not a figure: other cores wait for it.
    pub(crate) accepts_no_more: AtomicBool,
}

/// What a core counts of one listener.
#[derive(Debug, Default)]
#[repr(align(128))]
pub struct ListenerCounters {
    /// Connections accepted by this core, handed over or not.
    pub accepted: Counter,
    /// Errors of accept, mostly for want of descriptors.
    pub accept_errors: Counter,
    /// Accepted connections closed at once because the listener had as many as it may have.
    pub over_connections: Counter,
    /// Accepted connections closed at once because their address had as many as it may have.
    pub over_connections_per_address: Counter,
    /// Connections closed because the listener does not let their address in.
    pub denied: Counter,
    /// Full handshakes done, in TLS 1.2.
    pub handshakes_tls12: Counter,
    /// Full handshakes done, in TLS 1.3.
    pub handshakes_tls13: Counter,
    /// Sessions resumed, in TLS 1.2.
    pub resumptions_tls12: Counter,
    /// Sessions resumed, in TLS 1.3.
    pub resumptions_tls13: Counter,
    /// Handshakes that failed; see [`CoreCounters::handshake_faults`].
    pub handshakes_failed: Counter,
    /// Handshakes in progress now (gauge).
    pub handshakes_open: Counter,
    /// Connections closed because they were idle too long.
    pub idle_timeouts: Counter,
    /// Requests whose head was received, or refused by a rule of HTTP.
    pub requests: Counter,
    /// Messages received from clients, where bytes are relayed that have messages.
    pub messages_received: Counter,
    /// Messages received for clients, likewise.
    pub messages_sent: Counter,
    /// Bytes received from clients.
    pub bytes_received: Counter,
    /// Bytes sent to clients.
    pub bytes_sent: Counter,
    /// Connections open now (gauge), on the core that serves them.
    pub connections_open: Counter,
    /// Exchanges in progress now (gauge).
    pub exchanges_open: Counter,
}

/// What a core counts of one channel.
#[derive(Debug, Default)]
#[repr(align(128))]
pub struct ChannelCounters {
    /// Exchanges that ended, however.
    pub requests: Counter,
    /// Final answers sent, by first digit of the status: index 0 is 1xx.
    pub responses: [Counter; 5],
    /// Exchanges that ended in a fault of any side.
    pub faults: Counter,
    /// Times that a request went out again after a try had failed.
    pub retries: Counter,
    /// Body bytes received from clients.
    pub body_bytes_received: Counter,
    /// Body bytes sent to clients.
    pub body_bytes_sent: Counter,
    /// Requests refused because their client's address may not come in.
    pub denied: Counter,
    /// Requests refused because they brought no token that is believed.
    pub unauthorized: Counter,
    /// Requests refused because their token does not allow what the channel demands.
    pub over_scope: Counter,
    /// Requests refused because the channel has had as many as its rate allows.
    pub over_rate: Counter,
    /// The same of their client's address.
    pub over_rate_per_address: Counter,
    /// The same of the value of a field.
    pub over_rate_per_header: Counter,
    /// Requests that were let wait on purpose.
    pub delayed: Counter,
    /// Requests that were not, because too many waited.
    pub delays_skipped: Counter,
    /// Requests that were answered with an error on purpose.
    pub aborted: Counter,
    /// Copies of requests that were sent and answered.
    pub mirrored: Counter,
    /// Copies that were not.
    pub mirror_failures: Counter,
    /// Requests whose turn it was to be copied and that were not: they may have effects, were not whole at once or too large,
    /// or too many copies were on their way.
    pub mirrors_skipped: Counter,
    /// Requests refused because the channel has as many exchanges in progress as it may have.
    pub over_concurrency: Counter,
    /// The same of their client's address.
    pub over_concurrency_per_address: Counter,
}

/// What a core counts of one upstream as a whole.
#[derive(Debug, Default)]
#[repr(align(128))]
pub struct UpstreamCounters {
    /// Times that a request or connection was tried again, by [`Cause::index`].
    pub retries: [Counter; Cause::ALL.len()],
    /// Those that were not, because as many had been as the budget allows.
    pub retries_over_budget: Counter,
    /// Cookies of clients that named no endpoint that is there; ignored.
    pub cookies_unknown: Counter,
    /// Cookies given to clients that had none, or whose endpoint is gone.
    pub cookies_set: Counter,
    /// Sessions of client addresses forgotten early, to make room for others.
    pub sessions_displaced: Counter,
    /// Sessions of client addresses that could not be remembered, for too many cores wanted to at once.
    pub sessions_forgotten: Counter,
    /// Requests sent to a second endpoint because the answer was slow in coming.
    pub hedges: Counter,
    /// Those of them that the second endpoint answered first.
    pub hedges_won: Counter,
    /// Requests and relayed connections that had to wait until an endpoint may have another connection.
    pub queued: Counter,
    /// Idle connections closed so that somebody on another core may have one.
    pub given_up: Counter,
    /// Those that wait now (gauge).
    pub waiting: Counter,
    /// Since when the first of them waits, by the clock of the cores. Not a figure: other cores look who has waited longest.
    pub(crate) waiting_since: WaitingSince,
}

/// A moment in nanoseconds; nobody waits at first.
#[derive(Debug)]
pub(crate) struct WaitingSince(AtomicU64);

impl Default for WaitingSince {
    fn default() -> Self {
        Self(AtomicU64::new(NOBODY))
    }
}

impl Deref for WaitingSince {
    type Target = AtomicU64;

    fn deref(&self) -> &AtomicU64 {
        &self.0
    }
}

/// What a core counts of one endpoint.
#[derive(Debug, Default)]
#[repr(align(128))]
pub struct EndpointCounters {
    /// Requests sent to it.
    pub requests: Counter,
    /// Connections made.
    pub connections_opened: Counter,
    /// Connections that could not be made.
    pub connect_failures: Counter,
    /// Full handshakes done on those made.
    pub handshakes: Counter,
    /// Sessions resumed on those made.
    pub resumptions: Counter,
    /// Requests sent over a connection used before.
    pub reused: Counter,
    /// Idle connections that the endpoint closed, spoke on, or that timed out.
    pub idle_closed: Counter,
    /// Idle connections kept now (gauge).
    pub idle: Counter,
    /// Connections carrying an exchange now (gauge).
    pub active: Counter,
}

impl ListenerCounters {
    /// Adds what a listener has counted that is gone, and that nobody counts in any more.
    pub(crate) fn absorb(&self, gone: &Self) {
        // Taken apart, so that nothing is forgotten that comes to be counted.
        let Self {
            accepted,
            accept_errors,
            over_connections,
            over_connections_per_address,
            denied,
            handshakes_tls12,
            handshakes_tls13,
            resumptions_tls12,
            resumptions_tls13,
            handshakes_failed,
            handshakes_open,
            idle_timeouts,
            requests,
            messages_received,
            messages_sent,
            bytes_received,
            bytes_sent,
            connections_open,
            exchanges_open,
        } = gone;
        for (sum, count) in [
            (&self.accepted, accepted),
            (&self.accept_errors, accept_errors),
            (&self.over_connections, over_connections),
            (&self.over_connections_per_address, over_connections_per_address),
            (&self.denied, denied),
            (&self.handshakes_tls12, handshakes_tls12),
            (&self.handshakes_tls13, handshakes_tls13),
            (&self.resumptions_tls12, resumptions_tls12),
            (&self.resumptions_tls13, resumptions_tls13),
            (&self.handshakes_failed, handshakes_failed),
            (&self.handshakes_open, handshakes_open),
            (&self.idle_timeouts, idle_timeouts),
            (&self.requests, requests),
            (&self.messages_received, messages_received),
            (&self.messages_sent, messages_sent),
            (&self.bytes_received, bytes_received),
            (&self.bytes_sent, bytes_sent),
            (&self.connections_open, connections_open),
            (&self.exchanges_open, exchanges_open),
        ] {
            sum.add(count.value());
        }
    }
}

impl ChannelCounters {
    /// Adds what a channel has counted that is gone, and that nobody counts in any more.
    pub(crate) fn absorb(&self, gone: &Self) {
        // Taken apart, so that nothing is forgotten that comes to be counted.
        let Self {
            requests,
            responses,
            faults,
            retries,
            body_bytes_received,
            body_bytes_sent,
            denied,
            over_rate,
            over_rate_per_address,
            over_rate_per_header,
            delayed,
            delays_skipped,
            aborted,
            mirrored,
            mirror_failures,
            mirrors_skipped,
            over_concurrency,
            over_concurrency_per_address,
            unauthorized,
            over_scope,
        } = gone;
        for (sum, count) in [
            (&self.requests, requests),
            (&self.faults, faults),
            (&self.retries, retries),
            (&self.body_bytes_received, body_bytes_received),
            (&self.body_bytes_sent, body_bytes_sent),
            (&self.denied, denied),
            (&self.over_rate, over_rate),
            (&self.over_rate_per_address, over_rate_per_address),
            (&self.over_rate_per_header, over_rate_per_header),
            (&self.delayed, delayed),
            (&self.delays_skipped, delays_skipped),
            (&self.aborted, aborted),
            (&self.mirrored, mirrored),
            (&self.mirror_failures, mirror_failures),
            (&self.mirrors_skipped, mirrors_skipped),
            (&self.over_concurrency, over_concurrency),
            (&self.over_concurrency_per_address, over_concurrency_per_address),
            (&self.unauthorized, unauthorized),
            (&self.over_scope, over_scope),
        ] {
            sum.add(count.value());
        }
        self.responses.iter().zip(responses).for_each(|(sum, count)| sum.add(count.value()));
    }
}

impl CoreStats {
    /// All at zero, shaped after `snapshot`.
    #[must_use]
    pub fn new(snapshot: &Snapshot, runtime: Arc<RuntimeCounters>) -> Self {
        fn zeros<T: Default>(count: usize) -> Box<[Arc<T>]> {
            (0..count).map(|_| Arc::default()).collect()
        }
        Self {
            runtime,
            core: Arc::default(),
            listeners: zeros(snapshot.listeners.len()),
            channels: zeros(snapshot.channels.len()),
            upstreams: zeros(snapshot.upstreams.len()),
            endpoints: zeros(usize::from(snapshot.slots_count)),
        }
    }

    /// Client connections open on this core now; what accept hand-off compares.
    #[must_use]
    pub fn connections_open(&self) -> u64 {
        self.listeners.iter().map(|listener| listener.connections_open.value()).sum()
    }

    /// Exchanges in progress on this core now.
    #[must_use]
    pub fn exchanges_open(&self) -> u64 {
        self.listeners.iter().map(|listener| listener.exchanges_open.value()).sum()
    }
}

impl Default for CoreCounters {
    fn default() -> Self {
        Self {
            faults: std::array::from_fn(|_| Counter::default()),
            handshake_faults: std::array::from_fn(|_| Counter::default()),
            upstream_handshake_faults: std::array::from_fn(|_| Counter::default()),
            requests_rejected: std::array::from_fn(|_| Counter::default()),
            responses_rejected: std::array::from_fn(|_| Counter::default()),
            request_bodies_rejected: std::array::from_fn(|_| Counter::default()),
            response_bodies_rejected: std::array::from_fn(|_| Counter::default()),
            proxy_headers_rejected: std::array::from_fn(|_| Counter::default()),
            hellos_rejected: std::array::from_fn(|_| Counter::default()),
            handed_over: Counter::default(),
            taken_over: Counter::default(),
            handover_refused: Counter::default(),
            generation: Counter::default(),
            generations: Counter::default(),
            older: Counter::default(),
            accepts_no_more: AtomicBool::new(false),
        }
    }
}

impl CoreCounters {
    /// Counts a fault, and the rule of HTTP behind it if there is one.
    pub(crate) fn count_fault(&self, fault: Fault) {
        self.faults[fault.index()].add(1);
        match fault {
            Fault::RequestRejected(rule) => self.requests_rejected[rule.index()].add(1),
            Fault::ResponseRejected(rule) => self.responses_rejected[rule.index()].add(1),
            Fault::RequestBodyRejected(rule) => self.request_bodies_rejected[rule as usize].add(1),
            Fault::ResponseBodyRejected(rule) => self.response_bodies_rejected[rule as usize].add(1),
            Fault::ProxyHeaderRejected(rule) => self.proxy_headers_rejected[rule as usize].add(1),
            Fault::HelloRejected(rule) => self.hellos_rejected[rule as usize].add(1),
            _ => {}
        }
    }
}

/// A stretch of an exchange whose duration is recorded. What has come has come when the core's turn began: waiting for
/// others of the same turn counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// From the complete request head to a kept connection found, which takes no time, or a new one being asked for.
    Wait,
    /// Making a new connection; not recorded when a kept one was used.
    Connect,
    /// From the connection being there, or the last byte of a body that came later, to the first byte of the answer.
    FirstByte,
    /// From the first byte of the answer to its last being sent: handed to the kernel, or with a small message left for the
    /// end of the turn.
    Body,
    /// From the complete request head to the last byte of the answer being sent, in the same sense.
    Total,
}

impl Phase {
    /// All phases in the order they are passed through.
    pub const ALL: [Self; 5] = [Self::Wait, Self::Connect, Self::FirstByte, Self::Body, Self::Total];

    /// Name in queries and metrics.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Wait => "wait",
            Self::Connect => "connect",
            Self::FirstByte => "first_byte",
            Self::Body => "body",
            Self::Total => "total",
        }
    }
}

/// Latencies of one row on one core, one histogram per phase, in nanoseconds.
#[derive(Clone, Debug)]
pub struct PhaseHistograms {
    phases: [LatencyHistogram; Phase::ALL.len()],
    /// Exchanges that did not wait for a connection: nearly all, and counting them costs a tenth of recording. In the
    /// histogram once the set is [complete](HistogramSet::complete).
    waits_of_no_time: u32,
}

impl Default for PhaseHistograms {
    fn default() -> Self {
        Self { phases: std::array::from_fn(|_| latency_histogram()), waits_of_no_time: 0 }
    }
}

impl PhaseHistograms {
    /// The histogram of one phase.
    #[must_use]
    pub fn of(&self, phase: Phase) -> &LatencyHistogram {
        &self.phases[phase as usize]
    }

    pub(crate) fn record(&mut self, phase: Phase, duration: Duration) {
        let nanos = u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
        self.phases[phase as usize].saturating_record(nanos);
    }

    /// Records that an exchange found a kept connection.
    pub(crate) fn record_no_wait(&mut self) {
        self.waits_of_no_time = self.waits_of_no_time.saturating_add(1);
    }

    fn complete(&mut self) {
        let count = std::mem::take(&mut self.waits_of_no_time);
        if count > 0 {
            self.phases[Phase::Wait as usize].saturating_record_n(0, count);
        }
    }

    fn clear(&mut self) {
        self.waits_of_no_time = 0;
        for histogram in &mut self.phases {
            if !histogram.is_empty() {
                histogram.reset();
            }
        }
    }
}

/// Whose latencies.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Row {
    /// Of the exchanges that a channel took.
    Channel(ChannelId),
    /// Of the messages of a listener that relays bytes: from the end of one to the answer to it.
    Listener(ListenerId),
}

/// All latencies on one core; the histograms of a row exist once it has been used.
#[derive(Debug, Default)]
pub struct HistogramSet {
    channels: Vec<Option<Box<PhaseHistograms>>>,
    listeners: Vec<Option<Box<PhaseHistograms>>>,
}

impl HistogramSet {
    /// An empty set, shaped after `snapshot`.
    #[must_use]
    pub fn new(snapshot: &Snapshot) -> Self {
        let rows = |count| (0..count).map(|_| None).collect();
        Self { channels: rows(snapshot.channels.len()), listeners: rows(snapshot.listeners.len()) }
    }

    /// The histograms of each row that was used.
    pub fn rows(&self) -> impl Iterator<Item = (Row, &PhaseHistograms)> {
        let channels = (0..).map(|id| Row::Channel(ChannelId(id))).zip(&self.channels);
        let listeners = (0..).map(|id| Row::Listener(ListenerId(id))).zip(&self.listeners);
        channels.chain(listeners).filter_map(|(row, histograms)| Some((row, histograms.as_deref()?)))
    }

    #[inline]
    pub(crate) fn channel(&mut self, channel: ChannelId) -> &mut PhaseHistograms {
        self.channels[usize::from(channel.0)].get_or_insert_default()
    }

    pub(crate) fn listener(&mut self, listener: ListenerId) -> &mut PhaseHistograms {
        self.listeners[usize::from(listener.0)].get_or_insert_default()
    }

    /// Puts into the histograms what was only counted so far; before they are read.
    pub(crate) fn complete(&mut self) {
        self.channels.iter_mut().flatten().for_each(|histograms| histograms.complete());
    }

    /// Whether nothing has been recorded since it was empty.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        let rows = || self.channels.iter().chain(&self.listeners).flatten();
        rows().all(|row| row.waits_of_no_time == 0 && row.phases.iter().all(|phase| phase.is_empty()))
    }

    /// Empties all histograms and keeps their memory, for the next hand-over.
    pub fn clear(&mut self) {
        let rows = self.channels.iter_mut().chain(&mut self.listeners);
        rows.flatten().for_each(|histograms| histograms.clear());
    }
}

/// A full set on its way from a core to control.
#[derive(Debug)]
pub struct Collected {
    /// Number of the core.
    pub core: usize,
    /// What it recorded since the last time in the generation that was asked for.
    pub histograms: Box<HistogramSet>,
    /// What it recorded in others, where it did: older ones that live or have ended, and one that came meanwhile.
    pub others: Vec<Recorded>,
}

/// What a core recorded in a generation that nobody had asked for.
#[derive(Debug)]
pub struct Recorded {
    /// Whose names the rows bear.
    pub generation: Arc<Generation>,
    /// The rows.
    pub histograms: Box<HistogramSet>,
}

/// Where cores put their full sets; control empties it.
pub type CollectedQueue = Arc<ArrayQueue<Collected>>;
