//! How do endpoints come and go while the process runs? Added, changed, drained and removed, without an error that a client sees.
//!
//! Never writes the configuration: what was changed here is forgotten with the process. Never removes who still has something to
//! finish, unless it is told to.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use config::snapshot::{EndpointId, EndpointTerms, UpstreamId};
use proxy::address::Address;
use proxy::roster::keeper::KeeperError;
use proxy::roster::member::{Source, State};

use crate::Shared;
use crate::live::Live;

/// Between two looks at those who are leaving, or whose time is over: soon enough for a person who waits, and a handful of loads each.
const LEAVING_ROUND: Duration = Duration::from_millis(100);

/// Who is to be removed as soon as it has nothing left to finish, by slot.
#[derive(Debug, Default)]
pub(crate) struct Leaving(Mutex<HashMap<EndpointId, UpstreamId>>);

impl Leaving {
    /// The same in another configuration; `find` knows where each is there.
    pub(crate) fn next(
        &self,
        find: impl Fn(UpstreamId, EndpointId) -> Option<(UpstreamId, EndpointId)>,
    ) -> Self {
        let list = self.list();
        let found = list.iter().filter_map(|(id, upstream)| find(*upstream, *id));
        Self(Mutex::new(found.map(|(upstream, id)| (id, upstream)).collect()))
    }

    fn list(&self) -> MutexGuard<'_, HashMap<EndpointId, UpstreamId>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn contains(&self, id: EndpointId) -> bool {
        self.list().contains_key(&id)
    }
}

/// Until when those who have registered themselves are endpoints, by slot.
#[derive(Debug, Default)]
pub(crate) struct Leases(Mutex<HashMap<EndpointId, Lease>>);

#[derive(Clone, Copy, Debug)]
struct Lease {
    upstream: UpstreamId,
    ends: Instant,
}

impl Leases {
    /// The same in another configuration; `find` knows where each is there.
    pub(crate) fn next(
        &self,
        find: impl Fn(UpstreamId, EndpointId) -> Option<(UpstreamId, EndpointId)>,
    ) -> Self {
        let list = self.list();
        let found = list.iter().filter_map(|(id, lease)| {
            let (upstream, id) = find(lease.upstream, *id)?;
            Some((id, Lease { upstream, ends: lease.ends }))
        });
        Self(Mutex::new(found.collect()))
    }

    fn list(&self) -> MutexGuard<'_, HashMap<EndpointId, Lease>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn contains(&self, id: EndpointId) -> bool {
        self.list().contains_key(&id)
    }

    /// How many an upstream has.
    pub(crate) fn count(&self, upstream: UpstreamId) -> usize {
        self.list().values().filter(|lease| lease.upstream == upstream).count()
    }

    /// What is left of a lease.
    pub(crate) fn left(&self, id: EndpointId) -> Option<Duration> {
        self.list().get(&id).map(|lease| lease.ends.saturating_duration_since(Instant::now()))
    }

    /// Gives a lease, or makes it longer.
    pub(crate) fn renew(&self, upstream: UpstreamId, id: EndpointId, ends: Instant) {
        self.list().insert(id, Lease { upstream, ends });
    }

    /// Ends a lease; whether there was one.
    pub(crate) fn remove(&self, id: EndpointId) -> bool {
        self.list().remove(&id).is_some()
    }

    /// Takes those out whose time is over.
    fn expired(&self, now: Instant) -> Vec<(EndpointId, UpstreamId)> {
        let mut leases = self.list();
        let over: Vec<_> = leases
            .iter()
            .filter(|(_, lease)| lease.ends <= now)
            .map(|(id, lease)| (*id, lease.upstream))
            .collect();
        leases.retain(|_, lease| lease.ends > now);
        over
    }
}

/// Somebody who is to be an endpoint.
#[derive(Clone, Debug)]
pub(crate) struct Newcomer {
    pub(crate) address: Address,
    /// The host that it was found as.
    pub(crate) host: Option<Arc<str>>,
    pub(crate) terms: EndpointTerms,
    pub(crate) source: Source,
}

/// What became of a newcomer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Joined {
    /// It is an endpoint now.
    Added(EndpointId),
    /// It was one on these terms, or was about to leave and stays now.
    Stays(EndpointId),
    /// It is one, on other terms.
    Differs(EndpointId),
}

