//! What does a core know of an endpoint? Where it is, what share it gets, whether it may be used.
//!
//! Never changed once published: a core that still has an older list works by that one.

use std::sync::Arc;

use config::snapshot::EndpointId;
use rustls::pki_types::ServerName;

use super::guide::Guide;
use crate::address::Address;

/// A weight of one: weights are in steps of 1/256, so that they can grow slowly.
pub const WEIGHT_ONE: u32 = 256;

/// One upstream's endpoints.
#[derive(Debug, Default)]
pub struct Members {
    /// How often the list has changed before.
    pub revision: u64,
    /// All endpoints, by slot.
    pub all: Box<[Member]>,
    /// Indices into [`Self::all`] of those that may get a new exchange, in order.
    pub candidates: Box<[u16]>,
    /// So many are down that all are candidates: the check is more likely wrong than they.
    pub is_panic: bool,
    /// What helps to choose among them.
    pub(crate) guide: Guide,
}

impl Members {
    /// The endpoint in a slot, if there is one.
    #[must_use]
    pub fn find(&self, id: EndpointId) -> Option<&Member> {
        self.all.binary_search_by_key(&id, |member| member.id).ok().map(|index| &self.all[index])
    }

    /// Those that may get a new exchange, in order.
    pub fn candidates(&self) -> impl Iterator<Item = &Member> {
        self.candidates.iter().map(|index| &self.all[usize::from(*index)])
    }

    /// Whether any of them may have so many connections and no more.
    #[must_use]
    pub fn is_bounded(&self) -> bool {
        self.all.iter().any(|member| member.connections_max.is_some())
    }

    /// The candidate of this number.
    #[must_use]
    pub fn candidate(&self, index: u16) -> &Member {
        &self.all[usize::from(self.candidates[usize::from(index)])]
    }
}

/// One endpoint.
#[derive(Clone, Debug)]
pub struct Member {
    /// Its slot.
    pub id: EndpointId,
    /// Number of the slot's occupant.
    pub generation: u32,
    /// As written, for statistics and logs.
    pub name: Arc<str>,
    /// Where it is.
    pub address: Address,
    /// Who it must prove to be where the upstream names nobody: its address, unless that is a path.
    pub server_name: Option<ServerName<'static>>,
    /// Its share beside the others', in steps of 1/[`WEIGHT_ONE`]; 0 gets nothing new.
    pub weight: u32,
    /// The same once it has warmed up.
    pub weight_full: u32,
    /// 0 is tried first; others only while no endpoint of a lower number can be used.
    pub priority: u8,
    /// Where it stands.
    pub zone: Option<Arc<str>>,
    /// Connections of the process to it.
    pub connections_max: Option<u32>,
    /// Once it had as many as allowed, it gets more only when it has fewer than this.
    pub connections_min: Option<u32>,
    /// How it came to be one.
    pub source: Source,
    /// Whether it may be used.
    pub state: State,
}

/// How an endpoint came to be one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// It is written in the configuration.
    Written,
    /// Somebody added it while the process runs.
    Added,
    /// A name that is written stands for it.
    Resolved,
    /// It has registered itself.
    Registered,
}

impl Source {
    /// Its name in statistics and logs.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Written => "written",
            Self::Added => "added",
            Self::Resolved => "resolved",
            Self::Registered => "registered",
        }
    }
}

/// Whether an endpoint may be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// It may.
    Up,
    /// It does not answer, or not as it should.
    Down,
    /// It answers probes, or nobody asks it, and failed those who used it: it is left out for a while.
    Ejected,
    /// It finishes what it has begun, gets nothing new, and no connection to it is kept.
    Draining,
}

impl State {
    /// Its name in statistics and logs.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Up => "up",
            Self::Down => "down",
            Self::Ejected => "ejected",
            Self::Draining => "draining",
        }
    }
}

/// Who an endpoint at this address must prove to be: the host that it was found as, else the address itself.
pub(super) fn server_name_of(host: Option<&str>, address: &Address) -> Option<ServerName<'static>> {
    if let Some(name) = host.and_then(|host| ServerName::try_from(host.to_owned()).ok()) {
        return Some(name);
    }
    match address {
        Address::Tcp(address) => Some(ServerName::IpAddress(address.ip().into())),
        Address::Unix(_) => None,
    }
}
