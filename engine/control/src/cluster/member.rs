//! How does a process stay in its cluster? In rounds: it says that it is there, hears what has changed, and watches the others' beats.
//!
//! Never ends for want of an answer: a round that fails is followed by another, and whoever took this process for gone finds it again
//! under a new ID.

use std::collections::HashMap;
use std::fs;
use std::sync::Arc;
use std::time::Duration;

use config::snapshot::cluster::{Mode, NodeTerms};
use proto::lease::{LeaseTerms, Mark, Observer};
use proxy::standing::monotonic;
use serde_json::{Value, json};
use store::{Beat, NewProcess, ProcessRow, Revisions, Store, StoreError, Wish};

use super::versions::Versions;
use super::{Cluster, Me};
use crate::Shared;

/// The pause between rounds while a version is being decided about: who has agreed first is not to be who applies it last.
const DECIDING_DIVISOR: u32 = 5;

/// Least pause between rounds, however many hints the database gives.
const PAUSE_MIN: Duration = Duration::from_millis(20);

/// What a process says with each beat of how long its word counts: nodes differ.
const LEASE_KEY: &str = "lease_ms";

/// How long the word of a process counts that has not said so, having joined and nothing more.
const LEASE_UNSAID: Duration = Duration::from_secs(60);

/// How long the word of a process counts.
pub(super) fn lease_of(row: &ProcessRow) -> Duration {
    row.load[LEASE_KEY].as_u64().map_or(LEASE_UNSAID, Duration::from_millis)
}

/// What goes on from round to round.
struct Member {
    /// The others, by ID, and when they were looked at last.
    others: HashMap<String, Observer>,
    watched: Option<Duration>,
    /// What has been read of each subject.
    seen: Revisions,
    versions: Versions,
    load: Load,
}

/// Looks that may be missed before all that was seen counts for nothing.
const POLLS_MISSED_MAX: u32 = 4;

/// Keeps the process in its cluster, for as long as it lives.
pub(crate) async fn rounds(shared: Arc<Shared>, cluster: Arc<Cluster>) {
    let mut member = Member {
        others: HashMap::new(),
        watched: None,
        seen: Revisions::default(),
        versions: Versions::default(),
        load: Load::default(),
    };
    loop {
        match member.round(&shared, &cluster).await {
            Ok(()) => cluster.is_back(),
            Err(error) => cluster.is_away(&error),
        }
        let poll = shared.live().snapshot.terms.poll;
        let pause = if member.versions.is_deciding() { poll / DECIDING_DIVISOR } else { poll };
        tokio::time::sleep(PAUSE_MIN).await;
        let store = cluster.state().store.clone();
        tokio::select! {
            () = tokio::time::sleep(pause.saturating_sub(PAUSE_MIN)) => {}
            () = cluster.look.notified() => {}
            () = hint(store.as_ref()) => {}
        }
    }
}

/// Completes when the database hints at a change, if there is one that does.
async fn hint(store: Option<&Store>) {
    match store {
        Some(store) => store.changed().await,
        None => std::future::pending().await,
    }
}

impl Member {
    async fn round(&mut self, shared: &Arc<Shared>, cluster: &Arc<Cluster>) -> Result<(), StoreError> {
        let store = opened(cluster).await?;
        let terms = shared.live().snapshot.terms.clone();
        let Some(me) = registered(shared, cluster, &store, &terms).await? else { return Ok(()) };
        let answer = match store.beat(&me.id, me.epoch, &self.beat(shared, cluster, &terms)).await {
            Err(StoreError::Conflict { .. }) => {
                tracing::warn!("process {} was taken for gone by the others: it joins again", me.id);
                cluster.state().me = None;
                self.versions.forget();
                cluster.look();
                return Ok(());
            }
            answer => answer?,
        };
        if answer.wants == Some(Wish::Drain) && !shared.is_draining() {
            tracing::info!("process {}: somebody wishes it to drain", me.id);
            cluster.drain.notify_one();
        }
        let is_new =
            answer.revisions.config != self.seen.config || answer.revisions.modules != self.seen.modules;
        if (is_new || self.versions.is_deciding() || self.versions.is_owing()) && !shared.is_draining() {
            self.versions.follow(shared, cluster, &store, &me).await?;
        }
        self.seen = answer.revisions;
        self.watch(&store, &me, terms.poll).await
    }

    fn beat(&mut self, shared: &Shared, cluster: &Cluster, terms: &NodeTerms) -> Beat {
        let state = cluster.process_state(shared.is_draining());
        let known = cluster.state();
        let refused = known.refused.as_ref();
        Beat {
            state,
            config_version: Some(known.runs.version),
            config_refused: refused.map(|(version, cause)| format!("version {version}: {cause}")),
            load: self.load.take(shared, terms.lease),
        }
    }

