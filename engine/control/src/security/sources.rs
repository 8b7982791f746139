//! Which keys does each check believe? Those of an issuer of ours, of a file, or of an address, and the cores are told.
//!
//! Never forgets keys because they cannot be read just now: what was believed goes on until something else can be.

use std::collections::HashMap;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use auth::secret::Digest;
use auth::token::jwks::{JWKS_BYTES_MAX, KeySet};
use config::snapshot::security::{KeySource, SecurityId, SecurityKind, TokenCheck};

use super::fetch::fetch;
use super::signing::Signing;
use crate::live::Live;

/// A token with an unknown key has its source read at once, but no more often than this: anybody can make such tokens.
const WISHES_EVERY: Duration = Duration::from_secs(10);

/// What was read elsewhere, by where.
#[derive(Debug, Default)]
pub(super) struct Sources {
    read: Mutex<HashMap<String, Read>>,
    /// What the cores were told last: the generation's number and a digest of the keys, by check.
    told: Mutex<HashMap<SecurityId, (u64, Digest)>>,
}

#[derive(Debug)]
struct Read {
    at: Instant,
    json: Arc<[u8]>,
    /// Why the last try failed, so that it is said once.
    failure: Option<String>,
}

fn checks(live: &Live) -> impl Iterator<Item = (SecurityId, &str, &TokenCheck)> {
    (0..).map(SecurityId).zip(&live.snapshot.security).filter_map(|(id, module)| match &module.kind {
        SecurityKind::TokenCheck(check) => Some((id, &*module.name, check)),
        SecurityKind::LocalInbound(_) | SecurityKind::TokenIssuer(_) => None,
    })
}

impl Sources {
    fn read_already(&self) -> MutexGuard<'_, HashMap<String, Read>> {
        self.read.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Reads what is due of what is elsewhere.
    pub(super) async fn read(&self, live: &Live) {
        for (id, name, check) in checks(live) {
            let Some(place) = place(&check.keys) else { continue };
            let is_wished = live.generation.admission.tokens.take_wish_for_keys(id);
            let is_due = {
                let read = self.read_already();
                read.get(&place).is_none_or(|read| {
                    let since = read.at.elapsed();
                    let every = if read.json.is_empty() { WISHES_EVERY } else { check.refresh };
                    since >= every || (is_wished && since >= WISHES_EVERY)
                })
            };
            if !is_due {
                continue;
            }
            let outcome = match &check.keys {
                KeySource::File(path) => read_file(path).await,
                KeySource::Url(url) => fetch(url).await,
                KeySource::Module(_) => continue,
            };
            let outcome = outcome.and_then(|json| match KeySet::read(&json) {
                Ok(_) => Ok(json),
                Err(error) => Err(error.to_string()),
            });
            let mut all = self.read_already();
            let read = all.entry(place.clone()).or_insert_with(|| Read {
                at: Instant::now(),
                json: Arc::default(),
                failure: None,
            });
            read.at = Instant::now();
            match outcome {
                Ok(json) => (read.json, read.failure) = (json.into(), None),
                Err(error) => {
                    if read.failure.as_ref() != Some(&error) {
                        tracing::warn!("security.{name}: the keys at {place} could not be read: {error}");
                    }
                    read.failure = Some(error);
                }
            }
        }
    }

    /// Tells the cores, where something has changed.
    pub(super) fn publish(&self, live: &Live, signing: &Signing) {
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        let number = live.generation.number;
        told.retain(|_, (of, _)| *of == number);
        for (id, _, check) in checks(live) {
            let json: Arc<[u8]> = match &check.keys {
                KeySource::Module(issuer) => {
                    serde_json::to_vec(&signing.jwks(issuer)).unwrap_or_default().into()
                }
                KeySource::File(_) | KeySource::Url(_) => {
                    let place = place(&check.keys).unwrap_or_default();
                    self.read_already().get(&place).map(|read| Arc::clone(&read.json)).unwrap_or_default()
                }
            };
            let digest = Digest::of(&json);
            if told.get(&id) == Some(&(number, digest)) {
                continue;
            }
            told.insert(id, (number, digest));
            // A set without a key of use believes nothing.
            let keys = KeySet::read(&json).unwrap_or_default();
            live.generation.admission.tokens.publish_keys(id, Arc::new(keys));
        }
    }
}

/// Where keys from elsewhere are.
fn place(source: &KeySource) -> Option<String> {
    match source {
        KeySource::Module(_) => None,
        KeySource::File(path) => Some(path.display().to_string()),
        KeySource::Url(url) => Some(url.to_string()),
    }
}

async fn read_file(path: &Path) -> Result<Vec<u8>, String> {
    let path = path.to_owned();
    let read = tokio::task::spawn_blocking(move || {
        use std::io::Read as _;
        let mut bytes = Vec::new();
        let file = std::fs::File::open(&path)?;
        file.take(JWKS_BYTES_MAX as u64 + 1).read_to_end(&mut bytes)?;
        Ok::<_, std::io::Error>(bytes)
    });
    match read.await {
        Ok(Ok(bytes)) => Ok(bytes),
        Ok(Err(error)) => Err(error.to_string()),
        Err(_) => Err("it could not be looked at".to_owned()),
    }
}
