//! What may probes ask, what may traffic decide, and how long may either take?
//!
//! Never lets a key pass that would do nothing with the protocol that was chosen.

use proto::http1::status::{STATUS_MAX, STATUS_MIN};
use thiserror::Error;

use super::fields::Fields;
use crate::schema::health::{Ejection, Health, ProbeProtocol, SlowStart, SlowStartCurve, StatusRange};
use crate::value::duration::Timespan;
use crate::value::share::Share;
use crate::value::{Refusal, field};

/// More often nobody needs to know, and more rarely nobody would notice.
const INTERVAL_MIN: Timespan = Timespan::from_millis(10);
const INTERVAL_MAX: Timespan = Timespan::from_secs(3600);

const TIMEOUT_MIN: Timespan = Timespan::from_millis(1);

/// Beyond a day it is the operator who takes an endpoint out.
const EJECTION_MAX: Timespan = Timespan::from_secs(24 * 3600);

/// A weight is not changed more often than this.
const SLOW_START_MIN: Timespan = Timespan::from_millis(50);

/// With more jitter an interval would say little.
const JITTER_MAX: Share = Share::from_percent(50);

/// Keys that only a request has.
const HTTP_KEYS: [&str; 5] = ["path", "host", "method", "status", "body"];

pub(super) fn read_health(fields: &mut Fields<'_>) -> Health {
    let default = Health::default();
    let words = [("http", ProbeProtocol::Http), ("tcp", ProbeProtocol::Tcp), ("tls", ProbeProtocol::Tls)];
    let protocol = fields.word("protocol", &words);
    if protocol != ProbeProtocol::Http {
        for name in HTTP_KEYS.into_iter().filter(|name| fields.has(name)) {
            let cause = format!("means nothing with protocol = {:?}", protocol.name());
            fields.error(name, cause, Some("leave it out".to_owned()));
        }
    }
    let method = |text: &str| field::check_method(text).map(|()| text.to_owned());
    let method = fields.parsed("method", method).unwrap_or(default.method);
    match method.as_str() {
        "CONNECT" => {
            fields.error("method", "a probe asks for no tunnel", Some("did you mean \"GET\"?".to_owned()));
        }
        // RFC 9110 §9.3.2.
        "HEAD" if fields.has("body") => {
            fields.error("body", "an answer to HEAD has no body", Some("leave method out".to_owned()));
        }
        _ => {}
    }
    let interval = fields.duration("interval", INTERVAL_MIN..=INTERVAL_MAX, default.interval);
    let fast_interval = default.fast_interval.min(interval);
    let count = |fields: &mut Fields<'_>, name, default| fields.integer(name, 1..=100, default);
    Health {
        protocol,
        path: read_path(fields).unwrap_or(default.path),
        host: read_host(fields),
        method,
        status: read_statuses(fields, "status", Fields::one_or_many, default.status),
        body: fields.text("body").map(str::to_owned),
        interval,
        fast_interval: fields.duration("fast_interval", INTERVAL_MIN..=INTERVAL_MAX, fast_interval),
        jitter: fields.share("jitter", Share::from_percent(0)..=JITTER_MAX, default.jitter),
        timeout: fields.duration("timeout", TIMEOUT_MIN..=INTERVAL_MAX, default.timeout),
        rise: count(fields, "rise", default.rise),
        fall: count(fields, "fall", default.fall),
        port: fields.is_given("port").then(|| fields.integer("port", 1..=u16::MAX, 1)),
    }
}

pub(super) fn read_ejection(fields: &mut Fields<'_>) -> Ejection {
    let default = Ejection::default();
    let time = fields.duration("time", INTERVAL_MIN..=INTERVAL_MAX, default.time);
    let time_max = default.time_max.max(time);
    Ejection {
        failures: fields.integer("failures", 1..=1000, default.failures),
        statuses: read_statuses(fields, "statuses", Fields::one_or_many_or_none, default.statuses),
        time,
        time_max: fields.duration("time_max", INTERVAL_MIN..=EJECTION_MAX, time_max),
        share_max: fields.share(
            "share_max",
            Share::from_percent(0)..=Share::from_percent(100),
            default.share_max,
        ),
    }
}

