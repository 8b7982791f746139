//! What does a process without a store keep of users, sessions and keys? The same as a store would, for as long as it runs.
//!
//! Never without bounds: who fills it up is refused.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use store::{
    AccountRow, KeyRow, NewAccount, NewKey, NewSession, Revocation, SessionRow, StoreError, UnixMillis,
};

/// Users, and clients, of a process that is alone.
const ACCOUNTS_MAX: usize = 10_000;
const SESSIONS_MAX: usize = 10_000;
const REVOCATIONS_MAX: usize = 100_000;

/// A store in memory.
#[derive(Debug, Default)]
pub(super) struct Memory(Mutex<Tables>);

#[derive(Debug, Default)]
struct Tables {
    users: BTreeMap<String, AccountRow>,
    clients: BTreeMap<String, AccountRow>,
    sessions: HashMap<Vec<u8>, SessionRow>,
    keys: Vec<KeyRow>,
    revocations: HashMap<String, Revocation>,
    revision: u64,
}

impl Tables {
    fn next_revision(&mut self) -> u64 {
        self.revision += 1;
        self.revision
    }
}

fn now() -> UnixMillis {
    let since_1970 = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    UnixMillis(u64::try_from(since_1970.as_millis()).unwrap_or(u64::MAX))
}

fn full(what: &str) -> StoreError {
    let help = "give it a store (`[store]`)".to_owned();
    StoreError::Refused { cause: format!("this process keeps no more {what} in its memory"), help }
}

fn conflict(what: String) -> StoreError {
    StoreError::Conflict { what, current: None }
}

fn add(
    accounts: &mut BTreeMap<String, AccountRow>,
    revision: u64,
    new: &NewAccount,
) -> Result<AccountRow, StoreError> {
    if accounts.contains_key(&new.name) {
        return Err(conflict(format!("there is a {:?} already", new.name)));
    }
    if accounts.len() >= ACCOUNTS_MAX {
        return Err(full("accounts"));
    }
    let row = AccountRow {
        name: new.name.clone(),
        secret_hash: new.secret_hash.clone(),
        profile: new.profile.clone(),
        revision,
        created_at: now(),
        changed_at: now(),
    };
    accounts.insert(new.name.clone(), row.clone());
    Ok(row)
}

fn update(
    accounts: &mut BTreeMap<String, AccountRow>,
    seen: u64,
    revision: u64,
    new: &NewAccount,
) -> Result<AccountRow, StoreError> {
    let row =
        accounts.get_mut(&new.name).ok_or_else(|| StoreError::Missing { what: format!("{:?}", new.name) })?;
    if row.revision != seen {
        return Err(conflict(format!("somebody has changed {:?} meanwhile", new.name)));
    }
    row.secret_hash.clone_from(&new.secret_hash);
    row.profile.clone_from(&new.profile);
    (row.revision, row.changed_at) = (revision, now());
    Ok(row.clone())
}

