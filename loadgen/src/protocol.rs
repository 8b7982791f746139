//! What is one exchange, in each protocol that can be driven?
//!
//! Never decides when a request is sent, never counts what became of it, and never opens or closes a connection.

pub(crate) mod http;
pub(crate) mod message;
pub(crate) mod one_way;
pub(crate) mod ping_pong;
pub(crate) mod websocket;

mod duplex;

use std::fmt;
use std::io;
use std::rc::Rc;
use std::sync::Arc;

use runtime::{Chunk, Core};

use crate::client::end::End;
use crate::connection::transport::Transport;
use crate::counts::Counts;
use crate::failure::Failure;
use crate::protocol::http::Http;
use crate::protocol::http::response::Fault;
use crate::protocol::one_way::OneWay;
use crate::protocol::ping_pong::PingPong;
use crate::protocol::websocket::WebSocket;
use crate::target::Field;
use crate::websocket::handshake::Refusal;

/// What is said on every connection of a run.
#[derive(Debug)]
pub(crate) enum Protocol {
    /// HTTP/1.1 requests and their answers.
    Http(Arc<Http>),
    /// Messages over TCP that come back.
    PingPong(PingPong),
    /// Messages over WebSocket that come back.
    WebSocket(Arc<WebSocket>),
    /// Bytes over TCP in one direction, for as long as the run sends.
    OneWay(OneWay),
    /// Nothing: the connection itself is what is asked for.
    SetUp,
}

impl Protocol {
    /// What is counted as a request.
    pub(crate) fn unit(&self) -> Unit {
        match self {
            Self::Http(_) => Unit::Requests,
            Self::PingPong(_) | Self::WebSocket(_) => Unit::Messages,
            Self::OneWay(_) => Unit::Streams,
            Self::SetUp => Unit::Connections,
        }
    }

    /// What the connections of one thread share.
    pub(crate) fn speaker(&self, core: &Core, seat: Seat, counts: &Arc<Counts>, end: &Rc<End>) -> Speaker {
        match self {
            Self::Http(http) => Speaker::Http(Rc::new(http::Speaker::new(http, seat, counts))),
            Self::PingPong(ping_pong) => {
                Speaker::PingPong(Rc::new(ping_pong::Speaker::new(ping_pong, core, counts)))
            }
            Self::WebSocket(websocket) => {
                Speaker::WebSocket(Rc::new(websocket::Speaker::new(websocket, core, counts)))
            }
            Self::OneWay(one_way) => {
                Speaker::OneWay(Rc::new(one_way::Speaker::new(*one_way, core, counts, end)))
            }
            Self::SetUp => Speaker::Silent,
        }
    }
}

/// What a run sends and gets answered, one by one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unit {
    /// HTTP requests.
    Requests,
    /// Messages that come back.
    Messages,
    /// Connections that are opened and closed.
    Connections,
    /// Connections over which bytes go one way until the end: nothing about them has a latency.
    Streams,
}

impl Unit {
    /// The name in reports.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Requests => "requests",
            Self::Messages => "messages",
            Self::Connections => "connections",
            Self::Streams => "streams",
        }
    }

    /// What is shown per second: how many were completed, but for streams, whose bytes are what matters.
    pub(crate) fn counted(self, counts: &Counts) -> u64 {
        match self {
            Self::Streams => counts.bytes_sent.value() + counts.bytes_received.value(),
            Self::Requests | Self::Messages | Self::Connections => counts.completed.value(),
        }
    }
}

/// Which of a run's threads speaks.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Seat {
    pub(crate) index: u64,
    pub(crate) threads: u64,
    /// Where all dice of the run start.
    pub(crate) seed: u64,
}

/// One thread's part in a protocol.
pub(crate) enum Speaker {
    Http(Rc<http::Speaker>),
    PingPong(Rc<ping_pong::Speaker>),
    WebSocket(Rc<websocket::Speaker>),
    OneWay(Rc<one_way::Speaker>),
    /// Nothing is said.
    Silent,
}

