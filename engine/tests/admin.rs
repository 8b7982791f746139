//! Does a running engine tell the truth about itself? What it served is known here, and what it says is compared.
//!
//! Never trusts one figure alone: the same count must come out of every way to ask.

mod common;

use std::net::SocketAddr;
use std::process::Command;
use std::thread;

use common::connection::Connection;
use common::engine::{Config, Driver, Engine};
use common::origin::{OK, Origin};
use common::{eventually, on_both_drivers};
use rustix::process::Signal;
use serde_json::Value;

/// The body under an admin path.
#[track_caller]
fn ask(admin: SocketAddr, path: &str) -> String {
    let request = format!("GET {path} HTTP/1.1\r\nHost: admin\r\n\r\n");
    let response = Connection::open(admin).ask(&request);
    assert_eq!(response.status(), 200, "{path}: {response:?}");
    String::from_utf8(response.body).expect("text")
}

#[track_caller]
fn ask_json(admin: SocketAddr, path: &str) -> Value {
    serde_json::from_str(&ask(admin, path)).expect("JSON")
}

/// The value of a series in `/metrics`.
#[track_caller]
fn metric(text: &str, series: &str) -> f64 {
    let line = text.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
    line.unwrap_or_else(|| panic!("no {series} in\n{text}")).parse().expect("a number")
}

/// What one of the engine's own commands prints about the engine at `admin`.
#[track_caller]
fn command(admin: SocketAddr, arguments: &[&str]) -> String {
    let output = Engine::command().args(arguments).args(["--admin", &admin.to_string()]).output();
    let output = output.expect("the engine can be run");
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).expect("text")
}

/// Sends `per_client` requests over each of `clients` connections at once.
fn load(engine: &Engine, clients: usize, per_client: usize) {
    thread::scope(|scope| {
        for _ in 0..clients {
            scope.spawn(|| {
                let mut connection = engine.connect();
                (0..per_client).for_each(|_| connection.get("/").assert_is(200, "ok"));
            });
        }
    });
}

#[test]
fn every_request_is_in_every_figure_exactly_once() {
    const CLIENTS: usize = 16;
    const PER_CLIENT: usize = 25;
    const SENT: u64 = (CLIENTS * PER_CLIENT) as u64;
    on_both_drivers(|driver| {
        let origin = Origin::answering(OK);
        let config = Config { endpoints: &[origin.address], ..Config::default() };
        let engine = Engine::start_on_cores(driver, 2, config);
        load(&engine, CLIENTS, PER_CLIENT);
        engine.assert_counter("/channels/0/requests", SENT);
        engine.assert_counter("/channels/0/responses/2xx", SENT);
        engine.assert_counter("/totals/requests", SENT);
        engine.assert_counter("/listeners/0/accepted", CLIENTS as u64);
        engine.assert_counter("/upstreams/0/endpoints/0/requests", SENT);

        let admin = engine.admin();
        for query in
            ["", "?channel=all", "?channel=all&phase=body", "?phase=wait", "?phase=first_byte", "?window=60s"]
        {
            let latency = ask_json(admin, &format!("/stats/latency{query}"));
            assert_eq!(latency["count"], SENT, "{query}: {latency:#}");
        }
        let total = ask_json(admin, "/stats/latency");
        let first_byte = ask_json(admin, "/stats/latency?phase=first_byte");
        let (max, part) = (total["max"].as_u64(), first_byte["max"].as_u64());
        assert!(max >= part && part > Some(0), "{total:#} {first_byte:#}");
        let hgrm = ask(admin, "/stats/latency?format=hgrm");
        assert!(hgrm.contains(&format!("Total count    = {SENT:12}]")), "{hgrm}");

        let metrics = ask(admin, "/metrics");
        let check = |series: &str| assert_eq!(metric(&metrics, series), SENT as f64, "{series}");
        check("corelane_listener_requests_total{listener=\"web\"}");
        check("corelane_channel_responses_total{channel=\"all\",class=\"2xx\"}");
        check("corelane_exchange_duration_seconds_count{channel=\"all\",phase=\"total\"}");
        check("corelane_exchange_duration_seconds_bucket{le=\"+Inf\",channel=\"all\",phase=\"total\"}");
    });
}

#[test]
fn a_refused_head_is_a_request_but_no_exchange() {
    on_both_drivers(|driver| {
        let origin = Origin::answering(OK);
        let engine = Engine::before(driver, origin.address);
        engine.connect().get("/").assert_is(200, "ok");
        let without_host = engine.connect().ask("GET / HTTP/1.1\r\n\r\n");
        assert_eq!(without_host.status(), 400);
        engine.assert_counter("/totals/requests", 2);
        engine.assert_counter("/totals/exchanges", 1);
        engine.assert_counter("/requests_rejected/host_missing", 1);
    });
}

