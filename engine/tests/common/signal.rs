//! How do a test and a script wait for each other? A count of permits, given by one and taken by the other.
//!
//! Never waits without a limit: a test that fails must not leave a thread behind.

use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Duration;

use super::PATIENCE;

/// Permits; each `take` waits for a `give`.
#[derive(Clone, Debug, Default)]
pub(crate) struct Signal(Arc<(Mutex<usize>, Condvar)>);

impl Signal {
    pub(crate) fn give(&self) {
        let (permits, changed) = &*self.0;
        *permits.lock().unwrap_or_else(PoisonError::into_inner) += 1;
        changed.notify_one();
    }

    #[track_caller]
    pub(crate) fn take(&self) {
        self.take_within(PATIENCE);
    }

    /// [`Self::take`] for who is held while a test does much else.
    #[track_caller]
    pub(crate) fn take_within(&self, limit: Duration) {
        let (permits, changed) = &*self.0;
        let guard = permits.lock().unwrap_or_else(PoisonError::into_inner);
        let waited = changed.wait_timeout_while(guard, limit, |permits| *permits == 0);
        let (mut permits, timeout) = waited.unwrap_or_else(PoisonError::into_inner);
        assert!(!timeout.timed_out(), "nobody gave the signal");
        *permits -= 1;
    }
}
