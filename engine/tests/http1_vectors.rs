//! What comes of each vector of the table when it goes through a running engine, over sockets?
//!
//! Never explains a rule: the files under `proto/tests/http1_vectors` do. Proto's own test runs them on the parsers.

mod common;
#[path = "common/vectors.rs"]
mod vectors;

use std::time::{Duration, SystemTime};

use common::connection::Connection;
use common::engine::{Config, Driver, Engine};
use common::message::{Head, Message};
use common::on_both_drivers;
use common::origin::{OK, Origin, Peer, Seen};
use proto::http1::chunked::ChunkRejected;
use serde_json::Value;
use vectors::{BODY_BYTES_MAX, DATE, ENDPOINT, FIELDS_MAX, HEAD_BYTES_MAX, Side, Table, Vector, Verdict};

/// From the engine's directory, where its tests run.
const DIR: &str = "proto/tests/http1_vectors";

/// What a smuggler wants the origin to see.
const SMUGGLED: &str = "GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n";

/// Longest input that is also sent byte by byte.
const SPLIT_BYTES_MAX: usize = 1_000;

fn start(driver: Driver, origin: &Origin) -> Engine {
    let head = format!("head_bytes = \"{HEAD_BYTES_MAX}B\", fields = {FIELDS_MAX}");
    let listener = format!(
        "limits = {{ {head}, target_bytes = \"{HEAD_BYTES_MAX}B\", body_bytes = \"{BODY_BYTES_MAX}B\" }}\n\
        forwarding = {{ via = \"{}\", x_forwarded_for = false, x_forwarded_host = false, x_forwarded_proto = false, \
        request_id = false }}",
        vectors::PSEUDONYM
    );
    let upstream = format!("limits = {{ {head} }}");
    let endpoints = &[origin.address];
    // As far as HTTP/1 goes: whoever lets a connection change its protocol has tests of his own.
    let channel = "upgrade = []";
    let config = Config { endpoints, listener: &listener, channel, upstream: &upstream, ..Config::default() };
    Engine::start(driver, config)
}

/// Runs `test` on every vector of a side and says which one it was that failed.
fn for_each(tables: &[Table], side: Side, mut test: impl FnMut(&Table, &Vector)) {
    for table in tables {
        for vector in table.vectors.iter().filter(|vector| vector.side == side) {
            let named = Named(format!("{}: {}", table.rule, vector.name));
            test(table, vector);
            drop(named);
        }
    }
}

/// Says its name when a test fails while it is held.
struct Named(String);

impl Drop for Named {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("---- failed at the vector {}", self.0);
        }
    }
}

#[test]
fn every_request_comes_out_as_its_vector_says() {
    let tables = vectors::load(DIR);
    on_both_drivers(|driver| {
        let origin = Origin::answering(OK);
        let engine = start(driver, &origin);
        let mut expected = 0;
        let mut count = |table: &Table, vector: &Vector, piece| match table.verdict {
            Verdict::Refused => assert_refused(&engine, vector, piece),
            Verdict::Accepted => expected += assert_accepted(&engine, &origin, vector, piece),
            Verdict::Incomplete => assert_incomplete_request(&engine, vector),
        };
        for_each(&tables, Side::Request, |table, vector| count(table, vector, usize::MAX));
        assert_counted_by_rule(&engine, &tables);
        for_each(&tables, Side::Request, |table, vector| {
            // A segment of nothing but empty lines is dropped wherever a request may begin, so they do not add up.
            if vector.input.len() <= SPLIT_BYTES_MAX && table.rule != "empty_lines_too_many" {
                count(table, vector, 1);
            }
        });
        engine.connect().get("/good").assert_is(200, "ok");
        engine.assert_counter("/totals/connections_open", 0);
        let seen = origin.seen();
        let completed = complete_requests(&seen);
        assert!(completed.iter().all(|request| !request.head.target().contains("smuggled")), "{completed:?}");
        assert_eq!(completed.len(), expected + 1, "only what is accepted is ever whole to an origin");
    });
}

fn complete_requests(seen: &Seen) -> Vec<&Message> {
    seen.requests.iter().map(|(_, request)| request).filter(|request| request.end.is_complete).collect()
}

fn assert_refused(engine: &Engine, vector: &Vector, piece: usize) {
    let mut client = engine.connect();
    // Fails once the engine has seen enough.
    client.send_split(&vector.input, piece);
    client.send(SMUGGLED);
    let answer = client.response();
    assert_eq!(vec![answer.status()], vector.answers, "{answer:?}");
    assert_eq!(answer.head.value("Connection"), Some("close"), "{answer:?}");
    assert!(answer.end.is_complete, "{answer:?}");
    assert_dated(&answer.head);
    client.assert_closed();
}

