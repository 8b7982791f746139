//! What surrounds the cores? The admin listener, aggregation, metrics, signals and the process's end, on one thread.
//!
//! Never on the request path: no request waits for anything in here, however comfortable it makes itself.
//!
//! Suggested reading order: [`ControlSetup`] and [`spawn`], `lifecycle` (signals, drain, the end), `supervisor` (who is told of it),
//! `bind` and `socket_file` (where it listens), `takeover` and `upgrade` (how another process takes its place), `live` (what
//! belongs to one generation of the configuration), `candidate`, `apply` and `reload` (how another
//! takes over), `certificates`, `membership` and `names` (who the endpoints are), `aggregate` and `latency`, `scarcity`,
//! `admin`, `catalogue` (every counter by name), `shards` (where they are), `stats` and `metrics` (two renderings),
//! `statistics` (the cluster's).

mod cluster;
mod lifecycle;
mod supervisor;

mod access_log;

pub mod bind;
mod socket_file;

mod takeover;
mod upgrade;

mod live;

mod apply;
mod candidate;
mod plan;
mod reload;
mod watch;

mod certificates;
mod tickets;

mod housekeeping;
mod log_level;

mod health;
mod membership;
mod names;

mod aggregate;
mod latency;
mod scarcity;

mod security;

mod admin;
mod connections;

mod catalogue;
mod cpu;
mod metrics;
mod shards;
mod statistics;
mod stats;

#[cfg(test)]
mod testing;

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, mpsc};
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime};

use arc_swap::ArcSwap;
use config::schema::Config;
use proxy::address::Address;
use proxy::core_main::Fellow;
use proxy::generation::Generation;
use proxy::roster::keeper::Keeper;
use tokio::sync::{Notify, Semaphore};
use tokio::task::JoinSet;

use crate::access_log::AccessLogs;
pub use crate::access_log::problems as access_log_problems;
use crate::admin::audit::Audit;
use crate::aggregate::Aggregator;
use crate::apply::Failure;
use crate::bind::HeldBack;
pub use crate::candidate::{Candidate, LocalTerms, Origin};
pub use crate::certificates::{Certificates, Note, Notes, Reloaded};
use crate::cluster::Cluster;
pub use crate::cluster::{
    Begun, Decision, Difference, EditError, Editor, JoinError, Joined, Joining, Local, LocalFile, Push,
    differences, join, node_of,
};
pub use crate::lifecycle::{CoreWatch, DRAIN_GRACE, Exit};
use crate::live::Live;
pub use crate::log_level::{LogControl, LogLevelError, LogLevels};
pub use crate::reload::Own;
use crate::security::Security;
pub use crate::socket_file::SocketFiles;
use crate::statistics::{LastOthers, Reporter};
pub use crate::supervisor::Supervisor;
use crate::supervisor::watchdog;
pub use crate::takeover::predecessor::{Predecessor, TakeOverError};
pub use crate::takeover::program::Program;
pub use crate::takeover::sockets::{Given, Held};
pub use crate::takeover::systemd::given as given_by_supervisor;
pub use crate::upgrade::TakeOver;
use crate::upgrade::Upgrades;

/// What is known of this process when it starts.
#[derive(Debug)]
pub struct ProcessInfo {
    /// Version of the program.
    pub version: &'static str,
    /// When it started, to tell how long it has been up.
    pub started: Instant,
    /// When it started, by the clock on the wall.
    pub started_at: SystemTime,
    /// The driver that all cores run.
    pub driver: String,
    /// Why it is not io_uring, when that was tried.
    pub uring_error: Option<String>,
    /// By index of the core.
    pub cores: Box<[CoreInfo]>,
}

/// Where a core runs.
#[derive(Debug, Default)]
pub struct CoreInfo {
    /// CPU that its thread is pinned to.
    pub cpu: usize,
    /// The kernel's number of its thread, set by the thread itself.
    pub thread_id: OnceLock<i32>,
}

