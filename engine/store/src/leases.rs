//! Who of several processes may act alone? The holder of a lease, for as long as nobody else has it.
//!
//! Never decides that a lease is over: who takes one over names the mark that he saw, and gets it if that is still there.

use crate::Store;
use crate::database::{Row, Value, values};
use crate::error::StoreError;

/// A lease.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeaseRow {
    /// What for.
    pub name: String,
    /// Who has it; nobody after it was given back.
    pub holder: Option<String>,
    /// Grows when the holder changes, and never goes back: a fencing token.
    pub epoch: u64,
    /// Grows when the holder renews, takes over or gives back.
    pub beat: u64,
}

impl Store {
    /// A lease, if anybody ever had it.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`].
    pub async fn lease(&self, name: &str) -> Result<Option<LeaseRow>, StoreError> {
        let sql = "SELECT name, holder, epoch, beat FROM lease WHERE name = $1";
        self.database().row(sql, values![name]).await?.map(|row| LeaseRow::read(&row)).transpose()
    }

    /// Takes a lease, if its epoch and beat are still those that were `seen`; with none seen, if nobody ever had it.
    ///
    /// # Errors
    /// [`StoreError::Conflict`] with the epoch that is there: somebody renewed it, took it or gave it back since.
    pub async fn acquire_lease(
        &self,
        name: &str,
        holder: &str,
        seen: Option<(u64, u64)>,
    ) -> Result<LeaseRow, StoreError> {
        let (sql, values) = match seen {
            None => (
                "INSERT INTO lease (name, holder, epoch, beat) VALUES ($1, $2, 1, 1) \
                 ON CONFLICT (name) DO NOTHING RETURNING name, holder, epoch, beat",
                values![name, holder],
            ),
            Some((epoch, beat)) => (
                "UPDATE lease SET holder = $2, epoch = epoch + 1, beat = beat + 1 WHERE name = $1 AND epoch = $3 AND beat = $4 \
                 RETURNING name, holder, epoch, beat",
                values![name, holder, epoch, beat],
            ),
        };
        self.change_lease(name, sql, values).await
    }

    /// Keeps a lease that is held.
    ///
    /// # Errors
    /// [`StoreError::Conflict`] with the epoch that is there: it is another's now.
    pub async fn renew_lease(&self, name: &str, holder: &str, epoch: u64) -> Result<LeaseRow, StoreError> {
        let sql = "UPDATE lease SET beat = beat + 1 WHERE name = $1 AND holder = $2 AND epoch = $3 \
                   RETURNING name, holder, epoch, beat";
        self.change_lease(name, sql, values![name, holder, epoch]).await
    }

    /// Gives a lease back, so that nobody has to wait for its end.
    ///
    /// # Errors
    /// [`StoreError::Conflict`] with the epoch that is there: it is another's now.
    pub async fn release_lease(&self, name: &str, holder: &str, epoch: u64) -> Result<(), StoreError> {
        let sql = "UPDATE lease SET holder = NULL, beat = beat + 1 WHERE name = $1 AND holder = $2 AND epoch = $3 \
                   RETURNING name, holder, epoch, beat";
        self.change_lease(name, sql, values![name, holder, epoch]).await.map(drop)
    }

    /// One statement that finds the lease as it should be, or does nothing.
    async fn change_lease(
        &self,
        name: &str,
        sql: &'static str,
        values: Vec<Value>,
    ) -> Result<LeaseRow, StoreError> {
        match self.database().write(sql, values).await?.pop() {
            Some(row) => LeaseRow::read(&row),
            None => {
                let there = self.lease(name).await?;
                let holder = there.as_ref().and_then(|lease| lease.holder.as_deref()).unwrap_or("nobody");
                let what = format!("the lease {name} has changed: {holder} has it");
                Err(StoreError::conflict(what, there.map(|lease| lease.epoch)))
            }
        }
    }
}

impl LeaseRow {
    fn read(row: &Row) -> Result<Self, StoreError> {
        Ok(Self {
            name: row.text("name")?,
            holder: row.optional_text("holder")?,
            epoch: row.number("epoch")?,
            beat: row.number("beat")?,
        })
    }
}