impl Live {
    /// The endpoint of this name or at this address.
    pub(crate) fn endpoint_named(&self, upstream: UpstreamId, text: &str) -> Option<EndpointId> {
        let members = self.roster.members(upstream);
        let is_named = |name: &str, address: &Address| name == text || address.to_string() == text;
        members.all.iter().find(|member| is_named(&member.name, &member.address)).map(|member| member.id)
    }

    /// Exchanges and relays that an endpoint has in progress.
    pub(crate) fn active(&self, id: EndpointId) -> u64 {
        self.endpoint(id).iter().map(|counters| counters.active.value()).sum()
    }

    /// Adds an endpoint, or takes back one that was about to leave.
    ///
    /// # Errors
    /// [`KeeperError::Full`].
    pub(crate) fn join(&self, upstream: UpstreamId, newcomer: Newcomer) -> Result<Joined, KeeperError> {
        let Newcomer { address, host, terms, source } = newcomer;
        let mut leaving = self.leaving.list();
        self.change_roster(upstream, |keeper| {
            let Some(id) = keeper.find_at(upstream, &address) else {
                let name = address.to_string();
                return keeper.add_host(upstream, &name, address, host, terms, source).map(Joined::Added);
            };
            if leaving.remove(&id).is_some() {
                keeper.set_terms(upstream, id, terms)?;
                keeper.drain(upstream, id, false)?;
                return Ok(Joined::Stays(id));
            }
            let is_same = keeper.terms(upstream, id) == Some(&terms);
            Ok(if is_same { Joined::Stays(id) } else { Joined::Differs(id) })
        })
    }

    /// Gives an endpoint nothing new; it is removed as soon as it has finished what it has begun.
    ///
    /// # Errors
    /// [`KeeperError::Vacant`].
    pub(crate) fn leave(&self, upstream: UpstreamId, id: EndpointId) -> Result<(), KeeperError> {
        let mut leaving = self.leaving.list();
        self.change_roster(upstream, |keeper| keeper.drain(upstream, id, true))?;
        leaving.insert(id, upstream);
        Ok(())
    }

    /// Removes an endpoint at once. What it has begun goes on, and nobody waits for it.
    ///
    /// # Errors
    /// [`KeeperError::Vacant`].
    pub(crate) fn remove(&self, upstream: UpstreamId, id: EndpointId) -> Result<(), KeeperError> {
        self.leaving.list().remove(&id);
        self.change_roster(upstream, |keeper| keeper.remove(upstream, id))
    }

    /// Says that an endpoint is to finish what it has begun and get nothing new, or may get new exchanges again, which also
    /// takes back its leaving.
    ///
    /// # Errors
    /// [`KeeperError::Vacant`].
    pub(crate) fn drain(
        &self,
        upstream: UpstreamId,
        id: EndpointId,
        is_draining: bool,
    ) -> Result<(), KeeperError> {
        if !is_draining {
            self.leaving.list().remove(&id);
        }
        self.change_roster(upstream, |keeper| keeper.drain(upstream, id, is_draining))
    }

    /// Removes those who are leaving and have nothing left to finish.
    fn see_off(&self) {
        let mut leaving = self.leaving.list();
        leaving.retain(|id, upstream| {
            let members = self.roster.members(*upstream);
            let Some(member) = members.find(*id).filter(|member| member.state == State::Draining) else {
                return false;
            };
            if self.active(*id) > 0 {
                return true;
            }
            let upstream_name = &self.snapshot.upstreams[usize::from(upstream.0)].name;
            tracing::info!(
                "upstream {upstream_name}: {} has finished and is no endpoint any more",
                member.name
            );
            // It was there a line ago, and nobody else writes.
            let _ = self.change_roster(*upstream, |keeper| keeper.remove(*upstream, *id));
            false
        });
    }
}

/// Sees off those who are leaving, for as long as the process lives.
pub(crate) async fn rounds(shared: Arc<Shared>) {
    loop {
        tokio::time::sleep(LEAVING_ROUND).await;
        let live = shared.live();
        for (id, upstream) in live.leases.expired(Instant::now()) {
            if let Some(member) = live.roster.members(upstream).find(id) {
                let name = &live.snapshot.upstreams[usize::from(upstream.0)].name;
                tracing::warn!(
                    "upstream {name}: {} has not renewed its registration and leaves",
                    member.name
                );
            }
            // One that is gone already has nothing to leave.
            let _ = live.leave(upstream, id);
        }
        if !live.leaving.list().is_empty() {
            live.see_off();
        }
    }
}
