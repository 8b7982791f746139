//! What does every black-box test need? An engine, raw connections, scripted origins, and a deadline on every wait.
//!
//! Never looks inside the engine: only at its command line, its sockets, its standard error and `/proc`.

#![allow(dead_code, reason = "each test binary takes what it needs")]

pub(crate) mod browser;
pub(crate) mod cluster;
pub(crate) mod connection;
pub(crate) mod dns;
pub(crate) mod engine;
pub(crate) mod fleet;
pub(crate) mod message;
pub(crate) mod origin;
pub(crate) mod pattern;
pub(crate) mod private;
pub(crate) mod signal;

use std::io::{self, Write};
use std::thread;
use std::time::{Duration, Instant};

use self::engine::{Driver, Engine};

/// How long anything may take that must happen. Generous: it is only ever waited for by a test that fails.
pub(crate) const PATIENCE: Duration = Duration::from_secs(10);

/// Runs a test on epoll, then on io_uring. Where the machine refuses io_uring, the fall-back is what is tested.
pub(crate) fn on_both_drivers(test: impl Fn(Driver)) {
    for driver in [Driver::Epoll, Driver::Uring] {
        // Shown with a failure, so that it says which of the two failed.
        eprintln!("---- on {driver}");
        let running = Engine::settled_driver(driver);
        match driver {
            Driver::Epoll => assert!(running.starts_with("epoll"), "asked for epoll, runs on: {running}"),
            Driver::Uring if running.starts_with("io_uring") => {}
            Driver::Uring => {
                assert!(running.starts_with("epoll") && running.contains("io_uring"), "{running}");
                // Past the capture of a passing test's output: whoever reads the result must know.
                let _ = writeln!(io::stderr(), "io_uring is refused here, not tested: {running}");
                continue;
            }
        }
        test(driver);
    }
}

/// Waits until `is_so`, which nothing announces.
#[track_caller]
pub(crate) fn eventually(what: &str, mut is_so: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !is_so() {
        assert!(Instant::now() < deadline, "never happened: {what}");
        // Another process's state: there is nothing to wait on but time.
        thread::sleep(Duration::from_millis(5));
    }
}
