//! What does one thread of a run do? Open its connections, wait for the common start, send, stop, count what is left.
//!
//! Never starts its schedule before every thread is ready, and never waits for answers longer than the grace.

mod stranding;

use std::cell::{Cell, RefCell};
use std::fs;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::SyncSender;
use std::time::{Duration, SystemTime};

use anyhow::{Result, anyhow};
use runtime::{Core, CoreConfig, Instant};
use rustix::time::{ClockId, clock_gettime};

use crate::client::{Client, Connection, Traffic};
use crate::connection::dial::ATTEMPTS_MAX;
use crate::counts::Counts;
use crate::output::intervals::Slice;
use crate::output::report::{Ending, ThreadResult};
use crate::protocol::Seat;
use crate::schedule::{Arrival, Pattern};
use crate::worker::stranding::Stranding;

/// How often a thread looks for a change from outside while it opens connections or waits for answers.
const GLANCE: Duration = Duration::from_millis(1);
/// And while it sends; each look may delay a request by a microsecond.
const GLANCE_SENDING: Duration = Duration::from_millis(10);
/// From the moment the last thread is ready to the common start: time for every thread to notice.
const HEAD_START: Duration = Duration::from_millis(5);

/// What the threads of a run agree on.
#[derive(Debug)]
pub(crate) struct Stage {
    threads: usize,
    ready: AtomicUsize,
    /// Nanoseconds on the cores' common clock; 0 until every thread is ready.
    start: AtomicU64,
    stop: Arc<AtomicBool>,
}

impl Stage {
    pub(crate) fn new(threads: usize, stop: Arc<AtomicBool>) -> Self {
        Self { threads, ready: AtomicUsize::new(0), start: AtomicU64::new(0), stop }
    }

    /// Whether the schedule runs.
    pub(crate) fn has_started(&self) -> bool {
        self.start.load(Ordering::Acquire) > 0
    }

    /// When the schedule began; `None` before.
    pub(crate) fn started_at(&self) -> Option<SystemTime> {
        let start = Instant::from_nanos(self.start.load(Ordering::Acquire));
        let now = clock_gettime(ClockId::Monotonic);
        let now = Instant::from_nanos(now.tv_sec.unsigned_abs() * 1_000_000_000 + now.tv_nsec.unsigned_abs());
        // The start is set a little ahead.
        self.has_started().then(|| SystemTime::now() + start.since(now) - now.since(start))
    }

    /// Says that a thread is ready. The last one sets the start for all.
    fn report_ready(&self, now: Instant) {
        if self.ready.fetch_add(1, Ordering::AcqRel) + 1 == self.threads {
            self.start.store((now + HEAD_START).as_nanos(), Ordering::Release);
        }
    }

    /// Ends the run early.
    pub(crate) fn stop(&self) {
        self.stop.store(true, Ordering::Relaxed);
    }

    /// Whether the run ends early.
    pub(crate) fn is_stopped(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }
}

/// One thread's part of a run.
#[derive(Debug)]
pub(crate) struct Share {
    pub(crate) index: usize,
    pub(crate) connections: usize,
    pub(crate) pattern: Pattern,
    /// Longest wait for outstanding answers after the end.
    pub(crate) grace: Duration,
    /// Never sleep.
    pub(crate) spin: bool,
    pub(crate) traffic: Arc<Traffic>,
    pub(crate) counts: Arc<Counts>,
    pub(crate) stage: Arc<Stage>,
    /// Where to hand over what each second brought.
    pub(crate) slices: SyncSender<Slice>,
}

impl Share {
    /// Runs on the calling thread to the end and says what was measured. The counts are kept up to date all along.
    ///
    /// # Errors
    /// The driver could not be set up, or failed.
    pub(crate) fn run(self, config: CoreConfig) -> Result<ThreadResult> {
        let result = Rc::new(RefCell::new(None));
        let place = result.clone();
        runtime::run(config, move |core| async move {
            let measured = self.measure(&core).await;
            *place.borrow_mut() = Some(measured);
        })?;
        result.take().ok_or_else(|| anyhow!("a thread ended without a result"))
    }

    async fn measure(&self, core: &Core) -> ThreadResult {
        let seat =
            Seat { index: self.index as u64, threads: self.stage.threads as u64, seed: self.pattern.seed };
        let schedule = self.pattern.share(self.index, self.stage.threads);
        let client = Rc::new(Client::new(core, &self.traffic, seat, &self.counts, schedule));
        let connections = self.open(&client).await;
        self.stage.report_ready(core.now());
        let start = self.await_start(core).await;
        let (cpu_before, delay_before) = (thread_cpu(), thread_cpu_delay());
        self.accompany(core, &client);
        client.begin(start, connections);
        let (sending, ending) = self.send(core, &client, start).await;
        let cpu = thread_cpu().saturating_sub(cpu_before);
        let cpu_delay = thread_cpu_delay().saturating_sub(delay_before);
        let cpu_waiting = client.pacer.waited().min(cpu);
        self.collect(core, &client, sending).await;
        let (latency, service_time) = client.take_histograms();
        ThreadResult {
            counts: self.counts.clone(),
            latency,
            service_time,
            sending,
            cpu,
            cpu_waiting,
            cpu_delay,
            lateness: client.take_lateness(),
            named: client.take_named(),
            handshakes: client.dialer.take_handshakes(),
            ending,
            driver: core.driver(),
        }
    }

