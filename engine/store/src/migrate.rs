//! How does an empty database, or one of an older program, become this program's? Step by step, once, however many begin at once.
//!
//! Never changes a database that a newer program made, or one whose steps are not this program's.

use aws_lc_rs::digest::{SHA256, digest};

use crate::database::{Database, Dialect, values};
use crate::error::StoreError;

/// A step; its number is its place in [`STEPS`], from 1.
struct Step {
    name: &'static str,
    /// In PostgreSQL's words.
    sql: &'static str,
}

/// Every step there ever was, the oldest first. What is here is in databases: it may not be changed, only added to.
const STEPS: &[Step] = &[Step { name: "cluster", sql: include_str!("migrations/0001_cluster.sql") }];

/// The table of steps that were taken; it is made by the first process to come.
const TABLE: &str = "CREATE TABLE IF NOT EXISTS migration (
    number BIGINT NOT NULL PRIMARY KEY,
    name TEXT NOT NULL,
    checksum TEXT NOT NULL,
    applied_at BIGINT NOT NULL
);";

/// Any number, as long as no other program takes the same one in the same database: "corelane" in ASCII.
const LOCK: u64 = 0x636f_7265_6c61_6e65;

/// A step as the database has it.
struct Applied {
    number: u64,
    name: String,
    checksum: String,
}

/// Takes the steps that are missing, all in one transaction. Others that would do the same wait, and find it done.
pub(crate) async fn migrate(database: &Database) -> Result<(), StoreError> {
    let dialect = database.pool.dialect();
    let mut transaction = database.begin().await?;
    if dialect == Dialect::Postgres {
        transaction.rows("SELECT pg_advisory_xact_lock($1)", values![LOCK]).await?;
    }
    transaction.script(in_words_of(dialect, TABLE)).await?;
    let rows =
        transaction.rows("SELECT number, name, checksum FROM migration ORDER BY number", values![]).await?;
    let applied = rows.iter().map(Applied::read).collect::<Result<Vec<_>, _>>()?;
    check(&applied)?;
    for (step, number) in STEPS.iter().zip(1u64..).skip(applied.len()) {
        transaction.script(in_words_of(dialect, step.sql)).await?;
        let sql = "INSERT INTO migration (number, name, checksum, applied_at) VALUES ($1, $2, $3, NOW_MS())";
        transaction.rows(sql, values![number, step.name, &step.checksum()]).await?;
    }
    transaction.commit().await
}

/// For who may not write: is the database this program's already?
pub(crate) async fn check_applied(database: &Database) -> Result<(), StoreError> {
    let rows =
        database.rows("SELECT number, name, checksum FROM migration ORDER BY number", values![]).await?;
    let applied = rows.iter().map(Applied::read).collect::<Result<Vec<_>, _>>()?;
    check(&applied)?;
    if applied.len() < STEPS.len() {
        return Err(StoreError::refused(
            format!(
                "the store is of an older program: {} of {} steps were taken",
                applied.len(),
                STEPS.len()
            ),
            "start a process that may write first",
        ));
    }
    Ok(())
}

impl Applied {
    fn read(row: &crate::database::Row) -> Result<Self, StoreError> {
        Ok(Self { number: row.number("number")?, name: row.text("name")?, checksum: row.text("checksum")? })
    }
}

impl Step {
    fn checksum(&self) -> String {
        digest(&SHA256, self.sql.as_bytes()).as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
    }
}

/// Whether what was applied is how this program's steps begin.
fn check(applied: &[Applied]) -> Result<(), StoreError> {
    for (taken, place) in applied.iter().zip(1u64..) {
        let Applied { number, name, checksum } = taken;
        if *number != place {
            return Err(StoreError::corrupt(format!(
                "step {place} of the store's making is missing, and {number} was taken"
            )));
        }
        let Some(step) = usize::try_from(place - 1).ok().and_then(|index| STEPS.get(index)) else {
            return Err(StoreError::refused(
                format!(
                    "the store is of a newer program: it has step {number} ({name}), and this one knows {}",
                    STEPS.len()
                ),
                "start the newer program, or restore the store from a copy that the older one made",
            ));
        };
        if *checksum != step.checksum() {
            return Err(StoreError::refused(
                format!("step {number} ({name}) of the store's making is not this program's ({})", step.name),
                "use a database of its own for the cluster, or the program that made this one",
            ));
        }
    }
    Ok(())
}

/// The same tables in either's words: SQLite has no `BYTEA`, calls its one width of integers `INTEGER`, and keeps to types only if told to.
fn in_words_of(dialect: Dialect, sql: &str) -> String {
    match dialect {
        Dialect::Postgres => sql.to_owned(),
        Dialect::Sqlite => {
            sql.replace("BIGINT", "INTEGER").replace("BYTEA", "BLOB").replace("\n);", "\n) STRICT;")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn applied(count: u64) -> Vec<Applied> {
        let known = STEPS.iter().zip(1..).map(|(step, number)| Applied {
            number,
            name: step.name.to_owned(),
            checksum: step.checksum(),
        });
        let unknown = (STEPS.len() as u64 + 1..).map(|number| Applied {
            number,
            name: "of tomorrow".to_owned(),
            checksum: "0".repeat(64),
        });
        known.chain(unknown).take(usize::try_from(count).expect("a few")).collect()
    }

    #[test]
    fn takes_any_beginning_of_its_own_steps() {
        for count in 0..=STEPS.len() as u64 {
            assert_eq!(check(&applied(count)), Ok(()));
        }
    }

    #[test]
    fn refuses_a_database_of_a_newer_program() {
        let error = check(&applied(STEPS.len() as u64 + 1)).expect_err("a step too many");
        assert!(
            error.to_string().contains("a newer program") && error.to_string().contains("of tomorrow"),
            "{error}"
        );
    }

    #[test]
    fn refuses_steps_that_are_not_its_own() {
        let mut steps = applied(1);
        steps[0].checksum = "0".repeat(64);
        assert!(matches!(check(&steps), Err(StoreError::Refused { .. })));
        let mut steps = applied(1);
        steps[0].number = 2;
        assert!(matches!(check(&steps), Err(StoreError::Corrupt { .. })));
    }

    #[test]
    fn no_step_changes_once_it_is_in_databases() {
        let expected = ["2e2df6a72c5bc4467410d79dd1b2800cbc5fa35353f0d65e10845d994b0a0f8b"];
        let checksums: Vec<_> = STEPS.iter().map(Step::checksum).collect();
        assert_eq!(checksums, expected);
    }
}
