//! What does a peer read and write? Messages of HTTP/1.1, by a second reading of RFC 9112 that shares no line with the
//! engine's.
//!
//! Never forgiving: whatever the engine sends must be spelled to the letter.

use std::io;
use std::rc::Rc;
use std::time::Duration;

use runtime::{Core, Stream};

use crate::pattern::{Check, Pattern};
use crate::plan::{BodyPlan, Framing, Pace, Reading};

/// Longest head a peer takes.
const HEAD_BYTES_MAX: usize = 64 * 1024;

/// Why nothing more can be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Ended {
    /// The other side has ended the stream.
    Closed,
    /// The connection broke.
    Broken(io::ErrorKind),
    /// Nothing came for as long as the reader is willing to wait.
    Late,
    /// What came breaks a rule.
    Garbled(String),
}

impl Ended {
    pub(crate) fn of(error: &io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::TimedOut => Self::Late,
            kind => Self::Broken(kind),
        }
    }

    fn garbled<T>(what: impl Into<String>) -> Result<T, Self> {
        Err(Self::Garbled(what.into()))
    }
}

/// A message head, split into its lines.
#[derive(Debug)]
pub(crate) struct Head {
    pub(crate) start: String,
    /// Names in lower case.
    pub(crate) fields: Vec<(String, String)>,
}

impl Head {
    /// The only value of a field.
    pub(crate) fn field(&self, name: &str) -> Option<&str> {
        self.fields.iter().find(|(other, _)| other == name).map(|(_, value)| value.as_str())
    }

    pub(crate) fn has(&self, name: &str) -> bool {
        self.field(name).is_some()
    }

    fn parse(text: &str) -> Result<Self, Ended> {
        let mut lines = text.split("\r\n");
        let start = lines.next().unwrap_or_default().to_owned();
        if text.bytes().any(|byte| byte < b' ' && !matches!(byte, b'\r' | b'\n' | b'\t')) {
            return Ended::garbled(format!("a control byte in a head: {text:?}"));
        }
        let mut fields = Vec::new();
        for line in lines {
            if line.contains(['\r', '\n']) {
                return Ended::garbled(format!("a bare line end in {line:?}"));
            }
            let Some((name, value)) = line.split_once(':') else {
                return Ended::garbled(format!("no colon in {line:?}"));
            };
            let is_token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
            if name.is_empty() || !name.bytes().all(is_token) {
                return Ended::garbled(format!("{name:?} is no field name"));
            }
            fields.push((name.to_ascii_lowercase(), value.trim_matches([' ', '\t']).to_owned()));
        }
        Ok(Self { start, fields })
    }

    /// How the body is framed according to the fields alone.
    pub(crate) fn framing(&self) -> Result<Received, Ended> {
        let all = |name| self.fields.iter().filter(move |(other, _)| other == name).map(|(_, value)| value);
        let (mut codings, mut lengths) = (all("transfer-encoding"), all("content-length"));
        match (codings.next(), lengths.next()) {
            (None, None) => Ok(Received::Unsaid),
            (Some(coding), None) if coding == "chunked" && codings.next().is_none() => Ok(Received::Chunked),
            (None, Some(length))
                if lengths.next().is_none() && length.bytes().all(|byte| byte.is_ascii_digit()) =>
            {
                length.parse().map(Received::Length).or_else(|_| Ended::garbled(format!("length {length}")))
            }
            (coding, length) => Ended::garbled(format!("framing by {coding:?} and {length:?}")),
        }
    }
}

/// How a received body is framed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Received {
    Unsaid,
    Length(u64),
    Chunked,
}

/// Reads messages off a connection.
pub(crate) struct Reader {
    stream: Rc<Stream>,
    core: Core,
    inbox: Vec<u8>,
    at: usize,
    /// Longest wait for another byte.
    patience: Duration,
    reading: Reading,
    pauses: u32,
    /// Bytes received so far.
    pub(crate) received: u64,
}

impl Reader {
    pub(crate) fn new(core: &Core, stream: &Rc<Stream>, patience: Duration, reading: Reading) -> Self {
        let (stream, core) = (Rc::clone(stream), core.clone());
        Self { stream, core, inbox: Vec::new(), at: 0, patience, reading, pauses: 0, received: 0 }
    }

