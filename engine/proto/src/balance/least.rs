//! Who has least to do for its weight? Connections, delays or times compared.
//!
//! Never compares quotients: products say the same without a division. Equals take turns by weight, so that idle endpoints
//! get their shares and not the first of them all.

use super::View;
use super::smooth::Smooth;

/// What is compared, each divided by the weight.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Measure {
    /// Exchanges in use: LVS's weighted least-connection (`wlc`).
    ///
    /// Source: Linux, net/netfilter/ipvs/ip_vs_wlc.c. There, connections that have ended count a 256th of one that has
    /// not; here, those that have ended are gone.
    Connections,
    /// Exchanges in use and the one that comes: LVS's shortest expected delay (`sed`). A fast endpoint is not passed over
    /// because it has one exchange and a slow one none.
    ///
    /// Source: Linux, net/netfilter/ipvs/ip_vs_sed.c.
    Delay,
    /// One that has none first, then as `Delay`: LVS's never queue (`nq`). LVS takes the first that has none; here
    /// those that have none take turns.
    ///
    /// Source: Linux, net/netfilter/ipvs/ip_vs_nq.c.
    Queue,
    /// The average time to an answer, times the exchanges in use and the one that comes. Nobody knows how fast one is that
    /// has not answered yet, so it counts as fast as the fastest known.
    ///
    /// Source: nginx, `least_time` of ngx_http_upstream_module: the lowest average time and the fewest connections.
    Time,
}

/// A scheduler that compares.
#[derive(Debug)]
pub struct Least {
    measure: Measure,
    /// What each had at the last pick, by slot: it is looked up once, because other cores may change it meanwhile.
    costs: Box<[Cost]>,
    ties: Smooth,
}

/// What an endpoint costs. Never so much that the product with a weight overflows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Cost {
    /// 0 where an endpoint is to be preferred to any other.
    amount: u128,
    may_take: bool,
}

impl Least {
    /// For endpoints at slots below `slots`.
    #[must_use]
    pub fn new(measure: Measure, slots: u16) -> Self {
        Self { measure, costs: (0..slots).map(|_| Cost::default()).collect(), ties: Smooth::new(slots) }
    }

    /// The endpoint that has least, of those that may be chosen.
    pub fn pick(&mut self, view: &impl View) -> Option<u16> {
        let fastest = if self.measure == Measure::Time { fastest(view) } else { 1 };
        // The least so far, its weight, and whether others equal it.
        let mut least: Option<(u128, u32, u16, bool)> = None;
        for index in 0..view.count() {
            let cost = &mut self.costs[usize::from(view.slot(index))];
            cost.may_take = view.may_take(index);
            if !cost.may_take {
                continue;
            }
            cost.amount = amount(self.measure, view, index, fastest);
            let weight = view.weight(index);
            least = match least {
                None => Some((cost.amount, weight, index, false)),
                Some((amount, other, first, has_equal)) => {
                    let (mine, its) = (cost.amount * u128::from(other), amount * u128::from(weight));
                    match mine.cmp(&its) {
                        std::cmp::Ordering::Less => Some((cost.amount, weight, index, false)),
                        std::cmp::Ordering::Equal => Some((amount, other, first, true)),
                        std::cmp::Ordering::Greater => Some((amount, other, first, has_equal)),
                    }
                }
            };
        }
        let (amount, weight, index, has_equal) = least?;
        if !has_equal {
            return Some(index);
        }
        let costs = &self.costs;
        self.ties.pick_among(view, |index| {
            let cost = costs[usize::from(view.slot(index))];
            cost.may_take && cost.amount * u128::from(weight) == amount * u128::from(view.weight(index))
        })
    }

    /// Forgets what is owed to endpoints that are no longer there.
    pub fn forget_absent(&mut self, view: &impl View) {
        self.ties.forget_absent(view);
    }
}

fn amount(measure: Measure, view: &impl View, index: u16, fastest: u64) -> u128 {
    let in_use = u128::from(view.in_use(index));
    match measure {
        Measure::Connections => in_use,
        Measure::Queue if in_use == 0 => 0,
        Measure::Delay | Measure::Queue => in_use + 1,
        Measure::Time => u128::from(view.latency(index).unwrap_or(fastest).max(1)) * (in_use + 1),
    }
}