    /// Looks at the others' beats, and takes those for gone who have not beaten for the whole lease time of their node.
    async fn watch(&mut self, store: &Store, me: &Me, poll: Duration) -> Result<(), StoreError> {
        let rows = store.processes().await?;
        let now = monotonic();
        // While the store was away, or this process stood still, nobody was watched: whoever could not beat either gets the time to.
        if self.watched.is_none_or(|before| now.saturating_sub(before) > poll * POLLS_MISSED_MAX) {
            self.others.clear();
        }
        self.watched = Some(now);
        self.others.retain(|id, _| rows.iter().any(|row| row.id == *id));
        for row in rows.iter().filter(|row| row.id != me.id) {
            let observer = self.others.entry(row.id.clone()).or_default();
            observer.see(Mark { epoch: row.epoch, beat: row.beat }, now);
            if observer.is_over(LeaseTerms::new(lease_of(row)), now) {
                expire(store, row).await?;
            }
        }
        Ok(())
    }
}

async fn expire(store: &Store, row: &ProcessRow) -> Result<(), StoreError> {
    if store.expire_process(&row.id, row.epoch, row.beat).await? {
        tracing::warn!(
            "process {} (pid {} on {}) has not been heard of for the lease time: it is taken for gone",
            row.id,
            row.joined.pid,
            row.joined.host
        );
    }
    Ok(())
}

/// The store, opened if it was away when the process began.
async fn opened(cluster: &Cluster) -> Result<Store, StoreError> {
    let known = cluster.state().store.clone();
    if let Some(store) = known {
        return Ok(store);
    }
    let store = Store::open(cluster.settings.clone()).await?;
    store.warnings().iter().for_each(|warning| tracing::warn!("store: {warning}"));
    cluster.state().store = Some(store.clone());
    Ok(store)
}

/// Who this process is, registered if it is not yet. Nobody when it leaves.
async fn registered(
    shared: &Shared,
    cluster: &Cluster,
    store: &Store,
    terms: &NodeTerms,
) -> Result<Option<Me>, StoreError> {
    {
        let state = cluster.state();
        if state.me.is_some() || state.is_leaving {
            return Ok(state.me.clone());
        }
    }
    let row = store.register_process(&describe(shared, cluster, terms)).await?;
    tracing::info!("process {} has joined node {}", row.id, cluster.node());
    let me = Me { id: row.id, epoch: row.epoch };
    let mut state = cluster.state();
    // A drain that began meanwhile has found nobody to deregister; the others will miss the beats.
    state.me = (!state.is_leaving).then_some(me);
    Ok(state.me.clone())
}

fn describe(shared: &Shared, cluster: &Cluster, terms: &NodeTerms) -> NewProcess {
    let mode = match terms.mode {
        Mode::ActiveActive => "active_active",
        Mode::ActivePassive => "active_passive",
    };
    NewProcess {
        node: cluster.node().to_owned(),
        host: host(),
        addresses: addresses(shared),
        version: shared.process.version.to_owned(),
        pid: std::process::id(),
        cores: u32::try_from(shared.process.cores.len()).unwrap_or(u32::MAX),
        port_offset: cluster.local.terms.port_offset,
        mode: mode.to_owned(),
    }
}

/// Where this process listens, by the names of its listeners.
fn addresses(shared: &Shared) -> Value {
    let live = shared.live();
    let listeners = live.snapshot.listeners.iter().zip(live.listener_addresses.iter());
    let outer = listeners.filter(|(listener, _)| !listener.internal);
    let mut addresses: serde_json::Map<_, _> = outer
        .map(|(listener, address)| (format!("listener.{}", listener.name), json!(address.to_string())))
        .collect();
    if let Some(admin) = shared.admin_address.get() {
        addresses.insert("admin".to_owned(), json!(admin.to_string()));
    }
    Value::Object(addresses)
}

/// The name of this host, as Linux tells it.
fn host() -> String {
    fs::read_to_string("/proc/sys/kernel/hostname")
        .map_or_else(|_| "?".to_owned(), |name| name.trim().to_owned())
}

/// How busy the process is, from one beat to the next.
#[derive(Debug, Default)]
struct Load {
    /// Requests so far, and when that was.
    before: Option<(u64, Duration)>,
}

impl Load {
    fn take(&mut self, shared: &Shared, lease: Duration) -> Value {
        let (connections, requests) = totals(shared);
        let now = monotonic();
        let rate = self.before.and_then(|(before, then)| {
            let seconds = now.saturating_sub(then).as_secs_f64();
            (seconds > 0.0).then(|| requests.saturating_sub(before) as f64 / seconds)
        });
        self.before = Some((requests, now));
        json!({ LEASE_KEY: u64::try_from(lease.as_millis()).unwrap_or(u64::MAX), "connections": connections, "requests": requests, "requests_per_s": rate.map(|rate| rate.round()) })
    }
}

/// Open connections of the process, and requests since it began.
fn totals(shared: &Shared) -> (u64, u64) {
    let live = shared.live();
    let connections = live.listeners(false).map(|listener| listener.connections_open.value()).sum();
    (connections, live.listeners(false).map(|listener| listener.requests.value()).sum())
}
