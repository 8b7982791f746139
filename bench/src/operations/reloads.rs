//! Does another configuration cost a request, a connection, a descriptor or memory?
//!
//! Never asserts a time: what everything took is told beside what it took undisturbed.

use std::net::SocketAddr;
use std::sync::atomic::Ordering;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use bench::process::free_addr;

use crate::gateway::{Gateway, Sample};
use crate::lasting::{Account, Tunnel, Wire, download, go_on, upload, visit};
use crate::load::{Load, Seen, Targets, start_origin};
use crate::plan::{Expected, PERIOD, PemFiles, Places, other_is_http, step};
use crate::source::Source;
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
    let places = Places {
        admin: free_addr()?,
        origin,
        source: Source::start()?,
        certificates: [
            PemFiles::create(dir, &format!("{driver}-a"))?,
            PemFiles::create(dir, &format!("{driver}-b"))?,
        ],
        process: String::new(),
        node: String::new(),
    };
    let gateway = Gateway::start(binaries, dir, driver, places.admin, &step(&places, 0).0)?;
    let listeners = gateway.listeners()?;
    let at = |name: &str| listeners.get(name).copied().with_context(|| format!("no listener {name}"));
    let to = Targets { web: at("web")?, tls: at("tls")?, bytes: at("bytes")?, origin };

    println!("\n{driver}: {} reloads, {} requests per second over kept connections", terms.times, terms.rate);
    let before = Load::start(binaries, dir, &to, terms.rate, Duration::from_secs(terms.calm))?.finish()?;
    let account = Account::default();
    let due = terms.due();
    let last = due.last().copied().unwrap_or_default();
    // Samples take a second each, and a machine may be busy: then each reload, and what is looked at behind it, takes its time.
    let margin = Duration::from_secs(5) + Duration::from_millis(500) * terms.times;
    let mut load = Load::start(binaries, dir, &to, terms.rate, last + margin)?;
    let mut points = Vec::new();
    let time = Duration::from_secs(terms.lasting);
    let outcome = thread::scope(|scope| {
        for _ in 0..DOWNLOADS {
            scope.spawn(|| {
                go_on(&account, "a download", to.web, &account.downloads, |wire| {
                    download(wire, LONG_BYTES, time)
                });
            });
        }
        for _ in 0..UPLOADS {
            scope.spawn(|| {
                go_on(&account, "an upload", to.web, &account.uploads, |wire| upload(wire, LONG_BYTES, time));
            });
        }
        for _ in 0..VISITORS {
            scope.spawn(|| visit(&account));
        }
        let outcome = reload_all(&gateway, &places, &to, &account, &due, terms.smoke, &mut points);
        let outcome = outcome.and_then(|()| {
            let is_enough = terms.smoke || load.is_running()?;
            ensure!(is_enough, "the load ended before the last reload: it has shown too little");
            Ok(())
        });
        account.is_over.store(true, Ordering::Relaxed);
        outcome
    });
    let during = load.finish()?;
    outcome.with_context(|| gateway.log())?;
    thread::sleep(SETTLE);
    let (faults, generations) = (gateway.faults()?, gateway.generations()?);
    let is_flat = tell(terms, &before, &during, &account, &points);
    println!("faults counted by the gateway: {faults:?}; generations that live in the end: {generations}");
    let is_lost = |seen: &&Seen| seen.failed + seen.repeated.unwrap_or(0) > 0;
    let lost = during.iter().filter(is_lost).count();
    let is_clean = lost == 0 && account.failures().is_empty() && faults.is_empty() && generations == 1;
    println!("{driver}: {}", if is_clean { "nothing was lost" } else { "SOMETHING WAS LOST" });
    Ok(is_clean && (is_flat || terms.smoke))
}

/// Reloads as often as it is due, with tunnels that begin and end meanwhile.
fn reload_all(
    gateway: &Gateway,
    places: &Places,
    to: &Targets,
    account: &Account,
    due: &[Duration],
    is_smoke: bool,
    points: &mut Vec<Point>,
) -> anyhow::Result<()> {
    let mut tunnels: Vec<[Tunnel; 2]> = Vec::new();
    // These last from the first to the last.
    let mut oldest = [Tunnel::websocket(to.web, 0)?, Tunnel::tcp(to.bytes, 0)?];
    let mut since = Instant::now();
    for (number, due) in (1..).zip(due) {
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

/// Prints what was seen; whether memory and descriptors stayed what they were.
fn tell(terms: &Terms, before: &[Seen], during: &[Seen], account: &Account, points: &[Point]) -> bool {
    println!(
        "| load | sent | failed | reset | delivered again | never sent | p50 before | during | p99 before | during | p99.9 before | during | longest before | during |"
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
    let count = |counter: &std::sync::atomic::AtomicU64| counter.load(Ordering::Relaxed);
    println!(
        "{} downloads and {} uploads of {} MiB in {} s each, {} tunnels, {} requests at a listener that comes and goes: {} failed",
        count(&account.downloads),
        count(&account.uploads),
        LONG_BYTES >> 20,
        terms.lasting,
        count(&account.tunnels),
        count(&account.visits),
        account.failures().len()
    );
    for failure in account.failures().iter().take(20) {
        println!("  {failure}");
    }
    println!("| after reload | Rss MiB | of it anonymous | descriptors | generations |");
    println!("|---:|---:|---:|---:|---:|");
    for Point { number, sample, generations } in points {
        let mib = |bytes: u64| bytes as f64 / f64::from(1 << 20);
        println!(
            "| {number} | {:.2} | {:.2} | {} | {generations} |",
            mib(sample.resident_bytes),
            mib(sample.anonymous_bytes),
            sample.descriptors
        );
    }
    let (Some(first), Some(last)) = (points.first(), points.last()) else { return true };
    let is_within = |first: u64, last: u64| last * 1000 <= first * (1000 + GROWTH_MAX);
    let is_flat = is_within(first.sample.resident_bytes, last.sample.resident_bytes)
        && is_within(first.sample.descriptors as u64, last.sample.descriptors as u64);
    println!(
        "growth after reload {}: memory {:+.1} %, descriptors {:+.1} %: {}",
        first.number,
        growth(first.sample.resident_bytes, last.sample.resident_bytes),
        growth(first.sample.descriptors as u64, last.sample.descriptors as u64),
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
