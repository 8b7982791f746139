//! What is seen of two moments of a process that is known here to the last figure?
//!
//! Frames are kept as text beside this file: a change of one is looked at, not explained.

use ratatui::Terminal;
use ratatui::backend::TestBackend;
use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyModifiers};
use ratatui::style::Color;
use serde_json::{Value, json};

use super::*;

/// A gateway of two cores, `step` seconds after it was first looked at.
fn sample(step: u64) -> Sample {
    let of = |rate: u64| 1_000 + rate * step;
    let core = |index: u64| {
        json!({ "index": index, "cpu": index, "cpu_time_s": 0.42 * step as f64, "connections_open": 33 + index,
            "exchanges_open": 4, "turns": of(9_000), "sleeps": of(300), "handed_over": of(0), "taken_over": of(0),
            "buffers": 5, "buffers_exhausted": 0, "task_panics": 0 })
    };
    let listener = |name: &str, protocol: &str, is_internal: bool, rate: u64| {
        json!({ "name": name, "address": "0.0.0.0:8080", "protocol": protocol, "internal": is_internal,
            "connections_open": 67, "exchanges_open": 8, "accepted": of(2), "requests": of(rate),
            "messages_received": of(7), "bytes_received": of(100 * rate), "bytes_sent": of(400 * rate),
            "handshakes_tls12": 0, "handshakes_tls13": of(1), "resumptions_tls12": 0, "resumptions_tls13": of(3),
            "handshakes_failed": 0, "over_connections": 0, "over_connections_per_address": 0, "denied": 0,
            "accept_errors": 0, "per_core": { "requests": [of(rate / 2), of(rate / 2)],
            "bytes_received": [of(50 * rate), of(50 * rate)], "bytes_sent": [of(200 * rate), of(200 * rate)] } })
    };
    let channel = |name: &str, rate: u64, wrong: u64| {
        json!({ "name": name, "internal": false, "requests": of(rate), "faults": of(wrong), "retries": of(wrong / 2),
            "responses": { "1xx": 0, "2xx": of(rate - wrong), "3xx": 0, "4xx": 0, "5xx": of(wrong) },
            "denied": 0, "unauthorized": 0, "over_scope": 0, "over_rate": 0, "over_rate_per_address": 0,
            "over_rate_per_header": 0, "over_concurrency": 0, "over_concurrency_per_address": 0,
            "per_core": { "faults": [of(wrong), 0] } })
    };
    let endpoint = |address: &str, state: &str, rate: u64| {
        let is_well = state == "up";
        let cause = if is_well { Value::Null } else { json!("3 of 3 probes failed: connection refused") };
        json!({ "name": address, "address": address, "state": state, "weight": 1.0, "requests": of(rate),
            "reused": of(rate), "connections_opened": 12, "connect_failures": of(u64::from(!is_well)), "idle_closed": 0,
            "idle": 30, "active": 4, "health": { "since_s": 75.0 + step as f64, "cause": cause, "downs": 1,
            "last_probe": { "is_good": is_well, "ago_s": 0.5, "took_s": 0.0012 } } })
    };
    let summary = |key: &str, name: Value, count: u64| {
        json!({ key: name, "count": count, "mean": 2_000_000.0, "max": 21_000_000, "percentiles":
            { "p50": 1_200_000, "p90": 3_400_000, "p99": 9_800_000, "p99_9": 20_500_000 } })
    };
    let stats = json!({
        "process": { "version": "0.1.0", "pid": 4_711, "node": "gateway", "state": "serving",
            "uptime_s": 5_000.0 + step as f64, "driver": "io_uring", "cores": 2 },
        "configuration": { "number": 3, "source": "/etc/corelane/corelane.toml", "needs_restart": [], "last_failure": null },
        "totals": { "connections_open": 67, "connections_accepted": of(2), "exchanges_open": 8, "requests": of(12_500),
            "responses": { "1xx": 0, "2xx": of(12_496), "3xx": 0, "4xx": 0, "5xx": of(4) }, "faults": of(4),
            "retries": of(2), "bytes_received": of(1_250_000), "bytes_sent": of(5_000_000) },
        "cores": [core(0), core(1)],
        "listeners": [listener("web", "https", false, 12_500), listener("origin", "http", true, 400)],
        "channels": [channel("patients", 9_000, 0), channel("default", 3_500, 4)],
        "upstreams": [{ "name": "fhir", "is_panic": false, "waiting": 0,
            "endpoints": [endpoint("10.0.0.1:8000", "up", 12_500), endpoint("10.0.0.2:8000", "down", 0)] }],
        "faults": { "connect_failed": of(4), "head_timeout": 0 },
    });
    let latencies = json!({ "all": summary("channel", Value::Null, 125_000),
        "channels": [summary("channel", json!("patients"), 90_000), summary("channel", json!("default"), 35_000)],
        "listeners": [] });
    Sample { stats, latencies, processes: Value::Null }
}

