//! Does the engine hold under many connections at once, spread them over its cores, and count every request?
//!
//! Never measures speed: that is `bench/`.

mod common;

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use common::connection::Connection;
use common::engine::{Config, Engine};
use common::on_both_drivers;
use common::origin::{OK, Origin};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use serde_json::Value;

const CORES: usize = 2;

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
        let engine = Engine::start_on_cores(
            driver,
            CORES,
            Config { endpoints: &[origin.address], ..Config::default() },
        );
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
        let engine = Engine::start_on_cores(
            driver,
            CORES,
            Config { endpoints: &[origin.address], ..Config::default() },
        );
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
    const CONNECTIONS: usize = 1000;
    // Kernel memory aside: a slot in two tables, and the allocator's rounding.
    const RESIDENT_BYTES_EACH_MAX: u64 = 4096;
    allow_many_connections();
    on_both_drivers(|driver| {
        let origin = Origin::answering(OK);
        let engine = Engine::start_on_cores(
            driver,
            CORES,
            Config { endpoints: &[origin.address], ..Config::default() },
        );
        for _ in 0..100 {
            engine.connect().get("/").assert_is(200, "ok");
        }
        let before = engine.resident_bytes();
        let mut idle: Vec<_> = (0..CONNECTIONS).map(|_| engine.connect()).collect();
        for client in &mut idle {
            client.get("/").assert_is(200, "ok");
        }
        let each = engine.resident_bytes().saturating_sub(before) / CONNECTIONS as u64;
        assert!(each <= RESIDENT_BYTES_EACH_MAX, "{each} bytes for each idle connection");
        engine.connect().get("/").assert_is(200, "ok");
        for client in &mut idle {
            client.assert_open();
        }
        drop(idle);
        engine.assert_counter("/totals/connections_open", 0);
    });
}

/// Fails unless a well-behaved client is served beside `slow` ones.
#[track_caller]
fn assert_others_are_served(engine: &Engine, slow: &mut [Connection]) {
    for _ in 0..10 {
        let mut client = engine.connect();
        for _ in 0..10 {
            client.get("/").assert_is(200, "ok");
        }
    }
    drop(slow.iter_mut().map(Connection::assert_open));
}

#[test]
fn clients_that_send_slowly_do_not_keep_others_waiting() {
    const SLOW: usize = 1000;
    allow_many_connections();
    let beginnings = [
        "GET / HTTP/1.1\r\nHost: te",
        "POST / HTTP/1.1\r\nHost: test\r\nContent-Length: 5\r\n\r\nbo",
        "POST / HTTP/1.1\r\nHost: test\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nbo",
    ];
    on_both_drivers(|driver| {
        for beginning in beginnings {
            eprintln!("{beginning:?}");
            let origin = Origin::answering(OK);
            let engine = Engine::before(driver, origin.address);
            let mut slow: Vec<_> = (0..SLOW).map(|_| engine.connect()).collect();
            for client in &slow {
                client.send(beginning);
            }
            assert_others_are_served(&engine, &mut slow);
        }
    });
}

#[test]
fn clients_that_read_slowly_do_not_keep_others_waiting() {
    const SLOW: usize = 600;
    allow_many_connections();
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
        let engine = Engine::before(driver, origin.address);
        let mut slow: Vec<_> = (0..SLOW).map(|_| engine.connect()).collect();
        for client in &slow {
            client.send("GET /endless HTTP/1.1\r\nHost: test\r\n\r\n");
        }
        for client in &mut slow {
            assert_eq!(client.head().expect("an answer").status(), 200);
        }
        // Each has begun to read; by now the kernel's buffers fill up.
        thread::sleep(Duration::from_secs(1));
        for _ in 0..10 {
            engine.connect().get("/").assert_is(200, "ok");
        }
    });
}
