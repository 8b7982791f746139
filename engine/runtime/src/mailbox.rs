//! How does anything reach a core from outside? A bounded queue and a wake-up.
//!
//! Never used by the request path: accept hand-off, configuration, statistics and drain travel here.

use std::cell::RefCell;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock, Weak};
use std::task::{Poll, Waker};

use crossbeam_queue::ArrayQueue;
use crossbeam_utils::CachePadded;
use rustix::event::{EventfdFlags, eventfd};

use crate::core::Core;

/// Every core of this process by number, for wakers that end up on a foreign thread.
static REMOTES: RwLock<Vec<Weak<Remote>>> = RwLock::new(Vec::new());

/// The part of a core that other threads may touch.
#[derive(Debug)]
pub struct Remote {
    number: AtomicU32,
    pending: CachePadded<AtomicBool>,
    sleeping: CachePadded<AtomicBool>,
    eventfd: OwnedFd,
    /// Tasks woken from other threads. Cold: no wake-up of the data plane crosses threads.
    woken: Mutex<Vec<u32>>,
}

impl Remote {
    /// Makes the outside of a core that does not run yet.
    ///
    /// # Errors
    /// When no file descriptor is left.
    pub fn new() -> io::Result<Arc<Self>> {
        let remote = Arc::new(Self {
            number: AtomicU32::new(u32::MAX),
            pending: CachePadded::new(AtomicBool::new(false)),
            sleeping: CachePadded::new(AtomicBool::new(false)),
            eventfd: eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?,
            woken: Mutex::new(Vec::new()),
        });
        let mut remotes = REMOTES.write().unwrap_or_else(PoisonError::into_inner);
        // Numbers are reused once a core is gone: a stale waker is at worst a spurious wake-up.
        let vacant = remotes.iter().position(|remote| remote.strong_count() == 0);
        let index = vacant.unwrap_or(remotes.len());
        if vacant.is_some() {
            remotes[index] = Arc::downgrade(&remote);
        } else {
            remotes.push(Arc::downgrade(&remote));
        }
        remote.number.store(index as u32, Ordering::Relaxed);
        Ok(remote)
    }

    pub(crate) fn number(&self) -> u32 {
        self.number.load(Ordering::Relaxed)
    }

    /// Makes the core look into its mailboxes, from any thread.
    pub fn wake(&self) {
        // Both orders are sequentially consistent: either the core sees `pending` before it sleeps, or this sees
        // `sleeping` and writes to the eventfd.
        self.pending.store(true, Ordering::SeqCst);
        if self.sleeping.load(Ordering::SeqCst) {
            // A full counter (EAGAIN) means that a wake-up is on its way already.
            let _ = rustix::io::write(&self.eventfd, &1_u64.to_ne_bytes());
        }
    }

    /// Whether something came in since the last call. Called by the owning core once a turn.
    #[inline]
    pub(crate) fn take_pending(&self) -> bool {
        self.pending.load(Ordering::Relaxed) && self.pending.swap(false, Ordering::SeqCst)
    }

    /// Whether something came in.
    #[inline]
    pub(crate) fn has_pending(&self) -> bool {
        self.pending.load(Ordering::Relaxed)
    }

    /// Announces that the core will sleep; false when it must not, because something came in.
    pub(crate) fn fall_asleep(&self) -> bool {
        self.sleeping.store(true, Ordering::SeqCst);
        if self.pending.load(Ordering::SeqCst) {
            self.sleeping.store(false, Ordering::SeqCst);
            return false;
        }
        true
    }

    pub(crate) fn wake_up(&self) {
        self.sleeping.store(false, Ordering::SeqCst);
    }

    /// Empties the eventfd after it became readable.
    pub(crate) fn drain_eventfd(&self) {
        let mut count = [0; 8];
        let _ = rustix::io::read(&self.eventfd, &mut count);
    }

    pub(crate) fn eventfd(&self) -> BorrowedFd<'_> {
        self.eventfd.as_fd()
    }

    pub(crate) fn take_woken(&self) -> Vec<u32> {
        std::mem::take(&mut *self.woken.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Wakes a task of another thread's core.
#[cold]
pub(crate) fn wake_task(core_number: u32, index: u32) {
    let remote = REMOTES
        .read()
        .unwrap_or_else(PoisonError::into_inner)
        .get(core_number as usize)
        .and_then(Weak::upgrade);
    if let Some(remote) = remote {
        remote.woken.lock().unwrap_or_else(PoisonError::into_inner).push(index);
        remote.wake();
    }
}

/// Makes a bounded mailbox into the core that `remote` belongs to.
#[must_use]
pub fn mailbox<M: Send>(remote: &Arc<Remote>, capacity: usize) -> (Sender<M>, Receiver<M>) {
    let queue = Arc::new(ArrayQueue::new(capacity));
    let sender = Sender { queue: Arc::clone(&queue), remote: Arc::clone(remote) };
    (sender, Receiver { queue })
}

/// The outer end of a mailbox; any thread may hold one.
#[derive(Debug)]
pub struct Sender<M> {
    queue: Arc<ArrayQueue<M>>,
    remote: Arc<Remote>,
}

impl<M> Clone for Sender<M> {
    fn clone(&self) -> Self {
        Self { queue: Arc::clone(&self.queue), remote: Arc::clone(&self.remote) }
    }
}

impl<M: Send> Sender<M> {
    /// Puts a message into the box and wakes the core.
    ///
    /// # Errors
    /// Gives the message back when the box is full.
    pub fn send(&self, message: M) -> Result<(), M> {
        self.queue.push(message)?;
        self.remote.wake();
        Ok(())
    }
}

/// The inner end of a mailbox, read by a task of the core.
#[derive(Debug)]
pub struct Receiver<M> {
    queue: Arc<ArrayQueue<M>>,
}

impl<M> Receiver<M> {
    /// Waits for the next message.
    pub async fn recv(&self, core: &Core) -> M {
        std::future::poll_fn(|context| match self.queue.pop() {
            Some(message) => Poll::Ready(message),
            None => {
                core.mailbox_waiters().add(context.waker());
                Poll::Pending
            }
        })
        .await
    }
}

/// Tasks of this core that wait for a mailbox. They are few, so all are woken and look for themselves.
#[derive(Debug, Default)]
pub(crate) struct Waiters(RefCell<Vec<Waker>>);

impl Waiters {
    fn add(&self, waker: &Waker) {
        let mut wakers = self.0.borrow_mut();
        if !wakers.iter().any(|other| other.will_wake(waker)) {
            wakers.push(waker.clone());
        }
    }

    pub(crate) fn wake_all(&self) {
        for waker in self.0.take() {
            waker.wake();
        }
    }
}
