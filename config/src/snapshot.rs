//! What do the cores read? An immutable picture of the whole configuration, ids as indexes.
//!
//! Nothing here can represent a user's mistake; nothing here is parsed, looked up by name or mutated after
//! [`crate::load_file`] has built it. A snapshot is swapped whole.

pub mod access_log;
pub mod balance;
pub mod cluster;
pub mod destination;
pub mod health;
pub mod register;
pub mod resolve;
pub mod rules;
pub mod security;

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use proto::access::AccessTable;
use proto::health::slow_start::SlowStartTerms;
use proto::matching::ChannelTable;
use proto::retry::Causes;
use proto::share::Share;
use proto::template::Template;

use self::health::{Ejection, Health};

use self::access_log::{AccessLogs, LogSetId};
use self::balance::{Balance, PersistenceRule, StickyRule};
use self::cluster::{Module, NodeTerms, StoreAccess};
use self::register::Registering;
use self::resolve::{NamedEndpoint, Resolving};
use self::rules::Rules;
use self::security::{SecurityId, SecurityModule};

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

/// One accepting address.
#[derive(Clone, Debug)]
pub struct Listener {
    /// Name in the configuration, `[listener.NAME]`.
    pub name: String,
    /// Where it listens.
    pub bind: BindAddress,
    /// What is spoken here.
    pub protocol: Protocol,
    /// Whose connections begin with the address of the client they carry.
    pub proxy_protocol: Option<ProxyProtocolIn>,
    /// For this process's own upstreams alone; its requests are left out of totals.
    pub internal: bool,
    /// Who may come in, if that is not everybody: others are closed at once.
    pub access: Option<Box<AccessTable>>,
    /// Length of the kernel's accept queue per core.
    pub backlog: u32,
    /// Value of `Retry-After` in answers 503, in whole seconds.
    pub retry_after_seconds: u32,
    /// Bounds of what a client may send, ask for and hold.
    pub limits: ListenerLimits,
    /// Deadlines towards the client.
    pub timeouts: ListenerTimeouts,
    /// Fields added to forwarded requests and responses.
    pub forwarding: Forwarding,
    /// Bodies of our own error answers.
    pub error_pages: ErrorPages,
    /// Where its exchanges are written down.
    pub access_log: Option<LogSetId>,
}

/// Where a listener listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BindAddress {
    /// A TCP address; port 0 lets the kernel choose.
    Tcp(SocketAddr),
    /// A Unix socket.
    Unix {
        /// Where its file is, 1 to 107 bytes (`sun_path` with its final zero, unix(7)).
        path: Box<Path>,
        /// Permissions of the file: who may write to it may connect.
        mode: u32,
    },
}

impl BindAddress {
    /// The TCP address, if it is one.
    #[must_use]
    pub fn tcp(&self) -> Option<SocketAddr> {
        match self {
            Self::Tcp(address) => Some(*address),
            Self::Unix { .. } => None,
        }
    }
}

/// As it is written.
impl fmt::Display for BindAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => address.fmt(f),
            Self::Unix { path, .. } => write!(f, "unix:{}", path.display()),
        }
    }
}

/// What a listener speaks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// HTTP/1.0 and HTTP/1.1 in the clear.
    Http,
    /// HTTP/1.0 and HTTP/1.1 over TLS.
    Https(Box<ListenerTls>),
    /// Bytes, relayed to an upstream.
    Tcp(TcpService),
    /// TLS, relayed undecrypted to the upstream of the server name that the client asks for.
    Tls(Box<SniRoutes>),
}

impl Protocol {
    /// As the configuration calls it.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Https(_) => "https",
            Self::Tcp(_) => "tcp",
            Self::Tls(_) => "tls",
        }
    }

    /// Whether requests are read here and find their channel, rather than bytes their upstream.
    #[must_use]
    pub fn is_http(&self) -> bool {
        match self {
            Self::Http | Self::Https(_) => true,
            Self::Tcp(_) | Self::Tls(_) => false,
        }
    }
}

/// Where the bytes of a listener go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TcpService {
    /// Whose endpoints they go to.
    pub upstream: UpstreamId,
    /// What is counted and timed as a message.
    pub framing: Framing,
}

/// Where one message ends and the next begins; the bytes pass unchanged, whatever they are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Framing {
    /// There are no messages.
    Raw,
    /// Each ends with a line feed.
    Line,
    /// Each stands between VT and FS CR: the Minimal Lower Layer Protocol of HL7.
    Mllp,
}

