//! Which keys do all processes use: of TLS tickets, of cookies, of tokens?
//!
//! Never shows one to the database: it has them sealed, with a key that it does not have.

use std::fmt;

use zeroize::Zeroizing;

use crate::database::{Row, values};
use crate::error::StoreError;
use crate::seal::{Sealed, SealingKey};
use crate::{Store, UnixMillis};

/// A key to be shared.
#[derive(Clone)]
pub struct NewKey {
    /// What for, such as `tls_tickets`, `sticky`, `token_signing`.
    pub kind: String,
    /// Its name among those of its kind. Of several processes that add the same one at once, one does.
    pub id: String,
    /// From when on it is used for what is new.
    pub active_from: UnixMillis,
    /// From when on it is not used at all; none if that is not known yet.
    pub retire_at: Option<UnixMillis>,
    /// The key itself.
    pub secret: Zeroizing<Vec<u8>>,
}

/// A key that is shared.
#[derive(Clone, PartialEq, Eq)]
pub struct KeyRow {
    /// Its name among those of its kind.
    pub id: String,
    /// What for.
    pub kind: String,
    /// When it was added.
    pub created_at: UnixMillis,
    /// From when on it is used for what is new.
    pub active_from: UnixMillis,
    /// From when on it is not used at all.
    pub retire_at: Option<UnixMillis>,
    /// The key itself.
    pub secret: Zeroizing<Vec<u8>>,
}

impl Store {
    /// The keys of a kind, those that become active first at the beginning.
    ///
    /// # Errors
    /// [`StoreError::Refused`] without a sealing key or with another than they are sealed with; [`StoreError::Corrupt`] if somebody has
    /// changed them.
    pub async fn keys(&self, kind: &str) -> Result<Vec<KeyRow>, StoreError> {
        let sealing = self.sealing_key()?;
        let sql = "SELECT kind, id, created_at, active_from, retire_at, sealed_by, sealed FROM key WHERE kind = $1 \
                   ORDER BY active_from, id";
        let rows = self.database().rows(sql, values![kind]).await?;
        rows.iter().map(|row| KeyRow::read(row, sealing)).collect()
    }

    /// Adds a key.
    ///
    /// # Errors
    /// [`StoreError::Conflict`] if there is one of that kind and id, which is left as it is; [`StoreError::Refused`] without a sealing key, or
    /// with another than the store's.
    pub async fn add_key(&self, key: &NewKey) -> Result<(), StoreError> {
        let sealing = self.sealing_key()?;
        let sealed = sealing.seal(&row_name(&key.kind, &key.id), &key.secret)?;
        let mut transaction = self.database().begin().await?;
        transaction.count("keys").await?;
        // Whoever has another key would make what the others cannot read.
        let other = transaction
            .row("SELECT sealed_by FROM key WHERE sealed_by <> $1 LIMIT 1", values![sealing.id()])
            .await?;
        if let Some(row) = other {
            let by = row.text("sealed_by")?;
            transaction.undo().await?;
            return Err(sealing.other_key(&by));
        }
        let sql = "INSERT INTO key (kind, id, created_at, active_from, retire_at, sealed_by, sealed) \
                   VALUES ($1, $2, NOW_MS(), $3, $4, $5, $6) ON CONFLICT (kind, id) DO NOTHING RETURNING id";
        let values =
            values![&key.kind, &key.id, key.active_from, key.retire_at, &sealed.by, sealed.bytes.as_slice()];
        if transaction.row(sql, values).await?.is_none() {
            transaction.undo().await?;
            return Err(StoreError::conflict(
                format!("the key {}/{} is there already", key.kind, key.id),
                None,
            ));
        }
        transaction.commit().await
    }

    /// Says from when on a key is not used at all.
    ///
    /// # Errors
    /// [`StoreError::Missing`].
    pub async fn retire_key(&self, kind: &str, id: &str, at: UnixMillis) -> Result<(), StoreError> {
        let mut transaction = self.database().begin().await?;
        transaction.count("keys").await?;
        let sql = "UPDATE key SET retire_at = $3 WHERE kind = $1 AND id = $2 RETURNING id";
        if transaction.row(sql, values![kind, id, at]).await?.is_none() {
            transaction.undo().await?;
            return Err(StoreError::missing(format!("key {kind}/{id}")));
        }
        transaction.commit().await
    }

    /// Removes a key. That it is gone already is fine.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`].
    pub async fn remove_key(&self, kind: &str, id: &str) -> Result<(), StoreError> {
        let mut transaction = self.database().begin().await?;
        transaction.count("keys").await?;
        transaction.rows("DELETE FROM key WHERE kind = $1 AND id = $2", values![kind, id]).await?;
        transaction.commit().await
    }

    fn sealing_key(&self) -> Result<&SealingKey, StoreError> {
        self.0.key.as_ref().ok_or_else(|| {
            StoreError::refused(
                "the store has secrets, and this process has no key to seal and open them",
                "give every process of the cluster the same file (`store.key_file`)",
            )
        })
    }
}

/// What a secret is bound to, so that it opens nowhere else.
fn row_name(kind: &str, id: &str) -> String {
    format!("key/{kind}/{id}")
}

impl KeyRow {
    fn read(row: &Row, sealing: &SealingKey) -> Result<Self, StoreError> {
        let (kind, id) = (row.text("kind")?, row.text("id")?);
        let sealed = Sealed { by: row.text("sealed_by")?, bytes: row.bytes("sealed")? };
        let secret = sealing.open(&row_name(&kind, &id), &sealed)?;
        Ok(Self {
            id,
            kind,
            created_at: row.time("created_at")?,
            active_from: row.time("active_from")?,
            retire_at: row.optional_time("retire_at")?,
            secret,
        })
    }
}

impl fmt::Debug for NewKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "NewKey({}/{})", self.kind, self.id)
    }
}

impl fmt::Debug for KeyRow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "KeyRow({}/{})", self.kind, self.id)
    }
}
