//! Which exchanges are written down, where, and what of them? Access logs as cores and their writers read them.
//!
//! Nothing here is looked up by name while an exchange runs: what a field stands for was found when the configuration was read.

use std::path::Path;
use std::sync::Arc;

/// Index of a log in [`AccessLogs::logs`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct AccessLogId(pub u16);

/// Index of a set in [`AccessLogs::sets`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct LogSetId(pub u16);

/// Index of a field line in [`AccessLogs::noted`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct NotedId(pub u8);

/// Field lines that all logs together may want: their ids are a byte wide, and a record has a bound.
pub const NOTED_MAX: usize = 32;

/// All access logs of a configuration.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AccessLogs {
    /// By [`AccessLogId`].
    pub logs: Box<[AccessLog]>,
    /// Field lines that some log wants, each once, by [`NotedId`].
    pub noted: Box<[NotedField]>,
    /// Logs that are written together, by [`LogSetId`].
    pub sets: Box<[LogSet]>,
}

/// One log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AccessLog {
    /// Name in the configuration, `[access_log.NAME]`.
    pub name: String,
    /// Where its lines go.
    pub target: LogTarget,
    /// What a line says.
    pub layout: Layout,
    /// How many of a hundred exchanges are written.
    pub sample_percent: u8,
    /// Which are written whatever `sample_percent` says.
    pub always: Always,
    /// What is not to be read in it.
    pub mask: LogMask,
}

/// Where the lines of a log go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LogTarget {
    /// To the end of a file.
    File {
        /// Where it is.
        path: Arc<Path>,
        /// Permissions that it is made with.
        mode: u32,
    },
    /// To standard output.
    Stdout,
    /// To a log daemon, as RFC 5424 has it.
    Syslog {
        /// Where it is.
        daemon: LogDaemon,
        /// Facility and severity, RFC 5424 §6.2.1.
        priority: u8,
        /// APP-NAME, §6.2.5.
        app_name: Box<str>,
    },
    /// Not lines, but spans, and only of exchanges whose trace is sampled: to a collector of traces.
    Otlp {
        /// Its URL, to which `/v1/traces` is added.
        collector: Arc<str>,
    },
}

/// How a log daemon is reached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LogDaemon {
    /// By UDP (RFC 5426), `HOST:PORT`.
    Udp(Box<str>),
    /// By a Unix socket, of datagrams or a stream.
    Unix(Arc<Path>),
}

/// What a line says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Layout {
    /// Text with places for fields.
    Text(Box<[LogPart]>),
    /// A JSON object with these members: how each begins, from the comma in front to the colon behind its name, and what it holds.
    /// Names need no escapes: letters, digits, and what tokens have, of which none is a quote.
    Json(Box<[(Box<str>, LogField)]>),
}

/// A piece of a line of text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LogPart {
    /// As it is written.
    Text(Box<str>),
    /// What the exchange puts in.
    Field(LogField),
}

/// Exchanges that are written whatever the sample.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Always {
    /// Those that end in a fault.
    pub faults: bool,
    /// Those answered 400 to 499.
    pub client_errors: bool,
    /// Those answered 500 to 599.
    pub server_errors: bool,
}

/// What is written as `***`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LogMask {
    /// All that follows the question mark of a target.
    pub query: bool,
    /// The values of these parameters of it, in small letters.
    pub parameters: Box<[Box<str>]>,
    /// The values of these field lines.
    pub noted: Box<[NotedId]>,
}

/// Whose field lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Side {
    /// The client's request, as received.
    Request,
    /// The answer, as sent.
    Answer,
}

/// A field line that is kept for a log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NotedField {
    /// Of which message.
    pub side: Side,
    /// Its name in small letters.
    pub name: Box<str>,
}

/// Logs that take the same exchanges, and what they want kept of each.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogSet {
    /// At least one.
    pub logs: Box<[AccessLogId]>,
    /// Field lines of requests.
    pub request_fields: Box<[NotedId]>,
    /// Field lines of answers.
    pub answer_fields: Box<[NotedId]>,
    /// Whether the id that the request goes by is wanted.
    pub wants_request_id: bool,
    /// Whether it is wanted what TLS agreed on, and with whom.
    pub wants_tls: bool,
}

