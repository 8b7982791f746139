//! Who writes the roster? One hand: it knows what was written, added, found out and measured, and publishes what follows.
//!
//! Never a clock, never a socket: control, or a simulated network, asks and says what came of it. Never two of them for one roster.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use config::snapshot::balance::PersistenceRule;
use config::snapshot::{
    Endpoint, EndpointAddress, EndpointId, EndpointTerms, Snapshot, Upstream, UpstreamId,
};
use proto::health::panic::is_panic;
use proto::health::slow_start::SlowStartTerms;
use proto::share::Share;

use super::guide::Guide;
use super::member::{Member, Members, Source, State, WEIGHT_ONE, server_name_of};
use super::{Roster, Same};
use crate::address::Address;

/// Writes the roster.
#[derive(Debug)]
pub struct Keeper {
    roster: Arc<Roster>,
    upstreams: Box<[Book]>,
}

/// What is known of one upstream.
#[derive(Debug)]
struct Book {
    /// Name of the upstream, and what is written of it.
    upstream: Box<str>,
    written: Box<[Endpoint]>,
    persistence: Option<PersistenceRule>,
    slots_first: EndpointId,
    /// With less than this share of them up, all get traffic.
    panic_threshold: Option<Share>,
    /// By slot.
    slots: Box<[Slot]>,
}

/// What is known of a slot: whoever has it, or had it last.
#[derive(Debug, Default)]
struct Slot {
    occupant: Option<Occupant>,
    /// Who had it last, so that it gets its statistics back.
    former: Option<Arc<str>>,
    generation: u32,
}

/// What is known of an endpoint.
#[derive(Clone, Debug)]
struct Occupant {
    name: Arc<str>,
    address: Address,
    /// The host that has the address, where a name was resolved.
    host: Option<Arc<str>>,
    terms: EndpointTerms,
    source: Source,
    is_draining: bool,
    is_down: bool,
    is_ejected: bool,
    /// How long it has been coming up to its full weight, and by which terms.
    warming: Option<(SlowStartTerms, Duration)>,
}

/// Why the roster is as it was.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KeeperError {
    /// Every slot is taken.
    Full {
        /// How many there are.
        slots: u16,
    },
    /// The upstream has an endpoint of this name.
    Exists(EndpointId),
    /// Nobody is in the slot.
    Vacant,
}

impl std::error::Error for KeeperError {}

impl fmt::Display for KeeperError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Full { slots } => {
                write!(f, "there are {slots} endpoints, and `endpoints_max` allows no more")
            }
            Self::Exists(_) => f.write_str("there is an endpoint of this name already"),
            Self::Vacant => f.write_str("there is no such endpoint"),
        }
    }
}

impl Keeper {
    /// A roster with the endpoints that are written; `address_of` knows where the process's own listeners are.
    #[must_use]
    pub fn new(snapshot: &Snapshot, address_of: impl Fn(&EndpointAddress) -> Address) -> Self {
        let upstreams = snapshot.upstreams.iter().map(Book::new).collect();
        let mut keeper = Self { roster: Roster::new(snapshot), upstreams };
        for (id, upstream) in (0..).map(UpstreamId).zip(&snapshot.upstreams) {
            let book = &mut keeper.upstreams[usize::from(id.0)];
            for (slot, endpoint) in book.slots.iter_mut().zip(&upstream.endpoints) {
                slot.occupy(Occupant::written(endpoint, address_of(&endpoint.address)));
            }
            keeper.publish(id);
        }
        keeper
    }

