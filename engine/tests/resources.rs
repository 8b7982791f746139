//! What does the engine hold on to when its peers are too many or too slow, and does it let go again?
//!
//! Asserts bounds and that others are served meanwhile; never how fast that is.

mod common;

use std::net::SocketAddr;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use common::connection::Connection;
use common::engine::{Config, Driver, Engine};
use common::message::Framing;
use common::on_both_drivers;
use common::origin::{OK, Origin};
use common::signal::Signal;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use socket2::{Domain, Socket, Type};

const KIB: u64 = 1024;
const MIB: u64 = 1024 * KIB;

/// Raises the number of descriptors that this process may open.
fn allow_many_connections() {
    let limit = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit }).expect("up to the hard limit");
}

// ---- descriptors ----

/// Begins to connect and does not wait: beyond descriptors and backlog nobody is let in.
fn begin_to_connect(address: SocketAddr) -> Socket {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
    socket.set_nonblocking(true).expect("O_NONBLOCK");
    // In progress, which is what is wanted.
    let _ = socket.connect(&address.into());
    socket
}

/// Whether a new client is served now. What was refused entry while the backlog was full is asked again by the
/// kernel only a second later, so the wait is short and the next try a new connection.
fn is_served(web: SocketAddr) -> bool {
    const TRY: Duration = Duration::from_millis(200);
    let Ok(stream) = std::net::TcpStream::connect_timeout(&web, TRY) else { return false };
    stream.set_read_timeout(Some(TRY)).expect("a read deadline");
    let mut answer = [0; 12];
    std::io::Write::write_all(&mut &stream, b"GET / HTTP/1.1\r\nHost: test\r\n\r\n").is_ok()
        && std::io::Read::read_exact(&mut &stream, &mut answer).is_ok()
        && answer == *b"HTTP/1.1 200"
}

#[test]
fn a_full_descriptor_table_is_waited_out() {
    const DESCRIPTORS: usize = 256;
    const CONNECTS: usize = 2_000;
    const PERIOD: Duration = Duration::from_secs(1);
    /// A second, and another for a machine that is busy with other tests.
    const WELL_AGAIN: Duration = Duration::from_secs(2);
    const ANSWER: &str = "[listener.web]\nbind = \"127.0.0.1:0\"\n[channel.all]\nrespond = {}\n";
    allow_many_connections();
    on_both_drivers(|driver| {
        let mut command = Command::new("prlimit");
        command.args([&format!("--nofile={DESCRIPTORS}"), env!("CARGO_BIN_EXE_engine")]);
        let arguments = ["--cores", "1", "--driver", &driver.to_string()].map(str::to_owned);
        let engine = Engine::spawn(&mut command, &arguments, ANSWER);
        engine.wait_until_ready();
        let web = engine.web();
        let mut first = engine.connect();
        let clients: Vec<Socket> = (0..CONNECTS).map(|_| begin_to_connect(web)).collect();
        // Whoever is in is served.
        assert_eq!(first.get("/").status(), 200);
        let (burnt_before, lines_before) = (engine.cpu_time(), engine.log().lines().count());
        // What the engine burns and says while it cannot accept.
        thread::sleep(PERIOD);
        let burnt = engine.cpu_time() - burnt_before;
        assert!(burnt <= PERIOD / 5, "{burnt:?} in {PERIOD:?}");
        assert!(engine.log().lines().count() <= lines_before + 1, "{}", engine.log());
        assert_eq!(first.get("/").status(), 200);
        drop(clients);
        let since = Instant::now();
        while !is_served(web) {
            assert!(since.elapsed() < WELL_AGAIN, "nobody is served after {:?}", since.elapsed());
        }
        drop(first);
        engine.assert_counter("/totals/connections_open", 0);
    });
}

// ---- memory ----

/// What one connection may take, buffers included.
const RESIDENT_GROWTH_MAX: u64 = MIB;
/// What the kernel's socket buffers on both sides of the engine may hold of a body, and more: it lets a receive buffer grow to
/// 32 MiB on machines with much memory (`tcp_rmem`), a send buffer to 4 MiB (`tcp_wmem`).
const STANDSTILL_BYTES_MAX: u64 = 96 * MIB;
/// Beyond everything that anybody could hold of it.
const LENGTH: u64 = 160 * MIB;

