//! What may our own error answers be made to say?
//!
//! Never takes a page that could not be sent as it stands.

use std::num::ParseIntError;

use thiserror::Error;

use super::fields::Fields;
use crate::schema::page::{ErrorPage, ErrorPages};
use crate::value::{Refusal, field};

/// Body of an answer of our own in bytes: it is held in memory and sent with its head.
pub(super) const BODY_BYTES_MAX: usize = 64 * 1024;

/// Why a name is no status of an error.
#[derive(Debug, Error)]
#[error("an error page is named by its status, 400 to 599")]
struct StatusError;

impl Refusal for StatusError {
    fn suggestion(&self) -> Option<String> {
        None
    }
}

pub(super) fn read_pages(fields: &mut Fields<'_>) -> ErrorPages {
    ErrorPages::new(fields.tables_by("error_page", parse_status, read_page))
}

/// One spelling for each, so that no status has two pages.
fn parse_status(name: &str) -> Result<u16, StatusError> {
    let status: Result<u16, ParseIntError> = name.parse();
    match status {
        Ok(status @ 400..=599) if name.len() == 3 => Ok(status),
        _ => Err(StatusError),
    }
}

fn read_page(fields: &mut Fields<'_>) -> ErrorPage {
    let content_type = |text: &str| field::check_content_type(text).map(|()| text.to_owned());
    let content_type = fields.parsed("content_type", content_type);
    match (fields.has("body"), fields.has("file")) {
        (true, true) => {
            let suggestion = Some("keep one of the two".to_owned());
            fields.error("file", "a page has either a body or a file", suggestion);
        }
        (false, false) => {
            let suggestion = Some("for example file = \"pages/502.html\"".to_owned());
            fields.error_here("a page has a body or a file, found neither", suggestion);
        }
        (true, false) | (false, true) => {}
    }
    let body = read_body(fields);
    let is_from_file = fields.is_given("file") && !fields.has("body");
    let file = is_from_file.then(|| fields.file("file", BODY_BYTES_MAX)).flatten();
    ErrorPage {
        content_type: content_type.unwrap_or_else(|| ErrorPage::default().content_type),
        body: file.unwrap_or(body),
    }
}

/// A body that is held in memory.
pub(super) fn read_body(fields: &mut Fields<'_>) -> String {
    let body = fields.text("body").unwrap_or_default();
    if body.len() > BODY_BYTES_MAX {
        fields.error("body", format!("at most {BODY_BYTES_MAX} bytes, found {}", body.len()), None);
    }
    body.to_owned()
}
