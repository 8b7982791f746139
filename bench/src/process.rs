//! How are the measured processes started, pinned, read and ended?
//!
//! Nothing here knows what a process does. No child outlives its [`Child`]: it is ended when that is dropped, and
//! by the kernel when this process dies in any other way.

use std::fs::{self, File};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{self, Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};
use rustix::param::clock_ticks_per_second;
use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process, kill_process_group, waitid};

/// Between two looks at something that is not there yet.
const POLL_INTERVAL: Duration = Duration::from_millis(20);
/// From the start of a server to its first good answer.
const START_TIMEOUT: Duration = Duration::from_secs(10);
/// From SIGTERM to SIGKILL.
const STOP_TIMEOUT: Duration = Duration::from_secs(2);

/// A set of cores in `taskset`'s notation: `0`, `0,1`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CoreList(pub &'static str);

impl CoreList {
    /// How many cores it names.
    pub fn count(self) -> usize {
        self.0.split(',').count()
    }
}

/// A running child, pinned.
pub struct Child {
    name: String,
    process: process::Child,
    log: PathBuf,
}

impl Child {
    /// Starts `command` on `cores` with its output in `NAME.log` inside `dir`.
    ///
    /// It must be called from the main thread: the kernel ends the child with the thread that started it.
    pub fn start(name: &str, cores: CoreList, dir: &Path, command: &[String]) -> anyhow::Result<Self> {
        let log = dir.join(format!("{name}.log"));
        let output = File::create(&log).with_context(|| format!("cannot write {}", log.display()))?;
        let process = Command::new("setpriv")
            .args(["--pdeathsig", "TERM", "taskset", "--cpu-list", cores.0])
            .args(command)
            // A group of its own, so that its descendants can be ended with it.
            .process_group(0)
            .stdin(Stdio::null())
            .stdout(output.try_clone()?)
            .stderr(output)
            .spawn()
            .context("cannot run setpriv and taskset (Debian: util-linux)")?;
        Ok(Self { name: name.to_owned(), process, log })
    }

    /// Waits until `check` finds nothing wrong with it.
    ///
    /// # Errors
    /// When it ends first, or takes too long.
    pub fn wait_until_ready(&mut self, check: impl Fn() -> anyhow::Result<()>) -> anyhow::Result<()> {
        let deadline = Instant::now() + START_TIMEOUT;
        loop {
            let Err(error) = check() else { return Ok(()) };
            if let Some(status) = self.process.try_wait()? {
                bail!("{} ended at start ({status}){}", self.name, self.last_words());
            }
            ensure!(
                Instant::now() < deadline,
                "{} gave no good answer within {START_TIMEOUT:?}: {error:#}{}",
                self.name,
                self.last_words()
            );
            thread::sleep(POLL_INTERVAL);
        }
    }

    /// Waits for a child that ends by itself, with success, within `timeout`.
    pub fn wait_until_done(&mut self, timeout: Duration) -> anyhow::Result<()> {
        let status = self.wait_for_exit(timeout)?;
        let status = status.with_context(|| format!("{} did not end within {timeout:?}", self.name))?;
        ensure!(status.success(), "{} failed ({status}){}", self.name, self.last_words());
        Ok(())
    }

    /// Waits for a child that ends by itself, with success, within `timeout`; returns the CPU time of all its threads,
    /// those that ended before it included, to [the kernel's tick](https://man7.org/linux/man-pages/man5/proc_pid_stat.5.html).
    ///
    /// # Errors
    /// When it fails, or does not end in time.
    pub fn cpu_time_when_done(&mut self, timeout: Duration) -> anyhow::Result<Duration> {
        let id = WaitId::Pid(Pid::from_child(&self.process));
        // Left for `wait_until_done` to reap: until then the kernel keeps what the process has used.
        let look = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
        let deadline = Instant::now() + timeout;
        while waitid(id.clone(), look)?.is_none() {
            ensure!(Instant::now() < deadline, "{} did not end within {timeout:?}", self.name);
            thread::sleep(POLL_INTERVAL);
        }
        let cpu = cpu_time_of_ended(self.process.id());
        self.wait_until_done(timeout)?;
        cpu.with_context(|| format!("CPU time of {}", self.name))
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.process.id()
    }

    /// Sends it a signal.
    ///
    /// # Errors
    /// When it has ended.
    pub fn signal(&self, signal: Signal) -> anyhow::Result<()> {
        kill_process(Pid::from_child(&self.process), signal)
            .with_context(|| format!("cannot send a signal to {}", self.name))
    }

    /// What it wrote until now.
    pub fn output(&self) -> anyhow::Result<String> {
        fs::read_to_string(&self.log).with_context(|| format!("cannot read {}", self.log.display()))
    }

    /// CPU time that this process and its descendants have used until now.
    pub fn cpu_time(&self) -> anyhow::Result<Duration> {
        let mut total = Duration::ZERO;
        for pid in descendants(self.process.id())? {
            total +=
                cpu_time_of(pid).with_context(|| format!("CPU time of {} (process {pid})", self.name))?;
        }
        Ok(total)
    }

