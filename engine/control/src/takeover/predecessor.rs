//! Whose place is this process to take, and how does it tell that one what becomes of it? The side of the new process.
//!
//! Never accepts anybody before the old process has said so.

use std::env;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

use thiserror::Error;

use super::message::{self, Described, Message, Owner, PROTOCOL, SOCKETS_MAX};
use super::program::PREDECESSOR;
use super::sockets::Given;
use super::wire::{Wire, WireError};

/// How long the old process may take to answer: it waits for nothing.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);

/// How long the old process may take to tell its supervisor.
const END_TIMEOUT: Duration = Duration::from_secs(1);

/// The process whose place this one is to take.
#[derive(Debug)]
pub struct Predecessor {
    wire: Wire,
    pid: u32,
    version: String,
}

/// Why nothing came of it.
#[derive(Debug, Error)]
pub enum TakeOverError {
    /// There is nobody.
    #[error(
        "{PREDECESSOR} says that process {0} is to be replaced, and standard input is no connection to it: {1}"
    )]
    NoConnection(u32, io::Error),
    /// It did not say what it should.
    #[error("process {0}, which is to be replaced: {1}")]
    Silent(u32, String),
}

impl Predecessor {
    /// The process whose place this one is to take, if it was started for that, and what it listens on. To be asked once, before
    /// anything is read from standard input.
    ///
    /// # Errors
    /// When this process was started for that, and the other is not there or does not say what it should.
    pub fn find(version: &str) -> Result<Option<(Self, Given)>, TakeOverError> {
        // Who has only inherited the word is not meant.
        let Some(pid) = env::var(PREDECESSOR).ok().and_then(|pid| pid.parse::<u32>().ok()) else {
            return Ok(None);
        };
        if pid != std::os::unix::process::parent_id() {
            return Ok(None);
        }
        let wire = take_standard_input().map_err(|error| TakeOverError::NoConnection(pid, error))?;
        let mut predecessor = Self { wire, pid, version: String::new() };
        let sockets = predecessor.greet(version).map_err(|error| predecessor.silent(&error))?;
        Ok(Some((predecessor, Given::by_predecessor(sockets))))
    }

    fn silent(&self, error: &WireError) -> TakeOverError {
        TakeOverError::Silent(self.pid, error.to_string())
    }

    fn greet(&mut self, version: &str) -> Result<Vec<(Described, OwnedFd)>, WireError> {
        let hello =
            Message::Hello { protocol: PROTOCOL, version: version.to_owned(), pid: std::process::id() };
        self.wire.send(&hello, &[])?;
        let mut taken = Vec::new();
        loop {
            let (message, fds) = self.receive()?;
            let Message::Sockets { version, sockets, more } = message else { return Err(WireError::Garbled) };
            if sockets.len() != fds.len() || taken.len() + fds.len() > SOCKETS_MAX {
                return Err(WireError::Garbled);
            }
            taken.extend(sockets.into_iter().zip(fds));
            self.version = version;
            if !more {
                return Ok(taken);
            }
        }
    }

    fn receive(&self) -> Result<(Message, Vec<OwnedFd>), WireError> {
        self.wire.receive(Instant::now() + ANSWER_TIMEOUT, || false)
    }

    /// Its number.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// Version of its program.
    #[must_use]
    pub fn version(&self) -> &str {
        &self.version
    }

    /// Says that everything has been done that could fail, and waits for the word to begin. `unwanted` are those whose sockets are
    /// not taken.
    ///
    /// # Errors
    /// When the other process wants no more, or is gone.
    pub(crate) fn ready(&self, unwanted: Vec<Owner>) -> Result<(), TakeOverError> {
        let asked =
            self.wire.send(&Message::Ready { unwanted }, &[]).and_then(|()| match self.receive()? {
                (Message::Go, _) => Ok(()),
                _ => Err(WireError::Garbled),
            });
        asked.map_err(|error| self.silent(&error))
    }

    /// Says that this process accepts, and waits until the other has told everybody.
    pub(crate) fn serving(&self) {
        if let Err(error) = self.wire.send(&Message::Serving, &[]) {
            tracing::warn!("process {} does not hear that this one serves: {error}", self.pid);
            return;
        }
        // It says nothing more than that it closes the connection, and need not be waited for.
        let _ = self.wire.receive(Instant::now() + END_TIMEOUT, || false);
    }

    /// Says that nothing has come of it, and why. Whoever does not hear it sees this process end.
    pub fn failed(&self, error: &str) {
        let _ = self.wire.send(&message::failed(error), &[]);
    }
}

impl Drop for Predecessor {
    fn drop(&mut self) {
        // Standard input is the same connection, and nobody closes that.
        self.wire.close();
    }
}

/// The connection that was handed over.
fn take_standard_input() -> io::Result<Wire> {
    let socket = io::stdin().as_fd().try_clone_to_owned()?;
    Ok(Wire::over(socket)?)
}
