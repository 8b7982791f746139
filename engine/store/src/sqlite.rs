//! What is particular to SQLite: a file on this host, for processes of this host.
//!
//! Never on a network's file system: there its locks and its shared memory fail silently, and the file with them.

use std::fs::{DirBuilder, OpenOptions};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;
use std::time::Duration;

use sqlx::ConnectOptions;
use sqlx::sqlite::{SqliteConnectOptions, SqliteSynchronous};

use crate::database::{self, Database, Pool};
use crate::error::StoreError;
use crate::settings::StoreSettings;

mod place;

/// How soon a lock is asked for again that cannot be waited for.
const LOCK_ROUND: Duration = Duration::from_millis(10);

/// Opens the file, makes it if need be, and sees to it that readers and a writer do not wait for each other (WAL).
pub(crate) async fn connect(path: &Path, settings: &StoreSettings) -> Result<Database, StoreError> {
    let dir = path.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."));
    if !settings.read_only {
        make(path, dir)?;
    }
    place::check(path, dir)?;
    let options = SqliteConnectOptions::new()
        .filename(path)
        .read_only(settings.read_only)
        .foreign_keys(true)
        // A transaction that was said to be done is on the disk: who loses power loses none.
        .synchronous(SqliteSynchronous::Full)
        // SQLite's own message comes before the deadline, and says what it waited for.
        .busy_timeout(settings.timeout.mul_f64(0.75))
        .disable_statement_logging();
    if !settings.read_only {
        switch_to_wal(&options, settings.timeout).await?;
    }
    let pool = Pool::Sqlite(database::pool(settings, options));
    Ok(Database { pool, timeout: settings.timeout, read_only: settings.read_only })
}

/// An empty file that only its owner may read, and the directories above it: what SQLite puts beside it has the same mode.
fn make(path: &Path, dir: &Path) -> Result<(), StoreError> {
    let refused = |what: &Path, error: std::io::Error| {
        StoreError::refused(
            format!("the store cannot be made at {}: {error}", what.display()),
            "give the process a directory where it may write",
        )
    };
    DirBuilder::new().recursive(true).mode(0o700).create(dir).map_err(|error| refused(dir, error))?;
    match OpenOptions::new().write(true).create_new(true).mode(0o600).open(path) {
        Err(error) if error.kind() != std::io::ErrorKind::AlreadyExists => Err(refused(path, error)),
        _ => Ok(()),
    }
}

/// WAL is a property of the file. Changing to it takes a lock that SQLite does not wait for.
async fn switch_to_wal(options: &SqliteConnectOptions, timeout: Duration) -> Result<(), StoreError> {
    let switch = async {
        loop {
            let tried = async {
                let mut connection = options.connect().await?;
                let mode: String =
                    sqlx::query_scalar("PRAGMA journal_mode = WAL").fetch_one(&mut connection).await?;
                Ok::<_, sqlx::Error>(mode)
            };
            match tried.await.map_err(StoreError::from) {
                Ok(mode) if mode == "wal" => return Ok(()),
                Ok(mode) => {
                    return Err(StoreError::refused(
                        format!("the store's file stays in journal mode \"{mode}\""),
                        "put it where memory can be shared: a file system of this host's own disk",
                    ));
                }
                Err(StoreError::Unavailable { .. }) => tokio::time::sleep(LOCK_ROUND).await,
                Err(error) => return Err(error),
            }
        }
    };
    tokio::time::timeout(timeout, switch).await.unwrap_or_else(|_| Err(StoreError::late(timeout)))
}

/// What a code of SQLite means for the caller (<https://www.sqlite.org/rescode.html>); the low byte is the kind.
pub(crate) fn explain(code: &str, message: &str) -> StoreError {
    let kind = code.parse::<u32>().map_or(0, |code| code & 0xff);
    match kind {
        // SQLITE_PERM, SQLITE_READONLY, SQLITE_AUTH
        3 | 8 | 23 => StoreError::refused(
            format!("the store's file may not be written: {message}"),
            "see the owner and the mode of the file and its directory",
        ),
        // SQLITE_BUSY, SQLITE_LOCKED
        5 | 6 => StoreError::unavailable(format!("another process holds the store's file: {message}")),
        // SQLITE_FULL
        13 => StoreError::unavailable(format!("there is no room for the store's file: {message}")),
        // SQLITE_NOMEM, SQLITE_INTERRUPT, SQLITE_IOERR, SQLITE_CANTOPEN, SQLITE_PROTOCOL, SQLITE_SCHEMA
        7 | 9 | 10 | 14 | 15 | 17 => StoreError::unavailable(message),
        // SQLITE_CONSTRAINT
        19 => StoreError::conflict(message, None),
        // SQLITE_CORRUPT, SQLITE_NOTADB and what a statement of ours can only meet in a file that is none of ours
        _ => StoreError::corrupt(message),
    }
}
