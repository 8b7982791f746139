//! What does `/metrics` say? The same counters and the merged latencies, as OpenMetrics text.
//!
//! Never keeps a number of its own: the shards are read while the text is written. Labels are names of the
//! configuration, cores, rules and configured certificates, so the number of series is known when the process starts.

use std::collections::BTreeMap;
use std::fmt::{self, Write as _};
use std::sync::Arc;
use std::time::UNIX_EPOCH;

use config::snapshot::UpstreamId;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, NoLabelSet, text};
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::{Registry, Unit};
use proto::histogram::MergedHistogram;
use proxy::roster::member::{Member, State};

use crate::Shared;
use crate::catalogue::{self, Entry, Kind, sum};
use crate::latency::{Latency, Owner};
use crate::live::Live;
use crate::shards::{responses, retries};
use crate::statistics::{Membership, membership};

/// What [`exposition`] is, for the `Content-Type` of its answer.
pub(crate) const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Upper bounds of the latency buckets in microseconds: 1, 2.5 and 5 in each decade from 50 µs to 1 min. A value
/// counts in the first bucket whose bound is not below it, at the histograms' precision of 0.1 %.
const BUCKET_BOUNDS_MICROS: [u32; 19] = [
    50, 100, 250, 500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 500_000, 1_000_000,
    2_500_000, 5_000_000, 10_000_000, 30_000_000, 60_000_000,
];

const NANOS_PER_SECOND: f64 = 1e9;

