//! What does HTTP/1 say? Heads, framing, persistence, rewriting and own answers (RFC 9110, RFC 9112).
//!
//! Works on ranges of a receive buffer; never copies a body byte and never guesses what a peer meant.

pub mod cookie;
pub mod field;
pub mod head;
pub mod rejected;

pub mod status;
pub mod target;

pub mod framing;
pub mod persist;

pub mod chunked;

pub mod rewrite;

pub mod edit;
pub mod path;

pub mod accept;
pub mod answer;
