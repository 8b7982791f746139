//! Do the bytes of a TCP listener reach their upstream and come back, with everything that happens to either side?
//!
//! Never HTTP: both ends are plain sockets in the test's hands.

mod common;
#[path = "common/tls.rs"]
#[allow(dead_code, reason = "taken by several test binaries")]
mod tls;

use std::fmt;
use std::fs;
use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::os::unix::net::UnixListener;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use common::engine::{Driver, Engine};
use common::origin::Origin;
use common::pattern::{self, Check};
use common::{PATIENCE, eventually, on_both_drivers};
use rustix::process::Signal as UnixSignal;
use rustls::pki_types::PrivateKeyDer;
use rustls::pki_types::pem::PemObject;
use rustls::{ServerConfig, ServerConnection, StreamOwned};
use tls::Authority;

const MIB: u64 = 1 << 20;

/// A listener `web` whose connections go to these endpoints. Each table takes further keys.
struct Relay<'a> {
    endpoints: &'a [SocketAddr],
    process: &'a str,
    listener: &'a str,
    upstream: &'a str,
}

impl fmt::Display for Relay<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { endpoints, process, listener, upstream } = self;
        let endpoints: Vec<String> = endpoints.iter().map(SocketAddr::to_string).collect();
        writeln!(f, "[process]\n{process}")?;
        writeln!(
            f,
            "[listener.web]\nbind = \"127.0.0.1:0\"\nprotocol = \"tcp\"\nupstream = \"app\"\n{listener}"
        )?;
        writeln!(f, "[upstream.app]\nendpoints = {endpoints:?}\n{upstream}")
    }
}

fn relay(endpoints: &[SocketAddr]) -> Relay<'_> {
    Relay { endpoints, process: "", listener: "", upstream: "" }
}

fn bound() -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("an address");
    (listener, address)
}

fn with_deadlines(stream: TcpStream) -> TcpStream {
    stream.set_read_timeout(Some(PATIENCE)).expect("a read deadline");
    stream.set_write_timeout(Some(PATIENCE)).expect("a write deadline");
    stream.set_nodelay(true).expect("TCP_NODELAY");
    stream
}

fn connect(engine: &Engine) -> TcpStream {
    with_deadlines(TcpStream::connect_timeout(&engine.web(), PATIENCE).expect("the listener accepts"))
}

/// Both ends of a relayed connection.
fn pair(engine: &Engine, origin: &TcpListener) -> (TcpStream, TcpStream) {
    let client = connect(engine);
    let (server, _) = origin.accept().expect("the gateway connects");
    (client, with_deadlines(server))
}

/// An engine with a listener before one origin, and a connection through it.
fn relayed(driver: Driver, listener: &str) -> (Engine, TcpStream, TcpStream) {
    let (origin, address) = bound();
    let engine = Engine::start(driver, Relay { listener, ..relay(&[address]) });
    let (client, server) = pair(&engine, &origin);
    (engine, client, server)
}

#[track_caller]
fn assert_receives(stream: &mut TcpStream, expected: &[u8]) {
    let mut got = vec![0; expected.len()];
    stream.read_exact(&mut got).expect("bytes");
    assert_eq!(got, expected);
}

/// Makes sure that the gateway has noticed that both connections are there.
fn greet(client: &mut TcpStream, server: &mut TcpStream) {
    server.write_all(b"hello").expect("send");
    assert_receives(client, b"hello");
}

#[track_caller]
fn assert_ended(stream: &mut TcpStream) {
    assert_eq!(stream.read(&mut [0; 8]).expect("no error"), 0, "more bytes than were sent");
}

#[track_caller]
fn assert_reset(stream: &mut TcpStream) {
    let error = stream.read(&mut [0; 8]).expect_err("a reset");
    assert_eq!(error.kind(), ErrorKind::ConnectionReset);
}

fn reset(stream: TcpStream) {
    socket2::SockRef::from(&stream).set_linger(Some(Duration::ZERO)).expect("SO_LINGER");
    drop(stream);
}

