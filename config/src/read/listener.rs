//! What may an address that accepts traffic be told?
//!
//! Never binds it: whether the port is free is found out at start.

use super::access_log;
use super::cluster::read_requires;
use super::fields::Fields;
use super::limits::{listener_default, read_listener};
use super::page::read_pages;
use super::protocol::{check_keys, read_framing, read_protocol};
use super::rules::read_networks;
use super::tls::read_listener_tls;
use super::{TIMEOUT_MAX, TIMEOUT_MIN};
use crate::document::Value;
use crate::schema::text::{Bind, ServerNames, Via};
use crate::schema::{
    Admin, Forwarding, Listener, ListenerTimeouts, ProxyProtocol, backlog_default, retry_after_default,
};
use crate::value::duration::Timespan;
use crate::value::size::ByteSize;
use crate::value::{address, field, name, network, server_name, unix};

/// RFC 9110 §10.2.3 counts in seconds.
const RETRY_AFTER_MIN: Timespan = Timespan::from_secs(1);
const RETRY_AFTER_MAX: Timespan = Timespan::from_secs(3600);

pub(super) fn read(fields: &mut Fields<'_>, buffer_size: ByteSize) -> Option<Listener> {
    fields.require("bind", "\"0.0.0.0:8080\"");
    let bind = fields.parsed("bind", address::parse_bind);
    let unix_mode = fields.parsed("unix_mode", unix::parse_mode);
    let protocol = read_protocol(fields);
    let upstream = fields.text("upstream").map(str::to_owned);
    let framing = read_framing(fields);
    let sni = read_sni(fields);
    let internal = fields.boolean("internal", false);
    let (allow, deny) = (read_networks(fields, "allow"), read_networks(fields, "deny"));
    let requires = read_requires(fields);
    let access_log = access_log::read_names(fields);
    let backlog = fields.integer("backlog", 1..=u16::MAX, backlog_default());
    let retry_after =
        fields.duration("retry_after", RETRY_AFTER_MIN..=RETRY_AFTER_MAX, retry_after_default());
    let limits = fields.table("limits", |fields| read_listener(fields, buffer_size));
    let timeouts = fields.table("timeouts", read_timeouts).unwrap_or_default();
    let forwarding = fields.table("forwarding", read_forwarding).unwrap_or_default();
    let error_page = read_pages(fields);
    let proxy_protocol = fields.table("proxy_protocol", read_proxy_protocol);
    let tls = fields.table("tls", read_listener_tls);
    if let Some(protocol) = protocol {
        check_keys(fields, protocol);
    }
    if let Some(bind) = &bind {
        check_unix(fields, bind);
    }
    let limits = limits.unwrap_or_else(|| listener_default(buffer_size));
    Some(Listener {
        bind: bind?,
        unix_mode,
        protocol: protocol.unwrap_or_default(),
        upstream,
        framing,
        sni,
        internal,
        allow,
        deny,
        requires,
        access_log,
        backlog,
        retry_after,
        limits,
        timeouts,
        forwarding,
        error_page,
        proxy_protocol,
        tls,
    })
}

pub(super) fn read_admin(fields: &mut Fields<'_>) -> Admin {
    let default = Admin::default();
    Admin {
        enabled: fields.boolean("enabled", default.enabled),
        bind: fields.parsed("bind", address::parse_tcp).unwrap_or(default.bind),
        security: fields.parsed("security", |text| name::check(text).map(|()| text.to_owned())),
        allow_open: fields.boolean("allow_open", default.allow_open),
        endpoint_series_max: fields.integer("endpoint_series_max", 0..=u16::MAX, default.endpoint_series_max),
    }
}

/// What a Unix socket has and a port has not, and the other way round.
fn check_unix(fields: &Fields<'_>, bind: &Bind) {
    if let Bind::Tcp(_) = bind {
        if fields.has("unix_mode") {
            fields.error("unix_mode", "a TCP address has no permissions", Some("leave it out".to_owned()));
        }
        return;
    }
    let of_addresses =
        [&["proxy_protocol", "from"][..], &["limits", "connections_per_address"], &["allow"], &["deny"]];
    for key in of_addresses {
        if fields.has_below(key) {
            fields.error_below(
                key,
                "clients of a Unix socket have no address",
                Some("leave it out".to_owned()),
            );
        }
    }
}

fn read_proxy_protocol(fields: &mut Fields<'_>) -> ProxyProtocol {
    fields.require("from", "[\"10.0.0.0/8\"]");
    ProxyProtocol {
        from: fields.items_some("from").iter().filter_map(|item| item.parsed(network::parse)).collect(),
    }
}

/// Sorted by name, each once.
fn read_sni(fields: &mut Fields<'_>) -> Option<ServerNames> {
    let mut names = fields.texts("sni", server_name::parse_pattern)?;
    names.sort();
    Some(ServerNames(names))
}

fn read_timeouts(fields: &mut Fields<'_>) -> ListenerTimeouts {
    let default = ListenerTimeouts::default();
    ListenerTimeouts {
        head: fields.duration("head", TIMEOUT_MIN..=TIMEOUT_MAX, default.head),
        idle: fields.duration("idle", TIMEOUT_MIN..=TIMEOUT_MAX, default.idle),
        body: fields.duration("body", TIMEOUT_MIN..=TIMEOUT_MAX, default.body),
        send: fields.duration("send", TIMEOUT_MIN..=TIMEOUT_MAX, default.send),
        handshake: fields.duration("handshake", TIMEOUT_MIN..=TIMEOUT_MAX, default.handshake),
        tunnel: fields.duration("tunnel", TIMEOUT_MIN..=TIMEOUT_MAX, default.tunnel),
        lifetime: fields
            .is_given("lifetime")
            .then(|| fields.duration("lifetime", TIMEOUT_MIN..=TIMEOUT_MAX, TIMEOUT_MAX)),
    }
}

fn read_forwarding(fields: &mut Fields<'_>) -> Forwarding {
    let default = Forwarding::default();
    Forwarding {
        x_forwarded_for: fields.boolean("x_forwarded_for", default.x_forwarded_for),
        x_forwarded_proto: fields.boolean("x_forwarded_proto", default.x_forwarded_proto),
        x_forwarded_host: fields.boolean("x_forwarded_host", default.x_forwarded_host),
        forwarded: fields.boolean("forwarded", default.forwarded),
        via: read_via(fields),
        request_id: fields.boolean("request_id", default.request_id),
        client_certificate: fields.boolean("client_certificate", default.client_certificate),
        trusted: fields.items("trusted").iter().filter_map(|item| item.parsed(network::parse)).collect(),
    }
}

fn read_via(fields: &mut Fields<'_>) -> Via {
    match fields.node("via").map(|node| &node.value) {
        None | Some(Value::Boolean(true)) => Via::default(),
        Some(Value::Boolean(false)) => Via::Off,
        Some(Value::Text { text, interpolated: true }) if text == "false" => Via::Off,
        Some(_) => {
            let name = fields.parsed("via", |text| field::check_pseudonym(text).map(|()| text.to_owned()));
            name.map_or_else(Via::default, Via::Name)
        }
    }
}
