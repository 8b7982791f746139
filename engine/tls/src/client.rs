//! How is an endpoint spoken to in private? A rustls configuration whose trust and own certificate can change inside.
//!
//! Never believes more than it was told to, and keeps no session over a change of trust.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use arc_swap::{ArcSwap, ArcSwapOption};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{
    ClientSessionMemoryCache, ClientSessionStore, ResolvesClientCert, Resumption, Tls12ClientSessionValue,
    Tls13ClientSessionValue, WebPkiServerVerifier,
};
use rustls::crypto::{CryptoProvider, aws_lc_rs as provider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::sign::CertifiedKey;
use rustls::{ClientConfig, DigitallySignedStruct, Error, NamedGroup, SignatureScheme};

use crate::identity::Identity;
use crate::server::VersionMin;
use crate::trust::{Authorities, TrustError};

/// Servers whose sessions a thread remembers of one upstream; rustls keeps eight tickets of each.
const SESSIONS_MAX: usize = 64;
/// Threads with sessions of their own; any beyond share theirs with one of them.
const THREADS_MAX: usize = 64;

/// Which servers are believed.
#[derive(Clone, Debug)]
pub enum ServerTrust {
    /// Those whose certificate, for the name asked for, one of these issued.
    Authorities(Authorities),
    /// All of them: **nobody is kept from sitting in between**.
    Anybody,
}

/// What a client is made of.
#[derive(Debug)]
pub struct ClientSettings {
    /// Which servers are believed.
    pub trust: ServerTrust,
    /// What to show to servers that ask who this is.
    pub identity: Option<Identity>,
    /// The oldest version that is spoken.
    pub version_min: VersionMin,
    /// What is spoken inside, the preferred first (RFC 7301).
    pub alpn: &'static [&'static [u8]],
}

/// Trust and identity of an upstream, within every configuration that it has.
#[derive(Debug)]
pub struct Upstream {
    verifier: Arc<Verifier>,
    identity: Arc<OwnIdentity>,
    version_min: VersionMin,
    alpn: &'static [&'static [u8]],
    /// Counts replacements.
    generation: Arc<AtomicU64>,
}

impl Upstream {
    /// Begins as `settings` say.
    ///
    /// # Errors
    /// The authorities cannot be used.
    pub fn new(settings: ClientSettings) -> Result<Self, TrustError> {
        let verifier = Verifier {
            provider: provider::default_provider(),
            inner: ArcSwapOption::new(verifier(&settings.trust)?),
        };
        let key = settings.identity.map(|identity| identity.certified().clone());
        Ok(Self {
            verifier: Arc::new(verifier),
            identity: Arc::new(OwnIdentity(ArcSwap::from_pointee(key))),
            version_min: settings.version_min,
            alpn: settings.alpn,
            generation: Arc::default(),
        })
    }

    /// Handshakes that verify a server from now on follow these. Sessions kept until now are forgotten.
    ///
    /// # Errors
    /// The authorities cannot be used; all stays as it was.
    pub fn replace(&self, trust: &ServerTrust, identity: Option<&Identity>) -> Result<(), TrustError> {
        let verifier = verifier(trust)?;
        self.verifier.inner.store(verifier);
        self.identity.0.store(Arc::new(identity.map(|identity| identity.certified().clone())));
        self.generation.fetch_add(1, Ordering::Release);
        Ok(())
    }

    /// A configuration for all cores, with sessions that each thread keeps for itself.
    ///
    /// # Errors
    /// rustls', which these settings give no reason for.
    pub fn config(&self) -> Result<Arc<ClientConfig>, Error> {
        let mut config = ClientConfig::builder_with_provider(Arc::new(provider::default_provider()))
            .with_protocol_versions(&self.version_min.versions())?
            .dangerous()
            .with_custom_certificate_verifier(self.verifier.clone())
            .with_client_cert_resolver(self.identity.clone());
        config.alpn_protocols = self.alpn.iter().map(|protocol| protocol.to_vec()).collect();
        config.resumption = Resumption::store(Arc::new(Sessions::new(self.generation.clone())));
        Ok(Arc::new(config))
    }
}

