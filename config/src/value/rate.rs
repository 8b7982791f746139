//! How often is "1000/s"?
//!
//! Never says of what, nor whether that is too often: bounds belong to the key that holds the rate.

use std::borrow::Cow;
use std::fmt;
use std::time::Duration;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Serialize, Serializer};
use thiserror::Error;

use super::Refusal;

/// Stretches of time that a rate is counted in.
const UNITS: [(&str, u64); 3] = [("s", 1), ("m", 60), ("h", 3600)];

/// Above a million a second the clock's own steps would show.
const COUNT_MAX: u32 = 1_000_000;

/// A number in each second, minute or hour.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    count: u32,
    unit: &'static str,
    seconds: u64,
}

/// Why a rate was refused.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub(crate) enum RateError {
    #[error("a rate is a number per s, m or h, found {text:?}")]
    Form { text: String },
    #[error("a rate is 1 to {COUNT_MAX} per s, m or h, found {found}")]
    Count { found: String },
}

impl Refusal for RateError {
    fn suggestion(&self) -> Option<String> {
        match self {
            Self::Form { .. } => Some("for example \"100/s\"".to_owned()),
            Self::Count { .. } => None,
        }
    }
}

impl Rate {
    pub(crate) fn parse(text: &str) -> Result<Self, RateError> {
        let form = || RateError::Form { text: text.to_owned() };
        let (count, per) = text.split_once('/').ok_or_else(form)?;
        let (unit, seconds) = UNITS.into_iter().find(|(unit, _)| *unit == per).ok_or_else(form)?;
        if count.is_empty() || !count.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(form());
        }
        match count.parse() {
            Ok(count @ 1..=COUNT_MAX) => Ok(Self { count, unit, seconds }),
            _ => Err(RateError::Count { found: count.to_owned() }),
        }
    }

    /// How many in each [`Self::per`].
    pub(crate) fn count(self) -> u32 {
        self.count
    }

    /// The stretch of time that it is counted in.
    pub(crate) fn per(self) -> Duration {
        Duration::from_secs(self.seconds)
    }

    /// How many in a second, rounded up.
    pub(crate) fn per_second(self) -> u64 {
        u64::from(self.count).div_ceil(self.seconds)
    }
}

impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.count, self.unit)
    }
}

impl Serialize for Rate {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl JsonSchema for Rate {
    fn schema_name() -> Cow<'static, str> {
        "Rate".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "description": "A number per second, minute or hour.",
            "type": "string",
            "pattern": r"^[0-9]+/(s|m|h)$|\$\{",
            "examples": ["1000/s", "20/m"],
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_is_written_as_it_is_read() {
        for (text, count, seconds, per_second) in [
            ("1/s", 1, 1, 1),
            ("1000/s", 1000, 1, 1000),
            ("90/m", 90, 60, 2),
            ("1000000/h", 1_000_000, 3600, 278),
        ] {
            let rate = Rate::parse(text).expect(text);
            assert_eq!((rate.count(), rate.per().as_secs(), rate.per_second()), (count, seconds, per_second));
            assert_eq!(rate.to_string(), text);
        }
    }

    #[test]
    fn what_is_no_rate_is_refused() {
        for text in ["", "100", "100/", "/s", "100/d", "1.5/s", "+1/s", "100 /s", "100/s "] {
            assert_eq!(Rate::parse(text), Err(RateError::Form { text: text.to_owned() }));
        }
        for (text, found) in [("0/s", "0"), ("1000001/s", "1000001"), ("99999999999/s", "99999999999")] {
            assert_eq!(Rate::parse(text), Err(RateError::Count { found: found.to_owned() }));
        }
    }
}
