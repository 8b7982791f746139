//! May one more come in, so that never more do than a rate allows? Over any number of cores, without a lock.
//!
//! Never lets more through than promised, whatever the cores do at once; never asks the time or waits.
//!
//! The generic cell rate algorithm (ITU-T I.371 annex A), which is a token bucket in one number: the moment until which what
//! was let in has used the rate up. It is a single atomic, so that two cores never both take what is there once.

mod keyed;

use std::sync::atomic::{AtomicU64, Ordering};

pub use self::keyed::{KeyedRates, SLOTS_MAX, SLOTS_MIN};

/// Attempts to be first. Each that fails means that another core was, so that among any number of cores one is let in with
/// every round; who loses this often in a row is refused.
const TRIES_MAX: u32 = 64;

/// A rate is exhausted: how long until one more may come in, in nanoseconds. At least one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Exhausted {
    /// Nanoseconds to wait.
    pub nanos: u64,
}

impl Exhausted {
    fn after(nanos: u64) -> Self {
        Self { nanos: nanos.max(1) }
    }

    /// In whole seconds, rounded up: what `Retry-After` says (RFC 9110 §10.2.3).
    #[must_use]
    pub fn seconds(self) -> u64 {
        self.nanos.div_ceil(1_000_000_000)
    }
}

/// A rate as a number in each stretch of time, and how many of them may come at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pace {
    /// Nanoseconds that one uses up.
    interval: u64,
    /// How far ahead of the time others may have used the rate up when one more comes in.
    slack: u64,
}

impl Pace {
    /// `count` in every `per_nanos`, and `burst` at once after a rest. What does not divide is rounded so that a little less
    /// comes in, never more; nothing counts as one.
    #[must_use]
    pub fn new(count: u32, per_nanos: u64, burst: u32) -> Self {
        let interval = per_nanos.div_ceil(u64::from(count.max(1))).max(1);
        Self { interval, slack: interval.saturating_mul(u64::from(burst.max(1)) - 1) }
    }

    /// What a rate that is used up until `until` is used up to when one more comes in `now`.
    fn use_up(self, until: u64, now: u64) -> Result<u64, Exhausted> {
        let ahead = until.saturating_sub(now);
        if ahead > self.slack {
            return Err(Exhausted::after(ahead - self.slack));
        }
        Ok(until.max(now).saturating_add(self.interval))
    }
}

/// A rate that all share.
#[derive(Debug, Default)]
pub struct SharedRate {
    /// Until when it is used up, in nanoseconds of the caller's clock.
    until: AtomicU64,
}

impl SharedRate {
    /// Whether one more would be let in `now`, as far as can be said without taking its place.
    ///
    /// # Errors
    /// When not: how long to wait.
    pub fn look(&self, pace: Pace, now_nanos: u64) -> Result<(), Exhausted> {
        pace.use_up(self.until.load(Ordering::Relaxed), now_nanos).map(drop)
    }

    /// Lets one more in `now`. A caller whose clock is behind another's is refused a little early.
    ///
    /// # Errors
    /// When that would be more than the rate allows: how long to wait.
    pub fn take(&self, pace: Pace, now_nanos: u64) -> Result<(), Exhausted> {
        let mut until = self.until.load(Ordering::Relaxed);
        for _ in 0..TRIES_MAX {
            let used_up = pace.use_up(until, now_nanos)?;
            match self.until.compare_exchange(until, used_up, Ordering::Relaxed, Ordering::Relaxed) {
                Ok(_) => return Ok(()),
                Err(found) => until = found,
            }
        }
        Err(Exhausted::after(1))
    }
}

#[cfg(test)]
mod tests;
