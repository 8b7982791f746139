//! How is a figure shown in a column, and what does it sort by? In three digits and a unit, as narrow as can be read.
//!
//! Never shows what is not known as zero.

use std::cmp::Ordering;

use crate::report::{scaled, uptime_text};

/// What is shown where nothing is known yet.
const UNKNOWN: &str = "·";

/// One figure of a row.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Figure {
    /// A name, an address, a state.
    Word(String),
    /// How many there are now.
    Count(Option<u64>),
    /// How often a second; nothing until two moments are known.
    Rate(Option<f64>),
    /// Bytes a second, likewise.
    Bytes(Option<f64>),
    /// A part of one.
    Share(Option<f64>),
    /// A duration in nanoseconds.
    Nanos(Option<u64>),
    /// A time in seconds since something happened.
    Age(Option<f64>),
    /// A small number with a fraction.
    Number(Option<f64>),
}

impl Figure {
    /// As it is shown.
    pub(crate) fn text(&self) -> String {
        let shown = match self {
            Self::Word(word) => Some(word.clone()),
            Self::Count(count) => count.map(|count| count.to_string()),
            Self::Rate(rate) => rate.map(rate_text),
            Self::Bytes(rate) => rate.map(bytes_text),
            Self::Share(share) => share.map(|share| format!("{:.0}%", share * 100.0)),
            Self::Nanos(nanos) => nanos.map(nanos_text),
            Self::Age(seconds) => seconds.map(|seconds| age_text(seconds as u64)),
            Self::Number(number) => number.map(number_text),
        };
        shown.unwrap_or_else(|| UNKNOWN.to_owned())
    }

    /// Whether it is a word, which begins at the left.
    pub(crate) fn is_word(&self) -> bool {
        matches!(self, Self::Word(_))
    }

    /// Which of two comes first: words by their letters, figures by their size, what is not known before all.
    pub(crate) fn order(&self, other: &Self) -> Ordering {
        match (self, other) {
            (Self::Word(one), Self::Word(other)) => natural(one, other),
            _ => self.size().total_cmp(&other.size()),
        }
    }

    fn size(&self) -> f64 {
        let size = match self {
            Self::Word(_) => None,
            Self::Count(count) | Self::Nanos(count) => count.map(|count| count as f64),
            Self::Rate(size)
            | Self::Bytes(size)
            | Self::Share(size)
            | Self::Age(size)
            | Self::Number(size) => *size,
        };
        size.unwrap_or(f64::NEG_INFINITY)
    }

    /// Whether there is anything but zero.
    pub(crate) fn is_something(&self) -> bool {
        self.size() > 0.0
    }
}

/// By letters, but `core 10` after `core 9`.
fn natural(one: &str, other: &str) -> Ordering {
    match (one.parse::<u64>(), other.parse::<u64>()) {
        (Ok(one), Ok(other)) => one.cmp(&other),
        _ => one.cmp(other),
    }
}

/// So many a second: what is rare has a digit more.
pub(crate) fn rate_text(rate: f64) -> String {
    match rate {
        0.0 => "0".to_owned(),
        rate if rate < 9.95 => format!("{rate:.1}"),
        rate if rate < 9_999.5 => format!("{rate:.0}"),
        rate if rate < 99_950.0 => format!("{:.1}k", rate / 1e3),
        rate if rate < 999_500.0 => format!("{:.0}k", rate / 1e3),
        rate => format!("{:.2}M", rate / 1e6),
    }
}

pub(crate) fn bytes_text(rate: f64) -> String {
    let step = 1024.0;
    scaled(rate, &[("B", step), ("KiB", step), ("MiB", step), ("GiB", step), ("TiB", f64::INFINITY)])
}

pub(crate) fn nanos_text(nanos: u64) -> String {
    scaled(nanos as f64, &[("ns", 1e3), ("µs", 1e3), ("ms", 1e3), ("s", f64::INFINITY)])
}

/// As `uptime_text`, in less room.
pub(crate) fn age_text(seconds: u64) -> String {
    let text = uptime_text(std::time::Duration::from_secs(seconds));
    text.replace(" min", "m").replace(" h", "h").replace(" d", "d").replace(" s", "s")
}

fn number_text(number: f64) -> String {
    format!("{number:.2}").trim_end_matches('0').trim_end_matches('.').to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_have_three_or_four_digits() {
        let check = |rate: f64, expected: &str| assert_eq!(rate_text(rate), expected);
        check(0.0, "0");
        check(0.04, "0.0");
        check(1.25, "1.2");
        check(9.96, "10");
        check(999.6, "1000");
        check(9_999.4, "9999");
        check(12_345.0, "12.3k");
        check(123_456.0, "123k");
        check(1_234_567.0, "1.23M");
    }

    #[test]
    fn what_is_not_known_is_no_zero() {
        let unknown = [Figure::Count(None), Figure::Rate(None), Figure::Nanos(None), Figure::Share(None)];
        for figure in unknown {
            assert_eq!((figure.text().as_str(), figure.is_something()), (UNKNOWN, false));
            assert_eq!(figure.order(&Figure::Rate(Some(0.0))), Ordering::Less);
        }
        assert_eq!(Figure::Rate(Some(0.0)).text(), "0");
    }

    #[test]
    fn figures_are_shown_in_their_unit() {
        let check = |figure: Figure, expected: &str| assert_eq!(figure.text(), expected);
        check(Figure::Bytes(Some(1_536.0)), "1.50 KiB");
        check(Figure::Nanos(Some(1_500_000)), "1.50 ms");
        check(Figure::Share(Some(0.996)), "100%");
        check(Figure::Age(Some(3_700.4)), "1h 1m");
        check(Figure::Number(Some(0.5)), "0.5");
        check(Figure::Number(Some(10.0)), "10");
    }

    #[test]
    fn numbers_in_words_sort_as_numbers() {
        let word = |text: &str| Figure::Word(text.to_owned());
        assert_eq!(word("10").order(&word("9")), Ordering::Greater);
        assert_eq!(word("b").order(&word("a10")), Ordering::Greater);
    }
}
