//! What is there to render? Listeners, and the upstreams that their traffic goes to.
//!
//! Never decides what LVS makes of it.

use std::net::SocketAddr;

use config::snapshot::destination::Destination;
use config::snapshot::resolve::NamedEndpoint;
use config::snapshot::{
    BindAddress, Endpoint, EndpointAddress, ListenerId, Protocol, Snapshot, Upstream, UpstreamId,
};

/// Everything that may become a virtual service.
#[derive(Clone, Debug, Default)]
pub(super) struct Input {
    pub(super) listeners: Vec<Listening>,
    /// By the index that [`Goal`] holds.
    pub(super) groups: Vec<Group>,
}

/// A listener.
#[derive(Clone, Debug)]
pub(super) struct Listening {
    pub(super) name: String,
    pub(super) protocol: Spoken,
    /// `None` where it listens at a path.
    pub(super) address: Option<SocketAddr>,
    pub(super) is_internal: bool,
    pub(super) goal: Goal,
}

/// What a listener does with what it gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Spoken {
    Http,
    Https,
    Bytes,
    Hellos,
}

/// Where all of it goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Goal {
    All(usize),
    Some(usize),
    Several,
    Nowhere,
}

/// An upstream.
#[derive(Clone, Debug)]
pub(super) struct Group {
    pub(super) name: String,
    /// Its scheduler, as the configuration spells it.
    pub(super) balance: String,
    pub(super) hash: Option<Hash>,
    pub(super) persistence: Option<Persistence>,
    pub(super) is_tls: bool,
    pub(super) sends_proxy_header: bool,
    pub(super) servers: Vec<Server>,
}

/// What is hashed, and by which table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Hash {
    pub(super) on: String,
    pub(super) table: String,
}

/// LVS's persistence.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Persistence {
    pub(super) timeout_s: u64,
    pub(super) mask: u8,
    pub(super) mask6: u8,
}

/// An endpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Server {
    pub(super) name: String,
    /// `None` where no TCP connection is made to it.
    pub(super) address: Option<SocketAddr>,
    pub(super) weight: u32,
    pub(super) connections_max: Option<u32>,
    pub(super) connections_min: Option<u32>,
    pub(super) priority: u8,
}

impl Input {
    /// What a configuration says.
    pub(super) fn of_snapshot(snapshot: &Snapshot) -> Self {
        let group = |id: UpstreamId| usize::from(id.0);
        let listeners = (0..).map(ListenerId).zip(&snapshot.listeners).map(|(id, listener)| Listening {
            name: listener.name.clone(),
            protocol: match &listener.protocol {
                Protocol::Http => Spoken::Http,
                Protocol::Https(_) => Spoken::Https,
                Protocol::Tcp(_) => Spoken::Bytes,
                Protocol::Tls(_) => Spoken::Hellos,
            },
            address: match &listener.bind {
                BindAddress::Tcp(address) => Some(*address),
                BindAddress::Unix { .. } => None,
            },
            is_internal: listener.internal,
            goal: match snapshot.destination(id) {
                Destination::All(id) => Goal::All(group(id)),
                Destination::Some(id) => Goal::Some(group(id)),
                Destination::Several => Goal::Several,
                Destination::Nowhere => Goal::Nowhere,
            },
        });
        let groups = snapshot.upstreams.iter().map(Group::of);
        Self { listeners: listeners.collect(), groups: groups.collect() }
    }
}

impl Group {
    fn of(upstream: &Upstream) -> Self {
        Self {
            name: upstream.name.clone(),
            balance: upstream.balance.name().to_owned(),
            hash: upstream
                .balance
                .hash()
                .map(|rule| Hash { on: rule.on.to_string(), table: rule.table.name().to_owned() }),
            persistence: upstream.persistence.map(|rule| Persistence {
                timeout_s: rule.timeout.as_millis().div_ceil(1000) as u64,
                mask: rule.mask.bits4,
                mask6: rule.mask.bits6,
            }),
            is_tls: upstream.tls.is_some(),
            sends_proxy_header: upstream.proxy_protocol.is_some(),
            servers: upstream
                .endpoints
                .iter()
                .map(Server::of)
                .chain(upstream.names.iter().map(Server::named))
                .collect(),
        }
    }
}

impl Server {
    fn of(endpoint: &Endpoint) -> Self {
        Self {
            name: endpoint.name.clone(),
            address: match &endpoint.address {
                EndpointAddress::Tcp(address) => Some(*address),
                EndpointAddress::Unix(_) | EndpointAddress::Listener(_) => None,
            },
            weight: u32::from(endpoint.terms.weight),
            connections_max: endpoint.terms.connections_max,
            connections_min: endpoint.terms.connections_min,
            priority: endpoint.terms.priority,
        }
    }

    /// Where it is, only a running process knows.
    fn named(named: &NamedEndpoint) -> Self {
        Self {
            name: named.name.clone(),
            address: None,
            weight: u32::from(named.terms.weight),
            connections_max: named.terms.connections_max,
            connections_min: named.terms.connections_min,
            priority: named.terms.priority,
        }
    }
}
