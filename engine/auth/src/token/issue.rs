//! What does a token say that we sign? Access tokens as RFC 9068 writes them.
//!
//! Never without an end, an audience and an id by which it can be revoked.

use std::time::Duration;

use serde::Serialize;

use super::encode;
use super::key::SigningKey;
use crate::secret::{NoRandomness, random_id};

/// What is granted.
#[derive(Clone, Copy, Debug)]
pub struct Grant<'a> {
    /// Who vouches.
    pub issuer: &'a str,
    /// For whom it is.
    pub audience: &'a [Box<str>],
    /// Whom it is about; of client credentials the client itself (RFC 9068 §2.2).
    pub subject: &'a str,
    /// The client that it is given to.
    pub client: &'a str,
    /// What it allows, separated by single spaces (RFC 6749 §3.3).
    pub scope: &'a str,
    /// How long it holds.
    pub lifetime: Duration,
}

/// A token that was issued.
#[derive(Debug)]
pub struct Issued {
    /// As it goes over the wire.
    pub token: String,
    /// Its id, by which it can be revoked.
    pub id: String,
    /// Unix seconds at which it ends.
    pub expires: u64,
}

#[derive(Serialize)]
struct Header<'a> {
    typ: &'static str,
    alg: &'static str,
    kid: &'a str,
}

#[derive(Serialize)]
struct Claims<'a> {
    iss: &'a str,
    aud: Audience<'a>,
    sub: &'a str,
    client_id: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    scope: &'a str,
    iat: u64,
    exp: u64,
    jti: &'a str,
}

/// RFC 7519 §4.1.3: a single one may stand alone, and all readers know that form.
#[derive(Serialize)]
#[serde(untagged)]
enum Audience<'a> {
    One(&'a str),
    Many(&'a [Box<str>]),
}

/// A token that `key` signs at `now`, in Unix seconds.
///
/// # Errors
/// There are no random bytes.
pub fn issue(key: &SigningKey, grant: &Grant<'_>, now: u64) -> Result<Issued, NoRandomness> {
    let id = random_id()?;
    let expires = now.saturating_add(grant.lifetime.as_secs());
    let header = Header { typ: "at+jwt", alg: key.algorithm().name(), kid: key.id() };
    let claims = Claims {
        iss: grant.issuer,
        aud: match grant.audience {
            [one] => Audience::One(one),
            many => Audience::Many(many),
        },
        sub: grant.subject,
        client_id: grant.client,
        scope: grant.scope,
        iat: now,
        exp: expires,
        jti: &id,
    };
    let mut token = format!("{}.{}", part(&header), part(&claims));
    let signature = key.sign(token.as_bytes())?;
    token.push('.');
    token.push_str(&encode(signature));
    Ok(Issued { token, id, expires })
}

fn part(value: &impl Serialize) -> String {
    encode(serde_json::to_vec(value).expect("strings and numbers become JSON"))
}
