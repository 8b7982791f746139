//! Which latencies does a query to `/stats/latency` ask for? Its parameters, and the answer in JSON.
//!
//! Never guesses: a parameter that is unknown, repeated or out of range is refused with what is allowed.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Instant;

use config::snapshot::{ChannelId, ListenerId, Snapshot};
use proto::histogram::{MergedHistogram, merged_histogram};
use proxy::stats::{Phase, Row};
use serde::Serialize;
use utoipa::ToSchema;

use crate::latency::{Latency, Owner, Window};

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

/// What is asked for. Left out: all channels but internal ones, phase `total`, window `total`, format `json`. The messages of
/// a listener that relays bytes are no exchanges: they are asked for by its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct LatencyQuery {
    pub(super) row: Option<Row>,
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
    /// A channel and a listener.
    Both,
    /// A value that is none of those allowed.
    Value { parameter: &'static str, value: String, allowed: Vec<String> },
}

impl fmt::Display for QueryError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unknown(name) => {
                write!(f, "there is no parameter \"{name}\": use channel, listener, phase, window or format")
            }
            Self::Repeated(name) => write!(f, "{name} is given more than once"),
            Self::Both => f.write_str("channel and listener are given: use one of them"),
            Self::Value { parameter, value, allowed } => {
                write!(f, "{parameter} cannot be \"{value}\": use one of {}", allowed.join(", "))
            }
        }
    }
}

impl LatencyQuery {
    pub(super) fn parse(parameters: &[(String, String)], snapshot: &Snapshot) -> Result<Self, QueryError> {
        const KNOWN: [&str; 5] = ["channel", "listener", "phase", "window", "format"];
        let mut values: [Option<&str>; KNOWN.len()] = [None; KNOWN.len()];
        for (name, value) in parameters {
            let Some(at) = KNOWN.iter().position(|known| known == name) else {
                return Err(QueryError::Unknown(name.clone()));
            };
            if values[at].replace(value).is_some() {
                return Err(QueryError::Repeated(KNOWN[at]));
            }
        }
        let [channel, listener, phase, window, format] = values;
        if channel.is_some() && listener.is_some() {
            return Err(QueryError::Both);
        }
        let ids = (0..).map(|id| Row::Channel(ChannelId(id)));
        let channels: Vec<_> =
            snapshot.channels.iter().map(|channel| channel.name.as_str()).zip(ids).collect();
        let ids = (0..).map(|id| Row::Listener(ListenerId(id)));
        let listeners =
            snapshot.listeners.iter().zip(ids).filter(|(listener, _)| !listener.protocol.is_http());
        let listeners: Vec<_> = listeners.map(|(listener, id)| (listener.name.as_str(), id)).collect();
        Ok(Self {
            row: one_of("channel", channel, &channels)?.or(one_of("listener", listener, &listeners)?),
            phase: one_of("phase", phase, &Phase::ALL.map(|phase| (phase.name(), phase)))?
                .unwrap_or(Phase::Total),
            window: one_of("window", window, &Window::ALL.map(|window| (window.name(), window)))?
                .unwrap_or(Window::Total),
            format: one_of("format", format, &Format::ALL.map(|format| (format.name(), format)))?
                .unwrap_or(Format::Json),
        })
    }

    /// Whether the latencies of this owner are asked for. What took an internal channel is part of what took the one before
    /// it, and would count twice among all.
    pub(super) fn covers(&self, owner: &Owner, is_internal: bool, snapshot: &Snapshot) -> bool {
        match (self.row, owner) {
            (Some(wanted), owner) => Owner::of(wanted, snapshot).0 == *owner,
            (None, Owner::Channel(_)) => !is_internal,
            (None, Owner::Listener(_)) => false,
        }
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

/// What was asked for, and the distribution.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct LatencySummary {
    /// Nothing for all that are not internal.
    pub(super) channel: Option<String>,
    pub(super) listener: Option<String>,
    pub(super) phase: &'static str,
    pub(super) window: &'static str,
    /// Of every figure below but `count`.
    pub(super) unit: &'static str,
    pub(super) count: u64,
    pub(super) min: u64,
    pub(super) mean: f64,
    pub(super) stdev: f64,
    pub(super) max: u64,
    pub(super) percentiles: BTreeMap<&'static str, u64>,
}

impl LatencySummary {
    /// In nanoseconds.
    pub(super) fn of(
        channel: Option<&str>,
        listener: Option<&str>,
        phase: Phase,
        window: &'static str,
        merged: &MergedHistogram,
    ) -> Self {
        let percentiles = PERCENTILES.map(|(key, quantile)| (key, merged.value_at_quantile(quantile)));
        Self {
            channel: channel.map(str::to_owned),
            listener: listener.map(str::to_owned),
            phase: phase.name(),
            window,
            unit: "ns",
            count: merged.len(),
            min: merged.min(),
            mean: merged.mean(),
            stdev: merged.stdev(),
            max: merged.max(),
            percentiles: percentiles.into(),
        }
    }
}

/// The answer in JSON.
pub(super) fn summary(query: &LatencyQuery, snapshot: &Snapshot, merged: &MergedHistogram) -> LatencySummary {
    let (channel, listener) = match query.row {
        None => (None, None),
        Some(Row::Channel(id)) => (Some(snapshot.channels[usize::from(id.0)].name.as_str()), None),
        Some(Row::Listener(id)) => (None, Some(snapshot.listeners[usize::from(id.0)].name.as_str())),
    };
    LatencySummary::of(channel, listener, query.phase, query.window.name(), merged)
}

/// Latencies of everything that has any, side by side.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Latencies {
    /// Of all channels but internal ones.
    all: LatencySummary,
    /// Of each channel in which something ended meanwhile.
    channels: Vec<LatencySummary>,
    /// Of each listener that relays bytes in messages, likewise.
    listeners: Vec<LatencySummary>,
}

