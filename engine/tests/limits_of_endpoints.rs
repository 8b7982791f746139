//! Does an endpoint ever have more connections than it may, and does it have them all when they are wanted?
//!
//! Never believes the engine's own numbers: the origin looks at its sockets each time that it accepts one.

mod common;

use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use common::connection::Connection;
use common::engine::{Driver, Engine};
use common::on_both_drivers;
use common::origin::{OK, Origin};
use common::signal::Signal;

/// An origin on one thread that knows at any moment which of its connections are open.
struct Counting {
    address: SocketAddr,
    shared: Arc<Counts>,
}

#[derive(Default)]
struct Counts {
    open_max: AtomicUsize,
    accepted: AtomicUsize,
    requests: AtomicUsize,
    is_over: AtomicBool,
}

struct Guest {
    stream: TcpStream,
    /// When the request that has come is answered.
    due: Option<Instant>,
    answers: usize,
}

impl Counting {
    /// Answers each request after `delay`, and ends a connection with every `closes`th of its answers.
    fn start(delay: Duration, closes: usize) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
        listener.set_nonblocking(true).expect("O_NONBLOCK");
        let address = listener.local_addr().expect("bound");
        let shared = Arc::new(Counts::default());
        let counts = Arc::clone(&shared);
        thread::spawn(move || {
            let mut guests: Vec<Guest> = Vec::new();
            while !counts.is_over.load(Ordering::Relaxed) {
                if let Ok((stream, _)) = listener.accept() {
                    stream.set_nonblocking(true).expect("O_NONBLOCK");
                    stream.set_nodelay(true).expect("TCP_NODELAY");
                    guests.push(Guest { stream, due: None, answers: 0 });
                    counts.accepted.fetch_add(1, Ordering::Relaxed);
                    // Whoever was told to close before this one was opened has done so by now.
                    guests.retain_mut(|guest| guest.listen(delay, &counts));
                    counts.open_max.fetch_max(guests.len(), Ordering::Relaxed);
                    continue;
                }
                guests.retain_mut(|guest| guest.listen(delay, &counts) && guest.answer(closes));
                thread::yield_now();
            }
        });
        Self { address, shared }
    }

    fn open_max(&self) -> usize {
        self.shared.open_max.load(Ordering::Relaxed)
    }
}

impl Guest {
    /// Takes what has come; false once the other side has closed.
    fn listen(&mut self, delay: Duration, counts: &Counts) -> bool {
        match self.stream.read(&mut [0; 4096]) {
            Ok(0) => false,
            // A request comes in one piece, and none before the answer to the last.
            Ok(_) => {
                counts.requests.fetch_add(1, Ordering::Relaxed);
                self.due = Some(Instant::now() + delay);
                true
            }
            Err(error) => error.kind() == ErrorKind::WouldBlock,
        }
    }

    /// Answers when it is time; false once that was the last answer.
    fn answer(&mut self, closes: usize) -> bool {
        if self.due.is_none_or(|due| Instant::now() < due) {
            return true;
        }
        self.due = None;
        self.answers += 1;
        let is_last = self.answers == closes;
        let close = if is_last { "Connection: close\r\n" } else { "" };
        let answer = format!("HTTP/1.1 200 OK\r\n{close}Content-Length: 2\r\n\r\nok");
        self.stream.write_all(answer.as_bytes()).is_ok() && !is_last
    }
}

impl Drop for Counting {
    fn drop(&mut self) {
        self.shared.is_over.store(true, Ordering::Relaxed);
    }
}

fn config(address: SocketAddr, max: u32, upstream: &str) -> String {
    format!(
        "[listener.web]\nbind = \"127.0.0.1:0\"\n[channel.all]\nupstream = \"app\"\n[upstream.app]\n\
         endpoints = [{{ address = \"{address}\", max_connections = {max} }}]\n{upstream}"
    )
}

/// As many clients at a time as there are, each with so many requests one after the other.
fn ask(engine: &Engine, clients: usize, requests: usize) {
    let web = engine.web();
    thread::scope(|scope| {
        for number in 0..clients {
            scope.spawn(move || {
                let mut client = Connection::open(web);
                for request in 0..requests {
                    client.get("/").assert_is(200, "ok");
                    if (number + request) % 11 == 10 {
                        client = Connection::open(web);
                    }
                }
            });
        }
    });
}

fn holds_exactly(driver: Driver, cores: usize) {
    const MAX: usize = 100;
    const CLIENTS: usize = 150;
    const REQUESTS: usize = 40;
    let origin = Counting::start(Duration::from_millis(2), 7);
    let upstream = "queue.timeout = \"10s\"\n";
    let engine = Engine::start_on_cores(driver, cores, config(origin.address, MAX as u32, upstream));
    ask(&engine, CLIENTS, REQUESTS);
    assert_eq!(origin.open_max(), MAX, "on {cores} cores");
    assert_eq!(origin.shared.requests.load(Ordering::Relaxed), CLIENTS * REQUESTS, "each once");
    assert!(engine.faults().is_empty(), "{:?}", engine.faults());
    assert!(engine.counter("/upstreams/0/queued") > 0);
    assert_eq!(engine.counter("/upstreams/0/waiting"), 0);
}

