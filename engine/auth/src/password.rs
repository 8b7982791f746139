//! Is it his password, and is it one that nobody guesses? Argon2id, and rules for new ones.
//!
//! Never tells by its time whether there is such a user, and never keeps a password longer than it takes to hash it.

mod common;

use std::sync::OnceLock;

use argon2::password_hash::phc::PasswordHash as Parsed;
use argon2::{Algorithm, Argon2, Params, PasswordHasher, PasswordVerifier, Version};
use zeroize::Zeroizing;

use crate::secret::Secret;

/// What one hash costs: memory in KiB, passes over it, lanes. OWASP's first choice for Argon2id (Password Storage Cheat Sheet):
/// some ten milliseconds of a CPU.
const MEMORY_KIB: u32 = 19 * 1024;
const PASSES: u32 = 2;
const LANES: u32 = 1;

/// What a hash from elsewhere may cost at most, so that nobody who writes to the store can stop a process by it.
const MEMORY_KIB_MAX: u32 = 256 * 1024;
const PASSES_MAX: u32 = 16;
const LANES_MAX: u32 = 16;

/// Longer ones are refused before they are hashed.
pub const PASSWORD_BYTES_MAX: usize = 1024;

/// A password of which nobody can do without these is too easily found by trying.
const DISTINCT_MIN: usize = 5;

/// A password, wiped when it is over. It does not show itself.
pub struct Password(Zeroizing<String>);

impl Password {
    /// This one.
    #[must_use]
    pub fn new(text: String) -> Self {
        Self(Zeroizing::new(text))
    }

    /// One that nobody guesses: 128 random bits.
    ///
    /// # Errors
    /// The system has no random bytes.
    pub fn random() -> Result<Self, crate::secret::NoRandomness> {
        let text = Secret::random()?.text();
        Ok(Self::new(text[..22].to_owned()))
    }

    /// To show it once.
    #[must_use]
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl From<String> for Password {
    fn from(text: String) -> Self {
        Self::new(text)
    }
}

impl std::fmt::Debug for Password {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Password")
    }
}

/// It could not be hashed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the password could not be hashed: too little memory, or no random bytes")]
pub struct CannotHash;

/// The hash of a password, in the form of a PHC string (`$argon2id$v=19$…`).
///
/// # Errors
/// Memory or random bytes are missing.
pub fn hash(password: &Password) -> Result<String, CannotHash> {
    let hashed = hasher().hash_password(password.0.as_bytes());
    hashed.map(|hash| hash.to_string()).map_err(|_| CannotHash)
}

/// Whether it is the password behind `hash`. Without one, of a user that there is not, the answer is no after the same time.
#[must_use]
pub fn verify(password: &Password, hash: Option<&str>) -> bool {
    if password.0.len() > PASSWORD_BYTES_MAX {
        return false;
    }
    let known = hash.and_then(|hash| Parsed::new(hash).ok()).filter(is_affordable);
    let stand_in = stand_in();
    let parsed = match &known {
        Some(parsed) => Some(parsed),
        None => stand_in.as_ref(),
    };
    let is_right =
        parsed.is_some_and(|parsed| hasher().verify_password(password.0.as_bytes(), parsed).is_ok());
    is_right && known.is_some()
}

/// Whether a hash was made otherwise than [`hash`] would make it now, so that the next login is to replace it.
#[must_use]
pub fn is_outdated(hash: &str) -> bool {
    let Ok(parsed) = Parsed::new(hash) else { return true };
    Params::try_from(&parsed).ok().is_none_or(|params| {
        (params.m_cost(), params.t_cost(), params.p_cost()) != (MEMORY_KIB, PASSES, LANES)
    })
}

fn hasher() -> Argon2<'static> {
    let params = Params::new(MEMORY_KIB, PASSES, LANES, None).expect("the constants are in range");
    Argon2::new(Algorithm::Argon2id, Version::V0x13, params)
}

fn is_affordable(parsed: &Parsed) -> bool {
    Params::try_from(parsed).is_ok_and(|params| {
        params.m_cost() <= MEMORY_KIB_MAX && params.t_cost() <= PASSES_MAX && params.p_cost() <= LANES_MAX
    })
}

/// What is verified for a user that there is not: as dear as any other, and nobody's.
fn stand_in() -> Option<Parsed> {
    static STAND_IN: OnceLock<Option<String>> = OnceLock::new();
    let hashed = STAND_IN.get_or_init(|| {
        let password = Password::random().ok()?;
        hash(&password).ok()
    });
    hashed.as_deref().and_then(|hash| Parsed::new(hash).ok())
}

/// What a new password has to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PasswordRules {
    /// Characters at least.
    pub length_min: u16,
}

impl Default for PasswordRules {
    fn default() -> Self {
        Self { length_min: 12 }
    }
}

