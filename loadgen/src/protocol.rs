//! What is one exchange, in each protocol that can be driven?
//!
//! Never decides when a request is sent, never counts one, and never opens or closes a connection.

pub(crate) mod http;
