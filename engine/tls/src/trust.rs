//! Whom is there to believe? Authorities, and their lists of what they have revoked, read from PEM.
//!
//! Never opens a file: its caller says what was in it.

use std::sync::Arc;
use std::time::SystemTime;

use rustls::RootCertStore;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, CertificateRevocationListDer};
use x509_parser::prelude::{CertificateRevocationList, FromDer};

use crate::certificate::moment;

/// Authorities whose certificates are believed.
#[derive(Clone, Debug)]
pub struct Authorities {
    roots: Arc<RootCertStore>,
    certificates: Vec<CertificateDer<'static>>,
}

/// Revocation lists.
#[derive(Clone, Debug, Default)]
pub struct Revocations {
    lists: Vec<CertificateRevocationListDer<'static>>,
    /// The first moment from which on one of them is out of date.
    next_update: Option<SystemTime>,
}

/// Why something is of no use to decide whom to believe. Worded to follow the name of a file and a colon.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TrustError {
    /// See its text.
    #[error("is no PEM file: {0}")]
    Pem(String),
    /// See its text.
    #[error("holds no certificate: a PEM file with -----BEGIN CERTIFICATE----- is wanted")]
    NoAuthority,
    /// See its text; counted from one.
    #[error("certificate {0} in it is of no use as an authority: {1}")]
    Authority(usize, String),
    /// See its text.
    #[error("holds no revocation list: a PEM file with -----BEGIN X509 CRL----- is wanted")]
    NoList,
    /// See its text; counted from one.
    #[error("revocation list {0} in it cannot be read")]
    List(usize),
    /// See its text.
    #[error("authorities and revocation lists cannot be used: {0}")]
    Unusable(String),
}

impl Authorities {
    /// From the PEM of their certificates.
    ///
    /// # Errors
    /// [`TrustError`] says what is wrong.
    pub fn from_pem(pem: &[u8]) -> Result<Self, TrustError> {
        let certificates = CertificateDer::pem_slice_iter(pem)
            .collect::<Result<Vec<_>, _>>()
            .map_err(|error| TrustError::Pem(error.to_string()))?;
        let mut roots = RootCertStore::empty();
        for (number, certificate) in (1..).zip(&certificates) {
            let added = roots.add(certificate.clone());
            added.map_err(|error| TrustError::Authority(number, error.to_string()))?;
        }
        if certificates.is_empty() {
            return Err(TrustError::NoAuthority);
        }
        Ok(Self { roots: Arc::new(roots), certificates })
    }

    /// Those of `certificates` that can be used, as a system's are: it trusts old ones, too, that nobody can.
    ///
    /// # Errors
    /// There is none.
    pub fn from_system(certificates: Vec<CertificateDer<'static>>) -> Result<Self, TrustError> {
        let mut roots = RootCertStore::empty();
        roots.add_parsable_certificates(certificates.iter().cloned());
        if roots.is_empty() {
            return Err(TrustError::NoAuthority);
        }
        Ok(Self { roots: Arc::new(roots), certificates })
    }

    /// As rustls takes them.
    pub(crate) fn roots(&self) -> &Arc<RootCertStore> {
        &self.roots
    }

    /// As they were read.
    pub(crate) fn certificates(&self) -> &[CertificateDer<'static>] {
        &self.certificates
    }
}

impl Revocations {
    /// From the PEM of one or several lists.
    ///
    /// # Errors
    /// [`TrustError`] says what is wrong.
    pub fn from_pem(pem: &[u8]) -> Result<Self, TrustError> {
        let lists = CertificateRevocationListDer::pem_slice_iter(pem)
            .collect::<Result<Vec<_>, _>>()
            .map_err(|error| TrustError::Pem(error.to_string()))?;
        if lists.is_empty() {
            return Err(TrustError::NoList);
        }
        let mut next_update = None;
        for (number, list) in (1..).zip(&lists) {
            let (_, read) =
                CertificateRevocationList::from_der(list).map_err(|_| TrustError::List(number))?;
            next_update = earlier(next_update, read.next_update().map(moment));
        }
        Ok(Self { lists, next_update })
    }

    /// Adds those of another file.
    pub fn extend(&mut self, other: Self) {
        self.lists.extend(other.lists);
        self.next_update = earlier(self.next_update, other.next_update);
    }

    /// The first moment from which on one of them is out of date, and nobody whom it concerns is believed.
    #[must_use]
    pub fn next_update(&self) -> Option<SystemTime> {
        self.next_update
    }

    /// As they were read.
    pub(crate) fn lists(&self) -> &[CertificateRevocationListDer<'static>] {
        &self.lists
    }
}

fn earlier(one: Option<SystemTime>, other: Option<SystemTime>) -> Option<SystemTime> {
    one.into_iter().chain(other).min()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Algorithm, certificate, key};

    #[test]
    fn files_that_are_of_no_use_say_why() {
        let key = key(Algorithm::Ecdsa);
        let certificate = certificate(&["a.example"], &key);
        let no_x509 = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
        let no_list = "-----BEGIN X509 CRL-----\nAAAA\n-----END X509 CRL-----\n";
        let check = |pem: &str, authorities: Option<&str>, lists: Option<&str>| {
            for (error, expected) in [
                (Authorities::from_pem(pem.as_bytes()).err(), authorities),
                (Revocations::from_pem(pem.as_bytes()).err(), lists),
            ] {
                match (error.map(|error| error.to_string()), expected) {
                    (None, None) => {}
                    (Some(text), Some(expected)) => assert!(text.contains(expected), "{text}"),
                    other => panic!("{other:?} for {pem}"),
                }
            }
        };
        check("", Some("holds no certificate"), Some("holds no revocation list"));
        check(&certificate, None, Some("holds no revocation list"));
        let second = certificate.clone() + no_x509;
        check(&second, Some("certificate 2 in it is of no use"), Some("holds no revocation list"));
        check(no_list, Some("holds no certificate"), Some("revocation list 1 in it cannot be read"));
        let cut = &certificate[..certificate.len() - 30];
        check(cut, Some("is no PEM file"), Some("is no PEM file"));
    }
}