type Labels = Vec<(&'static str, String)>;

/// The whole text.
pub(crate) fn exposition(shared: &Arc<Shared>, latency: &Latency) -> Result<String, fmt::Error> {
    let live = shared.live();
    let mut registry = Registry::with_prefix("corelane");
    registry.register_collector(Box::new(Scrape {
        shared: Arc::clone(shared),
        live: Arc::clone(&live),
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
    }));
    let mut out = String::new();
    text::encode(&mut out, &registry)?;
    Ok(out)
}

/// One look at everything.
#[derive(Debug)]
struct Scrape {
    shared: Arc<Shared>,
    live: Arc<Live>,
    exchanges: Vec<(Labels, Buckets)>,
    messages: Vec<(Labels, Buckets)>,
}

impl Collector for Scrape {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let mut families = Families(encoder);
        self.encode_process(&mut families)?;
        self.encode_shards(&mut families)?;
        self.encode_health(&mut families)?;
        self.encode_faults(&mut families)?;
        self.encode_certificates(&mut families)?;
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
        families.begin("build", "The program", None, MetricType::Info)?.encode_info(&build)?;
        let fingerprint = self.live.fingerprint();
        let config = [("node", self.live.snapshot.node.as_str()), ("fingerprint", fingerprint.as_str())];
        families.begin("config", "The configuration", None, MetricType::Info)?.encode_info(&config)?;
        let number = self.live.generation.number;
        families
            .begin("config_number", "Configurations that the process has run", None, MetricType::Gauge)?
            .encode_gauge(&number)?;
        let is_refused = u64::from(self.shared.last_failure().is_some());
        let help = "1 while the last configuration that was to be applied was not";
        families.begin("config_refused", help, None, MetricType::Gauge)?.encode_gauge(&is_refused)?;
        if let Membership::Member { process, .. } = membership(&self.shared) {
            let version = self.live.origin.version.map_or_else(String::new, |version| version.to_string());
            let cluster = [("process", process.as_str()), ("config_version", version.as_str())];
            families
                .begin("cluster", "This process in its cluster", None, MetricType::Info)?
                .encode_info(&cluster)?;
        }
        let started = process.started_at.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64();
        let unit = Some(&Unit::Seconds);
        let help = "When the process started, since the Unix epoch";
        families.begin("process_start_time", help, unit, MetricType::Gauge)?.encode_gauge(&started)?;
        let cores = process.cores.len() as u64;
        families
            .begin("cores", "Executors of this process", None, MetricType::Gauge)?
            .encode_gauge(&cores)?;
        let draining = u64::from(self.shared.is_draining());
        families
            .begin("draining", "1 while the process drains", None, MetricType::Gauge)?
            .encode_gauge(&draining)
    }

    fn encode_shards(&self, families: &mut Families<'_>) -> fmt::Result {
        let live = &*self.live;
        let snapshot = &live.snapshot;
        let cores: Vec<_> = live
            .cores()
            .enumerate()
            .map(|(index, core)| (vec![("core", index.to_string())], vec![core]))
            .collect();
        families.entries("core", &catalogue::CORE, &cores)?;
        let listeners: Vec<_> = (snapshot.listeners.iter().enumerate())
            .map(|(index, listener)| (vec![("listener", listener.name.clone())], live.listener(index)))
            .collect();
        families.entries("listener", &catalogue::LISTENER, &listeners)?;
        let channels: Vec<_> = (snapshot.channels.iter().enumerate())
            .map(|(index, channel)| (vec![("channel", channel.name.clone())], live.channel(index)))
            .collect();
        families.entries("channel", &catalogue::CHANNEL, &channels)?;
        let help = "Final answers sent, by class of status";
        let by_class = channels.iter().flat_map(|(labels, shards)| {
            responses(|| shards.iter().copied())
                .map(|(class, count)| ([labels.as_slice(), &[("class", class.to_owned())]].concat(), count))
                .collect::<Vec<_>>()
        });
        families.counters("channel_responses", help, by_class)?;
        self.encode_upstreams(families)?;
        self.encode_names(families)?;
        let endpoints: Vec<_> = (0..)
            .map(UpstreamId)
            .zip(&snapshot.upstreams)
            .flat_map(|(id, upstream)| {
                let members = live.roster.members(id);
                let endpoint = |member: &Member| {
                    let labels =
                        vec![("upstream", upstream.name.clone()), ("endpoint", member.name.to_string())];
                    (labels, live.endpoint(member.id))
                };
                members.all.iter().map(endpoint).collect::<Vec<_>>()
            })
            .collect();
        families.entries("endpoint", &catalogue::ENDPOINT, &endpoints)
    }

    fn encode_upstreams(&self, families: &mut Families<'_>) -> fmt::Result {
        let live = &*self.live;
        let ids = || (0..).map(UpstreamId).zip(&live.snapshot.upstreams);
        let labels = |upstream: &config::snapshot::Upstream| vec![("upstream", upstream.name.clone())];
        let upstreams: Vec<_> = ids().map(|(id, upstream)| (labels(upstream), live.upstream(id))).collect();
        families.entries("upstream", &catalogue::UPSTREAM, &upstreams)?;
        let by_cause = upstreams.iter().flat_map(|(labels, shards)| {
            let with = |(cause, count): (&str, u64)| {
                ([labels.as_slice(), &[("cause", cause.to_owned())]].concat(), count)
            };
            retries(shards).map(with).collect::<Vec<_>>()
        });
        families.counters("upstream_retries", "Tries after one that failed, by its cause", by_cause)?;
        let help = "Requests sent over a connection used before, of all";
        let mut metric = families.begin("upstream_reuse_ratio", help, None, MetricType::Gauge)?;
        for (id, upstream) in ids() {
            let ratio = live.reuse_ratio(id).unwrap_or_default();
            metric.encode_family(&labels(upstream))?.encode_gauge(&ratio)?;
        }
        Ok(())
    }

    /// What came of asking for the names among endpoints.
    fn encode_names(&self, families: &mut Families<'_>) -> fmt::Result {
        let live = &*self.live;
        let (mut answers, mut failures) = (Vec::new(), Vec::new());
        for (id, upstream) in (0..).map(UpstreamId).zip(&live.snapshot.upstreams) {
            for name in live.names.of_upstream(id) {
                let labels: Labels = vec![("upstream", upstream.name.clone()), ("name", name.name)];
                answers.push((labels.clone(), name.answers));
                failures.push((labels, name.failures));
            }
        }
        families.counters(
            "name_answers",
            "Questions for a name that were answered with servers",
            answers.into_iter(),
        )?;
        families.counters(
            "name_failures",
            "Questions for a name that were not, by whatever cause",
            failures.into_iter(),
        )
    }

    fn encode_health(&self, families: &mut Families<'_>) -> fmt::Result {
        let live = &*self.live;
        let (mut panics, mut ups, mut probes, mut changes) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        for (id, upstream) in (0..).map(UpstreamId).zip(&live.snapshot.upstreams) {
            let members = live.roster.members(id);
            let labels: Labels = vec![("upstream", upstream.name.clone())];
            panics.push((labels.clone(), members.is_panic));
            for member in &members.all {
                let labels = [labels.as_slice(), &[("endpoint", member.name.to_string())]].concat();
                let with =
                    |key: &'static str, value: &str| [labels.as_slice(), &[(key, value.to_owned())]].concat();
                let tally = live.health.tally(member.id);
                probes.push((with("outcome", "good"), tally.probes_good));
                probes.push((with("outcome", "failed"), tally.probes_failed));
                let now = [("down", tally.downs), ("up", tally.ups), ("ejected", tally.ejections)];
                changes.extend(now.map(|(state, count)| (with("to", state), count)));
                ups.push((labels, member.state == State::Up));
            }
        }
        families.flags("upstream_panic", "1 while so few endpoints are up that all get traffic", &panics)?;
        families.flags("endpoint_up", "1 while it may get traffic by its health", &ups)?;
        families.counters("endpoint_probes", "Probes that have ended, by outcome", probes.into_iter())?;
        let help = "Times that it went down, came up or was ejected";
        families.counters("endpoint_state_changes", help, changes.into_iter())
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
}

impl Scrape {
    fn encode_certificates(&self, families: &mut Families<'_>) -> fmt::Result {
        let certificates = &self.live.certificates;
        if certificates.is_empty() {
            return Ok(());
        }
        let help = "Listeners and upstreams whose certificates were replaced, or not because the new ones were of no use";
        let reloads =
            certificates.reloads().map(|(outcome, count)| (vec![("outcome", outcome.to_owned())], count));
        families.counters("certificate_reloads", help, reloads.into_iter())?;
        let help = "When the certificate is valid for the last time, since the Unix epoch";
        let kind = MetricType::Gauge;
        let mut metric = families.begin("certificate_expiry_timestamp", help, Some(&Unit::Seconds), kind)?;
        // Of several for one name, as with two algorithms, the one that ends first.
        let mut earliest: BTreeMap<Labels, u64> = BTreeMap::new();
        for held in certificates.held() {
            let labels = vec![(held.owner_kind, held.owner), ("name", held.name)];
            let expires = earliest.entry(labels).or_insert(held.expires);
            *expires = held.expires.min(*expires);
        }
        for (labels, expires) in earliest {
            metric.encode_family(&labels)?.encode_gauge(&expires)?;
        }
        Ok(())
    }
}

/// Writes one metric family after the other.
struct Families<'e>(DescriptorEncoder<'e>);

