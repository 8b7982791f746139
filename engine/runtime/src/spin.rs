//! How long may an idle core look for work before it sleeps in the kernel?
//!
//! Pure: told what happened, answers with a duration. Never reads a clock.
//!
//! A wake-up from the kernel costs a core tens of microseconds on a virtual machine; at one connection, looking
//! about 50 µs longer cut the median latency to a third. But a core that looks in vain burns what another
//! process could use, so each failure halves the wait, and after a few the core sleeps at once and tries a short
//! look again only after a sleep that turned out to be short. And when work comes for many connections at a time
//! there is nothing to win: the wake-up is shared by all of them. Nor with bulk: whoever comes later finds more to move at
//! once, and looking in between would cost as much as the moving.

use std::time::Duration;

/// Below this a look costs more than it can gain: one pass over the driver takes about half a microsecond.
const SPIN_MIN: Duration = Duration::from_micros(4);

/// Events of one wait, on average, beyond which a core does not look before it sleeps.
const BATCH_MAX: u32 = 3;
/// Events are averaged over about this many waits that brought any.
const BATCH_MEMORY: u32 = 8;

/// What a turn that moved bulk counts as.
const EVENTS_OF_BULK: usize = 16;

/// Decides the length of the next busy wait.
#[derive(Debug)]
pub(crate) struct Spin {
    longest: Duration,
    next: Duration,
    /// Average number of events, times [`BATCH_MEMORY`].
    batch: u32,
    /// Bytes moved in bulk until the last turn.
    moved: u64,
}

impl Spin {
    pub(crate) const fn new(longest: Duration) -> Self {
        Self { longest, next: longest, batch: 0, moved: 0 }
    }

    /// How long to look before sleeping; zero means: sleep at once.
    pub(crate) fn budget(&self) -> Duration {
        let is_shared = self.batch > BATCH_MAX * BATCH_MEMORY;
        if is_shared || self.next < SPIN_MIN { Duration::ZERO } else { self.next }
    }

    /// A wait has brought this many events.
    pub(crate) fn saw(&mut self, events: usize) {
        if events > 0 {
            let events = u32::try_from(events).unwrap_or(u32::MAX / BATCH_MEMORY);
            self.batch = self.batch - self.batch / BATCH_MEMORY + events;
        }
    }

    /// The core has moved so many bytes in bulk since it began.
    pub(crate) fn moved(&mut self, bytes: u64) {
        if bytes != self.moved {
            self.moved = bytes;
            self.saw(EVENTS_OF_BULK);
        }
    }

    /// Looking ended with work.
    pub(crate) fn won(&mut self) {
        self.next = self.longest;
    }

    /// Looking ended without work, and the core went to sleep.
    pub(crate) fn lost(&mut self) {
        self.next /= 2;
    }

    /// The core slept this long. A short sleep says that looking would have found the work.
    pub(crate) fn slept(&mut self, duration: Duration) {
        if duration < self.longest {
            self.next = (self.next * 2).clamp(SPIN_MIN * 2, self.longest.max(SPIN_MIN * 2));
            if self.longest.is_zero() {
                self.next = Duration::ZERO;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LONGEST: Duration = Duration::from_micros(50);

    #[test]
    fn stops_looking_after_a_few_failures() {
        let mut spin = Spin::new(LONGEST);
        let mut looks = 0;
        while spin.budget() > Duration::ZERO {
            spin.lost();
            looks += 1;
        }
        assert!(looks <= 4, "{looks}");
        spin.slept(Duration::from_millis(5));
        assert_eq!(spin.budget(), Duration::ZERO);
    }

    #[test]
    fn looks_again_after_short_sleeps_and_fully_after_a_success() {
        let mut spin = Spin::new(LONGEST);
        for _ in 0..8 {
            spin.lost();
        }
        spin.slept(Duration::from_micros(20));
        assert!(spin.budget() > Duration::ZERO);
        spin.won();
        assert_eq!(spin.budget(), LONGEST);
    }

    #[test]
    fn work_in_batches_is_not_looked_for() {
        let mut spin = Spin::new(LONGEST);
        (0..100).for_each(|_| spin.saw(1));
        assert_eq!(spin.budget(), LONGEST);
        (0..100).for_each(|_| spin.saw(20));
        assert_eq!(spin.budget(), Duration::ZERO);
        (0..100).for_each(|_| spin.saw(2));
        assert_eq!(spin.budget(), LONGEST);
    }

    #[test]
    fn bulk_is_not_looked_for() {
        let mut spin = Spin::new(LONGEST);
        for turn in 1..=10 {
            spin.moved(turn * 65_536);
            spin.saw(1);
        }
        assert_eq!(spin.budget(), Duration::ZERO);
        // It is over.
        for _ in 0..20 {
            spin.moved(655_360);
            spin.saw(1);
        }
        assert_eq!(spin.budget(), LONGEST);
    }

    #[test]
    fn zero_turns_it_off_for_good() {
        let mut spin = Spin::new(Duration::ZERO);
        spin.won();
        spin.slept(Duration::ZERO);
        assert_eq!(spin.budget(), Duration::ZERO);
    }
}