#[test]
fn a_hundred_connections_are_a_hundred_on_two_cores() {
    on_both_drivers(|driver| holds_exactly(driver, 2));
}

#[test]
fn a_hundred_connections_are_a_hundred_on_eight_cores() {
    on_both_drivers(|driver| holds_exactly(driver, 8));
}

#[test]
fn a_core_that_has_no_connection_gets_the_idle_one_of_another() {
    on_both_drivers(|driver| {
        // Kept for ever, so that nobody gets it who is not given it.
        let origin = Counting::start(Duration::ZERO, usize::MAX);
        let upstream = "idle_timeout = \"1h\"\nqueue.timeout = \"10s\"\n";
        let engine = Engine::start_on_cores(driver, 4, config(origin.address, 1, upstream));
        // Each connection of a client lands on some core; with so many, on all of them.
        for _ in 0..64 {
            engine.connect().get("/").assert_is(200, "ok");
        }
        assert_eq!(origin.open_max(), 1);
        let accepted = origin.shared.accepted.load(Ordering::Relaxed) as u64;
        assert!(accepted > 1, "more than one core was asked");
        assert_eq!(engine.counter("/upstreams/0/given_up"), accepted - 1);
    });
}

#[test]
fn a_full_endpoint_is_passed_over_for_one_with_room() {
    on_both_drivers(|driver| {
        let (held, go) = (Signal::default(), Signal::default());
        let (is_held, may_go) = (held.clone(), go.clone());
        let slow = Origin::start(move |peer| {
            while peer.request().is_some() {
                is_held.give();
                may_go.take();
                peer.wire.send(OK);
            }
        });
        let quick = Origin::answering(OK);
        let config = format!(
            "[listener.web]\nbind = \"127.0.0.1:0\"\n[channel.all]\nupstream = \"app\"\n[upstream.app]\n\
             endpoints = [{{ address = \"{}\", max_connections = 1 }}, \"{}\"]\n",
            slow.address, quick.address
        );
        let engine = Engine::start(driver, config);
        let mut first = engine.connect();
        first.send("GET / HTTP/1.1\r\nHost: test\r\n\r\n");
        held.take();
        let mut second = engine.connect();
        for _ in 0..6 {
            second.get("/").assert_is(200, "ok");
        }
        assert_eq!((slow.seen().requests.len(), quick.seen().requests.len()), (1, 6));
        assert_eq!(engine.counter("/upstreams/0/queued"), 0);
        go.give();
        first.response().assert_is(200, "ok");
    });
}

#[test]
fn connections_that_died_make_room() {
    on_both_drivers(|driver| {
        // Each ends after its request without an answer, now by an end, now by a reset.
        let origin = Origin::start(|peer| {
            if peer.request().is_some() && peer.number % 2 == 0 {
                peer.wire.reset_when_dropped();
            }
        });
        let engine = Engine::start(driver, config(origin.address, 1, "retry.on = []\n"));
        let mut client = engine.connect();
        for _ in 0..10 {
            assert_eq!(client.get("/").status(), 502);
        }
        assert_eq!(origin.seen().connections, 10);
        // Nor does one that could not be made keep its place.
        let engine = Engine::start(driver, config(Origin::nowhere(), 1, ""));
        let mut client = engine.connect();
        for _ in 0..10 {
            assert_eq!(client.get("/").status(), 502);
        }
    });
}

#[test]
fn a_relayed_connection_is_one_of_those_that_an_endpoint_may_have() {
    on_both_drivers(|driver| {
        let origin = Origin::start(|peer| {
            peer.wire.send("hello");
            peer.wire.rest();
        });
        let config = format!(
            "[listener.web]\nbind = \"127.0.0.1:0\"\nprotocol = \"tcp\"\nupstream = \"app\"\n[upstream.app]\n\
             endpoints = [{{ address = \"{}\", max_connections = 1 }}]\nqueue.timeout = \"10s\"\n",
            origin.address
        );
        let engine = Engine::start(driver, config);
        let mut first = engine.connect();
        assert_eq!(first.bytes(5), b"hello");
        let mut second = engine.connect();
        engine.assert_counter("/upstreams/0/waiting", 1);
        assert_eq!(origin.seen().connections, 1);
        drop(first);
        assert_eq!(second.bytes(5), b"hello");
        assert_eq!(origin.seen().connections, 2);
    });
}
