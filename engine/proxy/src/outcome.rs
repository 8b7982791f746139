//! What went wrong, whose fault was it, and what follows? One place turns a fault into a status and a counter.
//!
//! Never logs: a peer's mistake is a counter. Never says to a client what the inside looks like.

use std::io;

use proto::client_hello::HelloRejected;
use proto::http1::chunked::ChunkRejected;
use proto::http1::rejected::{RequestRejected, ResponseRejected};
use proto::proxy_protocol::ProxyRejected;
use proto::retry::Cause;

/// Who caused a fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// The client.
    Downstream,
    /// An endpoint.
    Upstream,
    /// This process: its configuration or its limits.
    Internal,
}

/// Why an exchange did not end as it should.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The request head broke a rule of HTTP: the rule's status.
    RequestRejected(RequestRejected),
    /// The request's chunked body broke a rule: 400.
    RequestBodyRejected(ChunkRejected),
    /// The request's body is longer than allowed: 413.
    RequestBodyTooLarge,
    /// The head was not complete in time: 408.
    HeadTimeout,
    /// The client stopped sending its body: 408.
    RequestBodyTimeout,
    /// The client sent its body too slowly: 408.
    RequestBodySlow,
    /// The client closed or broke the connection before its request was complete.
    ClientGone,
    /// The client closed or broke the connection before it had its answer.
    ClientGoneInResponse,
    /// The client did not read its answer in time; the connection is cut.
    ClientSendTimeout,
    /// CONNECT, which no channel allows: 501.
    TunnelRefused,
    /// The request is for a host that the client did not ask for when it proved who it is: 421.
    Misdirected,
    /// No channel matches: 404.
    NoChannel,
    /// The channel does not let the client's address in: 403.
    AddressDenied,
    /// The channel demands a token, and the request brings none, or several: 401.
    TokenMissing,
    /// The request's token is not one to believe: 401.
    TokenRejected,
    /// The request's token does not allow what the channel demands: 403.
    ScopeMissing,
    /// More requests than a rate of the channel allows: 429.
    OverRate {
        /// When the next would be let in, in seconds; at least one.
        retry_after_seconds: u16,
    },
    /// The channel makes some requests fail on purpose, and this was one.
    Injected {
        /// What it is answered with.
        status: u16,
    },
    /// The channel has as many exchanges in progress as it may have: 503.
    OverConcurrency,
    /// The client's address has as many exchanges of the channel in progress as it may have: 429.
    OverConcurrencyPerAddress,
    /// No descriptor, port or memory was left for a connection to an endpoint: 503.
    ResourcesExhausted,
    /// No endpoint of the upstream may be used: 503.
    NoEndpoint,
    /// No endpoint may have another connection, and as many requests wait for one as may: 503.
    QueueFull,
    /// No endpoint could have another connection for as long as a request may wait for that: 503.
    QueueTimeout,
    /// As many exchanges with the upstream are in progress as there may be: 503.
    OverInFlight,
    /// So many of them that may have no connection yet have none: 503.
    OverPending,
    /// No connection to any endpoint tried: 502.
    ConnectFailed,
    /// No connection within the upstream's `connect` timeout: 504.
    ConnectTimeout,
    /// No private connection to the endpoint: it proved to be somebody else, or there was no agreement: 502.
    UpstreamTlsFailed,
    /// The endpoint closed or broke the connection before a complete response head: 502.
    UpstreamGone,
    /// The endpoint did not take the request in time: 504.
    UpstreamSendTimeout,
    /// The response head did not begin in time: 504.
    FirstByteTimeout,
    /// The response head broke a rule of HTTP: 502.
    ResponseRejected(ResponseRejected),
    /// The response's chunked body broke a rule; the client sees an incomplete answer.
    ResponseBodyRejected(ChunkRejected),
    /// The response head or body stopped coming: 504, or an incomplete answer.
    ResponseTimeout,
    /// The response ended before its length: an incomplete answer.
    ResponseTruncated,
    /// The endpoint switched protocols though nobody had asked: 502.
    UnaskedUpgrade,
    /// The endpoint sent interim answers without end: 502.
    InterimAnswersTooMany,
    /// The channel's total time was over: 504, or an incomplete answer.
    TotalTimeout,
    /// No byte came through a tunnel for too long; both sides are reset.
    TunnelIdle,
    /// A tunnel's lifetime was over; both sides are reset.
    TunnelLifetime,
    /// The client broke a tunnel; the endpoint's side is reset.
    TunnelClientGone,
    /// The endpoint broke a tunnel; the client's side is reset.
    TunnelUpstreamGone,
    /// What comes before an application's first byte was not there in time: closed.
    HandshakeTimeout,
    /// A connection that had to begin with a PROXY header broke a rule of it: closed.
    ProxyHeaderRejected(ProxyRejected),
    /// A connection that had to begin with a TLS client's hello broke a rule of it: a fatal alert, or closed.
    HelloRejected(HelloRejected),
    /// A TLS client asked for a name that nobody serves, or for none where one is needed: a fatal alert.
    ServerNameUnknown,
}

