//! Is what happens told to those who collect it? Traces that requests are part of, and metrics in both of their forms.
//!
//! Never a collector of others: those read the same in docs/monitoring/prometheus.sh.

mod common;

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use common::connection::Connection;
use common::engine::{Config, Driver, Engine};
use common::message::Message;
use common::on_both_drivers;
use common::origin::{OK, Origin};

const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const SPAN: &str = "00f067aa0ba902b7";

/// What believes the tests' own connections.
const BELIEVING: &str = "forwarding.trusted = ['127.0.0.0/8']";

fn start(driver: Driver, origin: &Origin, listener: &str, telemetry: &str) -> Engine {
    let upstream = format!("[telemetry]\n{telemetry}");
    let (endpoints, upstream) = (&[origin.address], upstream.as_str());
    Engine::start(driver, Config { endpoints, listener, upstream, ..Config::default() })
}

/// What the endpoint is told of the trace of a request with these fields.
fn told(engine: &Engine, origin: &Origin, fields: &str) -> Message {
    let before = origin.seen().requests.len();
    let request = format!("GET / HTTP/1.1\r\nHost: test\r\n{fields}Content-Length: 4\r\n\r\nbody");
    engine.connect().ask(&request).assert_is(200, "ok");
    let seen = origin.seen();
    assert_eq!(seen.requests.len(), before + 1);
    seen.requests[before].1.clone()
}

/// The parts of the only `traceparent`: trace, span, flags.
#[track_caller]
fn parent(request: &Message) -> (String, String, String) {
    let values = request.head.values("traceparent");
    let [value] = values[..] else { panic!("{values:?}") };
    let parts: Vec<&str> = value.split('-').collect();
    let ["00", trace, span, flags] = parts[..] else { panic!("{value}") };
    let is_id = |text: &str, digits: usize| {
        text.len() == digits
            && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
            && text.bytes().any(|byte| byte != b'0')
    };
    assert!(is_id(trace, 32) && is_id(span, 16) && flags.len() == 2, "{value}");
    (trace.to_owned(), span.to_owned(), flags.to_owned())
}

#[test]
fn without_telemetry_the_fields_pass_as_they_are() {
    on_both_drivers(|driver| {
        let origin = Origin::answering(OK);
        let engine = start(driver, &origin, BELIEVING, "");
        let fields = "traceparent: nonsense\r\nTraceState: a=1,,b\r\ntracestate: c\r\n";
        let request = told(&engine, &origin, fields);
        assert_eq!(request.head.values("traceparent"), ["nonsense"]);
        assert_eq!(request.head.values("tracestate"), ["a=1,,b", "c"]);
        assert!(told(&engine, &origin, "").head.values("traceparent").is_empty());
    });
}

#[test]
fn a_trace_goes_on_with_this_process_between() {
    on_both_drivers(|driver| {
        let origin = Origin::answering(OK);
        let engine = start(driver, &origin, BELIEVING, "trace = 'propagate'");
        for flags in ["00", "01"] {
            let fields = format!(
                "TraceParent: 00-{TRACE}-{SPAN}-{flags}\r\nX: y\r\ntracestate: a=1 , b=2\r\nTracestate: c=3\r\n"
            );
            let request = told(&engine, &origin, &fields);
            let (trace, span, told_flags) = parent(&request);
            assert_eq!((&*trace, &*told_flags), (TRACE, flags));
            assert_ne!(span, SPAN, "the span is this process's own");
            assert_eq!(request.head.values("tracestate"), ["a=1,b=2,c=3"]);
            assert_eq!((request.head.value("X"), request.text()), (Some("y"), "body"));
        }
        // A later version is told of in ours.
        let request = told(&engine, &origin, &format!("traceparent: cc-{TRACE}-{SPAN}-03-more\r\n"));
        let (trace, _, flags) = parent(&request);
        assert_eq!((&*trace, &*flags), (TRACE, "01"));
        // A state that breaks a rule goes, and the trace goes on.
        let fields = format!("traceparent: 00-{TRACE}-{SPAN}-01\r\ntracestate: a=1,a=2\r\n");
        let request = told(&engine, &origin, &fields);
        assert_eq!(parent(&request).0, TRACE);
        assert!(request.head.values("tracestate").is_empty());
        // Where no trace comes in there is none.
        assert!(told(&engine, &origin, "").head.values("traceparent").is_empty());
    });
}

