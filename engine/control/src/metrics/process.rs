//! What does the process take of the machine? Memory, descriptors, CPU time and threads, by the names that collectors know.
//!
//! Never fails: what the kernel does not tell is left out.

use std::fmt;
use std::fs;
use std::time::{SystemTime, UNIX_EPOCH};

use super::families::{Families, Labels};
use crate::cpu;

/// Ticks of the kernel's clock in a second, as `/proc` counts CPU time: `USER_HZ`, part of the interface on every platform that this
/// program is built for.
const TICKS_PER_SECOND: f64 = 100.0;

/// Writes what `/proc/self` says.
pub(super) fn encode(families: &mut Families<'_>, started_at: SystemTime) -> fmt::Result {
    let started = started_at.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64();
    families.seconds("start_time", "When the process started, since the Unix epoch", started)?;
    if let Some(seconds) = read("/proc/self/stat").as_deref().and_then(cpu_seconds) {
        families.seconds_counter(
            "cpu",
            "CPU time of all threads, for the program and in the kernel",
            seconds,
        )?;
    }
    if let Some(status) = read("/proc/self/status") {
        if let Some(kib) = field(&status, "VmRSS:") {
            families.bytes("resident_memory", "Memory in use", kib * 1_024)?;
        }
        if let Some(kib) = field(&status, "VmSize:") {
            families.bytes(
                "virtual_memory",
                "Address space, most of it reserved for buffers",
                kib * 1_024,
            )?;
        }
        if let Some(threads) = field(&status, "Threads:") {
            families.gauge("threads", "Threads", threads)?;
        }
    }
    if let Some(open) = open_fds() {
        families.gauge("open_fds", "File descriptors that are open", open)?;
    }
    if let Some(max) = read("/proc/self/limits").as_deref().and_then(max_fds) {
        families.gauge("max_fds", "File descriptors that may be open", max)?;
    }
    Ok(())
}

/// CPU time of each core's thread, as far as it has started.
pub(super) fn core_cpu_seconds(threads: impl Iterator<Item = (usize, i32)>) -> Vec<(Labels, f64)> {
    let of_thread = |(core, thread): (usize, i32)| {
        let seconds = cpu::nanos_of_thread(thread)? as f64 / 1e9;
        Some((vec![("core", core.to_string())], seconds))
    };
    threads.filter_map(of_thread).collect()
}

fn read(path: &str) -> Option<String> {
    fs::read_to_string(path).ok()
}

/// The 14th and 15th word of a `stat` file; the second is a name in parentheses that may hold anything.
fn cpu_seconds(stat: &str) -> Option<f64> {
    let mut words = stat.rsplit_once(')')?.1.split_ascii_whitespace().skip(11);
    let mut ticks = || words.next()?.parse::<u64>().ok();
    Some((ticks()? + ticks()?) as f64 / TICKS_PER_SECOND)
}

/// The number after `key` in a `status` file.
fn field(status: &str, key: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix(key))?;
    line.split_ascii_whitespace().next()?.parse().ok()
}

/// The soft limit of open files in a `limits` file; without a bound, the largest number there is.
fn max_fds(limits: &str) -> Option<u64> {
    let line = limits.lines().find_map(|line| line.strip_prefix("Max open files"))?;
    match line.split_ascii_whitespace().next()? {
        "unlimited" => Some(u64::MAX),
        soft => soft.parse().ok(),
    }
}

/// How many descriptors are open: since Linux 6.2 the size of the directory says so; before, they are counted.
fn open_fds() -> Option<u64> {
    let directory = "/proc/self/fd";
    match fs::metadata(directory).ok()?.len() {
        // The one by which they are counted is among them.
        0 => Some(fs::read_dir(directory).ok()?.count().saturating_sub(1) as u64),
        open => Some(open),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_the_kernel_writes() {
        let stat = "17 (a (b) c) S 1 17 17 0 -1 4194560 2204 0 0 0 250 75 0 0 20 0 4 0 8 1 2";
        assert_eq!(cpu_seconds(stat), Some(3.25));
        assert_eq!(cpu_seconds("17 (x) S 1"), None);
        let status = "Name:\tengine\nVmSize:\t  123 kB\nVmRSS:\t    8 kB\nThreads:\t4\n";
        assert_eq!(
            ["VmSize:", "VmRSS:", "Threads:", "None:"].map(|key| field(status, key)),
            [Some(123), Some(8), Some(4), None]
        );
        let limits = "Limit                     Soft Limit           Hard Limit           Units     \n\
                      Max open files            1024                 524288               files     \n";
        assert_eq!(max_fds(limits), Some(1024));
        assert_eq!(
            max_fds("Max open files            unlimited            unlimited  files"),
            Some(u64::MAX)
        );
    }

    #[test]
    fn open_descriptors_are_counted() {
        let before = open_fds().expect("/proc");
        let files: Vec<_> = (0..50).map(|_| fs::File::open("/dev/null").expect("/dev/null")).collect();
        // Other tests open and close some of their own meanwhile.
        assert!(open_fds().expect("/proc") >= before.max(50));
        drop(files);
        assert!(max_fds(&read("/proc/self/limits").expect("/proc")).expect("a limit") >= 50);
    }
}
