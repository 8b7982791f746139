//! What stands in a request where it says `{{…}}`?
//!
//! Taken apart once; rendering never parses, and allocates only until its buffer has grown.

use crate::schedule::Dice;

/// A part of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Piece {
    /// Bytes as they are.
    Text(Box<[u8]>),
    /// `{{seq}}`: the request's number.
    Seq,
    /// `{{connection}}`: its connection's number.
    Connection,
    /// `{{random N..M}}`: a whole number, both ends included.
    Random { from: u64, to: u64 },
    /// `{{uuid}}`: a random UUID (RFC 9562 §5.4).
    Uuid,
    /// How many bytes the body has. Nobody writes it; it stands in Content-Length.
    BodyBytes,
}

impl Piece {
    /// The bytes, if it is text.
    pub(crate) fn text(&self) -> &[u8] {
        match self {
            Self::Text(text) => text,
            _ => &[],
        }
    }
}

/// What the placeholders of one request stand for.
pub(crate) struct Values<'a> {
    /// Unique over all threads of a run.
    pub(crate) seq: u64,
    /// Unique over all threads of a run.
    pub(crate) connection: u64,
    pub(crate) body_bytes: usize,
    pub(crate) dice: &'a mut Dice,
}

const OPEN: &str = "{{";
const CLOSE: &str = "}}";
/// How to write what would be taken for a placeholder's begin.
const LITERAL: &str = "'{{'";
const KNOWN: &str =
    "known are {{seq}}, {{connection}}, {{random N..M}} and {{uuid}}; a literal '{{' is written {{'{{'}}";

/// Takes `text` apart. Neighbouring pieces of text are one.
///
/// # Errors
/// A placeholder that is none.
pub(crate) fn parse(text: &str) -> Result<Vec<Piece>, String> {
    let (mut pieces, mut literal, mut rest) = (Vec::new(), Vec::new(), text);
    while let Some(at) = rest.find(OPEN) {
        literal.extend_from_slice(&rest.as_bytes()[..at]);
        let behind = &rest[at + OPEN.len()..];
        let end = behind.find(CLOSE).ok_or_else(|| format!("'{{{{' without '}}}}': {KNOWN}"))?;
        let name = &behind[..end];
        if name == LITERAL {
            literal.extend_from_slice(OPEN.as_bytes());
        } else {
            let piece = placeholder(name.trim())?;
            flush(&mut literal, &mut pieces);
            pieces.push(piece);
        }
        rest = &behind[end + CLOSE.len()..];
    }
    literal.extend_from_slice(rest.as_bytes());
    flush(&mut literal, &mut pieces);
    Ok(pieces)
}

fn flush(literal: &mut Vec<u8>, pieces: &mut Vec<Piece>) {
    if !literal.is_empty() {
        pieces.push(Piece::Text(std::mem::take(literal).into()));
    }
}

fn placeholder(name: &str) -> Result<Piece, String> {
    match name.split_once(' ') {
        None if name == "seq" => Ok(Piece::Seq),
        None if name == "connection" => Ok(Piece::Connection),
        None if name == "uuid" => Ok(Piece::Uuid),
        Some(("random", range)) => {
            let (from, to) = range.split_once("..").unwrap_or((range, ""));
            match (from.trim().parse(), to.trim().parse()) {
                (Ok(from), Ok(to)) if from <= to => Ok(Piece::Random { from, to }),
                _ => {
                    Err(format!("'{{{{{name}}}}}': expected two whole numbers, as in {{{{random 1..100}}}}"))
                }
            }
        }
        _ => Err(format!("unknown placeholder '{{{{{name}}}}}': {KNOWN}")),
    }
}

/// `text` without its placeholders: what must be fit to be sent as it is.
pub(crate) fn outside(text: &str) -> String {
    let (mut kept, mut rest) = (String::new(), text);
    while let Some((before, behind)) = rest.split_once(OPEN) {
        kept.push_str(before);
        rest = behind.split_once(CLOSE).map_or("", |(_, rest)| rest);
    }
    kept + rest
}

/// Whether all of it is the same for every request.
pub(crate) fn is_fixed(pieces: &[Piece]) -> bool {
    pieces.iter().all(|piece| matches!(piece, Piece::Text(_)))
}

