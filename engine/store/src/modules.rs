//! Which modules of a node has somebody stopped, or started again?
//!
//! Never knows which modules there are: that is in the node's configuration. A module that was never touched runs.

use crate::database::{Row, values};
use crate::error::StoreError;
use crate::{Store, UnixMillis};

/// What somebody has made of a module.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ModuleState {
    /// Such as `listener.web`.
    pub module: String,
    /// Whether it is stopped.
    pub stopped: bool,
    /// Who did that.
    pub by: String,
    /// When.
    pub at: UnixMillis,
}

impl Store {
    /// The modules of a node that were ever stopped or started, by name.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`].
    pub async fn module_states(&self, node: &str) -> Result<Vec<ModuleState>, StoreError> {
        let sql = "SELECT module, stopped, changed_by, changed_at FROM module_state WHERE node = $1 ORDER BY module";
        let rows = self.database().rows(sql, values![node]).await?;
        rows.iter().map(ModuleState::read).collect()
    }

    /// Stops or starts a module of all processes of a node.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`]; [`StoreError::Refused`] when reading only.
    pub async fn set_module_state(
        &self,
        node: &str,
        module: &str,
        stopped: bool,
        by: &str,
    ) -> Result<(), StoreError> {
        let mut transaction = self.database().begin().await?;
        transaction.count("modules").await?;
        let sql = "INSERT INTO module_state (node, module, stopped, changed_by, changed_at) VALUES ($1, $2, $3, $4, NOW_MS()) \
                   ON CONFLICT (node, module) DO UPDATE SET stopped = excluded.stopped, changed_by = excluded.changed_by, \
                   changed_at = excluded.changed_at";
        transaction.rows(sql, values![node, module, stopped, by]).await?;
        transaction.commit().await
    }
}

impl ModuleState {
    fn read(row: &Row) -> Result<Self, StoreError> {
        Ok(Self {
            module: row.text("module")?,
            stopped: row.is("stopped")?,
            by: row.text("changed_by")?,
            at: row.time("changed_at")?,
        })
    }
}
