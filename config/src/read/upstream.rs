//! What may a group of endpoints be told?
//!
//! Never connects to one: whether it answers is found out by talking to it.

use super::balance::{read_balance, read_endpoint, read_persistence, read_sticky};
use super::cluster::read_requires;
use super::fields::Fields;
use super::health::{read_ejection, read_health, read_panic_threshold, read_slow_start};
use super::limits::{read_upstream, upstream_default};
use super::retry::{read_queue, read_retry};
use super::tls::read_upstream_tls;
use super::{TIMEOUT_MAX, TIMEOUT_MIN, register, resolve};
use crate::schema::{
    ProxyVersion, Upstream, UpstreamTimeouts, endpoints_max_beside, idle_connections_default,
    idle_timeout_default,
};
use crate::value::size::ByteSize;

pub(super) fn read(fields: &mut Fields<'_>, buffer_size: ByteSize) -> Option<Upstream> {
    let register = fields.table("register", register::read);
    // Those that register themselves are enough.
    fields.require("endpoints", "[\"10.0.0.1:8000\"]");
    let endpoints =
        if register.is_some() { fields.items("endpoints") } else { fields.items_some("endpoints") };
    let endpoints: Vec<_> = endpoints.iter().filter_map(read_endpoint).collect();
    let limits = fields.table("limits", |fields| read_upstream(fields, buffer_size));
    let (balance, hash) = read_balance(fields);
    Some(Upstream {
        balance,
        endpoints_max: fields.integer("endpoints_max", 1..=4096, endpoints_max_beside(endpoints.len())),
        endpoints,
        requires: read_requires(fields),
        idle_connections: fields.integer("idle_connections", 0..=u16::MAX, idle_connections_default()),
        idle_timeout: fields.duration("idle_timeout", TIMEOUT_MIN..=TIMEOUT_MAX, idle_timeout_default()),
        timeouts: fields.table("timeouts", read_timeouts).unwrap_or_default(),
        limits: limits.unwrap_or_else(|| upstream_default(buffer_size)),
        retry: fields.table("retry", read_retry).unwrap_or_default(),
        queue: fields.table("queue", read_queue).unwrap_or_default(),
        resolve: fields.table("resolve", resolve::read).unwrap_or_default(),
        register,
        proxy_protocol: read_proxy_protocol(fields),
        tls: fields.table("tls", read_upstream_tls),
        health: fields.table("health", read_health),
        ejection: fields.table("ejection", read_ejection),
        slow_start: fields.table("slow_start", read_slow_start),
        panic_threshold: read_panic_threshold(fields),
        hash,
        persistence: fields.table("persistence", read_persistence),
        sticky: fields.table("sticky", read_sticky),
    })
}

fn read_proxy_protocol(fields: &mut Fields<'_>) -> Option<ProxyVersion> {
    let known = [("v1", Some(ProxyVersion::V1)), ("v2", Some(ProxyVersion::V2))];
    fields.word("proxy_protocol", &known)
}

fn read_timeouts(fields: &mut Fields<'_>) -> UpstreamTimeouts {
    let default = UpstreamTimeouts::default();
    UpstreamTimeouts {
        connect: fields.duration("connect", TIMEOUT_MIN..=TIMEOUT_MAX, default.connect),
        first_byte: fields.duration("first_byte", TIMEOUT_MIN..=TIMEOUT_MAX, default.first_byte),
        body: fields.duration("body", TIMEOUT_MIN..=TIMEOUT_MAX, default.body),
        send: fields.duration("send", TIMEOUT_MIN..=TIMEOUT_MAX, default.send),
    }
}
