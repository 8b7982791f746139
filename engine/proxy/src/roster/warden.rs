//! What follows from what probes and cores say of endpoints? Who is down, ejected or warming up, and who is to be probed when.
//!
//! Never a socket, a clock or a die of its own: control, or a simulated network, makes the probes and says what time it is.

mod next;

use std::sync::Arc;
use std::time::Duration;

use config::Timespan;
use config::snapshot::{EndpointId, Snapshot, Upstream, UpstreamId};
use proto::health::check::Turn;
use proto::health::slow_start::SlowStartTerms;

use super::keeper::Keeper;
use super::member::{Member, Members, State};
use super::report::{REPORTS_MAX, Report};
use super::ward::{LastProbe, Probing, Telling, Ward, Warming};

/// Reports taken in a turn: as many as wait at a time. Those that come meanwhile are the next turn's.
const REPORTS_PER_TURN: usize = REPORTS_MAX;

/// Turns reports and outcomes of probes into what the keeper publishes.
#[derive(Debug)]
pub struct Warden {
    snapshot: Arc<Snapshot>,
    /// Upstreams of which anything is to be found out.
    watched: Arc<[UpstreamId]>,
    /// By upstream; nothing in those that nobody watches.
    watches: Box<[Watch]>,
    /// By slot.
    tallies: Box<[Tally]>,
}

/// One upstream's endpoints.
#[derive(Debug, Default)]
struct Watch {
    /// Of the list that [`Self::wards`] were last compared with.
    revision: Option<u64>,
    /// By slot, ascending.
    wards: Vec<Ward>,
    /// As last told.
    is_panic: bool,
    telling: Telling,
}

/// What has happened to a slot's occupants so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Probes that found all well.
    pub probes_good: u64,
    /// Probes that did not.
    pub probes_failed: u64,
    /// Times that one went down, by its probes.
    pub downs: u64,
    /// Times that one came up again, by its probes.
    pub ups: u64,
    /// Times that one was ejected.
    pub ejections: u64,
    /// Times that one was not ejected, because too many were already.
    pub ejections_refused: u64,
}

impl Tally {
    /// Adds what happened to others.
    pub fn add(&mut self, other: &Self) {
        let Self { probes_good, probes_failed, downs, ups, ejections, ejections_refused } = other;
        self.probes_good += probes_good;
        self.probes_failed += probes_failed;
        self.downs += downs;
        self.ups += ups;
        self.ejections += ejections;
        self.ejections_refused += ejections_refused;
    }
}

/// A probe that is due.
#[derive(Clone, Debug)]
pub struct Order {
    /// Whose endpoint.
    pub upstream: UpstreamId,
    /// Which.
    pub member: Member,
}

/// What came of a probe.
#[derive(Clone, Debug)]
pub struct Probed {
    /// Of whom.
    pub order: Order,
    /// All is well, or why it is not.
    pub outcome: Result<(), String>,
    /// From its beginning to its end.
    pub took: Duration,
}

/// With what, when, and to whom it is told.
struct Hand<'h> {
    keeper: &'h mut Keeper,
    now: Duration,
    events: &'h mut Vec<Event>,
}

/// How an endpoint is otherwise than it was.
struct Change<'c> {
    is_bad: bool,
    verb: &'c str,
    cause: Option<&'c str>,
    /// How often in a row that was so.
    row: String,
}

/// Something an operator wants to know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// Whose endpoints.
    pub upstream: UpstreamId,
    /// Whether something got worse.
    pub is_bad: bool,
    /// What happened to whom and why, and how many are left.
    pub text: String,
}

impl Warden {
    /// Knows nothing of anybody yet.
    #[must_use]
    pub fn new(snapshot: &Arc<Snapshot>) -> Self {
        let ids = (0..).map(UpstreamId).zip(&snapshot.upstreams);
        Self {
            snapshot: Arc::clone(snapshot),
            watched: ids.filter(|(_, upstream)| is_watched(upstream)).map(|(id, _)| id).collect(),
            watches: snapshot.upstreams.iter().map(|_| Watch::default()).collect(),
            tallies: (0..snapshot.slots_count).map(|_| Tally::default()).collect(),
        }
    }

