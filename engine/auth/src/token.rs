//! Who vouches for him, until when, and for what? Tokens (JWT, RFC 7519) signed with keys that can be rotated.
//!
//! Never believes what a token says about how it is to be verified: a key has one algorithm, and no algorithm is a shared secret or
//! none at all.
//!
//! Suggested reading order: `algorithm`, `key`, `jwks`, `issue`, `check`, `revocation`, `rotation`.

pub mod algorithm;
pub mod jwks;
pub mod key;

pub mod issue;

pub mod check;
pub mod revocation;
pub mod rotation;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

/// Longest token that is looked at. A head that carries one has to fit into a buffer anyway.
pub const TOKEN_BYTES_MAX: usize = 8 * 1024;

/// RFC 7515 §2: base64url without padding; nothing else is taken.
fn encode(bytes: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

fn decode(text: &str) -> Option<Vec<u8>> {
    URL_SAFE_NO_PAD.decode(text).ok()
}
