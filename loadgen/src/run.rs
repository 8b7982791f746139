//! How does a run go, from the arguments to the summary?
//!
//! Starts the threads, looks on, and reports: never touches a connection itself.

use std::fs::{self, File};
use std::hash::{BuildHasher, Hasher, RandomState};
use std::io::Write;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use anyhow::{Context, Result, anyhow};
use proto::histogram::{MergedHistogram, write_hgrm};
use runtime::cores::CoreId;
use runtime::{CoreConfig, DriverKind};

use crate::cli::{ArrivalArg, LoadArgs};
use crate::client::Exchange;
use crate::counts::Counts;
use crate::progress::ProgressLine;
use crate::report::{Asked, Summary, ThreadResult};
use crate::schedule::{Arrival, Pattern};
use crate::target::{Target, build_request};
use crate::threads::{allow_descriptors, place, settle_driver, stop_on_signals};
use crate::worker::{Share, Stage};

/// How long to send when neither `-d` nor `-n` says so.
const DURATION_DEFAULT: Duration = Duration::from_secs(10);
/// How often the main thread looks whether the others are done.
const GLANCE: Duration = Duration::from_millis(20);
/// The `.hgrm` text is in milliseconds, as its plotters label it.
const NANOSECONDS_PER_MILLISECOND: f64 = 1e6;

/// Puts the load on, and writes the reports. Failure when any response was not right.
///
/// # Errors
/// The run could not be started, or a report not be written.
pub(crate) fn run(args: &LoadArgs) -> Result<ExitCode> {
    let target = args.url.as_ref().ok_or_else(|| anyhow!("no URL given"))?;
    let exchange = Arc::new(prepare(args, target)?);
    let reports = Reports::open(args)?;
    allow_descriptors(args.connections.into())?;
    let pattern = pattern(args);
    let mut placement = place(args.threads);
    // A thread without a connection would have nothing to do.
    placement.truncate(args.connections as usize);
    let threads = placement.len();
    let stage = Arc::new(Stage::new(threads, stop_on_signals()?));
    let counts: Vec<Arc<Counts>> = (0..threads).map(|_| Arc::default()).collect();
    let crew = Crew::start(&placement, settle_driver(args.driver), |index| Share {
        index,
        connections: share_of(args.connections as usize, index, threads),
        pattern,
        grace: args.grace,
        spin: args.spin,
        exchange: exchange.clone(),
        counts: counts[index].clone(),
        stage: stage.clone(),
    })?;
    crew.look_on(&stage, &counts, pattern.duration);
    let results = crew.join()?;
    let asked =
        Asked { url: &target.to_string(), connections: args.connections, pattern: &pattern, spin: args.spin };
    let (summary, latency) = Summary::new(&asked, &results);
    print!("{summary}");
    reports.write(&summary, &latency)?;
    Ok(if summary.is_clean() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn prepare(args: &LoadArgs, target: &Target) -> Result<Exchange> {
    let body = match (&args.body, &args.body_file) {
        (Some(text), _) => Some(text.clone().into_bytes()),
        (None, Some(path)) => {
            Some(fs::read(path).with_context(|| format!("cannot read the body from {}", path.display()))?)
        }
        (None, None) => None,
    };
    Ok(Exchange {
        address: target.resolve().map_err(|refusal| anyhow!(refusal))?,
        request: build_request(target, &args.method, &args.headers, body.as_deref(), !args.no_keepalive),
        method: args.method.kind(),
        expected: args.expect_status.clone(),
        timeout: args.timeout,
        keepalive: !args.no_keepalive,
    })
}

fn pattern(args: &LoadArgs) -> Pattern {
    Pattern {
        arrival: match (args.rate, args.arrival) {
            (None, _) => Arrival::Closed,
            (Some(rate), ArrivalArg::Constant) => Arrival::Constant(rate),
            (Some(rate), ArrivalArg::Poisson) => Arrival::Poisson(rate),
        },
        duration: args.duration.or(args.requests.is_none().then_some(DURATION_DEFAULT)),
        requests_max: args.requests,
        seed: args.seed.unwrap_or_else(random_seed),
    }
}

/// The standard library keys its hash maps from the system's random source: reason enough not to open it again.
fn random_seed() -> u64 {
    RandomState::new().build_hasher().finish()
}

fn share_of(all: usize, index: usize, threads: usize) -> usize {
    all / threads + usize::from(index < all % threads)
}

/// The threads of a run.
struct Crew(Vec<JoinHandle<Result<ThreadResult>>>);

impl Crew {
    fn start(
        placement: &[Option<CoreId>],
        driver: DriverKind,
        share: impl Fn(usize) -> Share,
    ) -> Result<Self> {
        let mut threads = Vec::with_capacity(placement.len());
        for (index, cpu) in placement.iter().enumerate() {
            let config = CoreConfig { cpu: *cpu, ..CoreConfig::new(index, driver)? };
            let share = share(index);
            let thread = thread::Builder::new().name(format!("loadgen-{index}"));
            threads.push(thread.spawn(move || share.run(config))?);
        }
        Ok(Self(threads))
    }

    /// Shows how it goes until every thread is done.
    fn look_on(&self, stage: &Stage, counts: &[Arc<Counts>], duration: Option<Duration>) {
        let mut line = None;
        while !self.0.iter().all(JoinHandle::is_finished) {
            if self.0.iter().any(JoinHandle::is_finished) && !stage.has_started() {
                // A thread that could not begin would keep the others waiting for it.
                stage.stop();
            }
            if stage.has_started() {
                line.get_or_insert_with(|| ProgressLine::new(duration)).update(counts);
            }
            thread::sleep(GLANCE);
        }
        if let Some(line) = line {
            line.finish();
        }
    }

    fn join(self) -> Result<Vec<ThreadResult>> {
        self.0.into_iter().map(|thread| thread.join().map_err(|_| anyhow!("a thread panicked"))?).collect()
    }
}

/// The files to write, opened before the run so that a mistake in a path does not cost its results.
struct Reports {
    hdr: Option<File>,
    json: Option<File>,
}

impl Reports {
    fn open(args: &LoadArgs) -> Result<Self> {
        let open =
            |path: &Path| File::create(path).with_context(|| format!("cannot write {}", path.display()));
        Ok(Self {
            hdr: args.hdr.as_deref().map(open).transpose()?,
            json: args.json.as_deref().map(open).transpose()?,
        })
    }

    fn write(self, summary: &Summary, latency: &MergedHistogram) -> Result<()> {
        if let Some(mut file) = self.hdr {
            let mut text = String::new();
            write_hgrm(latency, NANOSECONDS_PER_MILLISECOND, &mut text)
                .context("cannot write the histogram")?;
            file.write_all(text.as_bytes()).context("cannot write the histogram")?;
        }
        if let Some(mut file) = self.json {
            let text = serde_json::to_string_pretty(summary).context("cannot write the summary")?;
            writeln!(file, "{text}").context("cannot write the summary")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_are_dealt_out_to_the_unit() {
        for (all, threads) in [(1, 1), (64, 3), (5, 5), (7, 2)] {
            let shares: Vec<usize> = (0..threads).map(|index| share_of(all, index, threads)).collect();
            assert_eq!(shares.iter().sum::<usize>(), all);
            assert!(
                shares.iter().max().zip(shares.iter().min()).is_some_and(|(most, least)| most - least <= 1)
            );
        }
    }

    #[test]
    fn seeds_differ_unless_given() {
        assert_ne!(random_seed(), random_seed());
    }
}
