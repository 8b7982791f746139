//! What does `/stats` say? The cores' counters, summed and by core, as they are at this moment.
//!
//! Never collects or resets anything: it only reads.

use std::collections::BTreeMap;

use config::snapshot::{Upstream, UpstreamId};
use proxy::roster::member::{Member, WEIGHT_ONE};
use proxy::standing::Readiness;
use serde::Serialize;
use utoipa::ToSchema;

use crate::access_log::status::AccessLogStatus;
use crate::apply::ConfigurationStatus;
use crate::catalogue::{
    self, ByCore, ChannelByCore, ChannelSums, CoreSums, EndpointByCore, EndpointSums, ListenerByCore,
    ListenerSums, Sums, UpstreamSums, sum,
};
use crate::certificates::Held;
use crate::cluster::ClusterView;
use crate::health::HealthStatus;
use crate::live::Live;
use crate::names::NameView;
use crate::shards::{responses, retries};
use crate::upgrade::LastUpgrade;
use crate::{CoreInfo, Shared, cpu};

/// The answer to `/stats`.
#[derive(Serialize, ToSchema)]
pub(crate) struct Stats<'s> {
    process: ProcessStats<'s>,
    configuration: ConfigurationStatus,
    /// How it belongs to its cluster, if it does.
    #[serde(skip_serializing_if = "Option::is_none")]
    cluster: Option<ClusterView>,
    admin: AdminStats,
    totals: Totals,
    cores: Vec<CoreStatus<'s>>,
    listeners: Vec<ListenerStatus<'s>>,
    channels: Vec<ChannelStatus<'s>>,
    upstreams: Vec<UpstreamStatus<'s>>,
    /// Only where there are any.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    access_logs: Vec<AccessLogStatus>,
    /// All kinds, so that one that never came up is seen to be zero.
    faults: BTreeMap<&'static str, u64>,
    /// All causes, likewise.
    handshake_faults: BTreeMap<&'static str, u64>,
    upstream_handshake_faults: BTreeMap<&'static str, u64>,
    /// Only rules that were broken: there are dozens.
    requests_rejected: BTreeMap<&'static str, u64>,
    responses_rejected: BTreeMap<&'static str, u64>,
    connections_rejected: BTreeMap<&'static str, u64>,
    /// Only where something is private.
    #[serde(skip_serializing_if = "Option::is_none")]
    certificates: Option<CertificatesStatus>,
}

/// Certificates in use, and how they came to be.
#[derive(Serialize, ToSchema)]
struct CertificatesStatus {
    listeners: Vec<Held>,
    upstreams: Vec<Held>,
    reloads: BTreeMap<&'static str, u64>,
    /// What was wrong when files were last looked at: others than those in use.
    problems: Vec<String>,
}

#[derive(Serialize, ToSchema)]
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
    /// What became of the last upgrade of the program that this process took part in.
    #[serde(skip_serializing_if = "Option::is_none")]
    last_upgrade: Option<LastUpgrade>,
    /// Upgrades that have come to nothing.
    upgrades_failed: u64,
}

/// What the admin listener has served.
#[derive(Serialize, ToSchema)]
struct AdminStats {
    connections_open: u64,
    responses: BTreeMap<&'static str, u64>,
}

impl AdminStats {
    fn of(shared: &Shared) -> Self {
        let served = &shared.admin_served;
        Self { connections_open: served.open(), responses: served.answers().collect() }
    }
}

/// The figures asked for first: what others asked of this process, each request once. What came in by an internal
/// listener is the second half of a request that is counted already.
#[derive(Serialize, ToSchema)]
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

#[derive(Serialize, ToSchema)]
struct CoreStatus<'s> {
    index: usize,
    cpu: usize,
    thread_id: Option<i32>,
    /// How long its thread has been on a CPU, where the kernel says.
    cpu_time_s: Option<f64>,
    #[serde(flatten)]
    counted: CoreSums<'s>,
}