/// The same, one of two processes of a cluster.
fn member(step: u64) -> Sample {
    let mut sample = sample(step);
    sample.stats["cluster"] = json!({ "role": "active", "store": { "state": "connected", "away_s": null },
        "config": { "version": 7, "refused": null, "drift": null } });
    let process = |number: u64, is_self: bool| {
        json!({ "id": format!("gateway-{number}"), "node": "gateway", "host": "gw1", "pid": 4_711, "state": "serving",
            "cores": 2, "config_version": 7, "version": "0.1.0", "epoch": number, "beat_at": 1_000_000 - 700 * number,
            "wants": null, "config_refused": null, "is_self": is_self })
    };
    sample.processes = json!([process(1, true), process(2, false)]);
    sample
}

/// What is known after two looks, a second apart.
fn watch(sample: fn(u64) -> Sample) -> Watch {
    let mut watch = Watch::new("http://10.0.0.5:9000", sample(0));
    watch.take(Ok(sample(1)), false);
    watch.clock = "12:34:56Z".to_owned();
    watch.has_colors = true;
    watch
}

fn state(keys: &[KeyCode], watch: &Watch) -> State {
    let mut state = State::new(Duration::from_secs(1));
    state.has_cluster = watch.has_cluster();
    for code in keys {
        let (rows, columns) = watch.size(&state);
        state.press(KeyEvent::new(*code, KeyModifiers::NONE), rows, columns);
    }
    state
}

fn seen(width: u16, height: u16, watch: &Watch, keys: &[KeyCode]) -> Terminal<TestBackend> {
    let state = state(keys, watch);
    let mut terminal = Terminal::new(TestBackend::new(width, height)).expect("a terminal in memory");
    let picture = watch.picture(&state);
    terminal.draw(|frame| view::draw(frame, &picture, &state)).expect("drawn");
    terminal
}

fn letters(text: &str) -> Vec<KeyCode> {
    text.chars().map(KeyCode::Char).collect()
}

#[test]
fn a_process_is_seen_at_a_glance() {
    insta::assert_snapshot!(seen(80, 24, &watch(sample), &[]).backend());
}

#[test]
fn a_large_terminal_has_every_figure() {
    insta::assert_snapshot!(seen(160, 30, &watch(sample), &[]).backend());
}

#[test]
fn a_pane_has_a_selected_row_and_an_order() {
    insta::assert_snapshot!(seen(100, 16, &watch(sample), &letters("4ssj")).backend());
}

#[test]
fn every_counter_of_a_row_can_be_seen() {
    let keys = [letters("5"), vec![KeyCode::Enter]].concat();
    insta::assert_snapshot!(seen(80, 24, &watch(sample), &keys).backend());
}

#[test]
fn a_cluster_has_a_pane() {
    insta::assert_snapshot!(seen(120, 12, &watch(member), &letters("6")).backend());
}

#[test]
fn help_names_every_key() {
    insta::assert_snapshot!(seen(100, 36, &watch(sample), &letters("?")).backend());
}

#[test]
fn one_look_is_every_column_as_text() {
    insta::assert_snapshot!(plain(&Span::new(Some(&sample(0)), &sample(1))));
}

#[test]
fn who_does_not_answer_is_told_with_since_when() {
    let mut watch = watch(sample);
    watch.take(Err("no engine answers at http://10.0.0.5:9000: refused".to_owned()), false);
    let text = seen(80, 24, &watch, &[]).backend().to_string();
    assert!(text.contains("no answer since ") && text.contains("asking on"), "{text}");
    assert!(text.contains("patients"), "what was known stays: {text}");
    watch.take(Ok(sample(60)), false);
    assert!(!seen(80, 24, &watch, &[]).backend().to_string().contains("no answer"));
}