/// Says how many requests the origin must have seen.
fn assert_accepted(engine: &Engine, origin: &Origin, vector: &Vector, piece: usize) -> usize {
    let seen_before = complete_requests(&origin.seen()).len();
    let mut client = engine.connect();
    // Fails where the connection ends before the input does.
    client.send_split(&vector.input, piece);
    let text = String::from_utf8_lossy(&vector.input);
    let method = text.trim_start().split(' ').next().expect("a method");
    for (index, status) in vector.answers.iter().enumerate() {
        let answer = client.response_to(if index == 0 { method } else { "GET" });
        assert_eq!(answer.status(), *status, "{answer:?}");
        assert!(answer.end.is_complete, "{answer:?}");
        assert_dated(&answer.head);
    }
    if vector.closes {
        client.assert_closed();
    } else {
        client.assert_open();
    }
    let seen = origin.seen();
    let requests = &complete_requests(&seen)[seen_before..];
    // What the gateway answers itself never gets there.
    let is_answered_here = matches!(vector.fault.as_deref(), Some("last_hop" | "tunnel_refused"));
    let answered_there = vector.answers.iter().filter(|status| **status == 200).count();
    let expected = answered_there - usize::from(is_answered_here && vector.answers[0] == 200);
    assert_eq!(requests.len(), expected, "{requests:?}");
    if !is_answered_here {
        if let Some(forwarded) = &vector.forwarded {
            let text = String::from_utf8(forwarded.clone())
                .map(|text| text.replace(ENDPOINT, &origin.address.to_string()).into_bytes());
            let forwarded = text.unwrap_or_else(|_| forwarded.clone());
            assert_eq!(requests[0].head, Head::parse(&forwarded));
        }
        assert_eq!(requests[0].body, vector.body);
    }
    expected
}

/// Ends it politely, then rudely.
fn assert_incomplete_request(engine: &Engine, vector: &Vector) {
    let mut polite = engine.connect();
    polite.send(&vector.input);
    polite.finish();
    let answer = polite.rest();
    assert!(answer.is_empty() || answer.starts_with(b"HTTP/1.1 4"), "{:?}", String::from_utf8_lossy(&answer));
    let rude = engine.connect();
    rude.send(&vector.input);
    rude.reset_when_dropped();
}

/// Each refused request is counted under its rule, and nothing else is.
fn assert_counted_by_rule(engine: &Engine, tables: &[Table]) {
    engine.assert_counter("/totals/connections_open", 0);
    let stats = engine.stats();
    let counted = stats.get("requests_rejected").and_then(Value::as_object).expect("rules by name");
    for table in tables.iter().filter(|table| table.verdict == Verdict::Refused) {
        let requests = table.vectors.iter().filter(|vector| vector.side == Side::Request).count();
        let expected = match &*table.rule {
            // A limit of the configuration, and a fault of its own.
            "chunked_body_too_large" => 0,
            // The garbage behind an accepted request is refused too.
            "method_invalid" => requests + 1,
            _ => requests,
        };
        let count = counted.get(&table.rule).and_then(Value::as_u64).unwrap_or(0);
        assert_eq!(count, expected as u64, "{}", table.rule);
    }
}

/// RFC 9110 §6.6.1: whoever has a clock says the time.
#[track_caller]
fn assert_dated(head: &Head) {
    let date = head.value("Date").unwrap_or_else(|| panic!("no Date: {head:?}"));
    let said = httpdate::parse_http_date(date).unwrap_or_else(|error| panic!("{date}: {error}"));
    // As long ago as a busy machine may make it, and no time to come.
    let ago = SystemTime::now().duration_since(said);
    assert!(ago.is_ok_and(|ago| ago < Duration::from_secs(10)), "{date} is not the time");
}

#[test]
fn every_reply_comes_out_as_its_vector_says() {
    let tables = vectors::load(DIR);
    on_both_drivers(|driver| {
        let origin = replying(&tables, |_| {});
        let engine = start(driver, &origin);
        let mut row = 0;
        for_each(&tables, Side::Reply, |table, vector| {
            let mut client = engine.connect();
            send_for_row(&client, vector, row);
            match table.verdict {
                Verdict::Accepted if vector.fault.is_none() => assert_delivered(&mut client, vector),
                Verdict::Refused if ChunkRejected::ALL.iter().all(|rule| rule.name() != table.rule) => {
                    assert_replaced(&mut client, table, vector);
                }
                Verdict::Accepted => assert_replaced(&mut client, table, vector),
                Verdict::Refused | Verdict::Incomplete => assert_visibly_incomplete(&mut client),
            }
            engine.connect().get("/good").assert_is(200, "ok");
            assert_eq!(is_reused_after(&origin.seen(), row), vector.is_reusable, "whether it is used again");
            row += 1;
        });
    });
}

