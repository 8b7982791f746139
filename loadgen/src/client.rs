//! What does one connection do? Wait for a request's time, send it, await the answer, note how long it took.
//!
//! Never allocates per request, never lets a late answer delay another request's intended time, and never counts a
//! request twice or not at all. What is sent and what is right as an answer is the protocol's.

pub(crate) mod end;

mod set_up;

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::io;
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::mpsc::SyncSender;
use std::task::Poll;
use std::time::Duration;

use proto::histogram::{MergedHistogram, merged_histogram};
use runtime::{Chunk, Core, Instant};

use crate::client::end::End;
use crate::connection::dial::{Destination, Dialer};
use crate::connection::transport::Transport;
use crate::counts::Counts;
use crate::delivery::Counting;
use crate::failure::Failure;
use crate::named::{NamedHistogram, named_histogram};
use crate::output::intervals::{Slice, Tally};
use crate::pacer::Pacer;
use crate::protocol::http::ids::RunId;
use crate::protocol::{Conversation, Flaw, Protocol, Seat, Speaker, Ticket, Unit, Verdict};
use crate::schedule::Schedule;

/// No further request joins a batch of so many bytes. They fit into the sockets' buffers (Linux gives at least 16 KiB
/// to the sender and 64 KiB to the receiver), so a server that answers before it reads on is not waited for in vain.
const BATCH_BYTES_MAX: usize = 32 * 1_024;

/// What every connection of a run has in common.
#[derive(Debug)]
pub(crate) struct Traffic {
    /// Where to connect.
    pub(crate) destination: Destination,
    /// What is said there.
    pub(crate) protocol: Protocol,
    /// Of the requests, where they have some: each has an account of its own.
    pub(crate) names: Vec<String>,
    /// The run whose ids the requests carry.
    pub(crate) run: Option<RunId>,
    /// Where to ask for them.
    pub(crate) counted_at: Vec<Counting>,
    /// Longest wait for a connection, and for a complete answer.
    pub(crate) timeout: Duration,
    /// Whether a connection serves more than one request.
    pub(crate) keepalive: bool,
    /// Answers after which a connection is closed by us.
    pub(crate) answers_max: u64,
    /// Most requests sent together.
    pub(crate) pipeline: usize,
}

/// Longest wait for a server to take its leave, too, once there is nothing more to say.
const LEAVE_MAX: Duration = Duration::from_secs(1);

/// An open connection.
pub(crate) struct Connection {
    stream: Transport,
    conversation: Conversation,
    answers_left: u64,
}

/// A request that was sent, or is about to be.
#[derive(Clone, Copy)]
struct Pending {
    /// When it was meant to be sent, in nanoseconds since the start.
    due: u64,
    ticket: Ticket,
}

/// What the connections of one thread share.
pub(crate) struct Client {
    pub(crate) core: Core,
    pub(crate) counts: Arc<Counts>,
    pub(crate) dialer: Dialer,
    pub(crate) pacer: Pacer,
    traffic: Arc<Traffic>,
    speaker: Speaker,
    schedule: RefCell<Schedule>,
    latency: RefCell<MergedHistogram>,
    service_time: RefCell<MergedHistogram>,
    lateness: RefCell<MergedHistogram>,
    /// Latencies by named account.
    named: RefCell<Vec<NamedHistogram>>,
    is_open: bool,
    /// How long an answer takes is the server's doing, and not the length of the run.
    is_timed: bool,
    start: Cell<Instant>,
    end: Rc<End>,
    in_flight: Cell<u64>,
    leaving: Cell<u64>,
    active: Cell<usize>,
    /// Of those, how many wait for a connection to be opened.
    opening: Cell<usize>,
    /// All that ever were open, with whatever the protocol says at first.
    opened: Cell<u64>,
    exhausted_at: Cell<u64>,
}

