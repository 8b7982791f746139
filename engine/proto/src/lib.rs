//! What do the protocols demand? Pure decisions over bytes and numbers a caller passes in.
//!
//! Nothing here opens a socket, asks the time, rolls dice or allocates for a request.

mod rule;

pub mod http1;

pub mod access;
pub mod balance;
pub mod certificate;
pub mod client_hello;
pub mod handoff;
pub mod health;
pub mod histogram;
pub mod lease;
pub mod matching;
pub mod messages;
pub mod proxy_protocol;
pub mod rate;
pub mod retry;
pub mod share;
pub mod template;
pub mod trace;
