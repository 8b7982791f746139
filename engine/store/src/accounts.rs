//! Which users and which clients are there?
//!
//! Never knows a password or a client's secret, only what is left of one when it is hashed; what they may do is their owner's business.

use crate::database::{Row, values};
use crate::error::StoreError;
use crate::{Store, UnixMillis};

/// A user or a client as somebody wrote it.
#[derive(Clone, Debug, PartialEq)]
pub struct NewAccount {
    /// Its name among users, or among clients.
    pub name: String,
    /// What is left of its password or secret (a PHC string).
    pub secret_hash: String,
    /// All else: roles, scopes, whether it is locked, any JSON.
    pub profile: serde_json::Value,
}

/// A user or a client.
#[derive(Clone, Debug, PartialEq)]
pub struct AccountRow {
    /// Its name.
    pub name: String,
    /// What is left of its password or secret.
    pub secret_hash: String,
    /// All else.
    pub profile: serde_json::Value,
    /// Grows when it changes.
    pub revision: u64,
    /// When it was added.
    pub created_at: UnixMillis,
    /// When it was last changed.
    pub changed_at: UnixMillis,
}

/// Both have the same shape and the same rules, and names of their own.
#[derive(Clone, Copy)]
enum Kind {
    User,
    Client,
}

impl Kind {
    const fn as_str(self) -> &'static str {
        match self {
            Self::User => "user",
            Self::Client => "client",
        }
    }
}

impl Store {
    /// All users, by name.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`].
    pub async fn users(&self) -> Result<Vec<AccountRow>, StoreError> {
        self.accounts(Kind::User).await
    }

    /// One user.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`].
    pub async fn user(&self, name: &str) -> Result<Option<AccountRow>, StoreError> {
        self.account(Kind::User, name).await
    }

    /// Adds a user.
    ///
    /// # Errors
    /// [`StoreError::Conflict`] with the revision of the one that has the name.
    pub async fn add_user(&self, user: &NewAccount) -> Result<AccountRow, StoreError> {
        self.add_account(Kind::User, user).await
    }

    /// Adds a user if there is none at all. Of several processes that do so at once, one adds; the others get none.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`].
    pub async fn add_first_user(&self, user: &NewAccount) -> Result<Option<AccountRow>, StoreError> {
        let mut transaction = self.database().begin().await?;
        let revision = transaction.count("users").await?;
        let sql = "SELECT name FROM account WHERE kind = 'user' LIMIT 1";
        if transaction.row(sql, values![]).await?.is_some() {
            return transaction.undo().await.map(|()| None);
        }
        let row = transaction.row(INSERT, insert_values(Kind::User, user, revision)).await?;
        transaction.commit().await?;
        row.map(|row| AccountRow::read(&row)).transpose()
    }

    /// Changes a user, if it is still as it was when `revision` was read.
    ///
    /// # Errors
    /// [`StoreError::Conflict`] with the revision that is there; [`StoreError::Missing`].
    pub async fn update_user(&self, revision: u64, user: &NewAccount) -> Result<AccountRow, StoreError> {
        self.update_account(Kind::User, revision, user).await
    }

    /// Removes a user and ends his sessions. False if there is none.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`].
    pub async fn remove_user(&self, name: &str) -> Result<bool, StoreError> {
        // First, so that none of them outlives him if the second fails.
        self.end_sessions_of(name).await?;
        self.remove_account(Kind::User, name).await
    }

    /// All clients, by name.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`].
    pub async fn clients(&self) -> Result<Vec<AccountRow>, StoreError> {
        self.accounts(Kind::Client).await
    }

    /// One client.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`].
    pub async fn client(&self, name: &str) -> Result<Option<AccountRow>, StoreError> {
        self.account(Kind::Client, name).await
    }

    /// Adds a client.
    ///
    /// # Errors
    /// [`StoreError::Conflict`] with the revision of the one that has the name.
    pub async fn add_client(&self, client: &NewAccount) -> Result<AccountRow, StoreError> {
        self.add_account(Kind::Client, client).await
    }

    /// Changes a client, if it is still as it was when `revision` was read.
    ///
    /// # Errors
    /// [`StoreError::Conflict`] with the revision that is there; [`StoreError::Missing`].
    pub async fn update_client(&self, revision: u64, client: &NewAccount) -> Result<AccountRow, StoreError> {
        self.update_account(Kind::Client, revision, client).await
    }

