//! Where does a rule stand? On an empty database of its own, which is gone afterwards.

use std::future::Future;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use store::{NewConfig, NewProcess, Store, StoreSettings};

use crate::server::Server;

/// No rule takes as long; whatever does is stuck.
const RULE_MAX: Duration = Duration::from_secs(60);

/// An empty database.
pub(crate) struct Ground {
    url: String,
    /// What is removed at the end, of SQLite.
    dir: Option<PathBuf>,
}

impl Ground {
    /// A file that is not there yet.
    pub(crate) fn sqlite() -> Self {
        let dir = directory();
        let url = format!("sqlite:{}", dir.join("cluster.db").display());
        Self { url, dir: Some(dir) }
    }

    /// A database of a server that all tests share.
    pub(crate) fn postgres() -> Self {
        Self { url: Server::shared().create_database(), dir: None }
    }

    /// The usual settings, with this database.
    pub(crate) fn settings(&self) -> StoreSettings {
        let url = self.url.parse().expect("a URL of our own");
        // This host may be busy with other tests: what is tested here is no time.
        StoreSettings { timeout: Duration::from_secs(20), connections_max: 10, ..StoreSettings::new(url) }
    }

    /// Opens it.
    pub(crate) async fn store(&self) -> Store {
        Store::open(self.settings()).await.expect("an empty database")
    }
}

impl Drop for Ground {
    fn drop(&mut self) {
        if let Some(dir) = &self.dir {
            // What is left lies below the target directory.
            drop(std::fs::remove_dir_all(dir));
        }
    }
}

/// A directory of its own below the target directory, without name clashes among tests of one process and of several.
pub(crate) fn directory() -> PathBuf {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let name = format!("store-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
    let dir = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(name);
    std::fs::create_dir_all(&dir).expect("the target directory can be written to");
    dir
}

/// Runs a rule on a ground, as control does: on one thread.
pub(crate) fn keeps<F: Future<Output = ()>>(ground: Ground, rule: impl FnOnce(std::rc::Rc<Ground>) -> F) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let ground = std::rc::Rc::new(ground);
    runtime
        .block_on(async { tokio::time::timeout(RULE_MAX, rule(ground)).await })
        .expect("a rule is shown in time");
}

/// Does `work` ten times at once, and gives what came of each.
pub(crate) async fn ten_at_once<T: Send + 'static, F>(work: impl Fn(u32) -> F) -> Vec<T>
where
    F: Future<Output = T> + Send + 'static,
{
    let tasks: Vec<_> = (0..10).map(|number| tokio::spawn(work(number))).collect();
    let mut results = Vec::new();
    for task in tasks {
        results.push(task.await.expect("no panic"));
    }
    results
}

/// A configuration that says no more than its number.
pub(crate) fn config(number: u32) -> NewConfig {
    NewConfig {
        document: format!("{{\"number\": {number}}}"),
        fingerprint: format!("fingerprint {number}"),
        author: "eva".to_owned(),
        comment: format!("number {number}"),
    }
}

/// A process of a node.
pub(crate) fn process(node: &str) -> NewProcess {
    NewProcess {
        node: node.to_owned(),
        host: "host.example".to_owned(),
        addresses: serde_json::json!({ "listener.web": "192.0.2.1:8080" }),
        version: "0.1.0".to_owned(),
        pid: 4711,
        cores: 2,
        port_offset: 10_000,
        mode: "active_active".to_owned(),
    }
}
