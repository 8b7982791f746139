//! What may an access log be told?
//!
//! Never opens its file: whether it can be written is found out at start.

use super::fields::Fields;
use crate::schema::access_log::{AccessLog, format_default, sample_default};
use crate::suggest;
use crate::value::log_format::{
    self, FACILITIES, Goal, Masked, Named, Piece, SEVERITIES, is_secret, line_name,
};
use crate::value::share::Share;
use crate::value::unix;

/// What `always` knows.
const ALWAYS: [&str; 3] = ["faults", "4xx", "5xx"];

/// RFC 5424 §6: of PRINTUSASCII.
const APP_NAME_BYTES_MAX: usize = 48;

pub(super) fn read(fields: &mut Fields<'_>) -> Option<AccessLog> {
    fields.require("to", "\"file:/var/log/corelane/access.log\"");
    let to = fields.text("to");
    let goal = to.and_then(|to| match log_format::parse_goal(to) {
        Ok(goal) => Some(goal),
        Err(refusal) => {
            fields.refuse("to", &refusal);
            None
        }
    });
    if let Some(Goal::File(path)) = goal {
        fields.check_place("to", path);
    }
    let format = fields.text("format").map_or_else(format_default, str::to_owned);
    let mut named = Vec::new();
    if format == "json" {
        named.extend(log_format::json_default().filter_map(|name| log_format::parse_field(name).ok()));
    } else {
        match log_format::parse_text(&format) {
            Ok(pieces) => named.extend(pieces.into_iter().filter_map(|piece| match piece {
                Piece::Field(field) => Some(field),
                Piece::Text(_) => None,
            })),
            Err(refusal) => fields.refuse("format", &refusal),
        }
    }
    let listed = fields.items_some("fields");
    if !listed.is_empty() {
        named.clear();
        if format != "json" {
            fields.error(
                "fields",
                "means nothing but with format = \"json\"",
                Some("leave it out".to_owned()),
            );
        }
    }
    let mut written: Vec<String> = Vec::new();
    for item in &listed {
        let Some(field) = item.parsed(log_format::parse_field) else { continue };
        let Some(name) = item.text() else { continue };
        if written.iter().any(|other| other == name) {
            item.report.error(&item.key, format!("{name:?} is listed twice"), None);
        }
        written.push(name.to_owned());
        named.push(field);
    }
    let mask = fields.items_some("mask");
    let masked: Vec<Masked> = mask.iter().filter_map(|item| item.parsed(log_format::parse_mask)).collect();
    for field in &named {
        if let Named::Line(side, name) = field
            && is_secret(*side, name)
            && !masked.contains(&Masked::Line(*side, name.clone()))
        {
            let key = if listed.is_empty() { "format" } else { "fields" };
            let line = line_name(*side, name);
            fields.error(
                key,
                format!("{line} would write a secret out"),
                Some(format!("leave it out, or add {line:?} to mask: it is written as *** then")),
            );
        }
    }
    let log = AccessLog {
        to: to.unwrap_or_default().to_owned(),
        format,
        fields: written,
        sample: fields.share("sample", Share::from_percent(0)..=Share::from_percent(100), sample_default()),
        always: read_always(fields),
        mask: mask.iter().filter_map(|item| item.text().map(str::to_owned)).collect(),
        mode: fields.parsed("mode", unix::parse_mode),
        facility: read_word(fields, "facility", &FACILITIES),
        severity: read_word(fields, "severity", &SEVERITIES),
        app_name: read_app_name(fields),
    };
    if let Some(goal) = goal {
        check_goal(fields, &goal);
    }
    Some(log)
}

/// Keys that mean something for one kind of place alone.
fn check_goal(fields: &Fields<'_>, goal: &Goal<'_>) {
    let is_syslog = matches!(goal, Goal::Udp(_) | Goal::Unix(_));
    let of_syslog = ["facility", "severity", "app_name"].into_iter().filter(|_| !is_syslog);
    let of_file = ["mode"].into_iter().filter(|_| !matches!(goal, Goal::File(_)));
    for key in of_syslog.chain(of_file).filter(|key| fields.has(key)) {
        let kind = if key == "mode" { "file:PATH" } else { "syslog" };
        fields.error(key, format!("means nothing but for {kind}"), Some("leave it out".to_owned()));
    }
}

fn read_always(fields: &mut Fields<'_>) -> Vec<String> {
    let items = fields.items_some("always");
    let known = |item: &super::fields::Item<'_>| {
        let text = item.text()?;
        if ALWAYS.contains(&text) {
            return Some(text.to_owned());
        }
        let suggestion = suggest::did_you_mean(text, ALWAYS).or_else(|| suggest::one_of(ALWAYS));
        item.report.error(&item.key, format!("nothing is called {text:?} here"), suggestion);
        None
    };
    items.iter().filter_map(known).collect()
}

fn read_word(fields: &mut Fields<'_>, name: &'static str, known: &[(&str, u8)]) -> Option<String> {
    let text = fields.text(name)?;
    if known.iter().any(|(word, _)| *word == text) {
        return Some(text.to_owned());
    }
    let words = known.iter().map(|(word, _)| *word);
    let suggestion = suggest::did_you_mean(text, words.clone()).or_else(|| suggest::one_of(words));
    fields.error(name, format!("unknown {name} {text:?}"), suggestion);
    None
}

fn read_app_name(fields: &mut Fields<'_>) -> Option<String> {
    let name = fields.text("app_name")?;
    if name.is_empty() || name.len() > APP_NAME_BYTES_MAX || !name.bytes().all(|byte| byte.is_ascii_graphic())
    {
        let cause = format!("must be 1 to {APP_NAME_BYTES_MAX} printable characters, found {name:?}");
        fields.error("app_name", cause, None);
    }
    Some(name.to_owned())
}

/// Which logs a listener or a channel names.
pub(super) fn read_names(fields: &mut Fields<'_>) -> Vec<String> {
    let items = fields.one_or_many_or_none("access_log");
    let mut names: Vec<String> = Vec::new();
    for item in items {
        let Some(name) = item.text() else { continue };
        if names.iter().any(|other| other == name) {
            item.report.error(&item.key, format!("{name:?} is listed twice"), None);
            continue;
        }
        names.push(name.to_owned());
    }
    names
}
