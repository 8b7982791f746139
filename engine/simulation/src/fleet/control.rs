//! Who keeps the roster while a fleet is played? The keeper that the engine has, told by probes over the simulated network and by
//! somebody who adds, drains and removes.
//!
//! Never decides what the engine's own code decides: it only carries its questions and answers.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use config::snapshot::{EndpointId, EndpointTerms, Snapshot, Upstream, UpstreamId};
use proto::health::check::{Check, Turn};
use proto::health::ejection::Ejection;
use proxy::Fellow;
use proxy::message::CoreMessage;
use proxy::roster::keeper::Keeper;
use proxy::roster::member::{Source, State};
use proxy::roster::report::Report;
use runtime::Core;

use super::book::{Book, Listed};
use super::member::PROBE_TARGET;
use super::plan::{Change, Plan, address_of};
use crate::plan::Reading;
use crate::wire::{Reader, Writer};

const UPSTREAM: UpstreamId = UpstreamId(0);
/// How long a report may wait to be heard.
const GLANCE: Duration = Duration::from_millis(100);
/// Steps of a slow start.
const WARMING_STEPS: u32 = 10;

/// Control, as far as endpoints are concerned.
pub(super) struct Control {
    core: Core,
    book: Rc<RefCell<Book>>,
    keeper: RefCell<Keeper>,
    fellows: Arc<[Fellow]>,
    snapshot: Arc<Snapshot>,
    /// Members that a core has had trouble with.
    suspects: RefCell<BTreeSet<usize>>,
}

impl Control {
    pub(super) fn new(
        core: Core,
        book: &Rc<RefCell<Book>>,
        keeper: Keeper,
        fellows: &Arc<[Fellow]>,
        snapshot: &Arc<Snapshot>,
        plan: &Plan,
    ) -> Rc<Self> {
        let control = Self {
            core,
            book: Rc::clone(book),
            keeper: RefCell::new(keeper),
            fellows: Arc::clone(fellows),
            snapshot: Arc::clone(snapshot),
            suspects: RefCell::default(),
        };
        control.note_list(plan.members);
        Rc::new(control)
    }

    /// Changes the roster, and tells the cores to look.
    fn change(&self, change: impl FnOnce(&mut Keeper)) {
        change(&mut self.keeper.borrow_mut());
        for fellow in self.fellows.iter() {
            let _ = fellow.sender.send(CoreMessage::Look { upstream: UPSTREAM });
        }
        let members = self.book.borrow().open.len();
        self.note_list(members);
    }

    /// Writes down who may be used from now on.
    fn note_list(&self, members: usize) {
        let listed = self.keeper.borrow().roster().members(UPSTREAM);
        let number = |name: &str| {
            (0..members).find(|member| address_of(*member).to_string() == name).expect("one of ours")
        };
        let candidates = 0..listed.candidates.len() as u16;
        let candidates = candidates.map(|index| number(&listed.candidate(index).name)).collect();
        let mut book = self.book.borrow_mut();
        let list = Listed { from: self.core.now(), candidates };
        book.note(|| format!("{:>12.6}  control: {list:?}", book.seconds(list.from)));
        if listed.is_panic {
            book.met("control.panics");
        }
        book.lists.push(list);
    }

    /// What somebody asks for; a mistake of theirs is refused.
    pub(super) fn manage(&self, member: usize, change: Change) {
        let address = address_of(member);
        let name = address.to_string();
        self.change(|keeper| {
            let found = keeper.find(UPSTREAM, &name);
            let done = match (change, found) {
                (Change::IsAdded, _) => keeper
                    .add(UPSTREAM, &name, address.into(), EndpointTerms::default(), Source::Added)
                    .map(drop),
                (Change::IsRemoved, Some(id)) => keeper.remove(UPSTREAM, id),
                (Change::Drains, Some(id)) => keeper.drain(UPSTREAM, id, true),
                (Change::DrainsNoMore, Some(id)) => keeper.drain(UPSTREAM, id, false),
                (Change::Weighs(weight), Some(id)) => keeper.set_weight(UPSTREAM, id, weight),
                _ => Ok(()),
            };
            drop(done);
        });
    }

