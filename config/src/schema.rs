//! What may the operator write? Every key of the configuration, its unit, range and default.
//!
//! Nothing here is read by a core: the data plane sees a [`crate::snapshot::Snapshot`] and never this.

pub mod access_log;
pub mod balance;
pub mod cluster;
pub mod edits;
pub mod health;
pub mod limits;
mod of_files;
pub mod page;
pub mod register;
pub mod resolve;
pub mod retry;
pub mod rules;
pub mod security;
pub mod table;
pub mod telemetry;
pub mod text;
pub mod tls;
mod written;

use std::net::{Ipv4Addr, SocketAddr};

use schemars::JsonSchema;
use serde::Serialize;

use self::access_log::AccessLog;
use self::balance::{Balance, EndpointEntry, Hash, PersistenceTerms, Sticky};
use self::cluster::{Node, Store};
use self::edits::{HeadEdits, Redirect, Rewrite};
use self::health::{Ejection, Health, SlowStart};
use self::limits::{ChannelLimits, ListenerLimits, UpstreamLimits};
use self::page::ErrorPages;
use self::register::Register;
use self::resolve::Resolve;
use self::retry::{Hedge, Queue, Retry};
use self::rules::{Concurrency, Faults, Mirror, RateLimit};
use self::security::{ChannelToken, Security};
use self::table::Table;
use self::telemetry::Telemetry;
use self::text::{Bind, ServerNames, UnixMode, Via};
use self::tls::{ListenerTls, UpstreamTls};
use crate::snapshot::Network;
use crate::value::duration::Timespan;
use crate::value::share::Share;
use crate::value::size::ByteSize;

/// The configuration of a node. All processes of the node run the same one.
#[derive(Clone, Debug, Default, PartialEq, Serialize, JsonSchema)]
#[schemars(title = "Corelane configuration", deny_unknown_fields, transform = of_files::add)]
pub struct Config {
    /// Who this is.
    #[schemars(default)]
    pub node: Node,
    /// What one process takes for itself; read once, when it starts.
    #[schemars(default)]
    pub process: Process,
    /// Where the processes of a cluster keep what they share; without it, a process is alone. Each process is told of it, and it
    /// never goes into the store itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(default, with = "Store")]
    pub store: Option<Store>,
    /// Addresses that accept traffic, `[listener.NAME]`, at least one unless there is an `[admin]`.
    #[schemars(default)]
    pub listener: Table<Listener>,
    /// What happens to which traffic, `[channel.NAME]`: the first match by priority takes the request. A channel has one of
    /// an `upstream`, a `respond` table and a `redirect` table.
    #[schemars(default)]
    pub channel: Table<Channel>,
    /// Groups of endpoints that answer alike, `[upstream.NAME]`.
    #[schemars(default)]
    pub upstream: Table<Upstream>,
    /// Who may come in, and who says so, `[security.NAME]`: modules that know users, issue tokens and check them.
    #[schemars(default)]
    pub security: Table<Security>,
    /// Where exchanges are written down, `[access_log.NAME]`, once listeners or channels name it.
    #[serde(skip_serializing_if = "Table::is_empty")]
    #[schemars(default)]
    pub access_log: Table<AccessLog>,
    /// The listener of status, statistics and control.
    #[schemars(default)]
    pub admin: Admin,
    /// What is told of single requests to those who follow them through several services.
    #[schemars(default)]
    pub telemetry: Telemetry,
}

