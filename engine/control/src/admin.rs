//! What can be asked of a running process? Health, statistics, latency, metrics, its endpoints, and to change those or read its
//! certificates again.
//!
//! Never changes anything else, and nothing on behalf of a page of another site.

mod body;
mod cross_site;
mod latency_query;
mod register;
mod upstreams;

use std::sync::Arc;
use std::time::Instant;

use axum::extract::{DefaultBodyLimit, Query, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{delete, get, patch, post};
use axum::{Json, Router, middleware};
use proto::histogram::write_hgrm;
use serde_json::json;

use self::body::BODY_BYTES_MAX;
use self::latency_query::{Format, LatencyQuery};
use crate::Shared;
use crate::metrics;
use crate::stats::Stats;

/// Latencies are recorded in nanoseconds and shown to people in milliseconds.
const NANOS_PER_MILLISECOND: f64 = 1e6;

type AppState = State<Arc<Shared>>;

/// Every route, and JSON for what is none.
pub(crate) fn router(shared: Arc<Shared>) -> Router {
    Router::new()
        .route("/healthz", get(async || "ok\n"))
        .route("/readyz", get(ready))
        .route("/endpoint-health", get(ready))
        .route("/stats", get(stats))
        .route("/stats/latency", get(latency))
        .route("/metrics", get(metrics))
        .route("/certificates/reload", post(reload_certificates).fallback(post_only))
        .route("/upstreams", get(upstreams::list))
        .route("/upstreams/{name}", get(upstreams::show))
        .route("/upstreams/{name}/endpoints", post(upstreams::add))
        .route("/upstreams/{name}/endpoints/{endpoint}", patch(upstreams::change).delete(upstreams::remove))
        .route("/upstreams/{name}/register", post(register::register))
        .route("/upstreams/{name}/register/{endpoint}", delete(register::leave))
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

/// An error as clients see it: what, where, and what to do.
#[derive(Debug)]
struct Refusal {
    status: StatusCode,
    error: String,
    at: Option<String>,
    help: Option<String>,
}

impl Refusal {
    fn new(status: StatusCode, error: impl Into<String>) -> Self {
        Self { status, error: error.into(), at: None, help: None }
    }

    /// The key or the part of the path that it is about.
    fn at(self, at: impl Into<String>) -> Self {
        Self { at: Some(at.into()), ..self }
    }

    /// What to do instead.
    fn help(self, help: impl Into<String>) -> Self {
        Self { help: Some(help.into()), ..self }
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let mut body = json!({ "error": self.error });
        for (key, value) in [("at", self.at), ("help", self.help)] {
            if let Some(value) = value {
                body[key] = json!(value);
            }
        }
        (self.status, Json(body)).into_response()
    }
}

/// Whether new traffic is welcome: what balancers in front ask.
async fn ready(State(shared): AppState) -> Result<&'static str, Refusal> {
    if shared.is_draining() {
        return Err(Refusal::new(StatusCode::SERVICE_UNAVAILABLE, "draining"));
    }
    Ok("ok\n")
}

async fn stats(State(shared): AppState) -> Response {
    Json(Stats::of(&shared, &shared.live())).into_response()
}

async fn latency(
    State(shared): AppState,
    Query(parameters): Query<Vec<(String, String)>>,
) -> Result<Response, Refusal> {
    let live = shared.live();
    let query = LatencyQuery::parse(&parameters, &live.snapshot)
        .map_err(|error| Refusal::new(StatusCode::BAD_REQUEST, error.to_string()))?;
    let mut aggregator = shared.aggregator.lock().await;
    aggregator.collect().await;
    let is_wanted = |row| query.covers(row, &live.snapshot);
    let merged = aggregator.latency().merged(is_wanted, query.phase, query.window, Instant::now());
    drop(aggregator);
    match query.format {
        Format::Json => Ok(Json(latency_query::summary(&query, &live.snapshot, &merged)).into_response()),
        Format::Hgrm => {
            let mut text = String::new();
            write_hgrm(&merged, NANOS_PER_MILLISECOND, &mut text).map_err(|_| cannot_write())?;
            Ok(([(header::CONTENT_TYPE, "text/plain; charset=utf-8")], text).into_response())
        }
    }
}

async fn metrics(State(shared): AppState) -> Result<Response, Refusal> {
    let mut aggregator = shared.aggregator.lock().await;
    aggregator.collect().await;
    let text = metrics::exposition(&shared, aggregator.latency()).map_err(|_| cannot_write())?;
    Ok(([(header::CONTENT_TYPE, metrics::CONTENT_TYPE)], text).into_response())
}

async fn post_only() -> Refusal {
    Refusal::new(StatusCode::METHOD_NOT_ALLOWED, "this path changes something: use POST")
}

/// What SIGHUP does, with an answer: 200, or 422 when something in the files is of no use.
async fn reload_certificates(State(shared): AppState) -> Result<Response, Refusal> {
    let certificates = Arc::clone(&shared.live().certificates);
    // By a thread of its own: a file may be slow to come.
    let outcome = tokio::task::spawn_blocking(move || certificates.reload()).await.map_err(|_| {
        Refusal::new(StatusCode::INTERNAL_SERVER_ERROR, "the certificates could not be looked at")
    })?;
    let status = if outcome.refused.is_empty() { StatusCode::OK } else { StatusCode::UNPROCESSABLE_ENTITY };
    Ok((status, Json(outcome)).into_response())
}

fn cannot_write() -> Refusal {
    Refusal::new(StatusCode::INTERNAL_SERVER_ERROR, "the text could not be written")
}