/// Bytes that a thread has sent.
#[derive(Clone, Debug, Default)]
struct Meter(Arc<AtomicU64>);

impl Meter {
    /// Sends a body of [`LENGTH`] bytes. False when the other end is gone.
    fn send_body(&self, mut send: impl FnMut(&[u8]) -> bool) -> bool {
        let piece = [b'x'; 64 * KIB as usize];
        (0..LENGTH / piece.len() as u64).all(|_| {
            let is_sent = send(&piece);
            self.0.fetch_add(piece.len() as u64, Ordering::Relaxed);
            is_sent
        })
    }

    /// Waits until nothing more is sent, and says how much was.
    fn standstill(&self) -> u64 {
        let (mut last, mut unchanged) = (0, 0);
        while unchanged < 5 {
            // A standstill is nothing but time in which nothing happens.
            thread::sleep(Duration::from_millis(40));
            let now = self.0.load(Ordering::Relaxed);
            unchanged = if now == last && now > 0 { unchanged + 1 } else { 0 };
            last = now;
        }
        last
    }
}

/// A core's buffers are bounded and taken from the system when they are first used, by whichever connection: these
/// are half of what one connection may take.
const FEW_BUFFERS: &str = "buffers_per_core = 16\nbuffer_size = \"32KiB\"";

/// Runs an exchange and holds what the engine took meanwhile against what one connection may take.
fn assert_bounded(engine: &Engine, exchange: impl FnOnce() + Send) {
    let before = engine.bytes_at_rest();
    let mut most = before;
    thread::scope(|scope| {
        let exchange = scope.spawn(exchange);
        while !exchange.is_finished() {
            most = most.max(engine.resident_bytes());
            // Memory is held for as long as bytes are in flight: a glance now and then sees it.
            thread::sleep(Duration::from_millis(2));
        }
    });
    assert!(most - before <= RESIDENT_GROWTH_MAX, "one connection took {} bytes", most - before);
}

/// An engine that has served before: what it takes once it has taken.
fn used_engine(driver: Driver, origin: &Origin) -> Engine {
    let endpoints = &[origin.address];
    let engine = Engine::start(driver, Config { endpoints, process: FEW_BUFFERS, ..Config::default() });
    engine.connect().get("/short").assert_is(200, "ok");
    engine.collect_latencies();
    engine
}

#[test]
fn a_long_answer_to_a_slow_reader_takes_no_memory() {
    on_both_drivers(|driver| {
        let meter = Meter::default();
        let sent = meter.clone();
        let origin = Origin::start(move |peer| {
            while let Some(request) = peer.request() {
                if request.head.target() == "/short" {
                    peer.wire.send(OK);
                    continue;
                }
                peer.wire.send(format!("HTTP/1.1 200 OK\r\nContent-Length: {LENGTH}\r\n\r\n"));
                sent.send_body(|piece| peer.wire.send(piece));
            }
        });
        let engine = used_engine(driver, &origin);
        assert_bounded(&engine, || {
            let mut client = engine.connect();
            client.send("GET / HTTP/1.1\r\nHost: test\r\n\r\n");
            let stood_at = meter.standstill();
            assert!(stood_at < STANDSTILL_BYTES_MAX, "{stood_at} bytes were taken from the origin");
            assert_eq!(client.head().expect("an answer").status(), 200);
            assert_eq!(client.body(Framing::Length(LENGTH), |_| {}).length, LENGTH);
        });
    });
}

