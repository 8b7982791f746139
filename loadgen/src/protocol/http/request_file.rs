//! Which requests does a file describe, one JSON object a line?
//!
//! Goes on past a mistake, so that one run names them all; one mistake anywhere and there are no requests.

use std::fmt;
use std::fs;
use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde_json::Value;

use crate::protocol::http::expected::ExpectedBody;
use crate::protocol::http::ids::RunId;
use crate::protocol::http::request::{Body, Description, Request};
use crate::protocol::http::template;
use crate::target::{Field, check_url_text};

/// Most requests in a file: enough to play a busy site, little enough to lie in memory.
const REQUESTS_MAX: usize = 10_000;
/// Most different names: each is a row of the summary, and has a histogram in each thread.
const NAMES_MAX: usize = 200;
/// Most bytes of all requests together.
const BYTES_MAX: usize = 256 * 1_024 * 1_024;
/// Highest weight; the sum of all must not overflow.
const WEIGHT_MAX: u64 = 1_000_000_000;
/// Mistakes told; who made more repeats one of them.
const MISTAKES_MAX: usize = 30;

const KEYS: [&str; 12] = [
    "name",
    "weight",
    "method",
    "path",
    "headers",
    "body",
    "body_file",
    "body_base64",
    "expect_status",
    "expect_header",
    "expect_body_sha256",
    "expect_body_file",
];

/// What a file describes.
#[derive(Debug)]
pub(crate) struct RequestFile {
    pub(crate) requests: Vec<Request>,
    /// The weight of each.
    pub(crate) weights: Vec<u64>,
    /// By account.
    pub(crate) names: Vec<String>,
}

/// Reads the file at `path`; what a line leaves out is as in `defaults`.
///
/// # Errors
/// Every mistake in it, each on a line of its own with file, line and key.
pub(crate) fn read(path: &Path, defaults: &Description, run: Option<RunId>) -> Result<RequestFile, String> {
    let text = fs::read_to_string(path)
        .map_err(|error| format!("cannot read the requests from {}: {error}", path.display()))?;
    let mut reading = Reading {
        file: path,
        defaults,
        run,
        mistakes: Vec::new(),
        kins: Vec::new(),
        bytes: 0,
        found: RequestFile { requests: Vec::new(), weights: Vec::new(), names: Vec::new() },
    };
    for (index, line) in text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
        reading.read_line(index + 1, line);
    }
    reading.finish()
}

struct Reading<'a> {
    file: &'a Path,
    defaults: &'a Description,
    run: Option<RunId>,
    mistakes: Vec<String>,
    /// Methods and expected fields that occurred; the place is their requests' kin.
    kins: Vec<String>,
    bytes: usize,
    found: RequestFile,
}

impl Reading<'_> {
    fn mistake(&mut self, line: usize, what: impl fmt::Display) {
        self.mistakes.push(format!("{}:{line}: {what}", self.file.display()));
    }

    fn read_line(&mut self, number: usize, line: &str) {
        let pairs = match serde_json::from_str::<Pairs>(line) {
            Ok(Pairs(pairs)) => pairs,
            Err(error) => {
                let what = format!(
                    "column {}: no JSON object: {error}; expected one, such as {{\"path\": \"/\"}}",
                    error.column()
                );
                return self.mistake(number, what);
            }
        };
        let mistakes_before = self.mistakes.len();
        let mut entry = Entry { description: self.defaults.clone(), weight: 1, name: None };
        for (index, (key, value)) in pairs.iter().enumerate() {
            if pairs[..index].iter().any(|(earlier, _)| earlier == key) {
                self.mistake(number, format_args!("\"{key}\" stands there twice: leave one out"));
            } else if let Err(what) = entry.set(key, value, self.file) {
                self.mistake(number, what);
            }
        }
        let bodies = ["body", "body_file", "body_base64"];
        self.refuse_rivals(number, &pairs, &bodies);
        self.refuse_rivals(number, &pairs, &["expect_body_sha256", "expect_body_file"]);
        if self.mistakes.len() == mistakes_before {
            self.add(number, entry);
        }
    }

    fn refuse_rivals(&mut self, line: usize, pairs: &[(String, Value)], rivals: &[&str]) {
        let given: Vec<&str> =
            rivals.iter().copied().filter(|rival| pairs.iter().any(|(key, _)| key == rival)).collect();
        if given.len() > 1 {
            self.mistake(
                line,
                format_args!("\"{}\" exclude each other: leave one out", given.join("\" and \"")),
            );
        }
    }

    fn add(&mut self, line: usize, Entry { description, weight, name }: Entry) {
        let mut request = match Request::build(&description, self.run) {
            Ok(request) => request,
            Err(what) => return self.mistake(line, what),
        };
        self.bytes += request.bytes();
        if self.bytes > BYTES_MAX || self.found.requests.len() == REQUESTS_MAX {
            return self.mistake(
                line,
                format_args!("too much: at most {REQUESTS_MAX} requests of {BYTES_MAX} bytes in all"),
            );
        }
        let kin = format!("{} {:?}", description.method, description.expected.fields);
        request.kin = place_of(&kin, &mut self.kins) as u32;
        let name = name.unwrap_or_else(|| format!("{} {}", description.method, description.path));
        request.account = place_of(&name, &mut self.found.names).min(NAMES_MAX) as u16;
        if self.found.names.len() == NAMES_MAX + 1 && self.found.names.last() == Some(&name) {
            let what =
                format!("more than {NAMES_MAX} names: give requests that belong together one \"name\"");
            self.mistake(line, what);
        }
        self.found.requests.push(request);
        self.found.weights.push(weight);
    }

    fn finish(mut self) -> Result<RequestFile, String> {
        if self.mistakes.is_empty() && self.found.requests.is_empty() {
            self.mistake(1, "no request: expected one JSON object a line, such as {\"path\": \"/\"}");
        }
        let more = self.mistakes.len().saturating_sub(MISTAKES_MAX);
        self.mistakes.truncate(MISTAKES_MAX);
        if more > 0 {
            self.mistakes.push(format!("and {more} mistakes more"));
        }
        if self.mistakes.is_empty() { Ok(self.found) } else { Err(self.mistakes.join("\n")) }
    }
}

