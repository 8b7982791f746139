//! How is the process, in a few lines? Who it is, what goes through it, and what somebody should look at.
//!
//! Never a warning about what is as it should be: an empty line is good news.

use serde_json::Value;

use super::figure::{age_text, bytes_text, nanos_text, rate_text};
use super::sample::{Object, Span};
use super::table::Tone;
use crate::report::{left, rows, text};

/// A piece of a line.
pub(crate) type Piece = (String, Tone);

/// Faults that are named; the others are in the sum.
const FAULTS_NAMED: usize = 3;

/// The lines on top.
#[derive(Clone, Debug, Default)]
pub(crate) struct Summary {
    /// Who it is.
    pub(crate) process: Vec<Piece>,
    /// What goes through it.
    pub(crate) traffic: Vec<Piece>,
    /// What came of it.
    pub(crate) answers: Vec<Piece>,
    /// What should be looked at, the worst first.
    pub(crate) alerts: Vec<Piece>,
    /// Requests a second, and the 99th percentile in nanoseconds: what curves are drawn of.
    pub(crate) requests: Option<f64>,
    pub(crate) p99: Option<u64>,
}

impl Summary {
    pub(crate) fn of(span: &Span<'_>) -> Self {
        let totals = span.object("totals");
        let p99 = span.now.latencies["all"]["percentiles"]["p99"].as_u64();
        let has_latency = span.now.latencies["all"]["count"].as_u64().is_some_and(|count| count > 0);
        Self {
            process: process(span),
            traffic: traffic(&totals),
            answers: answers(span, &totals),
            alerts: alerts(span),
            requests: totals.rate("requests"),
            p99: p99.filter(|_| has_latency),
        }
    }
}

fn process(span: &Span<'_>) -> Vec<Piece> {
    let process = &span.now.stats["process"];
    let configuration = &span.now.stats["configuration"];
    let state = text(process, "state");
    let tone = if state == "serving" { Tone::Good } else { Tone::Warning };
    let version = configuration["version"].as_u64().map(|version| format!(" v{version}")).unwrap_or_default();
    let uptime = age_text(process["uptime_s"].as_f64().unwrap_or_default() as u64);
    let cluster = &span.now.stats["cluster"];
    // Where all processes of a node serve there is nothing to tell apart.
    let role = cluster["role"].as_str().filter(|role| *role != "serving");
    let role = role.map(|role| format!(" {role}")).unwrap_or_default();
    vec![
        (format!("{} ", text(process, "version")), Tone::Plain),
        (state.to_owned(), tone),
        (format!("  node {}{role}", text(process, "node")), Tone::Plain),
        (format!("  pid {}  up {uptime}", process["pid"]), Tone::Plain),
        (format!("  {}×{}", process["cores"], text(process, "driver")), Tone::Plain),
        (format!("  config {}{version}", configuration["number"]), Tone::Plain),
    ]
}

fn figure(label: &str, value: &str, tone: Tone) -> [Piece; 2] {
    [(format!("{label} "), Tone::Faint), (format!("{value}  "), tone)]
}

fn shown(rate: Option<f64>, show: fn(f64) -> String) -> String {
    rate.map_or_else(|| "·".to_owned(), show)
}

fn traffic(totals: &Object<'_>) -> Vec<Piece> {
    let count = |key: &str| totals.count(key).unwrap_or_default().to_string();
    [
        figure("req/s", &shown(totals.rate("requests"), rate_text), Tone::Plain),
        figure("conns", &count("connections_open"), Tone::Plain),
        figure("new/s", &shown(totals.rate("connections_accepted"), rate_text), Tone::Plain),
        figure("open", &count("exchanges_open"), Tone::Plain),
        figure("in/s", &shown(totals.rate("bytes_received"), bytes_text), Tone::Plain),
        figure("out/s", &shown(totals.rate("bytes_sent"), bytes_text), Tone::Plain),
    ]
    .concat()
}

fn answers(span: &Span<'_>, totals: &Object<'_>) -> Vec<Piece> {
    let responses = totals.part("responses");
    let toned =
        |rate: Option<f64>, tone: Tone| if rate.is_some_and(|rate| rate > 0.0) { tone } else { Tone::Plain };
    let mut pieces = Vec::new();
    for (key, tone) in [("2xx", Tone::Good), ("4xx", Tone::Warning), ("5xx", Tone::Bad)] {
        let rate = responses.rate(key);
        pieces.extend(figure(key, &shown(rate, rate_text), toned(rate, tone)));
    }
    let faults = totals.rate("faults");
    pieces.extend(figure("faults", &shown(faults, rate_text), toned(faults, Tone::Bad)));
    let all = &span.now.latencies["all"];
    if all["count"].as_u64().is_some_and(|count| count > 0) {
        for (label, key) in [("p50", "p50"), ("p99", "p99"), ("p99.9", "p99_9")] {
            let nanos = all["percentiles"][key].as_u64().unwrap_or_default();
            pieces.extend(figure(label, &nanos_text(nanos).replace(' ', ""), Tone::Plain));
        }
    }
    // Behind what everybody looks for, and only where there are some: eighty columns are soon full.
    for (label, rate, tone) in
        [("3xx", responses.rate("3xx"), Tone::Plain), ("retries", totals.rate("retries"), Tone::Warning)]
    {
        if rate.is_some_and(|rate| rate > 0.0) {
            pieces.extend(figure(label, &shown(rate, rate_text), tone));
        }
    }
    pieces
}

