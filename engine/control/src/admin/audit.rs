//! Who changed what, and what came of it? Every change that a route makes, one entry each, in the store that all processes share.
//!
//! Never makes a request wait, and never loses an entry without a line in the log.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use serde::Serialize;
use serde_json::json;
use store::{AuditEntry, AuditFilter, AuditRow, StoreError};
use tokio::sync::mpsc;
use utoipa::ToSchema;

use super::AppState;
use super::extract::{Query, number};
use super::refusal::Refusal;
use crate::Shared;
use crate::statistics::{Membership, STORE_PATIENCE, membership};

/// Entries that wait for the store; those that come beyond are in the log alone.
const WAITING_MAX: usize = 1_024;

/// Entries that the store keeps. A busy cluster changes a hundred things a day: that is years.
const KEPT_MAX: u64 = 100_000;

/// The oldest are looked for each time that so many have been added by one process.
const TRIM_EVERY: u64 = 1_000;

/// Pause before a store that is away is asked again.
const AGAIN_AFTER: Duration = Duration::from_secs(1);

/// Entries that one answer holds at most.
pub(super) const PAGE_MAX: u64 = 1_000;

/// Where entries wait until they are in the store.
#[derive(Debug)]
pub(crate) struct Audit {
    entries: mpsc::Sender<AuditEntry>,
    /// Taken by [`write`], once.
    waiting: Mutex<Option<mpsc::Receiver<AuditEntry>>>,
}

impl Default for Audit {
    fn default() -> Self {
        let (entries, waiting) = mpsc::channel(WAITING_MAX);
        Self { entries, waiting: Mutex::new(Some(waiting)) }
    }
}

/// Writes down a change that was asked for.
pub(super) fn note(shared: &Shared, who: &str, operation: &str, path: &str, status: StatusCode) {
    let outcome = if status.is_success() { "done" } else { "refused" };
    tracing::info!("audit: {who}: {operation} {path}: {outcome} ({})", status.as_u16());
    let (node, process) = match membership(shared) {
        Membership::Alone => return,
        Membership::Away => (Some(shared.live().snapshot.node.clone()), None),
        Membership::Member { process, node, .. } => (Some(node), Some(process)),
    };
    let entry = AuditEntry {
        actor: who.to_owned(),
        action: operation.to_owned(),
        subject: path.to_owned(),
        node,
        process,
        address: None,
        outcome: outcome.to_owned(),
        details: json!({ "status": status.as_u16() }),
    };
    // Full: the store has been away for long, and the log has it.
    let _ = shared.audit.entries.try_send(entry);
}

/// Puts entries into the store, for as long as the process lives. One that is away is asked again: entries wait in their order.
pub(crate) async fn write(shared: Arc<Shared>) {
    let waiting = shared.audit.waiting.lock().unwrap_or_else(PoisonError::into_inner).take();
    let Some(mut entries) = waiting else { return };
    let mut written = 0;
    while let Some(entry) = entries.recv().await {
        loop {
            let Membership::Member { store, .. } = membership(&shared) else {
                tokio::time::sleep(AGAIN_AFTER).await;
                continue;
            };
            match store.add_audit(&entry).await {
                Ok(_) => break,
                Err(StoreError::Unavailable { .. }) => tokio::time::sleep(AGAIN_AFTER).await,
                Err(error) => {
                    tracing::warn!("audit: not in the store: {error}");
                    break;
                }
            }
        }
        written += 1;
        if written % TRIM_EVERY == 0
            && let Membership::Member { store, .. } = membership(&shared)
        {
            // Not done now, it is done with the next thousand.
            let _ = store.trim_audit(KEPT_MAX).await;
        }
    }
}

/// Entries, the newest first.
#[derive(Serialize, ToSchema)]
pub(super) struct AuditPage {
    entries: Vec<AuditView>,
    /// What `before` is to be for the entries that follow; nothing at the end.
    before: Option<u64>,
}

/// What somebody changed, or tried to.
#[derive(Serialize, ToSchema)]
struct AuditView {
    /// Counts all entries.
    id: u64,
    /// Unix milliseconds by the store's clock.
    at: u64,
    actor: String,
    /// The operation's name in this document, or what else was done.
    action: String,
    subject: String,
    node: Option<String>,
    process: Option<String>,
    address: Option<String>,
    outcome: String,
    details: serde_json::Value,
}

impl From<AuditRow> for AuditView {
    fn from(AuditRow { id, at, entry }: AuditRow) -> Self {
        Self {
            id,
            at: at.0,
            actor: entry.actor,
            action: entry.action,
            subject: entry.subject,
            node: entry.node,
            process: entry.process,
            address: entry.address,
            outcome: entry.outcome,
            details: entry.details,
        }
    }
}

/// `GET /audit`.
pub(super) async fn show(State(shared): AppState, query: Query) -> Result<Json<AuditPage>, Refusal> {
    let [actor, action, subject, node, limit, before] =
        query.only(["actor", "action", "subject", "node", "limit", "before"])?;
    let limit = number("limit", limit, 1..=PAGE_MAX, 100)?;
    let before =
        before.map(|before| number("before", Some(before), 1..=u64::from(u32::MAX), 0)).transpose()?;
    let text = |value: Option<&str>| value.map(str::to_owned);
    let filter =
        AuditFilter { actor: text(actor), action: text(action), subject: text(subject), node: text(node) };
    let Some(cluster) = shared.cluster() else {
        return Err(Refusal::new(StatusCode::NOT_FOUND, "this process belongs to no cluster")
            .help("what it changed is in its log, in lines that begin with `audit`"));
    };
    let store = cluster.store().map_err(|_| away())?;
    let asked = store.audit(&filter, limit as u32, before);
    let rows =
        tokio::time::timeout(STORE_PATIENCE, asked).await.ok().and_then(Result::ok).ok_or_else(away)?;
    let is_full = rows.len() as u64 == limit;
    let entries: Vec<AuditView> = rows.into_iter().map(AuditView::from).collect();
    let before = entries.last().filter(|_| is_full).map(|entry| entry.id);
    Ok(Json(AuditPage { entries, before }))
}

fn away() -> Refusal {
    Refusal::new(StatusCode::SERVICE_UNAVAILABLE, "the store does not answer")
        .help("everything is served as before; what is changed meanwhile is in the log")
}
