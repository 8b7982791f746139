//! What is done with a request that a channel has matched?
//!
//! What it demands of requests and changes in them is in [`super::rules`].

use std::time::Duration;

use proto::template::Template;

use super::access_log::LogSetId;
use super::rules::Rules;
use super::{ErrorPages, StaticResponse, UpstreamId};

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
    /// [`super::ListenerTimeouts::tunnel`] of connections that this channel's requests turn into tunnels.
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_upgrade_is_passed_on_only_where_it_is_allowed() {
        let only = Upgrades::Only(["websocket".into()].into());
        assert!(only.allows(b"WebSocket") && !only.allows(b"spdy"));
        assert!(Upgrades::Any.allows(b"spdy") && !Upgrades::Any.allows(b"H2C"));
        assert!(!Upgrades::Only([].into()).allows(b"websocket"));
    }
}