/// What is not as it should be.
fn alerts(span: &Span<'_>) -> Vec<Piece> {
    let stats = &span.now.stats;
    let mut alerts = Vec::new();
    if stats["process"]["state"] == "draining" {
        alerts.push((format!("draining, left: {}", left(stats)), Tone::Warning));
    }
    push_resources(&mut alerts, span);
    push_endpoints(&mut alerts, stats);
    push_configuration(&mut alerts, stats);
    push_cluster(&mut alerts, &stats["cluster"]);
    for problem in rows(&stats["certificates"]["problems"]).filter_map(Value::as_str) {
        alerts.push((format!("certificates: {problem}"), Tone::Warning));
    }
    push_faults(&mut alerts, span);
    alerts.sort_by_key(|(_, tone)| *tone != Tone::Bad);
    alerts
}

/// What has run out, or broken.
fn push_resources(alerts: &mut Vec<Piece>, span: &Span<'_>) {
    let sum = |list: &str, key: &str| -> f64 {
        span.objects(list).iter().filter_map(|object| object.rate(key)).sum()
    };
    let panics: u64 = span.objects("cores").iter().filter_map(|core| core.count("task_panics")).sum();
    if panics > 0 {
        alerts.push((format!("{panics} tasks panicked: a defect, see the log"), Tone::Bad));
    }
    for (list, key, what) in [
        ("cores", "buffers_exhausted", "reads/s put off: every buffer is in use"),
        ("listeners", "accept_errors", "errors/s of accept: no descriptor left?"),
        ("listeners", "over_connections", "connections/s refused: a listener is full"),
    ] {
        let rate = sum(list, key);
        if rate > 0.0 {
            alerts.push((format!("{} {what}", rate_text(rate)), Tone::Bad));
        }
    }
}

fn push_endpoints(alerts: &mut Vec<Piece>, stats: &Value) {
    for upstream in rows(&stats["upstreams"]) {
        let name = text(upstream, "name");
        let all = rows(&upstream["endpoints"]).count();
        let is_out = |endpoint: &&Value| matches!(text(endpoint, "state"), "down" | "ejected");
        let out = rows(&upstream["endpoints"]).filter(is_out).count();
        if upstream["is_panic"] == true {
            alerts.push((format!("{name}: {out} of {all} endpoints are out, so all get traffic"), Tone::Bad));
        } else if out > 0 {
            let tone = if out == all { Tone::Bad } else { Tone::Warning };
            alerts.push((format!("{name}: {out} of {all} endpoints are out"), tone));
        }
        let waiting = upstream["waiting"].as_u64().unwrap_or_default();
        if waiting > 0 {
            alerts.push((format!("{name}: {waiting} requests wait for a connection"), Tone::Warning));
        }
    }
}

fn push_configuration(alerts: &mut Vec<Piece>, stats: &Value) {
    let configuration = &stats["configuration"];
    if let Some(problem) = rows(&configuration["last_failure"]["problems"]).find_map(Value::as_str) {
        alerts.push((format!("configuration refused: {problem}"), Tone::Bad));
    }
    let keys: Vec<_> = rows(&configuration["needs_restart"]).filter_map(Value::as_str).collect();
    if !keys.is_empty() {
        alerts.push((format!("a restart is needed for {}", keys.join(", ")), Tone::Warning));
    }
}

fn push_cluster(alerts: &mut Vec<Piece>, cluster: &Value) {
    if let Some(away) = cluster["store"]["away_s"].as_f64() {
        alerts.push((format!("the store is away for {}", age_text(away as u64)), Tone::Bad));
    }
    if let Some(cause) = cluster["config"]["refused"]["cause"].as_str() {
        let version = &cluster["config"]["refused"]["version"];
        alerts.push((format!("version {version} of the configuration is refused here: {cause}"), Tone::Bad));
    }
    if let Some(drift) = cluster["config"]["drift"].as_str() {
        alerts.push((format!("the file differs from what runs: {drift}"), Tone::Warning));
    }
}

fn push_faults(alerts: &mut Vec<Piece>, span: &Span<'_>) {
    let faults = span.object("faults");
    let names = faults.now.as_object().into_iter().flatten().map(|(name, _)| name.as_str());
    let rates = names.filter_map(|name| faults.rate(name).map(|rate| (name, rate)));
    let mut rates: Vec<_> = rates.filter(|(_, rate)| *rate > 0.0).collect();
    rates.sort_by(|(_, one), (_, other)| other.total_cmp(one));
    if rates.is_empty() {
        return;
    }
    let named = rates.iter().take(FAULTS_NAMED).map(|(name, rate)| format!("{name} {}", rate_text(*rate)));
    let more = rates.len().saturating_sub(FAULTS_NAMED);
    let more = if more > 0 { format!(" and {more} more kinds") } else { String::new() };
    alerts.push((format!("faults/s: {}{more}", named.collect::<Vec<_>>().join(", ")), Tone::Warning));
}
