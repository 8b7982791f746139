//! What do two ends of a WebSocket connection say to each other?
//!
//! Rules alone, from RFC 6455: no module here touches a socket, reads a clock or keeps a payload.

pub(crate) mod frame;
pub(crate) mod handshake;