#[derive(Serialize, ToSchema)]
struct ListenerStatus<'s> {
    name: &'s str,
    /// `http`, `https`, `tcp` or `tls`.
    protocol: &'static str,
    address: String,
    internal: bool,
    #[serde(flatten)]
    counted: ListenerSums<'s>,
    per_core: ListenerByCore<'s>,
}

#[derive(Serialize, ToSchema)]
struct ChannelStatus<'s> {
    name: &'s str,
    internal: bool,
    #[serde(flatten)]
    counted: ChannelSums<'s>,
    responses: BTreeMap<&'static str, u64>,
    per_core: ChannelByCore<'s>,
}

#[derive(Serialize, ToSchema)]
struct UpstreamStatus<'s> {
    name: &'s str,
    /// Requests over a connection used before, of all.
    reuse_ratio: Option<f64>,
    retries: BTreeMap<&'static str, u64>,
    /// Whether so few are up that all get traffic.
    is_panic: bool,
    #[serde(flatten)]
    counted: UpstreamSums<'s>,
    /// Names among its endpoints.
    names: Vec<NameView>,
    endpoints: Vec<EndpointStatus<'s>>,
}

#[derive(Serialize, ToSchema)]
struct EndpointStatus<'s> {
    name: String,
    address: String,
    source: &'static str,
    state: &'static str,
    weight: f64,
    /// Only where somebody watches it.
    #[serde(skip_serializing_if = "Option::is_none")]
    health: Option<HealthStatus>,
    #[serde(flatten)]
    counted: EndpointSums<'s>,
    per_core: EndpointByCore<'s>,
}

impl<'s> Stats<'s> {
    /// Everything at this moment.
    pub(crate) fn of(shared: &'s Shared, live: &'s Live) -> Self {
        let snapshot = &live.snapshot;
        Self {
            process: ProcessStats::of(shared, live),
            configuration: shared.configuration_status(live),
            cluster: shared.cluster().map(|cluster| cluster.view(shared)),
            admin: AdminStats::of(shared),
            totals: Totals::of(live),
            cores: (0..)
                .zip(&shared.process.cores)
                .map(|(index, core)| CoreStatus::of(live, index, core))
                .collect(),
            listeners: (0..snapshot.listeners.len()).map(|index| ListenerStatus::of(live, index)).collect(),
            channels: (0..snapshot.channels.len()).map(|index| ChannelStatus::of(live, index)).collect(),
            upstreams: snapshot
                .upstreams
                .iter()
                .zip((0..).map(UpstreamId))
                .map(|(upstream, id)| UpstreamStatus::of(live, upstream, id))
                .collect(),
            access_logs: live.generation.logs.iter().map(|log| AccessLogStatus::of(log)).collect(),
            faults: live.faults().collect(),
            handshake_faults: live.handshake_faults().collect(),
            upstream_handshake_faults: live.upstream_handshake_faults().collect(),
            requests_rejected: live.requests_rejected().filter(|(_, count)| *count > 0).collect(),
            responses_rejected: live.responses_rejected().filter(|(_, count)| *count > 0).collect(),
            connections_rejected: live.connections_rejected().filter(|(_, count)| *count > 0).collect(),
            certificates: CertificatesStatus::of(live),
        }
    }
}

impl CertificatesStatus {
    fn of(live: &Live) -> Option<Self> {
        let certificates = &live.certificates;
        let (listeners, upstreams) =
            certificates.held().into_iter().partition(|held| held.owner_kind == "listener");
        (!certificates.is_empty()).then(|| Self {
            listeners,
            upstreams,
            reloads: certificates.reloads().into_iter().collect(),
            problems: certificates.problems(),
        })
    }
}

impl<'s> ProcessStats<'s> {
    fn of(shared: &'s Shared, live: &'s Live) -> Self {
        let process = &shared.process;
        Self {
            version: process.version,
            pid: std::process::id(),
            node: &live.snapshot.node,
            config_fingerprint: live.fingerprint(),
            state: match live.generation.standing.readiness() {
                Readiness::Ready => "serving",
                Readiness::Draining => "draining",
                Readiness::Standby => "standby",
            },
            uptime_s: process.started.elapsed().as_secs_f64(),
            driver: &process.driver,
            uring_error: process.uring_error.as_deref(),
            cores: process.cores.len(),
            last_upgrade: shared.upgrades.last(),
            upgrades_failed: shared.upgrades.failed(),
        }
    }
}

