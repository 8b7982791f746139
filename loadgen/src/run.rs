//! How does a run go, from the arguments to the summary?
//!
//! Starts the threads, looks on, and reports: never touches a connection itself.

use std::fs::{self, File};
use std::hash::{BuildHasher, Hasher, RandomState};
use std::io::Write;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, UNIX_EPOCH};

use anyhow::{Context, Result, anyhow, bail};
use proto::histogram::{MergedHistogram, write_hgrm};
use runtime::cores::CoreId;
use runtime::{CoreConfig, DriverKind};

use crate::cli::transport::TransportArgs;
use crate::cli::{ArrivalArg, CommonArgs, DirectionArg, LoadArgs, MessageArgs, ModeArg, TcpArgs};
use crate::client::Traffic;
use crate::connection::dial::{Address, Destination};
use crate::connection::trust::Trust;
use crate::counts::Counts;
use crate::delivery::{self, Counting};
use crate::find_max::{self, FindMax, Goal, RATE_LOWEST_DEFAULT, TRY_DURATION_DEFAULT};
use crate::output::hlog::IntervalLog;
use crate::output::html_report;
use crate::output::intervals::Intervals;
use crate::output::live::Setting;
use crate::output::progress::{Progress, Wish};
use crate::output::report::{Asked, Summary, ThreadResult};
use crate::protocol::http::expected::{Expected, ExpectedBody};
use crate::protocol::http::ids::RunId;
use crate::protocol::http::request::{Body, Description, Request};
use crate::protocol::http::request_file::{self, RequestFile};
use crate::protocol::http::template;
use crate::protocol::http::{Choice, Http};
use crate::protocol::one_way::{Direction, OneWay};
use crate::protocol::ping_pong::PingPong;
use crate::protocol::websocket::WebSocket;
use crate::protocol::{Protocol, Unit};
use crate::schedule::rate_plan::RatePlan;
use crate::schedule::{Arrival, Pattern};
use crate::target::{Scheme, Target};
use crate::threads::{allow_descriptors, place, settle_driver, stop_on_signals};
use crate::websocket::frame::Kind;
use crate::worker::{Share, Stage};

/// How long to send when neither `-d` nor `-n` nor a changing rate says so.
const DURATION_DEFAULT: Duration = Duration::from_secs(10);
/// How long a message is when `--size` does not say so.
const MESSAGE_BYTES_DEFAULT: usize = 128;
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
    let traffic = match target.scheme {
        Scheme::Http => prepare_http(args, target)?,
        Scheme::WebSocket => {
            let websocket = Protocol::WebSocket(Arc::new(prepare_websocket(args, target)?));
            carry(&args.common, destination(&args.common.transport, target)?, websocket)
        }
        Scheme::Tcp => {
            let destination = destination(&args.common.transport, target)?;
            carry(&args.common, destination, prepare_tcp(&args.messages, &args.common))
        }
    };
    put_on(&args.common, target, traffic)
}

/// Puts load on a TCP server, and writes the reports. Failure when anything did not come back right.
///
/// # Errors
/// As [`run`].
pub(crate) fn run_tcp(args: &TcpArgs) -> Result<ExitCode> {
    let protocol = prepare_tcp(&args.messages, &args.common);
    let destination = destination(&args.common.transport, &args.address)?;
    put_on(&args.common, &args.address, carry(&args.common, destination, protocol))
}