/// Which upstream serves which server name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SniRoutes {
    /// Sorted by pattern, no pattern twice.
    pub routes: Box<[(ServerNamePattern, UpstreamId)]>,
    /// For names that no pattern takes, and clients that send none; `None` refuses them.
    pub default: Option<UpstreamId>,
}

/// A server name, or those below one. In lower case, without a final dot.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum ServerNamePattern {
    /// This name.
    Exact(Box<str>),
    /// Any name that ends with a dot and this, at any depth.
    Below(Box<str>),
}

impl SniRoutes {
    /// The upstream of a server name in lower case: the name's own before the longest wildcard's.
    #[must_use]
    pub fn find(&self, name: Option<&str>) -> Option<UpstreamId> {
        name.and_then(|name| self.find_pattern(name)).or(self.default)
    }

    fn find_pattern(&self, name: &str) -> Option<UpstreamId> {
        let exacts =
            self.routes.partition_point(|(pattern, _)| matches!(pattern, ServerNamePattern::Exact(_)));
        let (exact, below) = self.routes.split_at(exacts);
        let find = |routes: &[(ServerNamePattern, UpstreamId)], wanted: &str| {
            let found = routes.binary_search_by(|(pattern, _)| pattern.name().cmp(wanted));
            found.ok().map(|index| routes[index].1)
        };
        let parents = std::iter::successors(name.split_once('.'), |(_, parent)| parent.split_once('.'));
        find(exact, name).or_else(|| parents.map(|(_, parent)| parent).find_map(|parent| find(below, parent)))
    }
}

impl ServerNamePattern {
    fn name(&self) -> &str {
        match self {
            Self::Exact(name) | Self::Below(name) => name,
        }
    }
}

/// What a listener needs to speak TLS.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListenerTls {
    /// At least one; a name is given the one that holds it.
    pub certificates: Box<[CertificateFiles]>,
    /// What is done with a client that asks for a name none of them holds.
    pub unknown_name: UnknownName,
    /// What clients have to show, if anything.
    pub client_auth: Option<ClientAuth>,
    /// The oldest version spoken.
    pub version_min: TlsVersion,
    /// Whether a client that comes back may leave most of the handshake out.
    pub resumption: bool,
    /// Handshakes in progress at a time on one core; further clients wait.
    pub handshakes_max: u32,
}

/// A certificate chain and its key, both in PEM.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CertificateFiles {
    /// The chain, the end's own certificate first.
    pub certificate: Box<Path>,
    /// The private key.
    pub key: Box<Path>,
}

/// What is done with a client that asks for a name no certificate holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UnknownName {
    /// It is given the first certificate.
    Default,
    /// The handshake is refused: `unrecognized_name` (RFC 6066 §3).
    Refuse,
}

/// Versions of TLS.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum TlsVersion {
    /// RFC 5246.
    Tls12,
    /// RFC 8446.
    Tls13,
}

/// Mutual TLS: what clients have to show.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientAuth {
    /// Whether one without a certificate is let in.
    pub mode: ClientAuthMode,
    /// PEM file of the authorities whose certificates are believed.
    pub authorities: Box<Path>,
    /// PEM files of what they have revoked.
    pub revocation: Box<[Box<Path>]>,
    /// SHA-256 of the certificates let in, each in DER; empty for all that an authority vouches for.
    pub fingerprints: Box<[[u8; 32]]>,
    /// Whether a client that comes back may do so without its certificate.
    pub resumption: bool,
}

/// Whether a client without a certificate is let in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClientAuthMode {
    /// It is not.
    Require,
    /// It is, without an identity.
    Request,
}

/// Whose connections begin with the address of the client they carry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProxyProtocolIn {
    /// Connections from these networks must begin with a PROXY header, version 1 or 2; others are taken as they are.
    pub from: Box<[Network]>,
}

/// Bounds of what a client may send, ask for and hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ListenerLimits {
    /// A request head: 431.
    pub head: HeadLimits,
    /// Bytes of a request target: 414.
    pub target_bytes_max: u32,
    /// Bytes of a request body, `u64::MAX` for any: 413. A channel may have its own bound.
    pub body_bytes_max: u64,
    /// Bytes of a request body that must come in each second on average once [`ListenerTimeouts::body`] is over, zero
    /// for any: 408.
    pub body_bytes_per_second_min: u32,
    /// Trailers of a request: 400.
    pub trailers: TrailerLimits,
    /// Requests in a row that were there before the one ahead of them was answered; the last closes the connection.
    pub pipelined_max: u32,
    /// Requests of one connection, `u64::MAX` for any number; the last closes it.
    pub requests_max: u64,
    /// Connections of the process.
    pub connections_max: Option<u32>,
    /// Connections of the process from one address.
    pub connections_per_address_max: Option<u32>,
}