fn send_pattern(mut stream: &TcpStream, length: u64, sizes: &[u64]) {
    assert!(pattern::send(length, sizes, |bytes| stream.write_all(bytes).is_ok()), "all of it is taken");
}

/// Reads to the end of the stream and says how many bytes came, all of them right.
fn check_pattern(mut stream: impl Read) -> u64 {
    let mut check = Check::default();
    let mut bytes = vec![0; 128 * 1024];
    loop {
        match stream.read(&mut bytes).expect("no error") {
            0 => return check.length(),
            count => check.take(&bytes[..count]),
        }
    }
}

#[test]
fn bytes_go_both_ways_and_each_end_is_passed_on() {
    on_both_drivers(|driver| {
        let (engine, mut client, mut server) = relayed(driver, "");
        client.write_all(b"question").expect("send");
        assert_receives(&mut server, b"question");
        server.write_all(b"answer").expect("send");
        assert_receives(&mut client, b"answer");
        client.shutdown(Shutdown::Write).expect("shutdown");
        assert_ended(&mut server);
        // The other way is still open.
        server.write_all(b"one more thing").expect("send");
        assert_receives(&mut client, b"one more thing");
        drop(server);
        assert_ended(&mut client);
        engine.assert_counter("/listeners/0/connections_open", 0);
        engine.assert_counter("/listeners/0/accepted", 1);
        engine.assert_counter("/listeners/0/bytes_received", 8);
        engine.assert_counter("/listeners/0/bytes_sent", 20);
        assert!(engine.faults().is_empty(), "{:?}", engine.faults());
    });
}

#[test]
fn a_server_that_ends_first_is_sent_to_all_the_same() {
    on_both_drivers(|driver| {
        let (_engine, mut client, mut server) = relayed(driver, "");
        server.write_all(b"greeting").expect("send");
        server.shutdown(Shutdown::Write).expect("shutdown");
        assert_receives(&mut client, b"greeting");
        assert_ended(&mut client);
        client.write_all(b"thanks").expect("send");
        assert_receives(&mut server, b"thanks");
        drop(client);
        assert_ended(&mut server);
    });
}

/// Bulk both ways at once, and most of it inside the kernel.
#[test]
fn bulk_bytes_arrive_unchanged_both_ways_at_once() {
    const TOTAL: u64 = 64 * MIB;
    on_both_drivers(|driver| {
        let (engine, client, server) = relayed(driver, "");
        thread::scope(|scope| {
            for (from, to) in [(&client, &server), (&server, &client)] {
                scope.spawn(move || {
                    send_pattern(from, TOTAL, &[256 * 1024]);
                    from.shutdown(Shutdown::Write).expect("shutdown");
                });
                scope.spawn(move || assert_eq!(check_pattern(to), TOTAL));
            }
        });
        engine.assert_counter("/listeners/0/bytes_received", TOTAL);
        engine.assert_counter("/listeners/0/bytes_sent", TOTAL);
        let spliced = engine.counter("/cores/0/spliced_bytes");
        assert!(spliced > TOTAL, "{spliced} bytes went by pipe");
    });
}

/// From few bytes to many and back, again and again: no byte overtakes another.
#[test]
fn bytes_keep_their_order_when_bulk_and_trickle_alternate() {
    const TOTAL: u64 = 24 * MIB;
    on_both_drivers(|driver| {
        let (engine, client, server) = relayed(driver, "");
        let mut sizes = vec![512 * 1024; 10];
        sizes.extend([1, 7, 100, 1500, 2048, 2049, 5000, 16_000, 3, 1]);
        thread::scope(|scope| {
            scope.spawn(|| {
                send_pattern(&client, TOTAL, &sizes);
                client.shutdown(Shutdown::Write).expect("shutdown");
            });
            assert_eq!(check_pattern(&server), TOTAL);
        });
        drop(server);
        engine.assert_counter("/listeners/0/connections_open", 0);
        assert!(engine.faults().is_empty(), "{:?}", engine.faults());
    });
}

