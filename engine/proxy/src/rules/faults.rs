//! Which requests are made to fail on purpose? Some wait, some are answered with an error, as the dice say.
//!
//! Never lets those that wait keep the buffers from the others: only so many do at a time.

use std::cell::Cell;
use std::future::poll_fn;
use std::pin::pin;
use std::task::Poll;

use config::snapshot::rules::Faults;

use crate::client::Client;
use crate::core_main::CoreState;
use crate::exchange::Route;
use crate::outcome::Fault;

/// Of the buffers of a core, those of clients are half; requests that wait hold at most a quarter of these.
const BUFFERS_PER_DELAYED: u16 = 8;

/// Whether the dice hit `percent` of a hundred.
pub(super) fn hits(state: &CoreState, percent: u32) -> bool {
    state.core.random() % 100 < u64::from(percent)
}

/// Makes a request wait, or fail, or neither.
pub(crate) async fn inject(
    state: &CoreState,
    client: &Client,
    route: &Route<'_>,
    faults: Faults,
) -> Option<Fault> {
    if let Some((time, percent)) = faults.delay
        && hits(state, percent)
    {
        if let Some(_delayed) = Delayed::new(state) {
            route.counters.delayed.add(1);
            let until = (state.core.now() + time).min(route.total);
            let mut sleeping = pin!(state.core.sleep_until(until));
            let is_gone = poll_fn(|context| match client.stream.poll_broken(context) {
                Poll::Ready(()) => Poll::Ready(true),
                Poll::Pending => sleeping.as_mut().poll(context).map(|()| false),
            });
            if is_gone.await {
                return Some(Fault::ClientGoneInResponse);
            }
            if state.core.now() >= route.total {
                return Some(Fault::TotalTimeout);
            }
        } else {
            route.counters.delays_skipped.add(1);
        }
    }
    let (status, _) = faults.abort.filter(|(_, percent)| hits(state, *percent))?;
    route.counters.aborted.add(1);
    Some(Fault::Injected { status })
}

/// A request that waits; counted as long as it does.
struct Delayed<'a>(&'a Cell<u32>);

impl<'a> Delayed<'a> {
    fn new(state: &'a CoreState) -> Option<Self> {
        let max = u32::from((state.snapshot.process.buffers_per_core / BUFFERS_PER_DELAYED).max(1));
        let count = &state.delayed;
        (count.get() < max).then(|| {
            count.set(count.get() + 1);
            Self(count)
        })
    }
}

impl Drop for Delayed<'_> {
    fn drop(&mut self) {
        self.0.set(self.0.get() - 1);
    }
}
