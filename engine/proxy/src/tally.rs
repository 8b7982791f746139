//! How many of something has each client address now? Over all cores, and exact where it matters: never one too many.
//!
//! Never a lock, never grows, and holds no entry for two cores to disagree about.
//!
//! A table of fixed size (Cormode and Muthukrishnan, "An improved data stream summary", 2005): each address has a place in
//! every row, shared with whoever has the same by chance, and has at most as many as the least of its places says. So no
//! address ever gets more than its share. One is refused too early only if it shares every one of its places with others that
//! are at their bound together: with a thousand such addresses, four rows of 16,384 places, that is 12 of a million. Which
//! places those are depends on a key of the process, so nobody can choose a neighbour.

use std::hash::{BuildHasher, RandomState};
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use crate::address::client_key;

/// Rows of the table, and places in each: 256 KiB in all, and only if somebody needs it.
const ROWS: usize = 4;
const COLUMNS: usize = 1 << 14;

/// How many each address has.
#[derive(Debug)]
pub(crate) struct Tally {
    counts: Box<[AtomicU32]>,
    key: RandomState,
}

/// Where one is counted that an address has, a column for each row.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Places([u16; ROWS]);

impl Tally {
    /// The number by which something that bounds is told from others, whatever its place in a configuration.
    pub(crate) fn owner(&self, kind: &str, name: &str) -> u64 {
        self.key.hash_one((kind, name))
    }

    /// This table goes on if it is one, or if none is needed.
    pub(crate) fn next(self: &Arc<Self>, is_needed: bool) -> Arc<Self> {
        if is_needed && self.counts.is_empty() { Arc::new(Self::new(true)) } else { Arc::clone(self) }
    }

    /// Nobody has any. Where nothing is to be counted, no memory is taken.
    pub(crate) fn new(is_needed: bool) -> Self {
        let places = if is_needed { ROWS * COLUMNS } else { 0 };
        Self { counts: (0..places).map(|_| AtomicU32::new(0)).collect(), key: RandomState::new() }
    }

    /// Counts one more that `address` has of what `owner` bounds, unless it has `max` already. Two that come at once where there
    /// is room for one may both be refused, never both be let in.
    pub(crate) fn enter(&self, owner: u64, address: IpAddr, max: u32) -> Option<Places> {
        let bits = self.key.hash_one((owner, client_key(address)));
        let places = Places(std::array::from_fn(|row| (bits >> (row * 16)) as u16 % COLUMNS as u16));
        let before = self.counts(places).map(|count| count.fetch_add(1, Ordering::Relaxed)).min();
        if before.is_some_and(|before| before >= max) {
            self.leave(places);
            return None;
        }
        Some(places)
    }

    /// It has one fewer.
    pub(crate) fn leave(&self, places: Places) {
        self.counts(places).for_each(|count| {
            count.fetch_sub(1, Ordering::Relaxed);
        });
    }

    fn counts(&self, Places(places): Places) -> impl Iterator<Item = &AtomicU32> {
        places.into_iter().enumerate().map(|(row, place)| &self.counts[row * COLUMNS + usize::from(place)])
    }

    #[cfg(test)]
    pub(crate) fn is_unused(&self) -> bool {
        self.counts.is_empty()
    }

    #[cfg(test)]
    pub(crate) fn is_zero(&self) -> bool {
        self.counts.iter().all(|count| count.load(Ordering::Relaxed) == 0)
    }
}
