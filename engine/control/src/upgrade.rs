//! How is the program replaced while it serves? A new process is started, takes the sockets over and serves; this one finishes what
//! it has begun.
//!
//! Never two at a time, and never half: what is in the way leaves this process as it was, and is told.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use proxy::message::Left;
use serde::Serialize;
use tokio::sync::Notify;
use utoipa::ToSchema;

use crate::Shared;
use crate::certificates::date;
use crate::takeover::message::{Described, Owner};
use crate::takeover::predecessor::Predecessor;
use crate::takeover::program::Program;
use crate::takeover::sockets::Held;
use crate::takeover::successor::{self, Decision, Successor, UpgradeError};

/// How long a drain waits for the end of an upgrade that it has called off, or that had been decided before.
const END_TIMEOUT: Duration = Duration::from_secs(10);

/// What a process needs to be replaced.
#[derive(Debug)]
pub struct TakeOver {
    /// What is started then.
    pub program: Option<Program>,
    /// What is handed over.
    pub held: Held,
    /// Whose place this process has taken.
    pub predecessor: Option<(u32, String)>,
}

impl TakeOver {
    /// Of a process that is started as `program`.
    #[must_use]
    pub fn new(program: Option<Program>, held: Held, predecessor: Option<&Predecessor>) -> Self {
        let predecessor = predecessor.map(|former| (former.pid(), former.version().to_owned()));
        Self { program, held, predecessor }
    }
}

/// What became of the last upgrade that this process took part in.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub(crate) struct LastUpgrade {
    at: String,
    /// `taken_over` (this process took another's place), `handed_over` (another took its), `failed` (this process goes on).
    outcome: &'static str,
    /// The other process, where it is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pid: Option<u32>,
    /// Version of its program.
    #[serde(skip_serializing_if = "Option::is_none")]
    version: Option<String>,
    /// Why nothing came of it.
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
}

/// A program that was replaced.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Upgraded {
    /// The process that serves now.
    pid: u32,
    /// Version of its program.
    version: String,
    /// This process, which finishes what it has begun.
    former_pid: u32,
    /// Version of its program.
    former_version: &'static str,
    /// How long it took, in milliseconds.
    took_ms: u64,
    /// Listeners that the new process has not, and that this one closes as at a drain.
    closed: Vec<String>,
}

/// What is known of replacing the program.
#[derive(Debug)]
pub(crate) struct Upgrades {
    program: Option<Program>,
    held: Mutex<Held>,
    /// Held while one is under way.
    busy: tokio::sync::Mutex<()>,
    /// Of the one that is under way.
    decision: Mutex<Arc<Decision>>,
    /// Whose sockets another process has taken.
    left: Mutex<Option<Left>>,
    /// It has.
    is_left: Notify,
    last: Mutex<Option<LastUpgrade>>,
    failed: AtomicU64,
    /// SIGUSR2 has come.
    pub(crate) asked: Notify,
    /// Admin accepts no more.
    pub(crate) admin_left: Notify,
}

impl Upgrades {
    pub(crate) fn new(take_over: TakeOver) -> Self {
        let TakeOver { program, held, predecessor } = take_over;
        let last = predecessor.map(|(pid, version)| LastUpgrade {
            at: date(SystemTime::now()),
            outcome: "taken_over",
            pid: Some(pid),
            version: Some(version),
            error: None,
        });
        Self {
            program,
            held: Mutex::new(held),
            busy: tokio::sync::Mutex::default(),
            decision: Mutex::default(),
            left: Mutex::default(),
            is_left: Notify::new(),
            last: Mutex::new(last),
            failed: AtomicU64::new(0),
            asked: Notify::new(),
            admin_left: Notify::new(),
        }
    }

