//! Is it he? Logins, and the end of what they begin.
//!
//! Never says whether it was the name or the password that was wrong, not even by how long it takes.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use auth::lockout::{Attempt, LockoutTerms};
use auth::password::{self, Password};
use auth::permission::{Permissions, Role};
use auth::secret::Digest;
use auth::session::{SessionId, SessionTerms};
use config::snapshot::security::LocalInbound;
use serde_json::json;
use store::{NewSession, StoreError};

use super::Security;
use super::accounts::{Client, User};

/// Why nobody is let in.
#[derive(Debug)]
pub(crate) enum Refused {
    /// The name, the password or both are wrong, or he may not log in.
    Wrong,
    /// Too many have failed.
    LockedOut(Duration),
    Store(StoreError),
}

impl From<StoreError> for Refused {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

/// Somebody who has just logged in.
#[derive(Debug)]
pub(crate) struct LoggedIn {
    pub(crate) id: SessionId,
    pub(crate) user: Arc<str>,
    pub(crate) roles: Arc<[Role]>,
}

impl LoggedIn {
    pub(crate) fn permissions(&self) -> Permissions {
        Permissions::of_roles(&self.roles)
    }
}

pub(super) fn session_terms(local: &LocalInbound) -> SessionTerms {
    SessionTerms { idle: local.session_idle, absolute: local.session_lifetime }
}

fn lockout_terms(local: &LocalInbound) -> LockoutTerms {
    LockoutTerms { failures_max: local.lockout_failures, window: local.lockout_window }
}

impl Security {
    /// The user of this name and password.
    pub(super) async fn verify_user(
        &self,
        local: &LocalInbound,
        name: &str,
        password: Password,
        address: IpAddr,
    ) -> Result<User, Refused> {
        let attempt = self.begin(name, Some(address), &lockout_terms(local))?;
        let user = self.home.user(name).await?.map(User::from);
        let hash = user.as_ref().map(|user| user.hash.clone());
        let is_right = self.verify_password(password, hash).await;
        let user = user.filter(|user| is_right && !user.disabled).ok_or(Refused::Wrong)?;
        self.attempts().succeeded(&attempt);
        if password::is_outdated(&user.hash) {
            tracing::info!(
                "the password of user {} was hashed as an earlier version did: change it",
                user.name
            );
        }
        Ok(user)
    }

    /// The client of this name and secret. Clients come through the gateway, many by one address.
    pub(super) async fn verify_client(
        &self,
        name: &str,
        secret: &str,
        address: IpAddr,
    ) -> Result<Client, Refused> {
        let address = Some(address).filter(|address| !address.to_canonical().is_loopback());
        // Apart from users of the same name.
        let attempt = self.begin(&format!("client {name}"), address, &LockoutTerms::default())?;
        let client = self.home.client(name).await?.map(Client::from);
        let client =
            client.filter(|client| client.knows(secret) && !client.disabled).ok_or(Refused::Wrong)?;
        self.attempts().succeeded(&attempt);
        Ok(client)
    }

    fn begin(&self, name: &str, address: Option<IpAddr>, terms: &LockoutTerms) -> Result<Attempt, Refused> {
        let begun = self.attempts().begin(name, address, terms, Instant::now());
        begun.map_err(|locked_out| Refused::LockedOut(locked_out.retry_after))
    }

    /// Begins a session with an id of its own; the one that the client came with is over.
    pub(crate) async fn log_in(
        &self,
        local: &LocalInbound,
        name: &str,
        password: Password,
        address: IpAddr,
        before: Option<&SessionId>,
    ) -> Result<LoggedIn, Refused> {
        let user = self.verify_user(local, name, password, address).await?;
        let no_bytes = |_| StoreError::Unavailable { cause: "the system has no random bytes".to_owned() };
        let id = SessionId::random().map_err(no_bytes)?;
        let session = NewSession {
            hash: id.digest().0.to_vec(),
            user: user.name.clone(),
            details: json!({ "address": address }),
            lifetime: local.session_lifetime,
        };
        self.home.add_session(&session).await?;
        if let Some(before) = before {
            self.log_out(&before.digest()).await?;
        }
        Ok(LoggedIn { id, user: user.name.as_str().into(), roles: user.roles.into() })
    }

    /// Ends a session, in all processes.
    pub(crate) async fn log_out(&self, session: &Digest) -> Result<(), StoreError> {
        self.sessions.end(&self.home, session).await
    }
}