/// Why a password is none for a user.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PasswordRejected {
    /// Fewer characters than the rules say.
    #[error("at least {0} characters")]
    Short(u16),
    /// More than [`PASSWORD_BYTES_MAX`].
    #[error("at most {PASSWORD_BYTES_MAX} bytes")]
    Long,
    /// It holds the user's name.
    #[error("not with the user's own name in it")]
    HoldsName,
    /// It is among those that are tried first, or one of them with something around it.
    #[error("not one of those that are tried first, whatever is put around it")]
    Common,
    /// Too few different characters.
    #[error("at least {DISTINCT_MIN} different characters")]
    Uniform,
}

impl PasswordRules {
    /// Whether `user` may have it.
    ///
    /// # Errors
    /// The first rule that it breaks.
    pub fn check(&self, password: &Password, user: &str) -> Result<(), PasswordRejected> {
        let text = &**password.0;
        if text.len() > PASSWORD_BYTES_MAX {
            return Err(PasswordRejected::Long);
        }
        if text.chars().count() < usize::from(self.length_min) {
            return Err(PasswordRejected::Short(self.length_min));
        }
        let mut distinct: Zeroizing<Vec<char>> = Zeroizing::new(text.chars().collect());
        distinct.sort_unstable();
        distinct.dedup();
        if distinct.len() < DISTINCT_MIN {
            return Err(PasswordRejected::Uniform);
        }
        let lower = Zeroizing::new(text.to_lowercase());
        // A name of one or two letters is in many words.
        if user.chars().count() > 2 && lower.contains(&user.to_lowercase()) {
            return Err(PasswordRejected::HoldsName);
        }
        if common::is_common(&lower) {
            return Err(PasswordRejected::Common);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn password(text: &str) -> Password {
        Password::new(text.to_owned())
    }

    #[test]
    fn a_password_is_known_again_and_another_is_not() {
        let hash = hash(&password("correct horse battery")).expect("hashed");
        assert!(hash.starts_with("$argon2id$v=19$m=19456,t=2,p=1$"), "{hash}");
        assert!(verify(&password("correct horse battery"), Some(&hash)));
        for wrong in ["", "correct horse batter", "Correct horse battery", "correct horse battery "] {
            assert!(!verify(&password(wrong), Some(&hash)), "{wrong:?}");
        }
        assert!(!is_outdated(&hash));
    }

    #[test]
    fn two_users_with_one_password_have_two_hashes() {
        assert_ne!(hash(&password("the same for both")), hash(&password("the same for both")));
    }

    #[test]
    fn nobody_has_any_password() {
        assert!(!verify(&password("x"), None));
        assert!(!verify(&password(""), None));
        for broken in ["", "x", "$argon2id$v=19$m=19456,t=2,p=1$", "$2b$12$abcdefghijklmnopqrstuv"] {
            assert!(!verify(&password("x"), Some(broken)), "{broken}");
            assert!(is_outdated(broken));
        }
    }

    #[test]
    fn a_hash_that_would_stop_the_process_is_nobodys() {
        let salt = "c29tZXNhbHRzb21lc2FsdA";
        let hash = "MTIzNDU2Nzg5MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTI";
        for costs in ["m=4000000,t=2,p=1", "m=19456,t=4000000,p=1", "m=19456,t=2,p=4000"] {
            let hash = format!("$argon2id$v=19${costs}${salt}${hash}");
            assert!(!verify(&password("password"), Some(&hash)), "{costs}");
        }
    }

    #[test]
    fn rules_for_new_ones() {
        let check = |text: &str, expected: Result<(), PasswordRejected>| {
            let rules = PasswordRules::default();
            assert_eq!(rules.check(&password(text), "eva.mueller"), expected, "{text}");
        };
        check("correct horse battery", Ok(()));
        check("zwölf Zeiche", Ok(()));
        check("elf Zeichen", Err(PasswordRejected::Short(12)));
        check(&"xyzab".repeat(205), Err(PasswordRejected::Long));
        check("aaaaaaaaaaaaaaa", Err(PasswordRejected::Uniform));
        check("121212121212121", Err(PasswordRejected::Uniform));
        check("my Eva.Mueller secret", Err(PasswordRejected::HoldsName));
        check("Password123456!", Err(PasswordRejected::Common));
        check("123456789012345", Err(PasswordRejected::Common));
        check("passwordpassword", Err(PasswordRejected::Common));
        check("!!!Qwertyuiop2026", Err(PasswordRejected::Common));
        check("P@ssw0rd2026!!", Err(PasswordRejected::Common));
    }

    #[test]
    fn a_generated_one_keeps_the_rules() {
        for _ in 0..100 {
            let password = Password::random().expect("random bytes");
            assert_eq!(PasswordRules::default().check(&password, "admin"), Ok(()));
        }
    }

    #[test]
    fn a_password_does_not_show_itself() {
        assert_eq!(format!("{:?}", password("secret")), "Password");
    }
}