    /// Descriptors of what the process listens on.
    pub(crate) fn held(&self) -> MutexGuard<'_, Held> {
        lock(&self.held)
    }

    pub(crate) fn last(&self) -> Option<LastUpgrade> {
        lock(&self.last).clone()
    }

    /// Whether this process has taken another's place.
    pub(crate) fn has_taken_over(&self) -> bool {
        lock(&self.last).as_ref().is_some_and(|last| last.outcome == "taken_over")
    }

    /// How many have come to nothing.
    pub(crate) fn failed(&self) -> u64 {
        self.failed.load(Ordering::Relaxed)
    }

    /// Waits until another process has taken over; says whose sockets it has.
    pub(crate) async fn is_taken_over(&self) -> Left {
        loop {
            if let Some(left) = lock(&self.left).take() {
                return left;
            }
            self.is_left.notified().await;
        }
    }

    /// Ends what is under way, for the process drains. Where it has been decided, says whose sockets another process has now.
    pub(crate) async fn call_off(&self) -> Option<Left> {
        lock(&self.decision).call_off();
        let _over = tokio::time::timeout(END_TIMEOUT, self.busy.lock()).await;
        lock(&self.left).take()
    }

    fn note(&self, outcome: &Result<Upgraded, UpgradeError>) {
        let last = match outcome {
            Ok(upgraded) => LastUpgrade {
                at: date(SystemTime::now()),
                outcome: "handed_over",
                pid: Some(upgraded.pid),
                version: Some(upgraded.version.clone()),
                error: None,
            },
            // What has not begun has not failed.
            Err(UpgradeError::UnderWay | UpgradeError::Draining) => return,
            Err(error) => {
                self.failed.fetch_add(1, Ordering::Relaxed);
                LastUpgrade {
                    at: date(SystemTime::now()),
                    outcome: "failed",
                    pid: None,
                    version: None,
                    error: Some(error.to_string()),
                }
            }
        };
        *lock(&self.last) = Some(last);
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Shared {
    /// Has another process take the place of this one, and lets it drain then. Whether or not somebody waits for the outcome.
    pub(crate) async fn upgrade(self: &Arc<Self>) -> Result<Upgraded, UpgradeError> {
        let shared = Arc::clone(self);
        let upgrade = tokio::spawn(async move {
            let outcome = shared.replace().await;
            shared.upgrades.note(&outcome);
            tell(&outcome);
            outcome
        });
        // A task that panics has ended no child; the process goes on as it is.
        upgrade.await.unwrap_or(Err(UpgradeError::CalledOff))
    }

    async fn replace(self: &Arc<Self>) -> Result<Upgraded, UpgradeError> {
        let since = Instant::now();
        let upgrades = &self.upgrades;
        let Ok(_busy) = upgrades.busy.try_lock() else { return Err(UpgradeError::UnderWay) };
        if self.is_draining() {
            return Err(UpgradeError::Draining);
        }
        if std::process::id() == 1 {
            return Err(UpgradeError::FirstProcess);
        }
        // What is handed over is what is listened on until it is.
        let _applying = self.applying.lock().await;
        let decision = Arc::new(Decision::default());
        *lock(&upgrades.decision) = Arc::clone(&decision);
        if self.is_draining() {
            return Err(UpgradeError::Draining);
        }
        let sockets = upgrades.held().duplicate().map_err(UpgradeError::Sockets)?;
        let listeners: Vec<Owner> = owners(&sockets);
        let program = upgrades.program.clone().ok_or(UpgradeError::Draining)?;
        let (version, timeout) = (self.process.version, self.live().snapshot.process.upgrade_timeout);
        tracing::info!("upgrade: starting {}", program.path().display());
        let started = tokio::task::spawn_blocking(move || {
            successor::start(&program, version, &sockets, timeout, &decision)
        });
        let successor = started.await.unwrap_or(Err(UpgradeError::CalledOff))?;
        // From here on nothing waits, and nothing can fail.
        let Successor { pid, version, unwanted, wire } = successor;
        let closed = unwanted.iter().map(ToString::to_string).collect();
        self.supervisor.hand_over(pid);
        self.leave(&listeners, &unwanted);
        drop(wire);
        let took_ms = u64::try_from(since.elapsed().as_millis()).unwrap_or(u64::MAX);
        let former = (std::process::id(), self.process.version);
        Ok(Upgraded { pid, version, former_pid: former.0, former_version: former.1, took_ms, closed })
    }

    /// The sockets of these, less what is `unwanted`, are another process's from now on.
    fn leave(&self, all: &[Owner], unwanted: &[Owner]) {
        let taken = || all.iter().filter(|owner| !unwanted.contains(owner));
        let left: Left = taken()
            .filter_map(|owner| match owner {
                Owner::Listener(name) => Some(Box::from(name.as_str())),
                Owner::Admin => None,
            })
            .collect();
        if taken().any(|owner| *owner == Owner::Admin) {
            self.upgrades.admin_left.notify_one();
        }
        self.be_replaced();
        if let Some(cluster) = self.cluster() {
            cluster.be_replaced();
        }
        *lock(&self.upgrades.left) = Some(left);
        self.upgrades.is_left.notify_one();
    }
}

/// Whose sockets these are, each once.
fn owners(sockets: &[(Described, std::os::fd::OwnedFd)]) -> Vec<Owner> {
    let mut owners: Vec<Owner> = Vec::new();
    for (described, _) in sockets {
        if !owners.contains(&described.owner) {
            owners.push(described.owner.clone());
        }
    }
    owners
}

/// Answers SIGUSR2. One that comes while another is under way is told so.
pub(crate) async fn rounds(shared: Arc<Shared>) {
    loop {
        shared.upgrades.asked.notified().await;
        let shared = Arc::clone(&shared);
        tokio::spawn(async move { shared.upgrade().await });
    }
}

/// What became of it, in the log.
fn tell(outcome: &Result<Upgraded, UpgradeError>) {
    match outcome {
        Ok(Upgraded { pid, version, took_ms, closed, .. }) => {
            tracing::info!("upgrade: process {pid} (version {version}) serves now, after {took_ms} ms");
            if !closed.is_empty() {
                tracing::info!("upgrade: it does not listen as {}", closed.join(", "));
            }
        }
        Err(error) => tracing::error!("upgrade: {error}; this process goes on as before"),
    }
}
