//! For how long is an endpoint left out that failed those who used it?
//!
//! Never for ever: who is ejected comes back when the time is over, and who stays well is forgiven step by step.

use std::time::Duration;

use crate::share::Share;

/// By which rules failures of traffic eject an endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EjectionTerms {
    /// Failures in a row that eject it.
    pub failures: u32,
    /// For how long the first time; each ejection that follows lasts twice as long.
    pub time: Duration,
    /// The longest ejection.
    pub time_max: Duration,
    /// At most this share of an upstream's endpoints is ejected at a time, rounded down.
    pub share_max: Share,
}

impl EjectionTerms {
    /// Whether one more of `members` may be ejected where `ejected` are already.
    #[must_use]
    pub fn has_room(&self, ejected: usize, members: usize) -> bool {
        (ejected as u64) < self.share_max.of(members as u64)
    }
}

/// What one endpoint has on its account.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Ejection {
    /// How often it was ejected, less what was forgiven.
    level: u32,
    phase: Phase,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Phase {
    /// Never ejected, or all is forgiven.
    #[default]
    Clear,
    /// Left out until then.
    Out { until: Duration },
    /// Back, and well since then.
    Probation { since: Duration },
}

impl Ejection {
    /// Ejects it; says until when. One that is out already stays so until its time.
    pub fn eject(&mut self, terms: &EjectionTerms, now: Duration) -> Duration {
        if let Phase::Out { until } = self.phase {
            return until;
        }
        self.forgive(terms, now);
        // Beyond this many doublings any time is above any maximum.
        let doublings = self.level.min(63);
        let nanos = terms.time.as_nanos().checked_shl(doublings).unwrap_or(u128::MAX);
        let nanos = nanos.min(terms.time_max.max(terms.time).as_nanos());
        let until = now.saturating_add(Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX)));
        self.level = self.level.saturating_add(1);
        self.phase = Phase::Out { until };
        until
    }

    /// When it may come back, if it is out.
    #[must_use]
    pub fn until(&self) -> Option<Duration> {
        match self.phase {
            Phase::Out { until } => Some(until),
            Phase::Clear | Phase::Probation { .. } => None,
        }
    }

    /// Lets it come back, its time over or not.
    pub fn bring_back(&mut self, now: Duration) {
        if let Phase::Out { .. } = self.phase {
            self.phase = Phase::Probation { since: now };
        }
    }

    /// One step is forgiven for each [`EjectionTerms::time`] that it has been back.
    fn forgive(&mut self, terms: &EjectionTerms, now: Duration) {
        let Phase::Probation { since } = self.phase else { return };
        let well = now.saturating_sub(since).as_nanos();
        let steps = well.checked_div(terms.time.as_nanos()).unwrap_or(u128::MAX);
        self.level = self.level.saturating_sub(u32::try_from(steps).unwrap_or(u32::MAX));
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const TERMS: EjectionTerms = EjectionTerms {
        failures: 5,
        time: Duration::from_secs(10),
        time_max: Duration::from_secs(60),
        share_max: Share::percent(50),
    };

    /// Each step is how long it was well before it is ejected once more, and how long it is out then, in seconds.
    #[track_caller]
    fn check(steps: &[(u64, u64)]) {
        let (mut ejection, mut now) = (Ejection::default(), Duration::from_secs(1_000));
        for (step, &(well, expected)) in steps.iter().enumerate() {
            now += Duration::from_secs(well);
            let until = ejection.eject(&TERMS, now);
            assert_eq!((until - now).as_secs(), expected, "step {step} of {steps:?}");
            assert_eq!(ejection.until(), Some(until));
            now = until;
            ejection.bring_back(now);
            assert_eq!(ejection.until(), None);
        }
    }

    #[test]
    fn each_ejection_is_twice_as_long_up_to_the_longest() {
        check(&[(0, 10), (1, 20), (1, 40), (1, 60), (1, 60)]);
    }

    #[test]
    fn who_stays_well_is_forgiven_step_by_step() {
        check(&[(0, 10), (0, 20), (10, 20), (20, 10), (1_000, 10)]);
        check(&[(0, 10), (9, 20), (9, 40), (1_000_000, 10), (0, 20)]);
    }

    #[test]
    fn who_is_out_is_not_ejected_again() {
        let mut ejection = Ejection::default();
        let until = ejection.eject(&TERMS, Duration::ZERO);
        assert_eq!(ejection.eject(&TERMS, Duration::from_secs(5)), until);
        ejection.bring_back(until);
        assert_eq!(ejection.eject(&TERMS, until) - until, Duration::from_secs(20), "counted once");
    }

    #[test]
    fn no_more_than_the_share_is_out() {
        for (members, room) in [(0, 0), (1, 0), (2, 1), (3, 1), (4, 2), (9, 4)] {
            let ejected = (0..=members).find(|ejected| !TERMS.has_room(*ejected, members));
            assert_eq!(ejected, Some(room), "of {members}");
        }
        let all = EjectionTerms { share_max: Share::ALL, ..TERMS };
        assert!(all.has_room(0, 1) && !all.has_room(1, 1));
    }

    proptest! {
        #[test]
        fn an_ejection_lasts_between_the_shortest_and_the_longest(
            wells in proptest::collection::vec(0_u64..1_000, 1..50),
        ) {
            let (mut ejection, mut now) = (Ejection::default(), Duration::ZERO);
            for well in wells {
                now += Duration::from_secs(well);
                let until = ejection.eject(&TERMS, now);
                prop_assert!(until - now >= TERMS.time && until - now <= TERMS.time_max);
                now = until;
                ejection.bring_back(now);
            }
        }
    }
}
