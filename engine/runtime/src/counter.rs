//! How does a core count without a lock? Plain loads and stores on memory that only it writes.
//!
//! Never a read-modify-write instruction, never a second writer.

use std::sync::atomic::{AtomicU64, Ordering};

/// A 64-bit counter with one writer and any number of readers.
///
/// `add` is a load and a store: two threads that add at once would lose counts, so each core owns its own set.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// Adds `n`. Only the owning core may call this.
    #[inline]
    pub fn add(&self, n: u64) {
        self.0.store(self.0.load(Ordering::Relaxed).wrapping_add(n), Ordering::Relaxed);
    }

    /// Takes `n` away, for gauges. Only the owning core may call this.
    #[inline]
    pub fn sub(&self, n: u64) {
        self.0.store(self.0.load(Ordering::Relaxed).wrapping_sub(n), Ordering::Relaxed);
    }

    /// Replaces the value, for gauges. Only the owning core may call this.
    #[inline]
    pub fn set(&self, value: u64) {
        self.0.store(value, Ordering::Relaxed);
    }

    /// The value as last written.
    #[inline]
    #[must_use]
    pub fn value(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// What a core's executor counts about itself.
#[derive(Debug, Default)]
pub struct RuntimeCounters {
    /// Turns of the loop.
    pub turns: Counter,
    /// Tasks polled.
    pub polls: Counter,
    /// Tasks whose poll panicked; each was dropped, the core went on.
    pub task_panics: Counter,
    /// Times the core went to sleep in the kernel.
    pub sleeps: Counter,
    /// Busy waits that ended with work.
    pub spins_won: Counter,
    /// Busy waits that ended without.
    pub spins_lost: Counter,
    /// Reads put off because every buffer of the lane was in use.
    pub buffers_exhausted: Counter,
    /// Sockets open now (gauge).
    pub sockets: Counter,
    /// Buffers in use now (gauge).
    pub buffers: Counter,
    /// Pipes open now, in use or kept (gauge).
    pub pipes: Counter,
    /// Bytes moved from one socket to another by way of a pipe.
    pub spliced_bytes: Counter,
}
