//! When is each request meant to be sent?
//!
//! A schedule never reads a clock and never waits: callers tell it the time since the start of the run, and a server
//! that answers late cannot move a time it has already settled on.

pub(crate) mod rate_plan;

use std::fmt;
use std::time::Duration;

use crate::schedule::rate_plan::RatePlan;

/// How requests arrive at the server.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Arrival {
    /// Closed loop: a connection sends its next request as soon as the last one is answered.
    Closed,
    /// Open loop, evenly spaced along this plan of all threads' rate.
    Constant(RatePlan),
    /// Open loop, random as from many independent users, with this plan of all threads' mean rate.
    Poisson(RatePlan),
}

impl Arrival {
    /// The rate of an open loop.
    pub(crate) fn plan(&self) -> Option<&RatePlan> {
        match self {
            Self::Closed => None,
            Self::Constant(plan) | Self::Poisson(plan) => Some(plan),
        }
    }

    /// The name in reports; scripts read it.
    pub(crate) const fn name(&self) -> &'static str {
        match self {
            Self::Closed => "closed",
            Self::Constant(_) => "constant",
            Self::Poisson(_) => "poisson",
        }
    }
}

impl fmt::Display for Arrival {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.plan() {
            None => formatter.write_str("closed loop"),
            Some(plan) => write!(formatter, "open loop at {plan} /s ({})", self.name()),
        }
    }
}

/// The whole run's arrivals, before they are dealt out to threads.
#[derive(Clone, Debug)]
pub(crate) struct Pattern {
    /// Spacing of the requests.
    pub(crate) arrival: Arrival,
    /// No request is due at or after this time since the start; `None` runs until `requests_max` are sent.
    pub(crate) duration: Option<Duration>,
    /// Most requests in all.
    pub(crate) requests_max: Option<u64>,
    /// Where the dice start.
    pub(crate) seed: u64,
}

impl Pattern {
    /// The share of thread `index` out of `threads`.
    ///
    /// Constant arrivals interleave: the n-th of all is due when the plan's integral reaches n. Poisson arrivals are
    /// independent streams, whose union is again Poisson at the full rate; each is a stream of rate one, stretched by
    /// the inverse of the plan's integral (Çinlar's inversion), which is exact for a rate that changes.
    pub(crate) fn share(&self, index: usize, threads: usize) -> Schedule {
        let dice = Dice::new(self.seed, index as u64);
        let (index, threads) = (index as u64, threads as u64);
        let pace = match &self.arrival {
            Arrival::Closed => Pace::Closed,
            Arrival::Constant(plan) => Pace::Constant { plan: plan.clone(), first: index, stride: threads },
            Arrival::Poisson(plan) => {
                Pace::Poisson { plan: plan.clone(), dice, count: 0.0, mean: threads as f64 }
            }
        };
        Schedule {
            pace,
            given: 0,
            given_max: self
                .requests_max
                .map_or(u64::MAX, |all| all / threads + u64::from(index < all % threads)),
            end: self.duration.map_or(u64::MAX, |duration| duration.as_nanos() as u64),
            held: None,
        }
    }
}

/// The intended send times of one thread, in nanoseconds since the start of the run.
#[derive(Clone, Debug)]
pub(crate) struct Schedule {
    pace: Pace,
    given: u64,
    given_max: u64,
    end: u64,
    /// Looked at and not due yet: the next to be handed out.
    held: Option<u64>,
}

#[derive(Clone, Debug)]
enum Pace {
    Closed,
    /// Every `stride`-th request of all, from the one numbered `first`.
    Constant {
        plan: RatePlan,
        first: u64,
        stride: u64,
    },
    /// `count` is what the plan's integral has reached: it grows by exponential steps around `mean`.
    Poisson {
        plan: RatePlan,
        dice: Dice,
        count: f64,
        mean: f64,
    },
}

impl Schedule {
    /// Whether requests are due at times of their own, whatever the server does.
    pub(crate) fn is_open(&self) -> bool {
        !matches!(self.pace, Pace::Closed)
    }

    /// Hands out the next intended send time, which may lie in the past, or `None` when the run is over at `now`.
    pub(crate) fn next(&mut self, now: u64) -> Option<u64> {
        if now >= self.end {
            return None;
        }
        self.held.take().or_else(|| self.due(now))
    }

