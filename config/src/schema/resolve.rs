//! How do names among the endpoints become addresses?
//!
//! Nothing here asks a name server: that is done while the process runs, and again whenever an answer has grown old.

use std::net::SocketAddr;

use schemars::JsonSchema;
use serde::Serialize;

use crate::value::duration::Timespan;

/// How names among its endpoints become addresses, and how often they are asked for.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
#[schemars(deny_unknown_fields, default)]
pub struct Resolve {
    /// Name servers to ask, `IP` or `IP:PORT`; those of `/etc/resolv.conf`, after `/etc/hosts`, if the list is empty.
    #[schemars(with = "Vec<String>", extend("examples" = [["10.0.0.53:53"]]))]
    pub nameservers: Vec<SocketAddr>,
    /// How long one name server may take to answer; each is asked twice. 10ms to 1m.
    #[schemars(example = &"500ms")]
    pub timeout: Timespan,
    /// Shortest time before a name is asked for again, whatever its answer says; after a failure it doubles each time, up to 30s.
    /// 100ms to 1h.
    #[schemars(example = &"10s")]
    pub ttl_min: Timespan,
    /// Longest time before a name is asked for again. 1s to 24h.
    #[schemars(example = &"1h")]
    pub ttl_max: Timespan,
    /// Which addresses are asked for.
    #[schemars(example = &"ipv4")]
    pub family: Family,
}

/// Which addresses of a name are asked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Family {
    /// IPv4 and IPv6.
    #[default]
    Any,
    /// IPv4 alone.
    Ipv4,
    /// IPv6 alone.
    Ipv6,
}

impl Default for Resolve {
    fn default() -> Self {
        Self {
            nameservers: Vec::new(),
            timeout: Timespan::from_secs(2),
            ttl_min: Timespan::from_secs(1),
            ttl_max: Timespan::from_secs(300),
            family: Family::Any,
        }
    }
}
