//! How are upstreams, endpoints and listeners shown? As JSON, in the shape that the document promises.
//!
//! Never keeps anything: a view is of one moment and one generation.

use config::snapshot::destination::Destination;
use config::snapshot::{EndpointId, ListenerId, UpstreamId};
use proxy::roster::member::Member;
use serde::Serialize;
use utoipa::ToSchema;

use crate::health::HealthStatus;
use crate::live::Live;
use crate::names::NameView;

/// Every upstream, and the listeners whose traffic goes to them.
#[derive(Serialize, ToSchema)]
pub(super) struct Upstreams {
    upstreams: Vec<UpstreamView>,
    listeners: Vec<ListenerView>,
}

impl Upstreams {
    pub(super) fn of(live: &Live) -> Self {
        let ids = (0..).map(UpstreamId).take(live.snapshot.upstreams.len());
        Self {
            upstreams: ids.map(|id| UpstreamView::of(live, id)).collect(),
            listeners: (0..live.snapshot.listeners.len() as u16)
                .map(|id| ListenerView::of(live, ListenerId(id)))
                .collect(),
        }
    }
}

/// An upstream and its endpoints.
#[derive(Serialize, ToSchema)]
pub(super) struct UpstreamView {
    name: String,
    /// How endpoints are chosen.
    balance: &'static str,
    /// How many there may be.
    endpoints_max: usize,
    /// How many get traffic now.
    candidates: usize,
    /// Whether so few are up that all get traffic.
    is_panic: bool,
    tls: bool,
    proxy_protocol: bool,
    endpoints: Vec<EndpointView>,
    /// Names among them that name servers are asked for.
    names: Vec<NameView>,
    hash: Option<HashView>,
    persistence: Option<PersistenceView>,
}

/// What a hash is over, and how it is looked up.
#[derive(Serialize, ToSchema)]
struct HashView {
    on: String,
    table: &'static str,
}

/// How long an address comes back to the same endpoint, and how much of it counts.
#[derive(Serialize, ToSchema)]
struct PersistenceView {
    timeout_s: u64,
    mask: u8,
    mask6: u8,
}

impl UpstreamView {
    pub(super) fn of(live: &Live, id: UpstreamId) -> Self {
        let upstream = &live.snapshot.upstreams[usize::from(id.0)];
        let members = live.roster.members(id);
        let hash = upstream.balance.hash();
        Self {
            name: upstream.name.clone(),
            balance: upstream.balance.name(),
            endpoints_max: upstream.slots_count.into(),
            candidates: members.candidates.len(),
            is_panic: members.is_panic,
            tls: upstream.tls.is_some(),
            proxy_protocol: upstream.proxy_protocol.is_some(),
            endpoints: members.all.iter().map(|member| EndpointView::of(live, member)).collect(),
            names: live.names.of_upstream(id).collect(),
            hash: hash.map(|rule| HashView { on: rule.on.to_string(), table: rule.table.name() }),
            persistence: upstream.persistence.map(|rule| PersistenceView {
                timeout_s: rule.timeout.as_millis().div_ceil(1000) as u64,
                mask: rule.mask.bits4,
                mask6: rule.mask.bits6,
            }),
        }
    }
}

/// A listener, and the upstream that all of its traffic goes to, if there is one.
#[derive(Serialize, ToSchema)]
struct ListenerView {
    name: String,
    address: String,
    protocol: &'static str,
    /// Whether only this process itself connects to it.
    internal: bool,
    /// How much of its traffic goes to `upstream`: `all`, `some`, or to `several` or `nowhere`.
    goal: &'static str,
    upstream: Option<String>,
}

impl ListenerView {
    fn of(live: &Live, id: ListenerId) -> Self {
        let settings = &live.snapshot.listeners[usize::from(id.0)];
        let (goal, upstream) = match live.snapshot.destination(id) {
            Destination::All(upstream) => ("all", Some(upstream)),
            Destination::Some(upstream) => ("some", Some(upstream)),
            Destination::Several => ("several", None),
            Destination::Nowhere => ("nowhere", None),
        };
        Self {
            name: settings.name.clone(),
            address: live.listener_addresses[usize::from(id.0)].to_string(),
            protocol: settings.protocol.name(),
            internal: settings.internal,
            goal,
            upstream: upstream.map(|id| live.snapshot.upstreams[usize::from(id.0)].name.clone()),
        }
    }
}

/// An endpoint as it is now.
#[derive(Serialize, ToSchema)]
pub(super) struct EndpointView {
    name: String,
    address: String,
    /// Where it comes from: written, added, registered or resolved.
    source: &'static str,
    state: &'static str,
    health: Option<HealthStatus>,
    /// Whether it goes once it has finished what it has begun.
    leaving: bool,
    /// For how long it is registered yet.
    lease_s: Option<u64>,
    weight: u16,
    priority: u8,
    zone: Option<String>,
    max_connections: Option<u32>,
    min_connections: Option<u32>,
    active: u64,
    idle: u64,
    requests: u64,
}

