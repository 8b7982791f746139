//! How is the program replaced by whoever asks the admin listener? As by SIGUSR2, with an answer.
//!
//! Never an answer before it is known what came of it.

use axum::Json;
use axum::extract::{Extension, State};
use axum::http::StatusCode;

use super::AppState;
use super::refusal::Refusal;
use crate::connections::Patience;
use crate::takeover::successor::UpgradeError;
use crate::upgrade::Upgraded;

/// `POST /process/upgrade`: 200 once another process serves, 422 if this one goes on.
pub(super) async fn upgrade(
    State(shared): AppState,
    patience: Option<Extension<Patience>>,
) -> Result<Json<Upgraded>, Refusal> {
    if let Some(Extension(patience)) = patience {
        patience.grant(shared.live().snapshot.process.upgrade_timeout);
    }
    shared.upgrade().await.map(Json).map_err(|error| {
        let status = match error {
            UpgradeError::UnderWay | UpgradeError::Draining | UpgradeError::FirstProcess => {
                StatusCode::CONFLICT
            }
            _ => StatusCode::UNPROCESSABLE_ENTITY,
        };
        Refusal::new(status, error.to_string()).help("this process goes on as before")
    })
}
