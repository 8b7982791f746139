//! What becomes of everything that is under way when the process is told to end? It finishes, or lasts as long as it is given.
//!
//! Never asserts a time but one: nobody is cut off before the deadline.

use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use rustix::process::Signal;

use crate::gateway::Gateway;
use crate::lasting::{Tunnel, Wire, download, upload};
use crate::load::start_origin;
use crate::plan::{Places, step};
use crate::{Bench, Terms};

/// Clients that keep their connections, those that make one for each request, and those that connect without end.
const KEPT: usize = 12;
const NEW: usize = 4;
const LONG: usize = 4;
const TUNNELS: usize = 4;
/// The load before the signal.
const BEFORE: Duration = Duration::from_secs(1);
/// Between two words of a tunnel.
const WORDS: Duration = Duration::from_millis(20);
/// An idle connection may be closed at any time (RFC 9112 §9.5); a request that follows an answer so soon is promised one.
const PROMISED: Duration = Duration::from_millis(100);
/// More than the process needs to close what is over at its deadline.
const END_GRACE: Duration = Duration::from_secs(10);
const LONG_BYTES: u64 = 12 << 20;

/// What was seen, by kind: how many, and when the last of them was.
#[derive(Default)]
struct Seen {
    told: Mutex<Option<Instant>>,
    rows: Mutex<BTreeMap<&'static str, (u64, Duration)>>,
    wrong: Mutex<Vec<String>>,
    /// The process has ended, and with it everything.
    is_over: AtomicBool,
}

impl Seen {
    fn note(&self, what: &'static str) {
        let told = *self.told.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(after) = told.map(|told| told.elapsed()) else { return };
        let mut rows = self.rows.lock().unwrap_or_else(PoisonError::into_inner);
        let row = rows.entry(what).or_default();
        *row = (row.0 + 1, after);
    }

    fn fail(&self, what: String) {
        self.wrong.lock().unwrap_or_else(PoisonError::into_inner).push(what);
    }

    fn is_told(&self) -> Option<Duration> {
        let told = *self.told.lock().unwrap_or_else(PoisonError::into_inner);
        told.map(|told| told.elapsed())
    }
}

/// Ends gateways that were given so much time, and one that is told twice; whether nothing was lost that had time.
pub(crate) fn run(bench: Bench<'_>, driver: &str, terms: &Terms) -> anyhow::Result<bool> {
    let seconds = if terms.smoke {
        vec![(2, 0, false)]
    } else {
        vec![(3, 0, false), (8, 0, false), (8, 2, false), (20, 0, true)]
    };
    let mut is_clean = true;
    for (number, (timeout, delay, is_twice)) in seconds.into_iter().enumerate() {
        is_clean &= drain(bench, driver, number, timeout, delay, is_twice)?;
    }
    Ok(is_clean)
}

fn drain(
    bench: Bench<'_>,
    driver: &str,
    number: usize,
    timeout: u64,
    delay: u64,
    is_twice: bool,
) -> anyhow::Result<bool> {
    let Bench { binaries, dir } = bench;
    let name = format!("{driver}-{number}");
    let (_origin, origin) = start_origin(binaries, dir, &name)?;
    let (process, node) = (format!("drain_timeout = \"{timeout}s\""), format!("drain_delay = \"{delay}s\""));
    let places = Places::find(dir, &name, origin, process, node)?;
    let mut gateway = Gateway::start(binaries, dir, driver, places.admin, &step(&places, 0).0)?;
    let listeners = gateway.listeners()?;
    let at = |name: &str| listeners.get(name).copied().with_context(|| format!("no listener {name}"));
    let (web, bytes) = (at("web")?, at("bytes")?);
    let (deadline, seen) = (Duration::from_secs(timeout + delay), Seen::default());
    // Half of what is long has the time, half has not.
    let (short, long) = (Duration::from_secs(timeout) / 2, Duration::from_secs(2 * timeout + delay + 1));
    let outcome = thread::scope(|scope| {
        for _ in 0..KEPT {
            scope.spawn(|| ask_until_gone(&seen, web, "keep-alive"));
        }
        for _ in 0..NEW {
            scope.spawn(|| ask_until_gone(&seen, web, "close"));
        }
        for nth in 0..LONG {
            let time = if nth % 2 == 0 { short } else { long };
            let seen = &seen;
            scope.spawn(move || {
                transfer(seen, deadline, "downloads", web, |wire| download(wire, LONG_BYTES, time));
            });
            scope.spawn(move || {
                transfer(seen, deadline, "uploads", web, |wire| upload(wire, LONG_BYTES, time));
            });
        }
        for nth in 0..TUNNELS {
            let seen = &seen;
            scope.spawn(move || talk(seen, deadline, "WebSockets", Tunnel::websocket(web, nth)));
            scope.spawn(move || talk(seen, deadline, "TCP connections", Tunnel::tcp(bytes, nth)));
        }
        thread::sleep(BEFORE);
        *seen.told.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
        let told = Instant::now();
        let outcome = (|| {
            gateway.signal(Signal::TERM)?;
            if is_twice {
                thread::sleep(BEFORE);
                // Who is cut off from here on was told so by the operator.
                seen.is_over.store(true, Ordering::Relaxed);
                gateway.signal(Signal::TERM)?;
            }
            let status = gateway.wait(deadline + END_GRACE)?;
            anyhow::Ok((status, told.elapsed()))
        })();
        seen.is_over.store(true, Ordering::Relaxed);
        outcome
    });
    let (status, took) = outcome.with_context(|| gateway.log())?;
    let signal = if is_twice { "SIGTERM, and again after a second" } else { "SIGTERM" };
    println!(
        "\n{driver}: {signal}; drain_timeout {timeout} s, drain_delay {delay} s: exit status {:?} after {took:.2?}",
        status.code()
    );
    for (what, (count, last)) in seen.rows.lock().unwrap_or_else(PoisonError::into_inner).iter() {
        println!("| {what} | {count} | last after {last:.2?} |");
    }
    let wrong = seen.wrong.lock().unwrap_or_else(PoisonError::into_inner);
    for wrong in wrong.iter().take(20) {
        println!("  LOST: {wrong}");
    }
    let expected = if is_twice { 128 + 15 } else { 0 };
    let is_in_time = is_twice || took <= deadline + Duration::from_secs(2);
    Ok(wrong.is_empty() && status.code() == Some(expected) && is_in_time)
}

