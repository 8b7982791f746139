//! Which users and clients are there, and what is known of them? Rows of the store as what they mean.
//!
//! Never grants what it does not understand: a role or a scope that is none is left out.

use auth::password::{Password, PasswordRejected, PasswordRules};
use auth::permission::{Permissions, Role};
use auth::secret::Secret;
use serde_json::{Value, json};
use store::{AccountRow, NewAccount, StoreError};

use super::Security;

/// Somebody who may log in.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct User {
    pub(crate) name: String,
    pub(crate) roles: Vec<Role>,
    /// He may not log in, and is not logged in.
    pub(crate) disabled: bool,
    pub(super) hash: String,
    revision: u64,
}

/// A program that is given tokens.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Client {
    pub(crate) name: String,
    /// What its tokens may allow.
    pub(crate) scopes: Vec<String>,
    pub(crate) disabled: bool,
    pub(super) hash: String,
    revision: u64,
}

impl From<AccountRow> for User {
    fn from(row: AccountRow) -> Self {
        let roles = texts(&row.profile["roles"]).filter_map(|role| Role::parse(&role)).collect();
        let disabled = is_disabled(&row.profile);
        Self { name: row.name, roles, disabled, hash: row.secret_hash, revision: row.revision }
    }
}

impl From<AccountRow> for Client {
    fn from(row: AccountRow) -> Self {
        let (scopes, disabled) = (texts(&row.profile["scopes"]).collect(), is_disabled(&row.profile));
        Self { name: row.name, scopes, disabled, hash: row.secret_hash, revision: row.revision }
    }
}

impl User {
    fn account(&self) -> NewAccount {
        let roles: Vec<_> = self.roles.iter().map(|role| role.name()).collect();
        let profile = json!({ "roles": roles, "disabled": self.disabled });
        NewAccount { name: self.name.clone(), secret_hash: self.hash.clone(), profile }
    }
}

impl Client {
    fn account(&self) -> NewAccount {
        let profile = json!({ "scopes": self.scopes, "disabled": self.disabled });
        NewAccount { name: self.name.clone(), secret_hash: self.hash.clone(), profile }
    }

    /// Whether it is its secret. A secret of ours is random, so that a plain digest tells nothing.
    pub(super) fn knows(&self, secret: &str) -> bool {
        let shown = Secret::parse(secret).map(|secret| secret.digest().text()).unwrap_or_default();
        auth::secret::are_alike(shown.as_bytes(), self.hash.as_bytes())
    }
}

fn texts(value: &Value) -> impl Iterator<Item = String> {
    let list = value.as_array().cloned().unwrap_or_default();
    list.into_iter().filter_map(|text| text.as_str().map(str::to_owned))
}

/// What cannot be read is disabled.
fn is_disabled(profile: &Value) -> bool {
    profile.get("disabled").is_some_and(|disabled| disabled != &Value::Bool(false))
}

/// Why something was not done with an account.
#[derive(Debug)]
pub(crate) enum AccountError {
    /// The name is none.
    Name,
    /// The password breaks a rule.
    Password(PasswordRejected),
    /// There is none of this name.
    Missing,
    /// There is one of this name, or somebody else has changed it at the same moment.
    Conflict(String),
    /// Nobody gives what he does not have.
    TooMuch,
    /// It is the last who may do everything.
    LastAdministrator,
    /// Hashing failed for want of memory or random bytes.
    CannotHash,
    Store(StoreError),
}

impl From<StoreError> for AccountError {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Conflict { what, .. } => Self::Conflict(what),
            StoreError::Missing { .. } => Self::Missing,
            other => Self::Store(other),
        }
    }
}

/// What is to be changed of a user; what is left out stays.
#[derive(Debug, Default)]
pub(crate) struct UserChange {
    pub(crate) password: Option<Password>,
    pub(crate) roles: Option<Vec<Role>>,
    pub(crate) disabled: Option<bool>,
}

impl Security {
    pub(crate) async fn users(&self) -> Result<Vec<User>, AccountError> {
        Ok(self.home.users().await?.into_iter().map(User::from).collect())
    }

    pub(crate) async fn user(&self, name: &str) -> Result<User, AccountError> {
        Ok(self.home.user(name).await?.ok_or(AccountError::Missing)?.into())
    }

    /// Adds a user whom somebody with these permissions may add.
    pub(crate) async fn add_user(
        &self,
        rules: PasswordRules,
        by: Permissions,
        name: &str,
        password: Password,
        roles: Vec<Role>,
    ) -> Result<User, AccountError> {
        check_name(name)?;
        rules.check(&password, name).map_err(AccountError::Password)?;
        check_covers(by, &roles)?;
        let hash = self.hash_password(password).await.ok_or(AccountError::CannotHash)?;
        let user = User { name: name.to_owned(), roles, disabled: false, hash, revision: 0 };
        Ok(self.home.add_user(&user.account()).await?.into())
    }

