//! What do the rounds say, and are the targets met?
//!
//! Medians of rounds, their range, and ratios of medians; it never measures and never drops a round.

use std::fmt::Write as _;

use bench::summary::Summary;
use serde_json::{Value, json};

use crate::contender::{Contender, ENGINES, PEERS, busier_engines};
use crate::measure::{Row, Side};
use crate::scenario::{Figure, Scenario, Target};

/// One scenario, measured.
pub(crate) struct Outcome<'a> {
    /// What was measured.
    pub(crate) scenario: &'a Scenario,
    /// What shared the core.
    pub(crate) reference: Contender,
    /// One row for each contender that takes part.
    pub(crate) rows: Vec<Row>,
    /// Who was asked for and takes no part, and why.
    pub(crate) left_out: Vec<(Contender, &'static str)>,
}

impl Row {
    /// Of a row that counts.
    fn summary(&self) -> Option<Summary> {
        if self.failure.is_some() {
            return None;
        }
        Summary::of(self.samples.iter().map(|sample| sample.figure))
    }
}

/// Whether a target is met.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Verdict {
    Met,
    Missed,
    NotMeasured,
}

impl Verdict {
    fn word(self) -> &'static str {
        match self {
            Self::Met => "met",
            Self::Missed => "MISSED",
            Self::NotMeasured => "not measured",
        }
    }
}

/// A target and what came of it.
struct Judgement {
    contender: Contender,
    measured: Option<f64>,
    bound: String,
    verdict: Verdict,
}