/// `None` believes anybody.
fn verifier(trust: &ServerTrust) -> Result<Option<Arc<WebPkiServerVerifier>>, TrustError> {
    let ServerTrust::Authorities(authorities) = trust else { return Ok(None) };
    let provider = Arc::new(provider::default_provider());
    WebPkiServerVerifier::builder_with_provider(authorities.roots().clone(), provider)
        .build()
        .map(Some)
        .map_err(|error| TrustError::Unusable(error.to_string()))
}

/// Which servers are believed now. That a server signed the handshake with the key of its certificate is checked always.
#[derive(Debug)]
struct Verifier {
    provider: CryptoProvider,
    inner: ArcSwapOption<WebPkiServerVerifier>,
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        certificate: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        match &*self.inner.load() {
            Some(verifier) => verifier.verify_server_cert(certificate, intermediates, name, ocsp, now),
            None => Ok(ServerCertVerified::assertion()),
        }
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

/// What is shown to a server that asks.
#[derive(Debug)]
struct OwnIdentity(ArcSwap<Option<Arc<CertifiedKey>>>);

impl ResolvesClientCert for OwnIdentity {
    fn resolve(&self, _authorities: &[&[u8]], schemes: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        let key = Option::clone(&self.0.load())?;
        // There is one, so that what the server would like best does not matter.
        key.key.choose_scheme(schemes).is_some().then_some(key)
    }

    fn has_certs(&self) -> bool {
        self.0.load().is_some()
    }
}

/// Sessions that may be resumed as long as trust and identity stay.
#[derive(Debug)]
struct Sessions {
    generation: Arc<AtomicU64>,
    /// By thread: rustls wants a lock, and no core is to wait for another's.
    kept: [OnceLock<Mutex<Kept>>; THREADS_MAX],
}

/// Sessions of one thread and one generation.
#[derive(Debug)]
struct Kept {
    generation: u64,
    cache: Arc<ClientSessionMemoryCache>,
}

impl Kept {
    fn new(generation: u64) -> Self {
        Self { generation, cache: Arc::new(ClientSessionMemoryCache::new(SESSIONS_MAX)) }
    }
}

/// A number of this thread below [`THREADS_MAX`], its own as long as there are not more threads.
fn thread_number() -> usize {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    thread_local! {
        static NUMBER: usize = NEXT.fetch_add(1, Ordering::Relaxed) % THREADS_MAX;
    }
    NUMBER.with(|number| *number)
}

impl Sessions {
    fn new(generation: Arc<AtomicU64>) -> Self {
        Self { generation, kept: [const { OnceLock::new() }; THREADS_MAX] }
    }

    fn current(&self) -> Arc<ClientSessionMemoryCache> {
        let generation = self.generation.load(Ordering::Acquire);
        let kept = self.kept[thread_number()].get_or_init(|| Mutex::new(Kept::new(generation)));
        let mut kept = kept.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.generation != generation {
            *kept = Kept::new(generation);
        }
        kept.cache.clone()
    }
}

impl ClientSessionStore for Sessions {
    fn set_kx_hint(&self, name: ServerName<'static>, group: NamedGroup) {
        self.current().set_kx_hint(name, group);
    }

    fn kx_hint(&self, name: &ServerName<'_>) -> Option<NamedGroup> {
        self.current().kx_hint(name)
    }

    fn set_tls12_session(&self, name: ServerName<'static>, session: Tls12ClientSessionValue) {
        self.current().set_tls12_session(name, session);
    }

    fn tls12_session(&self, name: &ServerName<'_>) -> Option<Tls12ClientSessionValue> {
        self.current().tls12_session(name)
    }

    fn remove_tls12_session(&self, name: &ServerName<'static>) {
        self.current().remove_tls12_session(name);
    }

    fn insert_tls13_ticket(&self, name: ServerName<'static>, session: Tls13ClientSessionValue) {
        self.current().insert_tls13_ticket(name, session);
    }

    fn take_tls13_ticket(&self, name: &ServerName<'static>) -> Option<Tls13ClientSessionValue> {
        self.current().take_tls13_ticket(name)
    }
}
