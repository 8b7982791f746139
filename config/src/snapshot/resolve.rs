//! Which names become endpoints, and how are they asked for?
//!
//! Never an address: those are found while the process runs, and change.

use std::net::SocketAddr;
use std::time::Duration;

use crate::snapshot::EndpointTerms;

/// A name among an upstream's endpoints.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NamedEndpoint {
    /// As written, for statistics and logs.
    pub name: String,
    /// What is asked for.
    pub question: Question,
    /// What share each of its servers gets; a service says priority and weight itself.
    pub terms: EndpointTerms,
}

/// What is asked for.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Question {
    /// Every address of a host, at this port.
    Addresses {
        /// In lower case, without a final dot.
        host: Box<str>,
        /// 1 to 65535.
        port: u16,
    },
    /// Every server of a service (RFC 2782), each with its port, priority and weight.
    Servers {
        /// Such as `_http._tcp.app.example`.
        service: Box<str>,
    },
}

/// How the names of one upstream are asked for.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Resolving {
    /// Whom to ask; the system's own if empty.
    pub nameservers: Box<[SocketAddr]>,
    /// How long one of them may take.
    pub timeout: Duration,
    /// Shortest time between two questions.
    pub ttl_min: Duration,
    /// Longest time between two questions, at least [`Self::ttl_min`].
    pub ttl_max: Duration,
    /// Whether IPv4 addresses are asked for.
    pub ipv4: bool,
    /// Whether IPv6 addresses are asked for; at least one of the two is.
    pub ipv6: bool,
}
