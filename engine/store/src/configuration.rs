//! Which configuration does a node run, which is proposed, and which were there? Versions, each as somebody wrote it.
//!
//! Never reads a document, and never makes a version active that a live process has not found good.

use crate::database::{Row, Transaction, values};
use crate::error::StoreError;
use crate::{Store, UnixMillis};

/// A configuration to be saved.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewConfig {
    /// The document, as JSON text; the store does not look into it.
    pub document: String,
    /// Tells documents apart that mean something else.
    pub fingerprint: String,
    /// Who wrote it.
    pub author: String,
    /// Why.
    pub comment: String,
}

/// What has become of a version.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ConfigState {
    /// Being checked by the node's processes. A node has one at most.
    Proposed,
    /// What the node's processes run, or are about to. A node has one at most.
    Active,
    /// It was active.
    Past,
    /// Some process found it wrong; it was never active.
    Rejected,
}

impl ConfigState {
    const ALL: [Self; 4] = [Self::Proposed, Self::Active, Self::Past, Self::Rejected];

    /// In one word: `proposed`, `active`, `past`, `rejected`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Proposed => "proposed",
            Self::Active => "active",
            Self::Past => "past",
            Self::Rejected => "rejected",
        }
    }
}

/// About a version, without its document.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigSummary {
    /// Of which node.
    pub node: String,
    /// From 1, without gaps, by node.
    pub version: u64,
    /// What has become of it.
    pub state: ConfigState,
    /// Tells documents apart that mean something else.
    pub fingerprint: String,
    /// Who wrote it.
    pub author: String,
    /// Why.
    pub comment: String,
    /// Why it was rejected.
    pub cause: Option<String>,
    /// When it was saved.
    pub created_at: UnixMillis,
    /// When it became active, or was rejected.
    pub decided_at: Option<UnixMillis>,
}

/// A version, whole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigVersion {
    /// All about it.
    pub summary: ConfigSummary,
    /// The document, byte by byte as it was saved.
    pub document: String,
}

/// What came of saving the configuration that a node begins with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FirstSave {
    /// It is the node's first version now, and active.
    Saved(u64),
    /// The node has one already; this is the active version.
    Exists(Box<ConfigVersion>),
}

/// What came of making a version active.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Activation {
    /// It is active.
    Active,
    /// These processes of the node have not found it good yet.
    Waiting {
        /// Their ids.
        processes: Vec<String>,
    },
}

/// What one process found when it checked a version.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigCheck {
    /// Its id.
    pub process: String,
    /// What is wrong, if anything.
    pub result: Result<(), String>,
    /// When it said so.
    pub checked_at: UnixMillis,
}

/// A node that the cluster knows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeRow {
    /// Its ID.
    pub id: String,
    /// The version that is active; none before the first.
    pub config_version: Option<u64>,
    /// The version that is being checked.
    pub proposed_version: Option<u64>,
    /// How many processes it has.
    pub processes: u64,
    /// When it was first heard of.
    pub created_at: UnixMillis,
}

impl Store {
    /// Saves the configuration that a node begins with, unless the node has one. Of several processes that do so at once, one saves.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`]; [`StoreError::Refused`] when reading only.
    pub async fn save_first_config(&self, node: &str, config: &NewConfig) -> Result<FirstSave, StoreError> {
        // Nearly always it is there already, and then nobody has to wait for the others.
        if let Some(there) = self.current_config(node).await? {
            return Ok(FirstSave::Exists(Box::new(there)));
        }
        let mut transaction = self.database().begin().await?;
        transaction.count("config").await?;
        if let Some(row) = transaction.row(CURRENT, values![node]).await? {
            transaction.undo().await?;
            return Ok(FirstSave::Exists(Box::new(ConfigVersion::read(&row)?)));
        }
        transaction.ensure_node(node).await?;
        let version = transaction.insert_config(node, config, ConfigState::Active).await?;
        let sql = "UPDATE node SET active_version = $2 WHERE id = $1";
        transaction.rows(sql, values![node, version]).await?;
        transaction.commit().await?;
        Ok(FirstSave::Saved(version))
    }

