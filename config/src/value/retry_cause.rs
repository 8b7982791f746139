//! After what does a request go out again: "connect", "reset", "timeout" or a status?
//!
//! Never a status that is no failure.

use proto::retry::Cause;
use thiserror::Error;

use super::Refusal;
use crate::schema::retry::RetryCause;
use crate::suggest;

/// Those that have a word.
const WORDS: [Cause; 3] = [Cause::Connect, Cause::Reset, Cause::Timeout];

/// Why a cause was refused.
#[derive(Debug, PartialEq, Eq, Error)]
pub(crate) enum RetryCauseError {
    #[error("unknown cause {0:?}")]
    Unknown(String),
    #[error("an answer {0} is no failure: statuses from 400 to 599 are")]
    NoFailure(u16),
}

impl Refusal for RetryCauseError {
    fn suggestion(&self) -> Option<String> {
        match self {
            Self::Unknown(text) => {
                let words = WORDS.map(Cause::name);
                let meant = suggest::did_you_mean(text, words);
                meant.or_else(|| suggest::one_of(words.into_iter().chain(["\"503\""])))
            }
            Self::NoFailure(_) => None,
        }
    }
}

pub(crate) fn parse(text: &str) -> Result<RetryCause, RetryCauseError> {
    if let Some(cause) = WORDS.into_iter().find(|cause| cause.name() == text) {
        return Ok(RetryCause::Word(cause));
    }
    match text.parse::<u16>() {
        Ok(status @ 400..=599) => Ok(RetryCause::Status(status)),
        Ok(status @ 100..=399) => Err(RetryCauseError::NoFailure(status)),
        _ => Err(RetryCauseError::Unknown(text.to_owned())),
    }
}
