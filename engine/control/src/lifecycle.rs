//! When and how does the process end? Signals in, drain, the ends of the cores, an exit code out.
//!
//! Never ends the process itself: that is for `main` to do.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use proxy::core_main::Fellow;
use proxy::message::{CoreMessage, Left};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::{Notify, mpsc};

use crate::Shared;
use crate::connections::CONNECTIONS_MAX;
use crate::statistics;
use crate::supervisor::tell_of_drain;
use crate::takeover::sockets::Held;

/// What cores get on top of the drain timeout to close what is left.
const CORE_END_GRACE: Duration = Duration::from_secs(2);

/// How long the store may take to hear that the process leaves. Whoever is not told sees no more beats.
const LEAVE_TIMEOUT: Duration = Duration::from_secs(2);

/// What a drain may take beside its delay and its timeout.
pub const DRAIN_GRACE: Duration = Duration::from_secs(CORE_END_GRACE.as_secs() + LEAVE_TIMEOUT.as_secs());

/// How long answers of the admin listener may take that have begun.
const ANSWERS_TIMEOUT: Duration = Duration::from_millis(500);

/// Pause before cores whose mailbox is full are told again to drain.
const MAILBOX_RETRY: Duration = Duration::from_millis(5);

/// Exit code of a failure.
const FAILURE: u8 = 1;

/// Exit codes of a process that a signal ended begin here, as shells count.
const SIGNAL_BASE: u8 = 128;

/// How the process is to end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Exit {
    /// 0 after a drain, 1 after a failure, 128 + number after a second signal.
    pub code: u8,
    /// What went wrong, in one line.
    pub error: Option<String>,
}

impl Exit {
    pub(crate) fn failure(error: impl Into<String>) -> Self {
        Self { code: FAILURE, error: Some(error.into()) }
    }
}

/// Tells control how a core's thread ended; dropping it without a word, as a panic does, counts as a failure.
#[derive(Debug)]
pub struct CoreWatch {
    core: usize,
    ends: Option<mpsc::Sender<CoreEnd>>,
}

impl CoreWatch {
    /// Index of the core it is for.
    #[must_use]
    pub fn core(&self) -> usize {
        self.core
    }

    /// The core's thread is done.
    pub fn ended(mut self, outcome: io::Result<()>) {
        self.tell(outcome.map_err(|error| error.to_string()));
    }

    fn tell(&mut self, outcome: Result<(), String>) {
        if let Some(ends) = self.ends.take() {
            // There is room for one end of each core; without a reader the process is ending anyway.
            let _ = ends.try_send(CoreEnd { core: self.core, outcome });
        }
    }
}

impl Drop for CoreWatch {
    fn drop(&mut self) {
        self.tell(Err("its thread panicked".to_owned()));
    }
}

/// The end of one core.
#[derive(Debug)]
pub(crate) struct CoreEnd {
    core: usize,
    outcome: Result<(), String>,
}

/// A watch for each core, and where their ends come out.
pub(crate) fn watch(cores: usize) -> (Vec<CoreWatch>, mpsc::Receiver<CoreEnd>) {
    let (sender, receiver) = mpsc::channel(cores.max(1));
    let watches = (0..cores).map(|core| CoreWatch { core, ends: Some(sender.clone()) }).collect();
    (watches, receiver)
}

/// The signals that are listened to.
pub(crate) struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hang_up: Signal,
    reopen: Signal,
    upgrade: Signal,
}

/// A signal that asks for the end.
#[derive(Clone, Copy)]
enum EndSignal {
    Terminate,
    Interrupt,
}

impl EndSignal {
    const fn name(self) -> &'static str {
        match self {
            Self::Terminate => "SIGTERM",
            Self::Interrupt => "SIGINT",
        }
    }

    const fn number(self) -> u8 {
        match self {
            Self::Terminate => 15,
            Self::Interrupt => 2,
        }
    }
}

impl Signals {
    /// Replaces the default actions; must be called within tokio's runtime.
    pub(crate) fn new() -> io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hang_up: signal(SignalKind::hangup())?,
            reopen: signal(SignalKind::user_defined1())?,
            upgrade: signal(SignalKind::user_defined2())?,
        })
    }

    /// Waits for a signal that asks for the end, and answers the others.
    async fn end(&mut self, shared: &Shared) -> EndSignal {
        loop {
            tokio::select! {
                _ = self.terminate.recv() => return EndSignal::Terminate,
                _ = self.interrupt.recv() => return EndSignal::Interrupt,
                _ = self.hang_up.recv() => shared.hung_up.notify_one(),
                _ = self.reopen.recv() => drop(shared.reopen_logs("SIGUSR1")),
                _ = self.upgrade.recv() => shared.upgrades.asked.notify_one(),
            }
        }
    }
}

