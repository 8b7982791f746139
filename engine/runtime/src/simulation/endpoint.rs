//! What does a process hold of a simulated socket? A number in a world, closed when dropped.
//!
//! Never holds a lock between two calls.

use std::io::IoSlice;
use std::net::SocketAddr;

use rustix::io::Errno;

use super::medium::Key;
use super::world::World;

/// A simulated socket: a listening one, or a side of a connection.
#[derive(Debug)]
pub(crate) struct Endpoint {
    world: World,
    key: Key,
}

impl Endpoint {
    pub(super) fn new(world: World, key: Key) -> Self {
        Self { world, key }
    }

    pub(super) fn key(&self) -> Key {
        self.key
    }

    pub(crate) fn recv(&self, spare: &mut [u8]) -> Result<usize, Errno> {
        self.world.network().recv(self.key, spare)
    }

    pub(crate) fn has_unread(&self) -> Result<bool, Errno> {
        self.world.network().has_unread(self.key)
    }

    pub(crate) fn send(&self, slices: &[IoSlice<'_>]) -> Result<usize, Errno> {
        self.world.network().send(self.key, slices)
    }

    pub(crate) fn shutdown_write(&self) -> Result<(), Errno> {
        self.world.network().shutdown_write(self.key)
    }

    pub(crate) fn reset_on_close(&self) -> Result<(), Errno> {
        self.world.network().reset_on_close(self.key)
    }

    pub(crate) fn accept(&self) -> Result<(Self, SocketAddr), Errno> {
        let (key, peer) = self.world.network().accept(self.key)?;
        Ok((Self::new(self.world.clone(), key), peer))
    }

    pub(crate) fn refuse_new(&self) {
        self.world.network().refuse_new(self.key);
    }

    pub(crate) fn take_error(&self) -> Result<(), Errno> {
        self.world.network().take_error(self.key)
    }

    pub(crate) fn peer_address(&self) -> Result<SocketAddr, Errno> {
        self.world.network().peer_address(self.key)
    }

    pub(crate) fn local_address(&self) -> Result<SocketAddr, Errno> {
        self.world.network().local_address(self.key)
    }
}

impl Drop for Endpoint {
    fn drop(&mut self) {
        self.world.network().close(self.key);
    }
}
