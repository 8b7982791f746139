//! Is every bound kept to the byte, told with its status, and counted?
//!
//! Each bound is configured small; what lies at it passes, and what lies beyond it does not.

mod common;

use std::net::{SocketAddr, TcpStream};
use std::process::Command;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use common::connection::Connection;
use common::engine::{Config, Driver, Engine};
use common::origin::{OK, Origin};
use common::{eventually, on_both_drivers};
use socket2::{Domain, Socket, Type};

/// An engine before `origin` whose listener takes these further keys.
fn engine_with(driver: Driver, origin: &Origin, listener: &str) -> Engine {
    Engine::start(driver, Config { endpoints: &[origin.address], listener, ..Config::default() })
}

fn post(framing: &str, body: &str) -> String {
    format!("POST / HTTP/1.1\r\nHost: test\r\n{framing}\r\n\r\n{body}")
}

fn chunked(chunks: &str) -> String {
    post("Transfer-Encoding: chunked", chunks)
}

#[test]
fn a_head_is_bounded_in_bytes_fields_and_target() {
    on_both_drivers(|driver| {
        let origin = Origin::answering(OK);
        let limits = r#"limits = { head_bytes = "512B", fields = 3, target_bytes = "64B" }"#;
        let engine = engine_with(driver, &origin, limits);
        let target = |bytes: usize| format!("GET /{} HTTP/1.1\r\nHost: a\r\n\r\n", "t".repeat(bytes - 1));
        let fields =
            |count: usize| format!("GET / HTTP/1.1\r\nHost: a\r\n{}\r\n", "A: b\r\n".repeat(count - 1));
        let head = |bytes: usize| {
            let (start, end) = ("GET / HTTP/1.1\r\nHost: a\r\nA: ", "\r\n\r\n");
            format!("{start}{}{end}", "b".repeat(bytes - start.len() - end.len()))
        };
        for (allowed, beyond, status) in
            [(target(64), target(65), 414), (fields(3), fields(4), 431), (head(512), head(513), 431)]
        {
            let mut client = engine.connect();
            client.ask(&allowed).assert_is(200, "ok");
            assert_eq!(client.ask(&beyond).status(), status);
            client.assert_closed();
        }
        assert_eq!(origin.seen().requests.len(), 3);
        for rule in ["target_too_long", "fields_too_many", "head_too_large"] {
            engine.assert_counter(&format!("/requests_rejected/{rule}"), 1);
        }
    });
}

