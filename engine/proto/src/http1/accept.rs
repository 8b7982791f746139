//! In which form does a client want to be told of an error?
//!
//! Never refuses a request over it: what cannot be understood is not preferred (RFC 9110 §12.5.1).

use super::field::{list_elements, trim};

/// A form of the same short answer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Form {
    /// `text/plain`: for people, and for whoever says nothing.
    #[default]
    Text,
    /// `application/json`.
    Json,
    /// `application/problem+json`, RFC 9457, for who names it. The bytes are those of [`Self::Json`].
    Problem,
}

impl Form {
    /// Its media type, as `Content-Type` says it.
    #[must_use]
    pub const fn content_type(self) -> &'static str {
        match self {
            Self::Text => "text/plain; charset=utf-8",
            Self::Json => "application/json",
            Self::Problem => "application/problem+json",
        }
    }
}

/// The values of a field in a head that was parsed before, in order; `name` in any case.
pub fn field_values<'h>(head: &'h [u8], name: &str) -> impl Iterator<Item = &'h [u8]> {
    let lines = head.split(|&byte| byte == b'\n').map(|line| line.strip_suffix(b"\r").unwrap_or(line));
    // Behind the empty line there may be a body.
    lines.skip(1).take_while(|line| !line.is_empty()).filter_map(move |line| {
        let (found, value) = line.split_at_checked(name.len())?;
        let value = value.strip_prefix(b":")?;
        found.eq_ignore_ascii_case(name.as_bytes()).then(|| trim(value))
    })
}

/// The form that the values of `Accept` prefer. JSON is taken where it is liked better than text, or as much and by name:
/// programs list it among everything else, browsers do not name it.
pub fn preferred_form<'v>(accept: impl Iterator<Item = &'v [u8]>) -> Form {
    let (mut text, mut json, mut problem) = (Liking::NONE, Liking::NONE, Liking::NONE);
    for range in accept.flat_map(list_elements) {
        let mut parts = range.split(|&byte| byte == b';').map(trim);
        let media = parts.next().unwrap_or_default();
        let thousandths = parts.find_map(quality).unwrap_or(1000);
        text.note(media, &["text/plain", "text/*", "*/*"], thousandths);
        json.note(media, &["application/json", "application/*", "*/*"], thousandths);
        problem.note(media, &["application/problem+json", "application/*", "*/*"], thousandths);
    }
    let wins = |form: Liking, other: Liking| {
        form.thousandths > other.thousandths || (form.is_named() && form.thousandths == other.thousandths)
    };
    let named = problem.is_named() && problem.thousandths > 0 && problem.thousandths >= json.thousandths;
    match if named { (Form::Problem, problem) } else { (Form::Json, json) } {
        (form, liking) if liking.thousandths > 0 && wins(liking, text) => form,
        _ => Form::Text,
    }
}

/// How much a media type is liked, by the most specific range that takes it in.
#[derive(Clone, Copy)]
struct Liking {
    /// 0 for the type itself.
    distance: usize,
    thousandths: u16,
}

impl Liking {
    const NONE: Self = Self { distance: usize::MAX, thousandths: 0 };

    fn note(&mut self, media: &[u8], ranges: &[&str; 3], thousandths: u16) {
        let taken = ranges.iter().position(|range| media.eq_ignore_ascii_case(range.as_bytes()));
        if let Some(distance) = taken.filter(|&distance| distance < self.distance) {
            *self = Self { distance, thousandths };
        }
    }

    fn is_named(self) -> bool {
        self.distance == 0
    }
}

/// A weight in thousandths, RFC 9110 §12.4.2; one that is malformed is none at all.
fn quality(parameter: &[u8]) -> Option<u16> {
    let (name, digits) = parameter.split_at_checked(2)?;
    if !name.eq_ignore_ascii_case(b"q=") {
        return None;
    }
    let (whole, rest) = digits.split_first()?;
    let fraction = rest.strip_prefix(b".").unwrap_or(rest);
    let is_number = fraction.len() <= 3 && fraction.iter().all(u8::is_ascii_digit);
    let scaled = fraction.iter().chain(b"000").take(3).fold(0, |sum, digit| sum * 10 + u16::from(digit & 15));
    match whole {
        b'1' if is_number => Some(1000),
        b'0' if is_number => Some(scaled),
        _ => Some(0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(accept: &[&str], expected: Form) {
        assert_eq!(preferred_form(accept.iter().map(|value| value.as_bytes())), expected, "{accept:?}");
    }

    #[test]
    fn json_is_for_those_who_ask_for_it() {
        check(&[], Form::Text);
        check(&[""], Form::Text);
        check(&["*/*"], Form::Text);
        check(&["text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"], Form::Text);
        check(&["application/json"], Form::Json);
        check(&["APPLICATION/JSON; charset=utf-8"], Form::Json);
        check(&["application/json, text/plain, */*"], Form::Json);
        check(&["text/plain", "application/json;q=0.9"], Form::Text);
        check(&["text/plain;q=0.5", "application/json;q=0.9"], Form::Json);
        check(&["application/*"], Form::Json);
        check(&["application/json;q=0, */*"], Form::Text);
        check(&["application/json;q=x, text/plain;q=0.001"], Form::Text);
        check(&["application/fhir+json"], Form::Text);
        check(&["application/problem+json"], Form::Problem);
        check(&["application/json, application/problem+json"], Form::Problem);
        check(&["application/problem+json;q=0.5, application/json"], Form::Json);
        check(&["application/problem+json;q=0"], Form::Text);
    }

    #[test]
    fn a_weight_has_three_digits() {
        for (parameter, expected) in [
            ("q=1", Some(1000)),
            ("Q=1.000", Some(1000)),
            ("q=0", Some(0)),
            ("q=0.5", Some(500)),
            ("q=0.123", Some(123)),
            ("q=0.1234", Some(0)),
            ("q=", None),
            ("q=-1", Some(0)),
            ("level=1", None),
            ("q", None),
        ] {
            assert_eq!(quality(parameter.as_bytes()), expected, "{parameter}");
        }
    }

    #[test]
    fn values_come_from_the_head_alone() {
        let head = b"GET / HTTP/1.1\r\naccept: a\r\nAccept-Language: b\r\nACCEPT:\t c \r\n\r\nAccept: d\r\n";
        let values: Vec<&[u8]> = field_values(head, "Accept").collect();
        assert_eq!(values, [&b"a"[..], b"c"]);
        assert_eq!(field_values(b"", "Accept").count(), 0);
    }
}
