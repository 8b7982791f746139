//! Does every vector of the table come out as it says, wherever its bytes are split?
//!
//! Only the pure rules, one message at a time; `engine/tests/http1_vectors.rs` sends the same vectors over sockets.

#[path = "../../tests/common/vectors.rs"]
mod vectors;

use std::collections::BTreeSet;
use std::fmt::Debug;
use std::ops::Range;

use arrayvec::ArrayVec;
use proto::http1::chunked::{self, ChunkRejected, ChunkedScanner, Mode};
use proto::http1::framing::{Delivery, RequestFraming, ResponseFraming, decide_response_framing};
use proto::http1::head::{Limits, Parsed, RequestHead, ResponseHead, Version, parse_request, parse_response};
use proto::http1::persist::{Persistence, connection_option, decide_downstream, decide_upstream};
use proto::http1::rejected::{RequestRejected, ResponseRejected};
use proto::http1::rewrite::{RequestPlan, ResponsePlan, rewrite_request, rewrite_response};
use vectors::{DATE, HEAD_BYTES_MAX, Side, Table, Vector, Verdict, load, unescape};

/// From proto's directory, where its tests run.
const DIR: &str = "tests/http1_vectors";

/// Low enough to be broken in passing. The engine's tests configure the same.
const LIMITS: Limits = Limits {
    head_bytes_max: HEAD_BYTES_MAX,
    fields_max: vectors::FIELDS_MAX,
    target_bytes_max: HEAD_BYTES_MAX,
    is_secured: false,
};

/// What goes on is checked with our name in `Via` and nothing else added.
const REQUEST_PLAN: RequestPlan<'static> =
    RequestPlan { via: Some(vectors::PSEUDONYM), ..RequestPlan::bare("192.0.2.1", vectors::ENDPOINT) };

/// Inputs up to this length are split at every byte; in longer ones, which repeat themselves, the beginning and the end
/// are, and every 61st byte between them.
const SPLIT_EVERYWHERE_BYTES: usize = 1_000;

