//! Does the engine hold under many connections at once, spread them over its cores, and count every request?
//!
//! Never measures speed: that is `bench/`.

mod common;

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use common::engine::{Config, Driver, Engine};
use common::on_both_drivers;
use common::origin::{OK, Origin};
use common::signal::Signal;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use serde_json::Value;

const CORES: usize = 2;

fn engine_before(driver: Driver, origin: &Origin) -> Engine {
    Engine::start_on_cores(driver, CORES, Config { endpoints: &[origin.address], ..Config::default() })
}

/// Raises the number of descriptors that this process, and with it the engine, may open.
fn allow_many_connections() {
    let limit = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit }).expect("up to the hard limit");
}

#[test]
fn every_request_is_counted_once() {
    const CLIENTS: usize = 64;
    on_both_drivers(|driver| {
        let origin = Origin::answering(OK);
        let engine = engine_before(driver, &origin);
        let (sent, is_over) = (AtomicU64::new(0), AtomicBool::new(false));
        thread::scope(|scope| {
            for _ in 0..CLIENTS {
                scope.spawn(|| {
                    let mut client = engine.connect();
                    while !is_over.load(Ordering::Relaxed) {
                        client.get("/").assert_is(200, "ok");
                        sent.fetch_add(1, Ordering::Relaxed);
                    }
                });
            }
            // The length of the load is the point of it.
            thread::sleep(Duration::from_secs(1));
            is_over.store(true, Ordering::Relaxed);
        });
        let sent = sent.into_inner();
        assert!(sent > CLIENTS as u64, "only {sent} requests");
        engine.assert_counter("/totals/requests", sent);
        assert_eq!(per_core(&engine, "/listeners/0/per_core/requests").iter().sum::<u64>(), sent);
        assert!(engine.faults().is_empty(), "{:?}", engine.faults());
        assert_eq!(origin.seen().requests.len() as u64, sent, "each reached the origin once");
    });
}

/// One counter, core by core.
#[track_caller]
fn per_core(engine: &Engine, pointer: &str) -> Vec<u64> {
    let stats = engine.stats();
    let cores = stats.pointer(pointer).and_then(Value::as_array);
    let cores = cores.unwrap_or_else(|| panic!("no list at {pointer}: {stats:#}"));
    cores.iter().map(|count| count.as_u64().expect("a count")).collect()
}

#[test]
fn connections_are_spread_over_the_cores() {
    const CONNECTIONS: usize = 200;
    on_both_drivers(|driver| {
        let origin = Origin::answering(OK);
        let engine = engine_before(driver, &origin);
        let mut clients: Vec<_> = (0..CONNECTIONS).map(|_| engine.connect()).collect();
        for client in &mut clients {
            client.get("/").assert_is(200, "ok");
        }
        let cores = 0..CORES;
        let open: Vec<_> =
            cores.map(|core| engine.counter(&format!("/cores/{core}/connections_open"))).collect();
        assert_eq!((open.len(), open.iter().sum::<u64>()), (CORES, CONNECTIONS as u64), "{open:?}");
        let mean = (CONNECTIONS / CORES) as u64;
        assert!(open.iter().all(|connections| *connections >= mean / 2), "{open:?}");
        let requests = per_core(&engine, "/listeners/0/per_core/requests");
        assert!(requests.iter().all(|requests| *requests >= mean / 2), "{requests:?}");
    });
}

#[test]
fn idle_connections_cost_next_to_nothing() {
    const CONNECTIONS: usize = 2000;
    // Kernel memory aside: a slot in two tables, which grow by doubling.
    const RESIDENT_BYTES_EACH_MAX: u64 = 1024;
    allow_many_connections();
    on_both_drivers(|driver| {
        let origin = Origin::answering(OK);
        let engine = engine_before(driver, &origin);
        let used_once = || {
            let mut client = engine.connect();
            client.get("/").assert_is(200, "ok");
            client
        };
        let mut idle: Vec<_> = (0..CONNECTIONS).map(|_| used_once()).collect();
        // What the engine takes once, whatever the number of connections, it has taken by now: histograms included,
        // which are recorded into, handed over and merged.
        for _ in 0..3 {
            engine.collect_latencies();
            engine.connect().get("/").assert_is(200, "ok");
        }
        let before = engine.bytes_at_rest();
        idle.extend((0..3 * CONNECTIONS).map(|_| used_once()));
        let each = engine.resident_bytes().saturating_sub(before) / (3 * CONNECTIONS as u64);
        assert!(each <= RESIDENT_BYTES_EACH_MAX, "{each} bytes for each idle connection");
        for client in &mut idle {
            client.assert_open();
        }
        engine.connect().get("/").assert_is(200, "ok");
        drop(idle);
        engine.assert_counter("/totals/connections_open", 0);
    });
}

