//! How does a client resume its session on any core? By a ticket that is sealed with keys which all of them share.
//!
//! Never opens a ticket of another listener, or of one that demanded something else of its clients, and never outlives its
//! keys: what was sealed with them is lost with them.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use arc_swap::ArcSwap;
use aws_lc_rs::aead::{AES_256_GCM_SIV, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use aws_lc_rs::digest::{Context, SHA256};
use aws_lc_rs::rand;
use rustls::server::ProducesTickets;
use zeroize::Zeroizing;

/// How long a key seals. Also the lifetime that clients are told: a ticket can always be opened that long.
pub const SEALS_FOR: Duration = Duration::from_secs(6 * 60 * 60);
/// How long a key opens, from the same moment on. Who steals the keys reads sessions of this time, no older ones.
pub const OPENS_FOR: Duration = Duration::from_secs(2 * SEALS_FOR.as_secs());

/// Keys held at a time: the one that seals, its predecessors that still open, successors that others may use already.
const KEYS_MAX: usize = 8;

const ID_BYTES: usize = 16;
const SECRET_BYTES: usize = 32;
/// Id, secret, first second, last second.
const KEY_BYTES: usize = ID_BYTES + SECRET_BYTES + 8 + 8;
/// First byte of exported keys: what follows is as this version writes it.
const FORMAT: u8 = 1;

/// Longest ticket that is opened. A client that resumes under mutual TLS brings its certificates in it.
const TICKET_BYTES_MAX: usize = 32 * 1024;

/// The keys with which tickets are sealed, shared by all listeners and cores.
pub struct TicketKeys {
    /// The youngest first.
    keys: ArcSwap<Vec<Arc<TicketKey>>>,
}

/// No random bytes could be had.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no random bytes for the keys of TLS tickets")]
pub struct NoRandomness;

/// Bytes that are not what [`TicketKeys::export`] wrote.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no keys of TLS tickets, or keys that another version of this program wrote")]
pub struct NotKeys;

/// On the heap from the beginning: what is moved leaves copies that nobody wipes.
type Secret = Box<Zeroizing<[u8; SECRET_BYTES]>>;

struct TicketKey {
    /// Says in front of a ticket which key it takes. Random, so that it tells nothing.
    id: [u8; ID_BYTES],
    /// As it is exported.
    secret: Secret,
    /// As it is used.
    aead: LessSafeKey,
    /// Seconds since 1970 at which it begins to seal.
    begins: u64,
    /// Seconds since 1970 from which on it does not open.
    ends: u64,
}

impl TicketKey {
    fn new(id: [u8; ID_BYTES], secret: Secret, begins: u64, ends: u64) -> Option<Self> {
        // Nonces are drawn by dice, by every core of every process. Should two be alike, this mode gives away that two
        // tickets hold the same, and nothing else (RFC 8452 §9); GCM would give away its key.
        let aead = LessSafeKey::new(UnboundKey::new(&AES_256_GCM_SIV, &**secret).ok()?);
        Some(Self { id, secret, aead, begins, ends })
    }

    fn generate(now: u64) -> Result<Self, NoRandomness> {
        let (mut id, mut secret) = ([0; ID_BYTES], Secret::default());
        rand::fill(&mut id).map_err(|_| NoRandomness)?;
        rand::fill(&mut **secret).map_err(|_| NoRandomness)?;
        Self::new(id, secret, now, now + OPENS_FOR.as_secs()).ok_or(NoRandomness)
    }

    fn write(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.id);
        out.extend_from_slice(&**self.secret);
        out.extend_from_slice(&self.begins.to_be_bytes());
        out.extend_from_slice(&self.ends.to_be_bytes());
    }

    fn read(bytes: &[u8; KEY_BYTES]) -> Option<Self> {
        let (id, rest) = bytes.split_first_chunk()?;
        let (secret, rest) = rest.split_first_chunk::<SECRET_BYTES>()?;
        let (begins, rest) = rest.split_first_chunk()?;
        let (begins, ends) = (u64::from_be_bytes(*begins), u64::from_be_bytes(*rest.first_chunk()?));
        let mut own = Secret::default();
        own.copy_from_slice(secret);
        Self::new(*id, own, begins, ends)
    }
}

