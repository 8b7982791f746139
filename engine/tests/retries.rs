//! Which failed requests go out again, where, and how often?
//!
//! Never more than one core, so that tries can be counted one by one.

mod common;

use std::net::SocketAddr;

use common::connection::Connection;
use common::engine::{Config, Engine};
use common::on_both_drivers;
use common::origin::{OK, Origin};

const POST: &str = "POST / HTTP/1.1\r\nHost: test\r\nContent-Length: 4\r\n\r\nbody";
const PUT: &str = "PUT / HTTP/1.1\r\nHost: test\r\nContent-Length: 4\r\n\r\nbody";

/// An origin that reads each request and ends the connection without a word.
fn silent(is_reset: bool) -> Origin {
    Origin::start(move |peer| {
        peer.request();
        if is_reset {
            peer.wire.reset_when_dropped();
        }
    })
}

/// An origin that answers with a status, an id in its head.
fn answering(status: u16) -> Origin {
    Origin::answering(format!("HTTP/1.1 {status} Status\r\nContent-Length: 2\r\nX-From: {status}\r\n\r\nno"))
}

fn addresses(origins: &[&Origin]) -> Vec<SocketAddr> {
    origins.iter().map(|origin| origin.address).collect()
}

fn requests(origins: &[&Origin]) -> Vec<usize> {
    origins.iter().map(|origin| origin.seen().requests.len()).collect()
}

fn retries(engine: &Engine, cause: &str) -> u64 {
    engine.counter(&format!("/upstreams/0/retries/{cause}"))
}

#[test]
fn a_request_that_a_new_connection_lost_goes_to_another_endpoint() {
    on_both_drivers(|driver| {
        for is_reset in [false, true] {
            let (dying, sound) = (silent(is_reset), Origin::answering(OK));
            let endpoints = &addresses(&[&dying, &sound]);
            let engine = Engine::start(driver, Config { endpoints, ..Config::default() });
            let mut client = engine.connect();
            for request in 0..8 {
                let answer = if request % 2 == 0 { client.get("/") } else { client.ask(PUT) };
                answer.assert_is(200, "ok");
            }
            let [lost, answered] = requests(&[&dying, &sound])[..] else { panic!("two origins") };
            assert_eq!(answered, 8, "each once");
            assert!(lost > 0, "it had its turns");
            assert_eq!(retries(&engine, "reset"), lost as u64);
            assert!(engine.faults().is_empty(), "{:?}", engine.faults());
        }
    });
}

#[test]
fn a_request_with_effects_that_may_have_arrived_stays_lost() {
    on_both_drivers(|driver| {
        for is_reset in [false, true] {
            let origins = [silent(is_reset), silent(is_reset)];
            let engine = Engine::start(
                driver,
                Config { endpoints: &addresses(&[&origins[0], &origins[1]]), ..Config::default() },
            );
            let mut client = engine.connect();
            for _ in 0..4 {
                assert_eq!(client.ask(POST).status(), 502);
            }
            assert_eq!(requests(&[&origins[0], &origins[1]]), [2, 2], "each once, whoever got it");
            assert_eq!(retries(&engine, "reset"), 0);
            engine.assert_only_fault("upstream_gone", 4);
        }
    });
}

#[test]
fn no_endpoint_has_a_request_twice_and_no_request_more_tries_than_allowed() {
    on_both_drivers(|driver| {
        for (tries, expected) in [(1, 1), (2, 2), (3, 3), (10, 4)] {
            let origins = [(); 4].map(|()| silent(false));
            let all = origins.each_ref();
            let upstream = &format!("retry = {{ tries = {tries} }}");
            let engine =
                Engine::start(driver, Config { endpoints: &addresses(&all), upstream, ..Config::default() });
            assert_eq!(engine.connect().get("/").status(), 502);
            let mut had = requests(&all);
            had.sort_unstable();
            assert_eq!(had.iter().sum::<usize>(), expected);
            assert_eq!(had.last(), Some(&1), "{had:?}");
        }
    });
}

