//! How does one core carry a request from a client to an upstream and the answer back?
//!
//! Never parses configuration, opens a file or talks to a store; never waits for control.
//!
//! Suggested reading order: `exchange` (one request, top to bottom), `request` and `response` (its two sides),
//! `client` (the connection around it), [`access`] (what is kept of an exchange for logs), `upstream` and `tries` (the pool, and who has had a request), [`roster`] (who the endpoints are), `wire`, `handshake` and [`private`], `relay`, `body` and
//! `bulk`, `tcp`, `upgrade` and `tunnel`, `answer`, `error_answer` and `date`, [`outcome`], [`stats`], `listener` and
//! [`admission`], [`standing`] (whether this process acts), `rules` (what channels demand) and `tally`, `trace`, [`core_main`], [`generation`]
//! (which configuration) and `commons` (from one to the next).

mod answer;
mod body;
mod bulk;
mod client;
mod commons;
mod conversation;
mod date;
mod error_answer;
mod exchange;
mod handshake;
mod hedge;
mod identity;
mod listener;
mod preface;
mod relay;
mod remains;
mod request;
mod response;
mod rules;
mod schedule;
mod sessions;
mod sticky;
mod tally;
mod tcp;
mod trace;
mod tries;
mod tunnel;
mod upgrade;
mod upstream;
mod wire;
mod workspace;

pub mod access;
pub mod address;
pub mod admission;
pub mod core_main;
pub mod generation;
pub mod handshake_fault;
pub mod message;
pub mod outcome;
pub mod private;
pub mod roster;
pub mod standing;
pub mod stats;
pub mod tokens;

pub use crate::core_main::{CoreSetup, Fellow, serve, serve_on};