impl Fault {
    /// Number of kinds, for arrays of counters.
    pub const COUNT: usize = Self::NAMES.len();

    /// Names of all kinds by [`Self::index`], as exported.
    pub const NAMES: [&'static str; 47] = [
        "request_rejected",
        "request_body_rejected",
        "head_timeout",
        "request_body_timeout",
        "client_gone",
        "client_gone_in_response",
        "client_send_timeout",
        "tunnel_refused",
        "no_channel",
        "connect_failed",
        "connect_timeout",
        "upstream_gone",
        "upstream_send_timeout",
        "first_byte_timeout",
        "response_rejected",
        "response_body_rejected",
        "response_timeout",
        "response_truncated",
        "unasked_upgrade",
        "total_timeout",
        "request_body_too_large",
        "request_body_slow",
        "resources_exhausted",
        "interim_answers_too_many",
        "upstream_tls_failed",
        "tunnel_idle",
        "tunnel_lifetime",
        "tunnel_client_gone",
        "tunnel_upstream_gone",
        "misdirected",
        "handshake_timeout",
        "proxy_header_rejected",
        "hello_rejected",
        "server_name_unknown",
        "no_endpoint",
        "address_denied",
        "over_rate",
        "injected",
        "over_concurrency",
        "over_concurrency_per_address",
        "queue_full",
        "queue_timeout",
        "over_in_flight",
        "over_pending",
        "token_missing",
        "token_rejected",
        "scope_missing",
    ];

    /// Index of this kind among [`Self::NAMES`].
    #[must_use]
    pub const fn index(self) -> usize {
        match self {
            Self::RequestRejected(_) => 0,
            Self::RequestBodyRejected(_) => 1,
            Self::HeadTimeout => 2,
            Self::RequestBodyTimeout => 3,
            Self::ClientGone => 4,
            Self::ClientGoneInResponse => 5,
            Self::ClientSendTimeout => 6,
            Self::TunnelRefused => 7,
            Self::NoChannel => 8,
            Self::ConnectFailed => 9,
            Self::ConnectTimeout => 10,
            Self::UpstreamGone => 11,
            Self::UpstreamSendTimeout => 12,
            Self::FirstByteTimeout => 13,
            Self::ResponseRejected(_) => 14,
            Self::ResponseBodyRejected(_) => 15,
            Self::ResponseTimeout => 16,
            Self::ResponseTruncated => 17,
            Self::UnaskedUpgrade => 18,
            Self::TotalTimeout => 19,
            Self::RequestBodyTooLarge => 20,
            Self::RequestBodySlow => 21,
            Self::ResourcesExhausted => 22,
            Self::InterimAnswersTooMany => 23,
            Self::UpstreamTlsFailed => 24,
            Self::TunnelIdle => 25,
            Self::TunnelLifetime => 26,
            Self::TunnelClientGone => 27,
            Self::TunnelUpstreamGone => 28,
            Self::Misdirected => 29,
            Self::HandshakeTimeout => 30,
            Self::ProxyHeaderRejected(_) => 31,
            Self::HelloRejected(_) => 32,
            Self::ServerNameUnknown => 33,
            Self::NoEndpoint => 34,
            Self::AddressDenied => 35,
            Self::OverRate { .. } => 36,
            Self::Injected { .. } => 37,
            Self::OverConcurrency => 38,
            Self::OverConcurrencyPerAddress => 39,
            Self::QueueFull => 40,
            Self::QueueTimeout => 41,
            Self::OverInFlight => 42,
            Self::OverPending => 43,
            Self::TokenMissing => 44,
            Self::TokenRejected => 45,
            Self::ScopeMissing => 46,
        }
    }