/// Everything control is given.
#[derive(Debug)]
pub struct ControlSetup {
    /// What is known of the process.
    pub process: Arc<ProcessInfo>,
    /// What the cores run.
    pub generation: Arc<Generation>,
    /// The cores, by index.
    pub fellows: Arc<[Fellow]>,
    /// Where each listener was bound, by [`config::snapshot::ListenerId`].
    pub listener_addresses: Box<[Address]>,
    /// Writes who the endpoints are.
    pub keeper: Keeper,
    /// What private connections take from files.
    pub certificates: Arc<Certificates>,
    /// Every key of the configuration.
    pub schema: Arc<Config>,
    /// Where it comes from.
    pub origin: Origin,
    /// What is read again.
    pub own: Own,
    /// The cluster that the process has joined; `None` if it is alone.
    pub joined: Option<Joined>,
    /// The admin listener; `None` leaves signals as the only way in.
    pub admin: Option<TcpListener>,
    /// Where nobody is to find a listener once it is gone.
    pub socket_files: SocketFiles,
    /// Which log lines are written.
    pub log: LogControl,
    /// Who is told how the process is.
    pub supervisor: Supervisor,
    /// How another process takes its place.
    pub take_over: TakeOver,
}

/// What belongs to the process: the handlers, the rounds and the lifecycle share it on the control thread.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) process: Arc<ProcessInfo>,
    pub(crate) fellows: Arc<[Fellow]>,
    /// The generation of the configuration that the cores run.
    live: ArcSwap<Live>,
    security: OnceLock<Security>,
    /// The cluster that the process belongs to, if any.
    cluster: OnceLock<Arc<Cluster>>,
    /// Where the admin listener is, if there is one.
    pub(crate) admin_address: OnceLock<SocketAddr>,
    /// Held across a round, so that two queries do not ask the cores at once.
    pub(crate) aggregator: tokio::sync::Mutex<Aggregator>,
    socket_files: Mutex<SocketFiles>,
    pub(crate) upgrades: Upgrades,
    /// A place for each connection that admin has, and admin's for more.
    admin_places: Arc<Semaphore>,
    /// The process begins to accept.
    begun: Notify,
    /// What of the first configuration holds until the end, by key.
    pub(crate) fixed: Vec<(&'static str, String)>,
    /// Held while a configuration is applied: there is one at a time.
    pub(crate) applying: tokio::sync::Mutex<()>,
    /// Why the last one was not, if it was not.
    last_failure: Mutex<Option<Failure>>,
    /// The configuration that the process was started with, as it was last read.
    pub(crate) own: tokio::sync::Mutex<Own>,
    /// SIGHUP has come.
    pub(crate) hung_up: Notify,
    /// What is done again and again for the generation that runs.
    rounds: Mutex<JoinSet<()>>,
    /// The access logs that are being written.
    pub(crate) access_logs: AccessLogs,
    /// What the store holds of this process, and what it said last of others.
    pub(crate) reporter: tokio::sync::Mutex<Reporter>,
    pub(crate) others: LastOthers,
    /// What was changed, on its way to the store.
    pub(crate) audit: Audit,
    /// Which log lines are written.
    pub(crate) log: LogControl,
    /// Somebody has asked for what SIGTERM asks for.
    pub(crate) drain_asked: Arc<Notify>,
    pub(crate) supervisor: Supervisor,
    /// What the admin listener has answered.
    pub(crate) admin_served: connections::Served,
    draining: AtomicBool,
}

impl Shared {
    fn new(
        process: Arc<ProcessInfo>,
        live: Live,
        own: Own,
        (socket_files, take_over): (SocketFiles, TakeOver),
        log: LogControl,
        drain_asked: Arc<Notify>,
        supervisor: Supervisor,
    ) -> Arc<Self> {
        let aggregator = Aggregator::new(Arc::clone(&live.fellows), Arc::clone(&live.generation));
        Arc::new(Self {
            process,
            fixed: apply::fixed(&live.snapshot),
            fellows: Arc::clone(&live.fellows),
            live: ArcSwap::from_pointee(live),
            security: OnceLock::new(),
            cluster: OnceLock::new(),
            admin_address: OnceLock::new(),
            aggregator: tokio::sync::Mutex::new(aggregator),
            socket_files: Mutex::new(socket_files),
            upgrades: Upgrades::new(take_over),
            admin_places: Arc::new(Semaphore::new(connections::CONNECTIONS_MAX)),
            begun: Notify::new(),
            applying: tokio::sync::Mutex::new(()),
            last_failure: Mutex::default(),
            own: tokio::sync::Mutex::new(own),
            hung_up: Notify::new(),
            rounds: Mutex::default(),
            access_logs: AccessLogs::default(),
            reporter: tokio::sync::Mutex::default(),
            others: LastOthers::default(),
            audit: Audit::default(),
            log,
            drain_asked,
            supervisor,
            admin_served: connections::Served::default(),
            draining: AtomicBool::new(false),
        })
    }

