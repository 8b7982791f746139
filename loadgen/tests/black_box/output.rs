//! Do the files a run leaves say what happened, to us and to other tools?

use std::path::Path;
use std::process::Command;

use hdrhistogram::Histogram;
use hdrhistogram::serialization::Deserializer;
use hdrhistogram::serialization::interval_log::{IntervalLogIterator, LogEntry};
use serde_json::{Value, json};

use crate::harness::{DRIVERS, Origin, Outcome, loadgen, scratch_path, serve_always};

/// The histogram of each line of an interval log, with its start and length in seconds.
fn read_hlog(log: &[u8]) -> Vec<(f64, f64, Histogram<u64>)> {
    let mut deserializer = Deserializer::new();
    let mut lines = Vec::new();
    for entry in IntervalLogIterator::new(log) {
        if let LogEntry::Interval(line) = entry.expect("a line of an interval log") {
            let bytes = decode_base64(line.encoded_histogram());
            let histogram = deserializer.deserialize(&mut bytes.as_slice()).expect("a histogram");
            lines.push((line.start_timestamp().as_secs_f64(), line.duration().as_secs_f64(), histogram));
        }
    }
    lines
}

/// RFC 4648 §4.
fn decode_base64(text: &str) -> Vec<u8> {
    const DIGITS: &str = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let (mut bits, mut count, mut bytes) = (0_u32, 0, Vec::new());
    for character in text.trim_end_matches('=').chars() {
        let digit = DIGITS.find(character).expect("a digit of base64");
        bits = bits << 6 | digit as u32;
        count += 6;
        if count >= 8 {
            count -= 8;
            bytes.push((bits >> count) as u8);
            bits &= (1 << count) - 1;
        }
    }
    bytes
}

fn read_and_remove(path: &Path) -> String {
    let text = std::fs::read_to_string(path).expect("a report");
    std::fs::remove_file(path).expect("the report goes");
    text
}

fn assert_intervals_add_up(run: &Outcome) {
    let intervals = run.json["intervals"].as_array().expect("intervals");
    let sum = |name: &str| intervals.iter().map(|interval| interval[name].as_u64().expect(name)).sum::<u64>();
    assert_eq!(sum("completed"), run.count("/requests/completed"), "{run:?}");
    assert_eq!(sum("failed"), run.count("/errors/total"), "{run:?}");
    let mut end = 0.0;
    for interval in intervals {
        assert_eq!(interval["start_s"].as_f64(), Some(end), "{run:?}");
        end += interval["length_s"].as_f64().expect("a length");
    }
    assert!((end - run.json["duration_s"].as_f64().expect("a duration")).abs() < 1e-6, "{run:?}");
}

#[test]
fn the_interval_log_holds_every_latency_once() {
    for driver in DRIVERS {
        let origin = Origin::start("");
        let path = scratch_path("run.hlog");
        let args = format!("-c 4 -t 2 --rate 500 -d 2500ms --driver {driver} --hlog {}", path.display());
        let run = loadgen(&origin.url(), &args);
        assert_eq!(run.code, Some(0), "{run:?}");
        assert_intervals_add_up(&run);
        let log = read_and_remove(&path);
        assert!(log.contains("#[Histogram log format version 1.3]\n#[StartTime: "), "{log}");
        let lines = read_hlog(log.as_bytes());
        let starts: Vec<f64> = lines.iter().map(|(start, _, _)| *start).collect();
        assert_eq!(starts, [0.0, 1.0, 2.0], "{log}");
        assert_eq!((lines[0].1, lines[1].1), (1.0, 1.0), "{log}");
        let mut merged: Histogram<u64> = Histogram::new(3).expect("three digits");
        for ((_, _, histogram), interval) in lines.iter().zip(run.json["intervals"].as_array().expect("some"))
        {
            assert_eq!(Some(histogram.len()), interval["completed"].as_u64());
            assert_eq!(Some(histogram.value_at_percentile(99.0)), interval["p99"].as_u64());
            merged.add(histogram).expect("a histogram that grows");
        }
        assert_eq!(merged.len(), run.count("/requests/completed"), "{run:?}");
        let percentiles = [("p50", 50.0), ("p90", 90.0), ("p99", 99.0), ("p99_9", 99.9), ("max", 100.0)];
        for (name, percentile) in percentiles {
            let expected = run.count(&format!("/latency_ns/{name}"));
            assert_eq!(merged.value_at_percentile(percentile), expected, "{name}");
        }
    }
}

#[test]
fn a_short_run_is_one_interval() {
    let url = serve_always("HTTP/1.1 503 Busy\r\nContent-Length: 0\r\n\r\n");
    let path = scratch_path("short.hlog");
    let run = loadgen(&url, &format!("-c 2 -n 20 --hlog {}", path.display()));
    assert_eq!((run.code, run.count("/errors/total")), (Some(1), 20), "{run:?}");
    assert_intervals_add_up(&run);
    assert!(run.json.pointer("/intervals/0/p50").is_some_and(Value::is_null), "{run:?}");
    let lines = read_hlog(read_and_remove(&path).as_bytes());
    assert_eq!(lines.iter().map(|(_, _, histogram)| histogram.len()).collect::<Vec<_>>(), [0]);
}

