//! Do some hundreds of fleets keep every law, and do they meet everything that there is to meet?
//!
//! Never needs a machine prepared: there is no socket and no clock in it.

use simulation::{Sailed, play_fleet};

/// Seeds of a plain run: some seconds.
const SEEDS: std::ops::Range<u64> = 0..300;

/// What every sweep must have met, or it would prove nothing.
const MUST_MEET: &[&str] = &[
    "scenario.managed",
    "scenario.oneatatime",
    "scenario.stormy",
    "balance.hash",
    "balance.least_connections",
    "balance.least_time",
    "balance.never_queue",
    "balance.random_two",
    "balance.round_robin",
    "balance.shortest_expected_delay",
    "balance.source_hash",
    "control.back",
    "control.down",
    "control.ejected",
    "control.panic",
    "control.up",
    "delivered.get_0_times",
    "delivered.get_1_times",
    "delivered.get_2_times",
    "delivered.post_0_times",
    "delivered.post_1_times",
    "found.full",
    "found.nobody",
    "limit.connections_met",
    "limit.in_flight_met",
    "outcome.answered",
    "outcome.cut",
    "outcome.own_502",
    "outcome.own_503",
    "outcome.own_504",
];

#[test]
fn fleets_keep_every_law() {
    let mut sum = Sailed::default();
    for seed in SEEDS {
        let sailed = play_fleet(seed, false);
        if let Some(broken) = sailed.broken {
            panic!(
                "seed {seed}: {broken}\nreplay: cargo run -p corelane-simulation -- --fleets --from {seed} --seeds 1"
            );
        }
        sum.merge(&sailed);
    }
    println!("{sum}");
    let missed: Vec<_> = MUST_MEET.iter().filter(|what| !sum.met.contains_key(**what)).collect();
    assert!(missed.is_empty(), "never met: {missed:?}\n{sum}");
}

#[test]
fn a_seed_plays_the_same_fleet_again() {
    for seed in 0..5 {
        assert_eq!(play_fleet(seed, false).trace_hash, play_fleet(seed, false).trace_hash);
    }
}