pub(super) fn read_slow_start(fields: &mut Fields<'_>) -> SlowStart {
    let curves = [("linear", SlowStartCurve::Linear), ("exponential", SlowStartCurve::Exponential)];
    SlowStart {
        time: fields.duration("time", SLOW_START_MIN..=INTERVAL_MAX, SlowStart::default().time),
        curve: fields.word("curve", &curves),
    }
}

pub(super) fn read_panic_threshold(fields: &mut Fields<'_>) -> Option<Share> {
    let all = Share::from_percent(100);
    fields
        .is_given("panic_threshold")
        .then(|| fields.share("panic_threshold", Share::from_percent(1)..=all, all))
}

/// The target of a request, in origin-form (RFC 9112 §3.2.1).
fn read_path(fields: &mut Fields<'_>) -> Option<String> {
    let path = fields.text("path")?;
    if !path.starts_with('/') {
        let suggestion = Some(format!("did you mean {:?}?", format!("/{path}")));
        fields.error("path", format!("a path starts with a slash, found {path:?}"), suggestion);
    } else if let Some(found) = path.chars().find(|c| !c.is_ascii_graphic() || *c == '#') {
        fields.error("path", format!("{found:?} cannot stand in the target of a request"), None);
    }
    Some(path.to_owned())
}

/// An authority: a name or an address, with a port or without.
fn read_host(fields: &mut Fields<'_>) -> Option<String> {
    let host = fields.text("host")?;
    if proto::http1::target::is_authority(host.as_bytes()) {
        return Some(host.to_owned());
    }
    fields.error(
        "host",
        format!("expected a host name or address, found {host:?}"),
        Some("for example \"app.example\"".to_owned()),
    );
    None
}

fn read_statuses<'r>(
    fields: &mut Fields<'r>,
    name: &'static str,
    items: impl FnOnce(&mut Fields<'r>, &'static str) -> Vec<super::fields::Item<'r>>,
    default: Vec<StatusRange>,
) -> Vec<StatusRange> {
    if !fields.is_given(name) {
        return default;
    }
    items(fields, name).iter().filter_map(|item| item.parsed(parse_status_range)).collect()
}

/// Why statuses were refused.
#[derive(Debug, PartialEq, Eq, Error)]
enum StatusError {
    #[error("expected a status or \"FIRST-LAST\", found {found:?}")]
    NoStatus { found: String },
    #[error("a status is {STATUS_MIN} to {STATUS_MAX}, found {found}")]
    OutOfRange { found: u16 },
    #[error("the first status is above the last")]
    Reversed { first: u16, last: u16 },
}

impl Refusal for StatusError {
    fn suggestion(&self) -> Option<String> {
        match self {
            Self::NoStatus { .. } => Some("for example \"200-399\"".to_owned()),
            Self::OutOfRange { .. } => None,
            Self::Reversed { first, last } => Some(format!("did you mean \"{last}-{first}\"?")),
        }
    }
}

fn parse_status_range(text: &str) -> Result<StatusRange, StatusError> {
    let status = |digits: &str| {
        let is_status = digits.len() == 3 && digits.bytes().all(|byte| byte.is_ascii_digit());
        let status = digits.parse::<u16>().ok().filter(|_| is_status);
        let status = status.ok_or_else(|| StatusError::NoStatus { found: text.to_owned() })?;
        let is_possible = (STATUS_MIN..=STATUS_MAX).contains(&status);
        is_possible.then_some(status).ok_or(StatusError::OutOfRange { found: status })
    };
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let (first, last) = (status(first)?, status(last)?);
    if first > last {
        return Err(StatusError::Reversed { first, last });
    }
    Ok(StatusRange { first, last })
}
