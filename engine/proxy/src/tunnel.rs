//! How do bytes get from one connection to another and back, whatever they mean? A buffer at a time while there are few,
//! inside the kernel while there are many.
//!
//! Never holds more than one buffer or one pipe each way, and none while both sides are silent. Never says the end of a
//! stream that broke off: a reset of one side becomes a reset of the other.

use std::cell::Cell;
use std::future::poll_fn;
use std::io::{self, IoSlice};
use std::ops::ControlFlow;
use std::task::{Context, Poll};
use std::time::Duration;

use runtime::counter::Counter;
use runtime::net::pipe::MOVE_BYTES_MAX;
use runtime::{Chunk, Core, Instant, Pipe};

use crate::access::Note;
use crate::bulk::{Mode, is_unable};
use crate::conversation::Conversation;
use crate::outcome::Fault;
use crate::relay::{Aside, SetAside};
use crate::wire::Wire;

/// Receives of one direction before the other tasks have their turn, and as how many of them a move counts.
const ROUNDS_MAX: u32 = 16;
const ROUNDS_OF_MOVE: u32 = 8;
/// A side that has been told all and the end, and sends on to somebody who is gone, is listened to for so long and so
/// many bytes. A reset would take from it what it has not read yet.
const LISTEN_MAX: Duration = Duration::from_secs(2);
const LISTEN_BYTES_MAX: usize = 1 << 20;

/// Two connections that are one from now on.
struct Tunnel<'a> {
    core: &'a Core,
    client: &'a Wire,
    upstream: &'a Wire,
    terms: Terms<'a>,
    /// When a byte last came or went, and when the end is there whatever comes.
    moved_at: Cell<Instant>,
    ends_at: Cell<Instant>,
}

/// What a tunnel may take and where it counts.
pub(crate) struct Terms<'a> {
    /// Between two bytes, whichever way they go.
    pub(crate) idle_timeout: Duration,
    /// Of the whole tunnel.
    pub(crate) lifetime: Option<Duration>,
    /// Bytes received from the client.
    pub(crate) received: &'a Counter,
    /// Bytes sent to the client.
    pub(crate) sent: &'a Counter,
    /// What the core's messages may take whose receivers do not read.
    pub(crate) set_aside: &'a SetAside,
    /// Who is to know how many there were, if a log wants the exchange.
    pub(crate) note: Option<&'a Note>,
    /// Who is to see the bytes, if anybody.
    pub(crate) conversation: Option<Box<Conversation>>,
}

/// Who sends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Peer {
    Client,
    Upstream,
}

impl Peer {
    fn other(self) -> Self {
        match self {
            Self::Client => Self::Upstream,
            Self::Upstream => Self::Client,
        }
    }

    /// How a tunnel ends that this one broke.
    fn gone(self) -> Fault {
        match self {
            Self::Client => Fault::TunnelClientGone,
            Self::Upstream => Fault::TunnelUpstreamGone,
        }
    }
}

/// One direction.
struct Way<'a> {
    from: Peer,
    flow: Flow,
    held: Held<'a>,
    mode: Mode,
}

/// How far a direction has got.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Flow {
    /// Bytes may come.
    Open,
    /// All bytes are on their way, the end is not.
    Ending,
    /// The end is on its way too.
    Ended,
    /// The receiving side is gone. So many bytes were dropped.
    Refused(usize),
}

/// What was received and not sent.
enum Held<'a> {
    Nothing,
    Buffer(Chunk),
    /// A copy of what was in a buffer that others need, and how much of it is sent.
    Copy(Aside<'a>, usize),
    Pipe(Pipe),
}

/// How a tunnel has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ended {
    /// Both sides have said their end, and each has been told the other's.
    Whole,
    /// One is gone. The other has said its end, and was told all that there was to tell.
    Heard(Fault),
    /// What was said may be cut short on either side.
    Broken(Fault),
}

/// Whether there is a reason to go on with a direction in this poll.
type Progress = ControlFlow<Ended, Poll<()>>;

const GO_ON: Progress = ControlFlow::Continue(Poll::Ready(()));
const WAIT: Progress = ControlFlow::Continue(Poll::Pending);

impl<'a> Way<'a> {
    fn new(from: Peer, early: Option<Chunk>, mode: Mode) -> Self {
        let held = early.filter(|chunk| !chunk.is_empty()).map_or(Held::Nothing, Held::Buffer);
        Self { from, flow: Flow::Open, held, mode }
    }

    /// Nobody takes what comes any more.
    fn refuse(&mut self) {
        self.flow = Flow::Refused(0);
        self.held = Held::Nothing;
    }
}

/// Both connections are reset when this is dropped, unless nothing was cut short.
struct ResetBoth<'a> {
    streams: [&'a Wire; 2],
    is_whole: bool,
}

