//! What do schedulers see in tests? Numbers that a test has written down.
//!
//! Never used outside of tests.

use super::{View, WEIGHT_ONE};

/// Endpoints as a test wants them.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    pub(crate) slots: Vec<u16>,
    pub(crate) weights: Vec<u32>,
    pub(crate) in_use: Vec<u32>,
    pub(crate) latencies: Vec<Option<u64>>,
    pub(crate) refused: Vec<bool>,
}

impl Plan {
    /// Idle endpoints of these whole weights.
    pub(crate) fn weights(weights: &[u32]) -> Self {
        let count = weights.len();
        Self {
            slots: (0..).take(count).collect(),
            weights: weights.iter().map(|weight| weight * WEIGHT_ONE).collect(),
            in_use: vec![0; count],
            latencies: vec![None; count],
            refused: vec![false; count],
        }
    }

    /// This one may not be chosen.
    pub(crate) fn refuse(&mut self, index: usize) {
        self.refused[index] = true;
    }
}

impl View for Plan {
    fn count(&self) -> u16 {
        self.weights.len() as u16
    }

    fn slot(&self, index: u16) -> u16 {
        self.slots[usize::from(index)]
    }

    fn weight(&self, index: u16) -> u32 {
        self.weights[usize::from(index)]
    }

    fn is_even(&self) -> bool {
        self.weights.windows(2).all(|pair| pair[0] == pair[1])
    }

    fn in_use(&self, index: u16) -> u32 {
        self.in_use[usize::from(index)]
    }

    fn latency(&self, index: u16) -> Option<u64> {
        self.latencies[usize::from(index)]
    }

    fn may_take(&self, index: u16) -> bool {
        !self.refused[usize::from(index)]
    }
}

/// Numbers that look random, from Knuth's multiplier for 64-bit linear congruential generators (MMIX), mixed.
pub(crate) struct Dice(pub(crate) u64);

impl Dice {
    pub(crate) fn roll(&mut self) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        super::hash::mix(self.0)
    }
}

/// Pearson's chi-square of what was counted against what was due.
pub(crate) fn chi_square(counted: &[u32], due: &[f64]) -> f64 {
    counted.iter().zip(due).map(|(&got, due)| (f64::from(got) - due).powi(2) / due).sum()
}
