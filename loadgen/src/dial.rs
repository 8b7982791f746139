//! How are connections opened without flooding the server's accept queue?
//!
//! Never more than a bounded number at a time on one thread, and never in a tight loop against a server that refuses.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::task::{Poll, Waker};
use std::time::Duration;

use runtime::{Core, Stream};

use crate::counts::Counts;
use crate::failure::Failure;

/// Connection attempts of one thread in flight: a quarter of the shortest accept queue in common use (128).
const ATTEMPTS_MAX: usize = 32;
/// Pause after the first failed attempt of a row; each further one doubles it.
const PAUSE_MIN: Duration = Duration::from_millis(10);
/// A server that comes back is found again this soon.
const PAUSE_MAX: Duration = Duration::from_millis(500);

/// Opens one thread's connections.
pub(crate) struct Dialer {
    address: SocketAddr,
    timeout: Duration,
    gate: Gate,
}

impl Dialer {
    pub(crate) fn new(address: SocketAddr, timeout: Duration) -> Self {
        Self { address, timeout, gate: Gate::new(ATTEMPTS_MAX) }
    }

    /// Opens a connection, and counts it or the failure.
    pub(crate) async fn connect(&self, core: &Core, counts: &Counts) -> io::Result<Stream> {
        let _permit = self.gate.pass().await;
        let connected = core.connect(self.address, core.now() + self.timeout).await;
        match &connected {
            Ok(_) => counts.connects.add(1),
            Err(error) => counts.fail(Failure::of_connect(error), || format!("{}: {error}", self.address)),
        }
        connected
    }

    /// Opens a connection however often that takes, pausing longer after each failure. `None` once `is_over` says so.
    pub(crate) async fn connect_patiently(
        &self,
        core: &Core,
        counts: &Counts,
        is_over: impl Fn() -> bool,
    ) -> Option<Stream> {
        let mut pause = PAUSE_MIN;
        while !is_over() {
            if let Ok(stream) = self.connect(core, counts).await {
                return Some(stream);
            }
            // Up to half of it at random, so that the connections do not come back in step.
            core.sleep_until(core.now() + pause.mul_f64(1.0 - (core.random() >> 33) as f64 / 2_f64.powi(32)))
                .await;
            pause = (pause * 2).min(PAUSE_MAX);
        }
        None
    }
}

/// Lets a bounded number through; the others wait in line.
struct Gate {
    free: Cell<usize>,
    waiting: RefCell<VecDeque<Waker>>,
}

impl Gate {
    fn new(free: usize) -> Self {
        Self { free: Cell::new(free), waiting: RefCell::default() }
    }

    async fn pass(&self) -> Permit<'_> {
        poll_fn(|context| match self.free.get() {
            0 => {
                self.waiting.borrow_mut().push_back(context.waker().clone());
                Poll::Pending
            }
            free => {
                self.free.set(free - 1);
                Poll::Ready(Permit(self))
            }
        })
        .await
    }
}

/// A place within a [`Gate`]; leaves it when dropped.
struct Permit<'a>(&'a Gate);

impl Drop for Permit<'_> {
    fn drop(&mut self) {
        self.0.free.set(self.0.free.get() + 1);
        if let Some(next) = self.0.waiting.borrow_mut().pop_front() {
            next.wake();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::pin::pin;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::task::{Context, Wake};

    use super::*;

    struct Woken(AtomicUsize);

    impl Wake for Woken {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    #[test]
    fn the_gate_lets_the_next_in_when_one_leaves() {
        let woken = Arc::new(Woken(AtomicUsize::new(0)));
        let waker = Waker::from(woken.clone());
        let mut context = Context::from_waker(&waker);
        let gate = Gate::new(1);
        let Poll::Ready(first) = pin!(gate.pass()).poll(&mut context) else { panic!("the gate is shut") };
        let mut second = pin!(gate.pass());
        assert!(second.as_mut().poll(&mut context).is_pending());
        drop(first);
        assert_eq!(woken.0.load(Ordering::Relaxed), 1);
        assert!(second.as_mut().poll(&mut context).is_ready());
    }
}