/// Runs until the process is to end.
pub(crate) async fn run(
    shared: &Shared,
    mut signals: Signals,
    mut ends: mpsc::Receiver<CoreEnd>,
    drain_asked: &Notify,
) -> Exit {
    let left = tokio::select! {
        signal = signals.end(shared) => {
            tracing::info!("{}: draining", signal.name());
            None
        }
        () = drain_asked.notified() => {
            tracing::info!("draining");
            None
        }
        left = shared.upgrades.is_taken_over() => Some(left),
        end = ends.recv() => return Exit::failure(unexpected(end)),
    };
    tokio::select! {
        exit = drain(shared, &mut ends, left) => exit,
        never = tell_of_drain(shared) => match never {},
        signal = signals.end(shared) => {
            tracing::warn!("{} while draining: ending at once", signal.name());
            Exit { code: SIGNAL_BASE + signal.number(), error: None }
        }
    }
}

/// Nobody is to be sent here any more. Where another process has taken over meanwhile, says whose sockets it has.
async fn turn_away(shared: &Shared) -> Option<Left> {
    // From here on none can take over that has not been told to.
    shared.be_replaced();
    let left = shared.upgrades.call_off().await;
    if left.is_some() {
        return left;
    }
    shared.begin_drain();
    let delay = shared.live().snapshot.terms.drain_delay;
    if !delay.is_zero() {
        // Balancers in front are told before anybody is turned away.
        tracing::info!("/endpoint-health says so for {} ms before the listeners close", delay.as_millis());
        tokio::time::sleep(delay).await;
    }
    None
}

fn unexpected(end: Option<CoreEnd>) -> String {
    match end {
        Some(CoreEnd { core, outcome: Ok(()) }) => format!("core {core} ended without having been asked to"),
        Some(CoreEnd { core, outcome: Err(error) }) => format!("core {core} failed: {error}"),
        None => "all cores are gone".to_owned(),
    }
}

/// Tells every core to finish what it has and waits for all of them. The sockets of listeners that are `left` are another
/// process's, which has taken this one's place.
async fn drain(shared: &Shared, ends: &mut mpsc::Receiver<CoreEnd>, left: Option<Left>) -> Exit {
    let left = match left {
        Some(left) => Some(left),
        None => turn_away(shared).await,
    };
    // What a supervisor keeps the next process goes on with.
    let left = left.unwrap_or_else(|| {
        let held = shared.upgrades.held();
        held.withdraw(&shared.supervisor);
        held.kept()
    });
    shared.aggregator.lock().await.retire().await;
    // Before the cores: who comes from here on finds nobody, or who has taken this process's place.
    {
        let mut files = shared.socket_files();
        files.leave(&left);
        files.begin_drain();
    }
    *shared.upgrades.held() = Held::default();
    let timeout = shared.live().snapshot.process.drain_timeout;
    let all_ended = async {
        let mut untold: Vec<(&Fellow, CoreMessage)> = Vec::new();
        {
            let mut aggregator = shared.aggregator.lock().await;
            for (core, fellow) in shared.fellows.iter().enumerate() {
                untold.push((
                    fellow,
                    CoreMessage::Drain { timeout, left: Arc::clone(&left), last: aggregator.last_word(core) },
                ));
            }
        }
        while !untold.is_empty() {
            let told = untold.into_iter();
            untold = told
                .filter_map(|(fellow, message)| Some((fellow, fellow.sender.send(message).err()?)))
                .collect();
            if !untold.is_empty() {
                tokio::time::sleep(MAILBOX_RETRY).await;
            }
        }
        let mut failure = None;
        for _ in 0..shared.fellows.len() {
            match ends.recv().await {
                Some(CoreEnd { outcome: Ok(()), .. }) => {}
                end => failure = Some(unexpected(end)),
            }
        }
        failure
    };
    let ended = tokio::time::timeout(timeout + CORE_END_GRACE, all_ended).await;
    if matches!(ended, Ok(None)) {
        shared.aggregator.lock().await.take_last_words();
        statistics::last(shared).await;
    }
    if let Some(cluster) = shared.cluster() {
        cluster.leave(LEAVE_TIMEOUT).await;
    }
    // Who was told of an upgrade is to hear all of it.
    let places = u32::try_from(CONNECTIONS_MAX).unwrap_or(u32::MAX);
    let _ = tokio::time::timeout(ANSWERS_TIMEOUT, shared.admin_places.acquire_many(places)).await;
    match ended {
        Ok(None) => {
            tracing::info!("drained");
            Exit { code: 0, error: None }
        }
        Ok(Some(error)) => Exit::failure(error),
        Err(_) => Exit::failure("some cores did not end within the drain timeout"),
    }
}
