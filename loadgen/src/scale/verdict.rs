//! What do the rounds of `loadgen scale` say, in figures and in words?
//!
//! Never extrapolates a throughput that something other than the engine has limited, and never averages percentiles.

use std::fmt::{self, Write as _};
use std::time::Duration;

use anyhow::{Context, Result};
use serde::Serialize;
use serde_json::Value;

use crate::scale::usl::{CORE_COUNTS_MIN, Fit, FitError, Interval, Law, Sample};
use crate::units::{show_count, show_nanoseconds};

/// The core counts that a promise is made for.
const FORECAST_CORES: [u32; 5] = [4, 8, 16, 32, 64];
/// A forecast further beyond the largest measured count than this is marked as far.
const FAR: u32 = 4;
/// Requests per CPU-second on n cores over those on one: from here on they count as kept (as in `bench/peers`).
const KEPT: f64 = 0.9;
/// An engine that was busy for less of its CPUs was waiting for its client or its origin.
const ENGINE_BUSY: f64 = 0.9;
/// A thread of client or origin that was busier had nothing left to give.
const DRIVER_BUSY: f64 = 0.95;
/// Contention below this costs less than 6 % on 64 cores (63 σ), and is not worth a word.
const SIGMA_VISIBLE: f64 = 0.001;
/// The same for coherency (64 · 63 κ).
const KAPPA_VISIBLE: f64 = 0.000_015;

/// What was measured on what.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Setup {
    pub(crate) engine: String,
    /// This program was built without optimisation, and so maybe the engine too.
    pub(crate) is_debug: bool,
    /// Usable CPUs.
    pub(crate) cpus: usize,
    pub(crate) client_threads: usize,
    pub(crate) origin_threads: usize,
    pub(crate) connections: u32,
    pub(crate) rounds: u32,
    pub(crate) seconds: u32,
}

impl Setup {
    /// Whether the engine on `cores` has to share its CPUs with its client and its origin.
    pub(crate) fn shares_cpus(&self, cores: u32) -> bool {
        self.cpus < self.needed(cores)
    }

    fn needed(&self, cores: u32) -> usize {
        cores as usize + self.client_threads + self.origin_threads
    }
}

/// One core count in one round.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Round {
    pub(crate) round: usize,
    pub(crate) cores: u32,
    pub(crate) requests: u64,
    pub(crate) throughput: f64,
    pub(crate) requests_per_cpu_s: f64,
    /// CPU time over time, of all threads of the engine.
    pub(crate) engine_cpus: f64,
    /// The same of the origin.
    pub(crate) origin_cpus: f64,
    /// CPU time over time of the client's busiest thread.
    pub(crate) client_share_max: f64,
    pub(crate) p50_ns: f64,
    pub(crate) p99_ns: f64,
}

impl Round {
    /// Reads a client's `summary`; the CPU times are those of its run.
    ///
    /// # Errors
    /// The summary lacks a figure, or nothing was done.
    pub(crate) fn new(
        round: usize,
        cores: u32,
        summary: &Value,
        engine_cpu: Duration,
        origin_cpu: Duration,
    ) -> Result<Self> {
        let figure = |pointer: &str| {
            let figure = summary.pointer(pointer).and_then(Value::as_f64);
            figure.filter(|figure| *figure > 0.0).with_context(|| format!("the summary has no {pointer}"))
        };
        let requests = summary.pointer("/requests/completed").and_then(Value::as_u64);
        let requests = requests.context("the summary has no /requests/completed")?;
        let shares = summary.pointer("/generator/cpu_share").and_then(Value::as_array);
        let shares = shares.context("the summary has no /generator/cpu_share")?;
        let seconds = figure("/duration_s")?;
        Ok(Self {
            round,
            cores,
            requests,
            throughput: figure("/rate/achieved")?,
            // To the tick of a schedstat: an engine that answered anything used more than a microsecond.
            requests_per_cpu_s: requests as f64 / engine_cpu.as_secs_f64().max(1e-6),
            engine_cpus: engine_cpu.as_secs_f64() / seconds,
            origin_cpus: origin_cpu.as_secs_f64() / seconds,
            client_share_max: shares.iter().filter_map(Value::as_f64).fold(0.0, f64::max),
            p50_ns: figure("/latency_ns/p50")?,
            p99_ns: figure("/latency_ns/p99")?,
        })
    }