impl std::fmt::Debug for TicketKeys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} keys of tickets", self.keys.load().len())
    }
}

impl TicketKeys {
    /// Keys that begin with one made at `now`.
    ///
    /// # Errors
    /// There are no random bytes.
    pub fn new(now: SystemTime) -> Result<Self, NoRandomness> {
        let first = TicketKey::generate(seconds(now))?;
        Ok(Self { keys: ArcSwap::from_pointee(vec![Arc::new(first)]) })
    }

    /// Keys that an earlier or another process wrote with [`Self::export`].
    ///
    /// # Errors
    /// The bytes are none.
    pub fn import(bytes: &[u8]) -> Result<Self, NotKeys> {
        let keys = bytes.strip_prefix(&[FORMAT]).ok_or(NotKeys)?;
        let (keys, rest) = keys.as_chunks::<KEY_BYTES>();
        if keys.is_empty() || keys.len() > KEYS_MAX || !rest.is_empty() {
            return Err(NotKeys);
        }
        let keys = keys.iter().map(|key| TicketKey::read(key).map(Arc::new).ok_or(NotKeys));
        Ok(Self { keys: ArcSwap::from_pointee(keys.collect::<Result<_, _>>()?) })
    }

    /// All keys, for another process. Who has them reads what was said in sessions that were resumed.
    #[must_use]
    pub fn export(&self) -> Zeroizing<Vec<u8>> {
        let keys = self.keys.load();
        // With room for all: growing would leave copies behind.
        let mut out = Zeroizing::new(Vec::with_capacity(1 + keys.len() * KEY_BYTES));
        out.push(FORMAT);
        keys.iter().for_each(|key| key.write(&mut out));
        out
    }

    /// The keys of all of these, as far as there is room for them; `None` without any.
    #[must_use]
    pub fn of_all(parts: &[Self]) -> Option<Self> {
        let mut keys: Vec<_> = parts.iter().flat_map(|part| part.keys.load_full().to_vec()).collect();
        // The youngest first, and those that only open make room for those that are to seal.
        keys.sort_by_key(|key| std::cmp::Reverse(key.begins));
        keys.truncate(KEYS_MAX);
        (!keys.is_empty()).then(|| Self { keys: ArcSwap::from_pointee(keys) })
    }

    /// Takes the keys of `other` in place of its own.
    pub fn replace(&self, other: &Self) {
        self.keys.store(other.keys.load_full());
    }

    /// Forgets keys that are over at `now`, and makes a new one when the youngest has sealed for [`SEALS_FOR`]. To be
    /// called every now and then, by one thread.
    ///
    /// # Errors
    /// There are no random bytes; all stays as it was.
    pub fn rotate(&self, now: SystemTime) -> Result<(), NoRandomness> {
        let now = seconds(now);
        let old = self.keys.load_full();
        let is_due = old.iter().all(|key| key.begins + SEALS_FOR.as_secs() <= now);
        let has_expired = old.iter().any(|key| key.ends <= now);
        if !is_due && !has_expired {
            return Ok(());
        }
        let made = if is_due { Some(Arc::new(TicketKey::generate(now)?)) } else { None };
        let kept = old.iter().filter(|key| key.ends > now).cloned();
        self.keys.store(Arc::new(made.into_iter().chain(kept).take(KEYS_MAX).collect()));
        Ok(())
    }

    fn seal(&self, scope: &Scope, plain: &[u8], now: u64) -> Option<Vec<u8>> {
        let keys = self.keys.load();
        let key = keys.iter().find(|key| key.begins <= now && now < key.ends)?;
        let mut nonce = [0; NONCE_LEN];
        rand::fill(&mut nonce).ok()?;
        let mut ticket = Vec::with_capacity(ID_BYTES + NONCE_LEN + plain.len() + AES_256_GCM_SIV.tag_len());
        ticket.extend_from_slice(&key.id);
        ticket.extend_from_slice(&nonce);
        ticket.extend_from_slice(plain);
        let sealed = &mut ticket[ID_BYTES + NONCE_LEN..];
        let nonce = Nonce::assume_unique_for_key(nonce);
        let tag = key.aead.seal_in_place_separate_tag(nonce, Aad::from(scope.0), sealed).ok()?;
        ticket.extend_from_slice(tag.as_ref());
        Some(ticket)
    }

