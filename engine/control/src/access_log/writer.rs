//! How does one log get written? Page by page, as long as there are any, by a thread of its own.
//!
//! Never takes more pages from the cores than it has got rid of: what a place does not take stays with them, up to their bound. Never
//! loses or tears a line when its file is opened anew.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread;
use std::time::{Duration, Instant};

use config::snapshot::access_log::LogTarget;
use proxy::access::tray::{Log, Origin, Page};

use super::line::Lines;
use super::sink::{Outcome, Sink};
use super::text::Clock;

/// Lines are written when there are so many bytes of them, or no more pages.
const WRITE_BYTES: usize = 256 * 1024;

/// The longest sleep. Whoever hands a page over because it has lain for long enough wakes the thread.
const SLEEP_MAX: Duration = Duration::from_secs(1);

/// Between two tries to write to a pipe that is full, and to a place that failed.
const FULL_PAUSE: Duration = Duration::from_millis(20);
const FAILED_PAUSE: Duration = Duration::from_millis(500);

/// Tries to write to a pipe that is full, of a log that nobody adds to any more: a second.
const LAST_TRIES_MAX: u32 = 50;

/// Between two lines for the operator about one log.
const TELL_EVERY: Duration = Duration::from_secs(10);

/// One log as its thread has it.
struct Writer<'l> {
    log: &'l Arc<Log>,
    sink: Option<Sink>,
    lines: Lines,
    clock: Clock,
    /// Lines to be written, and how much of them is.
    pending: Vec<u8>,
    done: usize,
    told: Option<Instant>,
    errors_untold: u64,
}

/// Writes a log until nobody has it any more, or it is to end.
pub(super) fn run(log: &Arc<Log>) {
    let mut writer = Writer {
        log,
        sink: None,
        lines: Lines::default(),
        clock: Clock::default(),
        pending: Vec::with_capacity(WRITE_BYTES),
        done: 0,
        told: None,
        errors_untold: 0,
    };
    loop {
        // Asked first: what was handed over before is seen below.
        let is_last = writer.is_last();
        writer.take_all(is_last);
        if log.take_reopen() {
            writer.reopen();
        }
        if is_last {
            break;
        }
        thread::park_timeout(SLEEP_MAX);
    }
    let left = lines_in(&writer.pending[writer.done..]);
    log.failed.fetch_add(left, Ordering::Relaxed);
}

fn lines_in(bytes: &[u8]) -> u64 {
    memchr::memchr_iter(b'\n', bytes).count() as u64
}

impl Writer<'_> {
    /// Whether nothing more will be added once the pages that are there are written.
    fn is_last(&self) -> bool {
        self.log.ends() || Arc::strong_count(self.log) == 1
    }

    /// Writes all pages that are there, by turns of the cores.
    fn take_all(&mut self, is_last: bool) {
        loop {
            let mut was_any = false;
            for tray in &self.log.trays {
                if let Some(page) = tray.take() {
                    self.format(&page);
                    tray.give_back(page);
                    was_any = true;
                }
                if self.pending.len() - self.done >= WRITE_BYTES && !self.write(is_last) {
                    return;
                }
            }
            if !was_any {
                break;
            }
        }
        self.write(is_last);
    }

    fn format(&mut self, page: &Page) {
        let Some(Origin { snapshot, generation, log }) = page.origin() else { return };
        let Some(log) = snapshot.access_logs.logs.get(usize::from(log.0)) else { return };
        for record in page.records() {
            if let LogTarget::Syslog { priority, app_name, .. } = &log.target {
                self.push_header(*priority, app_name, record.numbers.began_us, &snapshot.node);
            }
            self.lines.push(&record, log, snapshot, *generation, &mut self.pending);
        }
    }

    /// RFC 5424 §6.2. The node stands where the host does: several processes may run on one.
    fn push_header(&mut self, priority: u8, app_name: &str, began_us: u64, node: &str) {
        let out = &mut self.pending;
        let mut digits = itoa::Buffer::new();
        out.push(b'<');
        out.extend_from_slice(digits.format(priority).as_bytes());
        out.extend_from_slice(b">1 ");
        self.clock.push_rfc3339(began_us, out);
        out.push(b' ');
        out.extend_from_slice(if node.is_empty() { b"-" } else { node.as_bytes() });
        out.push(b' ');
        out.extend_from_slice(app_name.as_bytes());
        out.push(b' ');
        out.extend_from_slice(digits.format(std::process::id()).as_bytes());
        // MSGID, no structured data.
        out.extend_from_slice(b" access - ");
    }

    /// Writes what is pending, as long as it takes; false if the log is to end first.
    fn write(&mut self, is_last: bool) -> bool {
        let mut last_tries = 0;
        while self.done < self.pending.len() {
            if self.log.take_reopen() {
                self.reopen();
            }
            let pause = match self.try_write() {
                Ok(()) => continue,
                Err(pause) => pause,
            };
            // A place that fails has one last try, a pipe that is full a few.
            if is_last || self.is_last() {
                last_tries += 1;
                if pause == FAILED_PAUSE || last_tries > LAST_TRIES_MAX {
                    return false;
                }
            }
            thread::park_timeout(pause);
        }
        self.pending.clear();
        self.done = 0;
        true
    }

    fn try_write(&mut self) -> Result<(), Duration> {
        let sink = match &mut self.sink {
            Some(sink) => sink,
            None => match Sink::open(&self.log.target) {
                Ok(sink) => self.sink.insert(sink),
                Err(error) => return Err(self.fail(&error)),
            },
        };
        let rest = &self.pending[self.done..];
        match sink.write(rest) {
            Outcome::Written(count) => {
                self.log.written.fetch_add(lines_in(&rest[..count]), Ordering::Relaxed);
                self.done += count;
                Ok(())
            }
            Outcome::Refused(count) => {
                self.log.failed.fetch_add(lines_in(&rest[..count]), Ordering::Relaxed);
                self.done += count;
                Ok(())
            }
            Outcome::Full => Err(FULL_PAUSE),
            Outcome::Failed(error) => {
                // A daemon that came back, a pipe with another reader: they are to be asked anew. A file stays as it is.
                if !matches!(self.log.target, LogTarget::File { .. }) || is_pipe_gone(&error) {
                    self.sink = None;
                }
                Err(self.fail(&error))
            }
        }
    }

    /// Opens the place anew. Where only part of a line has been written, all of it comes again in the new one.
    fn reopen(&mut self) {
        match Sink::open(&self.log.target) {
            Ok(sink) => {
                self.sink = Some(sink);
                let written = &self.pending[..self.done];
                self.done = written.iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1);
            }
            // What is open goes on.
            Err(error) => drop(self.fail(&error)),
        }
    }

    /// Counts a failure, and tells the operator, not too often.
    fn fail(&mut self, error: &std::io::Error) -> Duration {
        self.log.errors.fetch_add(1, Ordering::Relaxed);
        self.errors_untold += 1;
        if self.told.is_none_or(|told| told.elapsed() >= TELL_EVERY) {
            let name = &self.log.name;
            tracing::warn!(
                "access_log.{name}: cannot be written ({} times): {error}; what finds no room meanwhile is dropped and counted",
                self.errors_untold
            );
            self.told = Some(Instant::now());
            self.errors_untold = 0;
        }
        FAILED_PAUSE
    }
}

fn is_pipe_gone(error: &std::io::Error) -> bool {
    error.kind() == std::io::ErrorKind::BrokenPipe
}
