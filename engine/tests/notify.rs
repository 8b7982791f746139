//! What does whoever started the process hear of it? A supervisor of the test's own, message by message, in systemd's protocol.
//!
//! Never takes the process's word in its log for it.

mod common;

use std::collections::BTreeMap;
use std::fs;
use std::io::ErrorKind;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use common::connection::Connection;
use common::engine::{Driver, Engine};
use common::origin::Origin;
use common::{PATIENCE, eventually, on_both_drivers};
use rustix::process::{Pid, Signal, kill_process};
use rustix::time::{ClockId, clock_gettime};

const ANSWER: &str = "[listener.web]\nbind = \"127.0.0.1:0\"\n[channel.all]\nrespond = { body = \"here\" }\n";

/// A service manager, as far as the process can tell.
struct Manager {
    socket: UnixDatagram,
    name: String,
}

/// One message: what each line says.
type Message = BTreeMap<String, String>;

impl Manager {
    /// Listens at an abstract name, as systemd may.
    fn new() -> Self {
        let name = Self::unique_name();
        let address = SocketAddr::from_abstract_name(&name).expect("a name");
        Self::over(UnixDatagram::bind_addr(&address).expect("a socket"), format!("@{name}"))
    }

    /// Listens at a path, as systemd does.
    fn at_a_path() -> Self {
        let path = std::env::temp_dir().join(Self::unique_name());
        Self::over(UnixDatagram::bind(&path).expect("a socket"), path.display().to_string())
    }

    fn over(socket: UnixDatagram, name: String) -> Self {
        socket.set_read_timeout(Some(PATIENCE)).expect("a deadline");
        Self { socket, name }
    }

