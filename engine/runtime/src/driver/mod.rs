//! Where do time, bytes and waiting come from? The one seam between a core and the world.
//!
//! Never decides anything about a protocol.
//!
//! Everything a task does to a socket is a `poll_*` method of `Io`. The drivers differ in how they learn that a
//! socket can go on. The third, behind the feature `simulation`, has sockets in memory, a virtual clock behind `Io::clock`
//! and dice behind [`crate::Core::random`].

mod choice;
mod direct;
mod epoll;
mod io;
mod outbox;
mod socket;
mod uring;

pub use self::choice::{Chosen, DriverChoice, DriverChoiceError, DriverKind};
pub(crate) use self::io::{Backend, Io};
#[cfg(feature = "simulation")]
pub(crate) use self::{
    epoll::{Waited, mark},
    socket::Sockets,
};