/// Sends requests, over connections that are kept or new ones, until nobody accepts any more.
fn ask_until_gone(seen: &Seen, web: SocketAddr, option: &str) {
    let request = format!("GET / HTTP/1.1\r\nHost: proof\r\nConnection: {option}\r\n\r\n");
    loop {
        let mut wire = match Wire::open(web) {
            Ok(wire) => wire,
            Err(error) => {
                let is_refused = error.kind() == ErrorKind::ConnectionRefused;
                // A balancer goes to another process then.
                seen.note(if is_refused {
                    "connects refused"
                } else {
                    "connects reset or without an answer"
                });
                return;
            }
        };
        let mut answered = Instant::now();
        loop {
            let idle = answered.elapsed();
            let outcome = (|| {
                wire.send(request.as_bytes())?;
                let Some(head) = wire.head()? else { return anyhow::Ok(None) };
                wire.text(&head)?;
                Ok(Some(head))
            })();
            match outcome {
                Ok(Some(head)) if head.is_last() => {
                    seen.note(if option == "close" {
                        "answers to new connections"
                    } else {
                        "answers that say Connection: close"
                    });
                    break;
                }
                Ok(Some(_)) => seen.note("answers over kept connections"),
                _ if seen.is_over.load(Ordering::Relaxed) => return,
                _ if idle >= PROMISED => break,
                Ok(None) => return seen.fail(format!("{option}: no answer {idle:.2?} after the last one")),
                Err(error) => {
                    return seen.fail(format!("{option}, {idle:.2?} after the last one: {error:#}"));
                }
            }
            answered = Instant::now();
            thread::sleep(Duration::from_millis(2));
        }
    }
}

/// Transfers that have the time finish; others last until the deadline.
fn transfer(
    seen: &Seen,
    deadline: Duration,
    what: &'static str,
    web: SocketAddr,
    one: impl Fn(&mut Wire) -> anyhow::Result<bool>,
) {
    let outcome = Wire::open(web).map_err(anyhow::Error::from).and_then(|mut wire| one(&mut wire));
    let is_download = what == "downloads";
    match outcome {
        Ok(_) => seen.note(if is_download { "downloads finished" } else { "uploads finished" }),
        Err(error) => end_of(
            seen,
            deadline,
            what,
            &error,
            if is_download { "downloads cut off" } else { "uploads cut off" },
        ),
    }
}

/// Says a word every now and then, until the connection ends.
fn talk(seen: &Seen, deadline: Duration, what: &'static str, tunnel: anyhow::Result<Tunnel>) {
    let mut tunnel = match tunnel {
        Ok(tunnel) => tunnel,
        Err(error) => return seen.fail(format!("{what}: {error:#}")),
    };
    let kind =
        if what == "WebSockets" { "WebSockets until the end" } else { "TCP connections until the end" };
    for word in 0.. {
        if let Err(error) = tunnel.say(word) {
            return end_of(seen, deadline, what, &error, kind);
        }
        thread::sleep(WORDS);
    }
}

/// Something has ended by the gateway: it may, once the deadline is there.
fn end_of(seen: &Seen, deadline: Duration, what: &str, error: &anyhow::Error, kind: &'static str) {
    match seen.is_told() {
        Some(after) if after + WORDS >= deadline => seen.note(kind),
        Some(_) if seen.is_over.load(Ordering::Relaxed) => seen.note(kind),
        Some(after) => seen.fail(format!("{what}: cut off {after:.2?} after the signal: {error:#}")),
        None => seen.fail(format!("{what}: before the signal: {error:#}")),
    }
}
