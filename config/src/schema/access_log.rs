//! What may be said of an access log?
//!
//! Nothing here opens a file: that is done when the process starts, and when a configuration is applied.

use schemars::JsonSchema;
use serde::Serialize;

use super::text::UnixMode;
use crate::value::share::Share;

/// Where the exchanges of listeners and channels that name it are written down, a line each; see docs/access-log.md.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct AccessLog {
    /// Where its lines go: `file:PATH`, `stdout`, `syslog:udp:HOST:PORT` or `syslog:unix:PATH` (RFC 5424).
    #[schemars(example = &"file:/var/log/corelane/access.log")]
    pub to: String,
    /// What a line says: `common`, `combined`, `json`, or a text in which `${NAME}` stands for a field, `${request.NAME}` and
    /// `${answer.NAME}` for the value of a field line.
    #[schemars(default = "format_default", example = &"${time} ${client} ${method} ${path} ${status} ${total_us}")]
    pub format: String,
    /// What `json` writes, by name; what is most asked for if it is left out.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(default, length(min = 1), extend("examples" = [["time", "client", "method", "path", "status", "request.x-tenant"]]))]
    pub fields: Vec<String>,
    /// How many of the exchanges are written, chosen by chance. 0% to 100%.
    #[schemars(default = "sample_default", example = &"1%")]
    pub sample: Share,
    /// Exchanges that are written whatever `sample` says: those that end in `faults`, those answered `4xx` or `5xx`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(default, length(min = 1), extend("examples" = [["faults", "5xx"]]))]
    pub always: Vec<String>,
    /// What is written as `***`: `query` for all queries, `query.NAME` for the values of a parameter, `request.NAME` and
    /// `answer.NAME` for a field line.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(default, length(min = 1), extend("examples" = [["query.token", "request.authorization"]]))]
    pub mask: Vec<String>,
    /// Permissions of a file that is made, in octal, `"0640"` if left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(default, with = "UnixMode", example = &"0600")]
    pub mode: Option<UnixMode>,
    /// Facility of `syslog`: `kern`, `user`, `mail`, `daemon`, `auth`, `syslog`, `lpr`, `news`, `uucp`, `cron`, `authpriv`, `ftp` or `local0` to
    /// `local7`; `local0` if left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(default, with = "String", example = &"local3")]
    pub facility: Option<String>,
    /// Severity of `syslog`: `emerg`, `alert`, `crit`, `err`, `warning`, `notice`, `info` or `debug`; `info` if left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(default, with = "String", example = &"notice")]
    pub severity: Option<String>,
    /// What `syslog` knows the program by: 1 to 48 printable characters, `corelane` if left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(default, with = "String", example = &"gateway")]
    pub app_name: Option<String>,
}

pub(crate) fn format_default() -> String {
    "combined".to_owned()
}

pub(crate) fn sample_default() -> Share {
    Share::from_percent(100)
}

pub(crate) fn facility_default() -> String {
    "local0".to_owned()
}

pub(crate) fn severity_default() -> String {
    "info".to_owned()
}

pub(crate) fn app_name_default() -> String {
    "corelane".to_owned()
}