/// Bulk goes by pipe, what is behind it by a buffer again, and none of it waits for more.
#[test]
fn a_trickle_behind_bulk_is_not_kept_waiting() {
    const BULK: u64 = 32 * MIB;
    on_both_drivers(|driver| {
        let (_engine, mut client, mut server) = relayed(driver, "");
        for _ in 0..3 {
            thread::scope(|scope| {
                scope.spawn(|| send_pattern(&server, BULK, &[1 << 20]));
                let mut left = BULK as usize;
                let mut buffer = vec![0; 1 << 20];
                while left > 0 {
                    let room = left.min(buffer.len());
                    left -= (&client).read(&mut buffer[..room]).expect("bytes");
                }
            });
            for byte in b"behind" {
                server.write_all(&[*byte]).expect("send");
                assert_receives(&mut client, &[*byte]);
                client.write_all(&[*byte]).expect("send");
                assert_receives(&mut server, &[*byte]);
            }
        }
    });
}

#[test]
fn a_reader_that_does_not_read_stops_the_writer() {
    const TOTAL: u64 = 96 * MIB;
    on_both_drivers(|driver| {
        let (engine, mut client, server) = relayed(driver, "");
        let before = engine.bytes_at_rest();
        // Sends until nothing more is taken.
        client.set_write_timeout(Some(Duration::from_millis(300))).expect("a write deadline");
        let mut sent = 0;
        while sent < TOTAL
            && let Ok(count) = client.write(pattern::piece(sent, TOTAL - sent))
        {
            sent += count as u64;
        }
        assert!(sent < TOTAL, "somebody keeps what nobody reads");
        let grown = engine.resident_bytes().saturating_sub(before);
        assert!(grown < 8 * MIB, "{grown} bytes more in the gateway");
        client.shutdown(Shutdown::Write).expect("shutdown");
        assert_eq!(check_pattern(&server), sent);
    });
}

#[test]
fn a_reset_of_one_side_becomes_a_reset_of_the_other() {
    on_both_drivers(|driver| {
        let (engine, mut client, mut server) = relayed(driver, "");
        greet(&mut client, &mut server);
        reset(client);
        assert_reset(&mut server);
        engine.assert_only_fault("tunnel_client_gone", 1);
        let (engine, mut client, mut server) = relayed(driver, "");
        greet(&mut client, &mut server);
        reset(server);
        assert_reset(&mut client);
        engine.assert_only_fault("tunnel_upstream_gone", 1);
        engine.assert_counter("/listeners/0/connections_open", 0);
        engine.assert_counter("/upstreams/0/endpoints/0/active", 0);
    });
}

/// The server has read the end already, so it is in sending that it learns of the reset.
#[test]
fn a_reset_behind_an_end_is_still_one() {
    on_both_drivers(|driver| {
        let (engine, mut client, mut server) = relayed(driver, "");
        greet(&mut client, &mut server);
        client.shutdown(Shutdown::Write).expect("shutdown");
        assert_ended(&mut server);
        reset(client);
        while server.write_all(&[0; 64 * 1024]).is_ok() {}
        engine.assert_only_fault("tunnel_client_gone", 1);
    });
}

/// What the server said before it went reaches the client, though the client's own bytes go nowhere.
#[test]
fn last_words_are_delivered() {
    on_both_drivers(|driver| {
        let (engine, mut client, mut server) = relayed(driver, "");
        client.write_all(b"first").expect("send");
        assert_receives(&mut server, b"first");
        server.write_all(b"no more of that").expect("send");
        drop(server);
        assert_receives(&mut client, b"no more of that");
        assert_ended(&mut client);
        // These meet a socket that is closed; the client is not told before it ends.
        let _ = client.write_all(b"second");
        let _ = client.write_all(&[0; 100_000]);
        drop(client);
        engine.assert_counter("/listeners/0/connections_open", 0);
    });
}

