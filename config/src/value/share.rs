//! How much is "20%"?
//!
//! Never says of what: that is the business of the key that holds the share.

use std::borrow::Cow;
use std::fmt;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Serialize, Serializer};

use super::quantity::{Kind, QuantityError};

static SHARE: Kind = Kind {
    name: "a share",
    units: &[("%", 1)],
    unit_likely: "%",
    unit_aliases: &[("percent", "%"), ("pct", "%"), ("pc", "%")],
};

/// A part of a whole, written as a whole number of hundredths with `%`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Share(u32);

impl Share {
    /// So many hundredths.
    #[must_use]
    pub const fn from_percent(percent: u32) -> Self {
        Self(percent)
    }

    /// In hundredths.
    #[must_use]
    pub const fn percent(self) -> u32 {
        self.0
    }

    pub(crate) fn parse(text: &str) -> Result<Self, QuantityError> {
        let percent = SHARE.parse(text)?;
        let too_large = |_| QuantityError::TooLarge { text: text.to_owned() };
        u32::try_from(percent).map(Self).map_err(too_large)
    }
}

impl fmt::Display for Share {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}%", self.0)
    }
}

impl Serialize for Share {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl JsonSchema for Share {
    fn schema_name() -> Cow<'static, str> {
        "Share".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "description": "A part of a whole: a whole number of hundredths with %.",
            "type": "string",
            "pattern": SHARE.pattern(),
            "examples": ["20%"],
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::value::Refusal as _;

    #[test]
    fn a_share_is_written_as_it_is_read() {
        for text in ["0%", "1%", "20%", "100%", "4294967295%"] {
            assert_eq!(Share::parse(text).expect(text).to_string(), text);
        }
        assert_eq!(Share::parse("20%"), Ok(Share::from_percent(20)));
    }

    #[test]
    fn what_is_no_share_is_refused_with_what_was_meant() {
        let refused = [
            ("20", "a share needs a unit: %", Some("write \"20%\"")),
            ("20 percent", "unknown unit \" percent\", known are %", Some("did you mean \"20%\"?")),
            ("0.5%", "a share is a whole number of its unit, found \"0.5%\"", Some("use a smaller unit")),
            ("%", "a share is a number and a unit, found \"%\"", None),
            ("4294967296%", "\"4294967296%\" is too large to be represented", None),
        ];
        for (text, cause, suggestion) in refused {
            let refusal = Share::parse(text).expect_err(text);
            assert_eq!(refusal.to_string(), cause);
            assert_eq!(refusal.suggestion().as_deref(), suggestion, "{text}");
        }
    }
}
