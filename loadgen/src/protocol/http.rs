//! How is one HTTP/1.1 exchange held, and was its answer right?
//!
//! Never allocates per request, and never reads a byte of an answer twice unless a head came in parts.

pub(crate) mod response;

use std::cell::RefCell;
use std::io::{self, IoSlice};
use std::rc::Rc;
use std::sync::Arc;

use proto::http1::head::Method;
use runtime::Stream;

use crate::counts::Counts;
use crate::protocol::http::response::{Answer, Fault, Heads, Progress, Reader};
use crate::protocol::{Flaw, Verdict};

/// What is asked, and what counts as right.
#[derive(Debug)]
pub(crate) struct Http {
    /// The request, head and body.
    pub(crate) request: Arc<[u8]>,
    /// Its method, which decides whether answers have a body.
    pub(crate) method: Method,
    /// The statuses that count as right.
    pub(crate) expected: Arc<[u16]>,
}

/// One thread's requests, and its room to read answers.
pub(crate) struct Speaker {
    request: Arc<[u8]>,
    expected: Arc<[u16]>,
    heads: RefCell<Heads>,
    counts: Arc<Counts>,
}

impl Speaker {
    pub(crate) fn new(http: &Http, counts: &Arc<Counts>) -> Self {
        Self {
            request: http.request.clone(),
            expected: http.expected.clone(),
            heads: RefCell::new(Heads::new(http.method)),
            counts: counts.clone(),
        }
    }
}

/// The exchanges of one connection.
pub(crate) struct Conversation {
    speaker: Rc<Speaker>,
}

impl Conversation {
    pub(crate) fn new(speaker: &Rc<Speaker>) -> Self {
        Self { speaker: speaker.clone() }
    }

    pub(crate) async fn send(&mut self, stream: &Stream) -> io::Result<()> {
        let request = &*self.speaker.request;
        let sent = match stream.try_send(&[IoSlice::new(request)]) {
            Ok(sent) => sent,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => 0,
            Err(error) => return Err(error),
        };
        if sent < request.len() {
            stream.send_all(&request[sent..]).await?;
        }
        self.speaker.counts.bytes_sent.add(request.len() as u64);
        Ok(())
    }

    pub(crate) async fn receive(&mut self, stream: &Stream) -> Verdict {
        match self.read_answer(stream).await {
            Ok(answer) => self.judge(answer),
            Err(flaw) => Verdict::broken(flaw),
        }
    }

    async fn read_answer(&mut self, stream: &Stream) -> Result<Answer, Flaw> {
        let Speaker { heads, counts, .. } = &*self.speaker;
        let mut reader = Reader::new();
        while let Some(mut chunk) = stream.recv().await? {
            let mut received = chunk.len();
            loop {
                counts.bytes_received.add(received as u64);
                match reader.feed(&chunk, &mut heads.borrow_mut())? {
                    Progress::Whole { consumed, answer } if consumed == chunk.len() => return Ok(answer),
                    Progress::Whole { .. } => return Err(Fault::SURPLUS.into()),
                    Progress::More { consumed } => chunk.consume(consumed),
                }
                if chunk.is_empty() {
                    break;
                }
                // A head or a chunk's size line came in parts.
                let begun = chunk.to_vec();
                drop(chunk);
                let Some(whole) = stream.recv_behind(&begun).await? else { return Ok(reader.end()?) };
                chunk = whole;
                received = chunk.len() - begun.len();
            }
        }
        Ok(reader.end()?)
    }

    fn judge(&self, answer: Answer) -> Verdict {
        let Speaker { expected, counts, .. } = &*self.speaker;
        counts.status(answer.status);
        let is_right = expected.contains(&answer.status);
        Verdict { flaw: (!is_right).then_some(Flaw::Status(answer.status)), persists: answer.persists }
    }
}