#[test]
fn a_long_body_for_a_slow_origin_takes_no_memory() {
    on_both_drivers(|driver| {
        let may_read = Signal::default();
        let is_allowed = may_read.clone();
        let origin = Origin::start(move |peer| {
            while let Some(head) = peer.head() {
                if head.target() != "/short" {
                    is_allowed.take();
                    assert_eq!(peer.wire.body(head.request_framing(), |_| {}).length, LENGTH);
                }
                peer.wire.send(OK);
            }
        });
        let engine = used_engine(driver, &origin);
        assert_bounded(&engine, || {
            let mut client = engine.connect();
            client.send(format!("POST / HTTP/1.1\r\nHost: test\r\nContent-Length: {LENGTH}\r\n\r\n"));
            let (meter, to) = (Meter::default(), client.sender());
            let sent = meter.clone();
            let upload = thread::spawn(move || sent.send_body(|piece| to.send(piece)));
            let stood_at = meter.standstill();
            assert!(stood_at < STANDSTILL_BYTES_MAX, "{stood_at} bytes were taken from the client");
            may_read.give();
            client.response().assert_is(200, "ok");
            assert!(upload.join().expect("no panic"), "the whole request was taken");
        });
    });
}

// ---- time ----

/// The deadline of everything slow here.
const DEADLINE: Duration = Duration::from_secs(1);
/// How much later a connection may be gone, on a machine that is busy with other tests; `docs/abuse-runs.md` has what
/// it takes otherwise.
const LATE: Duration = Duration::from_secs(4);
/// Deadlines are rounded to ticks; clocks of two processes are read at different times.
const EARLY: Duration = Duration::from_millis(20);
const SLOW_OF_EACH_KIND: usize = 100;

/// How a client is slow after what it began with.
#[derive(Clone, Copy)]
enum Slowness {
    /// A byte now and then.
    Trickle,
    /// Nothing any more.
    Stall,
}

/// Begins a request and says after how long the engine has had enough of it.
fn lasts(mut client: Connection, beginning: &str, slowness: Slowness) -> Duration {
    let since = Instant::now();
    client.send(beginning);
    if let Slowness::Trickle = slowness {
        let to = client.sender();
        thread::spawn(move || {
            while to.send("x") {
                // The slowness is the point.
                thread::sleep(Duration::from_millis(100));
            }
        });
    }
    drop(client.rest());
    since.elapsed()
}

#[test]
fn slow_clients_are_gone_at_their_deadline_and_harm_nobody() {
    let kinds: [(&str, &str, Slowness); 3] = [
        ("slow heads", "GET / HTTP/1.1\r\nHost: test\r\nX-", Slowness::Trickle),
        (
            "stalled bodies",
            "POST / HTTP/1.1\r\nHost: test\r\nContent-Length: 1000\r\n\r\nbody",
            Slowness::Stall,
        ),
        (
            "stalled chunks",
            "POST / HTTP/1.1\r\nHost: test\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nbo",
            Slowness::Stall,
        ),
    ];
    allow_many_connections();
    on_both_drivers(|driver| {
        let origin = Origin::start(|peer| while peer.request().is_some_and(|_| peer.wire.send(OK)) {});
        let config = Config {
            endpoints: &[origin.address],
            listener: "timeouts = { head = \"1s\", body = \"1s\" }",
            ..Config::default()
        };
        let engine = Engine::start(driver, config);
        thread::scope(|scope| {
            let engine = &engine;
            let slow: Vec<_> = kinds
                .iter()
                .flat_map(|kind| std::iter::repeat_n(kind, SLOW_OF_EACH_KIND))
                .map(|&(kind, beginning, slowness)| {
                    scope.spawn(move || {
                        let lasted = lasts(engine.connect(), beginning, slowness);
                        let allowed = DEADLINE - EARLY..=DEADLINE + LATE;
                        assert!(allowed.contains(&lasted), "{kind}: gone after {lasted:?}");
                    })
                })
                .collect();
            let mut good = engine.connect();
            while !slow.iter().all(|slow| slow.is_finished()) {
                good.get("/").assert_is(200, "ok");
                engine.connect().get("/").assert_is(200, "ok");
                // A load, not a flood.
                thread::sleep(Duration::from_millis(5));
            }
        });
        engine.assert_counter("/totals/connections_open", 0);
        engine.assert_counter("/faults/head_timeout", SLOW_OF_EACH_KIND as u64);
    });
}
