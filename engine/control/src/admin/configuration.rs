//! Which configuration runs, and how does another take its place? The process's own file, read again.
//!
//! Never an answer before it is known what came of it.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use utoipa::ToSchema;

use super::AppState;
use super::refusal::Refusal;
use crate::apply::NotApplied;
use crate::reload;

/// Why the configuration that runs is kept.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Kept {
    /// What came of it.
    error: &'static str,
    /// Every mistake, and everything that could not be had.
    problems: Vec<String>,
}

/// `POST /config/reload`: what SIGHUP does with the configuration file, with an answer: 200, or 422 if what runs is kept.
pub(super) async fn reload(State(shared): AppState) -> Result<Response, Refusal> {
    shared.file().await.map_err(|no_file| {
        let (cause, help) = no_file.words();
        Refusal::new(StatusCode::CONFLICT, cause).help(help)
    })?;
    let outcome = shared.reload().await;
    reload::tell(&outcome);
    Ok(match outcome {
        Ok(applied) => (StatusCode::OK, Json(applied)).into_response(),
        Err(NotApplied { problems }) => {
            let error = "the configuration cannot be applied; the one that runs is kept";
            (StatusCode::UNPROCESSABLE_ENTITY, Json(Kept { error, problems })).into_response()
        }
    })
}
