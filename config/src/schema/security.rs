//! Who may come in, and who says so? Modules that know users, issue tokens and check them.
//!
//! Never holds a password or a key: those are in the store, or in the memory of a process that has none.

use schemars::JsonSchema;
use serde::Serialize;

use super::text;
use crate::value::duration::Timespan;

/// A security module. Which keys mean something depends on its `type`.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct Security {
    /// What it does: `local_inbound` knows users and their sessions, for `admin.security`; `token_issuer` gives clients tokens that
    /// it signs (OAuth2 client credentials), at most one in a node; `token_check` says which tokens are believed, for channels and
    /// for `tokens`.
    #[serde(rename = "type")]
    #[schemars(example = &"token_check")]
    pub kind: SecurityType,
    /// `local_inbound`: how long a session lasts without a request; `30m` if left out. 1m to 24h.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(default, with = "Timespan", example = &"15m")]
    pub session_idle: Option<Timespan>,
    /// `local_inbound`: how long a session lasts however busy it is; `12h` if left out. 1m to 720h.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(default, with = "Timespan", example = &"8h")]
    pub session_lifetime: Option<Timespan>,
    /// `local_inbound`: characters that a new password has at least; 12 if left out. 8 to 128.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(default, with = "u16", range(min = 8, max = 128), example = 16)]
    pub password_length: Option<u16>,
    /// `local_inbound`: failed logins of one user, and of one address, within `lockout_window` after which no more are tried but
    /// answered 429; 10 if left out. 1 to 100.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(default, with = "u16", range(min = 1, max = 100), example = 5)]
    pub lockout_failures: Option<u16>,
    /// `local_inbound`: how long a failed login counts; `1m` if left out. 1s to 1h.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(default, with = "Timespan", example = &"5m")]
    pub lockout_window: Option<Timespan>,
    /// `local_inbound`: name of a `token_check` whose tokens are taken in place of a session; each of their scopes that is the name
    /// of a permission gives that.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(default, with = "String", example = &"clients")]
    pub tokens: Option<String>,
    /// `token_issuer`: what its tokens say in `iss`, required. `token_check`: what tokens have to say there; with
    /// `jwks = "module:NAME"` that module's if left out, anything otherwise.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(default, with = "String", example = &"https://auth.example")]
    pub issuer: Option<String>,
    /// `token_issuer`: whom its tokens are for (`aud`), required. `token_check`: one of these has to be among whom a token is for;
    /// required unless `jwks` names a module of this node, whose it is then. One or a list.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(default, schema_with = "text::one_or_many", extend("examples" = [["patients", "admin"]]))]
    pub audience: Vec<String>,
    /// `token_issuer`: how long a token holds; `5m` if left out. 10s to 24h.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(default, with = "Timespan", example = &"15m")]
    pub token_lifetime: Option<Timespan>,
    /// `token_issuer`: how tokens are signed; `EdDSA` if left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(default, with = "SigningAlgorithm", example = &"ES256")]
    pub algorithm: Option<SigningAlgorithm>,
    /// `token_issuer`: how long a key signs before the next takes over; `720h` if left out. What it signed is believed until it is
    /// over. 1h to 8760h.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(default, with = "Timespan", example = &"168h")]
    pub rotation: Option<Timespan>,
    /// `token_check`: where the keys are that tokens are signed with, required: `"module:NAME"` for a token issuer of this node, or of
    /// another with the same store; `"file:PATH"`, `"https://…"` or `"http://…"` for a set of keys (RFC 7517).
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(default, with = "String", example = &"module:issuer")]
    pub jwks: Option<String>,
    /// `token_check`: how far the clocks of whoever issues and whoever checks may differ; `30s` if left out. 0s to 10m.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(default, with = "Timespan", example = &"5s")]
    pub skew: Option<Timespan>,
    /// `token_check`: how tokens may be signed; all that is known if left out. One or a list.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(default, schema_with = "text::one_or_many", extend("examples" = [["EdDSA", "ES256"]]))]
    pub algorithms: Vec<TokenAlgorithm>,
    /// `token_check`: how often a file or an address of keys is read again; `5m` if left out. A token with an unknown key has it read
    /// at once, ten seconds after the last time at the earliest. 10s to 24h.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(default, with = "Timespan", example = &"1m")]
    pub refresh: Option<Timespan>,
}

/// What a security module does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum SecurityType {
    /// Knows users and their sessions.
    #[default]
    LocalInbound,
    /// Signs tokens.
    TokenIssuer,
    /// Says which tokens are believed.
    TokenCheck,
}

/// How tokens are signed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, JsonSchema)]
pub enum SigningAlgorithm {
    /// Ed25519.
    #[default]
    #[serde(rename = "EdDSA")]
    EdDsa,
    /// ECDSA with P-256.
    #[serde(rename = "ES256")]
    Es256,
}

/// How tokens may be signed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub enum TokenAlgorithm {
    /// Ed25519.
    #[serde(rename = "EdDSA")]
    EdDsa,
    /// ECDSA with P-256.
    #[serde(rename = "ES256")]
    Es256,
    /// RSA with SHA-256.
    #[serde(rename = "RS256")]
    Rs256,
}

/// Requests need a token that is believed (`Authorization: Bearer`, RFC 6750); others are answered 401, or 403 where it does not
/// allow enough.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct ChannelToken {
    /// Name of the security module, of type `token_check`, that says which tokens are believed.
    #[schemars(example = &"clients")]
    pub check: String,
    /// Scopes that a token has to allow, all of them.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(default, extend("examples" = [["patients.read"]]))]
    pub scopes: Vec<String>,
}

impl SecurityType {
    /// As it is written.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::LocalInbound => "local_inbound",
            Self::TokenIssuer => "token_issuer",
            Self::TokenCheck => "token_check",
        }
    }
}