#[test]
fn what_is_not_among_the_causes_is_not_tried_again() {
    on_both_drivers(|driver| {
        let (dying, sound) = (silent(false), Origin::answering(OK));
        let endpoints = &[dying.address, Origin::nowhere(), sound.address];
        let upstream = "retry = { on = [] }";
        let engine = Engine::start(driver, Config { endpoints, upstream, ..Config::default() });
        let mut client = engine.connect();
        let mut statuses: Vec<u16> = (0..3).map(|_| client.get("/").status()).collect();
        statuses.sort_unstable();
        assert_eq!(statuses, [200, 502, 502]);
        assert_eq!(requests(&[&dying, &sound]), [1, 1]);
    });
}

#[test]
fn an_answer_with_a_status_that_says_so_is_asked_for_elsewhere() {
    on_both_drivers(|driver| {
        let (busy, sound) = (answering(503), Origin::answering(OK));
        let endpoints = &addresses(&[&busy, &sound]);
        let upstream = "retry = { on = ['503'] }";
        let engine = Engine::start(driver, Config { endpoints, upstream, ..Config::default() });
        let mut client = engine.connect();
        for _ in 0..8 {
            client.get("/").assert_is(200, "ok");
        }
        let seen = busy.seen();
        assert_eq!(retries(&engine, "status"), seen.requests.len() as u64);
        assert!(!seen.requests.is_empty());
        assert_eq!(seen.connections, 1, "what was not passed on has left its connection whole");
        // A request with effects gets the answer that there is.
        let mut statuses: Vec<u16> = (0..4).map(|_| client.ask(POST).status()).collect();
        statuses.sort_unstable();
        assert_eq!(statuses, [200, 200, 503, 503]);
    });
}

#[test]
fn where_nobody_else_is_left_the_last_answer_is_passed_on() {
    on_both_drivers(|driver| {
        let origins = [answering(503), answering(503), answering(500)];
        let all = origins.each_ref();
        let upstream = "retry = { on = ['503'] }";
        let engine =
            Engine::start(driver, Config { endpoints: &addresses(&all[..2]), upstream, ..Config::default() });
        let answer = engine.connect().get("/");
        answer.assert_is(503, "no");
        assert_eq!(answer.head.value("X-From"), Some("503"), "the endpoint's own");
        assert_eq!(requests(&all), [1, 1, 0]);
        // Another status is an answer like any other.
        let engine =
            Engine::start(driver, Config { endpoints: &addresses(&all[2..]), upstream, ..Config::default() });
        engine.connect().get("/").assert_is(500, "no");
    });
}

#[test]
fn an_answer_that_does_not_come_is_asked_for_elsewhere_where_that_is_wanted() {
    on_both_drivers(|driver| {
        let silent = Origin::start(|peer| {
            peer.request();
            // Until the other side gives up.
            peer.request();
        });
        let sound = Origin::answering(OK);
        let endpoints = &addresses(&[&silent, &sound]);
        let upstream = "timeouts.first_byte = '400ms'\nretry.on = ['timeout']";
        let engine = Engine::start(driver, Config { endpoints, upstream, ..Config::default() });
        let mut client = engine.connect();
        for _ in 0..4 {
            client.get("/").assert_is(200, "ok");
        }
        assert_eq!(requests(&[&silent, &sound]), [retries(&engine, "timeout") as usize, 4]);
        assert!(retries(&engine, "timeout") > 0);
        let mut statuses: Vec<u16> = (0..2).map(|_| client.ask(POST).status()).collect();
        statuses.sort_unstable();
        assert_eq!(statuses, [200, 504], "not with effects");
    });
}

