//! Which processes are there, how are they, and what is wished of them? Each has an id that nobody else ever had.
//!
//! Never decides that a process is gone: who has watched its beat long enough says so, and names the beat he saw.

use crate::database::{Row, values};
use crate::error::StoreError;
use crate::{Revisions, Store, UnixMillis};

/// A process that joins.
#[derive(Clone, Debug, PartialEq)]
pub struct NewProcess {
    /// Of which node.
    pub node: String,
    /// The name of its host.
    pub host: String,
    /// Where it listens: any JSON.
    pub addresses: serde_json::Value,
    /// The program's version.
    pub version: String,
    /// Its number on its host.
    pub pid: u32,
    /// How many cores it uses.
    pub cores: u32,
    /// What is added to every port of its configuration.
    pub port_offset: u16,
    /// How its node works, such as `active_active`.
    pub mode: String,
}

/// What a process is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ProcessState {
    /// Not serving yet.
    Starting,
    /// Serving.
    Serving,
    /// Ready, while another of its node serves.
    Standby,
    /// Ending: it takes nothing new, and its word on a configuration is not waited for.
    Draining,
}

impl ProcessState {
    const ALL: [Self; 4] = [Self::Starting, Self::Serving, Self::Standby, Self::Draining];

    /// In one word: `starting`, `serving`, `standby`, `draining`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Starting => "starting",
            Self::Serving => "serving",
            Self::Standby => "standby",
            Self::Draining => "draining",
        }
    }
}

/// What somebody wishes of a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Wish {
    /// To end without breaking anything.
    Drain,
}

impl Wish {
    const ALL: [Self; 1] = [Self::Drain];

    /// In one word: `drain`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Drain => "drain",
        }
    }
}

/// A process that is there.
#[derive(Clone, Debug, PartialEq)]
pub struct ProcessRow {
    /// `<node>-<number>`.
    pub id: String,
    /// Counts all processes that ever joined the cluster, of any node, from 1.
    pub number: u64,
    /// Its fencing token: higher than that of any process that joined before.
    pub epoch: u64,
    /// Grows while it lives. Whoever sees the same one for the whole lease time may take it for gone.
    pub beat: u64,
    /// What it is doing.
    pub state: ProcessState,
    /// What it said when it joined.
    pub joined: NewProcess,
    /// The version of its node's configuration that it runs; none if not from the store.
    pub config_version: Option<u64>,
    /// Why it does not run a newer one.
    pub config_refused: Option<String>,
    /// How busy it is: any JSON.
    pub load: serde_json::Value,
    /// What somebody wishes of it.
    pub wants: Option<Wish>,
    /// When it joined.
    pub started_at: UnixMillis,
    /// When it was last heard of, to be shown; nothing may be decided by it.
    pub beat_at: UnixMillis,
}

/// What a process says about itself from time to time.
#[derive(Clone, Debug, PartialEq)]
pub struct Beat {
    /// What it is doing.
    pub state: ProcessState,
    /// The version of its node's configuration that it runs.
    pub config_version: Option<u64>,
    /// Why it does not run a newer one.
    pub config_refused: Option<String>,
    /// How busy it is: any JSON.
    pub load: serde_json::Value,
}

/// What a process learns when it beats.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BeatAnswer {
    /// What somebody wishes of it.
    pub wants: Option<Wish>,
    /// What has changed how often, so that it need not ask.
    pub revisions: Revisions,
}

impl Store {
    /// Adds a process, with a number that none had before.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`]: a number may be lost, which does no harm; [`StoreError::Refused`] when reading only.
    pub async fn register_process(&self, process: &NewProcess) -> Result<ProcessRow, StoreError> {
        let mut transaction = self.database().begin().await?;
        // Before `processes`, as everywhere, so that no two wait for each other.
        let number = transaction.count("process").await?;
        transaction.count("processes").await?;
        transaction.ensure_node(&process.node).await?;
        let id = format!("{}-{number}", process.node);
        let sql = "INSERT INTO process (id, node, number, epoch, beat, state, host, addresses, version, pid, cores, \
                   port_offset, mode, load, started_at, beat_at) \
                   VALUES ($1, $2, $3, $3, 1, 'starting', $4, $5, $6, $7, $8, $9, $10, '{}', NOW_MS(), NOW_MS())";
        let values = values![
            &id,
            &process.node,
            number,
            &process.host,
            &process.addresses,
            &process.version,
            process.pid,
            process.cores,
            u32::from(process.port_offset),
            &process.mode,
        ];
        transaction.rows(sql, values).await?;
        let row = transaction.row(ONE, values![&id]).await?;
        let row = row.ok_or_else(|| StoreError::corrupt("a process that was added is not there"))?;
        transaction.commit().await?;
        ProcessRow::read(&row)
    }