#[test]
fn a_trace_begins_where_none_comes_in_that_is_believed() {
    on_both_drivers(|driver| {
        let origin = Origin::answering(OK);
        let good = format!("traceparent: 00-{TRACE}-{SPAN}-01\r\ntracestate: a=1\r\n");
        let bad = format!("traceparent: 00-{TRACE}-{SPAN}-0\r\ntracestate: a=1\r\n");
        let twice = format!("{good}{good}");
        for (sample, expected) in [("0%", "00"), ("100%", "01")] {
            let telemetry = format!("trace = 'make'\nsample = '{sample}'");
            let doubting = start(driver, &origin, "", &telemetry);
            let believing = start(driver, &origin, BELIEVING, &telemetry);
            let mut seen = BTreeSet::new();
            for (engine, fields) in
                [(&doubting, ""), (&doubting, &good), (&believing, &bad), (&believing, &twice)]
            {
                let request = told(engine, &origin, fields);
                let (trace, span, flags) = parent(&request);
                assert_eq!(flags, expected);
                assert_ne!(trace, TRACE, "{fields}");
                assert!(seen.insert(trace) && seen.insert(span), "each is another");
                assert!(request.head.values("tracestate").is_empty(), "it belongs to the other trace");
            }
            assert_eq!(parent(&told(&believing, &origin, &good)).0, TRACE);
        }
        let trusting = start(driver, &origin, "", "trace = 'make'\ntrust_clients = true");
        assert_eq!(parent(&told(&trusting, &origin, &good)).0, TRACE);
    });
}

/// A second try is part of the same trace, and of the same span: the endpoint that failed may have told of it.
#[test]
fn a_request_that_goes_out_again_says_the_same() {
    on_both_drivers(|driver| {
        let failing = Origin::start(|peer| {
            peer.request();
        });
        let well = Origin::answering(OK);
        let upstream = "[telemetry]\ntrace = 'make'";
        let endpoints = &[failing.address, well.address];
        let engine = Engine::start(driver, Config { endpoints, upstream, ..Config::default() });
        for _ in 0..4 {
            engine.connect().get("/").assert_is(200, "ok");
        }
        let told = |origin: &Origin| -> BTreeSet<_> {
            origin.seen().requests.iter().map(|(_, request)| parent(request)).collect()
        };
        let (first, second) = (told(&failing), told(&well));
        assert!(!first.is_empty() && first.is_subset(&second), "{first:?} {second:?}");
        assert_eq!(second.len(), 4);
    });
}

/// The answer to `/metrics` for who accepts this.
fn metrics(engine: &Engine, accept: &str) -> Message {
    let request = format!("GET /metrics HTTP/1.1\r\nHost: admin\r\n{accept}\r\n");
    let answer = Connection::open(engine.admin()).ask(&request);
    assert_eq!(answer.status(), 200);
    answer
}

/// The series of a text, without values.
fn series(text: &str) -> BTreeSet<String> {
    let lines = text.lines().filter(|line| !line.starts_with('#') && !line.is_empty());
    lines.filter_map(|line| Some(line.rsplit_once(' ')?.0.to_owned())).collect()
}

#[test]
fn who_asks_for_openmetrics_gets_it_and_others_the_same_in_plain_text() {
    let origin = Origin::answering(OK);
    let engine = start(Driver::Epoll, &origin, "", "");
    engine.connect().get("/").assert_is(200, "ok");
    let plain = metrics(&engine, "");
    let open = metrics(&engine, "Accept: application/openmetrics-text; version=1.0.0,text/plain;q=0.5\r\n");
    let kind = |answer: &Message| answer.head.value("Content-Type").unwrap_or_default().to_owned();
    assert_eq!(kind(&plain), "text/plain; version=0.0.4; charset=utf-8");
    assert_eq!(kind(&open), "application/openmetrics-text; version=1.0.0; charset=utf-8");
    assert!(open.text().ends_with("# EOF\n") && !plain.text().contains("# EOF"));
    assert_eq!(series(plain.text()), series(open.text()));
}

