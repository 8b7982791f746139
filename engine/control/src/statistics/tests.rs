//! Is the sum of several processes what all of them have counted, whoever comes, goes and comes back?
//!
//! Never with processes that run: what they would have counted is made up.

use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};

use proto::histogram::merged_histogram;
use proxy::stats::Phase;
use store::{NewProcess, ProcessRow, StoreSettings};

use super::*;
use crate::testing;

/// An empty store, gone afterwards.
struct Ground(PathBuf);

impl Ground {
    fn new() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let dir = std::env::temp_dir().join(format!("corelane-statistics-{}-{number}", std::process::id()));
        std::fs::create_dir_all(&dir).expect("a writable directory");
        Self(dir)
    }

    async fn store(&self) -> Store {
        let url = format!("sqlite:{}", self.0.join("cluster.db").display()).parse().expect("a URL");
        let settings = StoreSettings { timeout: Duration::from_secs(20), ..StoreSettings::new(url) };
        Store::open(settings).await.expect("an empty store")
    }
}

impl Drop for Ground {
    fn drop(&mut self) {
        drop(std::fs::remove_dir_all(&self.0));
    }
}

fn block_on(test: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.expect("runtime").block_on(test);
}

async fn join(store: &Store) -> ProcessRow {
    let process = NewProcess {
        node: "gateway".to_owned(),
        host: "here".to_owned(),
        addresses: serde_json::json!({}),
        version: "1.2.3".to_owned(),
        pid: 1,
        cores: 1,
        port_offset: 0,
        mode: "active_active".to_owned(),
    };
    store.register_process(&process).await.expect("joined")
}

/// A process that answers requests, each as many nanoseconds as its number tells.
struct Process {
    row: ProcessRow,
    reporter: Reporter,
    counted: Tally,
}

impl Process {
    async fn join(store: &Store) -> Self {
        let counted = Tally { processes: 1, ..Tally::default() };
        Self { row: join(store).await, reporter: Reporter::default(), counted }
    }

    fn serve(&mut self, latencies: impl IntoIterator<Item = u64>) {
        let mut histogram = merged_histogram();
        latencies.into_iter().for_each(|nanos| histogram.saturating_record(nanos));
        let figures = self.counted.channels.entry("web".to_owned()).or_default();
        *figures.counters.entry("requests".to_owned()).or_default() += histogram.len();
        figures.gauges.insert("exchanges_open".to_owned(), 1);
        let series =
            Series { kind: SeriesKind::Channel, name: "web".to_owned(), phase: Phase::Total as usize };
        self.counted.record(series, &histogram);
    }

    async fn report(&mut self, store: &Store) {
        let (shared, _cores) = testing::shared(1);
        let (status, counted) = (ProcessStatus::of(&shared), self.counted.clone());
        self.reporter.put(store, &self.row.id, "gateway", status, counted).await.expect("put");
    }

    /// What this process says of the whole cluster.
    async fn whole(&self, store: &Store) -> Tally {
        let mut tally = self.counted.clone();
        tally.add(&self.reporter.others(store).await.expect("an answer").tally);
        tally
    }
}

fn check(whole: &Tally, requests: u64, processes: u64, open: u64) {
    let web = &whole.channels["web"];
    assert_eq!(web.counters["requests"], requests);
    assert_eq!(whole.merged(|_| true).len(), requests, "histograms hold each request once too");
    assert_eq!(whole.processes, processes);
    assert_eq!(web.gauges["exchanges_open"], open);
}

#[test]
fn whoever_is_asked_says_the_same() {
    block_on(async {
        let ground = Ground::new();
        let store = ground.store().await;
        let mut all = Vec::new();
        for number in 1..=3 {
            let mut process = Process::join(&store).await;
            process.serve((0..number * 1_000).map(|nanos| nanos * nanos));
            process.report(&store).await;
            all.push(process);
        }
        for process in &all {
            check(&process.whole(&store).await, 6_000, 3, 3);
        }
        let first = all[0].whole(&store).await.merged(|_| true);
        for process in &all[1..] {
            assert_eq!(process.whole(&store).await.merged(|_| true), first);
        }
    });
}

#[test]
fn what_a_process_has_counted_outlives_it() {
    block_on(async {
        let ground = Ground::new();
        let store = ground.store().await;
        let (mut one, mut other) = (Process::join(&store).await, Process::join(&store).await);
        one.serve(0..100);
        other.serve(0..10);
        one.report(&store).await;
        other.report(&store).await;
        store.deregister(&one.row.id, one.row.epoch).await.expect("left");
        check(&other.whole(&store).await, 110, 2, 1);

        let began = Instant::now();
        other.reporter.fold(&store, began).await.expect("an answer");
        assert_eq!(store.stats().await.expect("an answer").len(), 2, "it may come back");
        other.reporter.fold(&store, began + FOLD_AFTER).await.expect("an answer");
        let rows = store.stats().await.expect("an answer");
        assert_eq!(rows.iter().filter(|row| row.is_sum()).count(), 1);
        assert_eq!(rows.len(), 2, "the sum and the one that lives");
        check(&other.whole(&store).await, 110, 2, 1);
    });
}

#[test]
fn a_process_that_comes_back_counts_nothing_twice() {
    block_on(async {
        let ground = Ground::new();
        let store = ground.store().await;
        let (mut one, mut other) = (Process::join(&store).await, Process::join(&store).await);
        one.serve(0..100);
        one.report(&store).await;
        other.serve(0..10);
        other.report(&store).await;

        // Cut off for so long that others count it among the gone; it goes on serving meanwhile.
        store.deregister(&one.row.id, one.row.epoch).await.expect("expired");
        let began = Instant::now();
        other.reporter.fold(&store, began).await.expect("an answer");
        other.reporter.fold(&store, began + FOLD_AFTER).await.expect("an answer");
        one.serve(0..7);
        one.row = join(&store).await;
        one.report(&store).await;
        check(&other.whole(&store).await, 117, 2, 1);
        check(&one.whole(&store).await, 117, 2, 2);
        one.serve(0..3);
        one.report(&store).await;
        check(&other.whole(&store).await, 120, 2, 1);

        // And once more.
        other.reporter.fold(&store, began).await.expect("an answer");
        other.reporter.fold(&store, began + 2 * FOLD_AFTER).await.expect("an answer");
        one.serve(0..1);
        one.report(&store).await;
        check(&other.whole(&store).await, 121, 2, 1);
        check(&one.whole(&store).await, 121, 2, 2);
    });
}

#[test]
fn figures_of_another_version_are_left_alone_and_named() {
    block_on(async {
        let ground = Ground::new();
        let store = ground.store().await;
        let mut one = Process::join(&store).await;
        one.serve(0..5);
        store.put_first_stats("gateway-9", "gateway", b"{\"format\":99}").await.expect("put");
        let others = one.reporter.others(&store).await.expect("an answer");
        assert_eq!(others.unreadable, ["gateway-9"]);
        let began = Instant::now();
        one.reporter.fold(&store, began).await.expect("an answer");
        one.reporter.fold(&store, began + FOLD_AFTER).await.expect("an answer");
        assert_eq!(store.stats().await.expect("an answer")[0].process, "gateway-9");
        check(&one.whole(&store).await, 5, 1, 1);
    });
}
