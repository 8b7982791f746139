//! What changed between two runs, and is it more than noise?
//!
//! Never calls a change certain from a single figure: only seconds against seconds.

mod dependence;
mod rank_test;

use std::fmt::Write as _;
use std::fs;
use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use serde::Deserialize;

use crate::cli::CompareArgs;
use crate::compare::dependence::variance_inflation;
use crate::compare::rank_test::{median, probability_of_chance, probability_of_same_share};
use crate::output::intervals::Interval;
use crate::units::{show_count, show_nanoseconds};

/// Two runs of eight independent seconds that do not overlap at all reach [`CHANCE_MAX`]; with six they cannot.
const SECONDS_MIN: usize = 8;
/// Seconds of both runs that count as fewer independent ones than this cannot tell anything, whatever the difference.
const INDEPENDENT_MIN: f64 = 8.0;
/// Below this probability a difference is not put down to chance. One in a hundred, as four figures are looked at.
const CHANCE_MAX: f64 = 0.01;
/// Shorter intervals, such as the last of a run, are too unlike the others to be set beside them.
const WHOLE_SECOND: f64 = 0.99;

/// What is read of a run's JSON summary.
#[derive(Debug, Deserialize)]
struct Run {
    connections: u32,
    arrival: String,
    requests: Requests,
    errors: Errors,
    rate: Rate,
    latency_ns: Option<Latency>,
    intervals: Vec<Interval>,
}

#[derive(Debug, Deserialize)]
struct Requests {
    sent: u64,
    completed: u64,
    unanswered: u64,
}

#[derive(Debug, Deserialize)]
struct Errors {
    total: u64,
}

#[derive(Debug, Deserialize)]
struct Rate {
    requested: Option<f64>,
}

#[derive(Debug, Deserialize)]
struct Latency {
    p99_9: f64,
    max: f64,
}

/// What is to be thought of one figure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    /// The difference may be chance.
    Noise,
    /// It is not chance, but too small to matter.
    Slight,
    Better,
    Worse,
    /// Too few seconds had the figure.
    Unknown,
}

