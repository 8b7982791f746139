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