    /// Who the endpoints are in the next generation: those that are written, and whoever has joined upstreams that keep their
    /// name. Who keeps his name there stays in his slot, is as well as he was, and has the connections that he had; what was
    /// changed by hand stays so unless what is written of it has changed. To be asked for last, when nothing can fail any more:
    /// cores that have yet to take the generation up see of it who has gone.
    #[must_use]
    pub fn next(&self, snapshot: &Snapshot, address_of: impl Fn(&EndpointAddress) -> Address) -> Self {
        let mut seats = vec![None; usize::from(snapshot.slots_count)];
        let mut upstreams = Vec::new();
        for upstream in &snapshot.upstreams {
            let mut book = Book::new(upstream);
            if let Some(former) = self.upstreams.iter().find(|book| *book.upstream == *upstream.name) {
                book.go_on(former, upstream, &address_of, &mut seats);
            } else {
                for endpoint in &upstream.endpoints {
                    book.enter(Occupant::written(endpoint, address_of(&endpoint.address)));
                }
            }
            upstreams.push(book);
        }
        let same = |upstream: &Upstream| {
            let index = self.upstreams.iter().position(|book| *book.upstream == *upstream.name)?;
            let has_sessions = self.upstreams[index].persistence == upstream.persistence;
            Some(Same { id: UpstreamId(index as u16), has_sessions })
        };
        let roster = Roster::next(&self.roster, snapshot, same, |slot| seats[usize::from(slot.0)]);
        let keeper = Self { roster, upstreams: upstreams.into() };
        (0..snapshot.upstreams.len() as u16).map(UpstreamId).for_each(|id| keeper.publish(id));
        keeper
    }

    /// What this hand writes.
    #[must_use]
    pub fn roster(&self) -> &Arc<Roster> {
        &self.roster
    }

    /// Adds an endpoint.
    ///
    /// # Errors
    /// [`KeeperError::Full`], or [`KeeperError::Exists`] for a name that the upstream has.
    pub fn add(
        &mut self,
        upstream: UpstreamId,
        name: &str,
        address: Address,
        terms: EndpointTerms,
        source: Source,
    ) -> Result<EndpointId, KeeperError> {
        self.add_host(upstream, name, address, None, terms, source)
    }

    /// Adds an endpoint that was found as an address of `host`, which is who it must prove to be.
    ///
    /// # Errors
    /// Those of [`Self::add`].
    pub fn add_host(
        &mut self,
        upstream: UpstreamId,
        name: &str,
        address: Address,
        host: Option<Arc<str>>,
        terms: EndpointTerms,
        source: Source,
    ) -> Result<EndpointId, KeeperError> {
        let book = self.book(upstream);
        if let Some(id) = book.find(name) {
            return Err(KeeperError::Exists(id));
        }
        let index = book.vacancy(name).ok_or(KeeperError::Full { slots: book.slots.len() as u16 })?;
        let id = EndpointId(book.slots_first.0 + index as u16);
        book.slots[index].occupy(Occupant {
            name: name.into(),
            address,
            host,
            terms,
            source,
            is_draining: false,
            is_down: false,
            is_ejected: false,
            warming: None,
        });
        self.publish(upstream);
        Ok(id)
    }

    /// The endpoint of this name.
    #[must_use]
    pub fn find(&self, upstream: UpstreamId, name: &str) -> Option<EndpointId> {
        self.upstreams[usize::from(upstream.0)].find(name)
    }

    /// The endpoint at this address.
    #[must_use]
    pub fn find_at(&self, upstream: UpstreamId, address: &Address) -> Option<EndpointId> {
        let book = &self.upstreams[usize::from(upstream.0)];
        let is_there =
            |slot: &Slot| slot.occupant.as_ref().is_some_and(|occupant| occupant.address == *address);
        book.ids().zip(&book.slots).find(|(_, slot)| is_there(slot)).map(|(id, _)| id)
    }

    /// What share an endpoint is to get, whatever it gets just now.
    #[must_use]
    pub fn terms(&self, upstream: UpstreamId, id: EndpointId) -> Option<&EndpointTerms> {
        let book = &self.upstreams[usize::from(upstream.0)];
        let slot = book.slots.get(usize::from(id.0.checked_sub(book.slots_first.0)?))?;
        slot.occupant.as_ref().map(|occupant| &occupant.terms)
    }

