//! Do endpoints that are names follow what a name server says, and outlive it?
//!
//! Nobody's name server but the test's own is asked.

mod common;

use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;

use common::connection::Connection;
use common::dns::{Dns, Mood, Record};
use common::engine::{Driver, Engine};
use common::origin::{OK, Origin};
use common::private::{Authority, accept};
use common::{eventually, on_both_drivers};
use serde_json::{Value, json};

/// Every address below 127.0.0.0/8 is this host.
fn loopback(last: u8) -> IpAddr {
    Ipv4Addr::new(127, 0, 0, last).into()
}

/// An origin at an address of its own that says where it is.
fn origin_at(ip: IpAddr, port: u16) -> Origin {
    let listener = TcpListener::bind((ip, port)).expect("an address of this host");
    let answer = ip.to_string();
    Origin::start_on(listener, move |peer| {
        let reply = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{answer}", answer.len());
        while peer.request().is_some_and(|_| peer.wire.send(&reply)) {}
    })
}

/// Origins at 127.0.0.1, .2 … that share a port, as the addresses of one name do.
fn origins<const N: usize>() -> ([Origin; N], u16) {
    // Which port is free at the first need not be at the others.
    for _ in 0..100 {
        let first = TcpListener::bind((loopback(1), 0)).expect("a port");
        let port = first.local_addr().expect("bound").port();
        drop(first);
        let all = (1..=N as u8).map(|last| TcpListener::bind((loopback(last), port)));
        if all.collect::<Result<Vec<_>, _>>().is_ok() {
            return (std::array::from_fn(|index| origin_at(loopback(index as u8 + 1), port)), port);
        }
    }
    panic!("no port is free at {N} addresses");
}

fn config_of(dns: &Dns, endpoint: &str) -> String {
    format!(
        "[listener.web]\nbind = \"127.0.0.1:0\"\n[channel.all]\nupstream = \"app\"\n[upstream.app]\n\
         endpoints = [{endpoint:?}]\n\
         resolve = {{ nameservers = [\"{}\"], timeout = \"100ms\", ttl_min = \"100ms\" }}\n",
        dns.address
    )
}

fn start(driver: Driver, dns: &Dns, endpoint: &str) -> Engine {
    Engine::start(driver, config_of(dns, endpoint))
}

/// What `/stats` says of the only name.
#[track_caller]
fn name(engine: &Engine) -> Value {
    engine.stats()["upstreams"][0]["names"][0].clone()
}

/// Who answers `count` requests in a row, sorted.
fn answering(engine: &Engine, count: usize) -> Vec<String> {
    let mut client = engine.connect();
    let mut answers: Vec<_> = (0..count).map(|_| client.get("/").text().to_owned()).collect();
    answers.sort();
    answers
}

#[test]
fn every_address_of_a_name_is_an_endpoint_and_changes_are_followed() {
    on_both_drivers(|driver| {
        let (_origins, port) = origins::<3>();
        let dns = Dns::start();
        dns.set_host("app.example", &[loopback(1), loopback(2)]);
        let engine = start(driver, &dns, &format!("app.example:{port}"));
        assert_eq!(answering(&engine, 4), ["127.0.0.1", "127.0.0.1", "127.0.0.2", "127.0.0.2"]);
        dns.set_host("app.example", &[loopback(2), loopback(3)]);
        eventually("the new address has taken the place of the old", || {
            answering(&engine, 4) == ["127.0.0.2", "127.0.0.2", "127.0.0.3", "127.0.0.3"]
        });
        assert_eq!(
            name(&engine)["addresses"],
            json!([format!("127.0.0.2:{port}"), format!("127.0.0.3:{port}")])
        );
        assert!(engine.faults().is_empty(), "{:?}", engine.faults());
        for news in [format!("stands for 127.0.0.3:{port}"), format!("stands no longer for 127.0.0.1:{port}")]
        {
            eventually("it is told", || engine.log().contains(&news));
        }
    });
}