    /// Says that a process lives, and how it is.
    ///
    /// # Errors
    /// [`StoreError::Conflict`]: others have taken it for gone. It has to join again, with a new id.
    pub async fn beat(&self, process: &str, epoch: u64, beat: &Beat) -> Result<BeatAnswer, StoreError> {
        let values = || {
            values![
                process,
                epoch,
                beat.state.as_str(),
                beat.config_version,
                beat.config_refused.as_deref(),
                &beat.load,
            ]
        };
        // Nearly always nothing has changed that others would want to know at once, and no other waits for the counter.
        let sql = "UPDATE process SET beat = beat + 1, beat_at = NOW_MS(), load = $6 WHERE id = $1 AND epoch = $2 \
                   AND state = $3 AND config_version IS NOT DISTINCT FROM $4 AND config_refused IS NOT DISTINCT FROM $5 \
                   RETURNING wish";
        let mut row = self.database().write(sql, values()).await?.pop();
        if row.is_none() {
            let mut transaction = self.database().begin().await?;
            transaction.count("processes").await?;
            let sql = "UPDATE process SET beat = beat + 1, beat_at = NOW_MS(), load = $6, state = $3, config_version = $4, \
                       config_refused = $5 WHERE id = $1 AND epoch = $2 RETURNING wish";
            row = transaction.row(sql, values()).await?;
            transaction.commit().await?;
        }
        let Some(row) = row else {
            return Err(StoreError::conflict(format!("process {process} was taken for gone"), None));
        };
        Ok(BeatAnswer { wants: row.wish()?, revisions: self.revisions().await? })
    }

    /// All processes, in the order in which they joined.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`].
    pub async fn processes(&self) -> Result<Vec<ProcessRow>, StoreError> {
        let rows = self.database().rows(ALL, values![]).await?;
        rows.iter().map(ProcessRow::read).collect()
    }

    /// One of them.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`].
    pub async fn process(&self, id: &str) -> Result<Option<ProcessRow>, StoreError> {
        self.database().row(ONE, values![id]).await?.map(|row| ProcessRow::read(&row)).transpose()
    }

    /// Takes a process for gone, unless it has beaten since. True if it was removed by this call.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`].
    pub async fn expire_process(
        &self,
        id: &str,
        seen_epoch: u64,
        seen_beat: u64,
    ) -> Result<bool, StoreError> {
        let sql = "DELETE FROM process WHERE id = $1 AND epoch = $2 AND beat = $3 RETURNING id";
        self.remove_process(sql, values![id, seen_epoch, seen_beat]).await
    }

    /// Removes a process that ends. That it is gone already is fine.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`].
    pub async fn deregister(&self, id: &str, epoch: u64) -> Result<(), StoreError> {
        let sql = "DELETE FROM process WHERE id = $1 AND epoch = $2 RETURNING id";
        self.remove_process(sql, values![id, epoch]).await.map(drop)
    }

    async fn remove_process(
        &self,
        sql: &'static str,
        values: Vec<crate::database::Value>,
    ) -> Result<bool, StoreError> {
        let mut transaction = self.database().begin().await?;
        transaction.count("processes").await?;
        let is_removed = transaction.row(sql, values).await?.is_some();
        transaction.end(is_removed).await?;
        Ok(is_removed)
    }

    /// Wishes something of a process; it learns that with its next beat.
    ///
    /// # Errors
    /// [`StoreError::Missing`] if there is no such process.
    pub async fn wish(&self, id: &str, wish: Wish) -> Result<(), StoreError> {
        let mut transaction = self.database().begin().await?;
        transaction.count("processes").await?;
        let sql = "UPDATE process SET wish = $2 WHERE id = $1 RETURNING id";
        if transaction.row(sql, values![id, wish.as_str()]).await?.is_none() {
            transaction.undo().await?;
            return Err(StoreError::missing(format!("process {id}")));
        }
        transaction.commit().await
    }
}

const ONE: &str = "SELECT id, node, number, epoch, beat, state, host, addresses, version, pid, cores, port_offset, mode, \
    config_version, config_refused, load, wish, started_at, beat_at FROM process WHERE id = $1";

const ALL: &str = "SELECT id, node, number, epoch, beat, state, host, addresses, version, pid, cores, port_offset, mode, \
    config_version, config_refused, load, wish, started_at, beat_at FROM process ORDER BY number";

impl ProcessRow {
    fn read(row: &Row) -> Result<Self, StoreError> {
        Ok(Self {
            id: row.text("id")?,
            number: row.number("number")?,
            epoch: row.number("epoch")?,
            beat: row.number("beat")?,
            state: row.word("state", &ProcessState::ALL, ProcessState::as_str)?,
            joined: NewProcess {
                node: row.text("node")?,
                host: row.text("host")?,
                addresses: row.json("addresses")?,
                version: row.text("version")?,
                pid: row.small("pid")?,
                cores: row.small("cores")?,
                port_offset: row.small("port_offset")?,
                mode: row.text("mode")?,
            },
            config_version: row.optional_number("config_version")?,
            config_refused: row.optional_text("config_refused")?,
            load: row.json("load")?,
            wants: row.wish()?,
            started_at: row.time("started_at")?,
            beat_at: row.time("beat_at")?,
        })
    }
}

impl Row {
    fn wish(&self) -> Result<Option<Wish>, StoreError> {
        match self.optional_text("wish")? {
            None => Ok(None),
            Some(_) => self.word("wish", &Wish::ALL, Wish::as_str).map(Some),
        }
    }
}
