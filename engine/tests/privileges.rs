//! Does a process that was started as root give it up, for good and on every thread, and does one that cannot say what to do?
//!
//! Never believes the engine: the kernel says who its threads are.

mod common;

use std::fs;
use std::io::{self, Write};
use std::net::TcpListener;
use std::process::Command;

use common::engine::Engine;
use common::on_both_drivers;

/// The kernel's own nobody, which every Linux system has (`overflowuid`).
const NOBODY: &str = "65534";

fn config(process: &str) -> String {
    format!(
        "[process]\n{process}\n[listener.web]\nbind = \"127.0.0.1:0\"\n[channel.all]\nrespond = {{ body = \"here\" }}\n"
    )
}

fn as_nobody() -> String {
    config("user = \"nobody\"\ngroup = \"65534\"")
}

/// Whether root starts this test; who reads the result must know if not.
fn is_root() -> bool {
    let is_root = rustix::process::geteuid().is_root();
    if !is_root {
        let _ =
            writeln!(io::stderr(), "not tested, as this takes root: how a process gives up what root may do");
    }
    is_root
}

/// What the kernel says of every thread: the lines that begin with one of these words.
fn identities(engine: &Engine, words: &[&str]) -> Vec<String> {
    let tasks = fs::read_dir(format!("/proc/{}/task", engine.pid())).expect("a live process");
    let read =
        |task: io::Result<fs::DirEntry>| fs::read_to_string(task.expect("a thread").path().join("status"));
    let lines = tasks.filter_map(|task| read(task).ok()).flat_map(|status| {
        let is_asked = |line: &&str| words.iter().any(|word| line.starts_with(word));
        status.lines().filter(is_asked).map(str::to_owned).collect::<Vec<_>>()
    });
    lines.collect()
}

#[test]
fn every_thread_of_a_process_that_root_has_started_is_the_user_it_was_told() {
    if !is_root() {
        return;
    }
    on_both_drivers(|driver| {
        let engine = Engine::start_on_cores(driver, 2, as_nobody());
        engine.connect().get("/").assert_is(200, "here");
        let four = format!("\t{NOBODY}").repeat(4);
        let expected = [
            format!("Uid:{four}"),
            format!("Gid:{four}"),
            format!("Groups:\t{NOBODY} "),
            "CapInh:\t0000000000000000".to_owned(),
            "CapPrm:\t0000000000000000".to_owned(),
            "CapEff:\t0000000000000000".to_owned(),
            "CapAmb:\t0000000000000000".to_owned(),
            "NoNewPrivs:\t1".to_owned(),
        ];
        let words = ["Uid:", "Gid:", "Groups:", "CapInh:", "CapPrm:", "CapEff:", "CapAmb:", "NoNewPrivs:"];
        let found = identities(&engine, &words);
        assert!(found.len() >= 3 * expected.len(), "two cores and control at least: {found:?}");
        found.chunks(expected.len()).for_each(|thread| assert_eq!(thread, expected));
    });
}

#[test]
fn a_port_that_takes_root_is_had_at_the_start_and_refused_later_with_what_to_do() {
    if !is_root() {
        return;
    }
    let first_free = fs::read_to_string("/proc/sys/net/ipv4/ip_unprivileged_port_start").expect("a number");
    let first_free: u16 = first_free.trim().parse().expect("a port");
    let is_free = |port: &u16| TcpListener::bind(("127.0.0.1", *port)).is_ok();
    let mut ports = (600..first_free).filter(is_free);
    let (Some(port), Some(later)) = (ports.next(), ports.next()) else {
        let _ = writeln!(io::stderr(), "not tested: every port may be had by everybody here");
        return;
    };
    let began = as_nobody().replace("127.0.0.1:0", &format!("127.0.0.1:{port}"));
    let engine = Engine::start_on_cores(common::engine::Driver::Epoll, 2, &began);
    engine.connect().get("/").assert_is(200, "here");
    engine.rewrite(format!("{began}[listener.later]\nbind = \"127.0.0.1:{later}\"\n"));
    let (status, answer) = engine.reload();
    assert_eq!(status, 422, "{answer}");
    let text = answer.to_string();
    assert!(text.contains(&format!("127.0.0.1:{later}")) && text.contains("CAP_NET_BIND_SERVICE"), "{text}");
    engine.rewrite(began.replace("here", "there"));
    assert_eq!(engine.reload().0, 200);
    engine.connect().get("/").assert_is(200, "there");
}

#[test]
fn a_file_that_the_user_cannot_read_again_is_told_at_the_start() {
    use std::os::unix::fs::PermissionsExt as _;
    if !is_root() {
        return;
    }
    let path =
        std::path::Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("secret-{}.toml", std::process::id()));
    fs::write(&path, format!("{}\n[admin]\nbind = \"127.0.0.1:0\"\n", as_nobody()))
        .expect("a writable directory");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).expect("our file");
    let arguments = ["--cores", "1", "--config", &path.display().to_string()].map(str::to_owned);
    let engine = Engine::spawn_without_file(&mut Engine::command(), &arguments);
    engine.wait_until_serving();
    let log = engine.log();
    fs::remove_file(&path).expect("our file");
    assert!(log.contains(&format!("{}: Permission denied", path.display())), "{log}");
    assert!(log.contains("cannot read it, so a reload will change nothing here"), "{log}");
}

/// What a start that fails says.
#[track_caller]
fn refusal(command: &mut Command, config: &str) -> String {
    let mut engine = Engine::spawn(command, &["--cores".to_owned(), "1".to_owned()], config);
    assert_eq!(engine.wait().code(), Some(1), "{}", engine.log());
    engine.log()
}

#[test]
fn who_cannot_become_the_user_is_told_what_to_do() {
    let check = |config: &str, expected: &str| {
        let log = refusal(&mut Engine::command(), config);
        assert!(log.contains(expected), "{expected}: {log}");
    };
    check(
        &config("user = \"no-such-user\""),
        "there is no user \"no-such-user\" on this machine; `useradd --system` makes one",
    );
    check(&config("user = \"3999999999\""), "say process.group beside it");
    check(&config("user = \"root\""), "is root, and would keep what is to be given up");
    check(&config("user = \"nobody\"\ngroup = \"no-such-group\""), "there is no group \"no-such-group\"");
    check(&config("group = \"nogroup\""), "process.group takes effect with process.user");
    if is_root() {
        let mut command = Command::new("setpriv");
        command.args(["--reuid=12345", "--regid=12345", "--clear-groups", env!("CARGO_BIN_EXE_engine")]);
        let log = refusal(&mut command, &as_nobody());
        assert!(
            log.contains(
                "user 12345 cannot become somebody else: start the process as root or as \"nobody\""
            ),
            "{log}"
        );
    }
}

#[test]
fn who_is_the_user_already_just_serves() {
    if !is_root() {
        return;
    }
    let mut command = Command::new("setpriv");
    command.args([
        &format!("--reuid={NOBODY}"),
        &format!("--regid={NOBODY}"),
        "--clear-groups",
        env!("CARGO_BIN_EXE_engine"),
    ]);
    let engine = Engine::spawn(&mut command, &["--cores".to_owned(), "1".to_owned()], as_nobody());
    engine.wait_until_ready();
    engine.connect().get("/").assert_is(200, "here");
}
