//! When does a request go out again, as the data plane reads it?
//!
//! Never makes more of it than was written: what is left out was filled in while reading.

use proto::retry::{Cause, Causes};

use crate::schema::retry::{Queue, Retry, RetryCause};
use crate::snapshot;

pub(super) fn compile_retry(retry: &Retry) -> snapshot::Retry {
    let (mut causes, mut statuses) = (Causes::NONE, Vec::new());
    for cause in &retry.on {
        match cause {
            RetryCause::Word(cause) => causes = causes.with(*cause),
            RetryCause::Status(status) => {
                causes = causes.with(Cause::Status);
                statuses.push(*status);
            }
        }
    }
    snapshot::Retry {
        tries_max: retry.tries,
        budget_percent: retry.budget.percent(),
        causes,
        statuses: statuses.into(),
    }
}

pub(super) fn compile_queue(queue: &Queue) -> snapshot::Queue {
    snapshot::Queue { requests_max: queue.size, timeout: queue.timeout.duration() }
}
