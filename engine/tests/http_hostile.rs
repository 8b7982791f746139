//! What comes out when a client or an origin is hostile in what it does over time, or in bulk?
//!
//! Never a rule that one message breaks: those are vectors, and go through a running engine in `http1_vectors.rs`.

mod common;

use common::engine::Engine;
use common::on_both_drivers;
use common::origin::{OK, Origin, Peer};
use common::signal::Signal;

/// What a smuggler wants the origin to see.
const SMUGGLED: &str = "GET /smuggled HTTP/1.1\r\nHost: test\r\n\r\n";

/// Bodies made of requests, from one to more than the engine reads for nothing; each with the fields before it.
fn baited_bodies() -> Vec<String> {
    let mut bodies = Vec::new();
    for times in [1, 100, 1_700, 1_800, 100_000] {
        let bait = SMUGGLED.repeat(times);
        let length = bait.len();
        for expect in ["", "Expect: 100-continue\r\n"] {
            bodies.push(format!("{expect}Content-Length: {length}\r\n\r\n{bait}"));
            bodies
                .push(format!("{expect}Transfer-Encoding: chunked\r\n\r\n{length:x}\r\n{bait}\r\n0\r\n\r\n"));
        }
    }
    bodies
}

#[test]
fn a_body_that_nobody_reads_is_never_a_request() {
    let config = format!(
        "[listener.web]\nbind = \"127.0.0.1:0\"\n\
        [channel.bait]\nmatch = {{ path_exact = \"/smuggled\" }}\nrespond = {{ body = \"smuggled\" }}\n\
        [channel.fixed]\nmatch = {{ path_exact = \"/fixed\" }}\nrespond = {{ status = 403 }}\n\
        [channel.dead]\nmatch = {{ path_exact = \"/dead\" }}\nupstream = \"dead\"\n\
        [upstream.dead]\nendpoints = [\"{}\"]\n",
        Origin::nowhere()
    );
    on_both_drivers(|driver| {
        let engine = Engine::start(driver, &config);
        for (target, status) in [("/fixed", 403), ("/dead", 502), ("/missed", 404)] {
            for body in baited_bodies() {
                let shown = &body[..body.len().min(100)];
                let mut client = engine.connect();
                // Fails once the engine has given up on the body.
                client.send(format!("POST {target} HTTP/1.1\r\nHost: test\r\n{body}"));
                client.send("GET /fixed HTTP/1.1\r\nHost: test\r\n\r\n");
                client.finish();
                assert_eq!(client.response().status(), status, "{target} {shown}");
                let rest = String::from_utf8(client.rest()).expect("text");
                let is_next = rest.starts_with("HTTP/1.1 403") && rest.matches("HTTP/1.1").count() == 1;
                assert!(rest.is_empty() || is_next, "{target} {shown}: {rest}");
            }
        }
    });
}

#[test]
fn an_endless_head_is_cut_off_at_its_limit() {
    on_both_drivers(|driver| {
        let origin = Origin::answering(OK);
        let engine = Engine::before(driver, origin.address);
        let mut client = engine.connect();
        client.send("GET / HTTP/1.1\r\nHost: test\r\n");
        let mut lines = 0;
        while client.send("X-Endless: 0123456789abcdef0123456789abcdef\r\n") && lines < 100_000 {
            lines += 1;
        }
        assert!(lines < 100_000, "the engine stops reading");
        assert_eq!(client.response().status(), 431);
    });
}

/// A request of `/N`, answered with that target.
fn answer_by_target(peer: &mut Peer) -> Option<()> {
    let request = peer.request()?;
    let target = request.head.target();
    peer.wire.send(format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{target}", target.len()));
    Some(())
}

#[test]
fn bytes_on_an_idle_connection_are_never_an_answer() {
    const EVIL: &str = "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil";
    on_both_drivers(|driver| {
        for unsolicited in [EVIL, "H", "HTTP/1.1 408 Request Timeout\r\nConnection: close\r\n\r\n"] {
            let (speak, spoken) = (Signal::default(), Signal::default());
            let (may_speak, has_spoken) = (speak.clone(), spoken.clone());
            let origin = Origin::start(move |peer| {
                // Speaks once more on the connection that has just answered, when the test says so.
                while answer_by_target(peer).is_some() {
                    may_speak.take();
                    peer.wire.send(unsolicited);
                    has_spoken.give();
                }
            });
            let engine = Engine::before(driver, origin.address);
            let mut client = engine.connect();
            for number in 0..10 {
                client.get(&format!("/{number}")).assert_is(200, &format!("/{number}"));
                speak.give();
                spoken.take();
                // Bytes that arrive after the next request look like its answer to anybody.
                engine.assert_counter("/upstreams/0/endpoints/0/idle", 0);
            }
            assert_eq!(origin.seen().connections, 10, "none is used twice");
        }
    });
}
