//! What would another configuration change? Listener by listener, channel by channel, key by key, before anything is done.
//!
//! Never changes anything, and never shows what is secret.

use std::collections::{BTreeMap, BTreeSet};

use config::schema::Config;
use proxy::generation::keeps_socket;
use serde::Serialize;
use serde_json::Value;
use utoipa::ToSchema;

use crate::Shared;
use crate::apply;
use crate::candidate::Candidate;
use crate::cluster::{Difference, differences};
use crate::live::Live;

/// What would happen to a table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Fate {
    /// A listener that begins to listen.
    Opened,
    /// A listener that accepts nobody any more; what it has begun goes on to its end.
    Closed,
    /// A listener of this name goes elsewhere: the new sockets are there before the old ones close.
    Moved,
    /// What is new counts for new requests or connections; a listener's sockets stay.
    Changed,
    Added,
    /// Nothing new is given to it.
    Removed,
    /// As it is.
    Kept,
}

/// A table, and what would happen to it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub(crate) struct Object {
    /// Such as `listener.web`, or `admin`.
    name: String,
    fate: Fate,
    /// Endpoints that an upstream would get.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    endpoints_added: Vec<String>,
    /// Endpoints that would drain.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    endpoints_removed: Vec<String>,
    /// What is written otherwise. A secret that is another is not among it.
    keys: Vec<KeyChange>,
}

/// A key that is written otherwise.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub(crate) struct KeyChange {
    key: String,
    before: Option<String>,
    after: Option<String>,
}

/// What a reload would do.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub(crate) struct Plan {
    /// It is what runs: a reload would do nothing.
    unchanged: bool,
    /// Every table, those that stay as they are too.
    objects: Vec<Object>,
    /// Keys that take effect when the process is started again.
    needs_restart: Vec<String>,
    /// What is written and hardly does what was meant.
    warnings: Vec<String>,
}

impl Plan {
    /// What taking `candidate` up would do to what runs.
    pub(crate) fn of(shared: &Shared, live: &Live, candidate: &Candidate, warnings: Vec<String>) -> Self {
        let objects = objects(live, candidate);
        Self {
            unchanged: live.is_same(candidate),
            objects,
            needs_restart: apply::needs_restart(&shared.fixed, &candidate.snapshot),
            warnings,
        }
    }
}

fn objects(live: &Live, candidate: &Candidate) -> Vec<Object> {
    let (old, new) = (written(&live.schema), written(&candidate.schema));
    let mut tables = Tables { differences: differences(&old, &new).unwrap_or_default(), objects: Vec::new() };
    let (old, new) = (&live.schema, &candidate.schema);
    tables.single("node", old.node == new.node);
    tables.single("process", old.process == new.process);
    tables.single("store", old.store == new.store);
    tables.single("admin", old.admin == new.admin);
    tables.single("telemetry", old.telemetry == new.telemetry);
    tables.named("listener", old.listener.iter(), new.listener.iter());
    tables.named("channel", old.channel.iter(), new.channel.iter());
    tables.named("upstream", old.upstream.iter(), new.upstream.iter());
    tables.named("security", old.security.iter(), new.security.iter());
    tables.named("access_log", old.access_log.iter(), new.access_log.iter());
    tables.single("telemetry", old.telemetry == new.telemetry);
    let mut objects = tables.objects;
    for object in &mut objects {
        match object.name.split_once('.') {
            Some(("listener", name)) => object.fate = fate_of_listener(live, candidate, name, object.fate),
            Some(("upstream", name)) => {
                let (old, new) = (endpoints(old, name), endpoints(new, name));
                object.endpoints_added = new.difference(&old).cloned().collect();
                object.endpoints_removed = old.difference(&new).cloned().collect();
            }
            _ => {}
        }
    }
    objects
}

/// By the sockets: those of a listener that stays where it is are not touched.
fn fate_of_listener(live: &Live, candidate: &Candidate, name: &str, fate: Fate) -> Fate {
    let find = |listeners: &[config::snapshot::Listener]| {
        listeners.iter().find(|listener| listener.name == name).cloned()
    };
    match (find(&live.snapshot.listeners), find(&candidate.snapshot.listeners)) {
        (None, Some(_)) => Fate::Opened,
        (Some(_), None) => Fate::Closed,
        (Some(old), Some(new)) if !keeps_socket(&old, &new) => Fate::Moved,
        // Of a module that is stopped there is no socket in either.
        (Some(_), Some(_)) | (None, None) => fate,
    }
}

fn endpoints(config: &Config, upstream: &str) -> BTreeSet<String> {
    let found = config.upstream.iter().find(|(name, _)| *name == upstream);
    let entries = found.into_iter().flat_map(|(_, upstream)| &upstream.endpoints);
    entries.map(|entry| entry.address.to_string()).collect()
}

/// Secrets leave no trace here.
fn written(config: &Config) -> String {
    // Names are strings and no number is a float, so there is nothing that JSON could not hold.
    serde_json::to_value(config).as_ref().map(Value::to_string).unwrap_or_default()
}

struct Tables {
    /// Key by key.
    differences: Vec<Difference>,
    objects: Vec<Object>,
}

impl Tables {
    fn single(&mut self, name: &str, is_same: bool) {
        self.push(name.to_owned(), if is_same { Fate::Kept } else { Fate::Changed });
    }

    fn named<'t, T: PartialEq + 't>(
        &mut self,
        kind: &str,
        old: impl Iterator<Item = (&'t str, &'t T)>,
        new: impl Iterator<Item = (&'t str, &'t T)>,
    ) {
        let (old, new): (BTreeMap<_, _>, BTreeMap<_, _>) = (old.collect(), new.collect());
        for name in old.keys().chain(new.keys()).collect::<BTreeSet<_>>() {
            let fate = match (old.get(name), new.get(name)) {
                (None, _) => Fate::Added,
                (_, None) => Fate::Removed,
                (Some(old), Some(new)) if old != new => Fate::Changed,
                _ => Fate::Kept,
            };
            self.push(format!("{kind}.{name}"), fate);
        }
    }

    fn push(&mut self, name: String, fate: Fate) {
        let is_of = |key: &str| key.strip_prefix(&*name).is_some_and(|rest| rest.starts_with('.'));
        // Of a table that is there on one side only, every key would be told.
        let told = self.differences.iter().filter(|change| fate == Fate::Changed && is_of(&change.key));
        let keys = told.map(|Difference { key, before, after }| KeyChange {
            key: key.clone(),
            before: before.clone(),
            after: after.clone(),
        });
        let keys = keys.collect();
        let (endpoints_added, endpoints_removed) = (Vec::new(), Vec::new());
        self.objects.push(Object { name, fate, endpoints_added, endpoints_removed, keys });
    }
}
