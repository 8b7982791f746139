//! Does the load follow its schedule, and does the report show what a server did to it?

use crate::harness::{DRIVERS, Origin, Outcome, loadgen};

const MILLISECOND: u64 = 1_000_000;

fn due(run: &Outcome) -> u64 {
    run.count("/requests/sent") + run.count("/requests/unsent")
}

#[test]
fn an_open_loop_shows_the_stalls_that_a_closed_loop_hides() {
    for driver in DRIVERS {
        // Silent for the last 100 ms of every half second, by the origin's own clock.
        let origin = Origin::start(&format!("--stall 500ms,100ms --driver {driver}"));
        let closed = loadgen(&origin.url(), &format!("-c 2 -t 1 -d 2s --driver {driver}"));
        let open = loadgen(&origin.url(), &format!("-c 2 -t 1 --rate 1k -d 2s --driver {driver}"));
        assert_eq!((closed.code, open.code), (Some(0), Some(0)), "{closed:?} {open:?}");
        // Two seconds hold four whole stalls, or three and two parts of which the last may go unsent. Of some 2,000
        // requests 100 fall due in each and wait for 100, 99, … 1 ms: by rank p99 is 93 ms at least and p90 is 36 ms.
        // A slow machine only adds.
        assert_eq!(due(&open), 2_000, "{open:?}");
        assert!(open.count("/latency_ns/p99") >= 90 * MILLISECOND, "{open:?}");
        assert!(open.count("/latency_ns/p90") >= 33 * MILLISECOND, "{open:?}");
        // The closed loop met the stalls as well, as one slow request on each connection: too few of all for its p99.
        assert!(closed.count("/latency_ns/max") >= 90 * MILLISECOND, "{closed:?}");
        assert!(closed.count("/requests/completed") > 2_000, "{closed:?}");
        let (shown, hidden) = (open.count("/latency_ns/p99"), closed.count("/latency_ns/p99"));
        assert!(shown > 3 * hidden, "{shown} ns in the open loop, {hidden} ns in the closed one");
        // Which is what the open loop would say, too, if it counted from the actual sends.
        assert!(shown > 2 * open.count("/service_time_ns/p99"), "{open:?}");
    }
}

#[test]
fn a_ramp_and_steps_send_their_integral() {
    let origin = Origin::start("");
    for (rate, expected) in [("100..1.9k/1s", 1_000), ("200/500ms,2k/500ms", 1_100)] {
        let run = loadgen(&origin.url(), &format!("-c 32 -t 2 --rate {rate}"));
        assert_eq!(run.code, Some(0), "{run:?}");
        run.assert_adds_up();
        assert_eq!(due(&run), expected, "{rate}: {run:?}");
        let seconds = run.json["duration_s"].as_f64().expect("a duration");
        assert!((0.98..=1.0).contains(&seconds), "as long as the rate changes: {run:?}");
        let requested = run.json["rate"]["requested"].as_f64().expect("a mean rate");
        assert!((requested / expected as f64 - 1.0).abs() < 0.02, "{run:?}");
    }
    let held = loadgen(&origin.url(), "-c 32 -t 2 --rate 100..1.9k/500ms -d 1s");
    assert_eq!(due(&held), 500 + 950, "the ramp's integral and its last rate: {held:?}");
}

#[test]
fn an_open_loop_says_how_exact_the_generator_was() {
    let origin = Origin::start("");
    let run = loadgen(&origin.url(), "-c 8 -t 1 --rate 500 -d 400ms");
    assert_eq!(run.code, Some(0), "{run:?}");
    let lateness = |name: &str| run.count(&format!("/generator/send_lateness_ns/{name}"));
    assert!(lateness("p50") <= lateness("p99") && lateness("p99") <= lateness("max"), "{run:?}");
    assert!(lateness("max") > 0, "a send takes time: {run:?}");
    assert!(run.count("/service_time_ns/p50") <= run.count("/latency_ns/p50"), "{run:?}");
    let share = |name: &str| run.json["generator"][name][0].as_f64().expect("a share");
    assert!(share("cpu_work_share") > 0.0 && share("cpu_work_share") <= share("cpu_share"), "{run:?}");
    assert!(run.out.contains("generator: sends late by p50"), "{}", run.out);
    let closed = loadgen(&origin.url(), "-c 1 -n 10");
    assert!(closed.json["generator"]["send_lateness_ns"].is_null(), "{closed:?}");
}

#[test]
fn a_search_finds_the_rate_that_a_slow_origin_can_serve() {
    // Two connections and 20 ms an answer, which a timer may make 22: at most 100 requests per second can be served.
    let origin = Origin::start("--delay 20ms");
    let run = loadgen(&origin.url(), "-c 2 -t 1 --find-max p90=150ms --rate 20 -d 1s");
    assert_eq!(run.code, Some(0), "{run:?}");
    let search = &run.json["find_max"];
    let tries = search["tries"].as_array().expect("the tries");
    let kept = |index: usize| tries[index]["kept"].as_bool().expect("a verdict");
    assert_eq!(tries[0]["rate"].as_f64(), Some(20.0), "{run:?}");
    let found = search["highest_rate"].as_f64().expect("a rate");
    let missed = search["lowest_missed"].as_f64().expect("a rate that is too high");
    assert!((20.0..150.0).contains(&found) && missed > found && missed <= found * 1.05, "{run:?}");
    assert!((0..tries.len()).any(kept) && !(0..tries.len()).all(kept), "{run:?}");
    assert_eq!(run.out.lines().filter(|line| line.starts_with("try ")).count(), tries.len(), "{}", run.out);
    assert!(run.out.contains("/s keeps p90 <= 150 ms, "), "{}", run.out);
    assert_eq!(run.json["rate"]["requested"].as_f64(), Some(found), "the summary is the best run's");
}

#[test]
fn a_search_fails_when_even_the_lowest_rate_is_too_much() {
    let origin = Origin::start("--delay 20ms");
    let run = loadgen(&origin.url(), "-c 8 -t 1 --find-max p50=5ms --rate 50 -d 300ms");
    assert_eq!(run.code, Some(1), "{run:?}");
    assert_eq!(run.json["find_max"]["tries"].as_array().map(Vec::len), Some(2), "{run:?}");
    assert!(run.json["find_max"]["highest_rate"].is_null(), "{run:?}");
    assert!(run.out.contains("not even 50.0 /s keeps p50 <= 5 ms"), "{}", run.out);
    let refused = loadgen(&origin.url(), "--find-max p50=5ms --rate 1k..5k/3s");
    assert_eq!(refused.code, Some(2), "{refused:?}");
    assert!(refused.err.contains("--rate 1000..5000/3s changes, too"), "{}", refused.err);
}