    /// The round in a line of progress.
    pub(crate) fn line(&self) -> String {
        let (per_cpu, rate) = (count(self.requests_per_cpu_s), count(self.throughput));
        let p99 = show_nanoseconds(self.p99_ns);
        format!("{:>3} cores  {per_cpu} per CPU-second  {rate} /s  p99 {p99}", self.cores)
    }
}

/// A figure over the rounds.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub(crate) struct Spread {
    pub(crate) median: f64,
    pub(crate) min: f64,
    pub(crate) max: f64,
}

impl Spread {
    /// `None` of nothing.
    fn of(figures: impl Iterator<Item = f64>) -> Option<Self> {
        let mut figures: Vec<f64> = figures.collect();
        figures.sort_by(f64::total_cmp);
        let (min, max) = (*figures.first()?, *figures.last()?);
        let middle = figures.len() / 2;
        let lower = figures[(figures.len() - 1) / 2];
        Some(Self { median: (figures[middle] + lower) / 2.0, min, max })
    }

    fn show(&self, show: impl Fn(f64) -> String) -> String {
        format!("{} ({}–{})", show(self.median), show(self.min), show(self.max))
    }
}

/// A core count over all rounds.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Point {
    pub(crate) cores: u32,
    /// More executors than CPUs: they take turns.
    pub(crate) is_oversubscribed: bool,
    pub(crate) requests_per_cpu_s: Spread,
    /// Over the requests per CPU-second of the smallest count in the same round.
    pub(crate) cpu_ratio: Spread,
    pub(crate) throughput: Spread,
    /// CPU time over time of all of the engine's CPUs: 1 is an engine that never waited.
    pub(crate) engine_busy: Spread,
    /// The same ratio of the throughputs.
    pub(crate) throughput_ratio: Spread,
    pub(crate) p50_ns: Spread,
    pub(crate) p99_ns: Spread,
}

impl Point {
    fn new(cores: u32, base: u32, cpus: usize, rounds: &[Round]) -> Option<Self> {
        let own = || rounds.iter().filter(move |round| round.cores == cores);
        let spread = |of: fn(&Round) -> f64| Spread::of(own().map(of));
        // Within a round, so that what slows the machine for a while slows both.
        let ratio = |of: fn(&Round) -> f64| {
            Spread::of(own().filter_map(|round| {
                let other = rounds.iter().find(|other| other.cores == base && other.round == round.round)?;
                Some(of(round) / of(other))
            }))
        };
        Some(Self {
            cores,
            is_oversubscribed: cores as usize > cpus,
            requests_per_cpu_s: spread(|round| round.requests_per_cpu_s)?,
            cpu_ratio: ratio(|round| round.requests_per_cpu_s)?,
            engine_busy: spread(|round| round.engine_cpus / f64::from(round.cores))?,
            throughput: spread(|round| round.throughput)?,
            throughput_ratio: ratio(|round| round.throughput)?,
            p50_ns: spread(|round| round.p50_ns)?,
            p99_ns: spread(|round| round.p99_ns)?,
        })
    }
}

/// The law that the throughputs follow.
#[derive(Debug, Serialize)]
pub(crate) struct Fitted {
    pub(crate) law: Law,
    pub(crate) lambda_interval: Option<Interval>,
    pub(crate) sigma_interval: Option<Interval>,
    pub(crate) kappa_interval: Option<Interval>,
    pub(crate) limit: Limit,
    /// The core count of the highest throughput, if there is one.
    pub(crate) peak_cores: Option<f64>,
    /// Empty without a promise.
    pub(crate) forecasts: Vec<Forecast>,
}

