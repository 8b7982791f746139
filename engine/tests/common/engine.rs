//! How does a test run the engine? As its users do: a configuration file, a process, its standard error, `/proc`.
//!
//! Never leaves a process behind, and never lets a panic inside the engine pass unseen.

use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStderr, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use super::connection::Connection;
use super::{PATIENCE, eventually};

/// What `--driver` is given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Driver {
    Epoll,
    Uring,
}

impl fmt::Display for Driver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Epoll => "epoll",
            Self::Uring => "uring",
        })
    }
}

/// The usual configuration: one listener `web`, one channel that takes everything, one upstream `app`. Each table
/// takes further keys as TOML.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Config<'a> {
    pub(crate) endpoints: &'a [SocketAddr],
    pub(crate) process: &'a str,
    pub(crate) listener: &'a str,
    pub(crate) channel: &'a str,
    pub(crate) upstream: &'a str,
}

impl fmt::Display for Config<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { endpoints, process, listener, channel, upstream } = self;
        let endpoints: Vec<String> = endpoints.iter().map(SocketAddr::to_string).collect();
        writeln!(f, "[process]\n{process}")?;
        writeln!(f, "[listener.web]\nbind = \"127.0.0.1:0\"\n{listener}")?;
        writeln!(f, "[channel.all]\nupstream = \"app\"\n{channel}")?;
        writeln!(f, "[upstream.app]\nendpoints = {endpoints:?}\n{upstream}")
    }
}

/// A running engine, killed when dropped.
#[derive(Debug)]
pub(crate) struct Engine {
    child: Child,
    config: PathBuf,
    log: Arc<Log>,
}

/// What the engine has written to standard error.
#[derive(Debug, Default)]
struct Log {
    lines: Mutex<Lines>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct Lines {
    lines: Vec<String>,
    is_closed: bool,
}

impl Lines {
    /// What follows `word` at the start of each line that begins so.
    fn after(&self, word: &str) -> impl Iterator<Item = &str> {
        let rests = self.lines.iter().filter_map(move |line| line.strip_prefix(word));
        rests.filter(|rest| rest.starts_with(char::is_whitespace)).map(str::trim)
    }
}

impl Engine {
    /// Starts it on one core before the endpoints of `config`.
    #[track_caller]
    pub(crate) fn start(driver: Driver, config: impl fmt::Display) -> Self {
        Self::start_on_cores(driver, 1, config)
    }

    /// Starts it with everything at its default, before one origin.
    #[track_caller]
    pub(crate) fn before(driver: Driver, origin: SocketAddr) -> Self {
        Self::start(driver, Config { endpoints: &[origin], ..Config::default() })
    }

    /// Starts it on `cores` cores and waits until it accepts.
    #[track_caller]
    pub(crate) fn start_on_cores(driver: Driver, cores: usize, config: impl fmt::Display) -> Self {
        let arguments = ["--cores".to_owned(), cores.to_string(), "--driver".to_owned(), driver.to_string()];
        let engine = Self::spawn(&mut Self::command(), &arguments, config);
        engine.wait_until_ready();
        engine
    }

    /// The program, without arguments.
    pub(crate) fn command() -> Command {
        Command::new(env!("CARGO_BIN_EXE_engine"))
    }

    /// Starts `command` with `--config` and does not wait for anything. Its admin listener gets a port of its own.
    #[track_caller]
    pub(crate) fn spawn(command: &mut Command, arguments: &[String], config: impl fmt::Display) -> Self {
        let path = Self::configure(config);
        command.args(arguments).arg("--config").arg(&path);
        Self::run(command, path)
    }

    /// Starts `command` with these arguments alone and does not wait for anything.
    #[track_caller]
    pub(crate) fn spawn_without_file(command: &mut Command, arguments: &[String]) -> Self {
        Self::run(command.args(arguments), PathBuf::new())
    }

    /// A file of its own with this configuration.
    #[track_caller]
    fn configure(config: impl fmt::Display) -> PathBuf {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let path =
            Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("{}-{number}.toml", std::process::id()));
        write_config(&path, config);
        path
    }

