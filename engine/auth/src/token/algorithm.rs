//! How may a token be signed? The algorithms that are spoken, and which of them somebody accepts.
//!
//! Never one with a shared secret (HS256 and the like), never `none`.

use std::fmt;

use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED, ED25519, RSA_PKCS1_2048_8192_SHA256, RsaParameters, VerificationAlgorithm,
};

/// An algorithm of signatures (RFC 7518 §3.1, RFC 8037 §3.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
pub enum Algorithm {
    /// Ed25519; RFC 9864 names it so, RFC 8037 `EdDSA`.
    EdDsa,
    /// ECDSA with P-256 and SHA-256.
    Es256,
    /// RSA, PKCS #1 v1.5 with SHA-256, keys of 2,048 to 8,192 bits. Verified alone: others sign with it.
    Rs256,
}

impl Algorithm {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::EdDsa, Self::Es256, Self::Rs256];

    /// Its name in tokens and sets of keys.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::EdDsa => "EdDSA",
            Self::Es256 => "ES256",
            Self::Rs256 => "RS256",
        }
    }

    /// The one of this name.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        match name {
            "EdDSA" | "Ed25519" => Some(Self::EdDsa),
            "ES256" => Some(Self::Es256),
            "RS256" => Some(Self::Rs256),
            _ => None,
        }
    }

    pub(super) fn of_curve(self) -> Option<&'static dyn VerificationAlgorithm> {
        match self {
            Self::EdDsa => Some(&ED25519),
            Self::Es256 => Some(&ECDSA_P256_SHA256_FIXED),
            Self::Rs256 => None,
        }
    }

    pub(super) const fn rsa() -> &'static RsaParameters {
        &RSA_PKCS1_2048_8192_SHA256
    }
}

impl fmt::Display for Algorithm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Those that somebody accepts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Algorithms(u8);

impl Algorithms {
    /// Each that there is.
    pub const ALL: Self = Self::of(&Algorithm::ALL);

    /// These.
    #[must_use]
    pub const fn of(algorithms: &[Algorithm]) -> Self {
        let (mut bits, mut index) = (0, 0);
        while index < algorithms.len() {
            bits |= 1 << algorithms[index] as u8;
            index += 1;
        }
        Self(bits)
    }

    /// Whether this one is among them.
    #[must_use]
    pub const fn accept(self, algorithm: Algorithm) -> bool {
        self.0 & (1 << algorithm as u8) != 0
    }
}
