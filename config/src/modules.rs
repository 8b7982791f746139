//! Which modules is a node made of, which of them need which, and what remains when some are stopped?
//!
//! Never changes what was written: a configuration without its stopped modules has the fingerprint of the whole.

use std::collections::{BTreeSet, HashMap, HashSet};

use crate::document::key::Key;
use crate::report::Report;
use crate::schema::text::Target;
use crate::schema::{Channel, Config, Respond};
use crate::snapshot::cluster::{Module, ModuleKind, ModuleState};
use crate::suggest;

/// The status of requests whose channel needs a module that does not run.
const BLOCKED_STATUS: u16 = 503;

/// What stands before the name of a module that keys come from.
const MODULE_PREFIX: &str = "module:";

/// A module as it is written.
struct Written<'c> {
    kind: ModuleKind,
    name: Box<str>,
    is_enabled: bool,
    /// What follows from its keys.
    implied: Vec<Box<str>>,
    /// What `requires` says besides.
    explicit: &'c [String],
}

fn name_of(kind: ModuleKind, name: &str) -> Box<str> {
    format!("{}.{name}", kind.name()).into()
}

/// Every module, those that are one of a kind first.
fn written(config: &Config) -> Vec<Written<'_>> {
    let upstream = |name: &String| name_of(ModuleKind::Upstream, name);
    let alone = |kind: ModuleKind, implied: Vec<Box<str>>| Written {
        kind,
        name: kind.name().into(),
        is_enabled: true,
        implied,
        explicit: &[],
    };
    let mut modules = Vec::new();
    if config.store.is_some() {
        modules.push(alone(ModuleKind::ClusterManager, Vec::new()));
    }
    if config.admin.enabled {
        let security = config.admin.security.as_deref().map(|name| name_of(ModuleKind::Security, name));
        modules.push(alone(ModuleKind::Admin, security.into_iter().collect()));
    }
    for (name, listener) in config.listener.iter() {
        let by_name = listener.sni.iter().flat_map(|sni| sni.iter().map(|(_, upstream)| upstream));
        let upstreams = listener.upstream.as_deref().into_iter().chain(by_name);
        let mut implied: Vec<_> = upstreams.map(|name| name_of(ModuleKind::Upstream, name)).collect();
        implied.dedup();
        modules.push(Written {
            kind: ModuleKind::Listener,
            name: name_of(ModuleKind::Listener, name),
            is_enabled: true,
            implied,
            explicit: &listener.requires,
        });
    }
    for (name, channel) in config.channel.iter() {
        let mirror = channel.mirror.as_ref().map(|mirror| &mirror.upstream);
        let check = channel.token.as_ref().map(|token| name_of(ModuleKind::Security, &token.check));
        modules.push(Written {
            kind: ModuleKind::Channel,
            name: name_of(ModuleKind::Channel, name),
            is_enabled: channel.enabled,
            implied: channel.upstream.iter().chain(mirror).map(upstream).chain(check).collect(),
            explicit: &channel.requires,
        });
    }
    for (name, settings) in config.upstream.iter() {
        let listeners = settings.endpoints.iter().filter_map(|entry| entry.address.listener());
        modules.push(Written {
            kind: ModuleKind::Upstream,
            name: name_of(ModuleKind::Upstream, name),
            is_enabled: true,
            implied: listeners.map(|name| name_of(ModuleKind::Listener, name)).collect(),
            explicit: &settings.requires,
        });
    }
    for (name, security) in config.security.iter() {
        // Another node's issuer is none of this node's modules.
        let issuer = security.jwks.as_deref().and_then(|jwks| jwks.strip_prefix(MODULE_PREFIX));
        let implied = issuer.into_iter().chain(security.tokens.as_deref());
        modules.push(Written {
            kind: ModuleKind::Security,
            name: name_of(ModuleKind::Security, name),
            is_enabled: true,
            implied: implied.map(|name| name_of(ModuleKind::Security, name)).collect(),
            explicit: &[],
        });
    }
    modules
}

/// Reports modules that need one that is not there, or each other in a circle.
pub(crate) fn check(config: &Config, report: &Report<'_>) {
    let modules = written(config);
    let by_name: HashMap<&str, &Written<'_>> = modules.iter().map(|module| (&*module.name, module)).collect();
    for module in modules.iter().filter(|module| !module.explicit.is_empty()) {
        let key = requires_of(&module.name);
        for (index, required) in module.explicit.iter().enumerate() {
            if by_name.contains_key(required.as_str()) {
                continue;
            }
            let known = by_name.keys().copied();
            let suggestion = suggest::did_you_mean(required, known).or_else(|| {
                Some("modules are named like listener.web, upstream.app, security.local".to_owned())
            });
            report.error(&key.item(index), format!("there is no module {required:?}"), suggestion);
        }
    }
    // Each circle once, at the first of its modules that was written with `requires`.
    let mut is_done = HashSet::new();
    for module in &modules {
        if let Some(circle) = circle(module, &by_name, &mut is_done) {
            let culprit =
                circle.iter().find(|name| by_name.get(*name).is_some_and(|m| !m.explicit.is_empty()));
            // What follows from keys alone goes from listeners and channels to upstreams, and back only where a relay
            // comes back to itself, which is an error of its own.
            let Some(culprit) = culprit else { continue };
            let cause = format!("modules that need each other: {} -> {}", circle.join(" -> "), circle[0]);
            report.error(&requires_of(culprit), cause, Some("leave out one of them".to_owned()));
        }
    }
}

