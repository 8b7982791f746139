//! Do some hundreds of scenarios keep every law, and do they meet everything that there is to meet?
//!
//! Never needs a machine prepared: there is no socket and no clock in it. `seed=N` plays one scenario and shows it,
//! `seeds=A..B` plays a range.

use std::ops::Range;
use std::process::ExitCode;

use simulation::{Outcome, Report, play, run};

/// Seeds of a plain run: enough to meet everything below, few enough for every change to be checked with them.
const SEEDS: Range<u64> = 0..800;

/// Seeds that once found a defect: `SEED  what it was`, one in a line.
const FOUND_BEFORE: &str = include_str!("../seeds.txt");

/// What every sweep must have met, or it would prove nothing.
const MUST_MEET: &[&str] = &[
    "scenario.clean",
    "scenario.rude",
    "scenario.stormy",
    "scenario.wild",
    "network.calm",
    "network.jittery",
    "network.rough",
    "network.swarm",
    "counters.exact",
    "deadline.idle",
    "judged.strictly",
    "connection.broken",
    "connection.closed",
    "connection.vanished",
    "delivered.0_times",
    "delivered.1_times",
    "delivered.2_times",
    "origin.broken_chunk",
    "origin.broken_head",
    "origin.closes",
    "origin.closes_on_next",
    "origin.closes_quietly",
    "origin.early",
    "origin.early_and_gone",
    "origin.never_answers",
    "origin.no_answer",
    "origin.sound",
    "origin.stalls",
    "origin.switches",
    "origin.truncated",
    "origin.unsolicited",
    "outcome.answered",
    "outcome.cut",
    "outcome.own_400",
    "outcome.own_404",
    "outcome.own_408",
    "outcome.own_502",
    "outcome.own_504",
    "outcome.unanswered",
    "request.half_closes",
    "request.stalls",
    "request.vanishes",
    "request.whole",
    "network.splits",
    "network.delays",
    "network.stalls",
    "network.stalls_for_ever",
    "network.resets",
    "network.partial_sends",
    "network.blocked_sends",
    "network.partial_receives",
    "network.refusals",
    "network.black_holes",
    "network.slow_connects",
    "host.descriptors_refused",
    "host.accepts_aborted",
    "host.spurious_events",
    "host.late_events",
    "host.slow_turns",
    "host.clock_jumps",
    "limit.body_exceeded",
    "limit.requests_met",
    "outcome.own_413",
    "fault.client_gone",
    "fault.client_gone_in_response",
    "fault.client_send_timeout",
    "fault.connect_failed",
    "fault.connect_timeout",
    "fault.first_byte_timeout",
    "fault.head_timeout",
    "fault.no_channel",
    "fault.request_body_rejected",
    "fault.request_body_timeout",
    "fault.request_rejected",
    "fault.resources_exhausted",
    "fault.response_body_rejected",
    "fault.response_rejected",
    "fault.response_timeout",
    "fault.response_truncated",
    "fault.total_timeout",
    "fault.unasked_upgrade",
    "fault.upstream_gone",
];

/// Attacks that clients know, each of which must have been sent.
const ATTACKS: usize = 30;

fn main() -> ExitCode {
    for argument in std::env::args().skip(1) {
        if let Some(seed) = argument.strip_prefix("seed=") {
            return replay(seed.parse().expect("seed=NUMBER"));
        }
        if let Some(range) = argument.strip_prefix("seeds=") {
            let (from, to) = range.split_once("..").expect("seeds=FROM..TO");
            return verdict(&run(from.parse().expect("a number")..to.parse().expect("a number")));
        }
    }
    for check in [keeps_what_was_found, repeats_itself, keeps_every_law] {
        if let Err(what) = check() {
            println!("FAILED: {what}");
            return ExitCode::FAILURE;
        }
    }
    ExitCode::SUCCESS
}

fn verdict(report: &Report) -> ExitCode {
    print!("{report}");
    if report.failed.is_some() { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}

/// Plays one seed with everything that happens.
fn replay(seed: u64) -> ExitCode {
    let outcome = play(seed, true);
    for (what, count) in outcome.tally.iter() {
        println!("  {what:<36} {count:>12}");
    }
    println!("seed {seed}: trace {:016x}", outcome.trace_hash);
    match outcome.broken {
        Some(broken) => {
            println!("BROKEN {broken}");
            ExitCode::FAILURE
        }
        None => ExitCode::SUCCESS,
    }
}

/// Every seed that once found a defect finds none now.
fn keeps_what_was_found() -> Result<(), String> {
    for line in FOUND_BEFORE.lines().filter(|line| !line.starts_with('#') && !line.trim().is_empty()) {
        let seed = line.split_whitespace().next().and_then(|seed| seed.parse().ok());
        let outcome = play(seed.ok_or(format!("seeds.txt: {line}"))?, false);
        if let Some(broken) = outcome.broken {
            return Err(format!("seed {line}: again {broken}"));
        }
    }
    Ok(())
}

/// A seed played twice is the same to the last event.
fn repeats_itself() -> Result<(), String> {
    for seed in 0..20 {
        let [first, second] =
            [play(seed, false), play(seed, false)].map(|outcome: Outcome| outcome.trace_hash);
        if first != second {
            return Err(format!("seed {seed} differs from itself: {first:016x}, {second:016x}"));
        }
    }
    Ok(())
}

/// No scenario breaks a law, and together they meet everything.
fn keeps_every_law() -> Result<(), String> {
    let report = run(SEEDS);
    print!("{report}");
    if report.failed.is_some() {
        return Err("a law was broken".to_owned());
    }
    let missed: Vec<_> = MUST_MEET.iter().filter(|what| report.tally.of(what) == 0).collect();
    if !missed.is_empty() {
        return Err(format!("never met: {missed:?}"));
    }
    let attacks = report.tally.iter().filter(|(what, _)| what.starts_with("attack.")).count();
    if attacks < ATTACKS {
        return Err(format!("{attacks} of {ATTACKS} attacks were sent"));
    }
    Ok(())
}
