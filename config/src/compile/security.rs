//! Which security modules are there, and who refers to which?
//!
//! Never takes a module for one of another type.

use std::path::Path;
use std::time::Duration;

use super::Names;
use crate::document::key::Key;
use crate::schema::Config;
use crate::schema::security as written;
use crate::schema::security::SecurityType;
use crate::snapshot::security::{
    KeySource, LocalInbound, SecurityId, SecurityKind, SecurityModule, TokenAlgorithm, TokenCheck,
    TokenIssuer, TokenRule,
};
use crate::value::duration::Timespan;

/// All modules, by [`SecurityId`]. `None` means that the report names a reference that is wrong.
pub(super) fn compile(config: &Config, names: &Names<'_>) -> Option<Box<[SecurityModule]>> {
    check_issuers(config, names);
    let modules: Vec<_> =
        config.security.iter().map(|(name, module)| compile_module(config, name, module, names)).collect();
    modules.into_iter().collect()
}

fn compile_module(
    config: &Config,
    name: &str,
    module: &written::Security,
    names: &Names<'_>,
) -> Option<SecurityModule> {
    let kind = match module.kind {
        SecurityType::LocalInbound => SecurityKind::LocalInbound(compile_local(name, module, names)?),
        SecurityType::TokenIssuer => SecurityKind::TokenIssuer(TokenIssuer {
            issuer: module.issuer.as_deref()?.into(),
            audience: texts(&module.audience),
            token_lifetime: or_seconds(module.token_lifetime, 5 * 60),
            algorithm: match module.algorithm.unwrap_or_default() {
                written::SigningAlgorithm::EdDsa => TokenAlgorithm::EdDsa,
                written::SigningAlgorithm::Es256 => TokenAlgorithm::Es256,
            },
            rotation: or_seconds(module.rotation, 30 * 24 * 3600),
        }),
        SecurityType::TokenCheck => SecurityKind::TokenCheck(compile_check(config, name, module, names)?),
    };
    Some(SecurityModule { name: name.into(), kind })
}

fn compile_local(name: &str, module: &written::Security, names: &Names<'_>) -> Option<LocalInbound> {
    let key = Key::of(["security", name, "tokens"]);
    let tokens = match &module.tokens {
        Some(check) => Some(find(check, SecurityType::TokenCheck, &key, names)?),
        None => None,
    };
    Some(LocalInbound {
        session_idle: or_seconds(module.session_idle, 30 * 60),
        session_lifetime: or_seconds(module.session_lifetime, 12 * 3600),
        password_length_min: module.password_length.unwrap_or(12),
        lockout_failures: module.lockout_failures.unwrap_or(10),
        lockout_window: or_seconds(module.lockout_window, 60),
        tokens,
    })
}

fn compile_check(
    config: &Config,
    name: &str,
    module: &written::Security,
    names: &Names<'_>,
) -> Option<TokenCheck> {
    let key = Key::of(["security", name]);
    let jwks = module.jwks.as_deref()?;
    let (keys, issuing) = match jwks.split_once(':')? {
        ("module", issuer) => {
            let issuing = config.security.iter().find(|(name, _)| *name == issuer).map(|(_, module)| module);
            if issuing.is_some_and(|module| module.kind != SecurityType::TokenIssuer) {
                let cause = format!("security module {issuer:?} is no token_issuer");
                names.report.error(&key.child("jwks"), cause, None);
                return None;
            }
            (KeySource::Module(issuer.into()), issuing)
        }
        ("file", path) => (KeySource::File(Path::new(&*names.file(path)?).into()), None),
        _ => (KeySource::Url(jwks.into()), None),
    };
    let issuer = module.issuer.as_deref().or_else(|| issuing.and_then(|module| module.issuer.as_deref()));
    let audience = match issuing {
        Some(issuing) if module.audience.is_empty() => &issuing.audience,
        _ => &module.audience,
    };
    if audience.is_empty() {
        let cause = "whom tokens are for is missing: who checks no audience believes tokens that were given out for others";
        names.report.error(
            &key.child("audience"),
            cause,
            Some("for example audience = \"patients\"".to_owned()),
        );
        return None;
    }
    if issuer.is_none() && matches!(keys, KeySource::Module(_)) {
        let cause = format!("is missing, and {jwks:?} is no module of this node that would say it");
        let suggestion = Some("say what the other node's issuer says in its tokens".to_owned());
        names.report.error(&key.child("issuer"), cause, suggestion);
        return None;
    }
    let algorithms = module.algorithms.iter().map(|algorithm| match algorithm {
        written::TokenAlgorithm::EdDsa => TokenAlgorithm::EdDsa,
        written::TokenAlgorithm::Es256 => TokenAlgorithm::Es256,
        written::TokenAlgorithm::Rs256 => TokenAlgorithm::Rs256,
    });
    let all = [TokenAlgorithm::EdDsa, TokenAlgorithm::Es256, TokenAlgorithm::Rs256];
    Some(TokenCheck {
        keys,
        issuer: issuer.map(Into::into),
        audience: texts(audience),
        skew: or_seconds(module.skew, 30),
        algorithms: if module.algorithms.is_empty() { all.into() } else { algorithms.collect() },
        refresh: or_seconds(module.refresh, 5 * 60),
    })
}

/// What a channel demands of tokens. `None` means that the report names a module that is wrong.
pub(super) fn compile_token(
    channel: &str,
    token: &written::ChannelToken,
    names: &Names<'_>,
) -> Option<TokenRule> {
    let key = Key::of(["channel", channel, "token", "check"]);
    let check = find(&token.check, SecurityType::TokenCheck, &key, names)?;
    Some(TokenRule { check, scopes: texts(&token.scopes) })
}

/// A module of this name and type.
pub(super) fn find(name: &str, kind: SecurityType, key: &Key, names: &Names<'_>) -> Option<SecurityId> {
    let id = names.security(name, key)?;
    if names.security_types[usize::from(id.0)] != kind {
        let cause = format!("security module {name:?} is no {}", kind.name());
        names.report.error(key, cause, None);
        return None;
    }
    Some(id)
}

/// Clients of `/token` say for which channel they want one, and not of which issuer.
fn check_issuers(config: &Config, names: &Names<'_>) {
    let issuers = config.security.iter().filter(|(_, module)| module.kind == SecurityType::TokenIssuer);
    for (name, _) in issuers.skip(1) {
        let cause = "a node has one token_issuer at most";
        let suggestion = Some("put it into a node of its own".to_owned());
        names.report.error(&Key::of(["security", name, "type"]), cause, suggestion);
    }
}

fn texts(texts: &[String]) -> Box<[Box<str>]> {
    texts.iter().map(|text| text.as_str().into()).collect()
}

fn or_seconds(written: Option<Timespan>, seconds: u64) -> Duration {
    written.map_or(Duration::from_secs(seconds), Timespan::duration)
}