#[test]
fn silence_both_ways_ends_a_relay() {
    on_both_drivers(|driver| {
        let (engine, mut client, mut server) = relayed(driver, "timeouts = { tunnel = \"200ms\" }");
        client.write_all(b"hello").expect("send");
        assert_receives(&mut server, b"hello");
        assert_reset(&mut client);
        assert_reset(&mut server);
        engine.assert_only_fault("tunnel_idle", 1);
        engine.assert_counter("/listeners/0/idle_timeouts", 1);
    });
}

#[test]
fn a_lifetime_ends_a_relay_that_is_busy() {
    on_both_drivers(|driver| {
        let (engine, client, mut server) = relayed(driver, "timeouts = { lifetime = \"300ms\" }");
        let mut client = client;
        while client.write_all(b"on and on").is_ok() && server.read(&mut [0; 64]).is_ok_and(|count| count > 0)
        {
        }
        engine.assert_only_fault("tunnel_lifetime", 1);
    });
}

#[test]
fn an_endpoint_that_refuses_leaves_the_connection_to_the_next() {
    on_both_drivers(|driver| {
        let (origin, address) = bound();
        let engine = Engine::start(driver, relay(&[Origin::nowhere(), address, Origin::nowhere()]));
        for _ in 0..4 {
            let (mut client, mut server) = pair(&engine, &origin);
            client.write_all(b"hello").expect("send");
            assert_receives(&mut server, b"hello");
        }
        assert!(engine.faults().is_empty(), "{:?}", engine.faults());
        engine.assert_counter("/upstreams/0/endpoints/1/connections_opened", 4);
    });
}

#[test]
fn a_client_nobody_can_be_found_for_is_reset() {
    on_both_drivers(|driver| {
        let engine = Engine::start(driver, relay(&[Origin::nowhere()]));
        // The reset may be there before the client has looked at its connection.
        match TcpStream::connect_timeout(&engine.web(), PATIENCE) {
            Ok(client) => assert_reset(&mut with_deadlines(client)),
            Err(error) => assert_eq!(error.kind(), ErrorKind::ConnectionReset, "{error}"),
        }
        engine.assert_only_fault("connect_failed", 1);
        engine.assert_counter("/upstreams/0/endpoints/0/connect_failures", 1);
        engine.assert_counter("/listeners/0/connections_open", 0);
    });
}

#[test]
fn connections_beyond_the_bound_are_closed_at_once() {
    on_both_drivers(|driver| {
        let (origin, address) = bound();
        let listener = "limits = { connections = 1 }";
        let engine = Engine::start(driver, Relay { listener, ..relay(&[address]) });
        let both = pair(&engine, &origin);
        assert_ended(&mut connect(&engine));
        engine.assert_counter("/listeners/0/over_connections", 1);
        drop(both);
        engine.assert_counter("/listeners/0/connections_open", 0);
        let _ = pair(&engine, &origin);
    });
}

#[test]
fn a_drain_waits_for_relays_to_end() {
    on_both_drivers(|driver| {
        let (mut engine, mut client, mut server) = relayed(driver, "");
        let web = engine.web();
        engine.signal(UnixSignal::TERM);
        eventually("nothing more is accepted", || TcpStream::connect(web).is_err());
        client.write_all(b"still here").expect("send");
        assert_receives(&mut server, b"still here");
        drop(client);
        assert_ended(&mut server);
        drop(server);
        assert!(engine.wait().success());
    });
}

#[test]
fn a_drain_that_is_over_resets_what_is_left() {
    on_both_drivers(|driver| {
        let (origin, address) = bound();
        let process = "drain_timeout = \"300ms\"";
        let mut engine = Engine::start(driver, Relay { process, ..relay(&[address]) });
        let (mut client, mut server) = pair(&engine, &origin);
        engine.signal(UnixSignal::TERM);
        assert_reset(&mut client);
        assert_reset(&mut server);
        engine.wait();
    });
}

