//! Does the command line keep its contract? Exit codes, and what is said to whom.
//!
//! Nothing here needs a running engine; what it serves is tested elsewhere.

use std::fs;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

/// How a run ended.
#[derive(Debug)]
struct Ended {
    code: Option<i32>,
    stdout: String,
    stderr: String,
    took: Duration,
}

impl Ended {
    #[track_caller]
    fn assert_code(self, expected: i32) -> Self {
        assert_eq!(self.code, Some(expected), "{self:#?}");
        self
    }

    #[track_caller]
    fn assert_stderr(self, expected: &str) -> Self {
        assert!(self.stderr.contains(expected), "no {expected:?} in {self:#?}");
        self
    }
}

fn engine(arguments: &[&str]) -> Ended {
    let began = Instant::now();
    let output = Command::new(env!("CARGO_BIN_EXE_engine"))
        .args(arguments)
        .stdin(Stdio::null())
        .output()
        .expect("the engine can be run");
    Ended {
        code: output.status.code(),
        stdout: String::from_utf8(output.stdout).expect("text"),
        stderr: String::from_utf8(output.stderr).expect("text"),
        took: began.elapsed(),
    }
}

/// A file of this test, removed when dropped.
struct File(PathBuf);

impl File {
    fn new(name: &str, text: &str) -> Self {
        let name = format!("cli-{}-{name}", std::process::id());
        let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
        fs::write(&path, text).expect("a writable directory");
        Self(path)
    }

    fn path(&self) -> &str {
        self.0.to_str().expect("a path in UTF-8")
    }
}

