//! What does a finished run say, to people and to scripts?
//!
//! One [`Summary`] feeds both: no figure is computed twice, and no percentile is ever averaged.

mod text;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use proto::histogram::{MergedHistogram, merged_histogram};
use runtime::DriverKind;
use runtime::counter::Counter;
use serde::Serialize;

use crate::connection::handshakes::{Handshakes, TlsSummary};
use crate::counts::Counts;
use crate::delivery::Delivery;
use crate::failure::Failure;
use crate::find_max::{FindMax, TargetOutcome};
use crate::generator::Generator;
use crate::named::{NamedHistogram, NamedRequests, named_requests};
use crate::output::distribution::Distribution;
use crate::output::intervals::Interval;
use crate::protocol::Unit;
use crate::schedule::Pattern;
use crate::units::{show_count, show_duration};

/// What one thread hands back.
pub(crate) struct ThreadResult {
    /// What it counted.
    pub(crate) counts: Arc<Counts>,
    /// From the intended send time to the last byte of a right answer.
    pub(crate) latency: MergedHistogram,
    /// From the actual send to the same byte.
    pub(crate) service_time: MergedHistogram,
    /// How long this thread sent.
    pub(crate) sending: Duration,
    /// CPU time it used from the start of sending to its end.
    pub(crate) cpu: Duration,
    /// The part of it in which it only waited for the next send time.
    pub(crate) cpu_waiting: Duration,
    /// How long it could have run in that time but had no CPU; zero where the kernel does not say.
    pub(crate) cpu_delay: Duration,
    /// Open loop: how long after its time each request left although its connection was free.
    pub(crate) lateness: MergedHistogram,
    /// Latencies by the names in a file of requests.
    pub(crate) named: Vec<NamedHistogram>,
    /// How its private connections began.
    pub(crate) handshakes: Handshakes,
    /// Why it stopped sending.
    pub(crate) ending: Ending,
    /// The driver it ran on.
    pub(crate) driver: DriverKind,
}

/// Why a thread stopped sending.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ending {
    /// By its schedule, or because the user ended the run.
    AsPlanned,
    /// No connection was open or could be opened for as long as `--timeout`, and nothing else would have ended it.
    Stranded,
}

/// What was asked for, as far as a report repeats it.
pub(crate) struct Asked<'a> {
    pub(crate) url: &'a str,
    pub(crate) unit: Unit,
    pub(crate) connections: u32,
    pub(crate) pattern: &'a Pattern,
    /// The names in a file of requests.
    pub(crate) names: &'a [String],
    /// Whether the threads never slept.
    pub(crate) spin: bool,
    /// Who vouches for the server of private connections.
    pub(crate) verified_by: Option<&'a str>,
}

/// Everything a run has to say. Its JSON form is a contract with scripts.
#[derive(Debug, Serialize)]
pub(crate) struct Summary {
    pub(crate) url: String,
    /// What `requests` counts: requests, messages, connections or streams.
    pub(crate) unit: &'static str,
    pub(crate) connections: u32,
    pub(crate) threads: usize,
    /// Those that gave up before `-n` was reached, as they could open no connection.
    pub(crate) threads_stranded: usize,
    pub(crate) driver: String,
    pub(crate) arrival: &'static str,
    /// The same for people, with the plan of the rate.
    #[serde(skip)]
    pub(crate) load: String,
    /// When the schedule began, in seconds since 1970: to find the run in a server's log.
    pub(crate) started_unix_s: f64,
    pub(crate) duration_s: f64,
    pub(crate) requests: Requests,
    pub(crate) errors: Errors,
    pub(crate) statuses: BTreeMap<u16, u64>,
    pub(crate) bytes: Bytes,
    pub(crate) rate: Rate,
    /// `None` for streams, which have none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) latency_ns: Option<Distribution>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) service_time_ns: Option<Distribution>,
    pub(crate) seed: u64,
    pub(crate) generator: Generator,
    /// What became of the requests of each name in a file of requests.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) named: Vec<NamedRequests>,
    /// How often the origin was sent each request, with --ids.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) delivery: Option<Delivery>,
    /// Of private connections.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) tls: Option<TlsSummary>,
    /// What became of `--target`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) target: Option<TargetOutcome>,
    /// What a search for the highest rate found, of which this is the best run.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) find_max: Option<FindMax>,
    /// Connections, where they are what was asked for, that took as long as a repeated SYN takes.
    #[serde(skip)]
    late_set_ups: u64,
    /// How it went, second by second.
    pub(crate) intervals: Vec<Interval>,
}

