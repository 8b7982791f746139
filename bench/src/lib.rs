//! What do the programs that measure side by side have in common? Pinned processes, our load
//! generator, its origin, and what rounds say together.
//!
//! Nothing here knows what is measured.

pub mod client;
pub mod origin;
pub mod process;
pub mod summary;
pub mod traffic;
