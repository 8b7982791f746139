//! Does another program, put in the place of the one that runs, cost a request or a connection?
//!
//! Never asserts a time. What began with a process stays with it until it ends: whoever is cut off before is a failure.

use std::fs::{self, Permissions};
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::sync::atomic::Ordering;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};

use crate::gateway::Gateway;
use crate::lasting::{Account, Tunnel, download, go_on, upload};
use crate::load::{Load, Seen, Targets, start_origin};
use crate::plan::{Places, step};
use crate::{Bench, Terms};

const LONG_BYTES: u64 = 24 << 20;
const DOWNLOADS: usize = 4;
const UPLOADS: usize = 2;
/// A tunnel of each kind begins with each process and ends so many processes later.
const TUNNEL_LASTS: usize = 4;
/// After so many good programs comes a broken one.
const BROKEN_EVERY: usize = 5;
/// Longer than anything here lasts.
const DRAIN_SECONDS: u64 = 900;
/// How long old processes may take to end when nothing is left for them to do.
const END: Duration = Duration::from_secs(30);

/// Upgrades one gateway as often as it is asked to; whether nothing was lost.
pub(crate) fn run(bench: Bench<'_>, driver: &str, terms: &Terms) -> anyhow::Result<bool> {
    let Bench { binaries, dir } = bench;
    let (_origin, origin) = start_origin(binaries, dir, driver)?;
    let (process, node) =
        (format!("drain_timeout = \"{DRAIN_SECONDS}s\"\nupgrade_timeout = \"20s\""), String::new());
    let places = Places::find(dir, driver, origin, process, node)?;
    // Programs of this run's own, which it replaces.
    let programs = dir.join(format!("programs-{driver}"));
    fs::create_dir(&programs)?;
    let (good, program) = (binaries.join("engine"), programs.join("engine"));
    put(&good, &program)?;
    let mut gateway = Gateway::start(&programs, dir, driver, places.admin, &step(&places, 0).0)?;
    let listeners = gateway.listeners()?;
    let at = |name: &str| listeners.get(name).copied().with_context(|| format!("no listener {name}"));
    let to = Targets { web: at("web")?, tls: at("tls")?, bytes: at("bytes")?, origin };

    println!(
        "\n{driver}: {} upgrades, {} requests per second over kept connections",
        terms.times, terms.rate
    );
    let before = Load::start(binaries, dir, &to, terms.rate, Duration::from_secs(terms.calm))?.finish()?;
    let account = Account::default();
    let due = terms.due();
    let last = due.last().copied().unwrap_or_default();
    // A process takes a moment to begin, and on a busy machine some.
    let each = Duration::from_millis(if terms.smoke { 300 } else { 1_500 });
    let margin = Duration::from_secs(3) + each * terms.times;
    let mut load = Load::start(binaries, dir, &to, terms.rate, last + margin)?;
    let time = Duration::from_secs(terms.lasting);
    let outcome = thread::scope(|scope| {
        for _ in 0..DOWNLOADS {
            scope.spawn(|| {
                go_on(&account, "a download", to.web, &account.downloads, |wire| {
                    // The gateway was done with it long before its slow reader, and may have closed the idle connection by then.
                    download(wire, LONG_BYTES, time).map(|_| false)
                });
            });
        }
        for _ in 0..UPLOADS {
            scope.spawn(|| {
                go_on(&account, "an upload", to.web, &account.uploads, |wire| upload(wire, LONG_BYTES, time));
            });
        }
        let outcome = upgrade_all(&mut gateway, &good, &program, &to, &account, &due);
        let outcome = outcome.and_then(|took| {
            let is_enough = terms.smoke || load.is_running()?;
            ensure!(is_enough, "the load ended before the last upgrade: it has shown too little");
            Ok(took)
        });
        account.is_over.store(true, Ordering::Relaxed);
        outcome
    });
    let during = load.finish()?;
    let (took, refused) = outcome.with_context(|| gateway.log())?;
    // Nothing is left for the old ones.
    let status = gateway.wait(END).with_context(|| gateway.log())?;
    let deadline = Instant::now() + END;
    while gateway.log().matches(" drained").count() < took.len() && Instant::now() < deadline {
        thread::sleep(Duration::from_millis(50));
    }
    let drained = gateway.log().matches(" drained").count();
    crate::reloads::tell_loads(&before, &during);
    crate::reloads::tell_lasting(&account, LONG_BYTES, terms.lasting);
    println!(
        "{} new processes, each serving {} to {} ms after it was asked for; {refused} broken programs refused; the first process: {status}; \
         {drained} old processes drained",
        took.len(),
        took.iter().min().unwrap_or(&0),
        took.iter().max().unwrap_or(&0)
    );
    gateway.end_last()?;
    let is_lost = |seen: &&Seen| seen.failed + seen.repeated.unwrap_or(0) > 0;
    let lost = during.iter().filter(is_lost).count();
    let is_clean = lost == 0 && account.failures().is_empty() && status.success() && drained == took.len();
    println!("{driver}: {}", if is_clean { "nothing was lost" } else { "SOMETHING WAS LOST" });
    Ok(is_clean)
}

