//! What does the table of vectors under `proto/tests/http1_vectors` say? One file per rule, read for two kinds of test.
//!
//! Never judges anything: the parsers are run on a vector in proto's tests, a whole engine in the engine's.

#![allow(dead_code, reason = "each test binary takes what it needs")]

use std::fs;
use std::path::Path;

use serde::{Deserialize, Deserializer};

/// The bounds that vectors break, low enough for that.
pub(crate) const HEAD_BYTES_MAX: u32 = 8192;
pub(crate) const FIELDS_MAX: u16 = 50;
pub(crate) const BODY_BYTES_MAX: u64 = 1 << 20;

/// Our name in `Via`.
pub(crate) const PSEUDONYM: &str = "gate";

/// What stands for an endpoint's address in a head that goes to it.
pub(crate) const ENDPOINT: &str = "endpoint:80";

/// What stands for the time in an answer that came without.
pub(crate) const DATE: &str = "Sun, 06 Nov 1994 08:49:37 GMT";

/// What has to become of a file's vectors: the directory it lies in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// The rule that the file is named after is found broken.
    Refused,
    /// The message is understood and goes on.
    Accepted,
    /// The message ends before it is whole, and nobody may take it for whole.
    Incomplete,
}

/// One rule and its vectors.
#[derive(Debug)]
pub(crate) struct Table {
    pub(crate) verdict: Verdict,
    /// A variant's label for what is refused, else a topic; the file's name too.
    pub(crate) rule: String,
    /// Where the standard says so.
    pub(crate) rfc: String,
    /// What goes wrong otherwise.
    pub(crate) why: String,
    pub(crate) vectors: Vec<Vector>,
}

/// Who sends a vector's input.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Side {
    Request,
    Reply,
}

