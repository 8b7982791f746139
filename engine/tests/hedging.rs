//! Which requests go out twice because their answer is slow in coming, and what becomes of the two?
//!
//! Never more than one core, so that copies can be counted.

mod common;

use common::engine::{Config, Engine};
use common::on_both_drivers;
use common::origin::{OK, Origin};
use common::signal::Signal;

const SLOW: &str = "hedge.after = \"50ms\"";

/// An origin that reads requests and answers none.
fn silent() -> Origin {
    Origin::start(|peer| while peer.request().is_some() {})
}

fn hedges(engine: &Engine) -> (u64, u64) {
    (engine.counter("/upstreams/0/hedges"), engine.counter("/upstreams/0/hedges_won"))
}

#[test]
fn the_first_answer_wins() {
    on_both_drivers(|driver| {
        let (silent, quick) = (silent(), Origin::answering(OK));
        let endpoints = &[silent.address, quick.address];
        let engine = Engine::start(driver, Config { endpoints, channel: SLOW, ..Config::default() });
        let mut client = engine.connect();
        for _ in 0..6 {
            client.get("/").assert_is(200, "ok");
        }
        let asked = silent.seen().requests.len() as u64;
        assert!(asked > 0, "it had its turns");
        assert_eq!(hedges(&engine), (asked, asked));
        assert_eq!(quick.seen().requests.len(), 6, "each once");
        // Nobody waits for the one that lost.
        silent.wait_until(|seen| seen.ended == seen.connections);
        assert!(engine.faults().is_empty(), "{:?}", engine.faults());
    });
}

#[test]
fn a_request_with_effects_or_a_body_is_never_in_two_places() {
    on_both_drivers(|driver| {
        let origins = [silent(), silent()];
        let endpoints = &[origins[0].address, origins[1].address];
        let upstream = "timeouts.first_byte = \"200ms\"";
        let engine =
            Engine::start(driver, Config { endpoints, upstream, channel: SLOW, ..Config::default() });
        let mut client = engine.connect();
        for request in [
            "POST / HTTP/1.1\r\nHost: test\r\nContent-Length: 0\r\n\r\n",
            "PUT / HTTP/1.1\r\nHost: test\r\nContent-Length: 4\r\n\r\nbody",
        ] {
            assert_eq!(client.ask(request).status(), 504, "{request}");
        }
        assert_eq!(origins.each_ref().map(|origin| origin.seen().requests.len()), [1, 1]);
        assert_eq!(hedges(&engine), (0, 0));
    });
}

#[test]
fn a_copy_is_within_the_budget_and_to_another_endpoint() {
    on_both_drivers(|driver| {
        let (silent, quick) = (silent(), Origin::answering(OK));
        for (endpoints, budget) in
            [(vec![silent.address], "100%"), (vec![silent.address, quick.address], "0%")]
        {
            let upstream = &format!("timeouts.first_byte = \"200ms\"\nretry.budget = \"{budget}\"");
            let config = Config { endpoints: &endpoints, upstream, channel: SLOW, ..Config::default() };
            let engine = Engine::start(driver, config);
            let mut client = engine.connect();
            let late = (0..endpoints.len()).filter(|_| client.get("/").status() == 504).count();
            assert_eq!((late, hedges(&engine)), (1, (0, 0)), "{budget}");
        }
    });
}

#[test]
fn an_endpoint_that_dies_meanwhile_loses() {
    on_both_drivers(|driver| {
        // One dies once both have been asked, and only then the other answers.
        let (asked, gone) = (Signal::default(), Signal::default());
        let (is_asked, is_gone) = (asked.clone(), gone.clone());
        let dying = Origin::start(move |peer| {
            if peer.request().is_some() {
                is_asked.take();
                is_gone.give();
            }
        });
        let slow = Origin::start(move |peer| {
            while peer.request().is_some() {
                asked.give();
                gone.take();
                peer.wire.send(OK);
            }
        });
        let endpoints = &[dying.address, slow.address];
        let upstream = "retry.on = []";
        let engine =
            Engine::start(driver, Config { endpoints, upstream, channel: SLOW, ..Config::default() });
        let mut client = engine.connect();
        client.get("/").assert_is(200, "ok");
        client.get("/").assert_is(200, "ok");
        assert!(engine.faults().is_empty(), "{:?}", engine.faults());
    });
}
