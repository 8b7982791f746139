//! Can what is said of health ever happen? Probes that cannot be made, bounds that exclude each other.
//!
//! Never asks an endpoint anything: what is written alone is compared.

use crate::document::key::Key;
use crate::report::Report;
use crate::schema::balance::EndpointEntry;
use crate::schema::health::ProbeProtocol;
use crate::schema::text::Target;
use crate::schema::{Config, Upstream};

pub(super) fn check(config: &Config, report: &Report<'_>) {
    for (name, upstream) in config.upstream.iter() {
        let key = Key::of(["upstream", name]);
        check_probes(&key, upstream, report);
        check_ejection(&key, upstream, report);
    }
}

fn check_probes(key: &Key, upstream: &Upstream, report: &Report<'_>) {
    let Some(health) = &upstream.health else { return };
    let key = key.child("health");
    if health.protocol == ProbeProtocol::Tls && upstream.tls.is_none() {
        let cause = "nothing says whom to believe: the upstream has no tls table";
        let suggestion = "add tls = {} to the upstream, or did you mean \"tcp\"?";
        report.error(&key.child("protocol"), cause, Some(suggestion.to_owned()));
    }
    if health.fast_interval > health.interval {
        let cause = format!("longer than interval, {}: who is down is asked less often", health.interval);
        report.warn(&key.child("fast_interval"), cause, None);
    }
    let is_path = |entry: &EndpointEntry| matches!(entry.address, Target::Unix(_));
    if health.port.is_some() && upstream.endpoints.iter().all(is_path) && !upstream.endpoints.is_empty() {
        report.warn(
            &key.child("port"),
            "means nothing: no endpoint has a port",
            Some("leave it out".to_owned()),
        );
    }
}

fn check_ejection(key: &Key, upstream: &Upstream, report: &Report<'_>) {
    let Some(ejection) = &upstream.ejection else { return };
    let key = key.child("ejection");
    if ejection.time_max < ejection.time {
        let cause = format!("shorter than time, {}: no ejection is longer than that", ejection.time);
        report.warn(&key.child("time_max"), cause, None);
    }
}
