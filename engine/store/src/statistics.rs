//! What have the processes counted? Each puts its own here, and whoever wants the cluster's adds them up.
//!
//! Never looks into them, and keeps none of a process that is gone.

use crate::database::{Row, values};
use crate::error::StoreError;
use crate::{Store, UnixMillis};

/// What one process has counted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StatsRow {
    /// Its id.
    pub process: String,
    /// Of which node.
    pub node: String,
    /// When it was put here.
    pub taken_at: UnixMillis,
    /// The figures, as they were put here.
    pub blob: Vec<u8>,
}

impl Store {
    /// Puts a process's figures in the place of its last ones.
    ///
    /// # Errors
    /// [`StoreError::Conflict`] if there is no such process any more.
    pub async fn put_stats(&self, process: &str, blob: &[u8]) -> Result<(), StoreError> {
        let sql = "INSERT INTO stats (process, taken_at, figures) SELECT id, NOW_MS(), $2 FROM process WHERE id = $1 \
                   ON CONFLICT (process) DO UPDATE SET taken_at = excluded.taken_at, figures = excluded.figures RETURNING process";
        match self.database().write(sql, values![process, blob]).await?.pop() {
            Some(_) => Ok(()),
            None => Err(StoreError::conflict(format!("process {process} was taken for gone"), None)),
        }
    }

    /// The last figures of every process that is there, in the order in which they joined.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`].
    pub async fn stats(&self) -> Result<Vec<StatsRow>, StoreError> {
        let sql = "SELECT stats.process, process.node, stats.taken_at, stats.figures FROM stats \
                   JOIN process ON process.id = stats.process ORDER BY process.number";
        let rows = self.database().rows(sql, values![]).await?;
        rows.iter().map(StatsRow::read).collect()
    }
}

impl StatsRow {
    fn read(row: &Row) -> Result<Self, StoreError> {
        Ok(Self {
            process: row.text("process")?,
            node: row.text("node")?,
            taken_at: row.time("taken_at")?,
            blob: row.bytes("figures")?,
        })
    }
}
