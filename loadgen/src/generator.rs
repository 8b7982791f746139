//! Was it the server that was measured, or the generator?
//!
//! Never excuses the generator: what it did not observe about itself it does not claim.

use std::fmt;
use std::time::Duration;

use proto::histogram::merged_histogram;
use runtime::counter::Counter;
use serde::Serialize;

use crate::counts::Counts;
use crate::output::distribution::Distribution;
use crate::output::report::{ThreadResult, ratio};
use crate::units::{show_count, show_nanoseconds};

/// A thread that worked, or waited for a CPU, for more of the run had no time left to be exact.
const SATURATED: f64 = 0.90;
/// With more of all requests sent late, the generator and not the server decided the result.
const LATE_SHARE_MAX: f64 = 0.01;

/// What the run says about the generator itself.
#[derive(Debug, Serialize)]
pub(crate) struct Generator {
    /// CPU time of all threads while sending, in seconds.
    pub(crate) cpu_s: f64,
    /// CPU time of each thread over the time it sent: 1 is a whole CPU.
    pub(crate) cpu_share: Vec<f64>,
    /// The same without the time in which it only waited for the next send time, as an open loop does awake.
    pub(crate) cpu_work_share: Vec<f64>,
    /// Time each thread could have run but had no CPU, as others used them, over the time it sent; 0 where the kernel
    /// does not say.
    pub(crate) cpu_delay_share: Vec<f64>,
    /// Requests it sent more than a timer's tick late although a connection was free.
    pub(crate) late_sends: u64,
    /// The latest of them.
    pub(crate) late_max_ns: u64,
    /// Open loop: how long after its time each request left although its connection was free.
    pub(crate) send_lateness_ns: Option<Distribution>,
    /// Connections opened.
    pub(crate) connects: u64,
    /// Connections the server had closed between two requests.
    pub(crate) reconnects: u64,
    /// Connections closed by loadgen after --requests-per-connection answers.
    pub(crate) retired: u64,
    /// `late_sends` over the requests sent.
    #[serde(skip)]
    late_share: f64,
    /// It never sleeps: its CPU use says nothing about saturation then.
    #[serde(skip)]
    spins: bool,
}

impl Generator {
    /// Adds up the threads of an open or closed loop.
    pub(crate) fn new(results: &[ThreadResult], is_open: bool, spins: bool) -> Self {
        let sum = |of: fn(&Counts) -> &Counter| {
            results.iter().map(|result| of(&result.counts).value()).sum::<u64>()
        };
        let shares = |of: fn(&ThreadResult) -> Duration| {
            results
                .iter()
                .map(|result| ratio(of(result).as_secs_f64(), result.sending.as_secs_f64()))
                .collect()
        };
        let mut lateness = merged_histogram();
        for result in results {
            lateness.add(&result.lateness).expect("histograms of one shape");
        }
        let late_sends = sum(|counts| &counts.late_sends);
        Self {
            cpu_s: results.iter().map(|result| result.cpu.as_secs_f64()).sum(),
            cpu_share: shares(|result| result.cpu),
            cpu_work_share: shares(|result| result.cpu.saturating_sub(result.cpu_waiting)),
            cpu_delay_share: shares(|result| result.cpu_delay),
            late_sends,
            late_max_ns: results.iter().map(|result| result.counts.late_max.value()).max().unwrap_or(0),
            send_lateness_ns: is_open.then(|| Distribution::of(&lateness)),
            connects: sum(|counts| &counts.connects),
            reconnects: sum(|counts| &counts.reconnects),
            retired: sum(|counts| &counts.retired),
            late_share: ratio(late_sends as f64, sum(|counts| &counts.sent) as f64),
            spins,
        }
    }

    /// Whether the result says more about the generator than about the server.
    pub(crate) fn is_bottleneck(&self) -> bool {
        self.saturated().count() > 0 || self.late_share > LATE_SHARE_MAX
    }

    /// What a reader of the latencies must know about how they were taken.
    pub(crate) fn warnings(&self) -> Vec<String> {
        let mut warnings = Vec::new();
        let worst = self.saturated().max_by(|one, other| (one.0 + one.1).total_cmp(&(other.0 + other.1)));
        if let Some((work, delay)) = worst {
            warnings.push(format!(
                "{} of {} generator threads had no CPU time left, the busiest worked for {:.0} % of the run and waited \
                 for a CPU that others used for {:.0} %: the generator may be what was measured; {}",
                self.saturated().count(),
                self.cpu_share.len(),
                work * 100.0,
                delay * 100.0,
                if delay > work { "give it CPUs of its own" } else { "raise -t or lower the load" }
            ));
        }
        if self.late_sends > 0 {
            warnings.push(format!(
                "{} requests ({:.2} %) were sent late by the generator itself although a connection was free, up to \
                 {}: their latencies include it{}",
                show_count(self.late_sends),
                self.late_share * 100.0,
                show_nanoseconds(self.late_max_ns as f64),
                match self.late_share > LATE_SHARE_MAX {
                    true => "; the generator is the bottleneck: give it CPUs of its own, raise -t or lower --rate",
                    false => "",
                }
            ));
        }
        warnings
    }

