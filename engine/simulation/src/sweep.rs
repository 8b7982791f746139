//! How many seeds are fine, and did they meet everything there is to meet? Many scenarios, one after the other.
//!
//! Never goes on past a broken law: the first seed that breaks one is what somebody will look at.

use std::fmt;
use std::ops::Range;
use std::time::{Duration, Instant};

use crate::oracle::Tally;
use crate::world::{Outcome, play};

/// What a sweep found.
#[derive(Debug)]
pub struct Report {
    /// Seeds that were played.
    pub seeds: u64,
    /// Real time.
    pub took: Duration,
    /// Virtual time of all scenarios together.
    pub virtual_time: Duration,
    /// Requests that clients began.
    pub exchanges: u64,
    /// What was met.
    pub tally: Tally,
    /// The seed that broke a law.
    pub failed: Option<Outcome>,
}

/// Plays these seeds, until one breaks a law.
#[must_use]
pub fn run(seeds: Range<u64>) -> Report {
    let began = Instant::now();
    let mut report = Report {
        seeds: 0,
        took: Duration::ZERO,
        virtual_time: Duration::ZERO,
        exchanges: 0,
        tally: Tally::default(),
        failed: None,
    };
    for seed in seeds {
        let outcome = play(seed, false);
        report.seeds += 1;
        report.virtual_time += outcome.virtual_time;
        report.exchanges += outcome.exchanges;
        report.tally.merge(&outcome.tally);
        if outcome.broken.is_some() {
            report.failed = Some(outcome);
            break;
        }
    }
    report.took = began.elapsed();
    report
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (what, count) in self.tally.iter() {
            writeln!(f, "  {what:<36} {count:>12}")?;
        }
        let seconds = self.took.as_secs_f64();
        let rate = self.seeds as f64 / seconds.max(1e-9);
        let hours = self.virtual_time.as_secs_f64() / 3600.0;
        writeln!(
            f,
            "{} seeds in {seconds:.1} s ({rate:.0}/s), {} exchanges, {hours:.1} h of virtual time",
            self.seeds, self.exchanges
        )?;
        let Some(Outcome { seed, broken: Some(broken), .. }) = &self.failed else { return Ok(()) };
        writeln!(f, "\nseed {seed} breaks {broken}\n\nlast events, oldest first:")?;
        for event in &broken.last_events {
            writeln!(f, "{event}")?;
        }
        writeln!(f, "\nreplay: cargo test -p corelane-simulation --test sweep -- seed={seed}")
    }
}
