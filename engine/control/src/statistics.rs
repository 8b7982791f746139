//! What has the whole cluster counted? Each process puts its own figures into the store, and whoever is asked adds all of them up.
//!
//! Never on a request's way, never loses what a process that is gone has counted, and never counts anything twice.

pub(crate) mod tally;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use config::snapshot::UpstreamId;
use proxy::stats::ChannelCounters;
use store::{StatsRow, Store, StoreError};
use tokio::time::MissedTickBehavior;

use self::tally::{Figures, Report, Series, SeriesKind, Tally};
use crate::Shared;
use crate::admin::runtime_status::ProcessStatus;
use crate::catalogue::{Catalogued, Kind, sum};
use crate::latency::{Latency, Owner};
use crate::live::Live;
use crate::shards::{responses, retries};

/// Time between two reports: how old the figures of other processes may be.
const REPORT_EVERY: Duration = Duration::from_secs(5);

/// How long the figures of a process that is gone are left alone before they are added to the sum: one that was only cut off is back by
/// then, as a rule. Nothing is wrong if it comes back later.
const FOLD_AFTER: Duration = Duration::from_secs(60);

/// How long the store is waited for: less than the 5 s within which the admin listener answers.
pub(crate) const STORE_PATIENCE: Duration = Duration::from_secs(4);

/// What the store holds of this process, as far as it knows.
#[derive(Debug, Default)]
pub(crate) struct Reporter {
    /// Under which ID: the first one that it had, whatever it has been called since. Figures that others took for those of a process
    /// that is gone are not put there again under another name.
    name: Option<String>,
    /// What lies there.
    put: Option<Tally>,
    /// What is part of the sum already, because others thought that this process was gone.
    folded: Tally,
    /// Rows of processes that are gone: which revision was seen, and since when.
    gone: HashMap<String, (u64, Instant)>,
}

impl Reporter {
    /// Puts what this process has counted in all. `process` is what it is called now.
    pub(crate) async fn put(
        &mut self,
        store: &Store,
        process: &str,
        node: &str,
        status: ProcessStatus,
        counted: Tally,
    ) -> Result<(), StoreError> {
        let name = self.name.get_or_insert_with(|| process.to_owned()).clone();
        let mut tally = counted.clone();
        tally.less(&self.folded);
        if self.put.is_some() {
            let report = Report { status: Some(status.clone()), tally: tally.clone() };
            if store.put_stats(&name, &report.encode()).await? {
                self.put = Some(tally);
                return Ok(());
            }
            // It was taken for gone, and what lay there is part of the sum.
            if let Some(before) = self.put.take() {
                self.folded.add(&before);
            }
            tally = counted;
            tally.less(&self.folded);
        }
        let report = Report { status: Some(status), tally: tally.clone() };
        store.put_first_stats(&name, node, &report.encode()).await?;
        self.put = Some(tally);
        Ok(())
    }

    /// Adds what processes have left behind that are gone for long to the sum; what cannot be read stays where it is.
    pub(crate) async fn fold(&mut self, store: &Store, now: Instant) -> Result<(), StoreError> {
        let living: Vec<_> = store.processes().await?.into_iter().map(|process| process.id).collect();
        let rows = store.stats().await?;
        let is_gone = |row: &StatsRow| {
            !row.is_sum() && !living.contains(&row.process) && self.name.as_ref() != Some(&row.process)
        };
        let gone: Vec<&StatsRow> = rows.iter().filter(|row| is_gone(row)).collect();
        let seen = |row: &StatsRow| match self.gone.get(&row.process) {
            Some((revision, since)) if *revision == row.revision => *since,
            _ => now,
        };
        let watched = gone.iter().map(|row| (row.process.clone(), (row.revision, seen(row)))).collect();
        self.gone = watched;
        let ripe = gone.into_iter().filter(|row| {
            self.gone.get(&row.process).is_some_and(|(_, since)| now.duration_since(*since) >= FOLD_AFTER)
        });
        let read = ripe.filter_map(|row| Some((row.clone(), Report::decode(&row.blob).ok()?)));
        let (ripe, reports): (Vec<_>, Vec<_>) = read.unzip();
        if ripe.is_empty() {
            return Ok(());
        }
        let sum = rows.iter().find(|row| row.is_sum());
        let mut tally = match sum.map(|row| Report::decode(&row.blob)) {
            None => Tally::default(),
            Some(Ok(report)) => report.tally,
            Some(Err(cause)) => {
                tracing::warn!("statistics: the sum of processes that are gone cannot be read: {cause}");
                return Ok(());
            }
        };
        for mut report in reports {
            report.tally.end();
            tally.add(&report.tally);
        }
        let blob = Report { status: None, tally }.encode();
        // False: another process has done it.
        store.fold_stats(&ripe, sum, &blob).await?;
        Ok(())
    }

