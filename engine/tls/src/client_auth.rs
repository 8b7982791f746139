//! Which clients are believed? Those whose certificate a trusted authority issued, nobody revoked, and, where certificates are
//! pinned, is one of those.
//!
//! Never half-changed: what is demanded is replaced whole, between two handshakes.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};

use arc_swap::ArcSwap;
use aws_lc_rs::digest::{Context, SHA256, digest};
use rustls::client::danger::HandshakeSignatureValid;
use rustls::crypto::{CryptoProvider, aws_lc_rs as provider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, UnixTime};
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{CertificateError, DigitallySignedStruct, DistinguishedName, Error, SignatureScheme};

use crate::certificate::fingerprint;
use crate::trust::{Authorities, Revocations, TrustError};

/// Lists of authorities' names that a verifier has room for, one for each change of the authorities in its life. Beyond,
/// clients are told none, and choose a certificate by themselves.
const HINTS_MAX: usize = 32;

/// Whether a client may come without a certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClientMode {
    /// It may not.
    Require,
    /// It may. One that it shows must be good all the same.
    Request,
}

/// What is demanded of a client's certificate.
#[derive(Debug)]
pub struct Demands {
    verifier: Arc<dyn ClientCertVerifier>,
    /// SHA-256 of the certificates that may come; empty: all that the authorities issued.
    fingerprints: Box<[[u8; 32]]>,
    /// Names of the authorities.
    hints: Vec<DistinguishedName>,
    digest: [u8; 32],
}

impl Demands {
    /// A certificate of one of `authorities`, that none of `revocations` names and that has one of `fingerprints`, if there
    /// are any. With revocation lists, each certificate below the authority must be covered by one that is not out of date.
    ///
    /// # Errors
    /// A list cannot be used.
    pub fn new(
        authorities: &Authorities,
        revocations: &Revocations,
        fingerprints: Box<[[u8; 32]]>,
    ) -> Result<Self, TrustError> {
        let roots = authorities.roots();
        let provider = Arc::new(provider::default_provider());
        let verifier = WebPkiClientVerifier::builder_with_provider(roots.clone(), provider)
            .with_crls(revocations.lists().iter().cloned())
            .enforce_revocation_expiration()
            .build()
            .map_err(|error| TrustError::Unusable(error.to_string()))?;
        let digest = demands_digest(authorities, revocations, &fingerprints);
        Ok(Self { verifier, fingerprints, hints: roots.subjects(), digest })
    }

    /// Differs whenever something else is demanded.
    #[must_use]
    pub fn digest(&self) -> &[u8; 32] {
        &self.digest
    }
}

fn demands_digest(
    authorities: &Authorities,
    revocations: &Revocations,
    fingerprints: &[[u8; 32]],
) -> [u8; 32] {
    let mut context = Context::new(&SHA256);
    for count in [authorities.certificates().len(), revocations.lists().len(), fingerprints.len()] {
        context.update(&(count as u64).to_be_bytes());
    }
    authorities.certificates().iter().for_each(|certificate| context.update(&fingerprint(certificate)));
    revocations.lists().iter().for_each(|list| context.update(digest(&SHA256, list).as_ref()));
    fingerprints.iter().for_each(|fingerprint| context.update(fingerprint));
    let mut digest = [0; 32];
    digest.copy_from_slice(context.finish().as_ref());
    digest
}

/// What is demanded of clients now; rustls asks it at every full handshake.
#[derive(Debug)]
pub struct ClientAuth {
    mode: ClientMode,
    provider: CryptoProvider,
    demands: ArcSwap<Demands>,
    /// Every list of names that there was: rustls reads them without asking for how long.
    hints: [OnceLock<Vec<DistinguishedName>>; HINTS_MAX],
    /// Which of them is told to clients.
    hint: AtomicUsize,
}

impl ClientAuth {
    /// Begins with `demands`.
    #[must_use]
    pub fn new(mode: ClientMode, demands: Demands) -> Self {
        let auth = Self {
            mode,
            provider: provider::default_provider(),
            hints: [const { OnceLock::new() }; HINTS_MAX],
            hint: AtomicUsize::new(0),
            demands: ArcSwap::from_pointee(demands),
        };
        auth.tell(&auth.demands.load().hints);
        auth
    }

    /// Handshakes that verify a client from now on demand this. Connections that are open stay.
    pub fn replace(&self, demands: Demands) {
        let demands = Arc::new(demands);
        self.demands.store(demands.clone());
        self.tell(&demands.hints);
    }

    /// The digest of what is demanded now.
    #[must_use]
    pub fn digest(&self) -> [u8; 32] {
        self.demands.load().digest
    }

    fn tell(&self, names: &[DistinguishedName]) {
        let bytes =
            |names: &[DistinguishedName]| names.iter().map(|name| name.as_ref().to_vec()).collect::<Vec<_>>();
        let is_alike = |place: &OnceLock<_>| bytes(place.get_or_init(|| names.to_vec())) == bytes(names);
        let place = self.hints.iter().position(is_alike).unwrap_or(HINTS_MAX);
        self.hint.store(place, Ordering::Release);
    }
}

impl ClientCertVerifier for ClientAuth {
    fn client_auth_mandatory(&self) -> bool {
        self.mode == ClientMode::Require
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        let told = self.hints.get(self.hint.load(Ordering::Acquire));
        told.and_then(OnceLock::get).map_or(&[], Vec::as_slice)
    }

    fn verify_client_cert(
        &self,
        certificate: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        let demands = self.demands.load();
        let verified = demands.verifier.verify_client_cert(certificate, intermediates, now)?;
        if !demands.fingerprints.is_empty() && !demands.fingerprints.contains(&fingerprint(certificate)) {
            return Err(Error::InvalidCertificate(CertificateError::ApplicationVerificationFailure));
        }
        Ok(verified)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls12_signature(message, certificate, signature, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signature, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}
