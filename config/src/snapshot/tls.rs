//! How is TLS spoken, to clients and to endpoints, as cores read it?
//!
//! Names files and never holds a key.

use std::path::Path;

/// What a listener needs to speak TLS.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListenerTls {
    /// At least one; a name is given the one that holds it.
    pub certificates: Box<[CertificateFiles]>,
    /// What is done with a client that asks for a name none of them holds.
    pub unknown_name: UnknownName,
    /// What clients have to show, if anything.
    pub client_auth: Option<ClientAuth>,
    /// The oldest version spoken.
    pub version_min: TlsVersion,
    /// Whether a client that comes back may leave most of the handshake out.
    pub resumption: bool,
    /// Handshakes in progress at a time on one core; further clients wait.
    pub handshakes_max: u32,
}

/// A certificate chain and its key, both in PEM.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CertificateFiles {
    /// The chain, the end's own certificate first.
    pub certificate: Box<Path>,
    /// The private key.
    pub key: Box<Path>,
}

/// What is done with a client that asks for a name no certificate holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UnknownName {
    /// It is given the first certificate.
    Default,
    /// The handshake is refused: `unrecognized_name` (RFC 6066 §3).
    Refuse,
}

/// Versions of TLS.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum TlsVersion {
    /// RFC 5246.
    Tls12,
    /// RFC 8446.
    Tls13,
}

/// Mutual TLS: what clients have to show.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientAuth {
    /// Whether one without a certificate is let in.
    pub mode: ClientAuthMode,
    /// PEM file of the authorities whose certificates are believed.
    pub authorities: Box<Path>,
    /// PEM files of what they have revoked.
    pub revocation: Box<[Box<Path>]>,
    /// SHA-256 of the certificates let in, each in DER; empty for all that an authority vouches for.
    pub fingerprints: Box<[[u8; 32]]>,
    /// Whether a client that comes back may do so without its certificate.
    pub resumption: bool,
}

/// Whether a client without a certificate is let in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClientAuthMode {
    /// It is not.
    Require,
    /// It is, without an identity.
    Request,
}

/// How endpoints are spoken to over TLS.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UpstreamTls {
    /// Whose word for an endpoint's identity is taken.
    pub verify: Verify,
    /// Who the endpoints are: asked for, and looked for in their certificates. `None` takes each one's address.
    pub server_name: Option<Box<str>>,
    /// What is shown to endpoints that ask who we are.
    pub client: Option<CertificateFiles>,
    /// The oldest version spoken.
    pub version_min: TlsVersion,
}

/// Whose word for an endpoint's identity is taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verify {
    /// The authorities that this host trusts.
    Platform,
    /// Those of a PEM file.
    Authorities(Box<Path>),
    /// Nobody's: any certificate is taken.
    Nothing,
}
