//! What signs a token, and what verifies it? A pair of keys of our own, or somebody's public half.
//!
//! Never shows the private half but to be sealed, and never serves an algorithm that is not its own.

use std::fmt;

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair, ParsedPublicKey,
    RsaPublicKeyComponents,
};
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::algorithm::Algorithm;
use super::{decode, encode};
use crate::secret::{Digest, NoRandomness};

/// Bytes of a coordinate of P-256, and of an Ed25519 key.
const COORDINATE_BYTES: usize = 32;

/// Longest id of a key that is kept.
pub const KEY_ID_BYTES_MAX: usize = 256;

/// Bytes that are no private key of ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no private key, or one that another version of this program wrote")]
pub struct NotAKey;

/// A pair of keys: what signs.
pub struct SigningKey {
    id: Box<str>,
    pair: Pair,
}

enum Pair {
    Ed25519(Ed25519KeyPair),
    P256(EcdsaKeyPair),
}

impl SigningKey {
    /// A new pair, and its private half in PKCS #8, to be sealed.
    ///
    /// # Errors
    /// There are no random bytes. RSA keys are not made.
    pub fn generate(algorithm: Algorithm) -> Result<(Self, Zeroizing<Vec<u8>>), NoRandomness> {
        let document = match algorithm {
            Algorithm::EdDsa => Ed25519KeyPair::generate_pkcs8(&SystemRandom::new()),
            Algorithm::Es256 => {
                EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &SystemRandom::new())
            }
            Algorithm::Rs256 => return Err(NoRandomness),
        };
        let document = document.map_err(|_| NoRandomness)?;
        let secret = Zeroizing::new(document.as_ref().to_vec());
        let key = Self::read(&secret).map_err(|NotAKey| NoRandomness)?;
        Ok((key, secret))
    }

    /// From the private half in PKCS #8.
    ///
    /// # Errors
    /// It is none.
    pub fn read(pkcs8: &[u8]) -> Result<Self, NotAKey> {
        let ed25519 = || Ed25519KeyPair::from_pkcs8(pkcs8).map(Pair::Ed25519).ok();
        let p256 = || EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, pkcs8).map(Pair::P256).ok();
        let pair = ed25519().or_else(p256).ok_or(NotAKey)?;
        let mut key = Self { id: Box::default(), pair };
        key.id = key.public().thumbprint().into();
        Ok(key)
    }

    /// Its id: the thumbprint of its public half (RFC 7638).
    #[must_use]
    pub fn id(&self) -> &str {
        &self.id
    }

    /// How it signs.
    #[must_use]
    pub fn algorithm(&self) -> Algorithm {
        match self.pair {
            Pair::Ed25519(_) => Algorithm::EdDsa,
            Pair::P256(_) => Algorithm::Es256,
        }
    }

    /// Its public half.
    #[must_use]
    pub fn public(&self) -> PublicKey {
        let material = match &self.pair {
            Pair::Ed25519(pair) => {
                Material::Okp { crv: "Ed25519".into(), x: encode(pair.public_key().as_ref()) }
            }
            Pair::P256(pair) => {
                // Uncompressed, SEC 1 §2.3.3: 04, then both coordinates.
                let (x, y) = pair.public_key().as_ref()[1..].split_at(COORDINATE_BYTES);
                Material::Ec { crv: "P-256".into(), x: encode(x), y: encode(y) }
            }
        };
        let id = Some(self.id.to_string()).filter(|id| !id.is_empty());
        PublicKey {
            material,
            id,
            algorithm: Some(self.algorithm().name().to_owned()),
            purpose: Some("sig".to_owned()),
        }
    }

    /// The signature of `message`.
    ///
    /// # Errors
    /// There are no random bytes.
    pub(super) fn sign(&self, message: &[u8]) -> Result<Vec<u8>, NoRandomness> {
        let signature = match &self.pair {
            Pair::Ed25519(pair) => pair.try_sign(message),
            Pair::P256(pair) => pair.sign(&SystemRandom::new(), message),
        };
        signature.map(|signature| signature.as_ref().to_vec()).map_err(|_| NoRandomness)
    }
}

/// Says which one it is, and no more.
impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SigningKey({}, {})", self.algorithm(), self.id)
    }
}

