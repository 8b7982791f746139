//! Where does an exchange keep what it has parsed? In memory that the next exchange uses again.
//!
//! Never grows with the number of exchanges served, only with how many run at once.

use std::cell::RefCell;

use proto::http1::head::{RequestHead, ResponseHead};

use crate::body::Ranges;

/// Workspaces kept for reuse; beyond, memory goes back to the allocator.
const KEPT_MAX: usize = 256;

/// Text memory that a kept workspace holds on to; the rare larger head gives its own back.
const TEXT_BYTES_KEPT_MAX: usize = 4 * 1024;

/// Parsed heads and texts of one exchange.
#[derive(Default)]
pub(crate) struct Workspace {
    pub(crate) request: RequestHead,
    pub(crate) response: ResponseHead,
    /// The request as it goes out: the head, and a small body whole.
    pub(crate) request_text: Vec<u8>,
    /// The same of the answer, or one of our own.
    pub(crate) answer_text: Vec<u8>,
    /// Stretches of a received buffer that go out behind the text.
    pub(crate) ranges: Ranges,
}

/// The workspaces of one core that are not in use.
#[derive(Default)]
#[expect(
    clippy::vec_box,
    reason = "an exchange takes one and gives it back: a pointer moves instead of kilobytes"
)]
pub(crate) struct Workspaces(RefCell<Vec<Box<Workspace>>>);

impl Workspaces {
    pub(crate) fn take(&self) -> Box<Workspace> {
        self.0.borrow_mut().pop().unwrap_or_default()
    }

    pub(crate) fn give_back(&self, mut workspace: Box<Workspace>) {
        workspace.request_text.clear();
        workspace.request_text.shrink_to(TEXT_BYTES_KEPT_MAX);
        workspace.answer_text.clear();
        workspace.answer_text.shrink_to(TEXT_BYTES_KEPT_MAX);
        let mut kept = self.0.borrow_mut();
        if kept.len() < KEPT_MAX {
            kept.push(workspace);
        }
    }
}
