//! Which driver runs? What was asked for, or what this kernel and sandbox allow.
//!
//! Never fails: epoll works everywhere.

use std::fmt;
use std::io;
use std::str::FromStr;

use super::uring;

/// What the operator asked for with `--driver`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum DriverChoice {
    /// The one that measured best where it works: io_uring, else epoll. See docs/decisions/0002.
    #[default]
    Auto,
    /// io_uring; epoll when its set-up fails.
    Uring,
    /// epoll.
    Epoll,
}

/// Why a value of `--driver` was refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DriverChoiceError(String);

impl fmt::Display for DriverChoiceError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "'{}' is not a driver: give 'auto', 'uring' or 'epoll'", self.0)
    }
}

impl std::error::Error for DriverChoiceError {}

impl FromStr for DriverChoice {
    type Err = DriverChoiceError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "auto" => Ok(Self::Auto),
            "uring" | "io_uring" => Ok(Self::Uring),
            "epoll" => Ok(Self::Epoll),
            _ => Err(DriverChoiceError(text.to_owned())),
        }
    }
}

/// A driver that runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DriverKind {
    /// Edge-triggered epoll.
    Epoll,
    /// io_uring with a multishot poll for each socket.
    Uring,
    /// A network in memory; see [`crate::simulation`].
    #[cfg(feature = "simulation")]
    Simulated,
}

impl fmt::Display for DriverKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Epoll => "epoll",
            Self::Uring => "io_uring",
            #[cfg(feature = "simulation")]
            Self::Simulated => "simulated",
        })
    }
}

/// The driver that won, and why it was not the other one.
#[derive(Debug)]
pub struct Chosen {
    /// The driver to run.
    pub kind: DriverKind,
    /// The error that made io_uring unusable, if it was tried.
    pub uring_error: Option<io::Error>,
}

impl DriverChoice {
    /// Tries what was asked for and settles for what works. Any io_uring error falls back to epoll.
    #[must_use]
    pub fn settle(self) -> Chosen {
        match self {
            Self::Epoll => Chosen { kind: DriverKind::Epoll, uring_error: None },
            Self::Auto | Self::Uring => match uring::probe() {
                Ok(()) => Chosen { kind: DriverKind::Uring, uring_error: None },
                Err(error) => Chosen { kind: DriverKind::Epoll, uring_error: Some(error) },
            },
        }
    }
}
