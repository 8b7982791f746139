//! What must hold for any bytes whatever?
//!
//! Each target is a plain function of bytes that panics when a promise is broken. None of them reads anything
//! else, so that the bytes alone repeat a failure.

mod naive;
mod splits;

mod chunked;
mod client_hello;
mod configuration;
mod proxy_header;
mod request;
mod response;
mod stream;

mod mutate;
mod seeds;
#[path = "../../engine/tests/common/vectors.rs"]
mod vectors;

pub use chunked::chunked_body;
pub use client_hello::client_hello;
pub use configuration::config_text;
pub use mutate::{Dice, mutate};
pub use proxy_header::proxy_header;
pub use request::request_head;
pub use response::response_head;
pub use seeds::seeds_of;
pub use stream::{request_stream, response_stream};

/// One function to feed with bytes.
#[derive(Clone, Copy, Debug)]
pub struct Target {
    /// Its name on the command line.
    pub name: &'static str,
    /// What must not panic.
    pub run: fn(&[u8]),
    /// Inputs a short run tries, so that each target has its fair share of the time.
    pub short_run_inputs: u32,
}

/// Every target.
pub const TARGETS: &[Target] = &[
    Target { name: "request_head", run: request_head, short_run_inputs: 20_000 },
    Target { name: "response_head", run: response_head, short_run_inputs: 20_000 },
    Target { name: "chunked_body", run: chunked_body, short_run_inputs: 20_000 },
    Target { name: "request_stream", run: request_stream, short_run_inputs: 20_000 },
    Target { name: "response_stream", run: response_stream, short_run_inputs: 20_000 },
    Target { name: "proxy_header", run: proxy_header, short_run_inputs: 20_000 },
    Target { name: "client_hello", run: client_hello, short_run_inputs: 20_000 },
    Target { name: "config_text", run: config_text, short_run_inputs: 3_000 },
];
