//! Can the program be replaced while it serves, so that nobody who uses it notices? And does a bad one change anything?
//!
//! Never looks at what the processes say of each other where the kernel can be asked.

mod common;

use std::fs::{self, Permissions};
use std::io::{Read, Write};
use std::iter;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering};
use std::thread;

use common::connection::{Connection, ask_over};
use common::engine::{Driver, Engine};
use common::origin::{OK, Origin};
use common::pattern::{self, Check};
use common::{eventually, on_both_drivers};
use rustix::process::{Pid, Signal, kill_process, test_kill_process};
use serde_json::Value;

const ANSWER: &str = "[listener.web]\nbind = \"127.0.0.1:0\"\n[channel.all]\nrespond = { body = \"here\" }\n";

/// A program at a path of its own, which others can be put in the place of.
struct Installed {
    folder: PathBuf,
}

impl Installed {
    fn new() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("upgrade-{}-{number}", std::process::id());
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
        let _ = fs::remove_dir_all(&folder);
        fs::create_dir_all(&folder).expect("a folder");
        fs::hard_link(env!("CARGO_BIN_EXE_engine"), folder.join("engine")).expect("the program");
        Self { folder }
    }

    fn path(&self) -> PathBuf {
        self.folder.join("engine")
    }

    /// Puts a script in its place, as a package manager would: under another name, then renamed.
    fn replace(&self, script: &str) {
        let new = self.folder.join("new");
        fs::write(&new, format!("#!/bin/sh\n{script}\n")).expect("a script");
        fs::set_permissions(&new, Permissions::from_mode(0o755)).expect("its permissions");
        fs::rename(new, self.path()).expect("another program in its place");
    }

    /// Puts one in its place that is the same, with other arguments.
    fn replace_by_engine(&self, arguments: &str) {
        self.replace(&format!("exec {} {arguments}", env!("CARGO_BIN_EXE_engine")));
    }

    fn start(&self, driver: Driver, cores: usize, config: impl std::fmt::Display) -> Engine {
        let arguments = ["--cores".to_owned(), cores.to_string(), "--driver".to_owned(), driver.to_string()];
        let engine = Engine::spawn(&mut Command::new(self.path()), &arguments, config);
        engine.wait_until_ready();
        engine
    }
}

impl Drop for Installed {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.folder);
    }
}

/// The process that has taken over, killed when dropped: it is nobody's child.
struct Successor(Pid);

impl Successor {
    /// The process that the answer to an upgrade names.
    #[track_caller]
    fn of((status, answer): &(u16, Value)) -> Self {
        assert_eq!(*status, 200, "{answer}");
        let pid = answer["pid"].as_i64().and_then(|pid| i32::try_from(pid).ok()).and_then(Pid::from_raw);
        Self(pid.expect("the number of a process"))
    }

    fn lives(&self) -> bool {
        // Whoever has ended and was not waited for is there still, and does nothing any more.
        let state = fs::read_to_string(format!("/proc/{}/stat", self.0.as_raw_nonzero()));
        test_kill_process(self.0).is_ok() && state.is_ok_and(|state| !state.contains(") Z "))
    }
}

impl Drop for Successor {
    fn drop(&mut self) {
        let _ = kill_process(self.0, Signal::KILL);
    }
}

fn upgrade(engine: &Engine) -> (u16, Value) {
    engine.ask_admin("POST", "/process/upgrade", None)
}

/// How many sockets listen on a port of 127.0.0.1.
fn listening_sockets(port: u16) -> usize {
    const LISTEN: &str = "0A";
    let local = format!("0100007F:{port:04X}");
    let table = fs::read_to_string("/proc/net/tcp").expect("the kernel's table of sockets");
    let rows = table.lines().map(|row| row.split_whitespace().collect::<Vec<_>>());
    rows.filter(|row| row.get(1) == Some(&local.as_str()) && row.get(3) == Some(&LISTEN)).count()
}

/// Sends requests until told to stop. Gives back whatever was not answered as HTTP promises, and who was not let in.
fn ask_until(stop: &AtomicBool, web: SocketAddr, option: &str, answered: &AtomicUsize) -> Vec<String> {
    let goes_on = || !stop.load(Ordering::Relaxed);
    let mut turned_away = Vec::new();
    let connections = iter::from_fn(|| {
        while goes_on() {
            match TcpStream::connect(web) {
                Ok(stream) => return Some(stream),
                Err(error) => turned_away.push(format!("{option}: turned away: {error}")),
            }
        }
        None
    });
    let mut lost = ask_over(connections, option, answered, goes_on);
    lost.append(&mut turned_away);
    lost
}

