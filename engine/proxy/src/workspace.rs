//! Where does an exchange keep what it has parsed? In memory that the next exchange uses again.
//!
//! Never grows with the number of exchanges served, only with how many run at once.

use std::cell::RefCell;

use proto::http1::head::{RequestHead, ResponseHead};
use proto::http1::rewrite::Rewritten;

use crate::body::Ranges;

/// Workspaces kept for reuse; beyond, memory goes back to the allocator.
const KEPT_MAX: usize = 256;

/// Parsed heads and texts of one exchange.
#[derive(Default)]
pub(crate) struct Workspace {
    pub(crate) request: RequestHead,
    pub(crate) response: ResponseHead,
    pub(crate) rewritten: Rewritten,
    pub(crate) ranges: Ranges,
    /// A whole small message: a request that may have to be sent again, or an answer of our own.
    pub(crate) text: Vec<u8>,
}

/// The workspaces of one core that are not in use.
#[derive(Default)]
pub(crate) struct Workspaces(RefCell<Vec<Box<Workspace>>>);

impl Workspaces {
    pub(crate) fn take(&self) -> Box<Workspace> {
        self.0.borrow_mut().pop().unwrap_or_default()
    }

    pub(crate) fn give_back(&self, workspace: Box<Workspace>) {
        let mut kept = self.0.borrow_mut();
        if kept.len() < KEPT_MAX {
            kept.push(workspace);
        }
    }
}
