//! What does `/stats` say? The cores' counters, summed and by core, as they are at this moment.
//!
//! Never collects or resets anything: it only reads.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use config::snapshot::{EndpointId, Upstream, UpstreamId};
use proto::http1::rejected::{RequestRejected, ResponseRejected};
use proxy::outcome::Fault;
use proxy::stats::{ChannelCounters, CoreStats, EndpointCounters, ListenerCounters};
use serde::Serialize;

use crate::catalogue::{self, ByCore, RESPONSE_CLASSES, Sums, sum};
use crate::{CoreInfo, Shared};

/// The answer to `/stats`.
#[derive(Serialize)]
pub(crate) struct Stats<'s> {
    process: ProcessStats<'s>,
    totals: Totals,
    cores: Vec<CoreStatus<'s>>,
    listeners: Vec<ListenerStatus<'s>>,
    channels: Vec<ChannelStatus<'s>>,
    upstreams: Vec<UpstreamStatus<'s>>,
    /// All kinds, so that one that never came up is seen to be zero.
    faults: BTreeMap<&'static str, u64>,
    /// Only rules that were broken: there are dozens.
    requests_rejected: BTreeMap<&'static str, u64>,
    responses_rejected: BTreeMap<&'static str, u64>,
}

#[derive(Serialize)]
struct ProcessStats<'s> {
    version: &'static str,
    pid: u32,
    node: &'s str,
    config_fingerprint: String,
    state: &'static str,
    uptime_s: f64,
    driver: &'s str,
    #[serde(skip_serializing_if = "Option::is_none")]
    uring_error: Option<&'s str>,
    cores: usize,
}

/// The figures asked for first. A request through a listener of this process that is also an endpoint of it
/// counts on both.
#[derive(Serialize)]
struct Totals {
    connections_open: u64,
    connections_accepted: u64,
    exchanges_open: u64,
    requests: u64,
    exchanges: u64,
    responses: BTreeMap<&'static str, u64>,
    faults: u64,
    retries: u64,
    bytes_received: u64,
    bytes_sent: u64,
}

#[derive(Serialize)]
struct CoreStatus<'s> {
    index: usize,
    cpu: usize,
    thread_id: Option<i32>,
    #[serde(flatten)]
    counted: Sums<'s, CoreStats>,
}

#[derive(Serialize)]
struct ListenerStatus<'s> {
    name: &'s str,
    address: SocketAddr,
    #[serde(flatten)]
    counted: Sums<'s, ListenerCounters>,
    per_core: ByCore<'s, ListenerCounters>,
}

#[derive(Serialize)]
struct ChannelStatus<'s> {
    name: &'s str,
    #[serde(flatten)]
    counted: Sums<'s, ChannelCounters>,
    responses: BTreeMap<&'static str, u64>,
    per_core: ByCore<'s, ChannelCounters>,
}

#[derive(Serialize)]
struct UpstreamStatus<'s> {
    name: &'s str,
    endpoints: Vec<EndpointStatus<'s>>,
}

#[derive(Serialize)]
struct EndpointStatus<'s> {
    name: &'s str,
    address: SocketAddr,
    #[serde(flatten)]
    counted: Sums<'s, EndpointCounters>,
    per_core: ByCore<'s, EndpointCounters>,
}

impl<'s> Stats<'s> {
    /// Everything at this moment.
    pub(crate) fn of(shared: &'s Shared) -> Self {
        let snapshot = &shared.snapshot;
        Self {
            process: ProcessStats::of(shared),
            totals: Totals::of(shared),
            cores: (0..).zip(&shared.process.cores).map(|(index, core)| CoreStatus::of(shared, index, core)).collect(),
            listeners: (0..snapshot.listeners.len()).map(|index| ListenerStatus::of(shared, index)).collect(),
            channels: (0..snapshot.channels.len()).map(|index| ChannelStatus::of(shared, index)).collect(),
            upstreams: snapshot.upstreams.iter().map(|upstream| UpstreamStatus::of(shared, upstream)).collect(),
            faults: faults(shared).collect(),
            requests_rejected: requests_rejected(shared).filter(|(_, count)| *count > 0).collect(),
            responses_rejected: responses_rejected(shared).filter(|(_, count)| *count > 0).collect(),
        }
    }
}