impl Client {
    /// A client whose `schedule` is followed by as many connections as will be driven.
    pub(crate) fn new(
        core: &Core,
        traffic: &Arc<Traffic>,
        seat: Seat,
        counts: &Arc<Counts>,
        schedule: Schedule,
    ) -> Self {
        let end = Rc::new(End::default());
        Self {
            core: core.clone(),
            counts: counts.clone(),
            dialer: Dialer::new(&traffic.destination, traffic.timeout),
            pacer: Pacer::default(),
            traffic: traffic.clone(),
            speaker: traffic.protocol.speaker(core, seat, counts, &end),
            is_open: schedule.is_open(),
            is_timed: traffic.protocol.unit() != Unit::Streams,
            schedule: RefCell::new(schedule),
            latency: RefCell::new(merged_histogram()),
            service_time: RefCell::new(merged_histogram()),
            lateness: RefCell::new(merged_histogram()),
            named: RefCell::new(counts.accounts.iter().map(|_| named_histogram()).collect()),
            start: Cell::new(core.now()),
            end,
            in_flight: Cell::new(0),
            leaving: Cell::new(0),
            active: Cell::new(0),
            opening: Cell::new(0),
            opened: Cell::new(0),
            exhausted_at: Cell::new(0),
        }
    }

    /// Sets the moment from which the schedule counts, and lets the connections begin then.
    pub(crate) fn begin(self: &Rc<Self>, start: Instant, connections: Vec<Option<Connection>>) {
        self.start.set(start);
        self.active.set(connections.len());
        for connection in connections {
            match self.traffic.protocol.unit() {
                Unit::Connections => self.core.spawn(self.clone().drive_set_ups()),
                Unit::Requests | Unit::Messages | Unit::Streams => {
                    self.core.spawn(self.clone().drive(connection));
                }
            }
        }
    }

    /// Opens a connection on which requests can be sent, and counts it or what failed.
    pub(crate) async fn open(&self) -> Option<Connection> {
        let stream = self.dialer.connect(&self.core, &self.counts).await?;
        stream.set_deadline(self.core.now() + self.traffic.timeout);
        let mut conversation = self.speaker.converse();
        match conversation.open(&stream).await {
            Ok(()) => {
                self.opened.set(self.opened.get() + 1);
                Some(Connection { stream, conversation, answers_left: self.traffic.answers_max })
            }
            Err(flaw) => {
                self.counts.fail(Failure::Handshake, || flaw.to_string());
                None
            }
        }
    }

    /// Wakes connections at their times for as long as the thread lives. It `may_sleep` while no answer is awaited.
    pub(crate) async fn pace(&self, may_sleep: bool) {
        let is_idle = || may_sleep && self.in_flight() == 0;
        let progress = || self.counts.sent.value() + self.counts.bytes_received.value();
        self.pacer.run(&self.core, is_idle, progress).await;
    }

    /// Hands over to the main thread what each whole second before the end of the schedule brought.
    pub(crate) async fn hand_over(
        &self,
        thread: usize,
        slices: &SyncSender<Slice>,
        length: Option<Duration>,
    ) {
        let mut until = 1;
        while length.is_none_or(|length| Duration::from_secs(until) < length) {
            self.core.sleep_until(self.start.get() + Duration::from_secs(until)).await;
            if self.end.is_reached() {
                return;
            }
            until = until.max(Duration::from_nanos(self.elapsed()).as_secs());
            Slice::hand_over(slices, thread, until, &self.latency, Tally::of(&self.counts));
            until += 1;
        }
    }

    /// Lets nothing more be sent.
    pub(crate) fn finish(&self) {
        self.end.reach();
    }

    /// Requests sent whose answer is still awaited.
    pub(crate) fn in_flight(&self) -> u64 {
        self.in_flight.get()
    }

    /// Whether anything is under way: an answer, or a leave.
    pub(crate) fn is_busy(&self) -> bool {
        self.in_flight.get() + self.leaving.get() > 0
    }

    /// When the last connection found nothing left to send, since the start; `None` while any may still send.
    pub(crate) fn exhausted_at(&self) -> Option<Duration> {
        (self.active.get() == 0).then(|| Duration::from_nanos(self.exhausted_at.get()))
    }

    /// How many connections were opened so far.
    pub(crate) fn opened(&self) -> u64 {
        self.opened.get()
    }

    /// Whether all that may still send wait for a connection to be opened, and none is open.
    pub(crate) fn is_stranded(&self) -> bool {
        self.active.get() > 0 && self.opening.get() == self.active.get()
    }

    /// Hands out what was measured: latency from the intended send, as far as it was not handed over by the second, and
    /// service time from the actual one.
    pub(crate) fn take_histograms(&self) -> (MergedHistogram, MergedHistogram) {
        (self.latency.replace(merged_histogram()), self.service_time.replace(merged_histogram()))
    }

