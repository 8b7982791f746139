//! How does a text that somebody else chose get into a line without becoming part of it?
//!
//! Never lets a control character, a quote or a line end through as it is: what a client sends cannot make a line of its own.

use std::fmt::Write as _;

const DIGITS: &[u8; 16] = b"0123456789ABCDEF";

/// Adds what came from outside to a line of text: a backslash and a double quote get a backslash in front; control characters and
/// bytes that are no UTF-8 are written as `\xNN`.
pub(super) fn push_escaped(value: &[u8], out: &mut Vec<u8>) {
    if is_plain(value) {
        return out.extend_from_slice(value);
    }
    for chunk in value.utf8_chunks() {
        for character in chunk.valid().chars() {
            match character {
                '"' | '\\' => out.extend([b'\\', character as u8]),
                // C1 and the line ends of Unicode are line ends and commands to some who read logs.
                _ if is_harmful(character) => {
                    let mut bytes = [0; 4];
                    character.encode_utf8(&mut bytes).bytes().for_each(|byte| push_hex(byte, out));
                }
                _ => push_char(character, out),
            }
        }
        chunk.invalid().iter().for_each(|byte| push_hex(*byte, out));
    }
}

/// Adds a JSON string (RFC 8259 §7). What is no UTF-8 is written as `\xNN` with its backslash escaped, so that it can be told apart.
pub(super) fn push_json(value: &[u8], out: &mut Vec<u8>) {
    out.push(b'"');
    if is_plain(value) {
        out.extend_from_slice(value);
    } else {
        for chunk in value.utf8_chunks() {
            for character in chunk.valid().chars() {
                match character {
                    '"' | '\\' => out.extend([b'\\', character as u8]),
                    _ if is_harmful(character) => {
                        let code = character as u32 as u16;
                        out.extend_from_slice(b"\\u");
                        out.extend((0..4).map(|digit| DIGITS[usize::from(code >> (12 - 4 * digit)) & 15]));
                    }
                    _ => push_char(character, out),
                }
            }
            for byte in chunk.invalid() {
                out.push(b'\\');
                push_hex(*byte, out);
            }
        }
    }
    out.push(b'"');
}

/// Whether nothing of it needs another form. Looks at all of it, many bytes at a time, since nearly all of it is.
fn is_plain(value: &[u8]) -> bool {
    value.iter().fold(true, |is_plain, byte| {
        is_plain & (b' '..=b'~').contains(byte) & (*byte != b'"') & (*byte != b'\\')
    })
}

/// Whether a character does something to who reads it: all of them have at most four hexadecimal digits.
fn is_harmful(character: char) -> bool {
    character.is_control()
        || matches!(character, '\u{2028}' | '\u{2029}' | '\u{200E}' | '\u{200F}' | '\u{202A}'..='\u{202E}' | '\u{2066}'..='\u{2069}')
}

fn push_char(character: char, out: &mut Vec<u8>) {
    let mut bytes = [0; 4];
    out.extend_from_slice(character.encode_utf8(&mut bytes).as_bytes());
}

fn push_hex(byte: u8, out: &mut Vec<u8>) {
    out.extend([b'\\', b'x', DIGITS[usize::from(byte >> 4)], DIGITS[usize::from(byte & 15)]]);
}

/// Adds a target with its query masked: all of it, or the values of the parameters named.
pub(super) fn push_masked(target: &[u8], all: bool, parameters: &[Box<str>], out: &mut Vec<u8>) {
    let Some(mark) = target.iter().position(|byte| *byte == b'?') else {
        return out.extend_from_slice(target);
    };
    let (path, query) = target.split_at(mark + 1);
    out.extend_from_slice(path);
    if all {
        return out.extend_from_slice(b"***");
    }
    for (index, pair) in query.split(|byte| *byte == b'&').enumerate() {
        if index > 0 {
            out.push(b'&');
        }
        let name = pair.split(|byte| *byte == b'=').next().unwrap_or(pair);
        out.extend_from_slice(name);
        if name.len() == pair.len() {
            continue;
        }
        if parameters.iter().any(|parameter| is_named(name, parameter.as_bytes())) {
            out.extend_from_slice(b"=***");
        } else {
            out.extend_from_slice(&pair[name.len()..]);
        }
    }
}