/// A throughput that was not measured.
#[derive(Debug, Serialize)]
pub(crate) struct Forecast {
    pub(crate) cores: u32,
    pub(crate) throughput: f64,
    pub(crate) interval: Option<Interval>,
}

/// What keeps throughput from growing in proportion.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Limit {
    Contention,
    Coherency,
    ContentionAndCoherency,
    NeitherVisible,
    /// Too few rounds for an interval.
    Unknown,
}

impl Limit {
    fn of(sigma: Option<Interval>, kappa: Option<Interval>) -> Self {
        let (Some(sigma), Some(kappa)) = (sigma, kappa) else { return Self::Unknown };
        match (sigma.low > SIGMA_VISIBLE, kappa.low > KAPPA_VISIBLE) {
            (true, true) => Self::ContentionAndCoherency,
            (true, false) => Self::Contention,
            (false, true) => Self::Coherency,
            (false, false) => Self::NeitherVisible,
        }
    }

    fn words(self) -> &'static str {
        match self {
            Self::Contention => "contention: some of each request waits for something only one core can hold",
            Self::Coherency => {
                "coherency: cores pay for agreeing with each other, the more the more there are"
            }
            Self::ContentionAndCoherency => {
                "contention and coherency: cores wait for, and agree on, shared things"
            }
            Self::NeitherVisible => "neither contention nor coherency is visible above the noise",
            Self::Unknown => "too few rounds to tell it from the noise: use more --rounds",
        }
    }
}

/// Everything `loadgen scale` has to say. Its JSON form is a contract with scripts.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    pub(crate) setup: Setup,
    pub(crate) points: Vec<Point>,
    /// Why the throughputs are no promise; empty when they are one.
    pub(crate) no_promise: Vec<String>,
    pub(crate) fit: Option<Fitted>,
    /// Why there is no fit.
    pub(crate) no_fit: Option<String>,
    /// The words below the tables.
    pub(crate) verdict: Vec<String>,
    pub(crate) rounds: Vec<Round>,
}

impl Report {
    /// Judges the rounds.
    pub(crate) fn new(setup: Setup, rounds: Vec<Round>) -> Self {
        let mut counts: Vec<u32> = rounds.iter().map(|round| round.cores).collect();
        counts.sort_unstable();
        counts.dedup();
        let base = counts.first().copied().unwrap_or(1);
        let points: Vec<Point> =
            counts.iter().filter_map(|cores| Point::new(*cores, base, setup.cpus, &rounds)).collect();
        let no_promise = objections(&setup, &counts, &rounds);
        let sample = |round: &Round| Sample { cores: round.cores.into(), throughput: round.throughput };
        let samples: Vec<Sample> = rounds.iter().map(sample).collect();
        let (fit, no_fit) = match Fit::new(&samples) {
            Ok(fit) => (Some(fitted(&fit, no_promise.is_empty())), None),
            Err(error) => (None, Some(why_no_fit(error))),
        };
        let mut verdict: Vec<String> =
            points.iter().skip(1).map(|point| cpu_words(point, base, &setup)).collect();
        verdict.extend(throughput_words(&no_promise, fit.as_ref(), no_fit.as_deref(), &points));
        Self { setup, points, no_promise, fit, no_fit, verdict, rounds }
    }
}

/// What else than the engine may have limited the throughput.
fn objections(setup: &Setup, counts: &[u32], rounds: &[Round]) -> Vec<String> {
    let most = counts.last().copied().unwrap_or(1);
    if setup.shares_cpus(most) {
        return vec![format!(
            "client ({}), origin ({}) and {most} executors need {} CPUs and this machine has {}: they take CPU time \
             from each other, so more cores for the engine mean fewer for those that keep it busy",
            threads(setup.client_threads),
            threads(setup.origin_threads),
            setup.needed(most),
            setup.cpus
        )];
    }
    let mut objections = Vec::new();
    for cores in counts {
        let own = || rounds.iter().filter(|round| round.cores == *cores);
        let median = |of: fn(&Round) -> f64| Spread::of(own().map(of)).map_or(0.0, |spread| spread.median);
        let engine = median(|round| round.engine_cpus) / f64::from(*cores);
        let client = median(|round| round.client_share_max);
        let origin = median(|round| round.origin_cpus) / setup.origin_threads as f64;
        if client > DRIVER_BUSY || origin > DRIVER_BUSY {
            let who = if client > origin { "client" } else { "origin" };
            objections.push(format!("on {cores} cores the {who} had no CPU time left and set the pace"));
        } else if engine < ENGINE_BUSY {
            let percent = engine * 100.0;
            objections
                .push(format!("on {cores} cores the engine was busy for only {percent:.0} % of their time"));
        }
    }
    objections
}

