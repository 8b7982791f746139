//! Does a cluster say what it has done, to the unit, whichever of its processes is asked and whichever are gone?
//!
//! Never by what one process says of itself: what was sent is counted here.

mod common;

use common::cluster::Cluster;
use common::engine::{Driver, Engine};
use common::eventually;
use common::origin::{OK, Origin};
use rustix::process::Signal;
use serde_json::Value;

fn config(origin: &Origin) -> String {
    format!(
        "[node]\nid = \"edge\"\npoll = \"100ms\"\n[listener.web]\nbind = \"127.0.0.1:0\"\n\
         [channel.all]\nupstream = \"app\"\n[upstream.app]\nendpoints = [\"{}\"]\n",
        origin.address
    )
}

fn send(engine: &Engine, requests: usize) -> u64 {
    let mut client = engine.connect();
    (0..requests).for_each(|_| client.get("/").assert_is(200, "ok"));
    requests as u64
}

#[track_caller]
fn ask(engine: &Engine, path: &str) -> Value {
    let (status, answer) = engine.ask_admin("GET", path, None);
    assert_eq!(status, 200, "{path}: {answer}");
    answer
}

/// Waits until a process says that `sent` requests were served by `processes`, in counters and histograms; never more.
#[track_caller]
fn assert_served(engine: &Engine, sent: u64, processes: u64) {
    let mut told = Value::Null;
    eventually("every request is in the figures of the cluster", || {
        told = ask(engine, "/cluster/stats");
        let requests = told["totals"]["requests"].as_u64().expect("a count");
        assert!(requests <= sent, "more than {sent} were sent: {told:#}");
        requests == sent && told["processes"] == processes
    });
    assert_eq!(told["stale_s"], Value::Null);
    let totals = &told["totals"];
    assert_eq!(
        (&totals["exchanges"], &totals["responses"]["2xx"]),
        (&sent.into(), &sent.into()),
        "{totals:#}"
    );
    assert_eq!(told["channels"]["all"]["counters"]["requests"], sent);
    assert_eq!(told["upstreams"]["app"]["counters"]["endpoint_requests"], sent);
    for query in ["", "?channel=all", "?channel=all&phase=first_byte"] {
        assert_eq!(ask(engine, &format!("/cluster/stats/latency{query}"))["count"], sent, "{query}");
    }
}

#[test]
fn each_request_counts_once_whoever_is_asked_and_whoever_is_gone() {
    let origin = Origin::answering(OK);
    let cluster = Cluster::new();
    let first = cluster.first(Driver::Epoll, &config(&origin));
    let (mut second, mut third) = (cluster.join(Driver::Epoll, "edge"), cluster.join(Driver::Epoll, "edge"));
    let mut sent = send(&first, 30) + send(&second, 20) + send(&third, 10);
    for engine in [&first, &second, &third] {
        assert_served(engine, sent, 3);
    }
    // The extremes of all are those of the cluster.
    let own: Vec<Value> =
        [&first, &second, &third].map(|engine| ask(engine, "/stats/latency")).into_iter().collect();
    let of_cluster = ask(&first, "/cluster/stats/latency");
    let each =
        |key: &str| -> Vec<u64> { own.iter().map(|own| own[key].as_u64().expect("a value")).collect() };
    assert_eq!(of_cluster["max"].as_u64(), each("max").into_iter().max());
    assert_eq!(of_cluster["min"].as_u64(), each("min").into_iter().min());

    // One leaves, with requests that nobody has asked for yet; one is killed once it has told.
    sent += send(&second, 7);
    second.signal(Signal::TERM);
    assert!(second.wait().success());
    assert_served(&first, sent, 3);
    third.signal(Signal::KILL);
    assert!(!third.wait().success());
    sent += send(&first, 5);
    assert_served(&first, sent, 3);
    let added = cluster.join(Driver::Epoll, "edge");
    sent += send(&added, 3);
    assert_served(&first, sent, 4);
    assert_served(&added, sent, 4);
}

#[test]
fn what_ends_during_a_drain_is_counted_and_measured() {
    let (origin, asked, answer) = Origin::held();
    let cluster = Cluster::new();
    let stays = cluster.first(Driver::Epoll, &config(&origin));
    let mut leaves = cluster.join(Driver::Epoll, "edge");
    let mut client = leaves.connect();
    client.send("GET / HTTP/1.1\r\nHost: test\r\n\r\n");
    asked.take();
    leaves.signal(Signal::TERM);
    eventually("it drains", || leaves.ask_admin("GET", "/readyz", None).0 == 503);
    answer.give();
    client.response().assert_is(200, "ok");
    assert!(leaves.wait().success());
    assert_served(&stays, 1, 2);
}

#[test]
fn every_process_shows_the_modules_and_health_of_all() {
    let origin = Origin::answering(OK);
    let cluster = Cluster::new();
    let first = cluster.first(Driver::Epoll, &config(&origin));
    let second = cluster.join(Driver::Epoll, "edge");
    let ids = [first.process_id(), second.process_id()];
    for engine in [&first, &second] {
        let mut told = Value::Null;
        eventually("both are told of", || {
            told = ask(engine, "/runtime-status/node-statuses/complete");
            let processes = told["nodes"][0]["processes"].as_array().expect("processes");
            ids.iter().all(|id| processes.iter().any(|process| process["process"] == id.as_str()))
        });
        for process in told["nodes"][0]["processes"].as_array().expect("processes") {
            let modules = process["modules"].as_array().expect("modules").iter();
            let started: Vec<_> = modules.filter(|module| module["status"] == "STARTED").collect();
            for name in ["listener.web", "channel.all", "upstream.app", "admin", "cluster_manager"] {
                assert!(started.iter().any(|module| module["name"] == name), "{name}: {process:#}");
            }
        }
        let health = ask(engine, "/runtime-status/node-statuses/health-checks");
        assert_eq!(health["status"], "PASS", "{health:#}");
        assert_eq!(health["checks"].as_array().map(Vec::len), Some(4), "{health:#}");
    }
}

#[test]
fn a_change_by_one_process_is_in_the_audit_of_all() {
    let origin = Origin::answering(OK);
    let cluster = Cluster::new();
    let first = cluster.first(Driver::Epoll, &config(&origin));
    let second = cluster.join(Driver::Epoll, "edge");
    let process = first.process_id();
    let body = serde_json::json!({ "address": "127.0.0.1:9" });
    assert_eq!(first.ask_admin("POST", "/upstreams/app/endpoints", Some(&body)).0, 201);
    assert_eq!(first.ask_admin("POST", "/upstreams/nothing/endpoints", Some(&body)).0, 404);
    let mut page = Value::Null;
    eventually("both are written down", || {
        page = ask(&second, "/audit?action=add_endpoint");
        page["entries"].as_array().map(Vec::len) == Some(2)
    });
    let told = |index: usize, key: &str| page["entries"][index][key].as_str().expect("text").to_owned();
    assert_eq!((told(0, "outcome"), told(1, "outcome")), ("refused".to_owned(), "done".to_owned()));
    assert_eq!((told(1, "subject"), told(1, "process")), ("/upstreams/app/endpoints".to_owned(), process));
    // Page by page.
    let newest = ask(&second, "/audit?limit=1");
    let before = newest["before"].as_u64().expect("there is more");
    let next = ask(&second, &format!("/audit?limit=1&before={before}"));
    assert_eq!(next["entries"][0]["id"], before - 1);
    assert_eq!(ask(&second, "/audit?actor=somebody")["entries"], Value::Array(Vec::new()));
}