#[test]
fn upgrades_under_load_break_no_request() {
    const UPGRADES: usize = 3;
    const BETWEEN: usize = 300;
    on_both_drivers(|driver| {
        let origin = Origin::answering(OK);
        let installed = Installed::new();
        let config = common::engine::Config { endpoints: &[origin.address], ..Default::default() };
        let mut engine = installed.start(driver, 2, config);
        let web = engine.web();
        let (answered, stop) = (AtomicUsize::new(0), AtomicBool::new(false));
        let mut successors = Vec::new();
        thread::scope(|scope| {
            let options = ["keep-alive", "close"].into_iter().cycle().take(8);
            let clients: Vec<_> =
                options.map(|option| scope.spawn(|| ask_until(&stop, web, option, &answered))).collect();
            for _ in 0..UPGRADES {
                let before = answered.load(Ordering::Relaxed);
                eventually("the load runs", || answered.load(Ordering::Relaxed) > before + BETWEEN);
                successors.push(Successor::of(&upgrade(&engine)));
            }
            let before = answered.load(Ordering::Relaxed);
            eventually("it goes on", || answered.load(Ordering::Relaxed) > before + BETWEEN);
            stop.store(true, Ordering::Relaxed);
            let lost = clients.into_iter().flat_map(|client| client.join().expect("a client"));
            assert_eq!(lost.collect::<Vec<_>>(), Vec::<String>::new());
        });
        let status = engine.end();
        assert!(status.success(), "{status}: {}", engine.log());
        let (last, former) = successors.split_last().expect("some");
        eventually("those before the last end", || !former.iter().any(Successor::lives));
        assert!(last.lives());
        assert_eq!(engine.stats()["process"]["pid"], last.0.as_raw_nonzero().get());
        assert_eq!(engine.stats()["process"]["last_upgrade"]["outcome"], "taken_over");
        assert_eq!(listening_sockets(web.port()), 2, "the first process's, whoever has them");
    });
}

#[test]
fn what_has_begun_ends_where_it_began() {
    const LENGTH: u64 = 32 * 1024 * 1024;
    on_both_drivers(|driver| {
        let origin = Origin::start(|peer| {
            peer.request();
            peer.wire.send(format!("HTTP/1.1 200 OK\r\nContent-Length: {LENGTH}\r\n\r\n"));
            pattern::send(LENGTH, &[64 * 1024], |piece| peer.wire.send(piece));
        });
        let echo = TcpListener::bind("127.0.0.1:0").expect("a port");
        let config = format!(
            "[listener.web]\nbind = \"127.0.0.1:0\"\n[listener.bytes]\nbind = \"127.0.0.1:0\"\nprotocol = \"tcp\"\n\
             upstream = \"echo\"\n[channel.all]\nupstream = \"app\"\n[upstream.app]\nendpoints = [\"{}\"]\n\
             [upstream.echo]\nendpoints = [\"{}\"]\n",
            origin.address,
            echo.local_addr().expect("an address")
        );
        let installed = Installed::new();
        let mut engine = installed.start(driver, 1, config);
        let mut idle = engine.connect();
        let mut client = engine.connect();
        client.send("GET / HTTP/1.1\r\nHost: test\r\n\r\n");
        let framing = client.head().expect("an answer").response_framing("GET");
        let mut relayed = TcpStream::connect(engine.listener("bytes")).expect("a listener");
        relayed.write_all(b"before").expect("room");
        let (mut far, _) = echo.accept().expect("a connection");
        let mut bytes = [0; 6];
        far.read_exact(&mut bytes).expect("what was sent");

        let _successor = Successor::of(&upgrade(&engine));
        // It waited for a request, and has had its time for one.
        idle.assert_closed();
        relayed.write_all(b"after!").expect("room");
        far.read_exact(&mut bytes).expect("what was sent");
        assert_eq!(&bytes, b"after!");
        let mut check = Check::default();
        assert!(client.body(framing, |bytes| check.take(bytes)).is_complete);
        // The old process has this relay alone, and is there for it.
        let _new = TcpStream::connect(engine.listener("bytes")).expect("the new process's");
        drop((relayed, far));
        assert!(engine.end().success(), "{}", engine.log());
    });
}