    /// What the cores run. To be taken once by whoever answers a question, and again after each wait by whoever changes
    /// something.
    pub(crate) fn live(&self) -> Arc<Live> {
        self.live.load_full()
    }

    pub(crate) fn socket_files(&self) -> MutexGuard<'_, SocketFiles> {
        self.socket_files.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Begins what is done again and again for the generation that runs, and ends that for the one before. `asked` is dropped
    /// once all names were asked for.
    fn begin_rounds(&self, asked: Option<&mpsc::Sender<()>>) {
        let mut rounds = self.rounds.lock().unwrap_or_else(PoisonError::into_inner);
        *rounds = JoinSet::new();
        let live = self.live();
        names::spawn(&live, &mut rounds, asked);
        rounds.spawn(health::rounds(live));
    }

    pub(crate) fn last_failure(&self) -> MutexGuard<'_, Option<Failure>> {
        self.last_failure.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Has access logs opened anew, since somebody has moved their files.
    pub(crate) fn reopen_logs(&self, why: &str) -> usize {
        let count = self.access_logs.reopen();
        tracing::info!("{why}: {count} access logs are opened anew");
        count
    }

    /// Who may do what.
    pub(crate) fn security(&self) -> &Security {
        self.security.get_or_init(|| Security::new(self.live().snapshot.store.is_some()))
    }

    /// The cluster that the process belongs to; none when it is alone.
    pub(crate) fn cluster(&self) -> Option<&Arc<Cluster>> {
        self.cluster.get()
    }

    pub(crate) fn is_draining(&self) -> bool {
        self.draining.load(Ordering::Relaxed)
    }

    /// Another process serves: nothing new is begun here, and whoever still asks how it stands is not turned away.
    pub(crate) fn be_replaced(&self) {
        self.draining.store(true, Ordering::Relaxed);
    }

    pub(crate) fn begin_drain(&self) {
        self.draining.store(true, Ordering::Relaxed);
        self.live().generation.standing.drain();
    }
}

/// The running control thread.
#[derive(Debug)]
pub struct Control {
    thread: JoinHandle<Exit>,
    drain: Arc<Notify>,
    /// Closed once every name of the configuration was asked for.
    names_asked: mpsc::Receiver<()>,
    shared: Arc<Shared>,
}

impl Control {
    /// Waits until every name of the configuration was asked for, or for `timeout`; whether it was.
    #[must_use]
    pub fn wait_for_names(&self, timeout: Duration) -> bool {
        self.names_asked.recv_timeout(timeout) == Err(mpsc::RecvTimeoutError::Disconnected)
    }

    /// Says to whoever started the process that it serves.
    pub fn serves(&self) {
        self.shared.supervisor.ready(&self.shared.status_line());
    }

    /// Who started the process and watches it.
    #[must_use]
    pub fn supervisor(&self) -> &Supervisor {
        &self.shared.supervisor
    }

    /// Begins to accept by what was held back, and at the admin listener. The cores run.
    ///
    /// # Errors
    /// When the process whose place this one is to take does not want it any more.
    pub fn begin(
        &self,
        held_back: HeldBack,
        unwanted: Given,
        predecessor: Option<&Predecessor>,
    ) -> Result<(), TakeOverError> {
        if let Some(predecessor) = predecessor {
            predecessor.ready(unwanted.owners())?;
        }
        unwanted.tell_of_unwanted();
        drop(unwanted);
        self.shared.open(held_back);
        self.shared.begun.notify_one();
        if let Some(predecessor) = predecessor {
            predecessor.serving();
        }
        self.shared.upgrades.held().store(&self.shared.supervisor, &[]);
        Ok(())
    }

    /// Begins to drain, as SIGTERM does.
    pub fn drain(&self) {
        self.drain.notify_one();
    }

    /// Whether the process is to end, so that [`Self::wait`] returns at once.
    #[must_use]
    pub fn is_finished(&self) -> bool {
        self.thread.is_finished()
    }