/// Between TCP and a Unix socket bytes are moved as well.
#[test]
fn bulk_bytes_arrive_at_a_unix_socket_and_come_back() {
    const TOTAL: u64 = 32 * MIB;
    on_both_drivers(|driver| {
        // A path has at most 107 bytes.
        let path = std::env::temp_dir().join(format!("corelane-tcp-{}-{driver}", std::process::id()));
        let origin = UnixListener::bind(&path).expect("a path of its own");
        let engine = Engine::start(
            driver,
            format!(
                "[listener.web]\nbind = \"127.0.0.1:0\"\nprotocol = \"tcp\"\nupstream = \"app\"\n\
                 [upstream.app]\nendpoints = [\"unix:{}\"]\n",
                path.display()
            ),
        );
        let client = connect(&engine);
        let (server, _) = origin.accept().expect("the gateway connects");
        fs::remove_file(&path).expect("the file of this test");
        server.set_read_timeout(Some(PATIENCE)).expect("a read deadline");
        server.set_write_timeout(Some(PATIENCE)).expect("a write deadline");
        thread::scope(|scope| {
            scope.spawn(|| {
                send_pattern(&client, TOTAL, &[300_000]);
                client.shutdown(Shutdown::Write).expect("shutdown");
            });
            scope.spawn(|| {
                let mut sink = &server;
                assert!(pattern::send(TOTAL, &[300_000], |bytes| sink.write_all(bytes).is_ok()));
                server.shutdown(Shutdown::Write).expect("shutdown");
            });
            scope.spawn(|| assert_eq!(check_pattern(&server), TOTAL));
            assert_eq!(check_pattern(&client), TOTAL);
        });
        assert!(engine.counter("/cores/0/spliced_bytes") > 0);
        engine.assert_counter("/listeners/0/connections_open", 0);
        assert!(engine.faults().is_empty(), "{:?}", engine.faults());
    });
}

/// A server that speaks TLS: takes a pattern to its end, answers with as much, and ends as TLS does unless it `breaks_off`.
fn private_server(length: u64, breaks_off: bool) -> (SocketAddr, thread::JoinHandle<()>) {
    let (listener, address) = bound();
    let issued = Authority::new().issue(&["127.0.0.1"]);
    let key = PrivateKeyDer::from_pem_slice(issued.key.as_bytes()).expect("PEM");
    let config = ServerConfig::builder().with_no_client_auth().with_single_cert(vec![issued.der()], key);
    let config = Arc::new(config.expect("a pair"));
    let serving = thread::spawn(move || {
        let (tcp, _) = listener.accept().expect("the gateway connects");
        let connection = ServerConnection::new(config).expect("a server");
        let mut private = StreamOwned::new(connection, with_deadlines(tcp));
        let mut check = Check::default();
        let mut bytes = vec![0; 64 * 1024];
        loop {
            match private.read(&mut bytes).expect("an end as TLS says it") {
                0 => break,
                count => check.take(&bytes[..count]),
            }
        }
        assert_eq!(check.length(), length);
        assert!(pattern::send(length, &[100_000], |piece| private.write_all(piece).is_ok()), "all is taken");
        if !breaks_off {
            private.conn.send_close_notify();
            private.flush().expect("the end is taken");
        }
    });
    (address, serving)
}

/// Towards an endpoint over TLS the same holds: all bytes, and an end only if it was said.
#[test]
fn an_endpoint_over_tls_is_relayed_to_as_well() {
    const LENGTH: u64 = 4 * MIB;
    on_both_drivers(|driver| {
        for breaks_off in [false, true] {
            let (address, serving) = private_server(LENGTH, breaks_off);
            let upstream = "tls = { verify = \"none\" }";
            let engine = Engine::start(driver, Relay { upstream, ..relay(&[address]) });
            let mut client = connect(&engine);
            let sender = client.try_clone().expect("a descriptor");
            let sending = thread::spawn(move || {
                send_pattern(&sender, LENGTH, &[70_000]);
                sender.shutdown(Shutdown::Write).expect("shutdown");
            });
            if breaks_off {
                let error = loop {
                    match client.read(&mut [0; 4096]) {
                        Ok(0) => panic!("what is cut short looks whole"),
                        Ok(_) => {}
                        Err(error) => break error,
                    }
                };
                assert_eq!(error.kind(), ErrorKind::ConnectionReset);
                engine.assert_only_fault("tunnel_upstream_gone", 1);
            } else {
                assert_eq!(check_pattern(&client), LENGTH);
                assert!(engine.faults().is_empty(), "{:?}", engine.faults());
            }
            sending.join().expect("all was sent");
            serving.join().expect("the server is content");
        }
    });
}

