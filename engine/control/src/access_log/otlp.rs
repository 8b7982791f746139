//! How do sampled exchanges get to whoever collects traces? As spans, in batches, by OTLP over HTTP, from a thread of their own.
//!
//! Never holds more than one batch beside what cores keep for it, up to their bound; never tries for ever; and ends when it is told
//! to, whatever the collector does.

mod encode;

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread;
use std::time::{Duration, Instant};

use config::snapshot::Snapshot;
use proxy::access::tray::{Log, Origin};

use self::encode::Batch;

/// Spans of one message, about: a page more at most.
const BATCH_SPANS: u64 = 512;

/// The longest sleep. A core that hands a page over wakes the thread.
const SLEEP_MAX: Duration = Duration::from_secs(1);

/// How long the collector may take, from connecting to the last byte of its answer.
const TIMEOUT: Duration = Duration::from_secs(10);
/// The same when the process ends, which waits for no more than three seconds.
const TIMEOUT_LAST: Duration = Duration::from_secs(1);

/// Tries of one batch, and the pauses between them: each twice as long as the last.
const TRIES_MAX: u32 = 5;
const PAUSE_FIRST: Duration = Duration::from_secs(1);
const PAUSE_MAX: Duration = Duration::from_secs(16);

/// Between two lines for the operator.
const TELL_EVERY: Duration = Duration::from_secs(10);

/// How a try ended that was of no use.
enum Failed {
    /// It may be otherwise next time, after this pause if the collector says so.
    ForNow { cause: String, pause: Option<Duration> },
    /// It will not.
    ForGood { cause: String },
}

struct Exporter<'l> {
    log: &'l Log,
    agent: ureq::Agent,
    url: String,
    told: Option<Instant>,
}

/// Exports the records of a log until nobody has it any more, or it is to end. `collector` is its URL without a path.
pub(super) fn run(log: &Arc<Log>, collector: &str) {
    let agent = ureq::Agent::config_builder().http_status_as_error(false).max_redirects(0).build().into();
    let url = format!("{}/v1/traces", collector.trim_end_matches('/'));
    let mut exporter = Exporter { log, agent, url, told: None };
    loop {
        // Asked first: what was handed over before is seen below.
        let is_last = log.ends() || Arc::strong_count(log) == 1;
        while let Some((snapshot, batch)) = exporter.gather() {
            exporter.deliver(&snapshot, &batch, is_last);
        }
        if is_last {
            break;
        }
        thread::park_timeout(SLEEP_MAX);
    }
}

impl Exporter<'_> {
    /// The next batch, and the configuration that its first page is of.
    fn gather(&self) -> Option<(Arc<Snapshot>, Batch)> {
        let (mut first, mut batch) = (None, Batch::default());
        for tray in &self.log.trays {
            while batch.count < BATCH_SPANS
                && let Some(page) = tray.take()
            {
                if let Some(Origin { snapshot, .. }) = page.origin() {
                    page.records().for_each(|record| batch.push(&record, snapshot));
                    first.get_or_insert_with(|| Arc::clone(snapshot));
                }
                tray.give_back(page);
            }
        }
        Some((first?, batch))
    }

    /// Sends a batch, as often as it takes and may be.
    fn deliver(&mut self, snapshot: &Snapshot, batch: &Batch, is_last: bool) {
        let instance = std::process::id().to_string();
        let body = batch.request(&snapshot.node, &instance, env!("CARGO_PKG_VERSION"));
        let mut pause = PAUSE_FIRST;
        for tries in 1..=TRIES_MAX {
            let ends = is_last || self.log.ends();
            let (cause, asked) = match self.post(&body, if ends { TIMEOUT_LAST } else { TIMEOUT }) {
                Ok(()) => {
                    self.log.written.fetch_add(batch.count, Ordering::Relaxed);
                    return;
                }
                Err(Failed::ForNow { cause, pause }) => (cause, pause),
                Err(Failed::ForGood { cause }) => {
                    self.tell(&cause);
                    break;
                }
            };
            self.tell(&cause);
            if ends || tries == TRIES_MAX {
                break;
            }
            self.rest(asked.unwrap_or(pause).min(PAUSE_MAX));
            pause *= 2;
        }
        self.log.failed.fetch_add(batch.count, Ordering::Relaxed);
    }

    /// One try, by the rules of OTLP for statuses (OTLP 1.x, "OTLP/HTTP Response").
    fn post(&self, body: &[u8], timeout: Duration) -> Result<(), Failed> {
        let request = self.agent.post(&self.url).config().timeout_global(Some(timeout)).build();
        let answer = request.header("Content-Type", "application/x-protobuf").send(body);
        let answer = answer.map_err(|error| Failed::ForNow { cause: error.to_string(), pause: None })?;
        let status = answer.status().as_u16();
        let cause = format!("it answers {status}");
        match status {
            200..=299 => Ok(()),
            429 | 502 | 503 | 504 => {
                let value = answer.headers().get("Retry-After").and_then(|value| value.to_str().ok());
                let pause = value.and_then(|value| value.parse().ok()).map(Duration::from_secs);
                Err(Failed::ForNow { cause, pause })
            }
            _ => Err(Failed::ForGood { cause }),
        }
    }

    /// Waits, but not beyond the end.
    fn rest(&self, pause: Duration) {
        let until = Instant::now() + pause;
        while !self.log.ends() {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return;
            }
            // Woken by cores, too.
            thread::park_timeout(left);
        }
    }

    fn tell(&mut self, cause: &str) {
        self.log.errors.fetch_add(1, Ordering::Relaxed);
        if self.told.is_none_or(|told| told.elapsed() >= TELL_EVERY) {
            self.told = Some(Instant::now());
            tracing::warn!("telemetry.otlp: {}: {cause}", self.url);
        }
    }
}