/// Bounds of what an endpoint may answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UpstreamLimits {
    /// A response head: 502.
    pub head: HeadLimits,
    /// Trailers of an answer, which is cut off beyond.
    pub trailers: TrailerLimits,
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

/// Deadlines towards the client, each restarted as said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ListenerTimeouts {
    /// From the first byte of a head (or accept) to its last: 408.
    pub head: Duration,
    /// Between two requests on a kept connection, and from accept to the first byte: closed silently.
    pub idle: Duration,
    /// Between two reads of a request body: 408.
    pub body: Duration,
    /// Between two writes to a client that does not read: connection closed.
    pub send: Duration,
    /// From accept to the end of what comes before the first byte of an application: TLS handshake, PROXY header, or as
    /// much of a `ClientHello` as names the server. Closed silently.
    pub handshake: Duration,
    /// Between two bytes of a relayed connection, TCP, TLS or upgraded, whichever way they go: closed silently.
    pub tunnel: Duration,
    /// Of a relayed connection as a whole.
    pub lifetime: Option<Duration>,
}

/// Fields added when forwarding.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Forwarding {
    /// Add or extend `X-Forwarded-For`.
    pub x_forwarded_for: bool,
    /// Set `X-Forwarded-Proto`.
    pub x_forwarded_proto: bool,
    /// Set `X-Forwarded-Host`.
    pub x_forwarded_host: bool,
    /// Add or extend `Forwarded` (RFC 7239).
    pub forwarded: bool,
    /// Pseudonym in `Via` (RFC 9110 §7.6.3), both ways; `None` adds none.
    pub via: Option<Box<str>>,
    /// Give each request an `X-Request-ID` unless a trusted peer sent one.
    pub request_id: bool,
    /// Say who the client is by its certificate; what it sent under these names is dropped wherever one is asked for.
    pub client_certificate: bool,
    /// Networks whose incoming forwarding fields are believed and extended; others' are replaced.
    pub trusted: Box<[Network]>,
}

/// An address range in CIDR notation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Network {
    /// First address of the range.
    pub address: IpAddr,
    /// Number of leading bits that must agree: 0 to 32 or 128.
    pub prefix_len: u8,
}

impl Upstream {
    /// Its slots.
    pub fn slots(&self) -> impl Iterator<Item = EndpointId> + use<> {
        (self.slots_first.0..self.slots_first.0 + self.slots_count).map(EndpointId)
    }
}

impl Network {
    /// Whether `address` lies in this range. IPv4-mapped IPv6 addresses count as IPv4.
    #[must_use]
    pub fn contains(&self, address: IpAddr) -> bool {
        match (self.address, address.to_canonical()) {
            (IpAddr::V4(net), IpAddr::V4(addr)) => {
                let mask = u32::MAX.checked_shl(32 - u32::from(self.prefix_len)).unwrap_or(0);
                net.to_bits() & mask == addr.to_bits() & mask
            }
            (IpAddr::V6(net), IpAddr::V6(addr)) => {
                let mask = u128::MAX.checked_shl(128 - u32::from(self.prefix_len)).unwrap_or(0);
                net.to_bits() & mask == addr.to_bits() & mask
            }
            _ => false,
        }
    }
}

/// What happens to matched traffic.
#[derive(Clone, Debug)]
pub struct Channel {
    /// Name in the configuration, `[channel.NAME]`.
    pub name: String,
    /// Where requests go.
    pub action: Action,
    /// Bytes of a request body, in place of the listener's bound: 413.
    pub body_bytes_max: Option<u64>,
    /// From the complete request head to the last byte of the answer: 504 if nothing was sent yet.
    pub total_timeout: Option<Duration>,
    /// [`ListenerTimeouts::tunnel`] of connections that this channel's requests turn into tunnels.
    pub tunnel_timeout: Option<Duration>,
    /// Protocols that a request may change to.
    pub upgrade: Upgrades,
    /// Whether CONNECT is answered with a tunnel to the upstream, whatever target it names.
    pub connect: bool,
    /// How long the first byte of an answer is waited for before a second copy of the request goes to another endpoint.
    pub hedge_after: Option<Duration>,
    /// Bodies of our own error answers, in place of the listener's.
    pub error_pages: ErrorPages,
    /// Only internal listeners can reach it; its exchanges are left out of totals.
    pub internal: bool,
    /// What it demands of its requests and does to them, if anything.
    pub rules: Option<Box<Rules>>,
    /// Where its exchanges are written down; the outer `None` where its listener says.
    pub access_log: Option<Option<LogSetId>>,
}

