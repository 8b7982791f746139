//! Does every wait on a peer end, with the status and the counter of that wait?
//!
//! Asserts that a deadline does not come early; how late it may come is the machine's business.

mod common;

use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use common::engine::{Config, Engine};
use common::message::Framing;
use common::on_both_drivers;
use common::origin::{OK, Origin};
use common::signal::Signal;
use socket2::{Domain, Socket, Type};

/// The deadline under test.
const SHORT: Duration = Duration::from_millis(250);
/// A wait far below [`SHORT`].
const PAUSE: Duration = Duration::from_millis(50);
/// Deadlines are rounded to ticks of a millisecond; clocks of two processes are read at different times.
const EARLY: Duration = Duration::from_millis(5);

#[track_caller]
fn assert_not_early(since: Instant) {
    let waited = since.elapsed();
    assert!(waited + EARLY >= SHORT, "after {waited:?} instead of {SHORT:?}");
}

/// An origin that sends `beginning` after each request, and then nothing until the connection ends.
fn stalling_after(beginning: &'static str) -> Origin {
    Origin::start(move |peer| {
        if peer.request().is_some() {
            peer.wire.send(beginning);
            peer.wire.rest();
        }
    })
}

#[test]
fn a_head_that_stalls_or_trickles_is_answered_408() {
    let config =
        "[listener.web]\nbind = \"127.0.0.1:0\"\ntimeouts = { head = \"250ms\" }\n[channel.a]\nrespond = {}";
    on_both_drivers(|driver| {
        let engine = Engine::start(driver, config);
        let mut client = engine.connect();
        let since = Instant::now();
        client.send("GET / HTTP/1.1\r\nHost: te");
        assert_eq!(client.response().status(), 408);
        assert_not_early(since);
        client.assert_closed();

        // More bytes do not buy more time.
        let mut trickle = engine.connect();
        let since = Instant::now();
        let line = format!("GET / HTTP/1.1\r\nHost: test\r\nX: {}", "y".repeat(100));
        for byte in line.bytes() {
            if !trickle.send([byte]) || since.elapsed() > 2 * SHORT {
                break;
            }
            // The pace of a client that wants to hold the connection.
            thread::sleep(PAUSE / 5);
        }
        assert_eq!(trickle.response().status(), 408);
        assert_not_early(since);

        // After an exchange the deadline begins with the next request.
        let mut second = engine.connect();
        assert_eq!(second.get("/").status(), 200);
        second.send("G");
        assert_eq!(second.response().status(), 408);
        engine.assert_only_fault("head_timeout", 3);
    });
}

#[test]
fn an_empty_line_does_not_begin_a_request() {
    let config = "[listener.web]\nbind = \"127.0.0.1:0\"\ntimeouts = { head = \"50ms\", idle = \"250ms\" }\n\
        [channel.a]\nrespond = {}";
    on_both_drivers(|driver| {
        let engine = Engine::start(driver, config);
        let mut client = engine.connect();
        // Some old clients send a line end after a body, and then nothing: RFC 9112 §2.2.
        let request = "POST / HTTP/1.1\r\nHost: test\r\nContent-Length: 1\r\n\r\nx\r\n";
        let since = Instant::now();
        assert_eq!(client.ask(request).status(), 200);
        client.assert_closed();
        assert_not_early(since);
    });
}

#[test]
fn empty_lines_do_not_keep_an_idle_connection() {
    let config =
        "[listener.web]\nbind = \"127.0.0.1:0\"\ntimeouts = { idle = \"400ms\" }\n[channel.a]\nrespond = {}";
    on_both_drivers(|driver| {
        let engine = Engine::start(driver, config);
        let mut client = engine.connect();
        assert_eq!(client.get("/").status(), 200);
        let to = client.sender();
        let sending = thread::spawn(move || {
            while to.send("\r\n") {
                // Often enough that no idle period passes without one.
                thread::sleep(Duration::from_millis(50));
            }
        });
        drop(client.rest());
        sending.join().expect("a sender");
        engine.assert_counter("/listeners/0/idle_timeouts", 1);
    });
}

