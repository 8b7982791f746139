//! What does a line of an access log say, and what is not to be read in it?
//!
//! Never takes a field that would write a secret out, unless it is masked.

use proto::http1::field::is_token;
use thiserror::Error;

use super::Refusal;
use crate::snapshot::access_log::{LogField, Side};
use crate::suggest;

/// The combined format adds what Apache's adds.
const COMMON: &str = "${client} - - [${time_clf}] \"${request_line}\" ${status} ${body_bytes_sent}";
const COMBINED_BEHIND: &str = " \"${request.referer}\" \"${request.user-agent}\"";

/// What JSON has unless it is told: all but what other fields say already.
const JSON_LEFT_OUT: [&str; 5] = ["time_clf", "time_us", "path", "query", "request_line"];
const JSON_NOTED: [&str; 2] = ["request.referer", "request.user-agent"];

/// Field lines that hold what lets somebody in.
const SECRETS: [(Side, &str); 4] = [
    (Side::Request, "authorization"),
    (Side::Request, "proxy-authorization"),
    (Side::Request, "cookie"),
    (Side::Answer, "set-cookie"),
];

/// Longest text around fields: a line is to fit into what log daemons take.
const TEXT_BYTES_MAX: usize = 4096;

/// A field as it is written: one with a name of its own, or a field line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Named {
    Own(LogField),
    Line(Side, String),
}

/// A piece of a format.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Piece {
    Text(String),
    Field(Named),
}

/// What is masked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Masked {
    Query,
    Parameter(String),
    Line(Side, String),
}

/// Why a format, a field or a mask was refused.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub(crate) enum LogFormatError {
    #[error("\"${{\" without a closing \"}}\"")]
    Unclosed,
    #[error("nothing is called {name:?} here")]
    Unknown { name: String },
    #[error("{name:?} is not the name of a field line")]
    NoFieldName { name: String },
    #[error("the format says the same for every exchange")]
    Fixed,
    #[error("unknown format {name:?}")]
    NoFormat { name: String },
    #[error("a line has no control characters, found {found:?}")]
    Control { found: char },
    #[error("at most {TEXT_BYTES_MAX} bytes are possible, found {len}")]
    TooLong { len: usize },
    #[error("{name:?} cannot be masked")]
    NoMask { name: String },
}

impl Refusal for LogFormatError {
    fn suggestion(&self) -> Option<String> {
        match self {
            Self::Unknown { name } => {
                let known = LogField::NAMES.iter().map(|(known, _)| *known);
                let other = "the fields are listed in docs/access-log.md; a field line is request.NAME or answer.NAME";
                suggest::did_you_mean(name, known).or_else(|| Some(other.to_owned()))
            }
            Self::NoFormat { name } => {
                let other = "common, combined, json, or a text with fields such as ${status}";
                suggest::did_you_mean(name, ["common", "combined", "json"]).or_else(|| Some(other.to_owned()))
            }
            Self::Fixed => Some("for example \"${client} ${status}\"".to_owned()),
            Self::NoMask { .. } => Some("query, query.NAME, request.NAME or answer.NAME".to_owned()),
            Self::Unclosed | Self::NoFieldName { .. } | Self::Control { .. } | Self::TooLong { .. } => None,
        }
    }
}

/// The pieces of a format other than JSON.
pub(crate) fn parse_text(format: &str) -> Result<Vec<Piece>, LogFormatError> {
    match format {
        "common" => return parse_pieces(COMMON),
        "combined" => return parse_pieces(&[COMMON, COMBINED_BEHIND].concat()),
        _ if !format.contains("${") && !format.contains(' ') && !format.is_empty() => {
            return Err(LogFormatError::NoFormat { name: format.to_owned() });
        }
        _ => {}
    }
    let pieces = parse_pieces(format)?;
    if pieces.iter().all(|piece| matches!(piece, Piece::Text(_))) {
        return Err(LogFormatError::Fixed);
    }
    Ok(pieces)
}

fn parse_pieces(format: &str) -> Result<Vec<Piece>, LogFormatError> {
    if format.len() > TEXT_BYTES_MAX {
        return Err(LogFormatError::TooLong { len: format.len() });
    }
    // A tab parts fields in many formats.
    if let Some(found) = format.chars().find(|c| c.is_control() && *c != '\t') {
        return Err(LogFormatError::Control { found });
    }
    let mut pieces = Vec::new();
    let mut rest = format;
    while let Some((before, reference)) = rest.split_once("${") {
        if !before.is_empty() {
            pieces.push(Piece::Text(before.to_owned()));
        }
        let (name, behind) = reference.split_once('}').ok_or(LogFormatError::Unclosed)?;
        pieces.push(Piece::Field(parse_field(name)?));
        rest = behind;
    }
    if !rest.is_empty() {
        pieces.push(Piece::Text(rest.to_owned()));
    }
    Ok(pieces)
}