/// Protocols that a request may change to (RFC 9110 §7.8).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Upgrades {
    /// Whatever the endpoint agrees to.
    Any,
    /// These, in lower case; none of them if empty.
    Only(Box<[Box<str>]>),
}

impl Upgrades {
    /// Whether a request for this protocol is passed on as one. RFC 9110 §7.8 compares them without regard to case.
    #[must_use]
    pub fn allows(&self, protocol: &[u8]) -> bool {
        match self {
            // What follows would be requests again, past every rule that holds for them here.
            _ if protocol.eq_ignore_ascii_case(b"h2c") => false,
            Self::Any => true,
            Self::Only(known) => known.iter().any(|known| known.as_bytes().eq_ignore_ascii_case(protocol)),
        }
    }
}

/// What a channel does with a request.
#[derive(Clone, Debug)]
pub enum Action {
    /// Forward to an endpoint of this upstream.
    Forward(UpstreamId),
    /// Answer here.
    Respond(StaticResponse),
    /// Send the client elsewhere.
    Redirect(Box<Redirect>),
}

/// Where a client is sent, and how it is told.
#[derive(Clone, Debug)]
pub struct Redirect {
    /// The answer without its `Location`.
    pub answer: StaticResponse,
    /// That.
    pub to: Template,
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

/// A group of endpoints that answer alike.
#[derive(Clone, Debug)]
pub struct Upstream {
    /// Name in the configuration, `[upstream.NAME]`.
    pub name: String,
    /// How an endpoint is chosen.
    pub balance: Balance,
    /// The endpoints that it begins with.
    pub endpoints: Box<[Endpoint]>,
    /// First of its slots.
    pub slots_first: EndpointId,
    /// How many endpoints it may have at a time, those found out or added while the process runs included.
    pub slots_count: u16,
    /// Deadlines towards the endpoint.
    pub timeouts: UpstreamTimeouts,
    /// Idle connections kept per core and endpoint.
    pub idle_connections_max: u16,
    /// How long an idle connection is kept.
    pub idle_timeout: Duration,
    /// Names among its endpoints: the servers that they stand for come and go.
    pub names: Box<[NamedEndpoint]>,
    /// How these names are asked for.
    pub resolving: Resolving,
    /// How servers make themselves endpoints, if they may.
    pub registering: Option<Registering>,
    /// Bounds of what an endpoint may answer.
    pub limits: UpstreamLimits,
    /// Exchanges in progress of the process: 503.
    pub in_flight_max: Option<u32>,
    /// Those of them that have no connection yet: 503.
    pub pending_max: Option<u32>,
    /// When a request goes out again.
    pub retry: Retry,
    /// Where one waits while every endpoint has as many connections as it may have.
    pub queue: Queue,
    /// How its endpoints are spoken to over TLS, if they are.
    pub tls: Option<UpstreamTls>,
    /// The PROXY header that connections to its endpoints begin with, if they do.
    pub proxy_protocol: Option<ProxyVersion>,
    /// How its endpoints are probed, if they are.
    pub health: Option<Health>,
    /// When endpoints are left out that fail what they are given, if ever.
    pub ejection: Option<Ejection>,
    /// How the weight of one grows that comes up, if it does.
    pub slow_start: Option<SlowStartTerms>,
    /// With less than this share of them up, all get traffic.
    pub panic_threshold: Option<Share>,
    /// Whether clients of the same address come back to the endpoint they had.
    pub persistence: Option<PersistenceRule>,
    /// Whether clients come back to the endpoint they had by a cookie.
    pub sticky: Option<Box<StickyRule>>,
    /// Whether anything of a request, or who sent it, has a say in which endpoint it gets.
    pub depends_on_request: bool,
}

/// When a request goes out again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Retry {
    /// Tries of one request, at least one.
    pub tries_max: u8,
    /// Requests that may go out again, in hundredths of those sent.
    pub budget_percent: u32,
    /// After what.
    pub causes: Causes,
    /// After answers with these statuses, where [`Cause::Status`](proto::retry::Cause::Status) is one of the causes.
    pub statuses: Box<[u16]>,
}

/// Where a request waits for a connection that it may not have yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Queue {
    /// Requests of the process that may wait at a time: 503.
    pub requests_max: u32,
    /// How long each may: 503.
    pub timeout: Duration,
}

/// Versions of the PROXY protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProxyVersion {
    /// One line of text.
    V1,
    /// Binary, with TLVs.
    V2,
}

