//! What do the cores read? An immutable picture of the whole configuration, ids as indexes.
//!
//! Nothing here can represent a user's mistake; nothing here is parsed, looked up by name or mutated after
//! [`crate::load_file`] has built it. A snapshot is swapped whole.

pub mod access_log;
pub mod balance;
mod channel;
pub mod cluster;
pub mod destination;
pub mod health;
mod listener;
pub mod register;
pub mod resolve;
pub mod rules;
pub mod security;
mod tls;
mod upstream;

use std::net::SocketAddr;
use std::time::Duration;

use proto::matching::ChannelTable;

use self::access_log::AccessLogs;
pub use self::channel::{Action, Channel, Redirect, Upgrades};
use self::cluster::{Module, NodeTerms, StoreAccess};
pub use self::listener::{
    BindAddress, Forwarding, Framing, Listener, ListenerLimits, ListenerTimeouts, Network, Protocol,
    ProxyProtocolIn, ServerNamePattern, SniRoutes, TcpService,
};
use self::security::{SecurityId, SecurityModule};
pub use self::tls::{
    CertificateFiles, ClientAuth, ClientAuthMode, ListenerTls, TlsVersion, UnknownName, UpstreamTls, Verify,
};
pub use self::upstream::{
    Endpoint, EndpointAddress, EndpointTerms, ProxyVersion, Queue, Retry, Upstream, UpstreamLimits,
    UpstreamTimeouts,
};

/// Index of a listener in [`Snapshot::listeners`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ListenerId(pub u16);

/// Index of a channel in [`Snapshot::channels`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ChannelId(pub u16);

/// Index of an upstream in [`Snapshot::upstreams`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct UpstreamId(pub u16);

/// A place for an endpoint, unique across upstreams: [`Upstream::slots`]. Who takes it may change while the process runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct EndpointId(pub u16);

/// The whole configuration as the data plane reads it.
#[derive(Debug)]
pub struct Snapshot {
    /// Node ID: 1 to 30 of `A-Z a-z 0-9 _ - .`.
    pub node: String,
    /// What else is written of the node.
    pub terms: NodeTerms,
    /// How the store is reached that the processes of the cluster share; `None` for a process that is alone.
    pub store: Option<StoreAccess>,
    /// What it is made of, those that do not run included.
    pub modules: Box<[Module]>,
    /// Hash of the canonical configuration; equal on every process that runs the same one.
    pub fingerprint: u64,
    /// Read once when the process starts.
    pub process: ProcessSettings,
    /// Listeners ("modules" that accept traffic), by [`ListenerId`].
    pub listeners: Box<[Listener]>,
    /// Channels by [`ChannelId`], in declaration order.
    pub channels: Box<[Channel]>,
    /// Matching rules in the order they are tried; a hit yields the index of a channel.
    pub channel_table: ChannelTable,
    /// Upstreams by [`UpstreamId`].
    pub upstreams: Box<[Upstream]>,
    /// How many [`EndpointId`]s there are: the slots of all upstreams.
    pub slots_count: u16,
    /// Security modules by [`security::SecurityId`].
    pub security: Box<[SecurityModule]>,
    /// Where exchanges are written down.
    pub access_logs: AccessLogs,
    /// The admin listener, unless it is turned off.
    pub admin: Option<Admin>,
    /// What becomes of traces; `None` where the fields that tell of them are like any other.
    pub tracing: Option<Tracing>,
}

/// What becomes of traces that requests are part of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tracing {
    /// How many in a hundred are marked to be recorded of those that begin here; `None` where none does.
    pub sample_percent: Option<u8>,
    /// Whether every client is believed, not only those whose forwarding fields are.
    pub trusts_clients: bool,
}

/// What a process reads once, at start.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProcessSettings {
    /// Buffers per core, each of [`Self::buffer_bytes`]. The bound of body bytes in flight on one core.
    pub buffers_per_core: u16,
    /// Size of one buffer in bytes; also the largest head that can be received.
    pub buffer_bytes: u32,
    /// Longest busy wait before a core parks, zero turns it off.
    pub spin_max: Duration,
    /// Whether an accepting core may hand a connection to a clearly idler one.
    pub accept_handoff: bool,
    /// How long SIGTERM waits for exchanges in flight.
    pub drain_timeout: Duration,
    /// How long a new program may take to take over.
    pub upgrade_timeout: Duration,
    /// Whether it reads its files again when they change.
    pub watch: bool,
    /// Where this process stands: endpoints of the same zone are used first.
    pub zone: Option<Box<str>>,
    /// Name or number of the user that the process is once its sockets are bound; `None` for whoever has started it.
    pub user: Option<Box<str>>,
    /// Name or number of its group; `None` for that of the user.
    pub group: Option<Box<str>>,
}

/// Bounds of a trailer section.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TrailerLimits {
    /// Bytes of all lines, the empty one included.
    pub bytes_max: u32,
    /// Number of lines.
    pub count_max: u16,
}

/// Bodies of our own error answers, by status.
#[derive(Clone, Debug, Default)]
pub struct ErrorPages(pub(crate) Box<[StaticResponse]>);

impl ErrorPages {
    /// The page for answers of `status`, if there is one.
    #[must_use]
    pub fn find(&self, status: u16) -> Option<&StaticResponse> {
        self.0.iter().find(|page| page.status == status)
    }
}

/// Bounds of a message head.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HeadLimits {
    /// Bytes from the first of the start line to the end of the empty line. At most the buffer's size.
    pub head_bytes_max: u32,
    /// Number of field lines, at most [`proto::http1::head::FIELDS_MAX`].
    pub fields_max: u16,
}

/// An answer held in memory.
#[derive(Clone, Debug)]
pub struct StaticResponse {
    /// Status code, 200 to 599.
    pub status: u16,
    /// Value of `Content-Type`, checked to be a valid field value.
    pub content_type: Box<str>,
    /// Body bytes, at most 64 KiB.
    pub body: Box<[u8]>,
}

/// The admin listener.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Admin {
    /// Address to bind.
    pub bind: SocketAddr,
    /// Who says who may come in; `None` lets everybody in who can reach it.
    pub security: Option<SecurityId>,
    /// Whether it may be reached from the network although nobody is asked.
    pub is_open_to_all: bool,
    /// Endpoints of an upstream that metrics tell apart.
    pub endpoint_series_max: u16,
}

impl Admin {
    /// Whether nobody is asked who he is although it can be reached from the network, and nobody has said that it may be so.
    #[must_use]
    pub fn is_exposed(&self) -> bool {
        let is_near = self.bind.ip().to_canonical().is_loopback();
        self.security.is_none() && !self.is_open_to_all && !is_near
    }
}
