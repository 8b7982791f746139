//! Does every law hold while the configuration is renewed again and again, and does the latest answer?
//!
//! Never needs a machine prepared: there is no socket and no clock in it.

use simulation::{Tally, play_renewed};

/// Seeds of a plain run: some seconds.
const SEEDS: std::ops::Range<u64> = 0..400;

/// What every sweep must have met, or it would prove nothing.
const MUST_MEET: &[&str] = &[
    "scenario.clean",
    "scenario.rude",
    "scenario.stormy",
    "scenario.wild",
    "counters.exact",
    "generation.by_another",
    "generation.renewed",
    "outcome.answered",
];

#[test]
fn renewed_again_and_again_it_keeps_every_law() {
    let mut sum = Tally::default();
    for seed in SEEDS {
        let outcome = play_renewed(seed, false);
        if let Some(broken) = outcome.broken {
            panic!(
                "seed {seed}: {broken}\n{}\nreplay: cargo run -p corelane-simulation -- --renewals --from {seed} --seeds 1",
                broken.last_events.join("\n")
            );
        }
        sum.merge(&outcome.tally);
    }
    let missed: Vec<_> = MUST_MEET.iter().filter(|what| sum.of(what) == 0).collect();
    assert!(missed.is_empty(), "never met: {missed:?}");
}

#[test]
fn a_seed_plays_the_same_renewals_again() {
    for seed in 0..5 {
        assert_eq!(play_renewed(seed, false).trace_hash, play_renewed(seed, false).trace_hash);
    }
}
