//! What can a task do with sockets? Accept, connect, receive, send, park, move bytes from one to another.
//!
//! Never waits in the kernel: that is for [`crate::driver`].

pub(crate) mod conduit;
pub mod handle;
pub mod inherited;
pub mod listener;
pub mod pipe;
pub mod stream;
pub mod unix;
