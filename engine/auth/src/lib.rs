//! Who is it, and what may he do? Passwords, sessions, roles, tokens and the keys behind them.
//!
//! Never opens a socket, asks a store or looks at a clock: a caller brings bytes, records and the time.
//!
//! Suggested reading order: `permission` (who may what), `password` and `lockout` (is it he), `session` (he has been here before),
//! `token` (somebody vouches for him).

pub mod permission;

pub mod lockout;
pub mod password;

pub mod secret;
pub mod session;

pub mod token;
