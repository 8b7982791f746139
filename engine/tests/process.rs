//! Is the process what its operator asked for: its threads, sockets and CPUs, its start, its signals, its end?
//!
//! Asks the kernel wherever it can, instead of believing what the engine says of itself.

mod common;

use std::collections::BTreeMap;
use std::fs;
use std::iter;
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use common::connection::{Connection, ask_over};
use common::engine::{Config, Driver, Engine};
use common::origin::{OK, Origin};
use common::pattern::{self, Check};
use common::{eventually, on_both_drivers};
use rustix::process::Signal;
use seccompiler::{BpfProgram, SeccompAction, SeccompFilter};

const ANSWER: &str = "[listener.web]\nbind = \"127.0.0.1:0\"\n[channel.all]\nrespond = { body = \"here\" }\n";

fn arguments(text: &str) -> Vec<String> {
    text.split(' ').map(str::to_owned).collect()
}

/// How many sockets listen on a port of 127.0.0.1.
fn listening_sockets(port: u16) -> usize {
    const LISTEN: &str = "0A";
    let local = format!("0100007F:{port:04X}");
    let table = fs::read_to_string("/proc/net/tcp").expect("the kernel's table of sockets");
    let rows = table.lines().map(|row| row.split_whitespace().collect::<Vec<_>>());
    rows.filter(|row| row.get(1) == Some(&local.as_str()) && row.get(3) == Some(&LISTEN)).count()
}

/// The executor threads by name, each with the CPUs it may run on.
fn executors(engine: &Engine) -> BTreeMap<String, String> {
    engine.threads().into_iter().filter(|(name, _)| name.starts_with("core-")).collect()
}

#[test]
fn every_core_listens_on_a_socket_of_its_own() {
    on_both_drivers(|driver| {
        for cores in [1, 2] {
            let engine = Engine::start_on_cores(driver, cores, ANSWER);
            assert_eq!(listening_sockets(engine.web().port()), cores);
        }
    });
}

#[test]
fn every_core_has_a_thread_pinned_to_its_cpu() {
    on_both_drivers(|driver| {
        let available = thread::available_parallelism().expect("a number").get();
        let cores = available.min(2);
        let engine = Engine::start_on_cores(driver, cores, ANSWER);
        let executors = executors(&engine);
        let names: Vec<_> = executors.keys().cloned().collect();
        assert_eq!(names, (0..cores).map(|core| format!("core-{core}")).collect::<Vec<_>>());
        let mut cpus: Vec<_> = executors.values().collect();
        assert!(cpus.iter().all(|list| list.parse::<u32>().is_ok()), "one CPU each: {cpus:?}");
        cpus.dedup();
        assert_eq!(cpus.len(), cores, "no CPU twice: {cpus:?}");
    });
}

#[test]
fn auto_takes_the_cpus_it_may_use() {
    let mut command = Command::new("taskset");
    command.args(["-c", "0", env!("CARGO_BIN_EXE_engine")]);
    let engine = Engine::spawn(&mut command, &arguments("--cores auto --driver epoll"), ANSWER);
    engine.wait_until_ready();
    assert_eq!(executors(&engine), BTreeMap::from([("core-0".to_owned(), "0".to_owned())]));
    assert_eq!(listening_sockets(engine.web().port()), 1);
    engine.connect().get("/").assert_is(200, "here");
}

#[test]
fn a_port_in_use_ends_the_start_at_once_and_is_named() {
    let taken = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
    let address = taken.local_addr().expect("bound");
    let config = ANSWER.replace("127.0.0.1:0", &address.to_string());
    let since = Instant::now();
    let mut engine = Engine::spawn(&mut Engine::command(), &arguments("--cores 2"), config);
    let status = engine.wait();
    assert!(since.elapsed() < Duration::from_secs(1), "took {:?}", since.elapsed());
    assert!(!status.success());
    eventually("it is told", || engine.log().contains(&address.to_string()));
}

#[test]
fn a_second_engine_does_not_share_the_port_unasked() {
    let first = Engine::start(Driver::Epoll, ANSWER);
    let config = ANSWER.replace("127.0.0.1:0", &first.web().to_string());
    let mut second = Engine::spawn(&mut Engine::command(), &arguments("--cores 1"), config);
    assert!(!second.wait().success(), "{}", second.log());
    first.connect().get("/").assert_is(200, "here");
}

