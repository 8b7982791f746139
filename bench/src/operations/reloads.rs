//! Does another configuration cost a request, a connection, a descriptor or memory?
//!
//! Never asserts a time: what everything took is told beside what it took undisturbed.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};

use crate::gateway::{Gateway, Sample};
use crate::lasting::{Account, Tunnel, Wire, download, go_on, upload, visit};
use crate::load::{Load, Seen, Targets, start_origin};
use crate::plan::{Expected, PERIOD, Places, other_is_http, step};
use crate::{Bench, Terms};

/// Bytes of a download and of an upload: more than the kernel's buffers hold on the way.
const LONG_BYTES: u64 = 24 << 20;
/// Those that go on at a time.
const DOWNLOADS: usize = 4;
const UPLOADS: usize = 2;
const VISITORS: usize = 2;
/// A tunnel of each kind begins with each reload and ends so many later.
const TUNNEL_LASTS: usize = 12;
/// More than a core needs to close what is over.
const SETTLE: Duration = Duration::from_secs(2);
/// Statistics keep histograms for a minute after the last answer, and the allocator gives memory back some time later.
const FORGET: Duration = Duration::from_secs(105);
/// Growth that is allowed after the first ten, in thousandths.
const GROWTH_MAX: u64 = 20;

/// What was seen after a reload.
struct Point {
    number: usize,
    sample: Sample,
    generations: u64,
}

/// Operates one gateway; whether nothing was lost.
pub(crate) fn run(bench: Bench<'_>, driver: &str, terms: &Terms) -> anyhow::Result<bool> {
    let Bench { binaries, dir } = bench;
    let (_origin, origin) = start_origin(binaries, dir, driver)?;
    let (process, node) = (String::new(), String::new());
    let places = Places::find(dir, driver, origin, process, node)?;
    let gateway = Gateway::start(binaries, dir, driver, places.admin, &step(&places, 0).0)?;
    let listeners = gateway.listeners()?;
    let at = |name: &str| listeners.get(name).copied().with_context(|| format!("no listener {name}"));
    let to = Targets { web: at("web")?, tls: at("tls")?, bytes: at("bytes")?, origin };

    println!("\n{driver}: {} reloads, {} requests per second over kept connections", terms.times, terms.rate);
    let before = Load::start(binaries, dir, &to, terms.rate, Duration::from_secs(terms.calm))?.finish()?;
    let account = Account::default();
    let due = terms.due();
    let proof = Proof { bench, gateway: &gateway, places: &places, to: &to, account: &account, terms };
    let mut points = Vec::new();
    // The first ten have every shape and every name in them once; from then on nothing may grow.
    let (first, others) = due.split_at(PERIOD.min(due.len()));
    let mut during = proof.reload_under_load(1, first, &mut points)?;
    let mut at_rest = Vec::new();
    if !terms.smoke {
        at_rest.push((first.len(), proof.rest()?));
        let others =
            others.iter().map(|due| *due - first.last().copied().unwrap_or_default()).collect::<Vec<_>>();
        let later = proof.reload_under_load(1 + first.len(), &others, &mut points)?;
        for (sum, later) in during.iter_mut().zip(later) {
            sum.add(&later);
        }
        at_rest.push((due.len(), proof.rest()?));
    } else {
        thread::sleep(SETTLE);
    }
    let (faults, generations) = (gateway.faults()?, gateway.generations()?);
    tell_loads(&before, &during);
    tell_lasting(&account, LONG_BYTES, terms.lasting);
    let is_flat = tell_points(&points, &at_rest);
    println!("faults counted by the gateway: {faults:?}; generations that live in the end: {generations}");
    let is_lost = |seen: &&Seen| seen.failed + seen.repeated.unwrap_or(0) > 0;
    let lost = during.iter().filter(is_lost).count();
    let is_clean = lost == 0 && account.failures().is_empty() && faults.is_empty() && generations == 1;
    println!("{driver}: {}", if is_clean { "nothing was lost" } else { "SOMETHING WAS LOST" });
    Ok(is_clean && is_flat)
}

/// One gateway and what it is shown by.
struct Proof<'a> {
    bench: Bench<'a>,
    gateway: &'a Gateway,
    places: &'a Places,
    to: &'a Targets,
    account: &'a Account,
    terms: &'a Terms,
}

