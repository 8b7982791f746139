//! What may become of a message's head on its way, and where may a client be sent?
//!
//! Never takes a change that could break the message, or a text that a request could break.

use proto::http1::edit::Wish;
use proto::http1::path::Replacement;

use super::fields::Fields;
use crate::schema::edits::{FieldTexts, HeadEdits, Redirect, Rewrite, redirect_status_default};
use crate::value::Refusal as _;
use crate::value::header;

/// Fields set, added or removed: more than any head of ours has.
const EDITS_MAX: usize = 64;

pub(super) fn read_head(fields: &mut Fields<'_>, is_request: bool) -> HeadEdits {
    let remove = fields.items_some("remove");
    let name = |text: &str| header::check_name(text, Wish::Remove, is_request).map(|()| text.to_owned());
    let edits = HeadEdits {
        set: read_texts(fields, "set", Wish::Set, is_request),
        add: read_texts(fields, "add", Wish::Add, is_request),
        remove: remove.iter().filter_map(|item| item.parsed(name)).collect(),
    };
    let count = edits.set.iter().len() + edits.add.iter().len() + edits.remove.len();
    if count > EDITS_MAX {
        fields.error_here(format!("at most {EDITS_MAX} changes are possible, found {count}"), None);
    }
    edits
}

fn read_texts(fields: &mut Fields<'_>, key: &'static str, wish: Wish, is_request: bool) -> FieldTexts {
    let name = |text: &str| header::check_name(text, wish, is_request).map(|()| text.to_owned());
    let texts = fields.texts(key, name).unwrap_or_default();
    for (name, value) in &texts {
        if let Err(refusal) = header::parse_value(name, value) {
            fields.error_below(&[key, name], &refusal, refusal.suggestion());
        }
    }
    FieldTexts(texts)
}

pub(super) fn read_redirect(fields: &mut Fields<'_>) -> Redirect {
    fields.require("to", "\"https://${host}${path}${query}\"");
    let status = fields.integer("status", 301..=308, redirect_status_default());
    // RFC 9110 §15.4.5 to §15.4.7: no redirection, deprecated, unused.
    if matches!(status, 304..=306) {
        let suggestion = Some("one of 301, 302, 303, 307, 308".to_owned());
        fields.error("status", format!("{status} sends nobody anywhere"), suggestion);
    }
    let to = fields.parsed("to", |text| header::parse_location(text).map(|_| text.to_owned()));
    Redirect { status, to: to.unwrap_or_default() }
}

pub(super) fn read_rewrite(fields: &mut Fields<'_>) -> Rewrite {
    let rewrite = Rewrite {
        strip_prefix: read_prefix(fields, "strip_prefix"),
        add_prefix: read_prefix(fields, "add_prefix"),
        path: fields.text("path").map(str::to_owned),
        to: fields.text("to").map(str::to_owned),
    };
    let has_prefix = fields.has("strip_prefix") || fields.has("add_prefix");
    match (has_prefix, fields.has("path"), fields.has("to")) {
        (false, false, false) => {
            let suggestion = Some("for example strip_prefix = \"/api\"".to_owned());
            fields.error_here("says nothing about the path", suggestion);
        }
        (true, true, _) | (true, _, true) => {
            let name = if fields.has("path") { "path" } else { "to" };
            let cause = "a path has its prefix changed or is replaced, not both";
            fields.error(name, cause, Some("keep one of the two".to_owned()));
        }
        (false, true, false) => fields.require("to", "\"/new/$1\""),
        (false, false, true) => fields.require("path", "\"^/old/(.*)$\""),
        (_, _, _) => {}
    }
    if let (Some(path), Some(to)) = (&rewrite.path, &rewrite.to) {
        check_replacement(fields, path, to);
    }
    rewrite
}

fn check_replacement(fields: &Fields<'_>, path: &str, to: &str) {
    use proto::http1::path::ReplacementError;
    if let Some(found) = to.chars().find(|c| !c.is_ascii_graphic() || matches!(c, '?' | '#' | '\\')) {
        // RFC 9112 §3.2: a request target holds none of these in its path.
        return fields.error("to", format!("{found:?} cannot stand in the path of a request"), None);
    }
    match Replacement::new(path, to) {
        Ok(_) => {}
        Err(ReplacementError::Pattern(message)) => {
            // The parser draws a picture of several lines; its last one says what is wrong.
            let last = message.lines().last().unwrap_or(&message).trim();
            let cause = last.strip_prefix("error: ").unwrap_or(last);
            fields.error("path", format!("not a regular expression: {cause}"), None);
        }
        Err(error) => fields.error("to", error, None),
    }
}

/// A prefix without its final slash.
fn read_prefix(fields: &mut Fields<'_>, name: &'static str) -> Option<String> {
    let path = super::channel::read_path(fields, name)?;
    Some(path.trim_end_matches('/').to_owned()).filter(|path| !path.is_empty()).or_else(|| {
        fields.error(name, "a prefix of nothing but slashes changes nothing", None);
        None
    })
}