#[test]
fn idle_connections_are_closed_silently() {
    let config =
        "[listener.web]\nbind = \"127.0.0.1:0\"\ntimeouts = { idle = \"250ms\" }\n[channel.a]\nrespond = {}";
    on_both_drivers(|driver| {
        let engine = Engine::start(driver, config);
        let since = Instant::now();
        let mut fresh = engine.connect();
        let mut used = engine.connect();
        assert_eq!(used.get("/").status(), 200);
        fresh.assert_closed();
        used.assert_closed();
        assert_not_early(since);
        engine.assert_counter("/listeners/0/idle_timeouts", 2);
        assert!(engine.faults().is_empty(), "{:?}", engine.faults());
    });
}

#[test]
fn a_request_body_that_stalls_is_answered_408() {
    on_both_drivers(|driver| {
        let origin = Origin::answering(OK);
        let endpoints = &[origin.address];
        let listener = r#"timeouts = { body = "250ms" }"#;
        let engine = Engine::start(driver, Config { endpoints, listener, ..Config::default() });
        for body in ["Content-Length: 5\r\n\r\nbody", "Transfer-Encoding: chunked\r\n\r\n5\r\nbody"] {
            let mut client = engine.connect();
            let since = Instant::now();
            client.send(format!("POST / HTTP/1.1\r\nHost: test\r\n{body}"));
            assert_eq!(client.response().status(), 408);
            assert_not_early(since);
            client.assert_closed();
        }
        engine.assert_only_fault("request_body_timeout", 2);
        let seen = origin.seen();
        assert!(seen.requests.iter().all(|(_, request)| !request.end.is_complete), "{seen:?}");
    });
}

#[test]
fn a_request_body_that_trickles_is_answered_408() {
    on_both_drivers(|driver| {
        let origin = Origin::answering(OK);
        let endpoints = &[origin.address];
        let listener = r#"timeouts = { body = "250ms" }
            limits = { body_rate = "1KiB" }"#;
        let engine = Engine::start(driver, Config { endpoints, listener, ..Config::default() });
        let mut client = engine.connect();
        let since = Instant::now();
        client.send("POST / HTTP/1.1\r\nHost: test\r\nContent-Length: 1000\r\n\r\n");
        while client.send("x") && since.elapsed() < 4 * SHORT {
            // Each byte in time, all of them far too slow.
            thread::sleep(PAUSE / 2);
        }
        assert_eq!(client.response().status(), 408);
        assert_not_early(since);
        engine.assert_only_fault("request_body_slow", 1);
        origin.wait_until(|seen| seen.ended == 1);
        assert!(!origin.only_request().end.is_complete);
    });
}

#[test]
fn a_request_body_may_take_its_time_where_that_is_allowed() {
    on_both_drivers(|driver| {
        for rate in ["0B", "10B"] {
            let origin = Origin::answering(OK);
            let endpoints = &[origin.address];
            let listener =
                &format!("timeouts = {{ body = \"250ms\" }}\nlimits = {{ body_rate = \"{rate}\" }}");
            let engine = Engine::start(driver, Config { endpoints, listener, ..Config::default() });
            let mut client = engine.connect();
            client.send("POST / HTTP/1.1\r\nHost: test\r\nContent-Length: 100\r\n\r\n");
            for _ in 0..10 {
                // Longer than the deadline in all, and ten times as fast as it has to be.
                thread::sleep(PAUSE);
                client.send("0123456789");
            }
            client.response().assert_is(200, "ok");
        }
    });
}

#[test]
fn the_rest_of_a_body_nobody_wants_is_not_waited_for_again_and_again() {
    let config =
        "[listener.web]\nbind = \"127.0.0.1:0\"\ntimeouts = { body = \"250ms\" }\n[channel.a]\nrespond = {}";
    on_both_drivers(|driver| {
        let engine = Engine::start(driver, config);
        let mut client = engine.connect();
        client.send("POST / HTTP/1.1\r\nHost: test\r\nContent-Length: 1000\r\n\r\n");
        let since = Instant::now();
        assert_eq!(client.response().status(), 200);
        while client.send("x") {
            assert!(since.elapsed() < 8 * SHORT, "still read");
            // The pace of a client that wants to hold the connection.
            thread::sleep(PAUSE / 2);
        }
        assert_not_early(since);
    });
}

