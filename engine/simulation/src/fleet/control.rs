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
use proxy::message::CoreMessage;
use proxy::roster::keeper::Keeper;
use proxy::roster::member::{Source, State};
use runtime::Core;

use super::book::{Book, Listed};
use super::member::PROBE_TARGET;
use super::plan::{Change, Plan, Probes, address_of};
use crate::plan::Reading;
use crate::wire::{Reader, Writer};

const UPSTREAM: UpstreamId = UpstreamId(0);

/// Control, as far as endpoints are concerned.
pub(super) struct Control {
    core: Core,
    book: Rc<RefCell<Book>>,
    keeper: RefCell<Keeper>,
    fellows: Arc<[Fellow]>,
    probes: Probes,
}

impl Control {
    pub(super) fn new(
        core: Core,
        book: &Rc<RefCell<Book>>,
        keeper: Keeper,
        fellows: &Arc<[Fellow]>,
        plan: &Plan,
    ) -> Rc<Self> {
        let control = Self {
            core,
            book: Rc::clone(book),
            keeper: RefCell::new(keeper),
            fellows: Arc::clone(fellows),
            probes: plan.probes,
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
        let candidates =
            (0..listed.candidates.len() as u16).map(|index| number(&listed.candidate(index).name));
        let candidates = candidates.collect();
        let is_open = |member: &usize| {
            let name = address_of(*member).to_string();
            let found = listed.all.iter().find(|listed| *listed.name == *name);
            found.is_some_and(|found| found.state != State::Draining && found.weight > 0)
        };
        let closed = (0..members).filter(|member| !is_open(member)).collect();
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
            let _ = match (change, found) {
                (Change::IsAdded, _) => keeper
                    .add(UPSTREAM, &name, address.into(), EndpointTerms::default(), Source::Added)
                    .map(drop),
                (Change::IsRemoved, Some(id)) => keeper.remove(UPSTREAM, id),
                (Change::Drains, Some(id)) => keeper.drain(UPSTREAM, id, true),
                (Change::DrainsNoMore, Some(id)) => keeper.drain(UPSTREAM, id, false),
                (Change::Weighs(weight), Some(id)) => keeper.set_weight(UPSTREAM, id, weight),
                _ => Ok(()),
            };
        });
    }

    /// Looks at one member again and again.
    pub(super) async fn watch(self: Rc<Self>, member: usize) {
        let (mut good, mut bad, mut is_up) = (0_u8, 0_u8, true);
        while !self.book.borrow().control_ended {
            self.core.sleep(self.probes.interval).await;
            let Some(id) = self.keeper.borrow().find(UPSTREAM, &address_of(member).to_string()) else {
                (good, bad, is_up) = (0, 0, true);
                continue;
            };
            match self.probe(member).await {
                true => (good, bad) = (good.saturating_add(1), 0),
                false => (good, bad) = (0, bad.saturating_add(1)),
            }
            let was = is_up;
            is_up = if is_up { bad < self.probes.fall } else { good >= self.probes.rise };
            if was != is_up {
                self.change(|keeper| {
                    let _ = keeper.set_health(UPSTREAM, id, is_up);
                });
            }
        }
    }

    async fn probe(&self, member: usize) -> bool {
        let deadline = self.core.now() + self.probes.timeout;
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
