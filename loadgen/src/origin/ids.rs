//! How often was this origin sent each id?
//!
//! Each thread counts into memory that it alone writes, without a lock; never more memory than the bounds below.

use std::sync::OnceLock;

use runtime::counter::Counter;

use crate::delivery::Tally;
use crate::protocol::http::ids::RunId;

/// Runs that are told apart. A later one is not counted, which its report says.
const RUNS_MAX: usize = 64;
/// Ids of one segment: 16 KiB.
const SEGMENT_IDS: u64 = 65_536;
/// Segments of one run: 2^28 ids, 45 minutes at 100,000 a second.
const SEGMENTS: usize = 4_096;
/// Segments of one thread over all runs: 256 MiB.
const SEGMENTS_MAX: u64 = 16_384;
/// Two bits an id: never, once, twice, more often.
const IDS_PER_WORD: u64 = 32;
const OFTEN: u64 = 3;

/// What all threads of an origin were sent.
pub(crate) struct Ids {
    threads: Vec<Thread>,
}

/// What one thread was sent. Only that thread calls `count`.
struct Thread {
    runs: Box<[OnceLock<(RunId, Run)>]>,
    segments: Counter,
    /// Deliveries without a place to count them, of whatever run.
    uncounted: Counter,
}

struct Run {
    segments: Box<[OnceLock<Box<[Counter]>>]>,
}

impl Ids {
    /// For an origin of so many threads.
    pub(crate) fn new(threads: usize) -> Self {
        Self { threads: (0..threads).map(|_| Thread::new()).collect() }
    }

    /// Counts that `thread`, which must be the calling one, was sent request `number` of `run`.
    pub(crate) fn count(&self, thread: usize, run: RunId, number: u64) {
        let thread = &self.threads[thread];
        match thread.word(run, number) {
            Some(word) => {
                let shift = number % IDS_PER_WORD * 2;
                if (word.value() >> shift) & OFTEN < OFTEN {
                    word.add(1 << shift);
                }
            }
            None => thread.uncounted.add(1),
        }
    }

    /// What was counted of `run`, over all threads.
    pub(crate) fn tally(&self, run: RunId) -> Tally {
        let uncounted = self.threads.iter().map(|thread| thread.uncounted.value()).sum();
        let mut tally = Tally { uncounted, ..Tally::default() };
        let runs: Vec<&Run> = self.threads.iter().filter_map(|thread| thread.find(run)).collect();
        for index in 0..SEGMENTS {
            let segments: Vec<&[Counter]> =
                runs.iter().filter_map(|run| run.segments[index].get()).map(AsRef::as_ref).collect();
            let words = segments.first().map_or(0, |segment| segment.len());
            for word in 0..words {
                let values = segments.iter().map(|segment| segment[word].value());
                add_word(&values, &mut tally);
            }
        }
        tally
    }
}

/// Adds the ids of one word, given what each thread counted.
fn add_word(values: &(impl Iterator<Item = u64> + Clone), tally: &mut Tally) {
    if values.clone().all(|value| value == 0) {
        return;
    }
    for id in 0..IDS_PER_WORD {
        match values.clone().map(|value| (value >> (2 * id)) & OFTEN).sum::<u64>() {
            0 => {}
            1 => tally.once += 1,
            2 => tally.twice += 1,
            _ => tally.more += 1,
        }
    }
}

impl Thread {
    fn new() -> Self {
        Self {
            runs: (0..RUNS_MAX).map(|_| OnceLock::new()).collect(),
            segments: Counter::default(),
            uncounted: Counter::default(),
        }
    }

    fn find(&self, run: RunId) -> Option<&Run> {
        self.runs.iter().map_while(OnceLock::get).find(|(known, _)| *known == run).map(|(_, run)| run)
    }

    /// The word that holds this id, made if there is room for it.
    fn word(&self, run: RunId, number: u64) -> Option<&Counter> {
        let index = usize::try_from(number / SEGMENT_IDS).ok().filter(|index| *index < SEGMENTS)?;
        let run = match self.find(run) {
            Some(found) => found,
            None => {
                let free = self.runs.iter().find(|place| place.get().is_none())?;
                let segments = (0..SEGMENTS).map(|_| OnceLock::new()).collect();
                &free.get_or_init(|| (run, Run { segments })).1
            }
        };
        let segment = &run.segments[index];
        if segment.get().is_none() {
            if self.segments.value() == SEGMENTS_MAX {
                return None;
            }
            self.segments.add(1);
        }
        let empty = || (0..SEGMENT_IDS / IDS_PER_WORD).map(|_| Counter::default()).collect();
        segment.get_or_init(empty).get((number % SEGMENT_IDS / IDS_PER_WORD) as usize)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RUN: RunId = RunId(7);

    #[test]
    fn deliveries_to_different_threads_add_up() {
        let ids = Ids::new(2);
        for number in [0, 31, 32, SEGMENT_IDS - 1, SEGMENT_IDS, SEGMENT_IDS * 3] {
            ids.count(0, RUN, number);
        }
        ids.count(1, RUN, 31);
        ids.count(1, RUN, 1);
        ids.count(1, RunId(8), 0);
        (0..10).for_each(|_| ids.count(0, RUN, 32));
        assert_eq!(ids.tally(RUN), Tally { once: 5, twice: 1, more: 1, uncounted: 0 });
        assert_eq!(ids.tally(RunId(8)), Tally { once: 1, ..Tally::default() });
        assert_eq!(ids.tally(RunId(9)), Tally::default());
    }

    #[test]
    fn an_id_that_comes_often_does_not_spill_into_its_neighbour() {
        let ids = Ids::new(1);
        (0..9).for_each(|_| ids.count(0, RUN, 5));
        assert_eq!(ids.tally(RUN), Tally { more: 1, ..Tally::default() });
    }

    #[test]
    fn what_does_not_fit_is_said() {
        let ids = Ids::new(1);
        ids.count(0, RUN, SEGMENT_IDS * SEGMENTS as u64);
        ids.count(0, RUN, u64::MAX);
        assert_eq!(ids.tally(RUN).uncounted, 2);
        (0..RUNS_MAX as u64 + 1).for_each(|run| ids.count(0, RunId(100 + run), 0));
        assert_eq!(ids.tally(RUN).uncounted, 3);
    }

    #[test]
    fn threads_count_at_the_same_time_without_losing_any() {
        let ids = Ids::new(4);
        std::thread::scope(|scope| {
            for thread in 0..4 {
                let ids = &ids;
                scope.spawn(move || {
                    (0..10_000).for_each(|number| ids.count(thread, RUN, number * 4 + thread as u64));
                });
            }
        });
        assert_eq!(ids.tally(RUN), Tally { once: 40_000, ..Tally::default() });
    }
}
