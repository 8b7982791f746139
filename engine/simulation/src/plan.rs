//! What will everybody do? One scenario, laid out in full before anything runs.
//!
//! Never changed while it is played: whoever plays a part reads it, and the oracle judges by it.

use std::fmt;
use std::net::SocketAddr;
use std::ops::Range;
use std::time::Duration;

use crate::hostile::Hostile;

/// Requests of one connection at most; ids of a connection begin at a multiple of it.
pub(crate) const REQUESTS_PER_CONNECTION_MAX: u32 = 16;

/// Number of a request in its scenario: what its target, its fields and its answer carry.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct RequestId(pub(crate) u32);

impl RequestId {
    pub(crate) fn new(connection: usize, nth: usize) -> Self {
        Self(connection as u32 * REQUESTS_PER_CONNECTION_MAX + nth as u32)
    }

    pub(crate) fn connection(self) -> usize {
        (self.0 / REQUESTS_PER_CONNECTION_MAX) as usize
    }

    pub(crate) fn nth(self) -> usize {
        (self.0 % REQUESTS_PER_CONNECTION_MAX) as usize
    }
}

impl fmt::Display for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:04x}", self.0)
    }
}

impl fmt::Debug for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Who misbehaves in a scenario.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Character {
    /// Nobody: every request must be answered by its origin, and every counter is exact.
    Clean,
    /// Clients and origins; the network only splits and delays.
    Rude,
    /// The network; clients and origins keep to the rules.
    Stormy,
    /// All of them.
    Wild,
}

impl Character {
    pub(crate) fn has_rude_peers(self) -> bool {
        matches!(self, Self::Rude | Self::Wild)
    }

    pub(crate) fn has_network_faults(self) -> bool {
        matches!(self, Self::Stormy | Self::Wild)
    }
}

/// What the network is like.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Network {
    /// Everything arrives soon and as it was sent.
    Calm,
    /// Nothing is lost, but nothing comes as it was sent.
    Jittery,
    /// Every fault at once.
    Rough,
    /// Some faults, more often.
    Swarm,
}

/// Everything that happens from one seed, apart from what the network does.
#[derive(Debug)]
pub(crate) struct Scenario {
    pub(crate) seed: u64,
    pub(crate) character: Character,
    pub(crate) network: Network,
    /// Cores of the engine.
    pub(crate) cores: usize,
    /// The configuration as an operator would write it.
    pub(crate) config: String,
    pub(crate) times: Times,
    pub(crate) listeners: Vec<SocketAddr>,
    pub(crate) upstreams: Vec<UpstreamPlan>,
    pub(crate) connections: Vec<ConnectionPlan>,
    /// Number of the first connection that comes after the storm, when nothing fails any more.
    pub(crate) probes_from: usize,
    /// What the channel that answers by itself says.
    pub(crate) respond: Respond,
    /// Deadline of a whole exchange, in every channel that forwards.
    pub(crate) total_timeout: Option<Duration>,
    /// Bounds of the engine's that are tight enough to be met.
    pub(crate) limits: Limits,
    /// Descriptors that the engine may have open.
    pub(crate) descriptors_max: usize,
}

/// Bounds written into the configuration.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    /// Bytes of a request body, by any channel that forwards.
    pub(crate) body_bytes: Option<u64>,
    /// Requests of one connection.
    pub(crate) requests: Option<usize>,
}

/// The deadlines written into the configuration, the same everywhere.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Times {
    pub(crate) head: Duration,
    pub(crate) idle: Duration,
    pub(crate) body: Duration,
    pub(crate) send: Duration,
    pub(crate) connect: Duration,
    pub(crate) first_byte: Duration,
    pub(crate) upstream_body: Duration,
    pub(crate) upstream_send: Duration,
    pub(crate) upstream_idle: Duration,
}

impl Times {
    /// Longest silence that a client can meet before the engine has to answer or to close: every wait of an exchange
    /// once, a refused endpoint and a repeated request included.
    pub(crate) fn silence_max(&self) -> Duration {
        self.head
            + self.idle
            + self.body
            + self.send
            + self.connect * 4
            + self.first_byte * 2
            + self.upstream_body * 2
            + self.upstream_send * 2
    }
}

#[derive(Debug)]
pub(crate) struct UpstreamPlan {
    /// Number of its first endpoint among those of all upstreams.
    pub(crate) first: usize,
    pub(crate) endpoints: Vec<SocketAddr>,
}

