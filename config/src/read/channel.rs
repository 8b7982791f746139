//! Which traffic may a channel name, and what may happen to it?
//!
//! Never looks a name up: whether there is such an upstream or listener is `compile`'s question.

use proto::matching::HostPattern;

use super::access_log;
use super::cluster::read_requires;
use super::edits::{read_head, read_redirect, read_rewrite};
use super::fields::{Fields, Item};
use super::limits::read_channel;
use super::page::{read_body, read_pages};
use super::retry::read_hedge;
use super::rules::{read_concurrency, read_faults, read_mirror, read_networks, read_rates};
use super::security::read_token;
use super::{TIMEOUT_MAX, TIMEOUT_MIN};
use crate::schema::{Channel, ChannelTimeouts, Matching, Respond, upgrade_default};
use crate::value::field;

pub(super) fn read(fields: &mut Fields<'_>) -> Option<Channel> {
    let mut actions = ["upstream", "respond", "redirect"].into_iter().filter(|name| fields.has(name));
    match (actions.next(), actions.next()) {
        (_, Some(second)) => {
            let suggestion = Some("keep one of the two".to_owned());
            fields.error(second, "a channel has either an upstream, a response or a redirect", suggestion);
        }
        (None, None) => {
            let suggestion = Some("for example upstream = \"NAME\"".to_owned());
            fields.error_here("a channel has an upstream, a response or a redirect, found none", suggestion);
        }
        (Some(_), None) => {}
    }
    let (upgrade, connect) = (read_upgrade(fields), fields.boolean("connect", false));
    if !fields.has("upstream") && (fields.has("respond") || fields.has("redirect")) {
        check_tunnel(fields, &upgrade, connect);
        for name in ["hedge", "rewrite", "request_headers", "mirror"] {
            if fields.has(name) {
                fields.error(name, "means nothing without an upstream", Some("leave it out".to_owned()));
            }
        }
    }
    Some(Channel {
        enabled: fields.boolean("enabled", true),
        requires: read_requires(fields),
        access_log: fields.is_given("access_log").then(|| access_log::read_names(fields)),
        priority: fields.is_given("priority").then(|| fields.integer("priority", 1..=u16::MAX, 1)),
        upstream: fields.text("upstream").map(str::to_owned),
        upgrade,
        connect,
        matching: fields.table("match", read_matching).unwrap_or_default(),
        allow: read_networks(fields, "allow"),
        deny: read_networks(fields, "deny"),
        rate: read_rates(fields),
        token: fields.table("token", read_token),
        respond: fields.table("respond", read_respond),
        redirect: fields.table("redirect", read_redirect),
        rewrite: fields.table("rewrite", read_rewrite).unwrap_or_default(),
        request_headers: fields
            .table("request_headers", |fields| read_head(fields, true))
            .unwrap_or_default(),
        response_headers: fields
            .table("response_headers", |fields| read_head(fields, false))
            .unwrap_or_default(),
        fault: fields.table("fault", read_faults).unwrap_or_default(),
        mirror: fields.table("mirror", read_mirror),
        concurrency: fields.table("concurrency", read_concurrency).unwrap_or_default(),
        limits: fields.table("limits", read_channel).unwrap_or_default(),
        timeouts: fields.table("timeouts", read_timeouts).unwrap_or_default(),
        hedge: fields.table("hedge", read_hedge),
        error_page: read_pages(fields),
    })
}

/// An answer held in memory is no other end of a tunnel.
fn check_tunnel(fields: &Fields<'_>, upgrade: &[String], connect: bool) {
    if upgrade != upgrade_default() {
        fields.error("upgrade", "means nothing without an upstream", Some("leave it out".to_owned()));
    }
    if connect {
        fields.error("connect", "a tunnel needs an upstream", Some("leave it out".to_owned()));
    }
    if fields.has_below(&["timeouts", "tunnel"]) {
        let suggestion = Some("leave it out".to_owned());
        fields.error_below(&["timeouts", "tunnel"], "means nothing without an upstream", suggestion);
    }
}

fn read_upgrade(fields: &mut Fields<'_>) -> Vec<String> {
    if !fields.is_given("upgrade") {
        return upgrade_default();
    }
    let items = fields.one_or_many_or_none("upgrade");
    let protocol = |text: &str| field::check_upgrade(text).map(|()| text.to_ascii_lowercase());
    items.iter().filter_map(|item| item.parsed(protocol)).collect()
}

fn read_matching(fields: &mut Fields<'_>) -> Matching {
    const PATHS: [&str; 3] = ["path", "path_prefix", "path_exact"];
    let mut given = PATHS.into_iter().filter(|name| fields.has(name));
    if let (Some(first), Some(second)) = (given.next(), given.next()) {
        let suggestion = Some("keep one of the two".to_owned());
        fields.error(second, format!("{first} is given as well"), suggestion);
    }
    let (methods, hosts) = (fields.items_some("methods"), fields.one_or_many("host"));
    let listeners = fields.one_or_many("listener");
    let method = |text: &str| field::check_method(text).map(|()| text.to_owned());
    let host = |text: &str| HostPattern::parse(text).map(|_| text.to_owned());
    Matching {
        path: fields.text("path").map(str::to_owned),
        path_prefix: read_path(fields, "path_prefix"),
        path_exact: read_path(fields, "path_exact"),
        methods: methods.iter().filter_map(|item| item.parsed(method)).collect(),
        host: hosts.iter().filter_map(|item| item.parsed(host)).collect(),
        listener: listeners.iter().filter_map(Item::text).map(str::to_owned).collect(),
    }
}

/// A path compared as it stands in the request.
pub(super) fn read_path(fields: &mut Fields<'_>, name: &'static str) -> Option<String> {
    let path = fields.text(name)?;
    if !path.starts_with('/') {
        let suggestion = Some(format!("did you mean {:?}?", format!("/{path}")));
        fields.error(name, format!("a path starts with a slash, found {path:?}"), suggestion);
    } else if let Some(found) = path.chars().find(|c| !c.is_ascii_graphic() || matches!(c, '?' | '#')) {
        // RFC 9112 §3.2: a request target holds none of these in its path.
        fields.error(name, format!("{found:?} cannot stand in the path of a request"), None);
    }
    Some(path.to_owned())
}

fn read_respond(fields: &mut Fields<'_>) -> Respond {
    let default = Respond::default();
    let content_type = |text: &str| field::check_content_type(text).map(|()| text.to_owned());
    let status = fields.integer("status", 200..=599, default.status);
    let content_type = fields.parsed("content_type", content_type).unwrap_or(default.content_type);
    let body = read_body(fields);
    // RFC 9110 §15.3.5, §15.3.6 and §15.4.5.
    if !body.is_empty() && matches!(status, 204 | 205 | 304) {
        fields.error("body", format!("an answer with status {status} has no body"), None);
    }
    Respond { status, content_type, body }
}

fn read_timeouts(fields: &mut Fields<'_>) -> ChannelTimeouts {
    let mut timeout =
        |name| fields.is_given(name).then(|| fields.duration(name, TIMEOUT_MIN..=TIMEOUT_MAX, TIMEOUT_MAX));
    ChannelTimeouts { total: timeout("total"), tunnel: timeout("tunnel") }
}
