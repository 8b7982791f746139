//! May this process act, and may it be sent new traffic? What all cores ask before each request, told by control.
//!
//! Never by what control knew a while ago: who may act until a moment is asked by his own clock, so that a process that slept through it
//! does nothing when it wakes.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use runtime::time::boot_time;

/// Where balancers ask how the process stands, on every listener for requests that is not internal.
pub(crate) const READINESS_PATH: &[u8] = b"/endpoint-health";

/// No end: every process of the node acts.
const ALWAYS: u64 = u64::MAX;

/// How the process stands among those of its node. All of its cores share one.
#[derive(Debug)]
pub struct Standing {
    /// Nanoseconds of [`boot_time`] until which it may act.
    acts_until: AtomicU64,
    is_draining: AtomicBool,
}

/// What a balancer in front is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Readiness {
    /// New traffic is welcome.
    Ready,
    /// It finishes what it has.
    Draining,
    /// Another process acts.
    Standby,
}

impl Default for Standing {
    /// Of a process that acts whatever others do.
    fn default() -> Self {
        Self { acts_until: AtomicU64::new(ALWAYS), is_draining: AtomicBool::new(false) }
    }
}

impl Standing {
    /// Whether it may act now.
    #[inline]
    #[must_use]
    pub fn may_act(&self) -> bool {
        match self.acts_until.load(Ordering::Relaxed) {
            ALWAYS => true,
            until => monotonic() < Duration::from_nanos(until),
        }
    }

    /// What a balancer in front is told.
    #[must_use]
    pub fn readiness(&self) -> Readiness {
        if self.is_draining.load(Ordering::Relaxed) {
            Readiness::Draining
        } else if self.may_act() {
            Readiness::Ready
        } else {
            Readiness::Standby
        }
    }

    /// It acts whatever others do.
    pub fn act_always(&self) {
        self.acts_until.store(ALWAYS, Ordering::Relaxed);
    }

    /// It acts until a moment of [`monotonic`]; with none, not at all.
    pub fn act_until(&self, until: Option<Duration>) {
        let nanos =
            until.map_or(0, |until| u64::try_from(until.as_nanos()).unwrap_or(ALWAYS).min(ALWAYS - 1));
        self.acts_until.store(nanos, Ordering::Relaxed);
    }

    /// It finishes what it has, and is to be sent nothing new.
    pub fn drain(&self) {
        self.is_draining.store(true, Ordering::Relaxed);
    }
}

/// The clock of leases: it never goes back, no jump of the wall's clock moves it, and it goes on while the machine sleeps.
#[must_use]
pub fn monotonic() -> Duration {
    Duration::from_nanos(boot_time().as_nanos())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_may_act_until_a_moment_stops_by_himself() {
        let standing = Standing::default();
        assert!(standing.may_act());
        standing.act_until(Some(monotonic() + Duration::from_secs(3_600)));
        assert_eq!(standing.readiness(), Readiness::Ready);
        standing.act_until(Some(monotonic()));
        assert!(!standing.may_act(), "nobody told it that the moment has come");
        standing.act_until(None);
        assert_eq!(standing.readiness(), Readiness::Standby);
        standing.act_always();
        assert_eq!(standing.readiness(), Readiness::Ready);
        standing.drain();
        assert_eq!(standing.readiness(), Readiness::Draining);
        assert!(standing.may_act(), "what still comes is answered");
    }
}
