//! Who asks the endpoints how they are, and tells the cores what follows? One task for the process, by what the warden decides.
//!
//! Never more probes at a time than [`PROBES_MAX`], never one without a deadline, and nothing of it on a core.

mod answer;
mod probe;
mod status;

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use config::snapshot::{EndpointId, Snapshot, UpstreamId};
use proxy::private::PrivateUpstream;
use proxy::roster::keeper::Keeper;
use proxy::roster::warden::{Event, Order, Probed, Tally, Warden};
use rustls::ClientConfig;
use rustls::client::Resumption;
use tokio::sync::Notify;
use tokio::task::JoinSet;

use self::probe::{Ill, Private, probe};
pub(crate) use self::status::HealthStatus;
use crate::certificates::Certificates;
use crate::live::Live;

/// Probes on their way at a time; others wait for one of them to end.
const PROBES_MAX: usize = 64;

/// Reports are waited for a little longer once one has come: a server that dies fails many at once.
const REPORTS_PAUSE: Duration = Duration::from_millis(2);

/// Nothing is waited for longer, whatever is due when.
const PAUSE_MAX: Duration = Duration::from_secs(1);

/// What is known of endpoints' health, and how they are asked.
#[derive(Debug)]
pub(crate) struct Health {
    started: Instant,
    warden: Mutex<Warden>,
    /// Rung by cores that report, and by whoever changes the roster.
    bell: Arc<Notify>,
    /// By upstream: how to ask in private, where endpoints are spoken to so.
    private: Box<[Option<PrivateUpstream>]>,
    /// Seed of the dice for intervals, and how often they were rolled.
    dice: (RandomState, AtomicU64),
}

impl Health {
    pub(crate) fn new(snapshot: &Arc<Snapshot>, certificates: &Certificates) -> Self {
        Self {
            started: Instant::now(),
            warden: Mutex::new(Warden::new(snapshot)),
            bell: Arc::new(Notify::new()),
            private: Self::private(certificates),
            dice: (RandomState::new(), AtomicU64::new(0)),
        }
    }

    /// What is known, in another configuration whose roster `keeper` writes.
    pub(crate) fn next(
        &self,
        snapshot: &Arc<Snapshot>,
        certificates: &Certificates,
        keeper: &mut Keeper,
    ) -> Self {
        Self {
            started: self.started,
            warden: Mutex::new(self.warden().next(snapshot, keeper, self.now())),
            bell: Arc::new(Notify::new()),
            private: Self::private(certificates),
            dice: (self.dice.0.clone(), AtomicU64::new(self.dice.1.load(Ordering::Relaxed))),
        }
    }

    fn private(certificates: &Certificates) -> Box<[Option<PrivateUpstream>]> {
        let private = certificates.private().upstreams.into_iter().map(|private| {
            private.map(|PrivateUpstream { config, server_name }| {
                // A session that is resumed shows no certificate, and that is what a probe looks at.
                let mut config = ClientConfig::clone(&config);
                config.resumption = Resumption::disabled();
                PrivateUpstream { config: Arc::new(config), server_name }
            })
        });
        private.collect()
    }

    /// Has the roster looked at again, because somebody else has changed it.
    pub(crate) fn look(&self) {
        self.bell.notify_one();
    }

    /// The time, as the warden counts it.
    fn now(&self) -> Duration {
        self.started.elapsed()
    }

    /// What is known of an endpoint, if anybody watches it.
    pub(crate) fn status(&self, upstream: UpstreamId, endpoint: EndpointId) -> Option<HealthStatus> {
        HealthStatus::of(&self.warden(), upstream, endpoint, self.now())
    }

    /// What has happened to a slot's occupants so far.
    pub(crate) fn tally(&self, endpoint: EndpointId) -> Tally {
        *self.warden().tally(endpoint)
    }

    /// How long the last probe of an endpoint took, if there was one.
    pub(crate) fn probe_took(&self, upstream: UpstreamId, endpoint: EndpointId) -> Option<Duration> {
        Some(self.warden().ward(upstream, endpoint)?.last_probe()?.took)
    }

    fn warden(&self) -> MutexGuard<'_, Warden> {
        self.warden.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn roll(&self) -> u64 {
        self.dice.0.hash_one(self.dice.1.fetch_add(1, Ordering::Relaxed))
    }
}

