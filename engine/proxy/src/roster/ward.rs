//! What is known of one endpoint's health, and when is there something to do about it?
//!
//! Never writes the roster: what follows for others is the warden's.

use std::sync::Arc;
use std::time::Duration;

use config::snapshot::{EndpointId, Upstream};
use proto::health::check::{Check, CheckTerms};
use proto::health::ejection::Ejection;

use super::member::Member;

/// From one line about an endpoint to the next: what changes more often is counted, and told then.
const TOLD_EVERY: Duration = Duration::from_secs(10);

/// One endpoint, as probes and traffic have found it.
#[derive(Clone, Debug)]
pub struct Ward {
    pub(super) id: EndpointId,
    pub(super) generation: u32,
    pub(super) name: Arc<str>,
    pub(super) check: Check,
    pub(super) ejection: Ejection,
    /// Its ejection is over as soon as a probe finds it well.
    pub(super) awaits_probe: bool,
    pub(super) warming: Option<Warming>,
    pub(super) probing: Probing,
    pub(super) since: Duration,
    pub(super) cause: Option<Box<str>>,
    pub(super) last_probe: Option<LastProbe>,
    pub(super) telling: Telling,
}

/// On the way to its full weight.
#[derive(Clone, Copy, Debug)]
pub(super) struct Warming {
    pub(super) since: Duration,
    pub(super) next_step: Duration,
}

/// Where it stands with its probes.
#[derive(Clone, Copy, Debug)]
pub(super) enum Probing {
    /// Nobody asks it.
    Never,
    /// The next one is due then.
    Due(Duration),
    /// One is on its way.
    Underway,
}

/// What the last probe found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LastProbe {
    /// When it ended.
    pub at: Duration,
    /// How long it took.
    pub took: Duration,
    /// Whether all was well.
    pub is_good: bool,
}

/// How much has been said of it lately.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Telling {
    /// Nothing is said before.
    quiet_until: Duration,
    /// Changes that were not told.
    pub(super) untold: u32,
}

impl Telling {
    /// Whether a change may be told now; if not it is counted.
    pub(super) fn may_tell(&mut self, now: Duration) -> bool {
        if now < self.quiet_until {
            self.untold += 1;
            return false;
        }
        self.quiet_until = now + TOLD_EVERY;
        true
    }

    /// When changes that were not told may be.
    pub(super) fn due(&self) -> Option<Duration> {
        (self.untold > 0).then_some(self.quiet_until)
    }
}

impl Ward {
    pub(super) fn new(member: &Member, is_probed: bool, now: Duration) -> Self {
        Self {
            id: member.id,
            generation: member.generation,
            name: Arc::clone(&member.name),
            check: Check::new(),
            ejection: Ejection::default(),
            awaits_probe: false,
            warming: None,
            probing: if is_probed { Probing::Due(now) } else { Probing::Never },
            since: now,
            cause: None,
            last_probe: None,
            telling: Telling::default(),
        }
    }

    /// The same endpoint in another configuration, where it is `member`. What is found out no longer is forgotten.
    pub(super) fn next(&self, member: &Member, settings: &Upstream, now: Duration) -> Self {
        let mut next = Self { id: member.id, generation: member.generation, ..self.clone() };
        next.probing = match (&settings.health, self.probing) {
            (None, _) => Probing::Never,
            // Whoever made the probe that is underway no longer tells of it.
            (Some(_), Probing::Never | Probing::Underway) => Probing::Due(now),
            (Some(_), due @ Probing::Due(_)) => due,
        };
        if settings.health.is_none() {
            (next.check, next.awaits_probe, next.last_probe) = (Check::new(), false, None);
        }
        if settings.ejection.is_none() {
            (next.ejection, next.awaits_probe) = (Ejection::default(), false);
        }
        next.warming = next.warming.filter(|_| settings.slow_start.is_some());
        next
    }

    /// Since when it is as it is.
    #[must_use]
    pub fn since(&self) -> Duration {
        self.since
    }

    /// Why it is as it is, unless it always was.
    #[must_use]
    pub fn cause(&self) -> Option<&str> {
        self.cause.as_deref()
    }

    /// What the last probe found, if there was one.
    #[must_use]
    pub fn last_probe(&self) -> Option<LastProbe> {
        self.last_probe
    }

    /// Until when it is left out, if it is.
    #[must_use]
    pub fn ejected_until(&self) -> Option<Duration> {
        self.ejection.until()
    }

    /// Has it probed soon, because something was met that a probe can tell more of; not more often than one that is down.
    pub(super) fn hurry(&mut self, terms: &CheckTerms, now: Duration) {
        if let Probing::Due(due) = self.probing {
            let last = self.last_probe.map_or(Duration::ZERO, |last| last.at + terms.fast_interval);
            self.probing = Probing::Due(due.min(last.max(now)));
        }
    }

    /// When there is something to do next.
    pub(super) fn next_time(&self) -> Option<Duration> {
        let probe = match self.probing {
            Probing::Due(due) => Some(due),
            Probing::Never | Probing::Underway => None,
        };
        let step = self.warming.map(|warming| warming.next_step);
        let back = self.ejection.until().filter(|_| !self.awaits_probe);
        [probe, step, back, self.telling.due()].into_iter().flatten().min()
    }
}
