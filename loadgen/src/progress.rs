//! How is the run going?
//!
//! Reads the threads' counters and nothing else: looking on costs the threads nothing.

use std::io::{IsTerminal, stderr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::counts::{Counts, Pulse};
use crate::units::{show_count, show_nanoseconds};

/// Between two updates of a terminal's line.
const REDRAW: Duration = Duration::from_millis(250);
/// Between two lines of a log.
const LINE: Duration = Duration::from_secs(5);

/// Shows the state of a run on standard error: one living line on a terminal, a plain line now and then elsewhere.
pub(crate) struct ProgressLine {
    bar: Option<ProgressBar>,
    began: Instant,
    shown: Instant,
    shown_completed: u64,
}

impl ProgressLine {
    /// Begins at the start of the schedule, which takes `duration` if that is known.
    pub(crate) fn new(duration: Option<Duration>) -> Self {
        let began = Instant::now();
        let bar = stderr().is_terminal().then(|| draw_bar(duration));
        Self { bar, began, shown: began, shown_completed: 0 }
    }

    /// Shows the counters, unless they were shown a short while ago.
    pub(crate) fn update(&mut self, counts: &[Arc<Counts>]) {
        let now = Instant::now();
        let since_shown = now.duration_since(self.shown);
        if since_shown < if self.bar.is_some() { REDRAW } else { LINE } {
            return;
        }
        let elapsed = now.duration_since(self.began);
        let completed = counts.iter().map(|counts| counts.completed.value()).sum();
        let rate = (completed - self.shown_completed) as f64 / since_shown.as_secs_f64();
        (self.shown, self.shown_completed) = (now, completed);
        let text = describe(rate, counts);
        match &self.bar {
            Some(bar) => {
                bar.set_position(elapsed.as_millis() as u64);
                bar.set_message(text);
            }
            None => eprintln!("{:>6.1} s  {text}", elapsed.as_secs_f64()),
        }
    }

    /// Takes the living line away, to make room for the summary.
    pub(crate) fn finish(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

fn describe(rate: f64, counts: &[Arc<Counts>]) -> String {
    let pulses: Vec<&Pulse> = counts.iter().map(|counts| &counts.pulse).collect();
    let [p50, p99] = Pulse::quantiles(&pulses, [0.50, 0.99]).map(|value| show_nanoseconds(value as f64));
    let errors = counts.iter().map(|counts| counts.failures_total()).sum();
    format!("{} /s  p50 {p50}  p99 {p99}  errors {}", show_count(rate as u64), show_count(errors))
}

fn draw_bar(duration: Option<Duration>) -> ProgressBar {
    let bar = match duration {
        Some(duration) => ProgressBar::new(duration.as_millis() as u64),
        None => ProgressBar::no_length(),
    };
    bar.set_draw_target(ProgressDrawTarget::stderr());
    let template = match duration {
        Some(_) => "{elapsed:>4} [{bar:24}] {msg}",
        None => "{elapsed:>4} {spinner} {msg}",
    };
    bar.set_style(
        ProgressStyle::with_template(template).expect("constant template is valid").progress_chars("=> "),
    );
    bar
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
        let line = describe(1_234.5, &[counts]);
        assert!(line.starts_with("1,234 /s  p50 1.0") && line.ends_with("errors 1"), "{line}");
    }
}
