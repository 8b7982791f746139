//! What becomes of requests for which there is no room: who waits, for how long, and what are the others told?
//!
//! Never a figure of time: what is late is told by what happened before.

mod common;

use common::connection::Connection;
use common::engine::{Config, Engine};
use common::on_both_drivers;
use common::origin::Origin;
use common::signal::Signal;

const GET: &str = "GET / HTTP/1.1\r\nHost: test\r\n\r\n";

/// An origin that says when a request has come, and answers when it is told to.
struct Held {
    origin: Origin,
    asked: Signal,
    answer: Signal,
}

impl Held {
    fn start() -> Self {
        let (origin, asked, answer) = Origin::held();
        Self { origin, asked, answer }
    }

    /// One connection to it, and what else is said of the upstream.
    fn config(&self, upstream: &str) -> String {
        format!(
            "[listener.web]\nbind = \"127.0.0.1:0\"\nretry_after = \"7s\"\n[channel.all]\nupstream = \"app\"\n\
             [upstream.app]\nendpoints = [{{ address = \"{}\", max_connections = 1 }}]\n{upstream}",
            self.origin.address
        )
    }
}

/// A client that has asked and has no answer yet.
fn asking(engine: &Engine) -> Connection {
    let client = engine.connect();
    client.send(GET);
    client
}

#[track_caller]
fn assert_turned_away(client: &mut Connection) {
    let answer = client.response();
    assert_eq!((answer.status(), answer.head.value("Retry-After")), (503, Some("7")));
    client.assert_open();
}

#[test]
fn who_came_first_is_served_first() {
    on_both_drivers(|driver| {
        let held = Held::start();
        let engine = Engine::start(driver, held.config("queue.timeout = '10s'\n"));
        let mut waiting = vec![asking(&engine)];
        held.asked.take();
        for number in 1..5 {
            waiting.push(asking(&engine));
            engine.assert_counter("/upstreams/0/waiting", number);
        }
        for mut client in waiting {
            held.answer.give();
            client.response().assert_is(200, "ok");
        }
        let seen = held.origin.seen();
        assert_eq!((seen.connections, seen.requests.len()), (1, 5));
        assert_eq!(engine.counter("/upstreams/0/queued"), 4);
        assert!(engine.faults().is_empty(), "{:?}", engine.faults());
    });
}

#[test]
fn beyond_its_size_nobody_waits() {
    on_both_drivers(|driver| {
        for size in [0, 2] {
            let held = Held::start();
            let engine = Engine::start(
                driver,
                held.config(&format!("queue = {{ size = {size}, timeout = '10s' }}\n")),
            );
            let mut first = asking(&engine);
            held.asked.take();
            let mut waiting: Vec<Connection> = (0..size)
                .map(|number| {
                    let client = asking(&engine);
                    engine.assert_counter("/upstreams/0/waiting", number + 1);
                    client
                })
                .collect();
            // While the others go on waiting.
            assert_turned_away(&mut asking(&engine));
            engine.assert_only_fault("queue_full", 1);
            for client in std::iter::once(&mut first).chain(&mut waiting) {
                held.answer.give();
                client.response().assert_is(200, "ok");
            }
        }
    });
}

#[test]
fn the_bound_of_the_queue_is_one_for_all_cores() {
    on_both_drivers(|driver| {
        let held = Held::start();
        let engine =
            Engine::start_on_cores(driver, 4, held.config("queue = { size = 5, timeout = '10s' }\n"));
        let mut first = asking(&engine);
        held.asked.take();
        let mut others: Vec<Connection> = (0..5).map(|_| asking(&engine)).collect();
        let waits = || -> u64 { engine.counter("/upstreams/0/waiting") };
        common::eventually("five wait", || waits() == 5);
        for _ in 0..8 {
            assert_turned_away(&mut asking(&engine));
        }
        // Wherever they wait, each is called.
        held.answer.give();
        first.response().assert_is(200, "ok");
        for _ in &others {
            held.asked.take();
            held.answer.give();
        }
        for client in &mut others {
            client.response().assert_is(200, "ok");
        }
        engine.assert_only_fault("queue_full", 8);
    });
}

