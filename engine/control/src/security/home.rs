//! Where are users, clients, sessions and keys kept? In the store, or in this process where there is none.
//!
//! Never both: a process of a cluster has nothing of its own.

use std::sync::OnceLock;

use store::{
    AccountRow, EndedSession, KeyRow, NewAccount, NewKey, NewSession, Revisions, Revocation, SessionRow,
    Store, StoreError, UnixMillis,
};

use super::memory::Memory;

/// Where it is kept.
#[derive(Debug)]
pub(super) enum Home {
    /// Empty as long as the store has never been reached: nobody is let in then.
    Store(OnceLock<Store>),
    Memory(Memory),
}

fn reached(store: &OnceLock<Store>) -> Result<&Store, StoreError> {
    let away = || StoreError::Unavailable { cause: "it has not been reached yet".to_owned() };
    store.get().ok_or_else(away)
}

/// One question to either.
macro_rules! ask {
    ($self:ident, $call:ident($($argument:expr),*)) => {
        match $self {
            Home::Store(store) => reached(store)?.$call($($argument),*).await,
            Home::Memory(memory) => memory.$call($($argument),*),
        }
    };
}

impl Home {
    pub(super) fn new(has_store: bool) -> Self {
        if has_store { Self::Store(OnceLock::new()) } else { Self::Memory(Memory::default()) }
    }

    /// The store can be reached: it is the same until the process ends.
    pub(super) fn connect(&self, store: Store) {
        if let Self::Store(home) = self {
            home.get_or_init(|| store);
        }
    }

    pub(super) fn is_memory(&self) -> bool {
        matches!(self, Self::Memory(_))
    }

    /// What changes when others change something; nothing where there are no others.
    pub(super) async fn revisions(&self) -> Result<Option<Revisions>, StoreError> {
        match self {
            Self::Store(store) => reached(store)?.revisions().await.map(Some),
            Self::Memory(_) => Ok(None),
        }
    }

    pub(super) async fn users(&self) -> Result<Vec<AccountRow>, StoreError> {
        ask!(self, users())
    }

    pub(super) async fn user(&self, name: &str) -> Result<Option<AccountRow>, StoreError> {
        ask!(self, user(name))
    }

    pub(super) async fn add_user(&self, user: &NewAccount) -> Result<AccountRow, StoreError> {
        ask!(self, add_user(user))
    }

    pub(super) async fn add_first_user(&self, user: &NewAccount) -> Result<Option<AccountRow>, StoreError> {
        ask!(self, add_first_user(user))
    }

    pub(super) async fn update_user(
        &self,
        revision: u64,
        user: &NewAccount,
    ) -> Result<AccountRow, StoreError> {
        ask!(self, update_user(revision, user))
    }

    pub(super) async fn remove_user(&self, name: &str) -> Result<bool, StoreError> {
        ask!(self, remove_user(name))
    }

    pub(super) async fn clients(&self) -> Result<Vec<AccountRow>, StoreError> {
        ask!(self, clients())
    }

    pub(super) async fn client(&self, name: &str) -> Result<Option<AccountRow>, StoreError> {
        ask!(self, client(name))
    }

    pub(super) async fn add_client(&self, client: &NewAccount) -> Result<AccountRow, StoreError> {
        ask!(self, add_client(client))
    }

    pub(super) async fn update_client(
        &self,
        revision: u64,
        client: &NewAccount,
    ) -> Result<AccountRow, StoreError> {
        ask!(self, update_client(revision, client))
    }

    pub(super) async fn remove_client(&self, name: &str) -> Result<bool, StoreError> {
        ask!(self, remove_client(name))
    }

    pub(super) async fn add_session(&self, session: &NewSession) -> Result<(), StoreError> {
        ask!(self, add_session(session))
    }

    pub(super) async fn session(&self, hash: &[u8]) -> Result<Option<SessionRow>, StoreError> {
        ask!(self, session(hash))
    }

    pub(super) async fn touch_session(&self, hash: &[u8]) -> Result<bool, StoreError> {
        ask!(self, touch_session(hash))
    }

    pub(super) async fn end_session(&self, hash: &[u8]) -> Result<bool, StoreError> {
        ask!(self, end_session(hash))
    }

    pub(super) async fn end_sessions_of(&self, user: &str) -> Result<u64, StoreError> {
        ask!(self, end_sessions_of(user))
    }

    pub(super) async fn sessions_ended_since(&self, revision: u64) -> Result<Vec<EndedSession>, StoreError> {
        match self {
            Self::Store(store) => reached(store)?.sessions_ended_since(revision).await,
            Self::Memory(_) => Ok(Vec::new()),
        }
    }

    pub(super) async fn keys(&self, kind: &str) -> Result<Vec<KeyRow>, StoreError> {
        ask!(self, keys(kind))
    }

    pub(super) async fn add_key(&self, key: &NewKey) -> Result<(), StoreError> {
        ask!(self, add_key(key))
    }

    pub(super) async fn retire_key(&self, kind: &str, id: &str, at: UnixMillis) -> Result<(), StoreError> {
        ask!(self, retire_key(kind, id, at))
    }

    pub(super) async fn remove_key(&self, kind: &str, id: &str) -> Result<(), StoreError> {
        ask!(self, remove_key(kind, id))
    }

    pub(super) async fn revoke_token(&self, token: &str, expires_at: UnixMillis) -> Result<(), StoreError> {
        ask!(self, revoke_token(token, expires_at))
    }

    pub(super) async fn revocations(&self) -> Result<Vec<Revocation>, StoreError> {
        ask!(self, revocations())
    }
}
