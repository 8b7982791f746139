//! Which sessions does this process know? Those that were used here, as the store last said.
//!
//! Never one that was ended elsewhere for longer than a round, and never more than a bounded number.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use auth::permission::{Permissions, Role};
use auth::secret::Digest;
use auth::session::{SessionId, SessionTerms};
use store::StoreError;

use super::accounts::User;
use super::home::Home;

/// Far more than people who look after a gateway.
const SESSIONS_MAX: usize = 10_000;

/// A session as it was last seen.
#[derive(Clone, Debug)]
pub(super) struct Session {
    pub(super) user: Arc<str>,
    pub(super) roles: Arc<[Role]>,
    began: Instant,
    used: Instant,
    /// When the store was last told that it is used.
    told: Instant,
}

impl Session {
    pub(super) fn permissions(&self) -> Permissions {
        Permissions::of_roles(&self.roles)
    }
}

#[derive(Debug, Default)]
pub(super) struct Sessions {
    by_id: Mutex<HashMap<Digest, Session>>,
    /// Grows whenever something is forgotten: what was read before that is not remembered.
    forgotten: AtomicU64,
}

impl Sessions {
    fn by_id(&self) -> MutexGuard<'_, HashMap<Digest, Session>> {
        self.by_id.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The session of this id, if it is not over; it counts as used.
    pub(super) async fn find(
        &self,
        home: &Home,
        terms: &SessionTerms,
        id: &SessionId,
    ) -> Result<Option<Session>, StoreError> {
        let (digest, now) = (id.digest(), Instant::now());
        let mut is_told = true;
        let known = {
            let mut by_id = self.by_id();
            let known = by_id.get_mut(&digest).filter(|session| !is_over(terms, session, now));
            known.map(|session| {
                session.used = now;
                if now - session.told >= terms.touch_every() {
                    (session.told, is_told) = (now, false);
                }
                session.clone()
            })
        };
        if !is_told {
            // What cannot be told now is told again; the session goes on here meanwhile.
            let _ = home.touch_session(&digest.0).await;
        }
        if known.is_some() {
            return Ok(known);
        }
        // Another process may have seen it more recently, or it began there.
        let before = self.forgotten.load(Ordering::Acquire);
        let Some(row) = home.session(&digest.0).await? else {
            self.by_id().remove(&digest);
            return Ok(None);
        };
        let Some(user) = home.user(&row.user).await?.map(User::from).filter(|user| !user.disabled) else {
            return Ok(None);
        };
        let ago = |moment| now.checked_sub(row.read_at.since(moment)).unwrap_or(now);
        let session = Session {
            user: user.name.as_str().into(),
            roles: user.roles.into(),
            began: ago(row.created_at),
            used: ago(row.used_at),
            told: now,
        };
        if is_over(terms, &session, now) {
            return Ok(None);
        }
        home.touch_session(&digest.0).await?;
        let session = Session { used: now, ..session };
        let mut by_id = self.by_id();
        if by_id.len() >= SESSIONS_MAX {
            by_id.retain(|_, session| !is_over(terms, session, now));
        }
        if by_id.len() < SESSIONS_MAX && before == self.forgotten.load(Ordering::Acquire) {
            by_id.insert(digest, session.clone());
        }
        Ok(Some(session))
    }

    /// Ends a session, here and everywhere.
    pub(super) async fn end(&self, home: &Home, digest: &Digest) -> Result<(), StoreError> {
        self.forget(digest);
        home.end_session(&digest.0).await?;
        self.forget(digest);
        Ok(())
    }

    fn forget(&self, digest: &Digest) {
        self.forgotten.fetch_add(1, Ordering::Release);
        self.by_id().remove(digest);
    }

    /// Reads all of them again when they are used next: somebody's roles may have changed.
    pub(super) fn forget_all(&self) {
        self.forgotten.fetch_add(1, Ordering::Release);
        self.by_id().clear();
    }

    /// Forgets those that have been ended since the store was at this revision.
    pub(super) async fn forget_ended(&self, home: &Home, since: u64) -> Result<(), StoreError> {
        self.forgotten.fetch_add(1, Ordering::Release);
        for ended in home.sessions_ended_since(since).await? {
            if let Ok(digest) = ended.hash.as_slice().try_into() {
                self.forget(&Digest(digest));
            }
        }
        Ok(())
    }
}

fn is_over(terms: &SessionTerms, session: &Session, now: Instant) -> bool {
    terms.is_over(now - session.began, now - session.used)
}
