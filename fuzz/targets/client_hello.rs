//! Does `client_hello` keep its promises for whatever libFuzzer thinks of?
//!
//! Never holds a promise of its own: the tests run the same function without coverage.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| fuzz::client_hello(bytes));
