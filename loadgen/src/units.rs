//! How are durations, sizes and rates read from the command line and written for people?
//!
//! Nothing here reads a clock or touches a socket; a duration without a unit is never accepted.

use std::time::Duration;

const DURATION_UNITS: [(&str, f64); 6] =
    [("ns", 1e-9), ("us", 1e-6), ("µs", 1e-6), ("ms", 1e-3), ("m", 60.0), ("h", 3_600.0)];
const SIZE_UNITS: [(&str, u64); 6] = [
    ("KiB", 1 << 10),
    ("MiB", 1 << 20),
    ("GiB", 1 << 30),
    ("kB", 1_000),
    ("MB", 1_000_000),
    ("GB", 1_000_000_000),
];

/// Longest duration that can be asked for: the histograms end at one hour.
const DURATION_MAX: Duration = Duration::from_secs(3_600);

/// Reads a duration such as `10s`, `1.5s`, `250ms`, `2m`; at most one hour.
pub(crate) fn parse_duration(text: &str) -> Result<Duration, String> {
    let expected = "expected a number with a unit, such as 250ms, 10s or 2m";
    let (number, scale) = DURATION_UNITS
        .iter()
        .find_map(|(unit, scale)| text.strip_suffix(unit).map(|number| (number, *scale)))
        .or_else(|| text.strip_suffix('s').map(|number| (number, 1.0)))
        .ok_or(expected)?;
    if number.is_empty() || !number.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.') {
        return Err(expected.into());
    }
    let seconds: f64 = number.parse().map_err(|_| expected)?;
    let duration = Duration::try_from_secs_f64(seconds * scale).map_err(|error| error.to_string())?;
    if duration > DURATION_MAX {
        return Err("longer than one hour; use at most 1h".into());
    }
    Ok(duration)
}

/// Reads a duration that is longer than zero.
pub(crate) fn parse_positive_duration(text: &str) -> Result<Duration, String> {
    match parse_duration(text)? {
        Duration::ZERO => Err("must be longer than zero".into()),
        duration => Ok(duration),
    }
}

/// Reads a number of bytes, plain or with a unit: `128`, `16KiB`, `1MB`.
pub(crate) fn parse_size(text: &str) -> Result<u64, String> {
    let expected = "expected a number of bytes, such as 128, 16KiB or 1MiB";
    let (number, scale) = SIZE_UNITS
        .iter()
        .find_map(|(unit, scale)| text.strip_suffix(unit).map(|number| (number, *scale)))
        .unwrap_or((text.strip_suffix('B').unwrap_or(text), 1));
    if !number.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(expected.into());
    }
    let count: u64 = number.parse().map_err(|_| expected)?;
    count.checked_mul(scale).ok_or_else(|| expected.into())
}

/// Reads a rate in requests per second, above zero: `500`, `1.5k`, `2M`.
pub(crate) fn parse_rate(text: &str) -> Result<f64, String> {
    let (number, scale) = match (text.strip_suffix('k'), text.strip_suffix('M')) {
        (Some(number), _) => (number, 1e3),
        (_, Some(number)) => (number, 1e6),
        _ => (text, 1.0),
    };
    let is_number = number.starts_with(|first: char| first.is_ascii_digit());
    match number.parse::<f64>().map(|number| number * scale) {
        Ok(rate) if is_number && (RATE_MIN..=RATE_MAX).contains(&rate) => Ok(rate),
        _ => Err(format!(
            "'{text}' is no rate: expected requests per second between {RATE_MIN} and {RATE_MAX}, such as 500, 1.5k or 2M"
        )),
    }
}

/// One request in a quarter of an hour: slower is not a load.
const RATE_MIN: f64 = 0.001;
/// Above a request every ten nanoseconds the schedule itself would be the load.
pub(crate) const RATE_MAX: f64 = 100_000_000.0;

/// Writes nanoseconds with three significant digits: `52.3 µs`, `1.23 ms`, `12.0 s`.
pub(crate) fn show_nanoseconds(nanoseconds: f64) -> String {
    let scales = [("ns", 1.0), ("µs", 1e3), ("ms", 1e6), ("s", 1e9)];
    three_digits(nanoseconds, &scales, 1_000.0)
}

/// Writes a duration like [`show_nanoseconds`], without the digits nobody asked for: `10 s`, `1.5 s`.
pub(crate) fn show_duration(duration: Duration) -> String {
    let shown = show_nanoseconds(duration.as_nanos() as f64);
    match shown.split_once(' ') {
        Some((number, unit)) if number.contains('.') => {
            format!("{} {unit}", number.trim_end_matches('0').trim_end_matches('.'))
        }
        _ => shown,
    }
}

