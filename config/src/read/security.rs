//! What may a security module say, by its type?
//!
//! Never lets a key pass that would do nothing for its type.

use super::fields::{Fields, Item};
use crate::schema::security::{ChannelToken, Security, SecurityType, SigningAlgorithm, TokenAlgorithm};
use crate::suggest;
use crate::value::duration::Timespan;

const SECOND: Timespan = Timespan::from_secs(1);
const MINUTE: Timespan = Timespan::from_secs(60);
const HOUR: Timespan = Timespan::from_secs(3600);
const DAY: Timespan = Timespan::from_secs(24 * 3600);

/// Which keys mean something for which type.
const OF_LOCAL: [&str; 6] =
    ["session_idle", "session_lifetime", "password_length", "lockout_failures", "lockout_window", "tokens"];
const OF_ISSUER: [&str; 5] = ["issuer", "audience", "token_lifetime", "algorithm", "rotation"];
const OF_CHECK: [&str; 6] = ["jwks", "issuer", "audience", "skew", "algorithms", "refresh"];

/// What a claim may be long; names of issuers are addresses.
const CLAIM_BYTES_MAX: usize = 1024;

pub(super) fn read(fields: &mut Fields<'_>) -> Option<Security> {
    fields.require("type", "\"local_inbound\"");
    let types = [SecurityType::LocalInbound, SecurityType::TokenIssuer, SecurityType::TokenCheck];
    let kind = fields.word("type", &types.map(|kind| (kind.name(), kind)));
    if fields.has("type") {
        check_keys(fields, kind);
    }
    let security = Security {
        kind,
        session_idle: duration(fields, "session_idle", MINUTE, DAY),
        session_lifetime: duration(fields, "session_lifetime", MINUTE, Timespan::from_secs(30 * 24 * 3600)),
        password_length: integer(fields, "password_length", 8, 128),
        lockout_failures: integer(fields, "lockout_failures", 1, 100),
        lockout_window: duration(fields, "lockout_window", SECOND, HOUR),
        tokens: fields.text("tokens").map(str::to_owned),
        issuer: fields.parsed("issuer", check_claim),
        audience: fields.one_or_many("audience").iter().filter_map(|item| item.parsed(check_claim)).collect(),
        token_lifetime: duration(fields, "token_lifetime", Timespan::from_secs(10), DAY),
        algorithm: fields.is_given("algorithm").then(|| {
            let known = [("EdDSA", SigningAlgorithm::EdDsa), ("ES256", SigningAlgorithm::Es256)];
            fields.word("algorithm", &known)
        }),
        rotation: duration(fields, "rotation", HOUR, Timespan::from_secs(365 * 24 * 3600)),
        jwks: read_jwks(fields),
        skew: duration(fields, "skew", Timespan::from_secs(0), Timespan::from_secs(600)),
        algorithms: fields.one_or_many("algorithms").iter().filter_map(read_algorithm).collect(),
        refresh: duration(fields, "refresh", Timespan::from_secs(10), DAY),
    };
    fields.has("type").then_some(security)
}

/// What is missing for a type, and what is too much.
fn check_keys(fields: &Fields<'_>, kind: SecurityType) {
    let own: &[&str] = match kind {
        SecurityType::LocalInbound => &OF_LOCAL,
        SecurityType::TokenIssuer => &OF_ISSUER,
        SecurityType::TokenCheck => &OF_CHECK,
    };
    let mut seen = Vec::new();
    for name in OF_LOCAL.into_iter().chain(OF_ISSUER).chain(OF_CHECK) {
        if fields.has(name) && !own.contains(&name) && !seen.contains(&name) {
            seen.push(name);
            let cause = format!("means nothing with type = {:?}", kind.name());
            fields.error(name, cause, Some("leave it out".to_owned()));
        }
    }
    match kind {
        SecurityType::LocalInbound => {}
        SecurityType::TokenIssuer => {
            fields.require("issuer", "\"https://auth.example\"");
            fields.require("audience", "\"patients\"");
        }
        SecurityType::TokenCheck => fields.require("jwks", "\"module:NAME\""),
    }
}