    /// Looks at one member again and again, sooner when the cores have met something.
    pub(super) async fn watch(self: Rc<Self>, member: usize) {
        let Some(health) = self.upstream().health.as_ref() else { return };
        let mut check = Check::new();
        let mut seen = None;
        while !self.book.borrow().control_ended {
            let until = self.core.now() + check.pause(&health.terms, self.core.random());
            while self.core.now() < until && !self.suspects.borrow_mut().remove(&member) {
                self.core.sleep(GLANCE.min(until.since(self.core.now()))).await;
            }
            let Some(id) = self.find(member) else {
                seen = None;
                continue;
            };
            // Whoever is new to the list is looked at anew.
            let members = self.keeper.borrow().roster().members(UPSTREAM);
            let occupant = members.find(id).map(|found| found.generation);
            if occupant != seen {
                (check, seen) = (Check::new(), occupant);
            }
            let is_good = self.probe(member, health.timeout).await;
            match check.take(&health.terms, is_good) {
                Some(Turn::Up) => {
                    self.change(|keeper| drop(keeper.set_health(UPSTREAM, id, true)));
                    self.warm_up(id);
                }
                Some(Turn::Down) => self.change(|keeper| drop(keeper.set_health(UPSTREAM, id, false))),
                None => {}
            }
        }
    }

    /// Hears what the cores report, and lets whoever was ejected come back when the time is over.
    pub(super) async fn hear(self: Rc<Self>) {
        let mut ejections: BTreeMap<EndpointId, (u32, Ejection)> = BTreeMap::new();
        while !self.book.borrow().control_ended {
            self.core.sleep(GLANCE).await;
            let now = Duration::from_nanos(self.core.now().as_nanos());
            for (id, (_, ejection)) in &mut ejections {
                if ejection.until().is_some_and(|until| until <= now) {
                    ejection.bring_back(now);
                    self.change(|keeper| drop(keeper.eject(UPSTREAM, *id, false)));
                    self.warm_up(*id);
                }
            }
            let roster = Arc::clone(self.keeper.borrow().roster());
            while let Some(report) = roster.next_report() {
                self.consider(&report, &mut ejections, now);
            }
        }
    }

    fn consider(
        &self,
        report: &Report,
        ejections: &mut BTreeMap<EndpointId, (u32, Ejection)>,
        now: Duration,
    ) {
        let members = self.keeper.borrow().roster().members(UPSTREAM);
        let found = members.find(report.endpoint).filter(|found| found.generation == report.generation);
        let Some(found) = found else { return };
        self.suspects.borrow_mut().insert(self.number_of(&found.name));
        let Some(terms) = self.upstream().ejection.as_ref().map(|ejection| ejection.terms) else { return };
        if report.failures < terms.failures || found.state == State::Ejected {
            return;
        }
        let ejected = members.all.iter().filter(|member| member.state == State::Ejected).count();
        let has_room = terms.has_room(ejected, members.all.len());
        self.book.borrow_mut().met(if has_room { "control.ejects" } else { "control.spares" });
        if has_room {
            let (generation, ejection) = ejections.entry(report.endpoint).or_default();
            if *generation != report.generation {
                (*generation, *ejection) = (report.generation, Ejection::default());
            }
            ejection.eject(&terms, now);
            self.change(|keeper| drop(keeper.eject(UPSTREAM, report.endpoint, true)));
        }
    }

    /// Gives an endpoint that has come up its weight step by step.
    fn warm_up(self: &Rc<Self>, id: EndpointId) {
        let Some(terms) = self.upstream().slow_start else { return };
        let control = Rc::clone(self);
        self.core.spawn(async move {
            for step in 0..WARMING_STEPS {
                let since = terms.time * step / WARMING_STEPS;
                control.change(|keeper| drop(keeper.warm(UPSTREAM, id, Some((terms, since)))));
                control.core.sleep(terms.time / WARMING_STEPS).await;
            }
            control.change(|keeper| drop(keeper.warm(UPSTREAM, id, None)));
        });
    }

    fn upstream(&self) -> &Upstream {
        &self.snapshot.upstreams[0]
    }

    fn find(&self, member: usize) -> Option<EndpointId> {
        self.keeper.borrow().find(UPSTREAM, &address_of(member).to_string())
    }

    fn number_of(&self, name: &str) -> usize {
        let members = self.book.borrow().open.len();
        (0..members).find(|member| address_of(*member).to_string() == name).expect("one of ours")
    }

    async fn probe(&self, member: usize, timeout: Duration) -> bool {
        let deadline = self.core.now() + timeout;
        let Ok(stream) = self.core.connect(address_of(member), deadline).await else { return false };
        let stream = Rc::new(stream);
        let patience = deadline.since(self.core.now()).max(Duration::from_millis(1));
        let mut writer = Writer::new(&self.core, &stream, patience);
        let text = format!("GET {PROBE_TARGET} HTTP/1.1\r\nHost: probe\r\n\r\n");
        if writer.send_now(text.as_bytes()).await.is_err() {
            return false;
        }
        let mut reader = Reader::new(&self.core, &stream, patience, Reading::Prompt);
        matches!(reader.head().await, Ok(Some(head)) if head.start.contains(" 200 "))
    }
}
