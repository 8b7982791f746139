//! How does a new version of the configuration go live? Proposed, checked by every process of the node, made active, applied by each.
//!
//! Never applied anywhere when one process found it wrong or did not answer: then it is rejected, with the cause.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use config::Severity;
use config::snapshot::cluster::NodeTerms;
use proxy::standing::monotonic;
use store::{Activation, ConfigVersion, Store, StoreError};

use super::copy::Copy;
use super::join::stopped_modules;
use super::{Cluster, Me, Runs};
use crate::Shared;
use crate::candidate::Candidate;

/// What could not be applied is tried again after this: a port may be free by then, a file there.
const APPLY_RETRY: Duration = Duration::from_secs(5);

/// Problems that are told of one version; the first ones say what to do.
const PROBLEMS_MAX: usize = 20;

/// What goes on from round to round.
#[derive(Debug, Default)]
pub(super) struct Versions {
    /// The proposal that this process has found good, and when it saw it first.
    agreed: Option<(u64, Duration)>,
    /// What could not be applied, and when to try again.
    owing: Option<(Runs, Duration)>,
}

impl Versions {
    /// Whether others are waited for that have yet to agree.
    pub(super) fn is_deciding(&self) -> bool {
        self.agreed.is_some()
    }

    /// Whether it is time to try again what could not be applied.
    pub(super) fn is_owing(&self) -> bool {
        self.owing.as_ref().is_some_and(|(_, at)| monotonic() >= *at)
    }

    /// Nothing was said under the ID that this process has from now on.
    pub(super) fn forget(&mut self) {
        self.agreed = None;
    }

    /// Looks at what is proposed and what is active, and does its part.
    pub(super) async fn follow(
        &mut self,
        shared: &Arc<Shared>,
        cluster: &Arc<Cluster>,
        store: &Store,
        me: &Me,
    ) -> Result<(), StoreError> {
        match store.proposed_config(cluster.node()).await? {
            Some(proposed) => self.decide(shared, cluster, store, me, &proposed).await?,
            None => self.agreed = None,
        }
        self.keep_up(shared, cluster, store).await
    }

    /// Checks a proposal, once, and makes it active when the others have found it good too.
    async fn decide(
        &mut self,
        shared: &Arc<Shared>,
        cluster: &Cluster,
        store: &Store,
        me: &Me,
        proposed: &ConfigVersion,
    ) -> Result<(), StoreError> {
        let (node, version) = (cluster.node(), proposed.summary.version);
        let since = match self.agreed {
            Some((agreed, since)) if agreed == version => since,
            _ => {
                let began = monotonic();
                let stopped = stopped_modules(store, node).await?;
                let checked = candidate(cluster, version, &proposed.document, &stopped);
                let problem = match checked {
                    Ok(candidate) => check(shared, candidate).await.err(),
                    Err(problem) => Some(problem),
                };
                settled(
                    store
                        .report_config_check(&me.id, node, version, problem.as_deref().map_or(Ok(()), Err))
                        .await,
                )?;
                if let Some(problem) = problem {
                    self.agreed = None;
                    tracing::warn!(
                        "version {version} of node {node} cannot be used here, so that nobody will: {problem}"
                    );
                    let cause = format!("process {}: {problem}", me.id);
                    return settled(store.reject_config(node, version, &cause).await);
                }
                self.agreed = Some((version, began));
                began
            }
        };
        let waiting = match store.activate_config(node, version).await {
            Ok(Activation::Waiting { processes }) => processes,
            // Made active here or by another, or rejected by another.
            done => {
                self.agreed = None;
                return settled(done.map(drop));
            }
        };
        if monotonic().saturating_sub(since) < patience(&shared.live().snapshot.terms) {
            return Ok(());
        }
        self.agreed = None;
        let cause = format!("{} did not answer in time", waiting.join(", "));
        tracing::warn!("version {version} of node {node} is rejected: {cause}");
        settled(store.reject_config(node, version, &cause).await)
    }

