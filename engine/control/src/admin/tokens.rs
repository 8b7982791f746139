//! How does a program get a token, and give it back? `/token` and `/token/revoke` as OAuth 2.0 has them, and the keys behind them.
//!
//! Never tells a client that is not known why.

use std::net::IpAddr;

use auth::token::jwks::Jwks;
use axum::Json;
use axum::body::to_bytes;
use axum::extract::{Extension, Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use serde_json::json;
use utoipa::ToSchema;

use super::body::{BODY_BYTES_MAX, missing};
use super::refusal::Refusal;
use super::upstreams::read;
use super::{AppState, denied};
use crate::security::Peer;
use crate::security::caller::basic;
use crate::security::tokens::TokenError;

/// A token that was given.
#[derive(Serialize, ToSchema)]
pub(super) struct TokenView {
    access_token: String,
    token_type: &'static str,
    /// In seconds.
    expires_in: u64,
    scope: String,
}

/// A set of public keys (RFC 7517).
#[derive(Serialize, ToSchema)]
pub(super) struct Keys {
    /// JSON Web Keys.
    #[schema(value_type = Vec<Object>)]
    keys: serde_json::Value,
}

/// A token to be taken back.
#[derive(Deserialize, ToSchema)]
#[expect(dead_code, reason = "the document's shape of what is read key by key")]
pub(super) struct Revocation {
    token: String,
}

/// Whether a token was one that held.
#[derive(Serialize, ToSchema)]
pub(super) struct Revoked {
    revoked: bool,
}

/// A key that was made.
#[derive(Serialize, ToSchema)]
pub(super) struct Rotated {
    /// Its id; empty if another process made one at the same moment.
    key: String,
}

/// What a client sends: a form, and who it is in Authorization or in the form.
struct Form {
    pairs: Vec<(String, String)>,
    name: String,
    secret: String,
}

impl Form {
    fn find(&self, name: &str) -> Option<&str> {
        self.pairs.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }
}

/// `POST /token`
pub(super) async fn give(
    State(shared): AppState,
    Extension(Peer(peer)): Extension<Peer>,
    request: Request,
) -> Result<Response, Response> {
    let form = form(request).await?;
    match form.find("grant_type") {
        Some("client_credentials") => {}
        Some(_) => {
            return Err(oauth(
                StatusCode::BAD_REQUEST,
                "unsupported_grant_type",
                "client_credentials is known",
            ));
        }
        None => return Err(oauth(StatusCode::BAD_REQUEST, "invalid_request", "grant_type is missing")),
    }
    let (live, security) = (shared.live(), shared.security());
    let scope = form.find("scope");
    let given =
        security.give_token(&live, &form.name, &form.secret, scope, ip(peer)).await.map_err(refusal)?;
    let view = TokenView {
        access_token: given.issued.token,
        token_type: "Bearer",
        expires_in: given.lifetime.as_secs(),
        scope: given.scope,
    };
    // RFC 6749 §5.1.
    Ok(([(header::CACHE_CONTROL, "no-store"), (header::PRAGMA, "no-cache")], Json(view)).into_response())
}

/// `POST /token/revoke`
pub(super) async fn take_back(
    State(shared): AppState,
    Extension(Peer(peer)): Extension<Peer>,
    request: Request,
) -> Result<StatusCode, Response> {
    let form = form(request).await?;
    let Some(token) = form.find("token") else {
        return Err(oauth(StatusCode::BAD_REQUEST, "invalid_request", "token is missing"));
    };
    let (live, security) = (shared.live(), shared.security());
    security.take_back(&live, &form.name, &form.secret, token, ip(peer)).await.map_err(refusal)?;
    Ok(StatusCode::OK)
}

/// `POST /tokens/revoke`
pub(super) async fn revoke(State(shared): AppState, request: Request) -> Result<Response, Response> {
    let mut object = read(request).await.map_err(IntoResponse::into_response)?;
    let token = object.text("token").map_err(IntoResponse::into_response)?;
    object.finish().map_err(IntoResponse::into_response)?;
    let token = token.ok_or_else(|| missing("token", "\"eyJ…\"").into_response())?;
    let live = shared.live();
    let revoked = shared.security().revoke_any(&live, &token).await.map_err(refusal)?;
    Ok(Json(Revoked { revoked }).into_response())
}

/// `GET /jwks`
pub(super) async fn keys(State(shared): AppState) -> Result<Response, Response> {
    let live = shared.live();
    let Jwks { keys } = shared.security().jwks(&live).map_err(refusal)?;
    let kept = [(header::CONTENT_TYPE, "application/jwk-set+json"), (header::CACHE_CONTROL, "max-age=5")];
    Ok((kept, Json(json!({ "keys": keys }))).into_response())
}

/// `POST /keys/rotate`
pub(super) async fn rotate(State(shared): AppState) -> Result<Response, Response> {
    let live = shared.live();
    let key = shared.security().rotate(&live).await.map_err(refusal)?;
    Ok(Json(Rotated { key }).into_response())
}

fn ip(peer: std::net::SocketAddr) -> IpAddr {
    peer.ip()
}

async fn form(request: Request) -> Result<Form, Response> {
    let invalid = |cause| oauth(StatusCode::BAD_REQUEST, "invalid_request", cause);
    let kind =
        request.headers().get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    let essence = kind.split(';').next().unwrap_or_default().trim();
    if !essence.eq_ignore_ascii_case("application/x-www-form-urlencoded") {
        let cause = "the body has to be a form";
        return Err(Refusal::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, cause)
            .at("Content-Type")
            .help("application/x-www-form-urlencoded")
            .into_response());
    }
    let by_field = client_of(request.headers()).map_err(invalid)?;
    let body = to_bytes(request.into_body(), BODY_BYTES_MAX).await;
    let body = body
        .map_err(|_| Refusal::new(StatusCode::PAYLOAD_TOO_LARGE, "the body is too long").into_response())?;
    let pairs = pairs(&body).ok_or_else(|| invalid("the form cannot be read"))?;
    // RFC 6749 §3.2: no parameter twice.
    let mut names: Vec<_> = pairs.iter().map(|(name, _)| name).collect();
    names.sort_unstable();
    if names.windows(2).any(|pair| pair[0] == pair[1]) {
        return Err(invalid("a parameter is given more than once"));
    }
    let find = |wanted: &str| pairs.iter().find(|(name, _)| name == wanted).map(|(_, value)| value.clone());
    let (name, secret) = match (by_field, find("client_id"), find("client_secret")) {
        // §2.3: one way at a time.
        (Some(_), _, Some(_)) => return Err(invalid("a client says who it is in one way, not in two")),
        (Some(pair), ..) => pair,
        (None, Some(name), Some(secret)) => (name, secret),
        (None, ..) => return Err(client_unknown()),
    };
    Ok(Form { pairs, name, secret })
}

