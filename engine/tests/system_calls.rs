//! Do the cores ever wait for each other, or for control? The kernel knows: a contended lock is a futex call.
//!
//! Never believes silence: a trace without the calls that serving needs is a failure too.

mod common;

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use common::engine::{Config, Driver, Engine};
use common::on_both_drivers;
use common::origin::{OK, Origin};
use rustix::process::{Pid, Signal, kill_process};

const CORES: usize = 2;
const CLIENTS: usize = 16;
/// Requests of each client while the kernel watches; tracing makes every call some twenty times slower.
const REQUESTS_EACH: usize = 150;

/// A tracer of a running process, attached until dropped or read.
struct Trace {
    strace: Child,
    path: PathBuf,
}

impl Trace {
    /// Attaches to every thread of `engine`; returns once it watches.
    fn attach(engine: &Engine, driver: Driver) -> Self {
        let pid = engine.pid().as_raw_nonzero();
        let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("{driver}-{pid}.trace"));
        let mut strace = Command::new("strace")
            .args(["-f", "-p", &pid.to_string(), "-o"])
            .arg(&path)
            .stdin(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| panic!("this test needs strace (Debian: strace): {error}"));
        let mut said = BufReader::new(strace.stderr.take().expect("piped"));
        let mut line = String::new();
        let _ = said.read_line(&mut line);
        let trace = Self { strace, path };
        assert!(line.contains("attached"), "strace cannot watch the engine: {line}");
        // It says little more, but must not wait for somebody to read it.
        thread::spawn(move || said.lines().for_each(drop));
        trace
    }

    /// Ends the trace. How often these threads made each call.
    fn finish(mut self, threads: &[String]) -> BTreeMap<String, usize> {
        self.detach();
        let text = fs::read_to_string(&self.path).expect("strace wrote what it saw");
        let mut calls = BTreeMap::new();
        for line in text.lines() {
            let (thread, event) = line.split_once(char::is_whitespace).expect("a thread and an event");
            // A call cut in two by another thread is counted where it begins; signals and exits are no calls.
            if let Some((call, _)) = event.trim_start().split_once('(')
                && call.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
                && threads.iter().any(|id| id == thread)
            {
                *calls.entry(call.to_owned()).or_default() += 1;
            }
        }
        calls
    }

    fn detach(&mut self) {
        let _ = kill_process(Pid::from_child(&self.strace), Signal::INT);
        let _ = self.strace.wait();
    }
}

impl Drop for Trace {
    fn drop(&mut self) {
        if matches!(self.strace.try_wait(), Ok(None)) {
            self.detach();
        }
        let _ = fs::remove_file(&self.path);
    }
}

/// Thread ids of the executors.
fn executors(engine: &Engine) -> Vec<String> {
    let tasks =
        fs::read_dir(format!("/proc/{}/task", engine.pid().as_raw_nonzero())).expect("a live process");
    let tasks = tasks.map(|task| task.expect("a thread").path());
    let is_executor =
        |task: &PathBuf| fs::read_to_string(task.join("comm")).is_ok_and(|name| name.starts_with("core-"));
    let id = |task: PathBuf| task.file_name().expect("a thread id").to_string_lossy().into_owned();
    tasks.filter(is_executor).map(id).collect()
}

#[test]
fn cores_under_load_never_wait_for_a_lock() {
    on_both_drivers(|driver| {
        let origin = Origin::answering(OK);
        let config = Config { endpoints: &[origin.address], ..Config::default() };
        let engine = Engine::start_on_cores(driver, CORES, config);
        let mut clients: Vec<_> = (0..CLIENTS).map(|_| engine.connect()).collect();
        for client in &mut clients {
            client.get("/warm").assert_is(200, "ok");
        }

        let executors = executors(&engine);
        assert_eq!(executors.len(), CORES);
        let trace = Trace::attach(&engine, driver);
        let is_over = AtomicBool::new(false);
        thread::scope(|scope| {
            // Statistics are collected all the while: control must not keep a core waiting either.
            let watcher = scope.spawn(|| {
                while !is_over.load(Ordering::Relaxed) {
                    engine.stats();
                }
            });
            let asking: Vec<_> = clients
                .iter_mut()
                .map(|client| {
                    scope.spawn(|| {
                        for _ in 0..REQUESTS_EACH {
                            client.get("/traced").assert_is(200, "ok");
                        }
                        // Connections come and go, too.
                        engine.connect().get("/traced").assert_is(200, "ok");
                    })
                })
                .collect();
            let outcomes: Vec<_> = asking.into_iter().map(|client| client.join()).collect();
            is_over.store(true, Ordering::Relaxed);
            watcher.join().expect("statistics");
            assert!(outcomes.iter().all(Result::is_ok), "a request failed");
        });
        let calls = trace.finish(&executors);

        // A client asks again only when it is answered: no batch can serve two of its requests with one call.
        assert!(calls.values().sum::<usize>() > REQUESTS_EACH, "the trace missed the load: {calls:?}");
        assert_eq!(calls.get("futex"), None, "{calls:?}");
    });
}