impl EndpointView {
    pub(super) fn of(live: &Live, member: &Member) -> Self {
        let upstreams = (0..).map(UpstreamId).zip(&live.snapshot.upstreams);
        let mut owners = upstreams.filter(|(_, upstream)| upstream.slots().any(|slot| slot == member.id));
        let owner = owners.next().map(|(id, _)| id);
        let terms = owner.and_then(|id| live.terms(id, member.id)).unwrap_or_default();
        let sum = |read: fn(&proxy::stats::EndpointCounters) -> u64| -> u64 {
            live.endpoint(member.id).iter().map(|counters| read(counters)).sum()
        };
        Self {
            name: member.name.to_string(),
            address: member.address.to_string(),
            source: member.source.name(),
            state: member.state.name(),
            health: owner.and_then(|id| live.health.status(id, member.id)),
            leaving: live.leaving.contains(member.id),
            lease_s: live.leases.left(member.id).map(|left| left.as_secs()),
            weight: terms.weight,
            priority: terms.priority,
            zone: terms.zone.as_deref().map(str::to_owned),
            max_connections: terms.connections_max,
            min_connections: terms.connections_min,
            active: sum(|counters| counters.active.value()),
            idle: sum(|counters| counters.idle.value()),
            requests: sum(|counters| counters.requests.value()),
        }
    }

    /// The one with this ID, if it is there yet.
    pub(super) fn find(live: &Live, upstream: UpstreamId, endpoint: EndpointId) -> Option<Self> {
        live.member(upstream, endpoint).map(|member| Self::of(live, &member))
    }
}

/// What becomes of a change.
#[derive(Serialize, ToSchema)]
pub(super) struct EndpointChanged {
    /// Nothing if it went at the same moment.
    pub(super) endpoint: Option<EndpointView>,
    /// How long it lasts.
    pub(super) note: &'static str,
}

/// An endpoint that is no longer one.
#[derive(Serialize, ToSchema)]
pub(super) struct EndpointRemoved {
    /// As it was.
    pub(super) endpoint: EndpointView,
    pub(super) removed: bool,
    pub(super) note: &'static str,
}

/// A server that is an endpoint for as long as it says so.
#[derive(Serialize, ToSchema)]
pub(super) struct Registered {
    /// Nothing if it went at the same moment.
    pub(super) endpoint: Option<EndpointView>,
    pub(super) lease: LeaseView,
}

/// How long until it has to say so again.
#[derive(Serialize, ToSchema)]
pub(super) struct LeaseView {
    pub(super) ttl_s: u64,
}

/// Who is to be an endpoint.
#[derive(ToSchema)]
#[serde(deny_unknown_fields)]
#[expect(dead_code, reason = "the document's words for what is read key by key")]
pub(super) struct NewEndpoint {
    /// `HOST:PORT` with an IP address, or `unix:PATH`.
    #[schema(example = "10.0.0.3:8000")]
    address: String,
    #[schema(maximum = 65_535)]
    weight: Option<u32>,
    #[schema(maximum = 255)]
    priority: Option<u32>,
    #[schema(minimum = 1, maximum = 1_000_000)]
    max_connections: Option<u32>,
    #[schema(maximum = 1_000_000)]
    min_connections: Option<u32>,
    zone: Option<String>,
}

/// What is to be otherwise about an endpoint.
#[derive(ToSchema)]
#[serde(deny_unknown_fields)]
#[expect(dead_code, reason = "the document's words for what is read key by key")]
pub(super) struct EndpointChange {
    /// `up`, or `drain` for no new exchanges.
    #[schema(example = "drain")]
    state: Option<String>,
    #[schema(maximum = 65_535)]
    weight: Option<u32>,
    #[schema(maximum = 255)]
    priority: Option<u32>,
    #[schema(minimum = 1, maximum = 1_000_000)]
    max_connections: Option<u32>,
    #[schema(maximum = 1_000_000)]
    min_connections: Option<u32>,
    zone: Option<String>,
}

/// A server that says of itself that it is there.
#[derive(ToSchema)]
#[serde(deny_unknown_fields)]
#[expect(dead_code, reason = "the document's words for what is read key by key")]
pub(super) struct Registration {
    /// `HOST:PORT` with an IP address, or `unix:PATH`.
    #[schema(example = "10.0.0.3:8000")]
    address: String,
    /// For how long, in seconds, at most what the operator allows.
    #[schema(minimum = 1)]
    ttl: Option<u32>,
    #[schema(maximum = 65_535)]
    weight: Option<u32>,
    #[schema(maximum = 255)]
    priority: Option<u32>,
    #[schema(minimum = 1, maximum = 1_000_000)]
    max_connections: Option<u32>,
    #[schema(maximum = 1_000_000)]
    min_connections: Option<u32>,
    zone: Option<String>,
}
