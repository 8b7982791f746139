//! What do the processes of a cluster know together? Configuration, who is there, sessions, keys: in one database.
//!
//! Never on a request's way: whoever asks here can wait, and goes on with what it knows when there is no answer.
//!
//! A [`Store`] is opened once for a process and cloned freely. Every call is bounded by [`StoreSettings::timeout`]; what can go wrong is in
//! [`StoreError`], by what the caller can do about it. SQLite and PostgreSQL keep the same rules, and the same tests hold for both.

mod accounts;
mod audit;
mod configuration;
mod database;
mod error;
mod keys;
mod leases;
mod migrate;
mod modules;
mod open;
mod postgres;
mod processes;
mod revisions;
mod revocations;
mod seal;
mod sessions;
mod settings;
mod sqlite;
mod statistics;

use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

pub use accounts::{AccountRow, NewAccount};
pub use audit::{AuditEntry, AuditFilter, AuditRow};
pub use configuration::{
    Activation, ConfigCheck, ConfigState, ConfigSummary, ConfigVersion, FirstSave, NewConfig, NodeRow,
};
pub use error::StoreError;
pub use keys::{KeyRow, NewKey};
pub use leases::LeaseRow;
pub use modules::ModuleState;
pub use processes::{Beat, BeatAnswer, NewProcess, ProcessRow, ProcessState, Wish};
pub use revisions::Revisions;
pub use revocations::Revocation;
pub use seal::SealingKey;
pub use sessions::{EndedSession, NewSession, SessionRow};
pub use settings::{StoreSettings, StoreUrl};
pub use statistics::StatsRow;

/// What the processes of a cluster share. Cheap to clone; all clones are the same store.
#[derive(Clone, Debug)]
pub struct Store(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    database: database::Database,
    key: Option<SealingKey>,
    warnings: Vec<String>,
    hints: Option<postgres::Hints>,
}

impl Store {
    fn database(&self) -> &database::Database {
        &self.0.database
    }
}

/// A moment by the database's clock: milliseconds since 1970. To be shown, or compared with another of the same store; never with the
/// clock of a process, which may differ.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct UnixMillis(pub u64);

impl UnixMillis {
    /// How long after `earlier` it is; zero if it is not.
    #[must_use]
    pub const fn since(self, earlier: Self) -> Duration {
        Duration::from_millis(self.0.saturating_sub(earlier.0))
    }

    /// So much later.
    #[must_use]
    pub fn after(self, duration: Duration) -> Self {
        Self(self.0.saturating_add(u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)))
    }
}
