//! Who is in the cluster, what does each node run, and what is to change? Asked of the store, which any admin process can.
//!
//! Never waits for a store that is away: it says so, and everything goes on being served.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::{Request, State};
use axum::http::StatusCode;
use config::snapshot::cluster::{Module, ModuleState};
use serde::{Deserialize, Serialize};
use store::{ConfigSummary, ProcessRow, Store, StoreError, Wish};
use utoipa::ToSchema;

use super::AppState;
use super::body::missing;
use super::extract::{Path, Query};
use super::gate::Actor;
use super::refusal::Refusal;
use super::upstreams::read;
use crate::Shared;
use crate::cluster::{Cluster, ClusterView, Decision, Push, publish, stopped_modules};

/// What a store may take for one answer of the admin listener, which promises to answer within 5 s.
const STORE_TIMEOUT: Duration = Duration::from_secs(4);

/// How long a push waits for the node's processes, so that its answer comes before the connection's time is over.
const PUSH_PATIENCE: Duration = Duration::from_secs(8);

/// Longest document that is pushed, with what JSON adds to it.
pub(super) const DOCUMENT_BYTES_MAX: usize = 8 * 1024 * 1024;

/// Versions that a history shows.
const HISTORY_MAX: u32 = 100;

/// A process of the cluster.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct ProcessView {
    /// Its ID: the node's, and a number that is never given away again.
    id: String,
    node: String,
    /// `starting`, `serving`, `standby` or `draining`.
    state: &'static str,
    host: String,
    pid: u32,
    cores: u32,
    /// The program's version.
    version: String,
    /// Where it listens, by module.
    addresses: serde_json::Value,
    port_offset: u16,
    /// `active_active` or `active_passive`.
    mode: String,
    /// Its fencing token: higher than that of any process that joined before.
    epoch: u64,
    /// Grows while it lives.
    beat: u64,
    /// The version of its node's configuration that it runs.
    config_version: Option<u64>,
    /// Why it does not run a newer one.
    config_refused: Option<String>,
    /// How busy it is.
    load: serde_json::Value,
    /// What somebody wishes of it: `drain`.
    wants: Option<&'static str>,
    /// Unix milliseconds by the store's clock.
    started_at: u64,
    /// When it was last heard of, likewise.
    beat_at: u64,
    /// Whether it is the process that answers.
    is_self: bool,
}

/// The processes of the cluster.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Processes {
    processes: Vec<ProcessView>,
}

/// A module of a node.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct ModuleView {
    /// Such as `listener.web`.
    name: String,
    kind: &'static str,
    /// `started`, `stopped`, or `blocked` by one that it needs.
    state: &'static str,
    /// The module that blocks it.
    #[serde(skip_serializing_if = "Option::is_none")]
    blocked_by: Option<String>,
    /// Modules that it needs.
    requires: Vec<String>,
}

/// The modules of a node.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Modules {
    node: String,
    modules: Vec<ModuleView>,
}

/// About a version of a node's configuration.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct VersionView {
    node: String,
    version: u64,
    /// `proposed`, `active`, `past` or `rejected`.
    state: &'static str,
    fingerprint: String,
    author: String,
    comment: String,
    /// Why it was rejected.
    cause: Option<String>,
    /// Unix milliseconds by the store's clock.
    created_at: u64,
    /// When it became active or was rejected, likewise.
    decided_at: Option<u64>,
    /// The whole of it, as JSON text.
    #[serde(skip_serializing_if = "Option::is_none")]
    document: Option<String>,
}

/// The versions of a node's configuration, the newest first.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct History {
    versions: Vec<VersionView>,
}

/// A new version.
#[derive(Debug, Deserialize, ToSchema)]
#[allow(dead_code, reason = "the document describes it; the handler reads it key by key")]
pub(super) struct NewVersion {
    /// The configuration without what is one process's own, as JSON text; `engine config push` makes it of a file.
    document: String,
    /// The version that its author saw; left out, the active one.
    base: Option<u32>,
    /// Why.
    comment: Option<String>,
    /// Of which node; left out, that of the process that answers.
    node: Option<String>,
}

/// An earlier version, to be made anew.
#[derive(Debug, Deserialize, ToSchema)]
#[allow(dead_code, reason = "the document describes it; the handler reads it key by key")]
pub(super) struct Rollback {
    /// Which one.
    version: u32,
    /// Of which node; left out, that of the process that answers.
    node: Option<String>,
}

