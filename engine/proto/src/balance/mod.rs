//! Which endpoint gets the next exchange?
//!
//! One scheduler per file, each with its own state per core; never asks how an endpoint is, only whether it may.
//!
//! Suggested reading order: [`scheduler`] (all of them behind one door), [`round_robin`] and [`smooth`] (turns),
//! [`least`] (connections and times compared), [`random_two`]; [`hash`] (what is hashed), [`maglev`] and [`ketama`] (where
//! that leads); [`latency`] and [`source`] (what the others are told).

pub mod scheduler;

pub mod round_robin;
pub mod smooth;

pub mod least;
pub mod random_two;

pub mod hash;
pub mod ketama;
pub mod maglev;

pub mod latency;
pub mod source;

#[cfg(test)]
mod testing;

/// A weight of 1. Weights are counted in parts of it, so that one that is just starting can have a share of its own.
pub const WEIGHT_ONE: u32 = 256;

/// The endpoints of an upstream that may get new exchanges, as a scheduler sees them: by index, from 0 to the count.
pub trait View {
    /// How many there are.
    fn count(&self) -> u16;

    /// Where a scheduler keeps what it knows of one from pick to pick: the same for the same endpoint as long as it is
    /// there, and below the number of slots that the scheduler was made with.
    fn slot(&self, index: u16) -> u16;

    /// Its weight, in parts of [`WEIGHT_ONE`]; at least 1.
    fn weight(&self, index: u16) -> u32;

    /// Whether all weights are equal.
    fn is_even(&self) -> bool;

    /// Exchanges that it is carrying, those of all cores together.
    fn in_use(&self, index: u16) -> u32;

    /// How long it takes to answer, in nanoseconds; `None` if that is not known.
    fn latency(&self, index: u16) -> Option<u64>;

    /// Whether it may have this exchange: not if it has just failed at it, nor if it has all that it may have.
    fn may_take(&self, index: u16) -> bool;
}
