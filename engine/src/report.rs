//! What has a running process done? Its own figures, laid out for people.
//!
//! Never computes a figure: sums and percentiles come from the process.

use std::fmt::Write as _;
use std::process::ExitCode;
use std::time::Duration;

use comfy_table::{CellAlignment, Table, presets};
use serde_json::Value;

use crate::cli::AdminArgs;
use crate::client::AdminClient;
use crate::print;

/// Percentiles shown, by their key in `/stats/latency`.
const PERCENTILES: [(&str, &str); 3] = [("p50", "p50"), ("p99", "p99"), ("p99.9", "p99_9")];

/// `engine status`: whether it runs, and how.
pub(crate) fn status(args: &AdminArgs) -> anyhow::Result<ExitCode> {
    let stats = AdminClient::new(&args.admin).json("/stats", &[])?;
    if args.json {
        return print(&format!("{:#}\n", stats["process"]));
    }
    let mut out = status_text(&stats);
    push_table(&mut out, "endpoints", &states(&stats));
    print(&out)
}

/// `engine stats`: what it has counted.
pub(crate) fn stats(args: &AdminArgs) -> anyhow::Result<ExitCode> {
    let client = AdminClient::new(&args.admin);
    let mut stats = client.json("/stats", &[])?;
    for channel in stats["channels"].as_array_mut().into_iter().flatten() {
        let name = text(channel, "name").to_owned();
        channel["latency"] = client.json("/stats/latency", &[("channel", &name)])?;
    }
    if args.json {
        return print(&format!("{stats:#}\n"));
    }
    print(&stats_text(&stats))
}