impl Speaker {
    /// Begins to talk over a connection that was just opened.
    pub(crate) fn converse(&self) -> Conversation {
        match self {
            Self::Http(speaker) => Conversation::Http(http::Conversation::new(speaker)),
            Self::PingPong(speaker) => Conversation::PingPong(ping_pong::Conversation::new(speaker)),
            Self::WebSocket(speaker) => {
                Conversation::WebSocket(Box::new(websocket::Conversation::new(speaker)))
            }
            Self::OneWay(speaker) => Conversation::OneWay(one_way::Conversation::new(speaker)),
            Self::Silent => Conversation::Silent,
        }
    }
}

/// What has been said over one connection, as far as it matters for what follows.
pub(crate) enum Conversation {
    Http(http::Conversation),
    PingPong(ping_pong::Conversation),
    WebSocket(Box<websocket::Conversation>),
    OneWay(one_way::Conversation),
    /// Nothing is said, which is answered by nothing.
    Silent,
}

impl Conversation {
    /// Puts one more request behind those that the next [`Self::send`] sends.
    pub(crate) fn prepare(&mut self) -> Ticket {
        match self {
            Self::Http(conversation) => conversation.prepare(),
            Self::PingPong(_) | Self::WebSocket(_) | Self::OneWay(_) | Self::Silent => Ticket::default(),
        }
    }

    /// Bytes of the requests that were prepared and not sent.
    pub(crate) fn bytes_prepared(&self) -> usize {
        match self {
            Self::Http(conversation) => conversation.bytes_prepared(),
            Self::PingPong(_) | Self::WebSocket(_) | Self::OneWay(_) | Self::Silent => 0,
        }
    }

    /// Agrees with the server on what will be said, where that must come first.
    ///
    /// # Errors
    /// There is no such agreement.
    pub(crate) async fn open(&mut self, stream: &Transport) -> Result<(), Flaw> {
        match self {
            Self::Http(_) | Self::PingPong(_) | Self::OneWay(_) | Self::Silent => Ok(()),
            Self::WebSocket(conversation) => conversation.open(stream).await,
        }
    }

    /// Takes in what came while nothing was awaited; says whether the connection can go on.
    ///
    /// # Errors
    /// It was nothing that a server may say unasked.
    pub(crate) fn hear_idle(&mut self, stream: &Transport, chunk: &Chunk) -> Result<bool, Flaw> {
        match self {
            Self::Http(_) | Self::PingPong(_) | Self::OneWay(_) | Self::Silent => {
                Err(Flaw::Unsolicited(chunk.len()))
            }
            Self::WebSocket(conversation) => conversation.hear_idle(stream, chunk),
        }
    }

    /// Takes leave, where the protocol has words for it.
    pub(crate) async fn close(&mut self, stream: &Transport) {
        match self {
            Self::Http(_) | Self::PingPong(_) | Self::OneWay(_) | Self::Silent => {}
            // Every answer is there already: a server that takes no leave has kept none back.
            Self::WebSocket(conversation) => drop(conversation.close(stream).await),
        }
    }

    /// Sends what was prepared.
    ///
    /// # Errors
    /// The connection is of no use any more.
    pub(crate) async fn send(&mut self, stream: &Transport) -> io::Result<()> {
        match self {
            Self::Http(conversation) => conversation.send(stream).await,
            Self::PingPong(conversation) => conversation.send(stream),
            Self::WebSocket(conversation) => conversation.send(stream),
            // It goes on for as long as the answer is awaited.
            Self::OneWay(_) | Self::Silent => Ok(()),
        }
    }

    /// Receives the answer to the request of this ticket, which must be the earliest that has none.
    pub(crate) async fn receive(&mut self, stream: &Transport, ticket: Ticket) -> Verdict {
        match self {
            Self::Http(conversation) => conversation.receive(stream, ticket).await,
            Self::PingPong(conversation) => conversation.receive(stream).await,
            Self::WebSocket(conversation) => conversation.receive(stream).await,
            Self::OneWay(conversation) => conversation.receive(stream).await,
            Self::Silent => Verdict { flaw: None, persists: false },
        }
    }
}