/// How endpoints are spoken to over TLS.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UpstreamTls {
    /// Whose word for an endpoint's identity is taken.
    pub verify: Verify,
    /// Who the endpoints are: asked for, and looked for in their certificates. `None` takes each one's address.
    pub server_name: Option<Box<str>>,
    /// What is shown to endpoints that ask who we are.
    pub client: Option<CertificateFiles>,
    /// The oldest version spoken.
    pub version_min: TlsVersion,
}

/// Whose word for an endpoint's identity is taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verify {
    /// The authorities that this host trusts.
    Platform,
    /// Those of a PEM file.
    Authorities(Box<Path>),
    /// Nobody's: any certificate is taken.
    Nothing,
}

/// Deadlines towards an endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UpstreamTimeouts {
    /// Establishing a connection: 504.
    pub connect: Duration,
    /// From the end of the request to the first byte of the answer: 504.
    pub first_byte: Duration,
    /// Between two reads of a response body, and for a whole response head: 504, or the client's connection is cut.
    pub body: Duration,
    /// Between two writes to an endpoint that does not read: 504.
    pub send: Duration,
}

/// One server of an upstream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    /// Where it listens.
    pub address: EndpointAddress,
    /// As written, for statistics and logs.
    pub name: String,
    /// What share it gets.
    pub terms: EndpointTerms,
}

/// What share of an upstream's traffic an endpoint gets, and when.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EndpointTerms {
    /// Its share beside the others'; 0 gets nothing new.
    pub weight: u16,
    /// 0 is tried first; others only while no endpoint of a lower number can be used.
    pub priority: u8,
    /// Where it stands.
    pub zone: Option<Arc<str>>,
    /// Connections of the process to it.
    pub connections_max: Option<u32>,
    /// Once it had as many as allowed, it gets more only when it has fewer than this.
    pub connections_min: Option<u32>,
}

impl EndpointTerms {
    /// What a lower threshold means: 0 stands for three quarters of the most, as a lower threshold of 0 does in LVS (ip_vs_conn.c,
    /// `ip_vs_unbind_dest`: an endpoint is relieved once four times its connections are fewer than three times the upper threshold).
    #[must_use]
    pub fn lower_threshold(min: u32, max: Option<u32>) -> u32 {
        match (min, max) {
            (0, Some(max)) => max - max / 4,
            _ => min,
        }
    }
}

impl Default for EndpointTerms {
    fn default() -> Self {
        Self { weight: 1, priority: 0, zone: None, connections_max: None, connections_min: None }
    }
}

/// Where an endpoint listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EndpointAddress {
    /// A TCP address.
    Tcp(SocketAddr),
    /// A Unix socket.
    Unix(Box<Path>),
    /// One of this process's own listeners, at whatever port it was bound.
    Listener(ListenerId),
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_name_finds_its_own_route_before_the_longest_wildcard() {
        let pattern = |text: &str| match text.strip_prefix("*.") {
            Some(name) => ServerNamePattern::Below(name.into()),
            None => ServerNamePattern::Exact(text.into()),
        };
        let patterns = ["b.example", "*.b.example", "*.example", "a.b.example", "zz"];
        let mut routes: Vec<_> = patterns.into_iter().map(pattern).zip((0..).map(UpstreamId)).collect();
        routes.sort_by(|(a, _), (b, _)| a.cmp(b));
        let mut routes = SniRoutes { routes: routes.into(), default: None };
        let check = |routes: &SniRoutes, name: Option<&str>, expected: Option<u16>| {
            assert_eq!(routes.find(name), expected.map(UpstreamId), "{name:?}");
        };
        check(&routes, Some("b.example"), Some(0));
        check(&routes, Some("x.b.example"), Some(1));
        check(&routes, Some("y.x.b.example"), Some(1));
        check(&routes, Some("x.example"), Some(2));
        check(&routes, Some("a.b.example"), Some(3));
        check(&routes, Some("xb.example"), Some(2));
        check(&routes, Some("zz"), Some(4));
        for unknown in [Some("example"), Some(""), Some("."), Some("zzz"), None] {
            check(&routes, unknown, None);
        }
        routes.default = Some(UpstreamId(9));
        check(&routes, Some("example"), Some(9));
        check(&routes, None, Some(9));
    }

    #[test]
    fn an_upgrade_is_passed_on_only_where_it_is_allowed() {
        let only = Upgrades::Only(["websocket".into()].into());
        assert!(only.allows(b"WebSocket") && !only.allows(b"spdy"));
        assert!(Upgrades::Any.allows(b"spdy") && !Upgrades::Any.allows(b"H2C"));
        assert!(!Upgrades::Only([].into()).allows(b"websocket"));
    }
}
