//! What have the processes counted? Each puts its own here, and whoever wants the cluster's adds them up.
//!
//! Never looks into them, and never loses those of a process that is gone: they stay until somebody has added them to the sum.

use crate::database::{Row, values};
use crate::error::StoreError;
use crate::{Store, UnixMillis};

/// Under what the sum of processes that are gone is kept: no process has this id.
const SUM: &str = "";

/// What one process has counted, or all those together that are gone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StatsRow {
    /// Its id; empty for the sum.
    pub process: String,
    /// Of which node; empty for the sum.
    pub node: String,
    /// Grows with every change of this row.
    pub revision: u64,
    /// When it was put here.
    pub taken_at: UnixMillis,
    /// The figures, as they were put here.
    pub blob: Vec<u8>,
}

impl StatsRow {
    /// Whether it is of processes that are gone.
    #[must_use]
    pub fn is_sum(&self) -> bool {
        self.process == SUM
    }

    fn read(row: &Row) -> Result<Self, StoreError> {
        Ok(Self {
            process: row.text("process")?,
            node: row.text("node")?,
            revision: row.number("revision")?,
            taken_at: row.time("taken_at")?,
            blob: row.bytes("figures")?,
        })
    }
}

impl Store {
    /// Puts a process's figures here for the first time, or in the place of those that it put before.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`]; [`StoreError::Refused`] when reading only.
    pub async fn put_first_stats(&self, process: &str, node: &str, blob: &[u8]) -> Result<(), StoreError> {
        let sql = "INSERT INTO stats (process, node, revision, taken_at, figures) VALUES ($1, $2, 1, NOW_MS(), $3) \
                   ON CONFLICT (process) DO UPDATE SET revision = stats.revision + 1, taken_at = excluded.taken_at, \
                   figures = excluded.figures RETURNING process";
        self.database().write(sql, values![process, node, blob]).await.map(drop)
    }

    /// Puts a process's figures in the place of its last ones. Whether those were there: if not, they are part of the sum, and what
    /// it puts next must not hold them.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`]; [`StoreError::Refused`] when reading only.
    pub async fn put_stats(&self, process: &str, blob: &[u8]) -> Result<bool, StoreError> {
        let sql = "UPDATE stats SET revision = revision + 1, taken_at = NOW_MS(), figures = $2 WHERE process = $1 \
                   RETURNING process";
        Ok(!self.database().write(sql, values![process, blob]).await?.is_empty())
    }

    /// The last figures of every process that ever put any, those of some of them as one sum.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`].
    pub async fn stats(&self) -> Result<Vec<StatsRow>, StoreError> {
        let sql = "SELECT process, node, revision, taken_at, figures FROM stats ORDER BY process";
        let rows = self.database().rows(sql, values![]).await?;
        rows.iter().map(StatsRow::read).collect()
    }

    /// Takes rows away and puts a sum that holds them in the place of `sum`, all at once. False if one of them is no longer as it was
    /// seen: somebody else was first, or its process is back.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`]; [`StoreError::Refused`] when reading only.
    pub async fn fold_stats(
        &self,
        gone: &[StatsRow],
        sum: Option<&StatsRow>,
        blob: &[u8],
    ) -> Result<bool, StoreError> {
        let mut transaction = self.database().begin().await?;
        let replaced = match sum {
            Some(sum) => {
                let sql = "UPDATE stats SET revision = revision + 1, taken_at = NOW_MS(), figures = $3 \
                           WHERE process = $1 AND revision = $2 RETURNING process";
                transaction.row(sql, values![SUM, sum.revision, blob]).await?
            }
            None => {
                let sql = "INSERT INTO stats (process, node, revision, taken_at, figures) \
                           VALUES ($1, $1, 1, NOW_MS(), $2) ON CONFLICT (process) DO NOTHING RETURNING process";
                transaction.row(sql, values![SUM, blob]).await?
            }
        };
        let mut is_as_seen = replaced.is_some();
        for row in gone {
            if is_as_seen {
                let sql = "DELETE FROM stats WHERE process = $1 AND revision = $2 RETURNING process";
                is_as_seen = transaction.row(sql, values![&row.process, row.revision]).await?.is_some();
            }
        }
        if is_as_seen {
            transaction.commit().await?;
        } else {
            transaction.undo().await?;
        }
        Ok(is_as_seen)
    }
}
