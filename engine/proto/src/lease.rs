//! Who of several processes may act, and when is one taken for gone? By beats in a common store and each process's own clock.
//!
//! Never compares clocks of two processes, and never asks one: `now` is the caller's, from any moment on, of a clock that never goes
//! back. Whatever answers of the store are late, lost or doubled, no two ever hold the same lease at once.
//!
//! The store keeps a mark for each lease: an *epoch*, which grows when the holder changes, and a *beat*, which grows when the holder
//! renews. It changes a mark only for who names the one that is there. Two rules follow, and they overlap by the margin:
//! - a holder stops when its own clock says that the lease time, less the margin, has passed since it **sent** the last renewal that was
//!   granted;
//! - an observer takes a lease for over when its own clock says that it has seen the same mark for the **whole** lease time.
//!
//! What an observer has seen was sent before; so it begins to count later than the holder, and counts for longer. Clocks may run at rates
//! that differ by less than the margin's share of the lease time.

#[cfg(test)]
mod tests;

use std::time::Duration;

/// The margin's share of the lease time: a sixth. Clocks of computers differ by a few hundred millionths.
const MARGIN_DIVISOR: u32 = 6;

/// For how long a lease holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LeaseTerms {
    time: Duration,
    margin: Duration,
}

impl LeaseTerms {
    /// For a lease time; its holder stops a sixth earlier.
    #[must_use]
    pub fn new(time: Duration) -> Self {
        Self { time, margin: time / MARGIN_DIVISOR }
    }

    /// For how long an observer must have seen the same mark.
    #[must_use]
    pub const fn time(self) -> Duration {
        self.time
    }

    /// For how long a holder may act after it sent a renewal that was granted.
    #[must_use]
    pub fn holding(self) -> Duration {
        self.time.saturating_sub(self.margin)
    }
}

/// What the store says of a lease.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mark {
    /// Grows when the holder changes: whoever holds a lower one holds nothing.
    pub epoch: u64,
    /// Grows when the holder renews.
    pub beat: u64,
}

/// Watches a lease of somebody else.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Observer {
    /// The mark last seen, and when it was seen first.
    seen: Option<(Mark, Duration)>,
}

impl Observer {
    /// The store said `mark`, and the answer is here `now`.
    pub fn see(&mut self, mark: Mark, now: Duration) {
        // Any other mark begins anew, a lower one too: a store that was restored from a copy goes back.
        if self.mark() != Some(mark) {
            self.seen = Some((mark, now));
        }
    }

    /// What was seen last, which is what a take-over has to name.
    #[must_use]
    pub fn mark(&self) -> Option<Mark> {
        self.seen.map(|(mark, _)| mark)
    }

    /// When the lease is over unless another mark is seen.
    #[must_use]
    pub fn over_at(&self, terms: LeaseTerms) -> Option<Duration> {
        self.seen.map(|(_, since)| since.saturating_add(terms.time()))
    }

    /// Whether the same mark was there for the whole lease time.
    #[must_use]
    pub fn is_over(&self, terms: LeaseTerms, now: Duration) -> bool {
        self.over_at(terms).is_some_and(|over| now >= over)
    }
}

/// What the store has under the lease's name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Row {
    /// Nobody holds it: it never was held, or was given back and left this mark.
    Free(Option<Mark>),
    /// The process that asks.
    Mine(Mark),
    /// Another process.
    Others(Mark),
}

/// What is to be asked of the store next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ask {
    /// What is under the lease's name?
    Look,
    /// Make it mine if the mark is still this one, or still missing.
    Acquire {
        /// The mark that was seen.
        seen: Option<Mark>,
    },
    /// Another beat, if it is still mine and of this epoch.
    Renew {
        /// The epoch that is held.
        epoch: u64,
    },
}

/// What the store said. Of an answer that does not come nothing is told: the next question finds out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// To [`Ask::Look`].
    Row(Row),
    /// To the others: done, and this is the mark now.
    Granted(Mark),
    /// To the others: somebody else was first.
    Refused,
}

/// One process that would hold a lease.
#[derive(Clone, Copy, Debug)]
pub struct Contender {
    terms: LeaseTerms,
    state: State,
    /// The highest epoch of its own that it knows to be over.
    lost: u64,
}

#[derive(Clone, Copy, Debug)]
enum State {
    /// Nothing is known, or what was known did not hold.
    Unknown,
    /// Nobody holds it.
    Free(Option<Mark>),
    /// Somebody else does.
    Standby(Observer),
    /// The store has it as its own, which it learns only now: an answer was lost. When it was granted is not known, so this is not enough
    /// to act.
    Claimed { epoch: u64 },
    /// Its own, to act until then.
    Held { epoch: u64, until: Duration },
    /// Given back for good.
    Resigned,
}

