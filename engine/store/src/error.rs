//! Why did the store not do it? By what the caller can do: try again, look again, ask an operator.
//!
//! Never says a secret: neither the password of a URL nor a value that was written.

use std::time::Duration;

use thiserror::Error;

/// Why the store did not do what it was asked.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum StoreError {
    /// No answer for now: out of reach, locked, full, too late. What was to be written may be there or not, but never half; try again later.
    #[error("the store is not available: {cause}")]
    Unavailable {
        /// What was tried and what came of it.
        cause: String,
    },
    /// Somebody else was first. Look again, then decide anew.
    #[error("{what}")]
    Conflict {
        /// What is there instead of what was expected.
        what: String,
        /// The version, epoch or revision that is there now; none if nothing is there.
        current: Option<u64>,
    },
    /// It will not work until an operator changes something.
    #[error("{cause}; {help}")]
    Refused {
        /// What is wrong.
        cause: String,
        /// What to do about it.
        help: String,
    },
    /// There is no such thing.
    #[error("there is no {what}")]
    Missing {
        /// What was asked for.
        what: String,
    },
    /// What is in the database cannot be: damaged, or written by somebody else.
    #[error("what the store holds cannot be read: {cause}")]
    Corrupt {
        /// What was read and what was expected.
        cause: String,
    },
}

impl StoreError {
    pub(crate) fn unavailable(cause: impl Into<String>) -> Self {
        Self::Unavailable { cause: cause.into() }
    }

    pub(crate) fn conflict(what: impl Into<String>, current: Option<u64>) -> Self {
        Self::Conflict { what: what.into(), current }
    }

    pub(crate) fn refused(cause: impl Into<String>, help: impl Into<String>) -> Self {
        Self::Refused { cause: cause.into(), help: help.into() }
    }

    pub(crate) fn missing(what: impl Into<String>) -> Self {
        Self::Missing { what: what.into() }
    }

    pub(crate) fn corrupt(cause: impl Into<String>) -> Self {
        Self::Corrupt { cause: cause.into() }
    }

    pub(crate) fn late(timeout: Duration) -> Self {
        Self::unavailable(format!("no answer within {timeout:?}"))
    }

    fn not_private(cause: &str) -> Self {
        Self::refused(
            format!("no private connection to the database: {cause}"),
            "see `sslmode` and `sslrootcert` in the store's URL, and whether the database speaks TLS",
        )
    }

    /// Whether the same call may succeed later by itself.
    #[must_use]
    pub fn is_unavailable(&self) -> bool {
        matches!(self, Self::Unavailable { .. })
    }
}

impl From<sqlx::Error> for StoreError {
    fn from(error: sqlx::Error) -> Self {
        use sqlx::Error;
        match error {
            Error::Database(error) => match error.code() {
                // Both have codes of their own, and only PostgreSQL's have five characters.
                Some(code) if code.len() == 5 => crate::postgres::explain(&code, error.message()),
                Some(code) => crate::sqlite::explain(&code, error.message()),
                None => Self::unavailable(error.message()),
            },
            Error::Tls(cause) => Self::not_private(&cause.to_string()),
            // A handshake that failed, such as one with a stranger.
            Error::Io(cause) if cause.kind() == std::io::ErrorKind::InvalidData => {
                Self::not_private(&cause.to_string())
            }
            Error::Configuration(cause) => Self::refused(
                format!("the database cannot be reached like that: {cause}"),
                "see the store's URL",
            ),
            Error::PoolTimedOut => Self::unavailable("no connection to the database in time"),
            Error::PoolClosed => Self::unavailable("it has been closed"),
            Error::Io(cause) => Self::unavailable(cause.to_string()),
            Error::Protocol(cause) => {
                Self::unavailable(format!("the database said something unexpected: {cause}"))
            }
            Error::WorkerCrashed => Self::unavailable("the database's thread has ended"),
            other => Self::corrupt(other.to_string()),
        }
    }
}
