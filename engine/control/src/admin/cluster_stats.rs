//! What has the whole cluster done, and how long did it take? The figures of all its processes, those that are gone too.
//!
//! Never averages: counters are summed and histograms merged, so that a percentile is that of all exchanges together.

use std::collections::{BTreeMap, BTreeSet};

use axum::Json;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use proto::histogram::write_hgrm;
use proxy::stats::Phase;
use serde::Serialize;
use utoipa::ToSchema;

use super::AppState;
use super::extract::Query;
use super::latency_query::LatencySummary;
use super::process::{NANOS_PER_MILLISECOND, cannot_write};
use super::refusal::Refusal;
use crate::Shared;
use crate::catalogue::RESPONSE_CLASSES;
use crate::statistics::tally::{ByName, Figures, Series, SeriesKind, Tally};
use crate::statistics::{Whole, of_cluster};

/// The answer to `/cluster/stats`.
#[derive(Serialize, ToSchema)]
pub(super) struct ClusterStats {
    /// How many processes it is of, those that are gone too.
    processes: u64,
    /// Processes whose figures are left out: another version wrote them.
    unreadable: Vec<String>,
    /// How old the figures of others are where the store is away.
    stale_s: Option<f64>,
    totals: ClusterTotals,
    listeners: BTreeMap<String, Figures>,
    channels: BTreeMap<String, Figures>,
    upstreams: BTreeMap<String, Figures>,
    faults: BTreeMap<String, u64>,
}

/// What others asked of the cluster; what came in by internal listeners is left out.
#[derive(Serialize, ToSchema)]
struct ClusterTotals {
    connections_open: u64,
    connections_accepted: u64,
    exchanges_open: u64,
    requests: u64,
    exchanges: u64,
    responses: BTreeMap<String, u64>,
    faults: u64,
    retries: u64,
    bytes_received: u64,
    bytes_sent: u64,
}

/// `GET /cluster/stats`.
pub(super) async fn stats(State(shared): AppState, query: Query) -> Result<Json<ClusterStats>, Refusal> {
    let [] = query.only([])?;
    let Whole { tally, unreadable, stale, .. } = whole(&shared).await?;
    Ok(Json(ClusterStats {
        processes: tally.processes,
        unreadable,
        stale_s: stale.map(|stale| stale.as_secs_f64()),
        totals: ClusterTotals::of(&tally),
        listeners: tally.listeners,
        channels: tally.channels,
        upstreams: tally.upstreams,
        faults: tally.faults,
    }))
}

/// `GET /cluster/stats/latency`.
pub(super) async fn latency(State(shared): AppState, query: Query) -> Result<Response, Refusal> {
    let [channel, listener, phase, format] = query.only(["channel", "listener", "phase", "format"])?;
    if channel.is_some() && listener.is_some() {
        let cause = "channel and listener are given: use one of them";
        return Err(Refusal::new(StatusCode::BAD_REQUEST, cause).at("query"));
    }
    let phase = match phase {
        None => Phase::Total,
        Some(name) => *one_of("phase", name, &Phase::ALL.map(|phase| (phase.name(), phase)))?,
    };
    let is_text = match format {
        None => false,
        Some(name) => *one_of("format", name, &[("json", false), ("hgrm", true)])?,
    };
    let tally = whole(&shared).await?.tally;
    check_name("channel", channel, &tally, SeriesKind::Channel)?;
    check_name("listener", listener, &tally, SeriesKind::Listener)?;
    let merged = tally.merged(|series| {
        series.phase == phase as usize && covers(series, channel, listener, &tally.channels)
    });
    if is_text {
        let mut text = String::new();
        write_hgrm(&merged, NANOS_PER_MILLISECOND, &mut text).map_err(|_| cannot_write())?;
        return Ok(([(header::CONTENT_TYPE, "text/plain; charset=utf-8")], text).into_response());
    }
    Ok(Json(LatencySummary::of(channel, listener, phase, "total", &merged)).into_response())
}

/// Everything together, or that the store has never answered.
async fn whole(shared: &Shared) -> Result<Whole, Refusal> {
    of_cluster(shared).await.ok_or_else(|| {
        Refusal::new(StatusCode::SERVICE_UNAVAILABLE, "the store does not answer, and has not yet")
            .help("GET /stats is what this process has counted itself")
    })
}