/// Writes bytes with three significant digits in binary units: `1.21 GiB`.
pub(crate) fn show_bytes(bytes: f64) -> String {
    let scales =
        [("B", 1.0), ("KiB", 1024.0), ("MiB", 1_048_576.0), ("GiB", 1_073_741_824.0), ("TiB", 1.1e12)];
    three_digits(bytes, &scales, 1_024.0)
}

/// Writes a count in groups of three: `1,234,567`.
pub(crate) fn show_count(count: u64) -> String {
    let digits = count.to_string();
    let mut shown = String::with_capacity(digits.len() + digits.len() / 3);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            shown.push(',');
        }
        shown.push(digit);
    }
    shown
}

fn three_digits(value: f64, scales: &[(&str, f64)], step: f64) -> String {
    let (unit, scale) = scales
        .iter()
        .find(|(_, scale)| value / scale < step * 0.9995)
        .or(scales.last())
        .copied()
        .unwrap_or(("", 1.0));
    let scaled = value / scale;
    let decimals = match scaled {
        _ if scale == 1.0 || scaled >= 99.95 => 0,
        _ if scaled >= 9.995 => 1,
        _ => 2,
    };
    format!("{scaled:.decimals$} {unit}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_carry_a_unit() {
        let good = [
            ("10s", Duration::from_secs(10)),
            ("1.5s", Duration::from_millis(1_500)),
            ("250ms", Duration::from_millis(250)),
            ("50us", Duration::from_micros(50)),
            ("50µs", Duration::from_micros(50)),
            ("7ns", Duration::from_nanos(7)),
            ("2m", Duration::from_secs(120)),
            ("1h", Duration::from_secs(3_600)),
            ("0s", Duration::ZERO),
        ];
        for (text, expected) in good {
            assert_eq!(parse_duration(text), Ok(expected), "{text}");
        }
        for text in ["", "10", "s", "ms", "-1s", "+1s", "1e3s", "1 s", "1.2.3s", "ten s", "61m", "1d", "infs"]
        {
            assert!(parse_duration(text).is_err(), "{text}");
        }
        assert!(parse_positive_duration("0ms").is_err());
    }

    #[test]
    fn sizes_may_carry_a_unit() {
        let good = [
            ("0", 0),
            ("128", 128),
            ("128B", 128),
            ("16KiB", 16_384),
            ("1MiB", 1_048_576),
            ("1MB", 1_000_000),
        ];
        for (text, expected) in good {
            assert_eq!(parse_size(text), Ok(expected), "{text}");
        }
        for text in ["", "KiB", "-1", "1.5KiB", "1K", "99999999999GiB"] {
            assert!(parse_size(text).is_err(), "{text}");
        }
    }

    #[test]
    fn rates_are_positive_numbers() {
        assert_eq!(parse_rate("1000"), Ok(1_000.0));
        assert_eq!(parse_rate("0.5"), Ok(0.5));
        assert_eq!((parse_rate("1.5k"), parse_rate("2M")), (Ok(1_500.0), Ok(2_000_000.0)));
        for text in ["0", "-1", "+1", ".5", "inf", "NaN", "many", "", "k", "1kk", "1 k", "101M"] {
            assert!(parse_rate(text).is_err(), "{text}");
        }
    }

    #[test]
    fn figures_show_three_digits() {
        let times = [
            (0.0, "0 ns"),
            (850.0, "850 ns"),
            (52_340.0, "52.3 µs"),
            (999_900.0, "1.00 ms"),
            (1_234_000.0, "1.23 ms"),
            (123_400_000.0, "123 ms"),
            (12e9, "12.0 s"),
            (3.6e12, "3600 s"),
        ];
        for (value, expected) in times {
            assert_eq!(show_nanoseconds(value), expected);
        }
        assert_eq!(show_bytes(1_300_000_000.0), "1.21 GiB");
        assert_eq!(show_bytes(100.0), "100 B");
        assert_eq!(show_duration(Duration::from_secs(10)), "10 s");
        assert_eq!(show_duration(Duration::from_millis(1_500)), "1.5 s");
        assert_eq!(show_duration(Duration::from_millis(250)), "250 ms");
    }

    #[test]
    fn counts_are_grouped() {
        for (count, expected) in [(0, "0"), (999, "999"), (1_000, "1,000"), (1_234_567, "1,234,567")] {
            assert_eq!(show_count(count), expected);
        }
    }
}