    /// Changes what share an endpoint gets, and when.
    ///
    /// # Errors
    /// [`KeeperError::Vacant`].
    pub fn set_terms(
        &mut self,
        upstream: UpstreamId,
        id: EndpointId,
        terms: EndpointTerms,
    ) -> Result<(), KeeperError> {
        self.change(upstream, id, |occupant| occupant.terms = terms)
    }

    /// Removes an endpoint: it gets nothing new, and no connection to it is kept. Exchanges in flight go on.
    ///
    /// # Errors
    /// [`KeeperError::Vacant`].
    pub fn remove(&mut self, upstream: UpstreamId, endpoint: EndpointId) -> Result<(), KeeperError> {
        let slot = self.book(upstream).slot(endpoint).ok_or(KeeperError::Vacant)?;
        slot.former = slot.occupant.take().map(|occupant| occupant.name);
        slot.former.as_ref().ok_or(KeeperError::Vacant)?;
        self.publish(upstream);
        Ok(())
    }

    /// Says that an endpoint is to finish what it has begun, or may get new exchanges again.
    ///
    /// # Errors
    /// [`KeeperError::Vacant`].
    pub fn drain(
        &mut self,
        upstream: UpstreamId,
        id: EndpointId,
        is_draining: bool,
    ) -> Result<(), KeeperError> {
        self.change(upstream, id, |occupant| occupant.is_draining = is_draining)
    }

    /// Changes what share an endpoint gets; 0 gets nothing new.
    ///
    /// # Errors
    /// [`KeeperError::Vacant`].
    pub fn set_weight(
        &mut self,
        upstream: UpstreamId,
        id: EndpointId,
        weight: u16,
    ) -> Result<(), KeeperError> {
        self.change(upstream, id, |occupant| occupant.terms.weight = weight)
    }

    /// Says whether an endpoint answers as it should.
    ///
    /// # Errors
    /// [`KeeperError::Vacant`].
    pub fn set_health(
        &mut self,
        upstream: UpstreamId,
        id: EndpointId,
        is_up: bool,
    ) -> Result<(), KeeperError> {
        self.change(upstream, id, |occupant| occupant.is_down = !is_up)
    }

    /// Leaves an endpoint out that failed those who used it, or lets it come back with nothing on its account.
    ///
    /// # Errors
    /// [`KeeperError::Vacant`].
    pub fn eject(
        &mut self,
        upstream: UpstreamId,
        id: EndpointId,
        is_ejected: bool,
    ) -> Result<(), KeeperError> {
        self.change(upstream, id, |occupant| occupant.is_ejected = is_ejected)?;
        self.roster.seat(id).row.end();
        Ok(())
    }

    /// Says for how long an endpoint has been coming up to its full weight; `None` when it is there.
    ///
    /// # Errors
    /// [`KeeperError::Vacant`].
    pub fn warm(
        &mut self,
        upstream: UpstreamId,
        id: EndpointId,
        warming: Option<(SlowStartTerms, Duration)>,
    ) -> Result<(), KeeperError> {
        self.change(upstream, id, |occupant| occupant.warming = warming)
    }

    fn change(
        &mut self,
        upstream: UpstreamId,
        endpoint: EndpointId,
        change: impl FnOnce(&mut Occupant),
    ) -> Result<(), KeeperError> {
        let slot = self.book(upstream).slot(endpoint).ok_or(KeeperError::Vacant)?;
        change(slot.occupant.as_mut().ok_or(KeeperError::Vacant)?);
        self.publish(upstream);
        Ok(())
    }

    fn book(&mut self, upstream: UpstreamId) -> &mut Book {
        &mut self.upstreams[usize::from(upstream.0)]
    }

    fn publish(&self, upstream: UpstreamId) {
        let book = &self.upstreams[usize::from(upstream.0)];
        for (id, slot) in book.ids().zip(&book.slots) {
            // A connection to somebody who is gone, or is to be left alone, is no longer kept.
            let stays = slot.occupant.as_ref().is_some_and(|occupant| !occupant.is_draining);
            let generation = if stays { slot.generation } else { slot.generation.wrapping_add(1) };
            let seat = self.roster.seat(id);
            if seat.generation.swap(generation, Ordering::Relaxed) != generation {
                seat.row.end();
            }
        }
        self.roster.publish(upstream, book.members());
    }
}