    /// What is known of an endpoint, if anybody watches it.
    #[must_use]
    pub fn ward(&self, upstream: UpstreamId, endpoint: EndpointId) -> Option<&Ward> {
        self.watches[usize::from(upstream.0)].find(endpoint).map(|(_, ward)| ward)
    }

    /// What has happened to a slot's occupants so far.
    #[must_use]
    pub fn tally(&self, endpoint: EndpointId) -> &Tally {
        &self.tallies[usize::from(endpoint.0)]
    }

    /// Does what is due: takes the list as it is now and what cores report, ends ejections, lets weights grow. What an operator
    /// wants to know is added to `events`.
    pub fn turn(&mut self, keeper: &mut Keeper, now: Duration, events: &mut Vec<Event>) {
        let hand = &mut Hand { keeper, now, events };
        let watched = Arc::clone(&self.watched);
        for &id in &*watched {
            self.compare(id, hand);
        }
        for _ in 0..REPORTS_PER_TURN {
            let Some(report) = hand.keeper.roster().next_report() else { break };
            self.take(&report, hand);
        }
        for &id in &*watched {
            for index in 0..self.watches[usize::from(id.0)].wards.len() {
                self.end_ejection(id, index, hand);
                self.warm(id, index, hand);
                self.tell_later(id, index, hand);
            }
            self.tell_panic(id, hand);
        }
    }

    /// The next probe that is due, if there is one; its outcome must be brought to [`Self::probed`].
    pub fn next_probe(&mut self, keeper: &Keeper, now: Duration) -> Option<Order> {
        for &upstream in &*Arc::clone(&self.watched) {
            let is_due = |ward: &&mut Ward| matches!(ward.probing, Probing::Due(due) if due <= now);
            let Some(ward) = self.watches[usize::from(upstream.0)].wards.iter_mut().find(is_due) else {
                continue;
            };
            ward.probing = Probing::Underway;
            let members = keeper.roster().members(upstream);
            if let Some(member) = members.find(ward.id).filter(|member| member.generation == ward.generation)
            {
                return Some(Order { upstream, member: member.clone() });
            }
            // Gone since the lists were compared; the next comparison forgets it.
        }
        None
    }

    /// Takes back an order that could not be carried out for a reason that is not the endpoint's. Any `dice` will do.
    pub fn not_probed(&mut self, order: &Order, now: Duration, dice: u64) {
        let Some(health) = &settings(&self.snapshot, order.upstream).health else { return };
        let watch = &mut self.watches[usize::from(order.upstream.0)];
        let Some((_, ward)) = watch.find_mut(order.member.id) else { return };
        if ward.generation == order.member.generation {
            ward.probing = Probing::Due(now + ward.check.pause(&health.terms, dice));
        }
    }

    /// When [`Self::turn`] or [`Self::next_probe`] have something to do, if nothing is reported before.
    #[must_use]
    pub fn next_time(&self) -> Option<Duration> {
        self.watches.iter().flat_map(|watch| &watch.wards).filter_map(Ward::next_time).min()
    }