    /// Memory that this process and its descendants hold now, in bytes. A page that they share counts for each.
    pub fn resident_bytes(&self) -> anyhow::Result<u64> {
        let mut total = 0;
        for pid in descendants(self.process.id())? {
            let resident = resident_bytes_of(pid);
            total += resident.with_context(|| format!("memory of {} (process {pid})", self.name))?;
        }
        Ok(total)
    }

    /// Waits for its end, however it comes, for as long as `timeout`.
    ///
    /// # Errors
    /// When the kernel does not say.
    pub fn wait_for_exit(&mut self, timeout: Duration) -> anyhow::Result<Option<ExitStatus>> {
        let deadline = Instant::now() + timeout;
        loop {
            let status = self.process.try_wait()?;
            if status.is_some() || Instant::now() >= deadline {
                return Ok(status);
            }
            thread::sleep(POLL_INTERVAL);
        }
    }

    /// The end of its log, for a message.
    fn last_words(&self) -> String {
        let text = fs::read(&self.log).unwrap_or_default();
        let text = String::from_utf8_lossy(&text);
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(10)..].iter().map(|line| format!("\n    {line}")).collect()
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        let pid = Pid::from_child(&self.process);
        // SIGTERM first: a server may have something to put away. While it runs, its process id is its own.
        if matches!(self.process.try_wait(), Ok(None)) {
            let _ = kill_process(pid, Signal::TERM);
        }
        let has_ended = matches!(self.wait_for_exit(STOP_TIMEOUT), Ok(Some(_)));
        // What it started and left behind is still in its group.
        let _ = kill_process_group(pid, Signal::KILL);
        if !has_ended {
            let _ = self.process.wait();
        }
    }
}

/// A directory of this run's own, gone with it.
pub struct WorkDir {
    /// Where it is.
    pub path: PathBuf,
}

impl WorkDir {
    /// Creates one for `name`, of which this process has only one.
    pub fn create(name: &str) -> anyhow::Result<Self> {
        let path = std::env::temp_dir().join(format!("corelane-{name}-{}", process::id()));
        fs::create_dir(&path).with_context(|| format!("cannot create {}", path.display()))?;
        Ok(Self { path })
    }
}

impl Drop for WorkDir {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.path);
    }
}

/// A loopback address that was free a moment ago.
pub fn free_addr() -> anyhow::Result<SocketAddr> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?)
}

/// `root` and every process below it.
fn descendants(root: u32) -> anyhow::Result<Vec<u32>> {
    let mut parents = Vec::new();
    for entry in fs::read_dir("/proc").context("cannot read /proc")? {
        let Some(pid) = entry?.file_name().to_str().and_then(|name| name.parse::<u32>().ok()) else {
            continue;
        };
        // A process that ended since the directory was read is no descendant of ours worth counting.
        let Ok(stat) = fs::read_to_string(format!("/proc/{pid}/stat")) else { continue };
        // proc_pid_stat(5): the command in parentheses may hold anything; state and parent follow the last one.
        let parent = stat.rsplit_once(')').and_then(|(_, rest)| rest.split_whitespace().nth(1));
        parents.push((pid, parent.and_then(|parent| parent.parse::<u32>().ok()).unwrap_or(0)));
    }
    let mut family = vec![root];
    let mut next = 0;
    while let Some(&pid) = family.get(next) {
        family.extend(parents.iter().filter(|(_, parent)| *parent == pid).map(|(child, _)| *child));
        next += 1;
    }
    Ok(family)
}

/// Sum over the living threads of one process; to the nanosecond, unlike the 10 ms ticks of `/proc/PID/stat`.
fn cpu_time_of(pid: u32) -> anyhow::Result<Duration> {
    let mut total = Duration::ZERO;
    for task in fs::read_dir(format!("/proc/{pid}/task"))? {
        let text = fs::read_to_string(task?.path().join("schedstat"))?;
        // First field: time spent on a CPU, in nanoseconds (Documentation/scheduler/sched-stats.rst).
        let ns = text.split_whitespace().next().and_then(|field| field.parse().ok());
        total += Duration::from_nanos(ns.with_context(|| format!("unexpected schedstat {text:?}"))?);
    }
    Ok(total)
}

/// User and system time of a process that has ended and is not reaped yet.
fn cpu_time_of_ended(pid: u32) -> anyhow::Result<Duration> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
    // proc_pid_stat(5): behind the command in parentheses, state is the first field, utime the 12th, stime the 13th.
    let fields = stat.rsplit_once(')').map_or("", |(_, rest)| rest).split_whitespace().skip(11).take(2);
    let ticks: Option<Vec<u64>> = fields.map(|field| field.parse().ok()).collect();
    let ticks =
        ticks.filter(|ticks| ticks.len() == 2).with_context(|| format!("unexpected stat {stat:?}"))?;
    Ok(Duration::from_secs(ticks.iter().sum()) / u32::try_from(clock_ticks_per_second())?)
}

