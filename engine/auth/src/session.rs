//! Has he been here before? Ids of sessions, how long those last, and what proves that a request is its page's own.
//!
//! Never keeps an id: who reads the store cannot take a session over.

use std::time::Duration;

use aws_lc_rs::hmac;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use zeroize::Zeroizing;

use crate::secret::{Digest, NoRandomness, Secret, are_alike};

/// Says which session it is; the client alone has it.
#[derive(Clone, Debug)]
pub struct SessionId(Secret);

impl SessionId {
    /// A new one. Each login has its own, so that one which was planted beforehand is worth nothing (session fixation).
    ///
    /// # Errors
    /// The system has no random bytes.
    pub fn random() -> Result<Self, NoRandomness> {
        Secret::random().map(Self)
    }

    /// What a cookie says.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        Secret::parse(text).map(Self)
    }

    /// What the cookie is to say.
    #[must_use]
    pub fn text(&self) -> Zeroizing<String> {
        self.0.text()
    }

    /// What the store knows of it.
    #[must_use]
    pub fn digest(&self) -> Digest {
        self.0.digest()
    }

    /// What a page of ours has and a page of another site has not: derived from the id, so that nothing more is kept. Who knows it
    /// does not know the id.
    #[must_use]
    pub fn csrf_token(&self) -> String {
        let key = hmac::Key::new(hmac::HMAC_SHA256, self.0.bytes());
        URL_SAFE_NO_PAD.encode(hmac::sign(&key, b"corelane csrf"))
    }

    /// Whether `shown` is this session's.
    #[must_use]
    pub fn is_csrf_token(&self, shown: &str) -> bool {
        are_alike(self.csrf_token().as_bytes(), shown.as_bytes())
    }
}

/// How long sessions last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SessionTerms {
    /// Without a request.
    pub idle: Duration,
    /// However busy.
    pub absolute: Duration,
}

impl SessionTerms {
    /// Whether a session is over that began and was used last so long ago.
    #[must_use]
    pub fn is_over(&self, since_begin: Duration, since_use: Duration) -> bool {
        since_begin >= self.absolute || since_use >= self.idle
    }

    /// How often a session's use is noted: seldom enough to cost nothing, often enough that it does not end early by much.
    #[must_use]
    pub fn touch_every(&self) -> Duration {
        self.idle / 10
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_proof_of_one_session_is_none_of_another() {
        let (one, other) = (SessionId::random().expect("random"), SessionId::random().expect("random"));
        assert!(one.is_csrf_token(&one.csrf_token()));
        assert!(!one.is_csrf_token(&other.csrf_token()));
        assert!(!one.is_csrf_token(""));
        assert!(!one.is_csrf_token(&one.text()), "the id itself is no proof");
        assert!(SessionId::parse(&one.csrf_token()).is_none_or(|id| id.digest() != one.digest()));
    }

    #[test]
    fn a_session_ends_idle_or_old() {
        let terms =
            SessionTerms { idle: Duration::from_secs(30 * 60), absolute: Duration::from_secs(12 * 3600) };
        let check = |used: u64, now: u64, expected: bool| {
            let minutes = |minutes: u64| Duration::from_secs(minutes * 60);
            assert_eq!(terms.is_over(minutes(now), minutes(now - used)), expected, "{used} {now}");
        };
        check(0, 0, false);
        check(0, 29, false);
        check(0, 30, true);
        check(29, 58, false);
        check(700, 719, false);
        check(719, 720, true);
    }
}
