//! Are the percentiles those of a schedule that somebody else kept the books of?
//!
//! Nothing here is expected of the machine's speed: an origin notes when it read each request and when it answered, and
//! what loadgen reports must lie between the latencies that these times allow. Where both ends of what they allow fall
//! into one bucket of the histogram, that is the bucket.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::ops::RangeInclusive;
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use hdrhistogram::Histogram;

use crate::harness::{DRIVERS, Outcome, RIGHT, loadgen, scratch_path, serve};

/// Requests per second of the open loop, and their number: two seconds.
const RATE: u64 = 200;
const REQUESTS: usize = 400;
/// The origin holds back the answer to this request for so long. Meanwhile 300 others become due.
const STALLED: usize = 60;
const STALL: Duration = Duration::from_millis(1_500);
/// The summary's start is a floating-point number of seconds since 1970: known to a quarter of a microsecond.
const START_ERROR: u64 = 1_000;

/// What an origin noted of its one connection, in nanoseconds since 1970.
#[derive(Debug, Default)]
struct Book {
    /// After the last byte of each request was read; the end of the connection stands behind them.
    read: Vec<u64>,
    /// Before the first byte of each answer was sent.
    answered: Vec<u64>,
}

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_nanos() as u64
}

/// Reads one request without a body; false at the end of the stream.
fn read_request(stream: &mut TcpStream) -> bool {
    let mut head = Vec::new();
    let mut bytes = [0; 4_096];
    while !head.ends_with(b"\r\n\r\n") {
        match stream.read(&mut bytes) {
            Ok(count) if count > 0 => head.extend_from_slice(&bytes[..count]),
            _ => return false,
        }
    }
    true
}

/// An origin that answers at once, but for one request; its books come when its connection ends.
fn bookkeeper() -> (String, Receiver<Book>) {
    let (sender, books) = channel();
    let url = serve(move |mut stream| {
        let mut book = Book::default();
        while read_request(&mut stream) {
            book.read.push(now());
            if book.read.len() == STALLED {
                // The stall itself: nothing waits for it to be over but the load.
                thread::sleep(STALL);
            }
            book.answered.push(now());
            if stream.write_all(RIGHT.as_bytes()).is_err() {
                break;
            }
        }
        book.read.push(now());
        let _ = sender.send(book);
    });
    (url, books)
}

/// The least and the most that each request can have taken, each in ascending order.
struct Bounds {
    least: Vec<u64>,
    most: Vec<u64>,
    shape: Histogram<u64>,
}

impl Bounds {
    /// `due` gives the earliest and the latest moment from which request `index` can count. An answer arrived after it
    /// was sent, and before the next request of its connection was read.
    fn new(book: &Book, due: impl Fn(usize) -> (u64, u64)) -> Self {
        assert_eq!((book.read.len(), book.answered.len()), (REQUESTS + 1, REQUESTS));
        let mut least: Vec<u64> =
            (0..REQUESTS).map(|index| book.answered[index].saturating_sub(due(index).1)).collect();
        let mut most: Vec<u64> =
            (0..REQUESTS).map(|index| book.read[index + 1].saturating_sub(due(index).0)).collect();
        // The n-th smallest of what was measured lies between the n-th smallest of both.
        least.sort_unstable();
        most.sort_unstable();
        Self { least, most, shape: Histogram::new_with_bounds(1, 3_600_000_000_000, 3).expect("constant") }
    }

    /// The values that may be reported for the `rank`-th request, counted from 1: those of one bucket, or of a few.
    fn of_rank(&self, rank: usize) -> RangeInclusive<u64> {
        let [least, most] = [&self.least, &self.most].map(|values| values[rank - 1]);
        self.shape.lowest_equivalent(least)..=self.shape.highest_equivalent(most)
    }

    /// Whether the books leave one bucket only.
    fn is_one_bucket(&self, rank: usize) -> bool {
        self.shape.equivalent(self.least[rank - 1], self.most[rank - 1])
    }
}

/// The summary's percentiles, in thousandths of a percent.
const PERCENTILES: [(&str, usize); 7] = [
    ("p50", 50_000),
    ("p75", 75_000),
    ("p90", 90_000),
    ("p99", 99_000),
    ("p99_9", 99_900),
    ("p99_99", 99_990),
    ("p99_999", 99_999),
];