/// A message, or several, and what has to become of it.
#[derive(Debug)]
pub(crate) struct Vector {
    pub(crate) name: String,
    pub(crate) side: Side,
    pub(crate) input: Vec<u8>,
    /// The request that a reply answers.
    pub(crate) request: Vec<u8>,
    /// Whether the sender closes behind the input.
    pub(crate) ends: bool,
    /// What the client is answered, status by status. A refused request gets one.
    pub(crate) answers: Vec<u16>,
    /// Whether the client's connection ends then.
    pub(crate) closes: bool,
    /// Whether the endpoint's connection serves another request.
    pub(crate) is_reusable: bool,
    /// A fault of the exchange: both heads are in order, and still it fails.
    pub(crate) fault: Option<String>,
    /// `none`, `length N`, `chunked`, `until close`.
    pub(crate) framing: Option<String>,
    /// Whom the request is for.
    pub(crate) authority: Option<String>,
    /// The head that goes on in place of the one received; interim ones before it.
    pub(crate) forwarded: Option<Vec<u8>>,
    /// The body's content.
    pub(crate) body: Vec<u8>,
    /// A chunked body as it goes on in chunks.
    pub(crate) framed: Option<Vec<u8>>,
    /// What is left behind the message, for the next one.
    pub(crate) rest: Vec<u8>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WrittenTable {
    rule: String,
    rfc: String,
    side: Side,
    why: String,
    status: Option<u16>,
    vector: Vec<WrittenVector>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WrittenVector {
    name: String,
    side: Option<Side>,
    input: Bytes,
    request: Option<Bytes>,
    #[serde(default)]
    ends: bool,
    answers: Option<Vec<u16>>,
    closes: Option<bool>,
    reusable: Option<bool>,
    fault: Option<String>,
    framing: Option<String>,
    authority: Option<String>,
    forwarded: Option<Bytes>,
    body: Option<Bytes>,
    framed: Option<Bytes>,
    rest: Option<Bytes>,
}

/// Text that stands for bytes, see [`unescape`].
struct Bytes(Vec<u8>);

impl<'de> Deserialize<'de> for Bytes {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        unescape(&text)
            .map(Self)
            .ok_or_else(|| serde::de::Error::custom(format!("not an escaped text: {text}")))
    }
}

/// The bytes that a text in a file stands for: `\r`, `\n`, `\t`, `\\`, `\xHH`, and `\(N*TEXT)` for N times TEXT. Line
/// ends of the file count for nothing, so that a message reads line by line.
pub(crate) fn unescape(text: &str) -> Option<Vec<u8>> {
    let (bytes, rest) = unescape_until(text, None)?;
    rest.is_empty().then_some(bytes)
}

/// Up to `end` or, without one, all of `text`; and what follows.
fn unescape_until(mut text: &str, end: Option<char>) -> Option<(Vec<u8>, &str)> {
    let mut bytes = Vec::new();
    loop {
        let Some(char) = text.chars().next() else { return end.is_none().then_some((bytes, text)) };
        text = &text[char.len_utf8()..];
        match char {
            _ if Some(char) == end => return Some((bytes, text)),
            '\n' => {}
            '\\' => {
                let kind = text.chars().next()?;
                text = &text[kind.len_utf8()..];
                match kind {
                    'r' => bytes.push(b'\r'),
                    'n' => bytes.push(b'\n'),
                    't' => bytes.push(b'\t'),
                    '\\' => bytes.push(b'\\'),
                    'x' => {
                        bytes.push(u8::from_str_radix(text.get(..2)?, 16).ok()?);
                        text = &text[2..];
                    }
                    '(' => {
                        let (count, rest) = text.split_once('*')?;
                        let (part, rest) = unescape_until(rest, Some(')'))?;
                        bytes.extend(part.repeat(count.parse().ok()?));
                        text = rest;
                    }
                    _ => return None,
                }
            }
            _ => bytes.extend_from_slice(char.encode_utf8(&mut [0; 4]).as_bytes()),
        }
    }
}

/// All tables, by verdict and name. `dir` is relative to the package whose tests run.
#[track_caller]
pub(crate) fn load(dir: &str) -> Vec<Table> {
    let verdicts =
        [(Verdict::Refused, "refused"), (Verdict::Accepted, "accepted"), (Verdict::Incomplete, "incomplete")];
    let mut tables = Vec::new();
    for (verdict, name) in verdicts {
        let entries = fs::read_dir(Path::new(dir).join(name)).expect("the table is there");
        let mut paths: Vec<_> = entries.map(|entry| entry.expect("a readable directory").path()).collect();
        paths.sort();
        tables.extend(paths.iter().map(|path| read(path, verdict)));
    }
    tables
}

#[track_caller]
fn read(path: &Path, verdict: Verdict) -> Table {
    let text = fs::read_to_string(path).expect("a file of text");
    let table: WrittenTable =
        toml::from_str(&text).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let WrittenTable { rule, rfc, side, why, status, vector } = table;
    assert_eq!(
        path.file_stem().and_then(|stem| stem.to_str()),
        Some(&*rule),
        "a file is named after its rule"
    );
    assert!(
        rfc.starts_with("RFC ") && rfc.contains('§') && !why.is_empty(),
        "{rule}: no section or no reason"
    );
    let vectors = vector.into_iter().map(|written| complete(written, side, status, verdict)).collect();
    Table { verdict, rule, rfc, why, vectors }
}

/// Fills in what goes without saying.
fn complete(written: WrittenVector, side: Side, status: Option<u16>, verdict: Verdict) -> Vector {
    let side = written.side.unwrap_or(side);
    let usual_status = match (verdict, side) {
        (Verdict::Refused, Side::Request) => status.unwrap_or(400),
        (Verdict::Refused | Verdict::Incomplete, Side::Reply) => 502,
        (Verdict::Accepted | Verdict::Incomplete, _) => 200,
    };
    let is_kept = verdict == Verdict::Accepted;
    let or_empty = |bytes: Option<Bytes>| bytes.map(|Bytes(bytes)| bytes).unwrap_or_default();
    Vector {
        name: written.name,
        side,
        input: written.input.0,
        request: written
            .request
            .map_or_else(|| b"GET / HTTP/1.1\r\nHost: a\r\n\r\n".to_vec(), |Bytes(bytes)| bytes),
        ends: written.ends,
        answers: written.answers.unwrap_or_else(|| vec![usual_status]),
        closes: written.closes.unwrap_or(!is_kept && side == Side::Request),
        is_reusable: written.reusable.unwrap_or(is_kept && !written.ends),
        fault: written.fault,
        framing: written.framing,
        authority: written.authority,
        forwarded: written.forwarded.map(|Bytes(bytes)| bytes),
        body: or_empty(written.body),
        framed: written.framed.map(|Bytes(bytes)| bytes),
        rest: or_empty(written.rest),
    }
}