/// What one process takes for itself; read once, when it starts.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
#[schemars(deny_unknown_fields, default)]
pub struct Process {
    /// Buffers per core, half for clients and half for endpoints: the bound of the bytes in flight. 16 to 65535.
    #[schemars(range(min = 16, max = 65_535), example = 1024)]
    pub buffers_per_core: u16,
    /// Size of one buffer; a head must fit into one. 4KiB to 1MiB.
    #[schemars(example = &"128KiB")]
    pub buffer_size: ByteSize,
    /// Longest busy wait before an idle core sleeps; 0s turns it off, and so does sharing a CPU with another core. 0s to 10ms.
    #[schemars(example = &"0s")]
    pub spin: Timespan,
    /// Whether a core may hand a new connection to a clearly idler one.
    #[schemars(example = false)]
    pub accept_handoff: bool,
    /// How long exchanges in flight may take to finish after SIGTERM. 0s to 1h.
    #[schemars(example = &"2m")]
    pub drain_timeout: Timespan,
    /// How long a new program may take, from its start until it serves, before it is ended and this one goes on. 1s to 10m.
    #[schemars(example = &"1m")]
    pub upgrade_timeout: Timespan,
    /// Whether the configuration file, what it includes and files that it names are read again when they change, as after SIGHUP. They
    /// are looked at twice a second and read once they have settled; what cannot be used changes nothing. Not in a cluster, where
    /// the store says what runs. This key counts from one reload to the next.
    #[schemars(example = true)]
    pub watch: bool,
    /// Where this process stands: endpoints of the same zone are used before others.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "String", example = &"a")]
    pub zone: Option<String>,
    /// Who the process is once its sockets are bound, by name or number; left out, whoever has started it. Takes a start as root. What is read or bound
    /// later, it reads and binds as this user.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "String", example = &"corelane")]
    pub user: Option<String>,
    /// Its group, by name or number; left out, that of `user`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "String", example = &"corelane")]
    pub group: Option<String>,
}

/// An address that accepts traffic.
#[derive(Clone, Debug, PartialEq, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct Listener {
    /// Address to listen on, `IP:PORT` or `localhost:PORT`, where port 0 lets the kernel choose, or `unix:/PATH`.
    #[schemars(example = &"0.0.0.0:8080")]
    pub bind: Bind,
    /// Permissions of a Unix socket in octal, `"0660"` if left out: who may write to it may connect.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(default, with = "UnixMode", example = &"0666")]
    pub unix_mode: Option<UnixMode>,
    /// What is spoken here: `http`; `https`, which needs a `tls` table; `tcp`, bytes to an `upstream`; `tls`, relayed
    /// undecrypted to the upstream that `sni` says.
    #[schemars(default, example = &"http")]
    pub protocol: Protocol,
    /// Name of the upstream that takes the bytes of `tcp`, or those of `tls` with a name that is not in `sni`, which are
    /// refused otherwise. Requests find theirs by their channel.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(default, with = "String", example = &"db")]
    pub upstream: Option<String>,
    /// What is counted and timed as one message of `tcp`: nothing, each line, or each block of HL7's MLLP. The bytes pass
    /// unchanged, whatever they are.
    #[schemars(default, example = &"mllp")]
    pub framing: Framing,
    /// Upstreams of `tls` by the server name that the client asks for; `"*.example"` takes every name below `example`, the
    /// longest such first, and names themselves before any.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(default, with = "ServerNames", extend("examples" = [{ "a.example": "a", "*.b.example": "b" }]))]
    pub sni: Option<ServerNames>,
    /// Whether it is for this process's own upstreams alone: bound to loopback, and left out of totals.
    #[schemars(default, example = true)]
    pub internal: bool,
    /// Networks whose clients may come in, all others may not; of networks that lie within each other, here or in `deny`, the
    /// most specific decides. Others are closed when they are accepted, or once a PROXY header has said who they are.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(default, length(min = 1), extend("examples" = [["10.0.0.0/8", "fd00::/8"]]))]
    pub allow: Vec<Network>,
    /// Networks whose clients may not come in. One in both lists is denied.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(default, length(min = 1), extend("examples" = [["203.0.113.0/24"]]))]
    pub deny: Vec<Network>,
    /// Modules that it needs besides those that follow from its keys, by name: `"listener.web"`, `"upstream.app"`,
    /// `"security.local"`. It does not run while one of them is stopped.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(default, extend("examples" = [["upstream.fhir"]]))]
    pub requires: Vec<String>,
    /// Connections that may wait to be accepted, per core. 1 to 65535.
    #[schemars(default = "backlog_default", range(min = 1, max = 65_535), example = 4096)]
    pub backlog: u16,
    /// Seconds after which a client that was answered 503, or 429 for its exchanges in progress, is asked to try again, in
    /// `Retry-After`. 1s to 1h.
    #[schemars(default = "retry_after_default", example = &"10s")]
    pub retry_after: Timespan,
    /// Names of the access logs that its exchanges are written to, one or a list; a channel's own come in their place.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(default, schema_with = "text::one_or_many_or_none", extend("examples" = ["main"]))]
    pub access_log: Vec<String>,
    /// Bounds of what a client may ask for.
    #[schemars(default)]
    pub limits: ListenerLimits,
    /// Deadlines towards the client.
    #[schemars(default)]
    pub timeouts: ListenerTimeouts,
    /// Fields added to forwarded messages.
    #[schemars(default)]
    pub forwarding: Forwarding,
    /// Bodies of our own error answers, by status.
    #[serde(skip_serializing_if = "ErrorPages::is_empty")]
    #[schemars(default)]
    pub error_page: ErrorPages,
    /// Whose connections begin with the address of the client they carry.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(default, with = "ProxyProtocol")]
    pub proxy_protocol: Option<ProxyProtocol>,
    /// TLS towards clients, for `protocol = "https"`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(default, with = "ListenerTls")]
    pub tls: Option<ListenerTls>,
}

