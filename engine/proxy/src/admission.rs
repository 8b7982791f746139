//! May one more connection come in? How many there are of each listener, and from each address, over all cores.
//!
//! Never on a request's way, but for what the rules of a channel bound: asked when a connection was accepted, told when it
//! ends. Never a lock: a core adds, looks at what was there before, and takes its own back if that was too much.
//!
//! Of a listener one number says it exactly; addresses are in a `Tally`.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use config::snapshot::{Listener, ListenerId, Snapshot};
use crossbeam_utils::CachePadded;

use crate::rules::Allowances;
use crate::tally::{Places, Tally};
use crate::tokens::Tokens;

/// Which bound a connection would exceed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refused {
    /// The listener's.
    Listener,
    /// That of one address.
    Address,
}

/// The connections of the process, as far as they are bounded.
#[derive(Debug)]
pub struct Admission {
    listeners: Box<[Bounded]>,
    addresses: Arc<Tally>,
    /// What the rules of channels bound.
    pub(crate) allowances: Allowances,
    /// Which tokens are believed, where channels demand any.
    pub tokens: Tokens,
}

/// A listener's bounds, and how many connections it has.
#[derive(Debug)]
struct Bounded {
    connections_max: u32,
    per_address_max: u32,
    /// Its number among those that count addresses.
    owner: u64,
    open: Arc<CachePadded<AtomicU32>>,
}

impl Bounded {
    fn new(listener: &Listener, addresses: &Tally, open: Arc<CachePadded<AtomicU32>>) -> Self {
        Self {
            connections_max: listener.limits.connections_max.unwrap_or(u32::MAX),
            per_address_max: listener.limits.connections_per_address_max.unwrap_or(u32::MAX),
            owner: addresses.owner("listener", &listener.name),
            open,
        }
    }

    fn is_unbounded(&self) -> bool {
        self.connections_max == u32::MAX && !self.counts_addresses()
    }

    fn counts_addresses(&self) -> bool {
        self.per_address_max != u32::MAX
    }
}

/// The right to one connection; given back when dropped. Good for every generation in which the listener has its name.
#[derive(Debug)]
pub struct Permit {
    admission: Arc<Admission>,
    listener: ListenerId,
    places: Option<Places>,
}

fn counts_addresses(snapshot: &Snapshot) -> bool {
    snapshot.listeners.iter().any(|listener| listener.limits.connections_per_address_max.is_some())
}

impl Admission {
    /// Nobody is there yet.
    #[must_use]
    pub fn new(snapshot: &Snapshot) -> Arc<Self> {
        let addresses = Arc::new(Tally::new(counts_addresses(snapshot)));
        let bounded = |listener| Bounded::new(listener, &addresses, Arc::default());
        let listeners = snapshot.listeners.iter().map(bounded).collect();
        let (allowances, tokens) = (Allowances::new(snapshot), Tokens::new(snapshot));
        Arc::new(Self { listeners, addresses, allowances, tokens })
    }

    /// Who is there stays counted where the listener keeps its name, by the bounds that it has now.
    pub(crate) fn next(former: &Self, before: &Snapshot, snapshot: &Snapshot) -> Arc<Self> {
        let addresses = former.addresses.next(counts_addresses(snapshot));
        let open = |listener: &Listener| {
            let same = before.listeners.iter().position(|former| former.name == listener.name);
            same.map(|index| Arc::clone(&former.listeners[index].open)).unwrap_or_default()
        };
        let bounded = |listener| Bounded::new(listener, &addresses, open(listener));
        let listeners = snapshot.listeners.iter().map(bounded).collect();
        let allowances = former.allowances.next(before, snapshot);
        let tokens = former.tokens.next(before, snapshot);
        Arc::new(Self { listeners, addresses, allowances, tokens })
    }

    /// Lets one more connection of `listener` from `address` in, unless that would be too many; `None` where nothing is
    /// bounded. Two that come at once where there is room for one may both be refused, never both be let in.
    pub(crate) fn admit(
        self: &Arc<Self>,
        listener: ListenerId,
        address: IpAddr,
    ) -> Result<Option<Permit>, Refused> {
        let mut permit = self.admit_unnamed(listener)?;
        permit.as_mut().map_or(Ok(()), |permit| permit.name(address))?;
        Ok(permit)
    }

    /// [`Self::admit`] for a connection that has yet to say whose it is: [`Permit::name`] asks again then.
    pub(crate) fn admit_unnamed(self: &Arc<Self>, listener: ListenerId) -> Result<Option<Permit>, Refused> {
        let bounded = &self.listeners[usize::from(listener.0)];
        if bounded.is_unbounded() {
            return Ok(None);
        }
        let before = bounded.open.fetch_add(1, Ordering::Relaxed);
        let permit = Permit { admission: Arc::clone(self), listener, places: None };
        if before >= bounded.connections_max { Err(Refused::Listener) } else { Ok(Some(permit)) }
    }