impl Totals {
    fn of(live: &Live) -> Self {
        let listeners = || live.listeners(false);
        let channels = || live.channels(false);
        // A core counts a fault before its channel does: read in the opposite order, the channels are never ahead.
        let faults_internal = sum(live.channels(true), |channel| channel.faults.value());
        let faults: u64 = live.faults().map(|(_, count)| count).sum();
        Self {
            connections_open: sum(listeners(), |listener| listener.connections_open.value()),
            connections_accepted: sum(listeners(), |listener| listener.accepted.value()),
            exchanges_open: sum(listeners(), |listener| listener.exchanges_open.value()),
            requests: sum(listeners(), |listener| listener.requests.value()),
            exchanges: sum(channels(), |channel| channel.requests.value()),
            responses: responses(channels).collect(),
            faults: faults.saturating_sub(faults_internal),
            retries: sum(channels(), |channel| channel.retries.value()),
            bytes_received: sum(listeners(), |listener| listener.bytes_received.value()),
            bytes_sent: sum(listeners(), |listener| listener.bytes_sent.value()),
        }
    }
}

impl<'s> CoreStatus<'s> {
    fn of(live: &'s Live, index: usize, core: &'s CoreInfo) -> Self {
        let stats = live.cores().skip(index).take(1).collect();
        let counted = Sums { entries: &catalogue::CORE, shards: stats };
        let thread_id = core.thread_id.get().copied();
        let cpu_time_s = thread_id.and_then(cpu::nanos_of_thread).map(|nanos| nanos as f64 / 1e9);
        Self { index, cpu: core.cpu, thread_id, cpu_time_s, counted }
    }
}

impl<'s> ListenerStatus<'s> {
    fn of(live: &'s Live, index: usize) -> Self {
        let shards = live.listener(index);
        let listener = &live.snapshot.listeners[index];
        Self {
            name: &listener.name,
            protocol: listener.protocol.name(),
            address: live.listener_addresses[index].to_string(),
            internal: listener.internal,
            counted: Sums { entries: &catalogue::LISTENER, shards: shards.clone() },
            per_core: ByCore { entries: &catalogue::LISTENER, shards },
        }
    }
}

impl<'s> ChannelStatus<'s> {
    fn of(live: &'s Live, index: usize) -> Self {
        let shards = live.channel(index);
        let channel = &live.snapshot.channels[index];
        Self {
            name: &channel.name,
            internal: channel.internal,
            counted: Sums { entries: &catalogue::CHANNEL, shards: shards.clone() },
            responses: responses(|| shards.iter().copied()).collect(),
            per_core: ByCore { entries: &catalogue::CHANNEL, shards: shards.clone() },
        }
    }
}

impl<'s> UpstreamStatus<'s> {
    fn of(live: &'s Live, upstream: &'s Upstream, id: UpstreamId) -> Self {
        let members = live.roster.members(id);
        let shards = live.upstream(id);
        Self {
            name: &upstream.name,
            reuse_ratio: live.reuse_ratio(id),
            retries: retries(&shards).collect(),
            is_panic: members.is_panic,
            counted: Sums { entries: &catalogue::UPSTREAM, shards },
            names: live.names.of_upstream(id).collect(),
            endpoints: members.all.iter().map(|member| EndpointStatus::of(live, id, member)).collect(),
        }
    }
}