#[derive(Clone, Debug, PartialEq, Eq)]
enum Outcome {
    Refused { rule: &'static str, status: u16 },
    Incomplete,
    Accepted(Accepted),
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Accepted {
    framing: String,
    authority: Option<String>,
    forwarded: Vec<u8>,
    body: Vec<u8>,
    framed: Vec<u8>,
    rest: Vec<u8>,
    closes: bool,
    is_reusable: bool,
}

impl From<RequestRejected> for Outcome {
    fn from(rule: RequestRejected) -> Self {
        Self::Refused { rule: rule.name(), status: rule.status() }
    }
}

impl From<ResponseRejected> for Outcome {
    fn from(rule: ResponseRejected) -> Self {
        Self::Refused { rule: rule.name(), status: rule.status() }
    }
}

/// A body being read.
struct Body {
    framing: ResponseFraming,
    left: u64,
    scanners: [(Mode, ChunkedScanner); 2],
    content: Vec<u8>,
    framed: Vec<u8>,
    rest: Vec<u8>,
}

impl Body {
    fn new(framing: ResponseFraming, limits: chunked::Limits) -> Self {
        let scanners = [Mode::DataOnly, Mode::Framed].map(|mode| (mode, ChunkedScanner::within(limits)));
        let left = if let ResponseFraming::Length(bytes) = framing { bytes } else { 0 };
        Self { framing, left, scanners, content: Vec::new(), framed: Vec::new(), rest: Vec::new() }
    }

    fn take(&mut self, bytes: &[u8]) -> Result<(), ChunkRejected> {
        match self.framing {
            ResponseFraming::None => self.rest.extend_from_slice(bytes),
            ResponseFraming::UntilClose => self.content.extend_from_slice(bytes),
            ResponseFraming::Length(_) => {
                let (body, rest) = bytes.split_at(bytes.len().min(self.left as usize));
                self.left -= body.len() as u64;
                self.content.extend_from_slice(body);
                self.rest.extend_from_slice(rest);
            }
            ResponseFraming::Chunked => {
                let mut consumed = 0;
                for (mode, scanner) in &mut self.scanners {
                    let out = if *mode == Mode::Framed { &mut self.framed } else { &mut self.content };
                    consumed = scan(scanner, *mode, bytes, out)?;
                }
                self.rest.extend_from_slice(&bytes[consumed..]);
            }
        }
        Ok(())
    }

    fn is_whole(&self, ends: bool) -> bool {
        match self.framing {
            ResponseFraming::None => true,
            ResponseFraming::UntilClose => ends,
            ResponseFraming::Length(_) => self.left == 0,
            ResponseFraming::Chunked => self.scanners.iter().all(|(_, scanner)| scanner.is_done()),
        }
    }
}

/// Passes `bytes` through a scanner, range by range; says how many belonged to the body.
fn scan(
    scanner: &mut ChunkedScanner,
    mode: Mode,
    bytes: &[u8],
    out: &mut Vec<u8>,
) -> Result<usize, ChunkRejected> {
    let mut at = 0;
    while at < bytes.len() && !scanner.is_done() {
        let mut ranges = ArrayVec::<Range<usize>, 2>::new();
        let progress = scanner.forward(&bytes[at..], mode, &mut ranges)?;
        for range in ranges {
            out.extend_from_slice(&bytes[at + range.start..at + range.end]);
        }
        at += progress.consumed;
    }
    Ok(at)
}

fn read_request(pieces: &[&[u8]]) -> Outcome {
    let (mut received, mut examined) = (Vec::new(), 0);
    let mut head = RequestHead::new();
    let mut body: Option<Body> = None;
    for piece in pieces {
        let behind_head = if body.is_some() {
            *piece
        } else {
            received.extend_from_slice(piece);
            match parse_request(&received, examined, &LIMITS, &mut head) {
                Err(rule) => return rule.into(),
                Ok(Parsed::Incomplete) => {
                    examined = received.len();
                    continue;
                }
                Ok(Parsed::Complete) => &received[head.head_bytes as usize..],
            }
        };
        let limits =
            chunked::Limits { body_bytes_max: vectors::BODY_BYTES_MAX, ..chunked::Limits::default() };
        let body = body.get_or_insert_with(|| Body::new(framing_of(head.framing), limits));
        if let Err(rule) = body.take(behind_head) {
            let status = if rule == ChunkRejected::BodyTooLarge { 413 } else { 400 };
            return Outcome::Refused { rule: rule.name(), status };
        }
    }
    match body {
        Some(body) if body.is_whole(false) => Outcome::Accepted(accepted_request(&received, &head, body)),
        Some(_) | None => Outcome::Incomplete,
    }
}

/// A request's framing is one of a response's.
fn framing_of(framing: RequestFraming) -> ResponseFraming {
    match framing {
        RequestFraming::None => ResponseFraming::None,
        RequestFraming::Length(bytes) => ResponseFraming::Length(bytes),
        RequestFraming::Chunked => ResponseFraming::Chunked,
    }
}

fn accepted_request(received: &[u8], head: &RequestHead, body: Body) -> Accepted {
    let mut forwarded = Vec::new();
    rewrite_request(received, head, &REQUEST_PLAN, &mut forwarded);
    Accepted {
        framing: framing_text(body.framing),
        authority: head.authority(received).map(|text| String::from_utf8_lossy(text).into_owned()),
        forwarded,
        body: body.content,
        framed: body.framed,
        rest: body.rest,
        closes: decide_downstream(head, Delivery::Length(0)) == Persistence::Close,
        is_reusable: true,
    }
}

fn framing_text(framing: ResponseFraming) -> String {
    match framing {
        ResponseFraming::None => "none".to_owned(),
        ResponseFraming::Length(bytes) => format!("length {bytes}"),
        ResponseFraming::Chunked => "chunked".to_owned(),
        ResponseFraming::UntilClose => "until close".to_owned(),
    }
}

fn read_reply(request_text: &[u8], pieces: &[&[u8]], ends: bool) -> Outcome {
    let mut request = RequestHead::new();
    assert_eq!(parse_request(request_text, 0, &LIMITS, &mut request), Ok(Parsed::Complete));
    let (mut received, mut examined) = (Vec::new(), 0);
    let mut head = ResponseHead::new();
    let mut forwarded = Vec::new();
    let mut body: Option<Body> = None;
    for piece in pieces {
        if let Some(body) = &mut body {
            if let Err(rule) = body.take(piece) {
                return Outcome::Refused { rule: rule.name(), status: 502 };
            }
            continue;
        }
        received.extend_from_slice(piece);
        // Several interim answers may come in one piece.
        while body.is_none() && !received.is_empty() {
            match parse_response(&received, examined, &LIMITS, &mut head) {
                Err(rule) => return rule.into(),
                Ok(Parsed::Incomplete) => {
                    examined = received.len();
                    break;
                }
                Ok(Parsed::Complete) => {}
            }
            forwarded.extend(forwarded_reply(&received, &head, &request));
            received.drain(..head.head_bytes as usize);
            examined = 0;
            if !head.is_interim() {
                let framing = decide_response_framing(&head, request.method);
                let mut begun = Body::new(framing, chunked::Limits::default());
                if let Err(rule) = begun.take(&received) {
                    return Outcome::Refused { rule: rule.name(), status: 502 };
                }
                body = Some(begun);
            }
        }
    }
    match body {
        Some(body) if body.is_whole(ends) => {
            Outcome::Accepted(accepted_reply(&head, &request, forwarded, body, ends))
        }
        Some(_) | None => Outcome::Incomplete,
    }
}

/// The head that the client gets; empty for an interim one that it would not understand (RFC 9110 §15.2).
fn forwarded_reply(received: &[u8], head: &ResponseHead, request: &RequestHead) -> Vec<u8> {
    let (mut out, is_interim) = (Vec::new(), head.is_interim());
    if is_interim && request.version == Version::Http10 {
        return out;
    }
    let delivery = delivery_of(head, request);
    let persistence = decide_downstream(request, delivery);
    let plan = ResponsePlan {
        delivery,
        connection: if is_interim { None } else { connection_option(request.version, persistence) },
        via: Some(vectors::PSEUDONYM),
        upgrade: head.status == 426,
        date: (!is_interim).then_some(DATE),
        set_cookie: None,
    };
    rewrite_response(received, head, &plan, &mut out);
    out
}

fn delivery_of(head: &ResponseHead, request: &RequestHead) -> Delivery {
    Delivery::of(decide_response_framing(head, request.method), request.version)
}

fn accepted_reply(
    head: &ResponseHead,
    request: &RequestHead,
    forwarded: Vec<u8>,
    body: Body,
    ends: bool,
) -> Accepted {
    let is_kept = decide_upstream(head, body.framing) == Persistence::Keep;
    Accepted {
        framing: framing_text(body.framing),
        authority: None,
        forwarded,
        closes: decide_downstream(request, delivery_of(head, request)) == Persistence::Close,
        // Bytes that nobody asked for make a connection unfit for another request.
        is_reusable: is_kept && !ends && body.rest.is_empty(),
        body: body.content,
        framed: body.framed,
        rest: body.rest,
    }
}

fn read(vector: &Vector, pieces: &[&[u8]]) -> Outcome {
    match vector.side {
        Side::Request => read_request(pieces),
        Side::Reply => read_reply(&vector.request, pieces, vector.ends),
    }
}

/// The input whole, cut in two, and byte by byte.
fn for_each_split(input: &[u8], mut check: impl FnMut(&[&[u8]])) {
    check(&[input]);
    let is_short = input.len() <= SPLIT_EVERYWHERE_BYTES;
    let is_cut = |at: usize| is_short || at < 200 || at + 200 > input.len() || at.is_multiple_of(61);
    for at in (1..input.len()).filter(|at| is_cut(*at)) {
        check(&[&input[..at], &input[at..]]);
    }
    check(&input.chunks(1).collect::<Vec<_>>());
}

/// Everything about a vector that does not come out as it says.
fn mismatches(table: &Table, vector: &Vector) -> Vec<String> {
    let mut found = Vec::new();
    let outcome = read(vector, &[&vector.input]);
    match (table.verdict, &outcome) {
        (Verdict::Refused, Outcome::Refused { rule, status }) => {
            compare(&mut found, "rule", &&*table.rule, rule);
            compare(&mut found, "status", &vector.answers, &vec![*status]);
            compare(&mut found, "closes", &(vector.side == Side::Request), &vector.closes);
        }
        (Verdict::Incomplete, Outcome::Incomplete) => {}
        (Verdict::Accepted, Outcome::Accepted(accepted)) => compare_accepted(&mut found, vector, accepted),
        (verdict, outcome) => found.push(format!("not {verdict:?} but {outcome:?}")),
    }
    for_each_split(&vector.input, |pieces| {
        let lengths: Vec<usize> = pieces.iter().map(|piece| piece.len()).take(2).collect();
        compare(&mut found, &format!("split {lengths:?}"), &outcome, &read(vector, pieces));
    });
    let input = String::from_utf8_lossy(&vector.input);
    let shown = input.chars().take(300).collect::<String>();
    found
        .into_iter()
        .map(|what| format!("{}: {}: {what}\n    in {shown:?}", table.rule, vector.name))
        .collect()
}

fn compare<T: PartialEq + Debug>(found: &mut Vec<String>, what: &str, expected: &T, seen: &T) {
    if expected != seen {
        found.push(format!("{what}: expected {expected:?}, not {seen:?}"));
    }
}

fn compare_accepted(found: &mut Vec<String>, vector: &Vector, accepted: &Accepted) {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    compare(found, "framing", &vector.framing.as_ref(), &Some(&accepted.framing));
    compare(found, "body", &text(&vector.body), &text(&accepted.body));
    compare(found, "rest", &text(&vector.rest), &text(&accepted.rest));
    if vector.authority.is_some() {
        compare(found, "authority", &vector.authority, &accepted.authority);
    }
    if let Some(forwarded) = &vector.forwarded {
        compare(found, "forwarded", &text(forwarded), &text(&accepted.forwarded));
    }
    if let Some(framed) = &vector.framed {
        compare(found, "framed", &text(framed), &text(&accepted.framed));
    }
    compare(found, "reusable", &vector.is_reusable, &accepted.is_reusable);
    // An exchange that fails although both heads are in order is the data plane's to end.
    if vector.fault.is_none() {
        compare(found, "closes", &vector.closes, &accepted.closes);
    }
}

#[test]
fn every_vector_comes_out_as_it_says_wherever_it_is_split() {
    let tables = load(DIR);
    let vectors = tables.iter().flat_map(|table| table.vectors.iter().map(move |vector| (table, vector)));
    let found: Vec<String> = vectors.flat_map(|(table, vector)| mismatches(table, vector)).collect();
    assert!(found.is_empty(), "{} mismatches:\n{}", found.len(), found.join("\n"));
}

#[test]
fn every_rule_has_vectors_and_no_other_name_is_used() {
    let tables = load(DIR);
    let files: BTreeSet<&str> = names(&tables, Verdict::Refused);
    let requests: BTreeSet<&str> = RequestRejected::all().map(RequestRejected::name).collect();
    let replies: BTreeSet<&str> = ResponseRejected::all().map(ResponseRejected::name).collect();
    let chunks: BTreeSet<&str> = ChunkRejected::ALL.iter().map(|rule| rule.name()).collect();
    assert_eq!(files, &(&requests | &replies) | &chunks);
    // A rule that binds both sides is shown on both.
    for (rules, side) in [(requests, Side::Request), (replies, Side::Reply)] {
        for rule in rules {
            let table = tables.iter().find(|table| table.rule == rule).expect("just compared");
            assert!(table.vectors.iter().any(|vector| vector.side == side), "{rule} has no {side:?}");
        }
    }
}

fn names(tables: &[Table], verdict: Verdict) -> BTreeSet<&str> {
    tables.iter().filter(|table| table.verdict == verdict).map(|table| &*table.rule).collect()
}

#[test]
fn the_table_is_what_it_claims_to_be() {
    let tables = load(DIR);
    let vectors = || tables.iter().flat_map(|table| table.vectors.iter().map(move |vector| (table, vector)));
    let count = |side| vectors().filter(|(_, vector)| vector.side == side).count();
    let sections: BTreeSet<&str> = tables.iter().flat_map(|table| table.rfc.split(", ")).collect();
    let rules = names(&tables, Verdict::Refused).len();
    println!(
        "{rules} rules and {} topics, {} vectors ({} requests, {} replies), {} sections: {}",
        tables.len() - rules,
        vectors().count(),
        count(Side::Request),
        count(Side::Reply),
        sections.len(),
        sections.into_iter().collect::<Vec<_>>().join(", "),
    );
    let titles: BTreeSet<_> = vectors().map(|(table, vector)| (&table.rule, &vector.name)).collect();
    assert_eq!(titles.len(), vectors().count(), "two vectors of a rule have one name");
    let mut inputs = BTreeSet::new();
    for (table, vector) in vectors() {
        let is_new = inputs.insert((vector.side as u8, &vector.request, &vector.input, vector.ends));
        assert!(is_new, "there twice: {}: {}", table.rule, vector.name);
    }
}

#[test]
fn an_escaped_text_stands_for_bytes() {
    assert_eq!(unescape("a\\r\\n\nb\\t\\\\\\x00\\xff\\(3*x\\n)y").unwrap(), b"a\r\nb\t\\\0\xffx\nx\nx\ny");
    assert_eq!(unescape("\\(2*a\\(2*b))").unwrap(), b"abbabb");
    for broken in ["\\", "\\q", "\\x0", "\\xgg", "\\(2*a", "\\(a)", "\\(*a)"] {
        assert_eq!(unescape(broken), None, "{broken}");
    }
}