fn put_on(args: &CommonArgs, target: &Target, traffic: Traffic) -> Result<ExitCode> {
    let traffic = Arc::new(traffic);
    let mut reports = Reports::open(args)?;
    allow_descriptors(args.connections.into())?;
    let stop = stop_on_signals()?;
    let hlog = reports.hlog.take();
    let (mut summary, latency) = match &args.find_max {
        Some(goal) => search(args, goal, target, &traffic, &stop)?,
        None => execute(args, target, &traffic, &pattern(args), &stop, hlog)?,
    };
    summary.target = args.target.as_ref().map(|target| target.outcome(&summary, &latency));
    print!("{summary}");
    reports.write(&summary, &latency)?;
    let is_kept = summary.target.as_ref().is_none_or(|target| target.kept);
    let is_right = is_kept && summary.find_max.as_ref().map_or(summary.is_clean(), FindMax::is_found);
    Ok(if is_right { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Runs again and again, to find the highest rate that keeps `goal`.
fn search(
    args: &CommonArgs,
    goal: &Goal,
    target: &Target,
    traffic: &Arc<Traffic>,
    stop: &Arc<AtomicBool>,
) -> Result<(Summary, MergedHistogram)> {
    let lowest = match &args.rate {
        None => RATE_LOWEST_DEFAULT,
        Some(plan) => plan.fixed().ok_or_else(|| {
            anyhow!("--find-max changes the rate itself, but --rate {plan} changes, too: give only the first, as in --rate 1k")
        })?,
    };
    find_max::search(goal, lowest, |rate| {
        let plan = RatePlan::constant(rate);
        let arrival = match args.arrival {
            ArrivalArg::Constant => Arrival::Constant(plan),
            ArrivalArg::Poisson => Arrival::Poisson(plan),
        };
        let duration = Some(args.duration.unwrap_or(TRY_DURATION_DEFAULT));
        let pattern = Pattern { arrival, duration, ..pattern(args) };
        let measured = execute(args, target, traffic, &pattern, stop, None)?;
        // A run that was interrupted says nothing about its rate.
        Ok((!stop.load(Ordering::Relaxed)).then_some(measured))
    })
}

/// One run, from the start of its threads to its summary.
fn execute(
    args: &CommonArgs,
    target: &Target,
    traffic: &Arc<Traffic>,
    pattern: &Pattern,
    stop: &Arc<AtomicBool>,
    hlog: Option<File>,
) -> Result<(Summary, MergedHistogram)> {
    if let Some(run) = traffic.run {
        // An origin that does not count is better known before than after.
        delivery::ask(&traffic.counted_at, run, 0)?;
    }
    let mut placement = place(args.threads);
    // A thread without a connection would have nothing to do.
    placement.truncate(args.connections as usize);
    let threads = placement.len();
    let stage = Arc::new(Stage::new(threads, stop.clone()));
    let counts: Vec<Arc<Counts>> =
        (0..threads).map(|_| Arc::new(Counts::with_accounts(traffic.names.len()))).collect();
    let mut intervals = Intervals::new(threads, hlog.map(IntervalLog::new));
    let crew = Crew::start(&placement, settle_driver(args.driver), |index| Share {
        index,
        connections: share_of(args.connections as usize, index, threads),
        pattern: pattern.clone(),
        grace: args.grace,
        spin: args.spin,
        traffic: traffic.clone(),
        counts: counts[index].clone(),
        stage: stage.clone(),
        slices: intervals.sender(),
    })?;
    let setting = setting(args, target, traffic.protocol.unit(), pattern, threads);
    let plan = pattern.arrival.plan();
    let progress = || Progress::new(&setting, plan, &counts, args.plain);
    crew.look_on(&stage, &counts, progress, &mut intervals);
    let mut results = crew.join()?;
    let intervals = intervals.finish(&mut results).context("cannot write the interval log")?;
    let asked = Asked {
        url: &target.to_string(),
        unit: traffic.protocol.unit(),
        connections: args.connections,
        pattern,
        names: &traffic.names,
        spin: args.spin,
        verified_by: traffic.destination.trust.as_ref().map(|trust| trust.verified_by.as_str()),
    };
    let (mut summary, latency) = Summary::new(&asked, &results);
    summary.intervals = intervals;
    if let Some(run) = traffic.run {
        summary.delivery = Some(delivery::ask(&traffic.counted_at, run, summary.requests.sent)?);
    }
    let start = stage.started_at().and_then(|start| start.duration_since(UNIX_EPOCH).ok());
    summary.started_unix_s = start.unwrap_or_default().as_secs_f64();
    Ok((summary, latency))
}

/// What the live view says above its charts.
fn setting(args: &CommonArgs, target: &Target, unit: Unit, pattern: &Pattern, threads: usize) -> Setting {
    Setting {
        url: target.to_string(),
        unit,
        load: format!("{} connections, {threads} threads, {}", args.connections, pattern.arrival),
        duration: pattern.duration,
        requests_max: pattern.requests_max,
        // https://no-color.org: present and not empty, whatever it says.
        has_colors: std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty()),
    }
}

/// HTTP requests, and where to ask what was delivered of them.
fn prepare_http(args: &LoadArgs, target: &Target) -> Result<Traffic> {
    let run = args.ids.then(|| RunId(random_seed()));
    let description = describe(args, target)?;
    let (http, names) = match &args.requests_file {
        None => {
            let request = Request::build(&description, run).map_err(|refusal| anyhow!(refusal))?;
            (Http { requests: vec![request], choice: Choice::Only, run }, Vec::new())
        }
        Some(path) => {
            let RequestFile { requests, weights, names } =
                request_file::read(path, &description, run).map_err(|mistakes| anyhow!(mistakes))?;
            let sums = weights.iter().scan(0, |sum, weight| {
                *sum += weight;
                Some(*sum)
            });
            let choice = if args.in_order { Choice::InOrder } else { Choice::Weighted(sums.collect()) };
            (Http { requests, choice, run }, names)
        }
    };
    let destination = destination(&args.common.transport, target)?;
    let counted_at = if args.ids { counting(args, target, &destination)? } else { Vec::new() };
    Ok(Traffic {
        names,
        run,
        counted_at,
        pipeline: args.pipeline.into(),
        ..carry(&args.common, destination, Protocol::Http(Arc::new(http)))
    })
}

/// What is asked of every protocol.
fn carry(args: &CommonArgs, destination: Destination, protocol: Protocol) -> Traffic {
    Traffic {
        destination,
        names: Vec::new(),
        run: None,
        counted_at: Vec::new(),
        timeout: args.timeout,
        // Streams and set-ups begin with a connection of their own.
        keepalive: !args.no_keepalive && matches!(protocol.unit(), Unit::Requests | Unit::Messages),
        answers_max: args.requests_per_connection.unwrap_or(u64::MAX),
        pipeline: 1,
        protocol,
    }
}

/// The request of the command line, and what those of a file have in common.
fn describe(args: &LoadArgs, target: &Target) -> Result<Description> {
    let read = |what: &str, path: &Path| {
        fs::read(path).with_context(|| format!("cannot read the {what} from {}", path.display()))
    };
    Ok(Description {
        method: args.method.clone(),
        authority: target.authority.clone(),
        path: target.path.clone(),
        fields: args.headers.clone(),
        body: match (&args.body, &args.body_file) {
            (Some(text), _) => Body::Text(text.clone()),
            (None, Some(path)) => Body::Bytes(read("body", path)?.into()),
            (None, None) => {
                args.body_size.map_or(Body::None, |bytes| Body::Bytes(vec![b'x'; bytes as usize].into()))
            }
        },
        keepalive: !args.common.no_keepalive,
        expected: Expected {
            statuses: args.expect_status.as_slice().into(),
            fields: args.expect_headers.as_slice().into(),
            body: match (args.expect_body_sha256, &args.expect_body_file) {
                (Some(sum), _) => ExpectedBody::Hash(sum),
                (None, Some(path)) => ExpectedBody::Same(read("expected body", path)?.into()),
                (None, None) => ExpectedBody::Any,
            },
        },
    })
}

fn prepare_websocket(args: &LoadArgs, target: &Target) -> Result<WebSocket> {
    let texts = args.headers.iter().map(|field| field.value.as_str()).chain([target.path.as_str()]);
    if let Some(text) = texts.into_iter().find(|text| template::outside(text) != *text) {
        bail!("'{text}' has placeholders, which handshakes do not fill in; write it without {{{{…}}}}");
    }
    let kind = if args.text { Kind::Text } else { Kind::Binary };
    let size = args.messages.size.unwrap_or(MESSAGE_BYTES_DEFAULT);
    Ok(WebSocket::new(target, &args.headers, kind, size))
}

fn prepare_tcp(messages: &MessageArgs, common: &CommonArgs) -> Protocol {
    match messages.mode.unwrap_or(ModeArg::PingPong) {
        ModeArg::PingPong => {
            Protocol::PingPong(PingPong::new(messages.size.unwrap_or(MESSAGE_BYTES_DEFAULT)))
        }
        ModeArg::Connect => Protocol::SetUp,
        ModeArg::Stream => {
            let direction = match messages.direction.unwrap_or(DirectionArg::Send) {
                DirectionArg::Send => Direction::Send,
                DirectionArg::Receive => Direction::Receive,
            };
            Protocol::OneWay(OneWay { direction, timeout: common.timeout })
        }
    }
}

fn destination(args: &TransportArgs, target: &Target) -> Result<Destination> {
    let address = match &args.unix {
        Some(path) => Address::Unix(path.clone()),
        None => Address::Tcp(target.resolve().map_err(|refusal| anyhow!(refusal))?),
    };
    Ok(Destination { address, trust: Trust::new(args, target)? })
}

/// The origins that say how often they were sent each request: where the requests go, unless others are named.
fn counting(args: &LoadArgs, target: &Target, destination: &Destination) -> Result<Vec<Counting>> {
    if args.ids_at.is_empty() {
        let (authority, destination) = (target.authority.clone(), destination.clone());
        return Ok(vec![Counting { authority, destination }]);
    }
    let named = args.ids_at.iter().map(|origin| {
        let address = Address::Tcp(origin.resolve().map_err(|refusal| anyhow!(refusal))?);
        // --sni is the name of another.
        let options = TransportArgs { sni: None, ..args.common.transport.clone() };
        let trust = if origin.is_secure { Trust::new(&options, origin)? } else { None };
        Ok(Counting { authority: origin.authority.clone(), destination: Destination { address, trust } })
    });
    named.collect()
}

fn pattern(args: &CommonArgs) -> Pattern {
    let duration_default = args.rate.as_ref().and_then(RatePlan::length).unwrap_or(DURATION_DEFAULT);
    Pattern {
        arrival: match (args.rate.clone(), args.arrival) {
            (None, _) => Arrival::Closed,
            (Some(plan), ArrivalArg::Constant) => Arrival::Constant(plan),
            (Some(plan), ArrivalArg::Poisson) => Arrival::Poisson(plan),
        },
        duration: args.duration.or(args.requests.is_none().then_some(duration_default)),
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
    fn look_on(
        &self,
        stage: &Stage,
        counts: &[Arc<Counts>],
        progress: impl Fn() -> Progress,
        intervals: &mut Intervals,
    ) {
        let mut shown = None;
        while !self.0.iter().all(JoinHandle::is_finished) {
            if self.0.iter().any(JoinHandle::is_finished) && !stage.has_started() {
                // A thread that could not begin would keep the others waiting for it.
                stage.stop();
            }
            if let Some(start) = stage.started_at() {
                intervals.begin(start);
                intervals.collect(|thread| self.0[thread].is_finished());
                let shown = shown.get_or_insert_with(&progress);
                if stage.is_stopped() {
                    // Whoever is waiting for the last answers can still end everything with a second signal.
                    shown.finish();
                } else if shown.update(counts) == Wish::End {
                    stage.stop();
                }
            }
            thread::sleep(GLANCE);
        }
    }

    fn join(self) -> Result<Vec<ThreadResult>> {
        self.0.into_iter().map(|thread| thread.join().map_err(|_| anyhow!("a thread panicked"))?).collect()
    }
}

/// The files to write, opened before the run so that a mistake in a path does not cost its results.
struct Reports {
    hdr: Option<File>,
    hlog: Option<File>,
    html: Option<File>,
    json: Option<File>,
}

impl Reports {
    fn open(args: &CommonArgs) -> Result<Self> {
        let open =
            |path: &Path| File::create(path).with_context(|| format!("cannot write {}", path.display()));
        Ok(Self {
            hdr: args.hdr.as_deref().map(open).transpose()?,
            hlog: args.hlog.as_deref().map(open).transpose()?,
            html: args.html.as_deref().map(open).transpose()?,
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
        if let Some(mut file) = self.html {
            let page = html_report::page(summary, latency);
            file.write_all(page.as_bytes()).context("cannot write the HTML report")?;
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