    /// How long to pause before the next receive.
    fn pause(&mut self) -> Option<Duration> {
        let (due, pause) = match self.reading {
            Reading::Prompt => return None,
            Reading::Slow { every_bytes, pause, pauses } => {
                let next = every_bytes * (u64::from(self.pauses) + 1);
                (self.pauses < pauses && self.received >= next, pause)
            }
            Reading::Stalls { after_bytes, pause } => {
                (self.pauses == 0 && self.received >= after_bytes, pause)
            }
        };
        self.pauses += u32::from(due);
        due.then_some(pause)
    }

    fn unread(&self) -> &[u8] {
        &self.inbox[self.at..]
    }

    /// Whether bytes are there that nobody has looked at.
    pub(crate) fn has_unread(&self) -> bool {
        self.at < self.inbox.len()
    }

    /// What is there and unread, for a message about it.
    pub(crate) fn unread_text(&self) -> String {
        let unread = self.unread();
        String::from_utf8_lossy(&unread[..unread.len().min(120)]).into_owned()
    }

    /// Waits for at least one more byte.
    pub(crate) async fn fill(&mut self) -> Result<(), Ended> {
        if let Some(pause) = self.pause() {
            self.core.sleep(pause).await;
        }
        self.stream.set_recv_deadline(self.core.now() + self.patience);
        match self.stream.recv().await {
            Ok(Some(chunk)) => {
                self.inbox.drain(..std::mem::take(&mut self.at));
                self.inbox.extend_from_slice(&chunk);
                self.received += chunk.len() as u64;
                Ok(())
            }
            Ok(None) => Err(Ended::Closed),
            Err(error) => Err(Ended::of(&error)),
        }
    }

    /// The next head; `None` when the stream ends before its first byte.
    pub(crate) async fn head(&mut self) -> Result<Option<Head>, Ended> {
        loop {
            if let Some(end) = find(self.unread(), b"\r\n\r\n") {
                let text = String::from_utf8_lossy(&self.unread()[..end]).into_owned();
                self.at += end + 4;
                return Head::parse(&text).map(Some);
            }
            if self.unread().len() > HEAD_BYTES_MAX {
                return Ended::garbled("an endless head");
            }
            match self.fill().await {
                Err(Ended::Closed) if !self.has_unread() => return Ok(None),
                outcome => outcome?,
            }
        }
    }

    async fn line(&mut self) -> Result<String, Ended> {
        loop {
            if let Some(end) = find(self.unread(), b"\r\n") {
                let text = String::from_utf8_lossy(&self.unread()[..end]).into_owned();
                self.at += end + 2;
                return Ok(text);
            }
            self.fill().await?;
        }
    }

    /// A body of `length` bytes.
    pub(crate) async fn data(&mut self, mut length: u64, check: &mut Check) -> Result<(), Ended> {
        while length > 0 {
            if !self.has_unread() {
                self.fill().await?;
            }
            let count = usize::try_from(length).unwrap_or(usize::MAX).min(self.unread().len());
            check.take(&self.inbox[self.at..self.at + count]);
            self.at += count;
            length -= count as u64;
        }
        Ok(())
    }

    /// A chunked body; gives back its trailers.
    pub(crate) async fn chunks(&mut self, check: &mut Check) -> Result<Vec<(String, String)>, Ended> {
        loop {
            let line = self.line().await?;
            let size = line.split(';').next().unwrap_or_default();
            let is_size = !size.is_empty() && size.bytes().all(|byte| byte.is_ascii_hexdigit());
            let Some(size) = u64::from_str_radix(size, 16).ok().filter(|_| is_size) else {
                return Ended::garbled(format!("chunk size {line:?}"));
            };
            if size == 0 {
                break;
            }
            self.data(size, check).await?;
            let end = self.line().await?;
            if !end.is_empty() {
                return Ended::garbled(format!("{end:?} behind a chunk"));
            }
        }
        let mut trailers = String::from("trailers");
        loop {
            let line = self.line().await?;
            if line.is_empty() {
                return Head::parse(&trailers).map(|head| head.fields);
            }
            trailers = trailers + "\r\n" + &line;
        }
    }