/// What a listener speaks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Protocol {
    /// HTTP/1.0 and HTTP/1.1 in the clear.
    #[default]
    Http,
    /// HTTP/1.0 and HTTP/1.1 over TLS.
    Https,
    /// Bytes, relayed to an upstream.
    Tcp,
    /// TLS, relayed undecrypted.
    Tls,
}

/// What is counted and timed as one message.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Framing {
    /// Nothing.
    #[default]
    Raw,
    /// Each line.
    Line,
    /// Each block of HL7's Minimal Lower Layer Protocol.
    Mllp,
}

/// Whose connections begin with the address of the client they carry.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct ProxyProtocol {
    /// Networks of the load balancers in front, at least one. Their connections must begin with a PROXY header, version 1 or
    /// 2; others are taken as they are.
    #[schemars(length(min = 1), extend("examples" = [["10.0.0.0/8", "fd00::/8"]]))]
    pub from: Vec<Network>,
}

/// Deadlines towards the client, 1ms to 24h each.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, JsonSchema)]
#[schemars(deny_unknown_fields, default)]
pub struct ListenerTimeouts {
    /// From the first byte of a request head to its last, however it comes; then 408. Two retransmissions of a lost
    /// packet take three seconds (RFC 6298 §2), and no client needs more to say what it wants.
    #[schemars(example = &"5s")]
    pub head: Timespan,
    /// Between two requests, and from accept to the first byte; then closed. Browsers come back within a minute or not at
    /// all, and waiting costs little.
    #[schemars(example = &"2m")]
    pub idle: Timespan,
    /// Between two reads of a request body; then 408. Long enough for a link that changes; who sends on slowly is held to
    /// `limits.body_rate`.
    #[schemars(example = &"1m")]
    pub body: Timespan,
    /// Between two writes to a client that does not read; then closed. The kernel reports room only when a third of its
    /// buffer is free, so that a slow reader has to read that much in time.
    #[schemars(example = &"10s")]
    pub send: Timespan,
    /// From accept to the end of what comes before the first byte of an application: the TLS handshake, a PROXY header, or
    /// as much of a `ClientHello` as names the server; then closed. As long as a request head may take.
    #[schemars(example = &"5s")]
    pub handshake: Timespan,
    /// Between two bytes of a relayed connection, `tcp`, `tls` or upgraded, whichever way they go; then closed. Clients of
    /// databases and WebSockets rest for long.
    #[schemars(example = &"10m")]
    pub tunnel: Timespan,
    /// Of a relayed connection as a whole; then closed. Unbounded by default, as what it carries is.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Timespan", example = &"12h")]
    pub lifetime: Option<Timespan>,
}

/// Fields added to forwarded messages.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
#[schemars(deny_unknown_fields, default)]
pub struct Forwarding {
    /// Add the client's address to `X-Forwarded-For`.
    #[schemars(example = false)]
    pub x_forwarded_for: bool,
    /// Set `X-Forwarded-Proto`.
    #[schemars(example = false)]
    pub x_forwarded_proto: bool,
    /// Set `X-Forwarded-Host`.
    #[schemars(example = false)]
    pub x_forwarded_host: bool,
    /// Add an element to `Forwarded` (RFC 7239).
    #[schemars(example = true)]
    pub forwarded: bool,
    /// Our name in `Via` (RFC 9110 §7.6.3), or false for none.
    #[schemars(example = &"edge-1")]
    pub via: Via,
    /// Give each request an `X-Request-ID` unless a trusted peer sent one.
    #[schemars(example = false)]
    pub request_id: bool,
    /// Say who the client is, where its certificate was checked, in `Client-Cert` and `X-Client-Certificate-…`; what it sent under these names itself
    /// is dropped wherever certificates are asked for.
    #[schemars(example = false)]
    pub client_certificate: bool,
    /// Networks whose forwarding fields are believed and extended; others' are replaced.
    #[schemars(extend("examples" = [["10.0.0.0/8", "fd00::/8"]]))]
    pub trusted: Vec<Network>,
}