impl Proof<'_> {
    /// Reloads when it is `due`, from configuration `number` on, under all of the load.
    fn reload_under_load(
        &self,
        number: usize,
        due: &[Duration],
        points: &mut Vec<Point>,
    ) -> anyhow::Result<Vec<Seen>> {
        let Self { bench, gateway, places, to, account, terms } = *self;
        let last = due.last().copied().unwrap_or_default();
        // Samples take a second each, and a machine may be busy: then each reload, and what is looked at behind it, takes its time.
        let each = Duration::from_millis(if terms.smoke { 100 } else { 500 });
        let margin = Duration::from_secs(3) + each * due.len() as u32;
        let mut load = Load::start(bench.binaries, bench.dir, to, terms.rate, last + margin)?;
        let time = Duration::from_secs(terms.lasting);
        account.is_over.store(false, Ordering::Relaxed);
        let outcome = thread::scope(|scope| {
            for _ in 0..DOWNLOADS {
                scope.spawn(|| {
                    let one = |wire: &mut Wire| download(wire, LONG_BYTES, time);
                    go_on(account, "a download", to.web, &account.downloads, one);
                });
            }
            for _ in 0..UPLOADS {
                scope.spawn(|| {
                    let one = |wire: &mut Wire| upload(wire, LONG_BYTES, time);
                    go_on(account, "an upload", to.web, &account.uploads, one);
                });
            }
            for _ in 0..VISITORS {
                scope.spawn(|| visit(account));
            }
            let outcome = reload_all(gateway, places, to, account, number, due, terms.smoke, points);
            let outcome = outcome.and_then(|()| {
                let is_enough = terms.smoke || load.is_running()?;
                ensure!(is_enough, "the load ended before the last reload: it has shown too little");
                Ok(())
            });
            account.is_over.store(true, Ordering::Relaxed);
            outcome
        });
        let seen = load.finish()?;
        outcome.with_context(|| gateway.log())?;
        Ok(seen)
    }

    /// What it holds when nothing is under way, and its statistics have forgotten the minute before.
    fn rest(&self) -> anyhow::Result<Sample> {
        thread::sleep(FORGET);
        self.gateway.settled_sample(10)
    }
}

/// Reloads as often as it is due, with tunnels that begin and end meanwhile.
#[expect(clippy::too_many_arguments, reason = "each is one thing that the reloads are about")]
fn reload_all(
    gateway: &Gateway,
    places: &Places,
    to: &Targets,
    account: &Account,
    from: usize,
    due: &[Duration],
    is_smoke: bool,
    points: &mut Vec<Point>,
) -> anyhow::Result<()> {
    let mut tunnels: Vec<[Tunnel; 2]> = Vec::new();
    // These last from the first to the last.
    let mut oldest = [Tunnel::websocket(to.web, from - 1)?, Tunnel::tcp(to.bytes, from - 1)?];
    let mut since = Instant::now();
    for (number, due) in (from..).zip(due) {
        thread::sleep(due.saturating_sub(since.elapsed()));
        let (text, expected) = step(places, number);
        let (status, answer) = gateway.reload(&text)?;
        let is_expected = match expected {
            Expected::Applied => status == 200 && answer["unchanged"] == false,
            Expected::Refused => status == 422,
        };
        ensure!(is_expected, "reload {number} was answered {status}: {answer:#}");
        let listeners = gateway.listeners()?;
        for (name, kept) in [("web", to.web), ("tls", to.tls), ("bytes", to.bytes)] {
            ensure!(listeners.get(name) == Some(&kept), "reload {number} moved listener {name}");
        }
        account.set_visited(listeners.get("visited").copied());
        if expected == Expected::Applied {
            let other = listeners.get("other").copied().context("no listener other")?;
            ask_other(other, number).with_context(|| format!("listener other after reload {number}"))?;
        }
        tunnels.push([Tunnel::websocket(to.web, number)?, Tunnel::tcp(to.bytes, number)?]);
        for tunnel in &mut oldest {
            tunnel.say(number as u64)?;
        }
        if tunnels.len() > TUNNEL_LASTS {
            for mut tunnel in tunnels.remove(0) {
                tunnel.say(number as u64)?;
                account.tunnels.fetch_add(1, Ordering::Relaxed);
            }
        }
        if number % PERIOD == 0 {
            let paused = Instant::now();
            let sample = gateway.settled_sample(if is_smoke { 1 } else { 10 })?;
            points.push(Point { number, sample, generations: gateway.generations()? });
            since += paused.elapsed();
        }
    }
    for mut tunnel in tunnels.into_iter().flatten().chain(oldest) {
        tunnel.say(u64::MAX)?;
        account.tunnels.fetch_add(1, Ordering::Relaxed);
    }
    Ok(())
}

