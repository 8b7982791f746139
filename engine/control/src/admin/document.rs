//! What is there to be asked, for programs? The table of routes as OpenAPI 3.1.
//!
//! Never written by hand: what the document says is what the routes are.

use std::sync::Arc;

use axum::Extension;
use axum::http::header;
use axum::response::IntoResponse;
use utoipa::openapi::schema::{ObjectBuilder, Type};
use utoipa::openapi::{RefOr, Schema};
use utoipa::{PartialSchema, ToSchema};

use super::table::Table;

/// The document, written out once.
#[derive(Clone, Debug)]
pub(super) struct Document(pub(super) Arc<str>);

impl Document {
    /// What this table says.
    pub(super) fn of(table: &Table, version: &str) -> Self {
        // Maps with text as keys: nothing here can fail to be written.
        Self(table.document(version).to_json().unwrap_or_default().into())
    }
}

impl PartialSchema for Document {
    fn schema() -> RefOr<Schema> {
        ObjectBuilder::new().schema_type(Type::Object).into()
    }
}

impl ToSchema for Document {}

/// `GET /openapi.json`.
pub(super) async fn show(Extension(Document(text)): Extension<Document>) -> impl IntoResponse {
    ([(header::CONTENT_TYPE, "application/json")], text.to_string())
}
