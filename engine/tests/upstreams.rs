//! Which endpoint gets a request, over which connection, and how many times?
//!
//! Never more than one core, so that turns and connections can be counted.

mod common;

use std::net::SocketAddr;

use common::engine::{Config, Engine};
use common::on_both_drivers;
use common::origin::{OK, Origin};
use common::signal::Signal;

const POST: &str = "POST / HTTP/1.1\r\nHost: test\r\nContent-Length: 4\r\n\r\nbody";

fn named(name: &str) -> Origin {
    Origin::answering(format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{name}", name.len()))
}

fn addresses(origins: &[Origin]) -> Vec<SocketAddr> {
    origins.iter().map(|origin| origin.address).collect()
}

#[test]
fn round_robin_gives_each_endpoint_its_turn() {
    on_both_drivers(|driver| {
        let origins = ["a", "b", "c"].map(named);
        let endpoints = &addresses(&origins);
        let engine = Engine::start(driver, Config { endpoints, ..Config::default() });
        let mut kept = engine.connect();
        let answers: Vec<String> = (0..30)
            .map(|number| match number % 2 {
                0 => kept.get("/").text().to_owned(),
                _ => engine.connect().get("/").text().to_owned(),
            })
            .collect();
        for turn in answers.chunks(3) {
            assert_eq!(turn, &answers[..3], "the same order each time");
        }
        let requests = origins.each_ref().map(|origin| origin.seen().requests.len());
        assert_eq!(requests, [10, 10, 10]);
    });
}

#[test]
fn connections_are_used_again() {
    on_both_drivers(|driver| {
        let origin = Origin::answering(OK);
        let engine = Engine::before(driver, origin.address);
        for _ in 0..10 {
            let mut client = engine.connect();
            client.get("/").assert_is(200, "ok");
            client.ask(POST).assert_is(200, "ok");
        }
        let seen = origin.seen();
        assert_eq!((seen.connections, seen.requests.len()), (1, 20));
    });
}

#[test]
fn connections_are_not_used_again_when_the_endpoint_says_so() {
    let cases = [
        "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok",
        "HTTP/1.1 200 OK\r\nConnection: x, Close\r\nContent-Length: 2\r\n\r\nok",
        "HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok",
    ];
    on_both_drivers(|driver| {
        for answer in cases {
            let origin = Origin::answering(answer);
            let engine = Engine::before(driver, origin.address);
            let mut client = engine.connect();
            for _ in 0..3 {
                // What ends the endpoint's connection does not end the client's.
                let response = client.get("/");
                response.assert_is(200, "ok");
                assert_eq!(response.head.value("Connection"), None);
            }
            assert_eq!(origin.seen().connections, 3, "{answer}");
        }
    });
}

#[test]
fn no_more_connections_are_kept_than_allowed() {
    on_both_drivers(|driver| {
        for (kept, opened) in [(0, 4), (1, 3), (2, 2)] {
            let (origin, asked, answer) = Origin::held();
            let endpoints = &[origin.address];
            let upstream = &format!("idle_connections = {kept}");
            let engine = Engine::start(driver, Config { endpoints, upstream, ..Config::default() });
            let mut clients = [engine.connect(), engine.connect()];
            for _ in 0..2 {
                for client in &clients {
                    client.send("GET / HTTP/1.1\r\nHost: test\r\n\r\n");
                    asked.take();
                }
                for _ in &clients {
                    answer.give();
                }
                for client in &mut clients {
                    client.response().assert_is(200, "ok");
                }
                engine.assert_counter("/totals/exchanges_open", 0);
            }
            assert_eq!(origin.seen().connections, opened, "{kept} kept");
        }
    });
}

#[test]
fn a_refused_connection_is_tried_elsewhere() {
    on_both_drivers(|driver| {
        let origin = Origin::answering(OK);
        let endpoints = &[Origin::nowhere(), origin.address];
        let engine = Engine::start(driver, Config { endpoints, ..Config::default() });
        let mut client = engine.connect();
        for _ in 0..10 {
            client.get("/").assert_is(200, "ok");
            client.ask(POST).assert_is(200, "ok");
        }
        assert_eq!(origin.seen().requests.len(), 20);
        assert!(engine.faults().is_empty(), "{:?}", engine.faults());
    });
}

#[test]
fn when_all_endpoints_refuse_the_answer_is_502() {
    on_both_drivers(|driver| {
        for endpoints in [vec![Origin::nowhere()], vec![Origin::nowhere(), Origin::nowhere()]] {
            let engine = Engine::start(driver, Config { endpoints: &endpoints, ..Config::default() });
            let mut client = engine.connect();
            assert_eq!(client.get("/").status(), 502);
            assert_eq!(client.ask(POST).status(), 502);
            assert_eq!(client.ask("HEAD / HTTP/1.1\r\nHost: test\r\n\r\n").status(), 502);
            client.assert_open();
            engine.assert_only_fault("connect_failed", 3);
        }
    });
}

#[test]
fn a_kept_connection_that_the_endpoint_closes_is_not_used() {
    on_both_drivers(|driver| {
        for is_reset in [false, true] {
            let close = Signal::default();
            let may_close = close.clone();
            let origin = Origin::start(move |peer| {
                peer.request();
                peer.wire.send(OK);
                may_close.take();
                if is_reset {
                    peer.wire.reset_when_dropped();
                }
            });
            let engine = Engine::before(driver, origin.address);
            let mut client = engine.connect();
            for number in 0..10 {
                // The one that closes is the one that would be used next.
                match number % 2 {
                    0 => client.get("/").assert_is(200, "ok"),
                    _ => {
                        // A POST that meets the end of its connection on the way is lost, whoever sends it.
                        engine.assert_counter("/upstreams/0/endpoints/0/idle", 0);
                        client.ask(POST).assert_is(200, "ok");
                    }
                }
                close.give();
                origin.wait_until(|seen| seen.ended == number + 1);
            }
            let seen = origin.seen();
            assert_eq!((seen.connections, seen.requests.len()), (10, 10), "nothing is sent twice");
        }
    });
}

/// An origin that answers the first request of each connection, and ends it after reading the second.
fn dying_on_reuse(last_words: &'static str, is_reset: bool) -> Origin {
    Origin::start(move |peer| {
        if peer.request().is_some() {
            peer.wire.send(OK);
            if peer.request().is_some() {
                peer.wire.send(last_words);
                if is_reset {
                    peer.wire.reset_when_dropped();
                }
            }
        }
    })
}

#[test]
fn an_idempotent_request_is_sent_again_when_a_kept_connection_dies() {
    on_both_drivers(|driver| {
        for is_reset in [false, true] {
            for method in ["GET", "HEAD", "OPTIONS"] {
                let origin = dying_on_reuse("", is_reset);
                let engine = Engine::before(driver, origin.address);
                let mut client = engine.connect();
                client.get("/first").assert_is(200, "ok");
                let request = format!("{method} /second HTTP/1.1\r\nHost: test\r\n\r\n");
                assert_eq!(client.ask(&request).status(), 200, "{method}");
                assert_eq!(origin.targets(), ["/first", "/second", "/second"]);
                assert_eq!(origin.seen().connections, 2, "the second time over a new connection");
                assert!(engine.faults().is_empty(), "{:?}", engine.faults());
            }
        }
    });
}

#[test]
fn a_request_with_effects_is_never_sent_twice() {
    on_both_drivers(|driver| {
        for is_reset in [false, true] {
            for method in ["POST", "PATCH", "PURGE"] {
                let origin = dying_on_reuse("", is_reset);
                let engine = Engine::before(driver, origin.address);
                let mut client = engine.connect();
                client.get("/first").assert_is(200, "ok");
                let request =
                    format!("{method} /second HTTP/1.1\r\nHost: test\r\nContent-Length: 4\r\n\r\nbody");
                assert_eq!(client.ask(&request).status(), 502, "{method}");
                client.assert_open();
                assert_eq!(origin.targets(), ["/first", "/second"]);
                engine.assert_only_fault("upstream_gone", 1);
            }
        }
    });
}

#[test]
fn a_request_is_sent_again_only_once() {
    on_both_drivers(|driver| {
        // Only the very first connection ever answers.
        let origin = Origin::start(|peer| {
            if peer.request().is_some() && peer.number == 0 {
                peer.wire.send(OK);
                peer.request();
            }
        });
        let engine = Engine::before(driver, origin.address);
        let mut client = engine.connect();
        client.get("/first").assert_is(200, "ok");
        assert_eq!(client.get("/second").status(), 502);
        assert_eq!(origin.targets(), ["/first", "/second", "/second"]);
        // A new connection that dies has not been closed behind our back: the endpoint did it to this request.
        assert_eq!(client.get("/third").status(), 502);
        assert_eq!(origin.targets().len(), 4);
        engine.assert_only_fault("upstream_gone", 2);
    });
}

#[test]
fn a_request_is_not_sent_again_once_its_answer_has_begun() {
    on_both_drivers(|driver| {
        let origin = dying_on_reuse("HTTP/1.1 200 OK\r\nContent-", false);
        let engine = Engine::before(driver, origin.address);
        let mut client = engine.connect();
        client.get("/first").assert_is(200, "ok");
        assert_eq!(client.get("/second").status(), 502);
        assert_eq!(origin.targets(), ["/first", "/second"]);
    });
}

#[test]
fn an_endpoint_may_be_a_listener_of_ours() {
    let config = "[listener.web]\nbind = \"127.0.0.1:0\"\n[listener.inner]\nbind = \"127.0.0.1:0\"\n\
        [channel.inner]\npriority = 1\nmatch = { listener = \"inner\" }\nrespond = { body = \"inside\" }\n\
        [channel.outer]\nupstream = \"self\"\n[upstream.self]\nendpoints = [\"listener:inner\"]\n";
    on_both_drivers(|driver| {
        let engine = Engine::start_on_cores(driver, 2, config);
        for _ in 0..20 {
            let mut client = engine.connect();
            let answer = client.get("/");
            answer.assert_is(200, "inside");
            assert_eq!(answer.head.value("Via"), Some("1.1 corelane"));
        }
    });
}