/// `sent = completed + failed + unanswered`, to the unit.
#[derive(Debug, Serialize)]
pub(crate) struct Requests {
    /// Sending began.
    pub(crate) sent: u64,
    /// Answered whole and as expected.
    pub(crate) completed: u64,
    /// Sent, and failed in a way that [`Errors`] names.
    pub(crate) failed: u64,
    /// Sent, and nothing had come of it when the run gave up.
    pub(crate) unanswered: u64,
    /// Open loop: due, but never sent because no connection was free.
    pub(crate) unsent: u64,
}

#[derive(Debug, Serialize)]
pub(crate) struct Errors {
    /// Failed requests and failed attempts to connect.
    pub(crate) total: u64,
    /// The kinds that occurred.
    pub(crate) by_kind: BTreeMap<&'static str, u64>,
    /// The first of each kind in words.
    pub(crate) first: BTreeMap<&'static str, String>,
}

#[derive(Debug, Serialize)]
pub(crate) struct Bytes {
    /// Taken by the kernel.
    pub(crate) sent: u64,
    pub(crate) received: u64,
    /// Over the time of sending, each way and both together.
    pub(crate) sent_per_s: f64,
    pub(crate) received_per_s: f64,
    pub(crate) both_per_s: f64,
}

impl Bytes {
    fn new(sent: u64, received: u64, seconds: f64) -> Self {
        let per_second = |bytes: u64| ratio(bytes as f64, seconds);
        Self {
            sent,
            received,
            sent_per_s: per_second(sent),
            received_per_s: per_second(received),
            both_per_s: per_second(sent + received),
        }
    }
}

/// Requests per second.
#[derive(Debug, Serialize)]
pub(crate) struct Rate {
    /// Open loop only: the mean over the run when the rate changes.
    pub(crate) requested: Option<f64>,
    /// Open loop only: the rate over time, as `--rate` takes it.
    pub(crate) plan: Option<String>,
    /// Completed over the time of sending.
    pub(crate) achieved: f64,
}

impl Summary {
    /// Adds up the threads. The latencies are returned beside it, merged without loss.
    pub(crate) fn new(asked: &Asked<'_>, results: &[ThreadResult]) -> (Self, MergedHistogram) {
        let [mut latency, mut service_time] = [(); 2].map(|()| merged_histogram());
        for result in results {
            latency.add(&result.latency).expect("histograms of one shape");
            service_time.add(&result.service_time).expect("histograms of one shape");
        }
        let counts: Vec<&Counts> = results.iter().map(|result| result.counts.as_ref()).collect();
        let sum = |of: fn(&Counts) -> &Counter| counts.iter().map(|counts| of(counts).value()).sum::<u64>();
        let errors = Errors::new(&counts);
        let failed = Failure::ALL
            .into_iter()
            .filter(|kind| kind.was_sent())
            .filter_map(|kind| errors.by_kind.get(kind.name()))
            .sum();
        let (sent, completed) = (sum(|counts| &counts.sent), sum(|counts| &counts.completed));
        let mut statuses = BTreeMap::new();
        for (status, count) in counts.iter().flat_map(|counts| counts.statuses()) {
            *statuses.entry(status).or_default() += count;
        }
        let seconds = results.iter().map(|result| result.sending).max().unwrap_or_default().as_secs_f64();
        let is_timed = asked.unit != Unit::Streams;
        let plan = asked.pattern.arrival.plan();
        let requested = plan.map(|plan| plan.mean(Duration::from_secs_f64(seconds)));
        let summary = Self {
            url: asked.url.to_owned(),
            unit: asked.unit.name(),
            connections: asked.connections,
            threads: results.len(),
            threads_stranded: results.iter().filter(|result| result.ending == Ending::Stranded).count(),
            driver: results.first().map_or_else(String::new, |result| result.driver.to_string()),
            arrival: asked.pattern.arrival.name(),
            load: asked.pattern.arrival.to_string(),
            started_unix_s: 0.0,
            duration_s: seconds,
            requests: Requests {
                sent,
                completed,
                failed,
                unanswered: sent - completed - failed,
                unsent: sum(|counts| &counts.unsent),
            },
            errors,
            statuses,
            bytes: Bytes::new(
                sum(|counts| &counts.bytes_sent),
                sum(|counts| &counts.bytes_received),
                seconds,
            ),
            rate: Rate {
                requested,
                plan: plan.map(ToString::to_string),
                achieved: ratio(completed as f64, seconds),
            },
            latency_ns: is_timed.then(|| Distribution::of(&latency)),
            service_time_ns: is_timed.then(|| Distribution::of(&service_time)),
            late_set_ups: if asked.unit == Unit::Connections { above(&latency, SYN_REPEAT) } else { 0 },
            seed: asked.pattern.seed,
            generator: Generator::new(results, requested.is_some(), asked.spin),
            named: named_requests(asked.names, results),
            delivery: None,
            tls: asked.verified_by.map(|verified_by| {
                let mut handshakes = Handshakes::default();
                results.iter().for_each(|result| handshakes.add(&result.handshakes));
                TlsSummary::new(verified_by, &handshakes)
            }),
            target: None,
            find_max: None,
            intervals: Vec::new(),
        };
        (summary, latency)
    }

