//! How does a record read as a line? Piece by piece, as its log wants it.
//!
//! Never a piece of memory for a line of its own: all lines of a page go into one buffer.

use std::net::IpAddr;

use config::snapshot::Snapshot;
use config::snapshot::access_log::{AccessLog, Layout, LogField, LogPart};
use proto::matching::without_port;
use proxy::access::record::{Kind, Marks, Record};
use proxy::outcome::Fault;
use rustls::CipherSuite;

use super::text::{Clock, push_escaped, push_json, push_masked};

/// What stands for something that is not there in a line of text, and for something that is not to be read.
const NOTHING: &[u8] = b"-";
const MASKED: &[u8] = b"***";

/// What an exchange that the end of the process cut off ended in.
const PROCESS_ENDED: &str = "process_ended";

/// Where lines are made. Kept from page to page, for its memory.
#[derive(Default)]
pub(super) struct Lines {
    clock: Clock,
    scratch: Vec<u8>,
    digits: itoa::Buffer,
}

/// What a field holds.
enum Value<'v> {
    Nothing,
    Number(u64),
    Flag(bool),
    Bytes(&'v [u8]),
}

impl Lines {
    /// Adds the line of a record to `out`, its end included.
    pub(super) fn push(
        &mut self,
        record: &Record<'_>,
        log: &AccessLog,
        snapshot: &Snapshot,
        generation: u64,
        out: &mut Vec<u8>,
    ) {
        let context = Context { record, log, snapshot, generation };
        match &log.layout {
            Layout::Text(parts) => {
                for part in parts {
                    match part {
                        LogPart::Text(text) => out.extend_from_slice(text.as_bytes()),
                        LogPart::Field(field) => self.push_text(&context, *field, out),
                    }
                }
            }
            Layout::Json(members) => {
                let start = out.len();
                for (beginning, field) in members {
                    self.push_member(&context, beginning.as_bytes(), *field, out);
                }
                match out.get_mut(start) {
                    // The comma in front of the first.
                    Some(first) => *first = b'{',
                    None => out.push(b'{'),
                }
                out.push(b'}');
            }
        }
        out.push(b'\n');
    }

    fn push_text(&mut self, context: &Context<'_>, field: LogField, out: &mut Vec<u8>) {
        match self.value(context, field) {
            Value::Nothing | Value::Bytes([]) => out.extend_from_slice(NOTHING),
            Value::Number(number) => out.extend_from_slice(itoa::Buffer::new().format(number).as_bytes()),
            Value::Flag(flag) => out.extend_from_slice(if flag { b"true" } else { b"false" }),
            Value::Bytes(bytes) => push_escaped(bytes, out),
        }
    }

    /// What is not there is left out.
    fn push_member(&mut self, context: &Context<'_>, beginning: &[u8], field: LogField, out: &mut Vec<u8>) {
        let value = self.value(context, field);
        if matches!(value, Value::Nothing) {
            return;
        }
        out.extend_from_slice(beginning);
        match value {
            Value::Nothing => {}
            Value::Number(number) => out.extend_from_slice(itoa::Buffer::new().format(number).as_bytes()),
            Value::Flag(flag) => out.extend_from_slice(if flag { b"true" } else { b"false" }),
            Value::Bytes(bytes) => push_json(bytes, out),
        }
    }