/// A field by its name.
pub(crate) fn parse_field(name: &str) -> Result<Named, LogFormatError> {
    if let Some(line) = parse_line(name) {
        let (side, name) = line?;
        return Ok(Named::Line(side, name));
    }
    let unknown = || LogFormatError::Unknown { name: name.to_owned() };
    LogField::of(name).map(Named::Own).ok_or_else(unknown)
}

/// What `mask` says.
pub(crate) fn parse_mask(name: &str) -> Result<Masked, LogFormatError> {
    if let Some(line) = parse_line(name) {
        let (side, name) = line?;
        return Ok(Masked::Line(side, name));
    }
    match name.strip_prefix("query") {
        Some("") => Ok(Masked::Query),
        Some(rest) if rest.len() > 1 && rest.starts_with('.') => {
            Ok(Masked::Parameter(rest[1..].to_ascii_lowercase()))
        }
        _ => Err(LogFormatError::NoMask { name: name.to_owned() }),
    }
}

/// `request.NAME` or `answer.NAME`, if it is one of them.
fn parse_line(name: &str) -> Option<Result<(Side, String), LogFormatError>> {
    let (side, line) = if let Some(line) = name.strip_prefix("request.") {
        (Side::Request, line)
    } else {
        (Side::Answer, name.strip_prefix("answer.")?)
    };
    let refused = || LogFormatError::NoFieldName { name: line.to_owned() };
    Some(is_token(line.as_bytes()).then(|| (side, line.to_ascii_lowercase())).ok_or_else(refused))
}

/// The fields of JSON that is not told.
pub(crate) fn json_default() -> impl Iterator<Item = &'static str> {
    let own = LogField::NAMES.into_iter().map(|(name, _)| name);
    own.filter(|name| !JSON_LEFT_OUT.contains(name)).chain(JSON_NOTED)
}

/// The name under which a field is written.
pub(crate) fn line_name(side: Side, name: &str) -> String {
    match side {
        Side::Request => format!("request.{name}"),
        Side::Answer => format!("answer.{name}"),
    }
}

/// Whether a field line holds what lets somebody in.
pub(crate) fn is_secret(side: Side, name: &str) -> bool {
    SECRETS.contains(&(side, name))
}

/// Where a log goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Goal<'t> {
    File(&'t str),
    Stdout,
    Udp(&'t str),
    Unix(&'t str),
}

/// Why it goes nowhere.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub(crate) enum GoalError {
    #[error("a log goes to file:PATH, stdout, syslog:udp:HOST:PORT or syslog:unix:PATH, found {found:?}")]
    Unknown { found: String },
    #[error("the name of a file is missing")]
    NoPath,
    #[error("a log daemon is at HOST:PORT, found {found:?}")]
    NoDaemon { found: String },
    #[error("the path of a Unix socket begins with a slash, found {found:?}")]
    Relative { found: String },
}

impl Refusal for GoalError {
    fn suggestion(&self) -> Option<String> {
        match self {
            Self::Unknown { found } if found.contains('/') => Some(format!("did you mean \"file:{found}\"?")),
            Self::Unknown { found } => suggest::did_you_mean(found, ["stdout"]),
            Self::NoPath => Some("for example \"file:/var/log/corelane/access.log\"".to_owned()),
            Self::NoDaemon { .. } => Some("for example \"syslog:udp:127.0.0.1:514\"".to_owned()),
            Self::Relative { .. } => Some("for example \"syslog:unix:/dev/log\"".to_owned()),
        }
    }
}

/// What `to` says.
pub(crate) fn parse_goal(text: &str) -> Result<Goal<'_>, GoalError> {
    if text == "stdout" {
        return Ok(Goal::Stdout);
    }
    if let Some(path) = text.strip_prefix("file:") {
        return if path.is_empty() { Err(GoalError::NoPath) } else { Ok(Goal::File(path)) };
    }
    if let Some(daemon) = text.strip_prefix("syslog:udp:") {
        let is_good = daemon
            .rsplit_once(':')
            .is_some_and(|(host, port)| !host.is_empty() && port.parse::<u16>().is_ok_and(|port| port != 0));
        return if is_good {
            Ok(Goal::Udp(daemon))
        } else {
            Err(GoalError::NoDaemon { found: daemon.to_owned() })
        };
    }
    if let Some(path) = text.strip_prefix("syslog:unix:") {
        let is_good = path.len() > 1 && path.starts_with('/');
        return if is_good {
            Ok(Goal::Unix(path))
        } else {
            Err(GoalError::Relative { found: path.to_owned() })
        };
    }
    Err(GoalError::Unknown { found: text.to_owned() })
}