/// Upgrades as often as it is due, with broken programs in between; how many milliseconds each took, and how many were refused.
fn upgrade_all(
    gateway: &mut Gateway,
    good: &Path,
    program: &Path,
    to: &Targets,
    account: &Account,
    due: &[Duration],
) -> anyhow::Result<(Vec<u64>, u32)> {
    let mut tunnels: Vec<[Tunnel; 2]> = Vec::new();
    let mut oldest = begin(to.web, to.bytes, 0)?;
    let (mut took, mut refused) = (Vec::new(), 0);
    let since = Instant::now();
    for (number, due) in (1..).zip(due) {
        thread::sleep(due.saturating_sub(since.elapsed()));
        if number % BROKEN_EVERY == 0 {
            let pid = gateway.pid();
            break_program(program, number / BROKEN_EVERY)?;
            let (status, answer) = gateway.upgrade()?;
            ensure!(status == 422, "a broken program was answered {status}: {answer}");
            ensure!(gateway.serving_pid()? == pid, "another process serves after a broken program");
            refused += 1;
        }
        put(good, program)?;
        let former = gateway.pid();
        let (status, answer) = gateway.upgrade()?;
        ensure!(status == 200, "upgrade {number} was answered {status}: {answer}");
        ensure!(
            gateway.pid() != former && gateway.serving_pid()? == gateway.pid(),
            "it is the same process: {answer}"
        );
        took.push(answer["took_ms"].as_u64().unwrap_or(0));
        let listeners = gateway.listeners()?;
        for (name, kept) in [("web", to.web), ("tls", to.tls), ("bytes", to.bytes)] {
            ensure!(listeners.get(name) == Some(&kept), "upgrade {number} moved listener {name}");
        }
        tunnels.push(begin(to.web, to.bytes, number)?);
        for tunnel in oldest.iter_mut().chain(tunnels.iter_mut().flatten()) {
            tunnel.say(number as u64)?;
        }
        if tunnels.len() > TUNNEL_LASTS {
            account.tunnels.fetch_add(tunnels.remove(0).len() as u64, Ordering::Relaxed);
        }
    }
    for mut tunnel in tunnels.into_iter().flatten().chain(oldest) {
        tunnel.say(u64::MAX)?;
        account.tunnels.fetch_add(1, Ordering::Relaxed);
    }
    Ok((took, refused))
}

fn begin(web: SocketAddr, bytes: SocketAddr, number: usize) -> anyhow::Result<[Tunnel; 2]> {
    Ok([Tunnel::websocket(web, number)?, Tunnel::tcp(bytes, number)?])
}

/// Puts a program in its place as a package manager does: another file, with the name of the one that runs.
fn put(good: &Path, program: &Path) -> anyhow::Result<()> {
    let next = program.with_extension("next");
    fs::copy(good, &next).with_context(|| format!("cannot copy {}", good.display()))?;
    Ok(fs::rename(next, program)?)
}

/// What may be there by mistake: one that ends, one that is none, one that hangs up without a word, nothing.
fn break_program(program: &Path, kind: usize) -> anyhow::Result<()> {
    let next = program.with_extension("next");
    match kind % 4 {
        1 => fs::write(&next, "#!/bin/sh\nexit 3\n")?,
        2 => fs::write(&next, [0; 4096])?,
        3 => fs::write(&next, "#!/bin/sh\nexec 0</dev/null\nsleep 1\n")?,
        _ => return Ok(fs::remove_file(program)?),
    }
    fs::set_permissions(&next, Permissions::from_mode(0o755))?;
    Ok(fs::rename(next, program)?)
}