#[test]
fn after_a_restart_nothing_is_known_but_what_is_now() {
    let mut watch = watch(sample);
    let mut other = sample(0);
    other.stats["process"]["uptime_s"] = json!(0.5);
    other.stats["process"]["pid"] = json!(5_000);
    watch.take(Ok(other), false);
    assert_eq!((watch.history.len(), watch.summary.requests), (1, None));
    let text = seen(80, 24, &watch, &[]).backend().to_string();
    assert!(text.contains("req/s ·") && text.contains("conns 67"), "{text}");
}

#[test]
fn while_paused_nothing_moves() {
    let mut watch = watch(sample);
    watch.take(Ok(sample(9)), true);
    assert_eq!(watch.now.stats["process"]["uptime_s"], json!(5_001.0));
}

#[test]
fn what_somebody_should_look_at_is_said() {
    let check = |change: fn(&mut Value), expected: &str| {
        let mut now = sample(1);
        change(&mut now.stats);
        let summary = Summary::of(&Span::new(Some(&sample(0)), &now));
        let told: Vec<_> = summary.alerts.iter().map(|(text, _)| text.as_str()).collect();
        assert!(told.iter().any(|text| text.contains(expected)), "no {expected:?} in {told:?}");
    };
    check(|_| {}, "fhir: 1 of 2 endpoints are out");
    check(|_| {}, "faults/s: connect_failed 4.0");
    check(|stats| stats["process"]["state"] = json!("draining"), "draining, left: 8 exchanges");
    check(|stats| stats["upstreams"][0]["is_panic"] = json!(true), "so all get traffic");
    check(|stats| stats["upstreams"][0]["waiting"] = json!(3), "3 requests wait for a connection");
    check(|stats| stats["cores"][0]["buffers_exhausted"] = json!(50), "50 reads/s put off");
    check(|stats| stats["cores"][1]["task_panics"] = json!(1), "1 tasks panicked");
    check(
        |stats| stats["configuration"]["needs_restart"] = json!(["admin.bind"]),
        "a restart is needed for admin.bind",
    );
    let refuse =
        |stats: &mut Value| stats["configuration"]["last_failure"] = json!({ "problems": ["a.toml:1:1: x"] });
    check(refuse, "configuration refused: a.toml:1:1: x");
    check(|stats| stats["cluster"] = json!({ "store": { "away_s": 61.0 } }), "the store is away for 1m 1s");
    check(
        |stats| stats["certificates"] = json!({ "problems": ["web: expired"] }),
        "certificates: web: expired",
    );
}

#[test]
fn all_is_well_is_said_by_saying_nothing() {
    let mut now = sample(1);
    now.stats["upstreams"][0]["endpoints"][1]["state"] = json!("up");
    now.stats["faults"] = sample(0).stats["faults"].take();
    assert_eq!(Summary::of(&Span::new(Some(&sample(0)), &now)).alerts, []);
}

#[test]
fn any_size_can_be_drawn() {
    for (width, height) in [(1, 1), (3, 40), (300, 2), (12, 9), (300, 100)] {
        for keys in [letters(""), letters("5"), letters("?"), [letters("3"), vec![KeyCode::Enter]].concat()] {
            let _ = seen(width, height, &watch(sample), &keys);
        }
    }
}

#[test]
fn answers_that_mean_nothing_are_drawn_all_the_same() {
    for stats in [Value::Null, json!([]), json!({ "cores": 5, "channels": [1, null], "upstreams": [{}] })] {
        let odd = |stats: Value| Sample { stats, latencies: json!("x"), processes: json!({}) };
        let mut watch = Watch::new("x", odd(stats.clone()));
        watch.take(Ok(odd(stats)), false);
        let _ = seen(80, 24, &watch, &letters("5"));
    }
}

#[test]
fn no_color_is_used_where_none_is_wanted() {
    let is_colored = |terminal: Terminal<TestBackend>| {
        terminal.backend().buffer().content().iter().any(|cell| cell.fg != Color::Reset)
    };
    let mut watch = watch(sample);
    assert!(is_colored(seen(100, 30, &watch, &[])));
    watch.has_colors = false;
    assert!(!is_colored(seen(100, 30, &watch, &[])));
}
