//! How are secrets kept from whoever reads the database? Sealed with a key that the database does not hold.
//!
//! Never writes the key anywhere but into its own file, and never opens what was moved from another row.

use std::fmt;
use std::fs::{self, File, OpenOptions};
use std::io::{Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use aws_lc_rs::digest::{SHA256, digest};
use zeroize::Zeroizing;

use crate::error::StoreError;

/// AES-256.
const KEY_BYTES: usize = 32;

/// What secrets in the store are sealed with: AES-256-GCM. Every process of a cluster has the same.
#[derive(Clone)]
pub struct SealingKey {
    id: String,
    bytes: Zeroizing<[u8; KEY_BYTES]>,
}

/// A secret as the database has it.
pub(crate) struct Sealed {
    /// The id of the key.
    pub(crate) by: String,
    /// A random nonce, the ciphertext, the tag.
    pub(crate) bytes: Vec<u8>,
}

impl SealingKey {
    /// Reads a key from a file of 32 bytes that nobody else may read.
    ///
    /// # Errors
    /// [`StoreError::Refused`] with what is wrong with the file.
    pub fn load(path: &Path) -> Result<Self, StoreError> {
        let shown = path.display();
        let mut file = File::open(path).map_err(|error| {
            StoreError::refused(
                format!("the key of the store cannot be read from {shown}: {error}"),
                SAME_FILE,
            )
        })?;
        let about =
            file.metadata().map_err(|error| StoreError::refused(format!("{shown}: {error}"), SAME_FILE))?;
        let mode = about.mode() & 0o777;
        if mode & 0o077 != 0 {
            return Err(StoreError::refused(
                format!("others may read the key of the store: {shown} has the mode {mode:04o}"),
                format!("say `chmod 600 {shown}`"),
            ));
        }
        // One byte more than there may be is enough to see that it is too long.
        let mut bytes = Zeroizing::new(Vec::with_capacity(KEY_BYTES + 1));
        let read = Read::by_ref(&mut file).take(KEY_BYTES as u64 + 1).read_to_end(&mut bytes);
        let key: Option<[u8; KEY_BYTES]> = read.ok().and_then(|_| bytes.as_slice().try_into().ok());
        match key {
            Some(key) => Ok(Self::from_bytes(Zeroizing::new(key))),
            None => Err(StoreError::refused(
                format!("{shown} is no key of a store, which has {KEY_BYTES} bytes"),
                SAME_FILE,
            )),
        }
    }

    /// Makes a new key and keeps it in a file that only its owner may read. Of several that do so at once, one does.
    ///
    /// # Errors
    /// [`StoreError::Conflict`] if the file is there, which is left as it is; [`StoreError::Refused`] if it cannot be written.
    pub fn generate(path: &Path) -> Result<Self, StoreError> {
        let shown = path.display();
        let refused = |error: std::io::Error| {
            StoreError::refused(
                format!("the key of the store cannot be written to {shown}: {error}"),
                "see its directory",
            )
        };
        let mut key = Zeroizing::new([0; KEY_BYTES]);
        fill_random(key.as_mut_slice())?;
        // Under a name that nobody else takes until it is whole: whoever finds the file finds all of it.
        let mut mark = [0; 8];
        fill_random(&mut mark)?;
        let draft = path.with_added_extension(format!("{:016x}.new", u64::from_ne_bytes(mark)));
        let written =
            OpenOptions::new().write(true).create_new(true).mode(0o600).open(&draft).and_then(|mut file| {
                file.write_all(key.as_slice())?;
                file.sync_all()
            });
        let linked = written.and_then(|()| fs::hard_link(&draft, path));
        // It is of no use any more, and its name is ours.
        drop(fs::remove_file(&draft));
        match linked {
            Ok(()) => Ok(Self::from_bytes(key)),
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {
                Err(StoreError::conflict(format!("{shown} is there already"), None))
            }
            Err(error) => Err(refused(error)),
        }
    }

    fn from_bytes(bytes: Zeroizing<[u8; KEY_BYTES]>) -> Self {
        // Enough of a hash to tell keys apart; a key cannot be found from it.
        let named = Zeroizing::new([b"corelane sealing key id ".as_slice(), bytes.as_slice()].concat());
        let id = digest(&SHA256, &named).as_ref()[..8].iter().map(|byte| format!("{byte:02x}")).collect();
        Self { id, bytes }
    }

    /// Which key it is, to compare with another process's. It is no secret.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Seals a secret for one row of one table.
    pub(crate) fn seal(&self, row: &str, secret: &[u8]) -> Result<Sealed, StoreError> {
        let mut nonce = [0; NONCE_LEN];
        fill_random(&mut nonce)?;
        let mut text = Zeroizing::new(secret.to_vec());
        let tag = self
            .cipher()
            .seal_in_place_separate_tag(
                Nonce::assume_unique_for_key(nonce),
                Aad::from(row),
                text.as_mut_slice(),
            )
            .map_err(|_| StoreError::refused("the secret cannot be sealed", "it may be at most 64 GiB"))?;
        Ok(Sealed { by: self.id.clone(), bytes: [nonce.as_slice(), text.as_slice(), tag.as_ref()].concat() })
    }

    /// Opens what was sealed for the same row.
    pub(crate) fn open(&self, row: &str, sealed: &Sealed) -> Result<Zeroizing<Vec<u8>>, StoreError> {
        if sealed.by != self.id {
            return Err(self.other_key(&sealed.by));
        }
        let damaged = || {
            StoreError::corrupt(format!(
                "{row} is not what was sealed: it was changed, or moved from elsewhere"
            ))
        };
        let (nonce, text) = sealed.bytes.split_first_chunk::<NONCE_LEN>().ok_or_else(damaged)?;
        let mut text = Zeroizing::new(text.to_vec());
        let nonce = Nonce::assume_unique_for_key(*nonce);
        let secret =
            self.cipher().open_in_place(nonce, Aad::from(row), text.as_mut_slice()).map_err(|_| damaged())?;
        Ok(Zeroizing::new(secret.to_vec()))
    }

    /// The store is sealed with a key that this process does not have.
    pub(crate) fn other_key(&self, by: &str) -> StoreError {
        StoreError::refused(
            format!(
                "secrets in the store are sealed with the key {by}, and this process has the key {}",
                self.id
            ),
            SAME_FILE,
        )
    }

    fn cipher(&self) -> LessSafeKey {
        let key = UnboundKey::new(&AES_256_GCM, self.bytes.as_slice());
        LessSafeKey::new(key.expect("a key of AES-256 has 32 bytes"))
    }
}

/// Nonces are random: of 2^32 of one key, two are alike with a chance of 2^-33 (NIST SP 800-38D §8.3), and a cluster seals a few a day.
fn fill_random(bytes: &mut [u8]) -> Result<(), StoreError> {
    aws_lc_rs::rand::fill(bytes).map_err(|_| StoreError::unavailable("the system has no random bytes"))
}

const SAME_FILE: &str = "give every process of the cluster the same file (`store.key_file`)";

impl fmt::Debug for SealingKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SealingKey({})", self.id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(byte: u8) -> SealingKey {
        SealingKey::from_bytes(Zeroizing::new([byte; KEY_BYTES]))
    }

    #[test]
    fn what_was_sealed_opens_with_its_key_for_its_row_alone() {
        let sealed = key(1).seal("key/tls_tickets/1", b"a secret").expect("sealed");
        assert_eq!(key(1).open("key/tls_tickets/1", &sealed).expect("its own").as_slice(), b"a secret");
        assert!(matches!(key(1).open("key/tls_tickets/2", &sealed), Err(StoreError::Corrupt { .. })));
        let StoreError::Refused { cause, help } =
            key(2).open("key/tls_tickets/1", &sealed).expect_err("another key")
        else {
            panic!("a wrong key is the operator's to mend");
        };
        assert!(
            cause.contains(key(1).id()) && cause.contains(key(2).id()) && help.contains("key_file"),
            "{cause}; {help}"
        );
    }

    #[test]
    fn every_bit_counts() {
        let sealed = key(1).seal("row", b"a secret").expect("sealed");
        for at in 0..sealed.bytes.len() {
            let mut bytes = sealed.bytes.clone();
            bytes[at] ^= 1;
            let changed = Sealed { by: sealed.by.clone(), bytes };
            assert!(matches!(key(1).open("row", &changed), Err(StoreError::Corrupt { .. })), "{at}");
        }
        for length in 0..sealed.bytes.len() {
            let cut = Sealed { by: sealed.by.clone(), bytes: sealed.bytes[..length].to_vec() };
            assert!(matches!(key(1).open("row", &cut), Err(StoreError::Corrupt { .. })), "{length}");
        }
    }

    #[test]
    fn the_same_secret_is_never_sealed_to_the_same_bytes() {
        let seal = || key(1).seal("row", b"a secret").expect("sealed").bytes;
        assert_ne!(seal(), seal());
    }
}
