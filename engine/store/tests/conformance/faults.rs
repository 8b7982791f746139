//! What becomes of the store when things go wrong around it? Each fault is made for real: processes are killed and stopped, disks are full.
//!
//! Never by a stand-in for the database, and never by one that is not the test's own.

mod children;
pub(crate) mod crowd;
mod full;
pub(crate) mod killed;
mod locked;
mod restarted;
mod stalled;
mod standby;
