//! What does a certificate say? Names, validity, owner, fingerprint, as far as somebody here wants to know.
//!
//! Never decides whether to believe it: that is for rustls' verifiers.

use std::time::{Duration, SystemTime};

use aws_lc_rs::digest::{SHA256, digest};
use rustls::pki_types::CertificateDer;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::{ASN1Time, FromDer, X509Certificate};

/// What one certificate says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Certificate {
    /// DNS names that it is for, in lower case, wildcards as they stand (RFC 5280 §4.2.1.6). The common name is none of
    /// them: clients have stopped reading it (RFC 9525 §2).
    pub dns_names: Box<[Box<str>]>,
    /// The first moment at which it is valid.
    pub not_before: SystemTime,
    /// The last one.
    pub not_after: SystemTime,
    /// Who it belongs to, as `CN=…, O=…`.
    pub subject: Box<str>,
    /// Who issued it.
    pub issuer: Box<str>,
    /// SHA-256 of the whole certificate.
    pub fingerprint: [u8; 32],
    raw_subject: Box<[u8]>,
    raw_issuer: Box<[u8]>,
}

/// Whether a moment lies within a certificate's validity.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Validity {
    /// It does.
    Valid,
    /// The certificate will be valid later.
    NotYet,
    /// The certificate was valid once.
    Expired,
}

/// Bytes that are no X.509 certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no X.509 certificate")]
pub struct Malformed;

impl Certificate {
    /// Reads one.
    ///
    /// # Errors
    /// The bytes are no certificate, or one of its extensions is malformed.
    pub fn parse(der: &CertificateDer<'_>) -> Result<Self, Malformed> {
        let (_, read) = X509Certificate::from_der(der).map_err(|_| Malformed)?;
        let named = read.subject_alternative_name().map_err(|_| Malformed)?;
        let names = named.iter().flat_map(|extension| &extension.value.general_names);
        let dns_names = names.filter_map(|name| match name {
            GeneralName::DNSName(name) => Some(name.to_ascii_lowercase().into()),
            _ => None,
        });
        Ok(Self {
            dns_names: dns_names.collect(),
            not_before: moment(read.validity().not_before),
            not_after: moment(read.validity().not_after),
            subject: read.subject().to_string().into(),
            issuer: read.issuer().to_string().into(),
            fingerprint: fingerprint(der),
            raw_subject: read.subject().as_raw().into(),
            raw_issuer: read.issuer().as_raw().into(),
        })
    }

    /// Whether it is valid at `now`.
    #[must_use]
    pub fn validity(&self, now: SystemTime) -> Validity {
        if now < self.not_before {
            Validity::NotYet
        } else if now > self.not_after {
            Validity::Expired
        } else {
            Validity::Valid
        }
    }

    /// Whether `issuer` says that it is the one who issued this certificate. That it signed it is not looked at.
    #[must_use]
    pub fn names_as_issuer(&self, issuer: &Self) -> bool {
        self.raw_issuer == issuer.raw_subject
    }
}

/// SHA-256 of a certificate, by which it may be pinned.
#[must_use]
pub fn fingerprint(der: &CertificateDer<'_>) -> [u8; 32] {
    let mut fingerprint = [0; 32];
    fingerprint.copy_from_slice(digest(&SHA256, der).as_ref());
    fingerprint
}

/// Moments before 1970 are taken for its beginning: what was valid then is long over.
pub(crate) fn moment(time: ASN1Time) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(u64::try_from(time.timestamp()).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_certificate_tells_its_names_and_validity() {
        let mut params =
            rcgen::CertificateParams::new(["A.example".to_owned(), "*.b.example".to_owned()]).expect("names");
        params.distinguished_name.push(rcgen::DnType::CommonName, "somebody");
        params.not_before = rcgen::date_time_ymd(2020, 1, 2);
        params.not_after = rcgen::date_time_ymd(2020, 1, 3);
        let key = rcgen::KeyPair::generate().expect("a key");
        let made = params.self_signed(&key).expect("a certificate");
        let read = Certificate::parse(made.der()).expect("a certificate");
        assert_eq!(*read.dns_names, ["a.example".into(), "*.b.example".into()]);
        assert_eq!(&*read.subject, "CN=somebody");
        assert!(read.names_as_issuer(&read), "it is signed by itself");
        let start = SystemTime::UNIX_EPOCH + Duration::from_secs(1_577_923_200); // 2020-01-02T00:00:00Z
        assert_eq!((read.not_before, read.not_after), (start, start + Duration::from_secs(86_400)));
        assert_eq!(read.validity(start - Duration::from_secs(1)), Validity::NotYet);
        assert_eq!(read.validity(start), Validity::Valid);
        assert_eq!(read.validity(SystemTime::now()), Validity::Expired);
    }

    #[test]
    fn what_is_no_certificate_is_refused_wherever_it_is_cut() {
        let made = rcgen::generate_simple_self_signed(["a.example".to_owned()]).expect("a certificate");
        let whole = made.cert.der();
        Certificate::parse(whole).expect("whole");
        for cut in 0..whole.len() {
            assert_eq!(Certificate::parse(&CertificateDer::from(&whole[..cut])), Err(Malformed), "{cut}");
        }
    }
}
