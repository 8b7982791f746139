//! How does a process belong to a cluster? It joins, says that it is there, applies what its node is to run, and leaves.
//!
//! Never on a request's way: with the store away, everything goes on with what is known, and what has changed meanwhile is made up for as
//! soon as it is back.
//!
//! Suggested reading order: [`join`](self::join) (what a process begins with), `local` (what is its own), `copy` (what it begins with while the store is
//! away), `member` (its rounds: registered, beating, watching others), `versions` (a new version is checked by all and then applied),
//! `passive` (one of a node's processes acts), `edit` (who changes something asks here).

pub(crate) mod copy;
mod edit;
mod join;
mod local;
mod member;
mod passive;
mod versions;

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use config::snapshot::cluster::Mode;
use proxy::generation::Generation;
use proxy::standing::Standing;
use serde::Serialize;
use store::{ProcessState, Store, StoreError, StoreSettings};
use tokio::runtime::Runtime;
use tokio::sync::Notify;
use utoipa::ToSchema;

use self::copy::CopyFile;
pub(crate) use self::edit::publish;
pub use self::edit::{Decision, Difference, EditError, Editor, Push, differences};
pub use self::join::{Begun, JoinError, Joined, Joining, LocalFile, join};
pub(crate) use self::join::{fingerprint_text, stopped_modules};
pub use self::local::{Local, node_of};
use crate::Shared;

/// A process's membership, as the rest of control sees it.
#[derive(Debug)]
pub(crate) struct Cluster {
    pub(crate) local: Local,
    file: Option<LocalFile>,
    settings: StoreSettings,
    copy_file: CopyFile,
    state: Mutex<State>,
    /// Somebody has changed something, here: the next round begins at once.
    look: Notify,
    /// Wakes whoever contends for the lease of the node.
    contend: Notify,
    /// Asks the process to drain, as a signal does.
    drain: Arc<Notify>,
    /// What cores do with requests.
    standing: Arc<Standing>,
}

/// What is known now. Locked for no wait.
#[derive(Debug)]
struct State {
    store: Option<Store>,
    /// Since when the store is away, and why.
    away: Option<(Instant, String)>,
    me: Option<Me>,
    runs: Runs,
    /// The version that cannot be applied here, and why.
    refused: Option<(u64, String)>,
    role: Role,
    is_leaving: bool,
    /// Another process has taken this one's place: it contends for nothing any more.
    is_replaced: bool,
}

/// Who this process is, as long as the others do not take it for gone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Me {
    /// Its ID: the node's and a number that the cluster never gives away again.
    pub(crate) id: String,
    /// Tells this registration from any other.
    pub(crate) epoch: u64,
}

/// What this process runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Runs {
    pub(crate) version: u64,
    pub(crate) stopped: BTreeSet<String>,
}

/// What a process of the node does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    /// It serves, as all of its node do.
    Serving,
    /// It serves alone: it holds the lease of this epoch.
    Active {
        /// Grows with every holder.
        epoch: u64,
    },
    /// Another process of its node serves.
    Standby,
}

impl Role {
    const fn name(self) -> &'static str {
        match self {
            Self::Serving => "serving",
            Self::Active { .. } => "active",
            Self::Standby => "standby",
        }
    }
}

/// Membership as the admin listener shows it.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ClusterView {
    node: String,
    process: Option<String>,
    epoch: Option<u64>,
    /// `serving`, `active` or `standby`.
    pub(crate) role: &'static str,
    /// The epoch of the lease that an active process holds: its fencing token.
    lease_epoch: Option<u64>,
    pub(crate) config: ConfigView,
    pub(crate) store: StoreView,
}

/// What a process runs, as the admin listener shows it.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ConfigView {
    version: u64,
    stopped: BTreeSet<String>,
    /// The version that cannot be applied here.
    pub(crate) refused: Option<RefusedView>,
    /// The file that this process was given and that says something else than what it runs.
    pub(crate) drift: Option<String>,
}

#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct RefusedView {
    version: u64,
    cause: String,
}

/// How the store is, as the admin listener shows it.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct StoreView {
    url: String,
    state: &'static str,
    /// For how long it has been away.
    pub(crate) away_s: Option<f64>,
    cause: Option<String>,
    warnings: Vec<String>,
}

