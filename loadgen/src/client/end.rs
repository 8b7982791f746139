//! Is the time of sending over, and who must hear of it?
//!
//! Never wakes anybody twice.

use std::cell::{Cell, RefCell};
use std::task::{Context, Poll, Waker};

/// The end of a thread's sending.
#[derive(Debug, Default)]
pub(crate) struct End {
    is_reached: Cell<bool>,
    waiting: RefCell<Vec<Waker>>,
}

impl End {
    /// Whether it has come.
    pub(crate) fn is_reached(&self) -> bool {
        self.is_reached.get()
    }

    /// Waits for it. Each call until then keeps a waker, unless it is the same task's as the call before.
    pub(crate) fn poll_reached(&self, context: &mut Context<'_>) -> Poll<()> {
        if self.is_reached.get() {
            return Poll::Ready(());
        }
        let mut waiting = self.waiting.borrow_mut();
        if !waiting.iter().any(|waker| waker.will_wake(context.waker())) {
            waiting.push(context.waker().clone());
        }
        Poll::Pending
    }

    /// Says that it has come.
    pub(crate) fn reach(&self) {
        self.is_reached.set(true);
        self.waiting.take().into_iter().for_each(Waker::wake);
    }
}
