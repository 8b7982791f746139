//! How much of its rate has each of many keys used up? A table of fixed size, however many keys there are.
//!
//! Never lets a key have more than its rate, were the table far too small; never an entry to make or to remove that two cores
//! could disagree about.
//!
//! A key has a set of eight slots, found by its hash, and in one of them a tag with the moment until which its rate is used
//! up, both in one atomic. A key that is in none takes the slot whose moment is the earliest, and goes on from that moment as
//! if it were its own (Metwally, Agrawal and El Abbadi, "Efficient computation of frequent and top-k elements in data
//! streams", 2005). Moments only ever grow, so that the earliest of a set does too, and whoever was put out of it comes back
//! to one not earlier than its own: it is never owed too little. A slot whose moment is over says nothing any more, and is
//! taken at no cost.
//!
//! So a key is refused too early only where eight others of its set have lately been busy, or if another has its set and tag
//! by chance: one of 134 million in a table of 16,384 slots. Hashes have to be keyed, so that nobody can choose a neighbour.
//!
//! Two cores that bring the same key at once never make two slots of it: both would take the earliest slot, of equals the
//! first, and where one has taken that, the other's exchange fails and it looks again.

use std::sync::atomic::{AtomicU64, Ordering};

use super::{Exhausted, Pace, TRIES_MAX};

/// Slots of a set: a line of the cache.
const WAYS: usize = 8;
/// Bits of a slot that tell keys of a set apart.
const TAG_BITS: u32 = 14;
const TAG_MASK: u64 = (1 << TAG_BITS) - 1;
/// Moments are counted in steps of 256 ns: 50 bits hold nine years of them.
const STEP_BITS: u32 = 8;
const STEPS_MAX: u64 = u64::MAX >> TAG_BITS;

/// Fewest slots of a table.
pub const SLOTS_MIN: u32 = 1 << 10;
/// Most slots of a table: 8 MiB.
pub const SLOTS_MAX: u32 = 1 << 20;

#[derive(Debug, Default)]
#[repr(align(64))]
struct Set([AtomicU64; WAYS]);

/// A rate that each of many keys has of its own.
#[derive(Debug)]
pub struct KeyedRates {
    sets: Box<[Set]>,
}

/// What a slot says.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Slot(u64);

impl Slot {
    fn new(tag: u64, until: u64) -> Self {
        Self(until << TAG_BITS | tag)
    }

    fn tag(self) -> u64 {
        self.0 & TAG_MASK
    }

    /// In steps.
    fn until(self) -> u64 {
        self.0 >> TAG_BITS
    }
}

impl KeyedRates {
    /// A table of at least `slots`, within [`SLOTS_MIN`] and [`SLOTS_MAX`].
    #[must_use]
    pub fn new(slots: u32) -> Self {
        let slots = slots.clamp(SLOTS_MIN, SLOTS_MAX).next_power_of_two() as usize;
        Self { sets: (0..slots / WAYS).map(|_| Set::default()).collect() }
    }

    /// [`super::SharedRate::look`] for the key of this keyed hash.
    ///
    /// # Errors
    /// When one more would not be let in: how long to wait.
    pub fn look(&self, hash: u64, pace: Pace, now_nanos: u64) -> Result<(), Exhausted> {
        let (set, tag) = self.place(hash);
        let (_, slot) = find(set, tag);
        use_up(pace, slot, now_nanos).map(drop)
    }

    /// [`super::SharedRate::take`] for the key of this keyed hash.
    ///
    /// # Errors
    /// When that would be more than the key's rate allows: how long to wait.
    pub fn take(&self, hash: u64, pace: Pace, now_nanos: u64) -> Result<(), Exhausted> {
        let (set, tag) = self.place(hash);
        for _ in 0..TRIES_MAX {
            let (index, slot) = find(set, tag);
            let used_up = Slot::new(tag, use_up(pace, slot, now_nanos)?);
            // Who reads this slot has seen all that was seen here before it was written.
            let exchange =
                set.0[index].compare_exchange(slot.0, used_up.0, Ordering::AcqRel, Ordering::Relaxed);
            if exchange.is_ok() {
                return Ok(());
            }
        }
        Err(Exhausted::after(1))
    }

    /// The set of a key, and its tag, which is never that of an empty slot.
    fn place(&self, hash: u64) -> (&Set, u64) {
        let set = (hash >> 32) as usize & (self.sets.len() - 1);
        (&self.sets[set], (hash & TAG_MASK).max(1))
    }
}

/// The slot that has this tag, or else the one that is used up for the shortest time.
fn find(set: &Set, tag: u64) -> (usize, Slot) {
    let mut earliest = (0, Slot(u64::MAX));
    for (index, slot) in set.0.iter().enumerate() {
        let slot = Slot(slot.load(Ordering::Acquire));
        if slot.tag() == tag {
            return (index, slot);
        }
        if slot.until() < earliest.1.until() || index == 0 {
            earliest = (index, slot);
        }
    }
    earliest
}

/// Until when the rate of a slot is used up once one more is let in, in steps.
fn use_up(pace: Pace, slot: Slot, now_nanos: u64) -> Result<u64, Exhausted> {
    // Rounded so that a key has rather less than its due.
    let steps = |nanos: u64| nanos.div_ceil(1 << STEP_BITS);
    let interval = steps(pace.interval);
    let whole = Pace { interval, slack: pace.slack / pace.interval * interval };
    let until = whole.use_up(slot.until(), now_nanos >> STEP_BITS);
    let until = until.map_err(|exhausted| Exhausted::after(exhausted.nanos << STEP_BITS))?;
    if until > STEPS_MAX { Err(Exhausted::after(u64::MAX)) } else { Ok(until) }
}