/// Counted page by page, unlike `VmRSS`, which may be off by some pages for each CPU (proc_pid_status(5)).
fn resident_bytes_of(pid: u32) -> anyhow::Result<u64> {
    let text = fs::read_to_string(format!("/proc/{pid}/smaps_rollup"))?;
    let line = text.lines().find_map(|line| line.strip_prefix("Rss:"));
    let kib = line.and_then(|line| line.trim().strip_suffix(" kB")?.parse::<u64>().ok());
    Ok(kib.with_context(|| format!("unexpected smaps_rollup {text:?}"))? * 1024)
}

#[cfg(test)]
mod tests {
    use std::thread;
    use std::time::{Duration, Instant};

    use super::{Child, CoreList, POLL_INTERVAL, WorkDir, descendants};

    fn start_shell(dir: &WorkDir, script: &str) -> Child {
        Child::start("shell", CoreList("0"), &dir.path, &["sh", "-c", script].map(str::to_owned)).unwrap()
    }

    #[track_caller]
    fn wait_until(what: &str, mut is_so: impl FnMut() -> bool) {
        let deadline = Instant::now() + Duration::from_secs(10);
        while !is_so() {
            assert!(Instant::now() < deadline, "not within 10 s: {what}");
            thread::sleep(POLL_INTERVAL);
        }
    }

    #[test]
    fn cpu_time_includes_descendants() {
        let dir = WorkDir::create("test-cpu-time").unwrap();
        let child = start_shell(&dir, "(while :; do :; done) & wait");
        wait_until("the loop below the shell runs", || child.cpu_time().unwrap() > Duration::from_millis(50));
        let root_only = super::cpu_time_of(child.process.id()).unwrap();
        assert!(root_only < Duration::from_millis(50), "the shell itself only waits, yet used {root_only:?}");
    }

    #[test]
    fn cpu_time_of_an_ended_child_is_all_that_it_used() {
        let dir = WorkDir::create("test-cpu-time-ended").unwrap();
        let mut child = start_shell(&dir, "i=0; while [ $i -lt 200000 ]; do i=$((i+1)); done; times");
        let cpu = child.cpu_time_when_done(Duration::from_secs(60)).unwrap();
        // The shell's own account of the same, `0m0.150000s 0m0.010000s`; dash counts in ticks too.
        let said = child.output().unwrap();
        let seconds = |field: &str| {
            let (minutes, seconds) = field.trim_end_matches('s').split_once('m').unwrap();
            minutes.parse::<f64>().unwrap() * 60.0 + seconds.parse::<f64>().unwrap()
        };
        let told: f64 = said.lines().next().unwrap().split_whitespace().map(seconds).sum();
        assert!(told > 0.0 && (cpu.as_secs_f64() - told).abs() < 0.05 + told / 10.0, "{cpu:?}, {said}");
    }

    #[test]
    fn a_child_that_fails_has_no_cpu_time() {
        let dir = WorkDir::create("test-cpu-time-failed").unwrap();
        let mut child = start_shell(&dir, "echo broken >&2; exit 4");
        let error = child.cpu_time_when_done(Duration::from_secs(10)).unwrap_err().to_string();
        assert!(error.contains("exit status: 4") && error.contains("broken"), "{error}");
    }

    #[test]
    fn memory_includes_descendants() {
        let dir = WorkDir::create("test-memory").unwrap();
        let child = start_shell(&dir, "sleep 60 & wait");
        wait_until("two processes hold memory", || {
            let root_only = super::resident_bytes_of(child.process.id());
            root_only.is_ok_and(|root_only| {
                root_only > 0 && child.resident_bytes().is_ok_and(|all| all > root_only)
            })
        });
    }

    #[test]
    fn drop_ends_the_child_and_its_descendants() {
        let dir = WorkDir::create("test-drop").unwrap();
        let child = start_shell(&dir, "(while :; do :; done) & wait");
        let mut family = Vec::new();
        wait_until("the shell has started its loop", || {
            family = descendants(child.process.id()).unwrap();
            family.len() == 2
        });
        drop(child);
        // An orphan is reaped by whoever adopts it: until then it is dead, but listed.
        let is_alive = |pid: &u32| {
            std::fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| !stat.contains(") Z "))
        };
        wait_until("all of them are gone", || !family.iter().any(is_alive));
    }

    #[test]
    fn failure_at_start_is_told_with_the_last_words() {
        let dir = WorkDir::create("test-failure").unwrap();
        let mut child = start_shell(&dir, "echo no such thing >&2; exit 3");
        let error = child.wait_until_ready(|| anyhow::bail!("silence")).unwrap_err().to_string();
        assert!(error.contains("exit status: 3") && error.contains("no such thing"), "{error}");
    }

    #[test]
    fn descendants_start_with_the_root() {
        assert_eq!(descendants(std::process::id()).unwrap()[0], std::process::id());
    }
}