impl Occupant {
    fn written(endpoint: &Endpoint, address: Address) -> Self {
        Self {
            name: endpoint.name.as_str().into(),
            address,
            host: None,
            terms: endpoint.terms.clone(),
            source: Source::Written,
            is_draining: false,
            is_down: false,
            is_ejected: false,
            warming: None,
        }
    }
}

impl Slot {
    fn occupy(&mut self, occupant: Occupant) {
        // Two steps, because the one between says that nobody's connections are kept.
        self.generation = self.generation.wrapping_add(2);
        self.occupant = Some(occupant);
    }
}

impl Book {
    fn new(upstream: &Upstream) -> Self {
        Self {
            upstream: upstream.name.as_str().into(),
            written: upstream.endpoints.clone(),
            persistence: upstream.persistence,
            slots_first: upstream.slots_first,
            panic_threshold: upstream.panic_threshold,
            slots: upstream.slots().map(|_| Slot::default()).collect(),
        }
    }

    /// Goes on with what is known of the upstream; notes whose seat each slot goes on with.
    fn go_on(
        &mut self,
        former: &Self,
        upstream: &Upstream,
        address_of: &impl Fn(&EndpointAddress) -> Address,
        seats: &mut [Option<EndpointId>],
    ) {
        let written = |name: &str| upstream.endpoints.iter().find(|endpoint| endpoint.name == name);
        let mut homeless = Vec::new();
        for (index, (old_id, old)) in former.ids().zip(&former.slots).enumerate() {
            let occupant = old.occupant.as_ref().and_then(|occupant| {
                let Some(endpoint) = written(&occupant.name) else {
                    return (occupant.source != Source::Written).then(|| occupant.clone());
                };
                let address = address_of(&endpoint.address);
                let is_unchanged = former.has_written(endpoint);
                let terms = if is_unchanged { &occupant.terms } else { &endpoint.terms }.clone();
                let source = Source::Written;
                (occupant.address == address).then(|| Occupant { source, terms, ..occupant.clone() })
            });
            let Some(slot) = self.slots.get_mut(index) else {
                homeless.extend(occupant);
                continue;
            };
            let name = old.occupant.as_ref().map(|occupant| Arc::clone(&occupant.name));
            slot.former = name.or_else(|| old.former.clone());
            slot.generation = old.generation;
            slot.occupant = occupant;
            seats[usize::from(self.slots_first.0) + index] = Some(old_id);
        }
        // Who is written as before and is not there has been taken away by hand.
        let is_there = |name: &str| {
            self.find(name).is_some() || homeless.iter().any(|occupant: &Occupant| *occupant.name == *name)
        };
        let is_new = |endpoint: &&Endpoint| !is_there(&endpoint.name) && !former.has_written(endpoint);
        let new = upstream.endpoints.iter().filter(is_new);
        let new: Vec<_> =
            new.map(|endpoint| Occupant::written(endpoint, address_of(&endpoint.address))).collect();
        let (written, joined): (Vec<_>, Vec<_>) =
            homeless.into_iter().chain(new).partition(|occupant| occupant.source == Source::Written);
        for occupant in written.into_iter().chain(joined) {
            // There is room for all that are written, if need be in the place of one that is not.
            if occupant.source == Source::Written && self.slots.iter().all(|slot| slot.occupant.is_some()) {
                self.vacate_joined();
            }
            let Some(index) = self.enter(occupant) else { break };
            // Not the connections of who was there before.
            seats[usize::from(self.slots_first.0) + index] = None;
        }
    }

    fn vacate_joined(&mut self) {
        let has_joined = |slot: &&mut Slot| {
            slot.occupant.as_ref().is_some_and(|occupant| occupant.source != Source::Written)
        };
        if let Some(slot) = self.slots.iter_mut().rev().find(has_joined) {
            slot.former = slot.occupant.take().map(|occupant| occupant.name);
        }
    }