    fn open(&self, scope: &Scope, ticket: &[u8], now: u64) -> Option<Vec<u8>> {
        if ticket.len() > TICKET_BYTES_MAX {
            return None;
        }
        let (id, rest) = ticket.split_first_chunk::<ID_BYTES>()?;
        let (nonce, sealed) = rest.split_first_chunk::<NONCE_LEN>()?;
        let keys = self.keys.load();
        // The id is no secret: whoever holds a ticket reads it. A key that does not seal here yet may do so elsewhere.
        let key = keys.iter().find(|key| key.id == *id && now < key.ends)?;
        let mut plain = sealed.to_vec();
        let nonce = Nonce::assume_unique_for_key(*nonce);
        let len = key.aead.open_in_place(nonce, Aad::from(scope.0), &mut plain).ok()?.len();
        plain.truncate(len);
        Some(plain)
    }
}

fn seconds(time: SystemTime) -> u64 {
    time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs()
}

/// Where a ticket is good: at one listener, as long as it demands the same of its clients. A session that was begun without
/// a certificate must not be resumed where one is demanded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Scope([u8; 32]);

impl Scope {
    /// The scope of a listener's name and of what it demands of clients, as [`crate::client_auth::Demands::digest`] says it;
    /// `None` where they are asked for nothing.
    #[must_use]
    pub fn new(listener: &str, demands: Option<&[u8; 32]>) -> Self {
        let mut context = Context::new(&SHA256);
        context.update(&(listener.len() as u64).to_be_bytes());
        context.update(listener.as_bytes());
        if let Some(demands) = demands {
            context.update(demands);
        }
        let mut scope = [0; 32];
        scope.copy_from_slice(context.finish().as_ref());
        Self(scope)
    }
}

/// What seals the sessions of one listener.
#[derive(Debug)]
pub struct Tickets {
    keys: Arc<TicketKeys>,
    scope: ArcSwap<Scope>,
}

impl Tickets {
    /// Seals with `keys` what is good within `scope`.
    #[must_use]
    pub fn new(keys: Arc<TicketKeys>, scope: Scope) -> Self {
        Self { keys, scope: ArcSwap::from_pointee(scope) }
    }

    /// Tickets of any other scope are of no use from now on.
    pub fn set_scope(&self, scope: Scope) {
        self.scope.store(Arc::new(scope));
    }
}

impl ProducesTickets for Tickets {
    fn enabled(&self) -> bool {
        true
    }

    fn lifetime(&self) -> u32 {
        SEALS_FOR.as_secs() as u32
    }

    fn encrypt(&self, plain: &[u8]) -> Option<Vec<u8>> {
        self.keys.seal(&self.scope.load(), plain, seconds(SystemTime::now()))
    }