    /// Work and delay of the threads that had no time left.
    fn saturated(&self) -> impl Iterator<Item = (f64, f64)> {
        let shares = self.cpu_work_share.iter().copied().zip(self.cpu_delay_share.iter().copied());
        shares.filter(|(work, delay)| !self.spins && work + delay >= SATURATED)
    }
}

impl fmt::Display for Generator {
    /// One line on an open loop's exactness; nothing on a closed one, which has no times to keep.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(lateness) = &self.send_lateness_ns else { return Ok(()) };
        let percent = |shares: &[f64]| shares.iter().sum::<f64>() * 100.0;
        writeln!(
            formatter,
            "generator: sends late by p50 {}, p99 {}, max {}; CPU {:.0} % of a core, {:.0} % \
             without waiting, {:.0} % denied by others",
            show_nanoseconds(lateness.p50 as f64),
            show_nanoseconds(lateness.p99 as f64),
            show_nanoseconds(lateness.max as f64),
            percent(&self.cpu_share),
            percent(&self.cpu_work_share),
            percent(&self.cpu_delay_share)
        )
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use runtime::DriverKind;

    use super::*;
    use crate::output::report::Ending;

    /// A thread that sent 50 requests in two seconds, busy for the given shares of them.
    fn result(busy: f64, waiting: f64, delay: f64, late: &[u64]) -> ThreadResult {
        let sending = Duration::from_secs(2);
        let counts = Counts::default();
        counts.sent.add(50);
        let mut lateness = merged_histogram();
        for nanoseconds in late {
            counts.lateness(*nanoseconds);
            lateness.saturating_record(*nanoseconds);
        }
        ThreadResult {
            counts: Arc::new(counts),
            latency: merged_histogram(),
            service_time: merged_histogram(),
            lateness,
            named: Vec::new(),
            sending,
            cpu: sending.mul_f64(busy),
            cpu_waiting: sending.mul_f64(waiting),
            cpu_delay: sending.mul_f64(delay),
            handshakes: crate::connection::handshakes::Handshakes::default(),
            ending: Ending::AsPlanned,
            driver: DriverKind::Epoll,
        }
    }

    fn generator(results: &[ThreadResult]) -> Generator {
        Generator::new(results, true, false)
    }

    #[test]
    fn late_sends_are_confessed_with_figures() {
        let late = generator(&[result(0.1, 0.0, 0.0, &[12_000_000])]);
        let [warning] = late.warnings().try_into().expect("one warning");
        for part in ["1 requests (2.00 %) were sent late", "12.0 ms", "is the bottleneck"] {
            assert!(warning.contains(part), "{part} is missing from {warning}");
        }
        assert!(late.is_bottleneck());
        let few = generator(&[result(0.1, 0.0, 0.0, &[12_000_000]), result(0.1, 0.0, 0.0, &[1_000])]);
        assert!(!few.is_bottleneck(), "one of a hundred");
        assert!(few.warnings()[0].contains("1.00 %") && !few.warnings()[0].contains("bottleneck"));
        assert!(few.send_lateness_ns.is_some_and(|lateness| lateness.max.abs_diff(12_000_000) < 12_000));
    }

    #[test]
    fn a_thread_without_time_left_is_confessed_with_figures() {
        let warning = |busy, waiting, delay| {
            let generator = generator(&[result(0.5, 0.0, 0.0, &[]), result(busy, waiting, delay, &[])]);
            assert_eq!(generator.is_bottleneck(), !generator.warnings().is_empty());
            generator.warnings().pop()
        };
        assert_eq!(warning(0.89, 0.0, 0.0), None);
        let worked = warning(0.91, 0.0, 0.0).expect("a warning");
        assert!(
            worked.contains("1 of 2 generator threads") && worked.contains("worked for 91 %"),
            "{worked}"
        );
        assert!(worked.contains("raise -t"), "{worked}");
        assert_eq!(warning(1.0, 0.2, 0.0), None, "an open loop waits with its CPU busy");
        let starved = warning(0.3, 0.0, 0.65).expect("a warning");
        assert!(starved.contains("others used for 65 %") && starved.contains("CPUs of its own"), "{starved}");
        let spinning = Generator::new(&[result(1.0, 0.0, 0.0, &[])], false, true);
        assert!(spinning.warnings().is_empty(), "its CPU use says nothing");
    }

    #[test]
    fn only_an_open_loop_has_times_to_keep() {
        let results = [result(1.0, 0.2, 0.0, &[4_000])];
        let line = generator(&results).to_string();
        assert!(
            line.contains("max 4.00 µs; CPU 100 % of a core, 80 % without waiting, 0 % denied"),
            "{line}"
        );
        let closed = Generator::new(&results, false, false);
        assert!(closed.to_string().is_empty() && closed.send_lateness_ns.is_none());
    }
}