/// Whether this series is asked for. What took an internal channel would count twice among all.
fn covers(series: &Series, channel: Option<&str>, listener: Option<&str>, channels: &ByName) -> bool {
    match (series.kind, channel, listener) {
        (SeriesKind::Channel, Some(wanted), _) | (SeriesKind::Listener, _, Some(wanted)) => {
            series.name == wanted
        }
        (SeriesKind::Channel, None, None) => {
            !channels.get(&series.name).is_some_and(|figures| figures.internal)
        }
        _ => false,
    }
}

/// Refuses a name that no process knows.
fn check_name(parameter: &str, name: Option<&str>, tally: &Tally, kind: SeriesKind) -> Result<(), Refusal> {
    let Some(name) = name else { return Ok(()) };
    let objects = match kind {
        SeriesKind::Channel => &tally.channels,
        SeriesKind::Listener => &tally.listeners,
    };
    let recorded = tally.latencies.keys().filter(|series| series.kind == kind).map(|series| &series.name);
    let known: BTreeSet<&String> = objects.keys().chain(recorded).collect();
    if known.iter().any(|known| *known == name) {
        return Ok(());
    }
    let known: Vec<_> = known.into_iter().map(String::as_str).collect();
    Err(Refusal::new(StatusCode::BAD_REQUEST, format!("there is no {parameter} {name:?}"))
        .at(parameter)
        .help(format!("known: {}", known.join(", "))))
}

fn one_of<'a, T>(parameter: &str, name: &str, allowed: &'a [(&str, T)]) -> Result<&'a T, Refusal> {
    let found = allowed.iter().find(|(allowed, _)| *allowed == name).map(|(_, value)| value);
    found.ok_or_else(|| {
        let allowed: Vec<_> = allowed.iter().map(|(name, _)| *name).collect();
        Refusal::new(StatusCode::BAD_REQUEST, format!("{parameter} cannot be {name:?}"))
            .at(parameter)
            .help(format!("use one of {}", allowed.join(", ")))
    })
}

impl ClusterTotals {
    fn of(tally: &Tally) -> Self {
        let over = |objects: &ByName, internal: bool, name: &str| -> u64 {
            let wanted = objects.values().filter(|figures| figures.internal == internal);
            let value = |figures: &Figures| figures.counters.get(name).or(figures.gauges.get(name)).copied();
            wanted.filter_map(value).sum()
        };
        let listeners = |name: &str| over(&tally.listeners, false, name);
        let channels = |name: &str| over(&tally.channels, false, name);
        let responses =
            RESPONSE_CLASSES.map(|class| (class.to_owned(), channels(&format!("responses_{class}"))));
        let faults: u64 = tally.faults.values().sum();
        Self {
            connections_open: listeners("connections_open"),
            connections_accepted: listeners("accepted"),
            exchanges_open: listeners("exchanges_open"),
            requests: listeners("requests"),
            exchanges: channels("requests"),
            responses: responses.into(),
            faults: faults.saturating_sub(over(&tally.channels, true, "faults")),
            retries: channels("retries"),
            bytes_received: listeners("bytes_received"),
            bytes_sent: listeners("bytes_sent"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::statistics::of_process;
    use crate::stats::Stats;
    use crate::testing;

    /// Every total that both have is the same number.
    #[test]
    fn the_totals_of_a_process_alone_are_those_of_its_own_statistics() {
        let (shared, _cores) = testing::shared(2);
        let live = shared.live();
        for core in live.cores() {
            for listener in &core.listeners {
                listener.accepted.add(1);
                listener.requests.add(10);
                listener.bytes_received.add(100);
                listener.connections_open.set(4);
            }
            for channel in &core.channels {
                channel.requests.add(10);
                channel.responses[1].add(9);
                channel.faults.add(1);
                core.faults[0].add(1);
            }
        }
        let aggregator = shared.aggregator.try_lock().expect("free");
        let tally = of_process(&live, aggregator.latency());
        let of_cluster = serde_json::to_value(ClusterTotals::of(&tally)).expect("JSON");
        let own = serde_json::to_value(Stats::of(&shared, &live)).expect("JSON");
        assert_eq!(of_cluster, own["totals"]);
        assert_eq!(of_cluster["requests"], 20);
    }
}
