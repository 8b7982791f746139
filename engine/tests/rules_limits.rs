//! Do the rules of a channel hold that say who may come in, how often, and how many at a time?
//!
//! Over sockets, on one core and on several; nothing here depends on how fast the machine is.

mod common;

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::thread;
use std::time::Instant;

use common::connection::Connection;
use common::engine::{Config, Driver, Engine};
use common::origin::{OK, Origin};
use common::{eventually, on_both_drivers};

/// An engine before `origin` whose channel takes these further keys.
fn engine_with(driver: Driver, origin: &Origin, channel: &str) -> Engine {
    Engine::start(driver, Config { endpoints: &[origin.address], channel, ..Config::default() })
}

/// A GET with this further field line.
fn get_with(client: &mut Connection, field: &str) -> u16 {
    client.ask(&format!("GET / HTTP/1.1\r\nHost: test\r\n{field}\r\n\r\n")).status()
}

/// The PROXY header of a client with this address.
fn proxied(engine: &Engine, source: &str) -> Connection {
    let client = engine.connect();
    assert!(client.send(format!("PROXY TCP4 {source} 192.0.2.1 1000 80\r\n")));
    client
}

const PROXY: &str = r#"proxy_protocol = { from = ["127.0.0.0/8"] }"#;

#[test]
fn beyond_its_rate_a_request_is_told_when_to_come_back_and_the_connection_is_kept() {
    on_both_drivers(|driver| {
        let origin = Origin::answering(OK);
        let engine = engine_with(driver, &origin, r#"rate = [{ rate = "1/h", burst = 2 }]"#);
        let mut client = engine.connect();
        client.get("/").assert_is(200, "ok");
        client.get("/").assert_is(200, "ok");
        for _ in 0..2 {
            let refused = client.get("/");
            assert_eq!(refused.status(), 429);
            let seconds: u64 = refused.head.value("Retry-After").expect("when").parse().expect("seconds");
            assert!((3500..=3600).contains(&seconds), "{seconds}");
            assert_eq!(refused.head.value("Connection"), None);
        }
        assert_eq!(origin.seen().requests.len(), 2);
        engine.assert_only_fault("over_rate", 2);
        engine.assert_counter("/channels/0/over_rate", 2);
        engine.assert_counter("/channels/0/over_rate_per_address", 0);
        engine.assert_counter("/totals/responses/4xx", 2);
    });
}

#[test]
fn each_address_has_a_rate_of_its_own() {
    on_both_drivers(|driver| {
        let origin = Origin::answering(OK);
        let endpoints = &[origin.address];
        let channel = r#"rate = [{ by = "address", rate = "1/h" }]"#;
        let config = Config { endpoints, channel, listener: PROXY, ..Config::default() };
        let engine = Engine::start(driver, config);
        for address in ["10.0.0.1", "10.0.0.2"] {
            let mut client = proxied(&engine, address);
            client.get("/").assert_is(200, "ok");
            assert_eq!(client.get("/").status(), 429);
            assert_eq!(proxied(&engine, address).get("/").status(), 429);
        }
        engine.assert_counter("/channels/0/over_rate_per_address", 4);
    });
}

#[test]
fn each_value_of_a_field_has_a_rate_of_its_own_and_requests_without_it_share_one() {
    on_both_drivers(|driver| {
        let origin = Origin::answering(OK);
        let engine = engine_with(driver, &origin, r#"rate = [{ by = "header:x-api-key", rate = "1/h" }]"#);
        let mut client = engine.connect();
        for field in ["X-API-Key: a", "X-Api-Key: b", "X-Api-Key: a\r\nX-Api-Key: b", "Other: a"] {
            assert_eq!(get_with(&mut client, field), 200, "{field}");
            assert_eq!(get_with(&mut client, field), 429, "{field}");
        }
        assert_eq!(get_with(&mut client, "Another: b"), 429);
        engine.assert_counter("/channels/0/over_rate_per_header", 5);
    });
}

#[test]
fn a_request_that_one_rate_refuses_uses_up_no_other() {
    on_both_drivers(|driver| {
        let origin = Origin::answering(OK);
        let rates = r#"rate = [{ rate = "1/h", burst = 2 }, { by = "header:key", rate = "1/h" }]"#;
        let engine = engine_with(driver, &origin, rates);
        let mut client = engine.connect();
        assert_eq!(get_with(&mut client, "Key: a"), 200);
        for _ in 0..5 {
            assert_eq!(get_with(&mut client, "Key: a"), 429);
        }
        assert_eq!(get_with(&mut client, "Key: b"), 200);
        assert_eq!(get_with(&mut client, "Key: c"), 429);
        engine.assert_counter("/channels/0/over_rate", 1);
        engine.assert_counter("/channels/0/over_rate_per_header", 5);
    });
}

/// Asks over several connections at once until each has had as many answers; how many of them were 200.
fn hammer(address: SocketAddr, connections: usize, requests: usize) -> usize {
    let clients: Vec<_> = (0..connections)
        .map(|_| {
            thread::spawn(move || {
                let mut client = Connection::open(address);
                (0..requests).filter(|_| client.get("/").status() == 200).count()
            })
        })
        .collect();
    clients.into_iter().map(|client| client.join().expect("a client")).sum()
}

#[test]
fn a_rate_holds_over_any_number_of_cores() {
    on_both_drivers(|driver| {
        for cores in [1, 2, 8] {
            let config = "[listener.web]\nbind = \"127.0.0.1:0\"\n[channel.all]\nrespond = {}\n\
                          rate = [{ rate = \"200/s\", burst = 10 }]\n";
            let engine = Engine::start_on_cores(driver, cores, config);
            let began = Instant::now();
            let admitted = hammer(engine.web(), 16, 100);
            // Whatever the machine does meanwhile, no more than this have been due.
            let due = 10 + (began.elapsed().as_secs_f64() * 200.0).ceil() as usize;
            assert!((10..=due).contains(&admitted), "{admitted} of {due} on {cores} cores");
            engine.assert_counter("/channels/0/over_rate", 1600 - admitted as u64);
        }
    });
}

/// An origin that answers when it is told to: when the test connects to `gate`.
fn held_origin() -> Origin {
    Origin::start(|peer| {
        while let Some(request) = peer.request() {
            if request.head.target() == "/held" {
                // The end of the test drops the connection, which ends this too.
                let _ = peer.request();
                return;
            }
            peer.wire.send(OK);
        }
    })
}

const HELD: &str = "GET /held HTTP/1.1\r\nHost: test\r\n\r\n";

#[test]
fn a_channel_has_no_more_exchanges_in_progress_than_it_may() {
    on_both_drivers(|driver| {
        for cores in [1, 4] {
            let origin = held_origin();
            let endpoints = &[origin.address];
            let channel = "concurrency = { channel = 3 }";
            let config = Config { endpoints, channel, ..Config::default() };
            let engine = Engine::start_on_cores(driver, cores, config);
            let held: Vec<_> = (0..3)
                .map(|_| {
                    let client = engine.connect();
                    client.reset_when_dropped();
                    assert!(client.send(HELD));
                    client
                })
                .collect();
            origin.wait_until(|seen| seen.requests.len() == 3);
            for _ in 0..8 {
                let refused = engine.connect().get("/");
                assert_eq!((refused.status(), refused.head.value("Retry-After")), (503, Some("1")));
            }
            // However they end, what they held is given back.
            drop(held);
            eventually("room for another", || engine.connect().get("/").status() == 200);
            assert_eq!(origin.targets().iter().filter(|target| *target == "/held").count(), 3);
            assert!(engine.counter("/channels/0/over_concurrency") >= 8);
        }
    });
}

#[test]
fn an_address_has_no_more_exchanges_in_progress_than_it_may() {
    on_both_drivers(|driver| {
        let origin = held_origin();
        let endpoints = &[origin.address];
        let channel = "concurrency = { channel = 10, address = 1 }";
        let config = Config { endpoints, channel, listener: PROXY, ..Config::default() };
        let engine = Engine::start(driver, config);
        let held = proxied(&engine, "10.0.0.1");
        held.reset_when_dropped();
        assert!(held.send(HELD));
        origin.wait_until(|seen| seen.requests.len() == 1);
        assert_eq!(proxied(&engine, "10.0.0.1").get("/").status(), 429);
        proxied(&engine, "10.0.0.2").get("/").assert_is(200, "ok");
        drop(held);
        eventually("room for another", || proxied(&engine, "10.0.0.1").get("/").status() == 200);
        engine.assert_counter("/channels/0/over_concurrency", 0);
    });
}

#[test]
fn a_tunnel_counts_as_long_as_it_lasts() {
    on_both_drivers(|driver| {
        let origin = Origin::start(|peer| {
            if peer.head().is_some_and(|head| head.target() == "/tunnel") {
                peer.wire.send(
                    "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n",
                );
                let _ = peer.request();
            } else {
                peer.wire.send(OK);
            }
        });
        let engine = engine_with(driver, &origin, "concurrency = { channel = 1 }");
        let mut tunnel = engine.connect();
        assert!(
            tunnel
                .send("GET /tunnel HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n")
        );
        assert_eq!(tunnel.head().expect("an answer").status(), 101);
        for _ in 0..3 {
            assert_eq!(engine.connect().get("/").status(), 503);
        }
        drop(tunnel);
        eventually("room for another", || engine.connect().get("/").status() == 200);
    });
}

#[test]
fn a_channel_serves_only_the_addresses_that_it_lets_in() {
    on_both_drivers(|driver| {
        let origin = Origin::answering(OK);
        let endpoints = &[origin.address];
        let channel = "allow = ['10.0.0.0/8', '10.1.2.3/32']\ndeny = ['10.1.0.0/16']";
        let config = Config { endpoints, channel, listener: PROXY, ..Config::default() };
        let engine = Engine::start(driver, config);
        for (address, status) in
            [("10.0.0.1", 200), ("10.1.0.1", 403), ("10.1.2.3", 200), ("10.1.2.4", 403), ("192.0.2.1", 403)]
        {
            let mut client = proxied(&engine, address);
            assert_eq!([client.get("/").status(), client.get("/").status()], [status; 2], "{address}");
        }
        engine.assert_counter("/channels/0/denied", 6);
        engine.assert_only_fault("address_denied", 6);
    });
}

#[test]
fn a_listener_closes_connections_of_addresses_that_it_does_not_let_in() {
    on_both_drivers(|driver| {
        let origin = Origin::answering(OK);
        let endpoints = &[origin.address];
        for lists in ["deny = ['127.0.0.1']", "allow = ['10.0.0.0/8', '::1/128']"] {
            let config = Config { endpoints, listener: lists, ..Config::default() };
            let engine = Engine::start(driver, config);
            for _ in 0..3 {
                engine.connect().assert_closed();
            }
            engine.assert_counter("/listeners/0/denied", 3);
        }
        // The address that counts is the one that a trusted proxy tells.
        let lists = format!("{PROXY}\ndeny = ['127.0.0.0/8', '10.0.0.1']");
        let config = Config { endpoints, listener: &lists, ..Config::default() };
        let engine = Engine::start(driver, config);
        proxied(&engine, "10.0.0.2").get("/").assert_is(200, "ok");
        proxied(&engine, "10.0.0.1").assert_closed();
        engine.assert_counter("/listeners/0/denied", 1);
        assert_eq!(origin.seen().requests.len(), 1);
    });
}

#[test]
fn thousands_of_networks_are_one_search() {
    on_both_drivers(|driver| {
        let origin = Origin::answering(OK);
        let mut deny = String::new();
        for index in 0..8_000 {
            let _ = write!(deny, "'11.{}.{}.0/25', ", index >> 8, index & 255);
        }
        let endpoints = &[origin.address];
        let listener = format!("{PROXY}\ndeny = [{deny}]");
        let engine = Engine::start(driver, Config { endpoints, listener: &listener, ..Config::default() });
        proxied(&engine, "11.30.255.128").get("/").assert_is(200, "ok");
        proxied(&engine, "11.30.255.127").assert_closed();
        engine.assert_counter("/listeners/0/denied", 1);
    });
}
