//! What does a run look like? One page that any browser opens, offline.
//!
//! Never refers to anything outside itself, and never lets a server's text become markup.

use std::fmt::Write as _;
use std::time::{Duration, UNIX_EPOCH};

use httpdate::fmt_http_date;
use proto::histogram::MergedHistogram;

use crate::connection::handshakes::TlsSummary;
use crate::named::{NAMED_COLUMNS, NamedRequests};
use crate::output::html_chart::{Axis, Series, draw, escape};
use crate::output::html_seconds::thinned;
use crate::output::intervals::Interval;
use crate::output::report::Summary;
use crate::protocol::Unit;
use crate::units::{show_bytes, show_count, show_duration, show_nanoseconds};

/// Nothing may be loaded, whatever the page holds.
const POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'";

const STYLE: &str = "\
:root{color-scheme:light dark;--page:#fff;--text:#1c2330;--faint:#5b6678;--rule:#d9dee7;--warn:#9a4b00;\
--s0:#1d63d1;--s1:#c2570c;--s2:#8a3ffc}
@media screen and (prefers-color-scheme:dark){:root{--page:#14181f;--text:#e6eaf2;--faint:#a3aec0;--rule:#343c4a;--warn:#ffb869;\
--s0:#6ea8ff;--s1:#ff9d5c;--s2:#c4a0ff}}
body{background:var(--page);color:var(--text);font:15px/1.5 system-ui,sans-serif;max-width:800px;\
margin:2rem auto;padding:0 1rem}
h1{font-size:1.3rem;overflow-wrap:anywhere}h2{font-size:1.05rem;margin:2rem 0 .3rem}
p{color:var(--faint);margin:.3rem 0}p.warning{color:var(--warn)}
table{border-collapse:collapse;margin:.5rem 0}th,td{text-align:left;padding:.15rem 1.5rem .15rem 0;\
border-bottom:1px solid var(--rule);overflow-wrap:anywhere}
th.n,td.n{text-align:right;font-variant-numeric:tabular-nums}
.tables{display:flex;flex-wrap:wrap;gap:0 4rem}.wide{overflow-x:auto}
svg{width:100%;height:auto}.grid path{stroke:var(--rule)}.grid text{fill:var(--faint);font-size:12px}
.x{text-anchor:middle}.y{text-anchor:end}
.line{fill:none;stroke-width:2;stroke-linecap:round;stroke-linejoin:round}
.s0{stroke:var(--s0)}.s1{stroke:var(--s1)}.s2{stroke:var(--s2)}
.s2{stroke-dasharray:1 5}
.k0{color:var(--s0)}.k1{color:var(--s1)}.k2{color:var(--s2)}
@media(max-width:560px){.grid text{font-size:22px}.grid path{stroke-width:2}.line{stroke-width:4}\
.s2{stroke-dasharray:1 9}}
@media print{:root{color-scheme:light}body{margin:0 auto}section,table{break-inside:avoid}}
";

/// The whole page.
pub(crate) fn page(summary: &Summary, latency: &MergedHistogram) -> String {
    let url = escape(&summary.url);
    let mut page = format!(
        "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta http-equiv=\"Content-Security-Policy\" content=\"{POLICY}\">\n\
         <meta name=\"viewport\" content=\"width=device-width\">\n\
         <title>loadgen: {url}</title>\n<style>\n{STYLE}</style>\n</head>\n<body>\n<h1>{url}</h1>\n"
    );
    write_setting(&mut page, summary);
    for warning in summary.warnings() {
        let _ = writeln!(page, "<p class=\"warning\">Warning: {}</p>", escape(&warning));
    }
    page.push_str("<div class=\"tables\">\n");
    write_requests(&mut page, summary);
    write_latency(&mut page, summary);
    page.push_str("</div>\n");
    write_connections(&mut page, summary);
    write_named(&mut page, &summary.named);
    write_errors(&mut page, summary);
    write_charts(&mut page, summary, latency);
    page.push_str("</body>\n</html>\n");
    page
}

fn write_setting(page: &mut String, summary: &Summary) {
    let _ = writeln!(
        page,
        "<p>{}, {}, {}, {:.1} s, {}, seed {}, begun {}</p>",
        plural(summary.connections.into(), "connection"),
        plural(summary.threads as u64, "thread"),
        escape(&summary.load),
        summary.duration_s,
        escape(&summary.driver),
        summary.seed,
        fmt_http_date(UNIX_EPOCH + Duration::from_secs(summary.started_unix_s as u64))
    );
}

fn plural(count: u64, thing: &str) -> String {
    format!("{} {thing}{}", show_count(count), if count == 1 { "" } else { "s" })
}

fn write_requests(page: &mut String, summary: &Summary) {
    let requests = &summary.requests;
    let mut rows = vec![
        ("sent".to_owned(), show_count(requests.sent)),
        ("completed".into(), show_count(requests.completed)),
        ("failed".into(), show_count(requests.failed)),
        ("unanswered".into(), show_count(requests.unanswered)),
        ("due, never sent".into(), show_count(requests.unsent)),
        match summary.latency_ns {
            Some(_) => ("completed per second".into(), format!("{:.1}", summary.rate.achieved)),
            None => ("bytes per second".into(), show_bytes(summary.bytes.both_per_s)),
        },
        ("bytes sent".into(), show_bytes(summary.bytes.sent as f64)),
        ("bytes received".into(), show_bytes(summary.bytes.received as f64)),
        ("generator's CPU time".into(), format!("{:.2} s", summary.generator.cpu_s)),
    ];
    if let Some(target) = &summary.target {
        let verdict = if target.kept { "kept" } else { "missed" };
        rows.push((format!("target {}", escape(&target.target)), verdict.into()));
    }
    if let Some(lateness) = &summary.generator.send_lateness_ns {
        let [p99, max] = [lateness.p99, lateness.max].map(|value| show_nanoseconds(value as f64));
        rows.push(("generator's own delay, p99".into(), p99));
        rows.push(("generator's own delay, max".into(), max));
    }
    let statuses = &summary.statuses;
    rows.extend(statuses.iter().map(|(status, count)| (format!("status {status}"), show_count(*count))));
    let (first, rest) = summary.unit.split_at(1);
    write_rows(page, &format!("{}{rest}", first.to_uppercase()), &rows);
}

/// How they were reached, in sentences too long for the table beside the latencies.
fn write_connections(page: &mut String, summary: &Summary) {
    if summary.unit == Unit::Connections.name() {
        // They are what was asked for: the table above is about them.
        return;
    }
    let mut rows = vec![("connections opened".to_owned(), show_count(summary.generator.connects))];
    let tls = summary.tls.iter().flat_map(TlsSummary::rows);
    rows.extend(tls.map(|(name, value)| (name.to_owned(), escape(&value))));
    if let Some(delivery) = &summary.delivery {
        rows.push(("delivered".into(), delivery.to_string()));
    }
    write_rows(page, "Connections", &rows);
}

fn write_rows(page: &mut String, title: &str, rows: &[(String, String)]) {
    let _ = writeln!(page, "<section>\n<h2>{title}</h2>\n<table>");
    for (name, value) in rows {
        let _ = writeln!(page, "<tr><th>{name}</th><td class=\"n\">{value}</td></tr>");
    }
    page.push_str("</table>\n</section>\n");
}

/// The kinds of requests that a file of requests names, if any.
fn write_named(page: &mut String, rows: &[NamedRequests]) {
    if rows.is_empty() {
        return;
    }
    page.push_str("<section class=\"wide\">\n<h2>By request</h2>\n<table>\n<tr><th>request</th>");
    for heading in NAMED_COLUMNS {
        let _ = write!(page, "<th class=\"n\">{heading}</th>");
    }
    page.push_str("</tr>\n");
    for row in rows {
        let _ = write!(page, "<tr><td>{}</td>", escape(&row.name));
        for cell in row.cells() {
            let _ = write!(page, "<td class=\"n\">{cell}</td>");
        }
        page.push_str("</tr>\n");
    }
    page.push_str("</table>\n</section>\n");
}

fn write_errors(page: &mut String, summary: &Summary) {
    if summary.errors.total == 0 {
        return;
    }
    page.push_str("<h2>Errors</h2>\n<table>\n<tr><th>kind</th><th>count</th><th>the first</th></tr>\n");
    for (kind, count) in &summary.errors.by_kind {
        let first = summary.errors.first.get(kind).map_or("", String::as_str);
        let (kind, count, first) = (escape(kind), show_count(*count), escape(first));
        let _ = writeln!(page, "<tr><td>{kind}</td><td class=\"n\">{count}</td><td>{first}</td></tr>");
    }
    page.push_str("</table>\n");
}

fn write_latency(page: &mut String, summary: &Summary) {
    let (Some(latency), Some(service_time)) = (&summary.latency_ns, &summary.service_time_ns) else { return };
    page.push_str("<section>\n<h2>Latency</h2>\n");
    if summary.requests.completed == 0 {
        let _ = writeln!(page, "<p>None of the {} went right.</p>\n</section>", summary.unit);
        return;
    }
    page.push_str("<table>\n<tr><th></th><th>latency</th><th>service time</th></tr>\n");
    for ((name, latency), (_, service)) in latency.rows().into_iter().zip(service_time.rows()) {
        let [latency, service] = [latency, service].map(show_nanoseconds);
        let _ = writeln!(
            page,
            "<tr><th>{name}</th><td class=\"n\">{latency}</td><td class=\"n\">{service}</td></tr>"
        );
    }
    page.push_str(
        "</table>\n<p>Latency counts from the intended send,<br>service time from the actual one.</p>\n</section>\n",
    );
}

/// A shorter axis of counts would have fractions at its grid lines.
const COUNT_AXIS_MIN: f64 = 5.0;

fn write_charts(page: &mut String, summary: &Summary, latency: &MergedHistogram) {
    if !latency.is_empty() {
        write_chart(page, "Latency by percentile", "", &percentiles(latency), |title, series| {
            let end = latency.len() as f64;
            let y_axis = Axis::linear(latency.max() as f64, show_latency);
            draw(title, &nines(end), &y_axis, series)
        });
    }
    let (steps, group) = thinned(&summary.intervals);
    let Some(last) = steps.last() else { return };
    let time = || Axis::time(Duration::from_secs_f64(last.start_s + last.length_s));
    let plain = |title: &str, series: &[Series]| {
        let y_axis =
            Axis::linear(highest(series).max(COUNT_AXIS_MIN), |value| show_count(value.round() as u64));
        draw(title, &time(), &y_axis, series)
    };
    let rate = |of: fn(&Interval) -> u64| {
        move |step: &Interval| (step.length_s > 0.0).then(|| of(step) as f64 / step.length_s)
    };
    if summary.latency_ns.is_none() {
        let bytes = [
            over_time(&steps, "sent", rate(|step| step.bytes_sent)),
            over_time(&steps, "received", rate(|step| step.bytes_received)),
        ];
        write_chart(page, "Bytes per second", &note(group, "means"), &bytes, |title, series| {
            draw(title, &time(), &Axis::linear(highest(series).max(COUNT_AXIS_MIN), show_bytes), series)
        });
    } else {
        let rates = [over_time(&steps, "completed", rate(|step| step.completed))];
        write_chart(page, "Completed per second", &note(group, "means"), &rates, plain);
    }
    let log = |of: fn(&Interval) -> Option<u64>| {
        move |step: &Interval| of(step).map(|value| (value.max(1) as f64).log10())
    };
    let latencies = [
        over_time(&steps, "p50", log(|step| step.p50)),
        over_time(&steps, "p99", log(|step| step.p99)),
        over_time(&steps, "max", log(|step| step.max)),
    ];
    if summary.latency_ns.is_some() {
        write_chart(
            page,
            "Latency over time",
            &note(group, "slowest seconds"),
            &latencies,
            |title, series| {
                let lowest = steps.iter().filter_map(|step| step.p50).min().unwrap_or(1);
                let y_axis = Axis::powers_of_ten(lowest as f64, latency.max() as f64, show_latency);
                draw(title, &time(), &y_axis, series)
            },
        );
    }
    if summary.errors.total > 0 {
        let errors = [over_time(&steps, "errors", rate(|step| step.failed))];
        write_chart(page, "Errors per second", &note(group, "means"), &errors, plain);
    }
}

/// What a step stands for, where it is more than a second.
fn note(group: usize, of: &str) -> String {
    match group {
        1 => String::new(),
        seconds => format!("{of} of {seconds} s"),
    }
}

fn show_latency(nanoseconds: f64) -> String {
    show_duration(Duration::from_nanos(nanoseconds.round() as u64))
}

fn write_chart(
    page: &mut String,
    title: &str,
    note: &str,
    series: &[Series],
    draw: impl Fn(&str, &[Series]) -> String,
) {
    let _ = write!(page, "<section>\n<h2>{title}</h2>\n<p>");
    for (index, line) in series.iter().enumerate() {
        let dash = if index == 2 { "┅" } else { "━" };
        let _ = write!(page, "<span class=\"k{index}\">{dash}</span> {}&emsp;", line.name);
    }
    let _ = writeln!(page, "{note}</p>");
    page.push_str(&draw(title, series));
    page.push_str("</section>\n");
}

/// A level stretch for each interval: what it says holds for the whole of it, and for no moment beyond.
fn over_time(steps: &[Interval], name: &'static str, of: impl Fn(&Interval) -> Option<f64>) -> Series {
    let ends = |step: &Interval| {
        let value = of(step);
        [step.start_s, step.start_s + step.length_s].map(|at| value.map(|value| (at, value)))
    };
    Series { name, points: steps.iter().flat_map(ends).collect() }
}

fn highest(series: &[Series]) -> f64 {
    series.iter().flat_map(|line| &line.points).flatten().map(|(_, y)| *y).fold(0.0, f64::max)
}

/// Points of the percentile plot for each halving of the distance to 100 %.
const POINTS_PER_HALF_DISTANCE: u32 = 10;

fn percentiles(latency: &MergedHistogram) -> [Series; 1] {
    let count = latency.len() as f64;
    let point = |quantile: f64, value: u64| {
        // The largest value stands where one in all requests is above.
        let above = (1.0 - quantile).max(1.0 / count);
        Some((-above.log10(), value as f64))
    };
    let steps = latency.iter_quantiles(POINTS_PER_HALF_DISTANCE);
    let points = steps.map(|step| point(step.quantile_iterated_to(), step.value_iterated_to())).collect();
    [Series { name: "latency", points }]
}

/// An axis on which each further nine takes the same width: 0 %, 90 %, 99 %, …
fn nines(count: f64) -> Axis {
    let max = count.log10().ceil().max(1.0);
    let label = |nines: u32| match nines {
        0 => "0 %".to_owned(),
        1 => "90 %".to_owned(),
        2 => "99 %".to_owned(),
        more => format!("99.{} %", "9".repeat(more as usize - 2)),
    };
    Axis { min: 0.0, max, ticks: (0..=max as u32).map(|nines| (nines.into(), label(nines))).collect() }
}

#[cfg(test)]
mod tests {
    use proto::histogram::merged_histogram;

    use super::*;
    use crate::output::report::Asked;
    use crate::schedule::{Arrival, Pattern};

    #[test]
    fn each_nine_takes_the_same_width() {
        let axis = nines(54_321.0);
        assert_eq!((axis.min, axis.max, axis.ticks.len()), (0.0, 5.0, 6));
        assert_eq!(axis.ticks[4], (4.0, "99.99 %".to_owned()));
    }

    #[test]
    fn a_run_of_hours_is_one_readable_page() {
        let pattern = Pattern { arrival: Arrival::Closed, duration: None, requests_max: None, seed: 1 };
        let (mut summary, mut latency) = Summary::new(&Asked::plainly(&pattern), &[]);
        summary.intervals = (0..6 * 3_600_u64)
            .map(|second| {
                // A stall every hour, for one second.
                let slowest = if second % 3_600 == 1_800 { 900_000_000 } else { 2_000_000 + second * 50 };
                Interval {
                    start_s: second as f64,
                    length_s: 1.0,
                    completed: 5_000 + second * 7_919 % 700,
                    failed: 0,
                    bytes_sent: 0,
                    bytes_received: 0,
                    p50: Some(200_000),
                    p99: Some(slowest),
                    max: Some(slowest),
                }
            })
            .collect();
        latency.record_n(900_000_000, 6).expect("within an hour");
        let page = page(&summary, &latency);
        assert!(page.len() < 64 * 1_024, "{} bytes", page.len());
        for part in ["slowest seconds of 120 s", ">1 h<", ">6 h<", ">1 s<"] {
            assert!(page.contains(part), "{part} is missing");
        }
    }

    #[test]
    fn the_percentile_plot_ends_with_the_largest_value() {
        let mut latency = merged_histogram();
        (1..=1_000).for_each(|value| latency.saturating_record(value));
        let [series] = percentiles(&latency);
        let (x, y) = series.points.last().copied().flatten().expect("a point");
        assert!((x - 3.0).abs() < 1e-9 && (y - 1_000.0).abs() < 1e-9, "{x} {y}");
        let at = |nines: f64| {
            series.points.iter().flatten().find(|(x, _)| *x >= nines).map(|(_, y)| *y).expect("a point")
        };
        assert!((at(1.0) - 900.0).abs() <= 10.0, "{}", at(1.0));
    }
}