    /// Changes a user. Whose password, roles or state change is not logged in any more.
    pub(crate) async fn change_user(
        &self,
        rules: PasswordRules,
        by: Permissions,
        name: &str,
        change: UserChange,
    ) -> Result<User, AccountError> {
        let mut user = self.user(name).await?;
        // He who may do more is changed by nobody who may do less.
        check_covers(by, &user.roles)?;
        if let Some(roles) = change.roles {
            check_covers(by, &roles)?;
            user.roles = roles;
        }
        user.disabled = change.disabled.unwrap_or(user.disabled);
        if let Some(password) = change.password {
            rules.check(&password, name).map_err(AccountError::Password)?;
            user.hash = self.hash_password(password).await.ok_or(AccountError::CannotHash)?;
        }
        let is_administrator = !user.disabled && user.roles.contains(&Role::Administrator);
        if !is_administrator {
            self.check_not_last(name).await?;
        }
        let changed = self.home.update_user(user.revision, &user.account()).await?;
        self.log_out_everywhere(name).await?;
        Ok(changed.into())
    }

    pub(crate) async fn remove_user(&self, by: Permissions, name: &str) -> Result<(), AccountError> {
        let user = self.user(name).await?;
        check_covers(by, &user.roles)?;
        self.check_not_last(name).await?;
        if !self.home.remove_user(name).await? {
            return Err(AccountError::Missing);
        }
        self.log_out_everywhere(name).await
    }

    /// Somebody has to be able to undo what is done.
    async fn check_not_last(&self, name: &str) -> Result<(), AccountError> {
        let users = self.users().await?;
        let administrators =
            users.iter().filter(|user| !user.disabled && user.roles.contains(&Role::Administrator));
        let (mut is_one, mut others) = (false, 0);
        for user in administrators {
            if user.name == name {
                is_one = true;
            } else {
                others += 1;
            }
        }
        if is_one && others == 0 { Err(AccountError::LastAdministrator) } else { Ok(()) }
    }

    async fn log_out_everywhere(&self, user: &str) -> Result<(), AccountError> {
        self.sessions.forget_all();
        self.home.end_sessions_of(user).await?;
        self.sessions.forget_all();
        Ok(())
    }

    pub(crate) async fn clients(&self) -> Result<Vec<Client>, AccountError> {
        Ok(self.home.clients().await?.into_iter().map(Client::from).collect())
    }

    pub(crate) async fn client(&self, name: &str) -> Result<Client, AccountError> {
        Ok(self.home.client(name).await?.ok_or(AccountError::Missing)?.into())
    }

    /// Adds a client, and makes its secret, which is known nowhere afterwards.
    pub(crate) async fn add_client(
        &self,
        by: Permissions,
        name: &str,
        scopes: Vec<String>,
    ) -> Result<(Client, Secret), AccountError> {
        check_name(name)?;
        check_scopes(by, &scopes)?;
        let secret = Secret::random().map_err(|_| AccountError::CannotHash)?;
        let client =
            Client { name: name.to_owned(), scopes, disabled: false, hash: hash_of(&secret), revision: 0 };
        Ok((self.home.add_client(&client.account()).await?.into(), secret))
    }

    /// Changes a client; with `new_secret` the old one is worth nothing from now on.
    pub(crate) async fn change_client(
        &self,
        by: Permissions,
        name: &str,
        scopes: Option<Vec<String>>,
        disabled: Option<bool>,
        new_secret: bool,
    ) -> Result<(Client, Option<Secret>), AccountError> {
        let mut client = self.client(name).await?;
        check_scopes(by, &client.scopes)?;
        if let Some(scopes) = scopes {
            check_scopes(by, &scopes)?;
            client.scopes = scopes;
        }
        client.disabled = disabled.unwrap_or(client.disabled);
        let secret = new_secret.then(Secret::random).transpose().map_err(|_| AccountError::CannotHash)?;
        if let Some(secret) = &secret {
            client.hash = hash_of(secret);
        }
        Ok((self.home.update_client(client.revision, &client.account()).await?.into(), secret))
    }

    pub(crate) async fn remove_client(&self, name: &str) -> Result<(), AccountError> {
        if self.home.remove_client(name).await? { Ok(()) } else { Err(AccountError::Missing) }
    }
}

fn hash_of(secret: &Secret) -> String {
    secret.digest().text()
}

/// What can stand in a path, a log and a field line as it is.
fn check_name(name: &str) -> Result<(), AccountError> {
    let is_good = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.' | b'@');
    let is_name = (1..=64).contains(&name.len()) && name.bytes().all(is_good);
    if is_name { Ok(()) } else { Err(AccountError::Name) }
}

fn check_covers(by: Permissions, roles: &[Role]) -> Result<(), AccountError> {
    if by.cover(Permissions::of_roles(roles)) { Ok(()) } else { Err(AccountError::TooMuch) }
}

fn check_scopes(by: Permissions, scopes: &[String]) -> Result<(), AccountError> {
    let granted = Permissions::of_scopes(scopes.iter().map(String::as_str));
    if by.cover(granted) { Ok(()) } else { Err(AccountError::TooMuch) }
}
