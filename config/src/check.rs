//! Do the tables agree with each other? Addresses taken twice, channels never reached, upstreams never used.
//!
//! Never looks a reference up: a name that stands for nothing is `compile`'s to report, and ignored here.

mod health;
mod service;

use std::collections::{HashMap, HashSet};
use std::net::SocketAddr;

use crate::document::key::Key;
use crate::modules;
use crate::report::Report;
use crate::schema::{Channel, Config};
use crate::value::address::LISTENER_PREFIX;

/// Reports what the tables say against each other.
pub(crate) fn check(config: &Config, report: &Report<'_>) {
    // A table that could not be read would be missed by the checks for what is never used.
    let complete = !report.has_errors();
    check_addresses(config, report);
    check_admin(config, report);
    check_internal(config, report);
    check_connections(config, report);
    check_concurrency(config, report);
    check_mirrors(config, report);
    service::check_paths(config, report);
    service::check_relays(config, report);
    service::check_endpoints(config, report);
    health::check(config, report);
    modules::check(config, report);
    if complete {
        check_served(config, report);
        check_reach(config, report);
        check_upstreams(config, report);
    }
}

fn check_addresses(config: &Config, report: &Report<'_>) {
    let admin_key = Key::of(["admin", "bind"]);
    let admin = Some((admin_key.clone(), config.admin.bind)).filter(|_| config.admin.enabled);
    let listeners = config.listener.iter().filter_map(|(name, listener)| {
        listener.bind.tcp().map(|address| (Key::of(["listener", name, "bind"]), address))
    });
    // Admin first: it is bound even when nobody wrote it, and a listener's line is there to point at.
    let bound = admin.into_iter().chain(listeners);
    let mut by_port: HashMap<u16, Vec<(Key, SocketAddr)>> = HashMap::new();
    for (key, address) in bound.filter(|(_, address)| address.port() != 0) {
        let same_port = by_port.entry(address.port()).or_default();
        let equal = same_port.iter().find(|(_, other)| *other == address);
        let overlap = same_port.iter().find(|(_, other)| covers(*other, address) || covers(address, *other));
        if let Some((other_key, _)) = equal {
            let cause = format!("{address} is already bound by {}", report.key_name(other_key));
            report.error(&key, cause, Some("choose another port".to_owned()));
        } else if let Some((other_key, other)) = overlap {
            let other_name = report.key_name(other_key);
            if *other_key == admin_key {
                // Listeners share their ports among the cores; admin is one socket and shares with none.
                let cause = format!("{address} overlaps {other} of {other_name}");
                report.error(&key, cause, Some("choose another port".to_owned()));
            } else {
                let cause = format!(
                    "{address} overlaps {other} of {other_name}: the narrower one takes its connections"
                );
                report.warn(&key, cause, None);
            }
        }
        same_port.push((key, address));
    }
}

/// Whether a socket on `wide` would also be reached by connections to `narrow`, were that not bound.
fn covers(wide: SocketAddr, narrow: SocketAddr) -> bool {
    // A socket on [::] takes IPv4 connections as well, unless told otherwise.
    wide.ip().is_unspecified() && (wide.is_ipv6() || narrow.is_ipv4()) && wide != narrow
}

fn is_loopback(address: SocketAddr) -> bool {
    address.ip().to_canonical().is_loopback()
}

fn check_admin(config: &Config, report: &Report<'_>) {
    let admin = &config.admin;
    if admin.enabled && admin.security.is_none() && !admin.allow_open && !is_loopback(admin.bind) {
        let cause = "the admin listener asks no one who he is and could be reached from the network";
        let port = admin.bind.port();
        let suggestion = format!(
            "bind it to \"127.0.0.1:{port}\", name a [security.NAME] in admin.security, or write allow_open = true"
        );
        report.error(&Key::of(["admin", "bind"]), cause, Some(suggestion));
    }
}

/// A bound for one client that lies above the one for all of them never bites.
fn check_connections(config: &Config, report: &Report<'_>) {
    for (name, listener) in config.listener.iter() {
        let limits = &listener.limits;
        if let (Some(each), Some(all)) = (limits.connections_per_address, limits.connections)
            && each > all
        {
            let cause = format!("never reached: all clients together may have {all} (connections)");
            report.warn(&Key::of(["listener", name, "limits", "connections_per_address"]), cause, None);
        }
    }
}

/// A bound for one client that lies above the one for all of them never bites.
fn check_concurrency(config: &Config, report: &Report<'_>) {
    for (name, channel) in config.channel.iter() {
        if let (Some(each), Some(all)) = (channel.concurrency.address, channel.concurrency.channel)
            && each > all
        {
            let cause = format!("never reached: all clients together may have {all} (channel)");
            report.warn(&Key::of(["channel", name, "concurrency", "address"]), cause, None);
        }
    }
}

/// A copy comes from no client, so that nobody could be announced.
fn check_mirrors(config: &Config, report: &Report<'_>) {
    let mirrors = config.channel.iter().filter_map(|(name, channel)| Some((name, channel.mirror.as_ref()?)));
    for (name, mirror) in mirrors {
        let upstream = config.upstream.iter().find(|(upstream, _)| *upstream == mirror.upstream);
        if upstream.is_some_and(|(_, upstream)| upstream.proxy_protocol.is_some()) {
            let cause = format!("{:?} wants PROXY headers, and a copy comes from no client", mirror.upstream);
            report.error(&Key::of(["channel", name, "mirror", "upstream"]), cause, None);
        }
    }
}

