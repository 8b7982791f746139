//! Who is given a token, and which is taken back? OAuth 2.0 client credentials (RFC 6749 §4.4) and revocation (RFC 7009).
//!
//! Never grants a scope that the client was not given, and never revokes another client's token.

use std::net::IpAddr;
use std::time::Duration;

use auth::token::algorithm::Algorithms;
use auth::token::check::{Terms, Verified, check};
use auth::token::issue::{Grant, Issued, issue};
use auth::token::jwks::{Jwks, KeySet};
use config::snapshot::security::TokenIssuer;
use store::{StoreError, UnixMillis};

use super::login::Refused;
use super::{Security, issuer, unix_seconds};
use crate::live::Live;

/// Why there is no token.
#[derive(Debug)]
pub(crate) enum TokenError {
    /// This node has no issuer.
    NoIssuer,
    /// The client is not who it says, or nobody.
    Client,
    /// Too many have failed.
    LockedOut(Duration),
    /// It asks for what it was not given.
    Scope,
    /// There is no key yet, or the store is away.
    Unavailable,
    Store(StoreError),
}

impl From<Refused> for TokenError {
    fn from(refused: Refused) -> Self {
        match refused {
            Refused::Wrong => Self::Client,
            Refused::LockedOut(retry_after) => Self::LockedOut(retry_after),
            Refused::Store(error) => Self::Store(error),
        }
    }
}

impl From<StoreError> for TokenError {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

/// A token, and what it allows.
#[derive(Debug)]
pub(crate) struct Given {
    pub(crate) issued: Issued,
    pub(crate) scope: String,
    pub(crate) lifetime: Duration,
}

impl Security {
    /// A token for a client that knows its secret; of all its scopes if it asks for none.
    pub(crate) async fn give_token(
        &self,
        live: &Live,
        name: &str,
        secret: &str,
        scope: Option<&str>,
        address: IpAddr,
    ) -> Result<Given, TokenError> {
        let (module, terms) = issuer(&live.snapshot).ok_or(TokenError::NoIssuer)?;
        let client = self.verify_client(name, secret, address).await?;
        let scope = match scope {
            None => client.scopes.join(" "),
            Some(asked) => {
                let mut asked = asked.split(' ').filter(|scope| !scope.is_empty());
                let is_given = asked.clone().all(|scope| client.scopes.iter().any(|given| given == scope));
                if !is_given {
                    return Err(TokenError::Scope);
                }
                // As one writes it, each once.
                let mut scopes: Vec<&str> = asked.by_ref().collect();
                scopes.sort_unstable();
                scopes.dedup();
                scopes.join(" ")
            }
        };
        let key = self.signing.signer(module).ok_or(TokenError::Unavailable)?;
        let grant = Grant {
            issuer: &terms.issuer,
            audience: &terms.audience,
            subject: &client.name,
            client: &client.name,
            scope: &scope,
            lifetime: terms.token_lifetime,
        };
        let issued = issue(&key, &grant, unix_seconds()).map_err(|_| TokenError::Unavailable)?;
        Ok(Given { issued, scope, lifetime: terms.token_lifetime })
    }

    /// Takes a client's own token back. One that is none, or another's, is left as it is, and the client is told the same
    /// (RFC 7009 §2.2).
    pub(crate) async fn take_back(
        &self,
        live: &Live,
        name: &str,
        secret: &str,
        token: &str,
        address: IpAddr,
    ) -> Result<(), TokenError> {
        let (module, terms) = issuer(&live.snapshot).ok_or(TokenError::NoIssuer)?;
        let client = self.verify_client(name, secret, address).await?;
        match self.read(module, terms, token) {
            Some(verified) if verified.client.as_deref() == Some(client.name.as_str()) => {
                self.revoke(live, &verified).await
            }
            _ => Ok(()),
        }
    }

    /// Takes any token of ours back; whether it was one that holds.
    pub(crate) async fn revoke_any(&self, live: &Live, token: &str) -> Result<bool, TokenError> {
        let (module, terms) = issuer(&live.snapshot).ok_or(TokenError::NoIssuer)?;
        match self.read(module, terms, token) {
            Some(verified) => self.revoke(live, &verified).await.map(|()| true),
            None => Ok(false),
        }
    }

    async fn revoke(&self, live: &Live, verified: &Verified) -> Result<(), TokenError> {
        let Some(id) = verified.id.as_deref() else { return Ok(()) };
        // As long as anybody may believe it.
        let kept_until =
            UnixMillis(verified.over_at.saturating_add(super::SKEW_SECONDS_MAX).saturating_mul(1000));
        self.home.revoke_token(id, kept_until).await?;
        self.read_revocations().await?;
        self.publish(live);
        Ok(())
    }

    /// What a token of ours says that still holds.
    fn read(&self, module: &str, terms: &TokenIssuer, token: &str) -> Option<Verified> {
        let keys = KeySet::of(&self.signing.jwks(module).keys);
        let terms = Terms {
            issuer: Some(terms.issuer.clone()),
            audience: Box::default(),
            algorithms: Algorithms::ALL,
            skew: Duration::ZERO,
        };
        check(token, &keys, &terms, unix_seconds()).ok()
    }

    /// The public keys of this node's issuer.
    pub(crate) fn jwks(&self, live: &Live) -> Result<Jwks, TokenError> {
        let (module, _) = issuer(&live.snapshot).ok_or(TokenError::NoIssuer)?;
        Ok(self.signing.jwks(module))
    }

    /// Makes the next key now. Its id, or an empty one if another process has just made one.
    pub(crate) async fn rotate(&self, live: &Live) -> Result<String, TokenError> {
        let (module, terms) = issuer(&live.snapshot).ok_or(TokenError::NoIssuer)?;
        let id = self.signing.rotate(&self.home, module, terms).await?;
        self.publish(live);
        Ok(id)
    }
}