#[test]
fn a_dead_name_server_or_an_empty_answer_leaves_the_last_one_in_force() {
    on_both_drivers(|driver| {
        let (_origins, port) = origins::<2>();
        let dns = Dns::start();
        dns.set_host("app.example", &[loopback(1), loopback(2)]);
        let engine = start(driver, &dns, &format!("app.example:{port}"));
        let both = ["127.0.0.1", "127.0.0.2"];
        let check = |state: &str, cause: &str| {
            eventually(state, || name(&engine)["state"] == state);
            dns.wait_until_asked(4);
            assert_eq!(answering(&engine, 2), both, "{state}");
            let lines = || engine.log().lines().filter(|line| line.contains(cause)).count();
            eventually("it is told", || lines() > 0);
            assert_eq!(lines(), 1, "one line for one change: {}", engine.log());
        };
        check("current", "is 127.0.0.1:");
        dns.be(Mood::Silent);
        check("failed", "no name server answered in time; its 2 endpoints stay");
        dns.be(Mood::Answering);
        dns.remove("app.example");
        check("no_such_name", "there is no such name (NXDOMAIN); its 2 endpoints stay");
        dns.set("app.example", 0, []);
        check("no_records", "the name has no such records; its 2 endpoints stay");
        dns.set_host("app.example", &[loopback(2)]);
        eventually("well again", || answering(&engine, 2) == ["127.0.0.2", "127.0.0.2"]);
        let view = name(&engine);
        assert!(view["failures"].as_u64() >= Some(3) && view["answers"].as_u64() >= Some(2), "{view:#}");
        assert!(engine.faults().is_empty(), "{:?}", engine.faults());
    });
}

#[test]
fn a_process_starts_without_an_answer_and_serves_as_soon_as_there_is_one() {
    on_both_drivers(|driver| {
        let (_origins, port) = origins::<1>();
        let dns = Dns::start();
        dns.be(Mood::Failing);
        let engine = start(driver, &dns, &format!("app.example:{port}"));
        assert_eq!(engine.connect().get("/").status(), 503);
        eventually("it is told", || engine.log().contains("it stands for no endpoint"));
        dns.set_host("app.example", &[loopback(1)]);
        dns.be(Mood::Answering);
        eventually("it serves", || engine.connect().get("/").status() == 200);
    });
}

#[test]
fn a_service_says_port_priority_and_weight() {
    on_both_drivers(|driver| {
        let (origins, port) = origins::<3>();
        let dns = Dns::start();
        for last in 1..=3 {
            dns.set_host(&format!("h{last}.example"), &[loopback(last)]);
        }
        let server = |priority, weight, target| Record::Server { priority, weight, port, target };
        let records = [server(10, 3, "h1.example"), server(10, 1, "h2.example"), server(20, 1, "h3.example")];
        dns.set("_http._tcp.app.example", 0, records);
        let engine = start(driver, &dns, "srv:_http._tcp.app.example");
        let endpoints = engine.stats()["upstreams"][0]["endpoints"].clone();
        let weights: Vec<_> =
            endpoints.as_array().expect("endpoints").iter().map(|row| row["weight"].clone()).collect();
        assert_eq!(weights, [json!(3.0), json!(1.0), json!(1.0)]);
        let answers = answering(&engine, 8);
        assert!(!answers.contains(&"127.0.0.3".to_owned()), "the later priority waits: {answers:?}");
        dns.set("_http._tcp.app.example", 0, [server(20, 1, "h3.example")]);
        eventually("only the third is left", || answering(&engine, 2) == ["127.0.0.3", "127.0.0.3"]);
        drop(origins);
    });
}

#[test]
fn an_address_that_is_written_stays_when_a_name_no_longer_stands_for_it() {
    on_both_drivers(|driver| {
        let (_origins, port) = origins::<2>();
        let dns = Dns::start();
        dns.set_host("app.example", &[loopback(1), loopback(2)]);
        let written = SocketAddr::new(loopback(1), port);
        let endpoints = format!("app.example:{port}\", \"{written}");
        let config = config_of(&dns, "ENDPOINTS").replace("ENDPOINTS", &endpoints);
        let engine = Engine::start(driver, config);
        assert_eq!(answering(&engine, 2), ["127.0.0.1", "127.0.0.2"]);
        dns.set_host("app.example", &[loopback(2)]);
        dns.wait_until_asked(8);
        assert_eq!(answering(&engine, 2), ["127.0.0.1", "127.0.0.2"]);
    });
}

