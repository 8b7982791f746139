//! Exactness by count: the clock is a number that the tests move.

use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

use super::{Exhausted, KeyedRates, Pace, SLOTS_MIN, SharedRate};

const SECOND: u64 = 1_000_000_000;

/// Hashes of keys, as far from each other as those of a keyed hash.
fn hash(key: u64) -> u64 {
    let mut bits = key.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    bits ^= bits >> 29;
    bits = bits.wrapping_mul(0xbf58_476d_1ce4_e5b9);
    bits ^ bits >> 32
}

#[test]
fn a_burst_comes_at_once_and_then_one_in_each_interval() {
    let (rate, pace) = (SharedRate::default(), Pace::new(10, SECOND, 3));
    let start = 5 * SECOND;
    for _ in 0..3 {
        assert_eq!(rate.look(pace, start), Ok(()));
        assert_eq!(rate.take(pace, start), Ok(()));
    }
    let tenth = SECOND / 10;
    assert_eq!(rate.take(pace, start), Err(Exhausted { nanos: tenth }));
    assert_eq!(rate.take(pace, start + tenth - 1), Err(Exhausted { nanos: 1 }));
    assert_eq!(rate.look(pace, start + tenth - 1), Err(Exhausted { nanos: 1 }));
    assert_eq!(rate.take(pace, start + tenth), Ok(()));
    assert!(rate.take(pace, start + tenth).is_err());
    // A long rest buys the burst, and no more.
    let later = start + 100 * SECOND;
    let admitted = (0..10).filter(|_| rate.take(pace, later).is_ok()).count();
    assert_eq!(admitted, 3);
}

#[test]
fn a_refusal_uses_nothing_up() {
    let (rate, pace) = (SharedRate::default(), Pace::new(1, SECOND, 1));
    assert_eq!(rate.take(pace, 0), Ok(()));
    for now in (0..SECOND).step_by(1_000_000) {
        assert!(rate.take(pace, now).is_err());
    }
    assert_eq!(rate.take(pace, SECOND), Ok(()));
}

#[test]
fn waits_are_told_in_whole_seconds_and_never_as_none() {
    for (nanos, seconds) in [(1, 1), (SECOND, 1), (SECOND + 1, 2), (90 * SECOND, 90)] {
        assert_eq!(Exhausted { nanos }.seconds(), seconds);
    }
    assert_eq!(Exhausted::after(0).nanos, 1);
}

#[test]
fn what_does_not_divide_is_rounded_down() {
    for (count, per) in [(3, SECOND), (7, 60 * SECOND), (999_999, SECOND), (0, SECOND)] {
        let (rate, pace) = (SharedRate::default(), Pace::new(count, per, 1));
        let stretch = 3 * per;
        let step = (per / u64::from(count.max(1)) / 16).max(1);
        let moments = (0..stretch).step_by(usize::try_from(step).unwrap());
        let admitted = moments.filter(|now| rate.take(pace, *now).is_ok()).count() as u64;
        let due = 3 * u64::from(count.max(1));
        assert!(admitted <= due && admitted >= due * 9 / 10, "{count} in {per}: {admitted} of {due}");
    }
}

/// How many of a million, brought by `threads` in ten seconds of a clock that each of them moves, are let in.
fn admitted(threads: u64, take: impl Fn(u64) -> bool + Sync) -> u64 {
    const ALL: u64 = 1_000_000;
    let (clock, admitted) = (AtomicU64::new(SECOND), AtomicU64::new(0));
    thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                for _ in 0..ALL / threads {
                    let now = clock.fetch_add(10 * SECOND / ALL, Ordering::Relaxed);
                    if take(now) {
                        admitted.fetch_add(1, Ordering::Relaxed);
                    }
                }
            });
        }
    });
    admitted.into_inner()
}

