//! Whose turn is it, if some have more turns than others?
//!
//! Never gives one endpoint its turns in a row where they can be spread among those of the others.

use super::View;

/// Smooth weighted round robin, as nginx has it since 1.3.1.
///
/// At each pick every endpoint gains its weight; the one that has most is picked and pays what all gained. Over a number
/// of picks that is the sum of the weights, each gets exactly as many as its weight says: weights 5, 1, 1 give
/// a a b a c a a.
///
/// Source: nginx, commit 52327e0627f4 "Upstream: smooth weighted round-robin balancing" (Maxim Dounin, 2012).
#[derive(Debug)]
pub struct Smooth {
    /// What each has, by slot.
    credits: Box<[i64]>,
}

impl Smooth {
    /// For endpoints at slots below `slots`.
    #[must_use]
    pub fn new(slots: u16) -> Self {
        Self { credits: (0..slots).map(|_| 0).collect() }
    }

    /// The endpoint whose turn it is, of those that may have it.
    pub fn pick(&mut self, view: &impl View) -> Option<u16> {
        self.pick_among(view, |index| view.may_take(index))
    }

    /// The endpoint whose turn it is, of those that `is_asked` names. Those it does not name gain nothing.
    pub(super) fn pick_among(&mut self, view: &impl View, is_asked: impl Fn(u16) -> bool) -> Option<u16> {
        let mut total = 0;
        let mut best: Option<(i64, u16, usize)> = None;
        for index in (0..view.count()).filter(|&index| is_asked(index)) {
            let slot = usize::from(view.slot(index));
            let weight = i64::from(view.weight(index));
            let credit = self.credits[slot] + weight;
            self.credits[slot] = credit;
            total += weight;
            if best.is_none_or(|(most, ..)| credit > most) {
                best = Some((credit, index, slot));
            }
        }
        let (credit, index, slot) = best?;
        self.credits[slot] = credit - total;
        Some(index)
    }

    /// Whether nobody is owed anything.
    pub(super) fn is_new(&self) -> bool {
        self.credits.iter().all(|credit| *credit == 0)
    }

    /// Forgets what is owed to endpoints that are no longer there, so that who comes back begins anew.
    pub fn forget_absent(&mut self, view: &impl View) {
        let mut is_there = vec![false; self.credits.len()];
        (0..view.count()).for_each(|index| is_there[usize::from(view.slot(index))] = true);
        let absent = self.credits.iter_mut().zip(is_there).filter(|(_, is_there)| !is_there);
        absent.for_each(|(credit, _)| *credit = 0);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::{prop, prop_assert, prop_assert_eq, proptest};

    use super::*;
    use crate::balance::testing::Plan;

    fn picks(plan: &Plan, count: usize) -> Vec<u16> {
        let mut smooth = Smooth::new(plan.count());
        (0..count).map_while(|_| smooth.pick(plan)).collect()
    }

    #[test]
    fn spreads_the_turns_of_the_heavy_among_those_of_the_light() {
        // The example of the commit that brought it into nginx.
        assert_eq!(picks(&Plan::weights(&[5, 1, 1]), 7), [0, 0, 1, 0, 2, 0, 0]);
        assert_eq!(picks(&Plan::weights(&[1, 1, 1]), 6), [0, 1, 2, 0, 1, 2]);
        assert_eq!(picks(&Plan::weights(&[3, 1]), 4), [0, 0, 1, 0]);
        assert_eq!(picks(&Plan::weights(&[]), 1), []);
    }

    #[test]
    fn passes_over_those_that_may_not_be_used() {
        let mut plan = Plan::weights(&[2, 1, 1]);
        plan.refuse(0);
        assert_eq!(picks(&plan, 4), [1, 2, 1, 2]);
        plan.refuse(1);
        plan.refuse(2);
        assert_eq!(picks(&plan, 1), []);
    }

    #[test]
    fn who_comes_back_has_no_turns_to_make_up_for() {
        let mut smooth = Smooth::new(3);
        let (all, mut some) = (Plan::weights(&[1, 1, 1]), Plan::weights(&[1, 1]));
        assert_eq!((0..2).map_while(|_| smooth.pick(&all)).collect::<Vec<_>>(), [0, 1]);
        some.slots = vec![0, 1];
        smooth.forget_absent(&some);
        assert_eq!(smooth.credits[2], 0);
        assert_ne!(smooth.credits[0], 0);
    }

    proptest! {
        #[test]
        fn every_round_gives_each_exactly_its_weight(weights in prop::collection::vec(1_u32..20, 1..8)) {
            let round: u32 = weights.iter().sum();
            let chosen = picks(&Plan::weights(&weights), round as usize * 3);
            for round in chosen.chunks(round as usize) {
                for (index, weight) in (0..).zip(&weights) {
                    let got = round.iter().filter(|&&other| other == index).count();
                    prop_assert_eq!(got, *weight as usize);
                }
            }
        }

        #[test]
        fn no_endpoint_is_ever_far_from_its_share(weights in prop::collection::vec(1_u32..1000, 1..8)) {
            let total: u32 = weights.iter().sum();
            let chosen = picks(&Plan::weights(&weights), 2000);
            let mut got = vec![0_f64; weights.len()];
            for (picked, &index) in (1..).zip(&chosen) {
                got[usize::from(index)] += 1.0;
                for (got, weight) in got.iter().zip(&weights) {
                    let due = f64::from(picked) * f64::from(*weight) / f64::from(total);
                    prop_assert!((got - due).abs() < weights.len() as f64, "{got} {due}");
                }
            }
        }
    }
}
