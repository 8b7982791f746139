//! Is this a whole and well-formed response, where does it end, and is it what was expected?
//!
//! Looks at received bytes where they lie: never copies or keeps a body, and never guesses a length.

use std::ops::Range;

use arrayvec::ArrayVec;
use proto::http1::chunked::{ChunkRejected, ChunkedScanner, Mode};
use proto::http1::framing::{ResponseFraming, decide_response_framing};
use proto::http1::head::{FIELDS_MAX, Limits, Method, Parsed, ResponseHead, parse_response};
use proto::http1::persist::{Persistence, decide_upstream};
use proto::http1::rejected::ResponseRejected;

use crate::failure::Failure;
use crate::protocol::http::expected::{BodyCheck, Expected, Hasher};
use crate::protocol::http::ids::{ID_FIELD, RunId};
use crate::protocol::http::request::Request;

/// As much as the parser takes at most.
const LIMITS: Limits = Limits {
    head_bytes_max: u16::MAX as u32,
    fields_max: FIELDS_MAX as u16,
    target_bytes_max: u16::MAX as u32,
    is_secured: false,
};

/// Interim responses to one request. A server that sends more talks to itself.
const INTERIM_MAX: u8 = 8;

/// A whole response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    /// The connection serves another request.
    pub(crate) persists: bool,
    pub(crate) fields: Fields,
}

/// Whether a head has the fields that were expected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fields {
    Right,
    /// Lacks this one of those expected.
    Missing(usize),
    /// Answers another request than this, or does not say which.
    WrongId,
}

/// Which answer is awaited.
pub(crate) struct Question<'a> {
    /// Decides whether the answer has a body.
    pub(crate) method: Method,
    pub(crate) expected: &'a Expected,
    /// The id that the answer must carry.
    pub(crate) id: Option<(RunId, u64)>,
    /// See [`Request::kin`].
    pub(crate) kin: u32,
}

impl<'a> Question<'a> {
    pub(crate) fn new(request: &'a Request, id: Option<(RunId, u64)>) -> Self {
        Self { method: request.method, expected: &request.expected, id, kin: request.kin }
    }

    fn judge_fields(&self, bytes: &[u8], head: &ResponseHead) -> Fields {
        if let Some((run, number)) = self.id {
            let mut ids = head
                .fields
                .iter()
                .filter(|field| field.name.of(bytes).eq_ignore_ascii_case(ID_FIELD.as_bytes()));
            let is_own = ids.next().is_some_and(|field| run.is_of(number, field.value.of(bytes)));
            if !is_own || ids.next().is_some() {
                return Fields::WrongId;
            }
        }
        self.expected.missing(bytes, head).map_or(Fields::Right, Fields::Missing)
    }
}

/// How far a response has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Progress {
    /// `consumed` bytes are done with; what is left must be there again, with more behind it, at the next call.
    More { consumed: usize },
    /// The response ended after `consumed` bytes.
    Whole { consumed: usize, answer: Answer },
}

/// What is wrong with a response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Fault {
    pub(crate) kind: Failure,
    pub(crate) text: &'static str,
}

impl Fault {
    pub(crate) const SURPLUS: Self =
        Self { kind: Failure::Surplus, text: "bytes after the end of the answer" };
}

/// Room to parse heads into, and the last one read: a server's next head is most often the same to the byte.
pub(crate) struct Heads {
    scratch: ResponseHead,
    last: Vec<u8>,
    last_means: Meaning,
    last_kin: u32,
}

/// What a head says about the rest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Meaning {
    framing: ResponseFraming,
    answer: Answer,
}

impl Heads {
    pub(crate) fn new() -> Self {
        let answer = Answer { status: 0, persists: false, fields: Fields::Right };
        Self {
            scratch: ResponseHead::new(),
            last: Vec::new(),
            last_means: Meaning { framing: ResponseFraming::None, answer },
            last_kin: 0,
        }
    }

