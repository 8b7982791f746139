//! How is TLS spoken, to clients and to endpoints?
//!
//! Never holds a secret: keys and certificates are named by their files, which the process reads when it starts.

use schemars::JsonSchema;
use serde::Serialize;

use super::text::Fingerprint;

/// TLS towards clients, for `protocol = "https"`.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct ListenerTls {
    /// Certificates with their keys, at least one: `{ certificate = FILE, key = FILE }`, both PEM, the certificate with its
    /// chain. A client gets the one that holds the name it asks for, of an algorithm it knows. Relative paths begin at the
    /// configuration file's directory.
    #[schemars(length(min = 1), extend("examples" = [[{ "certificate": "/etc/tls/web.pem", "key": "/etc/tls/web.key" }]]))]
    pub certificates: Vec<CertificateFiles>,
    /// What a client gets that asks for a name no certificate holds: the first of them, or a refusal.
    #[schemars(default, example = &"refuse")]
    pub unknown_name: UnknownName,
    /// The oldest version spoken.
    #[schemars(default, example = &"1.3")]
    pub min_version: TlsVersion,
    /// Whether a client that comes back may leave most of the handshake out.
    #[schemars(default = "resumption_default", example = false)]
    pub resumption: bool,
    /// Handshakes in progress at a time, per core; further clients wait their turn, until `timeouts.handshake`. They bound
    /// what those who never finish one can hold. 1 to 65535.
    #[schemars(default = "handshakes_default", range(min = 1, max = 65_535), example = 64)]
    pub handshakes: u16,
    /// Mutual TLS: what clients have to show.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(default, with = "ClientAuth")]
    pub client_auth: Option<ClientAuth>,
}

/// A certificate and its key.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct CertificateFiles {
    /// PEM file of the chain, its own certificate first.
    pub certificate: String,
    /// PEM file of the private key.
    pub key: String,
}

/// Mutual TLS: what clients have to show.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct ClientAuth {
    /// Whether a client without a certificate is let in: `require` does not, `request` does.
    #[schemars(default, example = &"request")]
    pub mode: ClientAuthMode,
    /// PEM file of the authorities whose certificates are believed.
    #[schemars(example = &"/etc/tls/clients.pem")]
    pub ca: String,
    /// PEM files of the certificates that they have revoked. Once there is one, every authority needs its own.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(default, extend("examples" = [["/etc/tls/revoked.pem"]]))]
    pub crl: Vec<String>,
    /// The only certificates let in, `"sha256:"` and the SHA-256 of each in hexadecimal; without them, all that an authority
    /// vouches for.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(default, extend("examples" =
        [["sha256:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"]]))]
    pub fingerprints: Vec<Fingerprint>,
    /// Whether a client that comes back may do so without its certificate. What was revoked in the meantime is not seen
    /// then.
    #[schemars(default, example = true)]
    pub resumption: bool,
}

/// TLS towards endpoints.
#[derive(Clone, Debug, Default, PartialEq, Serialize, JsonSchema)]
#[schemars(deny_unknown_fields, default)]
pub struct UpstreamTls {
    /// Whose word for an endpoint's identity is taken: that of the authorities this host trusts, or nobody's, which lets
    /// anyone on the way read along.
    #[schemars(example = &"none")]
    pub verify: Verify,
    /// PEM file of the authorities whose word is taken, in place of those this host trusts.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "String", example = &"/etc/tls/backend-ca.pem")]
    pub ca: Option<String>,
    /// The name that endpoints are asked for and must have a certificate of; without it, each endpoint's address.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "String", example = &"backend.example")]
    pub server_name: Option<String>,
    /// PEM file of the certificate shown to endpoints that ask for one. Needs `key`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "String", example = &"/etc/tls/gateway.pem")]
    pub certificate: Option<String>,
    /// PEM file of its private key.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "String", example = &"/etc/tls/gateway.key")]
    pub key: Option<String>,
    /// The oldest version spoken.
    #[schemars(example = &"1.3")]
    pub min_version: TlsVersion,
}

/// What a client gets that asks for a name no certificate holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum UnknownName {
    /// The first certificate.
    #[default]
    Default,
    /// A refusal.
    Refuse,
}

/// Versions of TLS.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, JsonSchema)]
pub enum TlsVersion {
    /// RFC 5246.
    #[default]
    #[serde(rename = "1.2")]
    Tls12,
    /// RFC 8446.
    #[serde(rename = "1.3")]
    Tls13,
}

/// Whether a client without a certificate is let in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ClientAuthMode {
    /// It is not.
    #[default]
    Require,
    /// It is, without an identity.
    Request,
}

/// Whose word for an endpoint's identity is taken.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Verify {
    /// That of the authorities this host trusts, or of those in `ca`.
    #[default]
    Platform,
    /// Nobody's.
    None,
}

pub(crate) fn resumption_default() -> bool {
    true
}

pub(crate) fn handshakes_default() -> u16 {
    256
}