/// What happens to which traffic.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
#[schemars(deny_unknown_fields, transform = text::exactly_one_action)]
pub struct Channel {
    /// A channel that is not enabled is left out.
    #[schemars(default = "enabled_default", example = false)]
    pub enabled: bool,
    /// Modules that it needs besides those that follow from its keys, by name: `"listener.web"`, `"upstream.app"`,
    /// `"security.local"`. It does not run while one of them is stopped.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(default, extend("examples" = [["upstream.fhir"]]))]
    pub requires: Vec<String>,
    /// 1 is tried first, channels without priority last; ties in the order written. 1 to 65535.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(default, with = "u16", range(min = 1, max = 65_535), example = 10)]
    pub priority: Option<u16>,
    /// Name of the upstream that answers. Exactly one of `upstream`, `respond` and `redirect`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(default, with = "String", example = &"fhir")]
    pub upstream: Option<String>,
    /// Which requests it takes; without it, all.
    #[serde(rename = "match", skip_serializing_if = "Matching::is_empty")]
    #[schemars(default)]
    pub matching: Matching,
    /// Protocols that a request may change to (RFC 9110 §7.8), `"*"` for any; from then on its connection is a tunnel to the
    /// endpoint. One or a list; none if it is empty.
    #[schemars(default = "upgrade_default", schema_with = "text::one_or_many_or_none", extend("examples" = [["websocket", "mqtt"]]))]
    pub upgrade: Vec<String>,
    /// Whether CONNECT is answered with a tunnel to the upstream, whatever target it names; 501 otherwise.
    #[schemars(default, example = true)]
    pub connect: bool,
    /// Names of the access logs that its exchanges are written to in place of its listener's, one or a list; `[]` for none.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(default, schema_with = "text::one_or_many_or_none", extend("examples" = [["main", "audit"]]))]
    pub access_log: Option<Vec<String>>,
    /// Networks whose clients are served, all others are answered 403; of networks that lie within each other, here or in
    /// `deny`, the most specific decides. A client's address is what a trusted PROXY header says.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(default, length(min = 1), extend("examples" = [["10.0.0.0/8", "fd00::/8"]]))]
    pub allow: Vec<Network>,
    /// Networks whose clients are answered 403. One in both lists is denied.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(default, length(min = 1), extend("examples" = [["203.0.113.0/24"]]))]
    pub deny: Vec<Network>,
    /// How often requests may come, over all cores, else 429 with `Retry-After`; each must let a request in. `rate` is a number
    /// per `s`, `m` or `h`. `by` is `"channel"` for all together, `"address"` for each client address (of IPv6 the first 64
    /// bits), `"header:NAME"` for each value of a field. `burst` may come at once after a rest: as many as come in a tenth of a
    /// second if left out. `keys` are told apart at a time, 16384 if left out; a table too small refuses early, never late.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(default, length(min = 1), extend("examples" = [[{ "by": "address", "rate": "10/s", "burst": 20 }]]))]
    pub rate: Vec<RateLimit>,
    /// Requests need a token that is believed (`Authorization: Bearer`, RFC 6750): 401 without one, 403 where it does not allow
    /// enough.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(default, with = "ChannelToken")]
    pub token: Option<ChannelToken>,
    /// A fixed answer. Exactly one of `upstream`, `respond` and `redirect`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(default, with = "Respond")]
    pub respond: Option<Respond>,
    /// Sends the client elsewhere. Exactly one of `upstream`, `respond` and `redirect`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(default, with = "Redirect")]
    pub redirect: Option<Redirect>,
    /// The path that the endpoint sees.
    #[serde(skip_serializing_if = "Rewrite::is_empty")]
    #[schemars(default)]
    pub rewrite: Rewrite,
    /// Changes to the fields of requests on their way to the endpoint.
    #[serde(skip_serializing_if = "HeadEdits::is_empty")]
    #[schemars(default)]
    pub request_headers: HeadEdits,
    /// Changes to the fields of answers: an endpoint's final one, and those that the channel gives itself, but not to errors.
    #[serde(skip_serializing_if = "HeadEdits::is_empty")]
    #[schemars(default)]
    pub response_headers: HeadEdits,
    /// Faults made on purpose.
    #[serde(skip_serializing_if = "Faults::is_empty")]
    #[schemars(default)]
    pub fault: Faults,
    /// Copies of requests to another upstream.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(default, with = "Mirror")]
    pub mirror: Option<Mirror>,
    /// Exchanges in progress at a time, over all cores.
    #[serde(skip_serializing_if = "Concurrency::is_empty")]
    #[schemars(default)]
    pub concurrency: Concurrency,
    /// Bounds of its requests, in place of the listener's.
    #[serde(skip_serializing_if = "ChannelLimits::is_empty")]
    #[schemars(default)]
    pub limits: ChannelLimits,
    /// Deadlines of the whole exchange.
    #[serde(skip_serializing_if = "ChannelTimeouts::is_empty")]
    #[schemars(default)]
    pub timeouts: ChannelTimeouts,
    /// A second copy of a request whose answer is slow in coming.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(default, with = "Hedge")]
    pub hedge: Option<Hedge>,
    /// Bodies of our own error answers, by status, in place of the listener's.
    #[serde(skip_serializing_if = "ErrorPages::is_empty")]
    #[schemars(default)]
    pub error_page: ErrorPages,
}

