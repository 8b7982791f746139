//! What can a task do with sockets? Accept, connect, receive, send, park.
//!
//! Never calls the kernel itself: everything goes through [`crate::driver`].

pub mod listener;
pub mod stream;
