//! How does a process begin to serve? Configuration, sockets, driver, cores, control, in this order.
//!
//! Never half-started: whatever can fail for the operator's reasons fails before the first thread runs.

use std::process::ExitCode;
use std::sync::{Arc, OnceLock};
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use anyhow::{Context as _, anyhow};
use config::snapshot::Snapshot;
use config::snapshot::security::{SecurityKind, SecurityModule};
use control::bind::{self, Bound};
use control::{
    Candidate, Control, ControlSetup, CoreInfo, CoreWatch, Given, LogControl, Predecessor, ProcessInfo,
    Program, Supervisor, TakeOver,
};
use proxy::core_main::{CoreSetup, Fellow, serve};
use proxy::generation::Generation;
use proxy::message::MAILBOX_CAPACITY;
use proxy::private::Private;
use proxy::roster::Roster;
use proxy::roster::keeper::Keeper;
use runtime::cores::CoreId;
use runtime::mailbox::mailbox;
use runtime::{CoreConfig, DriverKind};
use rustix::process::{Resource, getrlimit, setrlimit};

use crate::announce::Serving;
use crate::cli::RunArgs;
use crate::join;
use crate::logging;
use crate::privileges;
use crate::settings::{self, Source};

/// How long the cores may take to get their loops going before the process says so.
const CORES_START_TIMEOUT: Duration = Duration::from_secs(5);

/// How long the start waits for name servers: one of two that is gone still leaves time for the other.
const FIRST_ANSWERS_TIMEOUT: Duration = Duration::from_secs(5);

/// Serves until the process is to end.
pub(crate) fn run(args: &RunArgs) -> anyhow::Result<ExitCode> {
    let started = (Instant::now(), SystemTime::now());
    let log = logging::begin(args.log_format, &args.log_level);
    // Before anything is opened, and before another file can have the name.
    let program = Program::of_this_process().context("cannot tell which program this is")?;
    let (predecessor, given) = Predecessor::find(env!("CARGO_PKG_VERSION"))?.unzip();
    let given = given.unwrap_or_else(control::given_by_supervisor);
    let outcome = serve_as(args, started, log, program, predecessor.as_ref(), given);
    if let (Err(error), Some(predecessor)) = (&outcome, &predecessor) {
        predecessor.failed(&settings::with_problems(error));
    }
    outcome
}

fn serve_as(
    args: &RunArgs,
    started: (Instant, SystemTime),
    log: LogControl,
    program: Program,
    predecessor: Option<&Predecessor>,
    mut given: Given,
) -> anyhow::Result<ExitCode> {
    let (Candidate { snapshot, schema, origin }, own, joined) = match join::join(args)? {
        Some((candidate, own, joined)) => (candidate, own, Some(joined)),
        None => {
            let (candidate, own) = settings::load(args)?;
            (candidate, own, None)
        }
    };
    let supervisor = Supervisor::of_environment();
    let certificates = Arc::new(settings::certificates(&snapshot)?);
    let placement = args.cores.placement();
    raise_descriptor_limit();
    let identity = privileges::wanted(&snapshot)?;
    let bound = bind::bind(&snapshot, placement.len(), &mut given)?;
    let keeper = Keeper::new(&snapshot, |address| bind::address_of(address, &bound.addresses));
    if let Some(identity) = identity {
        privileges::give_up(&identity, &snapshot, args.config.as_deref())?;
    }
    // By whom they are written later: what is made here belongs to the user, and what only root may write is found now.
    let unwritable = control::access_log_problems(&snapshot);
    if !unwritable.is_empty() {
        return Err(anyhow!("{}", unwritable.join("; ")));
    }
    let driver = args.driver.settle();

    let Bound { per_core, addresses, socket_files, admin, held_back, held } = bound;
    let (admin, admin_address) = admin.unzip();
    let process = Arc::new(ProcessInfo {
        version: env!("CARGO_PKG_VERSION"),
        started: started.0,
        started_at: started.1,
        driver: driver.kind.to_string(),
        uring_error: driver.uring_error.as_ref().map(ToString::to_string),
        cores: placement.iter().map(|cpu| CoreInfo { cpu: cpu.id, thread_id: OnceLock::new() }).collect(),
    });
    let cores = prepare(
        &snapshot,
        &placement,
        driver.kind,
        per_core,
        keeper.roster(),
        Arc::new(certificates.private()),
    )?;
    let generation = Arc::clone(&cores[0].generation);
    let fellows = Arc::clone(&cores[0].fellows);
    let (control, watches) = control::spawn(ControlSetup {
        process: Arc::clone(&process),
        generation: Arc::clone(&generation),
        fellows,
        listener_addresses: addresses.clone(),
        keeper,
        certificates,
        schema,
        origin,
        own,
        joined,
        admin,
        socket_files,
        log,
        supervisor,
        take_over: TakeOver::new(Some(program), held, predecessor),
    })
    .context("cannot start the control thread")?;
    wait_for_names(&snapshot, &control);
    for (core, watch) in cores.into_iter().zip(watches) {
        spawn_core(core, watch, Arc::clone(&process)).context("cannot start a thread for a core")?;
    }
    if wait_until_running(&generation, &control)? {
        control.begin(held_back, given, predecessor)?;
        let source = Source::of(args);
        let cores = placement.len();
        let admin = admin_address;
        Serving { snapshot: &snapshot, source, listeners: &addresses, admin, driver: &driver, cores }
            .announce();
        control.serves();
    }
    let exit = control.wait();
    exit.error.map_or(Ok(ExitCode::from(exit.code)), |error| Err(anyhow!(error)))
}

