//! How are the engine, its origin and its client started, listened to, read and ended?
//!
//! Never lets a child outlive this process: it is ended when its [`Child`] is dropped, and by the kernel when this
//! process dies in any other way.

use std::collections::VecDeque;
use std::error::Error;
use std::fmt::{self, Write as _};
use std::fs;
use std::io::{self, BufRead, BufReader, Read};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{self, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use rustix::process::{Pid, Signal, getppid, kill_process, set_parent_process_death_signal};
use rustix::thread::{CpuSet, sched_setaffinity};

use crate::cli::TetherArgs;

/// Between two looks at something that is not there yet.
const GLANCE: Duration = Duration::from_millis(10);
/// From the start of a server to the line that names its address.
const START_MAX: Duration = Duration::from_secs(10);
/// From SIGTERM to SIGKILL.
const STOP_MAX: Duration = Duration::from_secs(2);
/// The newest lines of a child that are kept: several times what a summary and its JSON take.
const LINES_MAX: usize = 10_000;
/// Lines of a child that a message about its failure repeats.
const LAST_WORDS: usize = 10;

/// The user asked for the end.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Interrupted;

impl fmt::Display for Interrupted {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("interrupted")
    }
}

impl Error for Interrupted {}

/// Becomes another program that the kernel ends together with the process that started it.
///
/// # Errors
/// Always: on success this program is no more.
pub(crate) fn tether(args: &TetherArgs) -> Result<process::ExitCode> {
    set_parent_process_death_signal(Some(Signal::KILL)).context("cannot bind the process to its parent")?;
    // The parent may have died before that.
    ensure!(getppid().map(Pid::as_raw_pid) == Some(args.parent), "the parent is gone");
    if !args.cpus.is_empty() {
        let mut cpus = CpuSet::new();
        args.cpus.iter().for_each(|cpu| cpus.set(*cpu));
        sched_setaffinity(None, &cpus).with_context(|| format!("cannot run on the CPUs {:?}", args.cpus))?;
    }
    let (program, rest) = args.command.split_first().context("no program given")?;
    Err(Command::new(program).args(rest).exec()).with_context(|| format!("cannot run {}", program.display()))
}

/// A running child.
pub(crate) struct Child {
    name: &'static str,
    process: process::Child,
    lines: Arc<Lines>,
    readers: Vec<JoinHandle<()>>,
    stop: Arc<AtomicBool>,
}

impl Child {
    /// Starts `program` on `cpus`, on any when there are none. Waiting for it ends early when `stop` is set.
    ///
    /// It must be called from the main thread: the kernel ends the child with the thread that started it.
    pub(crate) fn start(
        name: &'static str,
        program: &Path,
        args: &[String],
        cpus: &[usize],
        stop: &Arc<AtomicBool>,
    ) -> Result<Self> {
        let mut command = Command::new(std::env::current_exe().context("cannot find this program's file")?);
        command.args(["tether", "--parent", &process::id().to_string()]);
        if !cpus.is_empty() {
            let cpus: Vec<String> = cpus.iter().map(usize::to_string).collect();
            command.args(["--cpus", &cpus.join(",")]);
        }
        command.arg("--").arg(program).args(args);
        // A group of its own: a terminal's Ctrl-C is for us, who end the children in order.
        command.process_group(0).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut process = command.spawn().with_context(|| format!("cannot start the {name}"))?;
        let lines = Arc::new(Lines::default());
        let (out, err) = (process.stdout.take(), process.stderr.take());
        // From here on whatever fails ends the process that was started.
        let mut child = Self { name, process, lines, readers: Vec::new(), stop: stop.clone() };
        let pipes = [out.map(|pipe| Box::new(pipe) as Pipe), err.map(|pipe| Box::new(pipe) as Pipe)];
        for pipe in pipes.into_iter().flatten() {
            let lines = child.lines.clone();
            let reader = thread::Builder::new().name(format!("{name}-output"));
            child.readers.push(reader.spawn(move || lines.collect(pipe)).context("cannot start a thread")?);
        }
        Ok(child)
    }

    /// Waits for the line in which `find` finds what it looks for.
    pub(crate) fn wait_for_line<T>(&mut self, find: impl Fn(&str) -> Option<T>) -> Result<T> {
        let deadline = Instant::now() + START_MAX;
        loop {
            if let Some(found) = self.lines.find(&find) {
                return Ok(found);
            }
            ensure!(!self.stop.load(Ordering::Relaxed), Interrupted);
            if let Some(status) = self.process.try_wait()? {
                self.hear_out();
                bail!("the {} ended at its start ({status}){}", self.name, self.lines.last_words());
            }
            if Instant::now() >= deadline {
                let words = self.lines.last_words();
                bail!("the {} did not say within {START_MAX:?} where it listens{words}", self.name);
            }
            thread::sleep(GLANCE);
        }
    }