    fn unique_name() -> String {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        format!("corelane-notify-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed))
    }

    /// Starts an engine that has it for a supervisor.
    fn start(&self, driver: Driver, variables: &[(&str, &str)], config: &str) -> Engine {
        let mut command = Engine::command();
        command.env("NOTIFY_SOCKET", &self.name).envs(variables.iter().copied());
        let arguments = ["--cores", "2", "--driver", &driver.to_string()].map(str::to_owned);
        let engine = Engine::spawn(&mut command, &arguments, config);
        engine.wait_until_ready();
        engine
    }

    /// The next message that is no beat of the watchdog.
    #[track_caller]
    fn hears(&self) -> Message {
        loop {
            let message = self.next().expect("a message in time");
            if message != beat() {
                return message;
            }
        }
    }

    /// The next message; `None` if none comes in time.
    fn next(&self) -> Option<Message> {
        let mut bytes = [0; 4096];
        match self.socket.recv(&mut bytes) {
            Ok(length) => {
                let text = std::str::from_utf8(&bytes[..length]).expect("text");
                let lines = text.lines().map(|line| line.split_once('=').expect("a name and a value"));
                Some(lines.map(|(name, value)| (name.to_owned(), value.to_owned())).collect())
            }
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => None,
            Err(error) => panic!("{error}"),
        }
    }

    /// Expects that the process says that it serves, and how.
    #[track_caller]
    fn hears_ready(&self, engine: &Engine, status: &str) {
        let message = self.hears();
        assert_eq!(message.get("READY").map(String::as_str), Some("1"), "{message:?}");
        assert_eq!(message["MAINPID"], engine.pid().to_string());
        assert!(message["STATUS"].contains(status), "{message:?}");
    }

    /// Expects that a reload begins, which was asked for at `asked` or later; systemd takes an older one for the answer to another signal.
    #[track_caller]
    fn hears_reloading(&self, asked: u64) {
        let message = self.hears();
        assert_eq!(message.get("RELOADING").map(String::as_str), Some("1"), "{message:?}");
        let at: u64 = message["MONOTONIC_USEC"].parse().expect("microseconds");
        assert!((asked..=monotonic_micros()).contains(&at), "{asked} {message:?}");
    }
}

impl Drop for Manager {
    fn drop(&mut self) {
        if self.name.starts_with('/') {
            let _ = fs::remove_file(&self.name);
        }
    }
}

fn beat() -> Message {
    [("WATCHDOG".to_owned(), "1".to_owned())].into()
}

fn monotonic_micros() -> u64 {
    let now = clock_gettime(ClockId::Monotonic);
    now.tv_sec.unsigned_abs() * 1_000_000 + now.tv_nsec.unsigned_abs() / 1_000
}

#[test]
fn it_is_ready_once_it_serves_and_then_reloads_and_drains_message_by_message() {
    for manager in [Manager::new(), Manager::at_a_path()] {
        let mut engine = manager.start(Driver::Epoll, &[], ANSWER);
        manager.hears_ready(&engine, "configuration 1 on 2 cores");
        engine.connect().get("/").assert_is(200, "here");

        engine.rewrite(ANSWER.replace("here", "there"));
        let asked = monotonic_micros();
        engine.signal(Signal::HUP);
        manager.hears_reloading(asked);
        manager.hears_ready(&engine, "configuration 2 on 2 cores");
        engine.connect().get("/").assert_is(200, "there");

        let asked = monotonic_micros();
        engine.rewrite("[listener.web]\nbind = \"nowhere\"\n");
        engine.signal(Signal::HUP);
        manager.hears_reloading(asked);
        manager.hears_ready(&engine, "configuration 2 on 2 cores; a later one of");
        engine.connect().get("/").assert_is(200, "there");

        engine.rewrite(ANSWER);
        assert_eq!(engine.reload().0, 200, "by the admin listener it is a reload too");
        manager.hears_reloading(asked);
        manager.hears_ready(&engine, "configuration 3 on 2 cores");

        engine.signal(Signal::TERM);
        let stopping = manager.hears();
        assert_eq!(stopping.get("STOPPING").map(String::as_str), Some("1"), "{stopping:?}");
        assert!(engine.wait().success());
    }
}

#[test]
fn a_signal_to_reload_is_answered_also_where_there_is_no_file_to_read() {
    let manager = Manager::new();
    let mut command = Engine::command();
    let arguments =
        "--cores 1 --listen 127.0.0.1:0 --to 127.0.0.1:9 --admin 127.0.0.1:0".split(' ').map(str::to_owned);
    command.env("NOTIFY_SOCKET", &manager.name);
    let engine = Engine::spawn_without_file(&mut command, &arguments.collect::<Vec<_>>());
    manager.hears_ready(&engine, "configuration 1");
    let asked = monotonic_micros();
    engine.signal(Signal::HUP);
    manager.hears_reloading(asked);
    manager.hears_ready(&engine, "configuration 1");
}

#[test]
fn a_drain_says_what_is_left_and_how_long_it_may_take() {
    on_both_drivers(|driver| {
        let manager = Manager::new();
        let (origin, asked, answer) = Origin::held();
        let config = format!(
            "[process]\ndrain_timeout = \"60s\"\n[listener.web]\nbind = \"127.0.0.1:0\"\n[channel.all]\nupstream = \"app\"\n\
             [upstream.app]\nendpoints = [\"{}\"]\n",
            origin.address
        );
        let mut engine = manager.start(driver, &[], &config);
        manager.hears_ready(&engine, "configuration 1");
        let mut client = Connection::open(engine.web());
        client.send("GET / HTTP/1.1\r\nHost: test\r\n\r\n");
        asked.take();
        engine.signal(Signal::TERM);
        let stopping = manager.hears();
        assert_eq!(stopping["STOPPING"], "1");
        let first: u64 = stopping["EXTEND_TIMEOUT_USEC"].parse().expect("microseconds");
        assert!((60_000_000..120_000_000).contains(&first), "{stopping:?}");
        // Once more while it goes on, without beginning it again, until what is left is known to be the one exchange.
        let mut left = first;
        eventually("what is left is told", || {
            let message = manager.hears();
            assert!(!message.contains_key("STOPPING"), "{message:?}");
            let next: u64 = message["EXTEND_TIMEOUT_USEC"].parse().expect("microseconds");
            assert!(next < left, "{next} {left}");
            left = next;
            message["STATUS"] == "drains: 1 connections open, 1 exchanges in progress"
        });
        answer.give();
        client.response().assert_is(200, "ok");
        assert!(engine.wait().success());
    });
}

/// Holds one thread still: whatever it waits in, it does not come back from.
struct Stall(Child);

impl Stall {
    fn of(thread: &str) -> Self {
        let strace = Command::new("strace")
            .args(["-qq", "-o", "/dev/null", "-p", thread])
            .args(["-e", "inject=epoll_wait,epoll_pwait,epoll_pwait2,io_uring_enter:delay_enter=600s"])
            .stdin(Stdio::null())
            .spawn()
            .unwrap_or_else(|error| panic!("this test needs strace (Debian: strace): {error}"));
        Self(strace)
    }
}

impl Drop for Stall {
    fn drop(&mut self) {
        let _ = kill_process(Pid::from_child(&self.0), Signal::KILL);
        let _ = self.0.wait();
    }
}

/// The kernel's number of a core's thread.
fn thread_of_core(engine: &Engine, core: usize) -> String {
    let tasks = fs::read_dir(format!("/proc/{}/task", engine.pid())).expect("a live process");
    let is_core = |task: &fs::DirEntry| {
        fs::read_to_string(task.path().join("comm")).is_ok_and(|name| name.trim() == format!("core-{core}"))
    };
    let task = tasks.filter_map(Result::ok).find(is_core).expect("a thread for the core");
    task.file_name().to_string_lossy().into_owned()
}

#[test]
fn idle_cores_feed_the_watchdog_and_one_stalled_core_starves_it() {
    on_both_drivers(|driver| {
        let manager = Manager::new();
        let engine = manager.start(driver, &[("WATCHDOG_USEC", "600000")], ANSWER);
        manager.hears_ready(&engine, "configuration 1");
        // Nobody asks for anything: only the look itself wakes the cores.
        (0..5).for_each(|_| assert_eq!(manager.next(), Some(beat())));

        let stall = Stall::of(&thread_of_core(&engine, 1));
        eventually("the log names the core", || engine.log().contains("core 1 has not turned its loop for"));
        assert!(!engine.log().contains("core 0 has not"));
        // Those that had been sent before.
        manager.socket.set_nonblocking(true).expect("a mode");
        while manager.next().is_some() {}
        manager.socket.set_nonblocking(false).expect("a mode");
        manager.socket.set_read_timeout(Some(Duration::from_millis(700))).expect("a deadline");
        assert_eq!(manager.next(), None, "the supervisor's patience is over by now");

        drop(stall);
        manager.socket.set_read_timeout(Some(PATIENCE)).expect("a deadline");
        assert_eq!(manager.next(), Some(beat()));
        eventually("the log says so", || engine.log().contains("core 1 turns its loop again"));
    });
}

#[test]
fn a_watchdog_that_waits_for_another_process_is_left_alone() {
    let manager = Manager::new();
    let engine = manager.start(Driver::Epoll, &[("WATCHDOG_USEC", "30000"), ("WATCHDOG_PID", "1")], ANSWER);
    manager.hears_ready(&engine, "configuration 1");
    manager.socket.set_read_timeout(Some(Duration::from_millis(100))).expect("a deadline");
    assert_eq!(manager.next(), None);
}

#[test]
fn nobody_who_listens_keeps_the_process_from_serving() {
    let manager = Manager::new();
    let name = manager.name.clone();
    drop(manager);
    for name in [name.as_str(), "vsock:2:1", "/nowhere/notify"] {
        let mut command = Engine::command();
        command.env("NOTIFY_SOCKET", name).env("WATCHDOG_USEC", "soon");
        let since = Instant::now();
        let engine = Engine::spawn(&mut command, &["--cores".to_owned(), "1".to_owned()], ANSWER);
        engine.wait_until_ready();
        engine.connect().get("/").assert_is(200, "here");
        eventually("it is told", || engine.log().contains("the service manager"));
        assert!(since.elapsed() < PATIENCE);
    }
}