impl<'s> EndpointStatus<'s> {
    fn of(live: &'s Live, upstream: UpstreamId, member: &Member) -> Self {
        let shards = live.endpoint(member.id);
        Self {
            name: member.name.to_string(),
            address: member.address.to_string(),
            source: member.source.name(),
            state: member.state.name(),
            weight: f64::from(member.weight) / f64::from(WEIGHT_ONE),
            health: live.health.status(upstream, member.id),
            counted: Sums { entries: &catalogue::ENDPOINT, shards: shards.clone() },
            per_core: ByCore { entries: &catalogue::ENDPOINT, shards },
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::testing;

    #[test]
    fn sums_equal_what_the_cores_counted_one_by_one() {
        let (shared, _cores) = testing::shared(3);
        let live = shared.live();
        for (count, core) in (1..).zip(&shared.live().generation.stats) {
            core.listeners[0].connections_open.set(count);
            core.listeners[0].requests.add(10 * count);
            core.channels[1].requests.add(count);
            core.channels[1].responses[3].add(count);
            core.endpoints[0].reused.add(count);
            core.faults[8].add(count);
            core.responses_rejected[0].add(count);
        }
        shared.process.cores[2].thread_id.set(77).expect("first");
        let stats = serde_json::to_value(Stats::of(&shared, &live)).expect("json");
        let check = |pointer: &str, expected: serde_json::Value| {
            assert_eq!(stats.pointer(pointer), Some(&expected), "{pointer}");
        };
        check("/process/state", json!("serving"));
        check("/process/uring_error", json!("refused by a \"sandbox\""));
        check("/totals/connections_open", json!(6));
        check("/totals/requests", json!(60));
        check("/totals/exchanges", json!(6));
        check("/totals/responses/4xx", json!(6));
        check("/totals/faults", json!(6));
        check("/cores/2/thread_id", json!(77));
        check("/cores/1/connections_open", json!(2));
        check("/listeners/0/name", json!("web"));
        check("/listeners/0/internal", json!(false));
        check("/listeners/0/requests", json!(60));
        check("/listeners/0/per_core/requests", json!([10, 20, 30]));
        check("/channels/1/name", json!("default"));
        check("/channels/1/responses/4xx", json!(6));
        check("/channels/1/per_core/requests", json!([1, 2, 3]));
        check("/upstreams/0/endpoints/0/reused", json!(6));
        check("/faults/no_channel", json!(6));
        check("/faults/head_timeout", json!(0));
        check("/requests_rejected", json!({}));
        check("/responses_rejected", json!({ "bare_line_feed": 6 }));
    }

    #[test]
    fn totals_leave_out_what_is_internal_and_its_row_does_not() {
        let (shared, _cores) = testing::shared(2);
        let live = shared.live();
        for stats in &shared.live().generation.stats {
            // As many on `origin` (listener 1, channel 0) as on `web` and `default`, which it serves.
            for listener in &stats.listeners {
                listener.accepted.add(1);
                listener.requests.add(10);
                listener.bytes_received.add(100);
                listener.bytes_sent.add(200);
                listener.connections_open.set(4);
                listener.exchanges_open.set(3);
            }
            for channel in &stats.channels {
                channel.requests.add(10);
                channel.responses[1].add(9);
                channel.faults.add(1);
                channel.retries.add(2);
                stats.faults[0].add(1);
            }
        }
        let stats = serde_json::to_value(Stats::of(&shared, &live)).expect("json");
        let totals = json!({
            "connections_open": 8,
            "connections_accepted": 2,
            "exchanges_open": 6,
            "requests": 20,
            "exchanges": 20,
            "responses": { "1xx": 0, "2xx": 18, "3xx": 0, "4xx": 0, "5xx": 0 },
            "faults": 2,
            "retries": 4,
            "bytes_received": 200,
            "bytes_sent": 400,
        });
        assert_eq!(stats["totals"], totals);
        let check = |pointer: &str, expected: serde_json::Value| {
            assert_eq!(stats.pointer(pointer), Some(&expected), "{pointer}");
        };
        check("/listeners/1/internal", json!(true));
        check("/listeners/1/requests", json!(20));
        check("/listeners/1/connections_open", json!(8));
        check("/cores/0/exchanges_open", json!(6));
        check("/channels/0/internal", json!(true));
        check("/channels/0/requests", json!(20));
        check("/channels/1/internal", json!(false));
        check("/faults/request_rejected", json!(4));
    }
}
