//! Who is the origin, when its connections are private? By the certificate it was given, or one made at its start.
//!
//! Never writes a key anywhere.

use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, Result, anyhow};
use rcgen::generate_simple_self_signed;
use rustls::ServerConfig;
use rustls::crypto::aws_lc_rs::{self, Ticketer};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};

/// A configuration for all threads: whoever was served by one may resume with another.
///
/// # Errors
/// A file cannot be read, or the key is not that of the certificate.
pub(crate) fn server_config(
    files: Option<(&PathBuf, &PathBuf)>,
    address: Option<IpAddr>,
) -> Result<Arc<ServerConfig>> {
    let (certificates, key) = match files {
        Some((certificates, key)) => read(certificates, key)?,
        None => make(address)?,
    };
    let mut config = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .context("TLS cannot be set up")?
        .with_no_client_auth()
        .with_single_cert(certificates, key)
        .context("certificate and key do not make an identity")?;
    // Sealed tickets: the default remembers sessions behind a lock, and only 256 of them.
    config.ticketer = Ticketer::new().context("TLS tickets cannot be set up")?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}

type Identity = (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>);

fn read(certificates: &Path, key: &Path) -> Result<Identity> {
    let unreadable = |path: &Path| format!("cannot read PEM from {}", path.display());
    let chain = CertificateDer::pem_file_iter(certificates)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .with_context(|| unreadable(certificates))?;
    if chain.is_empty() {
        return Err(anyhow!("{} holds no certificate", certificates.display()));
    }
    let key = PrivateKeyDer::from_pem_file(key).with_context(|| unreadable(key))?;
    Ok((chain, key))
}

/// For the names of this machine from inside, and the address listened on.
fn make(address: Option<IpAddr>) -> Result<Identity> {
    let mut names = vec!["localhost".to_owned(), "127.0.0.1".to_owned(), "::1".to_owned()];
    names.extend(address.filter(|address| !address.is_loopback()).map(|address| address.to_string()));
    let made = generate_simple_self_signed(names).context("no certificate could be made")?;
    let key = PrivatePkcs8KeyDer::from(made.signing_key.serialize_der());
    Ok((vec![made.cert.der().clone()], key.into()))
}
