//! How much is "64KiB" or "250ms"? A whole number directly followed by its unit.
//!
//! Never guesses a unit: a bare number is refused, because the next reader would have to guess as well.

use thiserror::Error;

use super::Refusal;

/// One kind of quantity: its name in messages and the units it may be written in.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Kind {
    /// With its article, as in "a duration needs a unit".
    pub(crate) name: &'static str,
    /// Unit and its worth in the smallest one, ascending.
    pub(crate) units: &'static [(&'static str, u64)],
    /// The unit most likely meant by a bare number.
    pub(crate) unit_likely: &'static str,
    /// Units written another way elsewhere, and ours for them.
    pub(crate) unit_aliases: &'static [(&'static str, &'static str)],
}

/// Why a quantity was refused.
#[derive(Debug, PartialEq, Eq, Error)]
pub(crate) enum QuantityError {
    #[error("{} is a number and a unit, found {text:?}", kind.name)]
    NoNumber { kind: &'static Kind, text: String },
    #[error("{} needs a unit: {}", kind.name, kind.unit_names())]
    NoUnit { kind: &'static Kind, number: String },
    #[error("unknown unit {unit:?}, known are {}", kind.unit_names())]
    UnknownUnit { kind: &'static Kind, number: String, unit: String },
    #[error("{} is a whole number of its unit, found {text:?}", kind.name)]
    Fraction { kind: &'static Kind, text: String },
    #[error("{text:?} is too large to be represented")]
    TooLarge { text: String },
}

impl Refusal for QuantityError {
    fn suggestion(&self) -> Option<String> {
        match self {
            Self::NoNumber { .. } | Self::TooLarge { .. } => None,
            Self::NoUnit { kind, number } => Some(format!("write \"{number}{}\"", kind.unit_likely)),
            Self::UnknownUnit { kind, number, unit } => {
                kind.unit_meant(unit).map(|meant| format!("did you mean \"{number}{meant}\"?"))
            }
            Self::Fraction { .. } => Some("use a smaller unit".to_owned()),
        }
    }
}

impl Kind {
    /// Reads a quantity, in the smallest of the units.
    pub(crate) fn parse(&'static self, text: &str) -> Result<u64, QuantityError> {
        let digits_end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
        let (number, unit) = text.split_at(digits_end);
        if number.is_empty() {
            return Err(QuantityError::NoNumber { kind: self, text: text.to_owned() });
        }
        if unit.is_empty() {
            return Err(QuantityError::NoUnit { kind: self, number: number.to_owned() });
        }
        if unit.starts_with(['.', ',']) {
            return Err(QuantityError::Fraction { kind: self, text: text.to_owned() });
        }
        let Some(&(_, worth)) = self.units.iter().find(|(name, _)| *name == unit) else {
            return Err(QuantityError::UnknownUnit {
                kind: self,
                number: number.to_owned(),
                unit: unit.to_owned(),
            });
        };
        let too_large = || QuantityError::TooLarge { text: text.to_owned() };
        number.parse::<u64>().ok().and_then(|number| number.checked_mul(worth)).ok_or_else(too_large)
    }

    /// Writes an amount of the smallest unit in the largest that holds it exactly.
    pub(crate) fn format(&self, amount: u64) -> String {
        if amount == 0 {
            return format!("0{}", self.unit_likely);
        }
        let exact = |&&(_, worth): &&(&str, u64)| amount.is_multiple_of(worth);
        let (unit, worth) = self.units.iter().rev().find(exact).unwrap_or(&self.units[0]);
        format!("{}{unit}", amount / worth)
    }

    /// The pattern a JSON schema gives for it; interpolated strings pass.
    pub(crate) fn pattern(&self) -> String {
        let units: Vec<_> = self.units.iter().map(|(unit, _)| *unit).collect();
        format!("^[0-9]+({})$|\\$\\{{", units.join("|"))
    }

    fn unit_names(&self) -> String {
        let names: Vec<_> = self.units.iter().map(|(unit, _)| *unit).collect();
        names.join(", ")
    }

    fn unit_meant(&self, unit: &str) -> Option<&'static str> {
        let unit = unit.trim();
        let same = |&&(known, _): &&(&str, _)| known.eq_ignore_ascii_case(unit);
        let alias = self.unit_aliases.iter().find(|(alias, _)| alias.eq_ignore_ascii_case(unit));
        alias.map(|(_, meant)| *meant).or_else(|| self.units.iter().find(same).map(|(known, _)| *known))
    }
}
