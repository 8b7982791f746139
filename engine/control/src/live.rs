//! What belongs to one generation of the configuration? Everything that control knows of what the cores run now.
//!
//! Never outlives its generation: what belongs to the process, whatever it is configured to do, is in [`crate::Shared`].

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use config::schema::Config;
use config::snapshot::{EndpointId, Snapshot, UpstreamId};
use proxy::address::Address;
use proxy::core_main::Fellow;
use proxy::generation::Generation;
use proxy::message::CoreMessage;
use proxy::roster::Roster;
use proxy::roster::keeper::Keeper;

use crate::bind::{Standing, address_of};
use crate::candidate::{Candidate, Origin};
use crate::certificates::Certificates;
use crate::health::Health;
use crate::membership::{Leases, Leaving};
use crate::names::Names;

/// A generation of the configuration, as control sees it. Whoever looks at several things takes it once, so that they fit.
#[derive(Debug)]
pub(crate) struct Live {
    /// The same as the cores have it.
    pub(crate) generation: Arc<Generation>,
    pub(crate) snapshot: Arc<Snapshot>,
    pub(crate) fellows: Arc<[Fellow]>,
    /// Where each listener was bound, by [`config::snapshot::ListenerId`].
    pub(crate) listener_addresses: Box<[Address]>,
    pub(crate) roster: Arc<Roster>,
    /// Control's alone; locked because handlers may move between threads, held for no wait.
    keeper: Mutex<Keeper>,
    pub(crate) leaving: Leaving,
    pub(crate) leases: Leases,
    pub(crate) names: Names,
    pub(crate) certificates: Arc<Certificates>,
    pub(crate) health: Health,
    /// Every key as it is written, to tell what another configuration changes.
    pub(crate) schema: Arc<Config>,
    pub(crate) origin: Origin,
    pub(crate) applied_at: SystemTime,
    /// Where listeners were that the generation before had and this one has not.
    former_addresses: Box<[Address]>,
}

/// What follows a generation, when all that could fail has been done.
#[derive(Debug)]
pub(crate) struct Successor {
    pub(crate) snapshot: Arc<Snapshot>,
    pub(crate) schema: Arc<Config>,
    pub(crate) origin: Origin,
    pub(crate) certificates: Arc<Certificates>,
    /// By listener.
    pub(crate) addresses: Box<[Address]>,
}

impl Live {
    /// The first generation of a process.
    pub(crate) fn first(
        generation: Arc<Generation>,
        fellows: Arc<[Fellow]>,
        listener_addresses: Box<[Address]>,
        keeper: Keeper,
        certificates: Arc<Certificates>,
        (schema, origin): (Arc<Config>, Origin),
    ) -> Self {
        let snapshot = &generation.snapshot;
        Self {
            names: Names::of(snapshot),
            health: Health::new(snapshot, &certificates),
            snapshot: Arc::clone(snapshot),
            generation,
            fellows,
            listener_addresses,
            roster: Arc::clone(keeper.roster()),
            keeper: Mutex::new(keeper),
            leaving: Leaving::default(),
            leases: Leases::default(),
            certificates,
            schema,
            origin,
            applied_at: SystemTime::now(),
            former_addresses: Box::default(),
        }
    }

    /// The generation after this one. What keeps its name goes on: who the endpoints are and how, who leaves, whose time ends
    /// when, and what names stand for.
    pub(crate) fn next(&self, successor: Successor) -> Self {
        let Successor { snapshot, schema, origin, certificates, addresses } = successor;
        let former = self.keeper();
        let mut keeper = former.next(&snapshot, |endpoint| address_of(endpoint, &addresses));
        let health = self.health.next(&snapshot, &certificates, &mut keeper);
        let upstreams: HashMap<&str, UpstreamId> =
            snapshot.upstreams.iter().map(|upstream| &*upstream.name).zip((0..).map(UpstreamId)).collect();
        let find = |upstream: UpstreamId, endpoint: EndpointId| {
            let next = *upstreams.get(&*self.snapshot.upstreams[usize::from(upstream.0)].name)?;
            let members = self.roster.members(upstream);
            Some((next, keeper.find(next, &members.find(endpoint)?.name)?))
        };
        let (leaving, leases) = (self.leaving.next(find), self.leases.next(find));
        let is_gone = |address: &&Address| !addresses.contains(address);
        let former_addresses = self.listener_addresses.iter().filter(is_gone).cloned().collect();
        let roster = Arc::clone(keeper.roster());
        let private = Arc::new(certificates.private());
        Self {
            generation: self.generation.next(Arc::clone(&snapshot), Arc::clone(&roster), private),
            names: self.names.next(&self.snapshot, &snapshot),
            snapshot,
            fellows: Arc::clone(&self.fellows),
            listener_addresses: addresses,
            roster,
            keeper: Mutex::new(keeper),
            leaving,
            leases,
            certificates,
            health,
            schema,
            origin,
            applied_at: SystemTime::now(),
            former_addresses,
        }
    }

    /// Where the process listens.
    pub(crate) fn standing(&self) -> Standing<'_> {
        let (addresses, former) = (&self.listener_addresses, &self.former_addresses);
        Standing { snapshot: &self.snapshot, addresses, former }
    }

    /// Whether `candidate` is what runs already.
    pub(crate) fn is_same(&self, candidate: &Candidate) -> bool {
        let next = &candidate.snapshot;
        let mut upstreams = self.snapshot.upstreams.iter().zip(&next.upstreams);
        // Tokens are read from files that keep their names.
        *self.schema == *candidate.schema
            && self.snapshot.modules == next.modules
            && upstreams.all(|(running, next)| running.registering == next.registering)
    }

    /// Who writes the roster; whoever changes something goes by [`Self::change_roster`].
    pub(crate) fn keeper(&self) -> MutexGuard<'_, Keeper> {
        self.keeper.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes the endpoints of an upstream, and tells the cores to look.
    pub(crate) fn change_roster<T>(&self, upstream: UpstreamId, change: impl FnOnce(&mut Keeper) -> T) -> T {
        let changed = change(&mut self.keeper());
        self.tell_to_look(upstream);
        self.health.look();
        changed
    }

    /// Tells the cores that the endpoints of an upstream have changed.
    pub(crate) fn tell_to_look(&self, upstream: UpstreamId) {
        for fellow in self.fellows.iter() {
            // A core whose mailbox is full looks when it chooses an endpoint next.
            let _ = fellow.sender.send(CoreMessage::Look { generation: self.generation.number, upstream });
        }
    }
}
