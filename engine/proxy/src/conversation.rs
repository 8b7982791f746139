//! How many messages go over a relayed connection, and how long does each wait for its answer?
//!
//! Looks at bytes that pass, in the order they came; never keeps or changes one.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use config::snapshot::{Framing, ListenerId};
use proto::messages::{Delimiting, MessageScanner};
use runtime::{Core, Instant};

use crate::commons::Commons;
use crate::core_main::CoreState;
use crate::stats::{ListenerCounters, Phase};
use crate::tunnel::Peer;

/// Messages whose answers are awaited at a time. Where there are more, it is not one answer for each: nothing is timed then.
const AWAITED_MAX: usize = 256;

/// Follows both directions of one connection.
pub(crate) struct Conversation {
    core: Core,
    commons: Rc<Commons>,
    counters: Arc<ListenerCounters>,
    progress: RefCell<Progress>,
}

struct Progress {
    questions: MessageScanner,
    answers: MessageScanner,
    /// When each message of the client was complete that has no answer yet; `None` once there were too many.
    asked_at: Option<VecDeque<Instant>>,
    /// When the first bytes of the answer came that is under way.
    answer_began_at: Instant,
}

impl Conversation {
    /// Of a connection whose first byte is still to come; none where bytes have no messages.
    pub(crate) fn of(state: &CoreState, listener: ListenerId, framing: Framing) -> Option<Box<Self>> {
        let delimiting = match framing {
            Framing::Raw => return None,
            Framing::Line => Delimiting::Line,
            Framing::Mllp => Delimiting::Mllp,
        };
        let progress = Progress {
            questions: MessageScanner::new(delimiting),
            answers: MessageScanner::new(delimiting),
            asked_at: Some(VecDeque::new()),
            answer_began_at: state.core.turn_time(),
        };
        Some(Box::new(Self {
            core: state.core.clone(),
            commons: Rc::clone(&state.commons),
            counters: Arc::clone(&state.stats.listeners[usize::from(listener.0)]),
            progress: RefCell::new(progress),
        }))
    }

    /// Bytes have come.
    pub(crate) fn hear(&self, from: Peer, bytes: &[u8]) {
        let now = self.core.turn_time();
        let counters = &self.counters;
        let mut progress = self.progress.borrow_mut();
        match from {
            Peer::Client => counters.messages_received.add(progress.ask(bytes, now)),
            Peer::Upstream => {
                let record = |phase, duration| self.commons.record(counters, phase, duration);
                let ended = progress.answer(bytes, now, record);
                // Counted last: until then nobody looks for what is recorded.
                counters.messages_sent.add(ended);
            }
        }
    }
}

impl Progress {
    /// The client says this; how many messages ended in it.
    fn ask(&mut self, bytes: &[u8], now: Instant) -> u64 {
        let ended = self.questions.forward(bytes);
        if let Some(asked_at) = &mut self.asked_at {
            if asked_at.len() as u64 + ended > AWAITED_MAX as u64 {
                self.asked_at = None;
            } else {
                asked_at.extend((0..ended).map(|_| now));
            }
        }
        ended
    }

    /// The upstream says this. One message answers one; what comes unasked answers none.
    fn answer(&mut self, bytes: &[u8], now: Instant, mut record: impl FnMut(Phase, Duration)) -> u64 {
        let mut began_at = if self.answers.is_within() { self.answer_began_at } else { now };
        let ended = self.answers.forward(bytes);
        for _ in 0..ended {
            if let Some(asked_at) = self.asked_at.as_mut().and_then(VecDeque::pop_front) {
                record(Phase::FirstByte, began_at.since(asked_at));
                record(Phase::Body, now.since(began_at));
                record(Phase::Total, now.since(asked_at));
            }
            began_at = now;
        }
        self.answer_began_at = began_at;
        ended
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn progress(delimiting: Delimiting) -> Progress {
        let scanner = MessageScanner::new(delimiting);
        Progress {
            questions: scanner,
            answers: scanner,
            asked_at: Some(VecDeque::new()),
            answer_began_at: at(0),
        }
    }

    fn at(millis: u64) -> Instant {
        Instant::from_nanos(millis * 1_000_000)
    }

    /// What an answer records, in milliseconds.
    fn answer(progress: &mut Progress, bytes: &[u8], millis: u64) -> Vec<(Phase, u64)> {
        let mut recorded = Vec::new();
        progress.answer(bytes, at(millis), |phase, duration| {
            recorded.push((phase, duration.as_millis() as u64));
        });
        recorded
    }

    #[test]
    fn an_answer_is_timed_from_the_end_of_its_question() {
        let mut progress = progress(Delimiting::Mllp);
        assert_eq!(progress.ask(b"\x0bMSH", at(5)), 0);
        assert_eq!(progress.ask(b"|A\x1c\r", at(10)), 1);
        assert_eq!(answer(&mut progress, b"\x0bMSA", 30), []);
        let timed = [(Phase::FirstByte, 20), (Phase::Body, 15), (Phase::Total, 35)];
        assert_eq!(answer(&mut progress, b"|AA\x1c\r", 45), timed);
    }

    #[test]
    fn answers_come_in_the_order_of_their_questions() {
        let mut progress = progress(Delimiting::Line);
        assert_eq!(progress.ask(b"one\ntwo\n", at(0)), 2);
        assert_eq!(progress.ask(b"three\n", at(10)), 1);
        let totals = |recorded: Vec<(Phase, u64)>| -> Vec<u64> {
            recorded
                .into_iter()
                .filter(|(phase, _)| *phase == Phase::Total)
                .map(|(_, millis)| millis)
                .collect()
        };
        assert_eq!(totals(answer(&mut progress, b"1\n2\n3", 20)), [20, 20]);
        assert_eq!(totals(answer(&mut progress, b"\n", 50)), [40]);
    }

    #[test]
    fn what_nobody_asked_for_is_not_timed() {
        let mut progress = progress(Delimiting::Line);
        assert_eq!(answer(&mut progress, b"220 ready\n", 5), []);
        progress.ask(b"quit\n", at(10));
        assert_eq!(answer(&mut progress, b"221 bye\n", 11).len(), 3);
    }

    #[test]
    fn questions_without_answers_have_a_bound() {
        let mut progress = progress(Delimiting::Line);
        let questions = vec![b'\n'; AWAITED_MAX];
        assert_eq!(progress.ask(&questions, at(0)), AWAITED_MAX as u64);
        assert_eq!(progress.ask(b"\n", at(0)), 1);
        assert_eq!(answer(&mut progress, b"late\n", 1), []);
        assert!(progress.asked_at.is_none());
    }
}
