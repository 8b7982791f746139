//! How is a statement asked of either database? One way in, with a deadline, for SQL that both understand.
//!
//! Never knows what a row means: that is in the files by subject. Never gives a connection back whose state is in doubt.

use std::borrow::Cow;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use sqlx::pool::{PoolConnection, PoolOptions};
use sqlx::postgres::{PgPool, PgRow};
use sqlx::sqlite::{SqlitePool, SqliteRow};
use sqlx::{AssertSqlSafe, Decode, Postgres, Row as _, SqlSafeStr, SqlStr, Sqlite, Type};
use tokio::time::{Instant, timeout_at};

use crate::UnixMillis;
use crate::error::StoreError;
use crate::settings::StoreSettings;

/// The channel of PostgreSQL on which changes are hinted at.
pub(crate) const HINTS: &str = "corelane";

/// Connections to one of the two.
#[derive(Debug)]
pub(crate) enum Pool {
    Sqlite(Arc<SqlitePool>),
    Postgres(Arc<PgPool>),
}

/// A pool that makes connections when they are needed, and keeps no more of them than the settings say.
pub(crate) fn pool<D: sqlx::Database>(
    settings: &StoreSettings,
    options: <D::Connection as sqlx::Connection>::Options,
) -> Arc<sqlx::Pool<D>> {
    let idle_max = settings.idle_connections_max as usize;
    Arc::new_cyclic(|pool: &std::sync::Weak<sqlx::Pool<D>>| {
        let pool = pool.clone();
        PoolOptions::new()
            .max_connections(settings.connections_max.max(1))
            .acquire_timeout(settings.timeout)
            .after_release(move |_, _| {
                let is_room = pool.upgrade().is_some_and(|pool| pool.num_idle() < idle_max);
                Box::pin(std::future::ready(Ok(is_room)))
            })
            .connect_lazy_with(options)
    })
}

impl Pool {
    pub(crate) const fn dialect(&self) -> Dialect {
        match self {
            Self::Sqlite(_) => Dialect::Sqlite,
            Self::Postgres(_) => Dialect::Postgres,
        }
    }

    async fn acquire(&self) -> sqlx::Result<Connection> {
        match self {
            Self::Sqlite(pool) => pool.acquire().await.map(Connection::Sqlite),
            Self::Postgres(pool) => pool.acquire().await.map(Connection::Postgres),
        }
    }

    pub(crate) async fn close(&self) {
        match self {
            Self::Sqlite(pool) => pool.close().await,
            Self::Postgres(pool) => pool.close().await,
        }
    }
}

/// The database, and how long it may take.
#[derive(Debug)]
pub(crate) struct Database {
    pub(crate) pool: Pool,
    pub(crate) timeout: Duration,
    pub(crate) read_only: bool,
}

impl Database {
    /// The rows of one statement that only reads.
    pub(crate) async fn rows(&self, sql: &'static str, values: Vec<Value>) -> Result<Vec<Row>, StoreError> {
        let mut borrowed = self.borrow().await?;
        let rows = borrowed.rows(sql, values).await?;
        borrowed.give_back();
        Ok(rows)
    }

    /// The only row of one statement that only reads.
    pub(crate) async fn row(&self, sql: &'static str, values: Vec<Value>) -> Result<Option<Row>, StoreError> {
        Ok(self.rows(sql, values).await?.pop())
    }

    /// The rows that one statement has written, all of them or none.
    pub(crate) async fn write(&self, sql: &'static str, values: Vec<Value>) -> Result<Vec<Row>, StoreError> {
        self.check_writable()?;
        self.rows(sql, values).await
    }

    /// Several statements that are done together or not at all. They see what was there when they began or later, and nobody else writes
    /// what they have written.
    pub(crate) async fn begin(&self) -> Result<Transaction, StoreError> {
        self.check_writable()?;
        let mut borrowed = self.borrow().await?;
        let begin = match borrowed.connection {
            // The right to write is taken at once: whoever took it later could find that what he read is old.
            Some(Connection::Sqlite(_)) => "BEGIN IMMEDIATE",
            _ => "BEGIN",
        };
        borrowed.command(begin).await?;
        Ok(Transaction { borrowed })
    }