    /// Hands out how long after both its intended time and its connection's last answer each request was sent: the
    /// generator's own delay. Empty in a closed loop.
    pub(crate) fn take_lateness(&self) -> MergedHistogram {
        self.lateness.replace(merged_histogram())
    }

    /// Hands out the latencies by named account.
    pub(crate) fn take_named(&self) -> Vec<NamedHistogram> {
        self.named.take()
    }

    /// Sends one request, or one batch of them, after the other until nothing is left to send.
    async fn drive(self: Rc<Self>, mut connection: Option<Connection>) {
        let mut batch = Vec::with_capacity(self.traffic.pipeline);
        let mut now = self.elapsed();
        while let Some(due) = self.claim(now) {
            let Some((mut ready, is_kept)) = self.ready_at(due, now, connection.take()).await else { break };
            let sent_at = if due == now && is_kept { now } else { self.elapsed() };
            self.prepare(&mut ready, due, sent_at, &mut batch);
            if is_kept {
                batch.iter().for_each(|pending| self.note_lateness(sent_at, now.max(pending.due)));
            }
            if self.exchange(&mut ready, &batch, sent_at, &mut now).await {
                connection = Some(ready);
            } else {
                self.leave(ready).await;
            }
        }
        self.leaving.set(self.leaving.get() + 1);
        self.active.set(self.active.get() - 1);
        if let Some(connection) = connection {
            self.leave(connection).await;
        }
        self.leaving.set(self.leaving.get() - 1);
    }

    /// Prepares the request that was `due`, and what else is due by `now` as far as it is sent together.
    fn prepare(
        &self,
        Connection { conversation, answers_left, .. }: &mut Connection,
        due: u64,
        now: u64,
        batch: &mut Vec<Pending>,
    ) {
        batch.clear();
        batch.push(Pending { due, ticket: conversation.prepare() });
        let most = self.traffic.pipeline.min(usize::try_from(*answers_left).unwrap_or(usize::MAX));
        while batch.len() < most && conversation.bytes_prepared() < BATCH_BYTES_MAX && !self.end.is_reached()
        {
            let Some(due) = self.schedule.borrow_mut().next_if_due(now) else { break };
            batch.push(Pending { due, ticket: conversation.prepare() });
        }
    }

    /// Closes a connection, in the protocol's words where it has any.
    async fn leave(&self, Connection { stream, mut conversation, .. }: Connection) {
        stream.set_deadline(self.core.now() + LEAVE_MAX);
        conversation.close(&stream).await;
    }

    /// Notes that a request which could have been sent at `free_at` was sent at `sent_at`, if its schedule minds.
    fn note_lateness(&self, sent_at: u64, free_at: u64) {
        if self.is_open {
            let lateness = sent_at.saturating_sub(free_at);
            self.counts.lateness(lateness);
            self.lateness.borrow_mut().saturating_record(lateness);
        }
    }

    /// Nanoseconds since the start.
    fn elapsed(&self) -> u64 {
        self.core.now().as_nanos().saturating_sub(self.start.get().as_nanos())
    }

    /// The intended time of the next request, in nanoseconds since the start; it is this connection's to send.
    fn claim(&self, now: u64) -> Option<u64> {
        let due = if self.end.is_reached() { None } else { self.schedule.borrow_mut().next(now) };
        if due.is_none() {
            self.exhausted_at.set(self.exhausted_at.get().max(now));
        }
        due
    }

    /// A connection ready to send once `due` has come, and whether it was open then; `None` when there is none before
    /// the end.
    async fn ready_at(
        &self,
        due: u64,
        now: u64,
        mut connection: Option<Connection>,
    ) -> Option<(Connection, bool)> {
        if due > now {
            connection = self.wait(self.start.get() + Duration::from_nanos(due), connection).await?;
        }
        while let Some(kept) = connection {
            match poll_fn(|context| Poll::Ready(kept.stream.poll_recv(context))).await {
                Poll::Pending => return Some((kept, true)),
                // Something came in since the last answer, most likely the end.
                Poll::Ready(received) => connection = self.hear_idle(kept, received),
            }
        }
        self.connect().await.map(|connection| (connection, false))
    }

