//! Which latencies does a query to `/stats/latency` ask for? Its parameters, and the answer in JSON.
//!
//! Never guesses: a parameter that is unknown, repeated or out of range is refused with what is allowed.

use std::fmt;

use config::snapshot::{Channel, ChannelId};
use proto::histogram::MergedHistogram;
use proxy::stats::Phase;
use serde_json::{Map, Value, json};

use crate::latency::Window;

/// Percentiles in the JSON answer, with the key of each.
const PERCENTILES: [(&str, f64); 7] = [
    ("p50", 0.5),
    ("p75", 0.75),
    ("p90", 0.9),
    ("p95", 0.95),
    ("p99", 0.99),
    ("p99_9", 0.999),
    ("p99_99", 0.9999),
];

/// What is asked for. Left out: all channels but internal ones, phase `total`, window `total`, format `json`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct LatencyQuery {
    pub(super) channel: Option<ChannelId>,
    pub(super) phase: Phase,
    pub(super) window: Window,
    pub(super) format: Format,
}

/// How the answer is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Format {
    Json,
    Hgrm,
}

impl Format {
    const ALL: [Self; 2] = [Self::Json, Self::Hgrm];

    const fn name(self) -> &'static str {
        match self {
            Self::Json => "json",
            Self::Hgrm => "hgrm",
        }
    }
}

/// Why a query was refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum QueryError {
    /// No such parameter.
    Unknown(String),
    /// A parameter given twice.
    Repeated(&'static str),
    /// A value that is none of those allowed.
    Value { parameter: &'static str, value: String, allowed: Vec<String> },
}

impl fmt::Display for QueryError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unknown(name) => {
                write!(f, "there is no parameter \"{name}\": use channel, phase, window or format")
            }
            Self::Repeated(name) => write!(f, "{name} is given more than once"),
            Self::Value { parameter, value, allowed } => {
                write!(f, "{parameter} cannot be \"{value}\": use one of {}", allowed.join(", "))
            }
        }
    }
}

impl LatencyQuery {
    pub(super) fn parse(parameters: &[(String, String)], channels: &[Channel]) -> Result<Self, QueryError> {
        const KNOWN: [&str; 4] = ["channel", "phase", "window", "format"];
        let mut values: [Option<&str>; KNOWN.len()] = [None; KNOWN.len()];
        for (name, value) in parameters {
            let Some(at) = KNOWN.iter().position(|known| known == name) else {
                return Err(QueryError::Unknown(name.clone()));
            };
            if values[at].replace(value).is_some() {
                return Err(QueryError::Repeated(KNOWN[at]));
            }
        }
        let [channel, phase, window, format] = values;
        let ids = (0..).map(ChannelId);
        let channels: Vec<_> = ids.zip(channels).map(|(id, channel)| (channel.name.as_str(), id)).collect();
        Ok(Self {
            channel: one_of("channel", channel, &channels)?,
            phase: one_of("phase", phase, &Phase::ALL.map(|phase| (phase.name(), phase)))?
                .unwrap_or(Phase::Total),
            window: one_of("window", window, &Window::ALL.map(|window| (window.name(), window)))?
                .unwrap_or(Window::Total),
            format: one_of("format", format, &Format::ALL.map(|format| (format.name(), format)))?
                .unwrap_or(Format::Json),
        })
    }

    /// Whether this channel is asked for. What took an internal channel is part of what took the one before it, and
    /// would count twice among all.
    pub(super) fn covers(&self, id: ChannelId, channels: &[Channel]) -> bool {
        self.channel.map_or(!channels[usize::from(id.0)].internal, |channel| channel == id)
    }
}

fn one_of<T: Copy>(
    parameter: &'static str,
    value: Option<&str>,
    allowed: &[(&str, T)],
) -> Result<Option<T>, QueryError> {
    let Some(value) = value else { return Ok(None) };
    match allowed.iter().find(|(name, _)| *name == value) {
        Some((_, found)) => Ok(Some(*found)),
        None => {
            let allowed = allowed.iter().map(|(name, _)| (*name).to_owned()).collect();
            Err(QueryError::Value { parameter, value: value.to_owned(), allowed })
        }
    }
}

