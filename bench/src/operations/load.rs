//! What goes on all the time while the gateway is operated? Requests and messages of `loadgen`, each sent when it is due.
//!
//! Never counts anything itself: what failed, and how often each was delivered, is in the reports of `loadgen`.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, ensure};
use bench::process::{Child, CoreList, free_addr};
use serde_json::Value;

/// What a run may take beyond its duration: connecting, waiting for the last answers, writing the report.
const GRACE: Duration = Duration::from_secs(40);

/// Where the load goes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Targets {
    pub(crate) web: SocketAddr,
    pub(crate) tls: SocketAddr,
    pub(crate) bytes: SocketAddr,
    /// Who counts deliveries.
    pub(crate) origin: u16,
}

/// One `loadgen`.
struct Kind {
    name: &'static str,
    /// Its share of the whole rate, in thousandths of that of kept connections.
    share: u32,
    connections: u32,
    url: fn(&Targets) -> String,
    options: &'static [&'static str],
    /// Whether each request has an id, and is to be delivered once.
    has_ids: bool,
}

const KINDS: &[Kind] = &[
    Kind { name: "kept", share: 1000, connections: 32, url: plain, options: &[], has_ids: true },
    Kind { name: "new", share: 50, connections: 16, url: plain, options: &["--no-keepalive"], has_ids: true },
    Kind {
        name: "some each",
        share: 100,
        connections: 16,
        url: plain,
        options: &["--requests-per-connection", "5"],
        has_ids: true,
    },
    Kind {
        name: "posts",
        share: 50,
        connections: 8,
        url: plain,
        options: &["-m", "POST", "--body-size", "8KiB"],
        has_ids: true,
    },
    Kind {
        name: "https kept",
        share: 100,
        connections: 16,
        url: |to| format!("https://{}/", to.tls),
        options: &["--insecure"],
        has_ids: true,
    },
    Kind {
        name: "https resumed",
        share: 25,
        connections: 8,
        url: |to| format!("https://{}/", to.tls),
        options: &["--insecure", "--no-keepalive"],
        has_ids: true,
    },
    Kind {
        name: "WebSocket",
        share: 100,
        connections: 16,
        url: |to| format!("ws://{}/ws", to.web),
        options: &[],
        has_ids: false,
    },
    Kind {
        name: "TCP",
        share: 100,
        connections: 16,
        url: |to| format!("tcp://{}", to.bytes),
        options: &[],
        has_ids: false,
    },
];

fn plain(to: &Targets) -> String {
    format!("http://{}/", to.web)
}

/// An origin at every address of loopback that counts deliveries.
pub(crate) fn start_origin(binaries: &Path, dir: &Path, name: &str) -> anyhow::Result<(Child, u16)> {
    let port = free_addr()?.port();
    let listen = format!("{}:{port}", Ipv4Addr::UNSPECIFIED);
    let loadgen = binaries.join("loadgen").display().to_string();
    let command = [&loadgen, "origin", "--ids", "--listen", &listen].map(str::to_owned);
    let mut child = Child::start(&format!("origin-{name}"), CoreList("0,1"), dir, &command)?;
    let addr = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    child.wait_until_ready(|| Ok(std::net::TcpStream::connect(addr).map(drop)?))?;
    Ok((child, port))
}

