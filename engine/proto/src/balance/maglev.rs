//! Which endpoint does a key lead to, found at once and shared evenly?
//!
//! Never depends on the order in which endpoints are listed, nor on what the table was before: whoever has the same
//! endpoints has the same table.

use super::hash::{below, salted};

/// Places of a table: the primes of the paper. With the smaller, which takes 128 KiB, the keys that move when one of 16
/// endpoints goes are at most a tenth more than those that must; with the larger, 1.3 MiB, when one of 64 does.
const PLACES: [usize; 2] = [65_537, 655_373];

/// Endpoints that an upstream may have for the smaller table.
const SLOTS_SMALL: u16 = 16;

/// Places that are looked at before the endpoints are gone through in order. With half of them out, one pick in 256
/// comes to that.
const PROBES_MAX: u64 = 8;

/// A Maglev table. Each endpoint has an order of its own in which it wants the places; they choose in turn, one as often
/// as its weight says, until all places are taken.
///
/// Source: Eisenbud et al.: Maglev: a fast and reliable software network load balancer (NSDI 2016), §3.4.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Maglev {
    /// Indices of endpoints.
    places: Box<[u16]>,
    /// How many endpoints.
    count: u16,
}

impl Maglev {
    /// The table for these endpoints, by index: the number of each one's name, and its weight, at least 1. `slots` is how many
    /// there may ever be: with another number of places everything would move. Takes from a millisecond on, so that it is made
    /// where no request waits.
    #[must_use]
    pub fn new(endpoints: &[(u64, u32)], slots: u16) -> Self {
        const FREE: u16 = u16::MAX;
        let Some(heaviest) = endpoints.iter().map(|(_, weight)| u64::from(*weight)).max() else {
            return Self { places: Box::default(), count: 0 };
        };
        let mut places = vec![FREE; PLACES[usize::from(slots > SLOTS_SMALL)]];
        let choosers =
            (0..FREE).zip(endpoints).map(|(index, endpoint)| Chooser::new(index, endpoint, places.len()));
        let mut choosers: Vec<_> = choosers.collect();
        choosers.sort_by_key(|chooser| (chooser.name, chooser.index));
        let count = choosers.len() as u16;
        let mut free = places.len();
        loop {
            for chooser in &mut choosers {
                // The heaviest chooses in every round, the others when their weights have added up to as much.
                chooser.saved += chooser.weight;
                if chooser.saved < heaviest.max(1) {
                    continue;
                }
                chooser.saved -= heaviest.max(1);
                while places[chooser.next] != FREE {
                    chooser.advance(places.len());
                }
                places[chooser.next] = chooser.index;
                chooser.advance(places.len());
                free -= 1;
                if free == 0 {
                    return Self { places: places.into(), count };
                }
            }
        }
    }

    /// The endpoint that `key` leads to, or where that may not be chosen, another that the key alone decides.
    #[must_use]
    pub fn pick(&self, key: u64, may_take: impl Fn(u16) -> bool) -> Option<u16> {
        if self.places.is_empty() {
            return None;
        }
        let at = |probe| self.places[below(salted(key, probe), self.places.len() as u64) as usize];
        if let Some(index) = (0..PROBES_MAX).map(at).find(|&index| may_take(index)) {
            return Some(index);
        }
        let start = below(salted(key, PROBES_MAX), u64::from(self.count)) as u16;
        (start..self.count).chain(0..start).find(|&index| may_take(index))
    }
}

/// An endpoint that chooses its places.
struct Chooser {
    name: u64,
    index: u16,
    weight: u64,
    saved: u64,
    next: usize,
    skip: usize,
}

impl Chooser {
    fn new(index: u16, &(name, weight): &(u64, u32), places: usize) -> Self {
        // The number of places is prime, so that every skip comes to all of them.
        let next = below(salted(name, 1), places as u64) as usize;
        let skip = below(salted(name, 2), places as u64 - 1) as usize + 1;
        // Who has no weight would never choose.
        Self { name, index, weight: u64::from(weight.max(1)), saved: 0, next, skip }
    }