/// Where `text` stands in `texts`, at the end if it is new.
fn place_of(text: &str, texts: &mut Vec<String>) -> usize {
    texts.iter().position(|known| known == text).unwrap_or_else(|| {
        texts.push(text.to_owned());
        texts.len() - 1
    })
}

/// One line, as far as it was read.
struct Entry {
    description: Description,
    weight: u64,
    name: Option<String>,
}

impl Entry {
    fn set(&mut self, key: &str, value: &Value, file: &Path) -> Result<(), String> {
        let told = |error: String| format!("\"{key}\": {error}");
        let text = || value.as_str().ok_or_else(|| told("expected a text in quotes".into()));
        let Description { method, path, fields, body, expected, .. } = &mut self.description;
        match key {
            "name" => self.name = Some(text()?.to_owned()),
            "weight" => {
                self.weight = value
                    .as_u64()
                    .filter(|weight| (1..=WEIGHT_MAX).contains(weight))
                    .ok_or_else(|| told(format!("expected a whole number from 1 to {WEIGHT_MAX}")))?;
            }
            "method" => *method = text()?.parse().map_err(told)?,
            "path" => {
                let given = text()?;
                if !given.starts_with('/') {
                    return Err(told(format!(
                        "'{given}' does not start with '/'; host and port are the URL's"
                    )));
                }
                check_url_text(given).map_err(told)?;
                given.clone_into(path);
            }
            "headers" => {
                let own = read_fields(value, str::parse).map_err(told)?;
                fields.retain(|field| !own.iter().any(|one| one.name.eq_ignore_ascii_case(&field.name)));
                fields.extend(own);
            }
            "body" => {
                template::parse(text()?).map_err(told)?;
                *body = Body::Text(text()?.to_owned());
            }
            "body_file" => *body = Body::Bytes(read_beside(file, text()?).map_err(told)?.into()),
            "body_base64" => {
                let bytes = STANDARD.decode(text()?).map_err(|error| told(format!("no Base64: {error}")))?;
                *body = Body::Bytes(bytes.into());
            }
            "expect_status" => expected.statuses = read_statuses(value).map_err(told)?.into(),
            "expect_header" => {
                let own = read_fields(value, Field::of_answer).map_err(told)?;
                expected.fields = expected.fields.iter().cloned().chain(own).collect();
            }
            "expect_body_sha256" => expected.body = ExpectedBody::Hash(text()?.parse().map_err(told)?),
            "expect_body_file" => {
                expected.body = ExpectedBody::Same(read_beside(file, text()?).map_err(told)?.into());
            }
            _ => {
                let hint = match nearest(key) {
                    Some(known) => format!("did you mean \"{known}\"?"),
                    None => format!("known are {}", KEYS.join(", ")),
                };
                return Err(format!("\"{key}\": unknown key; {hint}"));
            }
        }
        Ok(())
    }
}

