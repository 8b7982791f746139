//! Which descriptors has whoever started the process handed down? By numbers that follow each other, as systemd does it.
//!
//! Never a number that is somebody's in this process: they are taken once, before anything else is opened.

use std::os::fd::{FromRawFd, OwnedFd, RawFd};
use std::sync::atomic::{AtomicBool, Ordering};

/// The first of them (`SD_LISTEN_FDS_START`, sd_listen_fds(3)).
const FIRST: RawFd = 3;

static ARE_TAKEN: AtomicBool = AtomicBool::new(false);

/// Takes `count` descriptors that were handed down to this process, with their places in the row. Children do not get them. The
/// second call gets none.
///
/// To be called before the process opens anything: from then on a number may be another's.
#[must_use]
pub fn take(count: u16) -> Vec<(usize, OwnedFd)> {
    if ARE_TAKEN.swap(true, Ordering::AcqRel) {
        return Vec::new();
    }
    (0..count).filter_map(|index| Some((usize::from(index), take_one(FIRST + RawFd::from(index))?))).collect()
}

fn take_one(number: RawFd) -> Option<OwnedFd> {
    // SAFETY: F_SETFD touches no memory, and of a number that is not open it only says so.
    let is_open = unsafe { libc::fcntl(number, libc::F_SETFD, libc::FD_CLOEXEC) } == 0;
    if !is_open {
        return None;
    }
    // SAFETY: the number is open. Whoever started the process has made it over to it, `take` gives it to one caller, and nothing
    // of this process has opened it: that is what `take` asks of its caller.
    Some(unsafe { OwnedFd::from_raw_fd(number) })
}
