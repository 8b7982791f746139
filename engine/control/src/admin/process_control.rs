//! What can a process be told to do by whoever watches it? Other log lines; to finish what it has and end.
//!
//! Never another process than the one that is meant: under the same address there may be its successor by now.

use std::time::Instant;

use axum::Json;
use axum::extract::{Request, State};
use axum::http::StatusCode;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::AppState;
use super::body::{missing, wrong};
use super::refusal::Refusal;
use super::upstreams::read;
use crate::log_level::{FOR_MAX, LogLevelView, LogLevels};

/// Which log lines are to be written.
#[derive(Deserialize, ToSchema)]
#[expect(dead_code, reason = "the document's shape of what is read key by key")]
pub(super) struct NewLogLevel {
    /// `off`, `error`, `warn`, `info`, `debug` or `trace`, and others for parts: `info,control=debug`.
    level: String,
    /// For how long, such as `10m`; left out, until it is changed again or the process ends.
    #[serde(rename = "for")]
    time: Option<String>,
}

/// Which process is to drain.
#[derive(Deserialize, ToSchema)]
#[expect(dead_code, reason = "the document's shape of what is read key by key")]
pub(super) struct ToDrain {
    /// Its number in its system, as `/stats` says it.
    pid: u32,
}

/// A process that drains.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Draining {
    pid: u32,
    /// Whether it did so already.
    already: bool,
    /// How long it says that it is not ready before its listeners close.
    delay_s: f64,
    /// How long what is in progress may take from there.
    timeout_s: f64,
}

/// `GET /log-level`.
pub(super) async fn log_level(State(shared): AppState) -> Json<LogLevelView> {
    Json(shared.log.view(Instant::now()))
}

/// `PUT /log-level`.
pub(super) async fn set_log_level(
    State(shared): AppState,
    request: Request,
) -> Result<Json<LogLevelView>, Refusal> {
    let mut object = read(request).await?;
    let level = object.text("level")?.ok_or_else(|| missing("level", "{\"level\": \"debug\"}"))?;
    let levels: LogLevels = level.parse().map_err(|error| wrong("level", format!("{error}")))?;
    let time = object.text("for")?.map(|text| {
        let time = config::parse_duration(&text).map_err(|(cause, help)| match help {
            Some(help) => wrong("for", cause).help(help),
            None => wrong("for", cause),
        })?;
        if time.is_zero() || time > FOR_MAX {
            return Err(wrong("for", format!("expected up to {} h", FOR_MAX.as_secs() / 3_600))
                .help("leave it out for good"));
        }
        Ok(time)
    });
    let time = time.transpose()?;
    object.finish()?;
    shared.log.set(levels, time, Instant::now());
    Ok(Json(shared.log.view(Instant::now())))
}

/// `POST /process/drain`: what SIGTERM does.
pub(super) async fn drain(
    State(shared): AppState,
    request: Request,
) -> Result<(StatusCode, Json<Draining>), Refusal> {
    let mut object = read(request).await?;
    let pid = object.number("pid", 1..=u32::MAX)?.ok_or_else(|| missing("pid", "{\"pid\": 4711}"))?;
    object.finish()?;
    let own = std::process::id();
    if pid != own {
        let cause = format!("this is process {own}, not {pid}");
        return Err(Refusal::new(StatusCode::CONFLICT, cause)
            .at("pid")
            .help("ask /stats whom you are talking to"));
    }
    let already = shared.is_draining();
    if !already {
        shared.drain_asked.notify_one();
    }
    let snapshot = &shared.live().snapshot;
    let [delay_s, timeout_s] =
        [snapshot.terms.drain_delay, snapshot.process.drain_timeout].map(|time| time.as_secs_f64());
    Ok((StatusCode::ACCEPTED, Json(Draining { pid, already, delay_s, timeout_s })))
}