impl Outcome<'_> {
    /// Whether every row counts.
    pub(crate) fn is_complete(&self) -> bool {
        self.rows.iter().all(|row| row.failure.is_none())
    }

    /// The table and the verdicts.
    pub(crate) fn to_text(&self) -> String {
        let mut text = format!("\n{}: {}\n", self.scenario.name, self.scenario.about);
        let columns = match self.scenario.figure {
            Figure::PairedCpu => {
                let against = format!("÷ {}", self.reference.name());
                let [unit, units] = self.scenario.traffic.units();
                [against, "range".into(), format!("CPU/{unit}"), "÷ better peer".into(), units.into()]
            }
            Figure::SoloLatency => ["p50", "range", "p99", "÷ better peer", "requests"].map(str::to_owned),
            Figure::Scaling => ["2 cores ÷ 1", "range", "CPU/request", "", "requests"].map(str::to_owned),
            Figure::IdleMemory(_) => {
                ["B/connection", "range", "all together", "÷ better peer", "connections"].map(str::to_owned)
            }
        };
        let _ = writeln!(text, "  {}", line("", &columns.each_ref().map(String::as_str)));
        for row in &self.rows {
            let _ = writeln!(text, "  {}", self.row_text(row));
        }
        for (contender, cause) in &self.left_out {
            let _ = writeln!(text, "  {:<13} left out: {cause}", contender.name());
        }
        for judgement in self.judgements() {
            let measured = judgement.measured.map_or("–".to_owned(), |value| format!("{value:.2}"));
            let Judgement { contender, bound, verdict, .. } = judgement;
            let _ =
                writeln!(text, "  target  {:<13} {measured} {bound}: {}", contender.name(), verdict.word());
        }
        text
    }

    fn row_text(&self, row: &Row) -> String {
        let (Some(summary), name) = (row.summary(), row.contender.name()) else {
            let cause = row.failure.as_deref().unwrap_or("no rounds");
            return format!("{:<13} FAILED: {cause}", row.contender.name());
        };
        let loads = || row.samples.iter().filter_map(|sample| sample.candidate);
        let requests: u64 = loads().map(|side| side.client.completed).sum();
        let Summary { median, min, max } = summary;
        let (figure, range, beside) = match self.scenario.figure {
            Figure::PairedCpu | Figure::Scaling => {
                let cpu = Summary::of(loads().map(|side| side.cpu_us_per_request()));
                let cpu = cpu.map_or(0.0, |cpu| cpu.median);
                (format!("{median:.2}"), format!("{min:.2}–{max:.2}"), format!("{cpu:.1} µs"))
            }
            Figure::SoloLatency => {
                let p99 = Summary::of(
                    loads().filter_map(|side| side.client.latency).map(|latency| latency.p99_ns as f64),
                );
                let p99 = p99.map_or(0.0, |p99| p99.median / 1e3);
                (format!("{median:.1} µs"), format!("{min:.1}–{max:.1}"), format!("{p99:.1} µs"))
            }
            Figure::IdleMemory(_) => {
                let total_mb = median * f64::from(self.scenario.connections) / 1e6;
                (format!("{median:.0}"), format!("{min:.0}–{max:.0}"), format!("{total_mb:.1} MB"))
            }
        };
        let versus = self.versus_better_peer(row).map_or(String::new(), |ratio| format!("{ratio:.2}"));
        let amount = match self.scenario.figure {
            Figure::IdleMemory(_) => u64::from(self.scenario.connections),
            Figure::PairedCpu | Figure::SoloLatency | Figure::Scaling => requests,
        };
        line(name, &[&figure, &range, &beside, &versus, &amount.to_string()])
    }

    /// The row's median ÷ the smaller of the peers' medians; smaller is better for all figures it is used with.
    fn versus_better_peer(&self, row: &Row) -> Option<f64> {
        self.versus(row, &PEERS)
    }

    /// The row's median ÷ the smallest of these contenders' medians.
    fn versus(&self, row: &Row, peers: &[Contender]) -> Option<f64> {
        if self.scenario.figure == Figure::Scaling {
            return None;
        }
        let rows = self.rows.iter().filter(|row| peers.contains(&row.contender));
        let medians = rows.map(|peer| peer.summary().map(|summary| summary.median));
        // A peer that failed might have been the better one: then there is no answer.
        let medians: Option<Vec<f64>> = medians.collect();
        let medians = medians.filter(|medians| medians.len() == peers.len())?;
        let better = medians.into_iter().min_by(f64::total_cmp)?;
        Some(row.summary()?.median / better)
    }

    fn judgements(&self) -> Vec<Judgement> {
        let judge = |target: &Target| {
            let judged = match target {
                Target::WithoutAtMost(_) => busier_engines(self.scenario.traffic).unwrap_or(ENGINES),
                _ => ENGINES,
            };
            let rows = self.rows.iter().filter(move |row| judged.contains(&row.contender));
            rows.map(|row| self.judge(row, *target)).collect::<Vec<_>>()
        };
        self.scenario.targets.iter().flat_map(judge).collect()
    }

    fn judge(&self, row: &Row, target: Target) -> Judgement {
        let median = row.summary().map(|summary| summary.median);
        let (measured, bound, met): (_, _, fn(f64, f64) -> bool) = match target {
            Target::NullRelayAtMost(bound) => {
                (median.filter(|_| self.reference == Contender::Null), bound, |measured, bound| {
                    measured <= bound
                })
            }
            Target::BetterPeerAtMost(bound) => {
                (self.versus_better_peer(row), bound, |measured, bound| measured <= bound)
            }
            Target::PeerAtMost(peer, bound) => {
                (self.versus(row, &[peer]), bound, |measured, bound| measured <= bound)
            }
            Target::WithoutAtMost(bound) => {
                let without = row.contender.without();
                let ratio = without.and_then(|without| self.versus(row, &[without]));
                (ratio, bound, |measured, bound| measured <= bound)
            }
            Target::OneCoreAtLeast(bound) => (median, bound, |measured, bound| measured >= bound),
            Target::BytesAtMost(bound) => (median, bound, |measured, bound| measured <= bound),
        };
        let verdict = match measured {
            None => Verdict::NotMeasured,
            Some(measured) if met(measured, bound) => Verdict::Met,
            Some(_) => Verdict::Missed,
        };
        let bound = match target {
            Target::NullRelayAtMost(bound) => format!("× null relay (at most {bound:.2})"),
            Target::BetterPeerAtMost(bound) => format!("× better of nginx and HAProxy (at most {bound:.2})"),
            Target::PeerAtMost(peer, bound) => format!("× {} (at most {bound:.2})", peer.name()),
            Target::WithoutAtMost(bound) => format!("× the same without (at most {bound:.2})"),
            Target::OneCoreAtLeast(bound) => {
                format!("of one core's requests per CPU second (at least {bound:.2})")
            }
            Target::BytesAtMost(bound) => format!("bytes (at most {bound:.0})"),
        };
        Judgement { contender: row.contender, measured, bound, verdict }
    }

    /// Every round, every figure and every verdict.
    pub(crate) fn to_json(&self) -> Value {
        let judgements = self.judgements();
        json!({
            "name": self.scenario.name,
            "about": self.scenario.about,
            "reference": self.reference.name(),
            "rows": self.rows.iter().map(|row| self.row_json(row)).collect::<Vec<_>>(),
            "left_out": self.left_out.iter().map(|(contender, cause)| json!({
                "contender": contender.name(),
                "cause": cause,
            })).collect::<Vec<_>>(),
            "targets": judgements.iter().map(|judgement| json!({
                "contender": judgement.contender.name(),
                "measured": judgement.measured,
                "bound": judgement.bound,
                "verdict": judgement.verdict.word(),
            })).collect::<Vec<_>>(),
        })
    }

    fn row_json(&self, row: &Row) -> Value {
        let summary = row.summary();
        json!({
            "contender": row.contender.name(),
            "failure": row.failure,
            "median": summary.map(|summary| summary.median),
            "min": summary.map(|summary| summary.min),
            "max": summary.map(|summary| summary.max),
            "versus_better_peer": self.versus_better_peer(row),
            "rounds": row.samples.iter().map(|sample| json!({
                "figure": sample.figure,
                "candidate": sample.candidate.as_ref().map(side_json),
                "reference": sample.reference.as_ref().map(side_json),
            })).collect::<Vec<_>>(),
        })
    }
}