    /// Applies the active version, if this process runs another.
    async fn keep_up(
        &mut self,
        shared: &Arc<Shared>,
        cluster: &Arc<Cluster>,
        store: &Store,
    ) -> Result<(), StoreError> {
        let Some(current) = store.current_config(cluster.node()).await? else { return Ok(()) };
        let stopped = stopped_modules(store, cluster.node()).await?;
        let wanted = Runs { version: current.summary.version, stopped };
        if wanted == cluster.runs() {
            self.owing = None;
            cluster.state().refused = None;
            return Ok(());
        }
        if self.owing.as_ref().is_some_and(|(owed, at)| *owed == wanted && monotonic() < *at) {
            return Ok(());
        }
        let version = wanted.version;
        match apply(shared, cluster, &wanted, &current.document).await {
            Ok(()) => {
                self.owing = None;
                keep_copy(cluster, wanted.clone(), current.document).await;
                let mut state = cluster.state();
                (state.runs, state.refused) = (wanted, None);
            }
            Err(problem) => {
                tracing::error!("version {version} of node {} cannot be applied: {problem}", cluster.node());
                self.owing = Some((wanted, monotonic() + APPLY_RETRY));
                cluster.state().refused = Some((version, problem));
            }
        }
        // What others see of this process has changed.
        cluster.look();
        Ok(())
    }
}

/// Somebody else may have been first: the next round finds what came of it.
fn settled(outcome: Result<(), StoreError>) -> Result<(), StoreError> {
    match outcome {
        Err(StoreError::Conflict { .. } | StoreError::Missing { .. }) => Ok(()),
        outcome => outcome,
    }
}

/// How long a proposal waits for processes to answer: whoever is gone has been taken for gone by then.
fn patience(terms: &NodeTerms) -> Duration {
    terms.lease + 2 * terms.poll
}

/// A version made this process's own, as it would be applied.
pub(super) fn candidate(
    cluster: &Cluster,
    version: u64,
    document: &str,
    stopped: &BTreeSet<String>,
) -> Result<Candidate, String> {
    let loaded = cluster.local.load(version, document, stopped);
    let loaded = loaded.map_err(|problems| {
        let errors = problems.iter().filter(|problem| problem.severity == Severity::Error);
        in_one(errors.map(ToString::to_string).collect())
    })?;
    cluster.local.settle(version, document, loaded)
}

async fn apply(shared: &Arc<Shared>, cluster: &Cluster, wanted: &Runs, document: &str) -> Result<(), String> {
    let candidate = candidate(cluster, wanted.version, document, &wanted.stopped)?;
    let applied = shared.apply(candidate).await.map_err(|not_applied| in_one(not_applied.problems))?;
    tracing::info!("node {}: runs version {} of its configuration", cluster.node(), wanted.version);
    for key in applied.needs_restart {
        tracing::warn!("{key} has changed, which counts from the next start of this process");
    }
    Ok(())
}

/// Puts the copy beside that is started from while the store is away. By a thread of its own: a disk may be slow.
pub(super) async fn keep_copy(cluster: &Arc<Cluster>, runs: Runs, document: String) {
    let copy =
        Copy { node: cluster.node().to_owned(), version: runs.version, document, stopped: runs.stopped };
    let cluster = Arc::clone(cluster);
    let written = tokio::task::spawn_blocking(move || {
        cluster.copy_file.write(&copy).map_err(|error| (cluster.copy_file.path().to_owned(), error))
    });
    if let Ok(Err((path, error))) = written.await {
        tracing::warn!(
            "cannot keep a copy of the configuration as {}: {error}; this process would not start while the store is away \
             (see store.state_dir)",
            path.display()
        );
    }
}

/// What would be in the way of applying it. By a thread of its own: a file may be slow to come.
pub(super) async fn check(shared: &Arc<Shared>, candidate: Candidate) -> Result<(), String> {
    let shared = Arc::clone(shared);
    let checked = tokio::task::spawn_blocking(move || shared.check(&candidate)).await;
    none_of(checked.unwrap_or_else(|error| vec![error.to_string()]))
}

fn none_of(problems: Vec<String>) -> Result<(), String> {
    if problems.is_empty() { Ok(()) } else { Err(in_one(problems)) }
}

/// Several problems as one text.
fn in_one(mut problems: Vec<String>) -> String {
    let more = problems.len().saturating_sub(PROBLEMS_MAX);
    problems.truncate(PROBLEMS_MAX);
    let mut text = problems.join("; ");
    if more > 0 {
        text.push_str(&format!("; and {more} more"));
    }
    text
}
