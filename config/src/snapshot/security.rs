//! Who may come in, and who says so? Security modules, in the form that the process reads.
//!
//! Never holds a password or a key: control brings those.

use std::path::Path;
use std::time::Duration;

/// Index of a security module in [`super::Snapshot::security`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SecurityId(pub u16);

/// A module `[security.NAME]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SecurityModule {
    /// Name in the configuration.
    pub name: Box<str>,
    /// What it does.
    pub kind: SecurityKind,
}

/// What a security module does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SecurityKind {
    /// Knows users and their sessions.
    LocalInbound(LocalInbound),
    /// Signs tokens.
    TokenIssuer(TokenIssuer),
    /// Says which tokens are believed.
    TokenCheck(TokenCheck),
}

/// Users and their sessions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LocalInbound {
    /// How long a session lasts without a request.
    pub session_idle: Duration,
    /// How long it lasts however busy.
    pub session_lifetime: Duration,
    /// Characters that a new password has at least.
    pub password_length_min: u16,
    /// Failed logins of one user, and of one address, after which no more are tried.
    pub lockout_failures: u16,
    /// How long a failed login counts.
    pub lockout_window: Duration,
    /// The check whose tokens are taken in place of a session.
    pub tokens: Option<SecurityId>,
}

/// Who signs tokens, and what they say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TokenIssuer {
    /// What they say in `iss`.
    pub issuer: Box<str>,
    /// Whom they are for, at least one.
    pub audience: Box<[Box<str>]>,
    /// How long they hold.
    pub token_lifetime: Duration,
    /// How they are signed.
    pub algorithm: TokenAlgorithm,
    /// How long a key signs.
    pub rotation: Duration,
}

/// Which tokens are believed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TokenCheck {
    /// Where the keys are.
    pub keys: KeySource,
    /// Who has to have issued them, if not anybody.
    pub issuer: Option<Box<str>>,
    /// For one of whom they have to be.
    pub audience: Box<[Box<str>]>,
    /// How far clocks may differ.
    pub skew: Duration,
    /// How they may be signed.
    pub algorithms: Box<[TokenAlgorithm]>,
    /// How often keys from elsewhere are read again.
    pub refresh: Duration,
}

/// Where the keys are that tokens are signed with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KeySource {
    /// With the token issuer of this name, here or in another node of the store.
    Module(Box<str>),
    /// A set of keys in a file.
    File(Box<Path>),
    /// A set of keys at an address.
    Url(Box<str>),
}

/// How tokens are signed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TokenAlgorithm {
    /// Ed25519.
    EdDsa,
    /// ECDSA with P-256 and SHA-256.
    Es256,
    /// RSA with SHA-256; verified alone.
    Rs256,
}

/// What a channel demands of the tokens that requests bring.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TokenRule {
    /// Which tokens are believed: a [`TokenCheck`].
    pub check: SecurityId,
    /// What they have to allow.
    pub scopes: Box<[Box<str>]>,
}
