//! How are the modules of every process, and is what they stand on well? By node, process and module.
//!
//! Never asks an endpoint or another process: what is known of them is told.

use std::collections::BTreeMap;

use axum::Json;
use axum::extract::State;
use config::snapshot::UpstreamId;
use config::snapshot::cluster::{Module, ModuleKind, ModuleState};
use proxy::roster::member::State as EndpointState;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::AppState;
use super::extract::Query;
use super::refusal::Refusal;
use crate::Shared;
use crate::live::Live;
use crate::statistics::{self, Membership, membership};

/// Every node with its processes.
#[derive(Serialize, ToSchema)]
pub(super) struct NodeStatuses {
    nodes: Vec<NodeStatus>,
}

/// A node.
#[derive(Serialize, ToSchema)]
struct NodeStatus {
    node: String,
    processes: Vec<ProcessStatus>,
}

/// A process: its modules, and what they stand on.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub(crate) struct ProcessStatus {
    /// Its ID; nothing where it belongs to no cluster.
    pub(crate) process: Option<String>,
    pub(crate) node: String,
    pub(crate) version: String,
    pub(crate) pid: u32,
    /// `serving` or `draining`.
    pub(crate) state: String,
    pub(crate) modules: Vec<ModuleStatus>,
    pub(crate) health_checks: Vec<HealthCheck>,
}

/// A module.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub(crate) struct ModuleStatus {
    name: String,
    #[serde(rename = "type")]
    kind: String,
    status: ModuleWord,
    /// Modules that it needs.
    requires: Vec<String>,
    /// The module that it waits for.
    #[serde(skip_serializing_if = "Option::is_none")]
    waits_for: Option<String>,
}

/// Whether a module runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
enum ModuleWord {
    Started,
    Stopped,
    /// It would run, but a module that it needs does not.
    Blocked,
}

/// Something that a module stands on.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub(crate) struct HealthCheck {
    /// Whose.
    module: String,
    /// What was looked at.
    name: String,
    status: HealthWord,
    /// Why it is not well.
    #[serde(skip_serializing_if = "Option::is_none")]
    message: Option<String>,
}

/// Whether it is well.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
enum HealthWord {
    Pass,
    /// It works, and somebody should look.
    Warn,
    Fail,
}

/// Health checks of every process.
#[derive(Serialize, ToSchema)]
pub(super) struct HealthChecks {
    /// The worst of all.
    status: HealthWord,
    checks: Vec<ProcessCheck>,
}

/// A check and whose it is.
#[derive(Serialize, ToSchema)]
struct ProcessCheck {
    node: String,
    process: Option<String>,
    #[serde(flatten)]
    check: HealthCheck,
}

/// `GET /runtime-status/node-statuses/complete`.
pub(super) async fn complete(State(shared): AppState, query: Query) -> Result<Json<NodeStatuses>, Refusal> {
    let [] = query.only([])?;
    let mut nodes: BTreeMap<String, Vec<ProcessStatus>> = BTreeMap::new();
    for process in processes(&shared).await {
        nodes.entry(process.node.clone()).or_default().push(process);
    }
    let nodes = nodes.into_iter().map(|(node, processes)| NodeStatus { node, processes });
    Ok(Json(NodeStatuses { nodes: nodes.collect() }))
}

/// `GET /runtime-status/node-statuses/health-checks`.
pub(super) async fn health_checks(
    State(shared): AppState,
    query: Query,
) -> Result<Json<HealthChecks>, Refusal> {
    let [] = query.only([])?;
    let mut checks = Vec::new();
    for ProcessStatus { node, process, health_checks, .. } in processes(&shared).await {
        let with_owner = |check| ProcessCheck { node: node.clone(), process: process.clone(), check };
        checks.extend(health_checks.into_iter().map(with_owner));
    }
    let worst = checks.iter().map(|check| check.check.status).max();
    Ok(Json(HealthChecks { status: worst.unwrap_or(HealthWord::Pass), checks }))
}

/// Every process that lives and is known; where the store has never answered, this one.
async fn processes(shared: &Shared) -> Vec<ProcessStatus> {
    let whole = statistics::of_cluster(shared).await;
    whole.map_or_else(|| vec![ProcessStatus::of(shared)], |whole| whole.statuses)
}

impl ProcessStatus {
    /// Of this process.
    pub(crate) fn of(shared: &Shared) -> Self {
        let live = shared.live();
        let membership = membership(shared);
        let mut modules: Vec<_> = live.snapshot.modules.iter().map(ModuleStatus::of).collect();
        let manager = ModuleKind::ClusterManager.name();
        // What a node shares says nothing of the store: it is there all the same.
        if shared.cluster().is_some() && !modules.iter().any(|module| module.name == manager) {
            modules.push(ModuleStatus::started(manager));
        }
        let mut health_checks = checks(&live);
        health_checks.extend(of_store(&membership));
        Self {
            process: match membership {
                Membership::Member { process, .. } => Some(process),
                Membership::Alone | Membership::Away => None,
            },
            node: live.snapshot.node.clone(),
            version: shared.process.version.to_owned(),
            pid: std::process::id(),
            state: if shared.is_draining() { "draining" } else { "serving" }.to_owned(),
            modules,
            health_checks,
        }
    }
}

