//! How may names be resolved?
//!
//! Never asks a name server: whether one answers is found out while the process runs.

use super::fields::{Fields, Item};
use crate::schema::resolve::{Family, Resolve};
use crate::value::address;
use crate::value::duration::Timespan;

/// Name servers of one upstream; resolv.conf(5) takes three.
const NAMESERVERS_MAX: usize = 8;

/// Below this no answer comes back over a network.
const TIMEOUT_MIN: Timespan = Timespan::from_millis(10);
const TIMEOUT_MAX: Timespan = Timespan::from_secs(60);

/// Asked more often, a name server takes it for an attack.
const TTL_MIN: Timespan = Timespan::from_millis(100);
const TTL_MIN_MAX: Timespan = Timespan::from_secs(3600);
const TTL_MAX_MIN: Timespan = Timespan::from_secs(1);
const TTL_MAX: Timespan = Timespan::from_secs(24 * 3600);

pub(super) fn read(fields: &mut Fields<'_>) -> Resolve {
    let default = Resolve::default();
    let families = [("any", Family::Any), ("ipv4", Family::Ipv4), ("ipv6", Family::Ipv6)];
    let parse = |item: &Item<'_>| item.parsed(address::parse_nameserver);
    let nameservers = fields.items("nameservers").iter().filter_map(parse).collect::<Vec<_>>();
    if nameservers.len() > NAMESERVERS_MAX {
        let cause = format!("at most {NAMESERVERS_MAX} are asked, found {}", nameservers.len());
        fields.error("nameservers", cause, None);
    }
    let ttl_min = fields.duration("ttl_min", TTL_MIN..=TTL_MIN_MAX, default.ttl_min);
    let ttl_max = fields.duration("ttl_max", TTL_MAX_MIN..=TTL_MAX, default.ttl_max.max(ttl_min));
    if ttl_max < ttl_min {
        let suggestion = Some(format!("at least \"{ttl_min}\""));
        fields.error("ttl_max", "is shorter than ttl_min", suggestion);
    }
    Resolve {
        nameservers,
        timeout: fields.duration("timeout", TIMEOUT_MIN..=TIMEOUT_MAX, default.timeout),
        ttl_min,
        ttl_max,
        family: fields.word("family", &families),
    }
}
