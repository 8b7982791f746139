//! How does a new process take the place of this one, and how did this one take another's? The listening sockets go from hand to
//! hand, so that nobody who connects meanwhile is turned away.
//!
//! Never leaves nobody to accept: until the new process says that it serves, the old one has changed nothing.
//!
//! Suggested reading order: `message` (what the two say to each other), `wire` (how), `program` (what is started),
//! `successor` (the side of the old process), `predecessor` (that of the new one), `sockets` (whose is which), `systemd`
//! (what a supervisor gives).

pub(crate) mod message;
pub(crate) mod predecessor;
pub(crate) mod program;
pub(crate) mod sockets;
pub(crate) mod successor;
pub(crate) mod systemd;
mod wire;