/// The key `requires` of a module.
fn requires_of(module: &str) -> Key {
    module.splitn(2, '.').fold(Key::root(), |key, step| key.child(step)).child("requires")
}

/// A circle that can be reached from `start` by what modules need; every module is looked at once.
fn circle<'c>(
    start: &'c Written<'c>,
    by_name: &HashMap<&'c str, &'c Written<'c>>,
    is_done: &mut HashSet<&'c str>,
) -> Option<Vec<&'c str>> {
    // The way from `start`, each with what it has yet to look at. No recursion: the operator decides how long it gets.
    let mut way: Vec<(&'c str, Vec<&'c str>)> = Vec::new();
    let open = |module: &'c Written<'c>| (&*module.name, needs(module).collect::<Vec<_>>());
    if is_done.insert(&start.name) {
        way.push(open(start));
    }
    while let Some((_, rest)) = way.last_mut() {
        let Some(next) = rest.pop() else {
            way.pop();
            continue;
        };
        if let Some(at) = way.iter().position(|(name, _)| *name == next) {
            return Some(way[at..].iter().map(|(name, _)| *name).collect());
        }
        if let Some(module) = by_name.get(next)
            && is_done.insert(&module.name)
        {
            way.push(open(module));
        }
    }
    None
}

fn needs<'c>(module: &'c Written<'c>) -> impl Iterator<Item = &'c str> {
    module.implied.iter().map(|name| &**name).chain(module.explicit.iter().map(String::as_str))
}

/// The modules, given those that were stopped.
pub(crate) fn modules(config: &Config, stopped: &BTreeSet<String>) -> Box<[Module]> {
    let written = written(config);
    let mut states: HashMap<Box<str>, ModuleState> = (written.iter())
        .map(|module| {
            let is_stopped = !module.is_enabled || stopped.contains(&*module.name);
            let state = if is_stopped { ModuleState::Stopped } else { ModuleState::Started };
            (module.name.clone(), state)
        })
        .collect();
    // Who needs one that does not run does not run either; each round blocks one more, or is the last.
    loop {
        let blocked: Vec<_> = (written.iter())
            .filter(|module| states[&module.name] == ModuleState::Started)
            .filter_map(|module| {
                let needed = needs(module)
                    .find(|name| states.get(*name).is_some_and(|state| *state != ModuleState::Started))?;
                Some((module.name.clone(), ModuleState::Blocked(needed.into())))
            })
            .collect();
        if blocked.is_empty() {
            break;
        }
        states.extend(blocked);
    }
    let module = |module: &Written<'_>| Module {
        kind: module.kind,
        name: module.name.clone(),
        // One that is not here is another node's.
        requires: needs(module).filter(|name| states.contains_key(*name)).map(Into::into).collect(),
        state: states[&module.name].clone(),
    };
    written.iter().map(module).collect()
}

/// What is left of a configuration when its modules are in these states.
///
/// A listener that does not run is not there. A stopped channel is skipped, as one that is not enabled; one that is blocked takes
/// its requests still and answers 503, so that none of them falls to a channel it was not meant for. An upstream that does not
/// run has no endpoint.
pub(crate) fn without_stopped(config: &Config, modules: &[Module]) -> Config {
    let mut left = config.clone();
    let states: HashMap<&str, &ModuleState> =
        modules.iter().map(|module| (&*module.name, &module.state)).collect();
    let state = |kind: ModuleKind, name: &str| states.get(&*name_of(kind, name)).copied();
    let runs = |kind, name: &str| state(kind, name).is_none_or(|state| *state == ModuleState::Started);
    let is_there = |name: &str| runs(ModuleKind::Listener, name);
    left.listener.retain(is_there);
    for (name, channel) in left.channel.iter_mut() {
        match state(ModuleKind::Channel, name) {
            Some(ModuleState::Stopped) => channel.enabled = false,
            Some(ModuleState::Blocked(by)) => block(channel, by),
            Some(ModuleState::Started) | None => {}
        }
        let named = &mut channel.matching.listener;
        if !named.is_empty() {
            named.retain(|listener| is_there(listener));
            // An empty list means all of them.
            channel.enabled &= !named.is_empty();
        }
    }
    for (name, upstream) in left.upstream.iter_mut() {
        if runs(ModuleKind::Upstream, name) {
            upstream.endpoints.retain(|entry| match &entry.address {
                Target::Listener(listener) => is_there(listener),
                _ => true,
            });
        } else {
            upstream.endpoints.clear();
            upstream.register = None;
        }
    }
    left
}

/// Has a channel answer by itself that it cannot do what it is there for.
fn block(channel: &mut Channel, by: &str) {
    channel.upstream = None;
    channel.redirect = None;
    channel.mirror = None;
    channel.token = None;
    channel.respond =
        Some(Respond { status: BLOCKED_STATUS, body: format!("{by} is stopped.\n"), ..Respond::default() });
}