impl Families<'_> {
    fn begin<'s>(
        &'s mut self,
        name: &'s str,
        help: &str,
        unit: Option<&'s Unit>,
        kind: MetricType,
    ) -> Result<prometheus_client::encoding::MetricEncoder<'s>, fmt::Error> {
        self.0.encode_descriptor(name, &format!("{help}."), unit, kind)
    }

    /// A histogram for each row.
    fn durations(&mut self, name: &str, help: &str, rows: &[(Labels, Buckets)]) -> fmt::Result {
        let mut metric = self.begin(name, help, Some(&Unit::Seconds), MetricType::Histogram)?;
        for (labels, buckets) in rows {
            let mut family = metric.encode_family(labels)?;
            family.encode_histogram::<NoLabelSet>(
                buckets.sum_seconds,
                buckets.count,
                &buckets.counts,
                None,
            )?;
        }
        Ok(())
    }

    /// A family for each entry, with a series for each object, summed over its shards.
    fn entries<S>(
        &mut self,
        prefix: &str,
        entries: &[Entry<S>],
        objects: &[(Labels, Vec<&S>)],
    ) -> fmt::Result {
        let mut name = String::new();
        for entry in entries {
            name.clear();
            write!(name, "{prefix}_{}", entry.metric)?;
            let kind = match entry.kind {
                Kind::Counter => MetricType::Counter,
                Kind::Gauge => MetricType::Gauge,
            };
            let mut metric = self.begin(&name, entry.help, entry.unit.as_ref(), kind)?;
            for (labels, shards) in objects {
                let value = sum(shards.iter().copied(), entry.read);
                let mut series = metric.encode_family(labels)?;
                match entry.kind {
                    Kind::Counter => series.encode_counter::<NoLabelSet, _, u64>(&value, None)?,
                    Kind::Gauge => series.encode_gauge(&value)?,
                }
            }
        }
        Ok(())
    }

    /// A gauge that is 0 or 1.
    fn flags(&mut self, name: &str, help: &str, series: &[(Labels, bool)]) -> fmt::Result {
        let mut metric = self.begin(name, help, None, MetricType::Gauge)?;
        for (labels, is_so) in series {
            metric.encode_family(labels)?.encode_gauge(&u64::from(*is_so))?;
        }
        Ok(())
    }

    fn counters(
        &mut self,
        name: &str,
        help: &str,
        series: impl Iterator<Item = (Labels, u64)>,
    ) -> fmt::Result {
        let mut metric = self.begin(name, help, None, MetricType::Counter)?;
        for (labels, value) in series {
            metric.encode_family(&labels)?.encode_counter::<NoLabelSet, _, u64>(&value, None)?;
        }
        Ok(())
    }
}

