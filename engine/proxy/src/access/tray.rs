//! How do records get from a core to whoever writes them down? A page at a time, and empty pages back.
//!
//! Never makes a core wait: with no empty page left a record is dropped, and counted. Nobody is woken for a record.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::thread::Thread;

use config::snapshot::Snapshot;
use config::snapshot::access_log::{AccessLog, AccessLogId, LogTarget};
use crossbeam_queue::ArrayQueue;
use crossbeam_utils::CachePadded;
use runtime::counter::Counter;

use super::record::{self, Numbers, RECORD_BYTES_MAX, Record};

/// A page is handed over when less than a record may still find room on it.
const PAGE_BYTES: usize = 64 * 1024;

/// Pages of one core for one log, most of which are never made: with a record of 300 bytes some 14,000 exchanges wait on them,
/// a tenth of a second of a core that does nothing else.
const PAGES_MAX: usize = 64;

/// The writer is woken when so many are full; before that it comes by itself.
const WAKE_AT: usize = PAGES_MAX / 4;

/// What records were made by: they speak of its listeners and channels by number.
#[derive(Clone, Debug)]
pub struct Origin {
    /// The configuration.
    pub snapshot: Arc<Snapshot>,
    /// Its number among those that the process has run.
    pub generation: u64,
    /// The log's number in it.
    pub log: AccessLogId,
}

/// Records of one core for one log, of one generation.
#[derive(Debug)]
pub struct Page {
    bytes: Vec<u8>,
    count: u32,
    of: Option<Origin>,
}

impl Page {
    fn new() -> Box<Self> {
        Box::new(Self { bytes: Vec::with_capacity(PAGE_BYTES), count: 0, of: None })
    }

    /// What they were made by.
    #[must_use]
    pub fn origin(&self) -> Option<&Origin> {
        self.of.as_ref()
    }

    /// How many there are.
    #[must_use]
    pub fn count(&self) -> u32 {
        self.count
    }

    /// The records, in the order in which their exchanges ended.
    pub fn records(&self) -> impl Iterator<Item = Record<'_>> {
        let mut rest = self.bytes.as_slice();
        std::iter::from_fn(move || record::read(&mut rest))
    }

    pub(super) fn begin(&mut self, origin: Origin) {
        self.of = Some(origin);
    }

    /// Adds a record; whether there is room for another.
    pub(super) fn add(&mut self, numbers: &Numbers, texts: &[u8]) -> bool {
        record::write(numbers, texts, &mut self.bytes);
        self.count += 1;
        self.bytes.len() + RECORD_BYTES_MAX <= PAGE_BYTES
    }
}

/// One core's pages for one log.
#[derive(Debug)]
pub struct Tray {
    full: ArrayQueue<Box<Page>>,
    empty: ArrayQueue<Box<Page>>,
    /// Pages that there are.
    made: Counter,
    /// Records put on pages.
    pub recorded: Counter,
    /// Records dropped, since no page was empty.
    pub dropped: Counter,
    /// Exchanges left out by chance.
    pub left_out: Counter,
}

impl Tray {
    fn new() -> Self {
        Self {
            full: ArrayQueue::new(PAGES_MAX),
            empty: ArrayQueue::new(PAGES_MAX),
            made: Counter::default(),
            recorded: Counter::default(),
            dropped: Counter::default(),
            left_out: Counter::default(),
        }
    }

    /// An empty page, if there may be one more. For the core alone.
    pub(super) fn blank(&self) -> Option<Box<Page>> {
        self.empty.pop().or_else(|| {
            let may_be_made = self.made.value() < PAGES_MAX as u64;
            may_be_made.then(|| {
                self.made.add(1);
                Page::new()
            })
        })
    }

    /// The next full page, in the order in which the core has filled them. For the writer alone.
    #[must_use]
    pub fn take(&self) -> Option<Box<Page>> {
        self.full.pop()
    }

    /// Gives a page back that has been read.
    pub fn give_back(&self, mut page: Box<Page>) {
        page.bytes.clear();
        page.count = 0;
        page.of = None;
        // There is room for all that were ever made.
        let _ = self.empty.push(page);
    }
}

/// A log, from the first configuration that has it at this place to the last.
#[derive(Debug)]
pub struct Log {
    /// Name in the configuration.
    pub name: String,
    /// Where its lines go.
    pub target: LogTarget,
    /// By core.
    pub trays: Box<[CachePadded<Tray>]>,
    writer: OnceLock<Thread>,
    /// Lines written.
    pub written: AtomicU64,
    /// Lines lost while they were written: refused by a daemon, or left when the process ended.
    pub failed: AtomicU64,
    /// Times that writing failed.
    pub errors: AtomicU64,
    reopen: AtomicBool,
    ends: AtomicBool,
}

impl Log {
    fn new(log: &AccessLog, cores: usize) -> Arc<Self> {
        Arc::new(Self {
            name: log.name.clone(),
            target: log.target.clone(),
            trays: (0..cores).map(|_| CachePadded::new(Tray::new())).collect(),
            writer: OnceLock::new(),
            written: AtomicU64::new(0),
            failed: AtomicU64::new(0),
            errors: AtomicU64::new(0),
            reopen: AtomicBool::new(false),
            ends: AtomicBool::new(false),
        })
    }

    /// The logs of a configuration: those that are where they were go on as they are, whatever is written in them now.
    pub(crate) fn all(logs: &[AccessLog], former: &[Arc<Self>], cores: usize) -> Arc<[Arc<Self>]> {
        let keep =
            |log: &AccessLog| former.iter().find(|old| old.name == log.name && old.target == log.target);
        logs.iter().map(|log| keep(log).map_or_else(|| Self::new(log, cores), Arc::clone)).collect()
    }

    /// Says who writes it. Once: false if somebody does.
    pub fn begin(&self, writer: Thread) -> bool {
        self.writer.set(writer).is_ok()
    }

    /// Whether somebody writes it.
    #[must_use]
    pub fn is_begun(&self) -> bool {
        self.writer.get().is_some()
    }

    /// Has the writer look, which it does by itself sooner or later.
    pub fn wake(&self) {
        if let Some(writer) = self.writer.get() {
            writer.unpark();
        }
    }

    /// Has the writer open its file anew.
    pub fn reopen(&self) {
        self.reopen.store(true, Ordering::Release);
        self.wake();
    }

    /// Whether it is to be opened anew; said once.
    #[must_use]
    pub fn take_reopen(&self) -> bool {
        self.reopen.load(Ordering::Relaxed) && self.reopen.swap(false, Ordering::AcqRel)
    }

    /// Has the writer end once it has written what there is.
    pub fn end(&self) {
        self.ends.store(true, Ordering::Release);
        self.wake();
    }

    /// Whether it is to end.
    #[must_use]
    pub fn ends(&self) -> bool {
        self.ends.load(Ordering::Acquire)
    }

    /// Takes a page that a core has filled, or will not fill for now.
    pub(super) fn put(&self, core: usize, page: Box<Page>, is_full: bool) {
        let tray = &self.trays[core];
        let count = u64::from(page.count);
        if tray.full.push(page).is_err() {
            tray.dropped.add(count);
            return;
        }
        // A call of the kernel at most, and that only if the writer sleeps.
        if !is_full || tray.full.len() == WAKE_AT {
            self.wake();
        }
    }
}