#[test]
fn the_sum_over_the_cores_is_the_figure() {
    let origin = Origin::answering(OK);
    let config = Config { endpoints: &[origin.address], ..Config::default() };
    let engine = Engine::start_on_cores(Driver::Epoll, 2, config);
    load(&engine, 32, 2);
    engine.assert_counter("/listeners/0/requests", 64);
    let stats = engine.stats();
    let per_core =
        stats.pointer("/listeners/0/per_core/requests").and_then(Value::as_array).expect("by core");
    let sum: u64 = per_core.iter().map(|count| count.as_u64().expect("a count")).sum();
    assert_eq!((per_core.len(), sum), (2, 64), "{stats:#}");
    let threads = engine.threads();
    for (index, core) in stats["cores"].as_array().expect("cores").iter().enumerate() {
        let cpu = core["cpu"].to_string();
        assert!(threads.contains(&(format!("core-{index}"), cpu)), "{core:#} {threads:?}");
    }
}

#[test]
fn the_commands_show_what_was_served() {
    let origin = Origin::answering(OK);
    let engine = Engine::before(Driver::Epoll, origin.address);
    load(&engine, 1, 3);
    engine.assert_counter("/channels/0/requests", 3);
    let status = command(engine.admin(), &["status"]);
    assert!(status.starts_with("state    serving\n"), "{status}");
    let stats = command(engine.admin(), &["stats"]);
    let row = |name: &str| -> Vec<&str> {
        let line = stats.lines().find(|line| line.starts_with(name));
        line.unwrap_or_else(|| panic!("no row {name} in\n{stats}")).split_whitespace().collect()
    };
    assert_eq!(row("all")[..3], ["all", "3", "3"], "{stats}");
    assert!(row("all").len() > 8, "percentiles come with their units:\n{stats}");
    let address = origin.address.to_string();
    assert_eq!(row("app")[..4], ["app", &address, &address, "3"], "{stats}");
    let json: Value = serde_json::from_str(&command(engine.admin(), &["stats", "--json"])).expect("JSON");
    assert_eq!(json["channels"][0]["latency"]["count"], 3);
}

/// The embedded default, on ports of the kernel's choice; the harness adds admin.
fn default_configuration() -> String {
    let output = Engine::command().args(["config", "default"]).output().expect("the engine can be run");
    let text = String::from_utf8(output.stdout).expect("text");
    let (text, admin) = text.split_once("[admin]").expect("the last table");
    assert!(text.contains("127.0.0.1:8080") && admin.contains("127.0.0.1:9000"), "{text}[admin]{admin}");
    text.replace("127.0.0.1:8080", "127.0.0.1:0")
}

#[test]
fn by_default_totals_are_what_clients_sent_although_the_origin_is_inside() {
    const CLIENTS: usize = 8;
    const PER_CLIENT: usize = 50;
    const SENT: u64 = (CLIENTS * PER_CLIENT) as u64;
    on_both_drivers(|driver| {
        let engine = Engine::start_on_cores(driver, 2, default_configuration());
        eventually("it is told", || engine.log().contains(", internal)"));
        let mut clients: Vec<_> = (0..CLIENTS).map(|_| engine.connect()).collect();
        for _ in 0..PER_CLIENT {
            clients.iter_mut().for_each(|client| client.get("/").assert_is(200, "Hello from Corelane.\n"));
        }
        for total in ["requests", "exchanges", "responses/2xx"] {
            engine.assert_counter(&format!("/totals/{total}"), SENT);
        }
        for total in ["connections_accepted", "connections_open"] {
            engine.assert_counter(&format!("/totals/{total}"), CLIENTS as u64);
        }
        engine.assert_counter("/totals/faults", 0);
        let admin = engine.admin();
        assert_eq!(ask_json(admin, "/stats/latency")["count"], SENT);

        // Shown all the same, in rows of their own.
        engine.assert_counter("/listeners/1/requests", SENT);
        engine.assert_counter("/channels/0/requests", SENT);
        assert_eq!(ask_json(admin, "/stats/latency?channel=origin")["count"], SENT);
        let stats = command(admin, &["stats"]);
        let totals = stats.lines().skip_while(|line| *line != "totals").nth(2).expect("a row of totals");
        assert_eq!(totals.split_whitespace().nth(2), Some(SENT.to_string().as_str()), "{stats}");
        assert_eq!(stats.lines().filter(|line| line.starts_with("origin (internal) ")).count(), 2, "{stats}");

        drop(clients);
        engine.assert_counter("/totals/connections_open", 0);
    });
}

#[test]
fn a_log_in_json_is_json_from_its_first_line() {
    let config = "[listener.web]\nbind = \"127.0.0.1:0\"\n[channel.all]\nrespond = {}\n";
    let arguments = ["--log-format", "json", "--cores", "1"].map(str::to_owned);
    let mut engine = Engine::spawn(&mut Command::new(env!("CARGO_BIN_EXE_engine")), &arguments, config);
    eventually("it says which driver won", || engine.log().contains("\"driver\""));
    engine.signal(Signal::TERM);
    assert!(engine.wait().success());
    let log = engine.log();
    let lines: Vec<Value> = log.lines().map(|line| serde_json::from_str(line).expect(line)).collect();
    let listening =
        lines.iter().find(|line| line["message"] == "listening").expect("a line for the listener");
    assert_eq!(listening["listener"], "web");
    assert!(listening["url"].as_str().is_some_and(|url| url.starts_with("http://127.0.0.1:")), "{listening}");
}