#[test]
fn a_program_that_does_not_serve_changes_nothing() {
    let installed = Installed::new();
    let taken = TcpListener::bind("127.0.0.1:0").expect("a port");
    let taken = taken.local_addr().map(|address| (taken, address)).expect("an address");
    let config = format!("process.upgrade_timeout = \"5s\"\n{ANSWER}");
    let engine = installed.start(Driver::Epoll, 2, &config);
    let left = installed.folder.join("pid");
    let mut client = engine.connect();
    let mut failed = 0;
    let mut check = |script: &str, expected: &str| {
        installed.replace(script);
        let (status, answer) = upgrade(&engine);
        let error = answer["error"].as_str().unwrap_or_default().to_owned();
        assert!(status == 422 && error.contains(expected), "{script}: {status} {answer}");
        client.get("/").assert_is(200, "here");
        engine.connect().get("/").assert_is(200, "here");
        failed += 1;
        let process = &engine.stats()["process"];
        assert_eq!(process["upgrades_failed"], failed, "{process}");
        assert_eq!(process["last_upgrade"]["error"].as_str(), Some(&*error));
    };
    let engine_path = env!("CARGO_BIN_EXE_engine");
    check("exit 7", "exit status: 7");
    check("kill -SEGV $$", "signal: 11");
    check("printf noise >&0; exec sleep 60", "speaks otherwise");
    check(&format!("echo $$ >{}; exec sleep 60", left.display()), "within 5 s (process.upgrade_timeout)");
    check(&format!("exec {engine_path} --config /nowhere/at-all.toml"), "/nowhere/at-all.toml");
    check(&format!("exec {engine_path} --no-such-flag"), "exit status: 2");
    let pid = fs::read_to_string(&left).expect("it was started").trim().parse().expect("a number");
    let hung = Pid::from_raw(pid).expect("the number of a process");
    test_kill_process(hung).expect_err("it was ended");

    // It gets the sockets, and fails then.
    engine.rewrite(format!("{config}[listener.more]\nbind = \"{}\"\n", taken.1));
    check(&format!("exec {engine_path} \"$@\""), &format!("cannot listen on {}", taken.1));
    engine.rewrite("[listener.web]\nbindd = 1\n");
    check(&format!("exec {engine_path} \"$@\""), "bindd");
    fs::remove_file(installed.path()).expect("it is there");
    let (status, answer) = upgrade(&engine);
    assert!(
        status == 422 && answer["error"].as_str().is_some_and(|error| error.contains("cannot be started"))
    );
    engine.connect().get("/").assert_is(200, "here");
}

#[test]
fn the_next_process_may_have_more_cores_or_fewer() {
    on_both_drivers(|driver| {
        for (before, after, sockets) in [(3, 1, 3), (3, 2, 3), (1, 3, 3)] {
            let installed = Installed::new();
            let mut engine = installed.start(driver, before, ANSWER);
            let (web, config) = (engine.web(), engine.config_path().display().to_string());
            installed.replace_by_engine(&format!("--cores {after} --driver {driver} --config {config}"));
            // The second goes on with all that the first has.
            let mut successors = Vec::new();
            for _ in 0..2 {
                successors.push(Successor::of(&upgrade(&engine)));
                assert_eq!(engine.stats()["process"]["cores"], after);
                // Each queue gets some of them, and none is left without an answer.
                let mut clients: Vec<_> = (0..64).map(|_| engine.connect()).collect();
                clients.iter_mut().for_each(|client| client.get("/").assert_is(200, "here"));
            }
            assert!(engine.end().success(), "{}", engine.log());
            eventually("the first has ended", || !successors[0].lives());
            assert_eq!(listening_sockets(web.port()), sockets);
        }
    });
}

#[test]
fn a_socket_at_a_path_stays_where_it_is() {
    on_both_drivers(|driver| {
        let installed = Installed::new();
        let path = installed.folder.join("web.sock");
        let config = ANSWER.replace("127.0.0.1:0", &format!("unix:{}", path.display()));
        let mut engine = installed.start(driver, 2, config);
        let get = || {
            let mut client = UnixStream::connect(&path).expect("somebody listens");
            client.write_all(b"GET / HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n").expect("room");
            let mut answer = String::new();
            client.read_to_string(&mut answer).expect("an answer");
            assert!(answer.ends_with("here"), "{answer}");
        };
        get();
        let file = fs::metadata(&path).expect("a file").ino();
        let successor = Successor::of(&upgrade(&engine));
        get();
        assert!(engine.end().success(), "{}", engine.log());
        (0..8).for_each(|_| get());
        assert_eq!(fs::metadata(&path).expect("a file").ino(), file);
        kill_process(successor.0, Signal::TERM).expect("it lives");
        eventually("it ends", || !successor.lives());
        assert!(!path.exists(), "it was the new process's to remove");
    });
}

