//! What is a pipe in a simulated world? Two descriptors of its host, and a bounded queue.
//!
//! Never holds a lock between two calls.

use std::collections::VecDeque;
use std::io::IoSlice;

use rustix::io::Errno;

use super::endpoint::Endpoint;
use super::world::{HostId, World};

/// Bytes that one holds: more than a socket does, so that one may be filled by several moves.
const CAPACITY: usize = 256 * 1024;

/// A pipe of a simulated host.
#[derive(Debug)]
pub(crate) struct Conduit {
    world: World,
    host: HostId,
    bytes: VecDeque<u8>,
}

impl Conduit {
    pub(super) fn open(world: &World, host: HostId) -> Result<Self, Errno> {
        let medium = &mut world.network().medium;
        medium.take_descriptor(host.0)?;
        if let Err(error) = medium.take_descriptor(host.0) {
            medium.give_descriptor_back(host.0);
            return Err(error);
        }
        Ok(Self { world: world.clone(), host, bytes: VecDeque::new() })
    }

    pub(crate) fn fill(&mut self, source: &Endpoint, limit: usize) -> Result<usize, Errno> {
        let there = self.bytes.len();
        let room = limit.min(CAPACITY - there);
        if room == 0 {
            return Err(Errno::AGAIN);
        }
        let mut moved = vec![0; room];
        let count = source.recv(&mut moved)?;
        self.bytes.extend(&moved[..count]);
        Ok(count)
    }

    pub(crate) fn drain(&mut self, sink: &Endpoint, count: usize) -> Result<usize, Errno> {
        let moved = &self.bytes.make_contiguous()[..count];
        let count = sink.send(&[IoSlice::new(moved)])?;
        self.bytes.drain(..count);
        Ok(count)
    }
}

impl Drop for Conduit {
    fn drop(&mut self) {
        let medium = &mut self.world.network().medium;
        medium.give_descriptor_back(self.host.0);
        medium.give_descriptor_back(self.host.0);
    }
}