    /// Whether an endpoint was written in the same words.
    fn has_written(&self, endpoint: &Endpoint) -> bool {
        self.written.iter().any(|written| written == endpoint)
    }

    /// Gives somebody a slot, if there is one.
    fn enter(&mut self, occupant: Occupant) -> Option<usize> {
        let index = self.vacancy(&occupant.name)?;
        self.slots[index].occupy(occupant);
        Some(index)
    }

    fn ids(&self) -> impl Iterator<Item = EndpointId> + use<> {
        (self.slots_first.0..).map(EndpointId)
    }

    fn slot(&mut self, id: EndpointId) -> Option<&mut Slot> {
        self.slots.get_mut(usize::from(id.0.checked_sub(self.slots_first.0)?))
    }

    fn find(&self, name: &str) -> Option<EndpointId> {
        let is_named = |slot: &Slot| slot.occupant.as_ref().is_some_and(|occupant| &*occupant.name == name);
        self.ids().zip(&self.slots).find(|(_, slot)| is_named(slot)).map(|(id, _)| id)
    }

    /// The slot that an endpoint of this name had, else one that nobody ever had, else any free one.
    fn vacancy(&self, name: &str) -> Option<usize> {
        let free = || self.slots.iter().enumerate().filter(|(_, slot)| slot.occupant.is_none());
        free()
            .find(|(_, slot)| slot.former.as_deref() == Some(name))
            .or_else(|| free().find(|(_, slot)| slot.former.is_none()))
            .or_else(|| free().next())
            .map(|(index, _)| index)
    }

    /// What follows from all that is known.
    fn members(&self) -> Members {
        let occupied = self.ids().zip(&self.slots);
        let member =
            |(id, slot): (EndpointId, &Slot)| Some(Member::of(id, slot.generation, slot.occupant.as_ref()?));
        let all: Box<[Member]> = occupied.filter_map(member).collect();
        let (candidates, is_panic) = candidates(&all, self.panic_threshold);
        Members { revision: 0, candidates, is_panic, all, guide: Guide::default() }
    }
}

/// Who may get new exchanges: of the first priority that has enough who are up, those who are; where none has, all of the
/// first, in a panic. Without a threshold one is enough, and there is no panic.
fn candidates(all: &[Member], threshold: Option<Share>) -> (Box<[u16]>, bool) {
    let of = |is_meant: &dyn Fn(&Member) -> bool| -> Box<[u16]> {
        (0..).zip(all).filter(|(_, member)| is_meant(member)).map(|(index, _)| index).collect()
    };
    let is_wanted = |member: &Member| member.state != State::Draining && member.weight > 0;
    let is_up = |member: &Member| member.state == State::Up;
    let mut priorities: Vec<u8> =
        all.iter().filter(|member| is_wanted(member)).map(|member| member.priority).collect();
    priorities.sort_unstable();
    priorities.dedup();
    for priority in &priorities {
        let wanted = || all.iter().filter(|member| is_wanted(member) && member.priority == *priority);
        let up = wanted().filter(|member| is_up(member)).count();
        if up > 0 && !is_panic(threshold, up, wanted().count()) {
            let is_meant =
                |member: &Member| is_wanted(member) && is_up(member) && member.priority == *priority;
            return (of(&is_meant), false);
        }
    }
    match (threshold, priorities.first()) {
        (Some(_), Some(first)) => {
            (of(&|member: &Member| is_wanted(member) && member.priority == *first), true)
        }
        _ => (Box::default(), false),
    }
}

