//! What do the cores get to read? Names looked up, ids as indexes, patterns compiled.
//!
//! Never invents a value: every default was filled in while reading, and a name that stands for nothing is an error.

mod access_log;
mod balance;
mod channel_rules;
mod cluster;
mod fingerprint;
mod health;
mod resolve;
mod retry;
mod rules;
mod security;
mod service;
mod telemetry;
mod upstream;

use std::collections::{BTreeSet, HashMap, HashSet};
use std::path::Path;
use std::time::Duration;

use crate::document::key::Key;
use crate::modules;
use crate::report::Report;
use crate::schema::security::SecurityType;
use crate::schema::table::Table;
use crate::schema::text::Via;
use crate::schema::{self, Config};
use crate::snapshot::access_log::AccessLogId;
use crate::snapshot::cluster::ModuleState;
use crate::snapshot::security::SecurityId;
use crate::snapshot::{
    Action, Admin, Channel, ErrorPages, Forwarding, HeadLimits, Listener, ListenerId, ListenerLimits,
    ListenerTimeouts, ProcessSettings, ProxyProtocolIn, Snapshot, StaticResponse, TrailerLimits, Upgrades,
    UpstreamId,
};
use crate::suggest;
use crate::value::duration::Timespan;
use crate::value::size::ByteSize;

/// Builds the snapshot. `None` means that the report names at least one reference that could not be resolved.
pub(crate) fn compile(config: &Config, stopped: &BTreeSet<String>, report: &Report<'_>) -> Option<Snapshot> {
    let fingerprint = fingerprint::fingerprint(config);
    let modules = modules::modules(config, stopped);
    let left;
    let config = if modules.iter().all(|module| module.state == ModuleState::Started) {
        config
    } else {
        left = modules::without_stopped(config, &modules);
        &left
    };
    let names = Names::of(config, report);
    let logs = access_log::Gathered::of(config, &names);
    let has_logs = logs.is_some();
    let mut logs = logs.unwrap_or_default();
    let channels: Vec<_> = (config.channel.iter())
        .map(|(name, channel)| compile_channel(name, channel, &names, &mut logs))
        .collect();
    let table = rules::compile(config, &names);
    let listeners: Vec<_> = (config.listener.iter())
        .map(|(name, listener)| compile_listener(name, listener, &names, &mut logs))
        .collect();
    let upstreams = upstream::compile(config, &names);
    let enabled = config.channel.iter().zip(channels).filter(|((_, channel), _)| channel.enabled);
    let security = security::compile(config, &names);
    let admin = compile_admin(&config.admin, &names);
    let upstreams = upstreams?;
    Some(Snapshot {
        node: config.node.id.clone(),
        fingerprint,
        terms: cluster::compile_node(&config.node),
        store: config.store.as_ref().map(|store| cluster::compile_store(store, report)),
        modules,
        process: compile_process(&config.process),
        listeners: listeners.into_iter().collect::<Option<_>>()?,
        channels: enabled.map(|(_, channel)| channel).collect::<Option<_>>()?,
        channel_table: table?,
        slots_count: upstreams.last().map_or(0, |last| last.slots_first.0 + last.slots_count),
        upstreams,
        security: security?,
        access_logs: has_logs.then(|| logs.finish())?,
        admin: admin?,
        tracing: telemetry::compile(&config.telemetry),
    })
}

/// What the names in the configuration stand for.
struct Names<'c> {
    listeners: HashMap<&'c str, u16>,
    listeners_internal: HashSet<&'c str>,
    upstreams: HashMap<&'c str, u16>,
    security: HashMap<&'c str, u16>,
    access_logs: HashMap<&'c str, u16>,
    /// By id.
    security_types: Vec<SecurityType>,
    report: &'c Report<'c>,
}

impl<'c> Names<'c> {
    fn of(config: &'c Config, report: &'c Report<'_>) -> Self {
        fn ids<T>(table: &Table<T>) -> HashMap<&str, u16> {
            // The reader bounds the number of tables far below what an id can hold.
            (0..u16::MAX).zip(table.iter()).map(|(id, (name, _))| (name, id)).collect()
        }
        let internal = config.listener.iter().filter(|(_, listener)| listener.internal);
        Self {
            listeners: ids(&config.listener),
            listeners_internal: internal.map(|(name, _)| name).collect(),
            upstreams: ids(&config.upstream),
            security: ids(&config.security),
            access_logs: ids(&config.access_log),
            security_types: config.security.iter().map(|(_, module)| module.kind).collect(),
            report,
        }
    }

