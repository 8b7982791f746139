//! What belongs to one generation of the configuration? Everything that control knows of what the cores run now.
//!
//! Never outlives its generation: what belongs to the process, whatever it is configured to do, is in [`crate::Shared`].

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use config::snapshot::{Snapshot, UpstreamId};
use proxy::address::Address;
use proxy::core_main::Fellow;
use proxy::generation::Generation;
use proxy::message::CoreMessage;
use proxy::roster::Roster;
use proxy::roster::keeper::Keeper;

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
}

impl Live {
    /// The first generation of a process.
    pub(crate) fn first(
        generation: Arc<Generation>,
        fellows: Arc<[Fellow]>,
        listener_addresses: Box<[Address]>,
        keeper: Keeper,
        certificates: Arc<Certificates>,
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
        }
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