    fn check_writable(&self) -> Result<(), StoreError> {
        if self.read_only {
            return Err(StoreError::refused(
                "the store is open for reading only",
                "ask a process that may write",
            ));
        }
        Ok(())
    }

    async fn borrow(&self) -> Result<Borrowed, StoreError> {
        let (timeout, deadline) = (self.timeout, Instant::now() + self.timeout);
        let connection = within(deadline, timeout, self.pool.acquire()).await?;
        Ok(Borrowed { connection: Some(connection), deadline, timeout })
    }
}

/// Statements that are done together when [`Self::commit`] says so. Dropped before, nothing was done.
pub(crate) struct Transaction {
    borrowed: Borrowed,
}

impl Transaction {
    pub(crate) async fn rows(
        &mut self,
        sql: &'static str,
        values: Vec<Value>,
    ) -> Result<Vec<Row>, StoreError> {
        self.borrowed.rows(sql, values).await
    }

    pub(crate) async fn row(
        &mut self,
        sql: &'static str,
        values: Vec<Value>,
    ) -> Result<Option<Row>, StoreError> {
        Ok(self.rows(sql, values).await?.pop())
    }

    /// Several statements without values.
    pub(crate) async fn script(&mut self, sql: String) -> Result<(), StoreError> {
        self.borrowed.command(AssertSqlSafe(sql)).await
    }

    /// Counts a change of a subject, and gives its number. Whoever else changes the subject waits until this is over, so that numbers
    /// appear in their order: who has seen one has seen all below.
    pub(crate) async fn count(&mut self, subject: &str) -> Result<u64, StoreError> {
        let sql = "UPDATE counter SET value = value + 1 WHERE name = $1 RETURNING value";
        let row = self.row(sql, values![subject]).await?;
        let row = row.ok_or_else(|| StoreError::corrupt(format!("the counter \"{subject}\" is missing")))?;
        if matches!(self.borrowed.connection, Some(Connection::Postgres(_))) {
            self.rows("SELECT pg_notify($1, $2)", values![HINTS, subject]).await?;
        }
        row.number("value")
    }

    pub(crate) async fn commit(mut self) -> Result<(), StoreError> {
        self.borrowed.command("COMMIT").await?;
        self.borrowed.give_back();
        Ok(())
    }

    /// Commits if anything was done.
    pub(crate) async fn end(self, is_done: bool) -> Result<(), StoreError> {
        if is_done { self.commit().await } else { self.undo().await }
    }

    /// For when nothing was to be done: unlike dropping it, this keeps the connection.
    pub(crate) async fn undo(mut self) -> Result<(), StoreError> {
        self.borrowed.command("ROLLBACK").await?;
        self.borrowed.give_back();
        Ok(())
    }
}

/// A connection out of the pool, and until when what is done on it must be over. It goes back only when it is known to be at rest; dropped in
/// the middle of something it is closed, and whatever had begun on it is undone.
struct Borrowed {
    connection: Option<Connection>,
    deadline: Instant,
    timeout: Duration,
}

impl Borrowed {
    fn connection(&mut self) -> &mut Connection {
        self.connection.as_mut().expect("it is there until it is given back or dropped")
    }

    async fn rows(&mut self, sql: &'static str, values: Vec<Value>) -> Result<Vec<Row>, StoreError> {
        within(self.deadline, self.timeout, self.connection().rows(sql, values)).await
    }

    async fn command(&mut self, sql: impl SqlSafeStr + Send) -> Result<(), StoreError> {
        within(self.deadline, self.timeout, self.connection().command(sql.into_sql_str())).await
    }

    fn give_back(mut self) {
        drop(self.connection.take());
    }
}

impl Drop for Borrowed {
    fn drop(&mut self) {
        match self.connection.take() {
            Some(Connection::Sqlite(connection)) => drop(connection.detach()),
            Some(Connection::Postgres(connection)) => drop(connection.detach()),
            None => {}
        }
    }
}

