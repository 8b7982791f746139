//! What does a process do just now? Its cores, listeners, channels, endpoints and fellows as tables of figures a second.
//!
//! Never decides what is seen of them, and never how.

use serde_json::Value;

use super::figure::Figure;
use super::sample::{Object, Span};
use super::table::{Cell, Column, Place, Row, Table, Tone};
use crate::report::{rows, text};

/// The tables, in the order in which they are shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Cores,
    Listeners,
    Channels,
    Endpoints,
    Processes,
}

impl Kind {
    pub(crate) const ALL: [Self; 5] =
        [Self::Cores, Self::Listeners, Self::Channels, Self::Endpoints, Self::Processes];

    /// As its tab and its table are called.
    pub(crate) const fn title(self) -> &'static str {
        match self {
            Self::Cores => "cores",
            Self::Listeners => "listeners",
            Self::Channels => "channels",
            Self::Endpoints => "endpoints",
            Self::Processes => "cluster",
        }
    }

    /// Its rows over this span.
    pub(crate) fn table(self, span: &Span<'_>) -> Table {
        let (columns, rows) = match self {
            Self::Cores => (CORES, cores(span)),
            Self::Listeners => (LISTENERS, listeners(span)),
            Self::Channels => (CHANNELS, channels(span)),
            Self::Endpoints => (ENDPOINTS, endpoints(span)),
            Self::Processes => (PROCESSES, processes(span)),
        };
        let columns = columns.iter().map(|(title, rank)| Column { title, rank: *rank }).collect();
        Table { columns, rows }
    }
}

/// Titles, and which go first where there is no room.
type Columns = &'static [(&'static str, u8)];

const CORES: Columns = &[
    ("core", 0),
    ("cpu", 7),
    ("busy", 0),
    ("conns", 0),
    ("open", 3),
    ("req/s", 0),
    ("in/s", 1),
    ("out/s", 1),
    ("faults/s", 2),
    ("turns/s", 4),
    ("sleeps/s", 6),
    ("handed/s", 5),
    ("taken/s", 5),
    ("buffers", 4),
    ("no buffer/s", 6),
];

const LISTENERS: Columns = &[
    ("listener", 0),
    ("address", 3),
    ("kind", 2),
    ("conns", 0),
    ("new/s", 1),
    ("req/s", 0),
    ("in/s", 1),
    ("out/s", 1),
    ("open", 4),
    ("tls/s", 5),
    ("resumed", 6),
    ("tls failed/s", 6),
    ("refused/s", 3),
    ("errors/s", 6),
];

const CHANNELS: Columns = &[
    ("channel", 0),
    ("req/s", 0),
    ("2xx/s", 3),
    ("3xx/s", 6),
    ("4xx/s", 1),
    ("5xx/s", 0),
    ("≈open", 4),
    ("p50", 1),
    ("p90", 5),
    ("p99", 0),
    ("p99.9", 2),
    ("max", 5),
    ("faults/s", 2),
    ("retries/s", 4),
    ("refused/s", 5),
];

const ENDPOINTS: Columns = &[
    ("upstream", 0),
    ("endpoint", 0),
    ("state", 0),
    ("for", 3),
    ("weight", 4),
    ("req/s", 0),
    ("active", 1),
    ("idle", 2),
    ("new/s", 3),
    ("reuse", 2),
    ("failed/s", 1),
    ("closed/s", 6),
    ("probe", 5),
    ("cause", 7),
];

const PROCESSES: Columns = &[
    ("node", 0),
    ("process", 2),
    ("host", 1),
    ("pid", 3),
    ("state", 0),
    ("cores", 3),
    ("config", 1),
    ("version", 4),
    ("epoch", 4),
    ("seen", 2),
    ("wants", 5),
    ("refused", 6),
];

fn word(text: &str) -> Cell {
    Figure::Word(text.to_owned()).into()
}

fn cores(span: &Span<'_>) -> Vec<Row> {
    let (listeners, channels) = (span.objects("listeners"), span.objects("channels"));
    // Of the others, as totals are: what comes in by an internal listener is the second half of what is counted.
    let over = |objects: &[Object<'_>], key: &str, index: usize| -> Option<f64> {
        let public = objects.iter().filter(|object| object.now["internal"] != true);
        public.map(|object| object.rate_of(|object| object["per_core"][key][index].as_f64())).sum()
    };
    let row = |(index, core): (usize, &Object<'_>)| {
        let busy = core.rate("cpu_time_s");
        let tone = if busy.is_some_and(|busy| busy > 0.9) { Tone::Warning } else { Tone::Plain };
        let cells = vec![
            word(&core.now["index"].to_string()),
            Figure::Count(core.count("cpu")).into(),
            Cell::toned(Figure::Share(busy), tone),
            Figure::Count(core.count("connections_open")).into(),
            Figure::Count(core.count("exchanges_open")).into(),
            Figure::Rate(over(&listeners, "requests", index)).into(),
            Figure::Bytes(over(&listeners, "bytes_received", index)).into(),
            Figure::Bytes(over(&listeners, "bytes_sent", index)).into(),
            Cell::toned(Figure::Rate(over(&channels, "faults", index)), Tone::Bad),
            Figure::Rate(core.rate("turns")).into(),
            Figure::Rate(core.rate("sleeps")).into(),
            Figure::Rate(core.rate("handed_over")).into(),
            Figure::Rate(core.rate("taken_over")).into(),
            Figure::Count(core.count("buffers")).into(),
            Cell::toned(Figure::Rate(core.rate("buffers_exhausted")), Tone::Bad),
        ];
        Row { cells, place: Place { index, inside: 0 } }
    };
    span.objects("cores").iter().enumerate().map(row).collect()
}