#[test]
fn an_answer_whose_head_trickles_is_504() {
    on_both_drivers(|driver| {
        let origin = Origin::start(|peer| {
            peer.request();
            let mut head = "HTTP/1.1 200 OK\r\nX: ".bytes().chain(std::iter::repeat(b'x'));
            while peer.wire.send([head.next().expect("without end")]) {
                // Each byte in time, the whole head never.
                thread::sleep(PAUSE / 5);
            }
        });
        let endpoints = &[origin.address];
        let upstream = r#"timeouts = { body = "250ms" }"#;
        let engine = Engine::start(driver, Config { endpoints, upstream, ..Config::default() });
        let mut client = engine.connect();
        let since = Instant::now();
        assert_eq!(client.get("/").status(), 504);
        assert_not_early(since);
        client.assert_open();
        engine.assert_only_fault("response_timeout", 1);
    });
}

/// A listening socket whose queue is full: the kernel drops further handshakes, so that connecting hangs.
fn full_listener() -> (Socket, SocketAddr, Vec<TcpStream>) {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
    socket.bind(&SocketAddr::from((Ipv4Addr::LOCALHOST, 0)).into()).expect("a port");
    socket.listen(0).expect("a queue of the least length");
    let address = socket.local_addr().expect("bound").as_socket().expect("an IP address");
    let mut waiting = Vec::new();
    while let Ok(stream) = TcpStream::connect_timeout(&address, PAUSE) {
        waiting.push(stream);
        assert!(waiting.len() < 100, "the queue has no end");
    }
    (socket, address, waiting)
}

#[test]
fn an_endpoint_that_does_not_accept_is_504() {
    on_both_drivers(|driver| {
        let (_socket, address, _waiting) = full_listener();
        let upstream = r#"timeouts = { connect = "250ms" }"#;
        let engine = Engine::start(driver, Config { endpoints: &[address], upstream, ..Config::default() });
        let mut client = engine.connect();
        let since = Instant::now();
        assert_eq!(client.get("/").status(), 504);
        assert_not_early(since);
        client.assert_open();
        engine.assert_only_fault("connect_timeout", 1);
    });
}

#[test]
fn an_endpoint_that_does_not_answer_is_504() {
    on_both_drivers(|driver| {
        let origin = stalling_after("");
        let endpoints = &[origin.address];
        let upstream = r#"timeouts = { first_byte = "250ms" }"#;
        let engine = Engine::start(driver, Config { endpoints, upstream, ..Config::default() });
        let mut client = engine.connect();
        for request in [
            "GET / HTTP/1.1\r\nHost: a\r\n\r\n",
            "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\nbody",
        ] {
            let since = Instant::now();
            assert_eq!(client.ask(request).status(), 504);
            assert_not_early(since);
        }
        client.assert_open();
        engine.assert_only_fault("first_byte_timeout", 2);
        origin.wait_until(|seen| seen.ended == 2);
        assert_eq!(origin.targets().len(), 2, "neither is sent again");
    });
}

#[test]
fn the_wait_for_an_answer_begins_when_the_request_ends() {
    on_both_drivers(|driver| {
        let origin = Origin::answering(OK);
        let endpoints = &[origin.address];
        let upstream = r#"timeouts = { first_byte = "250ms" }"#;
        let engine = Engine::start(driver, Config { endpoints, upstream, ..Config::default() });
        let mut client = engine.connect();
        client.send("POST / HTTP/1.1\r\nHost: test\r\nContent-Length: 10\r\n\r\n");
        for _ in 0..10 {
            // The pace of a slow upload, which takes longer than the deadline.
            thread::sleep(PAUSE);
            client.send("x");
        }
        client.response().assert_is(200, "ok");
    });
}

#[test]
fn an_answer_that_stalls_is_504_or_visibly_incomplete() {
    let cases = [
        ("HTTP/1.1 200 OK\r\nContent-Le", Some(504)),
        ("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nbody", None),
        ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nbody\r\n", None),
        ("HTTP/1.1 200 OK\r\n\r\nbody", None),
    ];
    on_both_drivers(|driver| {
        for (answer, status) in cases {
            let origin = stalling_after(answer);
            let endpoints = &[origin.address];
            let upstream = r#"timeouts = { body = "250ms" }"#;
            let engine = Engine::start(driver, Config { endpoints, upstream, ..Config::default() });
            let mut client = engine.connect();
            let since = Instant::now();
            let response = client.get("/");
            assert_not_early(since);
            match status {
                Some(status) => assert_eq!(response.status(), status),
                None => {
                    assert_eq!((response.status(), response.end.is_complete), (200, false), "{response:?}");
                    assert_eq!(response.text(), "body");
                    client.assert_closed();
                }
            }
            engine.assert_only_fault("response_timeout", 1);
        }
    });
}