fn fitted(fit: &Fit, is_promise: bool) -> Fitted {
    let (sigma, kappa) = (fit.interval(|law| law.sigma), fit.interval(|law| law.kappa));
    let forecast = |cores: u32| Forecast {
        cores,
        throughput: fit.law.throughput(cores.into()),
        interval: fit.interval(|law| law.throughput(cores.into())),
    };
    Fitted {
        law: fit.law,
        lambda_interval: fit.interval(|law| law.lambda),
        sigma_interval: sigma,
        kappa_interval: kappa,
        limit: Limit::of(sigma, kappa),
        peak_cores: fit.law.peak(),
        forecasts: if is_promise { FORECAST_CORES.map(forecast).into() } else { Vec::new() },
    }
}

fn why_no_fit(error: FitError) -> String {
    match error {
        FitError::TooFewCoreCounts(counts) => format!(
            "{counts} core counts cannot determine three coefficients: name at least {CORE_COUNTS_MIN} with --cores"
        ),
        FitError::NotPositive => "a throughput was zero".to_owned(),
    }
}

/// What the CPU time per request says about `point`.
fn cpu_words(point: &Point, base: u32, setup: &Setup) -> String {
    let ratio = point.cpu_ratio;
    let shown = ratio.show(|ratio| format!("{ratio:.2}"));
    let meaning = if ratio.min >= KEPT {
        "CPU time per request does not grow by more than a tenth: no lock or shared line appears"
    } else if ratio.max < KEPT {
        "CPU time per request grows: something is shared, or the cores wake up more often for less"
    } else {
        "the rounds do not agree whether CPU time per request grows by a tenth: use more --rounds"
    };
    let mut words = format!(
        "On {} cores the engine did {shown} × the requests per CPU-second of {base}: {meaning}.",
        point.cores
    );
    if point.is_oversubscribed {
        let _ = write!(words, " ({} executors took turns on {} CPUs.)", point.cores, setup.cpus);
    }
    let busy = point.engine_busy.median;
    if busy < ENGINE_BUSY {
        let _ = write!(
            words,
            " (It was busy for {:.0} % of its executors' time: it waited for others, and wake-ups may be part of \
             this ratio, which cannot tell them from a shared line.)",
            busy * 100.0
        );
    }
    words
}

fn throughput_words(
    no_promise: &[String],
    fit: Option<&Fitted>,
    no_fit: Option<&str>,
    points: &[Point],
) -> Vec<String> {
    let mut words = Vec::new();
    if !no_promise.is_empty() {
        words.push(format!("Throughput is no promise here: {}.", no_promise.join("; ")));
    }
    match fit {
        Some(fit) if no_promise.is_empty() => {
            words.push(format!("What limits it: {}.", fit.limit.words()));
            words.push(match fit.peak_cores {
                Some(peak) => format!("By the fit, throughput is highest on {} cores.", count(peak)),
                None => "By the fit, throughput has no peak.".to_owned(),
            });
        }
        Some(_) => {
            words.push("So its fit is shown without a forecast: it is not one of the engine.".to_owned());
        }
        None => {
            let ratios: Vec<String> = points.iter().skip(1).map(show_throughput_ratio).collect();
            let why = no_fit.unwrap_or("there is no fit");
            words.push(format!("No fit: {why}. Throughput measured: {}.", ratios.join(", ")));
        }
    }
    words
}

