//! Who writes access logs down? A thread for each log, which takes the cores' full pages, formats them and writes.
//!
//! Never waited for by a core, and never waits for another log: what one of them cannot get rid of stays with it, up to its bound.
//!
//! Suggested reading order: `writer` (the thread), `line` (a record as a line), `text` (how texts are made harmless), `sink` (file,
//! standard output, log daemon).

mod line;
#[cfg(feature = "otlp")]
mod otlp;
mod sink;
pub(crate) mod status;
mod text;
mod writer;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use config::snapshot::Snapshot;
use config::snapshot::access_log::{AccessLog, LogTarget};
use proxy::access::tray::Log;
use proxy::generation::Generation;

use self::sink::check;

/// How long the end of the process waits for what is still to be written.
const END_MAX: Duration = Duration::from_secs(3);

/// Between two looks at whether it is.
const END_LOOK: Duration = Duration::from_millis(2);

/// The logs of a process that are being written.
#[derive(Debug, Default)]
pub(crate) struct AccessLogs(Mutex<Vec<Written>>);

/// A log and the thread that writes it, which ends when nobody else has the log any more.
#[derive(Debug)]
struct Written {
    log: Weak<Log>,
    thread: JoinHandle<()>,
}

impl AccessLogs {
    /// Sees to it that somebody writes every log of a generation.
    pub(crate) fn begin(&self, generation: &Generation) {
        let mut written = self.lock();
        written.retain(|written| !written.thread.is_finished());
        for log in generation.logs.iter().filter(|log| !log.is_begun()) {
            let taken = Arc::clone(log);
            let named = std::thread::Builder::new().name(format!("log-{}", log.name));
            match named.spawn(move || write(&taken)) {
                Ok(thread) => {
                    log.begin(thread.thread().clone());
                    written.push(Written { log: Arc::downgrade(log), thread });
                }
                // Its records are dropped and counted.
                Err(error) => tracing::error!("access_log.{}: no thread to write it: {error}", log.name),
            }
        }
    }

    /// Has every file opened anew; how many logs there are.
    pub(crate) fn reopen(&self) -> usize {
        let written = self.lock();
        written.iter().filter_map(|written| written.log.upgrade()).map(|log| log.reopen()).count()
    }

    /// Waits until everything is written, but not for a log that cannot be.
    pub(crate) fn end(&self) {
        let written = std::mem::take(&mut *self.lock());
        written.iter().filter_map(|written| written.log.upgrade()).for_each(|log| log.end());
        let deadline = Instant::now() + END_MAX;
        let all_ended = || written.iter().all(|written| written.thread.is_finished());
        while !all_ended() && Instant::now() < deadline {
            std::thread::sleep(END_LOOK);
        }
        for stuck in written.iter().filter(|written| !written.thread.is_finished()) {
            let name = stuck.log.upgrade().map(|log| log.name.clone()).unwrap_or_default();
            tracing::warn!("access_log.{name}: not all of it could be written before the end");
        }
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Written>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Writes a log until nobody has it any more, or it is to end.
fn write(log: &Arc<Log>) {
    #[cfg(feature = "otlp")]
    if let LogTarget::Otlp { collector } = &log.target {
        return otlp::run(log, collector);
    }
    writer::run(log);
}

/// What stands in the way of writing the logs of a configuration, by key.
pub fn problems(snapshot: &Snapshot) -> Vec<String> {
    let logs = snapshot.access_logs.logs.iter();
    let key = |log: &AccessLog| match log.target {
        LogTarget::Otlp { .. } => "telemetry.otlp".to_owned(),
        _ => format!("access_log.{}.to", log.name),
    };
    logs.filter_map(|log| Some(format!("{}: {}", key(log), check(&log.target).err()?))).collect()
}