fn duration(fields: &mut Fields<'_>, name: &'static str, min: Timespan, max: Timespan) -> Option<Timespan> {
    fields.is_given(name).then(|| fields.duration(name, min..=max, max))
}

fn integer(fields: &mut Fields<'_>, name: &'static str, min: u16, max: u16) -> Option<u16> {
    fields.is_given(name).then(|| fields.integer(name, min..=max, max))
}

fn read_jwks(fields: &mut Fields<'_>) -> Option<String> {
    let text = fields.text("jwks")?;
    let rest = ["module:", "file:", "https://", "http://"].iter().find_map(|start| text.strip_prefix(start));
    match rest {
        Some("") | None => {
            let cause = format!("expected where a set of keys is, found {text:?}");
            let suggestion = "\"module:NAME\", \"file:/PATH\", \"https://HOST/PATH\" or \"http://HOST/PATH\"";
            fields.error("jwks", cause, Some(suggestion.to_owned()));
        }
        Some(path) if text.starts_with("file:") => fields.check_path("jwks", path),
        Some(rest) if text.starts_with("http") && rest.bytes().any(|byte| !byte.is_ascii_graphic()) => {
            fields.error("jwks", format!("{text:?} is no address: it holds more than visible ASCII"), None);
        }
        Some(_) => {}
    }
    Some(text.to_owned())
}

fn read_algorithm(item: &Item<'_>) -> Option<TokenAlgorithm> {
    let text = item.text()?;
    let known = [
        ("EdDSA", TokenAlgorithm::EdDsa),
        ("ES256", TokenAlgorithm::Es256),
        ("RS256", TokenAlgorithm::Rs256),
    ];
    let found = known.iter().find(|(name, _)| *name == text).map(|(_, algorithm)| *algorithm);
    if found.is_none() {
        let names = known.iter().map(|(name, _)| *name);
        let suggestion = suggest::did_you_mean(text, names.clone()).or_else(|| suggest::one_of(names));
        item.report.error(&item.key, format!("unknown algorithm {text:?}"), suggestion);
    }
    found
}

/// RFC 7519 §2, StringOrURI: any text; without what would not survive a header.
fn check_claim(text: &str) -> Result<String, ClaimError> {
    let is_good = !text.is_empty() && text.len() <= CLAIM_BYTES_MAX && !text.contains(char::is_control);
    is_good.then(|| text.to_owned()).ok_or(ClaimError)
}

/// A claim that is none.
#[derive(Debug, thiserror::Error)]
#[error("expected 1 to {CLAIM_BYTES_MAX} bytes without control characters")]
struct ClaimError;

impl crate::value::Refusal for ClaimError {
    fn suggestion(&self) -> Option<String> {
        None
    }
}

pub(super) fn read_token(fields: &mut Fields<'_>) -> ChannelToken {
    fields.require("check", "\"NAME\"");
    ChannelToken {
        check: fields.text("check").unwrap_or_default().to_owned(),
        scopes: fields.items_some("scopes").iter().filter_map(|item| item.parsed(check_scope)).collect(),
    }
}

/// RFC 6749 §3.3: `1*( %x21 / %x23-5B / %x5D-7E )`.
fn check_scope(text: &str) -> Result<String, ScopeError> {
    let is_good =
        !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_graphic() && !matches!(byte, b'"' | b'\\'));
    is_good.then(|| text.to_owned()).ok_or_else(|| ScopeError { found: text.to_owned() })
}

/// A scope that is none.
#[derive(Debug, thiserror::Error)]
#[error("a scope is visible ASCII without quotes, backslashes and blanks, found {found:?}")]
struct ScopeError {
    found: String,
}

impl crate::value::Refusal for ScopeError {
    fn suggestion(&self) -> Option<String> {
        None
    }
}