    fn decrypt(&self, ticket: &[u8]) -> Option<Vec<u8>> {
        self.keys.open(&self.scope.load(), ticket, seconds(SystemTime::now()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const START: u64 = 1_800_000_000;

    fn at(seconds: u64) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)
    }

    fn keys() -> TicketKeys {
        TicketKeys::new(at(START)).expect("random bytes")
    }

    #[test]
    fn a_ticket_is_good_within_its_scope_alone() {
        let keys = keys();
        let own = Scope::new("web", None);
        let ticket = keys.seal(&own, b"a session", START).expect("sealed");
        assert_eq!(keys.open(&own, &ticket, START).as_deref(), Some(&b"a session"[..]));
        for other in [Scope::new("other", None), Scope::new("web", Some(&[0; 32])), Scope::new("we", None)] {
            assert_eq!(keys.open(&other, &ticket, START), None);
        }
        assert_eq!(self::keys().open(&own, &ticket, START), None, "other keys");
    }

    #[test]
    fn a_ticket_with_any_bit_changed_or_cut_off_is_none() {
        let (keys, scope) = (keys(), Scope::new("web", None));
        let ticket = keys.seal(&scope, b"a session", START).expect("sealed");
        for at in 0..ticket.len() {
            let mut forged = ticket.clone();
            forged[at] ^= 1;
            assert_eq!(keys.open(&scope, &forged, START), None, "byte {at}");
            assert_eq!(keys.open(&scope, &ticket[..at], START), None, "cut at {at}");
        }
        assert_eq!(keys.open(&scope, &[ticket, vec![0]].concat(), START), None);
        assert_eq!(keys.open(&scope, &[0; TICKET_BYTES_MAX + 1], START), None);
    }

    #[test]
    fn a_ticket_is_opened_as_long_as_it_was_said_whatever_key_sealed_it() {
        let (keys, scope) = (keys(), Scope::new("web", None));
        let (seals, opens) = (SEALS_FOR.as_secs(), OPENS_FOR.as_secs());
        // The last moment before the key is replaced: the ticket has the least time left.
        let last = START + seals - 1;
        keys.rotate(at(last)).expect("nothing to do");
        let ticket = keys.seal(&scope, b"old", last).expect("sealed");
        keys.rotate(at(last + 1)).expect("a new key");
        let newer = keys.seal(&scope, b"new", last + 1).expect("sealed");
        assert_ne!(ticket[..ID_BYTES], newer[..ID_BYTES], "sealed with another key");
        for now in [last + 1, last + seals] {
            keys.rotate(at(now)).expect("random bytes");
            assert!(keys.open(&scope, &ticket, now).is_some(), "{now}");
        }
        // Over by the clock, even where nobody rotates.
        assert_eq!(keys.open(&scope, &ticket, START + opens), None);
        assert_eq!(keys.keys.load().len(), 2);
        keys.rotate(at(START + opens)).expect("random bytes");
        assert!(keys.keys.load().iter().all(|key| key.id != ticket[..ID_BYTES]), "forgotten");
        assert!(keys.open(&scope, &newer, START + opens).is_some());
    }

    #[test]
    fn keys_are_bounded_and_there_is_always_one_that_seals() {
        let (keys, scope) = (keys(), Scope::new("web", None));
        for hour in 0..200 {
            let now = START + hour * 3_600;
            keys.rotate(at(now)).expect("random bytes");
            assert!(keys.seal(&scope, b"", now).is_some(), "hour {hour}");
            assert!(keys.keys.load().len() <= 3);
        }
        // A clock that jumped ahead and back: the keys of the future do not seal, and a new one is not made at every call.
        keys.rotate(at(START)).expect("random bytes");
        assert!(keys.keys.load().len() <= KEYS_MAX);
    }

    #[test]
    fn keys_of_several_periods_are_those_of_one_that_rotates() {
        let (scope, seals) = (Scope::new("web", None), SEALS_FOR.as_secs());
        let period = |number: u64| TicketKeys::new(at(START + number * seals)).expect("random bytes");
        let parts: Vec<_> = (0..3).map(period).collect();
        let all = TicketKeys::of_all(&parts).expect("three keys");
        // The third one's time has not come: the second seals.
        let now = START + 2 * seals - 1;
        let ticket = all.seal(&scope, b"there", now).expect("sealed");
        assert!(
            parts[1].open(&scope, &ticket, now).is_some() && parts[0].open(&scope, &ticket, now).is_none()
        );
        let older = parts[0].seal(&scope, b"there", START).expect("sealed");
        assert!(all.open(&scope, &older, now).is_some());
        assert!(TicketKeys::of_all(&[]).is_none());
    }

    #[test]
    fn another_process_opens_what_was_sealed_with_imported_keys() {
        let (keys, scope) = (keys(), Scope::new("web", None));
        keys.rotate(at(START + SEALS_FOR.as_secs())).expect("a second key");
        let exported = keys.export();
        let other = TicketKeys::import(&exported).expect("keys");
        let ticket = other.seal(&scope, b"there", START + SEALS_FOR.as_secs()).expect("sealed");
        assert!(keys.open(&scope, &ticket, START + SEALS_FOR.as_secs()).is_some());
        for bytes in [&exported[..exported.len() - 1], &exported[1..], &[], &[FORMAT]] {
            assert_eq!(TicketKeys::import(bytes).err(), Some(NotKeys));
        }
    }
}
