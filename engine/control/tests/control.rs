//! Does control answer, drain and end as it says? Over loopback, with threads that stand in for cores.
//!
//! Nothing here serves traffic: see the black-box tests of the engine.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use config::Text;
use control::{
    Certificates, Control, ControlSetup, CoreInfo, CoreWatch, Exit, Held, LocalTerms, LogControl, Origin,
    Own, ProcessInfo, SocketFiles, Supervisor, TakeOver,
};
use proxy::core_main::Fellow;
use proxy::generation::Generation;
use proxy::message::CoreMessage;
use proxy::roster::keeper::Keeper;
use proxy::stats::Collected;
use runtime::mailbox::{Receiver, mailbox};
use runtime::{CoreConfig, DriverKind};

/// A control thread over cores of which the tests decide what they do.
struct Bench {
    control: Control,
    admin: SocketAddr,
    cores: Vec<(CoreConfig, Receiver<CoreMessage>, CoreWatch)>,
}

fn bench(cores: usize) -> Bench {
    let text = config::default_config();
    let loaded = config::load_str("default.toml", text, config::Format::Toml, &|_| None);
    let loaded = loaded.expect("the default is fine");
    let snapshot = Arc::new(loaded.snapshot);
    let (mut fellows, mut inner, mut counters) = (Vec::new(), Vec::new(), Vec::new());
    for index in 0..cores {
        let config = CoreConfig::new(index, DriverKind::Epoll).expect("eventfd");
        let (sender, receiver) = mailbox(&config.remote, 8);
        fellows.push(Fellow { sender });
        counters.push(Arc::clone(&config.counters));
        inner.push((config, receiver));
    }
    let listener = TcpListener::bind("127.0.0.1:0").expect("bind");
    let admin = listener.local_addr().expect("address");
    let keeper = Keeper::new(&snapshot, |_| admin.into());
    let (control, watches) = control::spawn(ControlSetup {
        process: Arc::new(ProcessInfo {
            version: "1.2.3",
            started: Instant::now(),
            started_at: SystemTime::now(),
            driver: "epoll".to_owned(),
            uring_error: None,
            cores: (0..cores).map(|_| CoreInfo::default()).collect(),
        }),
        listener_addresses: vec![admin.into(); snapshot.listeners.len()].into(),
        certificates: Arc::new(Certificates::load(&snapshot).expect("no certificates").0),
        generation: Generation::first(snapshot, Arc::clone(keeper.roster()), Arc::default(), counters),
        keeper,
        fellows: fellows.into(),
        schema: Arc::new(loaded.schema),
        origin: Origin { source: "a test".to_owned(), version: None },
        own: Own::new(Text::Default, LocalTerms::default()),
        admin: Some(listener),
        joined: None,
        socket_files: SocketFiles::default(),
        log: LogControl::new("info".parse().expect("a level")).1,
        supervisor: Supervisor::default(),
        take_over: TakeOver::new(None, Held::default(), None),
    })
    .expect("control");
    let cores = inner.into_iter().zip(watches).map(|((config, mailbox), watch)| (config, mailbox, watch));
    Bench { control, admin, cores: cores.collect() }
}

/// Runs a stand-in: answers every round, and ends once it was told to drain and `may_end` says so.
fn run_core(
    (config, mailbox, watch): (CoreConfig, Receiver<CoreMessage>, CoreWatch),
    may_end: mpsc::Receiver<()>,
) {
    let index = watch.core();
    let outcome = runtime::run(config, move |core| async move {
        loop {
            match mailbox.recv(&core).await {
                CoreMessage::CollectHistograms { empty, reply, .. } => {
                    let collected = Collected { core: index, histograms: empty, others: Vec::new() };
                    reply.push(collected).expect("room for every core");
                }
                CoreMessage::Drain { .. } => break,
                CoreMessage::Look { .. } | CoreMessage::Room { .. } | CoreMessage::Turn => {}
                CoreMessage::Adopt { .. } | CoreMessage::Renew { .. } | CoreMessage::Open(_) => {
                    unreachable!("nothing is accepted")
                }
            }
        }
        may_end.recv().expect("the test says when");
    });
    watch.ended(outcome);
}

fn request(admin: SocketAddr, line: &str) -> String {
    let mut stream = TcpStream::connect(admin).expect("connect");
    write!(stream, "{line} HTTP/1.1\r\nHost: admin\r\n\r\n").expect("send");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("answer");
    answer
}