fn show_throughput_ratio(point: &Point) -> String {
    format!("{} × on {} cores", point.throughput_ratio.show(|ratio| format!("{ratio:.2}")), point.cores)
}

fn threads(number: usize) -> String {
    if number == 1 { "1 thread".to_owned() } else { format!("{number} threads") }
}

fn count(figure: f64) -> String {
    show_count(figure.round() as u64)
}

impl fmt::Display for Report {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Setup { engine, cpus, client_threads, origin_threads, connections, rounds, seconds, .. } =
            &self.setup;
        writeln!(formatter, "engine      {engine}")?;
        let (client, origin) = (threads(*client_threads), threads(*origin_threads));
        writeln!(formatter, "machine     {cpus} usable CPUs; client {client}, origin {origin}")?;
        writeln!(formatter, "load        {connections} connections, {rounds} rounds of {seconds} s")?;
        if self.setup.is_debug {
            writeln!(
                formatter,
                "WARNING     this loadgen is an unoptimised build; figures of such an engine mean nothing"
            )?;
        }
        writeln!(formatter, "\nMedian (lowest–highest round):")?;
        let row =
            ["cores", "requests per CPU-s", "÷ first", "throughput /s", "p50", "p99"].map(str::to_owned);
        write_row(formatter, &row)?;
        for point in &self.points {
            let mark = if point.is_oversubscribed { "*" } else { "" };
            write_row(
                formatter,
                &[
                    format!("{}{mark}", point.cores),
                    point.requests_per_cpu_s.show(count),
                    point.cpu_ratio.show(|ratio| format!("{ratio:.2}")),
                    point.throughput.show(count),
                    point.p50_ns.show(show_nanoseconds),
                    point.p99_ns.show(show_nanoseconds),
                ],
            )?;
        }
        if self.points.iter().any(|point| point.is_oversubscribed) {
            writeln!(formatter, "* oversubscribed: more executors than CPUs")?;
        }
        if let Some(fit) = &self.fit {
            let is_promise = self.no_promise.is_empty();
            fit.write(formatter, is_promise, self.points.last().map_or(1, |point| point.cores))?;
        }
        writeln!(formatter)?;
        self.verdict.iter().try_for_each(|words| writeln!(formatter, "{words}"))
    }
}

fn write_row(
    formatter: &mut fmt::Formatter<'_>,
    [cores, per_cpu, ratio, rate, p50, p99]: &[String; 6],
) -> fmt::Result {
    writeln!(formatter, "{cores:>5}  {per_cpu:<24}  {ratio:<17}  {rate:<24}  {p50:<28}  {p99}")
}

impl Fitted {
    fn write(&self, formatter: &mut fmt::Formatter<'_>, is_promise: bool, measured_max: u32) -> fmt::Result {
        let label = if is_promise { "" } else { ", NOT A PROMISE" };
        writeln!(formatter, "\nUniversal Scalability Law of the throughput (95 % intervals){label}:")?;
        let percent = |share: f64| format!("{:.4} %", share * 100.0);
        let Law { lambda, sigma, kappa } = self.law;
        writeln!(formatter, "  λ one core    {}{}", count(lambda), within(self.lambda_interval, count))?;
        writeln!(formatter, "  σ contention  {}{}", percent(sigma), within(self.sigma_interval, percent))?;
        writeln!(formatter, "  κ coherency   {}{}", percent(kappa), within(self.kappa_interval, percent))?;
        for Forecast { cores, throughput, interval } in &self.forecasts {
            let far = if *cores > measured_max * FAR { "  far beyond what was measured" } else { "" };
            writeln!(
                formatter,
                "  {cores:>3} cores     {} /s{}{far}",
                count(*throughput),
                within(*interval, count)
            )?;
        }
        Ok(())
    }
}

fn within(interval: Option<Interval>, show: impl Fn(f64) -> String) -> String {
    match interval {
        Some(Interval { low, high }) => format!(" ({}–{})", show(low), show(high)),
        None => " (interval unknown: too few rounds)".to_owned(),
    }
}

#[cfg(test)]
#[path = "verdict_tests.rs"]
mod tests;
