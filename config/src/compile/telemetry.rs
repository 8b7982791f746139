//! What do cores know of traces?
//!
//! Never more than one request asks for.

use crate::schema::telemetry::{Telemetry, Trace};
use crate::snapshot::Tracing;

/// Nothing where traces are like any field.
pub(super) fn compile(telemetry: &Telemetry) -> Option<Tracing> {
    let sample = match telemetry.trace {
        Trace::Off => return None,
        Trace::Propagate => None,
        Trace::Make => Some(telemetry.sample.percent().min(100) as u8),
    };
    Some(Tracing { sample_percent: sample, trusts_clients: telemetry.trust_clients })
}
