//! How does an upstream choose among its endpoints, as cores read it?
//!
//! Never holds what an endpoint is like just now: only what was written.

use std::fmt;
use std::time::Duration;

use proto::balance::source::SourceMask;

/// Scheduler of an upstream; see `proto::balance`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Balance {
    /// Each in turn.
    RoundRobin,
    /// The fewest exchanges for the weight.
    LeastConnections,
    /// The better of two.
    RandomTwo,
    /// Where the client's address leads.
    SourceHash(HashRule),
    /// Where a key leads.
    Hash(HashRule),
    /// The fewest exchanges with the one that comes.
    ShortestExpectedDelay,
    /// An idle one, else as before.
    NeverQueue,
    /// The shortest time.
    LeastTime,
}

impl Balance {
    /// As it is written.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::RoundRobin => "round_robin",
            Self::LeastConnections => "least_connections",
            Self::RandomTwo => "random_two",
            Self::SourceHash(_) => "source_hash",
            Self::Hash(_) => "hash",
            Self::ShortestExpectedDelay => "shortest_expected_delay",
            Self::NeverQueue => "never_queue",
            Self::LeastTime => "least_time",
        }
    }

    /// What is hashed, if anything is.
    #[must_use]
    pub const fn hash(&self) -> Option<&HashRule> {
        match self {
            Self::SourceHash(rule) | Self::Hash(rule) => Some(rule),
            Self::RoundRobin
            | Self::LeastConnections
            | Self::RandomTwo
            | Self::ShortestExpectedDelay
            | Self::NeverQueue
            | Self::LeastTime => None,
        }
    }
}

/// What is hashed, and where that leads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HashRule {
    /// What is hashed.
    pub on: HashOn,
    /// Which clients are one, where it is the source.
    pub mask: SourceMask,
    /// Where that leads.
    pub table: HashTable,
}

/// What is hashed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HashOn {
    /// The client's address.
    Source,
    /// Path and query.
    Uri,
    /// The host that is asked for.
    Destination,
    /// The value of this field, in lower case.
    Header(Box<[u8]>),
    /// The value of this cookie.
    Cookie(Box<[u8]>),
}

/// As it is written.
impl fmt::Display for HashOn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Source => f.write_str("source"),
            Self::Uri => f.write_str("uri"),
            Self::Destination => f.write_str("destination"),
            Self::Header(name) => write!(f, "header:{}", name.escape_ascii()),
            Self::Cookie(name) => write!(f, "cookie:{}", name.escape_ascii()),
        }
    }
}

impl HashTable {
    /// As it is written.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Maglev => "maglev",
            Self::Ketama => "ketama",
        }
    }
}

/// Where a hash leads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HashTable {
    /// A table of equal shares.
    Maglev,
    /// A ring.
    Ketama,
}

/// Clients of the same address come back to the endpoint they had.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PersistenceRule {
    /// After the last exchange.
    pub timeout: Duration,
    /// Which clients are one.
    pub mask: SourceMask,
    /// How many are remembered at a time.
    pub clients_max: u32,
}

/// Clients come back to the endpoint they had by a cookie.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StickyRule {
    /// Name of the cookie.
    pub cookie: Box<[u8]>,
    /// What cookies are signed with; the first signs, all are believed.
    pub secrets: Box<[SecretBytes]>,
    /// What follows the value, `Secure` apart.
    pub attributes: Box<[u8]>,
    /// Whether it is for HTTPS alone.
    pub secure: SecureCookie,
    /// Whether it is passed on to the endpoint.
    pub is_passed: bool,
}

/// Whether a cookie is for HTTPS alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SecureCookie {
    /// Where the request came by it.
    Auto,
    /// In any case.
    Always,
    /// In no case.
    Never,
}

/// What must not be read by others.
#[derive(Clone, PartialEq, Eq)]
pub struct SecretBytes(pub Box<[u8]>);

impl fmt::Debug for SecretBytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} bytes", self.0.len())
    }
}
