//! How much may a peer send, ask for and hold?
//!
//! Every bound says what happens beyond it, and why its default is what it is.

use proto::http1::chunked::{TRAILER_BYTES_MAX, TRAILERS_MAX};
use schemars::JsonSchema;
use serde::Serialize;

use crate::value::size::ByteSize;

/// Bounds of what a client may send, ask for and hold.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, JsonSchema)]
#[schemars(deny_unknown_fields, default)]
pub struct ListenerLimits {
    /// Bytes of a whole request head, at most `process.buffer_size`, a smaller one of which is the default; then 431.
    /// The default holds the longest tokens and cookies in use four times over. 512B to 64KiB.
    #[schemars(example = &"16KiB")]
    pub head_bytes: ByteSize,
    /// Field lines of a request head; then 431. Browsers send about twenty, and each proxy adds a few. 1 to 128.
    #[schemars(range(min = 1, max = 128), example = 64)]
    pub fields: u16,
    /// Bytes of a request target, which `head_bytes` bounds too; then 414. RFC 9112 §3 asks for request lines of
    /// 8000 at least. 64B to 64KiB.
    #[schemars(example = &"2KiB")]
    pub target_bytes: ByteSize,
    /// Bytes of a request body; then 413. Unbounded by default: a body is never held, so that its length costs nothing
    /// here, and only what is behind knows how much it takes. 0B to 1024GiB.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "ByteSize", example = &"16MiB")]
    pub body_bytes: Option<ByteSize>,
    /// Bytes of a request body that must come in each second on average, once it has taken longer than `timeouts.body`;
    /// then 408. 0B turns it off. The slowest of links do better, and no client holds an exchange for ever with a byte now
    /// and then. 0B to 1GiB.
    #[schemars(example = &"1KiB")]
    pub body_rate: ByteSize,
    /// Bytes of the trailers of a request; then 400. As much as a small head. 64B to 64KiB.
    #[schemars(example = &"1KiB")]
    pub trailer_bytes: ByteSize,
    /// Trailer lines of a request; then 400. A checksum, a signature and a status are three. 0 to 1000.
    #[schemars(range(min = 0, max = 1000), example = 0)]
    pub trailers: u16,
    /// Requests in a row that had come before the one ahead of them was answered; the answer to the last of them closes the
    /// connection. They are served one by one, and no more is received than one buffer of them. The default is far beyond
    /// what any client keeps waiting. 1 to 65535.
    #[schemars(range(min = 1, max = 65_535), example = 16)]
    pub pipelined: u16,
    /// Requests of one connection; the answer to the last of them closes it. Unbounded by default: nothing of a connection
    /// grows with its requests. 1 to 1000000000.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "u32", range(min = 1, max = 1_000_000_000), example = 10_000)]
    pub requests: Option<u32>,
    /// Connections open at a time, over all cores; further ones are closed as soon as they are accepted. Unbounded by
    /// default: an idle one takes less than 1KiB, and the limit of open files bounds them all. 1 to 10000000.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "u32", range(min = 1, max = 10_000_000), example = 20_000)]
    pub connections: Option<u32>,
    /// The same for each client address; of IPv6 the first 64 bits count, which is what one client gets. Unbounded by
    /// default: behind one address there may be a whole company, or a proxy. 1 to 10000000.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "u32", range(min = 1, max = 10_000_000), example = 100)]
    pub connections_per_address: Option<u32>,
}

/// Bounds of a channel's requests, in place of the listener's.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, JsonSchema)]
#[schemars(deny_unknown_fields, default)]
pub struct ChannelLimits {
    /// Bytes of a request body; then 413. 0B to 1024GiB.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "ByteSize", example = &"1GiB")]
    pub body_bytes: Option<ByteSize>,
}

/// Bounds of what its endpoints may answer, and of what they are asked at a time.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, JsonSchema)]
#[schemars(deny_unknown_fields, default)]
pub struct UpstreamLimits {
    /// Bytes of a whole response head, at most `process.buffer_size`, a smaller one of which is the default; then 502. As
    /// much as a request head may have. 512B to 64KiB.
    #[schemars(example = &"16KiB")]
    pub head_bytes: ByteSize,
    /// Field lines of a response head; then 502. As many as a request may have. 1 to 128.
    #[schemars(range(min = 1, max = 128), example = 64)]
    pub fields: u16,
    /// Bytes of the trailers of an answer, which is cut off beyond. As much as a small head. 64B to 64KiB.
    #[schemars(example = &"1KiB")]
    pub trailer_bytes: ByteSize,
    /// Trailer lines of an answer, which is cut off beyond. A checksum, a signature and a status are three. 0 to 1000.
    #[schemars(range(min = 0, max = 1000), example = 0)]
    pub trailers: u16,
    /// Exchanges in progress at a time, over all cores and endpoints; further requests are answered 503 at once. Unbounded by
    /// default: only who runs the endpoints knows what they bear. 1 to 10000000.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "u32", range(min = 1, max = 10_000_000), example = 1000)]
    pub in_flight: Option<u32>,
    /// Those of them that have no connection yet, because one is being made or none may be; further requests that need one
    /// are answered 503 at once. Unbounded by default. 1 to 10000000.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "u32", range(min = 1, max = 10_000_000), example = 100)]
    pub pending: Option<u32>,
}

impl Default for ListenerLimits {
    fn default() -> Self {
        Self {
            head_bytes: ByteSize::from_kib(32),
            fields: 100,
            target_bytes: ByteSize::from_kib(8),
            body_bytes: None,
            body_rate: ByteSize::from_bytes(100),
            trailer_bytes: ByteSize::from_bytes(TRAILER_BYTES_MAX.into()),
            trailers: TRAILERS_MAX,
            pipelined: 1000,
            requests: None,
            connections: None,
            connections_per_address: None,
        }
    }
}

impl ChannelLimits {
    pub(super) fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

impl Default for UpstreamLimits {
    fn default() -> Self {
        Self {
            head_bytes: ByteSize::from_kib(32),
            fields: 100,
            trailer_bytes: ByteSize::from_bytes(TRAILER_BYTES_MAX.into()),
            trailers: TRAILERS_MAX,
            in_flight: None,
            pending: None,
        }
    }
}
