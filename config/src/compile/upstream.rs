//! Which endpoints does an upstream begin with, how many may it have, and how are they spoken to?
//!
//! Never connects to one; what is found out while the process runs has its slots here, and nothing else.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;

use super::{Names, balance, compile_trailers, health, resolve, retry, service};
use crate::document::key::Key;
use crate::schema::balance::{Balance, EndpointEntry};
use crate::schema::text::Target;
use crate::schema::{self, Config};
use crate::snapshot::{
    Endpoint, EndpointAddress, EndpointId, HeadLimits, ProxyVersion, Upstream, UpstreamLimits,
    UpstreamTimeouts,
};

/// All upstreams, their slots one after the other. `None` means that the report names what is missing.
pub(super) fn compile(config: &Config, names: &Names<'_>) -> Option<Box<[Upstream]>> {
    let mut slots_first = 0_u32;
    let mut compile = |(name, upstream): (&str, &schema::Upstream)| {
        let endpoints = compile_endpoints(name, upstream, names);
        let slots_count = u32::from(upstream.endpoints_max);
        let first = slots_first;
        slots_first += slots_count;
        let slots = u16::try_from(first).ok().zip(u16::try_from(slots_first).ok());
        let (first, end) = slots.unwrap_or_default();
        let slots = (EndpointId(first), end - first);
        compile_upstream(name, upstream, endpoints?, slots, names)
    };
    // Each is compiled before the first failure counts, so that all of them are reported.
    let upstreams: Vec<_> = config.upstream.iter().map(&mut compile).collect();
    if slots_first > u32::from(u16::MAX) {
        let cause = format!(
            "at most {} endpoints are possible in all, found room for {slots_first} (lower `endpoints_max`)",
            u16::MAX
        );
        names.report.error(&Key::of(["upstream"]), cause, None);
        return None;
    }
    upstreams.into_iter().collect()
}

fn compile_upstream(
    name: &str,
    upstream: &schema::Upstream,
    endpoints: Box<[Endpoint]>,
    (slots_first, slots_count): (EndpointId, u16),
    names: &Names<'_>,
) -> Option<Upstream> {
    let timeouts = &upstream.timeouts;
    Some(Upstream {
        name: name.to_owned(),
        balance: balance::compile_balance(upstream),
        endpoints,
        slots_first,
        slots_count,
        timeouts: UpstreamTimeouts {
            connect: timeouts.connect.duration(),
            first_byte: timeouts.first_byte.duration(),
            body: timeouts.body.duration(),
            send: timeouts.send.duration(),
        },
        idle_connections_max: upstream.idle_connections,
        idle_timeout: upstream.idle_timeout.duration(),
        names: resolve::compile_names(upstream),
        resolving: resolve::compile_resolving(&upstream.resolve),
        registering: upstream.register.as_ref().map(resolve::compile_registering),
        limits: compile_limits(&upstream.limits),
        in_flight_max: upstream.limits.in_flight,
        pending_max: upstream.limits.pending,
        retry: retry::compile_retry(&upstream.retry),
        queue: retry::compile_queue(&upstream.queue),
        tls: match &upstream.tls {
            Some(tls) => Some(service::compile_upstream_tls(tls, names)?),
            None => None,
        },
        health: match &upstream.health {
            Some(health) => Some(health::compile_health(name, health, names.report)?),
            None => None,
        },
        ejection: upstream.ejection.as_ref().map(health::compile_ejection),
        slow_start: upstream.slow_start.as_ref().map(health::compile_slow_start),
        panic_threshold: upstream.panic_threshold.map(health::compile_share),
        proxy_protocol: upstream.proxy_protocol.map(|version| match version {
            schema::ProxyVersion::V1 => ProxyVersion::V1,
            schema::ProxyVersion::V2 => ProxyVersion::V2,
        }),
        persistence: upstream.persistence.as_ref().map(balance::compile_persistence),
        sticky: upstream.sticky.as_ref().map(|sticky| Box::new(balance::compile_sticky(sticky))),
        depends_on_request: matches!(upstream.balance, Balance::Hash | Balance::SourceHash)
            || upstream.persistence.is_some()
            || upstream.sticky.is_some(),
    })
}

fn compile_endpoints(name: &str, upstream: &schema::Upstream, names: &Names<'_>) -> Option<Box<[Endpoint]>> {
    let key = Key::of(["upstream", name, "endpoints"]);
    let compile = |entry: &EndpointEntry| {
        let target = &entry.address;
        let address = match target {
            Target::Tcp(address) => EndpointAddress::Tcp(*address),
            Target::Localhost(port) => EndpointAddress::Tcp(SocketAddr::from((Ipv4Addr::LOCALHOST, *port))),
            Target::Unix(path) => EndpointAddress::Unix(Path::new(path).into()),
            Target::Listener(listener) => {
                let key = names.report.item_key(&key, &target.to_string());
                EndpointAddress::Listener(names.listener(listener, &key)?)
            }
            // Found out while the process runs.
            Target::Name { .. } | Target::Service(_) => return Some(None),
        };
        Some(Some(Endpoint { address, name: target.to_string(), terms: balance::compile_terms(entry) }))
    };
    let endpoints: Vec<_> = upstream.endpoints.iter().map(compile).collect();
    // Each was compiled before the first failure counts, so that all of them are reported.
    let endpoints: Option<Vec<_>> = endpoints.into_iter().collect();
    Some(endpoints?.into_iter().flatten().collect())
}

fn compile_limits(limits: &schema::limits::UpstreamLimits) -> UpstreamLimits {
    UpstreamLimits {
        head: HeadLimits { head_bytes_max: super::bytes_u32(limits.head_bytes), fields_max: limits.fields },
        trailers: compile_trailers(limits.trailer_bytes, limits.trailers),
    }
}
