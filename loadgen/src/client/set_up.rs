//! What does a connection do that is itself what was asked for? Be set up, and closed.
//!
//! Never retries: an attempt that fails is a request that failed.

use std::rc::Rc;
use std::time::Duration;

use super::{Client, Pending};
use crate::protocol::{Flaw, Ticket, Verdict};

impl Client {
    /// Opens and closes one connection after the other until nothing is left to do.
    pub(super) async fn drive_set_ups(self: Rc<Self>) {
        let mut now = self.elapsed();
        while let Some(due) = self.claim(now) {
            let free_at = now;
            if due > now {
                self.pacer.until(self.start.get() + Duration::from_nanos(due)).await;
                now = self.elapsed();
            }
            self.note_lateness(now, free_at.max(due));
            self.counts.sent.add(1);
            self.in_flight.set(self.in_flight.get() + 1);
            let begun_at = now;
            let outcome = self.dialer.attempt(&self.core).await;
            now = self.elapsed();
            let flaw = match &outcome {
                Ok(_) => {
                    self.counts.connects.add(1);
                    None
                }
                Err(_) => outcome.err().map(Flaw::SetUp),
            };
            let pending = Pending { due, ticket: Ticket::default() };
            self.settle(&Verdict { flaw, persists: false }, pending, begun_at, now);
            // An attempt may fail at once, without having waited for anything.
            self.core.yield_now().await;
        }
        self.active.set(self.active.get() - 1);
    }
}