    /// What all others have counted, those that are gone too; nothing of this process.
    pub(crate) async fn others(&self, store: &Store) -> Result<Others, StoreError> {
        let living: Vec<_> = store.processes().await?.into_iter().map(|process| process.id).collect();
        let mut others = Others::default();
        for row in store.stats().await? {
            if self.name.as_ref() == Some(&row.process) {
                continue;
            }
            match Report::decode(&row.blob) {
                Ok(mut report) => {
                    if living.contains(&row.process) {
                        others.statuses.extend(report.status.take());
                    } else {
                        report.tally.end();
                    }
                    others.tally.add(&report.tally);
                }
                Err(_) => others.unreadable.push(row.process),
            }
        }
        // What of this process is in the sum is part of what it counts itself.
        others.tally.less(&self.folded);
        Ok(others)
    }
}

/// What other processes have told.
#[derive(Debug, Default)]
pub(crate) struct Others {
    pub(crate) tally: Tally,
    /// Of those that live.
    pub(crate) statuses: Vec<ProcessStatus>,
    /// IDs of processes whose figures this version cannot read.
    pub(crate) unreadable: Vec<String>,
}

/// What this process has counted since it began.
pub(crate) fn of_process(live: &Live, latency: &Latency) -> Tally {
    let snapshot = &live.snapshot;
    let mut tally = Tally { processes: 1, ..Tally::default() };
    for (index, listener) in snapshot.listeners.iter().enumerate() {
        tally.count_listener(&listener.name, figures(listener.internal, &live.listener(index)));
    }
    for (index, channel) in snapshot.channels.iter().enumerate() {
        tally.count_channel(&channel.name, of_channel(channel.internal, &live.channel(index)));
    }
    // What is no longer configured has counted too.
    for former in live.generation.former_listeners() {
        let shards: Vec<_> = former.shards.iter().map(|shard| &**shard).collect();
        tally.count_listener(&former.name, figures(former.internal, &shards));
    }
    for former in live.generation.former_channels() {
        let shards: Vec<_> = former.shards.iter().map(|shard| &**shard).collect();
        tally.count_channel(&former.name, of_channel(former.internal, &shards));
    }
    for (id, upstream) in (0..).map(UpstreamId).zip(&snapshot.upstreams) {
        let shards = live.upstream(id);
        let mut figures = figures(false, &shards);
        let by_cause = retries(&shards);
        figures.counters.extend(by_cause.map(|(cause, count)| (format!("retries_{cause}"), count)));
        let of_endpoints: Vec<_> = upstream.slots().flat_map(|slot| live.endpoint(slot)).collect();
        let of_endpoints = self::figures(false, &of_endpoints);
        for (name, count) in of_endpoints.counters {
            figures.counters.insert(format!("endpoint_{name}"), count);
        }
        for (name, count) in of_endpoints.gauges {
            figures.gauges.insert(format!("endpoint_{name}"), count);
        }
        tally.upstreams.insert(upstream.name.clone(), figures);
    }
    tally.faults = live.faults().map(|(fault, count)| (fault.to_owned(), count)).collect();
    for (owner, phase, histogram) in latency.totals() {
        let (kind, name) = match owner {
            Owner::Channel(name) => (SeriesKind::Channel, name),
            Owner::Listener(name) => (SeriesKind::Listener, name),
        };
        tally.record(Series { kind, name: name.to_string(), phase: phase as usize }, histogram);
    }
    tally
}

/// A channel's numbers, and its answers by class of status.
fn of_channel(internal: bool, shards: &[&ChannelCounters]) -> Figures {
    let mut figures = figures(internal, shards);
    let by_class = responses(|| shards.iter().copied());
    figures.counters.extend(by_class.map(|(class, count)| (format!("responses_{class}"), count)));
    figures
}

