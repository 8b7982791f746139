//! How does a connection of a core become a private one? rustls between pooled buffers and the socket.
//!
//! Knows no HTTP, no configuration and no file; never decides whom to trust: its caller says what to build from.
//!
//! Suggested reading order: [`handshake`], [`stream`], `session` (rustls behind our buffers), `record`; then what handshakes
//! are decided by: [`server`], [`names`], [`identity`], [`certificate`].

pub mod handshake;
pub mod stream;

mod session;

mod record;

pub mod server;

pub mod names;

pub mod identity;

pub mod certificate;

#[cfg(test)]
mod testing;

pub use crate::handshake::{Handshake, HandshakeError, accept, connect};
pub use crate::stream::{Dormant, TlsStream};