#[test]
fn changes_of_a_name_under_load_cost_no_request() {
    on_both_drivers(|driver| {
        let (origins, port) = origins::<4>();
        let dns = Dns::start();
        dns.set_host("app.example", &[loopback(1)]);
        let engine = start(driver, &dns, &format!("app.example:{port}"));
        let (is_over, answered) = (AtomicBool::new(false), AtomicUsize::new(0));
        thread::scope(|scope| {
            for _ in 0..3 {
                scope.spawn(|| {
                    let mut client = engine.connect();
                    while !is_over.load(Ordering::Relaxed) {
                        let response =
                            client.ask("POST / HTTP/1.1\r\nHost: test\r\nContent-Length: 4\r\n\r\nbody");
                        assert_eq!(response.status(), 200, "{response:?}");
                        answered.fetch_add(1, Ordering::Relaxed);
                    }
                });
            }
            for last in 2..=4 {
                let new = &origins[usize::from(last) - 1];
                dns.set_host("app.example", &[loopback(last)]);
                new.wait_until(|seen| seen.requests.len() > 20);
            }
            is_over.store(true, Ordering::Relaxed);
        });
        let seen: usize = origins.iter().map(|origin| origin.seen().requests.len()).sum();
        assert_eq!(seen, answered.into_inner(), "each was delivered once");
        assert!(engine.faults().is_empty(), "{:?}", engine.faults());
    });
}

#[test]
fn over_tls_an_endpoint_must_prove_to_be_the_host_that_was_named() {
    on_both_drivers(|driver| {
        let authority = Authority::new();
        let check = |certificate: &str, status: u16| {
            let config = Authority::origins(&authority.server(&[certificate]), None);
            let origin = Origin::start(move |peer| {
                if peer.agree(accept(&config)) {
                    while peer.request().is_some_and(|_| peer.wire.send(OK)) {}
                }
            });
            let dns = Dns::start();
            dns.set_host("app.example", &[origin.address.ip()]);
            let config = config_of(&dns, &format!("app.example:{}", origin.address.port()));
            let engine = Engine::start(driver, format!("{config}tls = {{ ca = {:?} }}\n", authority.file()));
            assert_eq!(engine.connect().get("/").status(), status, "{certificate}");
        };
        check("app.example", 200);
        check("other.example", 502);
    });
}

#[test]
fn who_was_left_out_for_want_of_room_comes_in_when_there_is_some() {
    let (origins, port) = origins::<2>();
    let added = Origin::answering("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nadded");
    let dns = Dns::start();
    dns.set_host("app.example", &[loopback(1)]);
    let config = config_of(&dns, &format!("app.example:{port}"));
    let engine = Engine::start(Driver::Epoll, format!("{config}endpoints_max = 2\n"));
    let change = |method: &str, path: &str, body: &str| {
        let request = format!(
            "{method} /upstreams/app/endpoints{path} HTTP/1.1\r\nHost: admin\r\nContent-Type: application/json\r\n\
             Content-Length: {}\r\n\r\n{body}",
            body.len()
        );
        Connection::open(engine.admin()).ask(&request).status()
    };
    assert_eq!(change("POST", "", &json!({ "address": added.address.to_string() }).to_string()), 201);
    dns.set_host("app.example", &[loopback(1), loopback(2)]);
    let left_out = || engine.log().lines().filter(|line| line.contains("is left out: there are 2")).count();
    eventually("it says who is left out", || left_out() == 1);
    dns.wait_until_asked(6);
    assert_eq!(left_out(), 1, "said once: {}", engine.log());
    let of_name = format!("/{}", origins[0].address);
    assert_eq!(change("DELETE", &of_name, ""), 409, "the name would bring it back");
    assert_eq!(change("DELETE", &format!("/{}?now=true", added.address), ""), 200);
    eventually("it comes in", || answering(&engine, 2) == ["127.0.0.1", "127.0.0.2"]);
}

#[test]
fn a_start_does_not_wait_for_ever_for_an_answer() {
    let dns = Dns::start();
    dns.be(Mood::Silent);
    let config = config_of(&dns, "app.example:80").replace("timeout = \"100ms\"", "timeout = \"1m\"");
    let engine = Engine::start(Driver::Epoll, config);
    assert_eq!(engine.connect().get("/").status(), 503);
    assert_eq!(name(&engine)["state"], "pending");
    eventually("it is told", || engine.log().contains("not every name among the endpoints"));
}
