//! How does a core learn of readiness in a simulated world? As from edge-triggered epoll.
//!
//! Never waits: the simulation moves the clock when no core has anything to do.

use std::io;
use std::net::SocketAddr;
use std::time::SystemTime;

use rustix::io::Errno;

use super::conduit::Conduit;
use super::endpoint::Endpoint;
use super::world::{HostId, World};
use crate::driver::{Sockets, Waited, mark};
use crate::net::handle::Handle;

/// Events taken in one turn, as many as the epoll driver takes.
const EVENTS_PER_TURN: usize = 256;

/// A core's place in a world.
#[derive(Debug)]
pub(crate) struct Driver {
    world: World,
    host: HostId,
    /// Number of the core in its world.
    core: usize,
}

impl Driver {
    pub(super) fn new(world: World, host: HostId) -> Self {
        let core = world.network().add_core(host.0);
        Self { world, host, core }
    }

    pub(crate) fn world(&self) -> &World {
        &self.world
    }

    /// The host's wall clock, which may have been set since it was last read.
    pub(crate) fn wall_clock(&self) -> SystemTime {
        self.world.read_wall_clock(self.host)
    }

    /// Begins a connection; it is never made at once.
    pub(crate) fn connect(&self, address: SocketAddr) -> Result<(Handle, bool), Errno> {
        let key = self.world.network().connect(self.host.0, address)?;
        Ok((Endpoint::new(self.world.clone(), key).into(), false))
    }

    /// A pipe of this core's host.
    pub(crate) fn open_conduit(&self) -> Result<Conduit, Errno> {
        Conduit::open(&self.world, self.host)
    }

    pub(crate) fn watch(&self, handle: &Handle, slot: u32) -> io::Result<()> {
        let key = handle.simulated()?.key();
        self.world.network().watch(key, self.core, slot);
        Ok(())
    }

    pub(crate) fn forget(&self, handle: &Handle) {
        if let Ok(endpoint) = handle.simulated() {
            self.world.network().forget(endpoint.key());
        }
    }

    /// Whether [`Self::take_events`] might find something.
    pub(crate) fn has_events(&self) -> bool {
        self.world.network().has_events(self.core)
    }

    /// Marks the sockets whose state has changed.
    pub(crate) fn take_events(
        &self,
        sockets: &mut Sockets,
        mut on_ready: impl FnMut(&mut Sockets, u32),
    ) -> Waited {
        let mut waited = Waited::default();
        while waited.events < EVENTS_PER_TURN {
            // Not held while the socket is told: what follows may send.
            let next = self.world.network().next_event(self.core);
            let Some((slot, events)) = next else { break };
            waited.events += 1;
            mark(&mut sockets[slot], events);
            on_ready(sockets, slot);
        }
        waited
    }
}