#[test]
fn a_thousand_a_second_are_a_thousand_on_any_number_of_cores() {
    let pace = Pace::new(1_000, SECOND, 10);
    for threads in [1, 2, 8] {
        let rate = SharedRate::default();
        let shared = admitted(threads, |now| rate.take(pace, now).is_ok());
        assert!((9_900..=10_010).contains(&shared), "{threads} threads: {shared}");
        let rates = KeyedRates::new(SLOTS_MIN);
        let keyed = admitted(threads, |now| rates.take(hash(1), pace, now).is_ok());
        assert!((9_900..=10_010).contains(&keyed), "{threads} threads: {keyed}");
    }
}

#[test]
fn each_key_has_a_rate_of_its_own() {
    let (rates, pace) = (KeyedRates::new(SLOTS_MIN), Pace::new(1, SECOND, 2));
    for key in 0..100 {
        assert_eq!(rates.look(hash(key), pace, 0), Ok(()));
        assert_eq!([rates.take(hash(key), pace, 0), rates.take(hash(key), pace, 0)], [Ok(()); 2], "{key}");
    }
    for key in 0..100 {
        assert!(rates.look(hash(key), pace, 0).is_err());
        let wait = rates.take(hash(key), pace, 0).expect_err("used up").nanos;
        assert!((SECOND..SECOND + 512).contains(&wait), "{wait}");
    }
    let admitted = (0..100).filter(|key| rates.take(hash(*key), pace, 2 * SECOND + 512).is_ok()).count();
    assert_eq!(admitted, 100);
}

#[test]
fn a_full_table_refuses_early_and_never_lets_more_through() {
    let (rates, pace) = (KeyedRates::new(SLOTS_MIN), Pace::new(1, 60 * SECOND, 1));
    let keys = 10 * u64::from(SLOTS_MIN);
    let mut admitted = vec![0; usize::try_from(keys).unwrap()];
    for round in 0..20 {
        for key in 0..keys {
            // Each key comes every second, so that it is due once in the first minute.
            let now = round * SECOND + key * SECOND / keys;
            if rates.take(hash(key), pace, now).is_ok() {
                admitted[usize::try_from(key).unwrap()] += 1;
            }
        }
    }
    assert!(admitted.iter().all(|count| *count <= 1));
    let all: u64 = admitted.iter().sum();
    assert_eq!(all, u64::from(SLOTS_MIN), "as many as there are slots");
    // When all have rested, there is room again.
    let later = 200 * SECOND;
    assert!((0..100).all(|key| rates.take(hash(key), pace, later).is_ok()));
}

#[test]
fn threads_in_a_small_table_never_get_a_key_more_than_its_rate() {
    const KEYS: u64 = 20_000;
    const ROUNDS: u64 = 20;
    let (rates, pace) = (KeyedRates::new(SLOTS_MIN), Pace::new(1, SECOND, 2));
    let admitted: Vec<AtomicU64> = (0..KEYS).map(|_| AtomicU64::new(0)).collect();
    let clock = AtomicU64::new(SECOND);
    thread::scope(|scope| {
        for thread in 0..4 {
            let (rates, admitted, clock) = (&rates, &admitted, &clock);
            scope.spawn(move || {
                for turn in 0..ROUNDS * KEYS {
                    let key = hash(turn + thread * 7) % KEYS;
                    let now = clock.fetch_add(25_000, Ordering::Relaxed);
                    if rates.take(hash(key), pace, now).is_ok() {
                        admitted[usize::try_from(key).unwrap()].fetch_add(1, Ordering::Relaxed);
                    }
                }
            });
        }
    });
    let most = 2 + (clock.into_inner() - SECOND).div_ceil(SECOND);
    let counts: Vec<u64> = admitted.into_iter().map(AtomicU64::into_inner).collect();
    assert!(counts.iter().all(|count| *count <= most), "{most}: {:?}", counts.iter().max());
    assert!(counts.iter().sum::<u64>() > KEYS / 2);
}
