//! How does a connection of a core become a private one? rustls between pooled buffers and the socket.
//!
//! Knows no HTTP, no configuration and no file; never decides whom to trust: its caller says what to build from.
//!
//! Suggested reading order: [`handshake`], [`stream`], `session` (rustls behind our buffers), `record`; then what handshakes
//! are decided by: [`server`], [`names`], [`tickets`], [`client_auth`]; [`client`]; [`identity`], [`trust`], [`certificate`].

pub mod handshake;
mod record;
mod session;
pub mod stream;

pub mod client_auth;
pub mod names;
pub mod server;
pub mod tickets;

pub mod client;

pub mod certificate;
pub mod identity;
pub mod trust;

#[cfg(test)]
mod testing;

pub use crate::handshake::{Handshake, HandshakeError, accept, connect};
pub use crate::stream::{Dormant, TlsStream};
