//! How is a store opened? Probed for what would make it unsafe, brought to this program's shape, its hints listened to.

use std::time::Duration;

use crate::database::values;
use crate::error::StoreError;
use crate::migrate;
use crate::settings::{Place, StoreSettings};
use crate::{Inner, Store, postgres, sqlite};

impl Store {
    /// Opens a database, makes its tables if it is empty, and brings them up to date if an older program made them. Any number of
    /// processes may do so at once.
    ///
    /// # Errors
    /// - [`StoreError::Unavailable`]: no answer in time. Nothing is wrong with the settings as far as is known.
    /// - [`StoreError::Refused`]: a standby, a server older than PostgreSQL 12, a network's file system, a database of a newer program,
    ///   a wrong password, secrets sealed with another key.
    /// - [`StoreError::Corrupt`]: what is there is no database, or not whole.
    pub async fn open(settings: StoreSettings) -> Result<Self, StoreError> {
        let (database, warnings) = match &settings.url.place {
            Place::Sqlite(path) => (sqlite::connect(path, &settings).await?, Vec::new()),
            Place::Postgres(options) => {
                let database = postgres::connect(options, &settings)?;
                let warnings = postgres::probe(&database).await?;
                (database, warnings)
            }
        };
        if database.read_only {
            migrate::check_applied(&database).await?;
        } else {
            migrate::migrate(&database).await?;
        }
        if let Some(key) = &settings.key {
            let rows = database.rows("SELECT DISTINCT sealed_by FROM key", values![]).await?;
            for row in rows {
                let by = row.text("sealed_by")?;
                if by != key.id() {
                    return Err(key.other_key(&by));
                }
            }
        }
        let hints = postgres::Hints::listen(&settings);
        Ok(Self(std::sync::Arc::new(Inner { database, key: settings.key, warnings, hints })))
    }

    /// What an operator should know about the database though it can be used.
    #[must_use]
    pub fn warnings(&self) -> &[String] {
        &self.0.warnings
    }

    /// Completes when the database hints that something has changed since the last hint: [`Self::revisions`] says what. On SQLite it never
    /// does, and a hint may be lost on PostgreSQL too: look from time to time anyway. For one task: of several that wait, one is told.
    pub async fn changed(&self) {
        match &self.0.hints {
            Some(hints) => hints.next().await,
            None => std::future::pending().await,
        }
    }

    /// Gives connections back and closes them, within the store's time for one call. Calls that come later are
    /// [`StoreError::Unavailable`].
    pub async fn close(&self) {
        if let Some(hints) = &self.0.hints {
            hints.end();
        }
        // Whoever does not answer is hung up on when the process ends.
        drop(
            tokio::time::timeout(
                self.0.database.timeout.max(Duration::from_millis(1)),
                self.0.database.pool.close(),
            )
            .await,
        );
    }
}