/// Which requests a channel takes; without it, all. Every key given must match; at most one of the three paths is.
#[derive(Clone, Debug, Default, PartialEq, Serialize, JsonSchema)]
#[schemars(deny_unknown_fields, default, transform = text::at_most_one_path)]
pub struct Matching {
    /// Regular expression found anywhere in the path; `^` and `$` anchor it.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "String", example = &"^/fhir/(Patient|Encounter)(/|$)")]
    pub path: Option<String>,
    /// The path starts with this, byte by byte: `/fhir` also takes `/fhirx`, `/fhir/` does not.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "String", example = &"/fhir/")]
    pub path_prefix: Option<String>,
    /// The whole path.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "String", example = &"/healthz")]
    pub path_exact: Option<String>,
    /// Request methods, as sent: case matters.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(min = 1), extend("examples" = [["GET", "HEAD"]]))]
    pub methods: Vec<String>,
    /// Host names without port; `*.example` takes every name below `example`. One or a list.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "text::one_or_many", extend("examples" = [["example.org", "*.example.org"]]))]
    pub host: Vec<String>,
    /// Names of listeners the request came in by. One or a list.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "text::one_or_many", example = &"web")]
    pub listener: Vec<String>,
}

/// A fixed answer, in place of an upstream's.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
#[schemars(deny_unknown_fields, default)]
pub struct Respond {
    /// Status code. 200 to 599.
    #[schemars(range(min = 200, max = 599), example = 503)]
    pub status: u16,
    /// Value of `Content-Type`.
    #[schemars(example = &"application/json")]
    pub content_type: String,
    /// The body, at most 64KiB.
    #[schemars(example = &"Back in a minute.")]
    pub body: String,
}

/// Deadlines of a whole exchange.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, JsonSchema)]
#[schemars(deny_unknown_fields, default)]
pub struct ChannelTimeouts {
    /// From the complete request head to the last byte of the answer; then 504. Unbounded by default: downloads and
    /// streams take as long as they take, and no single wait in them is without a deadline. 1ms to 24h.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Timespan", example = &"1m")]
    pub total: Option<Timespan>,
    /// Between two bytes of a connection that was upgraded, whichever way they go; then closed. Without it, the listener's.
    /// 1ms to 24h.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Timespan", example = &"10m")]
    pub tunnel: Option<Timespan>,
}

