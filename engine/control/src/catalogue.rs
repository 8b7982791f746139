//! What is counted, under which name, in which unit? Every counter of the data plane is named once, here.
//!
//! Never holds a value: an entry reads the cores' own counters in place.

use std::borrow::Cow;

use prometheus_client::registry::Unit;
use proto::retry::Cause;
use proxy::stats::{ChannelCounters, CoreStats, EndpointCounters, ListenerCounters, UpstreamCounters};
use serde::ser::{Serialize, SerializeMap, Serializer};
use utoipa::openapi::schema::{ArrayBuilder, ObjectBuilder, Type};
use utoipa::openapi::{RefOr, Schema};
use utoipa::{PartialSchema, ToSchema};

/// How a number moves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Only up.
    Counter,
    /// Up and down.
    Gauge,
}

/// One number of a shard `S`.
#[derive(Debug)]
pub(crate) struct Entry<S> {
    /// Key in `/stats`.
    pub(crate) name: &'static str,
    /// Name in `/metrics`, without prefix, unit and `_total`.
    pub(crate) metric: &'static str,
    pub(crate) unit: Option<Unit>,
    pub(crate) kind: Kind,
    /// One sentence without its full stop.
    pub(crate) help: &'static str,
    pub(crate) read: fn(&S) -> u64,
}

const fn counter<S>(name: &'static str, help: &'static str, read: fn(&S) -> u64) -> Entry<S> {
    Entry { name, metric: name, unit: None, kind: Kind::Counter, help, read }
}

const fn gauge<S>(name: &'static str, help: &'static str, read: fn(&S) -> u64) -> Entry<S> {
    Entry { name, metric: name, unit: None, kind: Kind::Gauge, help, read }
}

const fn bytes<S>(
    name: &'static str,
    metric: &'static str,
    help: &'static str,
    read: fn(&S) -> u64,
) -> Entry<S> {
    Entry { name, metric, unit: Some(Unit::Bytes), kind: Kind::Counter, help, read }
}

/// What a core counts about itself.
pub(crate) static CORE: [Entry<CoreStats>; 18] = [
    gauge("connections_open", "Client connections open now", CoreStats::connections_open),
    gauge("exchanges_open", "Exchanges in progress now", CoreStats::exchanges_open),
    counter("handed_over", "Connections handed to a less loaded core when accepted", |core| {
        core.handed_over.value()
    }),
    counter("taken_over", "Connections taken from another core", |core| core.taken_over.value()),
    counter("handover_refused", "Connections kept because the other core's mailbox was full", |core| {
        core.handover_refused.value()
    }),
    gauge("sockets", "Sockets open now", |core| core.runtime.sockets.value()),
    gauge("buffers", "Receive buffers in use now", |core| core.runtime.buffers.value()),
    counter("buffers_exhausted", "Reads put off because every buffer was in use", |core| {
        core.runtime.buffers_exhausted.value()
    }),
    gauge("pipes", "Pipes open now, in use or kept", |core| core.runtime.pipes.value()),
    bytes(
        "spliced_bytes",
        "spliced",
        "Bytes passed from connection to connection inside the kernel",
        |core| core.runtime.spliced_bytes.value(),
    ),
    gauge(
        "generations",
        "Configurations that serve still: the latest, and older ones until what they have begun ends",
        |core| core.generations.value(),
    ),
    gauge(
        "older",
        "Connections and other things that older configurations have begun, when the core was last told something",
        |core| core.older.value(),
    ),
    counter("turns", "Turns of the loop", |core| core.runtime.turns.value()),
    counter("polls", "Tasks polled", |core| core.runtime.polls.value()),
    counter("task_panics", "Tasks that panicked and were dropped", |core| core.runtime.task_panics.value()),
    counter("sleeps", "Times the core went to sleep in the kernel", |core| core.runtime.sleeps.value()),
    counter("spins_won", "Busy waits that ended with work", |core| core.runtime.spins_won.value()),
    counter("spins_lost", "Busy waits that ended without work", |core| core.runtime.spins_lost.value()),
];

