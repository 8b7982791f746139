//! Is a request's token one to believe? Its signature is verified once on a core, and remembered.
//!
//! Never waits for a store, a socket or another thread: keys and revocations are what control has published last. Never asked for a
//! channel that demands no token.

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::UNIX_EPOCH;

use arc_swap::ArcSwap;
use auth::secret::Digest;
use auth::token::algorithm::{Algorithm, Algorithms};
use auth::token::check::{Terms, TokenRejected, Verified, check};
use auth::token::jwks::KeySet;
use auth::token::revocation::Revocations;
use config::snapshot::security::{
    KeySource, SecurityId, SecurityKind, SecurityModule, TokenAlgorithm, TokenCheck, TokenRule,
};
use config::snapshot::{Channel, Snapshot};
use proto::http1::head::RequestHead;

use crate::core_main::CoreState;
use crate::exchange::Route;
use crate::outcome::Fault;

/// Whom a token is about, for endpoints. What a client says under this name itself is dropped wherever a token is demanded.
const SUBJECT_FIELD: &str = "X-Authenticated-Subject";

/// Tokens that a core remembers, twice: in half of them room is made by forgetting the other half.
const BELIEVED_MAX: usize = 2048;
/// The same of those that are not believed. Fewer: anybody can make them up, and theirs must not drive out the others.
const REFUSED_MAX: usize = 512;

/// Numbers what was published, over all checks and configurations, so that nothing older is taken for it.
static PUBLISHED: AtomicU64 = AtomicU64::new(0);

/// Which tokens are believed, by the checks of one configuration; the same for all cores.
#[derive(Debug)]
pub struct Tokens {
    /// By [`SecurityId`]; nothing for modules of other types.
    checks: Box<[Option<Check>]>,
}

#[derive(Debug)]
struct Check {
    terms: Terms,
    keys: ArcSwap<Published>,
    revoked: ArcSwap<Revocations>,
    wants_keys: AtomicBool,
}

#[derive(Debug)]
struct Published {
    number: u64,
    keys: Arc<KeySet>,
}

impl Published {
    fn new(keys: Arc<KeySet>) -> Arc<Self> {
        Arc::new(Self { number: PUBLISHED.fetch_add(1, Ordering::Relaxed) + 1, keys })
    }
}

impl Tokens {
    /// Nothing is believed yet.
    #[must_use]
    pub fn new(snapshot: &Snapshot) -> Self {
        let check = |module: &SecurityModule| match &module.kind {
            SecurityKind::TokenCheck(check) => Some(Check {
                terms: terms(check),
                keys: ArcSwap::new(Published::new(Arc::default())),
                revoked: ArcSwap::default(),
                wants_keys: AtomicBool::new(false),
            }),
            SecurityKind::LocalInbound(_) | SecurityKind::TokenIssuer(_) => None,
        };
        Self { checks: snapshot.security.iter().map(check).collect() }
    }

    /// What is published stays so where a module keeps its name, keys as long as they come from the same place.
    pub(crate) fn next(&self, before: &Snapshot, snapshot: &Snapshot) -> Self {
        let next = Self::new(snapshot);
        for (module, check) in snapshot.security.iter().zip(&next.checks) {
            let former =
                before.security.iter().zip(&self.checks).find(|(former, _)| former.name == module.name);
            let (Some(check), Some((former_module, Some(former)))) = (check, former) else { continue };
            check.revoked.store(former.revoked.load_full());
            if keys_of(module) == keys_of(former_module) {
                // Under a number of its own: what the former terms let pass is looked at again.
                check.keys.store(Published::new(Arc::clone(&former.keys.load().keys)));
            }
        }
        next
    }

    /// From now on these keys verify, and no others. What was verified with others is verified again.
    pub fn publish_keys(&self, id: SecurityId, keys: Arc<KeySet>) {
        if let Some(check) = self.find(id) {
            check.keys.store(Published::new(keys));
        }
    }

    /// From now on these tokens are believed no more.
    pub fn publish_revocations(&self, revoked: &Arc<Revocations>) {
        for check in self.checks.iter().flatten() {
            check.revoked.store(Arc::clone(revoked));
        }
    }

    /// Whether a token named a key that is not known, since this was asked last.
    #[must_use]
    pub fn take_wish_for_keys(&self, id: SecurityId) -> bool {
        self.find(id).is_some_and(|check| check.wants_keys.swap(false, Ordering::Relaxed))
    }

