//! Who trusts whom in a test of TLS? Certificates made for it, their files, and clients and origins that use them.
//!
//! Never uses a certificate of this machine, and never one that outlives the test.

use std::fs;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair,
};
use rustls::pki_types::{CertificateDer, PrivatePkcs8KeyDer, ServerName};
use rustls::server::WebPkiClientVerifier;
use rustls::{
    ClientConfig, ClientConnection, RootCertStore, ServerConfig, ServerConnection, SupportedProtocolVersion,
};

use super::connection::Connection;
use super::engine::Engine;

/// Somebody who issues certificates, with a directory for them that is gone when this is dropped.
#[derive(Debug)]
pub(crate) struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
    directory: PathBuf,
}

/// A certificate and its key.
#[derive(Debug)]
pub(crate) struct Identity {
    pub(crate) der: CertificateDer<'static>,
    key: PrivatePkcs8KeyDer<'static>,
    /// Where the two are.
    pub(crate) certificate: PathBuf,
    pub(crate) key_file: PathBuf,
}

impl Authority {
    pub(crate) fn new() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("authority-{}-{number}", std::process::id());
        let directory = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
        fs::create_dir_all(&directory).expect("a writable directory");
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, format!("authority {number}"));
        let key = KeyPair::generate().expect("a key");
        let issuer = CertifiedIssuer::self_signed(params, key).expect("a certificate");
        let authority = Self { issuer, directory };
        fs::write(authority.file(), authority.issuer.pem()).expect("a file");
        authority
    }

    /// Its own certificate.
    pub(crate) fn file(&self) -> PathBuf {
        self.directory.join("authority.pem")
    }

    /// A certificate for a server of these names.
    pub(crate) fn server(&self, names: &[&str]) -> Identity {
        self.issue(names, "server", ExtendedKeyUsagePurpose::ServerAuth)
    }

    /// A certificate for a client of this name.
    pub(crate) fn client(&self, name: &str) -> Identity {
        self.issue(&[], name, ExtendedKeyUsagePurpose::ClientAuth)
    }

    fn issue(&self, names: &[&str], common_name: &str, usage: ExtendedKeyUsagePurpose) -> Identity {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let mut params = CertificateParams::new(names).expect("names");
        params.distinguished_name.push(DnType::CommonName, common_name);
        params.extended_key_usages.push(usage);
        let key = KeyPair::generate().expect("a key");
        let certificate = params.signed_by(&key, &self.issuer).expect("a certificate");
        let number = fs::read_dir(&self.directory).expect("our directory").count();
        let file = |kind: &str, text: String| {
            let path = self.directory.join(format!("{number}.{kind}"));
            fs::write(&path, text).expect("a file");
            // The engine warns of keys that others can read.
            fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).expect("our file");
            path
        };
        Identity {
            der: certificate.der().clone(),
            certificate: file("pem", certificate.pem()),
            key_file: file("key", key.serialize_pem()),
            key: PrivatePkcs8KeyDer::from(key.serialize_der()),
        }
    }

    fn roots(&self) -> RootCertStore {
        let mut roots = RootCertStore::empty();
        roots.add(self.issuer.der().clone()).expect("a root");
        roots
    }

    /// Clients that trust it, with `identity` to show.
    pub(crate) fn clients(&self, identity: Option<&Identity>) -> ClientConfig {
        let builder = ClientConfig::builder().with_root_certificates(self.roots());
        match identity {
            None => builder.with_no_client_auth(),
            Some(identity) => builder
                .with_client_auth_cert(vec![identity.der.clone()], identity.key.clone_key().into())
                .expect("a key that fits"),
        }
    }

    /// Clients of one version.
    pub(crate) fn clients_of(&self, version: &'static SupportedProtocolVersion) -> ClientConfig {
        ClientConfig::builder_with_protocol_versions(&[version])
            .with_root_certificates(self.roots())
            .with_no_client_auth()
    }

    /// Origins that show `identity`, and demand of their clients a certificate of `clients`.
    pub(crate) fn origins(identity: &Identity, clients: Option<&Self>) -> Arc<ServerConfig> {
        let builder = ServerConfig::builder();
        let builder = match clients {
            None => builder.with_no_client_auth(),
            Some(clients) => builder.with_client_cert_verifier(
                WebPkiClientVerifier::builder(Arc::new(clients.roots())).build().expect("a verifier"),
            ),
        };
        let config = builder.with_single_cert(vec![identity.der.clone()], identity.key.clone_key().into());
        Arc::new(config.expect("a key that fits"))
    }
}

impl Drop for Authority {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.directory);
    }
}

impl Identity {
    /// Its files as a table of the configuration.
    pub(crate) fn table(&self) -> String {
        format!("{{ certificate = {:?}, key = {:?} }}", self.certificate, self.key_file)
    }
}

/// The keys of a listener `web` that speaks HTTPS with `identity`, and of its table `tls`.
pub(crate) fn https(identity: &Identity, tls: &str) -> String {
    format!("protocol = \"https\"\n[listener.web.tls]\ncertificates = [{}]\n{tls}", identity.table())
}

/// A private connection to `web` of an engine that is to be `name`.
pub(crate) fn connect(
    engine: &Engine,
    config: &Arc<ClientConfig>,
    name: &str,
) -> std::io::Result<Connection> {
    connect_to(engine.web(), config, name)
}

/// A private connection to the server at `address` that is to be `name`.
pub(crate) fn connect_to(
    address: SocketAddr,
    config: &Arc<ClientConfig>,
    name: &str,
) -> std::io::Result<Connection> {
    let name = ServerName::try_from(name.to_owned()).expect("a name");
    Connection::open(address).agree(ClientConnection::new(Arc::clone(config), name).expect("a client"))
}

/// The origin's side of a private connection.
pub(crate) fn accept(config: &Arc<ServerConfig>) -> ServerConnection {
    ServerConnection::new(Arc::clone(config)).expect("a server")
}
