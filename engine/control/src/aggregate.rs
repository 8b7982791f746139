//! How do the cores' histograms come together? Each swaps an empty set in and hands the full one over.
//!
//! Never waits for a core longer than [`REPLY_TIMEOUT`]; what comes later is merged the next time.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crossbeam_queue::ArrayQueue;
use proxy::core_main::Fellow;
use proxy::generation::Generation;
use proxy::message::{CoreMessage, LastWord};
use proxy::stats::{CollectedQueue, HistogramSet, Recorded};
use tokio::time::MissedTickBehavior;

use crate::Shared;
use crate::catalogue::sum;
use crate::latency::Latency;
use crate::scarcity::Scarcity;

/// Time between two rounds nobody asked for; the grain of the windows.
const COLLECT_EVERY: Duration = Duration::from_secs(1);

/// A core answers within a turn of its loop; one that takes this long is stuck or gone.
const REPLY_TIMEOUT: Duration = Duration::from_millis(250);

/// The clock of tokio ticks in milliseconds.
const REPLY_POLL: Duration = Duration::from_millis(1);

/// Collects from all cores into one [`Latency`].
#[derive(Debug)]
pub(crate) struct Aggregator {
    fellows: Arc<[Fellow]>,
    generation: Arc<Generation>,
    replies: CollectedQueue,
    /// By core: the generation whose set it was asked for and has not given. One at a time, so `replies` has room for all.
    awaited: Box<[Option<Arc<Generation>>]>,
    /// Emptied sets, to be swapped in the next time.
    #[expect(clippy::vec_box, reason = "a set travels in its box: no hand-over allocates or copies one")]
    spare: Vec<Box<HistogramSet>>,
    /// Exchanges and messages ended when the cores were last asked.
    requests_seen: u64,
    /// Whether the cores have been told to end and answer no more.
    retired: bool,
    latency: Latency,
}

impl Aggregator {
    /// For these cores and what they were given.
    pub(crate) fn new(fellows: Arc<[Fellow]>, generation: Arc<Generation>) -> Self {
        Self {
            generation,
            replies: Arc::new(ArrayQueue::new(fellows.len().max(1))),
            awaited: vec![None; fellows.len()].into(),
            spare: Vec::new(),
            requests_seen: 0,
            retired: false,
            latency: Latency::default(),
            fellows,
        }
    }

    /// What has been collected.
    pub(crate) fn latency(&self) -> &Latency {
        &self.latency
    }

    #[cfg(test)]
    pub(crate) fn latency_mut(&mut self) -> &mut Latency {
        &mut self.latency
    }

    /// By core: whether it owes an answer to the last question, for longer than one is waited for.
    pub(crate) fn unresponsive(&self) -> impl Iterator<Item = bool> {
        self.awaited.iter().map(|awaited| awaited.is_some() && !self.retired)
    }

    /// The round of every second: idle cores are left asleep.
    pub(crate) async fn tick(&mut self) {
        if self.requests_ended() != self.requests_seen || self.awaits_any() {
            self.collect().await;
        }
        self.latency.seal(Instant::now());
    }

    /// Merges everything recorded until now. May be dropped half-way: nothing gets lost.
    pub(crate) async fn collect(&mut self) {
        self.take_replies();
        if self.retired {
            return;
        }
        self.requests_seen = self.requests_ended();
        self.ask();
        let deadline = Instant::now() + REPLY_TIMEOUT;
        while self.awaits_any() && Instant::now() < deadline {
            tokio::time::sleep(REPLY_POLL).await;
            self.take_replies();
        }
    }

    /// Collects a last time, before the cores are told to end.
    pub(crate) async fn retire(&mut self) {
        self.collect().await;
        self.retired = true;
    }

    /// What a core is told with its drain: to hand over at its end what it has recorded by then. Nothing if it owes an answer yet.
    pub(crate) fn last_word(&mut self, core: usize) -> Option<LastWord> {
        let awaited = self.awaited.get_mut(core).filter(|awaited| awaited.is_none())?;
        *awaited = Some(Arc::clone(&self.generation));
        let empty = Box::new(HistogramSet::new(&self.generation.snapshot));
        Some(LastWord { generation: self.generation.number, empty, reply: Arc::clone(&self.replies) })
    }

    /// Merges what cores have handed over at their end.
    pub(crate) fn take_last_words(&mut self) {
        self.take_replies();
    }

    fn ask(&mut self) {
        for (fellow, awaited) in self.fellows.iter().zip(&mut self.awaited) {
            if awaited.is_some() {
                continue;
            }
            let empty =
                self.spare.pop().unwrap_or_else(|| Box::new(HistogramSet::new(&self.generation.snapshot)));
            let generation = self.generation.number;
            let message =
                CoreMessage::CollectHistograms { generation, empty, reply: Arc::clone(&self.replies) };
            match fellow.sender.send(message) {
                Ok(()) => *awaited = Some(Arc::clone(&self.generation)),
                Err(CoreMessage::CollectHistograms { empty, .. }) => self.spare.push(empty),
                Err(_) => {}
            }
        }
    }