    /// Hands out the next intended send time if it has come at `now`.
    pub(crate) fn next_if_due(&mut self, now: u64) -> Option<u64> {
        let at = self.next(now)?;
        if at > now {
            self.held = Some(at);
            return None;
        }
        Some(at)
    }

    /// Counts the requests that were due before `now` and will never be handed out. Ends the schedule.
    pub(crate) fn abandon(&mut self, now: u64) -> u64 {
        if !self.is_open() {
            return 0;
        }
        self.end = self.end.min(now);
        let mut abandoned = u64::from(self.held.take().is_some_and(|at| at < self.end));
        while self.due(now).is_some() {
            abandoned += 1;
        }
        abandoned
    }

    fn due(&mut self, now: u64) -> Option<u64> {
        if self.given >= self.given_max {
            return None;
        }
        let at = match &mut self.pace {
            Pace::Closed => now,
            // Computed, not summed up: the thousandth million is as exact as the first.
            Pace::Constant { plan, first, stride } => {
                plan.time_of((*first + *stride * self.given) as f64).round() as u64
            }
            Pace::Poisson { plan, dice, count, mean } => {
                *count += dice.exponential(*mean);
                plan.time_of(*count).round() as u64
            }
        };
        if at >= self.end {
            // Nothing further can be due: later times only grow.
            self.given_max = self.given;
            return None;
        }
        self.given += 1;
        Some(at)
    }
}

/// A seeded random generator: xoshiro256++ by Blackman and Vigna, its state filled by SplitMix64 as they advise.
#[derive(Clone, Debug)]
pub(crate) struct Dice {
    state: [u64; 4],
}

impl Dice {
    /// A generator for one `stream` of `seed`: equal arguments give equal sequences, different streams unrelated ones.
    pub(crate) fn new(seed: u64, stream: u64) -> Self {
        let mut mixer = seed ^ split_mix(&mut stream.wrapping_add(1));
        Self { state: std::array::from_fn(|_| split_mix(&mut mixer)) }
    }

    /// The next 64 random bits.
    pub(crate) fn roll(&mut self) -> u64 {
        let [s0, s1, s2, s3] = &mut self.state;
        let rolled = s0.wrapping_add(*s3).rotate_left(23).wrapping_add(*s0);
        let shifted = *s1 << 17;
        *s2 ^= *s0;
        *s3 ^= *s1;
        *s1 ^= *s2;
        *s0 ^= *s3;
        *s2 ^= shifted;
        *s3 = s3.rotate_left(45);
        rolled
    }

    /// A whole number up to `most`, each as likely as the others to within 2^-64 of the range.
    pub(crate) fn up_to(&mut self, most: u64) -> u64 {
        // The upper half of the product: Lemire's multiply-and-shift, without its rejection step.
        ((u128::from(self.roll()) * (u128::from(most) + 1)) >> 64) as u64
    }

    fn exponential(&mut self, mean: f64) -> f64 {
        // 53 bits make every float in (0, 1] equally likely; zero, whose logarithm is infinite, cannot come up.
        let uniform = ((self.roll() >> 11) + 1) as f64 / (1_u64 << 53) as f64;
        -uniform.ln() * mean
    }
}

