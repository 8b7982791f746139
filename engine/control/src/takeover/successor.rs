//! Does another process take the place of this one? It is started, handed the sockets, and waited for. The side of the old process.
//!
//! Never goes on without the child that it started: whoever does not serve in time is ended, and this process serves as before.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::process::{Child, ExitStatus};
use std::sync::atomic::{AtomicU8, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use thiserror::Error;

use super::message::{Described, Message, Owner, PROTOCOL, SOCKETS_PER_MESSAGE};
use super::program::Program;
use super::wire::{Wire, WireError};

/// How long a child that has closed the connection may take to end by itself, and how often to look.
const END_GRACE: Duration = Duration::from_secs(1);
const END_LOOK: Duration = Duration::from_millis(5);

/// How long a child may take from the word to begin to having begun: it opens what it holds.
const BEGIN_TIMEOUT: Duration = Duration::from_secs(5);

/// Whether another process takes over, as long as it is open.
#[derive(Debug, Default)]
pub(crate) struct Decision(AtomicU8);

const OPEN: u8 = 0;
const TAKEN: u8 = 1;
const CALLED_OFF: u8 = 2;

impl Decision {
    /// Lets the other process begin, unless it was called off.
    fn take(&self) -> bool {
        self.0.compare_exchange(OPEN, TAKEN, Ordering::AcqRel, Ordering::Acquire).is_ok()
    }

    /// Keeps the other process from beginning, unless it has been let.
    pub(crate) fn call_off(&self) {
        let _ = self.0.compare_exchange(OPEN, CALLED_OFF, Ordering::AcqRel, Ordering::Acquire);
    }

    fn is_called_off(&self) -> bool {
        self.0.load(Ordering::Acquire) == CALLED_OFF
    }
}

/// The process that serves now.
#[derive(Debug)]
pub(crate) struct Successor {
    pub(crate) pid: u32,
    pub(crate) version: String,
    /// Whose sockets it has not taken.
    pub(crate) unwanted: Vec<Owner>,
    /// It waits for the end of the connection: then everybody knows who serves.
    pub(crate) wire: Wire,
}

/// Why this process goes on.
#[derive(Debug, Error)]
pub(crate) enum UpgradeError {
    /// One at a time.
    #[error("an upgrade is under way already")]
    UnderWay,
    /// It ends anyway.
    #[error("the process drains")]
    Draining,
    /// When the first process of a container ends, everything in it does.
    #[error("this is process 1, with which its container ends: replace the container instead")]
    FirstProcess,
    /// The kernel's refusal.
    #[error("the sockets cannot be handed over: {0}")]
    Sockets(io::Error),
    /// There is no such program any more, or it cannot be run.
    #[error("{program} cannot be started: {error}")]
    NotStarted { program: String, error: io::Error },
    /// It has said why.
    #[error("the new process could not begin: {0}")]
    Refused(String),
    /// It has not said why.
    #[error("the new process ended before it served ({0}); what it wrote is in the log")]
    Ended(ExitStatus),
    /// It takes too long.
    #[error("the new process did not serve within {} s (process.upgrade_timeout)", .0.as_secs_f64())]
    Late(Duration),
    /// It is of a time that this one does not know.
    #[error(
        "the new program (version {version}) hands sockets over in another way ({theirs}, this one: {PROTOCOL}): restart \
         the process instead"
    )]
    OtherProtocol { version: String, theirs: u32 },
    /// It does not know what it is talking about.
    #[error("the new process: {0}")]
    Garbled(WireError),
    /// SIGTERM.
    #[error("the process drains, which ends the upgrade")]
    CalledOff,
}

/// Starts `program`, hands it the sockets and waits until it serves.
///
/// # Errors
/// Whatever is in the way; then the child is gone and nothing has changed.
pub(crate) fn start(
    program: &Program,
    version: &str,
    sockets: &[(Described, OwnedFd)],
    timeout: Duration,
    decision: &Decision,
) -> Result<Successor, UpgradeError> {
    let (wire, theirs) = Wire::pair().map_err(|error| UpgradeError::Sockets(error.into()))?;
    let child = program
        .start(theirs)
        .map_err(|error| UpgradeError::NotStarted { program: program.path().display().to_string(), error })?;
    let upgrade = Upgrade { wire, version, until: Instant::now() + timeout, timeout, decision };
    upgrade.run(sockets).map_err(|error| end(child, error))
}

