//! What does `/metrics` say? The same counters and the merged latencies, for collectors.
//!
//! Never keeps a number of its own: the shards are read while the text is written. Labels are names of the
//! configuration, cores, rules and configured certificates, and of endpoints that come and go only so many
//! ([`config::snapshot::Admin::endpoint_series_max`]): the number of series is known when a configuration is.

mod buckets;
mod families;
mod form;
mod process;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use config::snapshot::{EndpointId, Upstream, UpstreamId};
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, text};
use prometheus_client::registry::{Registry, Unit};
use proxy::roster::member::{State, WEIGHT_ONE};
use proxy::roster::warden::Tally;
use proxy::stats::EndpointCounters;

use self::buckets::{Buckets, buckets};
use self::families::{Families, Labels, with};
pub(crate) use self::form::Form;
use crate::Shared;
use crate::access_log::{self, status::AccessLogStatus};
use crate::aggregate::Aggregator;
use crate::catalogue;
use crate::latency::Owner;
use crate::live::Live;
use crate::shards::{responses, retries};
use crate::statistics::{Membership, membership};

/// What stands in the place of an endpoint's name for all those that have no series of their own.
const OTHER: &str = "other";

/// The whole text. Reads files of `/proc`, and takes tens of milliseconds where there are a thousand channels: not for a
/// thread that serves.
pub(crate) fn exposition(
    shared: &Arc<Shared>,
    aggregator: &Aggregator,
    form: Form,
) -> Result<String, fmt::Error> {
    let live = shared.live();
    let latency = aggregator.latency();
    let scrape = Scrape {
        exchanges: buckets(latency, |owner| match owner {
            Owner::Channel(name) => {
                let is_there = live.snapshot.channels.iter().any(|channel| *channel.name == **name);
                is_there.then_some(("channel", name))
            }
            Owner::Listener(_) => None,
        }),
        messages: buckets(latency, |owner| match owner {
            Owner::Channel(_) => None,
            Owner::Listener(name) => {
                let is_there = live.snapshot.listeners.iter().any(|listener| *listener.name == **name);
                is_there.then_some(("listener", name))
            }
        }),
        unresponsive: aggregator.unresponsive().collect(),
        shared: Arc::clone(shared),
        live,
    };
    let mut registry = Registry::with_prefix("corelane");
    registry.register_collector(Box::new(scrape));
    // Their names are every collector's, whatever the program is.
    let mut common = Registry::with_prefix("process");
    common.register_collector(Box::new(OfProcess { started_at: shared.process.started_at }));
    let mut out = String::new();
    text::encode_registry(&mut out, &registry)?;
    text::encode_registry(&mut out, &common)?;
    text::encode_eof(&mut out)?;
    Ok(form.of(out))
}

/// What is known of any process.
#[derive(Debug)]
struct OfProcess {
    started_at: SystemTime,
}

impl Collector for OfProcess {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> fmt::Result {
        process::encode(&mut Families(encoder), self.started_at)
    }
}

/// One look at everything.
#[derive(Debug)]
struct Scrape {
    shared: Arc<Shared>,
    live: Arc<Live>,
    exchanges: Vec<(Labels, Buckets)>,
    messages: Vec<(Labels, Buckets)>,
    /// By core.
    unresponsive: Vec<bool>,
}

impl Collector for Scrape {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let mut families = Families(encoder);
        self.encode_process(&mut families)?;
        self.encode_config(&mut families)?;
        self.encode_cluster(&mut families)?;
        self.encode_admin(&mut families)?;
        self.encode_cores(&mut families)?;
        self.encode_shards(&mut families)?;
        self.encode_upstreams(&mut families)?;
        self.encode_names(&mut families)?;
        self.encode_endpoints(&mut families)?;
        self.encode_faults(&mut families)?;
        self.encode_certificates(&mut families)?;
        self.encode_access_logs(&mut families)?;
        let help = "Duration of exchanges by channel and phase";
        families.durations("exchange_duration", help, &self.exchanges)?;
        let help = "Duration from a message to the answer to it, by listener and phase";
        families.durations("message_duration", help, &self.messages)
    }
}