/// Facilities by their code, RFC 5424 §6.2.1; nobody's clock has the names of 12 to 15.
pub(crate) const FACILITIES: [(&str, u8); 20] = [
    ("kern", 0),
    ("user", 1),
    ("mail", 2),
    ("daemon", 3),
    ("auth", 4),
    ("syslog", 5),
    ("lpr", 6),
    ("news", 7),
    ("uucp", 8),
    ("cron", 9),
    ("authpriv", 10),
    ("ftp", 11),
    ("local0", 16),
    ("local1", 17),
    ("local2", 18),
    ("local3", 19),
    ("local4", 20),
    ("local5", 21),
    ("local6", 22),
    ("local7", 23),
];

/// Severities by their code, likewise.
pub(crate) const SEVERITIES: [(&str, u8); 8] = [
    ("emerg", 0),
    ("alert", 1),
    ("crit", 2),
    ("err", 3),
    ("warning", 4),
    ("notice", 5),
    ("info", 6),
    ("debug", 7),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_format_is_text_with_places_for_fields() {
        let own = |field| Piece::Field(Named::Own(field));
        let line = |name: &str| Piece::Field(Named::Line(Side::Request, name.to_owned()));
        let text = |text: &str| Piece::Text(text.to_owned());
        assert_eq!(
            parse_text("${client}\t[${request.X-Tenant}] $ {x}"),
            Ok(vec![own(LogField::Client), text("\t["), line("x-tenant"), text("] $ {x}")])
        );
        assert_eq!(parse_text("common").expect("known").len(), 9);
        let combined = parse_text("combined").expect("known");
        assert!(combined.contains(&line("user-agent")) && combined.contains(&line("referer")));
    }

    #[test]
    fn what_is_no_format_is_refused_with_what_was_meant() {
        let refused = [
            ("${statu}", "nothing is called \"statu\" here", Some("did you mean \"status\"?")),
            ("${status", "\"${\" without a closing \"}\"", None),
            ("combind", "unknown format \"combind\"", Some("did you mean \"combined\"?")),
            (
                "always the same",
                "the format says the same for every exchange",
                Some("for example \"${client} ${status}\""),
            ),
            ("${status}\n", "a line has no control characters, found '\\n'", None),
            ("${request.a b}", "\"a b\" is not the name of a field line", None),
        ];
        for (format, cause, suggestion) in refused {
            let refusal = parse_text(format).expect_err(format);
            assert_eq!((refusal.to_string().as_str(), refusal.suggestion().as_deref()), (cause, suggestion));
        }
    }

    #[test]
    fn a_log_goes_to_one_of_four_places() {
        assert_eq!(parse_goal("file:a/b.log"), Ok(Goal::File("a/b.log")));
        assert_eq!(parse_goal("stdout"), Ok(Goal::Stdout));
        assert_eq!(parse_goal("syslog:udp:[::1]:514"), Ok(Goal::Udp("[::1]:514")));
        assert_eq!(parse_goal("syslog:unix:/dev/log"), Ok(Goal::Unix("/dev/log")));
        let suggestion = |text| parse_goal(text).expect_err(text).suggestion();
        assert_eq!(suggestion("/var/log/a").as_deref(), Some("did you mean \"file:/var/log/a\"?"));
        assert_eq!(suggestion("stdot").as_deref(), Some("did you mean \"stdout\"?"));
        for text in [
            "file:",
            "syslog:udp:a",
            "syslog:udp::1",
            "syslog:udp:a:0",
            "syslog:unix:log",
            "syslog:unix:/",
            "",
        ] {
            assert!(parse_goal(text).is_err(), "{text}");
        }
    }

    #[test]
    fn every_field_has_one_name() {
        for (name, field) in LogField::NAMES {
            assert_eq!(parse_field(name), Ok(Named::Own(field)));
        }
        for name in json_default() {
            assert!(parse_field(name).is_ok(), "{name}");
        }
    }
}
