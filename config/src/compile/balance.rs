//! How is the choice of an endpoint put for cores?
//!
//! Never fails: the reader has refused what makes no sense.

use proto::balance::source::SourceMask;

use crate::schema::Upstream;
use crate::schema::balance::{self as written, EndpointEntry, Hash, PersistenceTerms, Secret, Sticky};
use crate::snapshot::EndpointTerms;
use crate::snapshot::balance::{
    Balance, HashOn, HashRule, HashTable, PersistenceRule, SecretBytes, SecureCookie, StickyRule,
};

pub(super) fn compile_balance(upstream: &Upstream) -> Balance {
    match upstream.balance {
        written::Balance::RoundRobin => Balance::RoundRobin,
        written::Balance::LeastConnections => Balance::LeastConnections,
        written::Balance::RandomTwo => Balance::RandomTwo,
        written::Balance::SourceHash => Balance::SourceHash(compile_hash(upstream.hash.as_ref())),
        written::Balance::Hash => Balance::Hash(compile_hash(upstream.hash.as_ref())),
        written::Balance::ShortestExpectedDelay => Balance::ShortestExpectedDelay,
        written::Balance::NeverQueue => Balance::NeverQueue,
        written::Balance::LeastTime => Balance::LeastTime,
    }
}

fn compile_hash(hash: Option<&Hash>) -> HashRule {
    let on = match hash.and_then(|hash| hash.on.as_deref()) {
        Some("uri") => HashOn::Uri,
        Some("destination") => HashOn::Destination,
        Some(named) => match named.split_once(':') {
            Some(("header", name)) => HashOn::Header(name.to_ascii_lowercase().into_bytes().into()),
            Some(("cookie", name)) => HashOn::Cookie(name.as_bytes().into()),
            _ => HashOn::Source,
        },
        None => HashOn::Source,
    };
    let mask = hash.map_or(SourceMask::ALL, |hash| SourceMask { bits4: hash.mask, bits6: hash.mask6 });
    let table = match hash.map_or(written::HashTable::Maglev, |hash| hash.table) {
        written::HashTable::Maglev => HashTable::Maglev,
        written::HashTable::Ketama => HashTable::Ketama,
    };
    HashRule { on, mask, table }
}

pub(super) fn compile_persistence(terms: &PersistenceTerms) -> PersistenceRule {
    PersistenceRule {
        timeout: terms.timeout.duration(),
        mask: SourceMask { bits4: terms.mask, bits6: terms.mask6 },
        clients_max: terms.clients,
    }
}

pub(super) fn compile_sticky(sticky: &Sticky) -> StickyRule {
    let secrets = sticky.secret.iter().chain(&sticky.from_file).chain(&sticky.previous_secret);
    let same_site = match sticky.same_site {
        written::SameSite::Lax => "Lax",
        written::SameSite::Strict => "Strict",
        written::SameSite::None => "None",
    };
    let lifetime = sticky.lifetime.map(|lifetime| format!("; Max-Age={}", lifetime.duration().as_secs()));
    let attributes =
        format!("; Path={}{}; HttpOnly; SameSite={same_site}", sticky.path, lifetime.unwrap_or_default());
    StickyRule {
        cookie: sticky.cookie.as_bytes().into(),
        secrets: secrets.map(|Secret(bytes)| SecretBytes(bytes.clone())).collect(),
        attributes: attributes.into_bytes().into(),
        secure: match sticky.secure {
            written::Secure::Auto => SecureCookie::Auto,
            written::Secure::Always => SecureCookie::Always,
            written::Secure::Never => SecureCookie::Never,
        },
        is_passed: sticky.pass,
    }
}

pub(super) fn compile_terms(entry: &EndpointEntry) -> EndpointTerms {
    EndpointTerms {
        weight: entry.weight,
        connections_max: entry.max_connections,
        connections_min: entry
            .min_connections
            .map(|min| EndpointTerms::lower_threshold(min, entry.max_connections)),
        priority: entry.priority,
        zone: entry.zone.as_deref().map(Into::into),
    }
}
