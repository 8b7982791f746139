//! How may endpoints be chosen and come back to?
//!
//! Never lets a rule pass that would do nothing beside the others, nor a secret that could be guessed.

use std::ops::RangeInclusive;

use thiserror::Error;

use super::fields::{Fields, Item};
use crate::document::Value;
use crate::schema::balance::{
    Balance, EndpointEntry, Hash, HashTable, PersistenceTerms, SameSite, Secret, Secure, Sticky,
    clients_default, cookie_default, mask_default, mask6_default, path_default, persistence_timeout_default,
};
use crate::value::duration::Timespan;
use crate::value::{Refusal, address, field, name};

const BALANCES: [(&str, Balance); 8] = [
    ("round_robin", Balance::RoundRobin),
    ("least_connections", Balance::LeastConnections),
    ("random_two", Balance::RandomTwo),
    ("source_hash", Balance::SourceHash),
    ("hash", Balance::Hash),
    ("shortest_expected_delay", Balance::ShortestExpectedDelay),
    ("never_queue", Balance::NeverQueue),
    ("least_time", Balance::LeastTime),
];

const TIMEOUTS: RangeInclusive<Timespan> = Timespan::from_secs(1)..=Timespan::from_secs(24 * 3600);
const LIFETIMES: RangeInclusive<Timespan> = Timespan::from_secs(1)..=Timespan::from_secs(8760 * 3600);

/// As many as a key of HMAC-SHA256 must have so that guessing it is not the shortest way (RFC 2104 §3 asks for more).
const SECRET_BYTES_MIN: usize = 16;
/// More would be hashed first, and nobody writes as much.
const SECRET_BYTES_MAX: usize = 1024;

