//! Whose certificate is it? Its subject, read from the encoding and written as text for a field of HTTP.
//!
//! Never judges a certificate: dates, signatures and purposes are somebody else's. Never reads beyond what lengths say.

use std::fmt::Write as _;

/// Tags of DER (X.690 §8).
const INTEGER: u8 = 0x02;
const OBJECT_IDENTIFIER: u8 = 0x06;
const UTF8_STRING: u8 = 0x0c;
const PRINTABLE_STRING: u8 = 0x13;
const TELETEX_STRING: u8 = 0x14;
const IA5_STRING: u8 = 0x16;
const BMP_STRING: u8 = 0x1e;
const SEQUENCE: u8 = 0x30;
const SET: u8 = 0x31;
/// `[0] EXPLICIT`, the version of a certificate (RFC 5280 §4.1).
const VERSION: u8 = 0xa0;

/// The attribute types with a name (RFC 4514 §3), by the content of their identifiers.
const TYPES: [(&[u8], &str); 9] = [
    (&[0x55, 4, 3], "CN"),
    (&[0x55, 4, 6], "C"),
    (&[0x55, 4, 7], "L"),
    (&[0x55, 4, 8], "ST"),
    (&[0x55, 4, 9], "STREET"),
    (&[0x55, 4, 10], "O"),
    (&[0x55, 4, 11], "OU"),
    (&[0x09, 0x92, 0x26, 0x89, 0x93, 0xf2, 0x2c, 0x64, 1, 1], "UID"),
    (&[0x09, 0x92, 0x26, 0x89, 0x93, 0xf2, 0x2c, 0x64, 1, 25], "DC"),
];

/// The subject of a certificate in DER as RFC 4514 writes it, the most particular part first: `CN=lab 7,O=Clinic,C=DE`.
/// All of it is visible ASCII and spaces: other bytes are escaped. Empty when the subject is; `None` when the bytes are no
/// certificate.
#[must_use]
pub fn subject(certificate: &[u8]) -> Option<String> {
    let (certificate, _) = take(certificate, SEQUENCE)?;
    let (mut fields, _) = take(certificate, SEQUENCE)?;
    if let Some((_, rest)) = take(fields, VERSION) {
        fields = rest;
    }
    // Serial number, algorithm, issuer and validity come first (RFC 5280 §4.1).
    for tag in [INTEGER, SEQUENCE, SEQUENCE, SEQUENCE] {
        (_, fields) = take(fields, tag)?;
    }
    let (mut names, _) = take(fields, SEQUENCE)?;
    let mut parts = Vec::new();
    while !names.is_empty() {
        let (part, rest) = take(names, SET)?;
        parts.push(relative_name(part)?);
        names = rest;
    }
    parts.reverse();
    Some(parts.join(","))
}

/// One step of the name, of one attribute nearly always.
fn relative_name(mut attributes: &[u8]) -> Option<String> {
    let mut text = String::new();
    while !attributes.is_empty() {
        let (attribute, rest) = take(attributes, SEQUENCE)?;
        attributes = rest;
        if !text.is_empty() {
            text.push('+');
        }
        let (kind, value) = take(attribute, OBJECT_IDENTIFIER)?;
        match TYPES.iter().find(|(known, _)| *known == kind) {
            Some((_, name)) => {
                text.extend([name, "="]);
                push_value(value, &mut text)?;
            }
            None => {
                push_identifier(kind, &mut text)?;
                text.push('=');
                push_encoded(value, &mut text);
            }
        }
    }
    Some(text)
}

/// The content of the element at the front, which has this tag, and what follows it.
fn take(bytes: &[u8], tag: u8) -> Option<(&[u8], &[u8])> {
    let (&found, rest) = bytes.split_first()?;
    let (&first, rest) = rest.split_first()?;
    // X.690 §8.1.3; certificates have definite lengths, and none needs more than three bytes.
    let (len, rest) = match first {
        0..=0x7f => (usize::from(first), rest),
        0x81..=0x83 => {
            let (digits, rest) = rest.split_at_checked(usize::from(first & 0x7f))?;
            (digits.iter().fold(0, |len, digit| len << 8 | usize::from(*digit)), rest)
        }
        _ => return None,
    };
    if found != tag {
        return None;
    }
    rest.split_at_checked(len)
}

/// RFC 4514 §2.4. What is no string of characters known here goes out as its encoding.
fn push_value(encoded: &[u8], text: &mut String) -> Option<()> {
    let &tag = encoded.first()?;
    let (value, _) = take(encoded, tag)?;
    match tag {
        UTF8_STRING | PRINTABLE_STRING | IA5_STRING | TELETEX_STRING => push_escaped(value, text),
        BMP_STRING => {
            let units =
                value.chunks(2).map(|pair| pair.iter().fold(0, |unit, byte| unit << 8 | u16::from(*byte)));
            let value: String =
                char::decode_utf16(units).map(|unit| unit.unwrap_or(char::REPLACEMENT_CHARACTER)).collect();
            push_escaped(value.as_bytes(), text);
        }
        _ => push_encoded(encoded, text),
    }
    Some(())
}