    /// Waits for the end of the process: all cores drained, one of them broken, or a second signal.
    #[must_use]
    pub fn wait(self) -> Exit {
        self.thread.join().unwrap_or_else(|_| Exit::failure("the control thread panicked"))
    }
}

/// Starts the control thread. Signals are taken from the moment this returns; there is one [`CoreWatch`] for each
/// core's thread, in order.
///
/// # Errors
/// When no thread or no file descriptor is left.
pub fn spawn(setup: ControlSetup) -> io::Result<(Control, Vec<CoreWatch>)> {
    let drain = Arc::new(Notify::new());
    let (cluster, runtime, document) = match setup.joined {
        Some(joined) => {
            let (cluster, runtime, document) = Cluster::new(joined, &setup.generation, Arc::clone(&drain));
            (Some(Arc::new(cluster)), runtime, document)
        }
        None => (None, tokio::runtime::Builder::new_current_thread().enable_all().build()?, None),
    };
    let admin_address = setup.admin.as_ref().and_then(|admin| admin.local_addr().ok());
    let entered = runtime.enter();
    let signals = lifecycle::Signals::new()?;
    let admin = setup.admin.map(connections::adopt).transpose()?;
    drop(entered);

    let (watches, ends) = lifecycle::watch(setup.fellows.len());
    let live = Live::first(
        setup.generation,
        setup.fellows,
        setup.listener_addresses,
        setup.keeper,
        setup.certificates,
        (setup.schema, setup.origin),
    );
    let shared = Shared::new(
        setup.process,
        live,
        setup.own,
        (setup.socket_files, setup.take_over),
        setup.log,
        Arc::clone(&drain),
        setup.supervisor,
    );
    if shared.upgrades.last().is_none() {
        // There is nobody who answers here until this process does.
        shared.begun.notify_one();
    }
    if let Some(address) = admin_address {
        shared.admin_address.get_or_init(|| address);
    }
    if let Some(cluster) = cluster {
        shared.cluster.get_or_init(|| cluster);
    }
    shared.access_logs.begin(&shared.live().generation);
    let asked = Arc::clone(&drain);
    let told = Arc::clone(&shared);
    let (asked_for, names_asked) = mpsc::channel();
    let thread = std::thread::Builder::new().name("control".to_owned()).spawn(move || {
        let exit = runtime.block_on(async {
            if let Some(listener) = admin {
                tokio::spawn(serve_admin(Arc::clone(&shared), listener));
            }
            tokio::spawn(aggregate::rounds(Arc::clone(&shared)));
            tokio::spawn(statistics::rounds(Arc::clone(&shared)));
            tokio::spawn(admin::audit::write(Arc::clone(&shared)));
            tokio::spawn(housekeeping::rounds(Arc::clone(&shared)));
            tokio::spawn(tickets::rounds(Arc::clone(&shared)));
            tokio::spawn(log_level::rounds(Arc::clone(&shared)));
            tokio::spawn(membership::rounds(Arc::clone(&shared)));
            tokio::spawn(reload::rounds(Arc::clone(&shared)));
            tokio::spawn(watch::rounds(Arc::clone(&shared)));
            tokio::spawn(watchdog::rounds(Arc::clone(&shared)));
            tokio::spawn(upgrade::rounds(Arc::clone(&shared)));
            shared.begin_rounds(Some(&asked_for));
            tokio::spawn(security::rounds(Arc::clone(&shared), asked_for.clone()));
            if let Some(cluster) = shared.cluster() {
                cluster::spawn(&shared, cluster, document);
            }
            drop(asked_for);
            let exit = lifecycle::run(&shared, signals, ends, &asked).await;
            // Whatever else of the process still refers to them.
            *shared.socket_files() = SocketFiles::default();
            shared.access_logs.end();
            exit
        });
        // Who still reads a file that does not come is not waited for.
        runtime.shutdown_background();
        exit
    })?;
    Ok((Control { thread, drain, names_asked, shared: told }, watches))
}

/// Answers at the admin listener once the process has begun, until another process does.
async fn serve_admin(shared: Arc<Shared>, listener: tokio::net::TcpListener) {
    shared.begun.notified().await;
    tokio::select! {
        () = connections::serve(listener, admin::router(Arc::clone(&shared)), Arc::clone(&shared)) => {}
        () = shared.upgrades.admin_left.notified() => {}
    }
}