/// A connection to one of the two.
enum Connection {
    Sqlite(PoolConnection<Sqlite>),
    Postgres(PoolConnection<Postgres>),
}

impl Connection {
    async fn rows(&mut self, sql: &'static str, values: Vec<Value>) -> sqlx::Result<Vec<Row>> {
        match self {
            Self::Sqlite(connection) => {
                let mut query = sqlx::query::<Sqlite>(in_words_of(Dialect::Sqlite, sql));
                for value in values {
                    query = match value {
                        Value::Number(number) => query.bind(number),
                        Value::Text(text) => query.bind(text),
                        Value::Bytes(bytes) => query.bind(bytes),
                    };
                }
                let rows = query.fetch_all(&mut **connection).await?;
                Ok(rows.into_iter().map(Row::Sqlite).collect())
            }
            Self::Postgres(connection) => {
                let mut query = sqlx::query::<Postgres>(in_words_of(Dialect::Postgres, sql));
                for value in values {
                    query = match value {
                        Value::Number(number) => query.bind(number),
                        Value::Text(text) => query.bind(text),
                        Value::Bytes(bytes) => query.bind(bytes),
                    };
                }
                let rows = query.fetch_all(&mut **connection).await?;
                Ok(rows.into_iter().map(Row::Postgres).collect())
            }
        }
    }

    async fn command(&mut self, sql: SqlStr) -> sqlx::Result<()> {
        let command = sqlx::raw_sql(sql);
        match self {
            Self::Sqlite(connection) => command.execute(&mut **connection).await.map(drop),
            Self::Postgres(connection) => command.execute(&mut **connection).await.map(drop),
        }
    }
}

/// Whose words: both speak the same SQL, but for these.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Dialect {
    Sqlite,
    Postgres,
}

impl Dialect {
    /// Unix milliseconds by the database's own clock.
    pub(crate) const fn now(self) -> &'static str {
        match self {
            Self::Sqlite => "CAST(unixepoch('subsec') * 1000 AS INTEGER)",
            Self::Postgres => "CAST(EXTRACT(EPOCH FROM clock_timestamp()) * 1000 AS BIGINT)",
        }
    }
}

/// Puts the database's own clock in for `NOW_MS()`.
fn in_words_of(dialect: Dialect, sql: &'static str) -> SqlStr {
    match sql.replace("NOW_MS()", dialect.now()) {
        said if said == sql => sql.into_sql_str(),
        said => AssertSqlSafe(said).into_sql_str(),
    }
}

async fn within<T>(
    deadline: Instant,
    timeout: Duration,
    work: impl Future<Output = sqlx::Result<T>>,
) -> Result<T, StoreError> {
    match timeout_at(deadline, work).await {
        Ok(done) => done.map_err(StoreError::from),
        Err(_) => Err(StoreError::late(timeout)),
    }
}

/// What is written, or compared with.
#[derive(Clone, Debug)]
pub(crate) enum Value {
    Number(Option<i64>),
    Text(Option<String>),
    Bytes(Option<Vec<u8>>),
}

/// A list of values for a statement's `$1`, `$2` and so on.
macro_rules! values {
    ($($value:expr),* $(,)?) => { vec![$($crate::database::Value::from($value)),*] };
}
pub(crate) use values;

impl From<u64> for Value {
    fn from(number: u64) -> Self {
        // Counters and times do not get there.
        Self::Number(Some(i64::try_from(number).unwrap_or(i64::MAX)))
    }
}

impl From<u32> for Value {
    fn from(number: u32) -> Self {
        u64::from(number).into()
    }
}

impl From<bool> for Value {
    fn from(is: bool) -> Self {
        u64::from(is).into()
    }
}

impl From<UnixMillis> for Value {
    fn from(time: UnixMillis) -> Self {
        time.0.into()
    }
}

impl From<Duration> for Value {
    fn from(duration: Duration) -> Self {
        u64::try_from(duration.as_millis()).unwrap_or(u64::MAX).into()
    }
}