fn status_text(stats: &Value) -> String {
    let process = &stats["process"];
    let uptime = Duration::from_secs(process["uptime_s"].as_f64().unwrap_or_default() as u64);
    let mut out = String::new();
    let mut line = |label: &str, value: &str| {
        // Writing to a String does not fail.
        let _ = writeln!(out, "{label:9}{value}");
    };
    line("state", text(process, "state"));
    if process["state"] == "draining" {
        line("left", &left(stats));
    }
    line("version", text(process, "version"));
    line("node", text(process, "node"));
    let configuration = &stats["configuration"];
    let (source, version) = (text(configuration, "source"), configuration["version"].as_u64());
    let version = version.map(|version| format!(" version {version}")).unwrap_or_default();
    let fingerprint = text(process, "config_fingerprint");
    line(
        "config",
        &format!("{fingerprint} from {source}{version}, number {}", number(&configuration["number"])),
    );
    let keys: Vec<_> =
        configuration["needs_restart"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    if !keys.is_empty() {
        line("restart", &format!("needed for {}", keys.join(", ")));
    }
    let failure = &configuration["last_failure"];
    for problem in failure["problems"].as_array().into_iter().flatten().filter_map(Value::as_str) {
        line("refused", &format!("{}: {problem}", text(failure, "at")));
    }
    line("pid", &number(&process["pid"]));
    line("up", &uptime_text(uptime));
    line("cores", &number(&process["cores"]));
    line("driver", text(process, "driver"));
    out
}

/// What a process that drains has still to finish.
pub(crate) fn left(stats: &Value) -> String {
    let open = |protocols: &[&str]| -> u64 {
        let listeners = rows(&stats["listeners"]).filter(|listener| !is_internal(listener));
        let listeners = listeners.filter(|listener| protocols.contains(&text(listener, "protocol")));
        listeners.filter_map(|listener| listener["connections_open"].as_u64()).sum()
    };
    let exchanges = number(&stats["totals"]["exchanges_open"]);
    format!(
        "{exchanges} exchanges, {} HTTP connections (tunnels among them), {} relayed connections",
        open(&["http", "https"]),
        open(&["tcp", "tls"])
    )
}

fn stats_text(stats: &Value) -> String {
    let mut out = status_text(stats);
    let totals = &stats["totals"];
    let columns = ["connections_open", "connections_accepted", "requests", "faults", "retries"];
    let mut table = new_table(&["open", "accepted", "requests", "faults", "retries", "received", "sent"], 0);
    let mut row: Vec<_> = columns.iter().map(|key| number(&totals[key])).collect();
    row.extend(["bytes_received", "bytes_sent"].map(|key| bytes(totals[key].as_u64().unwrap_or_default())));
    table.add_row(row);
    push_table(&mut out, "totals", &table);
    push_table(&mut out, "cores", &cores(stats));
    push_table(&mut out, "listeners", &listeners(stats));
    push_table(&mut out, "channels", &channels(stats));
    push_table(&mut out, "endpoints", &endpoints(stats));
    out
}

/// How each endpoint is, and why.
fn states(stats: &Value) -> Table {
    let mut table = new_table(&["upstream", "endpoint", "state", "weight", "for", "cause"], 6);
    for upstream in rows(&stats["upstreams"]) {
        for endpoint in rows(&upstream["endpoints"]) {
            let health = &endpoint["health"];
            let time = health["since_s"].as_f64().map(|since| uptime_text(Duration::from_secs(since as u64)));
            let weight = endpoint["weight"].as_f64().unwrap_or_default();
            let names = [text(upstream, "name"), text(endpoint, "name"), text(endpoint, "state")];
            let mut row: Vec<_> = names.map(str::to_owned).into();
            row.push(format!("{weight:.2}").trim_end_matches('0').trim_end_matches('.').to_owned());
            let cause = health["cause"].as_str().unwrap_or_default();
            row.extend([time.unwrap_or_default(), cause.to_owned()]);
            table.add_row(row);
        }
    }
    table
}

fn cores(stats: &Value) -> Table {
    let mut table =
        new_table(&["core", "cpu", "open", "accepted", "requests", "handed over", "taken over", "sleeps"], 0);
    for (index, core) in rows(&stats["cores"]).enumerate() {
        let over_listeners = |key: &str| -> u64 {
            let listeners = rows(&stats["listeners"]).filter(|listener| !is_internal(listener));
            listeners.filter_map(|listener| listener["per_core"][key][index].as_u64()).sum()
        };
        let mut row: Vec<_> =
            ["index", "cpu", "connections_open"].iter().map(|key| number(&core[key])).collect();
        row.extend(["accepted", "requests"].map(|key| over_listeners(key).to_string()));
        row.extend(["handed_over", "taken_over", "sleeps"].map(|key| number(&core[key])));
        table.add_row(row);
    }
    table
}

fn listeners(stats: &Value) -> Table {
    let mut table = new_table(&["listener", "address", "accepted", "requests", "received", "sent"], 2);
    for listener in rows(&stats["listeners"]) {
        let mut row = vec![name(listener), text(listener, "address").to_owned()];
        row.extend(["accepted", "requests"].map(|key| number(&listener[key])));
        row.extend(
            ["bytes_received", "bytes_sent"].map(|key| bytes(listener[key].as_u64().unwrap_or_default())),
        );
        table.add_row(row);
    }
    table
}

fn channels(stats: &Value) -> Table {
    let mut header = vec!["channel", "requests", "2xx", "3xx", "4xx", "5xx", "faults"];
    header.extend(PERCENTILES.map(|(title, _)| title));
    header.push("max");
    let mut table = new_table(&header, 1);
    for channel in rows(&stats["channels"]) {
        let latency = &channel["latency"];
        let mut row = vec![name(channel), number(&channel["requests"])];
        row.extend(["2xx", "3xx", "4xx", "5xx"].map(|class| number(&channel["responses"][class])));
        row.push(number(&channel["faults"]));
        row.extend(PERCENTILES.map(|(_, key)| latency_text(latency, &latency["percentiles"][key])));
        row.push(latency_text(latency, &latency["max"]));
        table.add_row(row);
    }
    table
}

fn endpoints(stats: &Value) -> Table {
    let header = [
        "upstream",
        "endpoint",
        "address",
        "requests",
        "reused",
        "opened",
        "connect failures",
        "active",
        "idle",
    ];
    let keys = ["requests", "reused", "connections_opened", "connect_failures", "active", "idle"];
    let mut table = new_table(&header, 3);
    for upstream in rows(&stats["upstreams"]) {
        for endpoint in rows(&upstream["endpoints"]) {
            let names = [text(upstream, "name"), text(endpoint, "name"), text(endpoint, "address")];
            let mut row: Vec<_> = names.map(str::to_owned).into();
            row.extend(keys.map(|key| number(&endpoint[key])));
            table.add_row(row);
        }
    }
    table
}

/// A table whose first columns are words and whose others are figures.
pub(crate) fn new_table(header: &[&str], words: usize) -> Table {
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_header(header.to_vec());
    for (index, column) in table.column_iter_mut().enumerate() {
        column.set_padding((0, 2));
        if index >= words {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    table
}

pub(crate) fn push_table(out: &mut String, title: &str, table: &Table) {
    if !table.is_empty() {
        let _ = writeln!(out, "\n{title}\n{}", table.trim_fmt());
    }
}

pub(crate) fn rows(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

/// What the row of a listener or channel begins with; totals leave the internal ones out.
fn name(row: &Value) -> String {
    let internal = if is_internal(row) { " (internal)" } else { "" };
    format!("{}{internal}", text(row, "name"))
}

fn is_internal(row: &Value) -> bool {
    row["internal"] == true
}

pub(crate) fn text<'v>(value: &'v Value, key: &str) -> &'v str {
    value[key].as_str().unwrap_or("?")
}

pub(crate) fn number(value: &Value) -> String {
    value.as_u64().map_or_else(|| "?".to_owned(), |number| number.to_string())
}

/// A duration in nanoseconds with three digits and its unit; a dash where nothing was recorded.
fn latency_text(latency: &Value, nanos: &Value) -> String {
    match nanos.as_f64() {
        Some(nanos) if latency["count"] != 0 => {
            scaled(nanos, &[("ns", 1e3), ("µs", 1e3), ("ms", 1e3), ("s", f64::INFINITY)])
        }
        _ => "-".to_owned(),
    }
}

fn bytes(count: u64) -> String {
    let step = 1024.0;
    scaled(count as f64, &[("B", step), ("KiB", step), ("MiB", step), ("GiB", step), ("TiB", f64::INFINITY)])
}

/// `value` in the first unit in which it stays below that unit's step to the next.
pub(crate) fn scaled(mut value: f64, units: &[(&str, f64)]) -> String {
    for (index, (unit, step)) in units.iter().enumerate() {
        // What would be rounded up to the step belongs to the next unit.
        if value < step - 0.5 {
            let decimals = match value {
                _ if index == 0 => 0,
                value if value < 9.995 => 2,
                value if value < 99.95 => 1,
                _ => 0,
            };
            return format!("{value:.decimals$} {unit}");
        }
        value /= step;
    }
    value.to_string()
}

pub(crate) fn uptime_text(uptime: Duration) -> String {
    let seconds = uptime.as_secs();
    let (days, hours, minutes) = (seconds / 86_400, seconds / 3_600 % 24, seconds / 60 % 60);
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{seconds} s"),
        (0, 0, _) => format!("{minutes} min {} s", seconds % 60),
        (0, _, _) => format!("{hours} h {minutes} min"),
        _ => format!("{days} d {hours} h"),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn figures_keep_three_digits_and_name_their_unit() {
        let check = |nanos: u64, expected: &str| {
            assert_eq!(latency_text(&json!({ "count": 1 }), &json!(nanos)), expected);
        };
        check(999, "999 ns");
        check(1_500, "1.50 µs");
        check(52_345, "52.3 µs");
        check(999_900, "1.00 ms");
        check(250_000_000, "250 ms");
        check(90_000_000_000, "90.0 s");
        assert_eq!(latency_text(&json!({ "count": 0 }), &json!(0)), "-");
        assert_eq!(bytes(1_023), "1023 B");
        assert_eq!(bytes(5 * 1024 * 1024), "5.00 MiB");
    }

    #[test]
    fn uptime_names_its_two_largest_units() {
        let check =
            |seconds: u64, expected: &str| assert_eq!(uptime_text(Duration::from_secs(seconds)), expected);
        check(7, "7 s");
        check(67, "1 min 7 s");
        check(3_700, "1 h 1 min");
        check(200_000, "2 d 7 h");
    }
}
