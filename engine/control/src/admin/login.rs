//! Who is logged in? Log-in, log-out, and what a page of ours needs to know of it.
//!
//! Never shows the id of a session: it is the cookie's alone.

use axum::Json;
use axum::extract::{Extension, Request, State};
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::body::missing;
use super::refusal::Refusal;
use super::upstreams::read;
use super::{AppState, audit, denied};
use crate::security::Peer;
use crate::security::caller::{Caller, SESSION_COOKIE, session_id};
use crate::security::local_of_admin;
use crate::security::login::Refused;

/// A name and a password.
#[derive(Deserialize, ToSchema)]
#[expect(dead_code, reason = "the document's shape of what is read key by key")]
pub(super) struct Login {
    user: String,
    password: String,
}

/// Who is logged in, and what he may do.
#[derive(Serialize, ToSchema)]
pub(super) struct SessionView {
    user: String,
    roles: Vec<&'static str>,
    permissions: Vec<&'static str>,
    /// To be sent in `X-CSRF-Token` with everything that changes something, where the session's cookie says who sends it.
    #[serde(skip_serializing_if = "Option::is_none")]
    csrf_token: Option<String>,
}

impl SessionView {
    fn of(caller: &Caller) -> Self {
        Self {
            user: caller.name.to_string(),
            roles: caller.roles.iter().map(|role| role.name()).collect(),
            permissions: caller.permissions.iter().map(|permission| permission.name()).collect(),
            csrf_token: caller.csrf_token.clone(),
        }
    }
}

/// `POST /login`
pub(super) async fn log_in(
    State(shared): AppState,
    Extension(Peer(peer)): Extension<Peer>,
    request: Request,
) -> Result<Response, Response> {
    let before = session_id(request.headers());
    let (user, password) = credentials(request).await.map_err(IntoResponse::into_response)?;
    let (live, security) = (shared.live(), shared.security());
    let Some(local) = local_of_admin(&live.snapshot) else {
        let cause = "nobody logs in here: admin asks for no users";
        return Err(Refusal::new(StatusCode::NOT_FOUND, cause)
            .help("`admin.security` names a `[security.NAME]` of type `local_inbound`")
            .into_response());
    };
    let begun = security.log_in(local, &user, password.into(), peer.ip(), before.as_ref()).await;
    let logged_in = begun.map_err(|refused| match refused {
        Refused::Wrong => denied::unknown("the name or the password is wrong"),
        Refused::LockedOut(retry_after) => denied::locked_out(retry_after),
        Refused::Store(error) => denied::store(&error).into_response(),
    })?;
    audit::note(&shared, &logged_in.user, "log_in", "/login", StatusCode::OK);
    let caller = Caller {
        name: logged_in.user.clone(),
        roles: logged_in.roles.clone(),
        permissions: logged_in.permissions(),
        session: Some(logged_in.id.digest()),
        csrf_token: Some(logged_in.id.csrf_token()),
    };
    let id = logged_in.id.text();
    let cookie = cookie(&format!("{SESSION_COOKIE}={}; Path=/; HttpOnly; SameSite=Strict", *id));
    Ok((cookie, Json(SessionView::of(&caller))).into_response())
}

async fn credentials(request: Request) -> Result<(String, String), Refusal> {
    let mut object = read(request).await?;
    let user = object.text("user")?.ok_or_else(|| missing("user", "\"admin\""))?;
    let password = object.text("password")?.ok_or_else(|| missing("password", "\"…\""))?;
    object.finish()?;
    Ok((user, password))
}

/// `POST /logout`
pub(super) async fn log_out(
    State(shared): AppState,
    Extension(Peer(peer)): Extension<Peer>,
    request: Request,
) -> Result<Response, Response> {
    let live = shared.live();
    let (headers, method) = (request.headers(), request.method());
    let caller = shared.security().identify(&live, headers, method, peer.ip()).await;
    let caller = caller.map_err(denied::response)?;
    if let Some(session) = &caller.session {
        let ended = shared.security().log_out(session).await;
        ended.map_err(|error| denied::store(&error).into_response())?;
        audit::note(&shared, &caller.name, "log_out", "/logout", StatusCode::NO_CONTENT);
    }
    let gone = cookie(&format!("{SESSION_COOKIE}=; Path=/; HttpOnly; SameSite=Strict; Max-Age=0"));
    Ok((StatusCode::NO_CONTENT, gone).into_response())
}

/// `GET /session`
pub(super) async fn show(
    State(shared): AppState,
    Extension(Peer(peer)): Extension<Peer>,
    request: Request,
) -> Result<Response, Response> {
    let live = shared.live();
    let (headers, method) = (request.headers(), request.method());
    let caller = shared.security().identify(&live, headers, method, peer.ip()).await;
    caller.map(|caller| Json(SessionView::of(&caller)).into_response()).map_err(denied::response)
}

type Fields = [(header::HeaderName, HeaderValue); 2];

/// A cookie, in an answer that nobody keeps.
fn cookie(text: &str) -> Fields {
    let cookie = HeaderValue::from_str(text).expect("base64url and what is written above");
    [(header::SET_COOKIE, cookie), (header::CACHE_CONTROL, HeaderValue::from_static("no-store"))]
}
