//! Who may use the admin listener, and which tokens do the cores believe? Users, sessions, clients, keys.
//!
//! Never on a request's way, and never keeps a password: what is left of one is in the store, or in this process where there is none.
//!
//! Suggested reading order: [`Security`], `caller` (who sends this), `login`, `sessions`, `accounts`, `signing` (keys of tokens),
//! `sources` (keys from elsewhere), `home` (where all of it is kept).

mod home;
mod memory;

pub(crate) mod accounts;
pub(crate) mod caller;
pub(crate) mod login;
mod sessions;

mod fetch;
mod signing;
mod sources;
pub(crate) mod tokens;

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, mpsc};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use auth::lockout::Attempts;
use auth::password::{self, Password};
use auth::token::revocation::Revocations;
use config::snapshot::Snapshot;
use config::snapshot::security::{LocalInbound, SecurityKind, TokenIssuer};
use store::{NewAccount, Revisions, StoreError};
use tokio::sync::Semaphore;

use self::home::Home;
use self::sessions::Sessions;
use self::signing::Signing;
use self::sources::Sources;
use crate::Shared;
use crate::live::Live;
use crate::statistics::{Membership, membership};

/// How often is looked for what others have changed: a logout is known everywhere within a second.
const ROUND: Duration = Duration::from_millis(500);

/// Passwords hashed at a time: each takes some 20 MiB and a CPU.
const HASHES_AT_ONCE: usize = 2;

/// Longest skew that a check can have: what is revoked is kept that much longer.
const SKEW_SECONDS_MAX: u64 = 600;

/// Where an admin request comes from.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Peer(pub(crate) SocketAddr);

/// Everything about who may do what in this process.
#[derive(Debug)]
pub(crate) struct Security {
    home: Home,
    attempts: Mutex<Attempts>,
    hashing: Arc<Semaphore>,
    sessions: Sessions,
    signing: Signing,
    sources: Sources,
    revoked: Mutex<Arc<Revocations>>,
    /// Whether the store keeps its keys from this process.
    is_keyless: AtomicBool,
    /// What was known of the store when it was last looked at.
    seen: Mutex<Option<Revisions>>,
}

impl Security {
    /// With users, sessions and keys in the store, once it is connected, or in the memory of a process that has none.
    pub(crate) fn new(has_store: bool) -> Self {
        Self {
            home: Home::new(has_store),
            attempts: Mutex::default(),
            hashing: Arc::new(Semaphore::new(HASHES_AT_ONCE)),
            sessions: Sessions::default(),
            signing: Signing::default(),
            sources: Sources::default(),
            revoked: Mutex::default(),
            is_keyless: AtomicBool::new(false),
            seen: Mutex::default(),
        }
    }

    /// The store can be reached.
    pub(crate) fn connect(&self, store: store::Store) {
        self.home.connect(store);
    }

    fn attempts(&self) -> MutexGuard<'_, Attempts> {
        self.attempts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether it is the password behind `hash`, found out by a thread beside.
    async fn verify_password(&self, password: Password, hash: Option<String>) -> bool {
        let Ok(place) = Arc::clone(&self.hashing).acquire_owned().await else { return false };
        let verified = tokio::task::spawn_blocking(move || {
            let is_right = password::verify(&password, hash.as_deref());
            drop(place);
            is_right
        });
        verified.await.unwrap_or(false)
    }

    /// The hash of a password, made by a thread beside.
    async fn hash_password(&self, password: Password) -> Option<String> {
        let place = Arc::clone(&self.hashing).acquire_owned().await.ok()?;
        let hashed = tokio::task::spawn_blocking(move || {
            let hash = password::hash(&password);
            drop(place);
            hash.ok()
        });
        hashed.await.ok().flatten()
    }

    /// Makes the first user, if there is none and admin asks for users. His password is shown this once.
    async fn make_first_user(&self, live: &Live) -> Result<(), StoreError> {
        if local_of_admin(&live.snapshot).is_none() || !self.home.users().await?.is_empty() {
            return Ok(());
        }
        let Ok(password) = Password::random() else { return Ok(()) };
        let shown = Password::new(password.reveal().to_owned());
        let Some(secret_hash) = self.hash_password(password).await else { return Ok(()) };
        let profile = serde_json::json!({ "roles": ["administrator"] });
        let first = NewAccount { name: "admin".to_owned(), secret_hash, profile };
        // Of several processes that begin at once one adds him, and shows the password.
        if self.home.add_first_user(&first).await?.is_some() {
            // Not into the log, which is kept.
            eprintln!(
                "There was no user yet. Log in as \"admin\" with the password {:?}, which is shown this once, and change it.",
                shown.reveal()
            );
            if self.home.is_memory() {
                tracing::warn!(
                    "users, sessions and keys are in the memory of this process and end with it: there is no store"
                );
            }
        }
        Ok(())
    }

