//! Which endpoint does a key lead to on a ring, where hardly anything moves when one goes?
//!
//! Never depends on the order in which endpoints are listed, nor on what the ring was before.

use super::WEIGHT_ONE;
use super::hash::salted;

/// Points of an endpoint of weight 1, as in libketama and nginx. Shares of equals differ by about 1/√160, 8 %.
const POINTS: u64 = 160;

/// Points of all together: half a MiB. Where weights ask for more, all get less in proportion.
const POINTS_MAX: u64 = 1 << 15;

/// A ring of points; a key leads to the next point from it on.
///
/// Source: Karger et al.: Consistent hashing and random trees (STOC 1997); the number of points from libketama (Richard
/// Jones, 2007). The points are our own, so that keys do not lead where they would with other implementations.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ketama {
    /// Points in order, with the index of the endpoint of each.
    points: Box<[(u64, u16)]>,
}

impl Ketama {
    /// The ring for these endpoints, by index: the number of each one's name, and its weight, at least 1.
    #[must_use]
    pub fn new(endpoints: &[(u64, u32)]) -> Self {
        let total: u64 = endpoints.iter().map(|(_, weight)| u64::from(*weight)).sum();
        let (mut num, mut den) = (POINTS, u64::from(WEIGHT_ONE));
        if total * num > POINTS_MAX * den {
            (num, den) = (POINTS_MAX, total);
        }
        let mut points = Vec::new();
        for (index, &(name, weight)) in (0..u16::MAX).zip(endpoints) {
            // Whoever has a weight has a share, however small.
            let count = (u64::from(weight) * num / den).max(1);
            points.extend((0..count).map(|n| (salted(name, n), name, index)));
        }
        points.sort_unstable();
        Self { points: points.into_iter().map(|(point, _, index)| (point, index)).collect() }
    }

    /// The endpoint that `key` leads to, or where that may not be chosen, the next on the ring that may.
    #[must_use]
    pub fn pick(&self, key: u64, may_take: impl Fn(u16) -> bool) -> Option<u16> {
        let start = self.points.partition_point(|(point, _)| *point < key);
        let from_there = self.points[start..].iter().chain(&self.points[..start]);
        from_there.map(|(_, index)| *index).find(|&index| may_take(index))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::balance::hash::{mix, of_bytes};

    fn endpoints(weights: &[u32]) -> Vec<(u64, u32)> {
        let name = |n| of_bytes(format!("10.0.0.{n}:8000").as_bytes());
        (1_u32..).map(name).zip(weights.iter().copied()).collect()
    }

    fn shares(ring: &Ketama, count: usize) -> Vec<f64> {
        let mut shares = vec![0.0; count];
        for key in (0..100_000).map(mix) {
            shares[usize::from(ring.pick(key, |_| true).expect("some may"))] += 1e-5;
        }
        shares
    }

    #[test]
    fn shares_are_about_as_the_weights_say() {
        for weights in [&[1_u32; 4][..], &[1; 10], &[4, 2, 1, 1]] {
            let total: u32 = weights.iter().sum();
            let parts: Vec<_> = weights.iter().map(|weight| weight * WEIGHT_ONE).collect();
            for (share, weight) in shares(&Ketama::new(&endpoints(&parts)), weights.len()).iter().zip(weights)
            {
                let due = f64::from(*weight) / f64::from(total);
                // Three of the ring's own standard deviations.
                assert!((share / due - 1.0).abs() < 0.25, "{weights:?}: {share} {due}");
            }
        }
    }

    #[test]
    fn weights_that_ask_for_too_many_points_share_what_there_is() {
        let ring = Ketama::new(&endpoints(&[65_535 * WEIGHT_ONE, 65_535 * WEIGHT_ONE, 1]));
        assert!(ring.points.len() as u64 <= POINTS_MAX + 3, "{}", ring.points.len());
        let shares = shares(&ring, 3);
        assert!((shares[0] - 0.5).abs() < 0.02 && shares[2] < 0.001, "{shares:?}");
        assert!(ring.points.iter().any(|(_, index)| *index == 2));
    }

    #[test]
    fn nothing_moves_but_what_must_when_one_goes_or_comes() {
        let all = endpoints(&[WEIGHT_ONE; 10]);
        let ring = Ketama::new(&all);
        for gone in 0..10_u16 {
            let mut left = all.clone();
            left.remove(usize::from(gone));
            let smaller = Ketama::new(&left);
            for key in (0..10_000).map(mix) {
                let before = ring.pick(key, |_| true).unwrap();
                let after = smaller.pick(key, |_| true).unwrap();
                assert!(before == gone || all[usize::from(before)] == left[usize::from(after)]);
            }
        }
    }

    #[test]
    fn an_endpoint_that_is_out_is_passed_over_as_if_it_were_not_there() {
        let all = endpoints(&[WEIGHT_ONE; 5]);
        let (ring, smaller) = (Ketama::new(&all), Ketama::new(&all[..4]));
        for key in (0..10_000).map(mix) {
            assert_eq!(ring.pick(key, |index| index != 4), smaller.pick(key, |_| true));
        }
        assert_eq!(ring.pick(1, |_| false), None);
        assert_eq!(Ketama::new(&[]).pick(1, |_| true), None);
    }

    #[test]
    fn the_order_of_the_list_does_not_matter() {
        let mut endpoints = endpoints(&[256, 512, 256]);
        let ring = Ketama::new(&endpoints);
        endpoints.reverse();
        let other = Ketama::new(&endpoints);
        assert!(ring.points.iter().zip(&other.points).all(|(a, b)| a.0 == b.0 && a.1 == 2 - b.1));
    }
}
