//! Who keeps the roster while a fleet is played? The keeper that the engine has, told by probes over the simulated network and by
//! somebody who adds, drains and removes.
//!
//! Never decides what the engine's own code decides: it only carries its questions and answers.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use config::snapshot::{EndpointTerms, UpstreamId};
use proxy::Fellow;
use proxy::generation::Generation;
use proxy::message::CoreMessage;
use proxy::roster::keeper::Keeper;
use proxy::roster::member::Source;
use proxy::roster::warden::{self as told, Order, Probed, Warden};
use runtime::Core;

use super::book::{Book, Listed};
use super::member::PROBE_TARGET;
use super::plan::{Change, Plan, address_of};
use crate::plan::Reading;
use crate::wire::{Reader, Writer};

const UPSTREAM: UpstreamId = UpstreamId(0);
/// How long a report may wait to be heard.
const GLANCE: Duration = Duration::from_millis(100);
/// What is to be told in a sweep, by a word of it.
const TOLD: [(&str, &str); 5] = [
    (" is down", "control.down"),
    (" is up", "control.up"),
    (" is ejected", "control.ejected"),
    (" back after its ejection", "control.back"),
    ("panic_threshold", "control.panic"),
];

/// Control, as far as endpoints are concerned.
pub(super) struct Control {
    core: Core,
    book: Rc<RefCell<Book>>,
    keeper: RefCell<Keeper>,
    fellows: Arc<[Fellow]>,
    generation: Arc<Generation>,
    warden: RefCell<Warden>,
    /// Of those that are added.
    terms: EndpointTerms,
    /// By member: what somebody has asked for, if it is to be on the list.
    wishes: RefCell<Vec<Option<Wish>>>,
}

/// How a member is to be.
#[derive(Clone, Copy, Debug, Default)]
struct Wish {
    is_draining: bool,
    is_quiesced: bool,
}

impl Control {
    pub(super) fn new(
        core: Core,
        book: &Rc<RefCell<Book>>,
        keeper: Keeper,
        fellows: &Arc<[Fellow]>,
        generation: &Arc<Generation>,
        plan: &Plan,
    ) -> Rc<Self> {
        let control = Self {
            core,
            book: Rc::clone(book),
            keeper: RefCell::new(keeper),
            fellows: Arc::clone(fellows),
            generation: Arc::clone(generation),
            terms: EndpointTerms {
                connections_max: plan.limits.connections_max,
                connections_min: plan.limits.connections_min,
                ..EndpointTerms::default()
            },
            warden: RefCell::new(Warden::new(&generation.snapshot)),
            wishes: RefCell::new(
                (0..plan.members).map(|member| (member < plan.written).then(Wish::default)).collect(),
            ),
        };
        control.note_list(plan.members);
        Rc::new(control)
    }

    /// Changes the roster, and tells the cores to look.
    fn change(&self, change: impl FnOnce(&mut Keeper)) {
        change(&mut self.keeper.borrow_mut());
        for fellow in self.fellows.iter() {
            let look = CoreMessage::Look { generation: self.generation.number, upstream: UPSTREAM };
            let _ = fellow.sender.send(look);
        }
        let members = self.book.borrow().members;
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
        let is_closed = |wish: &Option<Wish>| wish.is_none_or(|wish| wish.is_draining || wish.is_quiesced);
        let wishes = self.wishes.borrow();
        let closed = (0..members).filter(|member| is_closed(&wishes[*member])).collect();
        let mut book = self.book.borrow_mut();
        let list = Listed { from: self.core.now(), candidates, closed };
        book.note(|| format!("{:>12.6}  control: {list:?}", book.seconds(list.from)));
        book.lists.push(list);
    }

    /// What somebody asks for; a mistake of theirs is refused.
    pub(super) fn manage(&self, member: usize, change: Change) {
        let address = address_of(member);
        let name = address.to_string();
        self.change(|keeper| {
            let found = keeper.find(UPSTREAM, &name);
            let mut wishes = self.wishes.borrow_mut();
            let wish = &mut wishes[member];
            let done = match (change, found) {
                (Change::IsAdded, _) => {
                    wish.get_or_insert_default();
                    let added =
                        keeper.add(UPSTREAM, &name, address.into(), self.terms.clone(), Source::Added);
                    added.map(drop)
                }
                (Change::IsRemoved, Some(id)) => {
                    *wish = None;
                    keeper.remove(UPSTREAM, id)
                }
                (Change::Drains | Change::DrainsNoMore, Some(id)) => {
                    let is_draining = change == Change::Drains;
                    wish.get_or_insert_default().is_draining = is_draining;
                    keeper.drain(UPSTREAM, id, is_draining)
                }
                (Change::Weighs(weight), Some(id)) => {
                    wish.get_or_insert_default().is_quiesced = weight == 0;
                    keeper.set_weight(UPSTREAM, id, weight)
                }
                _ => Ok(()),
            };
            // Who is on the list already stays as it is.
            drop(done);
        });
    }

    /// Lets the warden do what is due, as long as the fleet is played.
    pub(super) async fn work(self: Rc<Self>) {
        while !self.book.borrow().control_ended {
            let now = self.now();
            self.with_warden(|warden, keeper, events| warden.turn(keeper, now, events));
            loop {
                let order = self.warden.borrow_mut().next_probe(&self.keeper.borrow(), now);
                let Some(order) = order else { break };
                let control = Rc::clone(&self);
                self.core.spawn(async move { control.carry_out(order).await });
            }
            self.core.sleep(GLANCE).await;
        }
    }

    async fn carry_out(&self, order: Order) {
        let Some(timeout) =
            self.generation.snapshot.upstreams[0].health.as_ref().map(|health| health.timeout)
        else {
            return;
        };
        let began = self.now();
        let members = self.book.borrow().members;
        let name = order.member.name.to_string();
        let member =
            (0..members).find(|member| address_of(*member).to_string() == name).expect("one of ours");
        let is_well = self.probe(member, timeout).await;
        let outcome = if is_well { Ok(()) } else { Err("it is not".to_owned()) };
        let now = self.now();
        let (probed, dice) = (Probed { order, outcome, took: now.saturating_sub(began) }, self.core.random());
        self.with_warden(|warden, keeper, events| warden.probed(keeper, &probed, now, dice, events));
    }

    /// Lets the warden change the roster, and tells the cores to look if it did.
    fn with_warden(&self, act: impl FnOnce(&mut Warden, &mut Keeper, &mut Vec<told::Event>)) {
        let revision = |keeper: &Keeper| keeper.roster().members(UPSTREAM).revision;
        let mut events = Vec::new();
        let has_changed = {
            let (mut warden, mut keeper) = (self.warden.borrow_mut(), self.keeper.borrow_mut());
            let before = revision(&keeper);
            act(&mut warden, &mut keeper, &mut events);
            revision(&keeper) != before
        };
        for event in events {
            self.book.borrow_mut().note(|| format!("control: {}", event.text));
            for (word, what) in TOLD {
                if event.text.contains(word) {
                    self.book.borrow_mut().met(what);
                }
            }
        }
        if has_changed {
            self.change(|_| {});
        }
    }

    fn now(&self) -> Duration {
        Duration::from_nanos(self.core.now().as_nanos())
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