    /// Reads the final head at the start of `bytes`: its length and meaning, or `None` when it is not all there.
    fn read(
        &mut self,
        bytes: &[u8],
        examined: usize,
        question: &Question<'_>,
    ) -> Result<Option<Head>, Fault> {
        // The same bytes mean the same in answer to the same question. Every id is another question.
        let is_same_question = question.id.is_none() && question.kin == self.last_kin;
        if is_same_question && !self.last.is_empty() && bytes.starts_with(&self.last) {
            return Ok(Some(Head { bytes: self.last.len(), meaning: Some(self.last_means) }));
        }
        let head = &mut self.scratch;
        if parse_response(bytes, examined, &LIMITS, head)? == Parsed::Incomplete {
            return Ok(None);
        }
        let head_bytes = head.head_bytes as usize;
        if head.is_interim() {
            return Ok(Some(Head { bytes: head_bytes, meaning: None }));
        }
        if head.status == 101 {
            return Err(Fault {
                kind: Failure::BadFraming,
                text: "101 without an Upgrade that asked for it",
            });
        }
        let framing = decide_response_framing(head, question.method);
        let persists = decide_upstream(head, framing) == Persistence::Keep;
        let fields = question.judge_fields(bytes, head);
        let meaning = Meaning { framing, answer: Answer { status: head.status, persists, fields } };
        self.last_kin = question.kin;
        self.last.clear();
        self.last.extend_from_slice(&bytes[..head_bytes]);
        self.last_means = meaning;
        Ok(Some(Head { bytes: head_bytes, meaning: Some(meaning) }))
    }
}

/// A head that was all there; an interim one means nothing.
struct Head {
    bytes: usize,
    meaning: Option<Meaning>,
}

impl From<ResponseRejected> for Fault {
    fn from(rejected: ResponseRejected) -> Self {
        let kind = match rejected {
            ResponseRejected::Framing(_) => Failure::BadFraming,
            ResponseRejected::Syntax(_) | ResponseRejected::Response(_) => Failure::BadHead,
        };
        Self { kind, text: rejected.name() }
    }
}

impl From<ChunkRejected> for Fault {
    fn from(rejected: ChunkRejected) -> Self {
        Self { kind: Failure::BadFraming, text: rejected.name() }
    }
}

/// Reads the response to one request.
pub(crate) struct Reader<'a> {
    state: State,
    question: Question<'a>,
    body: BodyCheck<'a>,
}

enum State {
    Head { examined: usize, interim: u8 },
    Length { left: u64, answer: Answer },
    Chunked { scanner: ChunkedScanner, answer: Answer },
    UntilClose { answer: Answer },
}

impl<'a> Reader<'a> {
    pub(crate) fn new(question: Question<'a>, hasher: &'a mut Hasher) -> Self {
        let body = question.expected.body.check(hasher);
        Self { state: State::Head { examined: 0, interim: 0 }, question, body }
    }

    /// Whether the body of the response, now whole, is the one expected.
    pub(crate) fn body_is_right(self) -> bool {
        self.body.matches()
    }