/// Whether a parameter has this name, whichever of its bytes are written in percent (RFC 3986 §2.1).
fn is_named(written: &[u8], name: &[u8]) -> bool {
    let mut rest = written;
    let mut wanted = name.iter();
    loop {
        let byte = match rest {
            [] => return wanted.next().is_none(),
            [b'%', high, low, behind @ ..] if high.is_ascii_hexdigit() && low.is_ascii_hexdigit() => {
                rest = behind;
                hex_value(*high) << 4 | hex_value(*low)
            }
            [byte, behind @ ..] => {
                rest = behind;
                *byte
            }
        };
        if wanted.next() != Some(&byte.to_ascii_lowercase()) {
            return false;
        }
    }
}

fn hex_value(digit: u8) -> u8 {
    match digit {
        b'0'..=b'9' => digit - b'0',
        _ => (digit | 0x20) - b'a' + 10,
    }
}

/// Texts of a second, made once for all lines of it.
#[derive(Default)]
pub(super) struct Clock {
    second: Option<u64>,
    rfc3339: String,
    clf: String,
}

impl Clock {
    /// `2026-11-22T21:28:23.000123Z`, RFC 3339 with microseconds.
    pub(super) fn push_rfc3339(&mut self, unix_us: u64, out: &mut Vec<u8>) {
        self.turn(unix_us / 1_000_000);
        out.extend_from_slice(self.rfc3339.as_bytes());
        out.push(b'.');
        let micros = (unix_us % 1_000_000) as u32;
        let mut unit = 100_000;
        for _ in 0..6 {
            out.push(b'0' + ((micros / unit) % 10) as u8);
            unit /= 10;
        }
        out.push(b'Z');
    }

    /// `22/Nov/2026:21:28:23 +0000`, as the common format has it; in UTC, so that no line is told twice a year.
    pub(super) fn push_clf(&mut self, unix_us: u64, out: &mut Vec<u8>) {
        self.turn(unix_us / 1_000_000);
        out.extend_from_slice(self.clf.as_bytes());
    }

    fn turn(&mut self, second: u64) {
        const MONTHS: [&str; 12] =
            ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
        if self.second == Some(second) {
            return;
        }
        self.second = Some(second);
        let (days, rest) = (second / 86_400, second % 86_400);
        let (year, month, day) = civil(days);
        let (hour, minute, second) = (rest / 3600, rest / 60 % 60, rest % 60);
        self.rfc3339.clear();
        self.clf.clear();
        let name = MONTHS[month as usize - 1];
        // Memory takes what is written.
        let _ = write!(self.rfc3339, "{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}");
        let _ = write!(self.clf, "{day:02}/{name}/{year:04}:{hour:02}:{minute:02}:{second:02} +0000");
    }
}

