//! Who may log in? Users, listed, added, changed and removed.
//!
//! Never shows a password, or what is left of one.

use auth::password::{Password, PasswordRules};
use auth::permission::Role;
use axum::Json;
use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::body::{Object, missing, wrong};
use super::extract::Path;
use super::gate::Actor;
use super::refusal::Refusal;
use super::upstreams::read;
use super::{AppState, denied};
use crate::Shared;
use crate::security::accounts::{User, UserChange};
use crate::security::local_of_admin;

/// All users.
#[derive(Serialize, ToSchema)]
pub(super) struct Users {
    users: Vec<UserView>,
}

/// A user.
#[derive(Serialize, ToSchema)]
pub(super) struct UserView {
    name: String,
    roles: Vec<&'static str>,
    disabled: bool,
}

/// A user to be added.
#[derive(Deserialize, ToSchema)]
#[expect(dead_code, reason = "the document's shape of what is read key by key")]
pub(super) struct NewUser {
    name: String,
    password: String,
    /// `administrator`, `operator`, `editor`, `viewer`, `auditor`.
    roles: Vec<String>,
}

/// What is to be changed of a user; what is left out stays.
#[derive(Deserialize, ToSchema)]
#[expect(dead_code, reason = "the document's shape of what is read key by key")]
pub(super) struct UserChanged {
    password: Option<String>,
    roles: Option<Vec<String>>,
    disabled: Option<bool>,
}

impl From<User> for UserView {
    fn from(user: User) -> Self {
        let roles = user.roles.iter().map(|role| role.name()).collect();
        Self { name: user.name, roles, disabled: user.disabled }
    }
}

/// `GET /users`
pub(super) async fn list(State(shared): AppState) -> Result<Response, Refusal> {
    let users = shared.security().users().await.map_err(denied::account)?;
    Ok(Json(Users { users: users.into_iter().map(UserView::from).collect() }).into_response())
}

/// `POST /users`
pub(super) async fn add(
    State(shared): AppState,
    actor: Actor,
    request: Request,
) -> Result<Response, Refusal> {
    let mut object = read(request).await?;
    let name = object.text("name")?.ok_or_else(|| missing("name", "\"eva\""))?;
    let password = object.text("password")?.ok_or_else(|| missing("password", "\"…\""))?;
    let roles = roles(&mut object)?.ok_or_else(|| missing("roles", "[\"viewer\"]"))?;
    object.finish()?;
    let added = shared.security().add_user(rules(&shared), actor.permissions, &name, password.into(), roles);
    let user = added.await.map_err(denied::account)?;
    Ok((StatusCode::CREATED, Json(UserView::from(user))).into_response())
}

/// `PATCH /users/{user}`
pub(super) async fn change(
    State(shared): AppState,
    Path(name): Path<String>,
    actor: Actor,
    request: Request,
) -> Result<Response, Refusal> {
    let mut object = read(request).await?;
    let change = UserChange {
        password: object.text("password")?.map(Password::new),
        roles: roles(&mut object)?,
        disabled: object.boolean("disabled")?,
    };
    object.finish()?;
    let changed = shared.security().change_user(rules(&shared), actor.permissions, &name, change);
    Ok(Json(UserView::from(changed.await.map_err(denied::account)?)).into_response())
}

/// `DELETE /users/{user}`
pub(super) async fn remove(
    State(shared): AppState,
    Path(name): Path<String>,
    actor: Actor,
) -> Result<StatusCode, Refusal> {
    shared.security().remove_user(actor.permissions, &name).await.map_err(denied::account)?;
    Ok(StatusCode::NO_CONTENT)
}

fn rules(shared: &Shared) -> PasswordRules {
    let live = shared.live();
    let length_min = local_of_admin(&live.snapshot).map(|local| local.password_length_min);
    length_min.map_or_else(PasswordRules::default, |length_min| PasswordRules { length_min })
}

fn roles(object: &mut Object) -> Result<Option<Vec<Role>>, Refusal> {
    let Some(names) = object.texts("roles")? else { return Ok(None) };
    let role = |name: &String| {
        Role::parse(name).ok_or_else(|| {
            let known = Role::ALL.map(|role| role.name()).join(", ");
            wrong("roles", format!("unknown role {name:?}")).help(format!("known: {known}"))
        })
    };
    names.iter().map(role).collect::<Result<_, _>>().map(Some)
}
