//! Does `/metrics` say everything, in a form that parses, within bounds?
//!
//! Never a socket: what the admin listener makes of it is tested in engine/tests.

use std::collections::{BTreeMap, BTreeSet};

use config::snapshot::ChannelId;
use proto::histogram::latency_histogram;
use proxy::stats::{Phase, Row};
use serde_json::Value;

use super::*;
use crate::stats::Stats;
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

fn scrape(shared: &Arc<Shared>) -> String {
    let aggregator = shared.aggregator.try_lock().expect("free");
    exposition(shared, &aggregator, Form::OpenMetrics).expect("text")
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
    let mut recorded = latency_histogram();
    recorded.saturating_record(700_000);
    let owner = Owner::of(Row::Channel(ChannelId(1)), &shared.live().snapshot).0;
    let mut aggregator = shared.aggregator.try_lock().expect("free");
    aggregator.latency_mut().add(&owner, Phase::Total, &recorded);
    drop(aggregator);
    let samples = parse(&scrape(&shared));
    let check = |series: &str, expected: f64| assert_eq!(samples.get(series), Some(&expected), "{series}");
    check("corelane_build_info{version=\"1.2.3\",driver=\"epoll\"}", 1.0);
    check("corelane_cores", 2.0);
    check("corelane_config_number", 1.0);
    check("corelane_config_refused", 0.0);
    check("corelane_core_connections_open{core=\"1\"}", 4.0);
    check("corelane_core_unresponsive{core=\"1\"}", 0.0);
    check("corelane_listener_accepted_total{listener=\"web\"}", 7.0);
    check("corelane_listener_received_bytes_total{listener=\"web\"}", 0.0);
    check("corelane_listener_internal{listener=\"origin\"}", 1.0);
    check("corelane_channel_responses_total{channel=\"default\",class=\"2xx\"}", 7.0);
    check("corelane_upstream_endpoints{upstream=\"origin\",state=\"up\"}", 1.0);
    check("corelane_upstream_endpoints{upstream=\"origin\",state=\"down\"}", 0.0);
    check("corelane_faults_total{fault=\"head_timeout\"}", 0.0);
    check("corelane_requests_rejected_total{rule=\"bare_line_feed\"}", 2.0);
    assert!(!samples.contains_key("corelane_requests_rejected_total{rule=\"host_missing\"}"));
    assert!(samples["process_resident_memory_bytes"] > 100_000.0);
    assert!(samples["process_open_fds"] > 3.0);
    let labels = "channel=\"default\",phase=\"total\"";
    check(&format!("corelane_exchange_duration_seconds_count{{{labels}}}"), 1.0);
    check(&format!("corelane_exchange_duration_seconds_bucket{{le=\"0.0005\",{labels}}}"), 0.0);
    check(&format!("corelane_exchange_duration_seconds_bucket{{le=\"0.001\",{labels}}}"), 1.0);
    check(&format!("corelane_exchange_duration_seconds_bucket{{le=\"+Inf\",{labels}}}"), 1.0);
}

