//! Do sampled exchanges arrive at a collector of traces as spans, and is nobody kept waiting by one that is slow, ill or gone?
//!
//! Only with the feature `otlp`, which is on by default.

mod common;

use std::collections::BTreeMap;
use std::net::SocketAddr;

use common::engine::{Config, Driver, Engine};
use common::message::Message;
use common::origin::{OK, Origin};
use common::{eventually, on_both_drivers};
use rustix::process::Signal;

const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const SPAN: &str = "00f067aa0ba902b7";

fn start(driver: Driver, origin: SocketAddr, collector: SocketAddr, telemetry: &str) -> Engine {
    let upstream = format!("[telemetry]\notlp = \"http://{collector}\"\n{telemetry}");
    let (endpoints, upstream) = (&[origin], upstream.as_str());
    let listener = "forwarding.trusted = ['127.0.0.0/8']";
    Engine::start(driver, Config { endpoints, listener, upstream, ..Config::default() })
}

/// The fields of a Protobuf message: number and value, as bytes or as the number that it is.
enum Value<'a> {
    Number(u64),
    Bytes(&'a [u8]),
}

fn varint(bytes: &mut &[u8]) -> u64 {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let (byte, rest) = bytes.split_first().expect("more of a number");
        *bytes = rest;
        value |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return value;
        }
    }
    panic!("a number of more than 64 bits");
}

fn fields(mut bytes: &[u8]) -> Vec<(u64, Value<'_>)> {
    let mut found = Vec::new();
    while !bytes.is_empty() {
        let key = varint(&mut bytes);
        let mut take = |count: usize| {
            let (value, rest) = bytes.split_at(count);
            bytes = rest;
            value
        };
        let value = match key & 7 {
            0 => Value::Number(varint(&mut bytes)),
            1 => Value::Number(u64::from_le_bytes(take(8).try_into().expect("eight"))),
            5 => Value::Number(u64::from(u32::from_le_bytes(take(4).try_into().expect("four")))),
            2 => {
                let count = varint(&mut bytes) as usize;
                let (value, rest) = bytes.split_at(count);
                bytes = rest;
                Value::Bytes(value)
            }
            other => panic!("wire type {other}"),
        };
        found.push((key >> 3, value));
    }
    found
}

/// The messages, or texts, of one field.
fn all(bytes: &[u8], number: u64) -> Vec<&[u8]> {
    let of = |(field, value)| match value {
        Value::Bytes(bytes) if field == number => Some(bytes),
        _ => None,
    };
    fields(bytes).into_iter().filter_map(of).collect()
}

fn number(bytes: &[u8], wanted: u64) -> Option<u64> {
    fields(bytes).into_iter().find_map(|(field, value)| match value {
        Value::Number(number) if field == wanted => Some(number),
        _ => None,
    })
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).expect("UTF-8")
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[derive(Debug)]
struct Span {
    trace: String,
    id: String,
    parent: Option<String>,
    name: String,
    kind: Option<u64>,
    began: u64,
    ended: u64,
    attributes: BTreeMap<String, String>,
    events: Vec<String>,
    is_error: bool,
}

fn attributes(pairs: &[&[u8]]) -> BTreeMap<String, String> {
    let pair = |pair: &&[u8]| {
        let value = all(pair, 2)[0];
        let value = all(value, 1).first().map(|value| text(value));
        let whole = number(all(pair, 2)[0], 3).map(|number| number.to_string());
        (text(all(pair, 1)[0]), value.or(whole).expect("a value"))
    };
    pairs.iter().map(pair).collect()
}

/// Spans of an `ExportTraceServiceRequest`, and what it says of the process.
fn spans(request: &Message) -> (BTreeMap<String, String>, Vec<Span>) {
    assert_eq!((request.head.method(), request.head.target()), ("POST", "/v1/traces"));
    assert_eq!(request.head.value("Content-Type"), Some("application/x-protobuf"));
    let resource_spans = all(&request.body, 1)[0];
    let resource = attributes(&all(all(resource_spans, 1)[0], 1));
    let scope_spans = all(resource_spans, 2)[0];
    let span = |span: &&[u8]| Span {
        trace: hex(all(span, 1)[0]),
        id: hex(all(span, 2)[0]),
        parent: all(span, 4).first().map(|id| hex(id)),
        name: text(all(span, 5)[0]),
        kind: number(span, 6),
        began: number(span, 7).expect("a beginning"),
        ended: number(span, 8).expect("an end"),
        attributes: attributes(&all(span, 9)),
        events: all(span, 11).iter().map(|event| text(all(event, 2)[0])).collect(),
        is_error: all(span, 15).first().is_some_and(|status| number(status, 3) == Some(2)),
    };
    (resource, all(scope_spans, 2).iter().map(span).collect())
}

