//! Where does an exchange keep what it has parsed? In memory that the next exchange uses again.
//!
//! Never grows with the number of exchanges served, only with how many run at once.

use std::cell::RefCell;
use std::ops::{Deref, DerefMut};

use proto::http1::head::{RequestHead, ResponseHead};

use crate::body::{Body, Ranges};
use crate::trace::TraceContext;
use crate::tries::Tries;

/// Spaces of one kind kept for reuse; beyond, memory goes back to the allocator.
const KEPT_MAX: usize = 256;

/// Text memory that a kept space holds on to; the rare larger head gives its own back.
const TEXT_BYTES_KEPT_MAX: usize = 4 * 1024;

/// What an exchange has of its request, as long as it lasts.
#[derive(Default)]
pub(crate) struct Workspace {
    pub(crate) request: RequestHead,
    /// The request as it goes out: the head, and a small body whole.
    pub(crate) request_text: Vec<u8>,
    /// Stretches of the received buffer that go out behind the text.
    pub(crate) ranges: Ranges,
    /// What of the request's body is still to come.
    pub(crate) body: Body,
    /// Who has had the request.
    pub(crate) tries: Tries,
    /// The trace that it is part of; of an earlier request where traces are like any field.
    pub(crate) trace: Option<TraceContext>,
}

/// What it has of its answer, from the first bytes until they are passed on. That is one stretch of work for most, so
/// that all of them use the same memory in turn, and find it in the cache.
#[derive(Default)]
pub(crate) struct AnswerSpace {
    pub(crate) response: ResponseHead,
    /// The answer as it goes out, or one of our own: the head, and a small body whole.
    pub(crate) text: Vec<u8>,
    /// Stretches of the received buffer that go out behind the text.
    pub(crate) ranges: Ranges,
    /// What of the answer's body is still to come.
    pub(crate) body: Body,
}

/// Memory that serves one exchange after the other.
pub(crate) trait Space: Default {
    /// The text in it.
    fn text(&mut self) -> &mut Vec<u8>;
}

impl Space for Workspace {
    fn text(&mut self) -> &mut Vec<u8> {
        &mut self.request_text
    }
}

impl Space for AnswerSpace {
    fn text(&mut self) -> &mut Vec<u8> {
        &mut self.text
    }
}

/// The spaces of one core that are not in use. The one given back last is taken first: it is still in the cache.
#[derive(Default)]
pub(crate) struct Spaces<T>(RefCell<Vec<Box<T>>>);

impl<T: Space> Spaces<T> {
    pub(crate) fn take(&self) -> Lent<'_, T> {
        Lent { space: Some(self.0.borrow_mut().pop().unwrap_or_default()), home: self }
    }
}

/// A space in use; given back when dropped.
pub(crate) struct Lent<'a, T: Space> {
    space: Option<Box<T>>,
    home: &'a Spaces<T>,
}

impl<T: Space> Deref for Lent<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        self.space.as_ref().expect("there until it is dropped")
    }
}

impl<T: Space> DerefMut for Lent<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        self.space.as_mut().expect("there until it is dropped")
    }
}

impl<T: Space> Drop for Lent<'_, T> {
    fn drop(&mut self) {
        let Some(mut space) = self.space.take() else { return };
        space.text().clear();
        space.text().shrink_to(TEXT_BYTES_KEPT_MAX);
        let mut kept = self.home.0.borrow_mut();
        if kept.len() < KEPT_MAX {
            kept.push(space);
        }
    }
}
