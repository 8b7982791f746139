//! Do faults made on purpose hit as many requests as they should, and do copies of requests cost their clients nothing?
//!
//! Shares are counted with room for the dice; that something was let wait is seen by its counter, never by a clock.

mod common;

use std::thread;

use common::connection::Connection;
use common::engine::{Config, Driver, Engine};
use common::origin::{OK, Origin};
use common::{eventually, on_both_drivers};

/// An engine before `origin` whose channel takes these further keys.
fn engine_with(driver: Driver, origin: &Origin, channel: &str) -> Engine {
    Engine::start(driver, Config { endpoints: &[origin.address], channel, ..Config::default() })
}

/// An engine that sends copies of requests to `shadow`.
fn engine_with_shadow(driver: Driver, origin: &Origin, shadow: &Origin, mirror: &str) -> Engine {
    let channel = format!("mirror = {{ upstream = 'shadow'{mirror} }}");
    let upstream = format!("[upstream.shadow]\nendpoints = ['{}']", shadow.address);
    let (endpoints, channel, upstream) = (&[origin.address][..], &*channel, &*upstream);
    Engine::start(driver, Config { endpoints, channel, upstream, ..Config::default() })
}

fn post(client: &mut Connection, body: &str) -> u16 {
    let head = format!("POST /p HTTP/1.1\r\nHost: a\r\nContent-Length: {}\r\n\r\n", body.len());
    client.ask(&format!("{head}{body}")).status()
}

#[test]
fn a_share_of_requests_is_answered_with_an_error_and_never_forwarded() {
    on_both_drivers(|driver| {
        let origin = Origin::answering(OK);
        let engine = engine_with(driver, &origin, "fault.abort = { status = 418, share = '30%' }");
        let mut client = engine.connect();
        let aborted = (0..1_000).filter(|_| client.get("/").status() == 418).count();
        // Twelve standard deviations of a binomial distribution to either side.
        assert!((126..=474).contains(&aborted), "{aborted}");
        assert_eq!(origin.seen().requests.len(), 1_000 - aborted);
        engine.assert_counter("/channels/0/aborted", aborted as u64);
        engine.assert_only_fault("injected", aborted as u64);
    });
}

#[test]
fn all_or_none_of_a_hundred_are_just_that() {
    on_both_drivers(|driver| {
        for (share, status) in [("100%", 503), ("0%", 200)] {
            let origin = Origin::answering(OK);
            let engine = engine_with(driver, &origin, &format!("fault.abort = {{ share = '{share}' }}"));
            let mut client = engine.connect();
            assert!((0..50).all(|_| client.get("/").status() == status), "{share}");
        }
    });
}

#[test]
fn a_request_that_waits_is_served_afterwards_and_holds_no_more_than_its_share_of_buffers() {
    on_both_drivers(|driver| {
        let origin = Origin::answering(OK);
        let endpoints = &[origin.address];
        let (process, channel) = ("buffers_per_core = 16", "fault.delay = { time = '300ms' }");
        let engine = Engine::start(driver, Config { endpoints, process, channel, ..Config::default() });
        let clients: Vec<_> = (0..6).map(|_| engine.connect()).collect();
        let asked: Vec<_> = clients
            .into_iter()
            .map(|mut client| thread::spawn(move || client.get("/").assert_is(200, "ok")))
            .collect();
        for client in asked {
            client.join().expect("an answer");
        }
        // Two of the eight buffers for clients are for those who wait; how many come while two do is up to the machine.
        let (delayed, skipped) =
            (engine.counter("/channels/0/delayed"), engine.counter("/channels/0/delays_skipped"));
        assert!(delayed >= 2 && delayed + skipped == 6, "{delayed} {skipped}");
    });
}