/// What an exchange can put into a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum LogField {
    /// When it began, RFC 3339 in UTC with microseconds.
    Time,
    /// The same as the common format has it.
    TimeClf,
    /// The same in microseconds since 1970.
    TimeUs,
    /// The client's address; empty if it has none.
    Client,
    /// Its port.
    ClientPort,
    /// Name of the listener that it came in by.
    Listener,
    /// Name of the channel that took it.
    Channel,
    /// Name of the upstream that it went to.
    Upstream,
    /// Name of the endpoint that it went to last.
    Endpoint,
    /// `http`, `tunnel`, `tcp` or `tls`.
    Kind,
    /// The method.
    Method,
    /// The target as received.
    Target,
    /// Its path.
    Path,
    /// Its query with the question mark.
    Query,
    /// The client's version, such as `HTTP/1.1`.
    Protocol,
    /// Method, target and version.
    RequestLine,
    /// The host that was asked for.
    Host,
    /// `http` or `https`.
    Scheme,
    /// What was answered.
    Status,
    /// Bytes received from the client.
    BytesReceived,
    /// Bytes sent to it.
    BytesSent,
    /// Of those received, a body's.
    BodyBytesReceived,
    /// Of those sent, a body's.
    BodyBytesSent,
    /// The phases in microseconds.
    WaitUs,
    /// Likewise.
    ConnectUs,
    /// Likewise.
    FirstByteUs,
    /// Likewise.
    BodyUs,
    /// Likewise.
    TotalUs,
    /// Whether the client's connection has carried a request before.
    ClientReused,
    /// Whether the endpoint's has.
    EndpointReused,
    /// How often it was sent again.
    Retries,
    /// Name of the fault that it ended in.
    Fault,
    /// Such as `TLSv1.3`.
    TlsVersion,
    /// Such as `TLS13_AES_128_GCM_SHA256`.
    TlsCipher,
    /// The server name that the client asked for.
    TlsServerName,
    /// Whether a session was resumed.
    TlsResumed,
    /// Subject of the client's certificate.
    ClientCertificate,
    /// The id that the request goes by.
    RequestId,
    /// Of the trace that it is part of (W3C Trace Context).
    TraceId,
    /// Of this part.
    SpanId,
    /// Of the part that it follows from.
    ParentId,
    /// Whether the trace is sampled.
    TraceSampled,
    /// Number of the core that served it.
    Core,
    /// Number of the configuration that it was served by.
    Generation,
    /// A field line of its messages.
    Noted(NotedId),
}

impl LogField {
    /// All that have a name of their own, in the order in which JSON has them.
    pub const NAMES: [(&'static str, Self); 44] = [
        ("time", Self::Time),
        ("time_clf", Self::TimeClf),
        ("time_us", Self::TimeUs),
        ("kind", Self::Kind),
        ("client", Self::Client),
        ("client_port", Self::ClientPort),
        ("listener", Self::Listener),
        ("channel", Self::Channel),
        ("upstream", Self::Upstream),
        ("endpoint", Self::Endpoint),
        ("method", Self::Method),
        ("scheme", Self::Scheme),
        ("host", Self::Host),
        ("target", Self::Target),
        ("path", Self::Path),
        ("query", Self::Query),
        ("protocol", Self::Protocol),
        ("request_line", Self::RequestLine),
        ("status", Self::Status),
        ("fault", Self::Fault),
        ("bytes_received", Self::BytesReceived),
        ("bytes_sent", Self::BytesSent),
        ("body_bytes_received", Self::BodyBytesReceived),
        ("body_bytes_sent", Self::BodyBytesSent),
        ("wait_us", Self::WaitUs),
        ("connect_us", Self::ConnectUs),
        ("first_byte_us", Self::FirstByteUs),
        ("body_us", Self::BodyUs),
        ("total_us", Self::TotalUs),
        ("client_reused", Self::ClientReused),
        ("endpoint_reused", Self::EndpointReused),
        ("retries", Self::Retries),
        ("request_id", Self::RequestId),
        ("tls_version", Self::TlsVersion),
        ("tls_cipher", Self::TlsCipher),
        ("tls_server_name", Self::TlsServerName),
        ("tls_resumed", Self::TlsResumed),
        ("client_certificate", Self::ClientCertificate),
        ("trace_id", Self::TraceId),
        ("span_id", Self::SpanId),
        ("parent_id", Self::ParentId),
        ("trace_sampled", Self::TraceSampled),
        ("core", Self::Core),
        ("generation", Self::Generation),
    ];

    /// The field of this name.
    #[must_use]
    pub fn of(name: &str) -> Option<Self> {
        Self::NAMES.into_iter().find(|(known, _)| *known == name).map(|(_, field)| field)
    }

    /// Whether what TLS agreed on is to be kept for it.
    pub(crate) fn is_of_tls(self) -> bool {
        matches!(
            self,
            Self::TlsVersion
                | Self::TlsCipher
                | Self::TlsServerName
                | Self::TlsResumed
                | Self::ClientCertificate
        )
    }
}

impl AccessLog {
    /// Every field that a line of it has.
    pub fn fields(&self) -> impl Iterator<Item = LogField> {
        let (parts, members): (&[_], &[_]) = match &self.layout {
            Layout::Text(parts) => (parts, &[]),
            Layout::Json(members) => (&[], members),
        };
        let of_text = parts.iter().filter_map(|part| match part {
            LogPart::Text(_) => None,
            LogPart::Field(field) => Some(*field),
        });
        of_text.chain(members.iter().map(|(_, field)| *field))
    }
}
