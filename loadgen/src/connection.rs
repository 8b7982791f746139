//! How does a connection come about, plain or private, over TCP or a Unix socket?
//!
//! Never knows what is said over it.

pub(crate) mod dial;
pub(crate) mod handshakes;
pub(crate) mod transport;
pub(crate) mod trust;