    /// Starts what runs beside the connections.
    fn accompany(&self, core: &Core, client: &Rc<Client>) {
        let (slicing, slices) = (client.clone(), self.slices.clone());
        let (thread, length) = (self.index, self.pattern.duration);
        core.spawn(async move { slicing.hand_over(thread, &slices, length).await });
        if !matches!(self.pattern.arrival, Arrival::Closed) {
            let (client, spin) = (client.clone(), self.spin);
            core.spawn(async move { client.pace(!spin).await });
        }
        if self.spin {
            let spinning = core.clone();
            core.spawn(async move {
                // A core with a task that is ready looks at its sockets again and again, and never sleeps.
                loop {
                    spinning.yield_now().await;
                }
            });
        }
    }

    /// Opens all connections, as far as the server takes them. One that fails is tried again once the run has begun; so
    /// are all that are left when for as long as the time-out nobody got through, lest a run of many connections never
    /// begin.
    async fn open(&self, client: &Rc<Client>) -> Vec<Option<Connection>> {
        if !self.traffic.keepalive {
            return (0..self.connections).map(|_| None).collect();
        }
        let opened = Rc::new(RefCell::new(Vec::with_capacity(self.connections)));
        let left = Rc::new(Cell::new(self.connections));
        let openers = Rc::new(Cell::new(self.connections.min(ATTEMPTS_MAX)));
        for _ in 0..openers.get() {
            let (client, opened, timeout) = (client.clone(), opened.clone(), self.traffic.timeout);
            let (left, openers) = (left.clone(), openers.clone());
            client.core.clone().spawn(async move {
                while left.get() > 0 {
                    left.set(left.get() - 1);
                    let (began, before) = (client.core.now(), client.opened());
                    let connection = client.open().await;
                    let is_nobody_through = client.opened() == before;
                    if is_nobody_through && client.core.now().since(began) >= timeout {
                        left.set(0);
                    }
                    opened.borrow_mut().push(connection);
                }
                openers.set(openers.get() - 1);
            });
        }
        while openers.get() > 0 && !self.stage.is_stopped() {
            client.core.sleep_until(client.core.now() + GLANCE).await;
        }
        let mut connections = opened.take();
        connections.resize_with(self.connections, || None);
        connections
    }

    async fn await_start(&self, core: &Core) -> Instant {
        while !self.stage.has_started() && !self.stage.is_stopped() {
            core.sleep_until(core.now() + GLANCE).await;
        }
        let start = match self.stage.start.load(Ordering::Acquire) {
            0 => core.now(),
            start => Instant::from_nanos(start),
        };
        core.sleep_until(start).await;
        start
    }

    /// Lets the connections send until the schedule ends; says how long that was, and why it ended.
    async fn send(&self, core: &Core, client: &Client, start: Instant) -> (Duration, Ending) {
        let end = self.pattern.duration.map_or(Instant::FAR_FUTURE, |duration| start + duration);
        let mut stranding = Stranding::default();
        let mut ending = Ending::AsPlanned;
        while client.exhausted_at().is_none() && core.now() < end && !self.stage.is_stopped() {
            let stranded = stranding.look(core.now(), client.is_stranded(), client.opened());
            // A run with a duration ends by that; one without would wait for ever for a server that is gone.
            if self.pattern.duration.is_none() && stranded >= self.traffic.timeout {
                ending = Ending::Stranded;
                break;
            }
            core.sleep_until((core.now() + GLANCE_SENDING).min(end)).await;
        }
        client.finish();
        (client.exhausted_at().map_or(core.now(), |at| start + at).min(end).since(start), ending)
    }

    /// Waits for outstanding answers, and counts the requests that were due but not sent.
    async fn collect(&self, core: &Core, client: &Client, sending: Duration) {
        let give_up = core.now() + self.grace;
        while client.is_busy() && core.now() < give_up {
            core.sleep_until(core.now() + GLANCE).await;
        }
        let due = self.pattern.share(self.index, self.stage.threads).abandon(sending.as_nanos() as u64);
        self.counts.unsent.set(due.saturating_sub(self.counts.sent.value()));
    }
}

/// How long the calling thread has been ready to run without a CPU to run on; zero when the kernel does not say.
fn thread_cpu_delay() -> Duration {
    // Three numbers: time on a CPU, time in a queue for one, and how often; the first two in nanoseconds.
    let statistics = fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    let delay = statistics.split_whitespace().nth(1).and_then(|number| number.parse().ok());
    Duration::from_nanos(delay.unwrap_or(0))
}

/// CPU time of the calling thread.
fn thread_cpu() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(time.tv_sec.unsigned_abs(), time.tv_nsec.unsigned_abs() as u32)
}
