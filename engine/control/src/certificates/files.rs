//! What do the files of certificates hold? Each read whole, within bounds, and every mistake told with its file and its key
//! of the configuration.
//!
//! Never stops at the first mistake, and never says what is in a key.

use std::fmt;
use std::fs::File;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::{self, Read};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::SystemTime;

use config::snapshot::{CertificateFiles, ClientAuth, ListenerTls, UpstreamTls, Verify};
use tls::certificate::Validity;
use tls::client::ServerTrust;
use tls::client_auth::Demands;
use tls::identity::Identity;
use tls::trust::{Authorities, Revocations};

/// Longest file that is read. Revocation lists of the largest public authorities have some 10 MiB.
const FILE_BYTES_MAX: u64 = 64 * 1024 * 1024;

/// Permissions that let others than the file's owner and group read it.
const READABLE_BY_OTHERS: u32 = 0o004;

/// Something to be said about a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Note {
    /// The key that names the file, as `listener.web.tls.certificates[0].key`.
    pub key: String,
    /// The file; empty for what this host itself trusts.
    pub path: String,
    /// What there is to say.
    pub what: String,
}

impl fmt::Display for Note {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { key, path, what } = self;
        if path.is_empty() { write!(f, "{key}: {what}") } else { write!(f, "{key}: {path}: {what}") }
    }
}

/// What was found while reading.
#[derive(Debug)]
pub(crate) struct Reading {
    now: SystemTime,
    /// Mistakes: what was read cannot be used.
    pub(crate) problems: Vec<Note>,
    /// What an operator may want to know.
    pub(crate) warnings: Vec<Note>,
    /// Of everything read, to tell whether it is what was there before.
    hasher: DefaultHasher,
}

/// What a listener's files hold.
#[derive(Debug)]
pub(crate) struct ListenerParts {
    pub(crate) identities: Vec<Identity>,
    pub(crate) demands: Option<Demands>,
}

/// What an upstream's files hold.
#[derive(Debug)]
pub(crate) struct UpstreamParts {
    pub(crate) trust: ServerTrust,
    pub(crate) identity: Option<Identity>,
}

impl Reading {
    pub(crate) fn new(now: SystemTime) -> Self {
        Self { now, problems: Vec::new(), warnings: Vec::new(), hasher: DefaultHasher::new() }
    }

    /// Equal when the same was read.
    pub(crate) fn hash(&self) -> u64 {
        self.hasher.finish()
    }

    /// Reads what `listener.NAME.tls` names; `None` with a problem.
    pub(crate) fn listener(&mut self, name: &str, settings: &ListenerTls) -> Option<ListenerParts> {
        let key = format!("listener.{name}.tls");
        let identities: Vec<_> = (settings.certificates.iter().enumerate())
            .map(|(index, files)| self.identity(&format!("{key}.certificates[{index}]"), files))
            .collect();
        let demands = match &settings.client_auth {
            Some(auth) => Some(self.demands(&format!("{key}.client_auth"), auth)?),
            None => None,
        };
        Some(ListenerParts { identities: identities.into_iter().collect::<Option<_>>()?, demands })
    }

    /// Reads what `upstream.NAME.tls` names; `None` with a problem.
    pub(crate) fn upstream(&mut self, name: &str, settings: &UpstreamTls) -> Option<UpstreamParts> {
        let key = format!("upstream.{name}.tls");
        let identity = settings.client.as_ref().map(|files| self.identity(&key, files));
        let trust = match &settings.verify {
            Verify::Platform => self.system(&key).map(ServerTrust::Authorities),
            Verify::Authorities(path) => {
                self.parse(&format!("{key}.ca"), path, Authorities::from_pem).map(ServerTrust::Authorities)
            }
            Verify::Nothing => {
                let what = "\"none\" lets anybody on the way pose as the endpoints: give a `ca` to have them verified";
                self.warn(&format!("{key}.verify"), "", what);
                Some(ServerTrust::Anybody)
            }
        };
        match identity {
            Some(identity) => Some(UpstreamParts { identity: Some(identity?), trust: trust? }),
            None => Some(UpstreamParts { identity: None, trust: trust? }),
        }
    }

    fn identity(&mut self, key: &str, files: &CertificateFiles) -> Option<Identity> {
        let chain_key = format!("{key}.certificate");
        let own_key = format!("{key}.key");
        let chain = self.read(&chain_key, &files.certificate);
        let own = self.read(&own_key, &files.key);
        self.note_loose_permissions(&own_key, &files.key);
        let (chain, own) = (chain?, own?);
        match Identity::from_pem(&chain, &own) {
            Ok(identity) => {
                self.note_validity(&chain_key, &files.certificate, &identity);
                Some(identity)
            }
            Err(error) => {
                let (key, path) = if error.is_about_key() {
                    (own_key, &files.key)
                } else {
                    (chain_key, &files.certificate)
                };
                self.problem(&key, path, error.to_string());
                None
            }
        }
    }

