//! In which ways can a request fail, and what is each called?
//!
//! Names only: nothing here decides whether something failed.

use std::io;

/// Why a request was not answered rightly. Every failed request counts under exactly one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Failure {
    /// No connection: refused, unreachable, or out of local ports. Nothing was sent.
    Connect,
    /// No connection before the time-out. Nothing was sent.
    ConnectTimeout,
    /// The server does not speak WebSocket with us. No message was sent.
    Handshake,
    /// `tcp --mode connect`: refused, as nobody listens, or nobody accepts.
    Refused,
    /// `tcp --mode connect`: no connection before the time-out, as when the accept queue stays full.
    SetUpTimeout,
    /// `tcp --mode connect`: this machine has no local port left for it.
    NoPort,
    /// `tcp --mode connect`: no connection for any other reason.
    SetUp,
    /// No private connection: a certificate, a version, or an alert. Nothing was sent.
    Tls,
    /// The connection was reset, or broke while sending.
    Reset,
    /// The connection was closed before the first byte of the answer.
    ClosedUnanswered,
    /// The connection was closed within the answer: it is shorter than it said, or a private connection ended without
    /// saying so.
    ClosedEarly,
    /// The head of the answer cannot be read as HTTP/1.
    BadHead,
    /// The length of the answer is contradictory, or its chunks are malformed.
    BadFraming,
    /// Bytes followed the answer that belong to no request.
    Surplus,
    /// A whole answer with a status that was not expected.
    WrongStatus,
    /// A whole answer with the right status that lacks an expected field.
    WrongHeader,
    /// A whole answer with the right status and another body than expected.
    WrongBody,
    /// A whole answer that does not carry the id of its request.
    WrongId,
    /// A message came back that is not the one that was sent.
    WrongEcho,
    /// A WebSocket frame that breaks a rule of RFC 6455.
    BadFrame,
    /// No complete answer before the time-out.
    Timeout,
    /// Sent together with an earlier request after which its connection was of no use any more.
    CutOff,
    /// Bytes came over an idle connection. No request was lost by it.
    Unsolicited,
}

impl Failure {
    /// All kinds, in the order in which they are reported.
    pub(crate) const ALL: [Self; 23] = [
        Self::Connect,
        Self::ConnectTimeout,
        Self::Handshake,
        Self::Refused,
        Self::SetUpTimeout,
        Self::NoPort,
        Self::SetUp,
        Self::Tls,
        Self::Reset,
        Self::ClosedUnanswered,
        Self::ClosedEarly,
        Self::BadHead,
        Self::BadFraming,
        Self::Surplus,
        Self::WrongStatus,
        Self::WrongHeader,
        Self::WrongBody,
        Self::WrongId,
        Self::WrongEcho,
        Self::BadFrame,
        Self::Timeout,
        Self::CutOff,
        Self::Unsolicited,
    ];

    /// The name in reports; scripts read it.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Connect => "connect",
            Self::ConnectTimeout => "connect_timeout",
            Self::Handshake => "handshake",
            Self::Refused => "refused",
            Self::SetUpTimeout => "set_up_timeout",
            Self::NoPort => "no_port",
            Self::SetUp => "set_up",
            Self::Tls => "tls",
            Self::Reset => "reset",
            Self::ClosedUnanswered => "closed_unanswered",
            Self::ClosedEarly => "closed_early",
            Self::BadHead => "bad_head",
            Self::BadFraming => "bad_framing",
            Self::Surplus => "surplus",
            Self::WrongStatus => "wrong_status",
            Self::WrongHeader => "wrong_header",
            Self::WrongBody => "wrong_body",
            Self::WrongId => "wrong_id",
            Self::WrongEcho => "wrong_echo",
            Self::BadFrame => "bad_frame",
            Self::Timeout => "timeout",
            Self::CutOff => "cut_off",
            Self::Unsolicited => "unsolicited",
        }
    }

    /// Whether it was the end of a request that had been sent.
    pub(crate) const fn was_sent(self) -> bool {
        !matches!(
            self,
            Self::Connect | Self::ConnectTimeout | Self::Tls | Self::Handshake | Self::Unsolicited
        )
    }

    /// What an error of connecting means.
    pub(crate) fn of_connect(error: &io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::TimedOut => Self::ConnectTimeout,
            _ => Self::Connect,
        }
    }

    /// What an error of connecting means when the connection itself is what was asked for.
    pub(crate) fn of_set_up(error: &io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::ConnectionRefused | io::ErrorKind::ConnectionReset => Self::Refused,
            io::ErrorKind::TimedOut => Self::SetUpTimeout,
            io::ErrorKind::AddrNotAvailable => Self::NoPort,
            _ => Self::SetUp,
        }
    }

    /// What an error of sending or receiving means.
    pub(crate) fn of_exchange(error: &io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::TimedOut => Self::Timeout,
            io::ErrorKind::UnexpectedEof => Self::ClosedEarly,
            _ => Self::Reset,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_is_listed_at_its_own_place() {
        for (index, kind) in Failure::ALL.into_iter().enumerate() {
            assert_eq!(kind as usize, index, "{}", kind.name());
        }
    }
}
