//! What is still known of endpoints when another configuration takes over? Everything of those that keep their names.
//!
//! Never leaves anybody out of traffic for a reason that nobody looks after any more.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use config::snapshot::{Snapshot, Upstream, UpstreamId};

use super::{Warden, Watch, is_watched};
use crate::roster::keeper::Keeper;
use crate::roster::member::{Member, State};

/// Of no list: the next turn compares.
const NO_REVISION: u64 = u64::MAX;

impl Warden {
    /// A warden for `snapshot`, whose roster `keeper` writes: it knows what this one knows.
    #[must_use]
    pub fn next(&self, snapshot: &Arc<Snapshot>, keeper: &mut Keeper, now: Duration) -> Self {
        let mut next = Self::new(snapshot);
        let former: HashMap<&str, usize> =
            (0..).zip(&self.snapshot.upstreams).map(|(index, upstream)| (&*upstream.name, index)).collect();
        for (id, settings) in (0..).map(UpstreamId).zip(&snapshot.upstreams) {
            let Some(former) = former.get(&*settings.name) else { continue };
            let members = keeper.roster().members(id);
            let watch = &self.watches[*former];
            let known: HashMap<&str, _> = watch.wards.iter().map(|ward| (&*ward.name, ward)).collect();
            for member in &members.all {
                if let Some(ward) = known.get(&*member.name) {
                    next.tallies[usize::from(member.id.0)] = self.tallies[usize::from(ward.id.0)];
                }
            }
            if is_watched(settings) {
                let ward = |member: &Member| Some(known.get(&*member.name)?.next(member, settings, now));
                next.watches[usize::from(id.0)] = Watch {
                    revision: watch.revision.map(|_| NO_REVISION),
                    wards: members.all.iter().filter_map(ward).collect(),
                    is_panic: watch.is_panic,
                    telling: watch.telling,
                };
            }
            for member in &members.all {
                free(keeper, id, settings, member);
            }
        }
        next
    }
}

/// Ends what this configuration would never end, since it looks for no such thing.
fn free(keeper: &mut Keeper, id: UpstreamId, settings: &Upstream, member: &Member) {
    // What is drained may be down or ejected besides. Whoever is in the list is in its slot.
    let may_be = |state| member.state == state || member.state == State::Draining;
    if settings.health.is_none() && may_be(State::Down) {
        let _ = keeper.set_health(id, member.id, true);
    }
    if settings.ejection.is_none() && (may_be(State::Ejected) || may_be(State::Down)) {
        let _ = keeper.eject(id, member.id, false);
    }
    if settings.slow_start.is_none() && member.weight != member.weight_full {
        let _ = keeper.warm(id, member.id, None);
    }
}