/// Why a text does not say what is hashed.
#[derive(Debug, Error)]
enum HashOnError {
    #[error("expected uri, destination, source, header:NAME or cookie:NAME, found {0:?}")]
    Unknown(String),
    #[error("the name of a {0} is missing")]
    NoName(&'static str),
    #[error(transparent)]
    Name(#[from] field::FieldError),
}

impl Refusal for HashOnError {
    fn suggestion(&self) -> Option<String> {
        match self {
            Self::NoName(kind) => Some(format!("for example \"{kind}:tenant\"")),
            Self::Name(refusal) => refusal.suggestion(),
            Self::Unknown(_) => None,
        }
    }
}

/// Why a path is none that a cookie could have.
#[derive(Debug, Error)]
enum CookiePathError {
    #[error("a path begins with a slash, found {0:?}")]
    NoSlash(String),
    #[error("a cookie's path is visible ASCII without a semicolon, found {0:?}")]
    Character(char),
}

impl Refusal for CookiePathError {
    fn suggestion(&self) -> Option<String> {
        None
    }
}

pub(super) fn read_balance(fields: &mut Fields<'_>) -> (Balance, Option<Hash>) {
    let balance = fields.word("balance", &BALANCES);
    let hash = fields.table("hash", read_hash);
    match (balance, &hash) {
        (Balance::Hash, _) if !fields.has_below(&["hash", "on"]) => {
            let suggestion = Some("for example hash = { on = \"uri\" }".to_owned());
            fields.error_below(&["hash", "on"], "is missing beside balance = \"hash\"", suggestion);
        }
        (Balance::SourceHash, Some(Hash { on: Some(on), .. })) if on != "source" => {
            let suggestion = Some("did you mean balance = \"hash\"?".to_owned());
            fields.error_below(&["hash", "on"], "balance = \"source_hash\" hashes the source", suggestion);
        }
        (Balance::Hash | Balance::SourceHash, _) | (_, None) => {}
        (_, Some(_)) => {
            let suggestion = Some("did you mean balance = \"hash\"?".to_owned());
            fields.error("hash", "means nothing without balance = \"hash\"", suggestion);
        }
    }
    (balance, hash)
}

fn read_hash(fields: &mut Fields<'_>) -> Hash {
    let tables = [("maglev", HashTable::Maglev), ("ketama", HashTable::Ketama)];
    Hash {
        on: fields.parsed("on", |text| parse_hash_on(text).map(|()| text.to_owned())),
        table: fields.word("table", &tables),
        mask: fields.integer("mask", 0..=32, mask_default()),
        mask6: fields.integer("mask6", 0..=128, mask6_default()),
    }
}

fn parse_hash_on(text: &str) -> Result<(), HashOnError> {
    match text.split_once(':') {
        None if ["uri", "destination", "source"].contains(&text) => Ok(()),
        Some(("header", "")) => Err(HashOnError::NoName("header")),
        Some(("cookie", "")) => Err(HashOnError::NoName("cookie")),
        Some(("header" | "cookie", name)) => Ok(field::check_token(name)?),
        _ => Err(HashOnError::Unknown(text.to_owned())),
    }
}

pub(super) fn read_persistence(fields: &mut Fields<'_>) -> PersistenceTerms {
    PersistenceTerms {
        timeout: fields.duration("timeout", TIMEOUTS, persistence_timeout_default()),
        mask: fields.integer("mask", 0..=32, mask_default()),
        mask6: fields.integer("mask6", 0..=128, mask6_default()),
        clients: fields.integer("clients", 64..=16_777_216, clients_default()),
    }
}

pub(super) fn read_sticky(fields: &mut Fields<'_>) -> Sticky {
    let secures = [("auto", Secure::Auto), ("always", Secure::Always), ("never", Secure::Never)];
    let same_sites = [("lax", SameSite::Lax), ("strict", SameSite::Strict), ("none", SameSite::None)];
    match (fields.has("secret"), fields.has("secret_file")) {
        (true, true) => {
            let suggestion = Some("keep one of the two".to_owned());
            fields.error("secret_file", "there is a secret already", suggestion);
        }
        (false, false) => {
            let suggestion = Some("for example secret = \"${STICKY_SECRET}\"".to_owned());
            fields.error_here("has either a secret or a secret_file, found neither", suggestion);
        }
        (true, false) | (false, true) => {}
    }
    let secret = read_secret(fields, "secret");
    let secret_file = fields.text("secret_file").map(str::to_owned);
    let from_file = read_secret_file(fields, "secret_file");
    let lifetime = fields.is_given("lifetime");
    let lifetime = lifetime.then(|| fields.duration("lifetime", LIFETIMES, Timespan::from_secs(3600)));
    let (secure, same_site) = (fields.word("secure", &secures), fields.word("same_site", &same_sites));
    if same_site == SameSite::None && secure == Secure::Never {
        let suggestion = Some("leave secure out".to_owned());
        fields.error(
            "secure",
            "browsers drop a cookie of same_site = \"none\" that is not secure",
            suggestion,
        );
    }
    Sticky {
        cookie: fields
            .parsed("cookie", |text| field::check_token(text).map(|()| text.to_owned()))
            .unwrap_or_else(cookie_default),
        secret,
        secret_file,
        from_file,
        previous_secret: read_secret(fields, "previous_secret"),
        lifetime,
        path: fields.parsed("path", parse_cookie_path).unwrap_or_else(path_default),
        secure,
        same_site,
        pass: fields.boolean("pass", false),
    }
}

fn read_secret(fields: &mut Fields<'_>, name: &'static str) -> Option<Secret> {
    let text = fields.text(name)?;
    check_secret(fields, name, text)
}

pub(super) fn read_secret_file(fields: &mut Fields<'_>, name: &'static str) -> Option<Secret> {
    if !fields.is_given(name) {
        return None;
    }
    let text = fields.file(name, SECRET_BYTES_MAX + 2)?;
    check_secret(fields, name, text.trim_end_matches(['\r', '\n']))
}

fn check_secret(fields: &Fields<'_>, name: &str, text: &str) -> Option<Secret> {
    if (SECRET_BYTES_MIN..=SECRET_BYTES_MAX).contains(&text.len()) {
        return Some(Secret(text.as_bytes().into()));
    }
    let cause = format!("a secret has {SECRET_BYTES_MIN} to {SECRET_BYTES_MAX} bytes, found {}", text.len());
    fields.error(name, cause, Some("for example the output of openssl rand -base64 32".to_owned()));
    None
}

/// RFC 6265 §4.1.1: any character but controls and a semicolon.
fn parse_cookie_path(text: &str) -> Result<String, CookiePathError> {
    if !text.starts_with('/') {
        return Err(CookiePathError::NoSlash(text.to_owned()));
    }
    match text.chars().find(|c| !c.is_ascii_graphic() || *c == ';') {
        Some(found) => Err(CookiePathError::Character(found)),
        None => Ok(text.to_owned()),
    }
}

/// An address, or a table that holds one.
pub(super) fn read_endpoint(item: &Item<'_>) -> Option<EndpointEntry> {
    match item.node.value {
        Value::Table(_) => item.table(read_endpoint_table)?,
        _ => item.parsed(address::parse_endpoint).map(EndpointEntry::at),
    }
}

fn read_endpoint_table(fields: &mut Fields<'_>) -> Option<EndpointEntry> {
    fields.require("address", "\"10.0.0.1:8000\"");
    let address = fields.parsed("address", address::parse_endpoint);
    let is_backup = fields.boolean("backup", false);
    if is_backup && fields.has("priority") {
        let suggestion = Some("keep one of the two".to_owned());
        fields.error("priority", "backup = true is priority 1", suggestion);
    }
    let priority = fields.integer("priority", 0..=u8::MAX, u8::from(is_backup));
    let weight = fields.integer("weight", 0..=u16::MAX, 1);
    let mut connections =
        |name, least| fields.is_given(name).then(|| fields.integer(name, least..=1_000_000, least));
    let (max_connections, min_connections) =
        (connections("max_connections", 1_u32), connections("min_connections", 0));
    match (max_connections, min_connections) {
        (None, Some(_)) => {
            let suggestion = Some("add max_connections, or leave it out".to_owned());
            fields.error("min_connections", "means nothing without max_connections", suggestion);
        }
        (Some(max), Some(min)) if min > max => {
            let cause = format!("must be at most max_connections, {max}, found {min}");
            fields.error("min_connections", cause, None);
        }
        _ => {}
    }
    let zone = fields.parsed("zone", |text| name::check(text).map(|()| text.to_owned()));
    Some(EndpointEntry { address: address?, weight, max_connections, min_connections, priority, zone })
}
