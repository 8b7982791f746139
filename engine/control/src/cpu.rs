//! How long has a core's thread been on a CPU? What the kernel says of it.
//!
//! Never asked by a core: reading it costs a system call or three.

use std::fs;

/// Nanoseconds that a thread of this process has spent on a CPU; nothing where the kernel does not say.
pub(crate) fn nanos_of_thread(thread_id: i32) -> Option<u64> {
    // Its first number; counted by the scheduler itself, not sampled by a clock's ticks.
    let text = fs::read_to_string(format!("/proc/self/task/{thread_id}/schedstat")).ok()?;
    text.split(' ').next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_that_works_gets_older() {
        let own = fs::read_link("/proc/thread-self").expect("PID/task/TID");
        let id = own.file_name().and_then(|name| name.to_str()?.parse().ok()).expect("a number");
        let before = nanos_of_thread(id).expect("our own thread");
        while nanos_of_thread(id).expect("our own thread") == before {
            std::hint::spin_loop();
        }
        assert_eq!(nanos_of_thread(i32::MAX), None);
    }
}