impl Scrape {
    fn encode_process(&self, families: &mut Families<'_>) -> fmt::Result {
        let process = &self.shared.process;
        let build = [("version", process.version), ("driver", process.driver.as_str())];
        families.info("build", "The program", &build)?;
        families.seconds("uptime", "Since the process started", process.started.elapsed().as_secs_f64())?;
        families.gauge("cores", "Executors of this process", process.cores.len() as u64)?;
        let help = "1 while the process drains";
        families.gauge("draining", help, u64::from(self.shared.is_draining()))
    }

    fn encode_config(&self, families: &mut Families<'_>) -> fmt::Result {
        let live = &*self.live;
        let fingerprint = live.fingerprint();
        let config = [("node", live.snapshot.node.as_str()), ("fingerprint", fingerprint.as_str())];
        families.info("config", "The configuration", &config)?;
        let number = live.generation.number;
        families.gauge("config_number", "Configurations that the process has run", number)?;
        let applied_at = live.applied_at.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64();
        let help = "When the configuration that runs was applied, since the Unix epoch";
        families.seconds("config_applied_timestamp", help, applied_at)?;
        let is_refused = u64::from(self.shared.last_failure().is_some());
        let help = "1 while the last configuration that was to be applied was not";
        families.gauge("config_refused", help, is_refused)?;
        let help = "Keys of the configuration that take effect with a restart";
        families.gauge("config_needs_restart", help, self.shared.needs_restart(live).len() as u64)?;
        let help = "Upgrades of the program that have come to nothing";
        let failed = std::iter::once((Vec::new(), self.shared.upgrades.failed()));
        families.counters("upgrades_failed", help, failed)
    }

    fn encode_cluster(&self, families: &mut Families<'_>) -> fmt::Result {
        let Some(cluster) = self.shared.cluster() else { return Ok(()) };
        let version = self.live.origin.version.map_or_else(String::new, |version| version.to_string());
        let view = cluster.view(&self.shared);
        if let Membership::Member { process, .. } = membership(&self.shared) {
            let labels =
                [("process", process.as_str()), ("config_version", version.as_str()), ("role", view.role)];
            families.info("cluster", "This process in its cluster", &labels)?;
        }
        let help = "1 while another process of the node serves instead of this one";
        families.gauge("cluster_standby", help, u64::from(cluster.is_standby()))?;
        let help = "1 while the store does not answer";
        families.gauge("store_away", help, u64::from(view.store.away_s.is_some()))?;
        let help = "For how long the store has not answered";
        families.seconds("store_away", help, view.store.away_s.unwrap_or_default())?;
        let help = "1 while a version of the configuration cannot be applied here";
        families.gauge("cluster_config_refused", help, u64::from(view.config.refused.is_some()))?;
        let help = "1 while the file that the process was given says something else than what it runs";
        families.gauge("cluster_config_drift", help, u64::from(view.config.drift.is_some()))
    }

    fn encode_admin(&self, families: &mut Families<'_>) -> fmt::Result {
        let served = &self.shared.admin_served;
        let help = "Connections to the admin listener that are open now";
        families.gauge("admin_connections_open", help, served.open())?;
        let help = "Requests that the admin listener has answered, by class of status";
        let by_class = served.answers().map(|(class, count)| (vec![("class", class.to_owned())], count));
        families.counters("admin_responses", help, by_class)
    }

