//! How is the gateway under proof started, asked, told and looked at?
//!
//! Never believes what it says of memory and descriptors: those the kernel is asked for.

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::ExitStatus;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use bench::process::{Child, CoreList};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use crate::source::Head;

/// How long an answer of the admin listener may take: applying a configuration may take 10 s by itself.
const PATIENCE: Duration = Duration::from_secs(30);

/// A running engine.
pub(crate) struct Gateway {
    child: Child,
    file: PathBuf,
    admin: SocketAddr,
    /// The process that serves now: the one that was started, or what has followed it.
    pid: u32,
}

/// What the kernel says of it at one moment.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sample {
    /// `Rss` of `/proc/PID/smaps_rollup`.
    pub(crate) resident_bytes: u64,
    /// The part of it that is no file's: what the process has allocated.
    pub(crate) anonymous_bytes: u64,
    pub(crate) descriptors: usize,
}

impl Gateway {
    /// Starts it on two cores by the configuration `text`, whose admin listener is at `admin`.
    pub(crate) fn start(
        binaries: &Path,
        dir: &Path,
        driver: &str,
        admin: SocketAddr,
        text: &str,
    ) -> anyhow::Result<Self> {
        let file = dir.join(format!("{driver}.toml"));
        fs::write(&file, text)?;
        let engine = binaries.join("engine").display().to_string();
        let config = file.display().to_string();
        let command = [&engine, "--config", &config, "--cores", "2", "--driver", driver].map(str::to_owned);
        let mut child = Child::start(&format!("engine-{driver}"), CoreList("0,1"), dir, &command)?;
        child.wait_until_ready(|| {
            let (status, _) = ask(admin, "GET", "/readyz")?;
            ensure!(status == 200, "it is not ready: {status}");
            Ok(())
        })?;
        let pid = child.pid();
        Ok(Self { child, file, admin, pid })
    }

    /// Puts another configuration into its file and has it read; the status of the answer, and what it says.
    pub(crate) fn reload(&self, text: &str) -> anyhow::Result<(u16, Value)> {
        // As an editor does: nobody ever sees half of it.
        let next = self.file.with_extension("next");
        fs::write(&next, text)?;
        fs::rename(&next, &self.file)?;
        ask(self.admin, "POST", "/config/reload")
    }

    /// Has it start the program that is in its place now; the status of the answer, and what it says.
    pub(crate) fn upgrade(&mut self) -> anyhow::Result<(u16, Value)> {
        let (status, answer) = ask(self.admin, "POST", "/process/upgrade")?;
        if let Some(pid) = answer["pid"].as_u64().filter(|_| status == 200) {
            self.pid = u32::try_from(pid)?;
        }
        Ok((status, answer))
    }

    /// The process that serves, as far as is known here.
    pub(crate) fn pid(&self) -> u32 {
        self.pid
    }

    /// The process that answers at the admin listener, by what it says.
    pub(crate) fn serving_pid(&self) -> anyhow::Result<u32> {
        let stats = self.stats()?;
        let pid = stats.pointer("/process/pid").and_then(Value::as_u64).context("no pid in /stats")?;
        Ok(u32::try_from(pid)?)
    }

    /// Ends the process that serves now, which is nobody's child here.
    pub(crate) fn end_last(&self) -> anyhow::Result<()> {
        let pid = i32::try_from(self.pid).ok().and_then(Pid::from_raw).context("no process id")?;
        Ok(kill_process(pid, Signal::TERM)?)
    }

    /// Its statistics.
    pub(crate) fn stats(&self) -> anyhow::Result<Value> {
        let (status, stats) = ask(self.admin, "GET", "/stats")?;
        ensure!(status == 200, "/stats answers {status}");
        Ok(stats)
    }

    /// Where its listeners are, by name.
    pub(crate) fn listeners(&self) -> anyhow::Result<BTreeMap<String, SocketAddr>> {
        let stats = self.stats()?;
        let rows = stats["listeners"].as_array().context("no listeners in /stats")?.iter();
        let at =
            |row: &Value| Some((row["name"].as_str()?.to_owned(), row["address"].as_str()?.parse().ok()?));
        rows.map(|row| at(row).with_context(|| format!("no address: {row}"))).collect()
    }

    /// Every fault that it has counted.
    pub(crate) fn faults(&self) -> anyhow::Result<BTreeMap<String, u64>> {
        let stats = self.stats()?;
        let faults = stats["faults"].as_object().context("no faults in /stats")?.iter();
        let faults = faults.map(|(name, count)| (name.clone(), count.as_u64().unwrap_or(u64::MAX)));
        Ok(faults.filter(|(_, count)| *count > 0).collect())
    }

    /// Generations of the configuration that live, on the core with the most of them.
    pub(crate) fn generations(&self) -> anyhow::Result<u64> {
        let stats = self.stats()?;
        let cores = stats["cores"].as_array().context("no cores in /stats")?.iter();
        cores.filter_map(|core| core["generations"].as_u64()).max().context("no generations in /stats")
    }

    /// What it holds.
    pub(crate) fn sample(&self) -> anyhow::Result<Sample> {
        let pid = self.pid;
        let text = fs::read_to_string(format!("/proc/{pid}/smaps_rollup"))?;
        let kib = |name: &str| -> anyhow::Result<u64> {
            let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
            let kib = line.and_then(|line| line.trim().strip_suffix(" kB")?.parse::<u64>().ok());
            kib.with_context(|| format!("no {name} in smaps_rollup"))
        };
        Ok(Sample {
            resident_bytes: kib("Rss")? * 1024,
            anonymous_bytes: kib("Anonymous")? * 1024,
            descriptors: fs::read_dir(format!("/proc/{pid}/fd"))?.count(),
        })
    }

    /// The middle one by anonymous memory of `count` samples, over a second: load comes and goes.
    pub(crate) fn settled_sample(&self, count: u32) -> anyhow::Result<Sample> {
        let mut samples = Vec::new();
        for _ in 0..count {
            thread::sleep(Duration::from_secs(1) / count);
            samples.push(self.sample()?);
        }
        samples.sort_by_key(|sample| sample.anonymous_bytes);
        Ok(samples[samples.len() / 2])
    }

    pub(crate) fn signal(&self, signal: Signal) -> anyhow::Result<()> {
        self.child.signal(signal)
    }

    /// Waits for its end.
    pub(crate) fn wait(&mut self, timeout: Duration) -> anyhow::Result<ExitStatus> {
        self.child
            .wait_for_exit(timeout)?
            .with_context(|| format!("the engine did not end within {timeout:?}"))
    }

    /// All that it has said.
    pub(crate) fn log(&self) -> String {
        self.child.output().unwrap_or_default()
    }
}

/// Asks an admin listener; the answer's status and JSON, or null where it is none.
pub(crate) fn ask(admin: SocketAddr, method: &str, path: &str) -> anyhow::Result<(u16, Value)> {
    let stream = TcpStream::connect_timeout(&admin, PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    let since = Instant::now();
    write!(
        &stream,
        "{method} {path} HTTP/1.1\r\nHost: admin\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
    )?;
    let mut reader = BufReader::new(&stream);
    let head = Head::read(&mut reader)?.with_context(|| format!("no answer after {:?}", since.elapsed()))?;
    let mut body = String::new();
    reader.read_to_string(&mut body)?;
    let status = head.status().with_context(|| format!("no status: {:?}", head.first))?;
    Ok((status, serde_json::from_str(&body).unwrap_or_default()))
}