    /// A body that ends with the connection; says how that ended.
    pub(crate) async fn rest(&mut self, check: &mut Check) -> Ended {
        loop {
            check.take(&self.inbox[self.at..]);
            self.at = self.inbox.len();
            if let Err(ended) = self.fill().await {
                return ended;
            }
        }
    }
}

fn find(bytes: &[u8], needle: &[u8]) -> Option<usize> {
    bytes.windows(needle.len()).position(|window| window == needle)
}

/// Appends a body and its framing, without the head's field about it. `trailer` is the value of its trailer.
pub(crate) fn append_body(body: &BodyPlan, pattern: Pattern, trailer: &str, out: &mut Vec<u8>) {
    let Framing::Chunked { chunk_bytes_max, extensions, trailer: has_trailer } = body.framing else {
        pattern.append(0, body.bytes as usize, out);
        return;
    };
    let (mut at, mut nth) = (0, 0);
    while at < body.bytes {
        // Sizes that differ: no two chunks begin at the same place of a segment.
        let size = (chunk_bytes_max - nth % chunk_bytes_max.min(7)).min(body.bytes - at);
        out.extend_from_slice(format!("{size:x}").as_bytes());
        if extensions && nth % 3 == 0 {
            out.extend_from_slice(b";a=\"b;c\";d");
        }
        out.extend_from_slice(b"\r\n");
        pattern.append(at, size as usize, out);
        out.extend_from_slice(b"\r\n");
        (at, nth) = (at + size, nth + 1);
    }
    out.extend_from_slice(b"0\r\n");
    if has_trailer {
        out.extend_from_slice(format!("x-trailer: {trailer}\r\n").as_bytes());
    }
    out.extend_from_slice(b"\r\n");
}

/// The field line about a body, if there is one.
pub(crate) fn framing_line(body: &BodyPlan) -> String {
    match body.framing {
        Framing::Nothing | Framing::UntilClose => String::new(),
        Framing::Length => format!("Content-Length: {}\r\n", body.bytes),
        Framing::Chunked { .. } => "Transfer-Encoding: chunked\r\n".to_owned(),
    }
}

/// Writes messages to a connection, no faster than was planned.
pub(crate) struct Writer {
    stream: Rc<Stream>,
    core: Core,
    patience: Duration,
    /// Bytes sent so far.
    pub(crate) sent: u64,
}

impl Writer {
    pub(crate) fn new(core: &Core, stream: &Rc<Stream>, patience: Duration) -> Self {
        Self { stream: Rc::clone(stream), core: core.clone(), patience, sent: 0 }
    }

    /// Sends `bytes` in pieces, with pauses between them, as long as `goes_on`; false when that ended it.
    pub(crate) async fn send(
        &mut self,
        bytes: &[u8],
        pace: &Pace,
        goes_on: impl Fn() -> bool,
    ) -> Result<bool, Ended> {
        let mut rest = bytes;
        for _ in 0..pace.pauses {
            if rest.len() <= pace.piece_bytes {
                break;
            }
            let (piece, behind) = rest.split_at(pace.piece_bytes);
            self.send_now(piece).await?;
            self.core.sleep(pace.pause).await;
            rest = behind;
            if !goes_on() {
                return Ok(false);
            }
        }
        self.send_now(rest).await?;
        Ok(true)
    }

    /// Sends `bytes` at once.
    pub(crate) async fn send_now(&mut self, bytes: &[u8]) -> Result<(), Ended> {
        let mut rest = bytes;
        while !rest.is_empty() {
            match self.stream.try_send(&[io::IoSlice::new(rest)]) {
                Ok(count) => {
                    self.sent += count as u64;
                    rest = &rest[count..];
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    self.stream.set_send_deadline(self.core.now() + self.patience);
                    self.stream.writable().await.map_err(|error| Ended::of(&error))?;
                }
                Err(error) => return Err(Ended::of(&error)),
            }
        }
        Ok(())
    }
}
