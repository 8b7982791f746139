//! Which of the ways to choose an endpoint does an upstream go by?
//!
//! Never allocates for a pick; never chooses one that may not take the exchange.

use super::View;
use super::ketama::Ketama;
use super::least::{Least, Measure};
use super::maglev::Maglev;
use super::random_two;
use super::round_robin::RoundRobin;
use super::smooth::Smooth;

/// A way to choose.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Method {
    /// In turn: [`RoundRobin`] where all weights are equal, [`Smooth`] where they are not.
    RoundRobin,
    /// The one with least of something: [`Least`].
    Least(Measure),
    /// The better of two: [`random_two`].
    RandomTwo,
}

/// Where keys lead. Made by control when endpoints change, read by all cores.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Table {
    /// By [`Maglev`].
    Maglev(Maglev),
    /// By [`Ketama`].
    Ketama(Ketama),
}

impl Table {
    /// The endpoint that `key` leads to, by its index in the table, of those that may be chosen. One that may not is passed
    /// over and stays in the table, so that no other key moves, and its own come back when it does.
    #[must_use]
    pub fn pick(&self, key: u64, may_take: impl Fn(u16) -> bool) -> Option<u16> {
        match self {
            Self::Maglev(table) => table.pick(key, may_take),
            Self::Ketama(ring) => ring.pick(key, may_take),
        }
    }
}

/// One core's way to choose for one upstream.
#[derive(Debug)]
pub struct Scheduler {
    method: Method,
    turns: RoundRobin,
    smooth: Smooth,
    least: Option<Box<Least>>,
    /// Cores start their rounds at different endpoints.
    offset: u16,
}

impl Scheduler {
    /// For endpoints at slots below `slots`. Cores of different `offset` begin with different endpoints, or the first would
    /// get every core's first exchange.
    #[must_use]
    pub fn new(method: Method, slots: u16, offset: u16) -> Self {
        let least = match method {
            Method::Least(measure) => Some(Box::new(Least::new(measure, slots))),
            Method::RoundRobin | Method::RandomTwo => None,
        };
        Self { method, turns: RoundRobin::new(offset), smooth: Smooth::new(slots), least, offset }
    }

    /// The endpoint that gets the exchange, by its index in `view`; none if none may take it. `dice` are 64 random bits.
    #[inline]
    pub fn pick(&mut self, view: &impl View, dice: u64) -> Option<u16> {
        match self.method {
            Method::RoundRobin => self.pick_in_turn(view),
            Method::RandomTwo => random_two::pick(view, dice),
            Method::Least(_) => self.least.as_mut()?.pick(view),
        }
    }

    /// The endpoint of `count` whose turn it is, where all are alike and any may take it.
    #[inline]
    pub fn next(&mut self, count: u16) -> Option<u16> {
        self.turns.next(count, |_| true)
    }

    #[inline]
    fn pick_in_turn(&mut self, view: &impl View) -> Option<u16> {
        if view.is_even() {
            return self.turns.next(view.count(), |index| view.may_take(index));
        }
        self.smooth.pick(view)
    }

    /// The endpoints are others now.
    pub fn endpoints_changed(&mut self, view: &impl View) {
        self.smooth.forget_absent(view);
        if let Some(least) = &mut self.least {
            least.forget_absent(view);
        }
        if view.count() > 0 && !view.is_even() && self.smooth.is_new() {
            // Each core begins elsewhere in the round.
            for _ in 0..self.offset % view.count() {
                let _ = self.smooth.pick(view);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::balance::testing::{Dice, Plan};

    const ALL: [Method; 6] = [
        Method::RoundRobin,
        Method::Least(Measure::Connections),
        Method::Least(Measure::Delay),
        Method::Least(Measure::Queue),
        Method::Least(Measure::Time),
        Method::RandomTwo,
    ];

    #[test]
    fn no_way_chooses_one_that_may_not_be_chosen() {
        let mut dice = Dice(3);
        for method in ALL {
            for weights in [&[1_u32, 1, 1, 1][..], &[1, 2, 3, 4]] {
                let mut plan = Plan::weights(weights);
                let mut scheduler = Scheduler::new(method, 4, 1);
                scheduler.endpoints_changed(&plan);
                for refused in 0..=4 {
                    for _ in 0..100 {
                        let chosen = scheduler.pick(&plan, dice.roll()).map(usize::from);
                        let may = |index: usize| !plan.refused[index];
                        assert!(chosen.map_or(refused == 4, may), "{method:?} {chosen:?}");
                    }
                    plan.refused.iter_mut().take(refused + 1).for_each(|refused| *refused = true);
                }
            }
        }
    }

    /// Weights are shares where nothing else tells endpoints apart, on one core and over several.
    #[test]
    fn idle_endpoints_get_their_shares_over_all_cores_together() {
        let mut dice = Dice(11);
        for method in ALL {
            for weights in [&[1_u32, 1, 1, 1][..], &[4, 3, 2, 1]] {
                let counts_the_next = matches!(method, Method::Least(Measure::Delay | Measure::Time));
                if counts_the_next && weights[0] != weights[3] {
                    continue; // of idle ones, the heaviest has the shortest delay
                }
                for cores in [1, 2, 8] {
                    let plan = Plan::weights(weights);
                    let mut schedulers: Vec<_> =
                        (0..cores).map(|core| Scheduler::new(method, 4, core)).collect();
                    schedulers.iter_mut().for_each(|scheduler| scheduler.endpoints_changed(&plan));
                    let mut counted = [0_u32; 4];
                    for n in 0..10_000 {
                        let chosen = schedulers[n % usize::from(cores)].pick(&plan, dice.roll());
                        counted[usize::from(chosen.expect("some may"))] += 1;
                    }
                    let total: u32 = weights.iter().sum();
                    for (got, weight) in counted.iter().zip(weights) {
                        let due = 10_000 * weight / total;
                        let bound = match method {
                            Method::RoundRobin | Method::Least(_) => u32::from(cores) * 4,
                            // Four standard deviations.
                            Method::RandomTwo => 200,
                        };
                        assert!(got.abs_diff(due) <= bound, "{method:?} {weights:?} {cores}: {counted:?}");
                    }
                }
            }
        }
    }

    #[test]
    fn cores_do_not_begin_with_the_same_endpoint() {
        for weights in [&[1_u32, 1, 1, 1][..], &[4, 3, 2, 3]] {
            let first = |core| {
                let plan = Plan::weights(weights);
                let mut scheduler = Scheduler::new(Method::RoundRobin, 4, core);
                scheduler.endpoints_changed(&plan);
                scheduler.pick(&plan, 0).expect("some may")
            };
            let mut firsts: Vec<_> = (0..4).map(first).collect();
            firsts.sort_unstable();
            firsts.dedup();
            assert!(firsts.len() > 2, "{weights:?} {firsts:?}");
        }
    }
}