fn collected(collector: &Origin) -> Vec<Span> {
    collector.seen().requests.iter().flat_map(|(_, request)| spans(request).1).collect()
}

#[test]
fn a_sampled_exchange_is_a_span_and_others_are_none() {
    on_both_drivers(|driver| {
        let (origin, collector) =
            (Origin::answering(OK), Origin::answering("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"));
        let engine = start(driver, origin.address, collector.address, "trace = 'make'\nsample = '0%'");
        let ask = |flags: &str| {
            let request = format!(
                "GET /path?secret=1 HTTP/1.1\r\nHost: a.example\r\ntraceparent: 00-{TRACE}-{SPAN}-{flags}\r\n\r\n"
            );
            engine.connect().ask(&request).assert_is(200, "ok");
        };
        ask("00");
        engine.connect().get("/").assert_is(200, "ok");
        ask("01");
        eventually("a span arrives", || !collected(&collector).is_empty());
        let found = collected(&collector);
        let [span] = &found[..] else { panic!("{found:?}") };
        assert_eq!((&*span.trace, span.parent.as_deref(), span.kind), (TRACE, Some(SPAN), Some(2)));
        let told = origin.seen().requests[2].1.head.value("traceparent").expect("told").to_owned();
        assert_eq!(told, format!("00-{TRACE}-{}-01", span.id), "the endpoint's parent is this span");
        let value = |key: &str| span.attributes.get(key).map(String::as_str);
        assert_eq!((&*span.name, value("http.request.method")), ("GET", Some("GET")));
        assert_eq!((value("url.path"), value("server.address")), (Some("/path"), Some("a.example")));
        assert_eq!(
            (value("http.response.status_code"), value("corelane.channel")),
            (Some("200"), Some("all"))
        );
        assert_eq!((value("corelane.upstream"), value("client.address")), (Some("app"), Some("127.0.0.1")));
        assert!(!format!("{span:?}").contains("secret"));
        assert!(span.ended >= span.began && span.began > 1_700_000_000_000_000_000, "{span:?}");
        assert!(span.events.contains(&"first_byte".to_owned()) && !span.is_error, "{span:?}");
        let (resource, _) = spans(&collector.seen().requests[0].1);
        assert_eq!(resource.get("service.name").map(String::as_str), Some("corelane"));
    });
}

#[test]
fn an_exchange_that_fails_is_an_error_and_a_collector_that_is_ill_is_asked_again() {
    let collector = Origin::start(|peer| {
        let mut is_ill = peer.number == 0;
        while peer.request().is_some() {
            let answer = if is_ill {
                "HTTP/1.1 503 Not now\r\nRetry-After: 0\r\nContent-Length: 0\r\n\r\n"
            } else {
                "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"
            };
            is_ill = false;
            peer.wire.send(answer);
        }
    });
    let telemetry = "trace = 'make'\nsample = '100%'";
    let engine = start(Driver::Epoll, Origin::nowhere(), collector.address, telemetry);
    assert_eq!(engine.connect().get("/").status(), 502);
    eventually("it is asked again", || collector.seen().requests.len() >= 2);
    let found = collected(&collector);
    assert_eq!(found[0].id, found[1].id, "the same span once more");
    assert!(found[0].is_error && found[0].parent.is_none(), "{found:?}");
    assert_eq!(found[0].attributes["error.type"], "connect_failed");
}

#[test]
fn a_collector_that_says_nothing_keeps_nobody_waiting() {
    let (origin, (collector, asked, _)) = (Origin::answering(OK), Origin::held());
    let mut engine =
        start(Driver::Epoll, origin.address, collector.address, "trace = 'make'\nsample = '100%'");
    let mut client = engine.connect();
    client.get("/").assert_is(200, "ok");
    asked.take();
    (0..200).for_each(|_| client.get("/").assert_is(200, "ok"));
    engine.signal(Signal::TERM);
    drop(client);
    assert!(engine.wait().success(), "the end is not held up");
}