/// All of it, running.
pub(crate) struct Load {
    running: Vec<(&'static Kind, Child, PathBuf)>,
    duration: Duration,
}

/// What one of them saw.
#[derive(Clone, Debug)]
pub(crate) struct Seen {
    pub(crate) name: &'static str,
    pub(crate) sent: u64,
    /// Failed or never answered.
    pub(crate) failed: u64,
    /// Of those, reset.
    pub(crate) reset: u64,
    /// Delivered more than once; nobody knows of messages.
    pub(crate) repeated: Option<u64>,
    /// Due while no connection was free.
    pub(crate) unsent: u64,
    /// Failures by kind, for a message.
    pub(crate) kinds: String,
    /// p50, p99, p99.9 and the longest, from when each was due, in nanoseconds.
    pub(crate) latency: [u64; 4],
}

impl Seen {
    /// Adds what was seen later; of latencies the longer ones stay.
    pub(crate) fn add(&mut self, later: &Self) {
        self.sent += later.sent;
        self.failed += later.failed;
        self.reset += later.reset;
        self.repeated = self.repeated.zip(later.repeated).map(|(sum, later)| sum + later);
        self.unsent += later.unsent;
        self.kinds += &later.kinds;
        for (longest, later) in self.latency.iter_mut().zip(later.latency) {
            *longest = later.max(*longest);
        }
    }
}

impl Load {
    /// Begins it, for `duration`, with `rate` requests per second over kept connections and others in proportion.
    pub(crate) fn start(
        binaries: &Path,
        dir: &Path,
        to: &Targets,
        rate: u32,
        duration: Duration,
    ) -> anyhow::Result<Self> {
        let mut running = Vec::new();
        for kind in KINDS {
            let name = kind.name.replace(' ', "-");
            let report = dir.join(format!("{name}.json"));
            // A report left by an earlier run must not be taken for this one's.
            let _ = fs::remove_file(&report);
            let rate = (rate * kind.share / 1000).max(2);
            let arguments = format!(
                "{} --rate {rate} -c {} -t 1 -d {}ms --grace 10s --plain",
                (kind.url)(to),
                kind.connections,
                duration.as_millis()
            );
            let mut command = vec![binaries.join("loadgen").display().to_string()];
            command.extend(arguments.split(' ').map(str::to_owned));
            command.extend(kind.options.iter().map(|option| (*option).to_owned()));
            if kind.has_ids {
                command.extend(["--ids", "--ids-at"].map(str::to_owned));
                command.push(format!("http://127.0.0.1:{}", to.origin));
            }
            command.extend(["--json".to_owned(), report.display().to_string()]);
            running.push((kind, Child::start(&name, CoreList("0,1"), dir, &command)?, report));
        }
        Ok(Self { running, duration })
    }

    /// Whether all of it goes on.
    pub(crate) fn is_running(&mut self) -> anyhow::Result<bool> {
        for (_, child, _) in &mut self.running {
            if child.wait_for_exit(Duration::ZERO)?.is_some() {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Waits for its end.
    pub(crate) fn finish(self) -> anyhow::Result<Vec<Seen>> {
        let mut seen = Vec::new();
        for (kind, mut child, report) in self.running {
            let status = child.wait_for_exit(self.duration + GRACE)?;
            ensure!(status.is_some(), "loadgen ({}) does not end", kind.name);
            let text = fs::read_to_string(&report).with_context(|| {
                format!("loadgen ({}) left no report: {}", kind.name, child.output().unwrap_or_default())
            })?;
            seen.push(read(kind, &serde_json::from_str(&text)?)?);
        }
        Ok(seen)
    }
}

fn read(kind: &Kind, report: &Value) -> anyhow::Result<Seen> {
    let number = |pointer: &str| {
        let value = report.pointer(pointer).and_then(Value::as_u64);
        value.with_context(|| format!("the report of {} has no {pointer}", kind.name))
    };
    let kinds = report.pointer("/errors/by_kind").and_then(Value::as_object);
    let kinds = kinds.context("no errors by kind")?;
    let of_kind = |name: &str| kinds.get(name).and_then(Value::as_u64).unwrap_or(0);
    let requests_failed = number("/requests/failed")? + number("/requests/unanswered")?;
    // What is no request, such as a connection that nobody accepted, is a failure all the same.
    let failed = requests_failed.max(number("/errors/total")?);
    let twice = || anyhow::Ok(number("/delivery/twice")? + number("/delivery/more")?);
    Ok(Seen {
        name: kind.name,
        sent: number("/requests/sent")?,
        failed,
        reset: of_kind("reset"),
        repeated: kind.has_ids.then(twice).transpose()?,
        unsent: number("/requests/unsent")?,
        kinds: kinds.iter().map(|(name, count)| format!(" {name} {count}")).collect(),
        latency: [
            number("/latency_ns/p50")?,
            number("/latency_ns/p99")?,
            number("/latency_ns/p99_9")?,
            number("/latency_ns/max")?,
        ],
    })
}
