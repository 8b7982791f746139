//! How much may a peer be allowed?
//!
//! Never takes a bound that the reader of messages could not keep.

use super::fields::Fields;
use crate::schema::limits::{ChannelLimits, ListenerLimits, UpstreamLimits};
use crate::value::size::ByteSize;

/// Smallest useful bound of a head: a request line and a handful of fields.
const HEAD_BYTES_MIN: ByteSize = ByteSize::from_bytes(512);

/// Positions in a head are kept in 16 bits.
const HEAD_BYTES_MAX: ByteSize = ByteSize::from_kib(64);

/// Below this a path with an identifier would not fit, nor a single trailer.
const PART_BYTES_MIN: ByteSize = ByteSize::from_bytes(64);

/// Beyond any single body; what is meant to be unbounded is left out.
const BODY_BYTES_MAX: ByteSize = ByteSize::from_bytes(1 << 40);

/// More than a core relays.
const BODY_RATE_MAX: ByteSize = ByteSize::from_bytes(1 << 30);

/// More trailers than fit [`HEAD_BYTES_MAX`] are never meant.
const TRAILERS_MAX: u16 = 1000;

const REQUESTS_MAX: u32 = 1_000_000_000;

/// More than one host has descriptors for.
const CONNECTIONS_MAX: u32 = 10_000_000;

pub(super) fn read_listener(fields: &mut Fields<'_>, buffer_size: ByteSize) -> ListenerLimits {
    let default = listener_default(buffer_size);
    ListenerLimits {
        head_bytes: read_head_bytes(fields, default.head_bytes, buffer_size),
        fields: read_fields(fields, default.fields),
        target_bytes: fields.size("target_bytes", PART_BYTES_MIN..=HEAD_BYTES_MAX, default.target_bytes),
        body_bytes: read_body_bytes(fields),
        body_rate: fields.size("body_rate", ByteSize::from_bytes(0)..=BODY_RATE_MAX, default.body_rate),
        trailer_bytes: fields.size("trailer_bytes", PART_BYTES_MIN..=HEAD_BYTES_MAX, default.trailer_bytes),
        trailers: fields.integer("trailers", 0..=TRAILERS_MAX, default.trailers),
        pipelined: fields.integer("pipelined", 1..=u16::MAX, default.pipelined),
        requests: read_count(fields, "requests", REQUESTS_MAX),
        connections: read_count(fields, "connections", CONNECTIONS_MAX),
        connections_per_address: read_count(fields, "connections_per_address", CONNECTIONS_MAX),
    }
}

/// A number that is unbounded where it is left out.
fn read_count(fields: &mut Fields<'_>, name: &'static str, greatest: u32) -> Option<u32> {
    fields.is_given(name).then(|| fields.integer(name, 1..=greatest, greatest))
}

pub(super) fn read_channel(fields: &mut Fields<'_>) -> ChannelLimits {
    ChannelLimits { body_bytes: read_body_bytes(fields) }
}

pub(super) fn read_upstream(fields: &mut Fields<'_>, buffer_size: ByteSize) -> UpstreamLimits {
    let default = upstream_default(buffer_size);
    UpstreamLimits {
        head_bytes: read_head_bytes(fields, default.head_bytes, buffer_size),
        fields: read_fields(fields, default.fields),
        trailer_bytes: fields.size("trailer_bytes", PART_BYTES_MIN..=HEAD_BYTES_MAX, default.trailer_bytes),
        trailers: fields.integer("trailers", 0..=TRAILERS_MAX, default.trailers),
        in_flight: read_count(fields, "in_flight", CONNECTIONS_MAX),
        pending: read_count(fields, "pending", CONNECTIONS_MAX),
    }
}

/// What holds for a listener that says nothing.
pub(super) fn listener_default(buffer_size: ByteSize) -> ListenerLimits {
    let default = ListenerLimits::default();
    ListenerLimits { head_bytes: default.head_bytes.min(buffer_size), ..default }
}

/// What holds for an upstream that says nothing.
pub(super) fn upstream_default(buffer_size: ByteSize) -> UpstreamLimits {
    let default = UpstreamLimits::default();
    UpstreamLimits { head_bytes: default.head_bytes.min(buffer_size), ..default }
}

/// A head must fit the buffer it is received in.
fn read_head_bytes(fields: &mut Fields<'_>, default: ByteSize, buffer_size: ByteSize) -> ByteSize {
    let head_bytes = fields.size("head_bytes", HEAD_BYTES_MIN..=HEAD_BYTES_MAX, default);
    if head_bytes > buffer_size {
        let suggestion = Some(format!("at most \"{buffer_size}\", or a larger process.buffer_size"));
        fields.error("head_bytes", "a head does not fit a buffer (process.buffer_size)", suggestion);
    }
    head_bytes
}

/// The reader of heads holds so many fields and no more.
fn read_fields(fields: &mut Fields<'_>, default: u16) -> u16 {
    let greatest = u16::try_from(proto::http1::head::FIELDS_MAX).unwrap_or(u16::MAX);
    fields.integer("fields", 1..=greatest, default)
}

fn read_body_bytes(fields: &mut Fields<'_>) -> Option<ByteSize> {
    let bounds = ByteSize::from_bytes(0)..=BODY_BYTES_MAX;
    fields.is_given("body_bytes").then(|| fields.size("body_bytes", bounds, BODY_BYTES_MAX))
}