fn check(admin: SocketAddr, line: &str, status: u16, body: &str) {
    let answer = request(admin, line);
    assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{line}: {answer}");
    assert!(answer.contains(body), "{line}: {answer}");
}

fn wait_for(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(10);
    while !holds() {
        assert!(Instant::now() < deadline, "{what}");
        thread::yield_now();
    }
}

#[test]
fn every_answer_has_its_status_and_errors_are_json() {
    let Bench { control, admin, cores } = bench(2);
    let threads: Vec<_> = cores
        .into_iter()
        .map(|core| {
            let (end, may_end) = mpsc::sync_channel(1);
            (end, thread::spawn(move || run_core(core, may_end)))
        })
        .collect();
    for path in ["/healthz", "/readyz", "/endpoint-health"] {
        check(admin, &format!("GET {path}"), 200, "\r\n\r\nok\n");
    }
    check(admin, "GET /stats", 200, "\"version\":\"1.2.3\"");
    check(admin, "GET /stats/latency", 200, "\"count\":0");
    check(admin, "GET /stats/latency?format=hgrm&phase=connect&window=10s", 200, "#[Mean");
    check(admin, "GET /stats/latency?channel=nope", 400, "{\"error\":\"channel cannot be \\\"nope\\\"");
    check(admin, "GET /stats/latency?depth=1", 400, "{\"error\":\"there is no parameter");
    check(admin, "GET /metrics", 200, "corelane_build_info{version=\"1.2.3\",driver=\"epoll\"} 1");
    check(admin, "GET /nothing", 404, "{\"error\":");
    check(admin, "POST /stats", 405, "{\"error\":");

    control.drain();
    wait_for("readiness is withdrawn", || request(admin, "GET /readyz").starts_with("HTTP/1.1 503 "));
    check(admin, "GET /readyz", 503, "{\"error\":\"draining\"}");
    check(admin, "GET /endpoint-health", 503, "draining");
    check(admin, "GET /healthz", 200, "ok");
    check(admin, "GET /stats", 200, "\"state\":\"draining\"");
    assert!(!control.is_finished(), "the cores have not ended yet");
    for (end, thread) in threads {
        end.send(()).expect("the core waits for this");
        thread.join().expect("core");
    }
    assert_eq!(control.wait(), Exit { code: 0, error: None });
}

#[test]
fn a_stuck_client_does_not_stop_others() {
    let bench = bench(1);
    let stuck: Vec<_> = (0..16)
        .map(|_| {
            let mut stream = TcpStream::connect(bench.admin).expect("connect");
            stream.write_all(b"GET /stats HTTP/1.1\r\nHost: ad").expect("send");
            stream
        })
        .collect();
    let began = Instant::now();
    check(bench.admin, "GET /healthz", 200, "ok");
    assert!(began.elapsed() < Duration::from_secs(2), "{:?}", began.elapsed());
    drop(stuck);
}

#[test]
fn a_head_without_end_is_cut_off() {
    // Far beyond what the kernel's buffers on both sides hold: to take it all, somebody would have to read it.
    const SENT_MAX: usize = 64 * 1024 * 1024;
    let bench = bench(1);
    let mut stream = TcpStream::connect(bench.admin).expect("connect");
    stream.write_all(b"GET /stats HTTP/1.1\r\n").expect("send");
    let line = format!("X-Filler: {}\r\n", "x".repeat(1_000)).repeat(64);
    let began = Instant::now();
    let mut sent = 0;
    while sent < SENT_MAX && stream.write_all(line.as_bytes()).is_ok() {
        sent += line.len();
    }
    assert!(sent < SENT_MAX, "all of it was read");
    assert!(began.elapsed() < Duration::from_secs(5), "cut off by time, not by size: {:?}", began.elapsed());
}

#[test]
fn a_core_that_panics_or_fails_ends_the_process() {
    let check = |break_core: fn(CoreWatch), expected: &str| {
        let Bench { control, mut cores, .. } = bench(2);
        let (_, _, watch) = cores.remove(1);
        break_core(watch);
        assert_eq!(control.wait(), Exit { code: 1, error: Some(expected.to_owned()) });
    };
    check(drop, "core 1 failed: its thread panicked");
    check(|watch| watch.ended(Err(std::io::Error::other("no rings left"))), "core 1 failed: no rings left");
    check(|watch| watch.ended(Ok(())), "core 1 ended without having been asked to");
}