/// Name of a listener or channel; what is internal is not worth a look.
fn name(object: &Object<'_>) -> Cell {
    let tone = if object.now["internal"] == true { Tone::Faint } else { Tone::Plain };
    Cell::toned(Figure::Word(object.text("name").to_owned()), tone)
}

fn listeners(span: &Span<'_>) -> Vec<Row> {
    let row = |(index, listener): (usize, &Object<'_>)| {
        let full = listener.rates(&["handshakes_tls12", "handshakes_tls13"]);
        let resumed = listener.rates(&["resumptions_tls12", "resumptions_tls13"]);
        let handshakes = full.zip(resumed).map(|(full, resumed)| full + resumed);
        let share = resumed.zip(handshakes).filter(|(_, all)| *all > 0.0).map(|(part, all)| part / all);
        // Where bytes are relayed, what has an end is a message.
        let requests = match listener.text("protocol") {
            "tcp" | "tls" => listener.rate("messages_received"),
            _ => listener.rate("requests"),
        };
        let refused = listener.rates(&["over_connections", "over_connections_per_address", "denied"]);
        let cells = vec![
            name(listener),
            word(listener.text("address")),
            word(listener.text("protocol")),
            Figure::Count(listener.count("connections_open")).into(),
            Figure::Rate(listener.rate("accepted")).into(),
            Figure::Rate(requests).into(),
            Figure::Bytes(listener.rate("bytes_received")).into(),
            Figure::Bytes(listener.rate("bytes_sent")).into(),
            Figure::Count(listener.count("exchanges_open")).into(),
            Figure::Rate(handshakes).into(),
            Figure::Share(share).into(),
            Cell::toned(Figure::Rate(listener.rate("handshakes_failed")), Tone::Warning),
            Cell::toned(Figure::Rate(refused), Tone::Warning),
            Cell::toned(Figure::Rate(listener.rate("accept_errors")), Tone::Bad),
        ];
        Row { cells, place: Place { index, inside: 0 } }
    };
    span.objects("listeners").iter().enumerate().map(row).collect()
}

/// Requests of a channel that its own rules turned away.
const REFUSALS: [&str; 8] = [
    "denied",
    "unauthorized",
    "over_scope",
    "over_rate",
    "over_rate_per_address",
    "over_rate_per_header",
    "over_concurrency",
    "over_concurrency_per_address",
];

fn channels(span: &Span<'_>) -> Vec<Row> {
    let row = |(index, channel): (usize, &Object<'_>)| {
        let latency = span.latency("channels", "channel", channel.text("name"));
        let requests = channel.rate("requests");
        let responses = channel.part("responses");
        let percentile = |key: &str| Figure::Nanos(latency["percentiles"][key].as_u64()).into();
        // Little's law: as many are in progress as come while one takes its time.
        let mean_s = latency["mean"].as_f64().map(|nanos| nanos / 1e9);
        let open = requests.map(|rate| rate * mean_s.unwrap_or_default());
        let cells = vec![
            name(channel),
            Figure::Rate(requests).into(),
            Figure::Rate(responses.rate("2xx")).into(),
            Figure::Rate(responses.rate("3xx")).into(),
            Cell::toned(Figure::Rate(responses.rate("4xx")), Tone::Warning),
            Cell::toned(Figure::Rate(responses.rate("5xx")), Tone::Bad),
            Figure::Rate(open).into(),
            percentile("p50"),
            percentile("p90"),
            percentile("p99"),
            percentile("p99_9"),
            Figure::Nanos(latency["max"].as_u64()).into(),
            Cell::toned(Figure::Rate(channel.rate("faults")), Tone::Bad),
            Cell::toned(Figure::Rate(channel.rate("retries")), Tone::Warning),
            Cell::toned(Figure::Rate(channel.rates(&REFUSALS)), Tone::Warning),
        ];
        Row { cells, place: Place { index, inside: 0 } }
    };
    span.objects("channels").iter().enumerate().map(row).collect()
}

fn endpoints(span: &Span<'_>) -> Vec<Row> {
    let mut all = Vec::new();
    for (index, upstream) in span.objects("upstreams").iter().enumerate() {
        for (inside, endpoint) in span.inside(upstream, "endpoints").iter().enumerate() {
            all.push(Row { cells: endpoint_cells(upstream, endpoint), place: Place { index, inside } });
        }
    }
    all
}

