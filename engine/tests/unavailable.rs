//! What does a client get when no endpoint can answer it, and how soon? A refusal at once, a silence at its deadline, and an
//! answer again as soon as somebody is back.
//!
//! Timed only where a bound is promised; a busy machine's share of it is allowed for.

mod common;

use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::time::{Duration, Instant};

use common::engine::{Config, Driver, Engine};
use common::fleet::own_address;
use common::message::Message;
use common::origin::{OK, Origin};
use common::{eventually, on_both_drivers};
use socket2::{Domain, Socket, Type};

/// What a busy machine adds to a bound.
const SLACK: Duration = Duration::from_millis(250);

/// One request, and how long its answer took.
#[track_caller]
fn ask(engine: &Engine) -> (Message, Duration) {
    let mut client = engine.connect();
    let began = Instant::now();
    let answer = client.get("/");
    (answer, began.elapsed())
}

/// The best of some: what it takes when the machine has time.
#[track_caller]
fn ask_often(engine: &Engine, status: u16) -> Duration {
    const TIMES: usize = 10;
    let timed = (0..TIMES).map(|_| {
        let (answer, took) = ask(engine);
        assert_eq!(answer.status(), status, "{answer:?}");
        took
    });
    timed.min().expect("some")
}

/// Where nobody listens: a port of an address that no connection has for its own.
fn refusing() -> SocketAddr {
    let listener = TcpListener::bind((own_address(), 0)).expect("a port");
    listener.local_addr().expect("bound")
}

/// A listener whose queue is full, so that no connection is ever made; as long as what is given back lives.
struct BlackHole {
    address: SocketAddr,
    _queued: Vec<Socket>,
    _listener: Socket,
}

impl BlackHole {
    fn open() -> Self {
        let listener = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
        listener.bind(&SocketAddr::from((Ipv4Addr::LOCALHOST, 0)).into()).expect("a port");
        listener.listen(0).expect("a listener");
        let address = listener.local_addr().expect("bound");
        // A queue of length 0 takes one connection; those behind it wait for theirs to be answered.
        let queued = (0..4).map(|_| {
            let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
            socket.set_nonblocking(true).expect("a flag");
            let _ = socket.connect(&address);
            socket
        });
        let hole = Self {
            address: address.as_socket().expect("an address"),
            _queued: queued.collect(),
            _listener: listener,
        };
        let probe = TcpStream::connect_timeout(&hole.address, Duration::from_millis(200));
        assert!(probe.is_err(), "the queue is full");
        hole
    }
}

fn start(driver: Driver, endpoints: &[SocketAddr], upstream: &str) -> Engine {
    Engine::start(driver, Config { endpoints, upstream, ..Config::default() })
}

#[test]
fn who_is_refused_is_told_502_at_once() {
    on_both_drivers(|driver| {
        let engine = start(driver, &[refusing()], "");
        let took = ask_often(&engine, 502);
        assert!(took <= Duration::from_millis(50), "{took:?}");
    });
}

#[test]
fn a_black_hole_is_told_504_at_its_deadline() {
    on_both_drivers(|driver| {
        let hole = BlackHole::open();
        let deadline = Duration::from_millis(700);
        let engine = start(driver, &[hole.address], "retry.tries = 1\ntimeouts.connect = \"700ms\"\n");
        let (answer, took) = ask(&engine);
        assert_eq!(answer.status(), 504, "{answer:?}");
        assert!(took >= deadline * 9 / 10 && took <= deadline * 11 / 10 + SLACK, "{took:?}");
    });
}

#[test]
fn an_endpoint_that_never_answers_is_told_504_at_its_deadline() {
    on_both_drivers(|driver| {
        let origin = Origin::start(|peer| while peer.request().is_some() {});
        let deadline = Duration::from_millis(700);
        let engine = start(driver, &[origin.address], "retry.tries = 1\ntimeouts.first_byte = \"700ms\"\n");
        let (answer, took) = ask(&engine);
        assert_eq!(answer.status(), 504, "{answer:?}");
        assert!(took >= deadline * 9 / 10 && took <= deadline * 11 / 10 + SLACK, "{took:?}");
    });
}

#[test]
fn while_all_are_down_503_comes_at_once_and_who_is_back_is_asked_within_an_interval() {
    on_both_drivers(|driver| {
        let origins = [(); 2].map(|()| TcpListener::bind((own_address(), 0)).expect("a port"));
        let addresses = origins.each_ref().map(|listener| listener.local_addr().expect("bound"));
        let serve = |listener| {
            Origin::start_on(listener, |peer| while peer.request().is_some() && peer.wire.send(OK) {})
        };
        let alive = origins.map(serve);
        let health = "health = { interval = \"300ms\", fast_interval = \"300ms\", timeout = \"200ms\", rise = 1, fall = 1 }";
        let engine = start(driver, &addresses, health);
        ask(&engine).0.assert_is(200, "ok");

        drop(alive);
        eventually("all are down", || ask(&engine).0.status() == 503);
        let took = ask_often(&engine, 503);
        assert!(took <= Duration::from_millis(10), "{took:?}");
        let answer = ask(&engine).0;
        assert!(answer.head.value("retry-after").is_some(), "{answer:?}");

        let began = Instant::now();
        let _back = serve(TcpListener::bind(addresses[1]).expect("its port"));
        eventually("somebody is back", || ask(&engine).0.status() == 200);
        let took = began.elapsed();
        assert!(took <= Duration::from_millis(300 + 30 + 200) + 4 * SLACK, "{took:?}");
    });
}
