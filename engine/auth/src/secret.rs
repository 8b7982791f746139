//! What is nobody else to know or guess? Random bytes, and whether two secrets are alike.
//!
//! Never compares secrets in a time that tells where they differ.

use aws_lc_rs::constant_time::verify_slices_are_equal;
use aws_lc_rs::digest::{SHA256, digest};
use aws_lc_rs::rand;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use zeroize::{Zeroize, Zeroizing};

/// Nobody guesses one of 2^256.
pub const SECRET_BYTES: usize = 32;

/// The system had no random bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the system has no random bytes")]
pub struct NoRandomness;

/// SHA-256 of a secret: what is kept of it where nobody needs to know it again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Digest(pub [u8; 32]);

impl Digest {
    /// Of these bytes.
    #[must_use]
    pub fn of(bytes: &[u8]) -> Self {
        let digest = digest(&SHA256, bytes);
        Self(digest.as_ref().try_into().expect("SHA-256 has 32 bytes"))
    }

    /// As a text of 43 letters, digits, `-` and `_`.
    #[must_use]
    pub fn text(&self) -> String {
        URL_SAFE_NO_PAD.encode(self.0)
    }

    /// What [`Self::text`] wrote.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        decode(text).map(Self)
    }
}

/// 256 random bits; wiped when they are over.
#[derive(Clone)]
pub struct Secret([u8; SECRET_BYTES]);

impl Secret {
    /// A new one.
    ///
    /// # Errors
    /// The system has no random bytes.
    pub fn random() -> Result<Self, NoRandomness> {
        let mut bytes = [0; SECRET_BYTES];
        rand::fill(&mut bytes).map_err(|_| NoRandomness)?;
        Ok(Self(bytes))
    }

    /// What [`Self::text`] wrote.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        decode(text).map(Self)
    }

    /// As a text of 43 letters, digits, `-` and `_`.
    #[must_use]
    pub fn text(&self) -> Zeroizing<String> {
        Zeroizing::new(URL_SAFE_NO_PAD.encode(self.0))
    }

    /// What is kept of it.
    #[must_use]
    pub fn digest(&self) -> Digest {
        Digest::of(&self.0)
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        &self.0
    }
}

impl Drop for Secret {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

/// Says that it is one, and no more.
impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Secret")
    }
}

/// Whether two secrets are alike; how long that takes depends on their lengths alone.
#[must_use]
pub fn are_alike(one: &[u8], other: &[u8]) -> bool {
    verify_slices_are_equal(one, other).is_ok()
}

/// A short random text, to tell things apart: 128 bits, 22 letters, digits, `-` and `_`.
///
/// # Errors
/// The system has no random bytes.
pub fn random_id() -> Result<String, NoRandomness> {
    let mut bytes = [0; 16];
    rand::fill(&mut bytes).map_err(|_| NoRandomness)?;
    Ok(URL_SAFE_NO_PAD.encode(bytes))
}

fn decode(text: &str) -> Option<[u8; 32]> {
    // Longer ones are not even decoded.
    if text.len() != 43 {
        return None;
    }
    let bytes = Zeroizing::new(URL_SAFE_NO_PAD.decode(text).ok()?);
    bytes.as_slice().try_into().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_leads_back_to_its_secret() {
        let secret = Secret::random().expect("random bytes");
        let again = Secret::parse(&secret.text()).expect("written above");
        assert!(are_alike(secret.bytes(), again.bytes()));
        assert_eq!(secret.digest(), again.digest());
        assert_eq!(Digest::parse(&secret.digest().text()), Some(secret.digest()));
    }

    #[test]
    fn no_two_are_alike() {
        let (one, other) = (Secret::random().expect("random"), Secret::random().expect("random"));
        assert!(!are_alike(one.bytes(), other.bytes()));
        assert_ne!(random_id(), random_id());
    }

    #[test]
    fn other_texts_are_no_secrets() {
        let text = Secret::random().expect("random").text();
        for wrong in
            ["", "x", &text[1..], &format!("{}=", &*text), &format!("{}é", &text[..41]), &"+".repeat(43)]
        {
            assert!(Secret::parse(wrong).is_none(), "{wrong}");
        }
    }

    #[test]
    fn a_secret_does_not_show_itself() {
        let secret = Secret::random().expect("random");
        assert_eq!(format!("{secret:?}"), "Secret");
    }

    /// FIPS 180-4, SHA-256 of "abc".
    #[test]
    fn a_digest_is_sha_256() {
        let expected = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        let found: String = Digest::of(b"abc").0.iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(found, expected);
    }
}