fn endpoint_cells(upstream: &Object<'_>, endpoint: &Object<'_>) -> Vec<Cell> {
    let health = &endpoint.now["health"];
    let state = endpoint.text("state");
    let tone = match state {
        "up" => Tone::Good,
        "draining" => Tone::Warning,
        _ => Tone::Bad,
    };
    let requests = endpoint.rate("requests");
    let reused = endpoint.rate("reused").zip(requests).filter(|(_, all)| *all > 0.0);
    let address = endpoint.text("address");
    // What it was found as says more than where it was found, unless they are the same.
    let shown = match endpoint.text("name") {
        "" => address.to_owned(),
        name if name == address || name.starts_with("listener:") => name.to_owned(),
        name => format!("{name} {address}"),
    };
    let probe = &health["last_probe"];
    let probed = probe["took_s"].as_f64().map(|seconds| (seconds * 1e9) as u64);
    let probe_tone = if probe["is_good"] == false { Tone::Bad } else { Tone::Plain };
    vec![
        word(upstream.text("name")),
        word(&shown),
        Cell::toned(Figure::Word(state.to_owned()), tone),
        Figure::Age(health["since_s"].as_f64()).into(),
        Figure::Number(endpoint.now["weight"].as_f64()).into(),
        Figure::Rate(requests).into(),
        Figure::Count(endpoint.count("active")).into(),
        Figure::Count(endpoint.count("idle")).into(),
        Figure::Rate(endpoint.rate("connections_opened")).into(),
        Figure::Share(reused.map(|(part, all)| part / all)).into(),
        Cell::toned(Figure::Rate(endpoint.rate("connect_failures")), Tone::Bad),
        Figure::Rate(endpoint.rate("idle_closed")).into(),
        Cell::toned(Figure::Nanos(probed), probe_tone),
        word(health["cause"].as_str().unwrap_or_default()),
    ]
}

fn processes(span: &Span<'_>) -> Vec<Row> {
    let newest =
        rows(&span.now.processes).filter_map(|process| process["beat_at"].as_f64()).fold(0.0, f64::max);
    let row = |(index, process): (usize, &Value)| {
        let state = text(process, "state");
        let tone = match state {
            "serving" => Tone::Good,
            "standby" => Tone::Plain,
            _ => Tone::Warning,
        };
        let own = if process["is_self"] == true { " ←" } else { "" };
        // By the clock of the store, as beats are: how far it is behind the last of all.
        let behind = process["beat_at"].as_f64().map(|at| (newest - at) / 1e3);
        let cells = vec![
            word(text(process, "node")),
            word(&format!("{}{own}", text(process, "id"))),
            word(text(process, "host")),
            Figure::Count(process["pid"].as_u64()).into(),
            Cell::toned(Figure::Word(state.to_owned()), tone),
            Figure::Count(process["cores"].as_u64()).into(),
            Figure::Count(process["config_version"].as_u64()).into(),
            word(text(process, "version")),
            Figure::Count(process["epoch"].as_u64()).into(),
            Figure::Age(behind).into(),
            word(process["wants"].as_str().unwrap_or_default()),
            Cell::toned(
                Figure::Word(process["config_refused"].as_str().unwrap_or_default().to_owned()),
                Tone::Bad,
            ),
        ];
        Row { cells, place: Place { index, inside: 0 } }
    };
    rows(&span.now.processes).enumerate().map(row).collect()
}

/// Every number of the object in a row: its key, how many so far, how many a second.
pub(crate) fn details(span: &Span<'_>, kind: Kind, place: Place) -> Table {
    let at = |list: &str| span.objects(list).get(place.index).copied();
    let object = match kind {
        Kind::Cores => at("cores"),
        Kind::Listeners => at("listeners"),
        Kind::Channels => at("channels"),
        Kind::Endpoints => at("upstreams")
            .and_then(|upstream| span.inside(&upstream, "endpoints").get(place.inside).copied()),
        Kind::Processes => None,
    };
    let mut rows = Vec::new();
    if let Some(object) = object {
        push_numbers(&mut rows, &object, "");
        for part in ["responses", "health"] {
            push_numbers(&mut rows, &object.part(part), part);
        }
    }
    let columns = [("counter", 0), ("now or so far", 0), ("a second", 0)];
    Table { columns: columns.map(|(title, rank)| Column { title, rank }).into(), rows }
}

fn push_numbers(into: &mut Vec<Row>, object: &Object<'_>, of: &str) {
    for (key, value) in object.now.as_object().into_iter().flatten() {
        let figure = match value.as_u64() {
            Some(count) => Figure::Count(Some(count)),
            None if value.is_f64() => Figure::Number(value.as_f64()),
            None => continue,
        };
        let name = if of.is_empty() { key.clone() } else { format!("{of}.{key}") };
        // What is now can go down, and has no rate then.
        let cells = vec![word(&name), figure.into(), Figure::Rate(object.rate(key)).into()];
        into.push(Row { cells, place: Place::default() });
    }
}