impl Drop for File {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

#[test]
fn a_number_of_cores_is_positive_or_auto() {
    for flag in ["--cores", "--cluster"] {
        for value in ["0", "1.5", "x", "-1", ""] {
            engine(&[&format!("{flag}={value}")]).assert_code(2).assert_stderr("a positive number or 'auto'");
        }
    }
}

#[test]
fn what_is_not_available_is_refused_and_not_ignored() {
    engine(&["--process-id", "gateway-1"])
        .assert_code(2)
        .assert_stderr("process IDs are assigned automatically");
    engine(&["--node", "gateway"]).assert_code(1).assert_stderr("name its store by --store URL");
}

#[test]
fn flags_that_contradict_each_other_are_refused() {
    engine(&["--listen", "127.0.0.1:0"]).assert_code(2).assert_stderr("--to");
    engine(&["--to", "127.0.0.1:1"]).assert_code(2).assert_stderr("--listen");
    engine(&["--config", "a.toml", "--listen", "127.0.0.1:0", "--to", "127.0.0.1:1"]).assert_code(2);
    engine(&["--driver", "kqueue"]).assert_code(2).assert_stderr("'auto', 'uring' or 'epoll'");
    engine(&["--port-offset", "65536"]).assert_code(2);
}

#[test]
fn help_names_every_flag_and_command_of_the_contract() {
    let help = engine(&["--help"]).assert_code(0).stdout;
    let flags =
        ["--cores", "--cluster", "--config", "--listen", "--to", "--driver", "--port-offset", "--admin"];
    let others = [
        "-t",
        "--log-format",
        "--log-level",
        "check",
        "config",
        "status",
        "stats",
        "upstream",
        "render",
        "SIGTERM",
    ];
    for word in flags.iter().chain(&others) {
        assert!(help.contains(word), "no {word} in\n{help}");
    }
    assert!(!help.contains("--process-id"), "nobody is to set it:\n{help}");
    let version = engine(&["--version"]).assert_code(0).stdout;
    assert_eq!(version, format!("engine {}\n", env!("CARGO_PKG_VERSION")));
}

#[test]
fn a_check_names_every_problem_with_its_place() {
    let text = "[listener.web]\nbind = \"127.0.0.1\"\n\n[channel.all]\nupstraem = \"app\"\n";
    let file = File::new("wrong.toml", text);
    for arguments in [&["check", "--config", file.path()][..], &["-t", "--config", file.path()]] {
        let ended = engine(arguments).assert_code(1);
        let place = |line: u32| format!("{}:{line}:", file.path());
        assert!(ended.stderr.contains(&place(2)), "{ended:#?}");
        assert!(ended.stderr.contains(&place(5)), "{ended:#?}");
        let ended = ended.assert_stderr("listener.web.bind: the port is missing").assert_stderr("upstream");
        assert!(ended.stderr.contains("cannot be used: "), "{ended:#?}");
        assert_eq!(ended.stdout, "");
    }
}

#[test]
fn a_bad_configuration_is_not_started() {
    let file = File::new("bad.toml", "[listener.web]\nbind = 1\n");
    let ended = engine(&["--config", file.path()]).assert_code(1);
    assert!(ended.stderr.contains(&format!("{}:2:", file.path())), "{ended:#?}");
    engine(&["--config", "/nonexistent/corelane.toml"])
        .assert_code(1)
        .assert_stderr("/nonexistent/corelane.toml:1:1: cannot read the file");
    engine(&["--listen", "127.0.0.1", "--to", "127.0.0.1:1"]).assert_code(1).assert_stderr("--listen");
}

#[test]
fn the_embedded_default_and_its_dump_pass_the_check() {
    for (name, arguments) in [("default.toml", &["config", "default"]), ("dump.toml", &["config", "dump"])] {
        let text = engine(arguments).assert_code(0).stdout;
        let file = File::new(name, &text);
        let ended = engine(&["check", "--config", file.path()]).assert_code(0);
        let fine = "configuration is fine: 2 listeners, 2 channels, 1 upstream, 1 endpoint\n";
        assert_eq!(ended.stdout, format!("{}: {fine}", file.path()));
        assert_eq!(ended.stderr, "");
    }
    engine(&["-t"]).assert_code(0);
}

#[test]
fn a_dump_is_the_same_after_loading_it() {
    let file =
        File::new("small.toml", "[listener.web]\nbind = \"127.0.0.1:0\"\n[channel.all]\nrespond = {}\n");
    let once = engine(&["config", "dump", "--config", file.path()]).assert_code(0).stdout;
    assert!(once.contains("drain_timeout"), "defaults are filled in:\n{once}");
    let dumped = File::new("dumped.toml", &once);
    assert_eq!(engine(&["config", "dump", "--config", dumped.path()]).assert_code(0).stdout, once);
}

#[test]
fn the_schema_is_json_and_knows_the_tables() {
    let schema: Value =
        serde_json::from_str(&engine(&["config", "schema"]).assert_code(0).stdout).expect("JSON");
    for table in ["node", "process", "listener", "channel", "upstream", "admin"] {
        assert!(schema["properties"][table].is_object(), "{table}");
    }
}

#[test]
fn a_port_in_use_ends_the_start_at_once_and_says_how_to_find_its_owner() {
    let taken = TcpListener::bind("127.0.0.1:0").expect("bind");
    let address = taken.local_addr().expect("address");
    let port = address.port();
    let hint = format!("address in use; `ss -ltnp 'sport = :{port}'` shows by whom\n");
    let check = |arguments: &[&str], owner: &str| {
        let ended = engine(arguments).assert_code(1);
        assert_eq!(ended.stderr, format!("error: cannot listen on {address} ({owner}): {hint}"));
        assert!(ended.took < Duration::from_secs(1), "{:?}", ended.took);
    };
    let address = address.to_string();
    check(&["--listen", &address, "--to", "127.0.0.1:1", "--admin", "127.0.0.1:0"], "listener.web.bind");
    check(&["--listen", "127.0.0.1:0", "--to", "127.0.0.1:1", "--admin", &address], "admin.bind");
}

#[test]
fn a_log_in_json_is_json_in_failure_too() {
    let file = File::new("json.toml", "[listener.web]\nbind = 1\n");
    let ended = engine(&["--config", file.path(), "--log-format", "json"]).assert_code(1);
    let lines = ended.stderr.lines().map(|line| serde_json::from_str::<Value>(line).expect(line));
    let lines: Vec<_> = lines.map(|line| (line["level"].clone(), line["message"].to_string())).collect();
    assert!(lines.len() >= 2, "each problem and the failure: {lines:?}");
    assert!(lines.iter().all(|(level, _)| level == "ERROR"), "{lines:?}");
    assert!(lines[0].1.contains("listener.web.bind"), "{lines:?}");
}

#[test]
fn an_offset_beyond_the_last_port_is_refused() {
    engine(&["-t", "--port-offset", "60000"])
        .assert_code(1)
        .assert_stderr("port 8080 of listener.web.bind plus an offset of 60000 is above 65535");
}

#[test]
fn asking_where_nobody_listens_says_so() {
    let free = TcpListener::bind("127.0.0.1:0").expect("bind").local_addr().expect("address").to_string();
    for command in ["status", "stats"] {
        engine(&[command, "--admin", &free])
            .assert_code(1)
            .assert_stderr(&format!("error: no engine answers at http://{free}: "));
    }
}

#[test]
fn every_command_has_its_page_and_its_completions() {
    let directory = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("man-{}", std::process::id()));
    fs::create_dir_all(&directory).expect("a writable directory");
    let engine = |arguments: &[&str]| {
        let output = Command::new(env!("CARGO_BIN_EXE_engine")).args(arguments).output().expect("it runs");
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stdout).expect("text")
    };
    engine(&["man", "--as", "corelane", &directory.display().to_string()]);
    let page = |name: &str| {
        fs::read_to_string(directory.join(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
    };
    assert!(page("corelane.1").contains(".TH corelane 1"));
    assert!(page("corelane-config-diff.1").contains("store"));
    for shell in ["bash", "zsh", "fish"] {
        let script = engine(&["completions", shell, "--as", "corelane"]);
        assert!(script.contains("corelane") && script.contains("log-level"), "{shell}");
    }
    fs::remove_dir_all(&directory).expect("ours");
}
