//! What can be asked of a running process? What [`routes`] lists, by whom it allows, and nothing else.
//!
//! Never does anything on behalf of a page of another site, and never answers a mistake with anything but a [`Refusal`].
//!
//! Suggested reading order: `routes` (the table), `table` (what a row is), `gate` (who may pass) with `audit` and `cross_site`,
//! `refusal`, `extract` and `body` (what a request says), then the subjects.

mod routes;

mod table;

pub(crate) mod audit;
mod cross_site;
mod gate;

mod body;
mod extract;
mod refusal;

mod cluster;
mod cluster_stats;
mod configuration;
mod document;
mod latency_query;
mod process;
mod process_control;
mod register;
pub(crate) mod runtime_status;
mod upgrade;

mod clients;
mod denied;
mod login;
mod tokens;
mod users;

mod upstreams;
mod views;

use std::sync::Arc;

use axum::extract::{DefaultBodyLimit, State};
use axum::http::StatusCode;
use axum::{Extension, Router, middleware};

use self::body::BODY_BYTES_MAX;
use self::document::Document;
use self::refusal::Refusal;
use crate::Shared;

type AppState = State<Arc<Shared>>;

/// Every route, and JSON for what is none.
pub(crate) fn router(shared: Arc<Shared>) -> Router {
    let table = routes::table();
    let document = Document::of(&table, shared.process.version);
    table
        .router(&shared)
        .layer(Extension(document))
        .layer(DefaultBodyLimit::max(BODY_BYTES_MAX))
        .fallback(async || Refusal::new(StatusCode::NOT_FOUND, "there is nothing under this path"))
        .method_not_allowed_fallback(async || {
            Refusal::new(
                StatusCode::METHOD_NOT_ALLOWED,
                "this method means nothing for this path: see the field Allow",
            )
        })
        .layer(middleware::from_fn(cross_site::guard))
        .with_state(shared)
}