fn push_escaped(value: &[u8], text: &mut String) {
    for (at, &byte) in value.iter().enumerate() {
        let is_at_edge = at == 0 || at + 1 == value.len();
        match byte {
            b'"' | b'+' | b',' | b';' | b'<' | b'>' | b'\\' => text.extend(['\\', char::from(byte)]),
            b'#' if at == 0 => text.push_str("\\#"),
            b' ' if is_at_edge => text.push_str("\\ "),
            b' '..=b'~' => text.push(char::from(byte)),
            _ => write!(text, "\\{byte:02X}").expect("memory takes what is written"),
        }
    }
}

fn push_encoded(encoded: &[u8], text: &mut String) {
    text.push('#');
    for byte in encoded {
        write!(text, "{byte:02X}").expect("memory takes what is written");
    }
}

/// In dotted form (X.690 §8.19).
fn push_identifier(content: &[u8], text: &mut String) -> Option<()> {
    let mut is_first = true;
    let mut number = 0_u64;
    for &byte in content {
        number = number.checked_mul(128)?.checked_add(u64::from(byte & 0x7f))?;
        if byte & 0x80 != 0 {
            continue;
        }
        let written = if is_first {
            let arc = (number / 40).min(2);
            write!(text, "{arc}.{}", number - 40 * arc)
        } else {
            write!(text, ".{number}")
        };
        written.expect("memory takes what is written");
        (is_first, number) = (false, 0);
    }
    (!is_first).then_some(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn element(tag: u8, content: &[u8]) -> Vec<u8> {
        let mut bytes = vec![tag];
        match u8::try_from(content.len()) {
            Ok(len) if len < 0x80 => bytes.push(len),
            Ok(len) => bytes.extend([0x81, len]),
            Err(_) => bytes.extend([&[0x82][..], &(content.len() as u16).to_be_bytes()].concat()),
        }
        bytes.extend_from_slice(content);
        bytes
    }

    fn attribute(kind: &[u8], tag: u8, value: &[u8]) -> Vec<u8> {
        element(SEQUENCE, &[element(OBJECT_IDENTIFIER, kind), element(tag, value)].concat())
    }

    /// A certificate as far as its subject, which has these parts.
    fn certificate(parts: &[Vec<u8>]) -> Vec<u8> {
        let names: Vec<u8> = parts.iter().flat_map(|part| element(SET, part)).collect();
        let before = [
            element(VERSION, &element(INTEGER, &[2])),
            element(INTEGER, &[1]),
            element(SEQUENCE, b""),
            element(SEQUENCE, b"an issuer"),
            element(SEQUENCE, b"dates"),
        ];
        let fields = [before.concat(), element(SEQUENCE, &names), b"the key".to_vec()].concat();
        element(SEQUENCE, &element(SEQUENCE, &fields))
    }

    const COMMON_NAME: &[u8] = &[0x55, 4, 3];
    const COUNTRY: &[u8] = &[0x55, 4, 6];

    #[track_caller]
    fn check(parts: &[Vec<u8>], expected: &str) {
        assert_eq!(subject(&certificate(parts)).as_deref(), Some(expected));
    }

    #[test]
    fn parts_are_written_from_the_last_to_the_first() {
        let country = attribute(COUNTRY, PRINTABLE_STRING, b"DE");
        let name = attribute(COMMON_NAME, UTF8_STRING, b"lab 7");
        check(&[country.clone(), name.clone()], "CN=lab 7,C=DE");
        check(&[[name, country].concat()], "CN=lab 7+C=DE");
        check(&[], "");
    }

    #[test]
    fn what_could_be_read_otherwise_is_escaped() {
        for (value, expected) in [
            ("a,b+c;d<e>f\"g\\h", r#"CN=a\,b\+c\;d\<e\>f\"g\\h"#),
            ("#1 # 2", r"CN=\#1 # 2"),
            (" x ", r"CN=\ x\ "),
            ("Zoë\r\nX: y", r"CN=Zo\C3\AB\0D\0AX: y"),
        ] {
            check(&[attribute(COMMON_NAME, UTF8_STRING, value.as_bytes())], expected);
        }
        check(&[attribute(COMMON_NAME, BMP_STRING, &[0, b'Z', 0, 0xeb])], r"CN=Z\C3\AB");
    }

    #[test]
    fn what_has_no_name_goes_out_as_it_is_encoded() {
        // emailAddress, RFC 2985 §5.2.1.
        let email = [0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 9, 1];
        check(&[attribute(&email, IA5_STRING, b"a@b")], "1.2.840.113549.1.9.1=#1603614062");
        check(&[attribute(COMMON_NAME, 0x03, &[0, 1])], "CN=#03020001");
    }

    #[test]
    fn bytes_cut_short_are_no_certificate() {
        let whole = certificate(&[attribute(COMMON_NAME, UTF8_STRING, &[b'a'; 300])]);
        assert_eq!(subject(&whole).map(|text| text.len()), Some(303));
        for cut in 0..whole.len() {
            assert_eq!(subject(&whole[..cut]), None, "{cut}");
        }
    }
}