    /// The name under which this kind is exported.
    #[must_use]
    pub const fn name(self) -> &'static str {
        Self::NAMES[self.index()]
    }

    /// What a broken rule of a request's chunked body comes to.
    pub(crate) const fn of_request_body(rule: ChunkRejected) -> Self {
        match rule {
            ChunkRejected::BodyTooLarge => Self::RequestBodyTooLarge,
            rule => Self::RequestBodyRejected(rule),
        }
    }

    /// Whose fault it was.
    #[must_use]
    pub const fn side(self) -> Side {
        match self {
            Self::RequestRejected(_)
            | Self::RequestBodyRejected(_)
            | Self::RequestBodyTooLarge
            | Self::HeadTimeout
            | Self::RequestBodyTimeout
            | Self::RequestBodySlow
            | Self::ClientGone
            | Self::ClientGoneInResponse
            | Self::ClientSendTimeout
            | Self::TunnelClientGone
            | Self::Misdirected
            | Self::HandshakeTimeout
            | Self::ProxyHeaderRejected(_)
            | Self::HelloRejected(_)
            | Self::ServerNameUnknown
            | Self::TunnelRefused => Side::Downstream,
            Self::NoChannel
            | Self::AddressDenied
            | Self::TokenMissing
            | Self::TokenRejected
            | Self::ScopeMissing
            | Self::OverRate { .. }
            | Self::Injected { .. }
            | Self::OverConcurrency
            | Self::OverConcurrencyPerAddress
            | Self::ResourcesExhausted
            | Self::QueueFull
            | Self::QueueTimeout
            | Self::OverInFlight
            | Self::OverPending
            | Self::TotalTimeout
            | Self::TunnelIdle
            | Self::TunnelLifetime => Side::Internal,
            Self::NoEndpoint
            | Self::ConnectFailed
            | Self::ConnectTimeout
            | Self::UpstreamTlsFailed
            | Self::UpstreamGone
            | Self::UpstreamSendTimeout
            | Self::FirstByteTimeout
            | Self::ResponseRejected(_)
            | Self::ResponseBodyRejected(_)
            | Self::ResponseTimeout
            | Self::ResponseTruncated
            | Self::UnaskedUpgrade
            | Self::TunnelUpstreamGone
            | Self::InterimAnswersTooMany => Side::Upstream,
        }
    }

    /// The status to answer with, if an answer can still be given; `None` closes the connection.
    #[must_use]
    pub const fn status(self) -> Option<u16> {
        match self {
            Self::RequestRejected(rule) => Some(rule.status()),
            Self::RequestBodyRejected(_) => Some(400),
            Self::HeadTimeout | Self::RequestBodyTimeout | Self::RequestBodySlow => Some(408),
            Self::RequestBodyTooLarge => Some(413),
            Self::ClientGone
            | Self::ClientGoneInResponse
            | Self::ClientSendTimeout
            | Self::TunnelIdle
            | Self::TunnelLifetime
            | Self::TunnelClientGone
            | Self::TunnelUpstreamGone
            | Self::HandshakeTimeout
            | Self::ProxyHeaderRejected(_)
            | Self::HelloRejected(_)
            | Self::ServerNameUnknown => None,
            Self::TunnelRefused => Some(501),
            Self::Injected { status } => Some(status),
            Self::TokenMissing | Self::TokenRejected => Some(401),
            Self::AddressDenied | Self::ScopeMissing => Some(403),
            Self::NoChannel => Some(404),
            Self::OverRate { .. } | Self::OverConcurrencyPerAddress => Some(429),
            Self::Misdirected => Some(421),
            Self::ConnectFailed
            | Self::UpstreamTlsFailed
            | Self::UpstreamGone
            | Self::ResponseRejected(_)
            | Self::ResponseBodyRejected(_)
            | Self::ResponseTruncated
            | Self::UnaskedUpgrade
            | Self::InterimAnswersTooMany => Some(502),
            Self::ResourcesExhausted
            | Self::NoEndpoint
            | Self::OverConcurrency
            | Self::QueueFull
            | Self::QueueTimeout
            | Self::OverInFlight
            | Self::OverPending => Some(503),
            Self::ConnectTimeout
            | Self::UpstreamSendTimeout
            | Self::FirstByteTimeout
            | Self::ResponseTimeout
            | Self::TotalTimeout => Some(504),
        }
    }

    /// When a client that is refused for now should try again; `None` leaves it to the listener.
    #[must_use]
    pub(crate) const fn retry_after_seconds(self) -> Option<u32> {
        match self {
            Self::OverRate { retry_after_seconds } => Some(retry_after_seconds as u32),
            _ => None,
        }
    }

    /// What a try failed of that ended so, if another endpoint may fare better.
    pub(crate) const fn retry_cause(self) -> Option<Cause> {
        match self {
            Self::UpstreamGone => Some(Cause::Reset),
            Self::FirstByteTimeout | Self::UpstreamSendTimeout => Some(Cause::Timeout),
            _ => None,
        }
    }

    /// Whether the request's end is known all the same, so that the client's connection can be kept.
    #[must_use]
    pub const fn keeps_framing(self) -> bool {
        matches!(self.side(), Side::Upstream | Side::Internal)
    }
}