/// `GET /cluster`.
pub(super) async fn show(State(shared): AppState) -> Result<Json<ClusterView>, Refusal> {
    Ok(Json(cluster(&shared)?.view(&shared)))
}

/// `GET /cluster/processes`.
pub(super) async fn processes(State(shared): AppState) -> Result<Json<Processes>, Refusal> {
    let cluster = cluster(&shared)?;
    let rows = asked(cluster, async |store| store.processes().await).await?;
    let me = cluster.process_id();
    let processes = rows.into_iter().map(|row| ProcessView::of(row, me.as_deref())).collect();
    Ok(Json(Processes { processes }))
}

/// `POST /cluster/processes/{process}/drain`.
pub(super) async fn drain(
    State(shared): AppState,
    Path(process): Path<String>,
) -> Result<(StatusCode, Json<ProcessView>), Refusal> {
    let cluster = cluster(&shared)?;
    let row = asked(cluster, async |store| {
        store.wish(&process, Wish::Drain).await?;
        store
            .process(&process)
            .await?
            .ok_or_else(|| StoreError::Missing { what: format!("process {process}") })
    })
    .await?;
    cluster.look();
    Ok((StatusCode::ACCEPTED, Json(ProcessView::of(row, cluster.process_id().as_deref()))))
}

/// `GET /cluster/modules`.
pub(super) async fn modules(State(shared): AppState, query: Query) -> Result<Json<Modules>, Refusal> {
    let [node] = query.only(["node"])?;
    let (node, modules) = match shared.cluster() {
        Some(cluster) => {
            let node = node.unwrap_or(cluster.node());
            let modules =
                asked(cluster, async |store| modules_of(store, &shared, cluster, node).await).await??;
            (node.to_owned(), modules)
        }
        None => own_modules(&shared, node)?,
    };
    Ok(Json(Modules { node, modules: modules.iter().map(ModuleView::of).collect() }))
}

/// The modules of a process that is alone, which is its own node.
fn own_modules(shared: &Shared, node: Option<&str>) -> Result<(String, Vec<Module>), Refusal> {
    let snapshot = &shared.live().snapshot;
    match node.filter(|node| *node != snapshot.node) {
        Some(other) => Err(no_node(other)),
        None => Ok((snapshot.node.clone(), snapshot.modules.to_vec())),
    }
}

/// `POST /cluster/modules/{module}/stop`.
pub(super) async fn stop(
    state: AppState,
    path: Path<String>,
    query: Query,
    actor: Actor,
) -> Result<Json<ModuleView>, Refusal> {
    change_module(state, path, query, actor, true).await
}

/// `POST /cluster/modules/{module}/start`.
pub(super) async fn start(
    state: AppState,
    path: Path<String>,
    query: Query,
    actor: Actor,
) -> Result<Json<ModuleView>, Refusal> {
    change_module(state, path, query, actor, false).await
}

async fn change_module(
    State(shared): AppState,
    Path(name): Path<String>,
    query: Query,
    actor: Actor,
    stop: bool,
) -> Result<Json<ModuleView>, Refusal> {
    let [node] = query.only(["node"])?;
    let Some(cluster) = shared.cluster() else {
        return change_own(&shared, node, &name, stop).await;
    };
    let node = node.unwrap_or(cluster.node());
    let changed = asked(cluster, async |store| {
        let modules = match modules_of(store, &shared, cluster, node).await? {
            Ok(modules) => modules,
            Err(refusal) => return Ok(Err(refusal)),
        };
        if let Err(refusal) = may_change(&modules, &name, stop) {
            return Ok(Err(refusal));
        }
        store.set_module_state(node, &name, stop, &actor.name).await?;
        modules_of(store, &shared, cluster, node).await
    })
    .await??;
    cluster.look();
    let module = changed.iter().find(|module| *module.name == name).ok_or_else(|| no_module(&name))?;
    Ok(Json(ModuleView::of(module)))
}

/// Stops or starts a module of a process that is alone.
async fn change_own(
    shared: &Arc<Shared>,
    node: Option<&str>,
    name: &str,
    stop: bool,
) -> Result<Json<ModuleView>, Refusal> {
    may_change(&own_modules(shared, node)?.1, name, stop)?;
    let changed = if stop { shared.stop_module(name).await } else { shared.start_module(name).await };
    changed.map_err(|not_applied| {
        Refusal::new(StatusCode::UNPROCESSABLE_ENTITY, not_applied.problems.join("; ")).at("module")
    })?;
    let (_, modules) = own_modules(shared, node)?;
    let module = modules.iter().find(|module| *module.name == *name).ok_or_else(|| no_module(name))?;
    Ok(Json(ModuleView::of(module)))
}