/// Prints what changed. The exit code says whether anything became worse.
///
/// # Errors
/// A file is not a run's summary, or the runs cannot be compared.
pub(crate) fn run(args: &CompareArgs) -> Result<ExitCode> {
    let (before, after) = (read(&args.before)?, read(&args.after)?);
    let (text, verdict) = compare(&before, &after, f64::from(args.tolerance) / 100.0)?;
    print!("A: {}\nB: {}\n\n{text}", args.before.display(), args.after.display());
    Ok(if verdict == Verdict::Worse { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

fn read(path: &Path) -> Result<Run> {
    let text = fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
    serde_json::from_slice(&text).with_context(|| {
        format!("{} is not a summary with intervals; write it with loadgen --json FILE", path.display())
    })
}

fn compare(before: &Run, after: &Run, tolerance: f64) -> Result<(String, Verdict)> {
    if (before.arrival == "closed") != (after.arrival == "closed") {
        bail!(
            "cannot compare a closed loop with an open one (A: {}, B: {}): their latencies mean different things; \
             run both with or both without --rate",
            before.arrival,
            after.arrival
        );
    }
    let runs = [before, after];
    for (name, run) in ["A", "B"].iter().zip(runs) {
        if run.latency_ns.is_none() {
            bail!(
                "{name} measured streams, which have no latencies to compare; look at their bytes per second"
            );
        }
        let count = seconds(run).count();
        if count < SECONDS_MIN {
            bail!(
                "{name} has {count} whole seconds, and a comparison needs {SECONDS_MIN}; run it with -d 30s or more"
            );
        }
    }
    let mut text = String::new();
    write_differences_in_setting(&mut text, before, after);
    let rate = |second: &Interval| Some(second.completed as f64 / second.length_s);
    let show_rate = |rate: f64| format!("{} /s", show_count(rate.round() as u64));
    let verdicts = [
        judge(&mut text, "throughput", &runs.map(|run| values(run, rate)), tolerance, true, show_rate),
        judge_latency(&mut text, "p50", runs, tolerance, |second| second.p50),
        judge_latency(&mut text, "p99", runs, tolerance, |second| second.p99),
        judge_errors(&mut text, runs),
    ];
    let whole = |name: &str, of: fn(&Latency) -> f64| {
        let [a, b] = runs.map(|run| {
            run.latency_ns.as_ref().map_or_else(String::new, |latency| show_nanoseconds(of(latency)))
        });
        format!("{name:<11} {a} → {b}: not judged, as each run has only one\n")
    };
    text += &whole("p99.9", |latency| latency.p99_9);
    text += &whole("max", |latency| latency.max);
    let verdict = overall(&verdicts);
    if verdicts.contains(&Verdict::Unknown) {
        text += "\nNot every figure could be judged.";
    }
    let _ = writeln!(
        text,
        "\n{}\nThis is about these two runs. To learn what a change does, repeat both in turn: A B A B.",
        conclusion(verdict)
    );
    Ok((text, verdict))
}

fn seconds(run: &Run) -> impl Iterator<Item = &Interval> {
    run.intervals.iter().filter(|second| second.length_s >= WHOLE_SECOND)
}

fn values(run: &Run, of: impl Fn(&Interval) -> Option<f64>) -> Vec<f64> {
    seconds(run).filter_map(of).collect()
}

fn write_differences_in_setting(text: &mut String, before: &Run, after: &Run) {
    let open = |run: &Run| run.rate.requested.map_or("none".into(), |rate| format!("{rate} /s"));
    let settings = [
        ("connections", before.connections.to_string(), after.connections.to_string()),
        ("arrivals", before.arrival.clone(), after.arrival.clone()),
        ("requested rate", open(before), open(after)),
    ];
    for (name, a, b) in settings {
        if a != b {
            let _ = writeln!(text, "note: the runs had different {name}: {a} → {b}\n");
        }
    }
}

fn judge_latency(
    text: &mut String,
    name: &str,
    runs: [&Run; 2],
    tolerance: f64,
    of: fn(&Interval) -> Option<u64>,
) -> Verdict {
    let samples = runs.map(|run| values(run, |second| of(second).map(|value| value as f64)));
    judge(text, name, &samples, tolerance, false, show_nanoseconds)
}

/// Judges a figure that each second has, by its median over the seconds.
fn judge(
    text: &mut String,
    name: &str,
    samples: &[Vec<f64>; 2],
    tolerance: f64,
    more_is_better: bool,
    show: impl Fn(f64) -> String,
) -> Verdict {
    let [a, b] = samples;
    let medians = median(a).zip(median(b)).filter(|_| a.len().min(b.len()) >= SECONDS_MIN);
    let Some((from, to)) = medians else {
        let _ =
            writeln!(text, "{name:<11} too few seconds with answers to judge ({} and {})", a.len(), b.len());
        return Verdict::Unknown;
    };
    let independent = (a.len() + b.len()) as f64 / variance_inflation(&[a, b]);
    if independent < INDEPENDENT_MIN {
        let _ = writeln!(
            text,
            "{name:<11} {} → {}: not known, as each second is like the one before and {} count as {independent:.0}; run \
             longer, after a warm-up",
            show(from),
            show(to),
            a.len() + b.len()
        );
        return Verdict::Unknown;
    }
    let chance = probability_of_chance(a, b);
    let change = (to - from) / from.max(f64::MIN_POSITIVE);
    let verdict = match () {
        () if chance >= CHANCE_MAX => Verdict::Noise,
        () if change.abs() < tolerance => Verdict::Slight,
        () if (change > 0.0) == more_is_better => Verdict::Better,
        () => Verdict::Worse,
    };
    let percent = if from > 0.0 { format!(", {:+.1} %", change * 100.0) } else { String::new() };
    let _ = writeln!(
        text,
        "{name:<11} {} → {}{percent}: {} ({})",
        show(from),
        show(to),
        word(verdict),
        show_chance(chance)
    );
    verdict
}

fn judge_errors(text: &mut String, runs: [&Run; 2]) -> Verdict {
    let shares = runs.map(|run| {
        let wrong = run.errors.total + run.requests.unanswered;
        (wrong, (run.requests.completed + wrong).max(run.requests.sent).max(1))
    });
    let [(a, of_a), (b, of_b)] = shares;
    let chance = probability_of_same_share(shares[0], shares[1]);
    let has_more = b as f64 / of_b as f64 > a as f64 / of_a as f64;
    let verdict = match (chance < CHANCE_MAX, has_more) {
        (false, _) => Verdict::Noise,
        (true, true) => Verdict::Worse,
        (true, false) => Verdict::Better,
    };
    let [bad_a, bad_b] = runs.map(|run| run.intervals.iter().filter(|second| second.failed > 0).count());
    let [all_a, all_b] = runs.map(|run| run.intervals.len());
    let _ = writeln!(
        text,
        "errors      {} of {} (in {bad_a} of {all_a} s) → {} of {} (in {bad_b} of {all_b} s): {}",
        show_count(a),
        show_count(of_a),
        show_count(b),
        show_count(of_b),
        if a + b == 0 {
            "none in either".into()
        } else {
            format!("{} ({})", word(verdict), show_chance(chance))
        }
    );
    verdict
}

fn show_chance(chance: f64) -> String {
    if chance < 0.0001 { "p < 0.0001".to_owned() } else { format!("p = {chance:.4}") }
}

fn word(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Noise => "no difference beyond noise",
        Verdict::Slight => "a real difference, but too small to matter",
        Verdict::Better => "clearly better",
        Verdict::Worse => "clearly worse",
        Verdict::Unknown => "not known",
    }
}

/// One figure that became worse outweighs all that became better.
fn overall(verdicts: &[Verdict]) -> Verdict {
    let order = [Verdict::Worse, Verdict::Better, Verdict::Slight];
    order.into_iter().find(|verdict| verdicts.contains(verdict)).unwrap_or(Verdict::Noise)
}

fn conclusion(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Worse => "B is clearly worse than A in at least one figure.",
        Verdict::Better => "B is clearly better than A in at least one figure, and worse in none.",
        Verdict::Slight => "B differs from A, but by too little to matter.",
        Verdict::Noise | Verdict::Unknown => "B is the same as A, as far as these runs can tell.",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Ten seconds around the given figures, with a wave of 2 % as noise.
    fn run(rate: f64, p99: f64, wrong: u64) -> Run {
        let second = |index: u32| {
            let wave = 1.0 + f64::from(index * 7 % 10) / 500.0;
            let p99 = (p99 * wave) as u64;
            Interval {
                start_s: f64::from(index),
                length_s: 1.0,
                completed: (rate * wave) as u64,
                failed: wrong / 10,
                bytes_sent: 0,
                bytes_received: 0,
                p50: Some(p99 / 2),
                p99: Some(p99),
                max: Some(p99),
            }
        };
        let completed = (rate * 10.0) as u64;
        Run {
            connections: 64,
            arrival: "closed".into(),
            requests: Requests { sent: completed + wrong, completed, unanswered: 0 },
            errors: Errors { total: wrong },
            rate: Rate { requested: None },
            latency_ns: Some(Latency { p99_9: p99, max: p99 }),
            intervals: (0..10).map(second).collect(),
        }
    }

    fn check(after: &Run, expected: Verdict, part: &str) {
        let (text, verdict) = compare(&run(10_000.0, 1e6, 0), after, 0.05).expect("comparable");
        assert_eq!(verdict, expected, "{text}");
        assert!(text.contains(part), "{part} is missing from\n{text}");
    }

    #[test]
    fn changes_are_told_from_noise() {
        check(&run(10_000.0, 1e6, 0), Verdict::Noise, "p99         1.01 ms → 1.01 ms, +0.0 %: no difference");
        check(&run(10_050.0, 1e6, 0), Verdict::Noise, "throughput  10,090 /s → 10,140 /s, +0.5 %: no diff");
        check(&run(10_300.0, 1e6, 0), Verdict::Slight, "+3.0 %: a real difference, but too small to matter");
        check(&run(12_000.0, 1e6, 0), Verdict::Better, "+20.0 %: clearly better");
        check(&run(10_000.0, 0.5e6, 0), Verdict::Better, "-50.0 %: clearly better");
        check(&run(8_000.0, 1e6, 0), Verdict::Worse, "-20.0 %: clearly worse");
        check(&run(10_000.0, 1.5e6, 0), Verdict::Worse, "+50.0 %: clearly worse");
        check(
            &run(12_000.0, 1e6, 100),
            Verdict::Worse,
            "errors      0 of 100,000 (in 0 of 10 s) → 100 of 120,100",
        );
    }

    #[test]
    fn a_run_without_answers_is_worse_and_not_unknown() {
        let mut dead = run(0.0, 0.0, 50);
        dead.intervals
            .iter_mut()
            .for_each(|second| (second.p50, second.p99, second.max) = (None, None, None));
        check(&dead, Verdict::Worse, "p99         too few seconds with answers to judge (10 and 0)");
    }

    #[test]
    fn a_drift_within_the_runs_is_no_difference_between_them() {
        let drifting = |from: u64| {
            let mut run = run(10_000.0, 1e6, 0);
            for (second, completed) in run.intervals.iter_mut().zip((from..).step_by(100)) {
                second.completed = completed;
            }
            run
        };
        let (text, verdict) = compare(&drifting(10_000), &drifting(10_900), 0.05).expect("comparable");
        assert_ne!(verdict, Verdict::Better, "{text}");
        assert!(
            text.contains("10,450 /s → 11,350 /s: not known, as each second is like the one before"),
            "{text}"
        );
        assert!(text.contains("Not every figure could be judged."), "{text}");
    }

    #[test]
    fn what_cannot_be_compared_says_why() {
        let mut open = run(10_000.0, 1e6, 0);
        open.arrival = "poisson".into();
        let mut short = run(10_000.0, 1e6, 0);
        short.intervals.truncate(7);
        for (after, part) in [(open, "with or both without --rate"), (short, "B has 7 whole seconds")] {
            let error = compare(&run(10_000.0, 1e6, 0), &after, 0.05).expect_err(part);
            assert!(error.to_string().contains(part), "{error}");
        }
        let mut wider = run(10_000.0, 1e6, 0);
        wider.connections = 128;
        check(&wider, Verdict::Noise, "different connections: 64 → 128");
    }
}