struct Upgrade<'u> {
    wire: Wire,
    version: &'u str,
    until: Instant,
    timeout: Duration,
    decision: &'u Decision,
}

impl Upgrade<'_> {
    fn run(self, sockets: &[(Described, OwnedFd)]) -> Result<Successor, UpgradeError> {
        let (pid, version) = match self.receive()? {
            Message::Hello { protocol: PROTOCOL, version, pid } => (pid, version),
            Message::Hello { protocol: theirs, version, .. } => {
                return Err(UpgradeError::OtherProtocol { version, theirs });
            }
            message => return Err(unexpected(message)),
        };
        self.hand_over(sockets).map_err(|error| self.failed(error))?;
        let unwanted = match self.receive()? {
            Message::Ready { unwanted } => unwanted,
            message => return Err(unexpected(message)),
        };
        if !self.decision.take() {
            return Err(UpgradeError::CalledOff);
        }
        self.wire.send(&Message::Go, &[]).map_err(|error| self.failed(error))?;
        match self.wire.receive(Instant::now() + BEGIN_TIMEOUT, || false) {
            Ok((Message::Serving, _)) => Ok(Successor { pid, version, unwanted, wire: self.wire }),
            Ok((message, _)) => Err(unexpected(message)),
            Err(error) => Err(self.failed(error)),
        }
    }

    fn hand_over(&self, sockets: &[(Described, OwnedFd)]) -> Result<(), WireError> {
        let mut rest = sockets;
        loop {
            let (now, later) = rest.split_at(rest.len().min(SOCKETS_PER_MESSAGE));
            let fds: Vec<_> = now.iter().map(|(_, fd)| fd.as_fd()).collect();
            let message = Message::Sockets {
                version: self.version.to_owned(),
                sockets: now.iter().map(|(described, _)| described.clone()).collect(),
                more: !later.is_empty(),
            };
            self.wire.send(&message, &fds)?;
            if later.is_empty() {
                return Ok(());
            }
            rest = later;
        }
    }

    fn receive(&self) -> Result<Message, UpgradeError> {
        let received = self.wire.receive(self.until, || self.decision.is_called_off());
        received.map(|(message, _)| message).map_err(|error| self.failed(error))
    }

    fn failed(&self, error: WireError) -> UpgradeError {
        match error {
            // It may have said why before it closed.
            WireError::Closed => match self.wire.receive(Instant::now() + END_LOOK, || false) {
                Ok((Message::Failed { error }, _)) => UpgradeError::Refused(error),
                _ => UpgradeError::Garbled(WireError::Closed),
            },
            WireError::Late => UpgradeError::Late(self.timeout),
            WireError::CalledOff => UpgradeError::CalledOff,
            error => UpgradeError::Garbled(error),
        }
    }
}

fn unexpected(message: Message) -> UpgradeError {
    match message {
        Message::Failed { error } => UpgradeError::Refused(error),
        _ => UpgradeError::Garbled(WireError::Garbled),
    }
}

/// Sees to it that the child is gone; says how it ended where that is all that is known.
fn end(mut child: Child, error: UpgradeError) -> UpgradeError {
    let is_closed = matches!(error, UpgradeError::Garbled(WireError::Closed));
    let ends_by_itself = is_closed || matches!(error, UpgradeError::Refused(_));
    let until = Instant::now() + END_GRACE;
    // What it has to say it says in the log as well.
    while ends_by_itself && Instant::now() < until && matches!(child.try_wait(), Ok(None)) {
        thread::sleep(END_LOOK);
    }
    // As long as nobody has waited for it, its number is nobody else's; std knows.
    let _ = child.kill();
    match child.wait() {
        Ok(status) if is_closed => UpgradeError::Ended(status),
        _ => error,
    }
}