    /// Proposes a new version to a node's processes. `base` is the active version that its author saw, 0 if there was none.
    ///
    /// # Errors
    /// [`StoreError::Conflict`] with the version that is there instead: another has become active, or is being checked.
    pub async fn publish_config(&self, node: &str, base: u64, config: &NewConfig) -> Result<u64, StoreError> {
        let mut transaction = self.database().begin().await?;
        // Whoever publishes waits here for whoever does already.
        transaction.count("config").await?;
        let there = transaction.row(NODE, values![node]).await?.map(|row| NodeRow::read(&row)).transpose()?;
        let (active, proposed) =
            there.map_or((None, None), |node| (node.config_version, node.proposed_version));
        if let Some(proposed) = proposed {
            return Err(StoreError::conflict(
                format!("version {proposed} of node {node} is being checked"),
                Some(proposed),
            ));
        }
        if active.unwrap_or(0) != base {
            return Err(StoreError::conflict(
                format!("node {node} runs version {}, not {base}", active.unwrap_or(0)),
                active,
            ));
        }
        transaction.ensure_node(node).await?;
        let version = transaction.insert_config(node, config, ConfigState::Proposed).await?;
        transaction.commit().await?;
        Ok(version)
    }

    /// The version that a node's processes run, or are about to.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`].
    pub async fn current_config(&self, node: &str) -> Result<Option<ConfigVersion>, StoreError> {
        let row = self.database().row(CURRENT, values![node]).await?;
        row.map(|row| ConfigVersion::read(&row)).transpose()
    }

    /// The version that a node's processes are to check.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`].
    pub async fn proposed_config(&self, node: &str) -> Result<Option<ConfigVersion>, StoreError> {
        let sql = "SELECT node, version, state, document, fingerprint, author, comment, cause, created_at, decided_at \
                   FROM config_version WHERE node = $1 AND state = 'proposed'";
        let row = self.database().row(sql, values![node]).await?;
        row.map(|row| ConfigVersion::read(&row)).transpose()
    }

    /// Any version.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`].
    pub async fn config_version(
        &self,
        node: &str,
        version: u64,
    ) -> Result<Option<ConfigVersion>, StoreError> {
        let sql = "SELECT node, version, state, document, fingerprint, author, comment, cause, created_at, decided_at \
                   FROM config_version WHERE node = $1 AND version = $2";
        let row = self.database().row(sql, values![node, version]).await?;
        row.map(|row| ConfigVersion::read(&row)).transpose()
    }

    /// A node's versions, the newest first, `limit` at most.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`].
    pub async fn config_history(&self, node: &str, limit: u32) -> Result<Vec<ConfigSummary>, StoreError> {
        let sql = "SELECT node, version, state, fingerprint, author, comment, cause, created_at, decided_at \
                   FROM config_version WHERE node = $1 ORDER BY version DESC LIMIT $2";
        let rows = self.database().rows(sql, values![node, limit]).await?;
        rows.iter().map(ConfigSummary::read).collect()
    }

    /// All nodes, by name.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`].
    pub async fn nodes(&self) -> Result<Vec<NodeRow>, StoreError> {
        let rows = self.database().rows(NODES, values![]).await?;
        rows.iter().map(NodeRow::read).collect()
    }

    /// Says what a process found when it checked a version.
    ///
    /// # Errors
    /// [`StoreError::Conflict`] if there is no such process any more, or no such version.
    pub async fn report_config_check(
        &self,
        process: &str,
        node: &str,
        version: u64,
        result: Result<(), &str>,
    ) -> Result<(), StoreError> {
        let mut transaction = self.database().begin().await?;
        transaction.count("config").await?;
        let sql = "INSERT INTO config_check (node, version, process, problem, checked_at) VALUES ($1, $2, $3, $4, NOW_MS()) \
                   ON CONFLICT (node, version, process) DO UPDATE SET problem = excluded.problem, checked_at = excluded.checked_at";
        transaction.rows(sql, values![node, version, process, result.err()]).await?;
        transaction.commit().await
    }