    /// Whether every request was answered rightly, none delivered twice, and there was at least one.
    pub(crate) fn is_clean(&self) -> bool {
        let is_delivered_once = self.delivery.as_ref().is_none_or(Delivery::is_clean);
        let is_right = self.requests.unanswered == 0 && self.errors.total == 0;
        self.requests.completed > 0 && is_right && is_delivered_once
    }

    /// What a reader must know before trusting the figures.
    pub(crate) fn warnings(&self) -> Vec<String> {
        let (requests, generator) = (&self.requests, &self.generator);
        let mut warnings = Vec::new();
        if requests.completed == 0 {
            warnings.push(match self.unit {
                "requests" => "no request was answered rightly: there is nothing to measure".to_owned(),
                unit => format!("none of the {unit} went right: there is nothing to measure"),
            });
        }
        if self.threads_stranded > 0 {
            warnings.push(format!(
                "{} of {} threads gave up before -n was reached: for as long as --timeout they had no connection",
                self.threads_stranded, self.threads
            ));
        }
        if requests.unsent > 0 {
            warnings.push(format!(
                "{} {} were due but never sent, as no connection was free: the latencies leave them out; \
                 raise -c or lower --rate",
                show_count(requests.unsent),
                self.unit
            ));
        }
        if self.late_set_ups > 0 {
            warnings.push(format!(
                "{} of the connections took {} or more: their first SYN went unanswered, as when the server's accept \
                 queue is full",
                show_count(self.late_set_ups),
                show_duration(SYN_REPEAT)
            ));
        }
        if let Some(delivery) = self.delivery.as_ref().filter(|delivery| !delivery.is_clean()) {
            warnings.push(format!("not every request was delivered at most once: {delivery}"));
        }
        warnings.extend(generator.warnings());
        warnings
    }
}

impl Errors {
    fn new(counts: &[&Counts]) -> Self {
        let mut by_kind = BTreeMap::new();
        let mut first = BTreeMap::new();
        for kind in Failure::ALL {
            let count: u64 = counts.iter().map(|counts| counts.failures(kind)).sum();
            if count > 0 {
                by_kind.insert(kind.name(), count);
            }
            if let Some(detail) = counts.iter().find_map(|counts| counts.detail(kind)) {
                first.insert(kind.name(), detail.to_owned());
            }
        }
        Self { total: by_kind.values().sum(), by_kind, first }
    }
}

/// When Linux sends a SYN again that nobody answered: after 1 s (RFC 6298 §2, tcp_timeout_init).
const SYN_REPEAT: Duration = Duration::from_secs(1);

/// How many of the values are at least `bound`.
fn above(histogram: &MergedHistogram, bound: Duration) -> u64 {
    histogram.count_between(bound.as_nanos() as u64, histogram.high())
}

/// A part of a whole; 0 of nothing.
pub(crate) fn ratio(part: f64, whole: f64) -> f64 {
    if whole > 0.0 { part / whole } else { 0.0 }
}

