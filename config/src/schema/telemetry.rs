//! What is told of single requests, and to whom?
//!
//! Never how many there were: that is always counted.

use schemars::JsonSchema;
use serde::Serialize;

use crate::value::share::Share;

/// What is told of single requests to those who follow them through several services.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
#[schemars(deny_unknown_fields, default)]
pub struct Telemetry {
    /// What becomes of `traceparent` and `tracestate` on their way to endpoints: `off` passes them on like any field;
    /// `propagate` puts this process into the traces that come in; `make` begins one where none does.
    #[schemars(example = &"make")]
    pub trace: Trace,
    /// Share of the traces begun here that are marked to be recorded. 0% to 100%.
    #[schemars(example = &"10%")]
    pub sample: Share,
    /// Whether every client is believed what it says of its trace; else only those in the listener's `forwarding.trusted`.
    #[schemars(example = true)]
    pub trust_clients: bool,
    /// Where sampled exchanges go as spans, by OTLP over HTTP: the URL of a collector, to which `/v1/traces` is added. A program that
    /// was built without the feature `otlp`, which is on by default, refuses it.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "String", example = &"http://127.0.0.1:4318")]
    pub otlp: Option<String>,
}

/// What becomes of traces.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Trace {
    /// The fields are like any other.
    #[default]
    Off,
    /// Those that come in go on with this process between.
    Propagate,
    /// The same, and where none comes in one begins.
    Make,
}

impl Default for Telemetry {
    fn default() -> Self {
        Self { trace: Trace::Off, sample: Share::from_percent(1), trust_clients: false, otlp: None }
    }
}