/// The answer in JSON: what was asked for, and the distribution in nanoseconds.
pub(super) fn summary(query: &LatencyQuery, channels: &[Channel], merged: &MergedHistogram) -> Value {
    let percentiles: Map<String, Value> = PERCENTILES
        .iter()
        .map(|(key, quantile)| ((*key).to_owned(), merged.value_at_quantile(*quantile).into()))
        .collect();
    json!({
        "channel": query.channel.map(|id| channels[usize::from(id.0)].name.as_str()),
        "phase": query.phase.name(),
        "window": query.window.name(),
        "unit": "ns",
        "count": merged.len(),
        "min": merged.min(),
        "mean": merged.mean(),
        "stdev": merged.stdev(),
        "max": merged.max(),
        "percentiles": percentiles,
    })
}

#[cfg(test)]
mod tests {
    use config::snapshot::{Action, ErrorPages, StaticResponse, Upgrades};
    use proto::histogram::merged_histogram;

    use super::*;

    fn channels() -> Vec<Channel> {
        let respond = StaticResponse { status: 200, content_type: "text/plain".into(), body: [].into() };
        let channel = |name: &str| Channel {
            name: name.to_owned(),
            action: Action::Respond(respond.clone()),
            body_bytes_max: None,
            total_timeout: None,
            tunnel_timeout: None,
            upgrade: Upgrades::Any,
            connect: false,
            error_pages: ErrorPages::default(),
            internal: name == "own",
        };
        vec![channel("web"), channel("api"), channel("own")]
    }

    fn parse(text: &str) -> Result<LatencyQuery, String> {
        let pairs = text.split('&').filter(|pair| !pair.is_empty());
        let pairs: Vec<_> = pairs
            .map(|pair| pair.split_once('=').expect("name=value"))
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .collect();
        LatencyQuery::parse(&pairs, &channels()).map_err(|error| error.to_string())
    }

    #[test]
    fn what_is_left_out_has_a_default() {
        let everything =
            LatencyQuery { channel: None, phase: Phase::Total, window: Window::Total, format: Format::Json };
        assert_eq!(parse(""), Ok(everything));
        let query = LatencyQuery {
            channel: Some(ChannelId(1)),
            phase: Phase::FirstByte,
            window: Window::TenSeconds,
            format: Format::Hgrm,
        };
        assert_eq!(parse("channel=api&phase=first_byte&window=10s&format=hgrm"), Ok(query));
    }

    #[test]
    fn an_internal_channel_is_only_covered_by_its_name() {
        let channels = channels();
        let covered = |text: &str| {
            let query = parse(text).expect("query");
            [0, 1, 2].map(|id| query.covers(ChannelId(id), &channels))
        };
        assert_eq!(covered(""), [true, true, false]);
        assert_eq!(covered("channel=api"), [false, true, false]);
        assert_eq!(covered("channel=own"), [false, false, true]);
    }

    #[test]
    fn every_refusal_says_what_is_allowed() {
        let check = |text: &str, expected: &str| assert_eq!(parse(text).unwrap_err(), expected, "{text}");
        check("channel=nope", "channel cannot be \"nope\": use one of web, api, own");
        check("phase=", "phase cannot be \"\": use one of wait, connect, first_byte, body, total");
        check("window=5s", "window cannot be \"5s\": use one of total, 60s, 10s, 1s");
        check("format=xml", "format cannot be \"xml\": use one of json, hgrm");
        check("percentile=99", "there is no parameter \"percentile\": use channel, phase, window or format");
        check("phase=body&phase=body", "phase is given more than once");
    }

    #[test]
    fn the_summary_names_its_query_and_its_unit() {
        let mut merged = merged_histogram();
        (1..=1_000).for_each(|millis| merged.saturating_record(millis * 1_000_000));
        let summary = summary(&parse("channel=web&window=60s").expect("query"), &channels(), &merged);
        assert_eq!(summary["channel"], "web");
        assert_eq!(summary["window"], "60s");
        assert_eq!(summary["unit"], "ns");
        assert_eq!(summary["count"], 1_000);
        let p99 = summary["percentiles"]["p99"].as_u64().expect("p99");
        assert!((989_000_000..=991_000_000).contains(&p99), "{p99}");
    }
}