/// Every number of the catalogue, over these shards.
fn figures<S: Catalogued>(internal: bool, shards: &[&S]) -> Figures {
    let mut figures = Figures { internal, ..Figures::default() };
    for entry in S::ENTRIES {
        let into = match entry.kind {
            Kind::Counter => &mut figures.counters,
            Kind::Gauge => &mut figures.gauges,
        };
        into.insert(entry.name.to_owned(), sum(shards.iter().copied(), entry.read));
    }
    figures
}

/// What this process has counted, collected from its cores now.
pub(crate) async fn counted(shared: &Shared) -> Tally {
    let mut aggregator = shared.aggregator.lock().await;
    aggregator.collect().await;
    let live = shared.live();
    of_process(&live, aggregator.latency())
}

/// What all processes of the cluster have counted, and how they are.
#[derive(Debug)]
pub(crate) struct Whole {
    pub(crate) tally: Tally,
    /// Of this process and of all others that live.
    pub(crate) statuses: Vec<ProcessStatus>,
    pub(crate) unreadable: Vec<String>,
    /// How long ago others were asked, where the store is away.
    pub(crate) stale: Option<Duration>,
}

/// Everything together. Where the store does not answer, what it said last stands for the others; `None` if it has said nothing yet.
pub(crate) async fn of_cluster(shared: &Shared) -> Option<Whole> {
    let statuses = vec![ProcessStatus::of(shared)];
    let mut whole = Whole { tally: counted(shared).await, statuses, unreadable: Vec::new(), stale: None };
    let others = match membership(shared) {
        Membership::Alone => return Some(whole),
        Membership::Away => None,
        Membership::Member { store, .. } => {
            let asked = async { shared.reporter.lock().await.others(&store).await };
            tokio::time::timeout(STORE_PATIENCE, asked).await.ok().and_then(Result::ok)
        }
    };
    let (others, since) = match others {
        Some(others) => {
            let others = Arc::new(others);
            *lock(&shared.others) = Some((Instant::now(), Arc::clone(&others)));
            (others, None)
        }
        None => {
            let (at, others) = lock(&shared.others).clone()?;
            (others, Some(at.elapsed()))
        }
    };
    whole.stale = since;
    whole.tally.add(&others.tally);
    whole.statuses.extend(others.statuses.iter().cloned());
    whole.unreadable.clone_from(&others.unreadable);
    Some(whole)
}

/// What others said last, and when.
pub(crate) type LastOthers = std::sync::Mutex<Option<(Instant, Arc<Others>)>>;

fn lock(others: &LastOthers) -> std::sync::MutexGuard<'_, Option<(Instant, Arc<Others>)>> {
    others.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

/// How this process belongs to a cluster.
pub(crate) enum Membership {
    /// It has no store.
    Alone,
    /// The store does not answer, or has not said yet what this process is called.
    Away,
    Member {
        store: Store,
        process: String,
        node: String,
    },
}

pub(crate) fn membership(shared: &Shared) -> Membership {
    let Some(cluster) = shared.cluster() else { return Membership::Alone };
    match (cluster.store(), cluster.process_id()) {
        (Ok(store), Some(process)) => Membership::Member { store, process, node: cluster.node().to_owned() },
        _ => Membership::Away,
    }
}

/// Reports every few seconds, for as long as the process lives.
pub(crate) async fn rounds(shared: Arc<Shared>) {
    let mut rounds = tokio::time::interval(REPORT_EVERY);
    rounds.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        rounds.tick().await;
        // What does not succeed is made up for by the next round: a report holds everything since the beginning.
        if let Err(error) = report(&shared).await {
            tracing::debug!("statistics: not put into the store: {error}");
        }
    }
}

/// Puts what this process has counted into the store, and what others have left behind into the sum.
async fn report(shared: &Shared) -> Result<(), StoreError> {
    let Membership::Member { store, process, node } = membership(shared) else { return Ok(()) };
    let (status, counted) = (ProcessStatus::of(shared), counted(shared).await);
    let mut reporter = shared.reporter.lock().await;
    reporter.put(&store, &process, &node, status, counted).await?;
    reporter.fold(&store, Instant::now()).await
}

/// The report of a process whose cores have ended: nothing is counted after it.
pub(crate) async fn last(shared: &Shared) {
    if let Ok(Err(error)) = tokio::time::timeout(STORE_PATIENCE, report(shared)).await {
        tracing::warn!("statistics: what was counted last is not in the store: {error}");
    }
}

#[cfg(test)]
mod tests;
