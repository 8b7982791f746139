//! What is one exchange, in each protocol that can be driven?
//!
//! Never decides when a request is sent, never counts what became of it, and never opens or closes a connection.

pub(crate) mod http;

use std::fmt;
use std::io;
use std::rc::Rc;
use std::sync::Arc;

use crate::counts::Counts;
use crate::failure::Failure;
use crate::protocol::http::Http;
use crate::protocol::http::response::Fault;
use crate::target::Field;
use crate::transport::Transport;

/// What is said on every connection of a run.
#[derive(Debug)]
pub(crate) enum Protocol {
    /// HTTP/1.1 requests and their answers.
    Http(Arc<Http>),
}

impl Protocol {
    /// What the connections of one thread share.
    pub(crate) fn speaker(&self, seat: Seat, counts: &Arc<Counts>) -> Speaker {
        match self {
            Self::Http(http) => Speaker::Http(Rc::new(http::Speaker::new(http, seat, counts))),
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
}

impl Speaker {
    /// Begins to talk over a connection that was just opened.
    pub(crate) fn converse(&self) -> Conversation {
        match self {
            Self::Http(speaker) => Conversation::Http(http::Conversation::new(speaker)),
        }
    }
}

/// What has been said over one connection, as far as it matters for what follows.
pub(crate) enum Conversation {
    Http(http::Conversation),
}

impl Conversation {
    /// Puts one more request behind those that the next [`Self::send`] sends.
    pub(crate) fn prepare(&mut self) -> Ticket {
        match self {
            Self::Http(conversation) => conversation.prepare(),
        }
    }

    /// Bytes of the requests that were prepared and not sent.
    pub(crate) fn bytes_prepared(&self) -> usize {
        match self {
            Self::Http(conversation) => conversation.bytes_prepared(),
        }
    }

    /// Sends what was prepared.
    ///
    /// # Errors
    /// The connection is of no use any more.
    pub(crate) async fn send(&mut self, stream: &Transport) -> io::Result<()> {
        match self {
            Self::Http(conversation) => conversation.send(stream).await,
        }
    }

    /// Receives the answer to the request of this ticket, which must be the earliest that has none.
    pub(crate) async fn receive(&mut self, stream: &Transport, ticket: Ticket) -> Verdict {
        match self {
            Self::Http(conversation) => conversation.receive(stream, ticket).await,
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
        }
    }
}

impl fmt::Display for Flaw {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Io(error) => error.fmt(formatter),
            Self::Response(fault) => formatter.write_str(fault.text),
            Self::Status(status) => write!(formatter, "status {status}"),
            Self::Field(fields, index) => match fields.get(*index) {
                Some(Field { name, value }) => write!(formatter, "no '{name}: {value}' in the answer"),
                None => formatter.write_str("a field is missing"),
            },
            Self::Body => formatter.write_str("another body than expected"),
            Self::Id => formatter.write_str("the answer does not carry its request's id"),
            Self::CutOff => formatter.write_str("the connection ended with an earlier request"),
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
