//! How does a core learn of readiness from epoll? Edge-triggered, registered once, both directions.
//!
//! Never reads or writes: the seam tries the system call first and comes here only to wait.

use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::time::Duration;

use rustix::buffer::spare_capacity;
use rustix::event::epoll;
use rustix::time::Timespec;

use super::socket::{Flags, Socket, Sockets};

/// Events taken from the kernel in one wait; the rest comes with the next turn.
const EVENTS_PER_TURN: usize = 256;
/// Marks the event of the wake-up descriptor.
const WAKEUP: u64 = u64::MAX;

/// The epoll instance of one core.
pub(crate) struct Epoll {
    fd: OwnedFd,
    events: Vec<epoll::Event>,
}

/// What became of one wait.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Waited {
    /// Number of events, of whatever kind.
    pub(crate) events: usize,
    /// Whether the core was woken from outside.
    pub(crate) wakeup: bool,
}

impl Epoll {
    pub(crate) fn new(wakeup: BorrowedFd<'_>) -> io::Result<Self> {
        let fd = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        epoll::add(&fd, wakeup, epoll::EventData::new_u64(WAKEUP), epoll::EventFlags::IN)?;
        Ok(Self { fd, events: Vec::with_capacity(EVENTS_PER_TURN) })
    }

    /// Begins to watch a socket, for as long as it is open.
    pub(crate) fn watch(&self, socket: BorrowedFd<'_>, index: u32) -> io::Result<()> {
        let interest =
            epoll::EventFlags::IN | epoll::EventFlags::OUT | epoll::EventFlags::RDHUP | epoll::EventFlags::ET;
        epoll::add(&self.fd, socket, epoll::EventData::new_u64(u64::from(index)), interest)?;
        Ok(())
    }

    /// Forgets a socket that goes on without this core.
    pub(crate) fn forget(&self, socket: BorrowedFd<'_>) {
        // A descriptor that is open and was registered cannot be refused.
        let _ = epoll::delete(&self.fd, socket);
    }

    /// Waits for events and marks the sockets they concern; `None` waits without a limit.
    pub(crate) fn wait(
        &mut self,
        timeout: Option<Duration>,
        sockets: &mut Sockets,
        mut on_ready: impl FnMut(&mut Sockets, u32),
    ) -> io::Result<Waited> {
        self.events.clear();
        let timeout = timeout.map(|limit| Timespec {
            tv_sec: i64::try_from(limit.as_secs()).unwrap_or(i64::MAX),
            tv_nsec: limit.subsec_nanos().into(),
        });
        match epoll::wait(&self.fd, spare_capacity(&mut self.events), timeout.as_ref()) {
            Ok(_) => {}
            Err(rustix::io::Errno::INTR) => return Ok(Waited::default()),
            Err(error) => return Err(error.into()),
        }
        let mut waited = Waited { events: self.events.len(), wakeup: false };
        for event in &self.events {
            let data = event.data.u64();
            if data == WAKEUP {
                waited.wakeup = true;
                continue;
            }
            let index = data as u32;
            mark(&mut sockets[index], event.flags);
            on_ready(sockets, index);
        }
        Ok(waited)
    }
}

/// Remembers what an event says of a socket.
pub(crate) fn mark(socket: &mut Socket, events: epoll::EventFlags) {
    let broken = events.intersects(epoll::EventFlags::HUP | epoll::EventFlags::ERR);
    if broken {
        socket.flags.set(Flags::BROKEN);
    }
    if broken || events.contains(epoll::EventFlags::RDHUP) {
        socket.flags.set(Flags::READ_CLOSED);
    }
    if broken || events.intersects(epoll::EventFlags::IN | epoll::EventFlags::RDHUP) {
        socket.flags.set(Flags::READABLE);
    }
    if broken || events.contains(epoll::EventFlags::OUT) {
        socket.flags.set(Flags::WRITABLE);
    }
}
