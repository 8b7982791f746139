//! Is an endpoint well, and how much may it be given? What probes and traffic say, turned into verdicts.
//!
//! Nothing here connects, waits or rolls dice: outcomes, the time and dice are passed in. A time is what has passed since any fixed
//! moment, the same for all calls.
//!
//! Suggested reading order: `check` (what probes say), `body` (what an answer to one says), `ejection` (what traffic says), `slow_start` (what one that is back
//! gets), `panic` (when none of that counts).

pub mod body;
pub mod check;
pub mod ejection;
pub mod panic;
pub mod slow_start;