/// Which request was sent.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Ticket {
    /// Which of those the protocol has to choose from.
    pub(crate) request: u32,
    /// Which of the named accounts it counts under.
    pub(crate) account: u16,
    /// Its number, unique over all threads of a run.
    pub(crate) number: u64,
}

/// What became of one request.
pub(crate) struct Verdict {
    /// What was wrong; `None` when it was answered as expected.
    pub(crate) flaw: Option<Flaw>,
    /// Whether the connection serves another request.
    pub(crate) persists: bool,
}

impl Verdict {
    /// The connection failed and took the request with it.
    pub(crate) fn broken(flaw: impl Into<Flaw>) -> Self {
        Self { flaw: Some(flaw.into()), persists: false }
    }
}

/// Why an exchange failed.
#[derive(Debug)]
pub(crate) enum Flaw {
    Io(io::Error),
    Response(Fault),
    /// A whole answer with this status, which was not expected.
    Status(u16),
    /// A whole answer without this one of the fields that were expected.
    Field(Arc<[Field]>, usize),
    /// A whole answer with another body than expected.
    Body,
    /// A whole answer that does not carry its request's id.
    Id,
    /// The connection was of no use any more after the answer to an earlier request, or its failure.
    CutOff,
    /// The server took its leave, with this code, while a message was awaited, or `within` it.
    Closed {
        code: Option<u16>,
        within: bool,
    },
    /// So many bytes came that nobody had asked for.
    Unsolicited(usize),
    /// The server does not speak WebSocket with us.
    Handshake(Refusal),
    /// The connection that was asked for was not set up.
    SetUp(io::Error),
}

impl Flaw {
    /// What it counts as.
    pub(crate) fn kind(&self) -> Failure {
        match self {
            Self::Io(error) => Failure::of_exchange(error),
            Self::Response(fault) => fault.kind,
            Self::Status(_) => Failure::WrongStatus,
            Self::Field(..) => Failure::WrongHeader,
            Self::Body => Failure::WrongBody,
            Self::Id => Failure::WrongId,
            Self::CutOff => Failure::CutOff,
            Self::Closed { within: true, .. } => Failure::ClosedEarly,
            Self::Closed { within: false, .. } => Failure::ClosedUnanswered,
            Self::Unsolicited(_) => Failure::Unsolicited,
            Self::Handshake(_) => Failure::Handshake,
            Self::SetUp(error) => Failure::of_set_up(error),
        }
    }
}

impl fmt::Display for Flaw {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Io(error) | Self::SetUp(error) => error.fmt(formatter),
            Self::Response(fault) => formatter.write_str(fault.text),
            Self::Status(status) => write!(formatter, "status {status}"),
            Self::Field(fields, index) => match fields.get(*index) {
                Some(Field { name, value }) => write!(formatter, "no '{name}: {value}' in the answer"),
                None => formatter.write_str("a field is missing"),
            },
            Self::Body => formatter.write_str("another body than expected"),
            Self::Id => formatter.write_str("the answer does not carry its request's id"),
            Self::CutOff => formatter.write_str("the connection ended with an earlier request"),
            Self::Closed { code: Some(code), .. } => {
                write!(formatter, "closed by the server with code {code}")
            }
            Self::Closed { code: None, .. } => formatter.write_str("closed by the server without a code"),
            Self::Unsolicited(bytes) => write!(formatter, "{bytes} bytes on an idle connection"),
            Self::Handshake(refusal) => refusal.fmt(formatter),
        }
    }
}

impl From<io::Error> for Flaw {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

impl From<Fault> for Flaw {
    fn from(fault: Fault) -> Self {
        Self::Response(fault)
    }
}
