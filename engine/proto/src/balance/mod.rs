//! Which endpoint gets the next exchange?
//!
//! One scheduler per file, each with its own state per core; never asks how an endpoint is, only whether it may.

pub mod round_robin;
