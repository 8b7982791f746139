//! Does the data plane ever mix up, lose, repeat or invent anything? Thousands of scenarios on a simulated network say.
//!
//! Never part of the product, and never in its way: the engine that is played here is the one that serves.
//!
//! # What is played
//!
//! One seed is one scenario: a configuration, clients, origins, everything they will do, and everything that the network
//! does to them. `plan` and `scenario` lay it out; `client`, `origin` and `hostile` play it, reading and writing HTTP with
//! `wire`, which shares no line with the engine; `world` puts the unchanged data plane on simulated hosts between them,
//! and virtual hours pass in milliseconds.
//!
//! # What is checked
//!
//! Each request carries its number in its target and in a field, and so does its answer, whose body follows from that
//! number byte by byte (`pattern`). `ledger` keeps what everybody did and saw; `oracle` holds the laws ([`Law`]) and
//! judges. What went wrong must be excused by something that a peer or the network did: nothing excuses a clean scenario.
//!
//! Relays of bytes have scenarios of their own (`relays`): what a side receives is what the other sent, an end is passed on
//! behind all bytes and never in the place of a reset, nothing is forgotten and nothing stays behind.
//!
//! So have upstreams whose endpoints die, hang, are cut off, come back, come and go (`fleet`): no request with effects arrives
//! twice, nobody is asked who is to be left alone, and whoever is up is reached.
//!
//! Every scenario of requests can be played while its configuration is renewed again and again (`renewals`): the laws stay the same, and
//! who answers is of a generation that was current since the request began.
//!
//! # How to use it
//!
//! ```text
//! cargo test -p corelane-simulation                                 800 seeds
//! cargo test -p corelane-simulation --test sweep -- seed=N          one of them, with everything that happens
//! cargo run --release -p corelane-simulation -- --seeds 10000       a long sweep
//! engine/simulation/mutants/run                                     does the sweep find planted faults?
//! ```

mod client;
mod dice;
mod fleet;
mod hostile;
mod ledger;
mod opening;
mod oracle;
mod origin;
mod pattern;
mod plan;
mod relays;
mod renewals;
mod scenario;
mod sweep;
mod wire;
mod world;

pub use fleet::{Sailed, play_fleet};
pub use oracle::{Broken, Law, Tally};
pub use relays::{Relayed, play_relays};
pub use sweep::{Report, run};
pub use world::{Outcome, play, play_renewed};
