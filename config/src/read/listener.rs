//! What may an address that accepts traffic be told?
//!
//! Never binds it: whether the port is free is found out at start.

use super::fields::Fields;
use super::limits::{listener_default, read_listener};
use super::page::read_pages;
use super::{TIMEOUT_MAX, TIMEOUT_MIN};
use crate::document::Value;
use crate::schema::text::Via;
use crate::schema::{
    Admin, Forwarding, Listener, ListenerTimeouts, Protocol, backlog_default, retry_after_default,
};
use crate::suggest;
use crate::value::duration::Timespan;
use crate::value::size::ByteSize;
use crate::value::{address, field, network};

/// RFC 9110 §10.2.3 counts in seconds.
const RETRY_AFTER_MIN: Timespan = Timespan::from_secs(1);
const RETRY_AFTER_MAX: Timespan = Timespan::from_secs(3600);

pub(super) fn read(fields: &mut Fields<'_>, buffer_size: ByteSize) -> Option<Listener> {
    fields.require("bind", "\"0.0.0.0:8080\"");
    let bind = fields.parsed("bind", address::parse_bind);
    let protocol = read_protocol(fields);
    let internal = fields.boolean("internal", false);
    let backlog = fields.integer("backlog", 1..=u16::MAX, backlog_default());
    let retry_after =
        fields.duration("retry_after", RETRY_AFTER_MIN..=RETRY_AFTER_MAX, retry_after_default());
    let limits = fields.table("limits", |fields| read_listener(fields, buffer_size));
    let timeouts = fields.table("timeouts", read_timeouts).unwrap_or_default();
    let forwarding = fields.table("forwarding", read_forwarding).unwrap_or_default();
    let error_page = read_pages(fields);
    let limits = limits.unwrap_or_else(|| listener_default(buffer_size));
    Some(Listener {
        bind: bind?,
        protocol,
        internal,
        backlog,
        retry_after,
        limits,
        timeouts,
        forwarding,
        error_page,
    })
}

pub(super) fn read_admin(fields: &mut Fields<'_>) -> Admin {
    let default = Admin::default();
    Admin {
        enabled: fields.boolean("enabled", default.enabled),
        bind: fields.parsed("bind", address::parse_bind).unwrap_or(default.bind),
    }
}

fn read_protocol(fields: &mut Fields<'_>) -> Protocol {
    match fields.text("protocol") {
        None | Some("http") => {}
        Some(later @ ("https" | "tcp" | "tls")) => {
            let suggestion = Some("\"http\" is".to_owned());
            fields.error("protocol", format!("{later:?} is not available in this version"), suggestion);
        }
        Some(unknown) => {
            let suggestion = suggest::did_you_mean(unknown, ["http"]).or_else(|| suggest::one_of(["http"]));
            fields.error("protocol", format!("unknown protocol {unknown:?}"), suggestion);
        }
    }
    Protocol::Http
}

fn read_timeouts(fields: &mut Fields<'_>) -> ListenerTimeouts {
    let default = ListenerTimeouts::default();
    ListenerTimeouts {
        head: fields.duration("head", TIMEOUT_MIN..=TIMEOUT_MAX, default.head),
        idle: fields.duration("idle", TIMEOUT_MIN..=TIMEOUT_MAX, default.idle),
        body: fields.duration("body", TIMEOUT_MIN..=TIMEOUT_MAX, default.body),
        send: fields.duration("send", TIMEOUT_MIN..=TIMEOUT_MAX, default.send),
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
