//! With which keys are TLS tickets sealed in a cluster? With those that all of its processes find in the store.
//!
//! Never without a key: while the store is away, or holds no secrets, a process goes on with what it has and makes its own.
//!
//! A key belongs to a *period* of the store's clock, as long as a key seals, and has the period's number for its name: of several
//! processes that make the same one at once, one does. The next period's is made ahead of time, so that everybody has it when it begins.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use store::{NewKey, Store, StoreError, UnixMillis};
use tls::tickets::{OPENS_FOR, SEALS_FOR, TicketKeys};

use crate::Shared;
use crate::statistics::{Membership, membership};

/// What the store calls them.
const KIND: &str = "tls_tickets";

/// Between two looks at the store, once it has answered: keys live for hours.
const ROUND: Duration = Duration::from_secs(30);

/// Until it has.
const FIRST_ROUND: Duration = Duration::from_millis(250);

/// How long before its period a key is made: longer than every process takes to find it.
const AHEAD: Duration = Duration::from_secs(10 * 60);

/// Looks after the keys of tickets for as long as the process lives.
pub(crate) async fn rounds(shared: Arc<Shared>) {
    let mut is_told = false;
    loop {
        let pause = match membership(&shared) {
            Membership::Alone => ROUND,
            Membership::Away => FIRST_ROUND,
            Membership::Member { store, .. } => {
                match share(&shared.live().certificates.ticket_keys(), &store).await {
                    Ok(()) => ROUND,
                    Err(error @ StoreError::Refused { .. }) => {
                        if !is_told && shared.live().certificates.has_tickets() {
                            tracing::warn!("TLS sessions are not resumed by other processes: {error}");
                            is_told = true;
                        }
                        ROUND
                    }
                    Err(_) => FIRST_ROUND,
                }
            }
        };
        // Whatever the store says: keys that are over are forgotten, and there is always one that seals.
        if let Err(error) = shared.live().certificates.ticket_keys().rotate(SystemTime::now()) {
            tracing::error!("the keys of TLS tickets stay as they are: {error}");
        }
        tokio::time::sleep(pause).await;
    }
}

/// Takes the cluster's keys, and makes those that are missing.
async fn share(own: &TicketKeys, store: &Store) -> Result<(), StoreError> {
    let now = Duration::from_millis(store.now().await?.0);
    let mut rows = store.keys(KIND).await?;
    let ahead = periods(now) + u64::from(periods(now + AHEAD) > periods(now));
    let missing: Vec<_> =
        (periods(now)..=ahead).filter(|period| rows.iter().all(|row| row.id != period.to_string())).collect();
    for period in &missing {
        match store.add_key(&made(*period)?).await {
            // Another process was first: its key is read below.
            Ok(()) | Err(StoreError::Conflict { .. }) => {}
            Err(error) => return Err(error),
        }
    }
    if !missing.is_empty() {
        rows = store.keys(KIND).await?;
    }
    let (over, live): (Vec<_>, Vec<_>) =
        rows.into_iter().partition(|row| row.retire_at.is_some_and(|at| at <= millis(now)));
    for row in over {
        store.remove_key(KIND, &row.id).await?;
    }
    // One that another version of this program has written is left to that.
    let keys: Vec<_> = live.iter().filter_map(|row| TicketKeys::import(&row.secret).ok()).collect();
    if let Some(all) = TicketKeys::of_all(&keys) {
        own.replace(&all);
    }
    Ok(())
}

/// Whole periods since 1970.
fn periods(time: Duration) -> u64 {
    time.as_secs() / SEALS_FOR.as_secs()
}

/// The key of a period.
fn made(period: u64) -> Result<NewKey, StoreError> {
    let begins = SEALS_FOR * u32::try_from(period).unwrap_or(u32::MAX);
    let key = TicketKeys::new(SystemTime::UNIX_EPOCH + begins);
    let key = key.map_err(|error| StoreError::Unavailable { cause: error.to_string() })?;
    Ok(NewKey {
        kind: KIND.to_owned(),
        id: period.to_string(),
        active_from: millis(begins),
        retire_at: Some(millis(begins + OPENS_FOR)),
        secret: key.export(),
    })
}

fn millis(time: Duration) -> UnixMillis {
    UnixMillis(time.as_millis() as u64)
}