impl Cluster {
    /// Of a process that is about to begin with `generation`.
    ///
    /// With the document that it begins with, unless that is from a copy.
    pub(crate) fn new(
        joined: Joined,
        generation: &Generation,
        drain: Arc<Notify>,
    ) -> (Self, Runtime, Option<String>) {
        let Joined { runtime, joining, settings, copy_file, store, start, begun } = joined;
        let document = (begun != Begun::Copy).then_some(start.document);
        let standing = Arc::clone(&generation.standing);
        let role = match generation.snapshot.terms.mode {
            Mode::ActiveActive => Role::Serving,
            Mode::ActivePassive => {
                // Nobody has heard yet who serves.
                standing.act_until(None);
                Role::Standby
            }
        };
        let away = store.as_ref().err().map(|error| (Instant::now(), error.to_string()));
        let state = State {
            store: store.ok(),
            away,
            me: None,
            runs: Runs { version: start.version, stopped: start.stopped },
            refused: None,
            role,
            is_leaving: false,
            is_replaced: false,
        };
        let cluster = Self {
            local: joining.local,
            file: joining.file,
            settings,
            copy_file,
            state: Mutex::new(state),
            look: Notify::new(),
            contend: Notify::new(),
            drain,
            standing,
        };
        (cluster, runtime, document)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The node that this process is of.
    pub(crate) fn node(&self) -> &str {
        &self.local.node
    }

    /// The store.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`] while it is known to be away, so that nobody waits to hear it again.
    pub(crate) fn store(&self) -> Result<Store, StoreError> {
        let state = self.state();
        match (&state.store, &state.away) {
            (Some(store), None) => Ok(store.clone()),
            (_, away) => Err(StoreError::Unavailable {
                cause: away
                    .as_ref()
                    .map_or_else(|| "it is not open yet".to_owned(), |(_, cause)| cause.clone()),
            }),
        }
    }

    /// Who this process is; nobody while it is not registered.
    pub(crate) fn me(&self) -> Option<Me> {
        self.state().me.clone()
    }

    /// The ID of this process while it is registered.
    pub(crate) fn process_id(&self) -> Option<String> {
        self.me().map(|me| me.id)
    }

    pub(crate) fn runs(&self) -> Runs {
        self.state().runs.clone()
    }

    /// What is in the way of a document as this node's configuration, as far as this process can tell.
    pub(crate) async fn check(&self, shared: &Arc<Shared>, document: &str) -> Result<(), String> {
        versions::check(shared, versions::candidate(self, 0, document, &self.runs().stopped)?).await
    }

    /// Another process has taken this one's place. What this one holds alone it gives back at once.
    pub(crate) fn be_replaced(&self) {
        self.state().is_replaced = true;
        self.contend.notify_one();
    }

    /// Looks at the store now instead of at the next round.
    pub(crate) fn look(&self) {
        self.look.notify_one();
    }

    /// Whether another process of the node acts instead of this one.
    pub(crate) fn is_standby(&self) -> bool {
        self.state().role == Role::Standby
    }

    pub(crate) fn view(&self, shared: &Shared) -> ClusterView {
        let state = self.state();
        let refused = state.refused.as_ref();
        ClusterView {
            node: self.local.node.clone(),
            process: state.me.as_ref().map(|me| me.id.clone()),
            epoch: state.me.as_ref().map(|me| me.epoch),
            role: state.role.name(),
            lease_epoch: match state.role {
                Role::Active { epoch } => Some(epoch),
                Role::Serving | Role::Standby => None,
            },
            config: ConfigView {
                version: state.runs.version,
                stopped: state.runs.stopped.clone(),
                refused: refused
                    .map(|(version, cause)| RefusedView { version: *version, cause: cause.clone() }),
                drift: self.drift(shared.live().snapshot.fingerprint),
            },
            store: StoreView {
                url: self.settings.url.to_string(),
                state: if state.away.is_some() { "away" } else { "available" },
                away_s: state.away.as_ref().map(|(since, _)| since.elapsed().as_secs_f64()),
                cause: state.away.as_ref().map(|(_, cause)| cause.clone()),
                warnings: state.store.as_ref().map_or_else(Vec::new, |store| store.warnings().to_vec()),
            },
        }
    }

    /// The file that was given to this process, if it says something else than what runs.
    fn drift(&self, running: u64) -> Option<String> {
        let file = self.file.as_ref().filter(|file| file.fingerprint != running)?;
        Some(file.name.clone())
    }

    /// What a process says of itself.
    fn process_state(&self, is_draining: bool) -> ProcessState {
        match self.state().role {
            _ if is_draining => ProcessState::Draining,
            Role::Standby => ProcessState::Standby,
            Role::Serving | Role::Active { .. } => ProcessState::Serving,
        }
    }

    /// The store has answered.
    fn is_back(&self) {
        if let Some((since, _)) = self.state().away.take() {
            tracing::info!("the store is back after {:.1} s", since.elapsed().as_secs_f64());
        }
    }

    /// The store has not answered. Said once.
    fn is_away(&self, error: &StoreError) {
        let mut state = self.state();
        if state.away.is_none() {
            tracing::error!(
                "{error}: serving on with version {} of node {}",
                state.runs.version,
                self.local.node
            );
            state.away = Some((Instant::now(), error.to_string()));
        }
    }
}

/// Starts what keeps this process in its cluster.
pub(crate) fn spawn(shared: &Arc<Shared>, cluster: &Arc<Cluster>, document: Option<String>) {
    if let Some(document) = document {
        let (cluster, runs) = (Arc::clone(cluster), cluster.runs());
        tokio::spawn(async move { versions::keep_copy(&cluster, runs, document).await });
    }
    tokio::spawn(member::rounds(Arc::clone(shared), Arc::clone(cluster)));
    tokio::spawn(passive::rounds(Arc::clone(shared), Arc::clone(cluster)));
}

impl Cluster {
    /// Tells the others that this process is gone, in the time that an end may take. Its cores have ended: whatever it held may be another's.
    pub(crate) async fn leave(&self, patience: Duration) {
        let (store, me, role) = {
            let mut state = self.state();
            state.is_leaving = true;
            (state.store.clone(), state.me.take(), state.role)
        };
        let (Some(store), Some(me)) = (store, me) else { return };
        if let Role::Active { epoch } = role {
            self.standing.act_until(None);
            let name = passive::lease_name(self.node());
            // Whoever does not hear of it waits for the end of the lease.
            let _ = tokio::time::timeout(patience, store.release_lease(&name, &me.id, epoch)).await;
        }
        // Whoever does not hear of it sees no more beats.
        let left = tokio::time::timeout(patience, store.deregister(&me.id, me.epoch)).await;
        let id = &me.id;
        match left {
            Ok(Ok(())) => tracing::info!("process {id} has left node {}", self.local.node),
            Ok(Err(error)) => tracing::warn!("process {id} could not say that it leaves: {error}"),
            Err(_) => tracing::warn!("process {id} could not say that it leaves: no answer from the store"),
        }
        let _ = tokio::time::timeout(patience, store.close()).await;
    }
}