    /// What the processes that are there have found so far.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`].
    pub async fn config_checks(&self, node: &str, version: u64) -> Result<Vec<ConfigCheck>, StoreError> {
        let sql = "SELECT process, problem, checked_at FROM config_check WHERE node = $1 AND version = $2 ORDER BY process";
        let rows = self.database().rows(sql, values![node, version]).await?;
        rows.iter().map(ConfigCheck::read).collect()
    }

    /// Makes a proposed version active, if every process of the node that is not leaving has found it good. That it is active already is
    /// fine too.
    ///
    /// # Errors
    /// [`StoreError::Conflict`] with the version that is active, if this one was rejected or is past; [`StoreError::Missing`].
    pub async fn activate_config(&self, node: &str, version: u64) -> Result<Activation, StoreError> {
        let mut transaction = self.database().begin().await?;
        // Whoever joins has to wait until this is over, and then finds the new version.
        transaction.count("processes").await?;
        transaction.count("config").await?;
        match transaction.config_state(node, version).await? {
            ConfigState::Proposed => {}
            ConfigState::Active => return transaction.undo().await.map(|()| Activation::Active),
            state => return Err(transaction.not_proposed(node, version, state).await),
        }
        let sql = "SELECT id FROM process WHERE node = $1 AND state <> 'draining' AND NOT EXISTS ( \
                   SELECT 1 FROM config_check WHERE config_check.process = process.id \
                   AND config_check.node = $1 AND config_check.version = $2 AND config_check.problem IS NULL) ORDER BY number";
        let rows = transaction.rows(sql, values![node, version]).await?;
        if !rows.is_empty() {
            let processes = rows.iter().map(|row| row.text("id")).collect::<Result<_, _>>()?;
            transaction.undo().await?;
            return Ok(Activation::Waiting { processes });
        }
        let sql = "UPDATE config_version SET state = 'past' WHERE node = $1 AND state = 'active'";
        transaction.rows(sql, values![node]).await?;
        let sql = "UPDATE config_version SET state = 'active', decided_at = NOW_MS() WHERE node = $1 AND version = $2";
        transaction.rows(sql, values![node, version]).await?;
        transaction.rows("UPDATE node SET active_version = $2 WHERE id = $1", values![node, version]).await?;
        transaction.commit().await?;
        Ok(Activation::Active)
    }

    /// Rejects a proposed version for good. That it is rejected already is fine too, and keeps its first cause.
    ///
    /// # Errors
    /// [`StoreError::Conflict`] with the version that is active, if this one is or was active; [`StoreError::Missing`].
    pub async fn reject_config(&self, node: &str, version: u64, cause: &str) -> Result<(), StoreError> {
        let mut transaction = self.database().begin().await?;
        transaction.count("config").await?;
        match transaction.config_state(node, version).await? {
            ConfigState::Proposed => {}
            ConfigState::Rejected => return transaction.undo().await,
            state => return Err(transaction.not_proposed(node, version, state).await),
        }
        let sql = "UPDATE config_version SET state = 'rejected', cause = $3, decided_at = NOW_MS() WHERE node = $1 AND version = $2";
        transaction.rows(sql, values![node, version, cause]).await?;
        transaction.commit().await
    }
}

const CURRENT: &str = "SELECT node, version, state, document, fingerprint, author, comment, cause, created_at, decided_at \
                   FROM config_version WHERE node = $1 AND state = 'active'";

const NODE: &str = "SELECT node.id, node.active_version, node.created_at, \
    (SELECT MAX(version) FROM config_version WHERE config_version.node = node.id AND state = 'proposed') AS proposed_version, \
    (SELECT COUNT(*) FROM process WHERE process.node = node.id) AS processes FROM node WHERE id = $1";

