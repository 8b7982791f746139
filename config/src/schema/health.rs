//! How is found out whether endpoints are well, and what becomes of those that are not?
//!
//! Every default says why it is what it is; what is left out altogether is not done.

use std::borrow::Cow;
use std::fmt;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Serialize, Serializer};

use super::text;
use crate::value::duration::Timespan;
use crate::value::share::Share;

/// Probes of each endpoint, made by the process as a whole and not by each core; `{}` asks for `/` with the defaults. An
/// endpoint counts as up until its first probe, which decides alone.
#[derive(Clone, Debug, PartialEq, JsonSchema)]
#[schemars(deny_unknown_fields, default)]
pub struct Health {
    /// What a probe does: `http` asks for a page, over TLS where the upstream has a `tls` table; `tls` ends with the
    /// handshake, and needs that table; `tcp` ends with the connection.
    #[schemars(example = &"tcp")]
    pub protocol: ProbeProtocol,
    /// What `http` asks for, with its query if it has one.
    #[schemars(example = &"/healthz?full=1")]
    pub path: String,
    /// What `http` says in `Host`; without it, the endpoint's address.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "String", example = &"app.example")]
    pub host: Option<String>,
    /// How `http` asks.
    #[schemars(example = &"HEAD")]
    pub method: String,
    /// Statuses of an endpoint that is well, each alone or `"FIRST-LAST"`. One or a list.
    #[schemars(schema_with = "text::one_or_many", extend("examples" = [["200-299", "404"]]))]
    pub status: Vec<StatusRange>,
    /// Regular expression to be found in the first 64KiB of the answer's body; `^` and `$` anchor it.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "String", example = &"\"status\": *\"UP\"")]
    pub body: Option<String>,
    /// From the end of a probe to the next, of an endpoint that is well. 10ms to 1h.
    #[schemars(example = &"10s")]
    pub interval: Timespan,
    /// The same of one that is down, or whose last probe said something new: the change is not to take long. `interval` if
    /// that is shorter. 10ms to 1h.
    #[schemars(example = &"1s")]
    pub fast_interval: Timespan,
    /// How far either interval may be from what it is, so that endpoints are not asked in step. 0% to 50%.
    #[schemars(example = &"20%")]
    pub jitter: Share,
    /// For the whole probe; then it has failed. 1ms to 1h.
    #[schemars(example = &"3s")]
    pub timeout: Timespan,
    /// Good probes in a row that bring up an endpoint that is down. 1 to 100.
    #[schemars(range(min = 1, max = 100), example = 1)]
    pub rise: u16,
    /// Bad probes in a row that take down one that is up. 1 to 100.
    #[schemars(range(min = 1, max = 100), example = 2)]
    pub fall: u16,
    /// The port that is asked, in place of the endpoint's. 1 to 65535.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "u16", range(min = 1, max = 65_535), example = 8081)]
    pub port: Option<u16>,
}

/// What a probe does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ProbeProtocol {
    /// A request.
    #[default]
    Http,
    /// A connection.
    Tcp,
    /// A TLS handshake.
    Tls,
}

/// Leaving endpoints out that fail the requests and connections they are given.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
#[schemars(deny_unknown_fields, default)]
pub struct Ejection {
    /// Failures in a row, over all cores, that eject an endpoint: no connection, a connection that breaks before an answer,
    /// no answer in time, an answer with one of `statuses`. 1 to 1000.
    #[schemars(range(min = 1, max = 1000), example = 3)]
    pub failures: u16,
    /// Statuses that count as failures, each alone or `"FIRST-LAST"`. One or a list; none if it is empty.
    #[schemars(schema_with = "text::one_or_many_or_none", extend("examples" = [["500-599"]]))]
    pub statuses: Vec<StatusRange>,
    /// For how long, the first time. Each ejection that follows lasts twice as long; as long again without one halves it. 10ms
    /// to 1h.
    #[schemars(example = &"30s")]
    pub time: Timespan,
    /// The longest ejection. 10ms to 24h.
    #[schemars(example = &"10m")]
    pub time_max: Timespan,
    /// At most this share of an upstream's endpoints is ejected at a time, rounded down: what most of them fail is hardly their
    /// fault. 0% to 100%.
    #[schemars(example = &"30%")]
    pub share_max: Share,
}