    /// Whether the listeners that a channel takes requests from, all of them if it names none, are internal.
    fn are_internal(&self, named: &[String]) -> bool {
        match named {
            [] => self.listeners_internal.len() == self.listeners.len(),
            named => named.iter().all(|name| self.listeners_internal.contains(name.as_str())),
        }
    }

    fn listener(&self, name: &str, key: &Key) -> Option<ListenerId> {
        self.resolve("listener", &self.listeners, name, key).map(ListenerId)
    }

    fn upstream(&self, name: &str, key: &Key) -> Option<UpstreamId> {
        self.resolve("upstream", &self.upstreams, name, key).map(UpstreamId)
    }

    fn security(&self, name: &str, key: &Key) -> Option<SecurityId> {
        self.resolve("security", &self.security, name, key).map(SecurityId)
    }

    fn access_log(&self, name: &str, key: &Key) -> Option<AccessLogId> {
        self.resolve("access_log", &self.access_logs, name, key).map(AccessLogId)
    }

    /// Where a file is. The reader refused those that are nowhere.
    fn file(&self, path: &str) -> Option<Box<Path>> {
        self.report.resolve(path).map(Into::into)
    }

    fn resolve(&self, kind: &str, ids: &HashMap<&str, u16>, name: &str, key: &Key) -> Option<u16> {
        let id = ids.get(name).copied();
        // A table that was written but could not be read has its own message already.
        if id.is_none() && !self.report.is_written(&Key::of([kind, name])) {
            let mut known: Vec<_> = ids.keys().copied().collect();
            known.sort_unstable();
            let suggestion = suggest::did_you_mean(name, known.iter().copied());
            let suggestion = suggestion.or_else(|| suggest::one_of(known));
            self.report.error(key, format!("there is no {kind} {name:?}"), suggestion);
        }
        id
    }
}

/// The outer `None` for a name that stands for nothing, the inner one where there is no admin listener.
fn compile_admin(admin: &schema::Admin, names: &Names<'_>) -> Option<Option<Admin>> {
    let key = Key::of(["admin", "security"]);
    let security = match &admin.security {
        Some(name) => Some(security::find(name, SecurityType::LocalInbound, &key, names)?),
        None => None,
    };
    Some(admin.enabled.then_some(Admin {
        bind: admin.bind,
        security,
        is_open_to_all: admin.allow_open,
        endpoint_series_max: admin.endpoint_series_max,
    }))
}

fn compile_process(process: &schema::Process) -> ProcessSettings {
    ProcessSettings {
        buffers_per_core: process.buffers_per_core,
        buffer_bytes: bytes_u32(process.buffer_size),
        spin_max: process.spin.duration(),
        accept_handoff: process.accept_handoff,
        watch: process.watch,
        drain_timeout: process.drain_timeout.duration(),
        upgrade_timeout: process.upgrade_timeout.duration(),
        zone: process.zone.as_deref().map(Into::into),
        user: process.user.as_deref().map(Into::into),
        group: process.group.as_deref().map(Into::into),
    }
}

fn compile_listener(
    name: &str,
    listener: &schema::Listener,
    names: &Names<'_>,
    logs: &mut access_log::Gathered,
) -> Option<Listener> {
    let forwarding = &listener.forwarding;
    let timeouts = &listener.timeouts;
    Some(Listener {
        name: name.to_owned(),
        bind: service::compile_bind(listener),
        protocol: service::compile_protocol(name, listener, names)?,
        proxy_protocol: listener
            .proxy_protocol
            .as_ref()
            .map(|proxy_protocol| ProxyProtocolIn { from: proxy_protocol.from.iter().copied().collect() }),
        internal: listener.internal,
        access: channel_rules::compile_access(&listener.allow, &listener.deny).map(Box::new),
        backlog: u32::from(listener.backlog),
        retry_after_seconds: seconds(listener.retry_after.duration()),
        limits: compile_limits(&listener.limits),
        timeouts: ListenerTimeouts {
            head: timeouts.head.duration(),
            idle: timeouts.idle.duration(),
            body: timeouts.body.duration(),
            send: timeouts.send.duration(),
            handshake: timeouts.handshake.duration(),
            tunnel: timeouts.tunnel.duration(),
            lifetime: timeouts.lifetime.map(Timespan::duration),
        },
        forwarding: Forwarding {
            x_forwarded_for: forwarding.x_forwarded_for,
            x_forwarded_proto: forwarding.x_forwarded_proto,
            x_forwarded_host: forwarding.x_forwarded_host,
            forwarded: forwarding.forwarded,
            via: match &forwarding.via {
                Via::Off => None,
                Via::Name(name) => Some(name.as_str().into()),
            },
            request_id: forwarding.request_id,
            client_certificate: forwarding.client_certificate,
            trusted: forwarding.trusted.iter().copied().collect(),
        },
        error_pages: compile_pages(&listener.error_page),
        access_log: logs.of_listener(name, listener, names)?,
    })
}