/// What is for this process alone must not be there for others.
fn check_internal(config: &Config, report: &Report<'_>) {
    let internal = config.listener.iter().filter(|(_, listener)| listener.internal);
    let reachable = internal.filter_map(|(name, listener)| Some((name, listener.bind.tcp()?)));
    for (name, bind) in reachable.filter(|(_, bind)| !is_loopback(*bind)) {
        let cause = format!("an internal listener is bound to loopback, and {} is not", bind.ip());
        let suggestion = Some(format!("bind it to \"127.0.0.1:{}\", or leave internal out", bind.port()));
        report.error(&Key::of(["listener", name, "bind"]), cause, suggestion);
    }
}

/// Nobody but our own upstreams is to use an internal listener, so one that they do not name serves no one.
fn check_served(config: &Config, report: &Report<'_>) {
    let targets = config.upstream.iter().flat_map(|(_, upstream)| &upstream.endpoints);
    let named: HashSet<&str> = targets.filter_map(|entry| entry.address.listener()).collect();
    let internal = config.listener.iter().filter(|(_, listener)| listener.internal);
    for (name, _) in internal.filter(|(name, _)| !named.contains(name)) {
        let cause = "an internal listener serves this process's own upstreams, and no endpoint refers to it";
        let suggestion = Some(format!("for example endpoints = [\"{LISTENER_PREFIX}{name}\"]"));
        report.warn(&Key::of(["listener", name]), cause, suggestion);
    }
}

/// Which channel takes which listener's requests, as far as the catch-all channels decide it.
fn check_reach(config: &Config, report: &Report<'_>) {
    let relays = config.listener.iter().filter(|(_, listener)| !listener.protocol.is_http());
    let relays: HashSet<&str> = relays.map(|(name, _)| name).collect();
    let is_http = |name: &str| !relays.contains(name);
    // Listeners some channel reads from, and those whose every request one channel has already taken.
    let mut served: HashSet<&str> = HashSet::new();
    let mut taken: HashMap<&str, &str> = HashMap::new();
    for (name, channel) in channels_in_order(config) {
        let matching = &channel.matching;
        let listeners: Vec<&str> = if matching.listener.is_empty() {
            config.listener.iter().map(|(name, _)| name).filter(|name| is_http(name)).collect()
        } else {
            matching.listener.iter().map(String::as_str).filter(|name| is_http(name)).collect()
        };
        if listeners.is_empty() {
            let cause = "never reached: no listener that it takes requests from reads any";
            report.warn(&Key::of(["channel", name]), cause, None);
            continue;
        }
        let takers: Option<Vec<&str>> =
            listeners.iter().map(|listener| taken.get(listener).copied()).collect();
        if let Some(Some(taker)) = takers.map(|takers| takers.first().copied()) {
            let cause = format!("never reached: channel {taker:?} takes every request before it");
            let suggestion = Some("give it a smaller priority, or move it up".to_owned());
            report.warn(&Key::of(["channel", name]), cause, suggestion);
        }
        served.extend(&listeners);
        let takes_all = matching.path.is_none()
            && matching.path_prefix.is_none()
            && matching.path_exact.is_none()
            && matching.methods.is_empty()
            && matching.host.is_empty();
        for listener in listeners.into_iter().filter(|_| takes_all) {
            taken.entry(listener).or_insert(name);
        }
    }
    for (name, _) in config.listener.iter().filter(|(name, _)| is_http(name) && !served.contains(name)) {
        let cause = "no channel takes its requests: all of them are answered 404";
        report.warn(&Key::of(["listener", name]), cause, None);
    }
}

/// Enabled channels in the order they are tried.
fn channels_in_order(config: &Config) -> Vec<(&str, &Channel)> {
    let mut channels: Vec<_> = config.channel.iter().filter(|(_, channel)| channel.enabled).collect();
    // Stable, so ties stay in the order written; without priority comes last.
    channels.sort_by_key(|(_, channel)| channel.priority.map_or(u32::MAX, u32::from));
    channels
}

fn check_upstreams(config: &Config, report: &Report<'_>) {
    let channels = config.channel.iter();
    let by_channels = channels.flat_map(|(_, channel)| {
        let mirror = channel.mirror.as_ref().map(|mirror| mirror.upstream.as_str());
        mirror.into_iter().chain(channel.upstream.as_deref())
    });
    let listeners = config.listener.iter();
    let by_listeners = listeners.flat_map(|(_, listener)| {
        let by_name = listener.sni.iter().flat_map(|sni| sni.iter().map(|(_, upstream)| upstream));
        by_name.chain(listener.upstream.as_deref())
    });
    let used: HashSet<&str> = by_channels.chain(by_listeners).collect();
    for (name, upstream) in config.upstream.iter() {
        let key = Key::of(["upstream", name]);
        if !used.contains(name) {
            report.warn(&key, "neither a channel nor a listener uses it", None);
        }
        let mut times: HashMap<_, u32> = HashMap::new();
        for target in upstream.endpoints.iter().map(|entry| &entry.address) {
            let times = times.entry(target).or_default();
            *times += 1;
            if *times != 2 {
                continue;
            }
            let cause = format!("{target} is listed more than once and gets that many shares");
            report.warn(&report.item_key(&key.child("endpoints"), &target.to_string()), cause, None);
        }
    }
}