impl<'s> ProcessStats<'s> {
    fn of(shared: &'s Shared) -> Self {
        let process = &shared.process;
        Self {
            version: process.version,
            pid: std::process::id(),
            node: &shared.snapshot.node,
            config_fingerprint: fingerprint(shared),
            state: if shared.is_draining() { "draining" } else { "serving" },
            uptime_s: process.started.elapsed().as_secs_f64(),
            driver: &process.driver,
            uring_error: process.uring_error.as_deref(),
            cores: process.cores.len(),
        }
    }
}

impl Totals {
    fn of(shared: &Shared) -> Self {
        let listeners = || shards(shared, |core| core.listeners.iter());
        let channels = || shards(shared, |core| core.channels.iter());
        let cores = || cores(shared);
        Self {
            connections_open: sum(cores(), |core| core.connections_open.value()),
            connections_accepted: sum(listeners(), |listener| listener.accepted.value()),
            exchanges_open: sum(cores(), |core| core.exchanges_open.value()),
            requests: sum(listeners(), |listener| listener.requests.value()),
            exchanges: sum(channels(), |channel| channel.requests.value()),
            responses: responses(channels),
            faults: faults(shared).map(|(_, count)| count).sum(),
            retries: sum(channels(), |channel| channel.retries.value()),
            bytes_received: sum(listeners(), |listener| listener.bytes_received.value()),
            bytes_sent: sum(listeners(), |listener| listener.bytes_sent.value()),
        }
    }
}

impl<'s> CoreStatus<'s> {
    fn of(shared: &'s Shared, index: usize, core: &'s CoreInfo) -> Self {
        let stats = cores(shared).skip(index).take(1).collect();
        let counted = Sums { entries: &catalogue::CORE, shards: stats };
        Self { index, cpu: core.cpu, thread_id: core.thread_id.get().copied(), counted }
    }
}

impl<'s> ListenerStatus<'s> {
    fn of(shared: &'s Shared, index: usize) -> Self {
        let shards = listener_shards(shared, index);
        Self {
            name: &shared.snapshot.listeners[index].name,
            address: shared.listener_addresses[index],
            counted: Sums { entries: &catalogue::LISTENER, shards: shards.clone() },
            per_core: ByCore { entries: &catalogue::LISTENER, shards },
        }
    }
}

impl<'s> ChannelStatus<'s> {
    fn of(shared: &'s Shared, index: usize) -> Self {
        let shards = channel_shards(shared, index);
        Self {
            name: &shared.snapshot.channels[index].name,
            counted: Sums { entries: &catalogue::CHANNEL, shards: shards.clone() },
            responses: responses(|| shards.iter().copied()),
            per_core: ByCore { entries: &catalogue::CHANNEL, shards: shards.clone() },
        }
    }
}

impl<'s> UpstreamStatus<'s> {
    fn of(shared: &'s Shared, upstream: &'s Upstream) -> Self {
        let first = usize::from(upstream.endpoints_first.0);
        let endpoints = first..first + usize::from(upstream.endpoints_count);
        Self { name: &upstream.name, endpoints: endpoints.map(|index| EndpointStatus::of(shared, index)).collect() }
    }
}

impl<'s> EndpointStatus<'s> {
    fn of(shared: &'s Shared, index: usize) -> Self {
        let shards = endpoint_shards(shared, index);
        Self {
            name: &shared.snapshot.endpoints[index].name,
            address: shared.endpoint_addresses[index],
            counted: Sums { entries: &catalogue::ENDPOINT, shards: shards.clone() },
            per_core: ByCore { entries: &catalogue::ENDPOINT, shards },
        }
    }
}
