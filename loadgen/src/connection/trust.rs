//! Which server does a private connection accept, and how does it ask?
//!
//! Never trusts more than was asked for, and never opens a connection.

use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, Result, anyhow, bail};
use rustls::client::Resumption;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, aws_lc_rs, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::version::{TLS12, TLS13};
use rustls::{
    ClientConfig, DigitallySignedStruct, Error, NamedGroup, RootCertStore, SignatureScheme,
    SupportedProtocolVersion,
};

use crate::cli::transport::{TlsVersion, TransportArgs};
use crate::target::{Scheme, Target};

/// Sessions that a thread remembers: rustls keeps eight tickets of each, and one server is asked.
const SESSIONS_MAX: usize = 8;

/// How a run's private connections are made.
#[derive(Clone, Debug)]
pub(crate) struct Trust {
    pub(crate) config: Arc<ClientConfig>,
    pub(crate) name: ServerName<'static>,
    /// Who vouches for the server, in words.
    pub(crate) verified_by: String,
    resumes: bool,
}

impl Trust {
    /// What an `https` or `wss` URL and the options say; none for another URL.
    ///
    /// # Errors
    /// An option does not fit the URL, or a file cannot be used.
    pub(crate) fn new(args: &TransportArgs, target: &Target) -> Result<Option<Self>> {
        if !target.is_secure {
            return match args.tls_option() {
                Some(option) => {
                    let way_out = match target.scheme {
                        Scheme::Http => "write https:// or leave it out",
                        Scheme::WebSocket => "write wss:// or leave it out",
                        Scheme::Tcp => "leave it out",
                    };
                    bail!("{option} is for https and wss, but the URL is {target}: {way_out}")
                }
                None => Ok(None),
            };
        }
        let name = args.sni.as_ref().unwrap_or(&target.host);
        let name = ServerName::try_from(name.clone()).map_err(|_| {
            anyhow!("'{name}' is no name or address that a certificate can be for; --sni gives another")
        })?;
        let mut provider = aws_lc_rs::default_provider();
        if args.no_post_quantum {
            provider.kx_groups.retain(|group| group.name() != NamedGroup::X25519MLKEM768);
        }
        let provider = Arc::new(provider);
        let builder = ClientConfig::builder_with_provider(provider.clone())
            .with_protocol_versions(&versions(args.tls))
            .context("TLS cannot be set up")?;
        let (mut config, verified_by) = if args.insecure {
            let config = builder.dangerous().with_custom_certificate_verifier(Arc::new(Anybody(provider)));
            (config.with_no_client_auth(), "nobody (--insecure)".to_owned())
        } else {
            let (roots, verified_by) = match &args.ca {
                Some(path) => (roots_in(path)?, format!("--ca {}", path.display())),
                None => (system_roots()?, "the system's roots".to_owned()),
            };
            (builder.with_root_certificates(roots).with_no_client_auth(), verified_by)
        };
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        let trust = Self { config: Arc::new(config), name, verified_by, resumes: !args.no_resumption };
        Ok(Some(trust.for_thread()))
    }

    /// The same with sessions of its own: remembering them takes a lock, which no two threads should share.
    pub(crate) fn for_thread(&self) -> Self {
        let mut config = ClientConfig::clone(&self.config);
        config.resumption =
            if self.resumes { Resumption::in_memory_sessions(SESSIONS_MAX) } else { Resumption::disabled() };
        Self { config: Arc::new(config), ..self.clone() }
    }
}

fn versions(only: Option<TlsVersion>) -> Vec<&'static SupportedProtocolVersion> {
    match only {
        None => vec![&TLS13, &TLS12],
        Some(TlsVersion::V12) => vec![&TLS12],
        Some(TlsVersion::V13) => vec![&TLS13],
    }
}

fn roots_in(path: &Path) -> Result<RootCertStore> {
    let mut roots = RootCertStore::empty();
    let certificates = CertificateDer::pem_file_iter(path)
        .with_context(|| format!("cannot read certificates from {}", path.display()))?;
    for certificate in certificates {
        let certificate = certificate.with_context(|| format!("{} is no PEM file", path.display()))?;
        roots
            .add(certificate)
            .with_context(|| format!("a certificate in {} is of no use", path.display()))?;
    }
    if roots.is_empty() {
        bail!(
            "{} holds no certificate: a PEM file with -----BEGIN CERTIFICATE----- is wanted",
            path.display()
        );
    }
    Ok(roots)
}

fn system_roots() -> Result<RootCertStore> {
    let found = rustls_native_certs::load_native_certs();
    let mut roots = RootCertStore::empty();
    // A system trusts old certificates, too, that are of no use here.
    roots.add_parsable_certificates(found.certs);
    if roots.is_empty() {
        let why = found.errors.first().map(|error| format!(" ({error})")).unwrap_or_default();
        bail!(
            "the system trusts nobody{why}: install its ca-certificates, give --ca FILE, or --insecure to trust anybody"
        );
    }
    Ok(roots)
}

/// Takes every certificate; that its owner signed the handshake is still checked.
#[derive(Debug)]
struct Anybody(Arc<CryptoProvider>);

impl ServerCertVerifier for Anybody {
    fn verify_server_cert(
        &self,
        _certificate: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _name: &ServerName<'_>,
        _ocsp: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, certificate, signature, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, certificate, signature, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(url: &str, args: &TransportArgs) -> String {
        let target = url.parse().expect("a URL");
        format!("{:#}", Trust::new(args, &target).expect_err(url))
    }

    #[test]
    fn a_plain_url_needs_no_trust() {
        let target = "http://host/".parse().expect("a URL");
        assert!(Trust::new(&TransportArgs::default(), &target).expect("nothing wrong").is_none());
        let given = TransportArgs { tls: Some(TlsVersion::V13), ..TransportArgs::default() };
        assert!(refusal("http://host/", &given).contains("--tls is for https"));
        let given = TransportArgs { insecure: true, ..TransportArgs::default() };
        assert!(refusal("http://host/", &given).contains("--insecure is for https"));
    }

    #[test]
    fn files_and_names_that_are_of_no_use_are_told() {
        let with_ca = |path: &str| TransportArgs { ca: Some(path.into()), ..TransportArgs::default() };
        assert!(refusal("https://host/", &with_ca("/nowhere.pem")).contains("/nowhere.pem"));
        assert!(refusal("https://host/", &with_ca("/dev/null")).contains("holds no certificate"));
        let named = TransportArgs { insecure: true, sni: Some("no name".into()), ..TransportArgs::default() };
        assert!(refusal("https://host/", &named).contains("'no name' is no name"));
    }

    #[test]
    fn threads_share_no_sessions() {
        let target = "https://host/".parse().expect("a URL");
        let args = TransportArgs { insecure: true, ..TransportArgs::default() };
        let trust = Trust::new(&args, &target).expect("no files needed").expect("TLS");
        assert!(trust.verified_by.contains("--insecure"));
        assert!(!Arc::ptr_eq(&trust.config, &trust.for_thread().config));
    }
}