impl UpstreamPlan {
    pub(crate) fn endpoint_numbers(&self) -> Range<usize> {
        self.first..self.first + self.endpoints.len()
    }
}

#[derive(Debug)]
pub(crate) struct Respond {
    pub(crate) status: u16,
    pub(crate) body: String,
}

/// One connection of a client.
#[derive(Debug)]
pub(crate) struct ConnectionPlan {
    /// Index of the listener.
    pub(crate) listener: usize,
    pub(crate) starts_after: Duration,
    /// Requests that may be under way at once; more than one is pipelining.
    pub(crate) window: usize,
    pub(crate) requests: Vec<RequestPlan>,
    pub(crate) reading: Reading,
    pub(crate) end: ClientEnd,
}

/// How a client reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reading {
    Prompt,
    /// Pauses after so many bytes, so often.
    Slow {
        every_bytes: u64,
        pause: Duration,
        pauses: u32,
    },
    /// Stops after so many bytes for longer than the engine waits.
    Stalls {
        after_bytes: u64,
        pause: Duration,
    },
}

/// What a client does once its requests are sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ClientEnd {
    /// Reads its answers and closes.
    Close,
    /// Says at once that no request follows, and reads its answers.
    HalfClose,
    /// Reads its answers and waits until the engine closes.
    Idle,
    /// Is gone without reading.
    Vanish,
}

/// Where a request is meant to go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Destination {
    Upstream(usize),
    /// The channel that answers by itself.
    Respond,
    /// A path that no channel takes.
    Nowhere,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Method {
    Get,
    Head,
    Post,
    Put,
    Delete,
    Options,
}

impl Method {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Get => "GET",
            Self::Head => "HEAD",
            Self::Post => "POST",
            Self::Put => "PUT",
            Self::Delete => "DELETE",
            Self::Options => "OPTIONS",
        }
    }

    /// RFC 9110 §9.2.2.
    pub(crate) fn is_idempotent(self) -> bool {
        self != Self::Post
    }
}

/// How the bytes of a body are framed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Framing {
    /// No field about it.
    Nothing,
    Length,
    Chunked {
        chunk_bytes_max: u64,
        extensions: bool,
        trailer: bool,
    },
    /// An answer that ends with its connection.
    UntilClose,
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct BodyPlan {
    pub(crate) framing: Framing,
    pub(crate) bytes: u64,
}

impl BodyPlan {
    pub(crate) const NONE: Self = Self { framing: Framing::Nothing, bytes: 0 };
}

/// In how many pieces, and how slowly, a message is written.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pace {
    pub(crate) piece_bytes: usize,
    pub(crate) pause: Duration,
    /// After so many pauses the rest goes at once.
    pub(crate) pauses: u32,
}

#[derive(Debug)]
pub(crate) struct RequestPlan {
    pub(crate) id: RequestId,
    pub(crate) method: Method,
    pub(crate) is_http10: bool,
    /// HTTP/1.0 asks for a kept connection, HTTP/1.1 for a closed one.
    pub(crate) connection: Option<&'static str>,
    pub(crate) absolute_form: bool,
    pub(crate) hop_fields: bool,
    pub(crate) destination: Destination,
    pub(crate) body: BodyPlan,
    pub(crate) expects_continue: bool,
    pub(crate) waits_before: Duration,
    pub(crate) pace: Pace,
    pub(crate) fate: Fate,
    /// By delivery: an origin that gets the request again gives the second one.
    pub(crate) answers: [AnswerPlan; 2],
}

/// How far a client gets with a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    Whole,
    /// Stops after so many thousandths of its bytes.
    Stops {
        permille: u64,
        how: Stop,
    },
    /// Sends something that is no request.
    Hostile(Hostile),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Stop {
    /// Is gone without reading.
    Vanish,
    /// Sends the end of the stream and reads on.
    HalfClose,
    /// Sends nothing more and waits.
    Stall,
}

