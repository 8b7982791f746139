//! How is one HTTP exchange held?
//!
//! Nothing here knows when a request is due.

pub(crate) mod response;
