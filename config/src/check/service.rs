//! Do listeners, and the upstreams their bytes go to, understand each other? Unix sockets, TLS, loops.
//!
//! Never asks whether somebody answers: what is written alone is compared.

use std::collections::HashMap;

use crate::document::key::Key;
use crate::report::Report;
use crate::schema::text::{Bind, Target};
use crate::schema::tls::Verify;
use crate::schema::{Config, Listener, Protocol, Upstream};

/// Two listeners cannot be at one path.
pub(super) fn check_paths(config: &Config, report: &Report<'_>) {
    let mut owners: HashMap<&str, Key> = HashMap::new();
    for (name, listener) in config.listener.iter() {
        let Bind::Unix(path) = &listener.bind else { continue };
        let key = Key::of(["listener", name, "bind"]);
        if let Some(owner) = owners.get(path.as_str()) {
            let cause = format!("{} is already bound by {}", listener.bind, report.key_name(owner));
            report.error(&key, cause, Some("choose another path".to_owned()));
        } else {
            owners.insert(path, key);
        }
    }
}

/// What a listener relays must neither come back to it nor be wrapped in TLS twice.
pub(super) fn check_relays(config: &Config, report: &Report<'_>) {
    let upstreams: HashMap<&str, &Upstream> = config.upstream.iter().collect();
    for (name, listener) in config.listener.iter().filter(|(_, listener)| !listener.protocol.is_http()) {
        let key = Key::of(["listener", name]);
        for (key, upstream) in relayed_to(&key, listener) {
            let Some(settings) = upstreams.get(upstream) else { continue };
            if settings.endpoints.iter().any(|entry| entry.address.listener() == Some(name)) {
                let cause = format!("what it relays comes back to it: {upstream:?} has it as an endpoint");
                report.error(&key, cause, None);
            }
            if listener.protocol == Protocol::Tls && settings.tls.is_some() {
                let cause = format!("TLS within TLS: {upstream:?} has a tls table, and gets TLS already");
                report.warn(&key, cause, Some("leave the table out".to_owned()));
            }
        }
    }
}

/// Each upstream of a listener, and the key that names it.
fn relayed_to<'l>(key: &Key, listener: &'l Listener) -> Vec<(Key, &'l str)> {
    let by_name = listener.sni.iter().flat_map(|sni| sni.iter());
    let by_name = by_name.map(|(name, upstream)| (key.child("sni").child(name), upstream));
    by_name.chain(listener.upstream.as_deref().map(|upstream| (key.child("upstream"), upstream))).collect()
}

/// TLS needs somebody to speak it on both sides, and a name to verify.
pub(super) fn check_endpoints(config: &Config, report: &Report<'_>) {
    let protocols: HashMap<&str, Protocol> =
        config.listener.iter().map(|(name, listener)| (name, listener.protocol)).collect();
    for (name, upstream) in config.upstream.iter() {
        let list = Key::of(["upstream", name, "endpoints"]);
        if upstream.endpoints.len() > usize::from(upstream.endpoints_max) {
            let cause = format!("there are {} endpoints already", upstream.endpoints.len());
            report.error(&Key::of(["upstream", name, "endpoints_max"]), cause, None);
        }
        for endpoint in upstream.endpoints.iter().map(|entry| &entry.address) {
            let warn = |cause: String, suggestion: &str| {
                let key = report.item_key(&list, &endpoint.to_string());
                report.warn(&key, cause, Some(suggestion.to_owned()));
            };
            match (endpoint.listener().and_then(|listener| protocols.get(listener)), &upstream.tls) {
                (Some(Protocol::Https), None) => {
                    let suggestion = format!("add [upstream.{name}.tls]");
                    warn(format!("{endpoint} speaks TLS, and is spoken to in the clear"), &suggestion);
                }
                (Some(Protocol::Http), Some(_)) => {
                    warn(format!("{endpoint} does not speak TLS"), "leave the tls table out");
                }
                _ => {}
            }
        }
        check_identity(name, upstream, report);
    }
}

/// A certificate holds names and addresses; a socket in the file system has neither.
fn check_identity(name: &str, upstream: &Upstream, report: &Report<'_>) {
    let Some(tls) = &upstream.tls else { return };
    let nameless = |endpoint: &&Target| matches!(endpoint, Target::Unix(_));
    let mut addresses = upstream.endpoints.iter().map(|entry| &entry.address);
    if tls.verify == Verify::Platform
        && tls.server_name.is_none()
        && let Some(endpoint) = addresses.find(nameless)
    {
        let cause = format!("is missing: {endpoint} has no address that a certificate could hold");
        let suggestion = Some("for example server_name = \"backend.example\"".to_owned());
        report.error(&Key::of(["upstream", name, "tls", "server_name"]), cause, suggestion);
    }
}