    /// Waits until `due`. A kept connection is watched meanwhile, and opened again when the server closes it; the outer
    /// `None` says that this did not succeed before the end.
    async fn wait(&self, due: Instant, mut connection: Option<Connection>) -> Option<Option<Connection>> {
        let mut time = pin!(self.pacer.until(due));
        if !self.traffic.keepalive {
            time.await;
            return Some(None);
        }
        loop {
            let kept = match connection {
                Some(kept) => kept,
                None => self.connect().await?,
            };
            // An idle connection may wait for as long as the schedule says.
            kept.stream.set_deadline(Instant::FAR_FUTURE);
            let interrupted = poll_fn(|context| match kept.stream.poll_recv(context) {
                Poll::Ready(received) => Poll::Ready(Some(received)),
                Poll::Pending => time.as_mut().poll(context).map(|()| None),
            })
            .await;
            match interrupted {
                None => return Some(Some(kept)),
                Some(received) => connection = self.hear_idle(kept, received),
            }
        }
    }

    async fn connect(&self) -> Option<Connection> {
        self.opening.set(self.opening.get() + 1);
        let opened =
            self.dialer.patiently(&self.core, async || self.open().await, || self.end.is_reached()).await;
        self.opening.set(self.opening.get() - 1);
        opened
    }

    /// Takes in what came over an idle connection, and counts what ended it; `None` then.
    fn hear_idle(&self, mut kept: Connection, received: io::Result<Option<Chunk>>) -> Option<Connection> {
        let can_go_on = match received {
            Ok(Some(chunk)) => {
                self.counts.bytes_received.add(chunk.len() as u64);
                kept.conversation.hear_idle(&kept.stream, &chunk)
            }
            Ok(None) | Err(_) => Ok(false),
        };
        match can_go_on {
            Ok(true) => return Some(kept),
            Ok(false) => self.counts.reconnects.add(1),
            Err(flaw) => self.counts.fail(Failure::Unsolicited, || flaw.to_string()),
        }
        None
    }

    /// Sends the requests of `batch` together and receives their answers, each with an account of its own. Says whether
    /// the connection can serve another; `now` becomes the time of the last answer.
    async fn exchange(
        &self,
        Connection { stream, conversation, answers_left }: &mut Connection,
        batch: &[Pending],
        sent_at: u64,
        now: &mut u64,
    ) -> bool {
        self.counts.sent.add(batch.len() as u64);
        self.in_flight.set(self.in_flight.get() + batch.len() as u64);
        if !self.counts.accounts.is_empty() {
            for pending in batch {
                self.counts.accounts[usize::from(pending.ticket.account)].sent.add(1);
            }
        }
        stream.set_deadline(self.start.get() + Duration::from_nanos(sent_at) + self.traffic.timeout);
        let mut sent = conversation.send(stream).await;
        let mut persists = true;
        for pending in batch {
            let verdict = match std::mem::replace(&mut sent, Ok(())) {
                _ if !persists => Verdict::broken(Flaw::CutOff),
                Ok(()) => conversation.receive(stream, pending.ticket).await,
                Err(error) => Verdict::broken(error),
            };
            *now = self.elapsed();
            self.settle(&verdict, *pending, sent_at, *now);
            persists &= verdict.persists;
        }
        *answers_left = answers_left.saturating_sub(batch.len() as u64);
        if persists && *answers_left == 0 {
            self.counts.retired.add(1);
        }
        persists && self.traffic.keepalive && *answers_left > 0
    }

    /// Counts what became of a request.
    fn settle(&self, verdict: &Verdict, Pending { due, ticket }: Pending, sent_at: u64, now: u64) {
        self.in_flight.set(self.in_flight.get() - 1);
        if let Some(account) = self.counts.accounts.get(usize::from(ticket.account)) {
            match &verdict.flaw {
                None => {
                    account.completed.add(1);
                    if let Some(latency) = self.named.borrow_mut().get_mut(usize::from(ticket.account)) {
                        latency.saturating_record(now - due);
                    }
                }
                Some(_) => account.failed.add(1),
            }
        }
        match &verdict.flaw {
            None => {
                self.counts.completed.add(1);
                if self.is_timed {
                    self.counts.pulse.record(now - due);
                    self.latency.borrow_mut().saturating_record(now - due);
                    self.service_time.borrow_mut().saturating_record(now - sent_at);
                }
            }
            Some(flaw) => self.counts.fail(flaw.kind(), || flaw.to_string()),
        }
    }
}
