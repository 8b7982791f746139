//! What becomes of the connections to endpoints when a newer generation begins? Those that it would have made itself are its own.
//!
//! Never given to an endpoint of another address, or one that would be spoken to by other terms of TLS.

use std::rc::Rc;
use std::sync::Arc;

use config::snapshot::{Upstream, UpstreamId};
use proto::retry::Budget;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;

use super::{Connection, Idle, Pool, Upstreams};
use crate::core_main::CoreState;
use crate::generation::find_upstream;
use crate::roster::member::{Member, State};

impl Upstreams {
    /// What an upstream may still repeat, if its share of repetitions stays what it was.
    pub(super) fn budget(&self, upstream: &Upstream) -> Option<Budget> {
        let id = find_upstream(&self.snapshot, &upstream.name)?;
        let is_same = self.settings(id).retry.budget_percent == upstream.retry.budget_percent;
        is_same.then(|| self.budgets.borrow()[usize::from(id.0)])
    }

    /// Takes over the idle connections of an earlier generation as far as they are of use here; the others are closed.
    pub(crate) fn inherit(&self, former: &Self) {
        let (mut places, free, by_endpoint) = {
            let mut pool = former.pool.borrow_mut();
            let vacant = (0..pool.by_endpoint.len()).map(|_| Vec::new()).collect();
            let by_endpoint = std::mem::replace(&mut pool.by_endpoint, vacant);
            (std::mem::take(&mut pool.idle), std::mem::take(&mut pool.free), by_endpoint)
        };
        let mut pool = self.pool.borrow_mut();
        pool.free = free;
        for (id, upstream) in (0..).map(UpstreamId).zip(&former.snapshot.upstreams) {
            let members = former.members(id);
            for slot in upstream.slots() {
                let same = members.find(slot).and_then(|member| self.same(former, id, member));
                for index in &by_endpoint[usize::from(slot.0)] {
                    let Some(idle) = places[*index as usize].take() else { continue };
                    former.stats.endpoints[usize::from(slot.0)].idle.sub(1);
                    let place = same.as_ref().filter(|_| {
                        members.find(slot).map(|member| member.generation) == Some(idle.generation)
                    });
                    match place {
                        Some((upstream, member)) if self.has_place(&pool, *upstream, member) => {
                            pool.by_endpoint[usize::from(member.id.0)].push(*index);
                            self.stats.endpoints[usize::from(member.id.0)].idle.add(1);
                            let (endpoint, generation) = (member.id, member.generation);
                            places[*index as usize] = Some(Idle { endpoint, generation, ..idle });
                        }
                        _ => {
                            let Idle { mut parked, .. } = idle;
                            drop(parked.resume(&self.core));
                            pool.free.push(*index);
                            former.stats.endpoints[usize::from(slot.0)].idle_closed.add(1);
                        }
                    }
                }
            }
        }
        pool.idle = places;
    }

    /// There is a newer generation: what is given back is its own.
    pub(crate) fn supersede(&self, state: &Rc<CoreState>) {
        *self.successor.borrow_mut() = Rc::downgrade(state);
        self.is_superseded.set(true);
    }

    /// Keeps a connection where the next request is served that may use it, if any may.
    #[cold]
    pub(super) fn keep_in_successor(&self, connection: Connection) {
        let Some(state) = self.successor.borrow().upgrade() else { return };
        let members = self.members(connection.upstream);
        let member =
            members.find(connection.endpoint).filter(|member| member.generation == connection.generation);
        let same = member.and_then(|member| state.upstreams.same(self, connection.upstream, member));
        if let Some((upstream, member)) = same {
            let (endpoint, generation) = (member.id, member.generation);
            state.upstreams.keep(Connection { upstream, endpoint, generation, ..connection });
        }
    }

    /// Whether who waits in line here and has nothing to wait for, because connections are kept by a newer generation, has one of
    /// those closed for it.
    pub(super) fn spare_of_successor(&self, id: UpstreamId) {
        let Some(state) = self.successor.borrow().upgrade() else { return };
        if let Some(id) = find_upstream(&state.snapshot, &self.settings(id).name) {
            state.upstreams.spare(id);
        }
    }

    fn has_place(&self, pool: &Pool, id: UpstreamId, member: &Member) -> bool {
        let kept = pool.by_endpoint[usize::from(member.id.0)].len();
        kept < usize::from(self.settings(id).idle_connections_max)
    }

    fn terms(&self, id: UpstreamId) -> Option<Terms<'_>> {
        let private = self.private.upstreams.get(usize::from(id.0))?.as_ref()?;
        Some((Arc::as_ptr(&private.config), private.server_name.as_ref()))
    }

    /// Who `member` of an earlier generation is here, if it is spoken to and counted in the same way.
    fn same(&self, former: &Self, id: UpstreamId, member: &Member) -> Option<(UpstreamId, Member)> {
        let settings = former.settings(id);
        let here = find_upstream(&self.snapshot, &settings.name)?;
        let is_alike = |found: &&Member| {
            found.name == member.name
                && found.address == member.address
                && found.server_name == member.server_name
                && found.connections_max.is_some() == member.connections_max.is_some()
                && found.state != State::Draining
        };
        let is_same = self.settings(here).proxy_protocol == settings.proxy_protocol
            && self.terms(here) == former.terms(id);
        let members = self.members(here);
        let found = members.all.iter().find(is_alike).filter(|_| is_same)?;
        Some((here, found.clone()))
    }
}

/// What tells one way of speaking TLS from another.
type Terms<'a> = (*const ClientConfig, Option<&'a ServerName<'static>>);