    /// The right of a connection that was let in by an earlier generation and is this listener's now. Whoever is there stays,
    /// however many there may be from now on, and is counted among them. `address` is its client's, once that is known.
    pub(crate) fn carry(
        self: &Arc<Self>,
        permit: Option<Permit>,
        listener: ListenerId,
        address: Option<IpAddr>,
    ) -> Option<Permit> {
        let bounded = &self.listeners[usize::from(listener.0)];
        if bounded.is_unbounded() {
            return permit;
        }
        // Counted here before it is given back there: nobody takes its place meanwhile.
        bounded.open.fetch_add(1, Ordering::Relaxed);
        let mut carried = Permit { admission: Arc::clone(self), listener, places: None };
        if let Some(address) = address.filter(|_| bounded.counts_addresses()) {
            carried.places = self.addresses.enter(bounded.owner, address, u32::MAX);
        }
        drop(permit);
        Some(carried)
    }
}

impl Permit {
    /// Says whose connection it is, once; an error if its address has as many as it may have.
    pub(crate) fn name(&mut self, address: IpAddr) -> Result<(), Refused> {
        let bounded = &self.admission.listeners[usize::from(self.listener.0)];
        debug_assert!(self.places.is_none(), "named twice");
        if !bounded.counts_addresses() {
            return Ok(());
        }
        let entered = self.admission.addresses.enter(bounded.owner, address, bounded.per_address_max);
        self.places = Some(entered.ok_or(Refused::Address)?);
        Ok(())
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.admission.listeners[usize::from(self.listener.0)].open.fetch_sub(1, Ordering::Relaxed);
        if let Some(places) = self.places {
            self.admission.addresses.leave(places);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn admission(limits: &str) -> Arc<Admission> {
        let text = format!("[listener.web]\nbind = '127.0.0.1:1'\nlimits = {{ {limits} }}");
        let loaded = config::load_str("a.toml", &text, config::Format::Toml, &|_| None);
        Admission::new(&loaded.unwrap_or_else(|problems| panic!("{problems}")).snapshot)
    }

    fn admit(admission: &Arc<Admission>, address: &str) -> Result<Option<Permit>, Refused> {
        admission.admit(ListenerId(0), address.parse().expect("an address"))
    }

    #[test]
    fn without_a_bound_nothing_is_counted() {
        let admission = admission("");
        assert!(admission.addresses.is_unused());
        assert!(matches!(admit(&admission, "10.0.0.1"), Ok(None)));
    }

    #[test]
    fn a_listener_takes_as_many_as_allowed_at_a_time() {
        let admission = admission("connections = 2");
        let first = admit(&admission, "10.0.0.1").expect("one");
        let _second = admit(&admission, "10.0.0.2").expect("two");
        for _ in 0..3 {
            assert_eq!(admit(&admission, "10.0.0.3").err(), Some(Refused::Listener));
        }
        drop(first);
        assert!(admit(&admission, "10.0.0.3").is_ok_and(|permit| permit.is_some()));
    }

    #[test]
    fn each_address_has_a_share_of_its_own() {
        let admission = admission("connections_per_address = 2");
        let kept: Vec<_> = ["10.0.0.1", "::ffff:10.0.0.1", "2001:db8::1", "2001:db8::2", "2001:db8:0:1::1"]
            .map(|address| admit(&admission, address).expect(address))
            .into();
        for refused in ["10.0.0.1", "2001:db8::3"] {
            assert_eq!(admit(&admission, refused).err(), Some(Refused::Address), "{refused}");
        }
        assert!(admit(&admission, "10.0.0.2").is_ok());
        drop(kept);
        assert!(admit(&admission, "10.0.0.1").is_ok());
        assert!(admission.addresses.is_zero());
        assert_eq!(admission.listeners[0].open.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn a_connection_may_say_later_whose_it_is() {
        let admission = admission("connections = 3, connections_per_address = 1");
        let unnamed = || admission.admit_unnamed(ListenerId(0)).expect("room").expect("a bound");
        let (mut first, mut second) = (unnamed(), unnamed());
        let address = "10.0.0.1".parse().expect("an address");
        assert_eq!(first.name(address), Ok(()));
        assert_eq!(second.name(address), Err(Refused::Address));
        drop(second);
        assert_eq!(admit(&admission, "10.0.0.1").err(), Some(Refused::Address));
        drop(first);
        assert!(admit(&admission, "10.0.0.1").is_ok());
        assert!(admission.addresses.is_zero());
        assert_eq!(admission.listeners[0].open.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn a_crowd_hardly_costs_others_their_share() {
        let admission = admission("connections_per_address = 1");
        let address = |n: u32| IpAddr::from(n.to_be_bytes());
        let admitted = |n| admission.admit(ListenerId(0), address(n)).ok().flatten();
        let crowd: Vec<_> = (0..1_000).filter_map(admitted).collect();
        let others = (1_000_000..1_010_000).filter(|n| admitted(*n).is_some()).count();
        assert!(crowd.len() >= 999 && others >= 9_990, "{} {others}", crowd.len());
    }

    #[test]
    fn threads_never_get_more_than_the_bound_and_give_all_of_it_back() {
        let admission = admission("connections = 5, connections_per_address = 5");
        let open = AtomicU32::new(0);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..10_000 {
                        let Ok(permit) = admit(&admission, "10.0.0.1") else { continue };
                        assert!(open.fetch_add(1, Ordering::Relaxed) < 5);
                        open.fetch_sub(1, Ordering::Relaxed);
                        drop(permit);
                    }
                });
            }
        });
        assert_eq!(admission.listeners[0].open.load(Ordering::Relaxed), 0);
        assert!(admission.addresses.is_zero());
    }
}