#[test]
fn sigterm_lets_exchanges_finish_and_closes_the_rest() {
    on_both_drivers(|driver| {
        let (origin, asked, answer) = Origin::held();
        let config = Config { endpoints: &[origin.address], ..Config::default() };
        let mut engine = Engine::start_on_cores(driver, 2, config);
        let mut fresh = engine.connect();
        let mut used = engine.connect();
        answer.give();
        used.get("/used").assert_is(200, "ok");
        asked.take();
        let mut busy: Vec<Connection> = (0..4).map(|_| engine.connect()).collect();
        for client in &busy {
            client.send("GET /busy HTTP/1.1\r\nHost: test\r\n\r\n");
            asked.take();
        }
        let web = engine.web();
        engine.signal(Signal::TERM);
        fresh.assert_closed();
        used.assert_closed();
        eventually("new connections are refused", || TcpStream::connect(web).is_err());
        for client in &mut busy {
            client.assert_open();
            answer.give();
        }
        for client in &mut busy {
            let response = client.response();
            response.assert_is(200, "ok");
            assert_eq!(response.head.value("Connection"), Some("close"));
            client.assert_closed();
        }
        let status = engine.wait();
        assert!(status.success(), "{status}: {}", engine.log());
    });
}

#[test]
fn sigterm_lets_a_download_finish() {
    const LENGTH: u64 = 32 * 1024 * 1024;
    on_both_drivers(|driver| {
        let origin = Origin::start(|peer| {
            peer.request();
            peer.wire.send(format!("HTTP/1.1 200 OK\r\nContent-Length: {LENGTH}\r\n\r\n"));
            pattern::send(LENGTH, &[64 * 1024], |piece| peer.wire.send(piece));
        });
        let mut engine = Engine::before(driver, origin.address);
        let mut idle = engine.connect();
        let mut client = engine.connect();
        client.send("GET / HTTP/1.1\r\nHost: test\r\n\r\n");
        let framing = client.head().expect("an answer").response_framing("GET");
        engine.signal(Signal::TERM);
        idle.assert_closed();
        let mut check = Check::default();
        assert!(client.body(framing, |bytes| check.take(bytes)).is_complete);
        client.assert_closed();
        assert!(engine.wait().success(), "{}", engine.log());
    });
}

#[test]
fn sigterm_answers_what_was_sent_before() {
    const REQUEST: &str = "GET / HTTP/1.1\r\nHost: test\r\n\r\n";
    // More than one core gets done before the signal has made its way.
    const NEW: usize = 300;
    const IDLE: usize = 50;
    on_both_drivers(|driver| {
        let mut engine = Engine::start(driver, ANSWER);
        let mut clients: Vec<Connection> = (0..IDLE).map(|_| engine.connect()).collect();
        for client in &mut clients {
            client.get("/").assert_is(200, "here");
        }
        // Stopped, it finds all of it at once: requests on idle connections, connections not accepted yet, the signal.
        engine.signal(Signal::STOP);
        clients.extend((0..NEW).map(|_| engine.connect()));
        assert!(clients.iter().all(|client| client.send(REQUEST)));
        engine.signal(Signal::TERM);
        engine.signal(Signal::CONT);
        for client in &mut clients {
            client.response().assert_is(200, "here");
            client.assert_closed();
        }
        assert!(engine.wait().success(), "{}", engine.log());
    });
}

#[test]
fn sigterm_under_load_breaks_no_request() {
    const ROUNDS: usize = 3;
    const BEFORE: usize = 500;
    on_both_drivers(|driver| {
        let origin = Origin::answering(OK);
        for _ in 0..ROUNDS {
            let config = Config { endpoints: &[origin.address], ..Config::default() };
            let mut engine = Engine::start_on_cores(driver, 2, config);
            let web = engine.web();
            let answered = AtomicUsize::new(0);
            thread::scope(|scope| {
                let options = ["keep-alive", "close"].into_iter().cycle().take(12);
                let clients: Vec<_> = options
                    .map(|option| {
                        scope.spawn(|| {
                            let accepted = iter::from_fn(|| TcpStream::connect(web).ok());
                            ask_over(accepted, option, &answered, || true)
                        })
                    })
                    .collect();
                eventually("the load runs", || answered.load(Ordering::Relaxed) > BEFORE);
                engine.signal(Signal::TERM);
                let lost = clients.into_iter().flat_map(|client| client.join().expect("a client"));
                assert_eq!(lost.collect::<Vec<_>>(), Vec::<String>::new());
            });
            let status = engine.wait();
            assert!(status.success(), "{status}: {}", engine.log());
        }
    });
}

