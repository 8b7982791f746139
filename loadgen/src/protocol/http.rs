//! How is one HTTP/1.1 exchange held, and was its answer right?
//!
//! Never allocates per request, and never reads a byte of an answer twice unless a head came in parts.

pub(crate) mod expected;
pub(crate) mod ids;
pub(crate) mod request;
pub(crate) mod request_file;
pub(crate) mod response;
pub(crate) mod template;

use std::cell::{Cell, RefCell};
use std::io::{self, IoSlice};
use std::rc::Rc;
use std::sync::Arc;

use runtime::Chunk;

use crate::connection::transport::Transport;
use crate::counts::Counts;
use crate::protocol::http::expected::Hasher;
use crate::protocol::http::ids::RunId;
use crate::protocol::http::request::Request;
use crate::protocol::http::response::{Answer, Fault, Fields, Heads, Progress, Question, Reader};
use crate::protocol::http::template::Values;
use crate::protocol::{Flaw, Seat, Ticket, Verdict};
use crate::schedule::Dice;

/// What is asked, and what counts as right.
#[derive(Debug)]
pub(crate) struct Http {
    pub(crate) requests: Vec<Request>,
    pub(crate) choice: Choice,
    /// Whether each request carries an id of this run, which its answer must repeat.
    pub(crate) run: Option<RunId>,
}

/// Which of the requests is next?
#[derive(Debug)]
pub(crate) enum Choice {
    /// There is one.
    Only,
    /// The one whose place is the number of the request, again and again.
    InOrder,
    /// By dice: each as often as its share of the last of these running sums of weights.
    Weighted(Vec<u64>),
}

impl Choice {
    fn choose(&self, number: u64, requests: usize, dice: &mut Dice) -> usize {
        match self {
            Self::Only => 0,
            Self::InOrder => (number % requests as u64) as usize,
            Self::Weighted(sums) => {
                let roll = dice.up_to(sums.last().map_or(0, |sum| sum - 1));
                sums.partition_point(|sum| *sum <= roll)
            }
        }
    }
}

/// One thread's requests, and its room to read answers.
pub(crate) struct Speaker {
    http: Arc<Http>,
    seat: Seat,
    counts: Arc<Counts>,
    dice: RefCell<Dice>,
    requests: Cell<u64>,
    connections: Cell<u64>,
    heads: RefCell<Heads>,
    /// A body that is put together before its length can be written.
    body: RefCell<Vec<u8>>,
    /// Buffers of connections that have ended: at most as many as were ever open at a time.
    spare: RefCell<Vec<Vec<u8>>>,
}

/// Tells the dice of requests from those of arrivals, which use the threads' own numbers.
const DICE_STREAM: u64 = 1 << 32;

impl Speaker {
    pub(crate) fn new(http: &Arc<Http>, seat: Seat, counts: &Arc<Counts>) -> Self {
        Self {
            http: http.clone(),
            seat,
            counts: counts.clone(),
            dice: RefCell::new(Dice::new(seat.seed, DICE_STREAM + seat.index)),
            requests: Cell::new(0),
            connections: Cell::new(0),
            heads: RefCell::new(Heads::new()),
            body: RefCell::default(),
            spare: RefCell::default(),
        }
    }

    /// The next of a row of numbers that no other thread has.
    fn number(&self, given: &Cell<u64>) -> u64 {
        let number = given.get();
        given.set(number + 1);
        self.seat.index + number * self.seat.threads
    }
}

/// The exchanges of one connection.
pub(crate) struct Conversation {
    speaker: Rc<Speaker>,
    number: u64,
    outgoing: Outgoing,
    /// Requests put together for the next send.
    put_together: Vec<u8>,
    /// Requests without an answer.
    awaited: usize,
    /// Received behind the last answer: the begin of the next.
    rest: Option<Chunk>,
    hasher: Hasher,
}

/// What the next send sends.
#[derive(Clone, Copy)]
enum Outgoing {
    Nothing,
    /// This request as it lies, which needs no copy.
    Fixed(usize),
    PutTogether,
}

impl Conversation {
    pub(crate) fn new(speaker: &Rc<Speaker>) -> Self {
        Self {
            number: speaker.number(&speaker.connections),
            outgoing: Outgoing::Nothing,
            put_together: speaker.spare.borrow_mut().pop().unwrap_or_default(),
            awaited: 0,
            rest: None,
            hasher: None,
            speaker: speaker.clone(),
        }
    }

    pub(crate) fn prepare(&mut self) -> Ticket {
        let Speaker { http, dice, body, requests, .. } = &*self.speaker;
        let number = self.speaker.number(requests);
        let dice = &mut dice.borrow_mut();
        let index = http.choice.choose(number, http.requests.len(), dice);
        let request = &http.requests[index];
        self.awaited += 1;
        self.outgoing = match self.outgoing {
            Outgoing::Nothing if request.fixed().is_some() => Outgoing::Fixed(index),
            outgoing => {
                let out = &mut self.put_together;
                let mut values = Values { seq: number, connection: self.number, body_bytes: 0, dice };
                if let Outgoing::Fixed(first) = outgoing {
                    http.requests[first].render(&mut values, &mut body.borrow_mut(), out);
                }
                request.render(&mut values, &mut body.borrow_mut(), out);
                Outgoing::PutTogether
            }
        };
        Ticket { request: index as u32, number, account: request.account }
    }

    pub(crate) fn bytes_prepared(&self) -> usize {
        self.outgoing().len()
    }

    fn outgoing(&self) -> &[u8] {
        match self.outgoing {
            Outgoing::Nothing => &[],
            Outgoing::Fixed(index) => self.speaker.http.requests[index].fixed().unwrap_or_default(),
            Outgoing::PutTogether => &self.put_together,
        }
    }

