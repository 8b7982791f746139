//! What time is it, for deadlines and latencies? Monotonic nanoseconds, as the core's clock tells them.
//!
//! Never wall-clock time: a jump of the system's clock moves no deadline.

use std::ops::{Add, Sub};
use std::time::Duration;

/// A moment on a core's monotonic clock, in nanoseconds since an arbitrary start common to all cores.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Instant(u64);

impl Instant {
    /// A moment later than any other: the deadline of what may wait for ever.
    pub const FAR_FUTURE: Self = Self(u64::MAX);

    /// Builds a moment from nanoseconds since the clock's start.
    #[must_use]
    pub const fn from_nanos(nanos: u64) -> Self {
        Self(nanos)
    }

    /// Nanoseconds since the clock's start.
    #[must_use]
    pub const fn as_nanos(self) -> u64 {
        self.0
    }

    /// Time from `earlier` to this moment, zero when `earlier` is later.
    #[must_use]
    pub const fn since(self, earlier: Self) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }
}

impl Add<Duration> for Instant {
    type Output = Self;

    fn add(self, rhs: Duration) -> Self {
        Self(self.0.saturating_add(u64::try_from(rhs.as_nanos()).unwrap_or(u64::MAX)))
    }
}

impl Sub<Duration> for Instant {
    type Output = Self;

    fn sub(self, rhs: Duration) -> Self {
        Self(self.0.saturating_sub(u64::try_from(rhs.as_nanos()).unwrap_or(u64::MAX)))
    }
}

/// Reads the kernel's monotonic clock.
pub(crate) fn monotonic() -> Instant {
    read(rustix::time::ClockId::Monotonic)
}

/// Reads the kernel's clock that counts since the machine began, the time that it slept included. Its moments are not those of a core's clock.
#[must_use]
pub fn boot_time() -> Instant {
    read(rustix::time::ClockId::Boottime)
}

fn read(clock: rustix::time::ClockId) -> Instant {
    let now = rustix::time::clock_gettime(clock);
    // Neither field of a clock that counts from the machine's start is ever negative.
    Instant(now.tv_sec.cast_unsigned() * 1_000_000_000 + now.tv_nsec.cast_unsigned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_clock_never_runs_backwards() {
        let first = monotonic();
        let second = monotonic();
        assert!(second >= first);
        assert_eq!(first.since(second + Duration::from_secs(1)), Duration::ZERO);
    }

    #[test]
    fn adding_saturates_at_the_far_future() {
        assert_eq!(Instant::FAR_FUTURE + Duration::from_secs(1), Instant::FAR_FUTURE);
    }
}