impl Live {
    /// Lets the warden do what it is asked; then the cores are told what has changed, and the operator why.
    fn tend<T>(&self, act: impl FnOnce(&mut Warden, &mut Keeper, Duration, &mut Vec<Event>) -> T) -> T {
        let ids = || (0..self.snapshot.upstreams.len() as u16).map(UpstreamId);
        let mut events = Vec::new();
        let mut keeper = self.keeper();
        let before: Vec<u64> = ids().map(|id| self.roster.revision(id)).collect();
        let mut warden = self.health.warden();
        let outcome = act(&mut warden, &mut keeper, self.health.now(), &mut events);
        drop((warden, keeper));
        for (upstream, _) in ids().zip(before).filter(|(id, before)| self.roster.revision(*id) != *before) {
            self.tell_to_look(upstream);
        }
        for Event { is_bad, text, .. } in events {
            if is_bad {
                tracing::warn!("{text}");
            } else {
                tracing::info!("{text}");
            }
        }
        outcome
    }

    /// What is due now: orders for as many probes as there is room for, and when there is more to do.
    fn tend_due(&self, room: usize) -> (Vec<Order>, Option<Duration>) {
        self.tend(|warden, keeper, now, events| {
            warden.turn(keeper, now, events);
            let orders = std::iter::from_fn(|| warden.next_probe(keeper, now)).take(room).collect();
            (orders, warden.next_time())
        })
    }

    /// What follows from a probe that has ended.
    fn settle(&self, order: Order, outcome: Result<(), Ill>, took: Duration) {
        let dice = self.health.roll();
        let outcome = match outcome {
            Ok(()) => Ok(()),
            Err(Ill::Endpoint(what)) => Err(what),
            Err(Ill::Exhausted(what)) => {
                tracing::debug!("{} was not probed: {what}", order.member.name);
                return self.tend(|warden, _, now, _| warden.not_probed(&order, now, dice));
            }
        };
        let probed = Probed { order, outcome, took };
        self.tend(|warden, keeper, now, events| warden.probed(keeper, &probed, now, dice, events));
    }
}

/// Looks after the endpoints' health for as long as their configuration runs.
pub(crate) async fn rounds(live: Arc<Live>) {
    let bell = Arc::clone(&live.health.bell);
    live.roster.on_report(Box::new(move || bell.notify_one()));
    let mut probes = JoinSet::new();
    let mut orders_underway = HashMap::new();
    loop {
        let (orders, next) = live.tend_due(PROBES_MAX - probes.len());
        for order in orders {
            let task = probes.spawn(make(Arc::clone(&live), order.clone()));
            orders_underway.insert(task.id(), order);
        }
        let pause = next.map_or(PAUSE_MAX, |next| next.saturating_sub(live.health.now()));
        // With no room for a probe that is due it is the end of another that is waited for.
        let pause = if probes.len() < PROBES_MAX { pause.min(PAUSE_MAX) } else { PAUSE_MAX };
        tokio::select! {
            () = live.health.bell.notified() => tokio::time::sleep(REPORTS_PAUSE).await,
            Some(done) = probes.join_next_with_id() => {
                let (id, outcome, took) = match done {
                    Ok((id, (outcome, took))) => (id, outcome, took),
                    Err(error) => (error.id(), Err(Ill::Exhausted(error.to_string())), Duration::ZERO),
                };
                if let Some(order) = orders_underway.remove(&id) {
                    live.settle(order, outcome, took);
                }
            }
            () = tokio::time::sleep(pause) => {}
        }
    }
}

/// One probe, from its beginning to its end.
async fn make(live: Arc<Live>, order: Order) -> (Result<(), Ill>, Duration) {
    let began = Instant::now();
    let upstream = &live.snapshot.upstreams[usize::from(order.upstream.0)];
    let Some(settings) = &upstream.health else { return (Ok(()), Duration::ZERO) };
    let private = live.health.private.get(usize::from(order.upstream.0)).and_then(Option::as_ref);
    let private = private.map(|private| Private {
        config: Arc::clone(&private.config),
        name: private.server_name.clone().or_else(|| order.member.server_name.clone()),
    });
    let outcome = probe(settings, upstream.proxy_protocol, private, &order.member.address).await;
    (outcome, began.elapsed())
}