#[test]
fn nothing_goes_out_again_once_the_client_has_seen_something() {
    on_both_drivers(|driver| {
        let origins = [(); 2].map(|()| {
            Origin::start(|peer| {
                peer.request();
                peer.wire
                    .send("HTTP/1.1 103 Early Hints\r\n\r\nHTTP/1.1 503 Busy\r\nContent-Length: 2\r\n\r\nno");
                peer.request();
            })
        });
        let all = origins.each_ref();
        let upstream = "retry = { on = ['503', 'reset'] }";
        let engine =
            Engine::start(driver, Config { endpoints: &addresses(&all), upstream, ..Config::default() });
        let mut client = engine.connect();
        assert_eq!(client.get("/").status(), 103);
        client.response().assert_is(503, "no");
        assert_eq!(requests(&all).iter().sum::<usize>(), 1);
    });
}

#[test]
fn a_body_that_is_not_at_hand_any_more_is_not_sent_again() {
    on_both_drivers(|driver| {
        let origins = [silent(false), silent(false)];
        let all = origins.each_ref();
        let engine = Engine::start(driver, Config { endpoints: &addresses(&all), ..Config::default() });
        let body = "x".repeat(100_000);
        let request = format!("PUT / HTTP/1.1\r\nHost: test\r\nContent-Length: {}\r\n\r\n{body}", body.len());
        assert_eq!(engine.connect().ask(&request).status(), 502);
        assert_eq!(requests(&all).iter().sum::<usize>(), 1);
    });
}

#[test]
fn beyond_the_budget_a_failed_request_stays_failed() {
    on_both_drivers(|driver| {
        for (budget, repeats) in [("0%", false), ("1%", true)] {
            let (dying, sound) = (silent(false), Origin::answering(OK));
            let endpoints = &addresses(&[&dying, &sound]);
            let upstream = &format!("retry = {{ budget = '{budget}' }}");
            let engine = Engine::start(driver, Config { endpoints, upstream, ..Config::default() });
            let mut client = engine.connect();
            let failed = (0..6).filter(|_| client.get("/").status() == 502).count();
            assert_eq!(failed == 0, repeats, "{budget}: {failed} of 6 failed");
            assert_eq!(engine.counter("/upstreams/0/retries_over_budget"), failed as u64);
        }
    });
}

#[test]
fn the_first_way_around_an_endpoint_that_is_not_there_needs_no_budget() {
    on_both_drivers(|driver| {
        let sound = Origin::answering(OK);
        let endpoints = &[Origin::nowhere(), sound.address];
        let upstream = "retry = { budget = '0%' }";
        let engine = Engine::start(driver, Config { endpoints, upstream, ..Config::default() });
        let mut client = engine.connect();
        for _ in 0..10 {
            client.get("/").assert_is(200, "ok");
            client.ask(POST).assert_is(200, "ok");
        }
        assert!(retries(&engine, "connect") > 0);
        assert_eq!(engine.counter("/upstreams/0/retries_over_budget"), 0);
        // The second is within the budget, of which there is none.
        let endpoints = &[Origin::nowhere(), Origin::nowhere(), Origin::nowhere()];
        let engine = Engine::start(driver, Config { endpoints, upstream, ..Config::default() });
        assert_eq!(engine.connect().get("/").status(), 502);
        assert_eq!((retries(&engine, "connect"), engine.counter("/upstreams/0/retries_over_budget")), (1, 1));
    });
}

#[test]
fn a_relayed_connection_is_made_elsewhere_and_never_again_once_there() {
    on_both_drivers(|driver| {
        let echo = Origin::start(|peer| {
            let said = peer.wire.bytes(4);
            peer.wire.send(said);
        });
        let config = format!(
            "[listener.web]\nbind = \"127.0.0.1:0\"\nprotocol = \"tcp\"\nupstream = \"app\"\n\
             [upstream.app]\nendpoints = [\"{}\", \"{}\"]\n",
            Origin::nowhere(),
            echo.address
        );
        let engine = Engine::start(driver, config);
        for _ in 0..4 {
            let mut client = Connection::open(engine.web());
            client.send("ping");
            assert_eq!(client.bytes(4), b"ping");
        }
        assert_eq!(echo.seen().connections, 4);
        assert!(retries(&engine, "connect") > 0);
    });
}