    fn encode_cores(&self, families: &mut Families<'_>) -> fmt::Result {
        let cores: Vec<_> = (self.live.cores().enumerate())
            .map(|(index, core)| (vec![("core", index.to_string())], vec![core]))
            .collect();
        families.entries("core", &catalogue::CORE, &cores)?;
        let help = "1 for a core that has not answered control for a quarter of a second";
        let flags = self.unresponsive.iter().enumerate();
        families.flags(
            "core_unresponsive",
            help,
            flags.map(|(core, is_so)| (vec![("core", core.to_string())], *is_so)),
        )?;
        let threads = self.shared.process.cores.iter().enumerate();
        let threads = threads.filter_map(|(core, info)| Some((core, *info.thread_id.get()?)));
        let help = "CPU time of the core's thread, for the program and in the kernel";
        families.seconds_counters("core_cpu", help, process::core_cpu_seconds(threads))
    }

    fn encode_shards(&self, families: &mut Families<'_>) -> fmt::Result {
        let live = &*self.live;
        let snapshot = &live.snapshot;
        let listeners: Vec<_> = (snapshot.listeners.iter().enumerate())
            .map(|(index, listener)| (vec![("listener", listener.name.clone())], live.listener(index)))
            .collect();
        families.entries("listener", &catalogue::LISTENER, &listeners)?;
        let help = "1 for a listener of this process's own upstreams, which totals leave out";
        let internal = snapshot.listeners.iter();
        families.flags(
            "listener_internal",
            help,
            internal.map(|listener| (vec![("listener", listener.name.clone())], listener.internal)),
        )?;
        let channels: Vec<_> = (snapshot.channels.iter().enumerate())
            .map(|(index, channel)| (vec![("channel", channel.name.clone())], live.channel(index)))
            .collect();
        families.entries("channel", &catalogue::CHANNEL, &channels)?;
        let help = "1 for a channel that only internal listeners reach, which totals leave out";
        let internal = snapshot.channels.iter();
        families.flags(
            "channel_internal",
            help,
            internal.map(|channel| (vec![("channel", channel.name.clone())], channel.internal)),
        )?;
        let help = "Final answers sent, by class of status";
        let by_class = channels.iter().flat_map(|(labels, shards)| {
            let classes = responses(|| shards.iter().copied());
            classes.map(|(class, count)| (with(labels, "class", class), count)).collect::<Vec<_>>()
        });
        families.counters("channel_responses", help, by_class)
    }

    fn upstreams(&self) -> impl Iterator<Item = (UpstreamId, &Upstream, Labels)> {
        let upstreams = (0..).map(UpstreamId).zip(&self.live.snapshot.upstreams);
        upstreams.map(|(id, upstream)| (id, upstream, vec![("upstream", upstream.name.clone())]))
    }

    fn encode_access_logs(&self, families: &mut Families<'_>) -> fmt::Result {
        let logs: Vec<_> = self.live.generation.logs.iter().map(|log| AccessLogStatus::of(log)).collect();
        if logs.is_empty() {
            return Ok(());
        }
        for (name, help, read) in &access_log::status::FIGURES {
            families.counters(
                name,
                help,
                logs.iter().map(|log| (vec![("log", log.name.clone())], read(log))),
            )?;
        }
        Ok(())
    }