    /// The same as [`Self::spawn`], with a socket as standard input.
    #[track_caller]
    pub(crate) fn spawn_with_input(
        command: &mut Command,
        input: OwnedFd,
        arguments: &[String],
        config: impl fmt::Display,
    ) -> Self {
        let path = Self::configure(config);
        command.args(arguments).arg("--config").arg(&path);
        Self::run_with_input(command, Stdio::from(input), path)
    }

    #[track_caller]
    fn run(command: &mut Command, config: PathBuf) -> Self {
        Self::run_with_input(command, Stdio::null(), config)
    }

    #[track_caller]
    fn run_with_input(command: &mut Command, input: Stdio, config: PathBuf) -> Self {
        let mut child = command
            .stdin(input)
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the engine can be run");
        let log = Arc::new(Log::default());
        let stderr = child.stderr.take().expect("piped");
        thread::spawn({
            let log = Arc::clone(&log);
            move || log.follow(stderr)
        });
        Self { child, config, log }
    }

    /// Waits for the lines that say that everything accepts.
    #[track_caller]
    pub(crate) fn wait_until_ready(&self) {
        let text = fs::read_to_string(&self.config).expect("the file just written");
        let names = text.lines().filter_map(|line| line.strip_prefix("[listener."));
        let listeners = names.filter(|name| !name.contains('.')).count();
        self.log.wait_until(|lines| {
            lines.after("driver").count() == 1
                && lines.after("admin").count() == 1
                && lines.after("listener").count() == listeners
        });
    }

    /// Waits until everything accepts that is configured, wherever that is written.
    #[track_caller]
    pub(crate) fn wait_until_serving(&self) {
        // The last of the lines that say so.
        self.log.wait_until(|lines| lines.after("driver").count() == 1);
    }

