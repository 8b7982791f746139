//! What do contenders show whose clients come over TLS? One certificate for all of them: ECDSA on P-256, made for the run.
//!
//! Never trusted by anybody: the clients are told to take it.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Context as _;

/// The one suite of TLS 1.3 that everybody is set to. Our gateway has no such setting and takes the client's first.
pub(crate) const SUITE: &str = "TLS_AES_256_GCM_SHA384";

/// A certificate and its key in PEM.
#[derive(Debug)]
pub(crate) struct PemFiles {
    pub(crate) certificate: PathBuf,
    pub(crate) key: PathBuf,
    /// Both in one file, as HAProxy wants them.
    pub(crate) both: PathBuf,
}

impl PemFiles {
    /// Makes them in `dir`.
    ///
    /// # Errors
    /// When a file cannot be written.
    pub(crate) fn create(dir: &Path) -> anyhow::Result<Self> {
        let made = rcgen::generate_simple_self_signed(["localhost".to_owned(), "127.0.0.1".to_owned()])?;
        let (certificate, key) = (made.cert.pem(), made.signing_key.serialize_pem());
        let write = |name: &str, text: &str| {
            let path = dir.join(name);
            fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))?;
            anyhow::Ok(path)
        };
        Ok(Self {
            certificate: write("server.pem", &certificate)?,
            key: write("server.key", &key)?,
            both: write("server-both.pem", &(certificate + &key))?,
        })
    }
}
