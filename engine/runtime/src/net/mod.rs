//! What can a task do with sockets? Accept, connect, receive, send, park.
//!
//! Never waits in the kernel: that is for [`crate::driver`].

pub mod handle;
pub mod listener;
pub mod stream;
pub mod unix;
