//! Which keys sign tokens, and when does the next take over? The keys of all issuers of the store, as last read.
//!
//! Never two processes with a key each where one is due: whoever adds it first has added it for all.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use auth::token::algorithm::Algorithm;
use auth::token::jwks::Jwks;
use auth::token::key::{PublicKey, SigningKey};
use auth::token::rotation::{KeyTimes, Rotation};
use config::snapshot::security::{TokenAlgorithm, TokenIssuer};
use std::time::Duration;
use store::{NewKey, StoreError, UnixMillis};

use super::home::Home;
use super::unix_seconds;

/// What the store calls keys of tokens. Their ids are `ISSUER/NUMBER`, counted up.
const KIND: &str = "token_signing";

/// How far the clocks of those who issue and those who check may differ.
const SKEW: Duration = Duration::from_secs(60);

/// A key that is over is kept this long, for whoever looks into what has happened.
const KEPT_AFTER: u64 = 24 * 3600;

#[derive(Clone, Debug)]
struct Signer {
    row: String,
    issuer: String,
    number: u64,
    times: KeyTimes,
    key: Arc<SigningKey>,
}

/// The keys.
#[derive(Debug, Default)]
pub(super) struct Signing {
    signers: Mutex<Vec<Signer>>,
}

impl Signing {
    fn signers(&self) -> MutexGuard<'_, Vec<Signer>> {
        self.signers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Reads all of them again.
    pub(super) async fn read(&self, home: &Home) -> Result<(), StoreError> {
        let rows = home.keys(KIND).await?;
        let signer = |row: store::KeyRow| {
            let (issuer, number) = row.id.rsplit_once('/')?;
            let key =
                SigningKey::read(&row.secret).inspect_err(|error| tracing::error!("key {}: {error}", row.id));
            let times = KeyTimes {
                active_from: row.active_from.0.div_ceil(1000),
                retire_at: row.retire_at.map(|at| at.0 / 1000),
            };
            let (issuer, number) = (issuer.to_owned(), number.parse().ok()?);
            Some(Signer { issuer, number, times, key: Arc::new(key.ok()?), row: row.id })
        };
        let signers = rows.into_iter().filter_map(signer).collect();
        *self.signers() = signers;
        Ok(())
    }

    fn of(&self, issuer: &str) -> Vec<Signer> {
        self.signers().iter().filter(|signer| signer.issuer == issuer).cloned().collect()
    }

    /// The key that signs now.
    pub(super) fn signer(&self, issuer: &str) -> Option<Arc<SigningKey>> {
        let signers = self.of(issuer);
        let times: Vec<_> = signers.iter().map(|signer| signer.times).collect();
        Rotation::signer(&times, unix_seconds()).map(|index| Arc::clone(&signers[index].key))
    }

    /// The public halves of those whose tokens are believed now, and of those that will sign next.
    pub(super) fn jwks(&self, issuer: &str) -> Jwks {
        let now = unix_seconds();
        let live = |signer: &Signer| -> Option<PublicKey> {
            Rotation::verifies(&signer.times, now).then(|| signer.key.public())
        };
        Jwks { keys: self.of(issuer).iter().filter_map(live).collect() }
    }

    /// Makes a key if one is due, and says when those before it are over.
    pub(super) async fn rotate_if_due(
        &self,
        home: &Home,
        name: &str,
        issuer: &TokenIssuer,
    ) -> Result<(), StoreError> {
        let now = unix_seconds();
        let is_due = |signers: &[Signer]| {
            let times: Vec<_> = signers.iter().map(|signer| signer.times).collect();
            rotation(issuer).is_due(&times, now)
        };
        let mut signers = self.of(name);
        if is_due(&signers) {
            // Another process may have made it since this one has looked.
            self.read(home).await?;
            signers = self.of(name);
        }
        if is_due(&signers) {
            self.make(home, name, issuer, &signers).await?;
        } else {
            self.retire(home, &signers, issuer).await?;
        }
        for over in signers.iter().filter(|signer| {
            signer.times.retire_at.is_some_and(|retire_at| retire_at.saturating_add(KEPT_AFTER) < now)
        }) {
            home.remove_key(KIND, &over.row).await?;
        }
        Ok(())
    }

    /// Makes the next key, whether one is due or not. Its id.
    pub(super) async fn rotate(
        &self,
        home: &Home,
        name: &str,
        issuer: &TokenIssuer,
    ) -> Result<String, StoreError> {
        self.read(home).await?;
        self.make(home, name, issuer, &self.of(name)).await
    }

    /// Makes the key that comes after these. Of several processes that have seen the same ones, one does.
    async fn make(
        &self,
        home: &Home,
        name: &str,
        issuer: &TokenIssuer,
        signers: &[Signer],
    ) -> Result<String, StoreError> {
        let times: Vec<_> = signers.iter().map(|signer| signer.times).collect();
        let successor = rotation(issuer).successor(&times, unix_seconds());
        let algorithm = match issuer.algorithm {
            TokenAlgorithm::EdDsa | TokenAlgorithm::Rs256 => Algorithm::EdDsa,
            TokenAlgorithm::Es256 => Algorithm::Es256,
        };
        let no_bytes = |_| StoreError::Unavailable { cause: "the system has no random bytes".to_owned() };
        let (key, secret) = SigningKey::generate(algorithm).map_err(no_bytes)?;
        let number = signers.iter().map(|signer| signer.number).max().unwrap_or(0) + 1;
        let new = NewKey {
            kind: KIND.to_owned(),
            id: format!("{name}/{number}"),
            active_from: UnixMillis(successor.active_from.saturating_mul(1000)),
            retire_at: None,
            secret,
        };
        let added = match home.add_key(&new).await {
            Ok(()) => {
                tracing::info!("security.{name}: key {} signs from {} on", key.id(), successor.active_from);
                key.id().to_owned()
            }
            // Another process has made it at the same moment.
            Err(StoreError::Conflict { .. }) => String::new(),
            Err(error) => return Err(error),
        };
        self.read(home).await?;
        self.retire(home, &self.of(name), issuer).await?;
        self.read(home).await?;
        Ok(added)
    }

    /// Says when each key is over that has a successor. Whoever added that may have ended before it could.
    async fn retire(&self, home: &Home, signers: &[Signer], issuer: &TokenIssuer) -> Result<(), StoreError> {
        for signer in signers.iter().filter(|signer| signer.times.retire_at.is_none()) {
            let younger = signers.iter().filter(|other| other.number > signer.number);
            if let Some(next) = younger.map(|other| other.times.active_from).min() {
                let holds = issuer.token_lifetime + 2 * SKEW;
                let retire_at = UnixMillis(next.saturating_mul(1000)).after(holds);
                home.retire_key(KIND, &signer.row, retire_at).await?;
            }
        }
        Ok(())
    }
}

fn rotation(issuer: &TokenIssuer) -> Rotation {
    Rotation { period: issuer.rotation, token_lifetime: issuer.token_lifetime, skew: SKEW }
}