/// Year, month and day of a day since 1970, in the Gregorian calendar: counted from 1 March 0000, so that a leap day is the last of
/// its year; 400 years are 146,097 days.
fn civil(days: u64) -> (u64, u64, u64) {
    let days = days + 719_468;
    let (era, of_era) = (days / 146_097, days % 146_097);
    let year_of_era = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted = (5 * of_year + 2) / 153;
    let day = of_year - (153 * shifted + 2) / 5 + 1;
    let month = if shifted < 10 { shifted + 3 } else { shifted - 9 };
    (era * 400 + year_of_era + u64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check_text(value: &[u8], expected: &str) {
        let mut out = Vec::new();
        push_escaped(value, &mut out);
        assert_eq!(String::from_utf8(out).expect("text"), expected);
    }

    #[test]
    fn nothing_that_came_from_outside_ends_a_line_or_a_quote() {
        check_text(b"/plain?a=b", "/plain?a=b");
        check_text(b"a\"b\\c", "a\\\"b\\\\c");
        check_text(b"a\r\nb\x00\x1b[31m\x7f", "a\\x0D\\x0Ab\\x00\\x1B[31m\\x7F");
        check_text("grün \u{2028} \u{85}".as_bytes(), "grün \\xE2\\x80\\xA8 \\xC2\\x85");
        check_text(b"\xff\xc3(", "\\xFF\\xC3(");
    }

    #[test]
    fn json_strings_are_legal_whatever_is_in_them() {
        for value in [&b"a\"\\\n\x00\x7f"[..], "grün \u{2028}\u{202e}".as_bytes(), b"\xff\xc3(", b""] {
            let mut out = Vec::new();
            push_json(value, &mut out);
            let read: String = serde_json::from_slice(&out).expect("JSON");
            match std::str::from_utf8(value) {
                Ok(text) => assert_eq!(read, text),
                Err(_) => assert_eq!(read, "\\xFF\\xC3("),
            }
            assert!(!out.iter().any(|byte| *byte < b' '));
        }
    }

    #[test]
    fn json_of_any_bytes_can_be_read() {
        // A generator of its own, so that a failure is the same each time: Numerical Recipes' linear congruence.
        let mut state = 1_u32;
        for _ in 0..20_000 {
            let mut value = Vec::new();
            let mut next = || {
                state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                (state >> 24) as u8
            };
            for _ in 0..next() % 24 {
                value.push(next());
            }
            let mut out = Vec::new();
            push_json(&value, &mut out);
            assert!(serde_json::from_slice::<String>(&out).is_ok(), "{value:?}");
            out.clear();
            push_escaped(&value, &mut out);
            assert!(
                std::str::from_utf8(&out).is_ok_and(|text| !text.chars().any(char::is_control)),
                "{value:?}"
            );
        }
    }

    #[test]
    fn a_mask_hides_values_and_keeps_names() {
        let check = |target: &str, all: bool, parameters: &[&str], expected: &str| {
            let parameters: Vec<Box<str>> = parameters.iter().map(|name| (*name).into()).collect();
            let mut out = Vec::new();
            push_masked(target.as_bytes(), all, &parameters, &mut out);
            assert_eq!(String::from_utf8(out).expect("text"), expected);
        };
        check("/a", true, &[], "/a");
        check("/a?b=c", true, &[], "/a?***");
        check("/a?b=c&Token=x=y&d", false, &["token", "d"], "/a?b=c&Token=***&d");
        check("/a?%74oken=x&tokens=y", false, &["token"], "/a?%74oken=***&tokens=y");
        check("/a?t%=x", false, &["t%"], "/a?t%=***");
    }

    #[test]
    fn dates_are_those_of_the_calendar() {
        let check = |unix: u64, rfc3339: &str, clf: &str| {
            let (mut clock, mut out) = (Clock::default(), Vec::new());
            clock.push_rfc3339(unix * 1_000_000 + 42, &mut out);
            assert_eq!(String::from_utf8_lossy(&out), format!("{rfc3339}.000042Z"));
            out.clear();
            clock.push_clf(unix * 1_000_000, &mut out);
            assert_eq!(String::from_utf8_lossy(&out), clf);
        };
        check(0, "1970-01-01T00:00:00", "01/Jan/1970:00:00:00 +0000");
        check(951_782_399, "2000-02-28T23:59:59", "28/Feb/2000:23:59:59 +0000");
        check(951_782_400, "2000-02-29T00:00:00", "29/Feb/2000:00:00:00 +0000");
        check(1_709_251_199, "2024-02-29T23:59:59", "29/Feb/2024:23:59:59 +0000");
        check(4_107_542_400, "2100-03-01T00:00:00", "01/Mar/2100:00:00:00 +0000");
    }
}
