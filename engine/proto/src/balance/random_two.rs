//! Who has less to do, of two chosen by chance?
//!
//! Never looks at all of them, so that cores which decide at the same moment do not all find the same one idle.

use super::View;
use super::hash::{below, salted};

/// Tries before those that may be chosen are counted. With half of them out, one pick in 16 comes to that.
const DRAWS_MAX: u64 = 4;

/// Two random choices: two different endpoints are drawn, each as likely as its weight says, and the one with fewer
/// exchanges in use for its weight is chosen. Two suffice: the longest of `n` queues is then log log n / log 2 long, not
/// log n / log log n.
///
/// Source: Mitzenmacher: The power of two choices in randomized load balancing (2001). `dice` are 64 random bits.
pub fn pick(view: &impl View, dice: u64) -> Option<u16> {
    let first = draw(view, dice, None)?;
    let Some(second) = draw(view, salted(dice, 1), Some(first)) else { return Some(first) };
    let cost = |index| u64::from(view.in_use(index));
    let weight = |index| u64::from(view.weight(index));
    let is_second_idler = cost(second) * weight(first) < cost(first) * weight(second);
    Some(if is_second_idler { second } else { first })
}

/// One of those that may be chosen, but not `other`.
fn draw(view: &impl View, dice: u64, other: Option<u16>) -> Option<u16> {
    let may = |index| Some(index) != other && view.may_take(index);
    if view.is_even() {
        let drawn = (0..DRAWS_MAX).map(|n| below(salted(dice, n), u64::from(view.count())) as u16);
        if let Some(index) = drawn.filter(|_| view.count() > 0).find(|&index| may(index)) {
            return Some(index);
        }
    }
    let total: u64 =
        (0..view.count()).filter(|&index| may(index)).map(|index| u64::from(view.weight(index))).sum();
    let mut ahead = below(salted(dice, DRAWS_MAX), total);
    let mut last = None;
    for index in (0..view.count()).filter(|&index| may(index)) {
        let weight = u64::from(view.weight(index));
        if ahead < weight {
            return Some(index);
        }
        ahead -= weight;
        last = Some(index);
    }
    // Only if who may be chosen has changed since they were counted.
    last
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::balance::testing::{Dice, Plan, chi_square};

    fn counted(plan: &Plan, picks: u32) -> Vec<u32> {
        let (mut dice, mut counted) = (Dice(7), vec![0; plan.weights.len()]);
        for _ in 0..picks {
            counted[usize::from(pick(plan, dice.roll()).expect("some may"))] += 1;
        }
        counted
    }

    #[test]
    fn idle_endpoints_are_chosen_as_often_as_their_weights_say() {
        // 16.27 is the chi-square of three degrees of freedom that one run in a thousand exceeds.
        for weights in [&[1, 1, 1, 1][..], &[4, 3, 2, 1]] {
            let total: u32 = weights.iter().sum();
            let due: Vec<_> =
                weights.iter().map(|&weight| 40_000.0 * f64::from(weight) / f64::from(total)).collect();
            let counted = counted(&Plan::weights(weights), 40_000);
            assert!(chi_square(&counted, &due) < 16.27, "{weights:?}: {counted:?}");
        }
    }

    #[test]
    fn of_two_the_idler_is_chosen() {
        let plan = Plan { in_use: vec![1, 0], ..Plan::weights(&[1, 1]) };
        assert_eq!(counted(&plan, 100), [0, 100]);
        let plan = Plan { in_use: vec![3, 5], ..Plan::weights(&[1, 2]) };
        assert_eq!(counted(&plan, 100), [0, 100]);
    }

    #[test]
    fn the_busiest_of_many_gets_nothing() {
        // It would have to be drawn twice.
        let plan = Plan { in_use: vec![0, 0, 9, 0], ..Plan::weights(&[1, 1, 1, 1]) };
        let counted = counted(&plan, 9_000);
        assert_eq!(counted[2], 0);
        assert!(chi_square(&[counted[0], counted[1], counted[3]], &[3_000.0; 3]) < 13.82, "{counted:?}");
    }

    #[test]
    fn passes_over_those_that_may_not_be_used() {
        for weights in [&[1, 1, 1][..], &[1, 2, 3]] {
            let mut plan = Plan::weights(weights);
            plan.refuse(1);
            assert_eq!(counted(&plan, 1_000)[1], 0);
            plan.refuse(0);
            assert_eq!(counted(&plan, 100), [0, 0, 100]);
            plan.refuse(2);
            assert_eq!(pick(&plan, 1), None);
        }
        assert_eq!(pick(&Plan::weights(&[]), 1), None);
    }

    /// Balls into bins: the law by which two choices are famous.
    #[test]
    fn two_choices_keep_the_longest_queue_short() {
        let mut plan = Plan::weights(&[1; 1_000]);
        let mut dice = Dice(1);
        for _ in 0..1_000 {
            let chosen = pick(&plan, dice.roll()).expect("some may");
            plan.in_use[usize::from(chosen)] += 1;
        }
        // One choice leaves 5 or 6 in the fullest; two, log log 1000 / log 2 + O(1).
        assert!(plan.in_use.iter().all(|&in_use| in_use <= 4), "{:?}", plan.in_use.iter().max());
    }
}