    fn demands(&mut self, key: &str, auth: &ClientAuth) -> Option<Demands> {
        let authorities = self.parse(&format!("{key}.ca"), &auth.authorities, Authorities::from_pem);
        let mut revocations = Some(Revocations::default());
        for (index, path) in auth.revocation.iter().enumerate() {
            let key = format!("{key}.crl[{index}]");
            let list = self.parse(&key, path, Revocations::from_pem);
            if let Some(update) = list.as_ref().and_then(Revocations::next_update)
                && update < self.now
            {
                let what = format!(
                    "a newer one was due on {}: clients whose certificates it covers are refused until then",
                    date(update)
                );
                self.warn(&key, &path.display().to_string(), what);
            }
            match (&mut revocations, list) {
                (Some(all), Some(list)) => all.extend(list),
                _ => revocations = None,
            }
        }
        let (authorities, revocations) = (authorities?, revocations?);
        Demands::new(&authorities, &revocations, auth.fingerprints.clone())
            .map_err(|error| self.problem(key, &auth.authorities, error.to_string()))
            .ok()
    }

    /// The authorities that this host trusts.
    fn system(&mut self, key: &str) -> Option<Authorities> {
        let found = rustls_native_certs::load_native_certs();
        for certificate in &found.certs {
            certificate.as_ref().hash(&mut self.hasher);
        }
        let why = found.errors.first().map(|error| format!(" ({error})")).unwrap_or_default();
        match Authorities::from_system(found.certs) {
            Ok(authorities) => Some(authorities),
            Err(_) => {
                let what = format!(
                    "this host trusts nobody{why}: install its ca-certificates, or give a `ca` of your own"
                );
                self.problems.push(Note { key: format!("{key}.verify"), path: String::new(), what });
                None
            }
        }
    }

    fn parse<T, E: fmt::Display>(
        &mut self,
        key: &str,
        path: &Path,
        parse: fn(&[u8]) -> Result<T, E>,
    ) -> Option<T> {
        let bytes = self.read(key, path)?;
        parse(&bytes).map_err(|error| self.problem(key, path, error.to_string())).ok()
    }

    fn read(&mut self, key: &str, path: &Path) -> Option<Vec<u8>> {
        match read_bounded(path) {
            Ok(bytes) => {
                bytes.hash(&mut self.hasher);
                Some(bytes)
            }
            Err(error) => {
                let what = match error.kind() {
                    io::ErrorKind::NotFound => "there is no such file".to_owned(),
                    io::ErrorKind::PermissionDenied => {
                        "permission denied: the user that this program runs as must be able to read it"
                            .to_owned()
                    }
                    _ => format!("cannot be read: {error}"),
                };
                self.problem(key, path, what);
                None
            }
        }
    }

    fn note_validity(&mut self, key: &str, path: &Path, identity: &Identity) {
        let certificate = identity.certificate();
        let what = match certificate.validity(self.now) {
            Validity::Valid => return,
            Validity::NotYet => {
                format!("the certificate is not valid before {}", date(certificate.not_before))
            }
            Validity::Expired => format!("the certificate expired on {}", date(certificate.not_after)),
        };
        self.warn(key, &path.display().to_string(), format!("{what}: it will be refused by who checks it"));
    }

    fn note_loose_permissions(&mut self, key: &str, path: &Path) {
        let mode = path.metadata().map(|metadata| metadata.permissions().mode());
        if mode.is_ok_and(|mode| mode & READABLE_BY_OTHERS != 0) {
            let path = path.display().to_string();
            let what = format!("everybody on this host can read the private key: `chmod o= {path}`");
            self.warn(key, &path, what);
        }
    }

    fn problem(&mut self, key: &str, path: &Path, what: impl Into<String>) {
        self.problems.push(Note { key: key.to_owned(), path: path.display().to_string(), what: what.into() });
    }

    fn warn(&mut self, key: &str, path: &str, what: impl Into<String>) {
        self.warnings.push(Note { key: key.to_owned(), path: path.to_owned(), what: what.into() });
    }
}

fn read_bounded(path: &Path) -> io::Result<Vec<u8>> {
    // A pipe would keep its reader waiting for ever.
    if !path.metadata()?.is_file() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "it is no regular file"));
    }
    let mut bytes = Vec::new();
    File::open(path)?.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > FILE_BYTES_MAX {
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, "it has more than 64 MiB"));
    }
    Ok(bytes)
}

/// As people and HTTP write it.
pub(crate) fn date(time: SystemTime) -> String {
    httpdate::fmt_http_date(time)
}