#[test]
fn a_client_that_goes_while_it_waits_is_not_waited_for() {
    on_both_drivers(|driver| {
        let origin = Origin::answering(OK);
        let engine = engine_with(driver, &origin, "fault.delay = { time = '1h' }");
        let client = engine.connect();
        client.reset_when_dropped();
        assert!(client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n"));
        engine.assert_counter("/channels/0/delayed", 1);
        drop(client);
        engine.assert_only_fault("client_gone_in_response", 1);
        assert_eq!(origin.seen().connections, 0);
    });
}

#[test]
fn copies_are_what_the_endpoint_got_and_their_answers_are_dropped() {
    on_both_drivers(|driver| {
        let origin = Origin::answering(OK);
        let answer = "HTTP/1.1 103 Hint\r\n\r\nHTTP/1.1 500 No\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nbad\r\n0\r\n\r\n";
        let shadow = Origin::answering(answer);
        let engine = engine_with_shadow(driver, &origin, &shadow, "");
        let mut client = engine.connect();
        for (target, copies) in [("/a", 1), ("/b?c", 2), ("/d", 3)] {
            client.get(target).assert_is(200, "ok");
            engine.assert_counter("/channels/0/mirrored", copies);
        }
        assert_eq!(shadow.targets(), origin.targets());
        let (origin, shadow) = (origin.seen().requests, shadow.seen());
        assert!(origin.iter().zip(&shadow.requests).all(|((_, request), (_, copy))| request == copy));
        // A connection that carried a copy carries the next one.
        assert_eq!(shadow.connections, 1);
        assert!(engine.faults().is_empty());
    });
}

#[test]
fn what_may_have_effects_is_copied_only_where_that_is_allowed() {
    on_both_drivers(|driver| {
        let (origin, shadow) = (Origin::answering(OK), Origin::answering(OK));
        let engine = engine_with_shadow(driver, &origin, &shadow, "");
        let mut client = engine.connect();
        assert_eq!(post(&mut client, "x"), 200);
        client.ask("DELETE / HTTP/1.1\r\nHost: a\r\n\r\n").assert_is(200, "ok");
        client.get("/g").assert_is(200, "ok");
        engine.assert_counter("/channels/0/mirrored", 1);
        engine.assert_counter("/channels/0/mirrors_skipped", 2);
        assert_eq!(shadow.targets(), ["/g"]);

        let (origin, shadow) = (Origin::answering(OK), Origin::answering(OK));
        let allowed = ", unsafe_methods = true, body_bytes = '4KiB'";
        let engine = engine_with_shadow(driver, &origin, &shadow, allowed);
        let mut client = engine.connect();
        // Put together with its head, in a piece of its own, too long.
        let bodies = ["x".repeat(10), "y".repeat(4_096), "z".repeat(4_097)];
        for body in &bodies {
            assert_eq!(post(&mut client, body), 200);
        }
        // One whose body comes later is not there to be copied.
        client.send("POST /later HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\n");
        engine.assert_counter("/upstreams/0/endpoints/0/active", 1);
        client.send("ab");
        client.response().assert_is(200, "ok");
        engine.assert_counter("/channels/0/mirrored", 2);
        engine.assert_counter("/channels/0/mirrors_skipped", 2);
        let mut copies: Vec<String> =
            shadow.seen().requests.iter().map(|(_, copy)| copy.text().to_owned()).collect();
        copies.sort();
        assert!(copies == bodies[..2]);
    });
}

#[test]
fn a_mirror_that_fails_never_touches_the_client() {
    on_both_drivers(|driver| {
        let broken: [fn() -> Origin; 2] = [
            // Gone as soon as it was asked.
            || Origin::start(|peer| drop(peer.request())),
            // Not HTTP at all.
            || Origin::answering("220 ready\r\n\r\n"),
        ];
        for shadow in broken {
            let (origin, shadow) = (Origin::answering(OK), shadow());
            let engine = engine_with_shadow(driver, &origin, &shadow, "");
            let mut client = engine.connect();
            for _ in 0..5 {
                client.get("/").assert_is(200, "ok");
            }
            engine.assert_counter("/channels/0/mirror_failures", 5);
            assert!(engine.faults().is_empty());
        }
        // Nobody there.
        let (origin, upstream) = (Origin::answering(OK), Origin::nowhere());
        let upstream = format!("[upstream.shadow]\nendpoints = ['{upstream}']");
        let (endpoints, channel) = (&[origin.address], "mirror.upstream = 'shadow'");
        let config = Config { endpoints, channel, upstream: &upstream, ..Config::default() };
        let engine = Engine::start(driver, config);
        engine.connect().get("/").assert_is(200, "ok");
        engine.assert_counter("/channels/0/mirror_failures", 1);
    });
}

#[test]
fn copies_that_are_never_answered_have_a_bound() {
    on_both_drivers(|driver| {
        let origin = Origin::answering(OK);
        // Takes requests and says nothing, until the test is over.
        let shadow = Origin::start(|peer| while peer.request().is_some() {});
        let engine = engine_with_shadow(driver, &origin, &shadow, "");
        let mut client = engine.connect();
        for _ in 0..80 {
            client.get("/").assert_is(200, "ok");
        }
        eventually("the rest is not copied", || engine.counter("/channels/0/mirrors_skipped") == 16);
        shadow.wait_until(|seen| seen.requests.len() == 64);
        assert!(engine.faults().is_empty());
    });
}
