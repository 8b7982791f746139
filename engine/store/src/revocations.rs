//! Which tokens are worth nothing any more, though they are not over?
//!
//! Never keeps one longer than the token would have lasted: [`Store::sweep`].

use crate::database::{Row, values};
use crate::error::StoreError;
use crate::{Store, UnixMillis};

/// A token that was revoked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Revocation {
    /// Its id (`jti`).
    pub token: String,
    /// When it would have been over.
    pub expires_at: UnixMillis,
    /// What [`crate::Revisions::revocations`] became when it was revoked.
    pub revision: u64,
}

impl Store {
    /// Revokes a token. That it was revoked before is fine.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`].
    pub async fn revoke_token(&self, token: &str, expires_at: UnixMillis) -> Result<(), StoreError> {
        let mut transaction = self.database().begin().await?;
        let revision = transaction.count("revocations").await?;
        let sql = "INSERT INTO revocation (token, expires_at, revision) VALUES ($1, $2, $3) ON CONFLICT (token) DO NOTHING";
        transaction.rows(sql, values![token, expires_at, revision]).await?;
        transaction.commit().await
    }

    /// All of them, in the order in which they were revoked.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`].
    pub async fn revocations(&self) -> Result<Vec<Revocation>, StoreError> {
        self.revocations_since(0).await
    }

    /// Those since [`crate::Revisions::revocations`] was `revision`, in that order.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`].
    pub async fn revocations_since(&self, revision: u64) -> Result<Vec<Revocation>, StoreError> {
        let sql = "SELECT token, expires_at, revision FROM revocation WHERE revision > $1 ORDER BY revision";
        let rows = self.database().rows(sql, values![revision]).await?;
        rows.iter().map(Revocation::read).collect()
    }
}

impl Revocation {
    fn read(row: &Row) -> Result<Self, StoreError> {
        Ok(Self {
            token: row.text("token")?,
            expires_at: row.time("expires_at")?,
            revision: row.number("revision")?,
        })
    }
}