/// The listener that speaks another protocol each time answers by the one of now.
fn ask_other(other: SocketAddr, number: usize) -> anyhow::Result<()> {
    match number % PERIOD % 3 {
        1 => Tunnel::tcp(other, number)?.say(1),
        _ if other_is_http(number) => {
            let mut wire = Wire::open(other)?;
            wire.send(b"GET / HTTP/1.1\r\nHost: proof\r\n\r\n")?;
            let head = wire.head()?.context("no answer")?;
            ensure!(head.status() == Some(200), "{}", head.first);
            ensure!(
                head.value("x-number") == Some(&*number.to_string()),
                "by another configuration: {head:?}"
            );
            Ok(())
        }
        // What TLS clients are given is for loadgen to see.
        _ => Ok(Wire::open(other).map(drop)?),
    }
}

/// Prints what loads saw, undisturbed and meanwhile.
pub(crate) fn tell_loads(before: &[Seen], during: &[Seen]) {
    println!(
        "| load | sent | failed | reset | delivered again | never sent | p50 before | during | p99 before | during | p99.9 before | \
         during | longest before | during |"
    );
    println!("|---|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|");
    for (before, seen) in before.iter().zip(during) {
        let repeated = seen.repeated.map_or("–".to_owned(), |count| count.to_string());
        print!(
            "| {} | {} | {} | {} | {repeated} | {} |",
            seen.name, seen.sent, seen.failed, seen.reset, seen.unsent
        );
        for (before, during) in before.latency.iter().zip(seen.latency) {
            print!(" {} | {} |", milliseconds(*before), milliseconds(during));
        }
        println!();
        if seen.failed > 0 {
            println!("  {}:{}", seen.name, seen.kinds);
        }
    }
}

/// Prints what came of what lasts.
pub(crate) fn tell_lasting(account: &Account, bytes: u64, seconds: u64) {
    let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
    println!(
        "{} downloads and {} uploads of {} MiB in {seconds} s each, {} tunnels, {} requests at a listener that comes and goes: {} failed",
        count(&account.downloads),
        count(&account.uploads),
        bytes >> 20,
        count(&account.tunnels),
        count(&account.visits),
        account.failures().len()
    );
    for failure in account.failures().iter().take(20) {
        println!("  {failure}");
    }
}

/// Prints what the kernel said; whether memory and descriptors stayed what they were.
fn tell_points(points: &[Point], at_rest: &[(usize, Sample)]) -> bool {
    let mib = |bytes: u64| bytes as f64 / f64::from(1 << 20);
    println!("| after reload | Rss MiB | of it anonymous | descriptors | generations |");
    println!("|---:|---:|---:|---:|---:|");
    for Point { number, sample: Sample { resident_bytes, anonymous_bytes, descriptors }, generations } in
        points
    {
        let (resident, anonymous) = (mib(*resident_bytes), mib(*anonymous_bytes));
        println!("| {number} | {resident:.2} | {anonymous:.2} | {descriptors} | {generations} |");
    }
    for (number, Sample { resident_bytes, anonymous_bytes, descriptors }) in at_rest {
        let (resident, anonymous) = (mib(*resident_bytes), mib(*anonymous_bytes));
        println!("| {number}, at rest | {resident:.2} | {anonymous:.2} | {descriptors} | |");
    }
    let [(number, first), (_, last)] = at_rest else { return true };
    let is_within = |first: u64, last: u64| last * 1000 <= first * (1000 + GROWTH_MAX);
    let is_flat = is_within(first.resident_bytes, last.resident_bytes)
        && is_within(first.descriptors as u64, last.descriptors as u64);
    println!(
        "growth at rest after reload {number}: memory {:+.1} %, descriptors {:+.1} %: {}",
        growth(first.resident_bytes, last.resident_bytes),
        growth(first.descriptors as u64, last.descriptors as u64),
        if is_flat { "flat" } else { "NOT FLAT" }
    );
    is_flat
}

fn growth(first: u64, last: u64) -> f64 {
    (last as f64 / first as f64 - 1.0) * 100.0
}

fn milliseconds(nanos: u64) -> String {
    format!("{:.2} ms", nanos as f64 / 1e6)
}
