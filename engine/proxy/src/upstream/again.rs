//! Where does a request go that failed, if it may go anywhere? To an endpoint that did not have it yet, while the budget lasts.
//!
//! Never asked on a request's first way; whether a request may be repeated at all is decided before.

use std::time::Duration;

use config::snapshot::{EndpointId, UpstreamId};
use proto::retry::Cause;
use runtime::Instant;

use super::Upstreams;
use crate::tries::Tries;

impl Upstreams {
    /// The endpoint that a request goes to after a try that failed of `cause`, if it may be tried again; `same` where nobody
    /// else is left. Counted, and taken from the budget.
    ///
    /// The first other endpoint after one without a connection is free: nothing of the request has reached anybody, so that
    /// the upstream as a whole gets what its clients ask and no more; and of `n` endpoints, one that has just died is met by
    /// an `n`th of all requests until that is noticed, which is more than any budget worth the name.
    pub(crate) fn again(
        &self,
        id: UpstreamId,
        cause: Cause,
        tries: &Tries,
        same: Option<EndpointId>,
    ) -> Option<EndpointId> {
        let retry = &self.settings(id).retry;
        if !retry.causes.contain(cause) || tries.count() >= usize::from(retry.tries_max) {
            return None;
        }
        let next = self.pick(id, &tries.wish(), |endpoint| !tries.contain(endpoint)).or(same)?;
        let is_free = cause == Cause::Connect && tries.count() <= 1;
        let counters = &self.stats.upstreams[usize::from(id.0)];
        if !is_free && !self.take_from_budget(id) {
            counters.retries_over_budget.add(1);
            return None;
        }
        counters.retries[cause.index()].add(1);
        Some(next)
    }

    /// Another endpoint for a request that has failed nowhere yet, if there is one and the budget lasts.
    pub(crate) fn another(&self, id: UpstreamId, tries: &Tries) -> Option<EndpointId> {
        let is_new = |endpoint| !tries.contain(endpoint);
        // Before anybody has had a turn for it.
        let is_possible =
            self.members(id).candidates().any(|member| is_new(member.id)) && self.take_from_budget(id);
        if is_possible { self.pick(id, &tries.wish(), is_new) } else { None }
    }

    /// Takes one request more than was asked for from what this core may send, if there is one left.
    pub(crate) fn take_from_budget(&self, id: UpstreamId) -> bool {
        let settings = self.settings(id);
        let endpoints = settings.slots().map(|slot| &self.stats.endpoints[usize::from(slot.0)]);
        // Where bytes are relayed there are no requests but connections.
        let sent =
            endpoints.map(|counters| counters.requests.value().max(counters.connections_opened.value()));
        let now = self.core.turn_time().since(Instant::from_nanos(0));
        self.budgets.borrow_mut()[usize::from(id.0)]
            .take(sent.fold(0, u64::wrapping_add), now.max(Duration::ZERO))
    }
}