    /// Looks at the bytes received so far that were not consumed yet.
    ///
    /// # Errors
    /// The response is malformed; the connection is of no use any more.
    pub(crate) fn feed(&mut self, bytes: &[u8], heads: &mut Heads) -> Result<Progress, Fault> {
        let mut consumed = 0;
        loop {
            let rest = &bytes[consumed..];
            match &mut self.state {
                State::Head { examined, interim } => match heads.read(rest, *examined, &self.question)? {
                    None => {
                        *examined = rest.len();
                        return Ok(Progress::More { consumed });
                    }
                    Some(Head { bytes, meaning: None }) => {
                        if *interim == INTERIM_MAX {
                            return Err(Fault {
                                kind: Failure::BadFraming,
                                text: "interim responses without end",
                            });
                        }
                        self.state = State::Head { examined: 0, interim: *interim + 1 };
                        consumed += bytes;
                    }
                    Some(Head { bytes, meaning: Some(meaning) }) => {
                        self.state = State::after(meaning);
                        consumed += bytes;
                    }
                },
                State::Length { left, answer } => {
                    let taken = (rest.len() as u64).min(*left);
                    *left -= taken;
                    consumed += taken as usize;
                    self.body.take(&rest[..taken as usize]);
                    return Ok(match *left {
                        0 => Progress::Whole { consumed, answer: *answer },
                        _ => Progress::More { consumed },
                    });
                }
                State::Chunked { scanner, answer } => {
                    consumed += scan_chunks(scanner, rest, |part| self.body.take(part))?;
                    return Ok(match scanner.is_done() {
                        true => Progress::Whole { consumed, answer: *answer },
                        false => Progress::More { consumed },
                    });
                }
                State::UntilClose { .. } => {
                    self.body.take(rest);
                    return Ok(Progress::More { consumed: bytes.len() });
                }
            }
        }
    }

    /// The peer has closed its side: was the response whole?
    ///
    /// # Errors
    /// It was not.
    pub(crate) fn end(&self) -> Result<Answer, Fault> {
        let text = match &self.state {
            State::UntilClose { answer } => return Ok(*answer),
            State::Head { examined: 0, interim: 0 } => {
                let text = "closed before the first byte of the answer";
                return Err(Fault { kind: Failure::ClosedUnanswered, text });
            }
            State::Head { .. } => "closed within the head",
            State::Length { .. } => "closed before the length announced",
            State::Chunked { .. } => "closed before the last chunk",
        };
        Err(Fault { kind: Failure::ClosedEarly, text })
    }
}

impl State {
    fn after(Meaning { framing, answer }: Meaning) -> Self {
        match framing {
            ResponseFraming::None => Self::Length { left: 0, answer },
            ResponseFraming::Length(left) => Self::Length { left, answer },
            ResponseFraming::Chunked => Self::Chunked { scanner: ChunkedScanner::new(), answer },
            ResponseFraming::UntilClose => Self::UntilClose { answer },
        }
    }
}

/// Data ranges the scanner reports at a time; each takes a turn of a short loop.
const RANGES: usize = 8;

/// Checks as much of a chunked body as `bytes` holds, and says how far it reaches.
pub(crate) fn discard_chunks(scanner: &mut ChunkedScanner, bytes: &[u8]) -> Result<usize, ChunkRejected> {
    scan_chunks(scanner, bytes, |_| ())
}