#[test]
fn an_answer_that_trickles_is_not_late() {
    const PARTS: usize = 10;
    on_both_drivers(|driver| {
        let origin = Origin::start(|peer| {
            peer.request();
            peer.wire.send(format!("HTTP/1.1 200 OK\r\nContent-Length: {PARTS}\r\n\r\n"));
            for _ in 0..PARTS {
                // The pace of a slow answer: each part in time, all of it later than any one deadline.
                thread::sleep(PAUSE);
                peer.wire.send("x");
            }
        });
        let endpoints = &[origin.address];
        let upstream = r#"timeouts = { body = "250ms", first_byte = "250ms" }"#;
        let engine = Engine::start(driver, Config { endpoints, upstream, ..Config::default() });
        engine.connect().get("/").assert_is(200, &"x".repeat(PARTS));
    });
}

#[test]
fn an_exchange_that_takes_too_long_is_504_or_visibly_incomplete() {
    on_both_drivers(|driver| {
        let silent = stalling_after("");
        let begun = stalling_after("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nbody");
        for (origin, status) in [(&silent, 504), (&begun, 200)] {
            let endpoints = &[origin.address];
            let channel = r#"timeouts = { total = "250ms" }"#;
            let engine = Engine::start(driver, Config { endpoints, channel, ..Config::default() });
            let mut client = engine.connect();
            let since = Instant::now();
            let response = client.get("/");
            assert_not_early(since);
            assert_eq!((response.status(), response.end.is_complete), (status, status == 504));
            engine.assert_only_fault("total_timeout", 1);
        }
    });
}

#[test]
fn a_client_that_does_not_read_is_cut_off() {
    on_both_drivers(|driver| {
        let origin = Origin::start(|peer| {
            peer.request();
            peer.wire.send("HTTP/1.1 200 OK\r\n\r\n");
            while peer.wire.send([b'x'; 64 * 1024]) {}
        });
        let endpoints = &[origin.address];
        let listener = r#"timeouts = { send = "250ms" }"#;
        let engine = Engine::start(driver, Config { endpoints, listener, ..Config::default() });
        let mut client = engine.connect();
        let since = Instant::now();
        client.send("GET / HTTP/1.1\r\nHost: test\r\n\r\n");
        // The origin's connection ends with the client's.
        origin.wait_until(|seen| seen.ended == 1);
        assert_not_early(since);
        engine.assert_only_fault("client_send_timeout", 1);
        assert_eq!(client.head().expect("an answer").status(), 200);
        assert!(!client.body(Framing::Chunked, |_| ()).is_complete);
    });
}

#[test]
fn an_endpoint_that_does_not_read_is_504() {
    on_both_drivers(|driver| {
        let over = Signal::default();
        let is_over = over.clone();
        let origin = Origin::start(move |peer| {
            peer.head();
            is_over.take();
        });
        let endpoints = &[origin.address];
        let upstream = r#"timeouts = { send = "250ms" }"#;
        let engine = Engine::start(driver, Config { endpoints, upstream, ..Config::default() });
        let mut client = engine.connect();
        let since = Instant::now();
        client.send("POST / HTTP/1.1\r\nHost: test\r\nTransfer-Encoding: chunked\r\n\r\n");
        let sender = client.sender();
        let upload = thread::spawn(move || {
            let chunk = [b"10000\r\n".as_slice(), &[b'x'; 0x10000], b"\r\n"].concat();
            while sender.send(&chunk) {}
        });
        assert_eq!(client.response().status(), 504);
        assert_not_early(since);
        drop(client.rest());
        upload.join().expect("ends with the connection");
        over.give();
        engine.assert_only_fault("upstream_send_timeout", 1);
    });
}

#[test]
fn kept_connections_to_an_endpoint_are_closed_when_they_are_old() {
    on_both_drivers(|driver| {
        let origin = Origin::answering(OK);
        let endpoints = &[origin.address];
        let upstream = r#"idle_timeout = "250ms""#;
        let engine = Engine::start(driver, Config { endpoints, upstream, ..Config::default() });
        let mut client = engine.connect();
        client.get("/").assert_is(200, "ok");
        let since = Instant::now();
        origin.wait_until(|seen| seen.ended == 1);
        assert_not_early(since);
        client.get("/").assert_is(200, "ok");
        assert_eq!(origin.seen().connections, 2);
    });
}