    /// What runs when `driver` is asked for, found out once.
    pub(crate) fn settled_driver(driver: Driver) -> &'static str {
        static SETTLED: [OnceLock<String>; 2] = [const { OnceLock::new() }; 2];
        let config = "[listener.web]\nbind = \"127.0.0.1:0\"\n[channel.all]\nrespond = {}\n";
        SETTLED[driver as usize].get_or_init(|| Self::start(driver, config).driver())
    }

    /// What the engine says of the driver it runs on.
    #[track_caller]
    pub(crate) fn driver(&self) -> String {
        let lines = self.log.lines();
        lines.after("driver").next().expect("a line about the driver").to_owned()
    }

    /// Where the listener `web` accepts.
    #[track_caller]
    pub(crate) fn web(&self) -> SocketAddr {
        self.listener("web")
    }

    /// Where a listener accepts.
    #[track_caller]
    pub(crate) fn listener(&self, name: &str) -> SocketAddr {
        let lines = self.log.lines();
        let mut listeners = lines.after("listener").filter_map(|rest| rest.split_once(char::is_whitespace));
        let (_, url) = listeners.find(|(listener, _)| *listener == name).expect("a line about the listener");
        parse_url(url)
    }

    /// Where the admin listener accepts.
    #[track_caller]
    pub(crate) fn admin(&self) -> SocketAddr {
        parse_url(self.log.lines().after("admin").next().expect("a line about the admin listener"))
    }

    /// A new client connection to `web`.
    #[track_caller]
    pub(crate) fn connect(&self) -> Connection {
        Connection::open(self.web())
    }

    /// Where its configuration file is.
    pub(crate) fn config(&self) -> &Path {
        &self.config
    }

    /// Puts another configuration into its file, which nobody has told it to read yet.
    #[track_caller]
    pub(crate) fn rewrite(&self, config: impl fmt::Display) {
        write_config(&self.config, config);
    }

    /// Asks the admin listener as a program would; the answer's status and JSON.
    #[track_caller]
    pub(crate) fn ask_admin(&self, method: &str, path: &str, body: Option<&Value>) -> (u16, Value) {
        let body = body.map(Value::to_string).unwrap_or_default();
        let request = format!(
            "{method} {path} HTTP/1.1\r\nHost: admin\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n\
             {body}",
            body.len()
        );
        let response = Connection::open(self.admin()).ask(&request);
        (response.status(), serde_json::from_slice(&response.body).expect("JSON"))
    }

    /// Has it read its configuration file again.
    #[track_caller]
    pub(crate) fn reload(&self) -> (u16, Value) {
        self.ask_admin("POST", "/config/reload", None)
    }

    /// All of standard error until now.
    pub(crate) fn log(&self) -> String {
        self.log.lines().lines.join("\n")
    }

    /// The statistics, as the admin listener shows them now.
    #[track_caller]
    pub(crate) fn stats(&self) -> Value {
        let response = Connection::open(self.admin())
            .ask("GET /stats HTTP/1.1\r\nHost: admin\r\nConnection: close\r\n\r\n");
        assert_eq!(response.status(), 200, "{response:?}");
        serde_json::from_slice(&response.body).expect("statistics are JSON")
    }

    /// Makes the cores hand their histograms over.
    #[track_caller]
    pub(crate) fn collect_latencies(&self) {
        let response = Connection::open(self.admin())
            .ask("GET /stats/latency HTTP/1.1\r\nHost: admin\r\nConnection: close\r\n\r\n");
        assert_eq!(response.status(), 200, "{response:?}");
    }

    /// What `/stats/latency` answers to a query.
    #[track_caller]
    pub(crate) fn latency(&self, query: &str) -> Value {
        let request =
            format!("GET /stats/latency?{query} HTTP/1.1\r\nHost: admin\r\nConnection: close\r\n\r\n");
        let response = Connection::open(self.admin()).ask(&request);
        assert_eq!(response.status(), 200, "{response:?}");
        serde_json::from_slice(&response.body).expect("latencies are JSON")
    }

    /// One number of the statistics, by its JSON pointer.
    #[track_caller]
    pub(crate) fn counter(&self, pointer: &str) -> u64 {
        let stats = self.stats();
        let value = stats.pointer(pointer).and_then(Value::as_u64);
        value.unwrap_or_else(|| panic!("no number at {pointer}: {stats:#}"))
    }

    /// Waits until a number of the statistics is `expected`; a core counts after it has answered.
    #[track_caller]
    pub(crate) fn assert_counter(&self, pointer: &str, expected: u64) {
        let deadline = Instant::now() + PATIENCE;
        let mut value = self.counter(pointer);
        while value != expected && Instant::now() < deadline {
            // A core owes nobody a notice when it counts.
            thread::sleep(Duration::from_millis(5));
            value = self.counter(pointer);
        }
        assert_eq!(value, expected, "{pointer}: {:?}", self.faults());
    }

    /// Waits until a fault has been counted this many times, and fails if there was any other.
    #[track_caller]
    pub(crate) fn assert_only_fault(&self, name: &str, times: u64) {
        self.assert_counter(&format!("/faults/{name}"), times);
        assert_eq!(self.faults(), BTreeMap::from([(name.to_owned(), times)]));
    }

    /// All faults that have been counted.
    #[track_caller]
    pub(crate) fn faults(&self) -> BTreeMap<String, u64> {
        let stats = self.stats();
        let faults = stats.get("faults").and_then(Value::as_object).expect("faults by name");
        let counted = faults.iter().map(|(name, count)| (name.clone(), count.as_u64().expect("a count")));
        counted.filter(|(_, count)| *count > 0).collect()
    }

    pub(crate) fn pid(&self) -> Pid {
        Pid::from_child(&self.child)
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill_process(self.pid(), signal).expect("the engine runs");
    }

    /// Waits for its end.
    #[track_caller]
    pub(crate) fn wait(&mut self) -> ExitStatus {
        let mut status = None;
        eventually("the engine ends", || {
            status = self.child.try_wait().expect("our child");
            status.is_some()
        });
        self.log.wait_until(|lines| lines.is_closed);
        status.expect("it has ended")
    }

    /// Waits for the end of the process that was started, whoever else writes to its standard error by now.
    #[track_caller]
    pub(crate) fn end(&mut self) -> ExitStatus {
        let mut status = None;
        eventually("the engine ends", || {
            status = self.child.try_wait().expect("our child");
            status.is_some()
        });
        status.expect("it has ended")
    }

    /// Its configuration file.
    pub(crate) fn config_path(&self) -> &Path {
        &self.config
    }

    /// Resident memory in bytes.
    pub(crate) fn resident_bytes(&self) -> u64 {
        let status = self.proc("status");
        // Its own: pages of the program itself come in with whatever is called first.
        let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:")).expect("a live process");
        let kib: u64 = line.trim().trim_end_matches(" kB").parse().expect("a number of kB");
        kib * 1024
    }

    /// What [`Self::resident_bytes`] comes to once it has stopped growing: a process that serves already may still be at
    /// what it begins with.
    pub(crate) fn bytes_at_rest(&self) -> u64 {
        let mut last = self.resident_bytes();
        eventually("its memory is at rest", || {
            // Far longer than a start goes on without taking memory, unless the machine has no time for it.
            thread::sleep(Duration::from_millis(100));
            let now = self.resident_bytes();
            std::mem::replace(&mut last, now).abs_diff(now) < 64 << 10
        });
        last
    }

    /// Time its threads have spent on a CPU.
    pub(crate) fn cpu_time(&self) -> Duration {
        let tasks = fs::read_dir(self.proc_path("task")).expect("a live process");
        let spent = tasks.filter_map(|task| fs::read_to_string(task.ok()?.path().join("schedstat")).ok());
        let nanos = |text: String| text.split(' ').next().and_then(|nanos| nanos.parse::<u64>().ok());
        Duration::from_nanos(spent.filter_map(nanos).sum())
    }

    /// Descriptors it has open now.
    pub(crate) fn open_files(&self) -> usize {
        fs::read_dir(self.proc_path("fd")).expect("a live process").count()
    }

    /// The names of its threads, each with the CPUs it may run on.
    pub(crate) fn threads(&self) -> Vec<(String, String)> {
        let tasks = fs::read_dir(self.proc_path("task")).expect("a live process");
        tasks
            .filter_map(|task| {
                let task = task.ok()?.path();
                let name = fs::read_to_string(task.join("comm")).ok()?.trim().to_owned();
                let status = fs::read_to_string(task.join("status")).ok()?;
                let cpus = status.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:"))?;
                Some((name, cpus.trim().to_owned()))
            })
            .collect()
    }

    fn proc(&self, file: &str) -> String {
        fs::read_to_string(self.proc_path(file)).expect("a live process")
    }

    fn proc_path(&self, file: &str) -> PathBuf {
        Path::new("/proc").join(self.child.id().to_string()).join(file)
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = fs::remove_file(&self.config);
        let log = self.log();
        if thread::panicking() {
            eprintln!("the engine said:\n{log}");
        } else {
            assert!(!log.contains("panicked at"), "the engine panicked:\n{log}");
        }
    }
}