impl Memory {
    fn tables(&self) -> MutexGuard<'_, Tables> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn users(&self) -> Result<Vec<AccountRow>, StoreError> {
        Ok(self.tables().users.values().cloned().collect())
    }

    pub(super) fn user(&self, name: &str) -> Result<Option<AccountRow>, StoreError> {
        Ok(self.tables().users.get(name).cloned())
    }

    pub(super) fn add_user(&self, user: &NewAccount) -> Result<AccountRow, StoreError> {
        let mut tables = self.tables();
        let revision = tables.next_revision();
        add(&mut tables.users, revision, user)
    }

    pub(super) fn add_first_user(&self, user: &NewAccount) -> Result<Option<AccountRow>, StoreError> {
        let mut tables = self.tables();
        if !tables.users.is_empty() {
            return Ok(None);
        }
        let revision = tables.next_revision();
        add(&mut tables.users, revision, user).map(Some)
    }

    pub(super) fn update_user(&self, seen: u64, user: &NewAccount) -> Result<AccountRow, StoreError> {
        let mut tables = self.tables();
        let revision = tables.next_revision();
        update(&mut tables.users, seen, revision, user)
    }

    pub(super) fn remove_user(&self, name: &str) -> Result<bool, StoreError> {
        Ok(self.tables().users.remove(name).is_some())
    }

    pub(super) fn clients(&self) -> Result<Vec<AccountRow>, StoreError> {
        Ok(self.tables().clients.values().cloned().collect())
    }

    pub(super) fn client(&self, name: &str) -> Result<Option<AccountRow>, StoreError> {
        Ok(self.tables().clients.get(name).cloned())
    }

    pub(super) fn add_client(&self, client: &NewAccount) -> Result<AccountRow, StoreError> {
        let mut tables = self.tables();
        let revision = tables.next_revision();
        add(&mut tables.clients, revision, client)
    }

    pub(super) fn update_client(&self, seen: u64, client: &NewAccount) -> Result<AccountRow, StoreError> {
        let mut tables = self.tables();
        let revision = tables.next_revision();
        update(&mut tables.clients, seen, revision, client)
    }

    pub(super) fn remove_client(&self, name: &str) -> Result<bool, StoreError> {
        Ok(self.tables().clients.remove(name).is_some())
    }

    pub(super) fn add_session(&self, session: &NewSession) -> Result<(), StoreError> {
        let mut tables = self.tables();
        let now = now();
        if tables.sessions.len() >= SESSIONS_MAX {
            tables.sessions.retain(|_, session| session.expires_at > now);
        }
        if tables.sessions.len() >= SESSIONS_MAX {
            return Err(full("sessions"));
        }
        let row = SessionRow {
            hash: session.hash.clone(),
            user: session.user.clone(),
            details: session.details.clone(),
            created_at: now,
            used_at: now,
            expires_at: now.after(session.lifetime),
            read_at: now,
        };
        tables.sessions.insert(session.hash.clone(), row);
        Ok(())
    }

    pub(super) fn session(&self, hash: &[u8]) -> Result<Option<SessionRow>, StoreError> {
        let tables = self.tables();
        let found = tables.sessions.get(hash).filter(|session| session.expires_at > now());
        Ok(found.map(|session| SessionRow { read_at: now(), ..session.clone() }))
    }

    pub(super) fn touch_session(&self, hash: &[u8]) -> Result<bool, StoreError> {
        let mut tables = self.tables();
        let session = tables.sessions.get_mut(hash);
        Ok(session.map(|session| session.used_at = now()).is_some())
    }

    pub(super) fn end_session(&self, hash: &[u8]) -> Result<bool, StoreError> {
        Ok(self.tables().sessions.remove(hash).is_some())
    }

    pub(super) fn end_sessions_of(&self, user: &str) -> Result<u64, StoreError> {
        let mut tables = self.tables();
        let before = tables.sessions.len();
        tables.sessions.retain(|_, session| session.user != user);
        Ok((before - tables.sessions.len()) as u64)
    }

    pub(super) fn keys(&self, kind: &str) -> Result<Vec<KeyRow>, StoreError> {
        let mut keys: Vec<_> = self.tables().keys.iter().filter(|key| key.kind == kind).cloned().collect();
        keys.sort_by_key(|key| key.active_from);
        Ok(keys)
    }

    pub(super) fn add_key(&self, key: &NewKey) -> Result<(), StoreError> {
        let mut tables = self.tables();
        if tables.keys.iter().any(|known| known.kind == key.kind && known.id == key.id) {
            return Err(conflict(format!("the key {}/{} is there already", key.kind, key.id)));
        }
        tables.keys.push(KeyRow {
            id: key.id.clone(),
            kind: key.kind.clone(),
            created_at: now(),
            active_from: key.active_from,
            retire_at: key.retire_at,
            secret: key.secret.clone(),
        });
        Ok(())
    }

    pub(super) fn retire_key(&self, kind: &str, id: &str, at: UnixMillis) -> Result<(), StoreError> {
        let mut tables = self.tables();
        let key = tables.keys.iter_mut().find(|key| key.kind == kind && key.id == id);
        key.map(|key| key.retire_at = Some(at))
            .ok_or_else(|| StoreError::Missing { what: format!("key {kind}/{id}") })
    }

    pub(super) fn remove_key(&self, kind: &str, id: &str) -> Result<(), StoreError> {
        self.tables().keys.retain(|key| key.kind != kind || key.id != id);
        Ok(())
    }

    pub(super) fn revoke_token(&self, token: &str, expires_at: UnixMillis) -> Result<(), StoreError> {
        let mut tables = self.tables();
        let now = now();
        if tables.revocations.len() >= REVOCATIONS_MAX {
            // A token is believed a little longer than it holds.
            let hour = Duration::from_secs(3600);
            tables.revocations.retain(|_, revoked| revoked.expires_at.after(hour) > now);
        }
        if tables.revocations.len() >= REVOCATIONS_MAX {
            return Err(full("revocations"));
        }
        let revision = tables.next_revision();
        let revoked = Revocation { token: token.to_owned(), expires_at, revision };
        tables.revocations.entry(token.to_owned()).or_insert(revoked);
        Ok(())
    }

    pub(super) fn revocations(&self) -> Result<Vec<Revocation>, StoreError> {
        Ok(self.tables().revocations.values().cloned().collect())
    }
}