#[test]
fn the_page_stands_alone_and_trusts_no_text() {
    let url = serve_always("HTTP/1.1 503 Busy\r\nContent-Length: 0\r\n\r\n");
    let path = scratch_path("report.html");
    let query = "?q=<script>alert('x')</script>&amp;\"";
    let run = loadgen(&format!("{url}{query}"), &format!("-c 1 -n 3 --html {}", path.display()));
    assert_eq!((run.code, run.errors("wrong_status")), (Some(1), 3), "{run:?}");
    let page = read_and_remove(&path);
    assert!(!page.contains("<script") && !page.contains("alert('"), "{page}");
    assert!(page.contains("&lt;script&gt;") && page.contains("wrong_status"), "{page}");
    let origin = Origin::start("");
    let run = loadgen(&origin.url(), &format!("-c 2 -n 200 --html {}", path.display()));
    assert_eq!(run.code, Some(0), "{run:?}");
    let page = read_and_remove(&path);
    for part in ["Latency by percentile", "99.9 %", "Completed per second", "Latency over time", "dark)"] {
        assert!(page.contains(part), "{part} is missing from\n{page}");
    }
    assert_eq!((page.matches("<svg").count(), page.matches("</svg>").count()), (3, 3), "{page}");
    assert!(!page.contains("Errors per second"), "there were none: {page}");
    for loader in
        ["src=", "href=", "<link", "<script", "@import", "url(", "<img", "<iframe", "<object", "action="]
    {
        assert!(!page.contains(loader), "{loader} in\n{page}");
    }
    // The one address in it is the one that was asked for, as text; and the browser is told to load nothing else.
    let addresses = page.matches("://").count();
    assert_eq!(addresses, page.matches(&origin.url()).count(), "{page}");
    assert!(page.contains("content=\"default-src 'none'; style-src 'unsafe-inline'\""), "{page}");
    assert!(!page.contains("NaN") && !page.contains("inf "), "{page}");
}

#[test]
fn the_html_report_says_how_each_named_request_fared() {
    let (file, path) = (scratch_path("requests.jsonl"), scratch_path("report.html"));
    std::fs::write(&file, "{\"name\": \"<b>first</b>\"}\n{\"name\": \"second\", \"expect_status\": [204]}\n")
        .expect("a file of requests");
    let origin = Origin::start("--ids");
    let args = format!("--requests-file {} --in-order --ids -c 1 -t 1 -n 1234", file.display());
    let run = loadgen(&origin.url(), &format!("{args} --html {}", path.display()));
    std::fs::remove_file(&file).expect("the file goes");
    assert_eq!(run.code, Some(1), "{run:?}");
    let page = read_and_remove(&path);
    let cells =
        |cells: &[&str]| cells.iter().map(|cell| format!("<td class=\"n\">{cell}</td>")).collect::<String>();
    for part in [
        format!("<td>&lt;b&gt;first&lt;/b&gt;</td>{}", cells(&["617", "617", "0", "0"])),
        format!("<td>second</td>{}", cells(&["617", "0", "617", "0", "-", "-"])),
        "<th>delivered</th><td class=\"n\">once 1,234, twice 0, more often 0, never 0</td>".into(),
    ] {
        assert!(page.contains(&part), "{part} is missing from\n{page}");
    }
    for part in ["<b>first</b>", "second"] {
        assert!(run.out.contains(part), "{part} is missing from\n{}", run.out);
    }
}

/// A summary of ten seconds as `--json` writes it.
fn summary(rate: u64, p99: u64) -> Value {
    let second = |index: u64| {
        // Seconds that follow one another upwards would count as one.
        let index = index * 7 % 10;
        json!({"start_s": 0.0, "length_s": 1.0, "completed": rate + index, "failed": 0,
               "p50": p99 / 2 + index, "p99": p99 + index, "max": p99 * 2})
    };
    json!({"connections": 64, "arrival": "closed", "rate": {"requested": null, "achieved": rate},
           "requests": {"sent": rate * 10 + 45, "completed": rate * 10 + 45, "unanswered": 0},
           "errors": {"total": 0}, "latency_ns": {"p99_9": p99, "max": p99 * 2},
           "intervals": (0..10).map(second).collect::<Vec<_>>()})
}

fn compare(before: &str, after: &str) -> (Option<i32>, String) {
    let [before_path, after_path] = [before, after].map(|text| {
        let path = scratch_path("compared.json");
        std::fs::write(&path, text).expect("a summary");
        path
    });
    let output = Command::new(env!("CARGO_BIN_EXE_loadgen"))
        .arg("compare")
        .args([&before_path, &after_path])
        .output()
        .expect("loadgen runs");
    for path in [before_path, after_path] {
        std::fs::remove_file(path).expect("the summary goes");
    }
    let text = [output.stdout, output.stderr].concat();
    (output.status.code(), String::from_utf8(text).expect("text"))
}

#[test]
fn comparing_says_what_changed_with_its_exit_code() {
    let base = summary(10_000, 1_000_000).to_string();
    let cases = [
        (summary(10_000, 1_000_000), 0, "B is the same as A"),
        (summary(12_000, 1_000_000), 0, "clearly better"),
        (summary(10_000, 2_000_000), 1, "B is clearly worse than A"),
        (json!({"connections": 64}), 2, "write it with loadgen --json"),
    ];
    for (after, code, part) in cases {
        let (actual, text) = compare(&base, &after.to_string());
        assert_eq!(actual, Some(code), "{text}");
        assert!(text.contains(part), "{part} is missing from\n{text}");
    }
    assert_eq!(compare(&base, "no JSON").0, Some(2));
}

#[test]
fn a_real_summary_is_read_and_too_short_to_compare() {
    let origin = Origin::start("");
    let run = loadgen(&origin.url(), "-c 1 -n 10");
    let text = run.json.to_string();
    let (code, said) = compare(&text, &text);
    assert_eq!(code, Some(2), "{said}");
    assert!(said.contains("A has 0 whole seconds, and a comparison needs 8"), "{said}");
}