/// The same, handing each part of the data to `take`.
fn scan_chunks(
    scanner: &mut ChunkedScanner,
    bytes: &[u8],
    mut take: impl FnMut(&[u8]),
) -> Result<usize, ChunkRejected> {
    let mut consumed = 0;
    while consumed < bytes.len() && !scanner.is_done() {
        let rest = &bytes[consumed..];
        let mut data = ArrayVec::<Range<usize>, RANGES>::new();
        consumed += scanner.forward(rest, Mode::DataOnly, &mut data)?.consumed;
        data.into_iter().for_each(|range| take(&rest[range]));
    }
    Ok(consumed)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::http::expected::ExpectedBody;
    use crate::target::Field;

    fn expected(fields: &[&str], body: ExpectedBody) -> Expected {
        let fields: Vec<_> = fields.iter().map(|field| Field::of_answer(field).expect("a field")).collect();
        Expected { statuses: [200].into(), fields: fields.into(), body }
    }

    /// Feeds `bytes` in parts of `step`, as a connection does, then the end of the stream.
    fn read_in_steps(bytes: &[u8], method: Method, step: usize) -> Result<(usize, Answer), Fault> {
        let expected = expected(&[], ExpectedBody::Any);
        let question = Question { method, expected: &expected, id: None, kin: 0 };
        let mut hasher = None;
        let (mut heads, mut reader) = (Heads::new(), Reader::new(question, &mut hasher));
        let (mut start, mut end) = (0, 0);
        while end < bytes.len() {
            end = (end + step).min(bytes.len());
            match reader.feed(&bytes[start..end], &mut heads)? {
                Progress::Whole { consumed, answer } => return Ok((start + consumed, answer)),
                Progress::More { consumed } => start += consumed,
            }
        }
        reader.end().map(|answer| (start, answer))
    }

    fn read(text: &str, method: Method) -> Result<(usize, Answer), Fault> {
        let whole = read_in_steps(text.as_bytes(), method, text.len().max(1));
        for step in 1..text.len() {
            assert_eq!(read_in_steps(text.as_bytes(), method, step), whole, "in steps of {step}: {text:?}");
        }
        whole
    }

    #[test]
    fn whole_responses_end_where_their_framing_says() {
        let (keep, close) = (true, false);
        let good = [
            ("HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabc", "", 200, keep),
            ("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", "", 200, keep),
            ("HTTP/1.1 200 OK\r\nContent-Length: 3\r\nConnection: close\r\n\r\nabc", "", 200, close),
            ("HTTP/1.0 200 OK\r\nContent-Length: 3\r\n\r\nabc", "", 200, close),
            ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n", "", 200, keep),
            (
                "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n1\r\nb\r\n0\r\nT: x\r\n\r\n",
                "",
                200,
                keep,
            ),
            ("HTTP/1.1 200 OK\r\n\r\nuntil close", "", 200, close),
            ("HTTP/1.1 204 No Content\r\n\r\n", "", 204, keep),
            ("HTTP/1.1 304 Not Modified\r\nContent-Length: 9\r\n\r\n", "", 304, keep),
            ("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 503 Later\r\nContent-Length: 1\r\n\r\nx", "", 503, keep),
            ("HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nx", "HTTP/1.1 200 OK\r\n", 200, keep),
        ];
        for (response, behind, status, persists) in good {
            let text = format!("{response}{behind}");
            assert_eq!(
                read(&text, Method::Get),
                Ok((response.len(), Answer { status, persists, fields: Fields::Right })),
                "{text:?}"
            );
        }
    }

    #[test]
    fn a_head_request_gets_no_body() {
        let text = "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\n";
        assert_eq!(
            read(text, Method::Head),
            Ok((text.len(), Answer { status: 200, persists: true, fields: Fields::Right }))
        );
        assert_eq!(read(text, Method::Get).map_err(|fault| fault.kind), Err(Failure::ClosedEarly));
    }

    #[test]
    fn what_is_wrong_is_called_by_its_name() {
        let head = "HTTP/1.1 200 OK\r\n";
        let interim = "HTTP/1.1 103 Early Hints\r\n\r\n".repeat(usize::from(INTERIM_MAX) + 1);
        let bad = [
            (String::new(), Failure::ClosedUnanswered),
            ("HTTP/1.1 20".into(), Failure::ClosedEarly),
            (format!("{head}Content-Length: 4\r\n\r\nabc"), Failure::ClosedEarly),
            (format!("{head}Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n"), Failure::ClosedEarly),
            (format!("{head}Transfer-Encoding: chunked\r\n\r\nxyz\r\n"), Failure::BadFraming),
            (
                format!("{head}Transfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\nabc"),
                Failure::BadFraming,
            ),
            (format!("{head}Content-Length: -1\r\n\r\n"), Failure::BadFraming),
            ("SSH-2.0-OpenSSH_9.9\r\n".into(), Failure::BadHead),
            ("HTTP/1.1 2OO OK\r\n\r\n".into(), Failure::BadHead),
            (format!("{head}Bad Name: x\r\n\r\n"), Failure::BadHead),
            (format!("{head}Endless: {}", "x".repeat(70_000)), Failure::BadHead),
            ("HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\n\r\n".into(), Failure::BadFraming),
            (interim, Failure::BadFraming),
        ];
        for (text, kind) in bad {
            let step = text.len().max(1);
            let fault = read_in_steps(text.as_bytes(), Method::Get, step).expect_err(&text);
            assert_eq!(fault.kind, kind, "{fault:?} for {:?}", &text[..text.len().min(80)]);
        }
    }

    #[test]
    fn a_head_seen_before_means_the_same_again() {
        let (mut heads, expected) = (Heads::new(), expected(&[], ExpectedBody::Any));
        let question = || Question { method: Method::Get, expected: &expected, id: None, kin: 0 };
        let mut status_of =
            |text: &str| match Reader::new(question(), &mut None).feed(text.as_bytes(), &mut heads) {
                Ok(Progress::Whole { consumed, answer }) if consumed == text.len() => answer.status,
                other => panic!("{text:?}: {other:?}"),
            };
        let (first, second) = (
            "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nab",
            "HTTP/1.1 404 OK\r\nContent-Length: 3\r\n\r\nabc",
        );
        for _ in 0..3 {
            assert_eq!((status_of(first), status_of(first), status_of(second)), (200, 200, 404));
        }
    }

    #[test]
    fn the_same_head_is_judged_anew_for_another_question() {
        let head = "HTTP/1.1 200 OK\r\nx-a:  b \r\nX-A: c\r\nX-Loadgen-Id: 0000000000000001-5\r\nContent-Length: 0\r\n\r\n";
        let mut heads = Heads::new();
        let mut judged = |fields: &[&str], id: Option<(u64, u64)>, kin| {
            let expected = expected(fields, ExpectedBody::Any);
            let id = id.map(|(run, number)| (RunId(run), number));
            let question = Question { method: Method::Get, expected: &expected, id, kin };
            match Reader::new(question, &mut None).feed(head.as_bytes(), &mut heads) {
                Ok(Progress::Whole { answer, .. }) => answer.fields,
                other => panic!("{other:?}"),
            }
        };
        for _ in 0..2 {
            assert_eq!(judged(&[], None, 0), Fields::Right);
            assert_eq!(judged(&["X-A: b", "X-A: c"], None, 1), Fields::Right);
            assert_eq!(judged(&["X-A: c", "X-A: d"], None, 2), Fields::Missing(1));
            assert_eq!(judged(&["X-B: b"], None, 3), Fields::Missing(0));
            assert_eq!(judged(&[], Some((1, 5)), 0), Fields::Right);
            assert_eq!(judged(&[], Some((1, 6)), 0), Fields::WrongId);
            assert_eq!(judged(&[], Some((2, 5)), 0), Fields::WrongId);
            assert_eq!(judged(&["X-B: b"], Some((1, 5)), 3), Fields::Missing(0));
        }
    }

    #[test]
    fn a_body_is_checked_whatever_its_framing_and_however_it_comes() {
        let (length, chunked, until_close) = (
            "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabc",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n2;x=y\r\nbc\r\n0\r\nT: z\r\n\r\n",
            "HTTP/1.1 200 OK\r\n\r\nabc",
        );
        for (text, body, is_right) in [length, chunked, until_close].into_iter().flat_map(|text| {
            [(text, "abc", true), (text, "abd", false), (text, "ab", false), (text, "abcd", false)]
        }) {
            let expected = expected(&[], ExpectedBody::Same(body.as_bytes().into()));
            for step in 1..=text.len() {
                let question = Question { method: Method::Get, expected: &expected, id: None, kin: 0 };
                let mut hasher = None;
                let (mut heads, mut reader) = (Heads::new(), Reader::new(question, &mut hasher));
                let (mut start, mut end) = (0, 0);
                while end < text.len() {
                    end = (end + step).min(text.len());
                    let fed = reader.feed(&text.as_bytes()[start..end], &mut heads).expect("sound");
                    let (Progress::Whole { consumed, .. } | Progress::More { consumed }) = fed;
                    start += consumed;
                }
                assert_eq!(reader.body_is_right(), is_right, "{text:?} in steps of {step}, expected {body}");
            }
        }
    }
}