/// Messages are counted and timed wherever they are cut; the bytes pass as they are.
#[test]
fn framed_messages_are_counted_and_timed() {
    const QUESTION: &[u8] = b"\x0bMSH|^~\\&|LAB\rPID|1\r\x1c\r";
    const ANSWER: &[u8] = b"\x0bMSH|^~\\&|HIS\rMSA|AA\r\x1c\r";
    on_both_drivers(|driver| {
        let (engine, mut client, mut server) = relayed(driver, "framing = \"mllp\"");
        for cut in [1, 7, QUESTION.len()] {
            client.write_all(&QUESTION[..cut]).expect("send");
            assert_receives(&mut server, &QUESTION[..cut]);
            client.write_all(&QUESTION[cut..]).expect("send");
            assert_receives(&mut server, &QUESTION[cut..]);
            server.write_all(ANSWER).expect("send");
            assert_receives(&mut client, ANSWER);
        }
        // Noise between blocks is no message, and an unfinished one is none yet.
        client.write_all(b"\r\n\x0bhalf").expect("send");
        assert_receives(&mut server, b"\r\n\x0bhalf");
        engine.assert_counter("/listeners/0/messages_received", 3);
        engine.assert_counter("/listeners/0/messages_sent", 3);
        for phase in ["first_byte", "body", "total"] {
            let timed = engine.latency(&format!("listener=web&phase={phase}"));
            assert_eq!(timed["count"], 3, "{timed}");
        }
        assert_eq!(engine.latency("")["count"], 0, "messages are no exchanges");
    });
}

#[test]
fn lines_are_counted_without_a_rule_for_who_begins() {
    on_both_drivers(|driver| {
        let (engine, mut client, mut server) = relayed(driver, "framing = \"line\"");
        server.write_all(b"220 ready\r\n").expect("send");
        assert_receives(&mut client, b"220 ready\r\n");
        client.write_all(b"NOOP\r\nQUIT\r\n").expect("send");
        assert_receives(&mut server, b"NOOP\r\nQUIT\r\n");
        server.write_all(b"250 ok\r\n221 bye\r\n").expect("send");
        assert_receives(&mut client, b"250 ok\r\n221 bye\r\n");
        engine.assert_counter("/listeners/0/messages_received", 2);
        engine.assert_counter("/listeners/0/messages_sent", 3);
        assert_eq!(engine.latency("listener=web")["count"], 2, "nobody asked for the first");
    });
}

/// Silent connections hold no buffer and no pipe, and a task that is small.
#[test]
fn a_silent_relay_holds_little() {
    const COUNT: usize = 500;
    on_both_drivers(|driver| {
        let (origin, address) = bound();
        let engine = Engine::start(driver, relay(&[address]));
        let mut pairs: Vec<_> = (0..20).map(|_| pair(&engine, &origin)).collect();
        // What control takes to begin with is no relay's.
        engine.assert_counter("/cores/0/buffers", 0);
        let before = engine.bytes_at_rest();
        pairs.extend((0..COUNT).map(|_| pair(&engine, &origin)));
        for (client, server) in &mut pairs {
            client.write_all(b"one word").expect("send");
            assert_receives(server, b"one word");
        }
        engine.assert_counter("/cores/0/buffers", 0);
        let each = engine.resident_bytes().saturating_sub(before) / COUNT as u64;
        assert!(each < 4096, "{each} bytes for each relayed connection");
    });
}
