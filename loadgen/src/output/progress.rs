//! How is the run going?
//!
//! Reads the threads' counters and nothing else: looking on costs the threads nothing.

use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::time::{ClockId, clock_gettime};

use crate::counts::{Counts, Pulse};
use crate::output::live::{Picture, Setting};
use crate::output::screen::Screen;
use crate::output::watch::Watch;
use crate::protocol::Unit;
use crate::schedule::rate_plan::RatePlan;
use crate::units::{show_bytes, show_count, show_nanoseconds};

/// Between two pictures on a terminal.
const REDRAW: Duration = Duration::from_millis(250);
/// Between two lines of a log.
const LINE: Duration = Duration::from_secs(5);

/// What the person in front of it wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wish {
    GoOn,
    End,
}

/// Shows the state of a run on standard error: a living picture on a terminal, a plain line now and then elsewhere.
pub(crate) struct Progress {
    way: Way,
    unit: Unit,
    began: Instant,
    shown: Instant,
    shown_counted: u64,
}

enum Way {
    // Much larger than nothing.
    Live(Box<Live>),
    Plain,
}

struct Live {
    screen: Screen,
    setting: Setting,
    watch: Watch,
}

impl Progress {
    /// Begins at the start of a schedule. `plain` lines are written also where a picture could be seen.
    pub(crate) fn new(
        setting: &Setting,
        plan: Option<&RatePlan>,
        counts: &[Arc<Counts>],
        plain: bool,
    ) -> Self {
        let began = Instant::now();
        // A terminal that refuses is no reason to end a run.
        let screen = (!plain && Screen::is_possible()).then(Screen::enter).and_then(Result::ok);
        let way = screen.map_or(Way::Plain, |screen| {
            let watch = Watch::new(setting.unit, counts, plan.cloned(), process_cpu());
            Way::Live(Box::new(Live { screen, setting: setting.clone(), watch }))
        });
        Self { way, unit: setting.unit, began, shown: began, shown_counted: 0 }
    }

    /// Shows the counters, unless they were shown a short while ago.
    pub(crate) fn update(&mut self, counts: &[Arc<Counts>]) -> Wish {
        let now = Instant::now();
        let elapsed = now.duration_since(self.began);
        let since_shown = now.duration_since(self.shown);
        match &mut self.way {
            Way::Live(live) => {
                if live.screen.is_end_wanted() {
                    self.finish();
                    return Wish::End;
                }
                live.watch.look(elapsed, process_cpu());
                if since_shown >= REDRAW {
                    self.shown = now;
                    // What cannot be shown is not worth a run either.
                    let _ = live.show(elapsed);
                }
            }
            Way::Plain if since_shown >= LINE => {
                let counted = counts.iter().map(|counts| self.unit.counted(counts)).sum();
                let rate = (counted - self.shown_counted) as f64 / since_shown.as_secs_f64();
                (self.shown, self.shown_counted) = (now, counted);
                eprintln!("{:>6.1} s  {}", elapsed.as_secs_f64(), describe(self.unit, rate, counts));
            }
            Way::Plain => {}
        }
        Wish::GoOn
    }

    /// Gives the terminal back, to make room for the summary and for a second Ctrl-C.
    pub(crate) fn finish(&mut self) {
        self.way = Way::Plain;
    }
}

impl Live {
    fn show(&mut self, elapsed: Duration) -> std::io::Result<()> {
        let sums = self.watch.sums(elapsed);
        let samples = self.watch.samples();
        self.screen.show(&Picture { setting: &self.setting, elapsed, samples, sums: &sums })
    }
}

/// CPU time of this process.
fn process_cpu() -> Duration {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    Duration::new(time.tv_sec.unsigned_abs(), time.tv_nsec.unsigned_abs() as u32)
}

fn describe(unit: Unit, rate: f64, counts: &[Arc<Counts>]) -> String {
    let errors: u64 = counts.iter().map(|counts| counts.failures_total()).sum();
    if unit == Unit::Streams {
        return format!("{}/s  errors {}", show_bytes(rate), show_count(errors));
    }
    let pulses: Vec<&Pulse> = counts.iter().map(|counts| &counts.pulse).collect();
    let [p50, p99] = Pulse::quantiles(&pulses, [0.50, 0.99]).map(|value| show_nanoseconds(value as f64));
    format!("{} /s  p50 {p50}  p99 {p99}  errors {}", show_count(rate as u64), show_count(errors))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::failure::Failure;

    #[test]
    fn a_line_says_rate_latency_and_errors() {
        let counts = Arc::new(Counts::default());
        (0..100).for_each(|_| counts.pulse.record(1_000_000));
        counts.fail(Failure::Reset, String::new);
        let line = describe(Unit::Requests, 1_234.5, std::slice::from_ref(&counts));
        assert!(line.starts_with("1,234 /s  p50 1.0") && line.ends_with("errors 1"), "{line}");
        assert_eq!(describe(Unit::Streams, 2_097_152.0, &[counts]), "2.00 MiB/s  errors 1", "no latencies");
    }
}
