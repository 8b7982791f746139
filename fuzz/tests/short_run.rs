//! Do the promises hold for every seed and for some thousand edits of them?
//!
//! The run a change has to pass; the one that looks for news is `fuzz/run`. Never guided, never timed.

use std::panic::catch_unwind;

use fuzz::{Dice, TARGETS, Target, mutate, seeds_of};

/// Start of the dice unless `CORELANE_SEED` says another.
const SEED: u64 = 0x00c0_7e1a_5eed;

#[track_caller]
fn survives(name: &str) {
    let target = TARGETS.iter().find(|target| target.name == name).expect("a target of that name");
    let seeds = seeds_of(name);
    let seed = std::env::var("CORELANE_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(SEED);
    let mut dice = Dice::new(seed);
    seeds.iter().for_each(|bytes| run(target, bytes, seed));
    for _ in 0..target.short_run_inputs {
        run(target, &mutate(&seeds, &mut dice), seed);
    }
}

/// Runs the target and says with what bytes it failed.
#[track_caller]
fn run(target: &Target, bytes: &[u8], seed: u64) {
    if catch_unwind(|| (target.run)(bytes)).is_err() {
        panic!("{} broke a promise for b\"{}\" (CORELANE_SEED={seed})", target.name, bytes.escape_ascii());
    }
}

#[test]
fn request_heads_keep_their_promises() {
    survives("request_head");
}

#[test]
fn response_heads_keep_their_promises() {
    survives("response_head");
}

#[test]
fn chunked_bodies_keep_their_promises() {
    survives("chunked_body");
}

#[test]
fn request_streams_keep_their_promises() {
    survives("request_stream");
}

#[test]
fn response_streams_keep_their_promises() {
    survives("response_stream");
}

#[test]
fn proxy_headers_keep_their_promises() {
    survives("proxy_header");
}

#[test]
fn client_hellos_keep_their_promises() {
    survives("client_hello");
}

#[test]
fn configurations_keep_their_promises() {
    survives("config_text");
}