    /// Whether `token` is believed at `now`, in Unix seconds: for control, which remembers none.
    ///
    /// # Errors
    /// The first rule that it breaks.
    pub fn check(&self, id: SecurityId, token: &str, now: u64) -> Result<Verified, TokenRejected> {
        self.find(id).ok_or(TokenRejected::KeyUnknown)?.verify(token, now).1
    }

    fn find(&self, id: SecurityId) -> Option<&Check> {
        self.checks.get(usize::from(id.0))?.as_ref()
    }
}

impl Check {
    /// What is to be said of a token, and by which keys.
    fn verify(&self, token: &str, now: u64) -> (u64, Result<Verified, TokenRejected>) {
        let published = self.keys.load();
        let verified = check(token, &published.keys, &self.terms, now).and_then(|verified| {
            let is_revoked = self.revoked.load().hold(verified.id.as_deref());
            if is_revoked { Err(TokenRejected::Revoked) } else { Ok(verified) }
        });
        if verified.as_ref().is_err_and(|rejected| rejected.wants_keys()) {
            // Looked at first: many cores write the same line of memory otherwise, for as long as somebody likes.
            if !self.wants_keys.load(Ordering::Relaxed) {
                self.wants_keys.store(true, Ordering::Relaxed);
            }
        }
        (published.number, verified)
    }
}

/// Where a module's keys come from, if it checks tokens.
fn keys_of(module: &SecurityModule) -> Option<&KeySource> {
    match &module.kind {
        SecurityKind::TokenCheck(check) => Some(&check.keys),
        SecurityKind::LocalInbound(_) | SecurityKind::TokenIssuer(_) => None,
    }
}

fn terms(check: &TokenCheck) -> Terms {
    let algorithms: Vec<_> = check.algorithms.iter().map(|algorithm| spoken(*algorithm)).collect();
    Terms {
        issuer: check.issuer.clone(),
        audience: check.audience.clone(),
        algorithms: Algorithms::of(&algorithms),
        skew: check.skew,
    }
}

fn spoken(algorithm: TokenAlgorithm) -> Algorithm {
    match algorithm {
        TokenAlgorithm::EdDsa => Algorithm::EdDsa,
        TokenAlgorithm::Es256 => Algorithm::Es256,
        TokenAlgorithm::Rs256 => Algorithm::Rs256,
    }
}

/// What one core remembers of tokens, by what is left of them when they are hashed.
#[derive(Debug, Default)]
pub(crate) struct TokenCache {
    believed: RefCell<Turns<Rc<Verified>>>,
    refused: RefCell<Turns<TokenRejected>>,
}

/// A bounded memory that forgets what was not asked for during one whole turn.
#[derive(Debug)]
struct Turns<V> {
    young: HashMap<(SecurityId, Digest), (u64, V)>,
    old: HashMap<(SecurityId, Digest), (u64, V)>,
}

impl<V> Default for Turns<V> {
    fn default() -> Self {
        Self { young: HashMap::new(), old: HashMap::new() }
    }
}

impl<V: Clone> Turns<V> {
    /// What was said by the keys published as `number`.
    fn find(&mut self, key: &(SecurityId, Digest), number: u64, max: usize) -> Option<V> {
        if let Some((said, value)) = self.young.get(key) {
            return (*said == number).then(|| value.clone());
        }
        let (said, value) = self.old.remove(key)?;
        if said != number {
            return None;
        }
        self.put(*key, number, value.clone(), max);
        Some(value)
    }

    fn put(&mut self, key: (SecurityId, Digest), number: u64, value: V, max: usize) {
        if self.young.len() >= max {
            self.old = std::mem::take(&mut self.young);
        }
        self.young.insert(key, (number, value));
    }
}

/// What the token of a request says, where it is believed and allows what the channel demands.
pub(crate) fn demand(
    state: &CoreState,
    route: &Route<'_>,
    tokens: &Tokens,
    rule: &TokenRule,
    head: &[u8],
    request: &RequestHead,
) -> Result<Rc<Verified>, Fault> {
    let refused = |fault| {
        route.counters.unauthorized.add(1);
        Err(fault)
    };
    let Some(token) = bearer(head, request) else { return refused(Fault::TokenMissing) };
    // A clock before 1970 has never been set.
    let now = state.core.wall_clock().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    let Some(check) = tokens.find(rule.check) else { return refused(Fault::TokenRejected) };
    let Ok(verified) = recall(&state.token_cache, check, rule.check, token, now) else {
        return refused(Fault::TokenRejected);
    };
    if !verified.allows(&rule.scopes) {
        route.counters.over_scope.add(1);
        return Err(Fault::ScopeMissing);
    }
    Ok(verified)
}

