//! What does one decision on the request path cost?
//!
//! Pure functions of `proto` on typical input: no socket, no thread. The budget for all of them together is 1 µs.

use std::hint::black_box;

use criterion::{Criterion, Throughput};
use proto::balance::ketama::Ketama;
use proto::balance::least::Measure;
use proto::balance::maglev::Maglev;
use proto::balance::round_robin::RoundRobin;
use proto::balance::scheduler::{Method as Balance, Scheduler};
use proto::balance::{View, WEIGHT_ONE, hash};
use proto::histogram::latency_histogram;
use proto::http1::framing::Delivery;
use proto::http1::head::{Limits, Method, Parsed, RequestHead, ResponseHead, parse_request, parse_response};
use proto::http1::rewrite::{Proof, RequestPlan, ResponsePlan, rewrite_request, rewrite_response};
use proto::matching::{ChannelTable, PathPattern, Query, Rule};

/// What a load generator sends.
const REQUEST_SMALL: &[u8] = b"GET /fhir/Patient/42 HTTP/1.1\r\nHost: 127.0.0.1:8080\r\n\r\n";

/// What a browser sends.
const REQUEST_BROWSER: &[u8] = b"GET /fhir/Patient/42?_format=json HTTP/1.1\r\n\
    Host: gateway.example.org\r\n\
    User-Agent: Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0\r\n\
    Accept: text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,*/*;q=0.8\r\n\
    Accept-Language: en-GB,en;q=0.7,de;q=0.3\r\n\
    Accept-Encoding: gzip, deflate, br, zstd\r\n\
    Connection: keep-alive\r\n\
    Cookie: session=8f14e45fceea167a5a36dedd4bea2543; theme=dark\r\n\
    Upgrade-Insecure-Requests: 1\r\n\
    Sec-Fetch-Dest: document\r\n\
    Sec-Fetch-Mode: navigate\r\n\
    Sec-Fetch-Site: none\r\n\
    Priority: u=0, i\r\n\r\n";

const RESPONSE: &[u8] = b"HTTP/1.1 200 OK\r\n\
    Server: origin\r\n\
    Date: Sun, 22 Nov 2026 12:00:00 GMT\r\n\
    Content-Type: application/fhir+json\r\n\
    Content-Length: 128\r\n\
    Connection: keep-alive\r\n\r\n";

const LIMITS: Limits =
    Limits { head_bytes_max: 32 * 1024, fields_max: 100, target_bytes_max: 8 * 1024, is_secured: false };

/// What the gateway adds by default.
const REQUEST_PLAN: RequestPlan<'static> = RequestPlan {
    client: "192.0.2.1",
    scheme: "http",
    is_trusted: false,
    x_forwarded_for: true,
    x_forwarded_proto: true,
    x_forwarded_host: true,
    forwarded: false,
    via: Some("corelane"),
    request_id: Some("0123456789abcdef0123456789abcdef"),
    host_fallback: "127.0.0.1:8080",
    upgrade: false,
    expect: true,
    proof: Proof::NotAsked,
    own_cookie: None,
};

const RESPONSE_PLAN: ResponsePlan<'static> = ResponsePlan {
    delivery: Delivery::Length(128),
    connection: None,
    via: Some("corelane"),
    upgrade: false,
    date: None,
    set_cookie: None,
};

/// Channels of the table that is searched; the last one matches.
const CHANNELS: u16 = 20;

fn main() {
    let mut criterion = Criterion::default().configure_from_args();
    bench_heads(&mut criterion);
    bench_rewriting(&mut criterion);
    bench_matching(&mut criterion);
    bench_round_robin(&mut criterion);
    bench_balance(&mut criterion);
    bench_histogram(&mut criterion);
    criterion.final_summary();
}

fn bench_heads(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("parse");
    for (name, request) in [("request/small", REQUEST_SMALL), ("request/browser", REQUEST_BROWSER)] {
        let mut head = RequestHead::new();
        group.throughput(Throughput::Bytes(request.len() as u64));
        group.bench_function(name, |bencher| {
            bencher.iter(|| {
                let parsed = parse_request(black_box(request), 0, &LIMITS, &mut head);
                assert_eq!(parsed, Ok(Parsed::Complete));
            });
        });
    }
    let mut head = ResponseHead::new();
    group.throughput(Throughput::Bytes(RESPONSE.len() as u64));
    group.bench_function("response", |bencher| {
        bencher.iter(|| {
            let parsed = parse_response(black_box(RESPONSE), 0, &LIMITS, &mut head);
            assert_eq!(parsed, Ok(Parsed::Complete));
        });
    });
    group.finish();
}

