//! When may a request go out again, and where does one wait for which there is no room?
//!
//! Never asks whether a request may be repeated: that is the data plane's part, and it never does for some.

use super::fields::Fields;
use super::{TIMEOUT_MAX, TIMEOUT_MIN};
use crate::schema::retry::{Hedge, Queue, Retry};
use crate::value::retry_cause;
use crate::value::share::Share;

/// More tries than that only make a failure last longer.
const TRIES_MAX: u8 = 10;

/// More than one host has memory for.
const QUEUE_SIZE_MAX: u32 = 1_000_000;

pub(super) fn read_retry(fields: &mut Fields<'_>) -> Retry {
    let default = Retry::default();
    let budgets = Share::from_percent(0)..=Share::from_percent(100);
    Retry {
        tries: fields.integer("tries", 1..=TRIES_MAX, default.tries),
        budget: fields.share("budget", budgets, default.budget),
        on: if fields.is_given("on") {
            fields.items("on").iter().filter_map(|item| item.parsed(retry_cause::parse)).collect()
        } else {
            default.on
        },
    }
}

pub(super) fn read_queue(fields: &mut Fields<'_>) -> Queue {
    let default = Queue::default();
    Queue {
        size: fields.integer("size", 0..=QUEUE_SIZE_MAX, default.size),
        timeout: fields.duration("timeout", TIMEOUT_MIN..=TIMEOUT_MAX, default.timeout),
    }
}

pub(super) fn read_hedge(fields: &mut Fields<'_>) -> Hedge {
    fields.require("after", "\"100ms\"");
    Hedge { after: fields.duration("after", TIMEOUT_MIN..=TIMEOUT_MAX, TIMEOUT_MAX) }
}
