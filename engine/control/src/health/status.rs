//! How is an endpoint, since when, and why? What the warden knows, for `/stats` and `/metrics`.
//!
//! Never asked of an endpoint: what the last probe found is what is told.

use std::time::Duration;

use config::snapshot::{EndpointId, UpstreamId};
use proxy::roster::ward::LastProbe;
use proxy::roster::warden::{Tally, Warden};
use serde::Serialize;
use utoipa::ToSchema;

/// What is known of one endpoint's health.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct HealthStatus {
    /// How long it has been in its state.
    since_s: f64,
    /// What brought it there; nothing where it has been so all the time.
    #[serde(skip_serializing_if = "Option::is_none")]
    cause: Option<String>,
    /// For how long it is left out yet.
    #[serde(skip_serializing_if = "Option::is_none")]
    ejected_for_s: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    last_probe: Option<LastProbeStatus>,
    probes: ProbeCounts,
    downs: u64,
    ups: u64,
    ejections: u64,
    ejections_refused: u64,
}

#[derive(Debug, Serialize, ToSchema)]
struct LastProbeStatus {
    is_good: bool,
    ago_s: f64,
    took_s: f64,
}

#[derive(Debug, Serialize, ToSchema)]
struct ProbeCounts {
    good: u64,
    failed: u64,
}

impl HealthStatus {
    /// Of an endpoint that somebody watches.
    pub(super) fn of(
        warden: &Warden,
        upstream: UpstreamId,
        endpoint: EndpointId,
        now: Duration,
    ) -> Option<Self> {
        let ward = warden.ward(upstream, endpoint)?;
        let ago = |then: Duration| now.saturating_sub(then).as_secs_f64();
        let last_probe = |LastProbe { at, took, is_good }| LastProbeStatus {
            is_good,
            ago_s: ago(at),
            took_s: took.as_secs_f64(),
        };
        let Tally { probes_good, probes_failed, downs, ups, ejections, ejections_refused } =
            *warden.tally(endpoint);
        Some(Self {
            since_s: ago(ward.since()),
            cause: ward.cause().map(str::to_owned),
            ejected_for_s: ward.ejected_until().map(|until| until.saturating_sub(now).as_secs_f64()),
            last_probe: ward.last_probe().map(last_probe),
            probes: ProbeCounts { good: probes_good, failed: probes_failed },
            downs,
            ups,
            ejections,
            ejections_refused,
        })
    }
}
