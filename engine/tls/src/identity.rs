//! Who is this side? A certificate chain and its key, read from PEM and found to belong together.
//!
//! Never takes a key for a certificate that is not its own, and never opens a file: its caller says what was in it.

use std::sync::Arc;

use rustls::crypto::aws_lc_rs;
use rustls::pki_types::pem::{Error as PemError, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;
use rustls::{Error, InconsistentKeys, SignatureAlgorithm};

use crate::certificate::Certificate;

/// A certificate chain with its private key.
#[derive(Clone, Debug)]
pub struct Identity {
    certified: Arc<CertifiedKey>,
    certificate: Certificate,
}

/// Why a chain and a key make no identity. Worded to follow the name of a file and a colon.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum IdentityError {
    /// See its text.
    #[error("holds no certificate: a PEM file with -----BEGIN CERTIFICATE----- is wanted")]
    NoCertificate,
    /// See its text.
    #[error("is no PEM file: {0}")]
    CertificatePem(String),
    /// See its text; counted from one.
    #[error("certificate {0} in it is no X.509 certificate")]
    CertificateMalformed(usize),
    /// See its text; counted from one.
    #[error(
        "certificate {0} in it was not issued by certificate {next}: the server's own comes first, each is followed by \
         the one that issued it",
        next = .0 + 1
    )]
    ChainOrder(usize),
    /// See its text; counted from one.
    #[error(
        "the key belongs to certificate {0} in it: that one must come first, followed by those that issued it"
    )]
    LeafNotFirst(usize),
    /// See its text.
    #[error("holds no private key: a PEM file with -----BEGIN PRIVATE KEY----- is wanted")]
    NoKey,
    /// See its text.
    #[error("is no PEM file: {0}")]
    KeyPem(String),
    /// See its text.
    #[error(
        "the private key is encrypted, and nobody is there to ask for its passphrase: decrypt it with \
         `openssl pkey -in KEY -out NEW_KEY`, and let only this program's user read it"
    )]
    KeyEncrypted,
    /// See its text.
    #[error(
        "the private key cannot be used ({0}): RSA of 2,048 bits or more, ECDSA P-256, P-384, P-521 and Ed25519 can"
    )]
    KeyUnusable(String),
    /// See its text.
    #[error("the private key is not that of the certificate: they were made for different keys")]
    KeyMismatch,
}

impl IdentityError {
    /// Whether it is the key's file that is to blame, not the certificates'.
    #[must_use]
    pub fn is_about_key(&self) -> bool {
        match self {
            Self::NoKey | Self::KeyPem(_) | Self::KeyEncrypted | Self::KeyUnusable(_) | Self::KeyMismatch => {
                true
            }
            Self::NoCertificate
            | Self::CertificatePem(_)
            | Self::CertificateMalformed(_)
            | Self::ChainOrder(_)
            | Self::LeafNotFirst(_) => false,
        }
    }
}

impl Identity {
    /// From the PEM of a chain, the own certificate first, and the PEM of its key.
    ///
    /// # Errors
    /// [`IdentityError`] says what is wrong with which of both.
    pub fn from_pem(chain: &[u8], key: &[u8]) -> Result<Self, IdentityError> {
        let chain = read_chain(chain)?;
        let key = read_key(key)?;
        let provider = aws_lc_rs::default_provider();
        let key = provider
            .key_provider
            .load_private_key(key)
            .map_err(|error| IdentityError::KeyUnusable(reason(&error)))?;
        let certificates: Vec<Certificate> = (1..)
            .zip(&chain)
            .map(|(number, der)| {
                Certificate::parse(der).map_err(|_| IdentityError::CertificateMalformed(number))
            })
            .collect::<Result<_, _>>()?;
        if !belongs(&chain[0], &key) {
            let owner = chain.iter().position(|certificate| belongs(certificate, &key));
            return Err(owner.map_or(IdentityError::KeyMismatch, |at| IdentityError::LeafNotFirst(at + 1)));
        }
        if let Some(at) = certificates.windows(2).position(|pair| !pair[0].names_as_issuer(&pair[1])) {
            return Err(IdentityError::ChainOrder(at + 1));
        }
        let certificate = certificates.into_iter().next().ok_or(IdentityError::NoCertificate)?;
        Ok(Self { certified: Arc::new(CertifiedKey::new(chain, key)), certificate })
    }

    /// What its own certificate says.
    #[must_use]
    pub fn certificate(&self) -> &Certificate {
        &self.certificate
    }

    /// What its key signs with.
    #[must_use]
    pub fn algorithm(&self) -> SignatureAlgorithm {
        self.certified.key.algorithm()
    }

    /// As rustls takes it.
    pub(crate) fn certified(&self) -> &Arc<CertifiedKey> {
        &self.certified
    }
}

fn belongs(certificate: &CertificateDer<'static>, key: &Arc<dyn rustls::sign::SigningKey>) -> bool {
    let pair = CertifiedKey::new(vec![certificate.clone()], key.clone());
    matches!(pair.keys_match(), Ok(()) | Err(Error::InconsistentKeys(InconsistentKeys::Unknown)))
}

