//! What does the store keep that nobody will ask for any more? Sessions and revocations that are over, and the oldest of what was done.
//!
//! Never decided here what is over: the store's own clock says so.

use std::sync::Arc;
use std::time::Duration;

use store::{Store, StoreError};

use crate::Shared;
use crate::statistics::{Membership, membership};

/// Between two rounds of a process. What several of them remove at once is removed once.
const ROUND: Duration = Duration::from_secs(3600);

/// Entries of the audit that are kept: months of a busy cluster, and some tens of MiB.
const AUDIT_ENTRIES_MAX: u64 = 100_000;

/// Removes it every now and then, for as long as the process lives.
pub(crate) async fn rounds(shared: Arc<Shared>) {
    loop {
        tokio::time::sleep(ROUND).await;
        if let Membership::Member { store, .. } = membership(&shared)
            && let Err(error) = tidy(&store).await
        {
            // The next round makes up for it.
            tracing::debug!("the store is not tidied: {error}");
        }
    }
}

async fn tidy(store: &Store) -> Result<(), StoreError> {
    let over = store.sweep().await?;
    let oldest = store.trim_audit(AUDIT_ENTRIES_MAX).await?;
    if over + oldest > 0 {
        tracing::info!(
            "removed from the store: {over} sessions and revocations that are over, {oldest} old entries of the audit"
        );
    }
    Ok(())
}