#[test]
fn who_waits_too_long_is_turned_away_and_the_rest_moves_up() {
    on_both_drivers(|driver| {
        let held = Held::start();
        let engine = Engine::start(driver, held.config("queue.timeout = '100ms'\n"));
        let mut first = asking(&engine);
        held.asked.take();
        assert_turned_away(&mut asking(&engine));
        engine.assert_only_fault("queue_timeout", 1);
        engine.assert_counter("/upstreams/0/waiting", 0);
        held.answer.give();
        first.response().assert_is(200, "ok");
        held.answer.give();
        first.get("/").assert_is(200, "ok");
    });
}

#[test]
fn a_client_that_leaves_the_line_keeps_nobody_waiting() {
    on_both_drivers(|driver| {
        let held = Held::start();
        let engine = Engine::start(driver, held.config("queue.timeout = '10s'\n"));
        let mut first = asking(&engine);
        held.asked.take();
        let gone = asking(&engine);
        engine.assert_counter("/upstreams/0/waiting", 1);
        let mut last = asking(&engine);
        engine.assert_counter("/upstreams/0/waiting", 2);
        gone.reset_when_dropped();
        drop(gone);
        engine.assert_counter("/upstreams/0/waiting", 1);
        held.answer.give();
        first.response().assert_is(200, "ok");
        held.answer.give();
        last.response().assert_is(200, "ok");
        assert_eq!(held.origin.seen().requests.len(), 2, "who is gone was not asked for");
    });
}

#[test]
fn no_more_exchanges_are_in_progress_than_allowed() {
    on_both_drivers(|driver| {
        let held = Held::start();
        let endpoints = &[held.origin.address];
        let upstream = "limits = { in_flight = 3 }";
        let config = Config { endpoints, upstream, listener: "retry_after = \"7s\"", ..Config::default() };
        let engine = Engine::start_on_cores(driver, 4, config);
        let mut asked: Vec<Connection> = (0..3).map(|_| asking(&engine)).collect();
        for _ in &asked {
            held.asked.take();
        }
        for _ in 0..8 {
            assert_turned_away(&mut asking(&engine));
        }
        for _ in &asked {
            held.answer.give();
        }
        for client in &mut asked {
            client.response().assert_is(200, "ok");
        }
        engine.assert_counter("/totals/exchanges_open", 0);
        held.answer.give();
        asking(&engine).response().assert_is(200, "ok");
        engine.assert_only_fault("over_in_flight", 8);
    });
}

#[test]
fn no_more_requests_are_without_a_connection_than_allowed() {
    on_both_drivers(|driver| {
        let held = Held::start();
        let engine = Engine::start(driver, held.config("limits.pending = 1\nqueue.timeout = '10s'\n"));
        let mut first = asking(&engine);
        held.asked.take();
        let mut second = asking(&engine);
        engine.assert_counter("/upstreams/0/waiting", 1);
        assert_turned_away(&mut asking(&engine));
        engine.assert_only_fault("over_pending", 1);
        for client in [&mut first, &mut second] {
            held.answer.give();
            client.response().assert_is(200, "ok");
        }
    });
}

#[test]
fn a_channel_s_deadline_ends_a_wait_too() {
    on_both_drivers(|driver| {
        let held = Held::start();
        let config = held.config("queue.timeout = '1h'\n[channel.all.timeouts]\ntotal = '200ms'\n");
        let engine = Engine::start(driver, config);
        let mut first = asking(&engine);
        held.asked.take();
        assert_eq!(asking(&engine).response().status(), 504);
        assert_eq!(first.response().status(), 504);
        held.answer.give();
    });
}