impl Drop for ResetBoth<'_> {
    fn drop(&mut self) {
        if !self.is_whole {
            // A connection for which this is refused is gone already.
            self.streams.iter().for_each(|stream| drop(stream.reset_on_close()));
        }
    }
}

/// Relays both ways between two connections until both have ended, one breaks or a deadline passes. `early` is what was
/// received already from the client, and from the upstream. The connections are to be closed then, whatever the outcome; if
/// they are closed while this waits, both are reset.
///
/// The future has each thing once: an `async fn` would keep its arguments beside what is made of them.
pub(crate) fn relay<'a>(
    core: &'a Core,
    client: &'a Wire,
    upstream: &'a Wire,
    terms: Terms<'a>,
    early: [Option<Chunk>; 2],
) -> impl Future<Output = Result<(), Fault>> + 'a {
    let now = core.turn_time();
    let ends_at = Cell::new(terms.lifetime.map_or(Instant::FAR_FUTURE, |lifetime| now + lifetime));
    let [from_client, from_upstream] = early;
    if let Some(conversation) = &terms.conversation {
        for (from, chunk) in [(Peer::Client, &from_client), (Peer::Upstream, &from_upstream)] {
            chunk.iter().for_each(|chunk| conversation.hear(from, chunk));
        }
    }
    // What is encrypted here, or looked at, has to pass through this process.
    let is_plain = matches!((client, upstream), (Wire::Plain(_), Wire::Plain(_)));
    let mode = if is_plain && terms.conversation.is_none() { Mode::COPYING } else { Mode::AlwaysCopying };
    let tunnel = Tunnel { core, client, upstream, terms, moved_at: Cell::new(now), ends_at };
    let mut up = Way::new(Peer::Client, from_client, mode);
    let mut down = Way::new(Peer::Upstream, from_upstream, mode);
    let reset = ResetBoth { streams: [client, upstream], is_whole: false };
    tunnel.set_deadlines();
    async move {
        let mut reset = reset;
        let ended = poll_fn(|context| tunnel.poll(&mut up, &mut down, context)).await;
        reset.is_whole = !matches!(ended, Ended::Broken(_));
        match ended {
            Ended::Whole => Ok(()),
            Ended::Heard(fault) | Ended::Broken(fault) => Err(fault),
        }
    }
}