/// What of `/stats` is not in the catalogue, and the metric that says the same; `Err` is why there is none.
const OUTSIDE_THE_CATALOGUE: [(&str, Result<&str, &str>); 38] = [
    ("/process/upgrades_failed", Ok("corelane_upgrades_failed")),
    ("/process/pid", Err("a collector knows the target by its address, and a number is no measurement")),
    ("/process/uptime_s", Ok("corelane_uptime_seconds")),
    ("/process/cores", Ok("corelane_cores")),
    ("/configuration/number", Ok("corelane_config_number")),
    ("/admin/connections_open", Ok("corelane_admin_connections_open")),
    ("/admin/responses/*", Ok("corelane_admin_responses")),
    ("/totals/*", Err("sums over listeners and channels that are not internal, which a query adds up")),
    ("/totals/responses/*", Err("likewise")),
    ("/cores/*/index", Err("a label")),
    ("/cores/*/cpu", Err("where a core is pinned, no measurement")),
    ("/cores/*/thread_id", Err("a name, no measurement")),
    ("/cores/*/cpu_time_s", Ok("corelane_core_cpu_seconds")),
    ("/listeners/*/internal", Ok("corelane_listener_internal")),
    (
        "/listeners/*/per_core/*/*",
        Err("a series for each listener and core; sums by core are corelane_core_…"),
    ),
    ("/channels/*/internal", Ok("corelane_channel_internal")),
    ("/channels/*/responses/*", Ok("corelane_channel_responses")),
    ("/channels/*/per_core/*/*", Err("as of listeners")),
    ("/upstreams/*/reuse_ratio", Ok("corelane_upstream_reuse_ratio")),
    ("/upstreams/*/retries/*", Ok("corelane_upstream_retries")),
    ("/upstreams/*/is_panic", Ok("corelane_upstream_panic")),
    ("/upstreams/*/names/*/answers", Ok("corelane_name_answers")),
    ("/upstreams/*/names/*/failures", Ok("corelane_name_failures")),
    ("/upstreams/*/endpoints/*/weight", Ok("corelane_endpoint_weight")),
    ("/upstreams/*/endpoints/*/per_core/*/*", Err("as of listeners")),
    ("/upstreams/*/endpoints/*/health/since_s", Err("corelane_endpoint_state_changes says when")),
    ("/upstreams/*/endpoints/*/health/last_probe/is_good", Ok("corelane_endpoint_probes")),
    ("/upstreams/*/endpoints/*/health/last_probe/ago_s", Err("the rate of corelane_endpoint_probes says it")),
    ("/upstreams/*/endpoints/*/health/last_probe/took_s", Ok("corelane_endpoint_probe_duration_seconds")),
    ("/upstreams/*/endpoints/*/health/probes/*", Ok("corelane_endpoint_probes")),
    ("/upstreams/*/endpoints/*/health/downs", Ok("corelane_endpoint_state_changes")),
    ("/upstreams/*/endpoints/*/health/ups", Ok("corelane_endpoint_state_changes")),
    ("/upstreams/*/endpoints/*/health/ejections", Ok("corelane_endpoint_state_changes")),
    ("/upstreams/*/endpoints/*/health/ejections_refused", Ok("corelane_endpoint_ejections_refused")),
    ("/faults/*", Ok("corelane_faults")),
    ("/handshake_faults/*", Ok("corelane_handshake_faults")),
    ("/upstream_handshake_faults/*", Ok("corelane_upstream_handshake_faults")),
    ("/requests_rejected/*", Ok("corelane_requests_rejected")),
];

/// The paths of all numbers, `*` in the place of indexes.
fn numbers(value: &Value, path: &str, found: &mut BTreeSet<String>) {
    match value {
        Value::Number(_) | Value::Bool(_) => {
            found.insert(path.to_owned());
        }
        Value::Array(items) => items.iter().for_each(|item| numbers(item, &format!("{path}/*"), found)),
        Value::Object(entries) => {
            for (key, value) in entries {
                numbers(value, &format!("{path}/{key}"), found);
            }
        }
        Value::Null | Value::String(_) => {}
    }
}

fn is_meant(pattern: &str, path: &str) -> bool {
    let (mut pattern, mut path) = (pattern.split('/'), path.split('/'));
    loop {
        match (pattern.next(), path.next()) {
            (None, None) => return true,
            (Some("*"), Some(_)) => {}
            (Some(pattern), Some(word)) if pattern == word => {}
            _ => return false,
        }
    }
}

