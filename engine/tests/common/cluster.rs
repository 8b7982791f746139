//! How does a test bring up a cluster? A store of its own, and processes that are told of it and of nothing else.
//!
//! Never two tests in one store.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::atomic::{AtomicU32, Ordering};

use rustix::process::Signal;
use serde_json::Value;

use super::engine::{Driver, Engine};
use super::eventually;

/// A store, with a directory for what processes keep of it; gone when dropped.
#[derive(Debug)]
pub(crate) struct Cluster {
    directory: PathBuf,
    url: String,
}

impl Cluster {
    /// With a store of its own in a file.
    pub(crate) fn new() -> Self {
        let directory = directory();
        let url = format!("sqlite:{}", directory.join("cluster.db").display());
        Self { directory, url }
    }

    /// With a store somewhere else.
    pub(crate) fn at(url: String) -> Self {
        Self { directory: directory(), url }
    }

    fn arguments(&self, driver: Driver, more: &[&str]) -> Vec<String> {
        let driver = driver.to_string();
        let state = self.directory.join("state").display().to_string();
        let mine = ["--cores", "1", "--driver", &driver, "--store", &self.url, "--state-dir", &state];
        mine.iter().chain(more).map(|argument| (*argument).to_owned()).collect()
    }

    /// A process that brings a configuration along; it is not waited for.
    #[track_caller]
    pub(crate) fn bring(&self, driver: Driver, config: &str, more: &[&str]) -> Engine {
        Engine::spawn(&mut Engine::command(), &self.arguments(driver, more), config)
    }

    /// The first process of a node, serving.
    #[track_caller]
    pub(crate) fn first(&self, driver: Driver, config: &str) -> Engine {
        let engine = self.bring(driver, config, &[]);
        engine.wait_until_serving();
        engine
    }

    /// A process that is told its node and the store, and nothing else; it is not waited for.
    #[track_caller]
    pub(crate) fn add(&self, driver: Driver, node: &str, more: &[&str]) -> Engine {
        let arguments = [&["--node", node], more].concat();
        Engine::spawn_without_file(&mut Engine::command(), &self.arguments(driver, &arguments))
    }

    /// The same, serving.
    #[track_caller]
    pub(crate) fn join(&self, driver: Driver, node: &str) -> Engine {
        let engine = self.add(driver, node, &[]);
        engine.wait_until_serving();
        engine
    }

    /// A file in this cluster's directory.
    pub(crate) fn file(&self, name: &str, text: &str) -> String {
        let path = self.directory.join(name);
        fs::write(&path, text).expect("a writable directory");
        path.display().to_string()
    }

    pub(crate) fn directory(&self) -> &Path {
        &self.directory
    }

    /// Runs a command that asks the store itself.
    pub(crate) fn command(&self, arguments: &[&str]) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_engine"));
        command.args(arguments).args(["--store", &self.url]).output().expect("the engine can be run")
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.directory);
    }
}

/// A new directory.
pub(crate) fn directory() -> PathBuf {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let number = COUNT.fetch_add(1, Ordering::Relaxed);
    let path =
        Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("cluster-{}-{number}", std::process::id()));
    fs::create_dir_all(&path).expect("a writable directory");
    path
}

impl Engine {
    /// The processes of the cluster, as this one lists them.
    #[track_caller]
    pub(crate) fn processes(&self) -> Vec<Value> {
        let (status, answer) = self.ask_admin("GET", "/cluster/processes", None);
        assert_eq!(status, 200, "{answer}");
        answer["processes"].as_array().expect("a list").clone()
    }

    /// How this process belongs to its cluster.
    #[track_caller]
    pub(crate) fn membership(&self) -> Value {
        let (status, answer) = self.ask_admin("GET", "/cluster", None);
        assert_eq!(status, 200, "{answer}");
        answer
    }

    /// The ID of this process, once it is registered.
    #[track_caller]
    pub(crate) fn process_id(&self) -> String {
        let mut id = None;
        eventually("the process is registered", || {
            id = self.membership()["process"].as_str().map(str::to_owned);
            id.is_some()
        });
        id.expect("it is registered")
    }

    /// The version of the configuration that it runs.
    #[track_caller]
    pub(crate) fn version(&self) -> u64 {
        self.membership()["config"]["version"].as_u64().expect("a version")
    }

    /// What a GET of `/` at `web` is answered.
    #[track_caller]
    pub(crate) fn says(&self) -> String {
        let response = self.connect().get("/");
        format!("{} {}", response.status(), String::from_utf8_lossy(&response.body).trim_end())
    }

    /// What a balancer in front is told at `web`.
    #[track_caller]
    pub(crate) fn readiness(&self) -> String {
        let response = self.connect().get("/endpoint-health");
        format!("{} {}", response.status(), String::from_utf8_lossy(&response.body).trim_end())
    }
}

/// Waits until this many processes are listed.
#[track_caller]
pub(crate) fn wait_for_processes(engine: &Engine, count: usize) {
    eventually(&format!("{count} processes are listed"), || engine.processes().len() == count);
}

/// Stops a process between two words with the store, if it can be done now: a file is locked by who is stopped while writing to it, and stays
/// so. Another process finds out whether it can write.
pub(crate) fn stop_at_rest(engine: &Engine, other: &Engine) -> bool {
    engine.signal(Signal::STOP);
    // 404 if it can, 503 if it cannot.
    let is_at_rest = other.ask_admin("POST", "/cluster/processes/nobody/drain", None).0 == 404;
    if !is_at_rest {
        engine.signal(Signal::CONT);
    }
    is_at_rest
}