impl From<&str> for Value {
    fn from(text: &str) -> Self {
        Self::Text(Some(text.to_owned()))
    }
}

impl From<&String> for Value {
    fn from(text: &String) -> Self {
        text.as_str().into()
    }
}

impl From<&serde_json::Value> for Value {
    fn from(json: &serde_json::Value) -> Self {
        Self::Text(Some(json.to_string()))
    }
}

impl From<&[u8]> for Value {
    fn from(bytes: &[u8]) -> Self {
        Self::Bytes(Some(bytes.to_vec()))
    }
}

impl From<Option<u64>> for Value {
    fn from(number: Option<u64>) -> Self {
        number.map_or(Self::Number(None), Self::from)
    }
}

impl From<Option<UnixMillis>> for Value {
    fn from(time: Option<UnixMillis>) -> Self {
        time.map(|time| time.0).into()
    }
}

impl From<Option<&str>> for Value {
    fn from(text: Option<&str>) -> Self {
        Self::Text(text.map(str::to_owned))
    }
}

/// One row, its columns by name.
pub(crate) enum Row {
    Sqlite(SqliteRow),
    Postgres(PgRow),
}

impl Row {
    fn column<'r, T>(&'r self, name: &str) -> Result<T, StoreError>
    where
        T: Decode<'r, Sqlite> + Type<Sqlite> + Decode<'r, Postgres> + Type<Postgres>,
    {
        let value = match self {
            Self::Sqlite(row) => row.try_get(name),
            Self::Postgres(row) => row.try_get(name),
        };
        value.map_err(|error| StoreError::corrupt(format!("column {name}: {error}")))
    }

    pub(crate) fn optional_number(&self, name: &str) -> Result<Option<u64>, StoreError> {
        let wrong = |_| StoreError::corrupt(format!("column {name} is below zero"));
        self.column::<Option<i64>>(name)?.map(|number| u64::try_from(number).map_err(wrong)).transpose()
    }

    pub(crate) fn number(&self, name: &str) -> Result<u64, StoreError> {
        self.optional_number(name)?.ok_or_else(|| empty(name))
    }

    /// A number that has at most 32 bits, or 16.
    pub(crate) fn small<T: TryFrom<u64>>(&self, name: &str) -> Result<T, StoreError> {
        T::try_from(self.number(name)?)
            .map_err(|_| StoreError::corrupt(format!("column {name} is too large")))
    }

    pub(crate) fn is(&self, name: &str) -> Result<bool, StoreError> {
        Ok(self.number(name)? != 0)
    }

    pub(crate) fn time(&self, name: &str) -> Result<UnixMillis, StoreError> {
        self.number(name).map(UnixMillis)
    }

    pub(crate) fn optional_time(&self, name: &str) -> Result<Option<UnixMillis>, StoreError> {
        Ok(self.optional_number(name)?.map(UnixMillis))
    }

    pub(crate) fn text(&self, name: &str) -> Result<String, StoreError> {
        self.column(name)
    }

    pub(crate) fn optional_text(&self, name: &str) -> Result<Option<String>, StoreError> {
        self.column(name)
    }

    pub(crate) fn bytes(&self, name: &str) -> Result<Vec<u8>, StoreError> {
        self.column(name)
    }

    pub(crate) fn json(&self, name: &str) -> Result<serde_json::Value, StoreError> {
        let text: Cow<'_, str> = self.text(name)?.into();
        serde_json::from_str(&text).map_err(|error| StoreError::corrupt(format!("column {name}: {error}")))
    }

    /// One of several words.
    pub(crate) fn word<T: Copy>(
        &self,
        name: &str,
        all: &[T],
        word: impl Fn(T) -> &'static str,
    ) -> Result<T, StoreError> {
        let text = self.text(name)?;
        let found = all.iter().copied().find(|one| word(*one) == text);
        found.ok_or_else(|| StoreError::corrupt(format!("column {name} says \"{text}\"")))
    }
}

fn empty(name: &str) -> StoreError {
    StoreError::corrupt(format!("column {name} is empty"))
}