impl<'a> Tunnel<'a> {
    fn stream(&self, peer: Peer) -> &'a Wire {
        match peer {
            Peer::Client => self.client,
            Peer::Upstream => self.upstream,
        }
    }

    fn poll(&self, up: &mut Way<'a>, down: &mut Way<'a>, context: &mut Context<'_>) -> Poll<Ended> {
        if let ControlFlow::Break(ended) = self.advance_both(up, down, context) {
            return Poll::Ready(ended);
        }
        match (up.flow, down.flow) {
            (Flow::Ended, Flow::Ended) => Poll::Ready(Ended::Whole),
            (Flow::Refused(_), Flow::Refused(_)) => Poll::Ready(Ended::Broken(Peer::Client.gone())),
            (Flow::Refused(_), Flow::Ended) => self.listen(up, context),
            (Flow::Ended, Flow::Refused(_)) => self.listen(down, context),
            // One that is gone may have said something before that is still on its way.
            (Flow::Open | Flow::Ending, _) | (_, Flow::Open | Flow::Ending) => Poll::Pending,
        }
    }

    fn advance_both(
        &self,
        up: &mut Way<'a>,
        down: &mut Way<'a>,
        context: &mut Context<'_>,
    ) -> ControlFlow<Ended> {
        self.advance(up, context)?;
        self.advance(down, context)?;
        self.notice_resets(up, down, context)?;
        self.notice_resets(down, up, context)
    }

    /// A side that is not received from may be gone for good.
    fn notice_resets(
        &self,
        from: &Way<'a>,
        back: &mut Way<'a>,
        context: &mut Context<'_>,
    ) -> ControlFlow<Ended> {
        let is_received_from = from.flow == Flow::Open && matches!(from.held, Held::Nothing);
        // A side that has said its end and heard the other's is closed both ways, which is no reset.
        if is_received_from
            || back.flow != Flow::Open
            || self.stream(from.from).poll_broken(context).is_pending()
        {
            return ControlFlow::Continue(());
        }
        if from.flow == Flow::Open {
            return ControlFlow::Break(Ended::Broken(from.from.gone()));
        }
        back.refuse();
        ControlFlow::Continue(())
    }

    /// Moves what there is to move one way.
    fn advance(&self, way: &mut Way<'a>, context: &mut Context<'_>) -> ControlFlow<Ended> {
        let mut rounds = 0;
        while rounds < ROUNDS_MAX {
            match way.flow {
                Flow::Open => {}
                Flow::Ending => return self.end(way, context).map_continue(drop),
                Flow::Ended | Flow::Refused(_) => return ControlFlow::Continue(()),
            }
            if self.send(way, context)?.is_pending() {
                return ControlFlow::Continue(());
            }
            let is_moving = way.mode.is_moving();
            rounds += if is_moving { ROUNDS_OF_MOVE } else { 1 };
            let next = if is_moving { self.fill(way, context) } else { self.receive(way, context) };
            if next?.is_pending() {
                self.flush(way, context);
                return ControlFlow::Continue(());
            }
        }
        context.waker().wake_by_ref();
        ControlFlow::Continue(())
    }

    /// What a private connection has taken leaves with its next call, whether or not another message follows.
    fn flush(&self, way: &mut Way<'a>, context: &mut Context<'_>) {
        let sink = self.stream(way.from.other());
        if sink.has_unsent()
            && let Poll::Ready(Err(error)) = sink.poll_writable(context)
            && !is_late(&error)
        {
            way.refuse();
        }
    }

    /// Sends what is held; ready when that is nothing any more.
    fn send(&self, way: &mut Way<'a>, context: &mut Context<'_>) -> Progress {
        let sink = self.stream(way.from.other());
        loop {
            let outcome = match &mut way.held {
                Held::Nothing => return GO_ON,
                Held::Buffer(chunk) => sink.try_send(&[IoSlice::new(chunk)]),
                Held::Copy(aside, sent) => sink.try_send(&[IoSlice::new(&aside.bytes()[*sent..])]),
                Held::Pipe(pipe) if pipe.held() == 0 => return GO_ON,
                Held::Pipe(pipe) => match sink {
                    Wire::Plain(sink) => pipe.try_drain(sink),
                    Wire::Private(_) => unreachable!("only plain connections are given a pipe"),
                },
            };
            match outcome {
                Ok(0) => {
                    context.waker().wake_by_ref();
                    return WAIT;
                }
                Ok(count) => self.has_sent(way, count),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    self.spare_buffer(way);
                    match sink.poll_writable(context) {
                        Poll::Ready(Ok(())) => {}
                        Poll::Ready(Err(error)) if is_late(&error) => self.check_time(sink)?,
                        Poll::Ready(Err(_)) => {
                            way.refuse();
                            return WAIT;
                        }
                        Poll::Pending => return WAIT,
                    }
                }
                Err(_) => {
                    way.refuse();
                    return WAIT;
                }
            }
        }
    }

    /// Takes note that the receiving side has taken bytes.
    fn has_sent(&self, way: &mut Way<'a>, count: usize) {
        self.count_sent(way.from, count);
        let is_all = match &mut way.held {
            Held::Nothing => false,
            // Kept for the next move, if that follows at once.
            Held::Pipe(pipe) => pipe.held() == 0 && !way.mode.is_moving(),
            Held::Buffer(chunk) => {
                chunk.consume(count);
                chunk.is_empty()
            }
            Held::Copy(aside, sent) => {
                *sent += count;
                *sent == aside.bytes().len()
            }
        };
        if is_all {
            way.held = Held::Nothing;
        }
    }

    fn count_sent(&self, from: Peer, count: usize) {
        self.moved_at.set(self.core.turn_time());
        if from == Peer::Upstream {
            self.terms.sent.add(count as u64);
            if let Some(note) = self.terms.note {
                note.sent.iter().for_each(|counter| counter.add(count as u64));
            }
        }
    }

    /// A receiver that does not read must not keep a buffer from the others.
    fn spare_buffer(&self, way: &mut Way<'a>) {
        if let Held::Buffer(chunk) = &way.held
            && self.stream(way.from).buffers_are_scarce()
            && let Some(aside) = self.terms.set_aside.copy(chunk)
        {
            way.held = Held::Copy(aside, 0);
        }
    }

    /// Receives into a buffer.
    fn receive(&self, way: &mut Way<'a>, context: &mut Context<'_>) -> Progress {
        let source = self.stream(way.from);
        match source.poll_recv(context) {
            Poll::Ready(Ok(Some(chunk))) => {
                self.has_received(way, chunk.len());
                if let Some(conversation) = &self.terms.conversation {
                    conversation.hear(way.from, &chunk);
                }
                self.pass(way, chunk);
                GO_ON
            }
            Poll::Ready(Ok(None)) => self.end(way, context),
            Poll::Ready(Err(error)) => self.source_failed(way, &error),
            Poll::Pending => WAIT,
        }
    }

    /// Sends what was received; nearly always all of it goes at once. The rest is held.
    fn pass(&self, way: &mut Way<'a>, mut chunk: Chunk) {
        match self.stream(way.from.other()).try_send(&[IoSlice::new(&chunk)]) {
            Ok(count) => {
                self.count_sent(way.from, count);
                chunk.consume(count);
                if chunk.is_empty() {
                    return;
                }
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(_) => return way.refuse(),
        }
        way.held = Held::Buffer(chunk);
    }

    /// Receives into a pipe, if there is one.
    fn fill(&self, way: &mut Way<'a>, context: &mut Context<'_>) -> Progress {
        let pipe = match std::mem::replace(&mut way.held, Held::Nothing) {
            Held::Pipe(pipe) => Some(pipe),
            Held::Nothing | Held::Buffer(_) | Held::Copy(..) => Pipe::take(self.core),
        };
        let (Some(mut pipe), Wire::Plain(source)) = (pipe, self.stream(way.from)) else {
            way.mode = Mode::COPYING;
            return GO_ON;
        };
        match pipe.poll_fill(source, MOVE_BYTES_MAX, context) {
            Poll::Ready(Ok(0)) => self.end(way, context),
            Poll::Ready(Ok(count)) => {
                way.held = Held::Pipe(pipe);
                self.has_received(way, count);
                GO_ON
            }
            Poll::Ready(Err(error)) if is_unable(&error) => {
                way.mode = Mode::AlwaysCopying;
                GO_ON
            }
            Poll::Ready(Err(error)) => self.source_failed(way, &error),
            // The pipe goes back meanwhile.
            Poll::Pending => WAIT,
        }
    }

    fn has_received(&self, way: &mut Way<'a>, count: usize) {
        way.mode = way.mode.after(count);
        self.moved_at.set(self.core.turn_time());
        if way.from == Peer::Client {
            self.terms.received.add(count as u64);
            if let Some(note) = self.terms.note {
                note.received.iter().for_each(|counter| counter.add(count as u64));
            }
        }
    }

    /// Receives what nobody takes any more, from a side that has been told all.
    fn listen(&self, way: &mut Way<'a>, context: &mut Context<'_>) -> Poll<Ended> {
        let until = self.core.turn_time() + LISTEN_MAX;
        if until < self.ends_at.get() {
            self.ends_at.set(until);
            self.set_deadlines();
        }
        let fault = way.from.other().gone();
        while let Flow::Refused(dropped) = way.flow
            && dropped < LISTEN_BYTES_MAX
        {
            let source = self.stream(way.from);
            match source.poll_recv(context) {
                Poll::Ready(Ok(Some(chunk))) => way.flow = Flow::Refused(dropped + chunk.len()),
                Poll::Ready(Ok(None)) => return Poll::Ready(Ended::Heard(fault)),
                Poll::Ready(Err(error)) if is_late(&error) && self.check_time(source).is_continue() => {}
                Poll::Ready(Err(_)) => break,
                Poll::Pending => return Poll::Pending,
            }
        }
        Poll::Ready(Ended::Broken(fault))
    }

    /// Passes the end on, behind all bytes.
    fn end(&self, way: &mut Way<'a>, context: &mut Context<'_>) -> Progress {
        let sink = self.stream(way.from.other());
        way.flow = match sink.poll_shutdown_write(context) {
            Poll::Ready(Ok(())) => Flow::Ended,
            Poll::Ready(Err(error)) if is_late(&error) => {
                self.check_time(sink)?;
                context.waker().wake_by_ref();
                Flow::Ending
            }
            Poll::Ready(Err(_)) => Flow::Refused(0),
            Poll::Pending => Flow::Ending,
        };
        WAIT
    }

    fn source_failed(&self, way: &Way<'a>, error: &io::Error) -> Progress {
        if is_late(error) {
            self.check_time(self.stream(way.from))?;
            return GO_ON;
        }
        ControlFlow::Break(Ended::Broken(way.from.gone()))
    }

    /// When the tunnel ends if no byte comes or goes.
    fn due(&self) -> Instant {
        (self.moved_at.get() + self.terms.idle_timeout).min(self.ends_at.get())
    }

    fn set_deadlines(&self) {
        [self.client, self.upstream].iter().for_each(|stream| stream.set_deadline(self.due()));
    }

    /// A wait of `stream` is over. The deadline it was given is not moved with each byte: it is looked at when it comes up.
    fn check_time(&self, stream: &Wire) -> ControlFlow<Ended> {
        let due = self.due();
        if due > self.core.turn_time() {
            stream.set_deadline(due);
            return ControlFlow::Continue(());
        }
        let is_idle = due < self.ends_at.get();
        ControlFlow::Break(Ended::Broken(if is_idle { Fault::TunnelIdle } else { Fault::TunnelLifetime }))
    }
}

fn is_late(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::TimedOut
}
