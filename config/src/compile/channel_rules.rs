//! What does a channel demand of its requests, in the form that cores read?
//!
//! Never makes rules for a channel that has none.

use std::net::IpAddr;

use proto::access::AccessTable;
use proto::http1::answer::reason_phrase;
use proto::http1::edit::HeadEdits;
use proto::http1::path::{PathRewrite, Replacement};
use proto::rate::Pace;
use proto::template::Template;

use super::{Names, security};
use crate::document::key::Key;
use crate::schema;
use crate::schema::edits;
use crate::snapshot::rules::{Concurrency, Faults, Mirror, RateKey, RateLimit, Rules};
use crate::snapshot::{Network, Redirect, StaticResponse};

/// Addresses or values of a field told apart if nothing is said: 128 KiB a limit, and more than come within one burst.
const KEYS_DEFAULT: u32 = 16_384;

/// The rules of a channel, if it has any. `None` means that the report names an upstream that is wrong.
pub(super) fn compile(
    name: &str,
    channel: &schema::Channel,
    names: &Names<'_>,
) -> Option<Option<Box<Rules>>> {
    let mirror = match &channel.mirror {
        Some(mirror) => Some(compile_mirror(name, mirror, names)?),
        None => None,
    };
    let token = match &channel.token {
        Some(token) => Some(Box::new(security::compile_token(name, token, names)?)),
        None => None,
    };
    let rules = Rules {
        access: compile_access(&channel.allow, &channel.deny),
        rates: channel.rate.iter().map(compile_rate).collect(),
        concurrency: Concurrency {
            channel_max: channel.concurrency.channel,
            address_max: channel.concurrency.address,
        },
        token,
        path: compile_rewrite(&channel.rewrite),
        request_edits: compile_edits(&channel.request_headers),
        answer_edits: compile_edits(&channel.response_headers),
        faults: compile_faults(&channel.fault),
        mirror,
    };
    let demands_nothing = rules.access.is_none()
        && rules.rates.is_empty()
        && rules.concurrency.is_unbounded()
        && rules.token.is_none();
    let changes_nothing =
        rules.path.is_none() && rules.request_edits.is_none() && rules.answer_edits.is_none();
    let is_as_usual = rules.faults.is_none() && rules.mirror.is_none();
    let is_empty = demands_nothing && changes_nothing && is_as_usual;
    Some((!is_empty).then(|| Box::new(rules)))
}

/// Who may come in, if that is not everybody.
pub(super) fn compile_access(allow: &[Network], deny: &[Network]) -> Option<AccessTable> {
    let blocks = |networks: &[Network]| -> Vec<(IpAddr, u8)> {
        networks.iter().map(|network| (network.address, network.prefix_len)).collect()
    };
    let is_given = !allow.is_empty() || !deny.is_empty();
    is_given.then(|| AccessTable::new(&blocks(allow), &blocks(deny)))
}

fn compile_rate(limit: &schema::rules::RateLimit) -> RateLimit {
    let per_nanos = u64::try_from(limit.rate.per().as_nanos()).unwrap_or(u64::MAX);
    RateLimit {
        by: match &limit.by {
            schema::rules::RateKey::Channel => RateKey::Channel,
            schema::rules::RateKey::Address => RateKey::Address,
            schema::rules::RateKey::Header(name) => RateKey::Header(name.as_str().into()),
        },
        pace: Pace::new(limit.rate.count(), per_nanos, limit.burst),
        slots: limit.keys.unwrap_or(KEYS_DEFAULT),
    }
}

fn compile_faults(faults: &schema::rules::Faults) -> Option<Faults> {
    let delay = faults.delay.map(|delay| (delay.time.duration(), delay.share.percent()));
    let abort = faults.abort.map(|abort| (abort.status, abort.share.percent()));
    (delay.is_some() || abort.is_some()).then_some(Faults { delay, abort })
}

fn compile_mirror(channel: &str, mirror: &schema::rules::Mirror, names: &Names<'_>) -> Option<Mirror> {
    let key = Key::of(["channel", channel, "mirror", "upstream"]);
    Some(Mirror {
        upstream: names.upstream(&mirror.upstream, &key)?,
        percent: mirror.share.percent(),
        body_bytes_max: usize::try_from(mirror.body_bytes.bytes()).unwrap_or(usize::MAX),
        unsafe_methods: mirror.unsafe_methods,
    })
}

// The reader refused what the following would not take, so that `ok` loses nothing.

fn compile_rewrite(rewrite: &edits::Rewrite) -> Option<PathRewrite> {
    if let (Some(path), Some(to)) = (&rewrite.path, &rewrite.to) {
        return Replacement::new(path, to)
            .ok()
            .map(|replacement| PathRewrite::Replace(Box::new(replacement)));
    }
    let prefix = |prefix: &Option<String>| prefix.as_deref().unwrap_or_default().into();
    let is_given = rewrite.strip_prefix.is_some() || rewrite.add_prefix.is_some();
    is_given.then(|| PathRewrite::Prefix {
        strip: prefix(&rewrite.strip_prefix),
        add: prefix(&rewrite.add_prefix),
    })
}

fn compile_edits(edits: &edits::HeadEdits) -> Option<HeadEdits> {
    let fields = |texts: &edits::FieldTexts| -> Vec<(String, Template)> {
        let field = |(name, value): (&str, &str)| Some((name.to_owned(), Template::parse(value).ok()?));
        texts.iter().filter_map(field).collect()
    };
    let compile = || HeadEdits::new(fields(&edits.set), fields(&edits.add), &edits.remove);
    (!edits.is_empty()).then(compile)
}

pub(super) fn compile_redirect(redirect: &edits::Redirect) -> Option<Redirect> {
    let answer = StaticResponse {
        status: redirect.status,
        content_type: "text/plain; charset=utf-8".into(),
        body: format!("{}\n", reason_phrase(redirect.status)).into_bytes().into(),
    };
    Some(Redirect { answer, to: Template::parse(&redirect.to).ok()? })
}