/// Appends `pieces` to `out`, each placeholder as `values` say.
pub(crate) fn render(pieces: &[Piece], values: &mut Values<'_>, out: &mut Vec<u8>) {
    let mut digits = itoa::Buffer::new();
    for piece in pieces {
        let number = match piece {
            Piece::Text(text) => {
                out.extend_from_slice(text);
                continue;
            }
            Piece::Uuid => {
                write_uuid([values.dice.roll(), values.dice.roll()], out);
                continue;
            }
            Piece::Seq => values.seq,
            Piece::Connection => values.connection,
            Piece::Random { from, to } => from + values.dice.up_to(to - from),
            Piece::BodyBytes => values.body_bytes as u64,
        };
        out.extend_from_slice(digits.format(number).as_bytes());
    }
}

fn write_uuid([high, low]: [u64; 2], out: &mut Vec<u8>) {
    // RFC 9562 §5.4: version 4 in the seventh byte, variant 10 in the ninth.
    let high = (high & !0xf000) | 0x4000;
    let low = (low & (u64::MAX >> 2)) | (1 << 63);
    let bits = (u128::from(high) << 64) | u128::from(low);
    for nibble in 0..32 {
        if matches!(nibble, 8 | 12 | 16 | 20) {
            out.push(b'-');
        }
        out.push(b"0123456789abcdef"[(bits >> (124 - 4 * nibble)) as usize & 0xf]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rendered(text: &str, seq: u64) -> String {
        let mut out = Vec::new();
        let mut values = Values { seq, connection: 7, body_bytes: 0, dice: &mut Dice::new(3, 0) };
        render(&parse(text).expect(text), &mut values, &mut out);
        String::from_utf8(out).expect("text")
    }

    #[test]
    fn placeholders_become_what_they_stand_for() {
        for (text, expected) in [
            ("", ""),
            ("plain", "plain"),
            ("/a/{{seq}}", "/a/42"),
            ("{{ seq }}-{{connection}}", "42-7"),
            ("{{random 5..5}}", "5"),
            ("{{random 18446744073709551615..18446744073709551615}}", "18446744073709551615"),
            ("{ {seq} }", "{ {seq} }"),
            ("{{'{{'}}seq}}", "{{seq}}"),
            ("a}}b", "a}}b"),
        ] {
            assert_eq!(rendered(text, 42), expected, "{text}");
        }
    }

    #[test]
    fn random_numbers_stay_in_their_range_and_reach_its_ends() {
        let mut dice = Dice::new(1, 0);
        let pieces = parse("{{random 3..5}}").expect("a template");
        let mut seen = [0; 3];
        for _ in 0..300 {
            let mut out = Vec::new();
            let mut values = Values { seq: 0, connection: 0, body_bytes: 0, dice: &mut dice };
            render(&pieces, &mut values, &mut out);
            let number: usize = String::from_utf8(out).expect("text").parse().expect("a number");
            seen[number - 3] += 1;
        }
        assert!(seen.iter().all(|count| (60..140).contains(count)), "{seen:?}");
        assert!(rendered("{{random 0..18446744073709551615}}", 0).parse::<u64>().is_ok());
    }

    #[test]
    fn a_uuid_says_which_kind_it_is() {
        let uuid = rendered("{{uuid}}", 0);
        let lengths: Vec<usize> = uuid.split('-').map(str::len).collect();
        assert_eq!(lengths, [8, 4, 4, 4, 12], "{uuid}");
        assert!(uuid.as_bytes()[14] == b'4' && b"89ab".contains(&uuid.as_bytes()[19]), "{uuid}");
        assert_ne!(rendered("{{uuid}}{{uuid}}", 0).split_at(36).0, &rendered("{{uuid}}{{uuid}}", 0)[36..]);
    }

    #[test]
    fn text_around_placeholders_is_one_piece() {
        let text = |text: &str| Piece::Text(text.as_bytes().into());
        assert_eq!(parse("a{{'{{'}}b{{seq}}c"), Ok(vec![text("a{{b"), Piece::Seq, text("c")]));
        assert!(is_fixed(&parse("a{{'{{'}}b").expect("text")) && !is_fixed(&[Piece::Seq]));
        assert_eq!(outside("a{{random 1..2}}b{{x"), "ab");
    }

    #[test]
    fn what_is_no_placeholder_is_refused_with_the_way_out() {
        for (text, hint) in [
            ("{{sequence}}", "unknown placeholder '{{sequence}}': known are {{seq}}"),
            ("{{}}", "unknown placeholder"),
            ("{{seq", "without '}}'"),
            ("{{random}}", "unknown placeholder"),
            ("{{random 5}}", "as in {{random 1..100}}"),
            ("{{random 5..1}}", "two whole numbers"),
            ("{{random -1..5}}", "two whole numbers"),
            ("{{x}}", "{{'{{'}}"),
        ] {
            let error = parse(text).expect_err(text);
            assert!(error.contains(hint), "{text}: {error}");
        }
    }
}