/// What a core counts of a listener.
pub(crate) static LISTENER: [Entry<ListenerCounters>; 19] = [
    counter("accepted", "Connections accepted", |listener| listener.accepted.value()),
    counter("accept_errors", "Errors of accept, mostly for want of descriptors", |listener| {
        listener.accept_errors.value()
    }),
    counter(
        "over_connections",
        "Connections closed at once: the listener had as many as it may have",
        |listener| listener.over_connections.value(),
    ),
    counter(
        "over_connections_per_address",
        "Connections closed at once: their address had as many as it may have",
        |listener| listener.over_connections_per_address.value(),
    ),
    counter("denied", "Connections closed: their address may not come in", |listener| {
        listener.denied.value()
    }),
    counter("handshakes_tls12", "Full handshakes done in TLS 1.2", |listener| {
        listener.handshakes_tls12.value()
    }),
    counter("handshakes_tls13", "Full handshakes done in TLS 1.3", |listener| {
        listener.handshakes_tls13.value()
    }),
    counter("resumptions_tls12", "Sessions resumed in TLS 1.2", |listener| {
        listener.resumptions_tls12.value()
    }),
    counter("resumptions_tls13", "Sessions resumed in TLS 1.3", |listener| {
        listener.resumptions_tls13.value()
    }),
    counter("handshakes_failed", "Handshakes that failed", |listener| listener.handshakes_failed.value()),
    gauge("handshakes_open", "Handshakes in progress now", |listener| listener.handshakes_open.value()),
    counter("idle_timeouts", "Connections closed because they were idle too long", |listener| {
        listener.idle_timeouts.value()
    }),
    counter("requests", "Requests whose head was received, or refused by a rule of HTTP", |listener| {
        listener.requests.value()
    }),
    counter("messages_received", "Messages received from clients, where bytes are relayed", |listener| {
        listener.messages_received.value()
    }),
    counter("messages_sent", "Messages received for clients, where bytes are relayed", |listener| {
        listener.messages_sent.value()
    }),
    bytes("bytes_received", "received", "Bytes received from clients", |listener| {
        listener.bytes_received.value()
    }),
    bytes("bytes_sent", "sent", "Bytes sent to clients", |listener| listener.bytes_sent.value()),
    gauge("connections_open", "Connections open now", |listener| listener.connections_open.value()),
    gauge("exchanges_open", "Exchanges in progress now", |listener| listener.exchanges_open.value()),
];

/// What a core counts of a channel, besides answers by class of status: see [`RESPONSE_CLASSES`].
pub(crate) static CHANNEL: [Entry<ChannelCounters>; 19] = [
    counter("requests", "Exchanges that ended, however", |channel| channel.requests.value()),
    counter("faults", "Exchanges that ended in a fault of any side", |channel| channel.faults.value()),
    counter("retries", "Times that a request went out again after a try had failed", |channel| {
        channel.retries.value()
    }),
    bytes("body_bytes_received", "body_received", "Body bytes received from clients", |channel| {
        channel.body_bytes_received.value()
    }),
    bytes("body_bytes_sent", "body_sent", "Body bytes sent to clients", |channel| {
        channel.body_bytes_sent.value()
    }),
    counter("denied", "Requests refused: their address may not come in", |channel| channel.denied.value()),
    counter("unauthorized", "Requests refused: they brought no token that is believed", |channel| {
        channel.unauthorized.value()
    }),
    counter(
        "over_scope",
        "Requests refused: their token does not allow what the channel demands",
        |channel| channel.over_scope.value(),
    ),
    counter("over_rate", "Requests refused: the channel had as many as its rate allows", |channel| {
        channel.over_rate.value()
    }),
    counter(
        "over_rate_per_address",
        "Requests refused: their address had as many as its rate allows",
        |channel| channel.over_rate_per_address.value(),
    ),
    counter(
        "over_rate_per_header",
        "Requests refused: the value of a field had as many as its rate allows",
        |channel| channel.over_rate_per_header.value(),
    ),
    counter(
        "over_concurrency",
        "Requests refused: the channel had as many in progress as it may have",
        |channel| channel.over_concurrency.value(),
    ),
    counter(
        "over_concurrency_per_address",
        "Requests refused: their address had as many in progress as it may have",
        |channel| channel.over_concurrency_per_address.value(),
    ),
    counter("delayed", "Requests let wait on purpose", |channel| channel.delayed.value()),
    counter("delays_skipped", "Requests not let wait on purpose: too many did", |channel| {
        channel.delays_skipped.value()
    }),
    counter("aborted", "Requests answered with an error on purpose", |channel| channel.aborted.value()),
    counter("mirrored", "Copies of requests sent and answered", |channel| channel.mirrored.value()),
    counter("mirror_failures", "Copies of requests not sent or not answered", |channel| {
        channel.mirror_failures.value()
    }),
    counter("mirrors_skipped", "Requests not copied though it was their turn", |channel| {
        channel.mirrors_skipped.value()
    }),
];