/// A histogram as buckets of fixed bounds.
#[derive(Debug, PartialEq)]
struct Buckets {
    sum_seconds: f64,
    count: u64,
    /// Upper bound in seconds and how many lie in this bucket alone.
    counts: Vec<(f64, u64)>,
}

impl Buckets {
    fn of(histogram: &MergedHistogram) -> Self {
        let mut counts: Vec<(f64, u64)> =
            BUCKET_BOUNDS_MICROS.iter().map(|micros| (f64::from(*micros) / 1e6, 0)).collect();
        counts.push((f64::INFINITY, 0));
        let mut at = 0;
        for step in histogram.iter_recorded() {
            let value = histogram.lowest_equivalent(step.value_iterated_to());
            while BUCKET_BOUNDS_MICROS.get(at).is_some_and(|micros| value > u64::from(*micros) * 1_000) {
                at += 1;
            }
            counts[at].1 += step.count_at_value();
        }
        // The mean takes the middle of each recorded slot: the sum is exact to 0.05 %.
        let sum_seconds = histogram.mean() * histogram.len() as f64 / NANOS_PER_SECOND;
        Self { sum_seconds, count: histogram.len(), counts }
    }
}

/// The histograms of the rows that have a label, each with its phase.
fn buckets<'l>(
    latency: &'l Latency,
    label: impl Fn(&'l Owner) -> Option<(&'static str, &'l Arc<str>)>,
) -> Vec<(Labels, Buckets)> {
    let labelled = latency.totals().filter_map(|(owner, phase, total)| {
        let (key, name) = label(owner)?;
        let labels = vec![(key, name.to_string()), ("phase", phase.name().to_owned())];
        Some((labels, Buckets::of(total)))
    });
    labelled.collect()
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use config::snapshot::ChannelId;
    use proto::histogram::{latency_histogram, merged_histogram};
    use proxy::stats::{Phase, Row};

    use super::*;
    use crate::testing;

    /// Samples by name and labels; fails on a line that is neither sample nor comment, on a sample without a
    /// type, and on one that comes twice.
    fn parse(text: &str) -> BTreeMap<String, f64> {
        let mut samples = BTreeMap::new();
        let mut families = BTreeSet::new();
        let body = text.strip_suffix("# EOF\n").expect("the end is marked");
        for line in body.lines() {
            if let Some(comment) = line.strip_prefix("# ") {
                let mut words = comment.split(' ');
                match words.next() {
                    Some("TYPE") => assert!(families.insert(words.next().expect("name")), "twice: {line}"),
                    Some("HELP" | "UNIT") => {}
                    _ => panic!("{line}"),
                }
                continue;
            }
            let (series, value) = line.rsplit_once(' ').expect(line);
            let name = series.split('{').next().unwrap_or(series);
            let suffixes = ["_total", "_info", "_sum", "_count", "_bucket"];
            let family = suffixes.iter().find_map(|suffix| name.strip_suffix(suffix)).unwrap_or(name);
            assert!(families.contains(family) || families.contains(name), "no type: {line}");
            let value = value.parse().expect(line);
            assert!(samples.insert(series.to_owned(), value).is_none(), "twice: {line}");
        }
        samples
    }

    #[test]
    fn the_text_parses_and_sums_over_the_cores() {
        let (shared, _cores) = testing::shared(2);
        for (count, stats) in (3..).zip(&shared.live().generation.stats) {
            stats.listeners[0].accepted.add(count);
            stats.channels[1].responses[1].add(count);
            stats.listeners[0].connections_open.set(count);
            stats.requests_rejected[0].add(1);
        }
        let mut latency = Latency::default();
        let mut recorded = latency_histogram();
        recorded.saturating_record(700_000);
        let owner = Owner::of(Row::Channel(ChannelId(1)), &shared.live().snapshot).0;
        latency.add(&owner, Phase::Total, &recorded);
        let samples = parse(&exposition(&shared, &latency).expect("text"));
        let check =
            |series: &str, expected: f64| assert_eq!(samples.get(series), Some(&expected), "{series}");
        check("corelane_build_info{version=\"1.2.3\",driver=\"epoll\"}", 1.0);
        check("corelane_cores", 2.0);
        check("corelane_config_number", 1.0);
        check("corelane_config_refused", 0.0);
        check("corelane_core_connections_open{core=\"1\"}", 4.0);
        check("corelane_listener_accepted_total{listener=\"web\"}", 7.0);
        check("corelane_listener_received_bytes_total{listener=\"web\"}", 0.0);
        check("corelane_channel_responses_total{channel=\"default\",class=\"2xx\"}", 7.0);
        check("corelane_faults_total{fault=\"head_timeout\"}", 0.0);
        check("corelane_requests_rejected_total{rule=\"bare_line_feed\"}", 2.0);
        assert!(!samples.contains_key("corelane_requests_rejected_total{rule=\"host_missing\"}"));
        let labels = "channel=\"default\",phase=\"total\"";
        check(&format!("corelane_exchange_duration_seconds_count{{{labels}}}"), 1.0);
        check(&format!("corelane_exchange_duration_seconds_bucket{{le=\"0.0005\",{labels}}}"), 0.0);
        check(&format!("corelane_exchange_duration_seconds_bucket{{le=\"0.001\",{labels}}}"), 1.0);
        check(&format!("corelane_exchange_duration_seconds_bucket{{le=\"+Inf\",{labels}}}"), 1.0);
    }

    #[test]
    fn every_sample_lands_in_the_first_bucket_that_holds_it() {
        let mut histogram = merged_histogram();
        for micros in [1, 50, 51, 100, 999, 1_000, 61_000_000, 3_600_000_000] {
            histogram.saturating_record(micros * 1_000);
        }
        let buckets = Buckets::of(&histogram);
        let filled: Vec<_> = buckets.counts.iter().filter(|(_, count)| *count > 0).copied().collect();
        assert_eq!(filled, [(50e-6, 2), (100e-6, 2), (1e-3, 2), (f64::INFINITY, 2)]);
        assert_eq!(buckets.count, 8);
        let sum = 3_661.002_2;
        assert!((buckets.sum_seconds - sum).abs() < sum * 0.001, "{}", buckets.sum_seconds);
    }
}