    /// Takes what came of a probe. Any `dice` will do.
    pub fn probed(
        &mut self,
        keeper: &mut Keeper,
        probed: &Probed,
        now: Duration,
        dice: u64,
        events: &mut Vec<Event>,
    ) {
        let Probed { order: Order { upstream: id, member }, outcome, took } = probed;
        let (id, hand) = (*id, &mut Hand { keeper, now, events });
        let snapshot = Arc::clone(&self.snapshot);
        let Some(health) = &settings(&snapshot, id).health else { return };
        let Some((index, ward)) = self.watches[usize::from(id.0)].find_mut(member.id) else { return };
        if ward.generation != member.generation {
            return;
        }
        let (is_good, is_first) = (outcome.is_ok(), ward.check.is_unknown());
        ward.last_probe = Some(LastProbe { at: now, took: *took, is_good });
        let turn = ward.check.take(&health.terms, is_good);
        ward.probing = Probing::Due(now + ward.check.pause(&health.terms, dice));
        let is_ejected = ward.ejection.until().is_some();
        let comes_back = is_good && ward.check.is_up() && ward.awaits_probe;
        let tally = &mut self.tallies[usize::from(member.id.0)];
        tally.probes_good += u64::from(is_good);
        tally.probes_failed += u64::from(!is_good);
        match turn {
            Some(Turn::Down) => {
                tally.downs += 1;
                // An endpoint that has gone in the meantime has nobody to tell.
                let _ = hand.keeper.set_health(id, member.id, false);
                self.cool(id, index, hand);
                let fall = if is_first { 1 } else { u32::from(health.terms.fall) };
                let cause = outcome.as_ref().err().map(String::as_str);
                let row = in_a_row(fall, "probe");
                self.changed(id, index, hand, &Change { is_bad: true, verb: "is down", cause, row });
            }
            Some(Turn::Up) => {
                tally.ups += 1;
                let _ = hand.keeper.set_health(id, member.id, true);
                let row = in_a_row(u32::from(health.terms.rise), "probe");
                if !is_ejected {
                    self.begin_warming(id, index, hand);
                    let change = Change { is_bad: false, verb: "is up", cause: Some("well"), row };
                    self.changed(id, index, hand, &change);
                } else if !comes_back {
                    let verb = "answers, and stays ejected";
                    let change = Change { is_bad: false, verb, cause: Some("well"), row };
                    self.changed(id, index, hand, &change);
                }
            }
            None => {}
        }
        if comes_back {
            self.bring_back(id, index, hand);
        }
        self.tell_panic(id, hand);
    }
}

/// The parts of a turn.
impl Warden {
    /// Takes in who has come, and forgets who has gone.
    fn compare(&mut self, id: UpstreamId, hand: &mut Hand<'_>) {
        let snapshot = Arc::clone(&self.snapshot);
        let settings = settings(&snapshot, id);
        let members = hand.keeper.roster().members(id);
        let watch = &mut self.watches[usize::from(id.0)];
        if watch.revision == Some(members.revision) {
            return;
        }
        let is_begin = watch.revision.is_none();
        // Both are in order of their slots.
        let mut former = std::mem::take(&mut watch.wards).into_iter().peekable();
        let mut come = Vec::new();
        for member in &members.all {
            while former.next_if(|ward| ward.id < member.id).is_some() {}
            let same = former.next_if(|ward| ward.id == member.id);
            let ward = same.filter(|ward| ward.generation == member.generation).unwrap_or_else(|| {
                come.push(watch.wards.len());
                Ward::new(member, settings.health.is_some(), hand.now)
            });
            watch.wards.push(ward);
        }
        // Those that the process begins with are as warm as it is itself.
        for index in come.into_iter().filter(|_| !is_begin) {
            self.begin_warming(id, index, hand);
        }
        self.watches[usize::from(id.0)].revision = Some(members.revision);
    }

    fn take(&mut self, report: &Report, hand: &mut Hand<'_>) {
        let snapshot = Arc::clone(&self.snapshot);
        let ids = (0..).map(UpstreamId).zip(&self.snapshot.upstreams);
        let holds = |upstream: &Upstream| {
            let slots = upstream.slots_first.0..upstream.slots_first.0 + upstream.slots_count;
            slots.contains(&report.endpoint.0)
        };
        let Some((id, _)) = { ids }.find(|(_, upstream)| holds(upstream)) else { return };
        let watch = &mut self.watches[usize::from(id.0)];
        let (members, ejected) = (watch.wards.len(), watch.ejected());
        let Some((index, ward)) = watch.find_mut(report.endpoint) else { return };
        if ward.generation != report.generation {
            return;
        }
        let settings = settings(&snapshot, id);
        if let Some(health) = &settings.health {
            ward.hurry(&health.terms, hand.now);
        }
        let Some(ejection) = &settings.ejection else { return };
        let terms = &ejection.terms;
        if report.failures < terms.failures || ward.ejection.until().is_some() {
            return;
        }
        let tally = &mut self.tallies[usize::from(report.endpoint.0)];
        if !terms.has_room(ejected, members) {
            tally.ejections_refused += 1;
            return;
        }
        tally.ejections += 1;
        let time = ward.ejection.eject(terms, hand.now).saturating_sub(hand.now);
        let _ = hand.keeper.eject(id, report.endpoint, true);
        self.cool(id, index, hand);
        let row = in_a_row(report.failures, "failure");
        let (verb, cause) = (format!("is ejected for {}", as_written(time)), report.failure.to_string());
        let change = Change { is_bad: true, verb: &verb, cause: Some(&cause), row };
        self.changed(id, index, hand, &change);
    }

