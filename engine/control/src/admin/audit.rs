//! Who changed what, and what came of it? Every change that a route makes, one entry each.
//!
//! Never makes a request wait, and never loses an entry without a line in the log.

use axum::http::StatusCode;

use crate::Shared;

/// Writes down a change that was asked for.
pub(super) fn note(_shared: &Shared, who: &str, operation: &str, path: &str, status: StatusCode) {
    let outcome = if status.is_success() { "done" } else { "refused" };
    tracing::info!("audit: {who}: {operation} {path}: {outcome} ({})", status.as_u16());
}
