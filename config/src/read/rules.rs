//! What may a channel demand of its requests, and do to them?
//!
//! Never takes a rule that could not be kept to the letter.

use std::time::Duration;

use super::fields::Fields;
use super::{TIMEOUT_MAX, TIMEOUT_MIN};
use crate::schema::rules::{
    Abort, Concurrency, Delay, Faults, HEADER_PREFIX, Mirror, RateKey, RateLimit, mirror_body_default,
    share_default,
};
use crate::snapshot::Network;
use crate::value::field::{self, FieldError};
use crate::value::network;
use crate::value::rate::Rate;
use crate::value::share::Share;
use crate::value::size::ByteSize;

/// More than one host has descriptors for.
const CONCURRENCY_MAX: u32 = 10_000_000;

/// A tenth of a second's requests come at once if nothing is said: as many as one hiccup of a network holds up.
const BURST_PARTS: u64 = 10;
const BURST_MAX: u32 = 1_000_000;

/// A burst that is not there again after this long is no burst.
const REFILL_MAX: Duration = Duration::from_secs(24 * 3600);

/// Most in a second where keys are told apart: the steps of their clock are 256 ns.
const KEYED_MAX: u64 = 10_000;

/// What a buffer holds beside a head, and the bound of what copies take: 64 of them on each core.
const MIRRORED_BODY_MAX: ByteSize = ByteSize::from_kib(64);

pub(super) fn read_networks(fields: &mut Fields<'_>, name: &'static str) -> Vec<Network> {
    fields.items_some(name).iter().filter_map(|item| item.parsed(network::parse)).collect()
}

pub(super) fn read_concurrency(fields: &mut Fields<'_>) -> Concurrency {
    let mut count =
        |name| fields.is_given(name).then(|| fields.integer(name, 1..=CONCURRENCY_MAX, CONCURRENCY_MAX));
    Concurrency { channel: count("channel"), address: count("address") }
}

pub(super) fn read_rates(fields: &mut Fields<'_>) -> Vec<RateLimit> {
    fields.items_some("rate").iter().filter_map(|item| item.table(read_rate).flatten()).collect()
}

fn read_rate(fields: &mut Fields<'_>) -> Option<RateLimit> {
    use proto::rate::{SLOTS_MAX, SLOTS_MIN};
    fields.require("rate", "\"100/s\"");
    let by = fields.parsed("by", parse_key).unwrap_or_default();
    let rate = fields.parsed("rate", Rate::parse);
    let burst = fields.is_given("burst").then(|| fields.integer("burst", 1..=BURST_MAX, 1));
    let keys = fields.is_given("keys").then(|| fields.integer("keys", SLOTS_MIN..=SLOTS_MAX, SLOTS_MIN));
    let rate = rate?;
    if by == RateKey::Channel && keys.is_some() {
        let cause = "means nothing where all requests are counted together";
        fields.error("keys", cause, Some("leave it out".to_owned()));
    }
    if by != RateKey::Channel && rate.per_second() > KEYED_MAX {
        let cause = format!("at most {KEYED_MAX} a second where {by} tells requests apart, found {rate}");
        fields.error("rate", cause, None);
    }
    let burst = burst.unwrap_or_else(|| {
        let of_a_moment = u64::from(rate.count()) / (rate.per().as_secs() * BURST_PARTS);
        u32::try_from(of_a_moment).unwrap_or(BURST_MAX).clamp(1, BURST_MAX)
    });
    if rate.per() * burst > REFILL_MAX * rate.count() {
        let cause = format!("{burst} at {rate} take longer than a day to be there again");
        fields.error("burst", cause, Some("a smaller burst".to_owned()));
    }
    Some(RateLimit { by, rate, burst, keys })
}

fn parse_key(text: &str) -> Result<RateKey, FieldError> {
    match (text, text.strip_prefix(HEADER_PREFIX)) {
        ("channel", _) => Ok(RateKey::Channel),
        ("address", _) => Ok(RateKey::Address),
        (_, Some(name)) => field::check_token(name).map(|()| RateKey::Header(name.to_owned())),
        (_, None) => Err(FieldError::NoKey { found: text.to_owned() }),
    }
}

pub(super) fn read_faults(fields: &mut Fields<'_>) -> Faults {
    let faults = Faults {
        delay: fields.table("delay", |fields| {
            fields.require("time", "\"100ms\"");
            Delay {
                time: fields.duration("time", TIMEOUT_MIN..=TIMEOUT_MAX, TIMEOUT_MIN),
                share: read_share(fields),
            }
        }),
        abort: fields.table("abort", |fields| Abort {
            status: fields.integer("status", 400..=599, Abort::default().status),
            share: read_share(fields),
        }),
    };
    if !fields.has("delay") && !fields.has("abort") {
        let suggestion = Some("for example abort = { status = 503, share = \"1%\" }".to_owned());
        fields.error_here("a fault is a delay or an abort, found neither", suggestion);
    }
    faults
}

pub(super) fn read_mirror(fields: &mut Fields<'_>) -> Mirror {
    fields.require("upstream", "\"NAME\"");
    let bodies = ByteSize::from_bytes(0)..=MIRRORED_BODY_MAX;
    Mirror {
        upstream: fields.text("upstream").unwrap_or_default().to_owned(),
        share: read_share(fields),
        body_bytes: fields.size("body_bytes", bodies, mirror_body_default()),
        unsafe_methods: fields.boolean("unsafe_methods", false),
    }
}

fn read_share(fields: &mut Fields<'_>) -> Share {
    fields.share("share", Share::from_percent(0)..=Share::from_percent(100), share_default())
}