/// Checks every percentile of the summary; returns how many the books know to the bucket.
fn check_summary(run: &Outcome, bounds: &Bounds) -> usize {
    let ranks = PERCENTILES.map(|(name, share)| (name, (share * REQUESTS).div_ceil(100_000)));
    let rows = ranks.into_iter().chain([("min", 1), ("max", REQUESTS)]);
    rows.filter(|(name, rank)| {
        let (reported, allowed) = (run.count(&format!("/latency_ns/{name}")), bounds.of_rank(*rank));
        assert!(allowed.contains(&reported), "{name}: {reported} is not in {allowed:?}: {run:?}");
        bounds.is_one_bucket(*rank)
    })
    .count()
}

/// Checks every row of the `.hgrm` text, whose values are milliseconds of three decimals; returns their number and how
/// many the books know to the bucket.
fn check_hgrm(text: &str, bounds: &Bounds) -> (usize, usize) {
    let (mut rows, mut exact) = (0, 0);
    for row in text.lines().skip(2).filter(|line| !line.starts_with('#')) {
        let mut columns = row.split_whitespace();
        let value: f64 = columns.next().and_then(|value| value.parse().ok()).expect(row);
        let rank: usize = columns.nth(1).and_then(|count| count.parse().ok()).expect(row);
        let allowed = bounds.of_rank(rank);
        let [low, high] = [*allowed.start() as f64 / 1e6 - 0.0006, *allowed.end() as f64 / 1e6 + 0.0006];
        assert!((low..=high).contains(&value), "{row}: not in {low}..={high} ms");
        rows += 1;
        exact += usize::from(bounds.is_one_bucket(rank));
    }
    (rows, exact)
}

fn started(run: &Outcome) -> u64 {
    (run.json["started_unix_s"].as_f64().expect("a start") * 1e9) as u64
}

#[test]
fn an_open_loop_reports_a_known_schedule_to_the_bucket() {
    for driver in DRIVERS {
        let (url, books) = bookkeeper();
        let path = scratch_path("known.hgrm");
        let args =
            format!("-c 1 -t 1 --rate {RATE} -n {REQUESTS} --driver {driver} --hdr {}", path.display());
        let run = loadgen(&url, &args);
        assert_eq!(run.code, Some(0), "{run:?}");
        run.assert_driver(driver);
        let (book, start) = (books.recv().expect("the books"), started(&run));
        let bounds = Bounds::new(&book, |index| {
            let due = start + index as u64 * 1_000_000_000 / RATE;
            (due - START_ERROR, due + START_ERROR)
        });
        let exact = check_summary(&run, &bounds);
        let text = std::fs::read_to_string(&path).expect("a distribution");
        std::fs::remove_file(&path).expect("it goes");
        let (rows, exact_rows) = check_hgrm(&text, &bounds);
        assert!(rows > 20, "{text}");
        eprintln!(
            "{driver}: {exact} of {} percentiles and {exact_rows} of {rows} rows known to the bucket",
            PERCENTILES.len() + 2
        );
        // A quarter of all requests waited for more than a second, and only one of them at the origin.
        assert!(*bounds.of_rank(REQUESTS * 3 / 4).start() > 900_000_000, "{book:?}");
        let service = run.count("/service_time_ns/p75");
        assert!(
            service < *bounds.of_rank(REQUESTS * 3 / 4).start(),
            "service time leaves the wait out: {run:?}"
        );
    }
}

#[test]
fn a_closed_loop_hides_the_stall_of_a_known_schedule() {
    for driver in DRIVERS {
        let (url, books) = bookkeeper();
        let run = loadgen(&url, &format!("-c 1 -t 1 -n {REQUESTS} --driver {driver}"));
        assert_eq!(run.code, Some(0), "{run:?}");
        let (book, start) = (books.recv().expect("the books"), started(&run));
        // It counts from the send, which was after the answer before and earlier than it was read here.
        let sent = |index: usize| match index {
            0 => (start - START_ERROR, book.read[0]),
            _ => (book.answered[index - 1], book.read[index]),
        };
        let bounds = Bounds::new(&book, sent);
        check_summary(&run, &bounds);
        assert!(run.count("/latency_ns/max") >= STALL.as_nanos() as u64, "one request met it: {run:?}");
        assert!(run.count("/latency_ns/p99") < STALL.as_nanos() as u64, "and is above p99: {run:?}");
    }
}
