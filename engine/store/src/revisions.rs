//! Has anything changed since I looked? One cheap question, asked twice a second by every process.
//!
//! Never says what changed: whoever finds a number grown reads its subject.

use crate::database::{Row, values};
use crate::error::StoreError;
use crate::{Store, UnixMillis};

/// A number for each subject that grows with every change of it, and never otherwise.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Revisions {
    /// Configuration: versions, their states, and what processes found when they checked them.
    pub config: u64,
    /// Which modules are stopped.
    pub modules: u64,
    /// Keys: tickets', cookies', tokens'.
    pub keys: u64,
    /// Sessions that ended. Those that begin or are used change nothing that another process has to know at once.
    pub sessions: u64,
    /// Tokens that were revoked.
    pub revocations: u64,
    /// Users and clients.
    pub users: u64,
    /// Who is there, in which state, running what, and what is wished of it. Beats alone do not count.
    pub processes: u64,
}

impl Store {
    /// What has changed how often.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`], [`StoreError::Corrupt`].
    pub async fn revisions(&self) -> Result<Revisions, StoreError> {
        let rows = self.database().rows("SELECT name, value FROM counter", values![]).await?;
        Revisions::read(&rows)
    }

    /// What the database's own clock says; it is what lifetimes in the store are measured by.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`].
    pub async fn now(&self) -> Result<UnixMillis, StoreError> {
        let row = self.database().row("SELECT NOW_MS() AS now", values![]).await?;
        row.ok_or_else(|| StoreError::corrupt("the database does not say its time"))?.time("now")
    }
}

impl Revisions {
    fn read(rows: &[Row]) -> Result<Self, StoreError> {
        let mut revisions = Self::default();
        for row in rows {
            let number = row.number("value")?;
            match row.text("name")?.as_str() {
                "config" => revisions.config = number,
                "modules" => revisions.modules = number,
                "keys" => revisions.keys = number,
                "sessions" => revisions.sessions = number,
                "revocations" => revisions.revocations = number,
                "users" => revisions.users = number,
                "processes" => revisions.processes = number,
                // Numbers that were given away, of processes and of the audit log.
                _ => {}
            }
        }
        Ok(revisions)
    }
}
