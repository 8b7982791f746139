//! How long is "250ms"?
//!
//! Never says whether that is long enough: bounds belong to the key that holds the duration.

use std::borrow::Cow;
use std::fmt;
use std::time::Duration;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Serialize, Serializer};

use super::quantity::{Kind, QuantityError};

static DURATION: Kind = Kind {
    name: "a duration",
    units: &[("us", 1), ("ms", 1_000), ("s", 1_000_000), ("m", 60_000_000), ("h", 3_600_000_000)],
    unit_likely: "s",
    unit_aliases: &[
        ("µs", "us"),
        ("msec", "ms"),
        ("millis", "ms"),
        ("sec", "s"),
        ("secs", "s"),
        ("seconds", "s"),
        ("min", "m"),
        ("mins", "m"),
        ("minutes", "m"),
        ("hr", "h"),
        ("hours", "h"),
    ],
};

/// A length of time, written as a whole number with `us`, `ms`, `s`, `m` or `h`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Timespan(Duration);

impl Timespan {
    /// So many microseconds.
    #[must_use]
    pub const fn from_micros(micros: u64) -> Self {
        Self(Duration::from_micros(micros))
    }

    /// So many milliseconds.
    #[must_use]
    pub const fn from_millis(millis: u64) -> Self {
        Self(Duration::from_millis(millis))
    }

    /// So many seconds.
    #[must_use]
    pub const fn from_secs(secs: u64) -> Self {
        Self(Duration::from_secs(secs))
    }

    /// As the standard library's type.
    #[must_use]
    pub const fn duration(self) -> Duration {
        self.0
    }

    pub(crate) fn parse(text: &str) -> Result<Self, QuantityError> {
        DURATION.parse(text).map(Self::from_micros)
    }
}

impl fmt::Display for Timespan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Only whole microseconds can be constructed, and `parse` bounds them by u64.
        f.write_str(&DURATION.format(u64::try_from(self.0.as_micros()).unwrap_or(u64::MAX)))
    }
}

impl Serialize for Timespan {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl JsonSchema for Timespan {
    fn schema_name() -> Cow<'static, str> {
        "Timespan".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "description": "A length of time: a whole number with its unit (us, ms, s, m, h).",
            "type": "string",
            "pattern": DURATION.pattern(),
            "examples": ["250ms", "30s", "1m"],
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::value::Refusal;

    #[track_caller]
    fn check(text: &str, expected: Result<Timespan, (&str, Option<&str>)>) {
        let found = Timespan::parse(text).map_err(|error| (error.to_string(), error.suggestion()));
        let expected = expected.map_err(|(cause, hint)| (cause.to_owned(), hint.map(str::to_owned)));
        assert_eq!(found, expected, "{text:?}");
    }

    #[test]
    fn reads_a_whole_number_with_its_unit() {
        check("50us", Ok(Timespan::from_micros(50)));
        check("250ms", Ok(Timespan::from_millis(250)));
        check("0s", Ok(Timespan::from_secs(0)));
        check("1m", Ok(Timespan::from_secs(60)));
        check("24h", Ok(Timespan::from_secs(86_400)));
    }

    #[test]
    fn refuses_anything_that_would_need_a_guess() {
        check("10", Err(("a duration needs a unit: us, ms, s, m, h", Some("write \"10s\""))));
        check("", Err(("a duration is a number and a unit, found \"\"", None)));
        check("-1s", Err(("a duration is a number and a unit, found \"-1s\"", None)));
        check("soon", Err(("a duration is a number and a unit, found \"soon\"", None)));
        check(
            "1.5s",
            Err(("a duration is a whole number of its unit, found \"1.5s\"", Some("use a smaller unit"))),
        );
        let unknown = "unknown unit \"S\", known are us, ms, s, m, h";
        check("2S", Err((unknown, Some("did you mean \"2s\"?"))));
        check("5sec", Err(("unknown unit \"sec\", known are us, ms, s, m, h", Some("did you mean \"5s\"?"))));
        check("1m30s", Err(("unknown unit \"m30s\", known are us, ms, s, m, h", None)));
        check("٣s", Err(("a duration is a number and a unit, found \"٣s\"", None)));
        check(
            "18446744073709551615h",
            Err(("\"18446744073709551615h\" is too large to be represented", None)),
        );
        check(
            "99999999999999999999s",
            Err(("\"99999999999999999999s\" is too large to be represented", None)),
        );
    }

    #[test]
    fn writes_what_it_reads() {
        for text in ["0s", "50us", "1ms", "1500ms", "1m", "90s", "24h"] {
            assert_eq!(Timespan::parse(text).unwrap().to_string(), text);
        }
        assert_eq!(Timespan::parse("60s").unwrap().to_string(), "1m");
    }
}
