//! What does a channel demand of its requests, in the form that cores read?
//!
//! Never makes rules for a channel that has none.

use std::net::IpAddr;

use proto::access::AccessTable;
use proto::rate::Pace;

use crate::schema;
use crate::snapshot::Network;
use crate::snapshot::rules::{Concurrency, RateKey, RateLimit, Rules};

/// Addresses or values of a field told apart if nothing is said: 128 KiB a limit, and more than come within one burst.
const KEYS_DEFAULT: u32 = 16_384;

/// The rules of a channel, if it has any.
pub(super) fn compile(channel: &schema::Channel) -> Option<Box<Rules>> {
    let rules = Rules {
        access: compile_access(&channel.allow, &channel.deny),
        rates: channel.rate.iter().map(compile_rate).collect(),
        concurrency: Concurrency {
            channel_max: channel.concurrency.channel,
            address_max: channel.concurrency.address,
        },
    };
    let is_empty = rules.access.is_none() && rules.rates.is_empty() && rules.concurrency.is_unbounded();
    (!is_empty).then(|| Box::new(rules))
}

/// Who may come in, if that is not everybody.
pub(super) fn compile_access(allow: &[Network], deny: &[Network]) -> Option<AccessTable> {
    let blocks = |networks: &[Network]| -> Vec<(IpAddr, u8)> {
        networks.iter().map(|network| (network.address, network.prefix_len)).collect()
    };
    let is_given = !allow.is_empty() || !deny.is_empty();
    is_given.then(|| AccessTable::new(&blocks(allow), &blocks(deny)))
}

fn compile_rate(limit: &schema::rules::RateLimit) -> RateLimit {
    let per_nanos = u64::try_from(limit.rate.per().as_nanos()).unwrap_or(u64::MAX);
    RateLimit {
        by: match &limit.by {
            schema::rules::RateKey::Channel => RateKey::Channel,
            schema::rules::RateKey::Address => RateKey::Address,
            schema::rules::RateKey::Header(name) => RateKey::Header(name.as_str().into()),
        },
        pace: Pace::new(limit.rate.count(), per_nanos, limit.burst),
        slots: limit.keys.unwrap_or(KEYS_DEFAULT),
    }
}
