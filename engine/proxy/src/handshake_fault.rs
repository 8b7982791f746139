//! Why is there no private connection? The causes of failed handshakes, by name, with clients and with endpoints.
//!
//! Never says more than a kind: what exactly a certificate lacks is for whoever holds it to find out.

use rustls::{CertificateError, Error};
use tls::HandshakeError;

/// Why a handshake failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HandshakeFault {
    /// It was not over in time.
    TimedOut,
    /// The peer closed or broke the connection.
    Gone,
    /// As many as the core keeps waiting waited already.
    TooMany,
    /// The client spoke HTTP in the clear; it was told so.
    PlainHttp,
    /// What the peer said is no TLS.
    NotTls,
    /// No version of TLS that both sides speak.
    NoSharedVersion,
    /// No cipher suite, group or signature that both sides have.
    NothingShared,
    /// The client asked for a name that there is no certificate for.
    NameUnknown,
    /// The peer did not show a certificate.
    CertificateMissing,
    /// Its certificate is for another name.
    CertificateName,
    /// Nobody who is trusted issued it.
    CertificateIssuer,
    /// It is not valid yet, or no more.
    CertificateDate,
    /// Its issuer has revoked it.
    CertificateRevoked,
    /// There is something else about it.
    CertificateRefused,
    /// The peer refused us, by an alert.
    Alert,
    /// The peer broke a rule of TLS.
    Violation,
}

impl HandshakeFault {
    /// Number of kinds, for arrays of counters.
    pub const COUNT: usize = Self::NAMES.len();

    /// Names of all kinds by [`Self::index`], as exported.
    pub const NAMES: [&'static str; 16] = [
        "timed_out",
        "gone",
        "too_many",
        "plain_http",
        "not_tls",
        "no_shared_version",
        "nothing_shared",
        "name_unknown",
        "certificate_missing",
        "certificate_name",
        "certificate_issuer",
        "certificate_date",
        "certificate_revoked",
        "certificate_refused",
        "alert",
        "violation",
    ];

    /// Index of this kind among [`Self::NAMES`].
    #[must_use]
    pub const fn index(self) -> usize {
        self as usize
    }

    pub(crate) fn of(error: &HandshakeError) -> Self {
        match error {
            HandshakeError::TimedOut => Self::TimedOut,
            HandshakeError::Ended | HandshakeError::Io(_) => Self::Gone,
            HandshakeError::NotTls(first) if is_http(first) => Self::PlainHttp,
            HandshakeError::NotTls(_) => Self::NotTls,
            HandshakeError::NameUnknown => Self::NameUnknown,
            HandshakeError::VersionTooOld => Self::NoSharedVersion,
            HandshakeError::Refused(error) => Self::of_refusal(error),
        }
    }

    fn of_refusal(error: &Error) -> Self {
        use rustls::PeerIncompatible as Lacks;
        match error {
            Error::PeerIncompatible(
                Lacks::ServerDoesNotSupportTls12Or13
                | Lacks::ServerTlsVersionIsDisabledByOurConfig
                | Lacks::SupportedVersionsExtensionRequired
                | Lacks::Tls12NotOffered
                | Lacks::Tls12NotOfferedOrEnabled
                | Lacks::Tls13RequiredForQuic,
            ) => Self::NoSharedVersion,
            Error::PeerIncompatible(_) => Self::NothingShared,
            Error::NoCertificatesPresented => Self::CertificateMissing,
            Error::InvalidCertificate(error) => match error {
                CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
                    Self::CertificateName
                }
                CertificateError::UnknownIssuer => Self::CertificateIssuer,
                CertificateError::Expired
                | CertificateError::ExpiredContext { .. }
                | CertificateError::NotValidYet
                | CertificateError::NotValidYetContext { .. } => Self::CertificateDate,
                CertificateError::Revoked => Self::CertificateRevoked,
                _ => Self::CertificateRefused,
            },
            Error::AlertReceived(_) => Self::Alert,
            Error::InvalidMessage(_) => Self::NotTls,
            _ => Self::Violation,
        }
    }
}

/// Whether bytes that are no TLS begin as a request does: all registered methods are of capitals (RFC 9110 §16.1).
pub(crate) fn is_http(bytes: &[u8]) -> bool {
    bytes.first().is_some_and(u8::is_ascii_uppercase)
}

#[cfg(test)]
mod tests {
    use rustls::{AlertDescription, PeerIncompatible};

    use super::*;

    #[test]
    fn every_cause_has_a_name_of_its_own() {
        let mut names = HandshakeFault::NAMES.to_vec();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), HandshakeFault::COUNT);
        assert_eq!(HandshakeFault::NAMES[HandshakeFault::TimedOut.index()], "timed_out");
        assert_eq!(HandshakeFault::NAMES[HandshakeFault::CertificateIssuer.index()], "certificate_issuer");
        assert_eq!(HandshakeFault::NAMES[HandshakeFault::Violation.index()], "violation");
    }

    #[test]
    fn refusals_are_told_apart_by_cause() {
        for (error, expected) in [
            (
                Error::PeerIncompatible(PeerIncompatible::Tls12NotOfferedOrEnabled),
                HandshakeFault::NoSharedVersion,
            ),
            (
                Error::PeerIncompatible(PeerIncompatible::NoCipherSuitesInCommon),
                HandshakeFault::NothingShared,
            ),
            (Error::NoCertificatesPresented, HandshakeFault::CertificateMissing),
            (Error::InvalidCertificate(CertificateError::UnknownIssuer), HandshakeFault::CertificateIssuer),
            (Error::InvalidCertificate(CertificateError::Revoked), HandshakeFault::CertificateRevoked),
            (Error::InvalidCertificate(CertificateError::BadSignature), HandshakeFault::CertificateRefused),
            (Error::AlertReceived(AlertDescription::UnknownCA), HandshakeFault::Alert),
            (Error::DecryptError, HandshakeFault::Violation),
        ] {
            assert_eq!(HandshakeFault::of_refusal(&error), expected, "{error}");
        }
    }
}
