//! Who is an endpoint when another configuration takes over? Those who leave, who have registered themselves and whom a name
//! stands for, as before.
//!
//! Never asked of the engine's inside: the admin listener, a name server and the answers say.

mod common;

use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener};

use common::dns::{Dns, Record};
use common::engine::{Config, Engine};
use common::origin::{OK, Origin, Peer};
use common::{eventually, on_both_drivers};
use serde_json::{Value, json};

/// The usual configuration with something new in its channel, so that each is another.
fn config(endpoints: &[SocketAddr], upstream: &str, round: u32) -> String {
    let channel = format!("priority = {round}\n");
    Config { endpoints, upstream, channel: &channel, ..Config::default() }.to_string()
}

#[track_caller]
fn apply(engine: &Engine, config: &str) {
    engine.rewrite(config);
    let (status, answer) = engine.reload();
    assert_eq!((status, &answer["unchanged"]), (200, &json!(false)), "{answer:#}");
}

/// The endpoints, by one of their keys.
fn endpoints(engine: &Engine, key: &str) -> Vec<Value> {
    let (_, upstream) = engine.ask_admin("GET", "/upstreams/app", None);
    upstream["endpoints"].as_array().expect("endpoints").iter().map(|row| row[key].clone()).collect()
}

#[test]
fn who_leaves_goes_when_it_has_finished_and_does_not_come_back() {
    on_both_drivers(|driver| {
        let (slow, is_asked, may_answer) = Origin::held();
        let stays = Origin::answering(OK);
        let written = [slow.address, stays.address];
        let engine = Engine::start(driver, config(&written, "", 1));
        let mut waiting = engine.connect();
        assert!(waiting.send("GET / HTTP/1.1\r\nHost: test\r\n\r\n"));
        is_asked.take();
        let path = format!("/upstreams/app/endpoints/{}", slow.address);
        assert_eq!(engine.ask_admin("DELETE", &path, None).0, 202);
        for round in 2..=4 {
            apply(&engine, &config(&written, "", round));
            assert_eq!(endpoints(&engine, "leaving"), [true, false], "{round}");
            assert_eq!(endpoints(&engine, "active"), [1, 0], "{round}");
        }
        may_answer.give();
        assert_eq!(waiting.response().status(), 200);
        let left = [json!(stays.address.to_string())];
        eventually("it is gone", || endpoints(&engine, "address") == left);
        // It is written still, as it was when it was removed.
        apply(&engine, &config(&written, "", 5));
        assert_eq!(endpoints(&engine, "address"), left);
        assert!(engine.faults().is_empty(), "{:?}", engine.faults());
    });
}

#[test]
fn who_has_registered_keeps_its_lease_and_no_more() {
    on_both_drivers(|driver| {
        let (a, b) = (Origin::answering(OK), Origin::answering(OK));
        let upstream = "register = { servers = 2 }\n";
        let engine = Engine::start(driver, config(&[], upstream, 1));
        let register = |origin: &Origin, ttl: u32| {
            let body = json!({ "address": origin.address.to_string(), "ttl": ttl });
            engine.ask_admin("POST", "/upstreams/app/register", Some(&body)).0
        };
        assert_eq!((register(&a, 300), register(&b, 300)), (201, 201));
        for round in 2..=4 {
            apply(&engine, &config(&[], upstream, round));
            engine.connect().get("/").assert_is(200, "ok");
            assert_eq!(endpoints(&engine, "source"), ["registered", "registered"]);
        }
        assert_eq!((register(&a, 300), register(&b, 1)), (200, 200), "renewed, not new");
        apply(&engine, &config(&[], upstream, 5));
        eventually("b has not renewed its lease", || {
            endpoints(&engine, "address") == [json!(a.address.to_string())]
        });
        let path = format!("/upstreams/app/register/{}", a.address);
        assert_eq!(engine.ask_admin("DELETE", &path, None).0, 202);
        eventually("a has left", || endpoints(&engine, "address").is_empty());
    });
}

#[test]
fn whom_a_name_stands_for_is_not_asked_for_anew() {
    on_both_drivers(|driver| {
        let loopback = |last| IpAddr::V4(Ipv4Addr::new(127, 0, 0, last));
        let first = TcpListener::bind((loopback(1), 0)).expect("a port");
        let port = first.local_addr().expect("bound").port();
        let script = |peer: &mut Peer| while peer.request().is_some_and(|_| peer.wire.send(OK)) {};
        let _origin = Origin::start_on(first, script);
        let dns = Dns::start();
        for name in ["a.example", "b.example"] {
            dns.set(name, 3600, [Record::Address(loopback(1))]);
        }
        let named = |name: &str, round: u32| {
            format!(
                "[listener.web]\nbind = \"127.0.0.1:0\"\n[channel.all]\nupstream = \"app\"\npriority = {round}\n\
                 [upstream.app]\nendpoints = [\"{name}:{port}\"]\n\
                 resolve = {{ nameservers = [\"{}\"], timeout = \"100ms\" }}\n",
                dns.address
            )
        };
        let engine = Engine::start(driver, named("a.example", 1));
        let name = |key: &str| engine.stats()["upstreams"][0]["names"][0][key].clone();
        assert_eq!(name("answers"), 1);
        let before = endpoints(&engine, "address");
        for round in 2..=4 {
            apply(&engine, &named("a.example", round));
            assert_eq!((name("state"), name("answers")), (json!("current"), json!(1)));
            assert_eq!(endpoints(&engine, "address"), before);
            engine.connect().get("/").assert_is(200, "ok");
        }
        // Another name is asked for, and until it is answered whoever is there stays.
        apply(&engine, &named("b.example", 5));
        engine.connect().get("/").assert_is(200, "ok");
        eventually("the other name is answered", || name("answers") == 1);
        assert_eq!(endpoints(&engine, "state"), ["up"]);
        // Nobody stands for it any more: nothing is left of the name.
        let other = Origin::answering(OK);
        apply(&engine, &config(&[other.address], "", 6));
        eventually("it is seen off", || endpoints(&engine, "address") == [json!(other.address.to_string())]);
        assert!(engine.faults().is_empty(), "{:?}", engine.faults());
    });
}