/// A public key as sets of keys write it (JWK, RFC 7517 §4).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PublicKey {
    #[serde(flatten)]
    material: Material,
    #[serde(rename = "kid", default, skip_serializing_if = "Option::is_none")]
    id: Option<String>,
    #[serde(rename = "alg", default, skip_serializing_if = "Option::is_none")]
    algorithm: Option<String>,
    #[serde(rename = "use", default, skip_serializing_if = "Option::is_none")]
    purpose: Option<String>,
}

/// The numbers of a public key, in base64url. There is no shared secret among them (`oct`).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kty")]
enum Material {
    /// RFC 8037 §2.
    #[serde(rename = "OKP")]
    Okp { crv: String, x: String },
    /// RFC 7518 §6.2.
    #[serde(rename = "EC")]
    Ec { crv: String, x: String, y: String },
    /// RFC 7518 §6.3.
    #[serde(rename = "RSA")]
    Rsa { n: String, e: String },
}

impl PublicKey {
    /// RFC 7638: the digest of what a key cannot be without, in the order of the alphabet and without blanks.
    fn thumbprint(&self) -> String {
        let canonical = match &self.material {
            Material::Okp { crv, x } => format!(r#"{{"crv":"{crv}","kty":"OKP","x":"{x}"}}"#),
            Material::Ec { crv, x, y } => format!(r#"{{"crv":"{crv}","kty":"EC","x":"{x}","y":"{y}"}}"#),
            Material::Rsa { n, e } => format!(r#"{{"e":"{e}","kty":"RSA","n":"{n}"}}"#),
        };
        Digest::of(canonical.as_bytes()).text()
    }

    /// What verifies with it; nothing for keys that serve something else, or an algorithm that is not spoken.
    pub(super) fn verifying(&self) -> Option<VerifyingKey> {
        if self.purpose.as_deref().is_some_and(|purpose| purpose != "sig") {
            return None;
        }
        let (algorithm, key) = match &self.material {
            Material::Okp { crv, x } if crv == "Ed25519" => {
                let point = decode(x).filter(|x| x.len() == COORDINATE_BYTES)?;
                (Algorithm::EdDsa, ParsedPublicKey::new(Algorithm::EdDsa.of_curve()?, point).ok()?)
            }
            Material::Ec { crv, x, y } if crv == "P-256" => {
                let coordinate = |text| decode(text).filter(|bytes| bytes.len() == COORDINATE_BYTES);
                let point = [&[4], &*coordinate(x)?, &*coordinate(y)?].concat();
                (Algorithm::Es256, ParsedPublicKey::new(Algorithm::Es256.of_curve()?, point).ok()?)
            }
            Material::Rsa { n, e } => {
                let (n, e) = (decode(n)?, decode(e)?);
                let n = &n[n.iter().position(|&byte| byte != 0)?..];
                // The verifier's own bound, which parsing does not know.
                if !(256..=1024).contains(&n.len()) {
                    return None;
                }
                let components = RsaPublicKeyComponents { n, e: &e[..] };
                (Algorithm::Rs256, components.to_parsed_public_key(Algorithm::rsa()).ok()?)
            }
            Material::Okp { .. } | Material::Ec { .. } => return None,
        };
        if self.algorithm.as_deref().is_some_and(|name| Algorithm::parse(name) != Some(algorithm)) {
            return None;
        }
        let id = self.id.as_deref().filter(|id| id.len() <= KEY_ID_BYTES_MAX).map(Box::from);
        Some(VerifyingKey { id, algorithm, key })
    }
}

/// A public key, ready to verify.
pub struct VerifyingKey {
    id: Option<Box<str>>,
    algorithm: Algorithm,
    key: ParsedPublicKey,
}

impl VerifyingKey {
    /// The id by which tokens name it.
    #[must_use]
    pub fn id(&self) -> Option<&str> {
        self.id.as_deref()
    }

    /// The one algorithm that it serves.
    #[must_use]
    pub fn algorithm(&self) -> Algorithm {
        self.algorithm
    }

    /// Whether `signature` is of `message` by the other half.
    #[must_use]
    pub(super) fn verifies(&self, message: &[u8], signature: &[u8]) -> bool {
        self.key.verify_sig(message, signature).is_ok()
    }
}

impl fmt::Debug for VerifyingKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "VerifyingKey({}, {:?})", self.algorithm, self.id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn public(json: &str) -> PublicKey {
        serde_json::from_str(json).expect("a key")
    }

    /// RFC 7638 §3.1.
    #[test]
    fn thumbprint_of_the_standards_example() {
        let n = "0vx7agoebGcQSuuPiLJXZptN9nndrQmbXEps2aiAFbWhM78LhWx4cbbfAAtVT86zwu1RK7aPFFxuhDR1L6tSoc_BJECPebWKRXjBZCiFV4n3oknjhMstn64tZ_2W-5JsGY4Hc5n9yBXArwl93lqt7_RN5w6Cf0h4QyQ5v-65YGjQR0_FDW2QvzqY368QQMicAtaSqzs8KJZgnYb9c7d0zgdAZHzu6qMQvRL5hajrn1n91CbOpbISD08qNLyrdkt-bFTWhAI4vMQFh6WeZu0fM4lFd2NcRwr3XPksINHaQ-G_xBniIqbw0Ls1jF44-csFCur-kEgU8awapJzKnqDKgw";
        let key =
            public(&format!(r#"{{"kty":"RSA","n":"{n}","e":"AQAB","alg":"RS256","kid":"2011-04-29"}}"#));
        assert_eq!(key.thumbprint(), "NzbLsXh8uDCcd-6MNwXF4W_7noWXFZAfHkxZsRGC9Xs");
        assert_eq!(key.verifying().map(|key| key.algorithm()), Some(Algorithm::Rs256));
    }

    /// RFC 8037 appendix A.3.
    #[test]
    fn thumbprint_of_an_ed25519_key() {
        let key =
            public(r#"{"kty":"OKP","crv":"Ed25519","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}"#);
        assert_eq!(key.thumbprint(), "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k");
    }

    #[test]
    fn a_pair_is_read_again_as_it_was() {
        for algorithm in [Algorithm::EdDsa, Algorithm::Es256] {
            let (key, secret) = SigningKey::generate(algorithm).expect("random bytes");
            let again = SigningKey::read(&secret).expect("written above");
            assert_eq!((again.id(), again.algorithm()), (key.id(), algorithm));
            let verifying = key.public().verifying().expect("a public key");
            assert_eq!(verifying.id(), Some(key.id()));
            let signature = again.sign(b"message").expect("signed");
            assert!(verifying.verifies(b"message", &signature));
            assert!(!verifying.verifies(b"massage", &signature));
            assert!(!verifying.verifies(b"message", &signature[1..]));
            assert!(!verifying.verifies(b"message", &[]));
        }
        assert_eq!(SigningKey::read(b"").map(|_| ()), Err(NotAKey));
    }

    #[test]
    fn keys_that_cannot_verify_are_left_out() {
        let x = "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo";
        let check = |json: String| assert!(public(&json).verifying().is_none(), "{json}");
        check(format!(r#"{{"kty":"OKP","crv":"X25519","x":"{x}"}}"#));
        check(format!(r#"{{"kty":"OKP","crv":"Ed25519","x":"{x}","use":"enc"}}"#));
        check(format!(r#"{{"kty":"OKP","crv":"Ed25519","x":"{x}","alg":"HS256"}}"#));
        check(format!(r#"{{"kty":"OKP","crv":"Ed25519","x":"{x}","alg":"none"}}"#));
        check(format!(r#"{{"kty":"OKP","crv":"Ed25519","x":"{}"}}"#, &x[1..]));
        check(format!(r#"{{"kty":"EC","crv":"P-384","x":"{x}","y":"{x}"}}"#));
        // No point of the curve.
        check(format!(r#"{{"kty":"EC","crv":"P-256","x":"{x}","y":"{x}"}}"#));
        check(r#"{"kty":"RSA","n":"AQAB","e":"AQAB"}"#.to_owned());
        let shared =
            serde_json::from_str::<PublicKey>(r#"{"kty":"oct","k":"AyM1SysPpbyDfgZld3umj1qzKObwVMkoqQ"}"#);
        assert!(shared.is_err(), "no shared secret is a key");
    }

    #[test]
    fn a_private_half_does_not_show_itself() {
        let (key, _) = SigningKey::generate(Algorithm::EdDsa).expect("random bytes");
        assert_eq!(format!("{key:?}"), format!("SigningKey(EdDSA, {})", key.id()));
        let json = serde_json::to_string(&key.public()).expect("JSON");
        assert!(!json.contains("\"d\""), "{json}");
    }
}
