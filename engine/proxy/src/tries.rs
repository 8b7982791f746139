//! Who has had a request so far?
//!
//! Never more than the configuration allows tries: that is the bound of the list.

use std::cell::{Cell, RefCell};

use arrayvec::ArrayVec;
use config::snapshot::EndpointId;

use crate::schedule::Wish;

/// What `retry.tries` may be at most.
const TRIES_MAX: usize = 10;

/// The endpoints that one request was tried at, in order, and what of it has a say in which is next.
#[derive(Debug, Default)]
pub(crate) struct Tries {
    endpoints: RefCell<ArrayVec<EndpointId, TRIES_MAX>>,
    wish: Cell<Wish>,
}

impl Tries {
    /// None yet, and nothing has a say.
    pub(crate) fn clear(&self) {
        self.endpoints.borrow_mut().clear();
        self.wish.set(Wish::default());
    }

    pub(crate) fn wish(&self) -> Wish {
        self.wish.get()
    }

    pub(crate) fn set_wish(&self, wish: Wish) {
        self.wish.set(wish);
    }

    /// The first, unless that is known.
    pub(crate) fn begin(&self, endpoint: EndpointId) {
        if self.count() == 0 {
            self.note(endpoint);
        }
    }

    /// One more. What is beyond the bound is not tried again either: it is full by then.
    pub(crate) fn note(&self, endpoint: EndpointId) {
        let _ = self.endpoints.borrow_mut().try_push(endpoint);
    }

    pub(crate) fn count(&self) -> usize {
        self.endpoints.borrow().len()
    }

    pub(crate) fn contain(&self, endpoint: EndpointId) -> bool {
        self.endpoints.borrow().contains(&endpoint)
    }
}
