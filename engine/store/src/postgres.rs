//! What is particular to PostgreSQL: a server, for processes of many hosts, that tells when something changed.
//!
//! Never on a standby, which only reads, and later than others wrote. Never relies on a hint: whoever missed it looks again by himself.

use std::fs::File;
use std::sync::Arc;
use std::time::Duration;

use sqlx::postgres::{PgConnectOptions, PgListener, PgPoolOptions};
use tokio::sync::Notify;
use tokio::task::AbortHandle;

use crate::database::{self, Database, HINTS, Pool, values};
use crate::error::StoreError;
use crate::settings::{Place, StoreSettings};

/// PostgreSQL 12, as `server_version_num` says it: the oldest that the store is tried with in mind.
const VERSION_MIN: u64 = 120_000;

/// How long nothing may be heard before the listener asks whether the server is still there.
const SILENCE_MAX: Duration = Duration::from_secs(30);

/// How long the listener waits before it connects again.
const AGAIN_AFTER: Duration = Duration::from_secs(1);

/// Prepares connections; none is made yet.
pub(crate) fn connect(options: &PgConnectOptions, settings: &StoreSettings) -> Result<Database, StoreError> {
    // Found missing while connecting, it would look as if the server were.
    for (name, path) in settings.url.files.iter().filter(|(_, path)| !path.to_string_lossy().contains('%')) {
        File::open(path).map_err(|error| {
            StoreError::refused(
                format!("{} cannot be read: {error}", path.display()),
                format!("see `{name}` in the store's URL"),
            )
        })?;
    }
    let pool = Pool::Postgres(database::pool(settings, dressed(options, settings)));
    Ok(Database { pool, timeout: settings.timeout, read_only: settings.read_only })
}

/// The server gives up when the caller does, so that nothing waits for a lock, or holds one, for somebody who has left.
fn dressed(options: &PgConnectOptions, settings: &StoreSettings) -> PgConnectOptions {
    use sqlx::ConnectOptions;
    let timeout = format!("{}ms", settings.timeout.as_millis().max(1));
    let name = options.get_application_name().unwrap_or("corelane");
    let mut options = options.clone().application_name(name).disable_statement_logging().options([
        ("statement_timeout", timeout.as_str()),
        ("lock_timeout", &timeout),
        ("idle_in_transaction_session_timeout", &timeout),
    ]);
    if settings.read_only {
        options = options.options([("default_transaction_read_only", "on")]);
    }
    options
}

/// Refuses a server that would not keep what it is told, and gives warnings about one that might not.
pub(crate) async fn probe(database: &Database) -> Result<Vec<String>, StoreError> {
    let sql = "SELECT CAST(current_setting('server_version_num') AS BIGINT) AS version, \
               CAST(CAST(pg_is_in_recovery() AS INTEGER) AS BIGINT) AS standby, \
               current_setting('synchronous_commit') AS synchronous_commit, current_setting('fsync') AS fsync";
    let row = database.row(sql, values![]).await?;
    let row = row.ok_or_else(|| StoreError::corrupt("the server does not say its version"))?;
    let version = row.number("version")?;
    if version < VERSION_MIN {
        return Err(StoreError::refused(
            format!("the database is PostgreSQL {}", version / 10_000),
            "use PostgreSQL 12 or later",
        ));
    }
    if row.is("standby")? {
        return Err(StoreError::refused(STANDBY, PRIMARY));
    }
    let mut warnings = Vec::new();
    if row.text("synchronous_commit")? == "off" {
        warnings.push(
            "the database has synchronous_commit = off: what it says is saved may be lost when it crashes; set it to on".to_owned(),
        );
    }
    if row.text("fsync")? == "off" {
        warnings.push(
            "the database has fsync = off: it may be damaged when its host crashes; set it to on".to_owned(),
        );
    }
    Ok(warnings)
}

const STANDBY: &str = "the database is a standby, which follows another";
const PRIMARY: &str = "give the URL of the primary";

/// What a code of PostgreSQL means for the caller (its documentation, appendix A).
pub(crate) fn explain(code: &str, message: &str) -> StoreError {
    let (class, _) = code.split_at(2);
    match (class, code) {
        // read_only_sql_transaction: it was the primary when it was probed.
        (_, "25006") => StoreError::refused(format!("{STANDBY}: {message}"), PRIMARY),
        // unique_violation, foreign_key_violation
        (_, "23505" | "23503") => StoreError::conflict(message, None),
        // lock_not_available, idle_in_transaction_session_timeout, and classes: connection, rollback, resources (a full disk is one),
        // operator intervention, system error.
        (_, "55P03" | "25P03") | ("08" | "40" | "53" | "57" | "58", _) => StoreError::unavailable(message),
        ("28", _) => StoreError::refused(
            format!("the database does not let us in: {message}"),
            "see user and password in the store's URL, and the server's pg_hba.conf",
        ),
        ("3D", _) => StoreError::refused(message, "create the database, or see its name in the store's URL"),
        // insufficient_privilege
        (_, "42501") => StoreError::refused(
            message,
            "grant the store's user the right to create and use tables in its schema",
        ),
        _ => StoreError::corrupt(message),
    }
}

/// Hears what the server tells about changes, over a connection of its own.
#[derive(Debug)]
pub(crate) struct Hints {
    heard: Arc<Notify>,
    listener: AbortHandle,
}

impl Hints {
    /// Begins to listen; on SQLite there is nobody to listen to.
    pub(crate) fn listen(settings: &StoreSettings) -> Option<Self> {
        let Place::Postgres(options) = &settings.url.place else { return None };
        let (options, timeout) = (dressed(options, settings), settings.timeout);
        let heard = Arc::new(Notify::new());
        let notify = heard.clone();
        let listener = tokio::spawn(async move {
            loop {
                // What went wrong shows in every other call too; here it costs hints alone.
                drop(hear(&options, timeout, &notify).await);
                tokio::time::sleep(AGAIN_AFTER).await;
            }
        });
        Some(Self { heard, listener: listener.abort_handle() })
    }

    pub(crate) async fn next(&self) {
        self.heard.notified().await;
    }

    pub(crate) fn end(&self) {
        self.listener.abort();
    }
}

impl Drop for Hints {
    fn drop(&mut self) {
        self.end();
    }
}

/// Listens until the connection is lost.
async fn hear(options: &PgConnectOptions, timeout: Duration, notify: &Notify) -> sqlx::Result<()> {
    let late = |_| sqlx::Error::PoolTimedOut;
    let pool =
        PgPoolOptions::new().max_connections(1).acquire_timeout(timeout).connect_lazy_with(options.clone());
    let mut listener =
        tokio::time::timeout(timeout, PgListener::connect_with(&pool)).await.map_err(late)??;
    listener.eager_reconnect(false);
    tokio::time::timeout(timeout, listener.listen(HINTS)).await.map_err(late)??;
    // What changed while nobody listened is to be looked at as well.
    notify.notify_one();
    loop {
        match tokio::time::timeout(SILENCE_MAX, listener.try_recv()).await {
            Ok(Ok(Some(_))) => notify.notify_one(),
            Ok(Ok(None)) => return Ok(()),
            Ok(Err(error)) => return Err(error),
            Err(_) => {
                let ping = sqlx::query("SELECT 1").execute(&mut listener);
                tokio::time::timeout(timeout, ping).await.map_err(late)??;
            }
        }
    }
}
