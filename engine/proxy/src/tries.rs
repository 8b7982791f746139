//! Who has had a request so far?
//!
//! Never more than the configuration allows tries: that is the bound of the list.

use std::cell::RefCell;

use arrayvec::ArrayVec;
use config::snapshot::EndpointId;

/// What `retry.tries` may be at most.
const TRIES_MAX: usize = 10;

/// The endpoints that one request was tried at, in order.
#[derive(Debug, Default)]
pub(crate) struct Tries(RefCell<ArrayVec<EndpointId, TRIES_MAX>>);

impl Tries {
    /// None yet.
    pub(crate) fn clear(&self) {
        self.0.borrow_mut().clear();
    }

    /// The first, unless that is known.
    pub(crate) fn begin(&self, endpoint: EndpointId) {
        if self.count() == 0 {
            self.note(endpoint);
        }
    }

    /// One more. What is beyond the bound is not tried again either: it is full by then.
    pub(crate) fn note(&self, endpoint: EndpointId) {
        let _ = self.0.borrow_mut().try_push(endpoint);
    }

    pub(crate) fn count(&self) -> usize {
        self.0.borrow().len()
    }

    pub(crate) fn contain(&self, endpoint: EndpointId) -> bool {
        self.0.borrow().contains(&endpoint)
    }
}