const NODES: &str = "SELECT node.id, node.active_version, node.created_at, \
    (SELECT MAX(version) FROM config_version WHERE config_version.node = node.id AND state = 'proposed') AS proposed_version, \
    (SELECT COUNT(*) FROM process WHERE process.node = node.id) AS processes FROM node ORDER BY id";

impl Transaction {
    /// The node is known from now on.
    pub(crate) async fn ensure_node(&mut self, node: &str) -> Result<(), StoreError> {
        let sql = "INSERT INTO node (id, created_at) VALUES ($1, NOW_MS()) ON CONFLICT (id) DO NOTHING";
        self.rows(sql, values![node]).await.map(drop)
    }

    /// Adds a version with the next number. Nobody else does so meanwhile: `config` was counted.
    async fn insert_config(
        &mut self,
        node: &str,
        config: &NewConfig,
        state: ConfigState,
    ) -> Result<u64, StoreError> {
        let sql = "INSERT INTO config_version \
                   (node, version, state, document, fingerprint, author, comment, created_at, decided_at) \
                   SELECT $1, COALESCE(MAX(version), 0) + 1, $2, $3, $4, $5, $6, NOW_MS(), CASE WHEN $2 = 'active' THEN NOW_MS() END \
                   FROM config_version WHERE node = $1 RETURNING version";
        let values = values![
            node,
            state.as_str(),
            &config.document,
            &config.fingerprint,
            &config.author,
            &config.comment
        ];
        let row = self.row(sql, values).await?;
        row.ok_or_else(|| StoreError::corrupt("a version that was added is not there"))?.number("version")
    }

    async fn config_state(&mut self, node: &str, version: u64) -> Result<ConfigState, StoreError> {
        let sql = "SELECT state FROM config_version WHERE node = $1 AND version = $2";
        let row = self.row(sql, values![node, version]).await?;
        let row = row.ok_or_else(|| StoreError::missing(format!("version {version} of node {node}")))?;
        row.word("state", &ConfigState::ALL, ConfigState::as_str)
    }

    async fn not_proposed(&mut self, node: &str, version: u64, state: ConfigState) -> StoreError {
        let active = self.row("SELECT active_version FROM node WHERE id = $1", values![node]).await;
        match active.and_then(|row| row.map_or(Ok(None), |row| row.optional_number("active_version"))) {
            Ok(active) => StoreError::conflict(
                format!("version {version} of node {node} is {}", state.as_str()),
                active,
            ),
            Err(error) => error,
        }
    }
}

impl ConfigSummary {
    fn read(row: &Row) -> Result<Self, StoreError> {
        Ok(Self {
            node: row.text("node")?,
            version: row.number("version")?,
            state: row.word("state", &ConfigState::ALL, ConfigState::as_str)?,
            fingerprint: row.text("fingerprint")?,
            author: row.text("author")?,
            comment: row.text("comment")?,
            cause: row.optional_text("cause")?,
            created_at: row.time("created_at")?,
            decided_at: row.optional_time("decided_at")?,
        })
    }
}

impl ConfigVersion {
    fn read(row: &Row) -> Result<Self, StoreError> {
        Ok(Self { summary: ConfigSummary::read(row)?, document: row.text("document")? })
    }
}

impl ConfigCheck {
    fn read(row: &Row) -> Result<Self, StoreError> {
        let result = row.optional_text("problem")?.map_or(Ok(()), Err);
        Ok(Self { process: row.text("process")?, result, checked_at: row.time("checked_at")? })
    }
}

impl NodeRow {
    fn read(row: &Row) -> Result<Self, StoreError> {
        Ok(Self {
            id: row.text("id")?,
            config_version: row.optional_number("active_version")?,
            proposed_version: row.optional_number("proposed_version")?,
            processes: row.number("processes")?,
            created_at: row.time("created_at")?,
        })
    }
}