    fn value<'v>(&'v mut self, context: &Context<'v>, field: LogField) -> Value<'v> {
        let Context { record, snapshot, generation, .. } = *context;
        let numbers = &record.numbers;
        let is_http = matches!(numbers.kind, Kind::Http | Kind::Tunnel);
        let has_head = numbers.marks.has(Marks::HAS_HEAD);
        let number =
            |number: Option<u32>| number.map_or(Value::Nothing, |number| Value::Number(number.into()));
        let phase = |index: usize| number(numbers.phases_us[index]);
        let name = |name: Option<&'v str>| name.map_or(Value::Nothing, |name| Value::Bytes(name.as_bytes()));
        let bytes = |bytes: Option<&'v [u8]>| bytes.map_or(Value::Nothing, Value::Bytes);
        let of_head = |value| if has_head { Value::Bytes(value) } else { Value::Nothing };
        match field {
            LogField::Time => {
                self.scratch.clear();
                self.clock.push_rfc3339(numbers.began_us, &mut self.scratch);
                Value::Bytes(&self.scratch)
            }
            LogField::TimeClf => {
                self.scratch.clear();
                self.clock.push_clf(numbers.began_us, &mut self.scratch);
                Value::Bytes(&self.scratch)
            }
            LogField::TimeUs => Value::Number(numbers.began_us),
            LogField::Client if numbers.client.is_unspecified() => Value::Nothing,
            LogField::Client => self.address(numbers.client),
            LogField::ClientPort if numbers.client.is_unspecified() => Value::Nothing,
            LogField::ClientPort => Value::Number(numbers.client_port.into()),
            LogField::Listener => {
                name(snapshot.listeners.get(usize::from(numbers.listener)).map(|listener| &*listener.name))
            }
            LogField::Channel => {
                name(numbers.channel.and_then(|id| Some(&*snapshot.channels.get(usize::from(id))?.name)))
            }
            LogField::Upstream => {
                name(numbers.upstream.and_then(|id| Some(&*snapshot.upstreams.get(usize::from(id))?.name)))
            }
            LogField::Endpoint => bytes(record.endpoint()),
            LogField::Kind => Value::Bytes(numbers.kind.name().as_bytes()),
            LogField::Method => of_head(record.method()),
            LogField::Target if has_head => self.target(context),
            LogField::Path if has_head => {
                let target = record.target();
                let end = target.iter().position(|byte| *byte == b'?').unwrap_or(target.len());
                Value::Bytes(&target[..end])
            }
            LogField::Query if has_head => self.query(context),
            LogField::RequestLine if has_head => self.request_line(context),
            LogField::Target | LogField::Path | LogField::Query | LogField::RequestLine => Value::Nothing,
            LogField::Protocol => of_head(protocol(record)),
            LogField::Host if record.host().is_empty() => Value::Nothing,
            LogField::Host => of_head(without_port(record.host())),
            LogField::Scheme if !is_http => Value::Nothing,
            LogField::Scheme if numbers.marks.has(Marks::PRIVATE) => Value::Bytes(b"https"),
            LogField::Scheme => Value::Bytes(b"http"),
            LogField::Status => numbers.status.map_or(Value::Nothing, |status| Value::Number(status.into())),
            LogField::Fault => name(fault(record)),
            LogField::BytesReceived => Value::Number(numbers.bytes_received),
            LogField::BytesSent => Value::Number(numbers.bytes_sent),
            LogField::BodyBytesReceived => Value::Number(numbers.body_bytes_received),
            LogField::BodyBytesSent => Value::Number(numbers.body_bytes_sent),
            LogField::WaitUs => phase(0),
            LogField::ConnectUs => phase(1),
            LogField::FirstByteUs => phase(2),
            LogField::BodyUs => phase(3),
            LogField::TotalUs => phase(4),
            LogField::ClientReused => Value::Flag(numbers.marks.has(Marks::CLIENT_REUSED)),
            LogField::EndpointReused if record.endpoint().is_none() => Value::Nothing,
            LogField::EndpointReused => Value::Flag(numbers.marks.has(Marks::ENDPOINT_REUSED)),
            LogField::Retries => Value::Number(numbers.retries.into()),
            LogField::TlsVersion => name(tls_version(numbers.tls_version)),
            LogField::TlsCipher if numbers.tls_cipher == 0 => Value::Nothing,
            LogField::TlsCipher => name(CipherSuite::from(numbers.tls_cipher).as_str()),
            LogField::TlsServerName => bytes(record.server_name()),
            LogField::TlsResumed if numbers.tls_version == 0 => Value::Nothing,
            LogField::TlsResumed => Value::Flag(numbers.marks.has(Marks::RESUMED)),
            LogField::ClientCertificate => bytes(record.certificate()),
            LogField::RequestId => bytes(record.request_id()),
            LogField::TraceId | LogField::SpanId | LogField::ParentId | LogField::TraceSampled
                if !numbers.marks.has(Marks::TRACED) =>
            {
                Value::Nothing
            }
            LogField::TraceId => self.hex(&numbers.trace.trace_id),
            LogField::SpanId => self.hex(&numbers.trace.span_id),
            LogField::ParentId if numbers.trace.parent_id == [0; 8] => Value::Nothing,
            LogField::ParentId => self.hex(&numbers.trace.parent_id),
            LogField::TraceSampled => Value::Flag(numbers.marks.has(Marks::SAMPLED)),
            LogField::Core => Value::Number(numbers.core.into()),
            LogField::Generation => Value::Number(generation),
            LogField::Noted(id) => match record.noted(id.0) {
                Some(_) if context.log.mask.noted.contains(&id) => Value::Bytes(MASKED),
                // The address of a page that a client comes from holds what a target does.
                Some(value) if is_referer(snapshot, id.0) && context.is_masked() => {
                    self.scratch.clear();
                    context.push_masked(value, &mut self.scratch);
                    Value::Bytes(&self.scratch)
                }
                value => bytes(value),
            },
        }
    }