#[test]
fn sigusr2_starts_what_is_installed_now() {
    let installed = Installed::new();
    let mut engine = installed.start(Driver::Epoll, 1, ANSWER);
    let was_here = installed.folder.join("was-here");
    installed.replace(&format!(
        "echo $$ >{}; exec {} \"$@\"",
        was_here.display(),
        env!("CARGO_BIN_EXE_engine")
    ));
    engine.signal(Signal::USR2);
    assert!(engine.end().success(), "{}", engine.log());
    let pid = fs::read_to_string(was_here).expect("the new program ran").trim().parse().expect("a number");
    let successor = Successor(Pid::from_raw(pid).expect("the number of a process"));
    assert!(successor.lives());
    engine.connect().get("/").assert_is(200, "here");
}

#[test]
fn one_upgrade_at_a_time_and_a_drain_ends_it() {
    let installed = Installed::new();
    let mut engine = installed.start(Driver::Epoll, 1, ANSWER);
    let left = installed.folder.join("pid");
    installed.replace(&format!("echo $$ >{0}.new; mv {0}.new {0}; exec sleep 60", left.display()));
    let hung = thread::scope(|scope| {
        let first = scope.spawn(|| upgrade(&engine));
        eventually("it is started", || left.exists());
        let (status, answer) = upgrade(&engine);
        assert!(status == 409 && answer["error"] == "an upgrade is under way already", "{status} {answer}");
        engine.signal(Signal::TERM);
        let (status, answer) = first.join().expect("an answer");
        assert!(
            status == 422 && answer["error"].as_str().is_some_and(|error| error.contains("drains")),
            "{answer}"
        );
        let pid = fs::read_to_string(&left).expect("it was started").trim().parse().expect("a number");
        Pid::from_raw(pid).expect("the number of a process")
    });
    assert!(engine.end().success(), "{}", engine.log());
    test_kill_process(hung).expect_err("it was ended");
}

/// Starts the engine as systemd does: with sockets from descriptor 3 on, and their names.
fn start_with(
    installed: &Installed,
    listener: impl Into<std::os::fd::OwnedFd>,
    name: &str,
    config: &str,
) -> Engine {
    let script = "LISTEN_PID=$$ LISTEN_FDS=1 exec \"$0\" \"$@\" 3<&0 </dev/null";
    let socket = listener.into();
    let mut command = Command::new("sh");
    command.arg("-c").arg(script).arg(installed.path()).env("LISTEN_FDNAMES", name);
    Engine::spawn_with_input(&mut command, socket, &["--cores".to_owned(), "2".to_owned()], config)
}

#[test]
fn a_socket_that_systemd_has_opened_is_its_listener_s() {
    let installed = Installed::new();
    for (name, bind) in [("web", "127.0.0.2:80".to_owned()), ("a.socket", String::new())] {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("an address");
        let bind = if bind.is_empty() { address.to_string() } else { bind };
        let another = listener.try_clone().expect("a descriptor");
        let mut engine = start_with(&installed, listener, name, &ANSWER.replace("127.0.0.1:0", &bind));
        engine.wait_until_ready();
        assert_eq!(engine.web(), address, "it is where systemd says");
        (0..8).for_each(|_| Connection::open(address).get("/").assert_is(200, "here"));
        engine.signal(Signal::TERM);
        assert!(engine.end().success(), "{}", engine.log());
        // systemd has the socket still: whoever comes waits there for the next process.
        let mut waits = Connection::open(address);
        waits.send("GET / HTTP/1.1\r\nHost: test\r\n\r\n");
        let mut next = start_with(&installed, another, name, &ANSWER.replace("127.0.0.1:0", &bind));
        waits.response().assert_is(200, "here");
        next.signal(Signal::TERM);
        assert!(next.end().success(), "{}", next.log());
    }
}

#[test]
fn a_socket_that_no_listener_wants_is_told_of_and_closed() {
    let installed = Installed::new();
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("an address");
    let engine = start_with(&installed, listener, "other", ANSWER);
    engine.wait_until_ready();
    assert!(engine.log().contains(&format!("a socket at {address} (listener.other)")), "{}", engine.log());
    TcpStream::connect(address).expect_err("nobody has it");
    engine.connect().get("/").assert_is(200, "here");
}