#[cfg(test)]
impl<'a> Asked<'a> {
    /// Requests over four connections, and nothing special.
    pub(crate) fn plainly(pattern: &'a Pattern) -> Self {
        Self {
            url: "http://h/",
            unit: Unit::Requests,
            connections: 4,
            pattern,
            names: &[],
            spin: false,
            verified_by: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schedule::Arrival;
    use crate::schedule::rate_plan::RatePlan;

    fn pattern(arrival: Arrival) -> Pattern {
        Pattern { arrival, duration: None, requests_max: None, seed: 42 }
    }

    fn result(counts: Counts, latencies: &[u64], busy: f64) -> ThreadResult {
        let mut latency = merged_histogram();
        latencies.iter().for_each(|value| latency.saturating_record(*value));
        let sending = Duration::from_secs(2);
        ThreadResult {
            counts: Arc::new(counts),
            service_time: latency.clone(),
            latency,
            sending,
            cpu: sending.mul_f64(busy),
            cpu_waiting: Duration::ZERO,
            cpu_delay: Duration::ZERO,
            lateness: merged_histogram(),
            named: Vec::new(),
            handshakes: Handshakes::default(),
            ending: Ending::AsPlanned,
            driver: DriverKind::Epoll,
        }
    }

    fn summary(arrival: Arrival, results: &[ThreadResult]) -> Summary {
        let pattern = pattern(arrival);
        Summary::new(&Asked::plainly(&pattern), results).0
    }

    fn mixed_counts() -> Counts {
        let counts = Counts::default();
        counts.sent.add(5);
        counts.completed.add(3);
        counts.fail(Failure::WrongStatus, || "503".into());
        counts.fail(Failure::Connect, || "refused".into());
        (0..3).for_each(|_| counts.status(200));
        counts.status(503);
        counts.bytes_sent.add(100);
        counts.bytes_received.add(1_000);
        counts
    }

    fn mixed() -> [ThreadResult; 1] {
        [result(mixed_counts(), &[52_340], 0.1)]
    }

    #[test]
    fn threads_add_up_to_the_unit() {
        let results =
            [result(mixed_counts(), &[1_000_000; 3], 0.5), result(mixed_counts(), &[9_000_000; 3], 0.25)];
        let summary = summary(Arrival::Closed, &results);
        let requests = &summary.requests;
        assert_eq!((requests.sent, requests.completed, requests.failed, requests.unanswered), (10, 6, 2, 2));
        assert_eq!((summary.errors.total, summary.errors.by_kind["connect"]), (4, 2));
        assert_eq!(summary.statuses, BTreeMap::from([(200, 6), (503, 2)]));
        assert!((summary.rate.achieved - 3.0).abs() < 1e-9);
        assert!((summary.generator.cpu_s - 1.5).abs() < 1e-9);
        let latency = summary.latency_ns.as_ref().expect("latencies");
        assert!(latency.p50.abs_diff(1_000_000) < 2_000 && latency.p90.abs_diff(9_000_000) < 9_000);
        assert!(!summary.is_clean());
    }

    #[test]
    fn json_keeps_the_names_scripts_read() {
        let summary = summary(Arrival::Constant(RatePlan::constant(100.0)), &mixed());
        let json = serde_json::to_value(&summary).expect("JSON");
        let names = [
            "/url",
            "/connections",
            "/threads",
            "/threads_stranded",
            "/duration_s",
            "/requests/sent",
            "/requests/completed",
            "/requests/unanswered",
            "/errors/total",
            "/errors/by_kind/wrong_status",
            "/bytes/sent",
            "/bytes/received",
            "/latency_ns/min",
            "/latency_ns/mean",
            "/latency_ns/p50",
            "/latency_ns/p75",
            "/latency_ns/p90",
            "/latency_ns/p99",
            "/latency_ns/p99_9",
            "/latency_ns/p99_99",
            "/latency_ns/p99_999",
            "/latency_ns/max",
            "/service_time_ns/p50",
            "/rate/requested",
            "/rate/achieved",
            "/seed",
            "/generator/cpu_s",
            "/generator/late_sends",
            "/generator/cpu_work_share/0",
            "/generator/send_lateness_ns/p99",
            "/rate/plan",
        ];
        for name in names {
            assert!(json.pointer(name).is_some(), "{name} is missing from {json}");
        }
    }

    #[test]
    fn closed_loops_request_no_rate() {
        let summary = summary(Arrival::Closed, &mixed());
        let json = serde_json::to_value(&summary).expect("JSON");
        assert!(json["rate"]["requested"].is_null());
        assert!(!summary.to_string().contains("service"), "{summary}");
    }

    #[test]
    fn only_answers_without_any_error_are_clean() {
        let right = || {
            let counts = Counts::default();
            counts.sent.add(1);
            counts.completed.add(1);
            counts
        };
        let clean = |counts: Counts| summary(Arrival::Closed, &[result(counts, &[1], 0.0)]).is_clean();
        assert!(clean(right()));
        assert!(!clean(Counts::default()), "nothing was verified");
        let refused = right();
        refused.fail(Failure::Connect, String::new);
        assert!(!clean(refused));
        let unanswered = right();
        unanswered.sent.add(1);
        assert!(!clean(unanswered));
    }

    #[test]
    fn the_generator_confesses_its_own_limits() {
        let counts = Counts::default();
        counts.sent.add(50);
        counts.lateness(12_000_000);
        counts.unsent.add(1_234);
        let text =
            summary(Arrival::Poisson(RatePlan::constant(10.0)), &[result(counts, &[1], 1.0)]).to_string();
        for part in
            ["1 requests (2.00 %) were sent late", "1 of 1 generator threads", "1,234 requests were due"]
        {
            assert!(text.contains(part), "{part} is missing from\n{text}");
        }
    }

    #[test]
    fn the_text_names_the_first_error_of_each_kind() {
        let text = summary(Arrival::Closed, &mixed()).to_string();
        for part in [
            "5 sent = 3 completed + 1 failed + 1 unanswered; 0 never sent",
            "wrong_status",
            "first: 503",
            "52.",
            "p99.999",
        ] {
            assert!(text.contains(part), "{part} is missing from\n{text}");
        }
    }
}
