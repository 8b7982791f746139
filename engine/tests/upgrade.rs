//! When does a connection stop being HTTP? After a 101 that was asked for, after CONNECT where that is allowed, and never else.
//!
//! Never trusts that bytes went through a tunnel because they arrived: what came behind a refusal has to be a request.

mod common;

use common::connection::Connection;
use common::engine::{Config, Driver, Engine};
use common::message::Framing;
use common::on_both_drivers;
use common::origin::{OK, Origin, Peer};
use rustix::process::Signal;

const OFFER: &str = "GET /chat HTTP/1.1\r\nHost: test\r\nConnection: Upgrade, x-hop\r\nUpgrade: websocket\r\n\
                     X-Hop: 1\r\nSec-WebSocket-Key: dGhlIHNhbXBsZQ==\r\n\r\n";
const SWITCHED: &str = "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
                        Sec-WebSocket-Accept: it\r\n\r\n";

/// An engine before `origin`, with further keys of its channel.
#[track_caller]
fn engine(driver: Driver, origin: &Origin, channel: &str) -> Engine {
    let endpoints = [origin.address];
    Engine::start(driver, Config { endpoints: &endpoints, channel, ..Config::default() })
}

/// The next `count` bytes, whatever they mean.
#[track_caller]
fn bytes(connection: &mut Connection, count: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    let end = connection.body(Framing::Length(count as u64), |part| bytes.extend_from_slice(part));
    assert!(end.is_complete, "only {bytes:?}");
    bytes
}

/// Answers the offer with `answer`, and what comes then with the same in capitals.
fn shouting(answer: &'static str) -> Origin {
    Origin::start(move |peer| {
        if peer.head().is_some() && peer.wire.send(answer) {
            shout(peer);
        }
    })
}

fn shout(peer: &mut Peer) {
    let sender = peer.wire.sender();
    peer.wire.body(Framing::UntilClose, |part| {
        sender.send(part.to_ascii_uppercase());
    });
}

#[test]
fn bytes_go_both_ways_after_a_101_and_what_came_early_goes_first() {
    on_both_drivers(|driver| {
        // The endpoint speaks in the segment of its 101, the client in that of its offer.
        const SPOKE_AT_ONCE: &str = "HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: WebSocket\r\n\
                                     Content-Length: 7\r\nSec-WebSocket-Accept: it\r\n\r\nhello\r\n";
        let origin = shouting(SPOKE_AT_ONCE);
        let engine = engine(driver, &origin, "");
        let mut client = engine.connect();
        client.send(format!("{OFFER}early, "));
        let head = client.head().expect("an answer");
        assert_eq!(head.status(), 101);
        assert_eq!(head.value("upgrade"), Some("WebSocket"));
        assert_eq!(head.values("connection"), ["upgrade"]);
        assert_eq!(head.value("sec-websocket-accept"), Some("it"));
        // It has no body (RFC 9110 §15.2), whatever an endpoint says.
        assert_eq!(head.value("content-length"), None);
        client.send("late");
        assert_eq!(bytes(&mut client, 7 + 11), b"hello\r\nEARLY, LATE");
        let seen = origin.seen();
        let (_, offer) = &seen.requests[0];
        assert_eq!(offer.head.value("upgrade"), Some("websocket"));
        assert_eq!(offer.head.values("connection"), ["upgrade"]);
        assert_eq!(offer.head.value("x-hop"), None);
        // Each side may end on its own.
        client.finish();
        client.assert_closed();
        engine.assert_counter("/totals/requests", 1);
        assert!(engine.faults().is_empty(), "{:?}", engine.faults());
    });
}

#[test]
fn without_a_101_what_follows_is_the_next_request() {
    on_both_drivers(|driver| {
        let origin = Origin::answering("HTTP/1.1 401 Unauthorized\r\nContent-Length: 2\r\n\r\nno");
        let engine = engine(driver, &origin, "");
        let mut client = engine.connect();
        client.send(format!("{OFFER}GET /second HTTP/1.1\r\nHost: test\r\n\r\n"));
        client.response().assert_is(401, "no");
        client.response().assert_is(401, "no");
        assert_eq!(origin.targets(), ["/chat", "/second"]);
        // Noise is refused as a request, and reaches nobody.
        client.send("\x01\x02\r\n\r\n");
        assert_eq!(client.response().status(), 400);
        assert_eq!(origin.seen().requests.len(), 2);
    });
}

#[test]
fn an_offer_that_the_channel_does_not_allow_is_not_passed_on() {
    on_both_drivers(|driver| {
        for (channel, offer, is_passed) in [
            ("", OFFER.to_owned(), true),
            ("", OFFER.replace("websocket", "websocket/13"), true),
            ("", OFFER.replace("websocket", "WebSocket, irc"), false),
            ("upgrade = []", OFFER.to_owned(), false),
            ("upgrade = [\"irc\"]", OFFER.replace("websocket", "IRC/6.9"), true),
            ("upgrade = \"*\"", OFFER.replace("websocket", "anything"), true),
            ("upgrade = \"*\"", OFFER.replace("websocket", "h2c"), false),
        ] {
            let origin = Origin::answering(OK);
            let engine = engine(driver, &origin, channel);
            engine.connect().ask(&offer).assert_is(200, "ok");
            let request = origin.only_request();
            assert_eq!(request.head.value("upgrade").is_some(), is_passed, "{channel} {offer}");
            assert_eq!(request.head.value("connection").is_some(), is_passed, "{channel} {offer}");
        }
    });
}

