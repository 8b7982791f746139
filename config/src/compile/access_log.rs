//! What do access logs come to? Fields by number, and what each exchange has to keep for them.
//!
//! Never keeps a field line twice, however many logs want it.

use super::Names;
use crate::document::key::Key;
use crate::schema::access_log::{AccessLog as Written, app_name_default, facility_default, severity_default};
use crate::schema::{Channel, Config, Listener};
use crate::snapshot::access_log::{
    AccessLog, AccessLogId, AccessLogs, Always, Layout, LogDaemon, LogField, LogMask, LogPart, LogSet,
    LogSetId, LogTarget, NOTED_MAX, NotedField, NotedId, Side,
};
use crate::value::log_format::{self, FACILITIES, Goal, Masked, Named, Piece, SEVERITIES};

/// Permissions of a file that is made: its owner writes, its group reads.
const MODE_DEFAULT: u32 = 0o640;

/// What is gathered while logs are compiled.
#[derive(Default)]
pub(super) struct Gathered {
    noted: Vec<NotedField>,
    logs: Vec<AccessLog>,
    sets: Vec<LogSet>,
    /// The log of spans, which everybody has.
    spans: Option<AccessLogId>,
}

impl Gathered {
    /// All logs. A name that a listener or channel has for one is looked up later.
    pub(super) fn of(config: &Config, names: &Names<'_>) -> Option<Self> {
        let mut gathered = Self::default();
        let mut is_whole = true;
        for (name, log) in config.access_log.iter() {
            match gathered.compile(name, log, names) {
                Some(log) => gathered.logs.push(log),
                None => is_whole = false,
            }
        }
        if let Some(collector) = &config.telemetry.otlp {
            gathered.spans = u16::try_from(gathered.logs.len()).ok().map(AccessLogId);
            gathered.logs.push(spans(collector));
        }
        is_whole.then_some(gathered)
    }

    pub(super) fn finish(self) -> AccessLogs {
        AccessLogs { logs: self.logs.into(), noted: self.noted.into(), sets: self.sets.into() }
    }

    /// The logs that a listener names; the inner `None` for none.
    pub(super) fn of_listener(
        &mut self,
        name: &str,
        listener: &Listener,
        names: &Names<'_>,
    ) -> Option<Option<LogSetId>> {
        self.set(&listener.access_log, &Key::of(["listener", name, "access_log"]), names)
    }

    /// The logs that a channel names, in place of its listener's.
    pub(super) fn of_channel(
        &mut self,
        name: &str,
        channel: &Channel,
        names: &Names<'_>,
    ) -> Option<Option<Option<LogSetId>>> {
        let Some(logs) = &channel.access_log else { return Some(None) };
        self.set(logs, &Key::of(["channel", name, "access_log"]), names).map(Some)
    }

    /// Equal sets are one.
    fn set(&mut self, written: &[String], key: &Key, names: &Names<'_>) -> Option<Option<LogSetId>> {
        let mut ids = Vec::new();
        let mut is_whole = true;
        for name in written {
            match names.access_log(name, key) {
                Some(id) => ids.push(id),
                None => is_whole = false,
            }
        }
        if !is_whole {
            return None;
        }
        ids.extend(self.spans);
        if ids.is_empty() {
            return Some(None);
        }
        let wanted =
            |id: &AccessLogId| self.logs.get(usize::from(id.0)).into_iter().flat_map(AccessLog::fields);
        let fields: Vec<LogField> = ids.iter().flat_map(wanted).collect();
        let noted = |side: Side| -> Box<[NotedId]> {
            let of_side = (0..).map(NotedId).zip(&self.noted).filter(|(_, field)| field.side == side);
            of_side.map(|(id, _)| id).filter(|id| fields.contains(&LogField::Noted(*id))).collect()
        };
        let set = LogSet {
            logs: ids.into(),
            request_fields: noted(Side::Request),
            answer_fields: noted(Side::Answer),
            wants_request_id: fields.contains(&LogField::RequestId),
            wants_tls: fields.iter().any(|field| field.is_of_tls()),
        };
        let index = self.sets.iter().position(|other| *other == set).unwrap_or_else(|| {
            self.sets.push(set);
            self.sets.len() - 1
        });
        u16::try_from(index).ok().map(|index| Some(LogSetId(index)))
    }