    fn end_ejection(&mut self, id: UpstreamId, index: usize, hand: &mut Hand<'_>) {
        let snapshot = Arc::clone(&self.snapshot);
        let ward = self.ward_at(id, index);
        if ward.awaits_probe || ward.ejection.until().is_none_or(|until| hand.now < until) {
            return;
        }
        match &settings(&snapshot, id).health {
            // It has failed those who trusted it: a probe goes first.
            Some(health) => {
                ward.awaits_probe = true;
                ward.hurry(&health.terms, hand.now);
            }
            None => self.bring_back(id, index, hand),
        }
    }

    fn bring_back(&mut self, id: UpstreamId, index: usize, hand: &mut Hand<'_>) {
        let ward = self.ward_at(id, index);
        ward.awaits_probe = false;
        ward.ejection.bring_back(hand.now);
        let endpoint = ward.id;
        let _ = hand.keeper.eject(id, endpoint, false);
        self.begin_warming(id, index, hand);
        let change =
            Change { is_bad: false, verb: "is back after its ejection", cause: None, row: String::new() };
        self.changed(id, index, hand, &change);
    }

    fn begin_warming(&mut self, id: UpstreamId, index: usize, hand: &mut Hand<'_>) {
        let Some(terms) = self.slow_start(id) else { return };
        let ward = self.ward_at(id, index);
        ward.warming = Some(Warming { since: hand.now, next_step: hand.now + terms.step() });
        let _ = hand.keeper.warm(id, ward.id, Some((terms, Duration::ZERO)));
    }

    /// Lets a weight grow by a step, if that is due.
    fn warm(&mut self, id: UpstreamId, index: usize, hand: &mut Hand<'_>) {
        let Some(terms) = self.slow_start(id) else { return };
        let ward = self.ward_at(id, index);
        let Some(Warming { since, .. }) = ward.warming.filter(|warming| warming.next_step <= hand.now) else {
            return;
        };
        let passed = hand.now.saturating_sub(since);
        ward.warming = (passed < terms.time).then(|| Warming { since, next_step: hand.now + terms.step() });
        let _ = hand.keeper.warm(id, ward.id, ward.warming.map(|_| (terms, passed)));
    }

    /// Ends what [`Self::begin_warming`] began, because it is out again.
    fn cool(&mut self, id: UpstreamId, index: usize, hand: &mut Hand<'_>) {
        let ward = self.ward_at(id, index);
        if ward.warming.take().is_some() {
            let _ = hand.keeper.warm(id, ward.id, None);
        }
    }

    fn slow_start(&self, id: UpstreamId) -> Option<SlowStartTerms> {
        settings(&self.snapshot, id).slow_start
    }

    fn ward_at(&mut self, id: UpstreamId, index: usize) -> &mut Ward {
        &mut self.watches[usize::from(id.0)].wards[index]
    }
}

/// What is said of it.
impl Warden {
    /// Notes that an endpoint is otherwise than it was, and tells of it unless too much was told of it lately.
    fn changed(&mut self, id: UpstreamId, index: usize, hand: &mut Hand<'_>, change: &Change<'_>) {
        let Change { is_bad, verb, cause, row } = change;
        let left = left(&hand.keeper.roster().members(id), *is_bad);
        let snapshot = Arc::clone(&self.snapshot);
        let ward = self.ward_at(id, index);
        ward.since = hand.now;
        if ward.telling.may_tell(hand.now) {
            let upstream = &settings(&snapshot, id).name;
            let cause = cause.map(|cause| format!(": {cause}")).unwrap_or_default();
            let text = format!("upstream.{upstream} endpoint {} {verb}{cause}{row}; {left}", ward.name);
            hand.events.push(Event { upstream: id, is_bad: *is_bad, text });
        }
        ward.cause = Some(format!("{}{row}", cause.unwrap_or(verb)).into());
    }

