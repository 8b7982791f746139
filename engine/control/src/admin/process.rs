//! How is this process? Its health, statistics and metrics, and its certificates read again.
//!
//! Never asks another process: see [`super::cluster`] for all of them.

use std::sync::Arc;
use std::time::Instant;

use axum::Json;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use proto::histogram::write_hgrm;
use serde::Serialize;
use utoipa::ToSchema;

use super::AppState;
use super::extract::Query;
use super::latency_query::{self, Format, LatencyQuery, summary};
use super::refusal::Refusal;
use crate::latency::Owner;
use crate::metrics::{self, Form};
use crate::stats::Stats;

/// Latencies are recorded in nanoseconds and shown to people in milliseconds.
pub(super) const NANOS_PER_MILLISECOND: f64 = 1e6;

/// `GET /healthz`: it runs.
pub(super) async fn lives() -> &'static str {
    "ok\n"
}

/// `GET /readyz`: whether new traffic is welcome, which is what balancers in front ask.
pub(super) async fn ready(State(shared): AppState) -> Result<&'static str, Refusal> {
    if shared.is_draining() {
        return Err(Refusal::new(StatusCode::SERVICE_UNAVAILABLE, "draining"));
    }
    if shared.cluster().is_some_and(|cluster| cluster.is_standby()) {
        return Err(Refusal::new(StatusCode::SERVICE_UNAVAILABLE, "standby"));
    }
    Ok("ok\n")
}

/// `GET /stats`.
pub(super) async fn stats(State(shared): AppState) -> Response {
    Json(Stats::of(&shared, &shared.live())).into_response()
}

/// `GET /stats/latency`.
pub(super) async fn latency(State(shared): AppState, parameters: Query) -> Result<Response, Refusal> {
    let live = shared.live();
    let query = LatencyQuery::parse(parameters.pairs(), &live.snapshot)
        .map_err(|error| Refusal::new(StatusCode::BAD_REQUEST, error.to_string()))?;
    let mut aggregator = shared.aggregator.lock().await;
    aggregator.collect().await;
    let latency = aggregator.latency();
    let is_wanted = |owner: &Owner| query.covers(owner, latency.is_internal(owner), &live.snapshot);
    let merged = latency.merged(is_wanted, query.phase, query.window, Instant::now());
    drop(aggregator);
    match query.format {
        Format::Json => Ok(Json(summary(&query, &live.snapshot, &merged)).into_response()),
        Format::Hgrm => {
            let mut text = String::new();
            write_hgrm(&merged, NANOS_PER_MILLISECOND, &mut text).map_err(|_| cannot_write())?;
            Ok(([(header::CONTENT_TYPE, "text/plain; charset=utf-8")], text).into_response())
        }
    }
}

/// `GET /stats/latencies`.
pub(super) async fn latencies(State(shared): AppState, parameters: Query) -> Result<Response, Refusal> {
    // Of everything, in JSON: only these two are left to say.
    parameters.only(["phase", "window"])?;
    let live = shared.live();
    let query = LatencyQuery::parse(parameters.pairs(), &live.snapshot)
        .map_err(|error| Refusal::new(StatusCode::BAD_REQUEST, error.to_string()))?;
    let mut aggregator = shared.aggregator.lock().await;
    aggregator.collect().await;
    let answer = latency_query::latencies(&query, &live.snapshot, aggregator.latency(), Instant::now());
    Ok(Json(answer).into_response())
}

/// `GET /metrics`.
pub(super) async fn metrics(State(shared): AppState, headers: HeaderMap) -> Result<Response, Refusal> {
    let accepted = headers.get_all(header::ACCEPT).iter().filter_map(|value| value.to_str().ok());
    let form = Form::preferred(accepted);
    shared.aggregator.lock().await.collect().await;
    // By a thread of its own: probes, beats and signals do not wait for thousands of lines.
    let written = tokio::task::spawn_blocking(move || {
        metrics::exposition(&shared, &shared.aggregator.blocking_lock(), form)
    });
    let text = written.await.ok().and_then(Result::ok).ok_or_else(cannot_write)?;
    let kind = [(header::CONTENT_TYPE, form.content_type()), (header::VARY, "accept")];
    Ok((kind, text).into_response())
}

/// What is opened anew.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Reopened {
    /// How many logs.
    logs: usize,
}

/// `POST /logs/reopen`: what SIGUSR1 does.
pub(super) async fn reopen_logs(State(shared): AppState) -> Json<Reopened> {
    Json(Reopened { logs: shared.reopen_logs("/logs/reopen") })
}

/// `POST /certificates/reload`: what SIGHUP does with them, with an answer: 200, or 422 when something in the files is of no use.
pub(super) async fn reload_certificates(State(shared): AppState) -> Result<Response, Refusal> {
    let certificates = Arc::clone(&shared.live().certificates);
    // By a thread of its own: a file may be slow to come.
    let outcome = tokio::task::spawn_blocking(move || certificates.reload()).await.map_err(|_| {
        Refusal::new(StatusCode::INTERNAL_SERVER_ERROR, "the certificates could not be looked at")
    })?;
    let status = if outcome.refused.is_empty() { StatusCode::OK } else { StatusCode::UNPROCESSABLE_ENTITY };
    Ok((status, Json(outcome)).into_response())
}

pub(super) fn cannot_write() -> Refusal {
    Refusal::new(StatusCode::INTERNAL_SERVER_ERROR, "the text could not be written")
}
