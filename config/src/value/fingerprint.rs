//! Which certificate is "sha256:9f86…"?
//!
//! Never takes a shortened one: a certificate with the same beginning can be made.

use thiserror::Error;

use super::Refusal;
use crate::schema::text::Fingerprint;

/// What stands before the digits; other algorithms may come.
pub(crate) const FINGERPRINT_PREFIX: &str = "sha256:";

/// Why a fingerprint was refused.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub(crate) enum FingerprintError {
    #[error("a fingerprint begins with its algorithm, {FINGERPRINT_PREFIX:?}")]
    NoAlgorithm,
    #[error("a fingerprint has 64 hexadecimal digits after {FINGERPRINT_PREFIX:?}, found {found}")]
    Digits { found: usize },
    #[error("{found:?} is no hexadecimal digit")]
    NoDigit { found: char },
}

impl Refusal for FingerprintError {
    fn suggestion(&self) -> Option<String> {
        match self {
            Self::NoAlgorithm | Self::Digits { .. } => {
                Some("`openssl x509 -in CERT.pem -noout -fingerprint -sha256` shows it".to_owned())
            }
            Self::NoDigit { .. } => None,
        }
    }
}

/// Reads a fingerprint; its bytes may be parted by colons, as OpenSSL does.
pub(crate) fn parse(text: &str) -> Result<Fingerprint, FingerprintError> {
    let digits = text.strip_prefix(FINGERPRINT_PREFIX).ok_or(FingerprintError::NoAlgorithm)?;
    let mut values = Vec::new();
    for digit in digits.chars().filter(|digit| *digit != ':') {
        let value = digit.to_digit(16).and_then(|value| u8::try_from(value).ok());
        values.push(value.ok_or(FingerprintError::NoDigit { found: digit })?);
    }
    let mut bytes = [0; 32];
    if values.len() != 2 * bytes.len() {
        return Err(FingerprintError::Digits { found: values.len() });
    }
    for (byte, pair) in bytes.iter_mut().zip(values.chunks_exact(2)) {
        *byte = pair[0] << 4 | pair[1];
    }
    Ok(Fingerprint(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_digits_with_and_without_colons() {
        let mut bytes = [0; 32];
        (bytes[0], bytes[31]) = (0x9f, 0x08);
        let plain = format!("sha256:9f{}08", "0".repeat(60));
        let parted = format!("sha256:9F{}:08", ":00".repeat(30));
        assert_eq!(parse(&plain), Ok(Fingerprint(bytes)));
        assert_eq!(parse(&parted), Ok(Fingerprint(bytes)));
        assert_eq!(serde_json::to_value(Fingerprint(bytes)).ok(), Some(plain.into()));
    }

    #[test]
    fn refuses_what_is_none() {
        let zeros = "0".repeat(63);
        assert_eq!(parse(&zeros), Err(FingerprintError::NoAlgorithm));
        assert_eq!(parse(&format!("sha1:{zeros}")), Err(FingerprintError::NoAlgorithm));
        assert_eq!(parse(&format!("sha256:{zeros}")), Err(FingerprintError::Digits { found: 63 }));
        assert_eq!(parse(&format!("sha256:{zeros}00")), Err(FingerprintError::Digits { found: 65 }));
        assert_eq!(parse(&format!("sha256:{zeros}g")), Err(FingerprintError::NoDigit { found: 'g' }));
    }
}