    fn target<'v>(&'v mut self, context: &Context<'v>) -> Value<'v> {
        if !context.is_masked() {
            return Value::Bytes(context.record.target());
        }
        self.scratch.clear();
        context.push_masked(context.record.target(), &mut self.scratch);
        Value::Bytes(&self.scratch)
    }

    fn query<'v>(&'v mut self, context: &Context<'v>) -> Value<'v> {
        let Value::Bytes(target) = self.target(context) else { return Value::Nothing };
        match target.iter().position(|byte| *byte == b'?') {
            Some(mark) => Value::Bytes(&target[mark..]),
            None => Value::Nothing,
        }
    }

    fn request_line<'v>(&'v mut self, context: &Context<'v>) -> Value<'v> {
        self.scratch.clear();
        self.scratch.extend_from_slice(context.record.method());
        self.scratch.push(b' ');
        context.push_masked(context.record.target(), &mut self.scratch);
        self.scratch.push(b' ');
        self.scratch.extend_from_slice(protocol(context.record));
        Value::Bytes(&self.scratch)
    }

    fn address(&mut self, address: IpAddr) -> Value<'_> {
        self.scratch.clear();
        match address {
            // The formatter of the standard library costs as much as the rest of the line.
            IpAddr::V4(address) => {
                for (index, octet) in address.octets().into_iter().enumerate() {
                    if index > 0 {
                        self.scratch.push(b'.');
                    }
                    self.scratch.extend_from_slice(self.digits.format(octet).as_bytes());
                }
            }
            IpAddr::V6(address) => {
                use std::io::Write as _;
                // Memory takes what is written.
                let _ = write!(self.scratch, "{address}");
            }
        }
        Value::Bytes(&self.scratch)
    }

    fn hex(&mut self, bytes: &[u8]) -> Value<'_> {
        const DIGITS: &[u8; 16] = b"0123456789abcdef";
        self.scratch.clear();
        let digits = bytes.iter().flat_map(|byte| [byte >> 4, byte & 15]);
        self.scratch.extend(digits.map(|digit| DIGITS[usize::from(digit)]));
        Value::Bytes(&self.scratch)
    }
}

/// What a line is made of.
#[derive(Clone, Copy)]
struct Context<'c> {
    record: &'c Record<'c>,
    log: &'c AccessLog,
    snapshot: &'c Snapshot,
    generation: u64,
}

impl Context<'_> {
    fn is_masked(&self) -> bool {
        self.log.mask.query || !self.log.mask.parameters.is_empty()
    }

    fn push_masked(&self, target: &[u8], out: &mut Vec<u8>) {
        if self.is_masked() {
            push_masked(target, self.log.mask.query, &self.log.mask.parameters, out);
        } else {
            out.extend_from_slice(target);
        }
    }
}

fn is_referer(snapshot: &Snapshot, id: u8) -> bool {
    snapshot.access_logs.noted.get(usize::from(id)).is_some_and(|noted| &*noted.name == "referer")
}

fn protocol(record: &Record<'_>) -> &'static [u8] {
    if record.numbers.marks.has(Marks::HTTP10) { b"HTTP/1.0" } else { b"HTTP/1.1" }
}

fn fault(record: &Record<'_>) -> Option<&'static str> {
    match record.numbers.fault {
        Some(index) => Fault::NAMES.get(usize::from(index)).copied(),
        None => record.numbers.marks.has(Marks::CUT).then_some(PROCESS_ENDED),
    }
}

/// As OpenSSL and nginx write them.
fn tls_version(number: u16) -> Option<&'static str> {
    match number {
        0x0303 => Some("TLSv1.2"),
        0x0304 => Some("TLSv1.3"),
        _ => None,
    }
}
