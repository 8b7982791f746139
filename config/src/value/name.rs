//! Is this a name a node or module may bear?
//!
//! Never rewrites one: names appear in logs, statistics and links, exactly as written.

use thiserror::Error;

use super::Refusal;

/// Longest name, in characters; the bound Smile CDR documents for Node and Module IDs.
pub(crate) const NAME_LEN_MAX: usize = 30;

/// The rule as a regular expression, for the JSON schema.
pub(crate) const NAME_PATTERN: &str = "^[A-Za-z0-9_.-]{1,30}$";

/// Why a name was refused.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub(crate) enum NameError {
    #[error("a name has at least one character")]
    Empty,
    #[error("a name has at most {NAME_LEN_MAX} characters, found {len}")]
    TooLong { len: usize },
    #[error("a name consists of A-Z a-z 0-9 _ - . only, found {found:?}")]
    Character { found: char, repaired: String },
}

impl Refusal for NameError {
    fn suggestion(&self) -> Option<String> {
        match self {
            Self::Empty | Self::TooLong { .. } => None,
            Self::Character { repaired, .. } => Some(format!("for example {repaired:?}")),
        }
    }
}

/// Accepts a name that keeps to the rule.
pub(crate) fn check(text: &str) -> Result<(), NameError> {
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.');
    if text.is_empty() {
        return Err(NameError::Empty);
    }
    if let Some(found) = text.chars().find(|&c| !allowed(c)) {
        let repaired = text.chars().take(NAME_LEN_MAX).map(|c| if allowed(c) { c } else { '_' }).collect();
        return Err(NameError::Character { found, repaired });
    }
    if text.len() > NAME_LEN_MAX {
        return Err(NameError::TooLong { len: text.len() });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accepts_up_to_thirty_of_the_allowed_characters() {
        assert_eq!(check("gateway"), Ok(()));
        assert_eq!(check("A-z_0.9"), Ok(()));
        assert_eq!(check(&"n".repeat(30)), Ok(()));
    }

    #[test]
    fn refuses_other_names_with_the_rule() {
        assert_eq!(check(""), Err(NameError::Empty));
        assert_eq!(check(&"n".repeat(31)), Err(NameError::TooLong { len: 31 }));
        let refused =
            |found, repaired: &str| Err(NameError::Character { found, repaired: repaired.to_owned() });
        assert_eq!(check("my web"), refused(' ', "my_web"));
        assert_eq!(check("caf\u{e9}"), refused('\u{e9}', "caf_"));
        assert_eq!(check("a/b"), refused('/', "a_b"));
    }
}
