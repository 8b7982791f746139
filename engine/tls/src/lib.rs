//! How does a connection of a core become a private one? rustls between pooled buffers and the socket.
//!
//! Knows no HTTP, no configuration and no file; never decides whom to trust: its caller's rustls configuration does.
//!
//! Suggested reading order: [`handshake`], [`stream`], `session` (rustls behind our buffers), `record`.

pub mod handshake;
mod record;
mod session;
pub mod stream;

pub use crate::handshake::{Handshake, HandshakeError, accept, connect};
pub use crate::stream::{Dormant, TlsStream};
