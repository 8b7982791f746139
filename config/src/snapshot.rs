//! What do the cores read? An immutable picture of the whole configuration, ids as indexes.
//!
//! Nothing here can represent a user's mistake; nothing here is parsed, looked up by name or mutated after
//! [`crate::load_file`] has built it. A snapshot is swapped whole.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use proto::matching::ChannelTable;

/// Index of a listener in [`Snapshot::listeners`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ListenerId(pub u16);

/// Index of a channel in [`Snapshot::channels`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ChannelId(pub u16);

/// Index of an upstream in [`Snapshot::upstreams`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct UpstreamId(pub u16);

/// Index of an endpoint in [`Snapshot::endpoints`], unique across upstreams.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct EndpointId(pub u16);

/// The whole configuration as the data plane reads it.
#[derive(Debug)]
pub struct Snapshot {
    /// Node ID: 1 to 30 of `A-Z a-z 0-9 _ - .`.
    pub node: String,
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
    /// Endpoints of all upstreams, by [`EndpointId`]; those of one upstream are adjacent.
    pub endpoints: Box<[Endpoint]>,
    /// The admin listener, unless it is turned off.
    pub admin: Option<Admin>,
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
}

/// One accepting address.
#[derive(Clone, Debug)]
pub struct Listener {
    /// Name in the configuration, `[listener.NAME]`.
    pub name: String,
    /// Address to bind; port 0 lets the kernel choose.
    pub bind: SocketAddr,
    /// What is spoken here.
    pub protocol: Protocol,
    /// For this process's own upstreams alone; its requests are left out of totals.
    pub internal: bool,
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
}

/// What a listener speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// HTTP/1.0 and HTTP/1.1 in the clear.
    Http,
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
    /// Bodies of our own error answers, in place of the listener's.
    pub error_pages: ErrorPages,
    /// Only internal listeners can reach it; its exchanges are left out of totals.
    pub internal: bool,
}

/// What a channel does with a request.
#[derive(Clone, Debug)]
pub enum Action {
    /// Forward to an endpoint of this upstream.
    Forward(UpstreamId),
    /// Answer here.
    Respond(StaticResponse),
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
    /// First of this upstream's endpoints in [`Snapshot::endpoints`].
    pub endpoints_first: EndpointId,
    /// How many endpoints, at least one.
    pub endpoints_count: u16,
    /// Deadlines towards the endpoint.
    pub timeouts: UpstreamTimeouts,
    /// Idle connections kept per core and endpoint.
    pub idle_connections_max: u16,
    /// How long an idle connection is kept.
    pub idle_timeout: Duration,
    /// Bounds of what an endpoint may answer.
    pub limits: UpstreamLimits,
}

/// Scheduler of an upstream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Balance {
    /// Each endpoint in turn, on each core.
    RoundRobin,
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
#[derive(Clone, Debug)]
pub struct Endpoint {
    /// The upstream it belongs to.
    pub upstream: UpstreamId,
    /// Where it listens.
    pub address: EndpointAddress,
    /// As written, for statistics and logs.
    pub name: String,
}

/// Where an endpoint listens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EndpointAddress {
    /// A TCP address.
    Tcp(SocketAddr),
    /// One of this process's own listeners, at whatever port it was bound.
    Listener(ListenerId),
}

/// The admin listener.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Admin {
    /// Address to bind.
    pub bind: SocketAddr,
}