/// Whether a module may be stopped or started now.
fn may_change(modules: &[Module], name: &str, stop: bool) -> Result<(), Refusal> {
    let module = modules.iter().find(|module| *module.name == *name).ok_or_else(|| no_module(name))?;
    let conflict =
        |error: String, help: String| Refusal::new(StatusCode::CONFLICT, error).at("module").help(help);
    if stop && ["admin", "cluster_manager"].contains(&name) {
        return Err(conflict(
            format!("{name} cannot be stopped: nobody could start it again"),
            "leave it out of the configuration instead".to_owned(),
        ));
    }
    let started = |name: &str| {
        modules.iter().any(|module| *module.name == *name && module.state == ModuleState::Started)
    };
    if stop {
        let needing: Vec<_> = modules
            .iter()
            .filter(|other| {
                other.state == ModuleState::Started && other.requires.iter().any(|needed| **needed == *name)
            })
            .map(|other| &*other.name)
            .collect();
        if !needing.is_empty() {
            return Err(conflict(
                format!("{} needs {name} and runs", needing.join(", ")),
                "stop that first".to_owned(),
            ));
        }
    } else if let Some(needed) = module.requires.iter().find(|needed| !started(needed)) {
        return Err(conflict(
            format!("{name} needs {needed}, which does not run"),
            "start that first".to_owned(),
        ));
    }
    Ok(())
}

fn no_module(name: &str) -> Refusal {
    Refusal::new(StatusCode::NOT_FOUND, format!("there is no module {name:?}"))
        .at("module")
        .help("GET /cluster/modules lists them: listener.web, upstream.app and so on")
}

/// The modules of a node, as its configuration has them, with what is stopped.
async fn modules_of(
    store: &Store,
    shared: &Shared,
    cluster: &Cluster,
    node: &str,
) -> Result<Result<Vec<Module>, Refusal>, StoreError> {
    let stopped = stopped_modules(store, node).await?;
    if node == cluster.node() && stopped == cluster.runs().stopped {
        return Ok(Ok(shared.live().snapshot.modules.to_vec()));
    }
    let Some(current) = store.current_config(node).await? else {
        return Ok(Err(no_node(node)));
    };
    Ok(read_modules(&current.document, &stopped).map_err(|problem| {
        Refusal::new(
            StatusCode::UNPROCESSABLE_ENTITY,
            format!("the configuration of node {node} cannot be read here: {problem}"),
        )
        .help("ask a process of that node")
    }))
}

/// What modules a document makes. Of another node's environment nothing is known here, and names of modules do not depend on it.
fn read_modules(document: &str, stopped: &BTreeSet<String>) -> Result<Vec<Module>, String> {
    let environment = |name: &str| Some(std::env::var(name).unwrap_or_else(|_| name.to_owned()));
    let loaded = config::load_shared("the configuration", document, stopped, &environment);
    Ok(loaded.map_err(|problems| problems.to_string())?.snapshot.modules.to_vec())
}

fn no_node(node: &str) -> Refusal {
    Refusal::new(StatusCode::NOT_FOUND, format!("there is no node {node:?} with a configuration"))
        .at("node")
        .help("GET /cluster/processes names those that have processes")
}

/// `GET /cluster/config`.
pub(super) async fn config(State(shared): AppState, query: Query) -> Result<Json<VersionView>, Refusal> {
    let [node, version] = query.only(["node", "version"])?;
    let cluster = cluster(&shared)?;
    let node = node.unwrap_or(cluster.node());
    let version = version.map(str::parse::<u64>).transpose().map_err(|_| {
        Refusal::new(StatusCode::BAD_REQUEST, "expected the number of a version").at("version")
    })?;
    let found = asked(cluster, async |store| match version {
        Some(version) => store.config_version(node, version).await,
        None => store.current_config(node).await,
    })
    .await?;
    let found = found.ok_or_else(|| match version {
        Some(version) => {
            Refusal::new(StatusCode::NOT_FOUND, format!("node {node} has no version {version}")).at("version")
        }
        None => no_node(node),
    })?;
    Ok(Json(VersionView::of(found.summary, Some(found.document))))
}

