//! Who has logged in, and is that over? By a hash of what the client brings, so that the database can open no session.
//!
//! Never lets a session live past its end: whether it is over is said by the database's clock, for all processes alike.

use std::time::Duration;

use crate::database::{Row, values};
use crate::error::StoreError;
use crate::{Store, UnixMillis};

/// A session that begins.
#[derive(Clone, Debug, PartialEq)]
pub struct NewSession {
    /// Of what the client brings.
    pub hash: Vec<u8>,
    /// Whose it is.
    pub user: String,
    /// All else: any JSON.
    pub details: serde_json::Value,
    /// How long it may last, however busy it is.
    pub lifetime: Duration,
}

/// A session that is neither ended nor over.
#[derive(Clone, Debug, PartialEq)]
pub struct SessionRow {
    /// Of what the client brings.
    pub hash: Vec<u8>,
    /// Whose it is.
    pub user: String,
    /// All else.
    pub details: serde_json::Value,
    /// When it began.
    pub created_at: UnixMillis,
    /// When it was last used, as far as somebody said so.
    pub used_at: UnixMillis,
    /// When it is over.
    pub expires_at: UnixMillis,
    /// When this was read, by the same clock.
    pub read_at: UnixMillis,
}

/// A session that somebody ended before it was over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EndedSession {
    /// Of what the client brings.
    pub hash: Vec<u8>,
    /// What [`crate::Revisions::sessions`] became when it ended.
    pub revision: u64,
}

impl Store {
    /// Begins a session.
    ///
    /// # Errors
    /// [`StoreError::Conflict`] if there is one with the same hash.
    pub async fn add_session(&self, session: &NewSession) -> Result<(), StoreError> {
        let sql = "INSERT INTO session (hash, user_name, details, created_at, used_at, expires_at) \
                   VALUES ($1, $2, $3, NOW_MS(), NOW_MS(), NOW_MS() + $4) ON CONFLICT (hash) DO NOTHING RETURNING user_name";
        let values = values![session.hash.as_slice(), &session.user, &session.details, session.lifetime];
        match self.database().write(sql, values).await?.pop() {
            Some(_) => Ok(()),
            None => Err(StoreError::conflict("there is such a session already", None)),
        }
    }

    /// A session, unless it was ended or is over.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`].
    pub async fn session(&self, hash: &[u8]) -> Result<Option<SessionRow>, StoreError> {
        let sql = "SELECT hash, user_name, details, created_at, used_at, expires_at, NOW_MS() AS read_at FROM session \
                   WHERE hash = $1 AND ended IS NULL AND expires_at > NOW_MS()";
        let row = self.database().row(sql, values![hash]).await?;
        row.map(|row| SessionRow::read(&row)).transpose()
    }

    /// Notes that a session was used. False if it was ended or is over.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`].
    pub async fn touch_session(&self, hash: &[u8]) -> Result<bool, StoreError> {
        let sql = "UPDATE session SET used_at = NOW_MS() WHERE hash = $1 AND ended IS NULL AND expires_at > NOW_MS() \
                   RETURNING user_name";
        Ok(!self.database().write(sql, values![hash]).await?.is_empty())
    }

    /// Ends a session. False if it was ended before or there is none.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`].
    pub async fn end_session(&self, hash: &[u8]) -> Result<bool, StoreError> {
        let mut transaction = self.database().begin().await?;
        let revision = transaction.count("sessions").await?;
        let sql = "UPDATE session SET ended = $2 WHERE hash = $1 AND ended IS NULL RETURNING user_name";
        let is_ended = transaction.row(sql, values![hash, revision]).await?.is_some();
        transaction.end(is_ended).await?;
        Ok(is_ended)
    }

    /// Ends all sessions of a user; how many there were.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`].
    pub async fn end_sessions_of(&self, user: &str) -> Result<u64, StoreError> {
        let mut transaction = self.database().begin().await?;
        let revision = transaction.count("sessions").await?;
        let sql = "UPDATE session SET ended = $2 WHERE user_name = $1 AND ended IS NULL RETURNING user_name";
        let ended = transaction.rows(sql, values![user, revision]).await?.len();
        transaction.end(ended > 0).await?;
        Ok(ended as u64)
    }

    /// Sessions that were ended since [`crate::Revisions::sessions`] was `revision`, in that order. Those that are over by themselves are not
    /// told: whoever knows a session knows when that is.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`].
    pub async fn sessions_ended_since(&self, revision: u64) -> Result<Vec<EndedSession>, StoreError> {
        let rows = self
            .database()
            .rows("SELECT hash, ended FROM session WHERE ended > $1 ORDER BY ended", values![revision]);
        rows.await?.iter().map(EndedSession::read).collect()
    }

    /// Removes what is over and told to nobody any more: sessions, and revocations of tokens that are over themselves. How many there were.
    /// One process of a cluster may do so now and then.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`].
    pub async fn sweep(&self) -> Result<u64, StoreError> {
        let sql = "DELETE FROM session WHERE expires_at <= NOW_MS() RETURNING user_name";
        let sessions = self.database().write(sql, values![]).await?.len();
        let sql = "DELETE FROM revocation WHERE expires_at <= NOW_MS() RETURNING token";
        let revocations = self.database().write(sql, values![]).await?.len();
        Ok((sessions + revocations) as u64)
    }
}

impl SessionRow {
    fn read(row: &Row) -> Result<Self, StoreError> {
        Ok(Self {
            hash: row.bytes("hash")?,
            user: row.text("user_name")?,
            details: row.json("details")?,
            created_at: row.time("created_at")?,
            used_at: row.time("used_at")?,
            expires_at: row.time("expires_at")?,
            read_at: row.time("read_at")?,
        })
    }
}

impl EndedSession {
    fn read(row: &Row) -> Result<Self, StoreError> {
        Ok(Self { hash: row.bytes("hash")?, revision: row.number("ended")? })
    }
}