    /// Tells how an endpoint is that changed more often than was told.
    fn tell_later(&mut self, id: UpstreamId, index: usize, hand: &mut Hand<'_>) {
        let upstream = settings(&self.snapshot, id).name.clone();
        let ward = self.ward_at(id, index);
        if ward.telling.due().is_none_or(|due| hand.now < due) {
            return;
        }
        let untold = std::mem::take(&mut ward.telling.untold);
        let _ = ward.telling.may_tell(hand.now);
        let members = hand.keeper.roster().members(id);
        let Some(member) = members.find(ward.id) else { return };
        let (is_bad, state) = (member.state != State::Up, member.state.name());
        let changes = if untold == 1 { "change" } else { "changes" };
        let cause = ward.cause.as_deref().map(|cause| format!(": {cause}")).unwrap_or_default();
        let text = format!(
            "upstream.{upstream} endpoint {} is {state}{cause}; {untold} {changes} not told; {}",
            ward.name,
            left(&members, is_bad)
        );
        hand.events.push(Event { upstream: id, is_bad, text });
    }

    fn tell_panic(&mut self, id: UpstreamId, hand: &mut Hand<'_>) {
        let members = hand.keeper.roster().members(id);
        let watch = &mut self.watches[usize::from(id.0)];
        if watch.is_panic == members.is_panic || !watch.telling.may_tell(hand.now) {
            return;
        }
        watch.is_panic = members.is_panic;
        let upstream = &settings(&self.snapshot, id).name;
        let what = if members.is_panic {
            "so few endpoints are up that all get traffic (panic_threshold)"
        } else {
            "enough endpoints are up: only those get traffic"
        };
        let text = format!("upstream.{upstream}: {what}; {}", left(&members, members.is_panic));
        hand.events.push(Event { upstream: id, is_bad: members.is_panic, text });
    }
}

impl Watch {
    fn find(&self, endpoint: EndpointId) -> Option<(usize, &Ward)> {
        let index = self.wards.binary_search_by_key(&endpoint, |ward| ward.id).ok()?;
        Some((index, &self.wards[index]))
    }

    fn find_mut(&mut self, endpoint: EndpointId) -> Option<(usize, &mut Ward)> {
        let index = self.wards.binary_search_by_key(&endpoint, |ward| ward.id).ok()?;
        Some((index, &mut self.wards[index]))
    }

    fn ejected(&self) -> usize {
        self.wards.iter().filter(|ward| ward.ejection.until().is_some()).count()
    }
}

fn settings(snapshot: &Snapshot, id: UpstreamId) -> &Upstream {
    &snapshot.upstreams[usize::from(id.0)]
}

fn is_watched(upstream: &Upstream) -> bool {
    upstream.health.is_some() || upstream.ejection.is_some() || upstream.slow_start.is_some()
}

/// How many of those that could be used can be.
fn left(members: &Members, is_bad: bool) -> String {
    let wanted = || members.all.iter().filter(|member| member.weight > 0 && member.state != State::Draining);
    let up = wanted().filter(|member| member.state == State::Up).count();
    let word = if is_bad { "left" } else { "up" };
    format!("{up} of {} {word}", wanted().count())
}

/// A time as the configuration has it, whole milliseconds of it.
fn as_written(time: Duration) -> Timespan {
    Timespan::from_millis(u64::try_from(time.as_millis()).unwrap_or(u64::MAX / 1_000))
}

/// Such as " (3 failures in a row)".
fn in_a_row(count: impl Into<u32>, what: &str) -> String {
    match count.into() {
        1 => format!(" (1 {what})"),
        count => format!(" ({count} {what}s in a row)"),
    }
}

#[cfg(test)]
mod tests;
