//! Who is it, and what may he do? Passwords, sessions, roles, tokens and the keys behind them.
//!
//! Never opens a socket, asks a store or looks at a clock: a caller brings bytes, records and the time.