    /// Removes a client. False if there is none.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`].
    pub async fn remove_client(&self, name: &str) -> Result<bool, StoreError> {
        self.remove_account(Kind::Client, name).await
    }

    async fn accounts(&self, kind: Kind) -> Result<Vec<AccountRow>, StoreError> {
        let sql = "SELECT name, secret_hash, profile, revision, created_at, changed_at FROM account \
                   WHERE kind = $1 ORDER BY name";
        let rows = self.database().rows(sql, values![kind.as_str()]).await?;
        rows.iter().map(AccountRow::read).collect()
    }

    async fn account(&self, kind: Kind, name: &str) -> Result<Option<AccountRow>, StoreError> {
        let row = self.database().row(ONE, values![kind.as_str(), name]).await?;
        row.map(|row| AccountRow::read(&row)).transpose()
    }

    async fn add_account(&self, kind: Kind, account: &NewAccount) -> Result<AccountRow, StoreError> {
        let mut transaction = self.database().begin().await?;
        let revision = transaction.count("users").await?;
        match transaction.row(INSERT, insert_values(kind, account, revision)).await? {
            Some(row) => {
                transaction.commit().await?;
                AccountRow::read(&row)
            }
            None => {
                transaction.undo().await?;
                let there = self.account(kind, &account.name).await?;
                let what = format!("the {} {} is there already", kind.as_str(), account.name);
                Err(StoreError::conflict(what, there.map(|account| account.revision)))
            }
        }
    }

    async fn update_account(
        &self,
        kind: Kind,
        revision: u64,
        account: &NewAccount,
    ) -> Result<AccountRow, StoreError> {
        let mut transaction = self.database().begin().await?;
        let next = transaction.count("users").await?;
        let sql = "UPDATE account SET secret_hash = $3, profile = $4, revision = $5, changed_at = NOW_MS() \
                   WHERE kind = $1 AND name = $2 AND revision = $6 \
                   RETURNING name, secret_hash, profile, revision, created_at, changed_at";
        let values =
            values![kind.as_str(), &account.name, &account.secret_hash, &account.profile, next, revision];
        if let Some(row) = transaction.row(sql, values).await? {
            transaction.commit().await?;
            return AccountRow::read(&row);
        }
        transaction.undo().await?;
        let name = format!("{} {}", kind.as_str(), account.name);
        match self.account(kind, &account.name).await? {
            Some(there) => Err(StoreError::conflict(
                format!("the {name} was changed by somebody else"),
                Some(there.revision),
            )),
            None => Err(StoreError::missing(name)),
        }
    }

    async fn remove_account(&self, kind: Kind, name: &str) -> Result<bool, StoreError> {
        let mut transaction = self.database().begin().await?;
        transaction.count("users").await?;
        let sql = "DELETE FROM account WHERE kind = $1 AND name = $2 RETURNING name";
        let is_removed = transaction.row(sql, values![kind.as_str(), name]).await?.is_some();
        transaction.end(is_removed).await?;
        Ok(is_removed)
    }
}

const ONE: &str = "SELECT name, secret_hash, profile, revision, created_at, changed_at FROM account \
    WHERE kind = $1 AND name = $2";

const INSERT: &str = "INSERT INTO account (kind, name, secret_hash, profile, revision, created_at, changed_at) \
    VALUES ($1, $2, $3, $4, $5, NOW_MS(), NOW_MS()) ON CONFLICT (kind, name) DO NOTHING \
    RETURNING name, secret_hash, profile, revision, created_at, changed_at";

fn insert_values(kind: Kind, account: &NewAccount, revision: u64) -> Vec<crate::database::Value> {
    values![kind.as_str(), &account.name, &account.secret_hash, &account.profile, revision]
}

impl AccountRow {
    fn read(row: &Row) -> Result<Self, StoreError> {
        Ok(Self {
            name: row.text("name")?,
            secret_hash: row.text("secret_hash")?,
            profile: row.json("profile")?,
            revision: row.number("revision")?,
            created_at: row.time("created_at")?,
            changed_at: row.time("changed_at")?,
        })
    }
}