/// `GET /cluster/config/history`.
pub(super) async fn history(State(shared): AppState, query: Query) -> Result<Json<History>, Refusal> {
    let [node] = query.only(["node"])?;
    let cluster = cluster(&shared)?;
    let node = node.unwrap_or(cluster.node());
    let versions = asked(cluster, async |store| store.config_history(node, HISTORY_MAX).await).await?;
    Ok(Json(History {
        versions: versions.into_iter().map(|summary| VersionView::of(summary, None)).collect(),
    }))
}

/// `POST /cluster/config`.
pub(super) async fn push(
    State(shared): AppState,
    actor: Actor,
    request: Request,
) -> Result<(StatusCode, Json<Decision>), Refusal> {
    let cluster = cluster(&shared)?;
    let mut object = read(request).await?;
    let document = object
        .text("document")?
        .ok_or_else(|| missing("document", "what `engine config push` makes of a file"))?;
    let base = object.number("base", 0..=u32::MAX)?.map(u64::from);
    let comment = object.text("comment")?.unwrap_or_default();
    let node = object.text("node")?.unwrap_or_else(|| cluster.node().to_owned());
    object.finish()?;
    let push = Push { document, base, author: actor.name.to_string(), comment };
    put(&shared, cluster, &node, push).await
}

/// `POST /cluster/config/rollback`.
pub(super) async fn rollback(
    State(shared): AppState,
    actor: Actor,
    request: Request,
) -> Result<(StatusCode, Json<Decision>), Refusal> {
    let cluster = cluster(&shared)?;
    let mut object = read(request).await?;
    let version = object.number("version", 1..=u32::MAX)?.ok_or_else(|| missing("version", "3"))?;
    let node = object.text("node")?.unwrap_or_else(|| cluster.node().to_owned());
    object.finish()?;
    let version = u64::from(version);
    let (old, current) = asked(cluster, async |store| {
        Ok((store.config_version(&node, version).await?, store.current_config(&node).await?))
    })
    .await?;
    let old = old.ok_or_else(|| {
        Refusal::new(StatusCode::NOT_FOUND, format!("node {node} has no version {version}"))
            .at("version")
            .help("GET /cluster/config/history lists them")
    })?;
    let push = Push {
        document: old.document,
        base: current.map(|current| current.summary.version),
        author: actor.name.to_string(),
        comment: format!("back to version {version}"),
    };
    put(&shared, cluster, &node, push).await
}

async fn put(
    shared: &Arc<Shared>,
    cluster: &Arc<Cluster>,
    node: &str,
    push: Push,
) -> Result<(StatusCode, Json<Decision>), Refusal> {
    let unusable = |problem: String| Refusal::new(StatusCode::UNPROCESSABLE_ENTITY, problem).at("document");
    if serde_json::from_str::<serde::de::IgnoredAny>(&push.document).is_err() {
        return Err(
            unusable("it is no JSON text".to_owned()).help("`engine config push` makes one of a file")
        );
    }
    // Its mistakes are told before it becomes a version; what only another process can find is found when all check it.
    if node == cluster.node() {
        cluster.check(shared, &push.document).await.map_err(unusable)?;
    }
    let store = cluster.store().map_err(refusal)?;
    let decision = publish(&store, node, push, PUSH_PATIENCE, || cluster.look()).await.map_err(refusal)?;
    match decision {
        Decision::Active { .. } => Ok((StatusCode::OK, Json(decision))),
        Decision::Proposed { .. } => Ok((StatusCode::ACCEPTED, Json(decision))),
        Decision::Rejected { version, cause } => {
            Err(unusable(format!("version {version} is rejected: {cause}"))
                .help("nothing was changed anywhere"))
        }
    }
}

fn cluster(shared: &Shared) -> Result<&Arc<Cluster>, Refusal> {
    shared.cluster().ok_or_else(|| {
        Refusal::new(StatusCode::NOT_FOUND, "this process belongs to no cluster")
            .help("one that is started with --store URL or [store] does")
    })
}

/// Asks the store, and not for longer than an answer may take.
async fn asked<T>(
    cluster: &Cluster,
    question: impl AsyncFnOnce(&Store) -> Result<T, StoreError>,
) -> Result<T, Refusal> {
    let store = cluster.store().map_err(refusal)?;
    let answer = tokio::time::timeout(STORE_TIMEOUT, question(&store)).await;
    answer.map_err(|_| away("it does not answer"))?.map_err(refusal)
}