    fn compile(&mut self, name: &str, log: &Written, names: &Names<'_>) -> Option<AccessLog> {
        let key = Key::of(["access_log", name]);
        let layout = if log.format == "json" {
            let own: Vec<&str> = log_format::json_default().collect();
            let listed: Vec<&str> = log.fields.iter().map(String::as_str).collect();
            let members = if listed.is_empty() { own } else { listed };
            let member = |name: &str| {
                Some((
                    format!(",\"{name}\":").into(),
                    self.field(&log_format::parse_field(name).ok()?, &key, names)?,
                ))
            };
            Layout::Json(members.into_iter().map(member).collect::<Option<_>>()?)
        } else {
            let pieces = log_format::parse_text(&log.format).ok()?;
            let part = |piece| {
                Some(match piece {
                    Piece::Text(text) => LogPart::Text(text.into()),
                    Piece::Field(field) => LogPart::Field(self.field(&field, &key, names)?),
                })
            };
            Layout::Text(pieces.into_iter().map(part).collect::<Option<_>>()?)
        };
        let is_always = |name: &str| log.always.iter().any(|always| always == name);
        Some(AccessLog {
            name: name.to_owned(),
            target: target(log, names)?,
            layout,
            // The reader takes no more than all.
            sample_percent: u8::try_from(log.sample.percent()).unwrap_or(100),
            always: Always {
                faults: is_always("faults"),
                client_errors: is_always("4xx"),
                server_errors: is_always("5xx"),
            },
            mask: self.mask(log),
        })
    }

    fn field(&mut self, field: &Named, key: &Key, names: &Names<'_>) -> Option<LogField> {
        let (side, name) = match field {
            Named::Own(field) => return Some(*field),
            Named::Line(side, name) => (*side, name),
        };
        let is_it = |noted: &NotedField| noted.side == side && *noted.name == **name;
        if let Some(index) = self.noted.iter().position(is_it) {
            return u8::try_from(index).ok().map(NotedId).map(LogField::Noted);
        }
        if self.noted.len() >= NOTED_MAX {
            let cause = format!("all access logs together write at most {NOTED_MAX} field lines");
            names.report.error(key, cause, None);
            return None;
        }
        self.noted.push(NotedField { side, name: name.as_str().into() });
        u8::try_from(self.noted.len() - 1).ok().map(NotedId).map(LogField::Noted)
    }

    /// What a log masks; a field line that no log writes needs none.
    fn mask(&self, log: &Written) -> LogMask {
        let masked: Vec<Masked> =
            log.mask.iter().filter_map(|name| log_format::parse_mask(name).ok()).collect();
        let noted = (0..)
            .map(NotedId)
            .zip(&self.noted)
            .filter(|(_, field)| masked.contains(&Masked::Line(field.side, field.name.to_string())));
        LogMask {
            query: masked.contains(&Masked::Query),
            parameters: (masked.iter())
                .filter_map(|masked| match masked {
                    Masked::Parameter(name) => Some(name.as_str().into()),
                    Masked::Query | Masked::Line(..) => None,
                })
                .collect(),
            noted: noted.map(|(id, _)| id).collect(),
        }
    }
}

fn target(log: &Written, names: &Names<'_>) -> Option<LogTarget> {
    let daemon = match log_format::parse_goal(&log.to).ok()? {
        Goal::File(path) => {
            let mode = log.mode.map_or(MODE_DEFAULT, |mode| mode.0);
            return Some(LogTarget::File { path: names.file(path)?.into(), mode });
        }
        Goal::Stdout => return Some(LogTarget::Stdout),
        Goal::Udp(daemon) => LogDaemon::Udp(daemon.into()),
        Goal::Unix(path) => LogDaemon::Unix(names.file(path)?.into()),
    };
    let code = |known: &[(&str, u8)], word: &str| {
        known.iter().find(|(name, _)| *name == word).map(|(_, code)| *code)
    };
    let facility = code(&FACILITIES, log.facility.as_deref().unwrap_or(&facility_default()))?;
    let severity = code(&SEVERITIES, log.severity.as_deref().unwrap_or(&severity_default()))?;
    Some(LogTarget::Syslog {
        daemon,
        // RFC 5424 §6.2.1.
        priority: facility * 8 + severity,
        app_name: log.app_name.clone().unwrap_or_else(app_name_default).into(),
    })
}

/// What sampled exchanges are written by; no line has its name.
fn spans(collector: &str) -> AccessLog {
    AccessLog {
        name: "otlp".to_owned(),
        target: LogTarget::Otlp { collector: collector.into() },
        layout: Layout::Text(Box::default()),
        sample_percent: 100,
        always: Always::default(),
        mask: LogMask::default(),
    }
}
