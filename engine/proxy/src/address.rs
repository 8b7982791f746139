//! Where is an endpoint or a listener, now that the process's own listeners have their ports? And who has no address at all?
//!
//! Never a name: what is here can be connected to as it is.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::sync::Arc;

/// What a connection is made to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Address {
    /// A TCP address.
    Tcp(SocketAddr),
    /// A Unix socket.
    Unix(Arc<Path>),
}

impl Address {
    /// `Host` for a request without one: an authority cannot hold a path (RFC 3986 §3.2.2).
    #[must_use]
    pub fn host(&self) -> String {
        match self {
            Self::Tcp(address) => address.to_string(),
            Self::Unix(_) => "localhost".to_owned(),
        }
    }
}

/// Whether a client has no address: one by a Unix socket, see [`runtime::net::listener::Accepted`]. No network contains it,
/// and nothing is told of it.
pub(crate) fn is_nobodys(peer: SocketAddr) -> bool {
    peer.ip().is_unspecified()
}

/// The address of a client, unless it has none.
pub(crate) fn of_client(peer: SocketAddr) -> Option<IpAddr> {
    (!is_nobodys(peer)).then(|| peer.ip())
}

/// What tells clients apart where something is bounded for each of them.
pub(crate) fn client_key(address: IpAddr) -> u64 {
    match address.to_canonical() {
        IpAddr::V4(address) => u64::from(address.to_bits()),
        // One client gets 64 bits to choose from (RFC 6177 §2), so they tell nobody apart. No such network begins with 32
        // zeros, so none is taken for an address of IPv4.
        IpAddr::V6(address) => (address.to_bits() >> 64) as u64,
    }
}

impl From<SocketAddr> for Address {
    fn from(address: SocketAddr) -> Self {
        Self::Tcp(address)
    }
}

/// As it is written in the configuration.
impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => address.fmt(f),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}
