//! What does a run tell people and programs: while it goes on, and when it is over?
//!
//! Reads what was counted and recorded; never changes it, and never waits for the network.

pub(crate) mod distribution;
pub(crate) mod hlog;
pub(crate) mod html_chart;
pub(crate) mod html_report;
pub(crate) mod html_seconds;
pub(crate) mod intervals;
pub(crate) mod live;
pub(crate) mod progress;
pub(crate) mod report;
pub(crate) mod screen;
pub(crate) mod watch;