/// Tells a passed deadline from a broken connection.
pub(crate) fn fault_of(error: &io::Error, timeout: Fault, gone: Fault) -> Fault {
    if error.kind() == io::ErrorKind::TimedOut { timeout } else { gone }
}

/// Whether the kernel had nothing left to give: descriptors, of the process or of the system, ports, buffers, memory.
#[must_use]
pub fn is_exhaustion(error: &io::Error) -> bool {
    /// errno(3), the numbers of Linux.
    const ENFILE: i32 = 23;
    const EMFILE: i32 = 24;
    const ENOBUFS: i32 = 105;
    matches!(error.kind(), io::ErrorKind::AddrNotAvailable | io::ErrorKind::OutOfMemory)
        || matches!(error.raw_os_error(), Some(ENFILE | EMFILE | ENOBUFS))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_has_a_name_of_its_own() {
        let mut names = Fault::NAMES.to_vec();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), Fault::COUNT);
        assert_eq!(Fault::TotalTimeout.name(), "total_timeout");
        assert_eq!(Fault::HeadTimeout.name(), "head_timeout");
    }

    #[test]
    fn each_deadline_has_its_own_status_and_counter() {
        let timeouts = [
            (Fault::HeadTimeout, Some(408)),
            (Fault::RequestBodyTimeout, Some(408)),
            (Fault::RequestBodySlow, Some(408)),
            (Fault::ClientSendTimeout, None),
            (Fault::ConnectTimeout, Some(504)),
            (Fault::UpstreamSendTimeout, Some(504)),
            (Fault::FirstByteTimeout, Some(504)),
            (Fault::ResponseTimeout, Some(504)),
            (Fault::TotalTimeout, Some(504)),
        ];
        for (fault, status) in timeouts {
            assert_eq!(fault.status(), status, "{}", fault.name());
        }
    }
}