impl Contender {
    /// One that knows nothing yet.
    #[must_use]
    pub const fn new(terms: LeaseTerms) -> Self {
        Self { terms, state: State::Unknown, lost: 0 }
    }

    /// Whether it may act at this moment. The answer is of use for this moment only: who slept asks again.
    #[must_use]
    pub fn may_act(&self, now: Duration) -> bool {
        self.acts_until().is_some_and(|until| now < until)
    }

    /// Until when it may act if nothing else is heard, maybe long ago.
    #[must_use]
    pub const fn acts_until(&self) -> Option<Duration> {
        match self.state {
            State::Held { until, .. } => Some(until),
            _ => None,
        }
    }

    /// The epoch that it holds, or held last as far as it knows.
    #[must_use]
    pub const fn epoch(&self) -> Option<u64> {
        match self.state {
            State::Held { epoch, .. } => Some(epoch),
            _ => None,
        }
    }

    /// What to ask of the store now.
    #[must_use]
    pub fn next(&self, now: Duration) -> Ask {
        match self.state {
            State::Held { epoch, .. } | State::Claimed { epoch } => Ask::Renew { epoch },
            State::Free(seen) => Ask::Acquire { seen },
            State::Standby(observer) if observer.is_over(self.terms, now) => {
                Ask::Acquire { seen: observer.mark() }
            }
            State::Unknown | State::Standby(_) | State::Resigned => Ask::Look,
        }
    }

    /// When to ask once the question of `asked` has its answer: after every `poll`, or as soon as there may be something to take. After a
    /// question without an answer, `poll` is to pass.
    #[must_use]
    pub fn next_at(&self, asked: Duration, poll: Duration) -> Duration {
        let regular = asked.saturating_add(poll);
        match self.state {
            State::Free(_) | State::Claimed { .. } => asked,
            State::Standby(observer) => {
                observer.over_at(self.terms).map_or(regular, |over| regular.min(over.max(asked)))
            }
            State::Unknown | State::Held { .. } | State::Resigned => regular,
        }
    }

    /// Takes an answer that is here `now` to a question that went out at `sent`.
    pub fn hear(&mut self, ask: Ask, answer: Answer, sent: Duration, now: Duration) {
        match (ask, answer) {
            (Ask::Look, Answer::Row(row)) => self.see(row, now),
            (Ask::Acquire { .. } | Ask::Renew { .. }, Answer::Granted(mark)) => self.hold(mark.epoch, sent),
            (Ask::Acquire { .. }, Answer::Refused) => {
                if matches!(self.state, State::Free(_) | State::Standby(_)) {
                    self.state = State::Unknown;
                }
            }
            (Ask::Renew { epoch }, Answer::Refused) => self.lose(epoch),
            // An answer to another question says nothing.
            (Ask::Look, Answer::Granted(_) | Answer::Refused) | (_, Answer::Row(_)) => {}
        }
    }

    /// Gives the lease up for good; the epoch that is to be released in the store.
    pub fn resign(&mut self) -> Option<u64> {
        let epoch = match self.state {
            State::Held { epoch, .. } | State::Claimed { epoch } => Some(epoch),
            _ => None,
        };
        self.state = State::Resigned;
        epoch
    }

    fn see(&mut self, row: Row, now: Duration) {
        // What was seen before it was granted something is old.
        if matches!(self.state, State::Held { .. } | State::Claimed { .. } | State::Resigned) {
            return;
        }
        self.state = match row {
            Row::Free(mark) => State::Free(mark),
            Row::Mine(mark) if mark.epoch > self.lost => State::Claimed { epoch: mark.epoch },
            Row::Mine(_) => State::Unknown,
            Row::Others(mark) => {
                let mut observer = match self.state {
                    State::Standby(observer) => observer,
                    _ => Observer::default(),
                };
                observer.see(mark, now);
                State::Standby(observer)
            }
        };
    }

    fn hold(&mut self, epoch: u64, sent: Duration) {
        if epoch <= self.lost || matches!(self.state, State::Resigned) {
            return;
        }
        let until = sent.saturating_add(self.terms.holding());
        self.state = match self.state {
            State::Held { epoch: held, .. } if held > epoch => return,
            State::Held { epoch: held, until: before } if held == epoch => {
                State::Held { epoch, until: until.max(before) }
            }
            _ => State::Held { epoch, until },
        };
    }

    fn lose(&mut self, epoch: u64) {
        self.lost = self.lost.max(epoch);
        let (State::Held { epoch: held, .. } | State::Claimed { epoch: held }) = self.state else { return };
        if held <= epoch {
            self.state = State::Unknown;
        }
    }
}