fn split_mix(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut mixed = *state;
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pattern(arrival: Arrival, duration_s: u64) -> Pattern {
        Pattern { arrival, duration: Some(Duration::from_secs(duration_s)), requests_max: None, seed: 7 }
    }

    fn times(mut schedule: Schedule) -> Vec<u64> {
        std::iter::from_fn(|| schedule.next(0)).collect()
    }

    #[test]
    fn an_arrival_says_what_it_is() {
        for (arrival, name, text) in [
            (Arrival::Closed, "closed", "closed loop"),
            (
                Arrival::Constant(planned("1k..5k/30s")),
                "constant",
                "open loop at 1000..5000/30s /s (constant)",
            ),
            (Arrival::Poisson(planned("500")), "poisson", "open loop at 500 /s (poisson)"),
        ] {
            assert_eq!((arrival.name(), arrival.to_string().as_str()), (name, text));
        }
    }

    #[test]
    fn closed_loop_sends_at_once_until_the_end() {
        let mut schedule = pattern(Arrival::Closed, 1).share(0, 1);
        assert_eq!(schedule.next(5), Some(5));
        assert_eq!(schedule.next(999_999_999), Some(999_999_999));
        assert_eq!(schedule.next(1_000_000_000), None);
        assert_eq!(schedule.abandon(1_000_000_000), 0);
    }

    #[test]
    fn constant_arrivals_are_evenly_spaced_over_all_threads() {
        let mut all: Vec<u64> = (0..3)
            .flat_map(|index| {
                times(pattern(Arrival::Constant(RatePlan::constant(1_000.0)), 2).share(index, 3))
            })
            .collect();
        all.sort_unstable();
        assert_eq!(all.len(), 2_000);
        for (index, at) in all.iter().enumerate() {
            assert!(at.abs_diff(index as u64 * 1_000_000) <= 1, "request {index} at {at} ns");
        }
    }

    #[test]
    fn constant_arrivals_do_not_drift() {
        // A period with no finite binary fraction: summing it up would lose microseconds over an hour.
        let mut schedule = pattern(Arrival::Constant(RatePlan::constant(300_000.0)), 3_600).share(0, 1);
        schedule.given = 300_000 * 3_599;
        assert_eq!(schedule.next(0), Some(3_599 * 1_000_000_000));
    }

    #[test]
    fn a_late_caller_gets_the_times_it_missed() {
        let mut schedule = pattern(Arrival::Constant(RatePlan::constant(100.0)), 1).share(0, 1);
        let stalled_until = 500_000_000;
        let missed: Vec<u64> = (0..3).filter_map(|_| schedule.next(stalled_until)).collect();
        assert_eq!(missed, [0, 10_000_000, 20_000_000]);
        assert_eq!(schedule.next(1_000_000_000), None, "nothing is sent after the end");
        assert_eq!(schedule.abandon(1_000_000_000), 97);
        assert_eq!(schedule.abandon(1_000_000_000), 0, "abandoned once");
    }

    #[test]
    fn a_time_looked_at_too_early_is_handed_out_later() {
        let mut schedule = pattern(Arrival::Constant(RatePlan::constant(100.0)), 1).share(0, 1);
        let due: Vec<u64> = std::iter::from_fn(|| schedule.next_if_due(25_000_000)).collect();
        assert_eq!(due, [0, 10_000_000, 20_000_000]);
        assert_eq!(schedule.next_if_due(29_999_999), None);
        assert_eq!(schedule.next(29_999_999), Some(30_000_000));
        assert_eq!(schedule.next_if_due(30_000_000), None);
        assert_eq!(schedule.abandon(50_000_000), 1, "that of 40 ms; the one held is not lost");
        let mut closed = pattern(Arrival::Closed, 1).share(0, 1);
        assert_eq!((closed.next_if_due(7), closed.next_if_due(1_000_000_000)), (Some(7), None));
    }

    #[test]
    fn an_early_stop_abandons_only_what_was_due() {
        let mut schedule = pattern(Arrival::Constant(RatePlan::constant(100.0)), 10).share(0, 1);
        assert_eq!(schedule.abandon(100_000_000), 10);
        assert_eq!(schedule.next(0), None);
    }

    #[test]
    fn requests_are_dealt_out_to_the_unit() {
        for threads in 1..5 {
            let given: u64 = (0..threads)
                .map(|index| {
                    let mut schedule =
                        Pattern { arrival: Arrival::Closed, duration: None, requests_max: Some(10), seed: 0 }
                            .share(index, threads);
                    std::iter::from_fn(|| schedule.next(0)).count() as u64
                })
                .sum();
            assert_eq!(given, 10, "{threads} threads");
        }
    }

    #[test]
    fn poisson_arrivals_have_exponential_gaps() {
        let at = times(pattern(Arrival::Poisson(RatePlan::constant(1_000.0)), 100).share(0, 1));
        // The count of a Poisson process has a standard deviation of sqrt(100,000) = 316: allow four of them.
        assert!((98_735..101_265).contains(&at.len()), "{} arrivals", at.len());
        let gaps: Vec<f64> = at.windows(2).map(|pair| (pair[1] - pair[0]) as f64).collect();
        let mean = gaps.iter().sum::<f64>() / gaps.len() as f64;
        let deviation = (gaps.iter().map(|gap| (gap - mean).powi(2)).sum::<f64>() / gaps.len() as f64).sqrt();
        assert!((0.98..1.02).contains(&(mean / 1e6)), "mean gap {mean} ns");
        assert!((0.98..1.02).contains(&(deviation / mean)), "an exponential's deviation is its mean");
        for (multiple, expected) in [(0.5, 0.3935), (1.0, 0.6321), (3.0, 0.9502)] {
            let below = gaps.iter().filter(|gap| **gap < multiple * 1e6).count() as f64 / gaps.len() as f64;
            assert!((below - expected).abs() < 0.01, "{below} of the gaps below {multiple} means");
        }
    }

    #[test]
    fn a_seed_settles_every_time() {
        let poisson = |seed, index| {
            times(Pattern { seed, ..pattern(Arrival::Poisson(RatePlan::constant(500.0)), 1) }.share(index, 2))
        };
        assert_eq!(poisson(1, 0), poisson(1, 0));
        assert_ne!(poisson(1, 0), poisson(2, 0));
        assert_ne!(poisson(1, 0), poisson(1, 1), "threads do not march in step");
    }

    fn planned(plan: &str) -> RatePlan {
        plan.parse().expect(plan)
    }

    fn per_second(times: &[u64], seconds: usize) -> Vec<u64> {
        let mut counts = vec![0; seconds];
        times.iter().for_each(|at| counts[(at / 1_000_000_000) as usize] += 1);
        counts
    }

    fn all_times(pattern: &Pattern, threads: usize) -> Vec<u64> {
        let mut all: Vec<u64> = (0..threads).flat_map(|index| times(pattern.share(index, threads))).collect();
        all.sort_unstable();
        all
    }

    #[test]
    fn a_ramp_sends_its_integral_in_every_second() {
        // In second s of 1,000 to 11,000 per second over 10 s: 1,000 s + 1,500. Afterwards the last rate holds.
        let expected = [1_500, 2_500, 3_500, 4_500, 5_500, 6_500, 7_500, 8_500, 9_500, 10_500, 11_000];
        for threads in [1, 3] {
            let all = all_times(&pattern(Arrival::Constant(planned("1k..11k/10s")), 11), threads);
            assert_eq!(per_second(&all, 11), expected, "{threads} threads");
        }
        let down = all_times(&pattern(Arrival::Constant(planned("11k..1k/10s")), 10), 1);
        assert!(per_second(&down, 10).iter().eq(expected[..10].iter().rev()), "a ramp down is its mirror");
    }

    #[test]
    fn steps_change_at_their_borders() {
        let all = all_times(&pattern(Arrival::Constant(planned("100/1s,1k/1s,4k/1s")), 4), 2);
        assert_eq!(per_second(&all, 4), [100, 1_000, 4_000, 4_000]);
        // The first of each step is due at its very begin, the next one new period later.
        assert_eq!(all[99..102], [990_000_000, 1_000_000_000, 1_001_000_000]);
        assert_eq!(all[1_099..1_102], [1_999_000_000, 2_000_000_000, 2_000_250_000]);
    }

    #[test]
    fn poisson_arrivals_follow_a_changing_rate() {
        let pattern = pattern(Arrival::Poisson(planned("1k..11k/10s,2k/1s")), 11);
        let all = all_times(&pattern, 2);
        for (second, count) in per_second(&all, 11).into_iter().enumerate() {
            let expected = if second < 10 { 1_000.0 * second as f64 + 1_500.0 } else { 2_000.0 };
            let deviation = (count as f64 - expected) / expected.sqrt();
            assert!(
                deviation.abs() < 4.0,
                "second {second}: {count}, {deviation} deviations from {expected}"
            );
        }
        // Counted by the plan's integral, the gaps of the union are exponential around one request again.
        let plan = planned("1k..11k/10s,2k/1s");
        let counts: Vec<f64> = all.iter().map(|at| plan.count_at(Duration::from_nanos(*at))).collect();
        let gaps: Vec<f64> = counts.windows(2).map(|pair| pair[1] - pair[0]).collect();
        for (multiple, expected) in [(0.5, 0.3935), (1.0, 0.6321), (3.0, 0.9502)] {
            let below = gaps.iter().filter(|gap| **gap < multiple).count() as f64 / gaps.len() as f64;
            assert!((below - expected).abs() < 0.01, "{below} of the gaps below {multiple} means");
        }
        assert_eq!(all, all_times(&pattern, 2), "the seed settles them");
        assert_ne!(all, all_times(&Pattern { seed: 8, ..pattern }, 2));
    }
}
