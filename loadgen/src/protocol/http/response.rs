//! Is this a whole and well-formed response, and where does it end?
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

/// As much as the parser takes at most.
const LIMITS: Limits = Limits {
    head_bytes_max: u16::MAX as u32,
    fields_max: FIELDS_MAX as u16,
    target_bytes_max: u16::MAX as u32,
};

/// Interim responses to one request. A server that sends more talks to itself.
const INTERIM_MAX: u8 = 8;

/// A whole response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    /// The connection serves another request.
    pub(crate) persists: bool,
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
    method: Method,
}

/// What a head says about the rest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Meaning {
    framing: ResponseFraming,
    answer: Answer,
}

impl Heads {
    /// For responses to requests with `method`.
    pub(crate) fn new(method: Method) -> Self {
        let answer = Answer { status: 0, persists: false };
        Self {
            scratch: ResponseHead::new(),
            last: Vec::new(),
            last_means: Meaning { framing: ResponseFraming::None, answer },
            method,
        }
    }

    /// Reads the final head at the start of `bytes`: its length and meaning, or `None` when it is not all there.
    fn read(&mut self, bytes: &[u8], examined: usize) -> Result<Option<Head>, Fault> {
        if !self.last.is_empty() && bytes.starts_with(&self.last) {
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
        let framing = decide_response_framing(head, self.method);
        let persists = decide_upstream(head, framing) == Persistence::Keep;
        let meaning = Meaning { framing, answer: Answer { status: head.status, persists } };
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
pub(crate) struct Reader {
    state: State,
}

enum State {
    Head { examined: usize, interim: u8 },
    Length { left: u64, answer: Answer },
    Chunked { scanner: ChunkedScanner, answer: Answer },
    UntilClose { answer: Answer },
}

impl Reader {
    pub(crate) const fn new() -> Self {
        Self { state: State::Head { examined: 0, interim: 0 } }
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
                State::Head { examined, interim } => match heads.read(rest, *examined)? {
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
                    return Ok(match *left {
                        0 => Progress::Whole { consumed, answer: *answer },
                        _ => Progress::More { consumed },
                    });
                }
                State::Chunked { scanner, answer } => {
                    consumed += discard_chunks(scanner, rest)?;
                    return Ok(match scanner.is_done() {
                        true => Progress::Whole { consumed, answer: *answer },
                        false => Progress::More { consumed },
                    });
                }
                State::UntilClose { .. } => return Ok(Progress::More { consumed: bytes.len() }),
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

/// Data ranges the scanner reports at a time; they are not looked at.
const RANGES: usize = 8;

/// Checks as much of a chunked body as `bytes` holds, and says how far it reaches.
pub(crate) fn discard_chunks(scanner: &mut ChunkedScanner, bytes: &[u8]) -> Result<usize, ChunkRejected> {
    let mut consumed = 0;
    while consumed < bytes.len() && !scanner.is_done() {
        let mut data = ArrayVec::<Range<usize>, RANGES>::new();
        consumed += scanner.forward(&bytes[consumed..], Mode::DataOnly, &mut data)?.consumed;
    }
    Ok(consumed)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Feeds `bytes` in parts of `step`, as a connection does, then the end of the stream.
    fn read_in_steps(bytes: &[u8], method: Method, step: usize) -> Result<(usize, Answer), Fault> {
        let (mut heads, mut reader) = (Heads::new(method), Reader::new());
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
                Ok((response.len(), Answer { status, persists })),
                "{text:?}"
            );
        }
    }

    #[test]
    fn a_head_request_gets_no_body() {
        let text = "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\n";
        assert_eq!(read(text, Method::Head), Ok((text.len(), Answer { status: 200, persists: true })));
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
        let mut heads = Heads::new(Method::Get);
        let mut status_of = |text: &str| match Reader::new().feed(text.as_bytes(), &mut heads) {
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
}
