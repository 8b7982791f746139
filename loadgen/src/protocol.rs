//! What is one exchange, in each protocol that can be driven?
//!
//! Never decides when a request is sent, never counts what became of it, and never opens or closes a connection.

pub(crate) mod http;

use std::fmt;
use std::io;
use std::rc::Rc;
use std::sync::Arc;

use runtime::Stream;

use crate::counts::Counts;
use crate::failure::Failure;
use crate::protocol::http::Http;
use crate::protocol::http::response::Fault;

/// What is said on every connection of a run.
#[derive(Debug)]
pub(crate) enum Protocol {
    /// HTTP/1.1 requests and their answers.
    Http(Http),
}

impl Protocol {
    /// What the connections of one thread share.
    pub(crate) fn speaker(self: &Arc<Self>, counts: &Arc<Counts>) -> Speaker {
        match self.as_ref() {
            Self::Http(http) => Speaker::Http(Rc::new(http::Speaker::new(http, counts))),
        }
    }
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
    /// Sends one request.
    ///
    /// # Errors
    /// The connection is of no use any more.
    pub(crate) async fn send(&mut self, stream: &Stream) -> io::Result<()> {
        match self {
            Self::Http(conversation) => conversation.send(stream).await,
        }
    }

    /// Receives the answer to the earliest request that has none.
    pub(crate) async fn receive(&mut self, stream: &Stream) -> Verdict {
        match self {
            Self::Http(conversation) => conversation.receive(stream).await,
        }
    }
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
}

impl Flaw {
    /// What it counts as.
    pub(crate) fn kind(&self) -> Failure {
        match self {
            Self::Io(error) => Failure::of_exchange(error),
            Self::Response(fault) => fault.kind,
            Self::Status(_) => Failure::WrongStatus,
        }
    }
}

impl fmt::Display for Flaw {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Io(error) => error.fmt(formatter),
            Self::Response(fault) => formatter.write_str(fault.text),
            Self::Status(status) => write!(formatter, "status {status}"),
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
