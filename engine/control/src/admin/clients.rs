//! Which programs are given tokens? Clients, listed, added, changed and removed.
//!
//! Never shows a secret but once, to whoever has it made.

use axum::Json;
use axum::extract::{Request, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::body::{Object, missing, wrong};
use super::extract::Path;
use super::gate::Actor;
use super::refusal::Refusal;
use super::upstreams::read;
use super::{AppState, denied};
use crate::security::accounts::Client;

/// Scopes of one client.
const SCOPES_MAX: usize = 64;
/// Bytes of one, so that a token stays a field of a head.
const SCOPE_BYTES_MAX: usize = 128;

/// All clients.
#[derive(Serialize, ToSchema)]
pub(super) struct Clients {
    clients: Vec<ClientView>,
}

/// A client.
#[derive(Serialize, ToSchema)]
pub(super) struct ClientView {
    name: String,
    scopes: Vec<String>,
    disabled: bool,
    /// Shown when it has just been made, and never again.
    #[serde(skip_serializing_if = "Option::is_none")]
    secret: Option<String>,
}

/// A client to be added.
#[derive(Deserialize, ToSchema)]
#[expect(dead_code, reason = "the document's shape of what is read key by key")]
pub(super) struct NewClient {
    name: String,
    /// What its tokens may allow.
    scopes: Option<Vec<String>>,
}

/// What is to be changed of a client; what is left out stays.
#[derive(Deserialize, ToSchema)]
#[expect(dead_code, reason = "the document's shape of what is read key by key")]
pub(super) struct ClientChanged {
    scopes: Option<Vec<String>>,
    disabled: Option<bool>,
    /// Whether it is given another secret, and the one that it has is worth nothing.
    new_secret: Option<bool>,
}

impl ClientView {
    fn of(client: Client, secret: Option<String>) -> Self {
        Self { name: client.name, scopes: client.scopes, disabled: client.disabled, secret }
    }
}

/// `GET /clients`
pub(super) async fn list(State(shared): AppState) -> Result<Response, Refusal> {
    let clients = shared.security().clients().await.map_err(denied::account)?;
    let clients = clients.into_iter().map(|client| ClientView::of(client, None)).collect();
    Ok(Json(Clients { clients }).into_response())
}

/// `POST /clients`
pub(super) async fn add(
    State(shared): AppState,
    actor: Actor,
    request: Request,
) -> Result<Response, Refusal> {
    let mut object = read(request).await?;
    let name = object.text("name")?.ok_or_else(|| missing("name", "\"reports\""))?;
    let scopes = scopes(&mut object)?.unwrap_or_default();
    object.finish()?;
    let added = shared.security().add_client(actor.permissions, &name, scopes).await;
    let (client, secret) = added.map_err(denied::account)?;
    let view = ClientView::of(client, Some(secret.text().to_string()));
    Ok((StatusCode::CREATED, [(header::CACHE_CONTROL, "no-store")], Json(view)).into_response())
}

/// `PATCH /clients/{client}`
pub(super) async fn change(
    State(shared): AppState,
    Path(name): Path<String>,
    actor: Actor,
    request: Request,
) -> Result<Response, Refusal> {
    let mut object = read(request).await?;
    let (scopes, disabled) = (scopes(&mut object)?, object.boolean("disabled")?);
    let new_secret = object.boolean("new_secret")?.unwrap_or(false);
    object.finish()?;
    let changed =
        shared.security().change_client(actor.permissions, &name, scopes, disabled, new_secret).await;
    let (client, secret) = changed.map_err(denied::account)?;
    let view = ClientView::of(client, secret.map(|secret| secret.text().to_string()));
    Ok(([(header::CACHE_CONTROL, "no-store")], Json(view)).into_response())
}

/// `DELETE /clients/{client}`
pub(super) async fn remove(State(shared): AppState, Path(name): Path<String>) -> Result<StatusCode, Refusal> {
    shared.security().remove_client(&name).await.map_err(denied::account)?;
    Ok(StatusCode::NO_CONTENT)
}

/// RFC 6749 §3.3: visible ASCII without quotes and backslashes.
fn scopes(object: &mut Object) -> Result<Option<Vec<String>>, Refusal> {
    let Some(scopes) = object.texts("scopes")? else { return Ok(None) };
    let is_good = |byte: u8| byte.is_ascii_graphic() && !matches!(byte, b'"' | b'\\');
    let is_scope =
        |scope: &String| (1..=SCOPE_BYTES_MAX).contains(&scope.len()) && scope.bytes().all(is_good);
    if scopes.len() > SCOPES_MAX || !scopes.iter().all(is_scope) {
        let cause = format!(
            "expected at most {SCOPES_MAX} scopes, each 1 to {SCOPE_BYTES_MAX} of visible ASCII without quotes and backslashes"
        );
        return Err(wrong("scopes", cause));
    }
    Ok(Some(scopes))
}