    fn encode_upstreams(&self, families: &mut Families<'_>) -> fmt::Result {
        let live = &*self.live;
        let upstreams: Vec<_> = self.upstreams().map(|(id, _, labels)| (labels, live.upstream(id))).collect();
        families.entries("upstream", &catalogue::UPSTREAM, &upstreams)?;
        let by_cause = upstreams.iter().flat_map(|(labels, shards)| {
            retries(shards).map(|(cause, count)| (with(labels, "cause", cause), count)).collect::<Vec<_>>()
        });
        families.counters("upstream_retries", "Tries after one that failed, by its cause", by_cause)?;
        let help = "Requests sent over a connection used before, of all";
        let ratios =
            self.upstreams().map(|(id, _, labels)| (labels, live.reuse_ratio(id).unwrap_or_default()));
        families.gauges("upstream_reuse_ratio", help, None, ratios)?;
        let help = "1 while so few endpoints are up that all get traffic";
        let panics = self.upstreams().map(|(id, _, labels)| (labels, live.roster.members(id).is_panic));
        families.flags("upstream_panic", help, panics)?;
        let help = "Endpoints, by whether they may be used";
        let by_state = self.upstreams().flat_map(|(id, _, labels)| {
            let members = live.roster.members(id);
            let count = |state| members.all.iter().filter(|member| member.state == state).count() as f64;
            [State::Up, State::Down, State::Ejected, State::Draining]
                .map(|state| (with(&labels, "state", state.name()), count(state)))
        });
        families.gauges("upstream_endpoints", help, None, by_state)?;
        let help = "Endpoints without series of their own: they are part of endpoint=\"other\"";
        let folded = self.upstreams().map(|(id, upstream, labels)| {
            let members = live.roster.members(id);
            let folded = members.all.iter().filter(|member| !self.is_shown(upstream, member.id)).count();
            (labels, folded as f64)
        });
        families.gauges("upstream_endpoints_folded", help, None, folded)
    }

    /// What came of asking for the names among endpoints.
    fn encode_names(&self, families: &mut Families<'_>) -> fmt::Result {
        let (mut answers, mut failures) = (Vec::new(), Vec::new());
        for (id, _, labels) in self.upstreams() {
            for name in self.live.names.of_upstream(id) {
                let labels = with(&labels, "name", &name.name);
                answers.push((labels.clone(), name.answers));
                failures.push((labels, name.failures));
            }
        }
        families.counters("name_answers", "Questions for a name that were answered with servers", answers)?;
        families.counters("name_failures", "Questions for a name that were not, by whatever cause", failures)
    }

    /// Whether the occupants of a slot have series of their own. By slot, as an endpoint keeps its own for life: whoever else
    /// comes or goes, nobody's counts move from one series to another.
    fn is_shown(&self, upstream: &Upstream, slot: EndpointId) -> bool {
        let shown = self.live.snapshot.admin.as_ref().map_or(u16::MAX, |admin| admin.endpoint_series_max);
        slot.0.saturating_sub(upstream.slots_first.0) < shown
    }

    fn encode_endpoints(&self, families: &mut Families<'_>) -> fmt::Result {
        let live = &*self.live;
        let mut counted: Vec<(Labels, Vec<&EndpointCounters>)> = Vec::new();
        let mut tallies: Vec<(Labels, Tally)> = Vec::new();
        let (mut ups, mut weights, mut probed) = (Vec::new(), Vec::new(), Vec::new());
        for (id, upstream, labels) in self.upstreams() {
            let members = live.roster.members(id);
            for member in members.all.iter().filter(|member| self.is_shown(upstream, member.id)) {
                let labels = with(&labels, "endpoint", &member.name);
                counted.push((labels.clone(), live.endpoint(member.id)));
                tallies.push((labels.clone(), live.health.tally(member.id)));
                ups.push((labels.clone(), member.state == State::Up));
                weights.push((labels.clone(), f64::from(member.weight) / f64::from(WEIGHT_ONE)));
                probed.extend(live.health.probe_took(id, member.id).map(|took| (labels, took.as_secs_f64())));
            }
            // Whoever has such a slot, or had it: what is counted there stays.
            let folded: Vec<_> = upstream.slots().filter(|slot| !self.is_shown(upstream, *slot)).collect();
            if !folded.is_empty() {
                let labels = with(&labels, "endpoint", OTHER);
                counted.push((labels.clone(), folded.iter().flat_map(|slot| live.endpoint(*slot)).collect()));
                let mut sum = Tally::default();
                folded.iter().for_each(|slot| sum.add(&live.health.tally(*slot)));
                tallies.push((labels, sum));
            }
        }
        families.entries("endpoint", &catalogue::ENDPOINT, &counted)?;
        families.flags("endpoint_up", "1 while it may get traffic by its health", ups)?;
        let help = "Its share beside the others', as it is now; 0 gets nothing new";
        families.gauges("endpoint_weight", help, None, weights)?;
        let help = "How long the last probe took";
        families.gauges("endpoint_probe_duration", help, Some(&Unit::Seconds), probed)?;
        let probes = tallies.iter().flat_map(|(labels, tally)| {
            [("good", tally.probes_good), ("failed", tally.probes_failed)]
                .map(|(outcome, count)| (with(labels, "outcome", outcome), count))
        });
        families.counters("endpoint_probes", "Probes that have ended, by outcome", probes)?;
        let changes = tallies.iter().flat_map(|(labels, tally)| {
            [("down", tally.downs), ("up", tally.ups), ("ejected", tally.ejections)]
                .map(|(state, count)| (with(labels, "to", state), count))
        });
        let help = "Times that it went down, came up or was ejected";
        families.counters("endpoint_state_changes", help, changes)?;
        let help = "Times that it was not ejected, because too many were already";
        let refused = tallies.iter().map(|(labels, tally)| (labels.clone(), tally.ejections_refused));
        families.counters("endpoint_ejections_refused", help, refused)
    }