/// A group of endpoints that answer alike.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct Upstream {
    /// How an endpoint is chosen; see [balancing](balancing.md).
    #[schemars(default, example = &"least_connections")]
    pub balance: Balance,
    /// The servers, at least one unless they `register`: `"IP:PORT"`, `"localhost:PORT"`, `"unix:/PATH"` or, for a listener of our own,
    /// `"listener:NAME"`. `"NAME:PORT"` stands for every address of a host, `"srv:NAME"` for every server of a service (RFC 2782);
    /// both are asked for again as their answers grow old. Or a table with such an `address` and, as far as they are not the default: `weight`, 0 to 65535, where 0
    /// takes no new sessions; `max_connections` and `min_connections`, where one that had the most gets no new sessions until it
    /// has fewer than the least, 0 for three quarters of the most, and without it as soon as there is room; `priority`, 0 to 255, of which the lowest with an endpoint that is up is
    /// used; `backup = true`, which is priority 1; `zone`, where those of `process.zone` come first.
    #[schemars(extend("examples" = [["10.0.0.1:8000", "10.0.0.2:8000"]]))]
    pub endpoints: Vec<EndpointEntry>,
    /// Modules that it needs besides those that follow from its keys, by name: `"listener.web"`, `"upstream.app"`,
    /// `"security.local"`. It does not run while one of them is stopped.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(default, extend("examples" = [["listener.web"]]))]
    pub requires: Vec<String>,
    /// How many endpoints there may be at a time, those added or found out while the process runs included. Twice those
    /// written and at least 16 if left out. 1 to 4096.
    #[schemars(default = "endpoints_max_default", range(min = 1, max = 4096), example = 64)]
    pub endpoints_max: u16,
    /// Idle connections kept for reuse, per core and endpoint. 0 to 65535.
    #[schemars(default = "idle_connections_default", example = 64)]
    pub idle_connections: u16,
    /// How long an idle connection is kept. 1ms to 24h.
    #[schemars(default = "idle_timeout_default", example = &"10s")]
    pub idle_timeout: Timespan,
    /// Deadlines towards the endpoint.
    #[schemars(default)]
    pub timeouts: UpstreamTimeouts,
    /// Bounds of what its endpoints may answer, and of what they are asked at a time.
    #[schemars(default)]
    pub limits: UpstreamLimits,
    /// When a request goes out again.
    #[schemars(default)]
    pub retry: Retry,
    /// Where a request waits for which no endpoint has room.
    #[schemars(default)]
    pub queue: Queue,
    /// How names among its endpoints become addresses, and how often they are asked for.
    #[schemars(default)]
    pub resolve: Resolve,
    /// Servers make themselves endpoints by the admin listener, say again and again that they are there, and are endpoints no
    /// longer when they stop; `{}` lets them.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(default, with = "Register")]
    pub register: Option<Register>,
    /// The PROXY header that connections to its endpoints begin with, so that they learn the client's address.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(default, with = "ProxyVersion", example = &"v2")]
    pub proxy_protocol: Option<ProxyVersion>,
    /// TLS towards its endpoints; `{}` verifies them by the authorities that this host trusts.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(default, with = "UpstreamTls")]
    pub tls: Option<UpstreamTls>,
    /// Probes of each endpoint; without this table there are none.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(default, with = "Health")]
    pub health: Option<Health>,
    /// Leaving endpoints out that fail what they are given; without this table none is.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(default, with = "Ejection")]
    pub ejection: Option<Ejection>,
    /// What an endpoint is given that comes up; without this table all of its weight at once.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(default, with = "SlowStart")]
    pub slow_start: Option<SlowStart>,
    /// With less than this share of the endpoints up, all of them get traffic, as if all were. Without it those that are down
    /// get none, and with none up requests are answered 503. 1% to 100%.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(default, with = "Share", example = &"50%")]
    pub panic_threshold: Option<Share>,
    /// What `balance = "hash"` goes by, and where that leads.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(default, with = "Hash")]
    pub hash: Option<Hash>,
    /// Clients of the same address come back to the endpoint they had.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(default, with = "PersistenceTerms")]
    pub persistence: Option<PersistenceTerms>,
    /// Clients come back to the endpoint they had by a cookie.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(default, with = "Sticky")]
    pub sticky: Option<Sticky>,
}

/// Versions of the PROXY protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ProxyVersion {
    /// One line of text.
    V1,
    /// Binary, with TLVs.
    V2,
}

/// Deadlines towards an endpoint, 1ms to 24h each; past them 504.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, JsonSchema)]
#[schemars(deny_unknown_fields, default)]
pub struct UpstreamTimeouts {
    /// Establishing a connection. One lost packet is repeated after a second (RFC 6298 §2).
    #[schemars(example = &"500ms")]
    pub connect: Timespan,
    /// From the end of the request to the first byte of the answer. Longer than any page is waited for.
    #[schemars(example = &"10s")]
    pub first_byte: Timespan,
    /// Between two reads of the answer's body, and for its whole head from the first byte on. A stream that is quiet for
    /// longer, such as of events, needs more.
    #[schemars(example = &"1m")]
    pub body: Timespan,
    /// Between two writes to an endpoint that does not read. As long as a client may take to send.
    #[schemars(example = &"10s")]
    pub send: Timespan,
}

