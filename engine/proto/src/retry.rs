//! May a request go out once more after it failed, and how many may?
//!
//! Never lets a request with effects out again of which a byte may have arrived. Never knows where the next try goes.

use std::time::Duration;

/// What a failed try failed of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// There was no connection: refused, unreachable, or not in time.
    Connect,
    /// The connection died before a byte of an answer came.
    Reset,
    /// The request was not taken, or no answer began, in time.
    Timeout,
    /// The answer had a status after which another endpoint is asked.
    Status,
}

impl Cause {
    /// All, in the order of [`Self::index`].
    pub const ALL: [Self; 4] = [Self::Connect, Self::Reset, Self::Timeout, Self::Status];

    /// Its place among [`Self::ALL`].
    #[must_use]
    pub const fn index(self) -> usize {
        self as usize
    }

    /// Its name, as exported.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Connect => "connect",
            Self::Reset => "reset",
            Self::Timeout => "timeout",
            Self::Status => "status",
        }
    }
}

/// After which causes a request goes out again.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Causes(u8);

impl Causes {
    /// None.
    pub const NONE: Self = Self(0);

    /// These and one more.
    #[must_use]
    pub const fn with(self, cause: Cause) -> Self {
        Self(self.0 | 1 << cause as u8)
    }

    /// Whether `cause` is one of them.
    #[must_use]
    pub const fn contain(self, cause: Cause) -> bool {
        self.0 & 1 << cause as u8 != 0
    }
}

/// How far a try got.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reached {
    /// No byte of the request can have arrived.
    Nothing,
    /// Bytes of it left, and none of an answer came.
    Endpoint,
    /// Something of an answer came, and none of it was passed on.
    Answer,
    /// The client has been sent something of an answer.
    Client,
}

/// Whether a request may go out again. What a caller has to know besides is that it still has all of it.
///
/// Of a request that may have arrived nobody knows what it did: only one that does no more when it is repeated may be (RFC
/// 9110 §9.2.2). One that cannot have arrived may be, whatever it does (RFC 9112 §9.3.1). An answer that has begun is an
/// answer, unless its status was waited for to decide just that; and what a client has seen cannot be taken back.
#[must_use]
pub const fn may_repeat(cause: Cause, reached: Reached, is_idempotent: bool) -> bool {
    match (cause, reached) {
        (_, Reached::Client) => false,
        (_, Reached::Nothing) => true,
        (Cause::Connect | Cause::Reset | Cause::Timeout, Reached::Endpoint) => is_idempotent,
        (Cause::Status, Reached::Endpoint | Reached::Answer) => is_idempotent,
        (Cause::Connect | Cause::Reset | Cause::Timeout, Reached::Answer) => false,
    }
}

/// A repetition, in the hundredths that a share is counted in.
const REPETITION: u64 = 100;
/// Repetitions that may be saved up: as many requests as one core has under way when an endpoint dies under it.
const SAVED_MAX: u64 = 1_000 * REPETITION;
/// What a core may repeat in a second however few requests it has, and save up: one that is asked once a minute may repeat
/// each, and ten a second are nobody's storm.
const FLOOR_PER_SECOND: u64 = 10 * REPETITION;
const FLOOR: u64 = 10 * REPETITION;

/// How many requests of one upstream a core may repeat: a share of those it sends, and a few in any case. A token bucket
/// that requests fill and time keeps from running dry, so that an upstream that fails as a whole gets little more than what
/// it is asked.
#[derive(Clone, Copy, Debug)]
pub struct Budget {
    /// Hundredths of a repetition that each request adds.
    share_percent: u32,
    balance: u64,
    /// Requests that have added theirs.
    requests: u64,
    granted: u64,
    looked_at: Duration,
}

impl Budget {
    /// `share_percent` of the requests may be repeated; zero for none at all.
    #[must_use]
    pub const fn new(share_percent: u32) -> Self {
        Self { share_percent, balance: FLOOR, requests: 0, granted: 0, looked_at: Duration::ZERO }
    }

    /// Takes a repetition if there is one. `sent` is how many requests have been sent so far, repetitions included, and
    /// `now` a time since any beginning that stays the same; neither ever goes back.
    pub fn take(&mut self, sent: u64, now: Duration) -> bool {
        if self.share_percent == 0 {
            return false;
        }
        self.fill(sent, now);
        let is_granted = self.balance >= REPETITION;
        if is_granted {
            self.balance -= REPETITION;
            self.granted += 1;
        }
        is_granted
    }