/// Classes of status by index in [`ChannelCounters::responses`].
pub(crate) const RESPONSE_CLASSES: [&str; 5] = ["1xx", "2xx", "3xx", "4xx", "5xx"];

/// What a core counts of an upstream as a whole, besides repetitions by cause: see [`RETRY_CAUSES`].
pub(crate) static UPSTREAM: [Entry<UpstreamCounters>; 10] = [
    counter("retries_over_budget", "Failed tries not repeated: the budget was used up", |upstream| {
        upstream.retries_over_budget.value()
    }),
    counter("hedges", "Requests sent to a second endpoint: the answer was slow in coming", |upstream| {
        upstream.hedges.value()
    }),
    counter("hedges_won", "Requests that the second endpoint answered first", |upstream| {
        upstream.hedges_won.value()
    }),
    counter("queued", "Requests that waited until an endpoint may have another connection", |upstream| {
        upstream.queued.value()
    }),
    gauge("waiting", "Requests that wait now until an endpoint may have another connection", |upstream| {
        upstream.waiting.value()
    }),
    counter("given_up", "Idle connections closed so that another core may have one", |upstream| {
        upstream.given_up.value()
    }),
    counter(
        "cookies_set",
        "Cookies given to clients for the endpoint they are to come back to",
        |upstream| upstream.cookies_set.value(),
    ),
    counter("cookies_unknown", "Cookies ignored: they named no endpoint that is there", |upstream| {
        upstream.cookies_unknown.value()
    }),
    counter(
        "sessions_displaced",
        "Sessions of addresses forgotten early to make room for others",
        |upstream| upstream.sessions_displaced.value(),
    ),
    counter("sessions_forgotten", "Sessions of addresses that could not be remembered", |upstream| {
        upstream.sessions_forgotten.value()
    }),
];

/// What a failed try may have failed of, in the order of [`UpstreamCounters::retries`].
pub(crate) const RETRY_CAUSES: [Cause; 4] = Cause::ALL;

/// What a core counts of an endpoint.
pub(crate) static ENDPOINT: [Entry<EndpointCounters>; 9] = [
    counter("requests", "Requests sent", |endpoint| endpoint.requests.value()),
    counter("connections_opened", "Connections made", |endpoint| endpoint.connections_opened.value()),
    counter("connect_failures", "Connections that could not be made", |endpoint| {
        endpoint.connect_failures.value()
    }),
    counter("handshakes", "Full TLS handshakes done", |endpoint| endpoint.handshakes.value()),
    counter("resumptions", "TLS sessions resumed", |endpoint| endpoint.resumptions.value()),
    counter("reused", "Requests sent over a connection used before", |endpoint| endpoint.reused.value()),
    counter(
        "idle_closed",
        "Idle connections that the endpoint closed or spoke on, or that timed out",
        |endpoint| endpoint.idle_closed.value(),
    ),
    gauge("idle", "Idle connections kept now", |endpoint| endpoint.idle.value()),
    gauge("active", "Connections carrying an exchange now", |endpoint| endpoint.active.value()),
];

/// What has a part of the catalogue.
pub(crate) trait Catalogued: Sized + 'static {
    /// What its numbers are called in documents.
    const NAME: &'static str;
    /// Its part of the catalogue.
    const ENTRIES: &'static [Entry<Self>];
}

impl Catalogued for CoreStats {
    const NAME: &'static str = "Core";
    const ENTRIES: &'static [Entry<Self>] = &CORE;
}

impl Catalogued for ListenerCounters {
    const NAME: &'static str = "Listener";
    const ENTRIES: &'static [Entry<Self>] = &LISTENER;
}