fn client_of(headers: &HeaderMap) -> Result<Option<(String, String)>, &'static str> {
    let Some(field) = headers.get(header::AUTHORIZATION) else { return Ok(None) };
    let text = field.to_str().ok().and_then(|text| text.split_once(' '));
    let pair = text.and_then(|(scheme, rest)| basic(scheme, rest)).ok_or("Authorization cannot be read")?;
    // §2.3.1: both are encoded as in a form.
    let decode = |text: &str| decoded(text.as_bytes()).ok_or("Authorization cannot be read");
    Ok(Some((decode(&pair.0)?, decode(&pair.1)?)))
}

fn pairs(body: &[u8]) -> Option<Vec<(String, String)>> {
    let parts = body.split(|&byte| byte == b'&').filter(|part| !part.is_empty());
    let pair = |part: &[u8]| {
        let at = part.iter().position(|&byte| byte == b'=').unwrap_or(part.len());
        Some((decoded(&part[..at])?, decoded(part.get(at + 1..).unwrap_or_default())?))
    };
    parts.map(pair).collect()
}

/// `application/x-www-form-urlencoded`, in UTF-8.
fn decoded(text: &[u8]) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.iter();
    while let Some(&byte) = rest.next() {
        bytes.push(match byte {
            b'+' => b' ',
            b'%' => {
                let mut digit = || char::from(*rest.next()?).to_digit(16);
                u8::try_from(digit()? * 16 + digit()?).ok()?
            }
            other => other,
        });
    }
    String::from_utf8(bytes).ok()
}

/// RFC 6749 §5.2.
fn oauth(status: StatusCode, error: &str, description: &str) -> Response {
    (
        status,
        [(header::CACHE_CONTROL, "no-store")],
        Json(json!({ "error": error, "error_description": description })),
    )
        .into_response()
}

fn client_unknown() -> Response {
    let challenge = [(header::WWW_AUTHENTICATE, "Basic realm=\"token\"")];
    (challenge, oauth(StatusCode::UNAUTHORIZED, "invalid_client", "the client or its secret is not known"))
        .into_response()
}

fn refusal(error: TokenError) -> Response {
    match error {
        TokenError::NoIssuer => Refusal::new(StatusCode::NOT_FOUND, "this node issues no tokens")
            .help("a `[security.NAME]` of type `token_issuer` does")
            .into_response(),
        TokenError::Client => client_unknown(),
        TokenError::LockedOut(retry_after) => denied::locked_out(retry_after),
        TokenError::Scope => {
            oauth(StatusCode::BAD_REQUEST, "invalid_scope", "the client was not given all of these")
        }
        TokenError::Unavailable => {
            Refusal::new(StatusCode::SERVICE_UNAVAILABLE, "there is no key to sign with yet").into_response()
        }
        TokenError::Store(error) => denied::store(&error).into_response(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_form_is_read_as_browsers_write_it() {
        let check = |body: &str, expected: Option<&[(&str, &str)]>| {
            let found = pairs(body.as_bytes());
            let expected = expected.map(|pairs| {
                pairs
                    .iter()
                    .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
                    .collect::<Vec<_>>()
            });
            assert_eq!(found, expected, "{body}");
        };
        check("", Some(&[]));
        check("a=1&b=x+y%2B%c3%bc&c", Some(&[("a", "1"), ("b", "x y+ü"), ("c", "")]));
        check("a==&&=b", Some(&[("a", "="), ("", "b")]));
        check("a=%", None);
        check("a=%4", None);
        check("a=%zz", None);
        check("a=%ff", None);
    }
}
