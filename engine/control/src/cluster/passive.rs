//! Which process of an `active_passive` node serves? The holder of the node's lease; the others stand by.
//!
//! Never lets two serve at once: the cores are told until when they may, and ask their own clock before each request. Who cannot reach the
//! store cannot know whether another has taken over, and stops.

use std::sync::Arc;
use std::time::Duration;

use config::snapshot::cluster::Mode;
use proto::lease::{Answer, Ask, Contender, LeaseTerms, Mark, Row};
use proxy::standing::monotonic;
use store::{LeaseRow, Store, StoreError};

use super::{Cluster, Me, Role};
use crate::Shared;

/// How long a process that has taken another's place looks for the lease more often, and how often.
const HAND_OVER_MAX: Duration = Duration::from_secs(15);
const HAND_OVER_LOOK: Duration = Duration::from_millis(25);

/// One process, contending under one ID.
struct Candidacy {
    me: Me,
    terms: LeaseTerms,
    contender: Contender,
}

/// Contends for the node's lease, for as long as the process lives.
pub(crate) async fn rounds(shared: Arc<Shared>, cluster: Arc<Cluster>) {
    let name = lease_name(cluster.node());
    let mut candidacy: Option<Candidacy> = None;
    loop {
        let terms = shared.live().snapshot.terms.clone();
        let (store, me, is_leaving, is_replaced) = {
            let state = cluster.state();
            (state.store.clone(), state.me.clone(), state.is_leaving, state.is_replaced)
        };
        if is_replaced && terms.mode == Mode::ActivePassive {
            // What it has begun it finishes; from here on another process begins.
            give_back(&cluster, store.as_ref(), &name, candidacy.take()).await;
            return;
        }
        if is_leaving || is_replaced {
            return;
        }
        let pause = match (terms.mode, store, me) {
            (Mode::ActiveActive, store, _) => {
                give_back(&cluster, store.as_ref(), &name, candidacy.take()).await;
                cluster.standing.act_always();
                set_role(&cluster, Role::Serving);
                terms.poll
            }
            (Mode::ActivePassive, Some(store), Some(me)) => {
                let lease_terms = LeaseTerms::new(terms.lease);
                let is_other = |candidacy: &Candidacy| candidacy.me != me || candidacy.terms != lease_terms;
                if candidacy.as_ref().is_some_and(is_other) {
                    // The others took it for gone, or wait for another time now: what it held is over.
                    give_back(&cluster, Some(&store), &name, candidacy.take()).await;
                }
                let candidacy = candidacy.get_or_insert_with(|| Candidacy {
                    me,
                    terms: lease_terms,
                    contender: Contender::new(lease_terms),
                });
                let asked = monotonic();
                let is_answered = candidacy.ask(&store, &name, lease_terms.holding()).await;
                let now = monotonic();
                candidacy.tell(&cluster, now);
                let next = if is_answered {
                    candidacy.contender.next_at(asked, terms.poll)
                } else {
                    asked + terms.poll
                };
                next.saturating_sub(now)
            }
            (Mode::ActivePassive, ..) => {
                // Not registered, or not any more. What was held counts until it is over.
                match &candidacy {
                    Some(candidacy) => candidacy.tell(&cluster, monotonic()),
                    None => {
                        cluster.standing.act_until(None);
                        set_role(&cluster, Role::Standby);
                    }
                }
                terms.poll
            }
        };
        // Who has taken another's place waits for a lease that is about to be given back.
        let is_awaited = cluster.is_standby() && shared.process.started.elapsed() < HAND_OVER_MAX;
        let pause =
            if is_awaited && shared.upgrades.has_taken_over() { pause.min(HAND_OVER_LOOK) } else { pause };
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            () = cluster.contend.notified() => {}
        }
    }
}

/// The lease of the process of a node that serves.
pub(super) fn lease_name(node: &str) -> String {
    format!("node/{node}")
}

impl Candidacy {
    /// Asks the store once; whether there was an answer.
    async fn ask(&mut self, store: &Store, name: &str, patience: Duration) -> bool {
        let sent = monotonic();
        let ask = self.contender.next(sent);
        let asking = ask_store(store, name, &self.me.id, ask);
        match tokio::time::timeout(patience, asking).await {
            Ok(Some(answer)) => {
                self.contender.hear(ask, answer, sent, monotonic());
                true
            }
            Ok(None) | Err(_) => false,
        }
    }

    /// Tells the cores and everybody else what follows.
    fn tell(&self, cluster: &Cluster, now: Duration) {
        cluster.standing.act_until(self.contender.acts_until());
        let role = match self.contender.epoch() {
            Some(epoch) if self.contender.may_act(now) => Role::Active { epoch },
            _ => Role::Standby,
        };
        set_role(cluster, role);
    }
}

/// Puts one question to the store. Nothing when it does not answer.
async fn ask_store(store: &Store, name: &str, me: &str, ask: Ask) -> Option<Answer> {
    let mark = |row: &LeaseRow| Mark { epoch: row.epoch, beat: row.beat };
    let granted = match ask {
        Ask::Look => {
            let row = match store.lease(name).await.ok()? {
                None => Row::Free(None),
                Some(row) => match row.holder.as_deref() {
                    None => Row::Free(Some(mark(&row))),
                    Some(holder) if holder == me => Row::Mine(mark(&row)),
                    Some(_) => Row::Others(mark(&row)),
                },
            };
            return Some(Answer::Row(row));
        }
        Ask::Acquire { seen } => {
            store.acquire_lease(name, me, seen.map(|mark| (mark.epoch, mark.beat))).await
        }
        Ask::Renew { epoch } => store.renew_lease(name, me, epoch).await,
    };
    match granted {
        Ok(row) => Some(Answer::Granted(mark(&row))),
        Err(StoreError::Conflict { .. }) => Some(Answer::Refused),
        Err(_) => None,
    }
}

/// Gives back what was held under an ID that contends no more.
async fn give_back(cluster: &Cluster, store: Option<&Store>, name: &str, candidacy: Option<Candidacy>) {
    let Some(mut candidacy) = candidacy else { return };
    let epoch = candidacy.contender.resign();
    candidacy.tell(cluster, monotonic());
    if let (Some(store), Some(epoch)) = (store, epoch) {
        // Who does not hear of it waits for the end of the lease.
        let _ = store.release_lease(name, &candidacy.me.id, epoch).await;
    }
}

fn set_role(cluster: &Cluster, role: Role) {
    let before = std::mem::replace(&mut cluster.state().role, role);
    if before == role {
        return;
    }
    match role {
        Role::Serving => tracing::info!("every process of node {} serves", cluster.node()),
        Role::Active { epoch } => {
            tracing::info!("node {}: this process serves from now on, alone (epoch {epoch})", cluster.node());
        }
        Role::Standby => tracing::info!("node {}: this process stands by", cluster.node()),
    }
    cluster.look();
}
