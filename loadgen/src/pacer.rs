//! How does a thread wake its connections at the very time a request is due?
//!
//! Never early, and never in steps of the runtime's timers, whose millisecond would be a latency of our own making.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::future::poll_fn;
use std::task::{Poll, Waker};
use std::thread;
use std::time::Duration;

use runtime::{Core, Instant};

/// A timer fires up to a tick of one millisecond after its time, and `epoll_wait` rounds up to another.
const TIMER_SLACK: Duration = Duration::from_micros(2_200);
/// A turn of an idle thread's loop takes less; what took longer was no waiting but another process on our CPU.
const IDLE_TURN_MAX: Duration = Duration::from_micros(10);

/// The connections of one thread that wait for a time, in the order of their times.
#[derive(Default)]
pub(crate) struct Pacer {
    line: RefCell<VecDeque<(Instant, Waker)>>,
    reached: Cell<Instant>,
    idle: RefCell<Option<Waker>>,
    waited: Cell<Duration>,
}

impl Pacer {
    /// Waits until `due`. Times must be handed in ascending order, as a schedule yields them.
    pub(crate) async fn until(&self, due: Instant) {
        let mut is_waiting = false;
        poll_fn(|context| {
            if self.reached.get() >= due {
                return Poll::Ready(());
            }
            if !is_waiting {
                is_waiting = true;
                self.line.borrow_mut().push_back((due, context.waker().clone()));
                if let Some(pacer) = self.idle.borrow_mut().take() {
                    pacer.wake();
                }
            }
            Poll::Pending
        })
        .await;
    }

    /// Wakes those whose time has come, for as long as the thread lives.
    ///
    /// While `is_idle` no answer is awaited, and the thread may sleep as a whole. `progress` changes with whatever the
    /// thread does for the load: turns in which it stayed the same were spent on waiting alone.
    pub(crate) async fn run(&self, core: &Core, is_idle: impl Fn() -> bool, progress: impl Fn() -> u64) {
        let mut doze = Doze::default();
        loop {
            let next = self.next().await;
            core.sleep_until(next - TIMER_SLACK).await;
            let mut now = core.now();
            while now < next {
                let done = progress();
                let mut is_asleep = false;
                match doze.length(next.since(now)) {
                    Some(length) if is_idle() => {
                        thread::sleep(length);
                        is_asleep = true;
                        doze.woke_after(length, core.now().since(now));
                    }
                    Some(_) => core.yield_now().await,
                    None => {
                        core.yield_now().await;
                        doze.was_skipped();
                    }
                }
                let turned = core.now();
                if !is_asleep && progress() == done {
                    self.waited.set(self.waited.get() + turned.since(now).min(IDLE_TURN_MAX));
                }
                now = turned;
            }
            self.release(now);
            // Those released send first; only then is it known whether anything is awaited.
            core.yield_now().await;
        }
    }

    /// About the CPU time spent on nothing but waiting for the next send time.
    pub(crate) fn waited(&self) -> Duration {
        self.waited.get()
    }

    async fn next(&self) -> Instant {
        poll_fn(|context| match self.line.borrow().front() {
            Some((due, _)) => Poll::Ready(*due),
            None => {
                *self.idle.borrow_mut() = Some(context.waker().clone());
                Poll::Pending
            }
        })
        .await
    }

    fn release(&self, now: Instant) {
        self.reached.set(now);
        let mut line = self.line.borrow_mut();
        while let Some((_, waker)) = line.pop_front_if(|(due, _)| *due <= now) {
            waker.wake();
        }
    }
}

/// How long may a thread sleep and still wake in time? Learned from how late it woke before: from the kernel's timer
/// slack of 50 µs on an idle machine to much more on a virtual one.
struct Doze {
    lateness: Duration,
}

/// What is assumed at first.
const LATENESS_FIRST: Duration = Duration::from_micros(100);
/// Later than this a thread was not woken late but kept from running.
const LATENESS_MAX: Duration = Duration::from_micros(500);
/// A shorter sleep gains nothing.
const DOZE_MIN: Duration = Duration::from_micros(10);

impl Default for Doze {
    fn default() -> Self {
        Self { lateness: LATENESS_FIRST }
    }
}

impl Doze {
    /// The sleep to try when `left` is left, if any.
    fn length(&self, left: Duration) -> Option<Duration> {
        // Half as much again as the usual lateness, so that most times are met.
        left.checked_sub(self.lateness * 3 / 2).filter(|length| *length >= DOZE_MIN)
    }

    fn woke_after(&mut self, asked: Duration, slept: Duration) {
        let lateness = slept.saturating_sub(asked).min(LATENESS_MAX);
        self.lateness = (self.lateness * 7 + lateness) / 8;
    }

    /// There was no time for a sleep. Forgets slowly, so that one is tried again.
    fn was_skipped(&mut self) {
        self.lateness -= self.lateness / 65_536;
    }
}

#[cfg(test)]
mod tests {
    use std::pin::pin;
    use std::task::Context;

    use super::*;

    #[test]
    fn nobody_is_woken_early() {
        let pacer = Pacer::default();
        let mut context = Context::from_waker(Waker::noop());
        let at = |nanos| Instant::from_nanos(nanos);
        let (mut first, mut second) = (pin!(pacer.until(at(10))), pin!(pacer.until(at(20))));
        assert!(first.as_mut().poll(&mut context).is_pending());
        assert!(second.as_mut().poll(&mut context).is_pending());
        assert_eq!(pin!(pacer.next()).poll(&mut context), Poll::Ready(at(10)));
        pacer.release(at(19));
        assert!(first.as_mut().poll(&mut context).is_ready());
        assert!(second.as_mut().poll(&mut context).is_pending());
        assert_eq!(pacer.line.borrow().len(), 1);
        pacer.release(at(20));
        assert!(second.as_mut().poll(&mut context).is_ready());
    }

    #[test]
    fn a_doze_is_as_short_as_wake_ups_are_late() {
        let micros = Duration::from_micros;
        let mut doze = Doze::default();
        assert_eq!(doze.length(micros(1_000)), Some(micros(850)));
        (0..100).for_each(|_| doze.woke_after(micros(100), micros(400)));
        assert!(doze.length(micros(430)).is_none(), "it would wake too late");
        (0..1_000_000).for_each(|_| doze.was_skipped());
        assert!(doze.length(micros(430)).is_some(), "and is tried again in the end");
        (0..100).for_each(|_| doze.woke_after(micros(100), micros(50_000)));
        assert!(doze.lateness <= LATENESS_MAX, "a machine that was busy once is not given up");
    }
}