    /// Takes up what other processes have changed since it was last asked.
    async fn catch_up(&self) -> Result<(), StoreError> {
        let Some(now) = self.home.revisions().await? else {
            // In memory nobody else changes anything.
            self.signing.read(&self.home).await?;
            return self.read_revocations().await;
        };
        let before = *self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        if before.is_none_or(|before| before.sessions != now.sessions) {
            self.sessions.forget_ended(&self.home, before.map_or(0, |before| before.sessions)).await?;
        }
        if before.is_none_or(|before| before.users != now.users) {
            self.sessions.forget_all();
        }
        if before.is_none_or(|before| before.keys != now.keys) {
            match self.signing.read(&self.home).await {
                // A process that is not given the key of the store knows users and sessions all the same.
                Err(error @ StoreError::Refused { .. }) => self.tell_once(&error),
                read => read?,
            }
        }
        if before.is_none_or(|before| before.revocations != now.revocations) {
            self.read_revocations().await?;
        }
        // Only now: what has failed is tried again.
        *self.seen.lock().unwrap_or_else(PoisonError::into_inner) = Some(now);
        Ok(())
    }

    fn tell_once(&self, error: &StoreError) {
        if !self.is_keyless.swap(true, Ordering::Relaxed) {
            tracing::warn!(
                "no token is issued, and none that is signed with a key of the store is believed: {error}"
            );
        }
    }

    async fn read_revocations(&self) -> Result<(), StoreError> {
        let rows = self.home.revocations().await?;
        let revoked = rows.into_iter().map(|row| (row.token.into(), row.expires_at.0.div_ceil(1000)));
        let revoked = Revocations::new(revoked, SKEW_SECONDS_MAX, unix_seconds());
        let mut known = self.revoked.lock().unwrap_or_else(PoisonError::into_inner);
        if **known != revoked {
            *known = Arc::new(revoked);
        }
        Ok(())
    }

    /// Tells the cores which tokens to believe.
    pub(crate) fn publish(&self, live: &Live) {
        let tokens = &live.generation.admission.tokens;
        let revoked = Arc::clone(&self.revoked.lock().unwrap_or_else(PoisonError::into_inner));
        tokens.publish_revocations(&revoked);
        self.sources.publish(live, &self.signing);
    }

    /// Has what a new generation needs: keys from elsewhere are read, and its cores told.
    pub(crate) async fn take_up(&self, live: &Live) {
        self.sources.read(live).await;
        self.publish(live);
    }

    /// One round: what others have changed, keys that are due, keys from elsewhere.
    async fn round(&self, live: &Live) {
        if uses_home(&live.snapshot) {
            let caught_up = self.catch_up().await;
            let kept_going = match caught_up {
                Ok(()) => self.keep_going(live).await,
                Err(error) => Err(error),
            };
            if let Err(error) = kept_going {
                tracing::debug!("security: {error}");
            }
        }
        self.take_up(live).await;
    }

    async fn keep_going(&self, live: &Live) -> Result<(), StoreError> {
        self.make_first_user(live).await?;
        if self.is_keyless.load(Ordering::Relaxed) {
            return Ok(());
        }
        if let Some((name, issuer)) = issuer(&live.snapshot) {
            self.signing.rotate_if_due(&self.home, name, issuer).await?;
        }
        Ok(())
    }
}

/// Looks again and again, for as long as the process lives.
pub(crate) async fn rounds(shared: Arc<Shared>, asked: mpsc::Sender<()>) {
    let mut asked = Some(asked);
    loop {
        let live = shared.live();
        if let Membership::Member { store, .. } = membership(&shared) {
            shared.security().connect(store);
        }
        shared.security().round(&live).await;
        // Whoever waits for the first round may go on.
        asked.take();
        tokio::time::sleep(ROUND).await;
    }
}

/// The users that admin asks for, if it does.
pub(crate) fn local_of_admin(snapshot: &Snapshot) -> Option<&LocalInbound> {
    let id = snapshot.admin.as_ref()?.security?;
    match &snapshot.security.get(usize::from(id.0))?.kind {
        SecurityKind::LocalInbound(local) => Some(local),
        SecurityKind::TokenIssuer(_) | SecurityKind::TokenCheck(_) => None,
    }
}

/// The module that signs tokens, if there is one.
pub(crate) fn issuer(snapshot: &Snapshot) -> Option<(&str, &TokenIssuer)> {
    snapshot.security.iter().find_map(|module| match &module.kind {
        SecurityKind::TokenIssuer(issuer) => Some((&*module.name, issuer)),
        SecurityKind::LocalInbound(_) | SecurityKind::TokenCheck(_) => None,
    })
}

/// Whether anything is kept for this configuration.
fn uses_home(snapshot: &Snapshot) -> bool {
    !snapshot.security.is_empty()
}

/// By the clock on the wall, which has never been set before 1970.
pub(crate) fn unix_seconds() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}

#[cfg(test)]
mod tests;