/// The fewest buffers a core can have, so that few clients are enough to use them up.
const FEW_BUFFERS: &str = "buffers_per_core = 16";

#[test]
fn clients_that_send_slowly_do_not_keep_others_waiting() {
    const SLOW: usize = 100;
    let beginnings = [
        "GET / HTTP/1.1\r\nHost: te",
        "POST / HTTP/1.1\r\nHost: test\r\nContent-Length: 5\r\n\r\nbo",
        "POST / HTTP/1.1\r\nHost: test\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nbo",
        // Served, with the beginning of another request behind it.
        "GET / HTTP/1.1\r\nHost: test\r\n\r\nGET / HT",
    ];
    on_both_drivers(|driver| {
        for beginning in beginnings {
            let origin = Origin::answering(OK);
            let endpoints = &[origin.address];
            let engine =
                Engine::start(driver, Config { endpoints, process: FEW_BUFFERS, ..Config::default() });
            let slow: Vec<_> = (0..SLOW).map(|_| engine.connect()).collect();
            for client in &slow {
                client.send(beginning);
            }
            assert_others_are_served(&engine, beginning);
        }
    });
}

#[test]
fn clients_that_read_slowly_do_not_keep_others_waiting() {
    const SLOW: usize = 24;
    on_both_drivers(|driver| {
        let origin = Origin::start(|peer| {
            while let Some(request) = peer.request() {
                if request.head.target() == "/endless" {
                    peer.wire.send("HTTP/1.1 200 OK\r\n\r\n");
                    while peer.wire.send([b'x'; 64 * 1024]) {}
                    return;
                }
                peer.wire.send(OK);
            }
        });
        let endpoints = &[origin.address];
        let engine = Engine::start(driver, Config { endpoints, process: FEW_BUFFERS, ..Config::default() });
        let slow: Vec<_> = (0..SLOW).map(|_| engine.connect()).collect();
        for client in &slow {
            client.send("GET /endless HTTP/1.1\r\nHost: test\r\n\r\n");
        }
        origin.wait_until(|seen| seen.requests.len() == SLOW);
        // Until the kernel's buffers are full, which nobody announces.
        thread::sleep(Duration::from_millis(500));
        assert_others_are_served(&engine, "slow readers");
    });
}

#[test]
fn endpoints_that_read_slowly_do_not_keep_others_waiting() {
    const SLOW: usize = 24;
    on_both_drivers(|driver| {
        let over = Signal::default();
        let is_over = over.clone();
        let origin = Origin::start(move |peer| {
            while let Some(head) = peer.head() {
                if head.target() == "/unread" {
                    return is_over.take();
                }
                peer.wire.send(OK);
            }
        });
        let endpoints = &[origin.address];
        let engine = Engine::start(driver, Config { endpoints, process: FEW_BUFFERS, ..Config::default() });
        let slow: Vec<_> = (0..SLOW).map(|_| engine.connect()).collect();
        for client in &slow {
            client.send("POST /unread HTTP/1.1\r\nHost: test\r\nTransfer-Encoding: chunked\r\n\r\n");
            let sender = client.sender();
            let chunk = [b"10000\r\n".as_slice(), &[b'x'; 0x10000], b"\r\n"].concat();
            // Ends with the connection.
            thread::spawn(move || while sender.send(&chunk) {});
        }
        origin.wait_until(|seen| seen.requests.len() == SLOW);
        // Until the kernel's buffers are full, which nobody announces.
        thread::sleep(Duration::from_millis(500));
        assert_others_are_served(&engine, "endpoints that read slowly");
        (0..SLOW).for_each(|_| over.give());
    });
}

/// Fails unless well-behaved clients are served beside others.
#[track_caller]
fn assert_others_are_served(engine: &Engine, others: &str) {
    for _ in 0..10 {
        let mut client = engine.connect();
        for _ in 0..10 {
            let answer = client.get("/good");
            assert_eq!(answer.status(), 200, "beside {others:?}");
        }
    }
}
