//! Does the core that accepted a connection keep it?
//!
//! Compares two loads; never asks how they came about, and never moves a connection that has begun.

/// What to do with a connection just accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Choice {
    /// Serve it here.
    Keep,
    /// Hand it to the other core.
    HandOver,
}

/// Smallest difference in connections that is worth a message to another core.
const LEAD_MIN: u32 = 4;

/// From this share of the other's load on, a difference counts: one eighth.
const LEAD_SHARE: u32 = 8;

/// Compares the connections of the accepting core, the new one not counted, with those of one other chosen at random.
///
/// The kernel spreads connections over listeners by a hash, so core loads differ like dice do. Handing over only
/// to a clearly idler core evens that out (two random choices suffice: Mitzenmacher, 2001), and the margin keeps
/// evenly loaded cores from passing connections to and fro: four connections or an eighth, whichever is more.
#[must_use]
pub fn choose_core(mine: u32, other: u32) -> Choice {
    let lead = LEAD_MIN.max(other / LEAD_SHARE);
    if other.saturating_add(lead) < mine { Choice::HandOver } else { Choice::Keep }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hands_over_to_a_clearly_idler_core_only() {
        for (mine, other, expected) in [
            (0, 0, Choice::Keep),
            (4, 0, Choice::Keep),
            (5, 0, Choice::HandOver),
            (100, 100, Choice::Keep),
            (112, 100, Choice::Keep),
            (113, 100, Choice::HandOver),
            (900, 800, Choice::Keep),
            (901, 800, Choice::HandOver),
            (0, 900, Choice::Keep),
            (u32::MAX, u32::MAX, Choice::Keep),
            (u32::MAX, 0, Choice::HandOver),
        ] {
            assert_eq!(choose_core(mine, other), expected, "{mine} {other}");
        }
    }

    /// Numbers that look random, from Knuth's multiplier for 64-bit linear congruential generators (MMIX).
    struct Dice(u64);

    impl Dice {
        fn below(&mut self, bound: usize) -> usize {
            self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (self.0 >> 33) as usize % bound
        }
    }

    /// Loads after `connections` of which the kernel gives two thirds to the first quarter of the cores.
    fn accept_unevenly(cores: usize, connections: u32, seed: u64) -> Vec<u32> {
        let mut dice = Dice(seed);
        let mut loads = vec![0_u32; cores];
        for _ in 0..connections {
            let favoured = if dice.below(3) < 2 { cores.div_ceil(4) } else { cores };
            let mine = dice.below(favoured);
            let other = (mine + 1 + dice.below(cores - 1)) % cores;
            let chosen = match choose_core(loads[mine], loads[other]) {
                Choice::Keep => mine,
                Choice::HandOver => other,
            };
            loads[chosen] += 1;
        }
        loads
    }

    #[test]
    fn no_core_ends_under_half_the_mean_of_1000_connections() {
        for cores in [2, 4, 8, 16, 32] {
            for seed in 0..50 {
                let loads = accept_unevenly(cores, 1000, seed);
                let mean = 1000 / cores as u32;
                assert!(loads.iter().all(|&load| load >= mean / 2), "{cores} cores, seed {seed}: {loads:?}");
            }
        }
    }
}