fn bench_rewriting(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("rewrite");
    let mut rewritten = Vec::new();
    for (name, request) in [("request/small", REQUEST_SMALL), ("request/browser", REQUEST_BROWSER)] {
        let mut head = RequestHead::new();
        assert_eq!(parse_request(request, 0, &LIMITS, &mut head), Ok(Parsed::Complete));
        group.bench_function(name, |bencher| {
            bencher.iter(|| {
                rewrite_request(request, black_box(&head), &REQUEST_PLAN, &mut rewritten);
                black_box(&rewritten).len()
            });
        });
    }
    let mut head = ResponseHead::new();
    assert_eq!(parse_response(RESPONSE, 0, &LIMITS, &mut head), Ok(Parsed::Complete));
    group.bench_function("response", |bencher| {
        bencher.iter(|| {
            rewrite_response(RESPONSE, black_box(&head), &RESPONSE_PLAN, &mut rewritten);
            black_box(&rewritten).len()
        });
    });
    group.finish();
}

fn bench_matching(criterion: &mut Criterion) {
    let path = format!("/fhir/Resource{}/1234", CHANNELS - 1);
    let query = Query {
        listener: 0,
        host: Some(b"gateway.example.org"),
        path: path.as_bytes(),
        method: Method::Get,
        method_name: b"GET",
    };
    let mut group = criterion.benchmark_group("match");
    for name in ["prefix", "regex"] {
        let pattern = |channel: u16| match name {
            "prefix" => PathPattern::Prefix(format!("/fhir/Resource{channel}/")),
            _ => PathPattern::Regex(format!("^/fhir/Resource{channel}(/[0-9]+)?$")),
        };
        for count in [1, CHANNELS] {
            let rule = |channel| Rule { channel, path: Some(pattern(channel)), ..Rule::default() };
            let table =
                ChannelTable::new((CHANNELS - count..CHANNELS).map(rule).collect()).expect("valid patterns");
            let mut caches = table.caches();
            group.bench_function(format!("{name}/{count}"), |bencher| {
                bencher.iter(|| assert_eq!(table.find(&mut caches, black_box(&query)), Some(CHANNELS - 1)));
            });
        }
    }
    group.finish();
}

fn bench_round_robin(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("round_robin");
    let mut turns = RoundRobin::new(0);
    group.bench_function("all of 16", |bencher| bencher.iter(|| turns.next(black_box(16), |_| true)));
    group.bench_function("1 of 16", |bencher| {
        bencher.iter(|| assert_eq!(turns.next(black_box(16), |endpoint| endpoint == 7), Some(7)));
    });
    group.finish();
}

/// Sixteen endpoints of which every third is twice as heavy, some busier than others.
struct Endpoints {
    is_even: bool,
}

impl View for Endpoints {
    fn count(&self) -> u16 {
        16
    }

    fn slot(&self, index: u16) -> u16 {
        index
    }

    fn weight(&self, index: u16) -> u32 {
        if !self.is_even && index.is_multiple_of(3) { 2 * WEIGHT_ONE } else { WEIGHT_ONE }
    }

    fn is_even(&self) -> bool {
        self.is_even
    }

    fn in_use(&self, index: u16) -> u32 {
        u32::from(index * 7 % 5)
    }

    fn latency(&self, index: u16) -> Option<u64> {
        Some(1_000_000 + u64::from(index) * 1_000)
    }

    fn may_take(&self, _: u16) -> bool {
        true
    }
}

fn bench_balance(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("balance");
    for (name, method) in [
        ("round_robin", Balance::RoundRobin),
        ("least_connections", Balance::Least(Measure::Connections)),
        ("least_time", Balance::Least(Measure::Time)),
        ("random_two", Balance::RandomTwo),
    ] {
        for (weights, is_even) in [("even", true), ("weighted", false)] {
            let view = Endpoints { is_even };
            let mut scheduler = Scheduler::new(method, 16, 0);
            let mut dice = 0;
            group.bench_function(format!("{name}/{weights}"), |bencher| {
                bencher.iter(|| {
                    dice = hash::mix(dice + 1);
                    scheduler.pick(black_box(&view), dice)
                });
            });
        }
    }
    let names: Vec<_> = (1..=16).map(|name| (hash::mix(name), WEIGHT_ONE)).collect();
    let (table, ring) = (Maglev::new(&names, 16), Ketama::new(&names));
    let uri = b"/fhir/Patient/42?_format=json";
    group.bench_function("hash/uri", |bencher| bencher.iter(|| hash::of_bytes(black_box(uri))));
    let mut key = 0;
    group.bench_function("hash/maglev", |bencher| {
        bencher.iter(|| {
            key = hash::mix(key + 1);
            table.pick(key, |_| true)
        });
    });
    group.bench_function("hash/ketama", |bencher| {
        bencher.iter(|| {
            key = hash::mix(key + 1);
            ring.pick(key, |_| true)
        });
    });
    group.bench_function("maglev/made anew", |bencher| bencher.iter(|| Maglev::new(black_box(&names), 16)));
    group.finish();
}

fn bench_histogram(criterion: &mut Criterion) {
    let mut histogram = latency_histogram();
    let mut latency_ns = 0;
    criterion.bench_function("histogram/record", |bencher| {
        bencher.iter(|| {
            // Over the whole range that a busy service shows, so that no one counter stays in the cache.
            latency_ns = (latency_ns + 7_919) % 10_000_000;
            histogram.saturating_record(black_box(latency_ns));
        });
    });
}