/// The names of metrics in expressions: `corelane_…` and `process_…`.
fn names(text: &str) -> BTreeSet<&str> {
    let words = text.split(|byte: char| !byte.is_ascii_alphanumeric() && byte != '_');
    let is_ours = |word: &&str| {
        let is_prefixed = word.starts_with("corelane_") || word.starts_with("process_");
        is_prefixed && !word.ends_with('_')
    };
    words.filter(is_ours).collect()
}

/// Everything that a process may tell, with what it tells only where there is such a thing.
fn told_names(engine: &Engine) -> BTreeSet<String> {
    let text = metrics(engine, "");
    let samples = series(text.text());
    let mut names: BTreeSet<String> =
        samples.iter().map(|sample| sample.split('{').next().unwrap_or(sample).to_owned()).collect();
    // A family without samples has a name too.
    for line in text.text().lines().filter_map(|line| line.strip_prefix("# TYPE ")) {
        let (name, kind) = line.split_once(' ').expect(line);
        names.insert(name.to_owned());
        if kind == "histogram" {
            names.extend(["_bucket", "_sum", "_count"].map(|suffix| format!("{name}{suffix}")));
        }
    }
    names
}

/// What only members of a cluster, and processes with certificates or access logs, tell; their own tests see them.
const ELSEWHERE: [&str; 15] = [
    "corelane_cluster_info",
    "corelane_cluster_standby",
    "corelane_cluster_config_refused",
    "corelane_cluster_config_drift",
    "corelane_store_away",
    "corelane_store_away_seconds",
    "corelane_access_log_recorded_total",
    "corelane_access_log_written_total",
    "corelane_access_log_dropped_total",
    "corelane_access_log_failed_total",
    "corelane_access_log_errors_total",
    "corelane_access_log_left_out_total",
    "corelane_certificate_reloads_total",
    "corelane_certificate_problems",
    "corelane_certificate_expiry_timestamp_seconds",
];

#[test]
fn dashboard_alerts_and_documentation_name_only_metrics_that_there_are() {
    let origin = Origin::answering(OK);
    let engine = start(Driver::Epoll, &origin, "", "");
    engine.connect().get("/").assert_is(200, "ok");
    let mut told = told_names(&engine);
    told.extend(ELSEWHERE.map(str::to_owned));
    let docs = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs");
    for file in ["monitoring/grafana.json", "monitoring/alerts.yml", "metrics.md"] {
        let text = fs::read_to_string(docs.join(file)).expect(file);
        let named = names(&text);
        assert!(named.len() > 10, "{file}: {named:?}");
        for name in named {
            assert!(told.contains(name), "{file} names {name}, which there is not");
        }
    }
    let documented = fs::read_to_string(docs.join("metrics.md")).expect("metrics.md");
    let documented = names(&documented);
    let families: BTreeSet<String> = told
        .iter()
        .filter(|name| !["_bucket", "_sum", "_count"].iter().any(|suffix| name.ends_with(suffix)))
        .cloned()
        .collect();
    let missing: Vec<_> = families.iter().filter(|name| !documented.contains(name.as_str())).collect();
    assert!(missing.is_empty(), "docs/metrics.md says nothing of {missing:?}");
}

/// Grafana reads it as JSON, and each panel asks something.
#[test]
fn the_dashboard_is_whole() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/monitoring/grafana.json");
    let text = fs::read_to_string(path).expect("it is there");
    let dashboard: serde_json::Value = serde_json::from_str(&text).expect("JSON");
    let panels = dashboard["panels"].as_array().expect("panels");
    let rows = panels.iter().filter(|panel| panel["type"] == "row").count();
    assert!(rows >= 8 && panels.len() > 3 * rows, "{rows} rows, {} panels", panels.len());
    let mut ids = BTreeSet::new();
    for panel in panels {
        assert!(ids.insert(panel["id"].as_u64().expect("an id")), "{panel}");
        if panel["type"] != "row" {
            let asks = panel["targets"].as_array().is_some_and(|targets| {
                !targets.is_empty() && targets.iter().all(|target| target["expr"].is_string())
            });
            assert!(asks, "{panel}");
        }
    }
}
