//! Where and on what do the threads run, and what makes them stop?
//!
//! Never decides what they do.

use std::io;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use anyhow::{Context, Result, bail};
use runtime::cores::{CoreCount, CoreId};
use runtime::{DriverChoice, DriverKind};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::flag;

/// Descriptors a process needs besides its connections: standard streams, drivers, wake-ups, reports.
const DESCRIPTORS_OWN: u64 = 64;
/// What a shell reports for a process ended by SIGINT.
const EXIT_INTERRUPTED: i32 = 130;

/// One entry for each thread: the CPU to pin it to, if any.
///
/// Threads are pinned only when each can have a CPU of its own and none is left over. Otherwise the kernel places
/// them better than we could: the engine under load, pinned from the first CPU on, may share this machine.
pub(crate) fn place(threads: CoreCount) -> Vec<Option<CoreId>> {
    let cpus = CoreCount::Auto.placement();
    let placement = threads.placement();
    let is_whole_machine = placement.len() == cpus.len();
    placement.into_iter().map(|cpu| is_whole_machine.then_some(cpu)).collect()
}

/// Settles on a driver; says so when it is not the one asked for by name.
pub(crate) fn settle_driver(choice: DriverChoice) -> DriverKind {
    let chosen = choice.settle();
    if let (DriverChoice::Uring, Some(error)) = (choice, &chosen.uring_error) {
        eprintln!("loadgen: io_uring is not available here ({error}); using {}", chosen.kind);
    }
    chosen.kind
}

/// A flag that SIGINT and SIGTERM set. The second of these signals ends the process at once.
///
/// # Errors
/// The kernel refused the handlers.
pub(crate) fn stop_on_signals() -> io::Result<Arc<AtomicBool>> {
    let stop = Arc::new(AtomicBool::new(false));
    for signal in [SIGINT, SIGTERM] {
        // In this order: the first signal finds the flag unset and sets it.
        flag::register_conditional_shutdown(signal, EXIT_INTERRUPTED, stop.clone())?;
        flag::register(signal, stop.clone())?;
    }
    Ok(stop)
}

/// Raises the limit of open descriptors as far as `connections` need.
///
/// # Errors
/// The hard limit is too low.
pub(crate) fn allow_descriptors(connections: u64) -> Result<()> {
    let needed = connections + DESCRIPTORS_OWN;
    let limit = getrlimit(Resource::Nofile);
    if limit.current.is_none_or(|current| current >= needed) {
        return Ok(());
    }
    if limit.maximum.is_some_and(|maximum| maximum < needed) {
        let maximum = limit.maximum.unwrap_or_default();
        bail!(
            "{connections} connections need {needed} open files, but the limit is {maximum}: lower -c or raise ulimit -Hn"
        );
    }
    setrlimit(Resource::Nofile, Rlimit { current: Some(needed), maximum: limit.maximum })
        .context("cannot raise the limit of open files; lower -c")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn threads_are_pinned_only_when_they_fill_the_machine() {
        let cpus = CoreCount::Auto.placement().len();
        assert!(place(CoreCount::Auto).iter().all(Option::is_some));
        assert!(place(CoreCount::Exactly(cpus + 1)).iter().all(Option::is_none));
    }
}