/// Waits for the first answers of name servers, and for the keys of tokens, but not for ever: who comes meanwhile waits in the
/// kernel's queue.
fn wait_for_names(snapshot: &Snapshot, control: &Control) {
    let has_names = snapshot.upstreams.iter().any(|upstream| !upstream.names.is_empty());
    let is_check = |module: &SecurityModule| matches!(module.kind, SecurityKind::TokenCheck(_));
    let has_checks = snapshot.security.iter().any(is_check);
    if (has_names || has_checks) && !control.wait_for_names(FIRST_ANSWERS_TIMEOUT) {
        tracing::warn!(
            "not every name among the endpoints, or not every set of keys for tokens, was had within {} s: it is asked for \
             again, an upstream without an endpoint answers 503, and no token is believed without its key",
            FIRST_ANSWERS_TIMEOUT.as_secs()
        );
    }
}

/// Everything each core is given, by index.
fn prepare(
    snapshot: &Arc<Snapshot>,
    placement: &[CoreId],
    driver: DriverKind,
    per_core: Vec<Vec<(config::snapshot::ListenerId, runtime::Handle)>>,
    roster: &Arc<Roster>,
    private: Arc<Private>,
) -> anyhow::Result<Vec<CoreSetup>> {
    let mut configs = Vec::new();
    let mut mailboxes = Vec::new();
    let mut fellows = Vec::new();
    // A core that looks for work takes the CPU from the one it shares it with: eight on two CPUs lost a sixth of it so.
    let shares_cpu = |cpu: CoreId| placement.iter().filter(|other| **other == cpu).count() > 1;
    for (index, cpu) in placement.iter().enumerate() {
        let defaults = CoreConfig::new(index, driver).context("cannot prepare a core")?;
        let settings = &snapshot.process;
        let config = CoreConfig {
            cpu: Some(*cpu),
            // Half for clients, half for endpoints.
            buffers_per_lane: settings.buffers_per_core / 2,
            buffer_bytes: settings.buffer_bytes,
            spin_max: if shares_cpu(*cpu) { Duration::ZERO } else { settings.spin_max },
            ..defaults
        };
        let (sender, receiver) = mailbox(&config.remote, MAILBOX_CAPACITY);
        fellows.push(Fellow { sender });
        mailboxes.push(receiver);
        configs.push(config);
    }
    let fellows: Arc<[Fellow]> = fellows.into();
    let counters = configs.iter().map(|config| Arc::clone(&config.counters));
    let generation = Generation::first(Arc::clone(snapshot), Arc::clone(roster), private, counters);
    let parts = configs.into_iter().zip(mailboxes).zip(per_core);
    let setups = parts.map(|((config, mailbox), listeners)| CoreSetup {
        config,
        generation: Arc::clone(&generation),
        listeners,
        mailbox,
        fellows: Arc::clone(&fellows),
    });
    Ok(setups.collect())
}

fn spawn_core(setup: CoreSetup, watch: CoreWatch, process: Arc<ProcessInfo>) -> std::io::Result<()> {
    let index = setup.config.index;
    thread::Builder::new().name(format!("core-{index}")).spawn(move || {
        let thread_id = rustix::thread::gettid().as_raw_nonzero().get();
        // Set once: this thread is the only one that knows.
        let _ = process.cores[index].thread_id.set(thread_id);
        watch.ended(serve(setup));
    })?;
    Ok(())
}

/// Waits until every core's loop turns; false when the process is to end already.
fn wait_until_running(generation: &Generation, control: &Control) -> anyhow::Result<bool> {
    let deadline = Instant::now() + CORES_START_TIMEOUT;
    while !generation.stats.iter().all(|core| core.runtime.turns.value() > 0) {
        if control.is_finished() {
            return Ok(false);
        }
        if Instant::now() > deadline {
            return Err(anyhow!("the cores did not start within {} s", CORES_START_TIMEOUT.as_secs()));
        }
        thread::sleep(Duration::from_millis(1));
    }
    Ok(true)
}

/// A connection is a descriptor; the soft limit is set for programs that use select(2).
fn raise_descriptor_limit() {
    let mut limit = getrlimit(Resource::Nofile);
    if limit.current != limit.maximum {
        limit.current = limit.maximum;
        if let Err(error) = setrlimit(Resource::Nofile, limit) {
            tracing::warn!("cannot raise the limit of open files: {error}");
        }
    }
}
