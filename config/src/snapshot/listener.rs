//! What does a listener accept, and on what terms, as cores read it?
//!
//! Never says what becomes of a request: that is its channel's.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::time::Duration;

use proto::access::AccessTable;

use super::access_log::LogSetId;
use super::{ErrorPages, HeadLimits, ListenerTls, TrailerLimits, UpstreamId};

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
}
