//! How many bytes is "64KiB"?
//!
//! Never says whether that is enough: bounds belong to the key that holds the size.

use std::borrow::Cow;
use std::fmt;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Serialize, Serializer};

use super::quantity::{Kind, QuantityError};

static SIZE: Kind = Kind {
    name: "a size",
    units: &[
        ("B", 1),
        ("KB", 1_000),
        ("KiB", 1 << 10),
        ("MB", 1_000_000),
        ("MiB", 1 << 20),
        ("GB", 1_000_000_000),
        ("GiB", 1 << 30),
    ],
    unit_likely: "B",
    unit_aliases: &[("k", "KiB"), ("m", "MiB"), ("g", "GiB"), ("bytes", "B")],
};

/// A number of bytes, written as a whole number with `B`, `KB`, `KiB`, `MB`, `MiB`, `GB` or `GiB`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ByteSize(u64);

impl ByteSize {
    /// So many bytes.
    #[must_use]
    pub const fn from_bytes(bytes: u64) -> Self {
        Self(bytes)
    }

    /// So many times 1024 bytes.
    #[must_use]
    pub const fn from_kib(kib: u32) -> Self {
        // A u32 shifted by ten bits fits; `u64::from` is not const.
        #[allow(clippy::cast_lossless)]
        Self((kib as u64) << 10)
    }

    /// The number of bytes.
    #[must_use]
    pub const fn bytes(self) -> u64 {
        self.0
    }

    pub(crate) fn parse(text: &str) -> Result<Self, QuantityError> {
        SIZE.parse(text).map(Self)
    }
}

impl fmt::Display for ByteSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&SIZE.format(self.0))
    }
}

impl Serialize for ByteSize {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl JsonSchema for ByteSize {
    fn schema_name() -> Cow<'static, str> {
        "ByteSize".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "description": "A number of bytes: a whole number with its unit (B, KB, KiB, MB, MiB, GB, GiB).",
            "type": "string",
            "pattern": SIZE.pattern(),
            "examples": ["64KiB", "16MiB"],
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::value::Refusal;

    #[track_caller]
    fn check(text: &str, expected: Result<u64, (&str, Option<&str>)>) {
        let found = ByteSize::parse(text).map_err(|error| (error.to_string(), error.suggestion()));
        let expected = expected.map_err(|(cause, hint)| (cause.to_owned(), hint.map(str::to_owned)));
        assert_eq!(found.map(ByteSize::bytes), expected, "{text:?}");
    }

    #[test]
    fn reads_binary_and_decimal_units() {
        check("100B", Ok(100));
        check("1KB", Ok(1_000));
        check("64KiB", Ok(65_536));
        check("16MiB", Ok(16 << 20));
        check("2GB", Ok(2_000_000_000));
    }

    #[test]
    fn refuses_anything_that_would_need_a_guess() {
        let needs_unit = "a size needs a unit: B, KB, KiB, MB, MiB, GB, GiB";
        check("65536", Err((needs_unit, Some("write \"65536B\""))));
        let unknown = "unknown unit \"k\", known are B, KB, KiB, MB, MiB, GB, GiB";
        check("64k", Err((unknown, Some("did you mean \"64KiB\"?"))));
        let unknown = "unknown unit \" KiB\", known are B, KB, KiB, MB, MiB, GB, GiB";
        check("64 KiB", Err((unknown, Some("did you mean \"64KiB\"?"))));
        let unknown = "unknown unit \"TiB\", known are B, KB, KiB, MB, MiB, GB, GiB";
        check("1TiB", Err((unknown, None)));
        check("99999999999GiB", Err(("\"99999999999GiB\" is too large to be represented", None)));
    }

    #[test]
    fn writes_the_largest_exact_unit() {
        for text in ["0B", "1KB", "1500B", "32KiB", "1MiB", "3GiB"] {
            assert_eq!(ByteSize::parse(text).unwrap().to_string(), text);
        }
        assert_eq!(ByteSize::from_kib(1024).to_string(), "1MiB");
    }
}