    fn take_replies(&mut self) {
        while let Some(mut collected) = self.replies.pop() {
            let Some(asked) = self.awaited.get_mut(collected.core).and_then(Option::take) else { continue };
            self.latency.add_set(&collected.histograms, &asked.snapshot);
            for Recorded { generation, histograms } in &collected.others {
                self.latency.add_set(histograms, &generation.snapshot);
            }
            if asked.number == self.generation.number {
                collected.histograms.clear();
                self.spare.push(collected.histograms);
            }
        }
    }

    /// Goes on with the generation that the cores run now.
    pub(crate) fn renew(&mut self, generation: &Arc<Generation>) {
        self.generation = Arc::clone(generation);
        // They have the shape of another configuration.
        self.spare.clear();
        self.latency.fold(&generation.snapshot);
    }

    fn awaits_any(&self) -> bool {
        !self.retired && self.awaited.iter().any(Option::is_some)
    }

    /// A core counts an exchange, and a message, after it has recorded it: equal sums mean that nothing new is there.
    fn requests_ended(&self) -> u64 {
        let cores = || self.generation.stats.iter();
        let exchanges = cores()
            .flat_map(|core| &core.channels)
            .chain(self.generation.former_channels().iter().flat_map(|row| &row.shards));
        let messages = cores()
            .flat_map(|core| &core.listeners)
            .chain(self.generation.former_listeners().iter().flat_map(|row| &row.shards));
        sum(exchanges.map(|channel| &**channel), |channel| channel.requests.value())
            + sum(messages.map(|listener| &**listener), |listener| listener.messages_sent.value())
    }
}

/// Collects every second, for as long as the process lives.
pub(crate) async fn rounds(shared: Arc<Shared>) {
    let mut rounds = tokio::time::interval(COLLECT_EVERY);
    // A round that came late does not make the next ones hurry.
    rounds.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut scarcity = Scarcity::default();
    loop {
        rounds.tick().await;
        shared.aggregator.lock().await.tick().await;
        if let Some(news) = scarcity.tick(&shared.live()) {
            tracing::warn!("{news}");
        }
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::rc::Rc;

    use proxy::stats::Collected;

    use super::*;
    use crate::testing::{self, IdleCore};

    fn block_on<T>(future: impl Future<Output = T>) -> T {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build();
        runtime.expect("runtime").block_on(future)
    }

    /// Lets a core answer everything in its mailbox; returns how often it was asked.
    fn answer(core: IdleCore, index: usize, fellow: &Fellow) -> u32 {
        let asked = Rc::new(Cell::new(0));
        let count = Rc::clone(&asked);
        fellow
            .sender
            .send(CoreMessage::Drain { timeout: Duration::ZERO, left: Default::default(), last: None })
            .expect("room");
        core.run(move |message| {
            if let CoreMessage::CollectHistograms { empty, reply, .. } = message {
                count.set(count.get() + 1);
                reply
                    .push(Collected { core: index, histograms: empty, others: Vec::new() })
                    .expect("room for one reply of each core");
            }
        });
        asked.get()
    }

    #[test]
    fn a_core_that_does_not_answer_is_waited_for_briefly_and_asked_once() {
        let (shared, mut cores) = testing::shared(1);
        let mut aggregator = shared.aggregator.try_lock().expect("free");
        let began = Instant::now();
        block_on(aggregator.collect());
        block_on(aggregator.collect());
        let waited = began.elapsed();
        assert!(waited >= REPLY_TIMEOUT * 2, "{waited:?}");
        assert!(waited < REPLY_TIMEOUT * 20, "{waited:?}");
        assert!(aggregator.awaits_any());
        assert_eq!(answer(cores.remove(0), 0, &shared.fellows[0]), 1);
        aggregator.take_replies();
        assert!(!aggregator.awaits_any());
        assert_eq!(aggregator.spare.len(), 1, "the late set is kept for the next round");
    }

    #[test]
    fn idle_cores_are_left_asleep_and_busy_ones_asked() {
        let (shared, cores) = testing::shared(2);
        let mut aggregator = shared.aggregator.try_lock().expect("free");
        block_on(aggregator.tick());
        assert!(!aggregator.awaits_any(), "nothing has been served");
        shared.live().generation.stats[1].channels[0].requests.add(1);
        block_on(aggregator.tick());
        let asked =
            cores.into_iter().enumerate().map(|(index, core)| answer(core, index, &shared.fellows[index]));
        assert_eq!(asked.collect::<Vec<_>>(), [1, 1]);
    }

    #[test]
    fn cores_that_end_are_asked_no_more() {
        let (shared, mut cores) = testing::shared(1);
        let mut aggregator = shared.aggregator.try_lock().expect("free");
        block_on(aggregator.retire());
        shared.live().generation.stats[0].channels[0].requests.add(1);
        let began = Instant::now();
        block_on(aggregator.tick());
        block_on(aggregator.collect());
        assert!(began.elapsed() < REPLY_TIMEOUT);
        assert_eq!(answer(cores.remove(0), 0, &shared.fellows[0]), 1, "only the last round asked");
    }
}