/// The listener of status, statistics and control.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
#[schemars(deny_unknown_fields, default)]
pub struct Admin {
    /// Whether there is one.
    #[schemars(example = false)]
    pub enabled: bool,
    /// Address to listen on, once for the process.
    #[schemars(with = "String", example = &"127.0.0.1:9100")]
    pub bind: SocketAddr,
    /// Name of the `[security.NAME]` that says who may come in. Without one nobody is asked, and it must be bound to loopback.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "String", example = &"local")]
    pub security: Option<String>,
    /// Whether it may be reached from the network although nobody is asked who he is.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    #[schemars(example = true)]
    pub allow_open: bool,
    /// Endpoints of an upstream that have series of their own in `/metrics`; those beyond are counted together, as `endpoint="other"`.
    /// 0 to 65535.
    #[schemars(example = 64)]
    pub endpoint_series_max: u16,
}

impl Default for Process {
    fn default() -> Self {
        Self {
            buffers_per_core: 512,
            buffer_size: ByteSize::from_kib(64),
            spin: Timespan::from_micros(50),
            accept_handoff: true,
            drain_timeout: Timespan::from_secs(30),
            upgrade_timeout: Timespan::from_secs(30),
            watch: false,
            zone: None,
            user: None,
            group: None,
        }
    }
}

impl Default for ListenerTimeouts {
    fn default() -> Self {
        Self {
            head: Timespan::from_secs(10),
            idle: Timespan::from_secs(60),
            body: Timespan::from_secs(30),
            send: Timespan::from_secs(30),
            handshake: Timespan::from_secs(10),
            tunnel: Timespan::from_secs(3600),
            lifetime: None,
        }
    }
}

impl Default for Forwarding {
    fn default() -> Self {
        Self {
            x_forwarded_for: true,
            x_forwarded_proto: true,
            x_forwarded_host: true,
            forwarded: false,
            via: Via::default(),
            request_id: true,
            client_certificate: true,
            trusted: Vec::new(),
        }
    }
}

impl Default for Respond {
    fn default() -> Self {
        Self { status: 200, content_type: "text/plain; charset=utf-8".to_owned(), body: String::new() }
    }
}

impl Default for UpstreamTimeouts {
    fn default() -> Self {
        Self {
            connect: Timespan::from_secs(2),
            first_byte: Timespan::from_secs(30),
            body: Timespan::from_secs(30),
            send: Timespan::from_secs(30),
        }
    }
}

/// As many as fit on a screen of a dashboard several times over, and few enough for a collector whatever comes and goes.
const ENDPOINT_SERIES_DEFAULT: u16 = 256;

impl Default for Admin {
    fn default() -> Self {
        Self {
            enabled: true,
            bind: SocketAddr::from((Ipv4Addr::LOCALHOST, 9000)),
            security: None,
            allow_open: false,
            endpoint_series_max: ENDPOINT_SERIES_DEFAULT,
        }
    }
}

impl Matching {
    /// Whether every request matches.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

impl ChannelTimeouts {
    /// Whether no deadline is set.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

impl Protocol {
    /// Whether requests are read here, rather than bytes relayed.
    pub(crate) fn is_http(self) -> bool {
        match self {
            Self::Http | Self::Https => true,
            Self::Tcp | Self::Tls => false,
        }
    }

    /// As it is written.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Https => "https",
            Self::Tcp => "tcp",
            Self::Tls => "tls",
        }
    }
}

pub(crate) fn backlog_default() -> u16 {
    1024
}

fn enabled_default() -> bool {
    true
}

pub(crate) fn upgrade_default() -> Vec<String> {
    vec!["websocket".to_owned()]
}

pub(crate) fn retry_after_default() -> Timespan {
    Timespan::from_secs(1)
}

/// Without an endpoint written.
fn endpoints_max_default() -> u16 {
    endpoints_max_beside(0)
}

/// Room for as many more as there are.
pub(crate) fn endpoints_max_beside(written: usize) -> u16 {
    u16::try_from((2 * written).max(16)).unwrap_or(u16::MAX)
}

pub(crate) fn idle_connections_default() -> u16 {
    256
}

pub(crate) fn idle_timeout_default() -> Timespan {
    Timespan::from_secs(30)
}
