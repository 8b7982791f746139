//! Who changed what, and when?
//!
//! Never changes an entry; the oldest are removed when somebody says how many are to be kept.

use crate::database::{Row, values};
use crate::error::StoreError;
use crate::{Store, UnixMillis};

/// Something that somebody did, or tried to do.
#[derive(Clone, Debug, PartialEq)]
pub struct AuditEntry {
    /// Who: a user, a client, or a process by itself.
    pub actor: String,
    /// What, such as `config.publish`.
    pub action: String,
    /// To what, such as `listener.web`.
    pub subject: String,
    /// At which node, if at one.
    pub node: Option<String>,
    /// By which process, if by one.
    pub process: Option<String>,
    /// From which address, if from one.
    pub address: Option<String>,
    /// What came of it, such as `done` or `refused`.
    pub outcome: String,
    /// All else: any JSON, without secrets.
    pub details: serde_json::Value,
}

/// An entry of the audit log.
#[derive(Clone, Debug, PartialEq)]
pub struct AuditRow {
    /// Counts all entries; a later one has a higher id.
    pub id: u64,
    /// When.
    pub at: UnixMillis,
    /// What.
    pub entry: AuditEntry,
}

/// Which entries are asked for: those for which all that is set is so.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AuditFilter {
    /// Of whom.
    pub actor: Option<String>,
    /// What was done.
    pub action: Option<String>,
    /// To what.
    pub subject: Option<String>,
    /// At which node.
    pub node: Option<String>,
}

impl Store {
    /// Adds an entry, and gives its id.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`]; [`StoreError::Refused`] when reading only.
    pub async fn add_audit(&self, entry: &AuditEntry) -> Result<u64, StoreError> {
        let mut transaction = self.database().begin().await?;
        let id = transaction.count("audit").await?;
        let sql = "INSERT INTO audit (id, at, actor, action, subject, node, process, address, outcome, details) \
                   VALUES ($1, NOW_MS(), $2, $3, $4, $5, $6, $7, $8, $9)";
        let values = values![
            id,
            &entry.actor,
            &entry.action,
            &entry.subject,
            entry.node.as_deref(),
            entry.process.as_deref(),
            entry.address.as_deref(),
            &entry.outcome,
            &entry.details,
        ];
        transaction.rows(sql, values).await?;
        transaction.commit().await?;
        Ok(id)
    }

    /// Entries, the newest first, `limit` at most; only those older than the entry `before`, if one is named.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`].
    pub async fn audit(
        &self,
        filter: &AuditFilter,
        limit: u32,
        before: Option<u64>,
    ) -> Result<Vec<AuditRow>, StoreError> {
        let sql = "SELECT id, at, actor, action, subject, node, process, address, outcome, details FROM audit \
                   WHERE ($1 IS NULL OR actor = $1) AND ($2 IS NULL OR action = $2) AND ($3 IS NULL OR subject = $3) \
                   AND ($4 IS NULL OR node = $4) AND ($5 IS NULL OR id < $5) ORDER BY id DESC LIMIT $6";
        let values = values![
            filter.actor.as_deref(),
            filter.action.as_deref(),
            filter.subject.as_deref(),
            filter.node.as_deref(),
            before,
            limit,
        ];
        self.database().rows(sql, values).await?.iter().map(AuditRow::read).collect()
    }

    /// Removes all entries but the newest `keep`. How many there were.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`].
    pub async fn trim_audit(&self, keep: u64) -> Result<u64, StoreError> {
        // Ids have no gaps, so the newest tells how many there are.
        let sql = "DELETE FROM audit WHERE id <= (SELECT MAX(id) FROM audit) - $1 RETURNING id";
        Ok(self.database().write(sql, values![keep]).await?.len() as u64)
    }
}

impl AuditRow {
    fn read(row: &Row) -> Result<Self, StoreError> {
        Ok(Self {
            id: row.number("id")?,
            at: row.time("at")?,
            entry: AuditEntry {
                actor: row.text("actor")?,
                action: row.text("action")?,
                subject: row.text("subject")?,
                node: row.optional_text("node")?,
                process: row.optional_text("process")?,
                address: row.optional_text("address")?,
                outcome: row.text("outcome")?,
                details: row.json("details")?,
            },
        })
    }
}
