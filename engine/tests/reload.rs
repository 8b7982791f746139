//! Is anything lost when the configuration is renewed again and again under load? A hundred times, with everything under way that lasts.
//!
//! Never measures; what each renewal changes is for `apply.rs` to see.

mod common;

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;

use common::connection::Connection;
use common::engine::Engine;
use common::origin::{Origin, Peer};
use common::signal::Signal;
use common::{eventually, on_both_drivers};

/// Renewals of one engine.
const RELOADS: usize = 100;
/// As many configurations live at a time; see `proxy::generation`.
const GENERATIONS_MAX: usize = proxy::generation::GENERATIONS_MAX as usize;
/// Clients that ask as fast as they can over connections that they keep.
const CLIENTS: usize = 8;
/// Bytes of the download, of which one is sent for each renewal.
const DOWNLOAD: &str = "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n";
const OFFER: &str = "GET /tunnel HTTP/1.1\r\nHost: test\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n";
const SWITCHED: &str =
    "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n";

/// Answers requests at once, a download byte by byte as it is told, and shouts back what comes by tunnels.
fn origin(next_byte: &Signal) -> Origin {
    let next_byte = next_byte.clone();
    Origin::start(move |peer| {
        while let Some(head) = peer.head() {
            let is_sent = match head.target() {
                "/download" => {
                    let is_begun = peer.wire.send(DOWNLOAD);
                    is_begun
                        && (0..RELOADS).all(|_| {
                            next_byte.take();
                            peer.wire.send("x")
                        })
                }
                "/tunnel" => return shout(peer),
                target => {
                    let length = target.len();
                    peer.wire.send(format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n{target}"))
                }
            };
            if !is_sent {
                return;
            }
        }
    })
}

fn shout(peer: &mut Peer) {
    if peer.wire.send(SWITCHED) {
        repeat(peer);
    }
}

/// Says again whatever comes, in pieces of a byte.
fn repeat(peer: &mut Peer) {
    loop {
        let said = peer.wire.bytes(1);
        if said.is_empty() || !peer.wire.send(said) {
            return;
        }
    }
}

/// The configuration as the reload of this number has it: other modules stand in front, and terms differ.
fn configuration(number: usize, origin: SocketAddr, relayed: SocketAddr) -> String {
    let mut text = String::new();
    if number % 2 == 1 {
        text += "[listener.a0]\nbind = \"127.0.0.1:0\"\n\
                 [channel.a0]\npriority = 1\nmatch = { path_prefix = \"/nobody/\" }\nrespond = { status = 204 }\n";
    }
    if number % 3 == 1 {
        let _ = write!(
            text,
            "[upstream.a0]\nendpoints = [\"{origin}\"]\n[channel.a1]\nmatch = {{ path_prefix = \"/no/\" }}\nupstream = \"a0\"\n"
        );
    }
    let idle = 10 + number % 5;
    let _ = write!(
        text,
        "[listener.web]\nbind = \"127.0.0.1:0\"\nlimits = {{ connections = {} }}\n\
         [listener.bytes]\nbind = \"127.0.0.1:0\"\nprotocol = \"tcp\"\nupstream = \"bytes\"\n\
         [channel.all]\nupstream = \"app\"\n\
         response_headers = {{ set = {{ X-Number = \"{number}\" }} }}\n\
         [upstream.app]\nendpoints = [\"{origin}\"]\nidle_timeout = \"{idle}s\"\n\
         [upstream.bytes]\nendpoints = [\"{relayed}\"]\n",
        100 + number
    );
    text
}

/// Says a byte and hears it again.
#[track_caller]
fn echoes(connection: &mut Connection) {
    assert!(connection.send("z"), "the connection is gone");
    assert_eq!(connection.bytes(1), b"z");
}

#[test]
fn a_hundred_reloads_under_load_lose_nothing() {
    on_both_drivers(|driver| {
        let next_byte = Signal::default();
        let (app, bytes) = (origin(&next_byte), Origin::start(repeat));
        let config = |number| configuration(number, app.address, bytes.address);
        let engine = Engine::start_on_cores(driver, 2, config(0));

        let mut download = engine.connect();
        assert!(download.send("GET /download HTTP/1.1\r\nHost: test\r\n\r\n"));
        let mut tunnel = engine.connect();
        assert!(tunnel.send(OFFER));
        assert_eq!(tunnel.head().expect("an answer").status(), 101);
        let mut relay = Connection::open(engine.listener("bytes"));
        echoes(&mut relay);
        let mut idle = engine.connect();
        idle.get("/idle").assert_is(200, "/idle");

        let (sent, is_over) = (AtomicU64::new(3), AtomicBool::new(false));
        let current = AtomicU64::new(0);
        let mut open_before = 0;
        thread::scope(|scope| {
            for _ in 0..CLIENTS {
                scope.spawn(|| {
                    let mut client = engine.connect();
                    while !is_over.load(Ordering::Relaxed) {
                        let oldest = current.load(Ordering::SeqCst);
                        let answer = client.get("/");
                        sent.fetch_add(1, Ordering::Relaxed);
                        answer.assert_is(200, "/");
                        // Who asks once a reload is done is served by it, or by a later one.
                        let number = answer.head.value("x-number").and_then(|number| number.parse().ok());
                        assert!(number.is_some_and(|number: u64| number >= oldest), "{number:?} < {oldest}");
                    }
                });
            }
            for number in 1..=RELOADS {
                engine.rewrite(config(number));
                let (status, answer) = engine.reload();
                assert_eq!((status, &answer["unchanged"]), (200, &false.into()), "{answer:#}");
                current.store(number as u64, Ordering::SeqCst);
                next_byte.give();
                echoes(&mut tunnel);
                echoes(&mut relay);
                if number == 10 {
                    open_before = engine.open_files();
                }
            }
            is_over.store(true, Ordering::Relaxed);
        });
        idle.get("/idle").assert_is(200, "/idle");
        let sent = sent.into_inner() + 1;
        assert_eq!(download.response().body.len(), RELOADS);
        drop((tunnel, relay, idle, download));

        engine.assert_counter("/totals/requests", sent);
        engine.assert_counter("/totals/exchanges", sent);
        assert!(engine.faults().is_empty(), "{:?}", engine.faults());
        // One for each client, those above, and nobody was sent away.
        engine.assert_counter("/totals/connections_accepted", CLIENTS as u64 + 4);
        engine.assert_counter("/totals/connections_open", 0);
        let most = open_before + 8;
        eventually("descriptors are given back", || engine.open_files() <= most);
        // What was begun by the first has ended, and with it that.
        eventually("older configurations end with what they have begun", || {
            (0..2).all(|core| engine.counter(&format!("/cores/{core}/generations")) == 1)
        });
    });
}

/// With a tunnel of each kind begun by each of more configurations than may live at a time, all but the latest have ended; and every
/// tunnel goes on.
#[test]
fn tunnels_outlast_any_number_of_configurations() {
    const RELOADS: usize = GENERATIONS_MAX + 16;
    on_both_drivers(|driver| {
        let (app, bytes) = (origin(&Signal::default()), Origin::start(repeat));
        let config = |number| {
            configuration(number, app.address, bytes.address)
                + "[listener.lines]\nbind = \"127.0.0.1:0\"\nprotocol = \"tcp\"\nframing = \"line\"\nupstream = \"few\"\n"
                + &format!(
                    "[upstream.few]\nendpoints = [\"{}\"]\nlimits = {{ in_flight = {RELOADS} }}\n",
                    bytes.address
                )
        };
        let engine = Engine::start_on_cores(driver, 2, config(0));
        let mut tunnels = Vec::new();
        for number in 1..=RELOADS {
            let mut websocket = engine.connect();
            assert!(websocket.send(OFFER));
            assert_eq!(websocket.head().expect("an answer").status(), 101);
            let [relay, lines] = ["bytes", "lines"].map(|name| Connection::open(engine.listener(name)));
            tunnels.extend([websocket, relay, lines]);
            tunnels.iter_mut().rev().take(3).for_each(echoes);
            engine.rewrite(config(number));
            let (status, answer) = engine.reload();
            assert_eq!(status, 200, "reload {number}: {answer:#}");
        }
        eventually("tunnels keep no configuration", || {
            (0..2).all(|core| engine.counter(&format!("/cores/{core}/generations")) == 1)
        });
        tunnels.iter_mut().for_each(echoes);
        // They are counted where their listener is now, and messages too.
        engine.assert_counter("/totals/connections_open", tunnels.len() as u64);
        tunnels.iter().skip(2).step_by(3).for_each(|lines| assert!(lines.send("\n")));
        let lines = engine.stats()["listeners"]
            .as_array()
            .and_then(|rows| rows.iter().position(|row| row["name"] == "lines"));
        let lines = lines.expect("the listener");
        engine.assert_counter(&format!("/listeners/{lines}/messages_sent"), RELOADS as u64);
        // Who comes now finds as many in flight as there may be; who leaves makes room.
        assert!(Connection::is_sent_away(engine.listener("lines")));
        tunnels.truncate(3);
        engine.assert_counter("/totals/connections_open", 3);
        echoes(&mut Connection::open(engine.listener("lines")));
        tunnels.iter_mut().take(2).for_each(echoes);
    });
}

/// What is in flight keeps its configuration; there is a bound to that, and it is no dead end.
#[test]
fn as_many_configurations_live_as_may_and_another_is_refused_until_one_has_ended() {
    on_both_drivers(|driver| {
        let (slow, is_asked, may_answer) = Origin::held();
        let config = |number: usize| {
            format!(
                "[listener.web]\nbind = \"127.0.0.1:0\"\n[channel.all]\nupstream = \"app\"\n\
                 response_headers = {{ set = {{ X-Number = \"{number}\" }} }}\n\
                 [upstream.app]\nendpoints = [\"{}\"]\n",
                slow.address
            )
        };
        let engine = Engine::start(driver, config(0));
        let begin = || {
            let client = engine.connect();
            assert!(client.send("GET / HTTP/1.1\r\nHost: test\r\n\r\n"));
            is_asked.take();
            client
        };
        let mut waiting = Vec::new();
        for number in 1..GENERATIONS_MAX {
            waiting.push(begin());
            engine.rewrite(config(number));
            let (status, answer) = engine.reload();
            assert_eq!(status, 200, "reload {number}: {answer:#}");
        }
        waiting.push(begin());
        assert_eq!(engine.counter("/cores/0/generations"), GENERATIONS_MAX as u64);
        engine.rewrite(config(GENERATIONS_MAX));
        let (status, answer) = engine.reload();
        let expected = "64 configurations serve still: all but the latest have requests in flight that began by them; try again when \
                        some have ended";
        assert_eq!((status, answer["problems"][0].as_str()), (422, Some(expected)), "{answer:#}");
        assert_eq!(engine.stats()["configuration"]["number"], GENERATIONS_MAX);

        // One that ends is enough, wherever it stands.
        may_answer.give();
        eventually("one has ended", || engine.counter("/cores/0/generations") < GENERATIONS_MAX as u64);
        let (status, answer) = engine.reload();
        assert_eq!(status, 200, "{answer:#}");
        (1..GENERATIONS_MAX).for_each(|_| may_answer.give());
        // Each was answered by what it began with.
        for (number, client) in waiting.iter_mut().enumerate() {
            let answer = client.response();
            assert_eq!((answer.status(), answer.head.value("x-number")), (200, Some(&*number.to_string())));
        }
        engine.assert_counter("/cores/0/generations", 1);
        assert!(engine.faults().is_empty(), "{:?}", engine.faults());
    });
}
