//! Does a running engine do what its operator tells it by command: other log lines, a drain, a look at what it does?
//!
//! Never asks what the command promised alone: what it was told is looked for in what the engine does.

mod common;

use std::io::{Read as _, Write as _};
use std::process::{Child, Command, Output, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use common::engine::{Driver, Engine};
use common::origin::Origin;
use common::{eventually, on_both_drivers};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

const ANSWER: &str = "[listener.web]\nbind = \"127.0.0.1:0\"\n[channel.all]\nrespond = { body = \"here\" }\n";

/// What one of the engine's commands comes to, asked of `engine`.
fn command(engine: &Engine, arguments: &[&str]) -> Output {
    let admin = engine.admin().to_string();
    let mut command = Engine::command();
    command.args(arguments).args(["--admin", &admin]).stdin(Stdio::null());
    command.output().expect("the engine can be run")
}

/// What it prints, if it does what it is told.
#[track_caller]
fn said(engine: &Engine, arguments: &[&str]) -> String {
    let output = command(engine, arguments);
    assert!(output.status.success(), "{arguments:?}: {output:?}");
    String::from_utf8(output.stdout).expect("text")
}

/// What it says is wrong, if it does not.
#[track_caller]
fn refused(engine: &Engine, arguments: &[&str]) -> String {
    let output = command(engine, arguments);
    assert!(!output.status.success(), "{arguments:?}: {output:?}");
    String::from_utf8(output.stderr).expect("text")
}

#[test]
fn log_lines_are_those_that_were_asked_for_last() {
    let engine = Engine::start(Driver::Epoll, ANSWER);
    assert_eq!(said(&engine, &["log-level"]), "info\n");
    // Every change leaves a line of the audit, at info.
    let add = || engine.ask_admin("POST", "/certificates/reload", None);
    let lines = || engine.log().matches("reload_certificates").count();
    assert_eq!(add().0, 200);
    eventually("the change is logged", || lines() == 1);

    assert_eq!(said(&engine, &["log-level", "warn"]), "warn (started with info)\n");
    eventually("it is said", || engine.log().contains("log level warn, after info"));
    assert_eq!(add().0, 200);
    assert_eq!(
        said(&engine, &["log-level", "info,control=debug"]),
        "info,control=debug (started with info)\n"
    );
    assert_eq!(add().0, 200);
    eventually("the next change is logged again", || lines() >= 2);
    assert_eq!(lines(), 2, "the one while only warnings were wanted is not: {}", engine.log());
}

#[test]
fn log_lines_for_a_while_fall_back_by_themselves() {
    let engine = Engine::start(Driver::Epoll, ANSWER);
    let told = said(&engine, &["log-level", "trace", "--for", "1h"]);
    assert!(told.starts_with("trace for ") && told.ends_with(", then info\n"), "{told}");
    let body = json!({ "level": "debug", "for": "50ms" });
    let (status, answer) = engine.ask_admin("PUT", "/log-level", Some(&body));
    assert_eq!((status, &answer["falls_back_to"]), (200, &json!("info")), "{answer}");
    eventually("it is over", || engine.ask_admin("GET", "/log-level", None).1["level"] == "info");
    eventually("it is said", || engine.log().contains("log level info, after debug"));
}

#[test]
fn a_level_that_means_nothing_changes_nothing() {
    let engine = Engine::start(Driver::Epoll, ANSWER);
    let told = refused(&engine, &["log-level", "loud"]);
    assert!(told.contains("there is no level \"loud\": use one of off, error, warn, info"), "{told}");
    let told = refused(&engine, &["log-level", "info,contrl=debug"]);
    assert!(told.contains("there is no part \"contrl\": use one of"), "{told}");
    let told = refused(&engine, &["log-level", "debug", "--for", "10"]);
    assert!(told.contains("for: ") && told.contains("unit"), "{told}");
    let told = refused(&engine, &["log-level", "debug", "--for", "25h"]);
    assert!(told.contains("for: expected up to 24 h"), "{told}");
    let check = |body: Value, at: &str| {
        let (status, answer) = engine.ask_admin("PUT", "/log-level", Some(&body));
        assert_eq!((status, answer["at"].as_str()), (422, Some(at)), "{body}: {answer}");
    };
    check(json!({}), "level");
    check(json!({ "level": "loud" }), "level");
    check(json!({ "level": "info", "for": "0s" }), "for");
    check(json!({ "level": "info", "untill": "1s" }), "untill");
    assert_eq!(said(&engine, &["log-level"]), "info\n");
}

#[test]
fn a_drain_by_command_is_that_of_sigterm_and_is_waited_for() {
    on_both_drivers(|driver| {
        let (origin, asked, answer) = Origin::held();
        let mut engine = Engine::before(driver, origin.address);
        let (mut client, mut fresh) = (engine.connect(), engine.connect());
        client.send("GET / HTTP/1.1\r\nHost: test\r\n\r\n");
        asked.take();
        let admin = engine.admin().to_string();
        let mut waiting = Engine::command()
            .args(["drain", "--wait", "--admin", &admin])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("the engine can be run");
        fresh.assert_closed();
        let told = said(&engine, &["status"]);
        assert!(told.contains("state    draining"), "{told}");
        assert!(told.contains("left     1 exchanges, 1 HTTP connections"), "{told}");
        let again = said(&engine, &["drain"]);
        assert!(again.contains("drains already; what is in progress may take"), "{again}");
        assert_eq!(waiting.try_wait().expect("our child"), None, "something is in progress");
        answer.give();
        assert_eq!(client.response().status(), 200);
        assert!(engine.wait().success(), "{}", engine.log());
        assert!(waiting.wait().expect("our child").success());
        let mut out = String::new();
        waiting.stdout.take().expect("piped").read_to_string(&mut out).expect("text");
        assert!(out.ends_with("has ended\n"), "{out}");
    });
}

#[test]
fn only_the_process_that_is_meant_drains() {
    let mut engine = Engine::start(Driver::Epoll, ANSWER);
    let own = engine.stats()["process"]["pid"].as_u64().expect("a number");
    let (status, answer) = engine.ask_admin("POST", "/process/drain", Some(&json!({ "pid": own + 1 })));
    assert_eq!((status, answer["at"].as_str()), (409, Some("pid")), "{answer}");
    let (status, answer) = engine.ask_admin("POST", "/process/drain", Some(&json!({})));
    assert_eq!((status, answer["at"].as_str()), (422, Some("pid")), "{answer}");
    assert_eq!(engine.stats()["process"]["state"], "serving");
    let (status, answer) = engine.ask_admin("POST", "/process/drain", Some(&json!({ "pid": own })));
    assert_eq!((status, &answer["already"]), (202, &json!(false)), "{answer}");
    assert!(engine.wait().success(), "{}", engine.log());
}

const ENTER: &str = "\x1b[?1049h";
const LEAVE: &str = "\x1b[?1049l";

/// `engine top` on a terminal of its own, which util-linux's `script` makes.
struct Top {
    script: Child,
    /// Everything that was drawn.
    drawn: Arc<Mutex<String>>,
}

impl Top {
    fn start(engine: &Engine) -> Self {
        let program = env!("CARGO_BIN_EXE_engine");
        let line = format!(
            "stty rows 24 cols 100; echo \"pid $$.\"; exec {program} top --interval 100ms --admin {}",
            engine.admin()
        );
        let mut script = Command::new("script")
            .args(["--quiet", "--return", "--flush", "--command", &line, "/dev/null"])
            .env("TERM", "xterm")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("util-linux's script starts");
        let drawn = Arc::new(Mutex::new(String::new()));
        let mut out = script.stdout.take().expect("piped");
        thread::spawn({
            let drawn = Arc::clone(&drawn);
            move || {
                let mut piece = [0; 4_096];
                while let Ok(length @ 1..) = out.read(&mut piece) {
                    let text = String::from_utf8_lossy(&piece[..length]);
                    drawn.lock().unwrap_or_else(PoisonError::into_inner).push_str(&text);
                }
            }
        });
        Self { script, drawn }
    }

    fn drawn(&self) -> String {
        self.drawn.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    #[track_caller]
    fn wait_for(&self, text: &str) {
        eventually(text, || self.drawn().contains(text));
    }

    #[track_caller]
    fn press(&mut self, keys: &str) {
        self.script.stdin.as_mut().expect("piped").write_all(keys.as_bytes()).expect("a key is pressed");
    }

    fn pid(&self) -> Pid {
        let drawn = self.drawn();
        let number = drawn.split("pid ").nth(1).and_then(|rest| rest.split('.').next());
        let number = number.and_then(|number| number.parse().ok()).and_then(Pid::from_raw);
        number.unwrap_or_else(|| panic!("no number of a process in {drawn:?}"))
    }
}

impl Drop for Top {
    fn drop(&mut self) {
        let _ = self.script.kill();
        let _ = self.script.wait();
    }
}

#[test]
fn top_shows_what_happens_and_gives_the_terminal_back() {
    let engine = Engine::start(Driver::Epoll, ANSWER);
    let mut client = engine.connect();
    for end in ["q", "\x03", "signal"] {
        let mut top = Top::start(&engine);
        eventually("it is drawn", || {
            client.get("/").assert_is(200, "here");
            let drawn = top.drawn();
            drawn.contains(ENTER)
                && drawn.contains("serving")
                && drawn.contains("2xx")
                && drawn.contains("all")
        });
        top.press("?");
        // Where nothing was before: what is drawn alike is not drawn again.
        top.wait_for("loaded");
        match end {
            "signal" => kill_process(top.pid(), Signal::TERM).expect("it runs"),
            // The first closes the help.
            keys => top.press(&format!("q{keys}")),
        }
        let mut status = None;
        eventually("it ends", || {
            status = top.script.try_wait().expect("our child");
            status.is_some()
        });
        assert!(status.is_some_and(|status| status.success()), "{end:?}: {status:?}");
        top.wait_for(LEAVE);
    }
}

#[test]
fn top_ends_with_its_terminal() {
    let engine = Engine::start(Driver::Epoll, ANSWER);
    let mut top = Top::start(&engine);
    top.wait_for("serving");
    let pid = top.pid();
    // The other end of the terminal is gone with whoever had made it.
    top.script.kill().expect("our child");
    top.script.wait().expect("our child");
    let is_there =
        || std::path::Path::new("/proc").join(pid.as_raw_nonzero().to_string()).join("exe").exists();
    eventually("it ends", || !is_there());
}

#[test]
fn top_goes_on_asking_an_engine_that_is_gone() {
    let mut engine = Engine::start(Driver::Epoll, ANSWER);
    let mut top = Top::start(&engine);
    top.wait_for("serving");
    engine.signal(Signal::KILL);
    engine.wait();
    top.wait_for("asking");
    top.press("q");
    eventually("it ends", || top.script.try_wait().expect("our child").is_some());
}

#[test]
fn where_there_is_no_terminal_top_looks_once() {
    on_both_drivers(|driver| {
        let engine = Engine::start_on_cores(driver, 2, ANSWER);
        let mut client = engine.connect();
        client.get("/").assert_is(200, "here");
        let text = said(&engine, &["top", "--once", "--interval", "100ms"]);
        let row = |name: &str| text.lines().find(|line| line.starts_with(name)).map(str::to_owned);
        assert!(row("req/s ").is_some_and(|line| line.contains("conns 1")), "{text}");
        assert!(row("web ").is_some() && row("1 ").is_some(), "{text}");
        let has_latency = |line: String| line.contains(" µs") || line.contains(" ms");
        assert!(row("all ").is_some_and(has_latency), "{text}");
        assert!(!text.contains('\x1b'), "no terminal is spoken to: {text:?}");
    });
    let output = Engine::command().args(["top", "--admin", "127.0.0.1:1"]).output().expect("it can be run");
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    assert!(String::from_utf8_lossy(&output.stderr).contains("no engine answers at http://127.0.0.1:1"));
}
