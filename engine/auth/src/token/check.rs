//! Is this token one to believe? Its signature, who issued it, for whom, and until when.
//!
//! Never looks at what it claims before its signature is known to be good.

use std::time::Duration;

use serde::Deserialize;
use serde_json::{Number, Value};

use super::TOKEN_BYTES_MAX;
use super::algorithm::{Algorithm, Algorithms};
use super::decode;
use super::jwks::{Found, KeySet};
use super::key::KEY_ID_BYTES_MAX;

/// What is demanded of a token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Terms {
    /// Who has to have issued it; anybody whose key is in the set, if none is named.
    pub issuer: Option<Box<str>>,
    /// For one of whom it has to be; for anybody, if none is named.
    pub audience: Box<[Box<str>]>,
    /// How it may be signed.
    pub algorithms: Algorithms,
    /// How far clocks may differ.
    pub skew: Duration,
}

/// A token that is believed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verified {
    /// Whom it is about.
    pub subject: Option<Box<str>>,
    /// The client that it was given to.
    pub client: Option<Box<str>>,
    /// Its id, by which it may be revoked.
    pub id: Option<Box<str>>,
    /// What it allows, separated by spaces.
    pub scope: Box<str>,
    /// Unix seconds from which on it is over, skew included.
    pub over_at: u64,
}

impl Verified {
    /// What it allows.
    pub fn scopes(&self) -> impl Iterator<Item = &str> {
        self.scope.split(' ').filter(|scope| !scope.is_empty())
    }

    /// Whether it allows all of these.
    #[must_use]
    pub fn allows(&self, scopes: &[Box<str>]) -> bool {
        scopes.iter().all(|wanted| self.scopes().any(|scope| scope == &**wanted))
    }
}

/// Why a token is not believed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
pub enum TokenRejected {
    /// More than [`TOKEN_BYTES_MAX`].
    #[error("longer than {TOKEN_BYTES_MAX} bytes")]
    Long,
    /// Not three parts in base64url, RFC 7515 §3.1.
    #[error("not three parts in base64url")]
    Form,
    /// Its header is no JSON object with `alg`, RFC 7515 §4.
    #[error("a header that is none")]
    Header,
    /// It says that something in it must be understood, RFC 7515 §4.1.11. There is nothing that we do.
    #[error("it demands that an extension be understood")]
    Critical,
    /// It is of another kind (`typ`), such as one that only says who somebody is, RFC 8725 §3.11.
    #[error("a token of another kind")]
    Kind,
    /// It is signed in a way that is not accepted: `none` and shared secrets among them, RFC 8725 §3.1.
    #[error("an algorithm that is not accepted")]
    Algorithm,
    /// It names a key that is not in the set.
    #[error("a key that is not known")]
    KeyUnknown,
    /// It names a key of another algorithm, RFC 8725 §3.1.
    #[error("a key of another algorithm")]
    KeyOther,
    /// It names no key, and several would do.
    #[error("it does not say which key")]
    KeyUnnamed,
    /// The signature is not of this token by that key.
    #[error("a wrong signature")]
    Signature,
    /// Its claims are no JSON object, or one of them has another type than RFC 7519 §4.1 says.
    #[error("claims that are none")]
    Claims,
    /// It says no end.
    #[error("it does not say when it ends")]
    Endless,
    /// It is over.
    #[error("it is over")]
    Over,
    /// It does not hold yet.
    #[error("it does not hold yet")]
    Early,
    /// Somebody else issued it.
    #[error("somebody else issued it")]
    Issuer,
    /// It is for somebody else.
    #[error("it is for somebody else")]
    Audience,
    /// It was revoked.
    #[error("it was revoked")]
    Revoked,
}

impl TokenRejected {
    /// Whether the same token may be believed later with the same keys.
    #[must_use]
    pub fn may_pass(self) -> bool {
        matches!(self, Self::Early)
    }

    /// Whether other keys might make it one to believe.
    #[must_use]
    pub fn wants_keys(self) -> bool {
        matches!(self, Self::KeyUnknown)
    }
}

#[derive(Deserialize)]
struct Header {
    alg: String,
    kid: Option<String>,
    typ: Option<String>,
    crit: Option<Value>,
}

