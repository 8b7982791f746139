//! When is an endpoint well? The written tables as rules that control and the cores go by.
//!
//! Never a pattern that could not be compiled: the report names it.

use proto::health::body::BodyPattern;
use proto::health::check::CheckTerms;
use proto::health::ejection::EjectionTerms;
use proto::health::slow_start::{Curve, SlowStartTerms};
use proto::http1::status::StatusSet;
use proto::share;

use super::rules::one_line;
use crate::document::key::Key;
use crate::report::Report;
use crate::schema::health as written;
use crate::snapshot::health::{Ejection, Health, HttpProbe, Probe};
use crate::value::share::Share;

/// `None` means that the report names what is wrong.
pub(super) fn compile_health(
    upstream: &str,
    health: &written::Health,
    report: &Report<'_>,
) -> Option<Health> {
    let probe = match health.protocol {
        written::ProbeProtocol::Tcp => Probe::Tcp,
        written::ProbeProtocol::Tls => Probe::Tls,
        written::ProbeProtocol::Http => {
            let body = match &health.body {
                Some(pattern) => Some(compile_pattern(upstream, pattern, report)?),
                None => None,
            };
            Probe::Http(HttpProbe {
                method: health.method.as_str().into(),
                target: health.path.as_str().into(),
                host: health.host.as_deref().map(Into::into),
                statuses: compile_statuses(&health.status),
                body,
            })
        }
    };
    Some(Health {
        probe,
        terms: CheckTerms {
            interval: health.interval.duration(),
            fast_interval: health.fast_interval.duration(),
            jitter: compile_share(health.jitter),
            rise: health.rise,
            fall: health.fall,
        },
        timeout: health.timeout.duration(),
        port: health.port,
    })
}

fn compile_pattern(upstream: &str, pattern: &str, report: &Report<'_>) -> Option<BodyPattern> {
    let refuse = |error: String| {
        report.error(&Key::of(["upstream", upstream, "health", "body"]), one_line(&error), None);
    };
    BodyPattern::new(pattern).map_err(refuse).ok()
}

pub(super) fn compile_ejection(ejection: &written::Ejection) -> Ejection {
    Ejection {
        terms: EjectionTerms {
            failures: u32::from(ejection.failures),
            time: ejection.time.duration(),
            time_max: ejection.time_max.duration(),
            share_max: compile_share(ejection.share_max),
        },
        statuses: compile_statuses(&ejection.statuses),
    }
}

pub(super) fn compile_slow_start(slow_start: &written::SlowStart) -> SlowStartTerms {
    SlowStartTerms {
        time: slow_start.time.duration(),
        curve: match slow_start.curve {
            written::SlowStartCurve::Linear => Curve::Linear,
            written::SlowStartCurve::Exponential => Curve::Exponential,
        },
    }
}

fn compile_statuses(ranges: &[written::StatusRange]) -> StatusSet {
    ranges.iter().map(|range| (range.first, range.last)).collect()
}

/// The reader bounds every share that goes through here by the whole.
pub(super) fn compile_share(share: Share) -> share::Share {
    share::Share::percent(u16::try_from(share.percent()).unwrap_or(u16::MAX))
}
