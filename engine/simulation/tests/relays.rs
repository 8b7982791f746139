//! Do some hundreds of relays keep every law, and are some of them spliced, cut and whole?
//!
//! Never needs a machine prepared: there is no socket and no clock in it.

use simulation::{Relayed, play_relays};

/// Seeds of a plain run: some seconds.
const SEEDS: std::ops::Range<u64> = 0..80;

#[test]
fn relays_of_bytes_keep_every_law() {
    let mut sum = Relayed::default();
    for seed in SEEDS {
        let relayed = play_relays(seed, false);
        if let Some(broken) = relayed.broken {
            panic!(
                "seed {seed}: {broken}\nreplay: cargo run -p corelane-simulation -- --relays --from {seed} --seeds 1"
            );
        }
        sum.whole += relayed.whole;
        sum.opened += relayed.opened;
        sum.cut += relayed.cut;
        sum.bytes += relayed.bytes;
        sum.spliced_bytes += relayed.spliced_bytes;
    }
    println!("{sum}");
    assert!(sum.opened > 50, "{sum}");
    assert!(sum.whole > 100 && sum.cut > 30 && sum.spliced_bytes > sum.bytes / 10, "{sum}");
}

#[test]
fn a_seed_plays_the_same_relays_again() {
    for seed in 0..5 {
        assert_eq!(play_relays(seed, false).trace_hash, play_relays(seed, false).trace_hash);
    }
}
