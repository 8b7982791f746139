//! Which deadlines have passed? A hierarchical timer wheel of 1 ms ticks.
//!
//! Pure: a caller passes the tick. Insert, cancel and expiry of one entry are O(1), entries live in one slab.
//!
//! After Varghese and Lauck, "Hashed and Hierarchical Timing Wheels" (1987), scheme 7: level `n` has 64 slots of
//! 64^n ticks; an entry of a higher level falls into a lower one when its slot comes up.

/// Slots per level; a power of two so that one `u64` tells which are occupied.
const SLOTS: usize = 64;
/// Bits of a tick that select a slot.
const SLOT_BITS: u32 = 6;
/// Five levels of 64 slots span 2^30 ms, about 12 days; later deadlines wait in the last slot and fall again.
const LEVELS: usize = 5;
/// No entry.
const NONE: u32 = u32::MAX;

/// Names an entry from [`Wheel::insert`] until it fires or is cancelled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EntryId(u32);

impl EntryId {
    pub(crate) const fn from_raw(raw: u32) -> Self {
        Self(raw)
    }

    pub(crate) const fn raw(self) -> u32 {
        self.0
    }
}

#[derive(Clone, Copy, Debug)]
struct Entry {
    tick: u64,
    key: u32,
    next: u32,
    previous: u32,
    /// Index into `heads`, or [`NONE`] for a free entry.
    list: u32,
}

/// A set of keys, each with a tick at which it is due.
#[derive(Debug)]
pub struct Wheel {
    now: u64,
    entries: Vec<Entry>,
    free: u32,
    heads: [u32; LEVELS * SLOTS],
    occupied: [u64; LEVELS],
    len: usize,
}

impl Default for Wheel {
    fn default() -> Self {
        Self::new()
    }
}

impl Wheel {
    /// An empty wheel at tick 0.
    #[must_use]
    pub fn new() -> Self {
        Self {
            now: 0,
            entries: Vec::new(),
            free: NONE,
            heads: [NONE; LEVELS * SLOTS],
            occupied: [0; LEVELS],
            len: 0,
        }
    }

    /// Number of entries waiting.
    #[must_use]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether nothing waits.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Makes `key` due at `tick`; a tick that has passed is due at the next one.
    pub fn insert(&mut self, tick: u64, key: u32) -> EntryId {
        let tick = tick.max(self.now + 1);
        let index = if self.free == NONE {
            self.entries.push(Entry { tick, key, next: NONE, previous: NONE, list: NONE });
            u32::try_from(self.entries.len() - 1).expect("fewer than 2^32 timers")
        } else {
            let index = self.free;
            self.free = self.entries[index as usize].next;
            self.entries[index as usize] = Entry { tick, key, next: NONE, previous: NONE, list: NONE };
            index
        };
        self.link(index);
        self.len += 1;
        EntryId(index)
    }

    /// Takes an entry out. The id must not have fired or been cancelled before.
    pub fn cancel(&mut self, id: EntryId) {
        self.unlink(id.0);
        self.release(id.0);
    }

    /// The tick an entry will be due at.
    #[must_use]
    pub fn due(&self, id: EntryId) -> u64 {
        self.entries[id.0 as usize].tick
    }

    /// Ticks from now until the wheel has to be advanced again, a lower bound of the next due tick.
    #[must_use]
    pub fn ticks_until_next(&self) -> Option<u64> {
        let mut nearest: Option<u64> = None;
        for (level, &occupied) in self.occupied.iter().enumerate() {
            if occupied == 0 {
                continue;
            }
            let shift = SLOT_BITS * level as u32;
            let position = (self.now >> shift) % SLOTS as u64;
            // Slots behind the position belong to the next revolution.
            let distance = u64::from(occupied.rotate_right(position as u32).trailing_zeros());
            let distance = if distance == 0 { SLOTS as u64 } else { distance };
            let tick = ((self.now >> shift) + distance) << shift;
            nearest = Some(nearest.map_or(tick, |other| other.min(tick)));
        }
        nearest.map(|tick| tick - self.now)
    }

    /// Moves time forward to `now` and calls `fire` with each key that has become due, at most once an entry.
    pub fn advance(&mut self, now: u64, mut fire: impl FnMut(u32)) {
        while self.now < now {
            if self.len == 0 {
                self.now = now;
                return;
            }
            // Jump over stretches in which nothing is due and nothing falls.
            let step = self.ticks_until_next().map_or(now - self.now, |ticks| ticks.min(now - self.now));
            self.now += step;
            self.turn(&mut fire);
        }
    }

    /// Handles the slots that begin at the current tick, the highest level first.
    fn turn(&mut self, fire: &mut impl FnMut(u32)) {
        for level in (0..LEVELS).rev() {
            let shift = SLOT_BITS * level as u32;
            if self.now & ((1 << shift) - 1) != 0 {
                continue;
            }
            let slot = ((self.now >> shift) % SLOTS as u64) as usize;
            let list = level * SLOTS + slot;
            let mut index = self.heads[list];
            self.heads[list] = NONE;
            self.occupied[level] &= !(1 << slot);
            while index != NONE {
                let entry = self.entries[index as usize];
                if entry.tick <= self.now {
                    self.release(index);
                    fire(entry.key);
                } else {
                    self.link(index);
                }
                index = entry.next;
            }
        }
    }