#[derive(Deserialize)]
struct Claims {
    iss: Option<String>,
    sub: Option<String>,
    aud: Option<Audience>,
    exp: Option<Number>,
    nbf: Option<Number>,
    jti: Option<String>,
    scope: Option<String>,
    client_id: Option<String>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Audience {
    One(String),
    Many(Vec<String>),
}

impl Audience {
    fn is_one_of(&self, wanted: &[Box<str>]) -> bool {
        let is_wanted = |audience: &String| wanted.iter().any(|wanted| **wanted == **audience);
        match self {
            Self::One(audience) => is_wanted(audience),
            Self::Many(audiences) => audiences.iter().any(is_wanted),
        }
    }
}

/// Whether `token` is to be believed at `now`, in Unix seconds.
///
/// # Errors
/// The first rule that it breaks.
pub fn check(token: &str, keys: &KeySet, terms: &Terms, now: u64) -> Result<Verified, TokenRejected> {
    if token.len() > TOKEN_BYTES_MAX {
        return Err(TokenRejected::Long);
    }
    let (message, signature) = token.rsplit_once('.').ok_or(TokenRejected::Form)?;
    let (header, claims) = message.split_once('.').ok_or(TokenRejected::Form)?;
    let header = decode(header).ok_or(TokenRejected::Form)?;
    let claims = decode(claims).ok_or(TokenRejected::Form)?;
    let signature = decode(signature).ok_or(TokenRejected::Form)?;

    let header: Header = serde_json::from_slice(&header).map_err(|_| TokenRejected::Header)?;
    if header.crit.is_some() {
        return Err(TokenRejected::Critical);
    }
    if header.typ.as_deref().is_some_and(|kind| !is_access_token(kind)) {
        return Err(TokenRejected::Kind);
    }
    let algorithm = Algorithm::parse(&header.alg).filter(|algorithm| terms.algorithms.accept(*algorithm));
    let algorithm = algorithm.ok_or(TokenRejected::Algorithm)?;
    let id = header.kid.as_deref();
    if id.is_some_and(|id| id.len() > KEY_ID_BYTES_MAX) {
        return Err(TokenRejected::KeyUnknown);
    }
    let key = match keys.find(id, algorithm) {
        Found::Key(key) => key,
        Found::Unknown => return Err(TokenRejected::KeyUnknown),
        Found::OtherAlgorithm => return Err(TokenRejected::KeyOther),
        Found::Ambiguous => return Err(TokenRejected::KeyUnnamed),
    };
    if !key.verifies(message.as_bytes(), &signature) {
        return Err(TokenRejected::Signature);
    }
    let claims: Claims = serde_json::from_slice(&claims).map_err(|_| TokenRejected::Claims)?;
    believe(claims, terms, now)
}

/// Whether what a token claims, whose signature is good, is what is demanded.
fn believe(claims: Claims, terms: &Terms, now: u64) -> Result<Verified, TokenRejected> {
    let skew = terms.skew.as_secs();
    let over_at = whole_seconds(claims.exp.as_ref().ok_or(TokenRejected::Endless)?)?.saturating_add(skew);
    // RFC 7519 §4.1.4: on or after.
    if now >= over_at {
        return Err(TokenRejected::Over);
    }
    if let Some(begins) = &claims.nbf
        && whole_seconds(begins)? > now.saturating_add(skew)
    {
        return Err(TokenRejected::Early);
    }
    if terms.issuer.is_some() && claims.iss.as_deref() != terms.issuer.as_deref() {
        return Err(TokenRejected::Issuer);
    }
    if !terms.audience.is_empty() && !claims.aud.is_some_and(|audience| audience.is_one_of(&terms.audience)) {
        return Err(TokenRejected::Audience);
    }
    Ok(Verified {
        subject: claims.sub.map(Into::into),
        client: claims.client_id.map(Into::into),
        id: claims.jti.map(Into::into),
        scope: claims.scope.unwrap_or_default().into(),
        over_at,
    })
}

/// RFC 9068 §2.1, and the older habit.
fn is_access_token(kind: &str) -> bool {
    let kind = kind
        .get(.."application/".len())
        .filter(|head| head.eq_ignore_ascii_case("application/"))
        .map_or(kind, |head| &kind[head.len()..]);
    kind.eq_ignore_ascii_case("at+jwt") || kind.eq_ignore_ascii_case("jwt")
}

/// RFC 7519 §2, NumericDate: seconds, of which there may be parts.
fn whole_seconds(number: &Number) -> Result<u64, TokenRejected> {
    if let Some(seconds) = number.as_u64() {
        return Ok(seconds);
    }
    match number.as_f64() {
        // Up to 2^53 each second has its own number.
        Some(seconds) if (0.0..9_007_199_254_740_992.0).contains(&seconds) => Ok(seconds as u64),
        _ => Err(TokenRejected::Claims),
    }
}

#[cfg(test)]
mod tests;
