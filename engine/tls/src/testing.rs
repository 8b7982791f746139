//! What do tests of certificates stand on? Identities made on the spot.
//!
//! Never compiled into the program.

use rcgen::{CertificateParams, KeyPair};

use crate::identity::Identity;

/// What a key signs with.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Algorithm {
    Ecdsa,
    Ed25519,
    Rsa,
}

/// A key of this kind.
pub(crate) fn key(algorithm: Algorithm) -> KeyPair {
    let made = match algorithm {
        Algorithm::Ecdsa => KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256),
        Algorithm::Ed25519 => KeyPair::generate_for(&rcgen::PKCS_ED25519),
        Algorithm::Rsa => KeyPair::generate_for(&rcgen::PKCS_RSA_SHA256),
    };
    made.expect("a key")
}

/// PEM of a certificate for `names`, signed by itself.
pub(crate) fn certificate(names: &[&str], key: &KeyPair) -> String {
    let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
    CertificateParams::new(names).expect("names").self_signed(key).expect("a certificate").pem()
}

/// An identity for `names`.
pub(crate) fn identity(names: &[&str], algorithm: Algorithm) -> Identity {
    let key = key(algorithm);
    let chain = certificate(names, &key);
    Identity::from_pem(chain.as_bytes(), key.serialize_pem().as_bytes()).expect("an identity")
}