fn side_json(side: &Side) -> Value {
    json!({
        "requests": side.client.completed,
        "errors": side.client.errors,
        "cpu_s": side.cpu.as_secs_f64(),
        "cpu_us_per_request": side.cpu_us_per_request(),
        "latency_p50_ns": side.client.latency.map(|latency| latency.p50_ns),
        "latency_p99_ns": side.client.latency.map(|latency| latency.p99_ns),
    })
}

fn line(name: &str, cells: &[&str; 5]) -> String {
    let [figure, range, beside, versus, requests] = cells;
    format!("{name:<13} {figure:>12} {range:>13} {beside:>13} {versus:>14} {requests:>10}")
        .trim_end()
        .to_owned()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{Outcome, Verdict};
    use bench::client::{Latency, Report};
    use bench::traffic::Traffic;

    use crate::contender::Contender;
    use crate::measure::{Row, Sample, Side};
    use crate::scenario::{Figure, Scenario, Target, WaitingFor};

    fn row(contender: Contender, figures: &[f64]) -> Row {
        let client = Report { completed: 10, errors: 0, latency: Some(Latency { p50_ns: 1, p99_ns: 2 }) };
        let candidate = Side { cpu: Duration::from_micros(10), client };
        let sample = |figure: &f64| Sample { figure: *figure, candidate: Some(candidate), reference: None };
        Row { contender, samples: figures.iter().map(sample).collect(), failure: None }
    }

    fn scenario(figure: Figure, targets: &'static [Target]) -> Scenario {
        Scenario {
            name: "test",
            about: "",
            traffic: Traffic::Kept,
            connections: 1,
            body_bytes: 1,
            figure,
            targets,
        }
    }

    /// The verdict on an engine that measured `engine` beside peers at 2.0 and 1.5.
    fn verdict(figure: Figure, targets: &'static [Target], engine: f64) -> Verdict {
        let rows = vec![
            row(Contender::EngineEpoll, &[engine]),
            row(Contender::Nginx, &[2.0]),
            row(Contender::Haproxy, &[1.5]),
        ];
        let outcome = Outcome {
            scenario: &scenario(figure, targets),
            reference: Contender::Null,
            rows,
            left_out: Vec::new(),
        };
        let judgements = outcome.judgements();
        assert_eq!(judgements.len(), 1, "one engine, one target");
        judgements[0].verdict
    }

    #[test]
    fn the_null_relay_bounds_from_above() {
        let targets = &[Target::NullRelayAtMost(1.2)];
        assert_eq!(verdict(Figure::PairedCpu, targets, 1.2), Verdict::Met);
        assert_eq!(verdict(Figure::PairedCpu, targets, 1.21), Verdict::Missed);
    }

    #[test]
    fn the_better_peer_is_the_one_that_costs_less() {
        let targets = &[Target::BetterPeerAtMost(0.8)];
        assert_eq!(verdict(Figure::PairedCpu, targets, 1.19), Verdict::Met);
        assert_eq!(verdict(Figure::PairedCpu, targets, 1.21), Verdict::Missed);
    }

    #[test]
    fn one_peer_alone_may_be_the_bound() {
        let targets = &[Target::PeerAtMost(Contender::Nginx, 0.5)];
        let scenario = scenario(Figure::PairedCpu, targets);
        let rows = vec![row(Contender::EngineEpoll, &[1.0]), row(Contender::Nginx, &[2.0])];
        let outcome = Outcome { scenario: &scenario, reference: Contender::Null, rows, left_out: Vec::new() };
        assert_eq!(outcome.judgements()[0].verdict, Verdict::Met);
    }

    #[test]
    fn scaling_bounds_from_below() {
        let targets = &[Target::OneCoreAtLeast(0.9)];
        assert_eq!(verdict(Figure::Scaling, targets, 0.91), Verdict::Met);
        assert_eq!(verdict(Figure::Scaling, targets, 0.89), Verdict::Missed);
    }

    #[test]
    fn memory_is_bounded_from_above_and_stands_without_a_load() {
        let figure = Figure::IdleMemory(WaitingFor::NextRequest);
        let targets = &[Target::BytesAtMost(1024.0)];
        assert_eq!(verdict(figure, targets, 1024.0), Verdict::Met);
        assert_eq!(verdict(figure, targets, 1025.0), Verdict::Missed);
        let scenario = scenario(figure, targets);
        let sample = Sample { figure: 512.0, candidate: None, reference: None };
        let row = Row { contender: Contender::EngineEpoll, samples: vec![sample], failure: None };
        let text = Outcome {
            scenario: &scenario,
            reference: Contender::Null,
            rows: vec![row],
            left_out: Vec::new(),
        }
        .to_text();
        assert!(text.contains(" 512 ") && text.contains("512.00 bytes (at most 1024): met"), "{text}");
    }

    #[test]
    fn nothing_is_said_of_a_failed_row() {
        let scenario = scenario(Figure::PairedCpu, &[Target::NullRelayAtMost(9.0)]);
        let mut failed = row(Contender::EngineUring, &[1.0]);
        failed.failure = Some("3 requests failed in round 1".to_owned());
        let outcome = Outcome {
            scenario: &scenario,
            reference: Contender::Null,
            rows: vec![failed],
            left_out: Vec::new(),
        };
        assert_eq!(outcome.judgements()[0].verdict, Verdict::NotMeasured);
        assert!(!outcome.is_complete());
        assert!(outcome.to_text().contains("FAILED: 3 requests failed in round 1"));
    }

    #[test]
    fn a_missing_peer_might_have_been_the_better_one() {
        let scenario = scenario(Figure::PairedCpu, &[Target::BetterPeerAtMost(9.0)]);
        let rows = vec![row(Contender::EngineEpoll, &[1.0]), row(Contender::Nginx, &[2.0])];
        let outcome = Outcome { scenario: &scenario, reference: Contender::Null, rows, left_out: Vec::new() };
        assert_eq!(outcome.judgements()[0].verdict, Verdict::NotMeasured);
    }

    #[test]
    fn another_reference_is_no_null_relay() {
        let scenario = scenario(Figure::PairedCpu, &[Target::NullRelayAtMost(9.0)]);
        let rows = vec![row(Contender::EngineEpoll, &[1.0])];
        let outcome =
            Outcome { scenario: &scenario, reference: Contender::Nginx, rows, left_out: Vec::new() };
        assert_eq!(outcome.judgements()[0].verdict, Verdict::NotMeasured);
    }
}
