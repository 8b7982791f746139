//! Where does a rule stand? On an empty database of its own, which is gone afterwards.

use std::future::Future;
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use sqlx::{AssertSqlSafe, Connection, Executor, PgConnection, SqliteConnection};
use store::{NewConfig, NewProcess, Store, StoreError, StoreSettings};

use crate::server::Server;

/// No rule takes as long; whatever does is stuck.
const RULE_MAX: Duration = Duration::from_secs(60);

/// The admin listener says within five seconds that the store is away.
pub(crate) const ANSWER_MAX: Duration = Duration::from_secs(5);

/// And it works again as soon after the store does.
pub(crate) const RECOVERY_MAX: Duration = Duration::from_secs(5);

/// An empty database.
pub(crate) struct Ground {
    url: String,
    /// What is removed at the end, of SQLite.
    dir: Option<PathBuf>,
}

impl Ground {
    /// A file that is not there yet.
    pub(crate) fn sqlite() -> Self {
        Self::sqlite_in("")
    }

    /// The same in a directory that may not be there yet either.
    pub(crate) fn sqlite_in(below: &str) -> Self {
        let dir = directory();
        let url = format!("sqlite:{}", dir.join(below).join("cluster.db").display());
        Self { url, dir: Some(dir) }
    }

    /// A database of a server that all tests share.
    pub(crate) fn postgres() -> Self {
        Self::of(Server::shared())
    }

    /// A database of any server.
    pub(crate) fn of(server: &Server) -> Self {
        Self { url: server.create_database(), dir: None }
    }

    /// Where it is.
    pub(crate) fn url(&self) -> &str {
        &self.url
    }

    /// How PostgreSQL calls it.
    pub(crate) fn name(&self) -> &str {
        let place = self.url.split('?').next().expect("the beginning of a URL");
        place.rsplit('/').next().expect("what is last in it")
    }

    /// Changes it behind the store's back.
    pub(crate) async fn say(&self, sql: &str) {
        let sql = AssertSqlSafe(sql.to_owned());
        match self.settings().url.file() {
            Some(file) => {
                let connection = SqliteConnection::connect(&file.display().to_string()).await;
                connection.expect("a database").execute(sql).await.expect("good SQL");
            }
            None => {
                let connection = PgConnection::connect(&self.url).await;
                connection.expect("a database").execute(sql).await.expect("good SQL");
            }
        }
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

/// Runs a rule on a ground.
pub(crate) fn keeps(ground: Ground, rule: impl AsyncFnOnce(Rc<Ground>)) {
    on_one_thread(rule(Rc::new(ground)));
}

/// Runs it as control does, and to an end.
pub(crate) fn on_one_thread(work: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    // Whoever asks for many kills waits for them.
    let max = if std::env::var_os("STORE_TEST_KILLS").is_some() { RULE_MAX * 60 } else { RULE_MAX };
    runtime.block_on(async { tokio::time::timeout(max, work).await }).expect("it is shown in time");
}

/// Asks again until the store is available.
pub(crate) async fn until_it_works<T>(ask: impl AsyncFn() -> Result<T, StoreError>) -> T {
    loop {
        match ask().await {
            Ok(answer) => return answer,
            Err(error) => assert!(error.is_unavailable(), "{error}"),
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
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