impl Catalogued for ChannelCounters {
    const NAME: &'static str = "Channel";
    const ENTRIES: &'static [Entry<Self>] = &CHANNEL;
}

impl Catalogued for UpstreamCounters {
    const NAME: &'static str = "Upstream";
    const ENTRIES: &'static [Entry<Self>] = &UPSTREAM;
}

impl Catalogued for EndpointCounters {
    const NAME: &'static str = "Endpoint";
    const ENTRIES: &'static [Entry<Self>] = &ENDPOINT;
}

/// Sum of one number over shards.
pub(crate) fn sum<'s, S: 's>(shards: impl Iterator<Item = &'s S>, read: fn(&S) -> u64) -> u64 {
    shards.map(read).fold(0, u64::wrapping_add)
}

/// The numbers of each kind of object, with the name that documents give them.
pub(crate) type CoreSums<'s> = Sums<'s, CoreStats>;
pub(crate) type ListenerSums<'s> = Sums<'s, ListenerCounters>;
pub(crate) type ListenerByCore<'s> = ByCore<'s, ListenerCounters>;
pub(crate) type ChannelSums<'s> = Sums<'s, ChannelCounters>;
pub(crate) type ChannelByCore<'s> = ByCore<'s, ChannelCounters>;
pub(crate) type UpstreamSums<'s> = Sums<'s, UpstreamCounters>;
pub(crate) type EndpointSums<'s> = Sums<'s, EndpointCounters>;
pub(crate) type EndpointByCore<'s> = ByCore<'s, EndpointCounters>;

/// All numbers of an object, summed over its shards: a JSON map in the order of the catalogue.
pub(crate) struct Sums<'s, S: 'static> {
    pub(crate) entries: &'static [Entry<S>],
    pub(crate) shards: Vec<&'s S>,
}

impl<S> Serialize for Sums<'_, S> {
    fn serialize<Out: Serializer>(&self, out: Out) -> Result<Out::Ok, Out::Error> {
        let mut map = out.serialize_map(Some(self.entries.len()))?;
        for entry in self.entries {
            map.serialize_entry(entry.name, &sum(self.shards.iter().copied(), entry.read))?;
        }
        map.end()
    }
}

impl<S: Catalogued> PartialSchema for Sums<'_, S> {
    fn schema() -> RefOr<Schema> {
        object_of(S::ENTRIES, |entry| whole_number().description(Some(entry.help)).into())
    }
}

impl<S: Catalogued> ToSchema for Sums<'_, S> {
    fn name() -> Cow<'static, str> {
        format!("{}Counters", S::NAME).into()
    }
}

impl<S: Catalogued> PartialSchema for ByCore<'_, S> {
    fn schema() -> RefOr<Schema> {
        object_of(S::ENTRIES, |_| ArrayBuilder::new().items(whole_number()).into())
    }
}

impl<S: Catalogued> ToSchema for ByCore<'_, S> {
    fn name() -> Cow<'static, str> {
        format!("{}CountersByCore", S::NAME).into()
    }
}

/// A number that nothing is below.
fn whole_number() -> ObjectBuilder {
    ObjectBuilder::new().schema_type(Type::Integer).minimum(Some(0))
}

/// An object with a key for each entry.
fn object_of<S>(entries: &[Entry<S>], value: impl Fn(&Entry<S>) -> RefOr<Schema>) -> RefOr<Schema> {
    let object = entries.iter().fold(ObjectBuilder::new(), |object, entry| {
        object.property(entry.name, value(entry)).required(entry.name)
    });
    object.into()
}

/// All numbers of an object, each as an array by core.
pub(crate) struct ByCore<'s, S: 'static> {
    pub(crate) entries: &'static [Entry<S>],
    pub(crate) shards: Vec<&'s S>,
}

impl<S> Serialize for ByCore<'_, S> {
    fn serialize<Out: Serializer>(&self, out: Out) -> Result<Out::Ok, Out::Error> {
        let mut map = out.serialize_map(Some(self.entries.len()))?;
        for entry in self.entries {
            let values: Vec<u64> = self.shards.iter().map(|shard| (entry.read)(shard)).collect();
            map.serialize_entry(entry.name, &values)?;
        }
        map.end()
    }
}