impl ModuleStatus {
    /// One of a kind that there is once.
    fn started(kind: &str) -> Self {
        Self {
            name: kind.to_owned(),
            kind: kind.to_owned(),
            status: ModuleWord::Started,
            requires: Vec::new(),
            waits_for: None,
        }
    }

    fn of(module: &Module) -> Self {
        let (status, waits_for) = match &module.state {
            ModuleState::Started => (ModuleWord::Started, None),
            ModuleState::Stopped => (ModuleWord::Stopped, None),
            ModuleState::Blocked(by) => (ModuleWord::Blocked, Some(by.to_string())),
        };
        Self {
            name: module.name.to_string(),
            kind: module.kind.name().to_owned(),
            status,
            requires: module.requires.iter().map(ToString::to_string).collect(),
            waits_for,
        }
    }
}

/// What membership in a cluster stands on.
fn of_store(membership: &Membership) -> Option<HealthCheck> {
    let (status, message) = match membership {
        Membership::Alone => return None,
        Membership::Member { .. } => (HealthWord::Pass, None),
        Membership::Away => {
            let cause = "the store does not answer: what is known goes on being served";
            (HealthWord::Warn, Some(cause.to_owned()))
        }
    };
    let module = ModuleKind::ClusterManager.name().to_owned();
    Some(HealthCheck { module, name: "store".to_owned(), status, message })
}

/// What the modules of this process stand on: endpoints and certificates.
fn checks(live: &Live) -> Vec<HealthCheck> {
    let mut checks = Vec::new();
    for (id, upstream) in (0..).map(UpstreamId).zip(&live.snapshot.upstreams) {
        let members = live.roster.members(id);
        let up = members.all.iter().filter(|member| member.state == EndpointState::Up).count();
        let all = members.all.len();
        let (status, message) = match up {
            0 => (HealthWord::Fail, Some(format!("none of {all} endpoints is up"))),
            _ if members.is_panic => (
                HealthWord::Warn,
                Some(format!("{up} of {all} endpoints are up: so few that all get traffic")),
            ),
            up if up < all => (HealthWord::Warn, Some(format!("{up} of {all} endpoints are up"))),
            _ => (HealthWord::Pass, None),
        };
        let module = format!("{}.{}", ModuleKind::Upstream.name(), upstream.name);
        checks.push(HealthCheck { module, name: "endpoints".to_owned(), status, message });
    }
    if !live.certificates.is_empty() {
        let problems = live.certificates.problems();
        let status = if problems.is_empty() { HealthWord::Pass } else { HealthWord::Warn };
        let message = (!problems.is_empty()).then(|| problems.join("; "));
        let module = ModuleKind::Admin.name().to_owned();
        checks.push(HealthCheck { module, name: "certificates".to_owned(), status, message });
    }
    checks
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing;

    #[test]
    fn every_module_is_told_with_what_it_is() {
        let (shared, _cores) = testing::shared(1);
        let status = ProcessStatus::of(&shared);
        let told: Vec<_> =
            status.modules.iter().map(|module| (module.name.as_str(), module.status)).collect();
        for name in ["admin", "listener.web", "channel.default"] {
            assert!(told.contains(&(name, ModuleWord::Started)), "{name}: {told:?}");
        }
        assert_eq!(status.modules.len(), shared.live().snapshot.modules.len());
    }

    #[test]
    fn an_upstream_without_an_endpoint_that_is_up_fails() {
        let (shared, _cores) = testing::shared(1);
        let live = shared.live();
        let status = |live: &Live| checks(live)[0].status;
        assert_eq!(status(&live), HealthWord::Pass);
        let endpoint = live.roster.members(UpstreamId(0)).all[0].id;
        live.drain(UpstreamId(0), endpoint, true).expect("it is there");
        assert_eq!(status(&live), HealthWord::Fail);
        assert!(HealthWord::Fail > HealthWord::Warn && HealthWord::Warn > HealthWord::Pass);
    }

    #[test]
    fn a_status_is_read_as_it_was_written() {
        let (shared, _cores) = testing::shared(1);
        let status = ProcessStatus::of(&shared);
        let text = serde_json::to_string(&status).expect("JSON");
        assert!(text.contains("\"status\":\"STARTED\""), "{text}");
        assert_eq!(serde_json::from_str::<ProcessStatus>(&text).expect("the same"), status);
    }
}
