//! Who answers requests, and how is he spoken to, as cores read it?
//!
//! Never says how an endpoint is at the moment: that is the roster's.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use proto::health::slow_start::SlowStartTerms;
use proto::retry::Causes;
use proto::share::Share;

use super::balance::{Balance, PersistenceRule, StickyRule};
use super::health::{Ejection, Health};
use super::register::Registering;
use super::resolve::{NamedEndpoint, Resolving};
use super::{EndpointId, HeadLimits, ListenerId, TrailerLimits, UpstreamTls};

/// Bounds of what an endpoint may answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UpstreamLimits {
    /// A response head: 502.
    pub head: HeadLimits,
    /// Trailers of an answer, which is cut off beyond.
    pub trailers: TrailerLimits,
}

impl Upstream {
    /// Its slots.
    pub fn slots(&self) -> impl Iterator<Item = EndpointId> + use<> {
        (self.slots_first.0..self.slots_first.0 + self.slots_count).map(EndpointId)
    }
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