#[test]
fn a_body_that_says_it_is_too_long_never_goes_upstream() {
    on_both_drivers(|driver| {
        let origin = Origin::answering(OK);
        let engine = engine_with(driver, &origin, r#"limits = { body_bytes = "5B" }"#);
        for framing in [
            "Content-Length: 6",
            "Content-Length: 9223372036854775807",
            "Expect: 100-continue\r\nContent-Length: 6",
        ] {
            let mut client = engine.connect();
            let answer = client.ask(&post(framing, ""));
            assert_eq!(answer.status(), 413, "{framing}");
            assert_eq!(answer.head.value("Connection"), Some("close"));
            client.finish();
            client.assert_closed();
        }
        assert_eq!(origin.seen().connections, 0);
        engine.connect().ask(&post("Content-Length: 5", "12345")).assert_is(200, "ok");
        engine.assert_only_fault("request_body_too_large", 3);
        engine.assert_counter("/totals/responses/4xx", 3);
    });
}

#[test]
fn a_chunked_body_is_cut_off_at_the_chunk_that_makes_it_too_long() {
    on_both_drivers(|driver| {
        let origin = Origin::answering(OK);
        let engine = engine_with(driver, &origin, r#"limits = { body_bytes = "5B" }"#);
        // What is there with the head is judged before a connection is made.
        let mut client = engine.connect();
        assert_eq!(client.ask(&chunked("3\r\nabc\r\n3\r\n")).status(), 413);
        client.finish();
        client.assert_closed();
        assert_eq!(origin.seen().connections, 0);

        let mut client = engine.connect();
        client.send(chunked("3\r\nabc\r\n"));
        origin.wait_until(|seen| seen.connections == 1);
        client.send("3\r\ndef\r\n0\r\n\r\n");
        assert_eq!(client.response().status(), 413);
        client.finish();
        client.assert_closed();
        origin.wait_until(|seen| seen.ended == 1);
        assert!(!origin.only_request().end.is_complete);
        engine.assert_only_fault("request_body_too_large", 2);

        engine.connect().ask(&chunked("3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n")).assert_is(200, "ok");
    });
}

#[test]
fn a_channel_may_have_its_own_bound_of_bodies() {
    on_both_drivers(|driver| {
        let origin = Origin::answering(OK);
        let endpoints = &[origin.address];
        let listener = r#"limits = { body_bytes = "5B" }"#;
        let channel = "match = { path_prefix = '/large' }\nlimits = { body_bytes = '10B' }\n\
                       [channel.small]\nupstream = 'app'";
        let engine = Engine::start(driver, Config { endpoints, listener, channel, ..Config::default() });
        let status = |target: &str, bytes: usize| {
            let body = "x".repeat(bytes);
            let head = format!("POST {target} HTTP/1.1\r\nHost: a\r\nContent-Length: {bytes}\r\n\r\n");
            engine.connect().ask(&format!("{head}{body}")).status()
        };
        assert_eq!([status("/large", 10), status("/large", 11)], [200, 413]);
        assert_eq!([status("/small", 5), status("/small", 6)], [200, 413]);
    });
}

#[test]
fn trailers_are_bounded_in_bytes_and_lines() {
    on_both_drivers(|driver| {
        let origin = Origin::answering(OK);
        let engine = engine_with(driver, &origin, r#"limits = { trailers = 2, trailer_bytes = "64B" }"#);
        let trailers = |lines: &str| chunked(&format!("1\r\na\r\n0\r\n{lines}\r\n"));
        let line = |bytes: usize| format!("A: {}\r\n", "b".repeat(bytes - "A: \r\n".len()));
        engine.connect().ask(&trailers("A: b\r\nC: d\r\n")).assert_is(200, "ok");
        engine.connect().ask(&trailers(&line(62))).assert_is(200, "ok");
        for beyond in ["A: b\r\nC: d\r\nE: f\r\n", &line(63)] {
            let mut client = engine.connect();
            assert_eq!(client.ask(&trailers(beyond)).status(), 400);
            client.finish();
            client.assert_closed();
        }
        for rule in ["trailers_too_many", "trailers_too_large"] {
            engine.assert_counter(&format!("/requests_rejected/{rule}"), 1);
        }
        let seen = origin.seen();
        assert_eq!(seen.requests.iter().filter(|(_, request)| request.end.is_complete).count(), 2);
    });
}

#[test]
fn an_answer_is_bounded_too() {
    let head = |fields: &str| format!("HTTP/1.1 200 OK\r\n{fields}Content-Length: 2\r\n\r\nok");
    let trailers = |lines: &str| {
        format!("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n{lines}\r\n")
    };
    let cases = [
        (head("A: b\r\n"), head("A: b\r\nC: d\r\n"), "fields_too_many"),
        (trailers("A: b\r\n"), trailers("A: b\r\nC: d\r\n"), "trailers_too_many"),
    ];
    on_both_drivers(|driver| {
        for (allowed, beyond, rule) in &cases {
            for (answer, status, times) in [(allowed, 200, 0), (beyond, 502, 1)] {
                let origin = Origin::answering(answer);
                let (endpoints, upstream) = (&[origin.address], "limits = { fields = 2, trailers = 1 }");
                let engine = Engine::start(driver, Config { endpoints, upstream, ..Config::default() });
                assert_eq!(engine.connect().get("/").status(), status, "{answer}");
                engine.assert_counter("/totals/faults", times);
                if times > 0 {
                    engine.assert_counter(&format!("/responses_rejected/{rule}"), times);
                }
            }
        }
    });
}

#[test]
fn interim_answers_without_end_are_502() {
    on_both_drivers(|driver| {
        let origin = Origin::start(|peer| {
            peer.request();
            while peer.wire.send("HTTP/1.1 103 Early Hints\r\n\r\n".repeat(10)) {}
        });
        let engine = Engine::before(driver, origin.address);
        let mut client = engine.connect();
        client.send("GET / HTTP/1.1\r\nHost: test\r\n\r\n");
        for _ in 0..100 {
            assert_eq!(client.response().status(), 103);
        }
        assert_eq!(client.response().status(), 502);
        client.assert_open();
        engine.assert_only_fault("interim_answers_too_many", 1);
    });
}

#[test]
fn the_last_of_too_many_pipelined_requests_closes_the_connection() {
    on_both_drivers(|driver| {
        let origin = Origin::naming_targets();
        let engine = engine_with(driver, &origin, "limits = { pipelined = 2 }");
        let requests: String = (0..9).map(|n| format!("GET /{n} HTTP/1.1\r\nHost: a\r\n\r\n")).collect();
        let mut client = engine.connect();
        client.send(&requests);
        for n in 0..3 {
            let answer = client.response();
            answer.assert_is(200, &format!("/{n}"));
            assert_eq!(answer.head.value("Connection"), (n == 2).then_some("close"));
        }
        client.finish();
        client.assert_closed();
        assert_eq!(origin.targets(), ["/0", "/1", "/2"]);

        // Who waits for each answer is never one of too many.
        let mut client = engine.connect();
        for n in 0..9 {
            client.get(&format!("/{n}")).assert_is(200, &format!("/{n}"));
        }
        client.assert_open();
    });
}

#[test]
fn the_last_request_of_a_connection_closes_it() {
    on_both_drivers(|driver| {
        let origin = Origin::answering(OK);
        let channel =
            "[channel.own]\npriority = 1\nmatch = { path_exact = '/own' }\nrespond = { body = 'ok' }";
        let listener = "limits = { requests = 3 }";
        let endpoints = &[origin.address];
        let engine = Engine::start(driver, Config { endpoints, listener, channel, ..Config::default() });
        for target in ["/", "/own"] {
            let mut client = engine.connect();
            for n in 1..=3 {
                let answer = client.get(target);
                answer.assert_is(200, "ok");
                assert_eq!(answer.head.value("Connection"), (n == 3).then_some("close"), "{target} {n}");
                // Long enough for the connection to be parked, which must not make it forget.
                thread::sleep(Duration::from_millis(150));
            }
            client.assert_closed();
        }
        assert!(engine.faults().is_empty(), "{:?}", engine.faults());
    });
}

/// A client at an address of its own on this host.
fn connect_from(address: [u8; 4], engine: &Engine) -> Connection {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
    socket.bind(&SocketAddr::from((address, 0)).into()).expect("all of 127.0.0.0/8 is ours");
    socket.connect(&engine.web().into()).expect("the listener accepts");
    Connection::over(Arc::new(TcpStream::from(socket)))
}

/// Keeps asking until the engine has noticed that a connection ended.
fn served_again(connect: impl Fn() -> Connection) -> Connection {
    let mut served = None;
    eventually("a connection is let in again", || {
        let mut client = connect();
        client.send("GET / HTTP/1.1\r\nHost: test\r\n\r\n");
        served = client.head().map(|_| client);
        served.is_some()
    });
    served.expect("it just was")
}

#[test]
fn a_listener_has_so_many_connections_and_no_more() {
    on_both_drivers(|driver| {
        let config = "[listener.web]\nbind = \"127.0.0.1:0\"\nlimits = { connections = 4 }\n\
                      [channel.all]\nrespond = {}";
        let engine = Engine::start_on_cores(driver, 2, config);
        let mut kept: Vec<_> = (0..4).map(|_| engine.connect()).collect();
        for client in &mut kept {
            assert_eq!(client.get("/").status(), 200);
        }
        for _ in 0..3 {
            engine.connect().assert_closed();
        }
        engine.assert_counter("/listeners/0/over_connections", 3);
        engine.assert_counter("/listeners/0/connections_open", 4);
        for client in &mut kept {
            assert_eq!(client.get("/").status(), 200);
        }
        drop(kept.pop());
        kept.push(served_again(|| engine.connect()));
        engine.assert_counter("/listeners/0/connections_open", 4);
        engine.assert_counter("/listeners/0/over_connections_per_address", 0);
        eventually("the operator is told", || engine.log().contains("limits.connections)"));
        assert!(engine.log().lines().filter(|line| line.contains("closed at once")).count() <= 2);
    });
}

#[test]
fn each_address_has_so_many_connections_and_no_more() {
    on_both_drivers(|driver| {
        let config = "[listener.web]\nbind = \"127.0.0.1:0\"\nlimits = { connections_per_address = 2 }\n\
                      [channel.all]\nrespond = {}";
        let engine = Engine::start_on_cores(driver, 2, config);
        let connect = |last| connect_from([127, 0, 0, last], &engine);
        let mut kept: Vec<_> = [2, 2, 3].map(connect).into();
        for client in &mut kept {
            assert_eq!(client.get("/").status(), 200);
        }
        connect(2).assert_closed();
        assert_eq!(connect(3).get("/").status(), 200);
        assert_eq!(connect(4).get("/").status(), 200);
        engine.assert_counter("/listeners/0/over_connections_per_address", 1);
        drop(kept.remove(0));
        kept.push(served_again(|| connect(2)));
    });
}

#[test]
fn without_a_descriptor_for_an_endpoint_a_client_is_told_to_come_back() {
    const DESCRIPTORS: usize = 64;
    on_both_drivers(|driver| {
        let origin = Origin::answering(OK);
        let config =
            Config { endpoints: &[origin.address], listener: "retry_after = '7s'", ..Config::default() };
        let mut command = Command::new("prlimit");
        command.args([&format!("--nofile={DESCRIPTORS}"), env!("CARGO_BIN_EXE_engine")]);
        let arguments = ["--cores", "1", "--driver", &driver.to_string()].map(str::to_owned);
        let engine = Engine::spawn(&mut command, &arguments, config);
        engine.wait_until_ready();
        let mut clients: Vec<Connection> = (0..2 * DESCRIPTORS).map(|_| engine.connect()).collect();
        // One inherited from beyond the limit may come on top.
        eventually("every descriptor is taken", || engine.open_files() >= DESCRIPTORS);
        for _ in 0..2 {
            let answer = clients[0].get("/");
            assert_eq!((answer.status(), answer.head.value("Retry-After")), (503, Some("7")));
        }
        clients.truncate(1);
        eventually("there are descriptors again", || clients[0].get("/").status() == 200);
        let told = engine.faults().get("resources_exhausted").copied();
        assert!(told >= Some(2), "{:?}", engine.faults());
        engine.assert_counter("/upstreams/0/endpoints/0/connect_failures", 0);
        eventually("the operator is told", || engine.log().contains("limit of open files"));
    });
}