#[test]
fn a_101_that_nobody_asked_for_or_that_says_too_little_is_502() {
    on_both_drivers(|driver| {
        let plain = "GET / HTTP/1.1\r\nHost: test\r\n\r\n";
        let posting = OFFER.replace("GET", "POST").replace("\r\n\r\n", "\r\nContent-Length: 10\r\n\r\nhalf");
        for (request, answer) in [
            (plain, SWITCHED.to_owned()),
            (OFFER, SWITCHED.replace("Connection: Upgrade\r\n", "")),
            (OFFER, SWITCHED.replace("Upgrade: websocket\r\n", "")),
            (OFFER, SWITCHED.replace("Upgrade: websocket", "Upgrade: h2c")),
            (OFFER, SWITCHED.replace("Upgrade: websocket", "Upgrade: websocket, irc")),
            // The rest of its body would be the first bytes of another protocol.
            (&posting, SWITCHED.to_owned()),
        ] {
            let answer: &'static str = answer.leak();
            let origin = shouting(answer);
            let engine = engine(driver, &origin, "");
            let mut client = engine.connect();
            client.send(request);
            assert_eq!(client.response().status(), 502, "{request} {answer}");
            engine.assert_only_fault("unasked_upgrade", 1);
        }
    });
}

#[test]
fn connect_is_a_tunnel_to_the_upstream_only_where_a_channel_says_so() {
    on_both_drivers(|driver| {
        let connect = "CONNECT other.test:443 HTTP/1.1\r\nHost: other.test:443\r\n\r\n";
        let origin = Origin::start(shout);
        let allowing = engine(driver, &origin, "connect = true");
        let mut client = allowing.connect();
        client.send(format!("{connect}early, "));
        let head = client.head().expect("an answer");
        assert_eq!((head.status(), head.fields.len()), (200, 0), "{head:?}");
        client.send("late");
        assert_eq!(bytes(&mut client, 11), b"EARLY, LATE");
        client.finish();
        client.assert_closed();
        assert!(allowing.faults().is_empty(), "{:?}", allowing.faults());

        // Content of which nobody knows to whom it belongs.
        let mut client = allowing.connect();
        client.send(connect.replace("\r\n\r\n", "\r\nContent-Length: 4\r\n\r\nwhat"));
        assert_eq!(client.response_to("CONNECT").status(), 501);
        allowing.assert_only_fault("tunnel_refused", 1);

        let refusing = engine(driver, &origin, "");
        let mut client = refusing.connect();
        client.send(connect);
        assert_eq!(client.response_to("CONNECT").status(), 501);
        refusing.assert_only_fault("tunnel_refused", 1);

        let endpoints = [Origin::nowhere()];
        let config = Config { endpoints: &endpoints, channel: "connect = true", ..Config::default() };
        let nobody = Engine::start(driver, config);
        let mut client = nobody.connect();
        client.send(connect);
        assert_eq!(client.response_to("CONNECT").status(), 502);
    });
}

#[test]
fn silence_ends_a_tunnel_by_its_own_deadline_and_not_by_that_of_requests() {
    on_both_drivers(|driver| {
        let origin = shouting(SWITCHED);
        let endpoints = [origin.address];
        let timeouts = "timeouts = { total = \"100ms\", tunnel = \"700ms\" }";
        let config = Config {
            endpoints: &endpoints,
            listener: "timeouts = { idle = \"100ms\", body = \"100ms\" }",
            upstream: "timeouts = { body = \"100ms\", first_byte = \"5s\" }",
            channel: timeouts,
            ..Config::default()
        };
        let engine = Engine::start(driver, config);
        let mut client = engine.connect();
        client.send(OFFER);
        assert_eq!(client.head().expect("an answer").status(), 101);
        let began = std::time::Instant::now();
        client.rest();
        assert!(began.elapsed().as_millis() >= 600, "ended by another deadline after {:?}", began.elapsed());
        engine.assert_only_fault("tunnel_idle", 1);
    });
}

#[test]
fn a_drain_lets_a_tunnel_go_on_until_its_deadline() {
    on_both_drivers(|driver| {
        let origin = shouting(SWITCHED);
        let endpoints = [origin.address];
        let config =
            Config { endpoints: &endpoints, process: "drain_timeout = \"30s\"", ..Config::default() };
        let mut engine = Engine::start(driver, config);
        let mut client = engine.connect();
        client.send(OFFER);
        assert_eq!(client.head().expect("an answer").status(), 101);
        engine.signal(Signal::TERM);
        for _ in 0..20 {
            client.send("still here");
            assert_eq!(bytes(&mut client, 10), b"STILL HERE");
        }
        // Its end is the end of the drain.
        client.finish();
        client.assert_closed();
        assert!(engine.wait().success());
    });
}