/// Fields from an object, in the order of their names: a text for each, or a list of texts for a field that is repeated.
fn read_fields(value: &Value, field: fn(&str) -> Result<Field, String>) -> Result<Vec<Field>, String> {
    let refused = || "expected an object, such as {\"Accept\": \"text/html\"}".to_owned();
    let mut fields = Vec::new();
    for (name, value) in value.as_object().ok_or_else(refused)? {
        let values = value.as_array().map_or(std::slice::from_ref(value), Vec::as_slice);
        for value in values {
            let text = value.as_str().ok_or_else(|| format!("the value of '{name}' is no text in quotes"))?;
            fields.push(field(&format!("{name}: {text}"))?);
        }
    }
    Ok(fields)
}

fn read_statuses(value: &Value) -> Result<Vec<u16>, String> {
    let refused = || "expected a status from 200 to 599, or a list of them".to_owned();
    let values = value.as_array().map_or(std::slice::from_ref(value), Vec::as_slice);
    let status = |value: &Value| value.as_u64().filter(|status| (200..=599).contains(status));
    let statuses: Option<Vec<u16>> =
        values.iter().map(|value| status(value).map(|status| status as u16)).collect();
    statuses.filter(|statuses| !statuses.is_empty()).ok_or_else(refused)
}

/// Reads a file that is named relative to the directory of `file`.
fn read_beside(file: &Path, name: &str) -> Result<Vec<u8>, String> {
    let path = file.parent().unwrap_or(Path::new("")).join(name);
    fs::read(&path).map_err(|error| format!("cannot read {}: {error}", path.display()))
}

/// The known key that was most likely meant.
fn nearest(key: &str) -> Option<&'static str> {
    let (distance, known) = KEYS.iter().map(|known| (edits(key, known), *known)).min()?;
    // A third of the letters may be wrong; more is another word.
    (distance <= known.len().div_ceil(3)).then_some(known)
}

/// Letters to insert, leave out or replace to make `from` into `to` (Levenshtein).
fn edits(from: &str, to: &str) -> usize {
    let mut row: Vec<usize> = (0..=to.len()).collect();
    for (index, letter) in from.bytes().enumerate() {
        let mut diagonal = std::mem::replace(&mut row[0], index + 1);
        for (at, other) in to.bytes().enumerate() {
            let replaced = diagonal + usize::from(letter != other);
            diagonal = row[at + 1];
            row[at + 1] = replaced.min(diagonal + 1).min(row[at] + 1);
        }
    }
    row[to.len()]
}

/// An object's keys and values as they stand there, so that a key given twice is seen.
struct Pairs(Vec<(String, Value)>);

