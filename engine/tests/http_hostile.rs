//! What comes out when a client or an origin breaks the rules, by mistake or to smuggle a request past someone?
//!
//! Never a rule in isolation (those are beside the parser): each case goes through a running engine.

mod common;

use common::connection::Connection;
use common::engine::{Config, Driver, Engine};
use common::message::Message;
use common::on_both_drivers;
use common::origin::{OK, Origin, Peer};
use common::signal::Signal;

/// What a smuggler wants the origin to see.
const SMUGGLED: &str = "GET /smuggled HTTP/1.1\r\nHost: test\r\n\r\n";

/// Limits low enough to be broken in passing.
const LIMITS: &str = r#"limits = { head_bytes = "8KiB", fields = 50 }"#;

fn engine_before(driver: Driver, origin: &Origin) -> Engine {
    let endpoints = &[origin.address];
    Engine::start(driver, Config { endpoints, listener: LIMITS, upstream: LIMITS, ..Config::default() })
}

/// Requests refused by their head, and the status that says so.
fn refused_heads() -> Vec<(u16, String)> {
    // Each of these lines is added to an otherwise valid POST.
    let lines = [
        // Length: twice, conflicting, or not a number.
        (400, "Content-Length: 4\r\nContent-Length: 5"),
        (400, "Content-Length: 4\r\nContent-Length: 4"),
        (400, "Content-Length: 4, 4"),
        (400, "Content-Length: 4, 5"),
        (400, "Content-Length: +4"),
        (400, "Content-Length: -4"),
        (400, "Content-Length: 0x4"),
        (400, "Content-Length: 4e0"),
        (400, "Content-Length: 1_0"),
        (400, "Content-Length: 4 4"),
        (400, "Content-Length: 4\u{b}"),
        (400, "Content-Length: \u{664}"),
        (400, "Content-Length:"),
        (400, "Content-Length: 4;x"),
        (400, "Content-Length: 18446744073709551620"),
        (400, "Content-Length: 9223372036854775808"),
        (400, "Content-Length: 99999999999999999999999999999999"),
        // Length beside transfer coding, openly or hidden.
        (400, "Content-Length: 4\r\nTransfer-Encoding: chunked"),
        (400, "Transfer-Encoding: chunked\r\nContent-Length: 4"),
        (400, "Content-Length: 4\r\nTransfer-Encoding : chunked"),
        (400, "Content-Length: 4\r\n Transfer-Encoding: chunked"),
        (400, "Content-Length: 4\r\nX: y\nTransfer-Encoding: chunked"),
        (400, "Content-Length: 4\r\nX: y\rTransfer-Encoding: chunked"),
        (400, "Content-Length: 4\r\nTransfer-Encoding:\r\n chunked"),
        (400, "Content-Length: 4\r\nTransfer-Encoding\0: chunked"),
        (400, "Content-Length: 4\r\nTransfer-Encoding: \u{b}chunked"),
        (400, "Content-Length: 4\r\n\tTransfer-Encoding: chunked"),
        (400, "Content-Length: 4\r\nConnection: content-length\r\nTransfer-Encoding: chunked"),
        // Transfer codings other than chunked, last and once.
        (400, "Transfer-Encoding: xchunked"),
        (400, "Transfer-Encoding: chunked, chunked"),
        (400, "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked"),
        (400, "Transfer-Encoding: chunked, identity"),
        (400, "Transfer-Encoding: identity"),
        (400, "Transfer-Encoding: chunked;q=1"),
        (400, "Transfer-Encoding: \"chunked\""),
        (400, "Transfer-Encoding: chunked\u{1}"),
        (400, "Transfer-Encoding: chunked, gzip"),
        (400, "Transfer-Encoding:"),
        (400, "Transfer-Encoding: ,chunked"),
        (400, "Transfer-Encoding: chunked,"),
        (501, "Transfer-Encoding: gzip, chunked"),
        (501, "Transfer-Encoding: identity, chunked"),
        // Field lines.
        (400, "X : y"),
        (400, "X\t: y"),
        (400, ": y"),
        (400, "X"),
        (400, "X\0Y: y"),
        (400, "X\u{7f}: y"),
        (400, "X(Y): y"),
        (400, "X: a\0b"),
        (400, "X: a\u{1}b"),
        (400, "X: a\u{7f}b"),
        (400, "X: a\rb"),
        (400, "X: a\nY: b"),
        (400, "X: a\r\n folded"),
        (400, "X: a\r\n\tfolded"),
        (400, "Host: other"),
        (417, "Expect: 200-ok"),
    ];
    let mut cases: Vec<(u16, String)> = lines
        .into_iter()
        .map(|(status, line)| (status, format!("POST / HTTP/1.1\r\nHost: test\r\n{line}\r\n\r\n0\r\n\r\n")))
        .collect();
    // Request lines, each before a Host.
    let request_lines = [
        (505, "GET / HTTP/2.0"),
        (505, "GET / HTTP/3.0"),
        (505, "GET / HTTP/0.9"),
        (400, "GET / HTTP/1"),
        (400, "GET / HTTP/1.10"),
        (400, "GET / HTTP/11.1"),
        (400, "GET / http/1.1"),
        (400, "GET / HTTP/1,1"),
        (400, "GET / HTTP/1.1 "),
        (400, "GET / HTTP/+1.1"),
        (400, "GET / ICY/1.1"),
        (400, "GET /"),
        (400, "GET  / HTTP/1.1"),
        (400, "GET /  HTTP/1.1"),
        (400, "GET\t/\tHTTP/1.1"),
        (400, " GET / HTTP/1.1"),
        (400, "G@T / HTTP/1.1"),
        (400, "GE\u{1}T / HTTP/1.1"),
        (400, "GET /a b HTTP/1.1"),
        (400, "GET /a\0 HTTP/1.1"),
        (400, "GET /a\u{7f} HTTP/1.1"),
        (400, "GET /\u{fc} HTTP/1.1"),
        (400, "GET /a#b HTTP/1.1"),
        (400, "GET a HTTP/1.1"),
        (400, "GET * HTTP/1.1"),
        (400, "GET test:80 HTTP/1.1"),
        (400, "GET http:///a HTTP/1.1"),
        (400, "GET http:/a HTTP/1.1"),
        (400, "GET http://user@test/a HTTP/1.1"),
        (400, "GET http://other/a HTTP/1.1"),
        (400, "GET ftp://test/a HTTP/1.1"),
        (400, "CONNECT / HTTP/1.1"),
        (400, "CONNECT test HTTP/1.1"),
        (400, "GET / HTTP/1.1\rX: y"),
    ];
    cases.extend(
        request_lines.into_iter().map(|(status, line)| (status, format!("{line}\r\nHost: test\r\n\r\n"))),
    );
    // Whole heads.
    let field = format!("X: {}\r\n", "x".repeat(1000));
    let heads = [
        (400, "GET / HTTP/1.1\r\n\r\n".to_owned()),
        (400, "GET / HTTP/1.1\r\nHost:\r\n\r\n".to_owned()),
        (400, "GET / HTTP/1.1\r\nHost: a b\r\n\r\n".to_owned()),
        (400, "GET / HTTP/1.1\r\nHost: a, b\r\n\r\n".to_owned()),
        (400, "GET / HTTP/1.1\r\nHost: a/b\r\n\r\n".to_owned()),
        (400, "GET / HTTP/1.1\r\nHost: user@test\r\n\r\n".to_owned()),
        (400, "GET / HTTP/1.1\r\nHost: test:port\r\n\r\n".to_owned()),
        (400, "GET / HTTP/1.1\r\nHost: test:99999\r\n\r\n".to_owned()),
        (400, "GET / HTTP/1.1\r\n Host: test\r\n\r\n".to_owned()),
        (400, "GET / HTTP/1.1\nHost: test\n\n".to_owned()),
        (400, "GET / HTTP/1.1\r\nHost: test\n\r\n".to_owned()),
        (400, "GET / HTTP/1.1\r\nHost: test\r\n\n".to_owned()),
        (400, "GET / HTTP/1.1\r\nHost: test\r\n\rX: y\r\n\r\n".to_owned()),
        (400, "POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n".to_owned()),
        (400, "\u{16}\u{3}\u{1}\u{2}\0\u{1}\0\u{1}\u{fc}\u{3}\u{3}".to_owned()),
        (400, "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_owned()),
        (431, format!("GET / HTTP/1.1\r\nHost: test\r\n{}\r\n", field.repeat(9))),
        (431, format!("GET / HTTP/1.1\r\nHost: test\r\n{}\r\n", "X: y\r\n".repeat(50))),
        (431, format!("GET / HTTP/1.1\r\nHost: test\r\nX: {}", "x".repeat(9000))),
        (414, format!("GET /{} HTTP/1.1\r\nHost: test\r\n\r\n", "x".repeat(9000))),
    ];
    cases.extend(heads);
    cases
}

#[test]
fn a_head_that_breaks_a_rule_is_refused_and_nothing_after_it_is_read() {
    on_both_drivers(|driver| {
        let origin = Origin::answering(OK);
        let engine = engine_before(driver, &origin);
        let cases = refused_heads();
        let count = cases.len() as u64;
        for (status, head) in cases {
            let mut client = engine.connect();
            client.send(format!("{head}{SMUGGLED}"));
            let answer = client.response();
            // The HTTP/2 preface says so by its version before anything else is looked at.
            let expected = if head.starts_with("PRI ") { [400, 505] } else { [status, status] };
            assert!(expected.contains(&answer.status()), "expected {status} for {head:?}: {answer:?}");
            assert_eq!(answer.head.value("Connection"), Some("close"), "{head:?}");
            assert!(answer.end.is_complete, "{head:?}: {answer:?}");
            client.assert_closed();
        }
        assert_eq!(origin.seen().connections, 0, "no endpoint hears of any of them: {:?}", origin.targets());
        engine.assert_only_fault("request_rejected", count);
        engine.connect().get("/good").assert_is(200, "ok");
    });
}

#[test]
fn a_head_is_refused_wherever_it_is_split() {
    let heads = ["GET / HTTP/1.1\r\nHost: test\nX: y\r\n\r\n", "POST / HTTP/1.1\r\nHost: a\r\nX : y\r\n\r\n"];
    on_both_drivers(|driver| {
        let origin = Origin::answering(OK);
        let engine = engine_before(driver, &origin);
        for head in heads {
            let mut client = engine.connect();
            // Sends may fail once the engine has seen enough.
            client.send_split(format!("{head}{SMUGGLED}"), 1);
            assert_eq!(client.response().status(), 400);
        }
        assert_eq!(origin.seen().connections, 0);
    });
}

/// Chunked bodies that break a rule.
const REFUSED_CHUNKS: &[&str] = &[
    "+4\r\nbody\r\n0\r\n\r\n",
    "-4\r\nbody\r\n0\r\n\r\n",
    "0x4\r\nbody\r\n0\r\n\r\n",
    "\r\nbody\r\n0\r\n\r\n",
    "4_0\r\nbody\r\n0\r\n\r\n",
    "4 \r\nbody\r\n0\r\n\r\n",
    " 4\r\nbody\r\n0\r\n\r\n",
    "4\t;x\r\nbody\r\n0\r\n\r\n",
    "g\r\nbody\r\n0\r\n\r\n",
    "4\nbody\r\n0\r\n\r\n",
    "4\rbody\r\n0\r\n\r\n",
    "4;a\nb\r\nbody\r\n0\r\n\r\n",
    "4;a\rb\r\nbody\r\n0\r\n\r\n",
    "4;a\0b\r\nbody\r\n0\r\n\r\n",
    "4\r\nbodyX\r\n0\r\n\r\n",
    "4\r\nbody\n0\r\n\r\n",
    "4\r\nbody0\r\n\r\n",
    "ffffffffffffffff\r\nbody\r\n0\r\n\r\n",
    "10000000000000004\r\nbody\r\n0\r\n\r\n",
    "00000000000000004\r\nbody\r\n0\r\n\r\n",
    "4\r\nbody\r\n0\n\n",
    "4\r\nbody\r\n0\r\n\n",
    "4\r\nbody\r\n0\r\nContent-Length: 5\r\n\r\n",
    "4\r\nbody\r\n0\r\nTransfer-Encoding: chunked\r\n\r\n",
    "4\r\nbody\r\n0\r\nHost: other\r\n\r\n",
    "4\r\nbody\r\n0\r\nAuthorization: Basic eA==\r\n\r\n",
    "4\r\nbody\r\n0\r\nX-Forwarded-For: 192.0.2.1\r\n\r\n",
    "4\r\nbody\r\n0\r\nX : y\r\n\r\n",
    "4\r\nbody\r\n0\r\nX: a\r\n folded\r\n\r\n",
    "4\r\nbody\r\n0\r\nX: a\0\r\n\r\n",
];

#[test]
fn a_chunk_that_breaks_a_rule_never_completes_a_request() {
    const HEAD: &str = "POST / HTTP/1.1\r\nHost: test\r\nTransfer-Encoding: chunked\r\n\r\n";
    on_both_drivers(|driver| {
        let origin = Origin::answering(OK);
        let engine = engine_before(driver, &origin);
        for chunks in REFUSED_CHUNKS {
            for piece in [usize::MAX, 1] {
                let mut client = engine.connect();
                client.send(HEAD);
                client.send_split(format!("{chunks}{SMUGGLED}"), piece);
                let answer = client.response();
                assert_eq!(answer.status(), 400, "{chunks:?}");
                assert!(answer.end.is_complete);
                client.assert_closed();
            }
        }
        engine.assert_only_fault("request_body_rejected", 2 * REFUSED_CHUNKS.len() as u64);
        assert_nothing_completed(&engine, &origin);
    });
}

/// Fails if the origin has seen any complete request when all of them are over.
#[track_caller]
fn assert_nothing_completed(engine: &Engine, origin: &Origin) {
    engine.connect().get("/good").assert_is(200, "ok");
    // The last connection is that of the good request, and is kept.
    origin.wait_until(|seen| seen.ended + 1 == seen.connections);
    let requests = origin.seen().requests.into_iter().map(|(_, request)| request);
    let completed: Vec<Message> = requests.filter(|request| request.end.is_complete).collect();
    assert!(completed.len() == 1 && completed[0].head.target() == "/good", "{completed:?}");
}

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
fn a_request_cut_short_never_completes() {
    const CUT: &[&str] = &[
        "GET",
        "GET / HTTP/1.1\r\n",
        "GET / HTTP/1.1\r\nHost: test\r\n",
        "GET / HTTP/1.1\r\nHost: test\r\n\r",
        "POST / HTTP/1.1\r\nHost: test\r\nContent-Length: 5\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: test\r\nContent-Length: 5\r\n\r\nbody",
        "POST / HTTP/1.1\r\nHost: test\r\nTransfer-Encoding: chunked\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: test\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nbody",
        "POST / HTTP/1.1\r\nHost: test\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nbody\r\n",
        "POST / HTTP/1.1\r\nHost: test\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nbody\r\n0\r\n",
        "POST / HTTP/1.1\r\nHost: test\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nbody\r\n0\r\nX: y\r\n",
    ];
    on_both_drivers(|driver| {
        let origin = Origin::answering(OK);
        let engine = engine_before(driver, &origin);
        for request in CUT {
            let mut polite = engine.connect();
            polite.send(request);
            polite.finish();
            drop(polite.rest());
            let rude = engine.connect();
            rude.send(request);
            rude.reset_when_dropped();
        }
        engine.assert_counter("/totals/connections_open", 0);
        assert_nothing_completed(&engine, &origin);
    });
}

#[test]
fn an_endless_head_is_cut_off_at_its_limit() {
    on_both_drivers(|driver| {
        let origin = Origin::answering(OK);
        let engine = engine_before(driver, &origin);
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

/// Answers that break a rule before a client could be told anything else.
fn refused_answers() -> Vec<String> {
    let answers = [
        // Framing.
        "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\nok",
        "HTTP/1.1 200 OK\r\nContent-Length: 2, 3\r\n\r\nok",
        "HTTP/1.1 200 OK\r\nContent-Length: two\r\n\r\nok",
        "HTTP/1.1 200 OK\r\nContent-Length: -2\r\n\r\nok",
        "HTTP/1.1 200 OK\r\nContent-Length: 99999999999999999999\r\n\r\nok",
        "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked, chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: xchunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
        "HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
        // Status lines.
        "HTTP/1.1\r\n\r\n",
        "HTTP/1.1 20 OK\r\n\r\n",
        "HTTP/1.1 2000 OK\r\n\r\n",
        "HTTP/1.1 099 Low\r\n\r\n",
        "HTTP/1.1 600 High\r\n\r\n",
        "HTTP/1.1 abc OK\r\n\r\n",
        "HTTP/1.1  200 OK\r\n\r\n",
        "HTTP/1.1 +20 OK\r\n\r\n",
        "HTTP/2.0 200 OK\r\n\r\n",
        "http/1.1 200 OK\r\n\r\n",
        "ICY 200 OK\r\n\r\n",
        "HTTP/1.1 200 O\0K\r\nContent-Length: 2\r\n\r\nok",
        "garbage\r\n\r\n",
        "\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
        "<html>no head</html>",
        // Lines and fields.
        "HTTP/1.1 200 OK\nContent-Length: 2\n\nok",
        "HTTP/1.1 200 OK\r\nX: a\nContent-Length: 2\r\n\r\nok",
        "HTTP/1.1 200 OK\r\nX: a\rb\r\nContent-Length: 2\r\n\r\nok",
        "HTTP/1.1 200 OK\r\nX: a\0b\r\nContent-Length: 2\r\n\r\nok",
        "HTTP/1.1 200 OK\r\nX : a\r\nContent-Length: 2\r\n\r\nok",
        "HTTP/1.1 200 OK\r\nX: a\r\n folded\r\nContent-Length: 2\r\n\r\nok",
        "HTTP/1.1 200 OK\r\n: a\r\nContent-Length: 2\r\n\r\nok",
        "HTTP/1.1 200 OK\r\nno colon\r\nContent-Length: 2\r\n\r\nok",
        // Nobody asked to switch.
        "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n",
        // Cut before the head's end.
        "",
        "HTTP/1.1 200 OK\r\nContent-Le",
        "HTTP/1.1 100 Continue\r\n\r\n",
    ];
    let mut answers: Vec<String> = answers.into_iter().map(str::to_owned).collect();
    answers.push(format!("HTTP/1.1 200 OK\r\nX: {}\r\n\r\n", "x".repeat(9000)));
    answers.push(format!("HTTP/1.1 200 OK\r\n{}\r\n", "X: y\r\n".repeat(51)));
    answers
}

/// An origin that answers `/N` with `answers[N]` and closes, everything else well.
fn origin_of(answers: Vec<String>) -> Origin {
    Origin::start(move |peer| {
        while let Some(request) = peer.request() {
            match request.head.target()[1..].parse::<usize>() {
                Ok(row) => return assert!(peer.wire.send(&answers[row])),
                Err(_) => peer.wire.send(OK),
            };
        }
    })
}

#[test]
fn an_answer_that_breaks_a_rule_becomes_502() {
    on_both_drivers(|driver| {
        let answers = refused_answers();
        let origin = origin_of(answers.clone());
        let engine = engine_before(driver, &origin);
        let mut client = engine.connect();
        for (row, answer) in answers.iter().enumerate() {
            // A POST is not tried again, so that one request is one answer.
            client.send(format!("POST /{row} HTTP/1.1\r\nHost: test\r\nContent-Length: 0\r\n\r\n"));
            let mut response = client.response();
            if answer.starts_with("HTTP/1.1 100") {
                assert_eq!(response.status(), 100);
                response = client.response();
            }
            assert_eq!(response.status(), 502, "{answer:?}");
            assert!(response.end.is_complete && !response.text().contains("rejected"), "{response:?}");
            // The client did nothing wrong: its connection is kept.
            client.get("/good").assert_is(200, "ok");
        }
        let counted: u64 = engine.faults().values().sum();
        assert_eq!(counted, answers.len() as u64, "{:?}", engine.faults());
    });
}

#[test]
fn an_answer_cut_short_is_visibly_incomplete() {
    const CUT: &[&str] = &[
        "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nbody",
        "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nbody",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nbody\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nbody\r\n0\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nbody\r\n0\r\nX: y\r\n",
    ];
    on_both_drivers(|driver| {
        let origin = origin_of(CUT.iter().map(|answer| (*answer).to_owned()).collect());
        let engine = engine_before(driver, &origin);
        for (row, answer) in CUT.iter().enumerate() {
            let mut client = engine.connect();
            assert_incomplete(&mut client, row, answer);
        }
        engine.assert_only_fault("response_truncated", CUT.len() as u64);
        // With a reset, part of what was sent may be lost on its way.
        let resetting = Origin::start(|peer| {
            let request = peer.request().expect("a request");
            peer.wire.send(CUT[request.head.target()[1..].parse::<usize>().expect("a row")]);
            peer.wire.reset_when_dropped();
        });
        let engine = engine_before(driver, &resetting);
        for (row, answer) in CUT.iter().enumerate() {
            assert_incomplete(&mut engine.connect(), row, answer);
        }
    });
}

/// Fails unless `/ROW` yields 502 or an answer that its client can tell is not whole, and nothing after it.
#[track_caller]
fn assert_incomplete(client: &mut Connection, row: usize, answer: &str) {
    let response = client.get(&format!("/{row}"));
    let is_visible = response.status() == 502 || !response.end.is_complete;
    assert!(is_visible, "{answer:?} became {response:?}");
    if response.status() != 502 {
        client.assert_closed();
    }
}

#[test]
fn a_badly_chunked_answer_is_visibly_incomplete() {
    const HEAD: &str = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
    on_both_drivers(|driver| {
        let origin = origin_of(REFUSED_CHUNKS.iter().map(|chunks| format!("{HEAD}{chunks}")).collect());
        let engine = engine_before(driver, &origin);
        for (row, chunks) in REFUSED_CHUNKS.iter().enumerate() {
            assert_incomplete(&mut engine.connect(), row, chunks);
        }
        engine.assert_only_fault("response_body_rejected", REFUSED_CHUNKS.len() as u64);
    });
}

#[test]
fn an_answer_cut_short_is_visibly_incomplete_to_http10_too() {
    const CUT: &str = "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nbody";
    on_both_drivers(|driver| {
        let origin = origin_of(vec![CUT.to_owned()]);
        let engine = engine_before(driver, &origin);
        let response = engine.connect().ask("GET /0 HTTP/1.0\r\nConnection: keep-alive\r\n\r\n");
        assert!(response.status() == 502 || !response.end.is_complete, "{response:?}");
    });
}

#[test]
fn an_upgrade_nobody_asked_for_is_never_a_tunnel() {
    const SWITCH: &str = "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: other\r\n\r\n";
    let requests = [
        "GET / HTTP/1.1\r\nHost: test\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: test\r\nUpgrade: other\r\n\r\n",
        "GET / HTTP/1.0\r\nHost: test\r\nConnection: upgrade\r\nUpgrade: other\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: test\r\nConnection: upgrade, HTTP2-Settings\r\n\
            Upgrade: h2c\r\nHTTP2-Settings: AA\r\n\r\n",
    ];
    on_both_drivers(|driver| {
        let origin = Origin::answering(SWITCH);
        let engine = engine_before(driver, &origin);
        for request in requests {
            let mut client = engine.connect();
            client.send(format!("{request}{SMUGGLED}"));
            assert_eq!(client.response().status(), 502, "{request}");
        }
        let seen = origin.seen();
        assert!(seen.requests.iter().all(|(_, request)| request.head.value("Upgrade").is_none()), "{seen:?}");
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
fn a_second_answer_is_never_given_to_the_next_request() {
    const EVIL: &str = "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil";
    on_both_drivers(|driver| {
        let origin = Origin::start(|peer| {
            while let Some(request) = peer.request() {
                let target = request.head.target();
                let length = target.len();
                peer.wire.send(format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n{target}{EVIL}"));
            }
        });
        let engine = engine_before(driver, &origin);
        let mut client = engine.connect();
        for number in 0..20 {
            client.get(&format!("/{number}")).assert_is(200, &format!("/{number}"));
        }
        assert_eq!(origin.seen().connections, 20, "none is used twice");
    });
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
            let engine = engine_before(driver, &origin);
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
