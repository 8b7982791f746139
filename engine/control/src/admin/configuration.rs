//! Which configuration runs, and how does another take its place? The process's own file, read again.
//!
//! Never an answer before it is known what came of it.

use axum::Json;
use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::AppState;
use super::refusal::Refusal;
use super::upstreams::read;
use crate::apply::NotApplied;
use crate::plan::Plan;
use crate::reload::{self, NoFile};

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

/// A configuration to compare with what runs.
#[derive(Debug, Deserialize, ToSchema)]
#[allow(dead_code, reason = "the document describes it; the handler reads it key by key")]
pub(super) struct Other {
    /// The whole configuration as JSON text; `engine config diff` makes it of a file. Left out, the process's own file as it is now.
    document: Option<String>,
}

/// Why it cannot be said what a reload would do.
#[derive(Debug, ToSchema)]
#[allow(
    dead_code,
    reason = "the document describes both answers: of the configuration, and of the body around it"
)]
pub(super) struct NoPlan {
    /// What is wrong.
    error: String,
    /// Every mistake of the configuration, and everything that could not be had.
    problems: Option<Vec<String>>,
    /// The key of the body that it is about.
    at: Option<String>,
    /// What to do instead.
    help: Option<String>,
}

/// `POST /config/diff`: what a reload would do. Everything is checked that a reload checks, and nothing is done.
pub(super) async fn diff(State(shared): AppState, request: Request) -> Result<Response, Refusal> {
    let mut object = read(request).await?;
    let document = object.text("document")?;
    object.finish()?;
    shared.file().await.or_else(|no_file| match (no_file, &document) {
        (NoFile::NotGiven, Some(_)) => Ok(()),
        (NoFile::NotGiven, None) | (NoFile::InStore, _) => {
            let (cause, help) = no_file.words();
            Err(Refusal::new(StatusCode::CONFLICT, cause).help(help))
        }
    })?;
    Ok(match shared.plan(document).await {
        Ok(plan) => (StatusCode::OK, Json::<Plan>(plan)).into_response(),
        Err(NotApplied { problems }) => {
            let error = "the configuration cannot be applied";
            (StatusCode::UNPROCESSABLE_ENTITY, Json(Kept { error, problems })).into_response()
        }
    })
}