impl<'de> Deserialize<'de> for Pairs {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct PairsVisitor;
        impl<'de> Visitor<'de> for PairsVisitor {
            type Value = Pairs;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Pairs, A::Error> {
                let mut pairs = Vec::new();
                while let Some(pair) = map.next_entry()? {
                    pairs.push(pair);
                }
                Ok(Pairs(pairs))
            }
        }
        deserializer.deserialize_map(PairsVisitor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::http::expected::Expected;

    fn defaults() -> Description {
        Description {
            method: "GET".parse().expect("a method"),
            authority: "h".into(),
            path: "/default".into(),
            fields: vec!["X-All: 1".parse().expect("a field")],
            body: Body::None,
            keepalive: true,
            expected: Expected { statuses: [200].into(), fields: [].into(), body: ExpectedBody::Any },
        }
    }

    fn read_text(text: &str) -> Result<RequestFile, String> {
        let directory =
            std::env::temp_dir().join(format!("corelane-requests-{}-{:p}", std::process::id(), text));
        fs::create_dir_all(&directory).expect("a directory");
        fs::write(directory.join("body"), b"b\0dy").expect("a file");
        let file = directory.join("requests.jsonl");
        fs::write(&file, text).expect("a file");
        let read = read(&file, &defaults(), None);
        fs::remove_dir_all(&directory).expect("the directory goes");
        read.map_err(|mistakes| mistakes.replace(&format!("{}/", directory.display()), ""))
    }

    fn sent(file: &RequestFile, index: usize) -> String {
        String::from_utf8(file.requests[index].fixed().expect("the same every time").to_vec()).expect("text")
    }

    #[test]
    fn a_line_says_what_differs_from_the_command_line() {
        let file = read_text(concat!(
            "{}\n\n",
            r#"{"method": "POST", "path": "/a?b=c", "headers": {"x-all": "2", "Y": ["3", "4"]}, "body": "xyz", "weight": 3}"#,
            "\n",
            r#"{"name": "bytes", "body_file": "body", "expect_status": [201, 204]}"#,
            "\n",
            r#"{"name": "bytes", "body_base64": "AP8=", "expect_header": {"A": "b"}}"#,
        ))
        .expect("requests");
        assert_eq!(file.weights, [1, 3, 1, 1]);
        assert_eq!(file.names, ["GET /default", "POST /a?b=c", "bytes"]);
        let accounts: Vec<u16> = file.requests.iter().map(|request| request.account).collect();
        assert_eq!(accounts, [0, 1, 2, 2]);
        assert_eq!(sent(&file, 0), "GET /default HTTP/1.1\r\nHost: h\r\nX-All: 1\r\n\r\n");
        assert_eq!(
            sent(&file, 1),
            "POST /a?b=c HTTP/1.1\r\nHost: h\r\nY: 3\r\nY: 4\r\nx-all: 2\r\nContent-Length: 3\r\n\r\nxyz"
        );
        assert!(sent(&file, 2).ends_with("Content-Length: 4\r\n\r\nb\0dy"));
        assert!(file.requests[3].fixed().is_some_and(|bytes| bytes.ends_with(b"\r\n\r\n\0\xff")));
        assert_eq!(*file.requests[2].expected.statuses, [201, 204]);
        let kins: Vec<u32> = file.requests.iter().map(|request| request.kin).collect();
        assert_eq!(
            kins,
            [0, 1, 0, 2],
            "heads mean the same to those of one method and the same expected fields"
        );
    }

    #[test]
    fn every_mistake_is_told_at_once_with_its_place_and_the_way_out() {
        let mistakes = [
            (r#"{"methd": "GET"}"#, r#"requests.jsonl:1: "methd": unknown key; did you mean "method"?"#),
            (r#"{"colour": 1}"#, r#"requests.jsonl:2: "colour": unknown key; known are name, weight"#),
            (r#"{"path": "x"}"#, r#"requests.jsonl:3: "path": 'x' does not start with '/'"#),
            (r#"{"path": "/a b", "weight": 0}"#, r#"requests.jsonl:4: "path": byte 0x20"#),
            (r#"{"path": "/{{x}}"}"#, r#"requests.jsonl:5: "path": unknown placeholder '{{x}}'"#),
            (r#"{"body": "a", "body_file": "body"}"#, r#"requests.jsonl:6: "body" and "body_file" exclude"#),
            (r#"{"body_file": "nowhere"}"#, r#"requests.jsonl:7: "body_file": cannot read nowhere"#),
            (r#"{"headers": {"Content-Length": "1"}}"#, r#"requests.jsonl:8: "headers": Content-Length is"#),
            (r#"{"headers": ["A: b"]}"#, r#"requests.jsonl:9: "headers": expected an object"#),
            (r#"{"expect_status": 700}"#, r#"requests.jsonl:10: "expect_status": expected a status"#),
            (
                r#"{"expect_body_sha256": "abc"}"#,
                r#"requests.jsonl:11: "expect_body_sha256": 'abc' is no SHA"#,
            ),
            (r#"{"path": "/", "path": "/"}"#, r#"requests.jsonl:12: "path" stands there twice"#),
            (r#"{"path": "/""#, "requests.jsonl:13: column"),
            (r#"["/"]"#, "requests.jsonl:14: column"),
            (r#"{"method": "HEAD", "expect_body_file": "body"}"#, "requests.jsonl:15: an answer to HEAD"),
            (r#"{"body_base64": "?"}"#, r#"requests.jsonl:16: "body_base64": no Base64"#),
        ];
        let text: Vec<&str> = mistakes.iter().map(|(line, _)| *line).collect();
        let told = read_text(&text.join("\n")).expect_err("mistakes");
        for (line, part) in mistakes {
            assert!(told.contains(part), "{line}: {part} is missing from\n{told}");
        }
        assert!(told.contains(r#"requests.jsonl:4: "weight": expected a whole number"#), "{told}");
        assert_eq!(told.lines().count(), mistakes.len() + 1, "{told}");
    }

    #[test]
    fn the_number_of_names_and_of_mistakes_is_bounded() {
        assert!(read_text("").is_err_and(|told| told.contains("no request")));
        let names = |count| (0..count).map(|name| format!("{{\"name\": \"{name}\"}}\n")).collect::<String>();
        assert!(read_text(&names(NAMES_MAX)).is_ok());
        let told = read_text(&names(NAMES_MAX + 5)).expect_err("too many");
        assert!(told.starts_with("requests.jsonl:201: more than 200 names"), "{told}");
        let told = read_text(&"{\n".repeat(MISTAKES_MAX + 5)).expect_err("mistakes");
        assert!(told.lines().count() == MISTAKES_MAX + 1 && told.ends_with("and 5 mistakes more"), "{told}");
    }

    #[test]
    fn edits_are_counted() {
        for (from, to, count) in
            [("", "abc", 3), ("methd", "method", 1), ("kitten", "sitting", 3), ("a", "a", 0)]
        {
            assert_eq!(edits(from, to), count, "{from} to {to}");
        }
    }
}