fn away(cause: &str) -> Refusal {
    Refusal::new(StatusCode::SERVICE_UNAVAILABLE, format!("the store is away: {cause}"))
        .help("everything is served as before; try again when it is back")
}

fn refusal(error: StoreError) -> Refusal {
    match error {
        StoreError::Unavailable { cause } => away(&cause),
        StoreError::Conflict { what, .. } => {
            Refusal::new(StatusCode::CONFLICT, what).help("look at what is there now, and decide anew")
        }
        StoreError::Missing { what } => Refusal::new(StatusCode::NOT_FOUND, format!("there is no {what}")),
        StoreError::Refused { cause, help } => {
            Refusal::new(StatusCode::SERVICE_UNAVAILABLE, cause).help(help)
        }
        error @ StoreError::Corrupt { .. } => {
            Refusal::new(StatusCode::INTERNAL_SERVER_ERROR, error.to_string())
        }
    }
}

impl ProcessView {
    fn of(row: ProcessRow, me: Option<&str>) -> Self {
        Self {
            is_self: me == Some(row.id.as_str()),
            id: row.id,
            node: row.joined.node,
            state: row.state.as_str(),
            host: row.joined.host,
            pid: row.joined.pid,
            cores: row.joined.cores,
            version: row.joined.version,
            addresses: row.joined.addresses,
            port_offset: row.joined.port_offset,
            mode: row.joined.mode,
            epoch: row.epoch,
            beat: row.beat,
            config_version: row.config_version,
            config_refused: row.config_refused,
            load: row.load,
            wants: row.wants.map(Wish::as_str),
            started_at: row.started_at.0,
            beat_at: row.beat_at.0,
        }
    }
}

impl ModuleView {
    fn of(module: &Module) -> Self {
        let (state, blocked_by) = match &module.state {
            ModuleState::Started => ("started", None),
            ModuleState::Stopped => ("stopped", None),
            ModuleState::Blocked(by) => ("blocked", Some(by.to_string())),
        };
        Self {
            name: module.name.to_string(),
            kind: module.kind.name(),
            state,
            blocked_by,
            requires: module.requires.iter().map(ToString::to_string).collect(),
        }
    }
}

impl VersionView {
    fn of(summary: ConfigSummary, document: Option<String>) -> Self {
        Self {
            node: summary.node,
            version: summary.version,
            state: summary.state.as_str(),
            fingerprint: summary.fingerprint,
            author: summary.author,
            comment: summary.comment,
            cause: summary.cause,
            created_at: summary.created_at.0,
            decided_at: summary.decided_at.map(|at| at.0),
            document,
        }
    }
}

#[cfg(test)]
mod tests {
    use config::snapshot::cluster::ModuleKind;

    use super::*;

    fn module(name: &str, requires: &[&str], state: ModuleState) -> Module {
        Module {
            kind: ModuleKind::Listener,
            name: name.into(),
            requires: requires.iter().map(|name| (*name).into()).collect(),
            state,
        }
    }

    #[test]
    fn a_module_that_another_needs_is_not_stopped() {
        let modules = [
            module("upstream.app", &[], ModuleState::Started),
            module("channel.all", &["upstream.app"], ModuleState::Started),
            module("channel.old", &["upstream.gone"], ModuleState::Blocked("upstream.gone".into())),
            module("upstream.gone", &[], ModuleState::Stopped),
            module("admin", &[], ModuleState::Started),
        ];
        let check = |name: &str, stop: bool, expected: Option<(u16, &str)>| {
            let told = may_change(&modules, name, stop)
                .err()
                .map(|refusal| (refusal.status.as_u16(), refusal.error));
            assert_eq!(
                told.as_ref().map(|(status, error)| (*status, error.as_str())),
                expected,
                "{name} {stop}"
            );
        };
        check("channel.all", true, None);
        check("upstream.app", true, Some((409, "channel.all needs upstream.app and runs")));
        check("upstream.gone", true, None);
        check("upstream.gone", false, None);
        check("channel.old", false, Some((409, "channel.old needs upstream.gone, which does not run")));
        check("admin", true, Some((409, "admin cannot be stopped: nobody could start it again")));
        check("upstream.x", true, Some((404, "there is no module \"upstream.x\"")));
    }
}
