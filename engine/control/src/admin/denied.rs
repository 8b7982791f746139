//! How is somebody told that he may not? 401, 403, 429 and 503, each with what to do.
//!
//! Never says more than who was denied knows already.

use std::time::Duration;

use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use store::StoreError;

use super::refusal::Refusal;
use crate::security::accounts::AccountError;
use crate::security::caller::{CSRF_FIELD, Denied};

pub(super) fn response(denied: Denied) -> Response {
    match denied {
        Denied::Unknown(cause) => unknown(cause),
        Denied::Csrf => Refusal::new(
            StatusCode::FORBIDDEN,
            "what changes something by a session has to prove that it is meant",
        )
        .at(CSRF_FIELD)
        .help("send what `POST /login` or `GET /session` gave as `csrf_token` in this field")
        .into_response(),
        Denied::Forbidden(permission) => {
            Refusal::new(StatusCode::FORBIDDEN, format!("this takes the permission {permission}"))
                .help("ask somebody with the role administrator for a role that has it")
                .into_response()
        }
        Denied::LockedOut(retry_after) => locked_out(retry_after),
        Denied::Store(error) => store(&error).into_response(),
    }
}

pub(super) fn unknown(cause: &str) -> Response {
    let refusal = Refusal::new(StatusCode::UNAUTHORIZED, cause)
        .help("log in with `POST /login`, or send a token or a name with its password in Authorization");
    // RFC 9110 §11.6.1 wants one. `Basic` would make browsers ask for a password in a window of their own.
    let challenge = [(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"))];
    (challenge, refusal).into_response()
}

pub(super) fn locked_out(retry_after: Duration) -> Response {
    let seconds = retry_after.as_secs() + 1;
    let refusal = Refusal::new(StatusCode::TOO_MANY_REQUESTS, "too many logins have failed")
        .help(format!("try again in {seconds} seconds"));
    ([(header::RETRY_AFTER, HeaderValue::from(seconds))], refusal).into_response()
}

pub(super) fn store(error: &StoreError) -> Refusal {
    match error {
        StoreError::Conflict { .. } => {
            Refusal::new(StatusCode::CONFLICT, "somebody else has changed it meanwhile")
                .help("look again, and decide anew")
        }
        StoreError::Missing { .. } => Refusal::new(StatusCode::NOT_FOUND, "there is none of this name"),
        StoreError::Unavailable { .. } => {
            Refusal::new(StatusCode::SERVICE_UNAVAILABLE, "the store is not available")
                .help("try again later")
        }
        StoreError::Refused { .. } | StoreError::Corrupt { .. } => {
            tracing::error!("the store: {error}");
            Refusal::new(StatusCode::SERVICE_UNAVAILABLE, "the store refuses it")
                .help("see the log of this process")
        }
    }
}

pub(super) fn account(error: AccountError) -> Refusal {
    let unprocessable = |cause: String| Refusal::new(StatusCode::UNPROCESSABLE_ENTITY, cause);
    match error {
        AccountError::Name => unprocessable("a name is 1 to 64 of A-Z a-z 0-9 _ - . @".to_owned()).at("name"),
        AccountError::Password(rule) => unprocessable(format!("a password has {rule}")).at("password"),
        AccountError::Missing => Refusal::new(StatusCode::NOT_FOUND, "there is none of this name"),
        AccountError::Conflict(what) => Refusal::new(StatusCode::CONFLICT, what),
        AccountError::TooMuch => {
            Refusal::new(StatusCode::FORBIDDEN, "nobody gives or takes what he does not have himself")
        }
        AccountError::LastAdministrator => {
            Refusal::new(StatusCode::CONFLICT, "it is the last with the role administrator")
                .help("give the role to somebody else first")
        }
        AccountError::CannotHash => Refusal::new(
            StatusCode::SERVICE_UNAVAILABLE,
            "the system has no memory or no random bytes for it",
        ),
        AccountError::Store(error) => store(&error),
    }
}