    /// Waits for a child that ends by itself within `limit`; hands out its status and everything it said.
    pub(crate) fn wait_until_done(&mut self, limit: Duration) -> Result<(ExitStatus, Vec<String>)> {
        let deadline = Instant::now() + limit;
        loop {
            ensure!(!self.stop.load(Ordering::Relaxed), Interrupted);
            if let Some(status) = self.process.try_wait()? {
                self.hear_out();
                return Ok((status, self.lines.all()));
            }
            if Instant::now() >= deadline {
                bail!("the {} did not end within {limit:?}{}", self.name, self.lines.last_words());
            }
            thread::sleep(GLANCE);
        }
    }

    /// CPU time that its threads have used until now, the kernel's work on their behalf included.
    pub(crate) fn cpu_time(&mut self) -> Result<Duration> {
        if let Some(status) = self.process.try_wait()? {
            self.hear_out();
            bail!("the {} ended unasked ({status}){}", self.name, self.lines.last_words());
        }
        cpu_time_of(self.process.id())
            .with_context(|| format!("cannot read the CPU time of the {}", self.name))
    }

    /// Reads to the end what a child that has ended wrote.
    fn hear_out(&mut self) {
        for reader in self.readers.drain(..) {
            // A reader that panicked has lost lines, which whoever looks for them will miss.
            let _ = reader.join();
        }
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        if matches!(self.process.try_wait(), Ok(Some(_))) {
            return;
        }
        // While it has not been waited for, its process id is its own.
        let _ = kill_process(Pid::from_child(&self.process), Signal::TERM);
        let deadline = Instant::now() + STOP_MAX;
        while Instant::now() < deadline {
            if matches!(self.process.try_wait(), Ok(Some(_))) {
                return;
            }
            thread::sleep(GLANCE);
        }
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

type Pipe = Box<dyn Read + Send>;

/// What a child said, newest last.
#[derive(Default)]
struct Lines(Mutex<VecDeque<String>>);

impl Lines {
    /// Reads until the other end is closed, so that the child never waits for us.
    fn collect(&self, pipe: Pipe) {
        for line in BufReader::new(pipe).split(b'\n') {
            let Ok(line) = line else { return };
            let mut lines = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            if lines.len() == LINES_MAX {
                lines.pop_front();
            }
            lines.push_back(String::from_utf8_lossy(&line).into_owned());
        }
    }

    fn find<T>(&self, find: impl Fn(&str) -> Option<T>) -> Option<T> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).iter().find_map(|line| find(line))
    }

    fn all(&self) -> Vec<String> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).iter().cloned().collect()
    }

    /// The end of it, for a message.
    fn last_words(&self) -> String {
        let lines = self.all();
        let mut words = String::new();
        for line in &lines[lines.len().saturating_sub(LAST_WORDS)..] {
            let _ = write!(words, "\n    {line}");
        }
        words
    }
}

/// errno(3), the number of Linux: no such process.
const ESRCH: i32 = 3;

/// Sum over the living threads of one process; to the nanosecond, unlike the 10 ms ticks of `/proc/PID/stat`.
fn cpu_time_of(process: u32) -> Result<Duration> {
    let mut total = Duration::ZERO;
    for task in fs::read_dir(format!("/proc/{process}/task"))? {
        let text = match fs::read_to_string(task?.path().join("schedstat")) {
            Ok(text) => text,
            // A thread that ended since the directory was read, or since its file was opened.
            Err(error) if error.kind() == io::ErrorKind::NotFound || error.raw_os_error() == Some(ESRCH) => {
                continue;
            }
            Err(error) => return Err(error).context("no schedstat (the kernel needs CONFIG_SCHED_INFO)"),
        };
        // First field: time spent on a CPU, in nanoseconds (Documentation/scheduler/sched-stats.rst).
        let nanoseconds = text.split_whitespace().next().and_then(|field| field.parse().ok());
        total += Duration::from_nanos(nanoseconds.with_context(|| format!("unexpected schedstat {text:?}"))?);
    }
    Ok(total)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cpu_time_grows_with_what_a_process_does() {
        let before = cpu_time_of(process::id()).expect("our own");
        let deadline = Instant::now() + Duration::from_secs(10);
        while cpu_time_of(process::id()).expect("our own") < before + Duration::from_millis(5) {
            assert!(Instant::now() < deadline, "no CPU time in ten seconds of work");
        }
    }

    #[test]
    fn only_the_newest_lines_are_kept() {
        let lines = Lines::default();
        let text: String = (0..=LINES_MAX).map(|number| format!("{number}\n")).collect();
        lines.collect(Box::new(io::Cursor::new(text)));
        assert_eq!(lines.all().len(), LINES_MAX);
        assert!(lines.find(|line| (line == "0").then_some(())).is_none(), "the oldest line is gone");
        assert!(lines.last_words().ends_with(&format!("\n    {LINES_MAX}")));
    }
}