    fn encode_faults(&self, families: &mut Families<'_>) -> fmt::Result {
        let labelled =
            |key: &'static str| move |(name, count): (&str, u64)| (vec![(key, name.to_owned())], count);
        let happened = |(_, count): &(&str, u64)| *count > 0;
        let help = "Exchanges that did not end as they should";
        families.counters("faults", help, self.live.faults().map(labelled("fault")))?;
        let help = "TLS handshakes with clients that failed, by cause";
        let failed = self.live.handshake_faults();
        families.counters("handshake_faults", help, failed.map(labelled("cause")))?;
        let help = "TLS handshakes with endpoints that failed, by cause";
        let failed = self.live.upstream_handshake_faults();
        families.counters("upstream_handshake_faults", help, failed.map(labelled("cause")))?;
        let help = "Requests refused, by the rule their head or body broke";
        let rejected = self.live.requests_rejected().filter(happened);
        families.counters("requests_rejected", help, rejected.map(labelled("rule")))?;
        let help = "Responses refused, by the rule their head or body broke";
        let rejected = self.live.responses_rejected().filter(happened);
        families.counters("responses_rejected", help, rejected.map(labelled("rule")))?;
        let help = "Connections refused, by the rule their PROXY header or TLS hello broke";
        let rejected = self.live.connections_rejected().filter(happened);
        families.counters("connections_rejected", help, rejected.map(labelled("rule")))
    }

    fn encode_certificates(&self, families: &mut Families<'_>) -> fmt::Result {
        let certificates = &self.live.certificates;
        if certificates.is_empty() {
            return Ok(());
        }
        let help = "Listeners and upstreams whose certificates were replaced, or not because the new ones were of no use";
        let reloads = certificates.reloads().into_iter();
        let reloads = reloads.map(|(outcome, count)| (vec![("outcome", outcome.to_owned())], count));
        families.counters("certificate_reloads", help, reloads)?;
        let help =
            "Mistakes in files of certificates when they were last looked at: others than those in use";
        families.gauge("certificate_problems", help, certificates.problems().len() as u64)?;
        // Of several for one name, as with two algorithms, the one that ends first.
        let mut earliest: BTreeMap<Labels, u64> = BTreeMap::new();
        for held in certificates.held() {
            let labels = vec![(held.owner_kind, held.owner), ("name", held.name)];
            let expires = earliest.entry(labels).or_insert(held.expires);
            *expires = held.expires.min(*expires);
        }
        let help = "When the certificate is valid for the last time, since the Unix epoch";
        let expiries = earliest.into_iter().map(|(labels, expires)| (labels, expires as f64));
        families.gauges("certificate_expiry_timestamp", help, Some(&Unit::Seconds), expiries)
    }
}

#[cfg(test)]
mod tests;