fn compile_channel(
    name: &str,
    channel: &schema::Channel,
    names: &Names<'_>,
    logs: &mut access_log::Gathered,
) -> Option<Channel> {
    let action = match (&channel.upstream, &channel.respond, &channel.redirect) {
        (Some(upstream), ..) => {
            Action::Forward(names.upstream(upstream, &Key::of(["channel", name, "upstream"]))?)
        }
        (None, Some(respond), _) => Action::Respond(StaticResponse {
            status: respond.status,
            content_type: respond.content_type.as_str().into(),
            body: respond.body.as_bytes().into(),
        }),
        (None, None, Some(redirect)) => {
            Action::Redirect(Box::new(channel_rules::compile_redirect(redirect)?))
        }
        (None, None, None) => return None,
    };
    let upgrade = if channel.upgrade.iter().any(|protocol| protocol == "*") {
        Upgrades::Any
    } else {
        Upgrades::Only(channel.upgrade.iter().map(|protocol| protocol.as_str().into()).collect())
    };
    let internal = names.are_internal(&channel.matching.listener);
    Some(Channel {
        name: name.to_owned(),
        action,
        body_bytes_max: channel.limits.body_bytes.map(ByteSize::bytes),
        total_timeout: channel.timeouts.total.map(Timespan::duration),
        tunnel_timeout: channel.timeouts.tunnel.map(Timespan::duration),
        upgrade,
        connect: channel.connect,
        hedge_after: channel.hedge.map(|hedge| hedge.after.duration()),
        error_pages: compile_pages(&channel.error_page),
        internal,
        rules: channel_rules::compile(name, channel, names)?,
        access_log: logs.of_channel(name, channel, names)?,
    })
}

fn compile_limits(limits: &schema::limits::ListenerLimits) -> ListenerLimits {
    ListenerLimits {
        head: HeadLimits { head_bytes_max: bytes_u32(limits.head_bytes), fields_max: limits.fields },
        target_bytes_max: bytes_u32(limits.target_bytes),
        body_bytes_max: limits.body_bytes.map_or(u64::MAX, ByteSize::bytes),
        body_bytes_per_second_min: bytes_u32(limits.body_rate),
        trailers: compile_trailers(limits.trailer_bytes, limits.trailers),
        pipelined_max: u32::from(limits.pipelined),
        requests_max: limits.requests.map_or(u64::MAX, u64::from),
        connections_max: limits.connections,
        connections_per_address_max: limits.connections_per_address,
    }
}

fn compile_trailers(bytes: ByteSize, count_max: u16) -> TrailerLimits {
    TrailerLimits { bytes_max: bytes_u32(bytes), count_max }
}

fn compile_pages(pages: &schema::page::ErrorPages) -> ErrorPages {
    let page = |(status, page): (u16, &schema::page::ErrorPage)| StaticResponse {
        status,
        content_type: page.content_type.as_str().into(),
        body: page.body.as_bytes().into(),
    };
    ErrorPages(pages.iter().map(page).collect())
}

/// Whole seconds, never fewer than meant.
fn seconds(duration: Duration) -> u32 {
    u32::try_from(duration.as_millis().div_ceil(1000)).unwrap_or(u32::MAX)
}

/// The reader bounds every size that goes through here far below 4 GiB.
fn bytes_u32(size: ByteSize) -> u32 {
    u32::try_from(size.bytes()).unwrap_or(u32::MAX)
}
