//! Does the verdict say what the rounds show, and no more?
//!
//! Never starts a process: rounds are made up here.

use super::*;

const LAW: Law = Law { lambda: 40_000.0, sigma: 0.03, kappa: 0.001 };

fn setup(cpus: usize) -> Setup {
    Setup {
        engine: "engine".to_owned(),
        is_debug: false,
        cpus,
        client_threads: 1,
        origin_threads: 1,
        connections: 64,
        rounds: 5,
        seconds: 1,
    }
}

/// Five rounds whose throughput follows `law` but for a percent, on an engine that is always busy.
fn rounds(law: &Law, counts: &[u32], per_cpu: impl Fn(u32) -> f64) -> Vec<Round> {
    let one = |round: usize, cores: u32| Round {
        round,
        cores,
        requests: 1_000,
        throughput: law.throughput(cores.into()) * (1.0 + (round * 7 % 5) as f64 / 200.0 - 0.01),
        requests_per_cpu_s: per_cpu(cores) * (1.0 + round as f64 / 1_000.0),
        engine_cpus: f64::from(cores) * 0.99,
        origin_cpus: 0.5,
        client_share_max: 0.5,
        p50_ns: 1e6,
        p99_ns: 2e6 + round as f64 * 1e5,
    };
    (0..5).flat_map(|round| counts.iter().map(move |cores| one(round, *cores))).collect()
}

fn steady(_: u32) -> f64 {
    40_000.0
}

#[test]
fn a_machine_with_room_gets_a_promise() {
    let report = Report::new(setup(20), rounds(&LAW, &[1, 2, 4, 8, 16], steady));
    assert!(report.no_promise.is_empty(), "{:?}", report.no_promise);
    let fit = report.fit.as_ref().expect("a fit");
    assert_eq!(fit.limit, Limit::ContentionAndCoherency);
    assert_eq!(fit.forecasts.iter().map(|forecast| forecast.cores).collect::<Vec<_>>(), FORECAST_CORES);
    let at_32 = &fit.forecasts[3];
    assert!((at_32.throughput / LAW.throughput(32.0) - 1.0).abs() < 0.1, "{at_32:?}");
    let text = report.to_string();
    assert!(text.contains("What limits it: contention and coherency"), "{text}");
    assert!(text.contains("highest on 31 cores") || text.contains("highest on 32 cores"), "{text}");
    assert!(!text.contains("NOT A PROMISE"), "{text}");
}

#[test]
fn shared_cpus_give_a_fit_without_a_forecast() {
    let report = Report::new(setup(2), rounds(&LAW, &[1, 2, 8], steady));
    assert!(report.fit.as_ref().is_some_and(|fit| fit.forecasts.is_empty()));
    let text = report.to_string();
    for part in [
        "NOT A PROMISE",
        "need 10 CPUs and this machine has 2",
        "8*",
        "oversubscribed",
        "took turns on 2 CPUs",
    ] {
        assert!(text.contains(part), "{part}: {text}");
    }
    assert!(text.contains("no lock or shared line appears"), "{text}");
}

#[test]
fn two_core_counts_give_the_measured_ratio_only() {
    let report = Report::new(setup(8), rounds(&LAW, &[1, 2], steady));
    assert!(report.fit.is_none());
    let text = report.to_string();
    assert!(text.contains("2 core counts cannot determine three coefficients"), "{text}");
    assert!(text.contains("1.94 (1.94–1.94) × on 2 cores"), "{text}");
}

#[test]
fn growing_cpu_time_per_request_is_called_so() {
    let grows = |cores: u32| if cores == 1 { 40_000.0 } else { 20_000.0 };
    let text = Report::new(setup(8), rounds(&LAW, &[1, 2], grows)).to_string();
    assert!(
        text.contains("0.50 (0.50–0.50) × the requests") && text.contains("per request grows:"),
        "{text}"
    );
    let mut mixed = rounds(&LAW, &[1, 2], steady);
    let worst = mixed.iter_mut().find(|round| round.cores == 2).expect("a round");
    worst.requests_per_cpu_s /= 2.0;
    let text = Report::new(setup(8), mixed).to_string();
    assert!(text.contains("the rounds do not agree"), "{text}");
}

#[test]
fn a_pace_set_by_others_is_no_promise() {
    let judge = |change: fn(&mut Round)| {
        let mut rounds = rounds(&LAW, &[1, 2, 4], steady);
        rounds.iter_mut().filter(|round| round.cores == 4).for_each(change);
        Report::new(setup(8), rounds).no_promise.join(";")
    };
    assert_eq!(judge(|_| ()), "");
    assert!(judge(|round| round.engine_cpus = 2.0).contains("on 4 cores the engine was busy for only 50 %"));
    assert!(
        judge(|round| round.client_share_max = 0.99).contains("on 4 cores the client had no CPU time left")
    );
    assert!(judge(|round| round.origin_cpus = 0.99).contains("on 4 cores the origin had no CPU time left"));
}

#[test]
fn a_single_round_claims_no_interval() {
    let once = rounds(&LAW, &[1, 2, 4], steady).into_iter().filter(|round| round.round == 0).collect();
    let report = Report::new(setup(8), once);
    assert_eq!(report.fit.as_ref().map(|fit| fit.limit), Some(Limit::Unknown));
    let text = report.to_string();
    assert!(text.contains("interval unknown") && text.contains("use more --rounds"), "{text}");
}

#[test]
fn a_summary_without_a_figure_is_refused() {
    let mut summary = serde_json::json!({
        "duration_s": 2.0, "requests": { "completed": 1_000 }, "rate": { "achieved": 500.0 },
        "latency_ns": { "p50": 10, "p99": 20 }, "generator": { "cpu_share": [0.2, 0.4] },
    });
    let read =
        |summary: &Value| Round::new(0, 2, summary, Duration::from_millis(500), Duration::from_secs(1));
    let round = read(&summary).expect("a round");
    assert_eq!((round.requests_per_cpu_s, round.engine_cpus, round.client_share_max), (2_000.0, 0.25, 0.4));
    summary["latency_ns"]["p99"] = Value::Null;
    assert!(read(&summary).unwrap_err().to_string().contains("/latency_ns/p99"));
}

#[test]
fn medians_stand_between_the_extremes() {
    let spread = |figures: &[f64]| Spread::of(figures.iter().copied());
    assert_eq!(spread(&[3.0, 1.0, 2.0]), Some(Spread { median: 2.0, min: 1.0, max: 3.0 }));
    assert_eq!(spread(&[4.0, 1.0]), Some(Spread { median: 2.5, min: 1.0, max: 4.0 }));
    assert_eq!(spread(&[]), None);
}
