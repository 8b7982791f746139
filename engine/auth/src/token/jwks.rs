//! Which keys are believed? A set of public keys, written and read (JWK Set, RFC 7517 §5).
//!
//! Never fails over a key that it does not understand: others may.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::algorithm::Algorithm;
use super::key::{PublicKey, VerifyingKey};

/// Keys looked at in a set.
pub const KEYS_MAX: usize = 64;

/// Longest set that is read.
pub const JWKS_BYTES_MAX: usize = 256 * 1024;

/// A set of keys as it goes over the wire.
#[derive(Clone, Debug, Serialize)]
pub struct Jwks {
    /// In no order that means anything.
    pub keys: Vec<PublicKey>,
}

/// Why a text is no set of keys to verify with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum JwksRejected {
    /// More than [`JWKS_BYTES_MAX`].
    #[error("longer than {JWKS_BYTES_MAX} bytes")]
    Long,
    /// No JSON object with a list `keys`.
    #[error("no JSON object with a list \"keys\" (RFC 7517 §5)")]
    Malformed,
    /// None of its keys can verify anything.
    #[error("no key in it that verifies EdDSA (Ed25519), ES256 or RS256")]
    NoKey,
}

/// Keys to verify with.
#[derive(Debug, Default)]
pub struct KeySet {
    keys: Box<[VerifyingKey]>,
}

impl KeySet {
    /// What a set of keys says.
    ///
    /// # Errors
    /// It is none, or none of its keys is of use.
    pub fn read(json: &[u8]) -> Result<Self, JwksRejected> {
        #[derive(Deserialize)]
        struct Raw {
            keys: Vec<Value>,
        }
        if json.len() > JWKS_BYTES_MAX {
            return Err(JwksRejected::Long);
        }
        let raw: Raw = serde_json::from_slice(json).map_err(|_| JwksRejected::Malformed)?;
        let read = |value| serde_json::from_value::<PublicKey>(value).ok()?.verifying();
        let keys: Box<[_]> = raw.keys.into_iter().take(KEYS_MAX).filter_map(read).collect();
        if keys.is_empty() {
            return Err(JwksRejected::NoKey);
        }
        Ok(Self { keys })
    }

    /// These keys, of which those that cannot verify are left out.
    #[must_use]
    pub fn of<'a>(keys: impl IntoIterator<Item = &'a PublicKey>) -> Self {
        Self { keys: keys.into_iter().take(KEYS_MAX).filter_map(PublicKey::verifying).collect() }
    }

    /// How many keys there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.keys.len()
    }

    /// Whether nothing can be verified.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    /// The key that a token names. One that names none is given the only key of its algorithm; where there are several, somebody would
    /// have to guess.
    pub(super) fn find(&self, id: Option<&str>, algorithm: Algorithm) -> Found<'_> {
        let mut named = self.keys.iter().filter(|key| id.is_none() || key.id() == id).peekable();
        if named.peek().is_none() {
            return Found::Unknown;
        }
        let mut fitting = named.filter(|key| key.algorithm() == algorithm);
        match (fitting.next(), fitting.next()) {
            (Some(key), None) => Found::Key(key),
            (Some(_), Some(_)) => Found::Ambiguous,
            (None, _) => Found::OtherAlgorithm,
        }
    }
}

/// What a search for a key has found.
#[derive(Debug)]
pub(super) enum Found<'a> {
    Key(&'a VerifyingKey),
    /// No key of this id.
    Unknown,
    /// The key serves another algorithm than the token says.
    OtherAlgorithm,
    /// Several keys would do.
    Ambiguous,
}

#[cfg(test)]
mod tests {
    use super::super::key::SigningKey;
    use super::*;

    fn key(algorithm: Algorithm) -> PublicKey {
        SigningKey::generate(algorithm).expect("random bytes").0.public()
    }

    #[test]
    fn what_is_written_is_read() {
        let jwks = Jwks { keys: vec![key(Algorithm::EdDsa), key(Algorithm::Es256)] };
        let text = serde_json::to_vec(&jwks).expect("JSON");
        assert_eq!(KeySet::read(&text).map(|set| set.len()), Ok(2));
    }

    #[test]
    fn keys_of_others_kinds_are_passed_over() {
        let ours = serde_json::to_string(&key(Algorithm::EdDsa)).expect("JSON");
        let json = format!(
            r#"{{"keys":[{{"kty":"oct","k":"c2VjcmV0"}},{{"kty":"new"}},3,null,{{"kty":"EC","crv":"P-521"}},{ours}]}}"#
        );
        assert_eq!(KeySet::read(json.as_bytes()).map(|set| set.len()), Ok(1));
    }

    #[test]
    fn a_set_of_no_use_is_refused() {
        let check =
            |json: &str, expected| assert_eq!(KeySet::read(json.as_bytes()).err(), Some(expected), "{json}");
        check("", JwksRejected::Malformed);
        check("[]", JwksRejected::Malformed);
        check(r#"{"keys":{}}"#, JwksRejected::Malformed);
        check(r#"{"keys":[]}"#, JwksRejected::NoKey);
        check(r#"{"keys":[{"kty":"oct","k":"c2VjcmV0"}]}"#, JwksRejected::NoKey);
        check(&" ".repeat(JWKS_BYTES_MAX + 1), JwksRejected::Long);
    }

    #[test]
    fn a_key_is_found_by_its_id_or_when_it_is_the_only_one() {
        let (one, other, third) = (key(Algorithm::EdDsa), key(Algorithm::EdDsa), key(Algorithm::Es256));
        let set = KeySet::of([&one, &other, &third]);
        let id = SigningKey::generate(Algorithm::EdDsa).expect("random").0;
        assert!(matches!(set.find(Some(id.id()), Algorithm::EdDsa), Found::Unknown));
        assert!(matches!(set.find(None, Algorithm::EdDsa), Found::Ambiguous));
        assert!(matches!(set.find(None, Algorithm::Es256), Found::Key(_)));
        assert!(matches!(set.find(None, Algorithm::Rs256), Found::OtherAlgorithm));
        let named = set.keys[0].id();
        assert!(matches!(set.find(named, Algorithm::EdDsa), Found::Key(_)));
        assert!(matches!(set.find(named, Algorithm::Es256), Found::OtherAlgorithm));
    }
}