/// What an endpoint is given that comes up, until it has had time to warm up.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, JsonSchema)]
#[schemars(deny_unknown_fields, default)]
pub struct SlowStart {
    /// From coming up to its full weight. 50ms to 1h.
    #[schemars(example = &"1m")]
    pub time: Timespan,
    /// How the weight grows: in proportion to the time, or doubling with each eighth of it.
    #[schemars(example = &"exponential")]
    pub curve: SlowStartCurve,
}

/// How a weight grows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum SlowStartCurve {
    /// In proportion to the time.
    #[default]
    Linear,
    /// Twice as much after each eighth of the time.
    Exponential,
}

/// Statuses that follow each other, `"200-399"`, or one, `"404"`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StatusRange {
    /// The first.
    pub(crate) first: u16,
    /// The last.
    pub(crate) last: u16,
}

impl StatusRange {
    const fn new(first: u16, last: u16) -> Self {
        Self { first, last }
    }
}

impl fmt::Display for StatusRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.first == self.last { self.first.fmt(f) } else { write!(f, "{}-{}", self.first, self.last) }
    }
}

impl Serialize for StatusRange {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl JsonSchema for StatusRange {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "StatusRange".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "pattern": r"^[1-5][0-9]{2}(-[1-5][0-9]{2})?$|\$\{" })
    }
}

/// The keys that mean something for the protocol, so that what was written out can be read again.
#[derive(Serialize)]
struct WrittenHealth<'h> {
    protocol: ProbeProtocol,
    #[serde(skip_serializing_if = "Option::is_none")]
    path: Option<&'h str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    host: Option<&'h str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    method: Option<&'h str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    status: Option<&'h [StatusRange]>,
    #[serde(skip_serializing_if = "Option::is_none")]
    body: Option<&'h str>,
    interval: Timespan,
    fast_interval: Timespan,
    jitter: Share,
    timeout: Timespan,
    rise: u16,
    fall: u16,
    #[serde(skip_serializing_if = "Option::is_none")]
    port: Option<u16>,
}

impl Serialize for Health {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let is_http = self.protocol == ProbeProtocol::Http;
        let written = WrittenHealth {
            protocol: self.protocol,
            path: is_http.then_some(&self.path),
            host: self.host.as_deref().filter(|_| is_http),
            method: is_http.then_some(&self.method),
            status: is_http.then_some(&self.status),
            body: self.body.as_deref().filter(|_| is_http),
            interval: self.interval,
            fast_interval: self.fast_interval,
            jitter: self.jitter,
            timeout: self.timeout,
            rise: self.rise,
            fall: self.fall,
            port: self.port,
        };
        written.serialize(serializer)
    }
}

impl Default for Health {
    fn default() -> Self {
        Self {
            protocol: ProbeProtocol::default(),
            path: "/".to_owned(),
            host: None,
            method: "GET".to_owned(),
            status: vec![StatusRange::new(200, 399)],
            body: None,
            interval: Timespan::from_secs(2),
            fast_interval: Timespan::from_millis(500),
            jitter: Share::from_percent(10),
            timeout: Timespan::from_secs(1),
            rise: 2,
            fall: 3,
            port: None,
        }
    }
}

impl Default for Ejection {
    fn default() -> Self {
        Self {
            failures: 5,
            statuses: vec![StatusRange::new(502, 504)],
            time: Timespan::from_secs(10),
            time_max: Timespan::from_secs(300),
            share_max: Share::from_percent(50),
        }
    }
}

impl Default for SlowStart {
    fn default() -> Self {
        Self { time: Timespan::from_secs(30), curve: SlowStartCurve::default() }
    }
}

impl ProbeProtocol {
    /// As it is written.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Tcp => "tcp",
            Self::Tls => "tls",
        }
    }
}