/// The shortest time that is known of any that may be chosen.
fn fastest(view: &impl View) -> u64 {
    let known =
        (0..view.count()).filter(|&index| view.may_take(index)).filter_map(|index| view.latency(index));
    known.min().unwrap_or(1)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::{prop, prop_assert, prop_assert_eq, proptest};

    use super::*;

    use crate::balance::testing::Plan;

    #[track_caller]
    fn check(measure: Measure, weights: &[u32], in_use: &[u32], expected: u16) {
        let plan = Plan { in_use: in_use.to_vec(), ..Plan::weights(weights) };
        assert_eq!(Least::new(measure, plan.count()).pick(&plan), Some(expected), "{weights:?} {in_use:?}");
    }

    #[test]
    fn least_connections_goes_by_the_connections_for_the_weight() {
        check(Measure::Connections, &[1, 1, 1], &[3, 2, 4], 1);
        check(Measure::Connections, &[1, 2], &[3, 5], 1);
        check(Measure::Connections, &[1, 2], &[2, 5], 0);
        check(Measure::Connections, &[65_535, 1], &[65_534, 1], 0);
        check(Measure::Connections, &[1, 1], &[u32::MAX, u32::MAX - 1], 1);
    }

    #[test]
    fn shortest_expected_delay_counts_the_one_that_comes() {
        // As ip_vs_sed.c says: (connections + 1) / weight.
        check(Measure::Delay, &[1, 3], &[0, 1], 1);
        check(Measure::Delay, &[1, 3], &[0, 3], 0);
        check(Measure::Delay, &[1, 2, 4], &[1, 2, 6], 1);
    }

    #[test]
    fn never_queue_takes_an_idle_one_before_a_fast_one() {
        check(Measure::Queue, &[1, 3], &[0, 1], 0);
        check(Measure::Queue, &[1, 3], &[1, 2], 1);
        check(Measure::Queue, &[1, 1], &[2, 1], 1);
    }

    #[test]
    fn least_time_weighs_the_time_with_what_is_in_use() {
        let check = |latencies: &[Option<u64>], in_use: &[u32], expected| {
            let weights = vec![1; in_use.len()];
            let plan =
                Plan { latencies: latencies.to_vec(), in_use: in_use.to_vec(), ..Plan::weights(&weights) };
            assert_eq!(Least::new(Measure::Time, plan.count()).pick(&plan), Some(expected), "{plan:?}");
        };
        check(&[Some(5_000), Some(1_000)], &[0, 0], 1);
        check(&[Some(5_000), Some(1_000)], &[0, 5], 0);
        check(&[Some(5_000), Some(1_000)], &[0, 3], 1);
        // Who is not known is tried, though not by everybody at once.
        check(&[Some(5_000), None], &[0, 0], 0);
        check(&[Some(5_000), None, Some(7_000)], &[1, 0, 0], 1);
        check(&[Some(5_000), None], &[0, 1], 0);
        check(&[Some(u64::MAX), Some(u64::MAX - 1)], &[u32::MAX, u32::MAX], 1);
    }

    #[test]
    fn equals_take_turns_by_their_weights() {
        let plan = Plan::weights(&[2, 1, 1]);
        let mut least = Least::new(Measure::Connections, 3);
        let chosen: Vec<_> = (0..8).map_while(|_| least.pick(&plan)).collect();
        assert_eq!(chosen, [0, 1, 2, 0, 0, 1, 2, 0]);
    }

    #[test]
    fn passes_over_those_that_may_not_be_used() {
        let mut plan = Plan { in_use: vec![0, 1, 1], ..Plan::weights(&[1, 1, 1]) };
        plan.refuse(0);
        let mut least = Least::new(Measure::Connections, 3);
        assert_eq!([least.pick(&plan), least.pick(&plan)], [Some(1), Some(2)]);
        plan.refuse(1);
        plan.refuse(2);
        assert_eq!(least.pick(&plan), None);
    }

    proptest! {
        #[test]
        fn nobody_else_has_less(pairs in prop::collection::vec((1_u32..100, 0_u32..100), 1..10)) {
            let (weights, in_use): (Vec<_>, Vec<_>) = pairs.into_iter().unzip();
            let plan = Plan { in_use: in_use.clone(), ..Plan::weights(&weights) };
            for (measure, plus) in [(Measure::Connections, 0), (Measure::Delay, 1)] {
                let chosen = usize::from(Least::new(measure, plan.count()).pick(&plan).expect("some may"));
                for other in 0..weights.len() {
                    prop_assert!((in_use[chosen] + plus) * weights[other] <= (in_use[other] + plus) * weights[chosen]);
                }
            }
            let chosen = usize::from(Least::new(Measure::Queue, plan.count()).pick(&plan).expect("some may"));
            prop_assert_eq!(in_use[chosen] == 0, in_use.contains(&0));
        }
    }
}
