//! Do others read our tokens as we do, and we theirs? Beside jsonwebtoken.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use auth::token::algorithm::{Algorithm, Algorithms};
use auth::token::check::{Terms, check};
use auth::token::issue::{Grant, issue};
use auth::token::jwks::{Jwks, KeySet};
use auth::token::key::SigningKey;
use jsonwebtoken::jwk::JwkSet;
use jsonwebtoken::{DecodingKey, EncodingKey, Header, Validation, decode, encode};
use serde_json::{Value, json};

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_secs()
}

fn theirs(algorithm: Algorithm) -> jsonwebtoken::Algorithm {
    match algorithm {
        Algorithm::EdDsa => jsonwebtoken::Algorithm::EdDSA,
        Algorithm::Es256 => jsonwebtoken::Algorithm::ES256,
        Algorithm::Rs256 => jsonwebtoken::Algorithm::RS256,
    }
}

#[test]
fn another_implementation_believes_our_tokens_by_our_set_of_keys() {
    for algorithm in [Algorithm::EdDsa, Algorithm::Es256] {
        let (key, _) = SigningKey::generate(algorithm).expect("random bytes");
        let grant = Grant {
            issuer: "https://a.example",
            audience: &["patients".into()],
            subject: "client",
            client: "client",
            scope: "read",
            lifetime: Duration::from_secs(60),
        };
        let issued = issue(&key, &grant, now()).expect("issued");
        let jwks = serde_json::to_string(&Jwks { keys: vec![key.public()] }).expect("JSON");
        let jwks: JwkSet = serde_json::from_str(&jwks).expect("their set of keys");
        let theirs_key = DecodingKey::from_jwk(jwks.find(key.id()).expect("by its id")).expect("a key");
        let mut validation = Validation::new(theirs(algorithm));
        validation.set_audience(&["patients"]);
        validation.set_issuer(&["https://a.example"]);
        let token = decode::<Value>(&issued.token, &theirs_key, &validation).expect("believed");
        assert_eq!(token.claims["jti"], json!(issued.id));
        assert_eq!(token.claims["scope"], json!("read"));
        assert_eq!(token.header.kid.as_deref(), Some(key.id()));
    }
}

#[test]
fn we_believe_the_tokens_of_another_implementation() {
    for algorithm in [Algorithm::EdDsa, Algorithm::Es256] {
        let (key, secret) = SigningKey::generate(algorithm).expect("random bytes");
        let signing = match algorithm {
            Algorithm::EdDsa => EncodingKey::from_ed_der(&secret),
            _ => EncodingKey::from_ec_der(&secret),
        };
        let claims = json!({ "iss": "b", "exp": now() + 60, "sub": "eva", "scope": "read write" });
        let token = encode(&Header::new(theirs(algorithm)), &claims, &signing).expect("their token");
        let keys = KeySet::of([&key.public()]);
        let terms = Terms {
            issuer: Some("b".into()),
            audience: Box::default(),
            algorithms: Algorithms::of(&[algorithm]),
            skew: Duration::ZERO,
        };
        let verified = check(&token, &keys, &terms, now()).expect("believed");
        assert_eq!(verified.subject.as_deref(), Some("eva"));
        assert!(verified.allows(&["write".into()]));
    }
}