    fn fill(&mut self, sent: u64, now: Duration) {
        let first_tries = sent.saturating_sub(self.granted).max(self.requests);
        let added = (first_tries - self.requests).saturating_mul(u64::from(self.share_percent));
        self.requests = first_tries;
        self.balance = self.balance.saturating_add(added).min(SAVED_MAX);
        let passed = now.saturating_sub(self.looked_at);
        let due =
            u64::try_from(passed.as_millis()).unwrap_or(u64::MAX).saturating_mul(FLOOR_PER_SECOND) / 1000;
        // What is too short to add anything goes on counting.
        if due > 0 {
            self.looked_at = now;
            self.balance = self.balance.max(self.balance.saturating_add(due).min(FLOOR));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_cause_has_a_place_and_a_name_of_its_own() {
        for (index, cause) in Cause::ALL.into_iter().enumerate() {
            assert_eq!(cause.index(), index);
            let others = Cause::ALL.into_iter().filter(|other| *other != cause);
            assert!(others.clone().all(|other| other.name() != cause.name()));
            let causes = Causes::NONE.with(cause);
            assert!(causes.contain(cause) && !others.into_iter().any(|other| causes.contain(other)));
        }
    }

    #[test]
    fn only_what_cannot_have_arrived_or_does_no_more_is_repeated() {
        use Reached::{Answer, Client, Endpoint, Nothing};
        for (cause, reached, idempotent, other) in [
            (Cause::Connect, Nothing, true, true),
            (Cause::Reset, Nothing, true, true),
            (Cause::Reset, Endpoint, true, false),
            (Cause::Reset, Answer, false, false),
            (Cause::Reset, Client, false, false),
            (Cause::Timeout, Nothing, true, true),
            (Cause::Timeout, Endpoint, true, false),
            (Cause::Timeout, Answer, false, false),
            (Cause::Status, Answer, true, false),
            (Cause::Status, Client, false, false),
        ] {
            assert_eq!(may_repeat(cause, reached, true), idempotent, "{cause:?} {reached:?}, idempotent");
            assert_eq!(may_repeat(cause, reached, false), other, "{cause:?} {reached:?}, with effects");
        }
    }

    /// Repetitions granted of so many requests that all fail, `apart` after each other.
    fn granted(share_percent: u32, requests: u64, apart: Duration) -> u64 {
        let mut budget = Budget::new(share_percent);
        let (mut sent, mut granted, mut now) = (0, 0, Duration::from_secs(7));
        budget.looked_at = now;
        for _ in 0..requests {
            sent += 1;
            now += apart;
            if budget.take(sent, now) {
                sent += 1;
                granted += 1;
            }
        }
        granted
    }

    #[test]
    fn of_a_storm_of_failures_the_share_is_repeated_and_little_more() {
        for (share, requests) in [(20, 100_000), (1, 1_000_000), (100, 100_000)] {
            let expected = requests * u64::from(share) / 100;
            let granted = granted(share, requests, Duration::ZERO);
            assert!((expected..=expected + FLOOR / REPETITION).contains(&granted), "{share} %: {granted}");
        }
    }

    #[test]
    fn who_is_asked_seldom_may_repeat_each() {
        assert_eq!(granted(1, 1_000, Duration::from_millis(100)), 1_000);
        assert_eq!(granted(1, 1_000, Duration::from_secs(3600)), 1_000);
        // Steps too short to add anything by themselves add up.
        let in_a_second = granted(1, 10_000, Duration::from_micros(100));
        assert!(
            (110..=121).contains(&in_a_second),
            "{in_a_second}: 10 saved, 10 of the second, 100 of the share"
        );
    }

    #[test]
    fn what_is_saved_up_is_bounded() {
        let mut budget = Budget::new(20);
        assert!(budget.take(1_000_000, Duration::from_secs(1)));
        let more = (0..10_000).filter(|_| budget.take(1_000_000, Duration::from_secs(1))).count();
        assert_eq!(more as u64 + 1, SAVED_MAX / REPETITION);
    }

    #[test]
    fn a_budget_of_nothing_grants_nothing() {
        assert_eq!(granted(0, 1_000, Duration::from_secs(1)), 0);
    }
}