/// An origin that answers `/N` with the Nth reply, and everything else well. It closes where the vector says so, and
/// then does `at_end`.
fn replying(tables: &[Table], at_end: impl Fn(&Peer) + Send + Sync + 'static) -> Origin {
    let mut replies = Vec::new();
    for_each(tables, Side::Reply, |_, vector| replies.push((vector.input.clone(), vector.ends)));
    Origin::start(move |peer| {
        while let Some(request) = peer.request() {
            let row = request.head.target()[1..].parse::<usize>();
            let (reply, ends) = row.map_or((OK.as_bytes(), false), |row| (&*replies[row].0, replies[row].1));
            if !peer.wire.send(reply) || ends {
                return at_end(peer);
            }
        }
    })
}

fn send_for_row(client: &Connection, vector: &Vector, row: usize) {
    let request = String::from_utf8(vector.request.clone()).expect("a request of text");
    assert!(client.send(request.replacen(" / ", &format!(" /{row} "), 1)));
}

/// With a reset, part of what was sent may be lost on its way, so that anything short of the whole may come.
#[test]
fn a_reply_cut_short_by_a_reset_is_visibly_incomplete() {
    let tables = vectors::load(DIR);
    on_both_drivers(|driver| {
        let origin = replying(&tables, |peer| peer.wire.reset_when_dropped());
        let engine = start(driver, &origin);
        let mut row = 0;
        for_each(&tables, Side::Reply, |table, vector| {
            if table.verdict == Verdict::Incomplete {
                let mut client = engine.connect();
                send_for_row(&client, vector, row);
                assert_visibly_incomplete(&mut client);
            }
            row += 1;
        });
    });
}

/// Whether the connection that gave the reply `row` has given another one since.
fn is_reused_after(seen: &Seen, row: usize) -> bool {
    let target = format!("/{row}");
    let (connection, _) =
        seen.requests.iter().rfind(|(_, request)| request.head.target() == target).expect("it was asked");
    let (latest, request) = seen.requests.last().expect("more was asked");
    assert_eq!(request.head.target(), "/good");
    connection == latest
}

/// The answer goes to the client, as it should.
fn assert_delivered(client: &mut Connection, vector: &Vector) {
    let request = String::from_utf8_lossy(&vector.request);
    let (mut heads, answer) = final_answer(client, request.split(' ').next().expect("a method"));
    assert!(answer.end.is_complete, "{answer:?}");
    assert_eq!(answer.body, vector.body, "{answer:?}");
    heads.push(answer.head);
    if let Some(forwarded) = &vector.forwarded {
        assert_eq!(heads.into_iter().map(with_known_date).collect::<Vec<_>>(), parse_heads(forwarded));
    }
    if vector.closes {
        client.assert_closed();
    } else {
        client.get("/good").assert_is(200, "ok");
    }
}

/// The heads of interim answers, and the final answer.
fn final_answer(client: &mut Connection, method: &str) -> (Vec<Head>, Message) {
    let mut heads = Vec::new();
    loop {
        let answer = client.response_to(method);
        if !(100..200).contains(&answer.status()) {
            return (heads, answer);
        }
        heads.push(answer.head);
    }
}

/// With the time in place of a `Date` that the gateway added.
fn with_known_date(mut head: Head) -> Head {
    if head.value("Date").is_some_and(|date| !date.contains(" 2001 ")) {
        assert_dated(&head);
        let date = head.fields.iter_mut().find(|(name, _)| name == "Date").expect("just seen");
        DATE.clone_into(&mut date.1);
    }
    head
}

fn parse_heads(bytes: &[u8]) -> Vec<Head> {
    let mut heads = Vec::new();
    let mut rest = bytes;
    while let Some(at) = rest.windows(4).position(|window| window == b"\r\n\r\n") {
        heads.push(Head::parse(&rest[..at + 4]));
        rest = &rest[at + 4..];
    }
    assert!(rest.is_empty(), "behind the last head: {rest:?}");
    heads
}

/// The client is told 502 instead, and may go on if it wanted to.
fn assert_replaced(client: &mut Connection, table: &Table, vector: &Vector) {
    let (_, answer) = final_answer(client, "GET");
    assert!(!answer.text().contains(&table.rule), "a client is told nothing of the inside: {answer:?}");
    assert_eq!(Some(&answer.status()), vector.answers.last(), "{answer:?}");
    assert!(answer.end.is_complete, "{answer:?}");
    assert_dated(&answer.head);
    if vector.closes {
        client.assert_closed();
    } else {
        client.get("/good").assert_is(200, "ok");
    }
}

/// The client is told 502 instead, or sees that the answer is not whole.
fn assert_visibly_incomplete(client: &mut Connection) {
    let (_, answer) = final_answer(client, "GET");
    if answer.status() == 502 {
        assert!(answer.end.is_complete, "{answer:?}");
    } else {
        assert!(!answer.end.is_complete, "{answer:?}");
        // Nothing but the rest of a piece follows.
        assert!(!client.rest().windows(5).any(|window| window == b"HTTP/"));
    }
}
