//! What holds bytes on their way from one socket to another, unseen by this process? A pipe of the kernel's, or its like
//! in a simulated world.
//!
//! Never waits: every call answers at once, `EAGAIN` included.

use std::os::fd::OwnedFd;

use rustix::io::Errno;
use rustix::pipe::{PipeFlags, SpliceFlags, fcntl_getpipe_size, fcntl_setpipe_size, pipe_with, splice};

use super::handle::Handle;
#[cfg(feature = "simulation")]
use crate::simulation::Conduit as Simulated;

/// Bytes asked of the kernel for a pipe: what anybody may have (`fs.pipe-max-size`).
const CAPACITY: usize = 1 << 20;

/// With less than the default of 16 pages, moving bytes by pipe costs more than copying them. That little is what a
/// user gets who has too much in pipes already (`fs.pipe-user-pages-soft`).
const CAPACITY_MIN: usize = 64 * 1024;

/// A bounded queue of bytes between two sockets; closed when dropped, with what is in it.
#[derive(Debug)]
pub(crate) struct Conduit(Carrier);

#[derive(Debug)]
enum Carrier {
    Kernel {
        entrance: OwnedFd,
        exit: OwnedFd,
    },
    #[cfg(feature = "simulation")]
    Simulated(Simulated),
}

#[cfg(feature = "simulation")]
impl From<Simulated> for Conduit {
    fn from(simulated: Simulated) -> Self {
        Self(Carrier::Simulated(simulated))
    }
}

impl Conduit {
    /// A pipe of the kernel's; `NOMEM` when it would be too small to be of use.
    pub(crate) fn open() -> Result<Self, Errno> {
        let (exit, entrance) = pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK)?;
        // Where this is refused, the pipe may be large enough as it is.
        if fcntl_setpipe_size(&entrance, CAPACITY).is_err() && fcntl_getpipe_size(&entrance)? < CAPACITY_MIN {
            return Err(Errno::NOMEM);
        }
        Ok(Self(Carrier::Kernel { entrance, exit }))
    }

    /// Takes up to `limit` bytes from a socket, as far as there is room; 0 is the end of the stream. With bytes in the
    /// conduit, `AGAIN` may also mean that it is full.
    pub(crate) fn fill(&mut self, source: &Handle, limit: usize) -> Result<usize, Errno> {
        match &mut self.0 {
            Carrier::Kernel { entrance, .. } => {
                splice(source.kernel()?, None, entrance, None, limit, at_once())
            }
            #[cfg(feature = "simulation")]
            Carrier::Simulated(simulated) => simulated.fill(source.simulated()?, limit),
        }
    }

    /// Gives a socket what it takes of the first `count` bytes. The kernel has no flag here that spares this process
    /// SIGPIPE; Rust's runtime has it ignored.
    pub(crate) fn drain(&mut self, sink: &Handle, count: usize) -> Result<usize, Errno> {
        match &mut self.0 {
            Carrier::Kernel { exit, .. } => splice(exit, None, sink.kernel()?, None, count, at_once()),
            #[cfg(feature = "simulation")]
            Carrier::Simulated(simulated) => simulated.drain(sink.simulated()?, count),
        }
    }
}

fn at_once() -> SpliceFlags {
    SpliceFlags::NONBLOCK | SpliceFlags::MOVE
}

/// The conduits of one core that are not in use, and how many there are in all.
#[derive(Debug, Default)]
pub(crate) struct Conduits {
    /// All are empty. The one used last is taken first.
    idle: Vec<Conduit>,
    open: u16,
    max: u16,
}

impl Conduits {
    pub(crate) fn new(max: u16) -> Self {
        Self { idle: Vec::new(), open: 0, max }
    }

    /// An empty conduit, one that was used before if there is one; none when as many are in use as may be, or `open` fails.
    pub(crate) fn take(&mut self, open: impl FnOnce() -> Result<Conduit, Errno>) -> Option<Conduit> {
        if let Some(conduit) = self.idle.pop() {
            return Some(conduit);
        }
        if self.open == self.max {
            return None;
        }
        let conduit = open().ok()?;
        self.open += 1;
        Some(conduit)
    }

    /// Takes a conduit back. One with bytes in it is closed: they are nobody else's.
    pub(crate) fn give_back(&mut self, conduit: Conduit, is_empty: bool) {
        if is_empty && self.idle.len() < IDLE_MAX {
            self.idle.push(conduit);
        } else {
            self.open -= 1;
        }
    }

    pub(crate) fn open_count(&self) -> u16 {
        self.open
    }

    /// Closes those that are not in use; false when there were none.
    pub(crate) fn close_idle(&mut self) -> bool {
        let is_any = !self.idle.is_empty();
        self.open -= self.idle.len() as u16;
        self.idle.clear();
        is_any
    }

    /// Whether it is worth trying once more what has failed for want of a descriptor: some were kept here.
    pub(crate) fn makes_room(&mut self, error: Errno) -> bool {
        matches!(error, Errno::MFILE | Errno::NFILE) && self.close_idle()
    }
}

/// Conduits of a core that are kept for the next use; each costs two descriptors and, while empty, some KiB of the
/// kernel's.
const IDLE_MAX: usize = 16;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_more_are_open_than_may_be_and_none_with_bytes_comes_back() {
        let mut conduits = Conduits::new(2);
        let first = conduits.take(Conduit::open).expect("a pipe");
        let second = conduits.take(Conduit::open).expect("another");
        assert!(conduits.take(Conduit::open).is_none());
        conduits.give_back(first, false);
        assert_eq!((conduits.open_count(), conduits.idle.len()), (1, 0));
        conduits.give_back(second, true);
        assert_eq!((conduits.open_count(), conduits.idle.len()), (1, 1));
        assert!(conduits.take(|| unreachable!("one is idle")).is_some());
        assert!(conduits.take(|| Err(Errno::MFILE)).is_none());
        assert_eq!(conduits.open_count(), 1);
        assert!(!conduits.makes_room(Errno::MFILE), "all are in use");
        let third = conduits.take(Conduit::open).expect("a pipe");
        conduits.give_back(third, true);
        assert!(!conduits.makes_room(Errno::CONNREFUSED) && conduits.makes_room(Errno::MFILE));
        assert_eq!(conduits.open_count(), 1);
    }
}