    fn advance(&mut self, places: usize) {
        self.next += self.skip;
        if self.next >= places {
            self.next -= places;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::balance::hash::of_bytes;

    fn endpoints(weights: &[u32]) -> Vec<(u64, u32)> {
        let name = |n| of_bytes(format!("10.0.0.{n}:8000").as_bytes());
        (1_u32..).map(name).zip(weights.iter().copied()).collect()
    }

    fn table(weights: &[u32]) -> Maglev {
        Maglev::new(&endpoints(weights), weights.len() as u16)
    }

    fn shares(table: &Maglev) -> Vec<usize> {
        let mut shares = vec![0; usize::from(table.count)];
        table.places.iter().for_each(|&index| shares[usize::from(index)] += 1);
        shares
    }

    #[test]
    fn equal_weights_have_equal_shares() {
        for count in [1, 2, 3, 4, 10, 100] {
            let shares = shares(&table(&vec![256; count]));
            let (least, most) = (shares.iter().min().unwrap(), shares.iter().max().unwrap());
            assert!(most - least <= 1, "{count}: {least} {most}");
        }
    }

    #[test]
    fn shares_are_as_the_weights_say() {
        let weights = [0, 1, 2, 4, 100, 256, 65_535 * 256];
        let total: u64 = weights.iter().map(|&weight| u64::from(weight)).sum();
        for (share, weight) in shares(&table(&weights)).iter().zip(weights) {
            let due = 65_537.0 * f64::from(weight) / total as f64;
            assert!((*share as f64 - due).abs() <= 2.0, "{weight}: {share} {due}");
        }
    }

    #[test]
    fn the_order_of_the_list_does_not_matter() {
        let mut endpoints = endpoints(&[1, 2, 3, 4]);
        let table = Maglev::new(&endpoints, 4);
        endpoints.reverse();
        let other = Maglev::new(&endpoints, 4);
        assert!(table.places.iter().zip(&other.places).all(|(a, b)| *a == 3 - *b));
    }

    /// What an endpoint that is removed leaves behind is all that should move; a tenth more may.
    #[test]
    fn hardly_anything_moves_but_what_must_when_one_goes() {
        for (count, slots) in [(2, 16), (3, 16), (4, 16), (10, 16), (16, 16), (32, 64), (64, 64)] {
            let all = endpoints(&vec![256; count]);
            let before = Maglev::new(&all, slots);
            let (mut moved, mut must) = (0, 0);
            for gone in 0..count.min(4) {
                let mut left = all.clone();
                left.remove(gone);
                let after = Maglev::new(&left, slots);
                let named = |index: u16, list: &[(u64, u32)]| list[usize::from(index)].0;
                let pairs = before.places.iter().zip(&after.places);
                moved += pairs.filter(|(a, b)| named(**a, &all) != named(**b, &left)).count();
                must += before.places.iter().filter(|index| usize::from(**index) == gone).count();
            }
            let ratio = moved as f64 / must as f64;
            assert!((1.0..=1.1).contains(&ratio), "{count}: {ratio}");
        }
    }

    #[test]
    fn a_key_whose_endpoint_is_out_leads_to_one_other_and_the_rest_stay() {
        let table = table(&[256; 4]);
        let mut inherited = [0_u32; 4];
        for key in (0..10_000).map(|n| salted(n, 99)) {
            let before = table.pick(key, |_| true).unwrap();
            let after = table.pick(key, |index| index != 2).unwrap();
            if before == 2 {
                inherited[usize::from(after)] += 1;
            } else {
                assert_eq!(before, after);
            }
        }
        // A third of a quarter each, give or take four standard deviations.
        assert!([0, 1, 3].iter().all(|&index| inherited[index].abs_diff(833) < 115), "{inherited:?}");
        assert_eq!(inherited[2], 0);
    }

    #[test]
    fn finds_the_last_that_may_be_used_and_none_when_none_may() {
        let table = table(&[256; 100]);
        assert_eq!(table.pick(12_345, |index| index == 99), Some(99));
        assert_eq!(table.pick(12_345, |_| false), None);
        assert_eq!(Maglev::new(&[], 4).pick(1, |_| true), None);
    }
}