#[test]
fn internal_listeners_serve_until_the_last_client_is_gone() {
    let config = "[listener.web]\nbind = \"127.0.0.1:0\"\n\
        [listener.inner]\nbind = \"127.0.0.1:0\"\ninternal = true\n\
        [channel.inner]\npriority = 1\nmatch = { listener = \"inner\" }\nrespond = { body = \"inside\" }\n\
        [channel.outer]\nupstream = \"self\"\n[upstream.self]\nendpoints = [\"listener:inner\"]\n";
    on_both_drivers(|driver| {
        let mut engine = Engine::start_on_cores(driver, 2, config);
        let mut clients: Vec<Connection> = (0..8).map(|_| engine.connect()).collect();
        for client in &clients {
            client.send("GET / HTTP/1.1\r\nHo");
        }
        // Received, so that none of them is idle.
        engine.assert_counter("/listeners/0/bytes_received", 8 * 18);
        let web = engine.web();
        engine.signal(Signal::TERM);
        eventually("new connections are refused", || TcpStream::connect(web).is_err());
        for client in &mut clients {
            client.send("st: test\r\n\r\n");
            let answer = client.response();
            answer.assert_is(200, "inside");
            assert_eq!(answer.head.value("Connection"), Some("close"));
            client.assert_closed();
        }
        assert!(engine.wait().success(), "{}", engine.log());
    });
}

#[test]
fn sigterm_without_work_ends_at_once() {
    on_both_drivers(|driver| {
        let mut engine = Engine::start_on_cores(driver, 2, ANSWER);
        let mut idle = engine.connect();
        idle.get("/").assert_is(200, "here");
        engine.signal(Signal::TERM);
        idle.assert_closed();
        assert!(engine.wait().success(), "{}", engine.log());
    });
}

#[test]
fn a_drain_does_not_last_longer_than_allowed() {
    on_both_drivers(|driver| {
        let (origin, asked, answer) = Origin::held();
        let process = r#"drain_timeout = "250ms""#;
        let mut engine =
            Engine::start(driver, Config { endpoints: &[origin.address], process, ..Config::default() });
        let mut client = engine.connect();
        client.send("GET / HTTP/1.1\r\nHost: test\r\n\r\n");
        asked.take();
        let since = Instant::now();
        engine.signal(Signal::TERM);
        engine.wait();
        assert!(since.elapsed() > Duration::from_millis(245), "gave up after {:?}", since.elapsed());
        client.assert_closed();
        answer.give();
    });
}

#[test]
fn a_second_sigterm_ends_at_once() {
    on_both_drivers(|driver| {
        let (origin, asked, answer) = Origin::held();
        let mut engine = Engine::before(driver, origin.address);
        let mut fresh = engine.connect();
        let client = engine.connect();
        client.send("GET / HTTP/1.1\r\nHost: test\r\n\r\n");
        asked.take();
        engine.signal(Signal::TERM);
        // The drain has begun, and would last 30 s.
        fresh.assert_closed();
        engine.signal(Signal::TERM);
        engine.wait();
        answer.give();
    });
}

#[test]
fn epoll_takes_over_where_io_uring_is_refused() {
    // What container runtimes do: the call exists, but is not for us. Its number is the same on every architecture
    // that has the unified table.
    const IO_URING_SETUP: i64 = 425;
    const EPERM: u32 = 1;
    let filter = SeccompFilter::new(
        BTreeMap::from([(IO_URING_SETUP, Vec::new())]),
        SeccompAction::Allow,
        SeccompAction::Errno(EPERM),
        std::env::consts::ARCH.try_into().expect("an architecture with seccomp"),
    );
    let program: BpfProgram = filter.and_then(TryInto::try_into).expect("a filter of one rule");
    // A filter binds the thread that applies it and the processes it starts: this one ends with the test.
    let start = move || {
        seccompiler::apply_filter(&program).expect("a filter can be applied");
        let start = |driver: &str| {
            let arguments = arguments(&format!("--cores 2 --driver {driver}"));
            let engine = Engine::spawn(&mut Engine::command(), &arguments, ANSWER);
            engine.wait_until_ready();
            engine
        };
        ["uring", "auto"].map(start)
    };
    for engine in thread::spawn(start).join().expect("both start") {
        let driver = engine.driver();
        assert!(driver.starts_with("epoll"), "{driver}");
        let is_told_why = driver.contains("io_uring") && driver.contains("not permitted");
        assert!(is_told_why, "{driver}");
        engine.connect().get("/").assert_is(200, "here");
    }
}

#[test]
fn the_address_family_does_not_matter() {
    on_both_drivers(|driver| {
        let inner = ANSWER.replace("127.0.0.1:0", "[::1]:0");
        let behind = Engine::start(driver, &inner);
        assert!(behind.web().is_ipv6());
        let outer = Config { endpoints: &[behind.web()], ..Config::default() };
        let outer = outer.to_string().replace("127.0.0.1:0", "[::1]:0");
        let engine = Engine::start(driver, outer);
        let host = format!("[::1]:{}", engine.web().port());
        let mut client = engine.connect();
        client.ask(&format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n")).assert_is(200, "here");
        client.ask(&format!("GET http://{host}/ HTTP/1.1\r\nHost: {host}\r\n\r\n")).assert_is(200, "here");
    });
}
