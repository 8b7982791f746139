//! Does another configuration take effect while the process serves, and does what cannot be used change nothing?
//!
//! Never a restart, never a client that is sent away: connections are kept throughout. Under load: `reload.rs`.

mod common;
#[path = "common/tls.rs"]
#[allow(dead_code, reason = "no client shows a certificate here")]
mod tls;

use std::fmt::Write as _;
use std::fs;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Output;

use common::connection::Connection;
use common::engine::{Config, Driver, Engine};
use common::origin::Origin;
use common::{eventually, on_both_drivers};
use rustix::process::Signal;
use rustls::HandshakeKind;
use rustls::version::TLS13;
use serde_json::{Value, json};

use self::tls::{Authority, Files};

const LISTENER: &str = "[listener.web]\nbind = \"127.0.0.1:0\"\n";

/// A listener `web`, and a channel that answers so.
fn saying(text: &str) -> String {
    format!("{LISTENER}[channel.all]\nrespond = {{ body = \"{text}\" }}\n")
}

fn named(name: &'static str) -> Origin {
    Origin::answering(format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{name}", name.len()))
}

/// Where a listener is now, as statistics say.
#[track_caller]
fn address(engine: &Engine, name: &str) -> Option<SocketAddr> {
    let stats = engine.stats();
    let listeners = stats["listeners"].as_array().expect("listeners");
    let row = listeners.iter().find(|row| row["name"] == name)?;
    Some(row["address"].as_str().expect("text").parse().expect("an address"))
}

/// Has the engine run `config`, which it must.
#[track_caller]
fn apply(engine: &Engine, config: impl std::fmt::Display) -> Value {
    engine.rewrite(config);
    let (status, answer) = engine.reload();
    assert_eq!(status, 200, "{answer:#}");
    answer
}

/// Has the engine look at `config`, which it must refuse; every problem.
#[track_caller]
fn refuse(engine: &Engine, config: impl std::fmt::Display) -> Vec<String> {
    engine.rewrite(config);
    let (status, answer) = engine.reload();
    assert_eq!(status, 422, "{answer:#}");
    let problems = answer["problems"].as_array().expect("problems");
    problems.iter().map(|problem| problem.as_str().expect("text").to_owned()).collect()
}

fn command(engine: &Engine, arguments: &[&str]) -> Output {
    Engine::command()
        .args(arguments)
        .args(["--admin", &engine.admin().to_string()])
        .output()
        .expect("it runs")
}

#[test]
fn a_kept_connection_is_served_by_what_runs_when_it_asks() {
    on_both_drivers(|driver| {
        let engine = Engine::start_on_cores(driver, 2, saying("one"));
        let mut kept: Vec<_> = (0..4).map(|_| engine.connect()).collect();
        kept.iter_mut().for_each(|connection| connection.get("/").assert_is(200, "one"));
        let answer = apply(&engine, saying("two"));
        let changed = json!({ "number": 2, "unchanged": false, "changes": ["channel.all changed"],
            "needs_restart": [], "warnings": [] });
        assert_eq!(answer, changed);
        kept.iter_mut().for_each(|connection| connection.get("/").assert_is(200, "two"));
        engine.connect().get("/").assert_is(200, "two");
        engine.assert_counter("/totals/requests", 9);
        engine.assert_counter("/totals/connections_accepted", 5);

        // The same once more is nothing to do.
        let (status, answer) = engine.reload();
        assert_eq!((status, &answer["unchanged"], &answer["number"]), (200, &json!(true), &json!(2)));
    });
}

#[test]
fn an_exchange_in_flight_ends_by_what_it_began_with() {
    on_both_drivers(|driver| {
        let (slow, is_asked, may_answer) = Origin::held();
        let engine = Engine::before(driver, slow.address);
        let mut waiting = engine.connect();
        assert!(waiting.send("GET / HTTP/1.1\r\nHost: test\r\n\r\n"));
        is_asked.take();
        apply(&engine, saying("another"));
        engine.connect().get("/").assert_is(200, "another");
        may_answer.give();
        assert_eq!(waiting.response().status(), 200);
        waiting.get("/").assert_is(200, "another");
        engine.assert_counter("/totals/faults", 0);
    });
}

#[test]
fn listeners_and_upstreams_come_and_go() {
    on_both_drivers(|driver| {
        let (a, b) = (named("a"), named("b"));
        let engine =
            Engine::start_on_cores(driver, 2, Config { endpoints: &[a.address], ..Config::default() });
        let mut kept = engine.connect();
        kept.get("/").assert_is(200, "a");
        let more = format!(
            "{}[listener.more]\nbind = \"127.0.0.1:0\"\n[channel.b]\nupstream = \"b\"\npriority = 1\nmatch = {{ listener = \
             \"more\" }}\n[upstream.b]\nendpoints = [\"{}\"]\n",
            Config { endpoints: &[a.address], ..Config::default() },
            b.address
        );
        let answer = apply(&engine, more);
        let added = ["listener.more added", "channel.b added", "upstream.b added"];
        assert_eq!(answer["changes"], json!(added));
        let more = address(&engine, "more").expect("it is there");
        let mut second = Connection::open(more);
        second.get("/").assert_is(200, "b");
        kept.get("/").assert_is(200, "a");
        assert_eq!(address(&engine, "web"), Some(engine.web()), "its port is what it was");

        let answer = apply(&engine, Config { endpoints: &[b.address], ..Config::default() });
        let removed =
            ["listener.more removed", "channel.b removed", "upstream.app changed", "upstream.b removed"];
        assert_eq!(answer["changes"], json!(removed));
        kept.get("/").assert_is(200, "b");
        eventually("nobody listens there", || TcpStream::connect(more).is_err());
        assert_eq!(address(&engine, "more"), None);
        // What it has served stays in totals.
        engine.assert_counter("/totals/requests", 4);
        engine.assert_counter("/totals/exchanges", 4);
    });
}

#[test]
fn a_listener_may_take_another_name_and_keep_its_port() {
    on_both_drivers(|driver| {
        let engine = Engine::start_on_cores(driver, 2, saying("one"));
        let port = engine.web().port();
        let renamed = format!(
            "[listener.site]\nbind = \"127.0.0.1:{port}\"\n[channel.all]\nrespond = {{ body = \"two\" }}\n"
        );
        let answer = apply(&engine, renamed);
        let changes = ["listener.site added", "listener.web removed", "channel.all changed"];
        assert_eq!(answer["changes"], json!(changes));
        eventually("the new one alone is asked", || {
            (0..8).all(|_| engine.connect().get("/").text() == "two")
        });
        apply(&engine, saying("three").replace(":0", &format!(":{port}")));
        eventually("and back", || (0..8).all(|_| engine.connect().get("/").text() == "three"));
    });
}

#[test]
fn sockets_at_a_path_come_and_go_with_their_file() {
    on_both_drivers(|driver| {
        let files = Files::new();
        let (path, other) = (files.path("a.sock"), files.path("b.sock"));
        let at = |path: &Path, keys: &str| {
            format!("{}[listener.local]\nbind = \"unix:{}\"\n{keys}", saying("one"), path.display())
        };
        let mode = |path: &Path| fs::metadata(path).expect("a file").permissions().mode() & 0o777;
        let engine = Engine::start_on_cores(driver, 2, saying("one"));
        apply(&engine, at(&path, ""));
        assert_eq!(mode(&path), 0o660);
        apply(&engine, at(&path, "unix_mode = \"0600\"\n"));
        assert_eq!(mode(&path), 0o600);
        let taken = at(&path, "").replace("listener.local", "listener.renamed");
        let problems = refuse(&engine, taken);
        let expected = format!(
            "cannot listen on unix:{} (listener.renamed.bind): listener.local of this process listens there",
            path.display()
        );
        assert!(problems.len() == 1 && problems[0].starts_with(&expected), "{problems:?}");
        apply(&engine, at(&other, ""));
        assert!(!path.exists() && other.exists());
        apply(&engine, saying("one"));
        assert!(!other.exists());
    });
}

#[test]
fn what_cannot_be_used_changes_nothing_and_is_told() {
    on_both_drivers(|driver| {
        let engine = Engine::start_on_cores(driver, 2, saying("one"));
        let mut kept = engine.connect();
        kept.get("/").assert_is(200, "one");
        let taken = TcpListener::bind("127.0.0.1:0").expect("a port");
        let taken = taken.local_addr().expect("an address");
        let files = Files::new();
        let (first, other) = (Authority::new().issue(&["a.test"]), Authority::new().issue(&["a.test"]));
        let (certificate, key) = (files.write("a.pem", &first.chain), files.write("a.key", &other.key));
        let tls = format!(
            "protocol = \"https\"\ntls = {{ certificates = [{{ certificate = \"{}\", key = \"{}\" }}] }}\n",
            certificate.display(),
            key.display()
        );
        let mut port_in_use = saying("two");
        let _ = write!(port_in_use, "[listener.second]\nbind = \"{taken}\"\n");
        let bad_certificate = format!("{}[listener.second]\nbind = \"127.0.0.1:0\"\n{tls}", saying("two"));
        let both = format!("{port_in_use}{tls}");
        let in_use = format!("cannot listen on {taken} (listener.second.bind): address in use");
        let wrong_key = "listener.second.tls.certificates[0].key";
        let cases: [(String, &[&str]); 5] = [
            ("[listener.web\n".to_owned(), &[":1:14"]),
            (saying("two").replace("respond", "repsond"), &["repsond"]),
            (port_in_use, &[&in_use]),
            (bad_certificate, &[wrong_key]),
            (both, &[wrong_key, &in_use]),
        ];
        for (config, expected) in cases {
            let problems = refuse(&engine, &config);
            for expected in expected {
                assert!(
                    problems.iter().any(|problem| problem.contains(expected)),
                    "{expected}: {problems:#?}"
                );
                eventually("it is in the log", || engine.log().contains(expected));
            }
            let configuration = engine.stats()["configuration"].clone();
            assert_eq!(configuration["number"], 1);
            assert_eq!(configuration["last_failure"]["problems"], json!(problems));
            kept.get("/").assert_is(200, "one");
        }
        let status = command(&engine, &["status"]);
        let text = String::from_utf8_lossy(&status.stdout).into_owned();
        assert!(text.contains("\nrefused  ") && text.contains(&in_use), "{text}");
        let reload = command(&engine, &["reload"]);
        let said = String::from_utf8_lossy(&reload.stderr).into_owned();
        assert!(!reload.status.success() && said.contains(&in_use), "{said}");

        // What is wrong with the text alone is put right, and nothing of the past is left.
        engine.rewrite(saying("two"));
        let reload = command(&engine, &["reload"]);
        assert!(reload.status.success());
        assert_eq!(String::from_utf8_lossy(&reload.stdout), "configuration 2 runs\n  channel.all changed\n");
        assert_eq!(engine.stats()["configuration"]["last_failure"], Value::Null);
        kept.get("/").assert_is(200, "two");
    });
}

#[test]
fn sighup_reads_the_file_again_and_keeps_what_runs_if_it_is_wrong() {
    on_both_drivers(|driver| {
        let engine = Engine::start(driver, saying("one"));
        let mut kept = engine.connect();
        for (number, text) in [(2, "two"), (3, "three")] {
            engine.rewrite(saying(text));
            engine.signal(Signal::HUP);
            let line = format!("configuration {number} runs: channel.all changed");
            eventually("it is applied", || engine.log().contains(&line));
            kept.get("/").assert_is(200, text);
        }
        engine.rewrite("nonsense");
        engine.signal(Signal::HUP);
        eventually("it is refused", || engine.log().contains("the configuration that runs is kept"));
        kept.get("/").assert_is(200, "three");
        let configuration = engine.stats()["configuration"].clone();
        assert_eq!((&configuration["number"], configuration["last_failure"].is_object()), (&json!(3), true));
    });
}

#[test]
fn endpoints_stay_what_they_were() {
    on_both_drivers(|driver| {
        let (written, added, drained) = (named("written"), named("added"), named("drained"));
        let dead = Origin::nowhere();
        let endpoints = [written.address, drained.address, dead];
        let upstream = "health = { interval = \"50ms\", fast_interval = \"50ms\" }\n";
        let config = |channel: &str| {
            let config = Config { endpoints: &endpoints, upstream, channel, ..Config::default() };
            config.to_string()
        };
        let engine = Engine::start_on_cores(driver, 2, config(""));
        let path = |address: SocketAddr| format!("/upstreams/app/endpoints/{address}");
        let body = json!({ "address": added.address.to_string(), "weight": 7 });
        assert_eq!(engine.ask_admin("POST", "/upstreams/app/endpoints", Some(&body)).0, 201);
        let drain = json!({ "state": "drain" });
        assert_eq!(engine.ask_admin("PATCH", &path(drained.address), Some(&drain)).0, 200);
        let weight = json!({ "weight": 3 });
        assert_eq!(engine.ask_admin("PATCH", &path(written.address), Some(&weight)).0, 200);
        let states = || -> Value {
            let (_, upstream) = engine.ask_admin("GET", "/upstreams/app", None);
            let mut rows = upstream["endpoints"].as_array().expect("endpoints").clone();
            for row in &mut rows {
                let keys = ["address", "source", "state", "weight"];
                *row = keys.iter().map(|key| ((*key).to_owned(), row[*key].clone())).collect();
            }
            rows.into()
        };
        eventually("the dead one is found out", || states()[2]["state"] == "down");
        let before = states();
        for round in 1..=3 {
            apply(&engine, config(&format!("priority = {round}\n")));
            // At once: nobody is taken for well until a probe has said so.
            assert_eq!(states(), before, "round {round}");
        }
        for _ in 0..8 {
            let text = engine.connect().get("/").text().to_owned();
            assert!(text == "written" || text == "added", "{text}");
        }
        engine.assert_counter("/totals/faults", 0);

        // What is written now takes the place of what was changed by hand.
        let other = upstream.to_owned() + "slow_start = { time = \"1s\" }\n";
        let rewritten = Config { endpoints: &endpoints, upstream: &other, ..Config::default() }.to_string();
        let one = format!("\"{}\"", written.address);
        let weighted = rewritten.replace(&one, &format!("{{ address = {one}, weight = 5 }}"));
        apply(&engine, weighted);
        eventually("its weight is as written", || states()[0]["weight"] == 5);
        assert_eq!(states()[3]["weight"], 7, "nothing was written of it");
    });
}

#[test]
fn statistics_go_on() {
    on_both_drivers(|driver| {
        let origin = named("a");
        let engine =
            Engine::start_on_cores(driver, 2, Config { endpoints: &[origin.address], ..Config::default() });
        let mut kept = engine.connect();
        for round in 1..=5_u64 {
            kept.get("/").assert_is(200, "a");
            let channel = format!("priority = {round}\n");
            apply(&engine, Config { endpoints: &[origin.address], channel: &channel, ..Config::default() });
            for pointer in ["/totals/requests", "/channels/0/requests", "/upstreams/0/endpoints/0/requests"] {
                engine.assert_counter(pointer, round);
            }
            engine.assert_counter("/totals/connections_open", 1);
            engine.assert_counter("/listeners/0/accepted", 1);
            assert_eq!(engine.latency("channel=all")["count"], round);
            assert_eq!(engine.latency("")["count"], round);
        }
        // Of a channel that has another name now the sum is kept, and the name comes back.
        let renamed = format!("{LISTENER}[channel.other]\nrespond = {{ body = \"other\" }}\n");
        apply(&engine, renamed);
        kept.get("/").assert_is(200, "other");
        assert_eq!(engine.latency("")["count"], 6);
        engine.assert_counter("/totals/exchanges", 6);
        apply(&engine, Config { endpoints: &[origin.address], ..Config::default() });
        engine.assert_counter("/channels/0/requests", 5);
        assert_eq!(engine.latency("channel=all")["count"], 5);
        drop(kept);
        engine.assert_counter("/totals/connections_open", 0);
    });
}

#[test]
fn tls_sessions_go_on() {
    on_both_drivers(|driver| {
        let (files, authority) = (Files::new(), Authority::new());
        let pair = files.write_pair("web", &authority.issue(&["a.example"]));
        let private = |text: &str| {
            let tls = format!("protocol = \"https\"\ntls = {{ certificates = [{pair}] }}\n");
            saying(text).replace("[channel", &format!("{tls}[channel"))
        };
        let engine = Engine::start_on_cores(driver, 2, private("one"));
        let client = authority.client(&TLS13, None);
        let handshake = || {
            let mut private = tls::connect(engine.web(), &client, "a.example").expect("a handshake");
            let answer = tls::ask(&mut private).expect("an answer");
            (private.conn.handshake_kind(), answer)
        };
        assert_eq!(handshake().0, Some(HandshakeKind::Full));
        for text in ["two", "three"] {
            apply(&engine, private(text));
            let (kind, answer) = handshake();
            assert_eq!(kind, Some(HandshakeKind::Resumed));
            assert!(answer.ends_with(text), "{answer}");
        }
        // With another table of certificates too: the keys are the process's.
        let other = files.write_pair("other", &authority.issue(&["b.example"]));
        apply(&engine, private("four").replace(&pair, &format!("{pair}, {other}")));
        assert_eq!(handshake().0, Some(HandshakeKind::Resumed));
    });
}

#[test]
fn modules_are_stopped_and_started_beside_the_others() {
    on_both_drivers(|driver| {
        let a = named("a");
        let web = Config { endpoints: &[a.address], ..Config::default() };
        let config = format!("{web}[listener.more]\nbind = \"127.0.0.1:0\"\n");
        let engine = Engine::start_on_cores(driver, 2, &config);
        let change = |module: &str, verb: &str| {
            let (status, answer) =
                engine.ask_admin("POST", &format!("/cluster/modules/{module}/{verb}"), None);
            assert_eq!(status, 200, "{module} {verb}: {answer:#}");
        };
        let mut kept = engine.connect();
        kept.get("/").assert_is(200, "a");
        let more = engine.listener("more");
        Connection::open(more).get("/").assert_is(200, "a");

        change("listener.more", "stop");
        eventually("nobody listens there", || TcpStream::connect(more).is_err());
        kept.get("/").assert_is(200, "a");
        change("channel.all", "stop");
        assert_eq!(kept.get("/").status(), 404, "no channel takes it");
        // What is stopped stays so when the file is read again, and what is new in it is applied.
        engine.rewrite(format!(
            "{config}[channel.beside]\nmatch = {{ path_prefix = \"/b\" }}\nrespond = {{}}\n"
        ));
        let (status, answer) = engine.reload();
        assert_eq!((status, &answer["changes"]), (200, &json!(["channel.beside added"])));
        assert_eq!((kept.get("/").status(), kept.get("/b").status()), (404, 200));
        assert_eq!(address(&engine, "more"), None);

        change("channel.all", "start");
        kept.get("/").assert_is(200, "a");
        change("listener.more", "start");
        let more = address(&engine, "more").expect("it is back");
        Connection::open(more).get("/").assert_is(200, "a");
        kept.get("/").assert_is(200, "a");
    });
}

#[test]
fn what_takes_a_restart_is_named() {
    let engine = Engine::start(Driver::Epoll, saying("one"));
    let answer = apply(&engine, format!("[process]\nbuffers_per_core = 64\n{}", saying("two")));
    assert_eq!(answer["needs_restart"], json!(["process.buffers_per_core"]));
    assert_eq!(answer["changes"], json!(["process changed", "channel.all changed"]));
    engine.connect().get("/").assert_is(200, "two");
    assert_eq!(engine.stats()["configuration"]["needs_restart"], json!(["process.buffers_per_core"]));
    apply(&engine, saying("two"));
    assert_eq!(engine.stats()["configuration"]["needs_restart"], json!([]));
}

#[test]
fn without_a_file_there_is_nothing_to_read_again() {
    let origin = named("a");
    let to = origin.address.to_string();
    let arguments = ["--cores", "1", "--listen", "127.0.0.1:0", "--to", &to, "--admin", "127.0.0.1:0"];
    let engine = Engine::spawn_without_file(&mut Engine::command(), &arguments.map(str::to_owned));
    eventually("it serves", || engine.log().contains("\ndriver"));
    let (status, answer) = engine.reload();
    assert_eq!((status, &answer["help"]), (409, &json!("start it with --config FILE")), "{answer}");
    engine.signal(Signal::HUP);
    eventually("SIGHUP is answered", || engine.log().contains("there is nothing to read again"));
    engine.connect().get("/").assert_is(200, "a");
}