    fn link(&mut self, index: u32) {
        let tick = self.entries[index as usize].tick;
        // The level is the highest group of bits in which the due tick differs from now.
        let differing = (tick ^ self.now) | 1;
        let level = (((63 - differing.leading_zeros()) / SLOT_BITS) as usize).min(LEVELS - 1);
        let shift = SLOT_BITS * level as u32;
        let slot = if level == LEVELS - 1 && (tick >> shift) - (self.now >> shift) >= SLOTS as u64 {
            // Beyond the horizon: the slot that comes up last.
            (((self.now >> shift) + SLOTS as u64 - 1) % SLOTS as u64) as usize
        } else {
            ((tick >> shift) % SLOTS as u64) as usize
        };
        let list = level * SLOTS + slot;
        let head = self.heads[list];
        let entry = &mut self.entries[index as usize];
        entry.next = head;
        entry.previous = NONE;
        entry.list = list as u32;
        if head != NONE {
            self.entries[head as usize].previous = index;
        }
        self.heads[list] = index;
        self.occupied[level] |= 1 << slot;
    }

    fn unlink(&mut self, index: u32) {
        let Entry { next, previous, list, .. } = self.entries[index as usize];
        debug_assert_ne!(list, NONE, "an entry is cancelled at most once");
        if next != NONE {
            self.entries[next as usize].previous = previous;
        }
        if previous != NONE {
            self.entries[previous as usize].next = next;
        } else {
            self.heads[list as usize] = next;
            if next == NONE {
                self.occupied[list as usize / SLOTS] &= !(1 << (list as usize % SLOTS));
            }
        }
    }

    fn release(&mut self, index: u32) {
        let entry = &mut self.entries[index as usize];
        entry.list = NONE;
        entry.next = self.free;
        self.free = index;
        self.len -= 1;
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn fires_at_its_tick_and_not_before() {
        for tick in
            [1, 2, 63, 64, 65, 127, 128, 4095, 4096, 4097, 262_144, 16_777_216, 1 << 30, (1 << 31) + 7]
        {
            let mut wheel = Wheel::new();
            wheel.insert(tick, 7);
            let mut fired = Vec::new();
            wheel.advance(tick - 1, |key| fired.push(key));
            assert!(fired.is_empty(), "{tick} too early");
            wheel.advance(tick, |key| fired.push(key));
            assert_eq!(fired, [7], "{tick}");
            assert!(wheel.is_empty());
        }
    }

    #[test]
    fn a_passed_tick_is_due_at_the_next_one() {
        let mut wheel = Wheel::new();
        wheel.advance(1000, |_| unreachable!());
        wheel.insert(5, 1);
        assert_eq!(wheel.ticks_until_next(), Some(1));
        let mut fired = 0;
        wheel.advance(1001, |_| fired += 1);
        assert_eq!(fired, 1);
    }

    #[derive(Clone, Debug)]
    enum Step {
        Insert(u64),
        Cancel(usize),
        Advance(u64),
    }

    fn step() -> impl Strategy<Value = Step> {
        let span = prop_oneof![0..100u64, 0..10_000u64, 0..5_000_000u64, 0..3_000_000_000u64];
        prop_oneof![
            span.clone().prop_map(Step::Insert),
            (0..64usize).prop_map(Step::Cancel),
            span.prop_map(Step::Advance),
        ]
    }

    proptest! {
        /// Model: a sorted map. Every key fires exactly once, in the advance that reaches its tick.
        #[test]
        fn agrees_with_a_sorted_map(steps in proptest::collection::vec(step(), 1..200)) {
            let mut wheel = Wheel::new();
            let mut model: BTreeMap<u32, (u64, EntryId)> = BTreeMap::new();
            let mut now = 0;
            let mut key = 0;
            for step in steps {
                match step {
                    Step::Insert(after) => {
                        let tick = now + after;
                        model.insert(key, (tick.max(now + 1), wheel.insert(tick, key)));
                        key += 1;
                    }
                    Step::Cancel(nth) => {
                        if let Some((&key, &(_, id))) = model.iter().nth(nth) {
                            wheel.cancel(id);
                            model.remove(&key);
                        }
                    }
                    Step::Advance(by) => {
                        now += by;
                        let mut fired = Vec::new();
                        wheel.advance(now, |key| fired.push(key));
                        let mut due: Vec<u32> =
                            model.iter().filter(|(_, (tick, _))| *tick <= now).map(|(key, _)| *key).collect();
                        due.iter().for_each(|key| { model.remove(key); });
                        fired.sort_unstable();
                        due.sort_unstable();
                        prop_assert_eq!(fired, due);
                    }
                }
                prop_assert_eq!(wheel.len(), model.len());
                if let Some(ticks) = wheel.ticks_until_next() {
                    let next = model.values().map(|(tick, _)| *tick).min().expect("not empty");
                    prop_assert!(now + ticks <= next, "{} + {} > {}", now, ticks, next);
                }
            }
        }
    }
}
