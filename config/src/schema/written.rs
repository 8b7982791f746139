//! Which keys of a listener are written out? Those that mean something for its protocol.
//!
//! Never writes a key that the reader would refuse: what was written out can be read again.

use serde::{Serialize, Serializer};

use super::limits::ListenerLimits;
use super::page::ErrorPages;
use super::text::{Bind, ServerNames, UnixMode};
use super::tls::ListenerTls;
use super::{Forwarding, Framing, Listener, ListenerTimeouts, Protocol, ProxyProtocol};
use crate::snapshot::Network;
use crate::value::duration::Timespan;

/// Values come before tables, as TOML wants them.
#[derive(Serialize)]
struct Written<'l> {
    bind: &'l Bind,
    #[serde(skip_serializing_if = "Option::is_none")]
    unix_mode: Option<UnixMode>,
    protocol: Protocol,
    #[serde(skip_serializing_if = "Option::is_none")]
    upstream: Option<&'l str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    framing: Option<Framing>,
    internal: bool,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    allow: &'l [Network],
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    deny: &'l [Network],
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    requires: &'l [String],
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    access_log: &'l [String],
    backlog: u16,
    #[serde(skip_serializing_if = "Option::is_none")]
    retry_after: Option<Timespan>,
    limits: Limits<'l>,
    timeouts: Timeouts<'l>,
    #[serde(skip_serializing_if = "Option::is_none")]
    forwarding: Option<&'l Forwarding>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error_page: Option<&'l ErrorPages>,
    #[serde(skip_serializing_if = "Option::is_none")]
    proxy_protocol: Option<&'l ProxyProtocol>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tls: Option<&'l ListenerTls>,
    #[serde(skip_serializing_if = "Option::is_none")]
    sni: Option<&'l ServerNames>,
}

#[derive(Serialize)]
#[serde(untagged)]
enum Limits<'l> {
    Http(&'l ListenerLimits),
    Relay {
        #[serde(skip_serializing_if = "Option::is_none")]
        connections: Option<u32>,
        #[serde(skip_serializing_if = "Option::is_none")]
        connections_per_address: Option<u32>,
    },
}

#[derive(Serialize)]
#[serde(untagged)]
enum Timeouts<'l> {
    Http(&'l ListenerTimeouts),
    Relay {
        handshake: Timespan,
        tunnel: Timespan,
        #[serde(skip_serializing_if = "Option::is_none")]
        lifetime: Option<Timespan>,
    },
}

impl Serialize for Listener {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let is_http = self.protocol.is_http();
        let (limits, timeouts) = if is_http {
            (Limits::Http(&self.limits), Timeouts::Http(&self.timeouts))
        } else {
            let ListenerLimits { connections, connections_per_address, .. } = self.limits;
            let ListenerTimeouts { handshake, tunnel, lifetime, .. } = self.timeouts;
            let limits = Limits::Relay { connections, connections_per_address };
            (limits, Timeouts::Relay { handshake, tunnel, lifetime })
        };
        let written = Written {
            bind: &self.bind,
            unix_mode: self.unix_mode,
            protocol: self.protocol,
            upstream: self.upstream.as_deref(),
            framing: (self.protocol == Protocol::Tcp).then_some(self.framing),
            internal: self.internal,
            allow: &self.allow,
            deny: &self.deny,
            requires: &self.requires,
            access_log: &self.access_log,
            backlog: self.backlog,
            retry_after: is_http.then_some(self.retry_after),
            limits,
            timeouts,
            forwarding: is_http.then_some(&self.forwarding),
            error_page: Some(&self.error_page).filter(|pages| !pages.is_empty()),
            proxy_protocol: self.proxy_protocol.as_ref(),
            tls: self.tls.as_ref(),
            sni: self.sni.as_ref(),
        };
        written.serialize(serializer)
    }
}
