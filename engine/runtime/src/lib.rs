//! How does one CPU core run thousands of connections? One pinned executor, its drivers, timers and buffers.
//!
//! Knows nothing of HTTP, channels or configuration. The only crate with `unsafe`.
//!
//! Suggested reading order: [`core`] (the loop), `task`, [`net`], [`driver`] (the seam and its drivers),
//! [`buffer`], [`wheel`], [`mailbox`].

#![allow(unsafe_code)] // the one room that talks to the kernel and recycles task memory itself

pub mod buffer;
pub mod core;
pub mod cores;
pub mod counter;
pub mod driver;
pub mod mailbox;
pub mod net;
pub mod privileges;
#[cfg(feature = "simulation")]
pub mod simulation;
mod spin;
mod task;
pub mod time;
pub mod wheel;

pub use crate::buffer::Chunk;
pub use crate::core::{Core, CoreConfig, run};
pub use crate::driver::{DriverChoice, DriverKind};
pub use crate::mailbox::Remote;
pub use crate::net::handle::Handle;
pub use crate::net::listener::Listener;
pub use crate::net::pipe::Pipe;
pub use crate::net::stream::{ParkEvent, Parked, Stream};
pub use crate::time::Instant;