    pub(crate) async fn send(&mut self, stream: &Transport) -> io::Result<()> {
        let bytes = self.outgoing();
        let sent = match stream.try_send(&[IoSlice::new(bytes)]) {
            Ok(sent) => sent,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => 0,
            Err(error) => return Err(error),
        };
        if sent < bytes.len() {
            stream.send_all(&bytes[sent..]).await?;
        }
        self.speaker.counts.bytes_sent.add(bytes.len() as u64);
        self.outgoing = Outgoing::Nothing;
        self.put_together.clear();
        Ok(())
    }

    pub(crate) async fn receive(&mut self, stream: &Transport, ticket: Ticket) -> Verdict {
        let Self { speaker, awaited, rest, hasher, .. } = self;
        *awaited = awaited.saturating_sub(1);
        let request = &speaker.http.requests[ticket.request as usize];
        let id = speaker.http.run.map(|run| (run, ticket.number));
        let mut reader = Reader::new(Question::new(request, id), hasher);
        match speaker.read_answer(stream, &mut reader, rest).await {
            Ok(_) if *awaited == 0 && rest.is_some() => Verdict::broken(Fault::SURPLUS),
            Ok(answer) => {
                let is_body_right = reader.body_is_right();
                speaker.judge(answer, is_body_right, request)
            }
            Err(flaw) => Verdict::broken(flaw),
        }
    }
}

/// What an error of receiving means. A private connection that ended unannounced is an end, except that an answer which it
/// would make whole may lack its rest.
fn flaw_of(error: io::Error, reader: &Reader<'_>) -> Flaw {
    match error.kind() {
        io::ErrorKind::UnexpectedEof => reader.end().err().map_or(Flaw::Io(error), Flaw::from),
        _ => Flaw::Io(error),
    }
}

impl Drop for Conversation {
    fn drop(&mut self) {
        let mut buffer = std::mem::take(&mut self.put_together);
        if buffer.capacity() > 0 {
            buffer.clear();
            self.speaker.spare.borrow_mut().push(buffer);
        }
    }
}

impl Speaker {
    /// Reads one answer, from `rest` on if something came behind the last; what comes behind this one becomes `rest`.
    async fn read_answer(
        &self,
        stream: &Transport,
        reader: &mut Reader<'_>,
        rest: &mut Option<Chunk>,
    ) -> Result<Answer, Flaw> {
        let Self { heads, counts, .. } = self;
        let mut begun = rest.take();
        loop {
            let mut chunk = match begun.take() {
                Some(chunk) => chunk,
                None => match stream.recv().await.map_err(|error| flaw_of(error, reader))? {
                    Some(chunk) => {
                        counts.bytes_received.add(chunk.len() as u64);
                        chunk
                    }
                    None => return Ok(reader.end()?),
                },
            };
            match reader.feed(&chunk, &mut heads.borrow_mut())? {
                Progress::Whole { consumed, answer } => {
                    if consumed < chunk.len() {
                        chunk.consume(consumed);
                        *rest = Some(chunk);
                    }
                    return Ok(answer);
                }
                Progress::More { consumed } => chunk.consume(consumed),
            }
            if !chunk.is_empty() {
                // A head or a chunk's size line came in parts.
                let part = chunk.to_vec();
                drop(chunk);
                let received = stream.recv_behind(&part).await.map_err(|error| flaw_of(error, reader))?;
                let Some(whole) = received else { return Ok(reader.end()?) };
                counts.bytes_received.add((whole.len() - part.len()) as u64);
                begun = Some(whole);
            }
        }
    }

    fn judge(&self, answer: Answer, is_body_right: bool, request: &Request) -> Verdict {
        self.counts.status(answer.status);
        let expected = &request.expected;
        let flaw = match answer.fields {
            _ if !expected.statuses.contains(&answer.status) => Some(Flaw::Status(answer.status)),
            Fields::WrongId => Some(Flaw::Id),
            Fields::Missing(index) => Some(Flaw::Field(expected.fields.clone(), index)),
            Fields::Right if !is_body_right => Some(Flaw::Body),
            Fields::Right => None,
        };
        Verdict { flaw, persists: answer.persists }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_chosen_by_weight_or_in_order() {
        let mut dice = Dice::new(9, 0);
        let weighted = Choice::Weighted(vec![1, 1, 4]);
        let mut chosen = [0; 3];
        (0..4_000).for_each(|number| chosen[weighted.choose(number, 3, &mut dice)] += 1);
        // Four standard deviations around 1,000; the running sum of the second does not grow, so it weighs nothing.
        assert!(chosen[1] == 0 && (890..1_110).contains(&chosen[0]), "{chosen:?}");
        let in_order: Vec<usize> =
            (0..5).map(|number| Choice::InOrder.choose(number, 3, &mut dice)).collect();
        assert_eq!(in_order, [0, 1, 2, 0, 1]);
    }

    #[test]
    fn threads_deal_numbers_out_without_gaps_or_doubles() {
        let http = Arc::new(Http { requests: Vec::new(), choice: Choice::Only, run: None });
        let mut numbers: Vec<u64> = (0..3)
            .flat_map(|index| {
                let speaker = Speaker::new(&http, Seat { index, threads: 3, seed: 1 }, &Arc::default());
                (0..4).map(|_| speaker.number(&speaker.requests)).collect::<Vec<_>>()
            })
            .collect();
        numbers.sort_unstable();
        assert_eq!(numbers, (0..12).collect::<Vec<_>>());
    }
}