/// What an origin does with a request.
#[derive(Clone, Copy, Debug)]
pub(crate) struct AnswerPlan {
    pub(crate) timing: Timing,
    pub(crate) waits_before: Duration,
    /// Interim answers before the final one.
    pub(crate) interim: &'static [u16],
    pub(crate) status: u16,
    pub(crate) body: BodyPlan,
    pub(crate) hop_fields: bool,
    pub(crate) pace: Pace,
    pub(crate) defect: Option<Defect>,
    pub(crate) after: After,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Timing {
    AfterRequest,
    /// Answers as soon as the head is there and reads the body afterwards.
    Early,
    /// Answers as soon as the head is there and closes.
    EarlyAndGone,
}

/// What an origin keeps to itself about its connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum After {
    Keep,
    /// Announces that it closes, and does.
    Close,
    /// Closes without having said so.
    CloseQuietly,
    /// Waits for the first bytes of the next request, then closes.
    CloseOnNext,
    /// Sends bytes that nobody asked for along with the end of the answer.
    Unsolicited {
        looks_like_an_answer: bool,
    },
}

/// What is wrong with an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Defect {
    /// Closes instead of answering, having read the request.
    NoAnswer,
    /// Reads the request and does nothing.
    NeverAnswers,
    /// Ends in the middle.
    Truncated { permille: u64 },
    /// Stops in the middle without closing.
    Stalls { permille: u64 },
    /// Breaks the rules in its head, in one of [`BROKEN_HEADS`].
    BrokenHead(usize),
    /// A chunk size that is none.
    BrokenChunk,
    /// Switches protocols, unasked.
    Switches,
}

/// Answers whose head the engine must refuse. `ID` stands for the request's number.
pub(crate) const BROKEN_HEADS: [&str; 8] = [
    "HTTP/1.1 200 OK\r\nx-id: ID\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\nabc",
    "HTTP/1.1 200 OK\r\nx-id: ID\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\nabcd",
    "HTTP/1.1 200 OK\r\nx-id: ID\r\nContent-Length: -3\r\n\r\nabc",
    "HTTP/1.1 2000 OK\r\nx-id: ID\r\nContent-Length: 3\r\n\r\nabc",
    "HTTQ/1.1 200 OK\r\nx-id: ID\r\nContent-Length: 3\r\n\r\nabc",
    "HTTP/1.1 200 OK\r\nx-id : ID\r\nContent-Length: 3\r\n\r\nabc",
    "HTTP/1.1 200 OK\r\nx-id: ID\r\n folded\r\nContent-Length: 3\r\n\r\nabc",
    "HTTP/1.1 200 OK\r\nx-id: I\0D\r\nContent-Length: 3\r\n\r\nabc",
];

impl AnswerPlan {
    /// Whether the engine can pass it on whole.
    pub(crate) fn is_sound(&self) -> bool {
        self.defect.is_none()
    }

    /// Whether its connection may be found dead or dirty by the next request.
    pub(crate) fn spoils_connection(&self) -> bool {
        matches!(self.after, After::CloseQuietly | After::CloseOnNext | After::Unsolicited { .. })
            || self.timing == Timing::EarlyAndGone
            || self.defect.is_some()
    }
}

impl RequestPlan {
    /// Whether nothing can follow it on its connection.
    pub(crate) fn ends_connection(&self) -> bool {
        let is_last =
            if self.is_http10 { self.connection.is_none() } else { self.connection == Some("close") };
        is_last || self.fate != Fate::Whole
    }

    /// Whether the client does all that it should.
    pub(crate) fn is_whole(&self) -> bool {
        self.fate == Fate::Whole
    }

    /// Whether an answer has no body although its head may speak of one (RFC 9112 §6.3). Half a head is none yet, so
    /// that nobody knows its method.
    pub(crate) fn answer_has_no_body(&self, status: u16) -> bool {
        (self.method == Method::Head && self.is_whole()) || status < 200 || matches!(status, 204 | 304)
    }
}

impl Scenario {
    pub(crate) fn requests(&self) -> impl Iterator<Item = &RequestPlan> {
        self.connections.iter().flat_map(|connection| &connection.requests)
    }

    /// Whether a request's body is longer than the engine may pass on.
    pub(crate) fn is_too_large(&self, request: &RequestPlan) -> bool {
        matches!(request.destination, Destination::Upstream(_))
            && self.limits.body_bytes.is_some_and(|limit| request.body.bytes > limit)
    }

    pub(crate) fn is_probe(&self, connection: usize) -> bool {
        connection >= self.probes_from
    }

    /// Whether the network explains whatever happens to a connection.
    pub(crate) fn may_fail_at(&self, connection: usize) -> bool {
        self.character.has_network_faults() && !self.is_probe(connection)
    }

    pub(crate) fn request(&self, id: RequestId) -> Option<&RequestPlan> {
        self.connections.get(id.connection())?.requests.get(id.nth())
    }
}