impl Log {
    fn lines(&self) -> MutexGuard<'_, Lines> {
        self.lines.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn follow(&self, stderr: ChildStderr) {
        for line in BufReader::new(stderr).lines().map_while(Result::ok) {
            self.lines().lines.push(line);
            self.changed.notify_all();
        }
        self.lines().is_closed = true;
        self.changed.notify_all();
    }

    /// Waits until `is_enough`; the end of standard error before that is a failure.
    #[track_caller]
    fn wait_until(&self, is_enough: impl Fn(&Lines) -> bool) {
        let is_waiting = |lines: &mut Lines| !is_enough(lines) && !lines.is_closed;
        let waited = self.changed.wait_timeout_while(self.lines(), PATIENCE, is_waiting);
        let (lines, _) = waited.unwrap_or_else(PoisonError::into_inner);
        assert!(is_enough(&lines), "the engine only said:\n{}", lines.lines.join("\n"));
    }
}

/// Writes a configuration whose admin listener gets a port of its own.
#[track_caller]
fn write_config(path: &Path, config: impl fmt::Display) {
    let mut text = config.to_string();
    if !text.contains("[admin]") {
        text.push_str("\n[admin]\nbind = \"127.0.0.1:0\"\n");
    }
    fs::write(path, text).expect("a writable directory");
}

fn parse_url(url: &str) -> SocketAddr {
    let (_, address) = url.trim().split_once("://").expect("a URL");
    let end = address.find(['/', ' ']).unwrap_or(address.len());
    address[..end].parse().expect("an address")
}