fn read_chain(pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, IdentityError> {
    let chain = CertificateDer::pem_slice_iter(pem)
        .collect::<Result<Vec<_>, _>>()
        .map_err(|error| IdentityError::CertificatePem(error.to_string()))?;
    if chain.is_empty() {
        return Err(IdentityError::NoCertificate);
    }
    Ok(chain)
}

fn read_key(pem: &[u8]) -> Result<PrivateKeyDer<'static>, IdentityError> {
    let says = |text: &str| pem.windows(text.len()).any(|window| window == text.as_bytes());
    // PKCS #8 (RFC 5958 §3) and the older form of OpenSSL (RFC 1421 §4.6.1.1).
    if says("BEGIN ENCRYPTED PRIVATE KEY") || says("Proc-Type: 4,ENCRYPTED") {
        return Err(IdentityError::KeyEncrypted);
    }
    PrivateKeyDer::from_pem_slice(pem).map_err(|error| match error {
        PemError::NoItemsFound => IdentityError::NoKey,
        error => IdentityError::KeyPem(error.to_string()),
    })
}

fn reason(error: &Error) -> String {
    match error {
        Error::General(reason) => reason.clone(),
        error => error.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};

    use super::*;
    use crate::testing::{Algorithm, certificate, identity, key};

    fn refusal(chain: &str, key: &str) -> String {
        Identity::from_pem(chain.as_bytes(), key.as_bytes()).expect_err("no identity").to_string()
    }

    fn authority(name: &str) -> CertificateParams {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params
    }

    /// PEM of a server's certificate, its issuer and the issuer's issuer, and of the server's key.
    fn chain() -> ([String; 3], String) {
        let [root_key, middle_key, leaf_key] = [(); 3].map(|()| KeyPair::generate().expect("a key"));
        let root_pem = authority("root").self_signed(&root_key).expect("a root").pem();
        let root = Issuer::new(authority("root"), root_key);
        let middle_pem = authority("middle").signed_by(&middle_key, &root).expect("a middle").pem();
        let middle = Issuer::new(authority("middle"), middle_key);
        let leaf = CertificateParams::new(["a.example".to_owned()]).expect("a name");
        let leaf_pem = leaf.signed_by(&leaf_key, &middle).expect("a leaf").pem();
        ([leaf_pem, middle_pem, root_pem], leaf_key.serialize_pem())
    }

    #[test]
    fn every_kind_of_key_makes_an_identity() {
        assert_eq!(identity(&["a.example"], Algorithm::Ecdsa).algorithm(), SignatureAlgorithm::ECDSA);
        assert_eq!(identity(&["a.example"], Algorithm::Ed25519).algorithm(), SignatureAlgorithm::ED25519);
        assert_eq!(identity(&["a.example"], Algorithm::Rsa).algorithm(), SignatureAlgorithm::RSA);
    }

    #[test]
    fn a_chain_is_in_the_order_of_its_issuers() {
        let ([leaf, middle, root], key) = chain();
        let accepted = [leaf.clone() + &middle + &root, leaf.clone() + &middle, leaf.clone()];
        for chain in accepted {
            Identity::from_pem(chain.as_bytes(), key.as_bytes()).expect("in order");
        }
        let text = refusal(&(leaf.clone() + &root + &middle), &key);
        assert!(text.starts_with("certificate 1 in it was not issued by certificate 2: "), "{text}");
        let text = refusal(&(middle + &root + &leaf), &key);
        assert!(
            text.starts_with("the key belongs to certificate 3 in it: that one must come first"),
            "{text}"
        );
    }

    #[test]
    fn what_makes_no_identity_says_why_and_which_file_is_to_blame() {
        let own = key(Algorithm::Ecdsa);
        let pem = certificate(&["a.example"], &own);
        let check = |chain: &str, key: &str, is_about_key: bool, expected: &str| {
            let error = Identity::from_pem(chain.as_bytes(), key.as_bytes()).expect_err(expected);
            assert!(error.to_string().contains(expected), "{error}");
            assert_eq!(error.is_about_key(), is_about_key, "{error}");
        };
        let key_pem = own.serialize_pem();
        let other = key(Algorithm::Ecdsa).serialize_pem();
        let encrypted = "-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n";
        let old = "-----BEGIN RSA PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\n\nAA==\n-----END RSA PRIVATE KEY-----\n";
        let garbage = "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n";
        let no_x509 = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
        check("", &key_pem, false, "holds no certificate");
        check(&key_pem, &key_pem, false, "holds no certificate");
        check(no_x509, &key_pem, false, "certificate 1 in it is no X.509 certificate");
        check(&pem[..pem.len() - 30], &key_pem, false, "is no PEM file");
        check(&pem, "", true, "holds no private key");
        check(&pem, &pem, true, "holds no private key");
        check(&pem, &key_pem[..key_pem.len() - 30], true, "is no PEM file");
        check(&pem, encrypted, true, "openssl pkey -in KEY");
        check(&pem, old, true, "openssl pkey -in KEY");
        check(&pem, garbage, true, "the private key cannot be used");
        check(&pem, &other, true, "not that of the certificate");
    }
}