/// Which of them `/stats/latencies` asks for: phase and window, as [`LatencyQuery`] knows them.
pub(super) fn latencies(
    query: &LatencyQuery,
    snapshot: &Snapshot,
    latency: &Latency,
    now: Instant,
) -> Latencies {
    let (phase, window) = (query.phase, query.window);
    let is_wanted = |owner: &Owner| query.covers(owner, latency.is_internal(owner), snapshot);
    let all = summary(query, snapshot, &latency.merged(is_wanted, phase, window, now));
    let mut merged = merged_histogram();
    let mut of = |row: Row| {
        let is_there = latency.of_one(&Owner::of(row, snapshot).0, phase, window, now, &mut merged);
        is_there.then(|| summary(&LatencyQuery { row: Some(row), ..*query }, snapshot, &merged))
    };
    let ids = (0..).map(|id| Row::Channel(ChannelId(id)));
    let channels = snapshot.channels.iter().zip(ids).filter_map(|(_, row)| of(row)).collect();
    let ids = (0..).map(|id| Row::Listener(ListenerId(id)));
    let relays = snapshot.listeners.iter().zip(ids).filter(|(listener, _)| !listener.protocol.is_http());
    let listeners = relays.filter_map(|(_, row)| of(row)).collect();
    Latencies { all, channels, listeners }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Channels `web`, `api` and `own`, of which the last is internal, and listeners `in`, `own` and `db`.
    fn snapshot() -> Snapshot {
        let text = r#"
            listener.in.bind = "127.0.0.1:0"
            listener.own = { bind = "127.0.0.1:0", internal = true }
            listener.db = { bind = "127.0.0.1:0", protocol = "tcp", upstream = "db" }
            channel.web = { match = { listener = "in" }, priority = 2, respond = {} }
            channel.api = { match = { listener = "in" }, priority = 1, respond = {} }
            channel.own = { match = { listener = "own" }, respond = {} }
            upstream.db.endpoints = ["127.0.0.1:1"]
        "#;
        let loaded = config::load_str("test.toml", text, config::Format::Toml, &|_| None);
        loaded.unwrap_or_else(|problems| panic!("{problems:?}")).snapshot
    }

    fn parse(text: &str) -> Result<LatencyQuery, String> {
        let pairs = text.split('&').filter(|pair| !pair.is_empty());
        let pairs: Vec<_> = pairs
            .map(|pair| pair.split_once('=').expect("name=value"))
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .collect();
        LatencyQuery::parse(&pairs, &snapshot()).map_err(|error| error.to_string())
    }

    fn covers(query: LatencyQuery, row: Row, snapshot: &Snapshot) -> bool {
        let (owner, is_internal) = Owner::of(row, snapshot);
        query.covers(&owner, is_internal, snapshot)
    }

    #[test]
    fn what_is_left_out_has_a_default() {
        let everything =
            LatencyQuery { row: None, phase: Phase::Total, window: Window::Total, format: Format::Json };
        assert_eq!(parse(""), Ok(everything));
        let query = LatencyQuery {
            row: Some(Row::Channel(ChannelId(1))),
            phase: Phase::FirstByte,
            window: Window::TenSeconds,
            format: Format::Hgrm,
        };
        assert_eq!(parse("channel=api&phase=first_byte&window=10s&format=hgrm"), Ok(query));
    }

    #[test]
    fn an_internal_channel_is_only_covered_by_its_name() {
        let snapshot = snapshot();
        let covered = |text: &str| {
            let query = parse(text).expect("query");
            [0, 1, 2].map(|id| covers(query, Row::Channel(ChannelId(id)), &snapshot))
        };
        assert_eq!(covered(""), [true, true, false]);
        assert_eq!(covered("channel=api"), [false, true, false]);
        assert_eq!(covered("channel=own"), [false, false, true]);
    }

    #[test]
    fn the_messages_of_a_listener_are_only_covered_by_its_name() {
        let snapshot = snapshot();
        let db = Row::Listener(ListenerId(2));
        assert!(!covers(parse("").expect("query"), db, &snapshot));
        let query = parse("listener=db").expect("query");
        assert!(covers(query, db, &snapshot) && !covers(query, Row::Channel(ChannelId(2)), &snapshot));
    }

    #[test]
    fn every_refusal_says_what_is_allowed() {
        let check = |text: &str, expected: &str| assert_eq!(parse(text).unwrap_err(), expected, "{text}");
        check("channel=nope", "channel cannot be \"nope\": use one of web, api, own");
        check("phase=", "phase cannot be \"\": use one of wait, connect, first_byte, body, total");
        check("window=5s", "window cannot be \"5s\": use one of total, 60s, 10s, 1s");
        check("format=xml", "format cannot be \"xml\": use one of json, hgrm");
        check(
            "percentile=99",
            "there is no parameter \"percentile\": use channel, listener, phase, window or format",
        );
        check("listener=in", "listener cannot be \"in\": use one of db");
        check("listener=db&channel=web", "channel and listener are given: use one of them");
        check("phase=body&phase=body", "phase is given more than once");
    }

    #[test]
    fn the_summary_names_its_query_and_its_unit() {
        let mut merged = merged_histogram();
        (1..=1_000).for_each(|millis| merged.saturating_record(millis * 1_000_000));
        let summary = summary(&parse("channel=web&window=60s").expect("query"), &snapshot(), &merged);
        assert_eq!(summary.channel.as_deref(), Some("web"));
        assert_eq!((summary.window, summary.unit, summary.count), ("60s", "ns", 1_000));
        let p99 = summary.percentiles["p99"];
        assert!((989_000_000..=991_000_000).contains(&p99), "{p99}");
    }
}