/// What is remembered of a token, or found out now.
fn recall(
    cache: &TokenCache,
    check: &Check,
    id: SecurityId,
    token: &str,
    now: u64,
) -> Result<Rc<Verified>, TokenRejected> {
    let key = (id, Digest::of(token.as_bytes()));
    let number = check.keys.load().number;
    if let Some(verified) = cache.believed.borrow_mut().find(&key, number, BELIEVED_MAX)
        && now < verified.over_at
    {
        let is_revoked = check.revoked.load().hold(verified.id.as_deref());
        return if is_revoked { Err(TokenRejected::Revoked) } else { Ok(verified) };
    }
    if let Some(rejected) = cache.refused.borrow_mut().find(&key, number, REFUSED_MAX) {
        return Err(rejected);
    }
    match check.verify(token, now) {
        (number, Ok(verified)) => {
            let verified = Rc::new(verified);
            cache.believed.borrow_mut().put(key, number, Rc::clone(&verified), BELIEVED_MAX);
            Ok(verified)
        }
        (number, Err(rejected)) => {
            if !rejected.may_pass() {
                cache.refused.borrow_mut().put(key, number, rejected, REFUSED_MAX);
            }
            Err(rejected)
        }
    }
}

/// The token of a request that brings one, and no more than one: `Authorization: Bearer TOKEN` (RFC 6750 §2.1).
fn bearer<'h>(head: &'h [u8], request: &RequestHead) -> Option<&'h str> {
    let mut fields =
        request.fields.iter().filter(|field| field.name.of(head).eq_ignore_ascii_case(b"Authorization"));
    let value = fields.next()?.value.of(head);
    if fields.next().is_some() {
        return None;
    }
    let (scheme, token) = value.split_at_checked("Bearer ".len())?;
    // RFC 9110 §11.1: the scheme in any case.
    let token = scheme.eq_ignore_ascii_case(b"Bearer ").then_some(token)?;
    std::str::from_utf8(token).ok().map(|token| token.trim_matches(' ')).filter(|token| !token.is_empty())
}

/// What a client is told that was refused for its token (RFC 6750 §3), as a field line; nothing for other faults.
pub(crate) fn challenge(fault: Fault, channel: Option<&Channel>) -> Option<String> {
    let scopes = || channel.and_then(|channel| Some(&channel.rules.as_ref()?.token.as_ref()?.scopes));
    let what = match fault {
        // §3.1: who has shown none is told of no error.
        Fault::TokenMissing => String::new(),
        Fault::TokenRejected => " error=\"invalid_token\"".to_owned(),
        Fault::ScopeMissing => {
            let scope = scopes().map(|scopes| scopes.join(" ")).unwrap_or_default();
            format!(" error=\"insufficient_scope\", scope=\"{scope}\"")
        }
        _ => return None,
    };
    Some(format!("WWW-Authenticate: Bearer{what}\r\n"))
}

/// Says in a rewritten request's head whom its token is about, in place of whatever the client said.
pub(crate) fn announce(subject: Option<&str>, text: &mut Vec<u8>) {
    let Some(first_end) = line_end(text, 0) else { return };
    let mut start = first_end;
    while let Some(end) = line_end(text, start).filter(|end| end - start > b"\r\n".len()) {
        let name = &text[start..end];
        let colon = name.iter().position(|&byte| byte == b':').unwrap_or(0);
        if name[..colon].eq_ignore_ascii_case(SUBJECT_FIELD.as_bytes()) {
            text.drain(start..end);
        } else {
            start = end;
        }
    }
    // What would not survive a field line is nobody's name.
    let is_printable = |subject: &&str| subject.bytes().all(|byte| matches!(byte, b' '..=b'~'));
    if let Some(subject) = subject.filter(is_printable).map(str::trim).filter(|subject| !subject.is_empty()) {
        let line = format!("{SUBJECT_FIELD}: {subject}\r\n");
        text.splice(first_end..first_end, line.into_bytes());
    }
}

/// Where the line that begins at `start` ends, its CRLF included.
fn line_end(text: &[u8], start: usize) -> Option<usize> {
    text[start..].windows(2).position(|pair| pair == b"\r\n").map(|at| start + at + 2)
}

#[cfg(test)]
mod tests;