impl Member {
    fn of(id: EndpointId, generation: u32, occupant: &Occupant) -> Self {
        let Occupant { name, address, host, terms, source, is_draining, is_down, is_ejected, warming } =
            occupant;
        let EndpointTerms { weight, priority, zone, connections_max, connections_min } = terms.clone();
        Self {
            id,
            generation,
            name: Arc::clone(name),
            address: address.clone(),
            server_name: server_name_of(host.as_deref(), address),
            weight: match warming {
                Some((terms, since)) => terms.weight(u32::from(weight) * WEIGHT_ONE, *since),
                None => u32::from(weight) * WEIGHT_ONE,
            },
            weight_full: u32::from(weight) * WEIGHT_ONE,
            priority,
            zone,
            connections_max,
            connections_min,
            source: *source,
            state: match (is_draining, is_down, is_ejected) {
                (true, _, _) => State::Draining,
                (false, true, _) => State::Down,
                (false, false, true) => State::Ejected,
                (false, false, false) => State::Up,
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use proto::health::slow_start::Curve;

    use super::*;
    use crate::roster::report::Failure;

    const UPSTREAM: UpstreamId = UpstreamId(0);

    fn address(port: u16) -> Address {
        SocketAddr::from(([10, 0, 0, 1], port)).into()
    }

    /// Of an upstream with room for `max`, and endpoints at the ports 1 and 2.
    fn keeper(max: u16) -> Keeper {
        keeper_with(max, "")
    }

    fn keeper_with(max: u16, keys: &str) -> Keeper {
        let text = format!(
            "[listener.web]\nbind = '127.0.0.1:1'\n[channel.c]\nupstream = 'u'\n\
             [upstream.u]\nendpoints = ['10.0.0.1:1', '10.0.0.1:2']\nendpoints_max = {max}\n{keys}"
        );
        let loaded = config::load_str("a.toml", &text, config::Format::Toml, &|_| None);
        let snapshot = loaded.unwrap_or_else(|problems| panic!("{problems}")).snapshot;
        Keeper::new(&snapshot, |written| match written {
            EndpointAddress::Tcp(address) => (*address).into(),
            other => panic!("{other:?}"),
        })
    }

    fn add(keeper: &mut Keeper, port: u16) -> Result<EndpointId, KeeperError> {
        let name = format!("10.0.0.1:{port}");
        keeper.add(UPSTREAM, &name, address(port), EndpointTerms::default(), Source::Added)
    }

    #[track_caller]
    fn check(keeper: &Keeper, candidates: &[&str]) {
        let members = keeper.roster().members(UPSTREAM);
        let names: Vec<_> =
            (0..members.candidates.len() as u16).map(|index| &*members.candidate(index).name).collect();
        assert_eq!(names, candidates);
        assert_eq!(members.revision, keeper.roster().revision(UPSTREAM));
    }

    #[test]
    fn begins_with_what_is_written() {
        let keeper = keeper(4);
        check(&keeper, &["10.0.0.1:1", "10.0.0.1:2"]);
        assert!(keeper.roster().members(UPSTREAM).all.iter().all(|member| member.weight == WEIGHT_ONE));
    }

    #[test]
    fn only_who_may_be_used_is_a_candidate() {
        let mut keeper = keeper(4);
        let first = keeper.find(UPSTREAM, "10.0.0.1:1").expect("written");
        keeper.set_health(UPSTREAM, first, false).expect("it is there");
        check(&keeper, &["10.0.0.1:2"]);
        keeper.set_health(UPSTREAM, first, true).expect("it is there");
        keeper.set_weight(UPSTREAM, first, 0).expect("it is there");
        check(&keeper, &["10.0.0.1:2"]);
        keeper.set_weight(UPSTREAM, first, 3).expect("it is there");
        check(&keeper, &["10.0.0.1:1", "10.0.0.1:2"]);
        keeper.drain(UPSTREAM, first, true).expect("it is there");
        check(&keeper, &["10.0.0.1:2"]);
        assert_eq!(keeper.set_weight(UPSTREAM, EndpointId(3), 1), Err(KeeperError::Vacant));
        assert_eq!(keeper.set_weight(UPSTREAM, EndpointId(4), 1), Err(KeeperError::Vacant));
    }

    #[test]
    fn those_of_a_higher_number_wait_until_no_lower_one_is_left() {
        let mut keeper = keeper(4);
        let terms = EndpointTerms { priority: 1, ..EndpointTerms::default() };
        keeper.add(UPSTREAM, "backup", address(9), terms, Source::Added).expect("room");
        check(&keeper, &["10.0.0.1:1", "10.0.0.1:2"]);
        for port in [1, 2] {
            let id = keeper.find(UPSTREAM, &format!("10.0.0.1:{port}")).expect("written");
            keeper.set_health(UPSTREAM, id, false).expect("it is there");
        }
        check(&keeper, &["backup"]);
    }

    #[test]
    fn who_comes_back_gets_its_slot_again_and_no_slot_has_two() {
        let mut keeper = keeper(3);
        let third = add(&mut keeper, 3).expect("room");
        assert_eq!(add(&mut keeper, 3), Err(KeeperError::Exists(third)));
        assert_eq!(add(&mut keeper, 4), Err(KeeperError::Full { slots: 3 }));
        let first = keeper.find(UPSTREAM, "10.0.0.1:1").expect("written");
        keeper.remove(UPSTREAM, first).expect("it is there");
        assert_eq!(keeper.remove(UPSTREAM, first), Err(KeeperError::Vacant));
        keeper.remove(UPSTREAM, third).expect("it is there");
        assert_eq!(add(&mut keeper, 3), Ok(third));
        assert_eq!(add(&mut keeper, 4), Ok(first));
        check(&keeper, &["10.0.0.1:4", "10.0.0.1:2", "10.0.0.1:3"]);
    }

    #[test]
    fn an_address_of_a_host_must_prove_to_be_the_host() {
        let mut keeper = keeper(4);
        let (terms, host) =
            (EndpointTerms { weight: 7, ..EndpointTerms::default() }, Some("app.example".into()));
        let id = keeper.add_host(UPSTREAM, "10.0.0.1:3", address(3), host, terms.clone(), Source::Resolved);
        let id = id.expect("room");
        assert_eq!(keeper.find_at(UPSTREAM, &address(3)), Some(id));
        assert_eq!(keeper.terms(UPSTREAM, id), Some(&terms));
        let name =
            |id| keeper.roster().members(UPSTREAM).find(id).and_then(|member| member.server_name.clone());
        assert_eq!(name(id).map(|name| name.to_str().into_owned()), Some("app.example".to_owned()));
        let written = keeper.find_at(UPSTREAM, &address(1)).expect("written");
        assert_eq!(name(written).map(|name| name.to_str().into_owned()), Some("10.0.0.1".to_owned()));
        assert_eq!(keeper.find_at(UPSTREAM, &address(4)), None);
    }

    #[test]
    fn connections_are_kept_only_for_who_has_the_slot_and_is_not_draining() {
        let mut keeper = keeper(4);
        let id = keeper.find(UPSTREAM, "10.0.0.1:1").expect("written");
        let is_kept = |keeper: &Keeper, generation| keeper.roster().seat(id).generation() == generation;
        let generation = keeper.roster().members(UPSTREAM).find(id).expect("there").generation;
        assert!(is_kept(&keeper, generation));
        keeper.drain(UPSTREAM, id, true).expect("it is there");
        assert!(!is_kept(&keeper, generation));
        keeper.drain(UPSTREAM, id, false).expect("it is there");
        assert!(is_kept(&keeper, generation));
        keeper.remove(UPSTREAM, id).expect("it is there");
        assert!(!is_kept(&keeper, generation));
        assert_eq!(add(&mut keeper, 1), Ok(id));
        assert!(!is_kept(&keeper, generation));
    }

    #[test]
    fn who_is_ejected_is_no_candidate_and_comes_back_with_a_clean_account() {
        let mut keeper = keeper_with(4, "ejection.failures = 2");
        let member = keeper.roster().members(UPSTREAM).all[0].clone();
        let fail = |keeper: &Keeper| {
            keeper.roster().note_failure(member.id, member.generation, Failure::Broken);
            keeper.roster().next_report().map(|report| report.failures)
        };
        assert_eq!((fail(&keeper), fail(&keeper), fail(&keeper)), (None, Some(2), None));
        keeper.eject(UPSTREAM, member.id, true).expect("it is there");
        check(&keeper, &["10.0.0.1:2"]);
        assert_eq!(keeper.roster().members(UPSTREAM).all[0].state, State::Ejected);
        keeper.eject(UPSTREAM, member.id, false).expect("it is there");
        check(&keeper, &["10.0.0.1:1", "10.0.0.1:2"]);
        assert_eq!((fail(&keeper), fail(&keeper)), (None, Some(2)));
        keeper.remove(UPSTREAM, member.id).expect("it is there");
        assert_eq!((fail(&keeper), fail(&keeper)), (None, None), "nobody's any more");
    }

    #[test]
    fn an_answer_counts_by_its_status() {
        let text = "[listener.web]\nbind = '127.0.0.1:1'\n[channel.c]\nupstream = 'u'\n\
                    [upstream.u]\nendpoints = ['10.0.0.1:1']\nejection = { failures = 1, statuses = '503' }";
        let snapshot =
            config::load_str("a.toml", text, config::Format::Toml, &|_| None).expect("fine").snapshot;
        let keeper = Keeper::new(&snapshot, |_| address(1));
        let (roster, upstream) = (keeper.roster(), &snapshot.upstreams[0]);
        let member = roster.members(UPSTREAM).all[0].clone();
        for (status, expected) in [(200, None), (500, None), (503, Some(Failure::Status(503)))] {
            roster.note_answer(upstream, member.id, member.generation, status);
            assert_eq!(roster.next_report().map(|report| report.failure), expected, "{status}");
        }
    }

    #[test]
    fn who_is_warming_up_has_a_part_of_its_weight() {
        let mut keeper = keeper(4);
        let first = keeper.find(UPSTREAM, "10.0.0.1:1").expect("written");
        let terms = SlowStartTerms { time: Duration::from_secs(10), curve: Curve::Linear };
        let weight = |keeper: &Keeper| keeper.roster().members(UPSTREAM).all[0].weight;
        keeper.set_weight(UPSTREAM, first, 2).expect("it is there");
        keeper.warm(UPSTREAM, first, Some((terms, Duration::from_secs(5)))).expect("it is there");
        assert_eq!(weight(&keeper), WEIGHT_ONE);
        keeper.warm(UPSTREAM, first, None).expect("it is there");
        assert_eq!(weight(&keeper), 2 * WEIGHT_ONE);
    }

    #[test]
    fn with_too_few_up_all_of_the_first_priority_are_candidates() {
        let mut keeper = keeper_with(8, "panic_threshold = '60%'");
        let down = |keeper: &mut Keeper, name: &str, is_down: bool| {
            let id = keeper.find(UPSTREAM, name).expect("it is there");
            keeper.set_health(UPSTREAM, id, !is_down).expect("it is there");
        };
        add(&mut keeper, 3).expect("room");
        down(&mut keeper, "10.0.0.1:1", true);
        check(&keeper, &["10.0.0.1:2", "10.0.0.1:3"]);
        down(&mut keeper, "10.0.0.1:2", true);
        check(&keeper, &["10.0.0.1:1", "10.0.0.1:2", "10.0.0.1:3"]);
        assert!(keeper.roster().members(UPSTREAM).is_panic);
        let terms = EndpointTerms { priority: 1, ..EndpointTerms::default() };
        keeper.add(UPSTREAM, "backup", address(9), terms, Source::Added).expect("room");
        check(&keeper, &["backup"]);
        assert!(!keeper.roster().members(UPSTREAM).is_panic);
        down(&mut keeper, "backup", true);
        check(&keeper, &["10.0.0.1:1", "10.0.0.1:2", "10.0.0.1:3"]);
        let first = keeper.find(UPSTREAM, "10.0.0.1:1").expect("written");
        keeper.drain(UPSTREAM, first, true).expect("it is there");
        check(&keeper, &["10.0.0.1:2", "10.0.0.1:3"]);
    }
}