#[test]
fn no_number_of_stats_is_without_a_metric_or_a_reason() {
    let text = "channel.web.upstream = 'u'\nlistener.in.bind = '127.0.0.1:0'\n[upstream.u]\nendpoints = ['127.0.0.1:1', 'localhost:2']\n\
                health.path = '/'\nhealth.interval = '1h'";
    let (shared, _cores) = testing::shared_of(text, 1);
    let live = shared.live();
    live.generation.stats[0].requests_rejected[0].add(1);
    let stats = serde_json::to_value(Stats::of(&shared, &live)).expect("json");
    let mut paths = BTreeSet::new();
    numbers(&stats, "", &mut paths);
    let text = scrape(&shared);
    let families: BTreeSet<&str> =
        text.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split(' ').next()).collect();
    let of = |prefix: &str, object: &str, entries: Vec<(&str, &str, Option<&Unit>)>| {
        let named = entries.into_iter().map(|(name, metric, unit)| {
            let unit = unit.map_or_else(String::new, |unit| format!("_{}", unit.as_str()));
            (format!("{prefix}/{name}"), format!("corelane_{object}_{metric}{unit}"))
        });
        named.collect::<Vec<_>>()
    };
    macro_rules! catalogued {
        ($prefix:literal, $object:literal, $entries:expr) => {
            of(
                $prefix,
                $object,
                $entries.iter().map(|entry| (entry.name, entry.metric, entry.unit.as_ref())).collect(),
            )
        };
    }
    let catalogue: BTreeMap<String, String> = [
        catalogued!("/cores/*", "core", catalogue::CORE),
        catalogued!("/listeners/*", "listener", catalogue::LISTENER),
        catalogued!("/channels/*", "channel", catalogue::CHANNEL),
        catalogued!("/upstreams/*", "upstream", catalogue::UPSTREAM),
        catalogued!("/upstreams/*/endpoints/*", "endpoint", catalogue::ENDPOINT),
    ]
    .into_iter()
    .flatten()
    .collect();
    for path in &paths {
        let metric = match catalogue.get(path) {
            Some(metric) => Ok(metric.as_str()),
            None => {
                let mut table = OUTSIDE_THE_CATALOGUE.iter();
                let row = table.find(|(pattern, _)| is_meant(pattern, path));
                row.unwrap_or_else(|| panic!("{path} of /stats is not in /metrics, and nobody says why")).1
            }
        };
        if let Ok(metric) = metric {
            assert!(families.contains(metric), "{path}: there is no {metric}");
        }
    }
    assert!(paths.len() > 80, "{paths:?}");
}

#[test]
fn endpoints_beyond_the_bound_are_counted_together() {
    let bound = 100;
    let endpoints = |count: u16| {
        (0..count).map(|index| format!("'10.0.0.1:{}'", 10_000 + index)).collect::<Vec<_>>().join(",")
    };
    let text = format!(
        "channel.web.upstream = 'u'\nlistener.in.bind = '127.0.0.1:0'\nadmin.endpoint_series_max = {bound}\n\
         upstream.u = {{ endpoints = [{}], endpoints_max = 4096 }}\n\
         upstream.v = {{ endpoints = [{}], endpoints_max = 1000 }}",
        endpoints(4096),
        endpoints(904)
    );
    let (shared, _cores) = testing::shared_of(&text, 2);
    let live = shared.live();
    let stats = &live.generation.stats;
    let slots: Vec<_> = live.snapshot.upstreams[0].slots().map(|slot| usize::from(slot.0)).collect();
    for slot in &slots {
        stats[0].endpoints[*slot].requests.add(1);
    }
    let text = scrape(&shared);
    let samples = parse(&text);
    let of = |upstream: &str| {
        let start = format!("corelane_endpoint_requests_total{{upstream=\"{upstream}\"");
        samples.iter().filter(move |(series, _)| series.starts_with(&start)).collect::<Vec<_>>()
    };
    assert_eq!(of("u").len(), bound + 1);
    assert_eq!(of("v").len(), bound + 1);
    assert_eq!(of("u").iter().map(|(_, count)| **count).sum::<f64>(), 4096.0, "nothing is lost");
    let other = "corelane_endpoint_requests_total{upstream=\"u\",endpoint=\"other\"}";
    assert_eq!(samples[other], (4096 - bound) as f64);
    assert_eq!(samples["corelane_upstream_endpoints_folded{upstream=\"u\"}"], (4096 - bound) as f64);
    assert_eq!(samples["corelane_upstream_endpoints{upstream=\"u\",state=\"up\"}"], 4096.0);
    assert!(samples.len() < 5_000, "{}", samples.len());
    // Whoever goes leaves what was counted, and nobody takes another's series.
    let last = live.keeper().find(UpstreamId(0), "10.0.0.1:14095").expect("it is there");
    live.keeper().remove(UpstreamId(0), last).expect("it is there");
    let first = live.keeper().find(UpstreamId(0), "10.0.0.1:10000").expect("it is there");
    live.keeper().remove(UpstreamId(0), first).expect("it is there");
    let samples = parse(&scrape(&shared));
    assert_eq!(samples[other], (4096 - bound) as f64);
    assert_eq!(samples["corelane_upstream_endpoints_folded{upstream=\"u\"}"], (4096 - bound - 1) as f64);
}
