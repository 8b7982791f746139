//! Are the requests sent that were described, over the connections that were asked for, and their answers checked?

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::Write;
use std::path::PathBuf;
use std::sync::mpsc;

use serde_json::Value;

use crate::harness::{
    DRIVERS, Origin, Outcome, RIGHT, loadgen, read_request, record, scratch_path, serve, serve_always,
    serve_with_stall,
};

/// The requests that came over each connection, as far as told.
fn by_connection(requests: &mpsc::Receiver<(usize, String)>) -> BTreeMap<usize, Vec<String>> {
    let mut connections: BTreeMap<usize, Vec<String>> = BTreeMap::new();
    for (connection, request) in requests.try_iter() {
        connections.entry(connection).or_default().push(request);
    }
    connections
}

#[test]
fn a_connection_is_closed_after_its_requests_and_opened_anew() {
    for driver in DRIVERS {
        let (url, requests) = record();
        let run = loadgen(&url, &format!("-c 1 -t 1 -n 10 --requests-per-connection 4 --driver {driver}"));
        assert_eq!((run.code, run.count("/requests/completed")), (Some(0), 10), "{run:?}");
        run.assert_adds_up();
        let counts: Vec<usize> = by_connection(&requests).values().map(Vec::len).collect();
        assert_eq!(counts, [4, 4, 2], "{driver}");
        assert_eq!((run.count("/generator/connects"), run.count("/generator/retired")), (3, 2), "{run:?}");
        assert_eq!(run.count("/generator/reconnects"), 0, "{run:?}");
    }
}

#[test]
fn churn_keeps_an_open_loop_on_its_schedule() {
    let origin = Origin::start("");
    let run = loadgen(&origin.url(), "-c 4 -t 2 -n 100 --rate 500 --requests-per-connection 3");
    assert_eq!((run.code, run.count("/requests/completed")), (Some(0), 100), "{run:?}");
    run.assert_adds_up();
    assert!((34..=44).contains(&run.count("/generator/connects")), "{run:?}");
}

/// A server that reads `together` requests before it answers them all at once.
fn serve_together(together: usize) -> String {
    serve(move |mut stream| {
        while (0..together).all(|_| read_request(&mut stream)) {
            if stream.write_all(RIGHT.repeat(together).as_bytes()).is_err() {
                return;
            }
        }
    })
}

#[test]
fn pipelined_requests_are_sent_before_the_first_is_answered() {
    for driver in DRIVERS {
        // A client that waited for an answer after one request would wait for ever.
        let args = format!("-c 1 -t 1 -n 12 --pipeline 4 --timeout 20s --driver {driver}");
        let run = loadgen(&serve_together(4), &args);
        assert_eq!((run.code, run.count("/requests/completed")), (Some(0), 12), "{run:?}");
        run.assert_adds_up();
        assert_eq!(run.count("/bytes/received"), 12 * RIGHT.len() as u64);
        assert_eq!(run.count("/generator/connects"), 1);
    }
}

#[test]
fn a_batch_never_exceeds_what_its_connection_may_still_carry() {
    let (url, requests) = record();
    let run = loadgen(&url, "-c 1 -t 1 -n 20 --pipeline 4 --requests-per-connection 6");
    assert_eq!((run.code, run.count("/requests/completed")), (Some(0), 20), "{run:?}");
    let counts: Vec<usize> = by_connection(&requests).values().map(Vec::len).collect();
    assert_eq!(counts, [6, 6, 6, 2]);
}

#[test]
fn pipelined_answers_larger_than_any_buffer_are_told_apart() {
    for driver in DRIVERS {
        let origin = Origin::start(&format!("--body 100KiB --driver {driver}"));
        let run = loadgen(&origin.url(), &format!("-c 2 -t 1 -n 200 --pipeline 16 --driver {driver}"));
        assert_eq!((run.code, run.count("/requests/completed")), (Some(0), 200), "{run:?}");
        assert!(run.count("/bytes/received") > 20_000_000, "{run:?}");
    }
}

#[test]
fn pipelined_bodies_larger_than_any_buffer_do_not_lock_both_sides() {
    let origin = Origin::start("--body 1MB");
    let body = scratch_path("body");
    fs::write(&body, vec![b'y'; 1_000_000]).expect("a body file");
    let args = format!("-c 1 -t 1 -n 8 --pipeline 8 -m POST --timeout 20s --body-file {}", body.display());
    let run = loadgen(&origin.url(), &args);
    fs::remove_file(&body).expect("the body file goes");
    assert_eq!((run.code, run.count("/requests/completed")), (Some(0), 8), "{run:?}");
}

#[test]
fn what_fell_due_during_a_stall_goes_out_together_with_its_own_latency() {
    for driver in DRIVERS {
        let url = serve_with_stall();
        let run = loadgen(&url, &format!("-c 1 -n 100 --rate 100 --pipeline 50 --driver {driver}"));
        assert_eq!((run.code, run.count("/requests/completed")), (Some(0), 100), "{run:?}");
        // As without pipelining: the stalled request and the 19 due meanwhile waited 200, 190, … 10 ms.
        assert!(run.count("/latency_ns/max") >= 199_000_000, "{run:?}");
        assert!(run.count("/latency_ns/p90") >= 90_000_000, "{run:?}");
        assert!(run.count("/service_time_ns/p90") < run.count("/latency_ns/p90"), "{run:?}");
    }
}

/// Writes a file of requests; returns its path.
fn requests_file(lines: &[&str]) -> PathBuf {
    let path = scratch_path("requests.jsonl");
    fs::write(&path, lines.join("\n")).expect("a file of requests");
    path
}

fn loadgen_with_file(url: &str, path: &PathBuf, args: &str) -> Outcome {
    let run = loadgen(url, &format!("--requests-file {} {args}", path.display()));
    fs::remove_file(path).expect("the file goes");
    run
}

/// What became of the requests of a name.
fn named<'a>(run: &'a Outcome, name: &str) -> &'a Value {
    let rows = run.json["named"].as_array().unwrap_or_else(|| panic!("no names in {run:?}"));
    rows.iter().find(|row| row["name"] == name).unwrap_or_else(|| panic!("no {name} in {run:?}"))
}

#[test]
fn a_file_of_requests_is_sent_by_weight_and_counted_by_name() {
    let origin = Origin::start("");
    let lines = [
        r#"{"name": "rare", "path": "/rare", "weight": 1}"#,
        r#"{"name": "often", "path": "/often", "weight": 2}"#,
        r#"{"name": "most", "method": "POST", "body": "x", "weight": 7}"#,
        r#"{"name": "often", "path": "/other", "expect_status": [404], "weight": 1}"#,
    ];
    let play = |args: &str| loadgen_with_file(&origin.url(), &requests_file(&lines), args);
    let run = play("-c 1 -t 1 -n 11000 --seed 5");
    assert_eq!(run.code, Some(1), "the origin has no 404: {run:?}");
    run.assert_adds_up();
    let count = |run: &Outcome, name: &str, what: &str| named(run, name)[what].as_u64().expect(what);
    // Deviations of four standard ones or more: sqrt(11000 / 11 · 10 / 11) = 30 for the rare.
    assert!((880..1_120).contains(&count(&run, "rare", "sent")), "{run:?}");
    assert!((6_790..7_210).contains(&count(&run, "most", "sent")), "{run:?}");
    assert!((880..1_120).contains(&count(&run, "often", "failed")), "{run:?}");
    assert_eq!(count(&run, "often", "failed"), run.errors("wrong_status"), "{run:?}");
    for what in ["sent", "completed", "failed", "unanswered"] {
        let sum: u64 = ["rare", "often", "most"].iter().map(|name| count(&run, name, what)).sum();
        assert_eq!(sum, run.count(&format!("/requests/{what}")), "{what}: {run:?}");
    }
    assert!(count(&run, "most", "p50_ns") <= count(&run, "most", "p99_ns"), "{run:?}");
    assert!(run.out.lines().any(|line| line.starts_with("rare ")), "{}", run.out);
    let again = play("-c 1 -t 1 -n 11000 --seed 5 --driver epoll");
    assert_eq!(count(&again, "rare", "sent"), count(&run, "rare", "sent"), "the seed settles it");
    let threads = play("-c 8 -t 2 -n 1000 --pipeline 3");
    threads.assert_adds_up();
    assert_eq!(threads.count("/requests/sent"), 1_000);
}

#[test]
fn a_file_in_order_is_sent_in_order() {
    let (url, requests) = record();
    let file = requests_file(&[
        r#"{"path": "/a", "weight": 9}"#,
        r#"{"path": "/b"}"#,
        r#"{"method": "HEAD", "path": "/c"}"#,
    ]);
    let run = loadgen_with_file(&url, &file, "-c 1 -t 1 -n 2 --in-order");
    assert_eq!(run.code, Some(0), "{run:?}");
    let targets: Vec<String> = requests.try_iter().map(|(_, request)| request[..6].to_owned()).collect();
    assert_eq!(targets, ["GET /a", "GET /b"]);
}

#[test]
fn methods_of_a_file_decide_whether_their_answers_have_bodies() {
    let origin = Origin::start("--body 50");
    let file =
        requests_file(&[r#"{"method": "HEAD"}"#, "{}", r#"{"expect_header": {"Content-Length": "50"}}"#]);
    let run = loadgen_with_file(&origin.url(), &file, "-c 3 -t 1 -n 300 --in-order --pipeline 2");
    assert_eq!((run.code, run.count("/requests/completed")), (Some(0), 300), "{run:?}");
    assert_eq!(named(&run, "HEAD /")["sent"], 100);
}

#[test]
fn mistakes_in_a_file_are_told_with_their_lines_and_nothing_is_sent() {
    let (url, requests) = record();
    let file = requests_file(&[r#"{"path": "/"}"#, r#"{"pth": "/"}"#, r#"{"weight": -1}"#]);
    let run = loadgen_with_file(&url, &file, "-n 1");
    assert_eq!(run.code, Some(2), "{run:?}");
    for part in
        [":2: \"pth\": unknown key; did you mean \"path\"?", ":3: \"weight\": expected a whole number"]
    {
        assert!(run.err.contains(part), "{part} is missing from {}", run.err);
    }
    assert!(run.out.is_empty() && requests.try_recv().is_err(), "{run:?}");
    let missing = loadgen(&url, "-n 1 --requests-file /no/such/file");
    assert!(missing.code == Some(2) && missing.err.contains("/no/such/file"), "{missing:?}");
}

#[test]
fn placeholders_are_filled_in_and_the_length_is_that_of_the_body() {
    for driver in DRIVERS {
        let (url, requests) = record();
        let args = "-c 1 -t 1 -n 11 -m POST -H X-Seq:{{seq}} --body n={{seq}},{{uuid}}";
        let run = loadgen(
            &format!("{url}p/{{{{seq}}}}?c={{{{connection}}}}"),
            &format!("{args} --driver {driver}"),
        );
        assert_eq!((run.code, run.count("/requests/completed")), (Some(0), 11), "{run:?}");
        let requests: Vec<String> = requests.try_iter().map(|(_, request)| request).collect();
        assert_eq!(requests.len(), 11);
        let bytes: usize = requests.iter().map(String::len).sum();
        assert_eq!(run.count("/bytes/sent"), bytes as u64);
        let mut uuids = BTreeSet::new();
        for (seq, request) in requests.iter().enumerate() {
            assert!(request.starts_with(&format!("POST /p/{seq}?c=0 HTTP/1.1\r\n")), "{request}");
            assert!(request.contains(&format!("\r\nX-Seq: {seq}\r\n")), "{request}");
            let uuid = request.split_once(&format!("\r\n\r\nn={seq},")).expect("the body").1;
            assert_eq!(uuid.len(), 36, "{request}");
            uuids.insert(uuid);
        }
        assert_eq!(uuids.len(), 11);
    }
}

#[test]
fn numbers_are_unique_over_all_threads_and_connections() {
    let (url, requests) = record();
    let run = loadgen(&format!("{url}{{{{seq}}}}"), "-c 5 -t 2 -n 200 --pipeline 3 -H C:{{connection}}");
    assert_eq!((run.code, run.count("/requests/completed")), (Some(0), 200), "{run:?}");
    let connections = by_connection(&requests);
    let numbers: BTreeSet<&str> =
        connections.values().flatten().map(|request| request.split(' ').nth(1).expect("a target")).collect();
    assert_eq!(numbers.len(), 200, "{connections:?}");
    let named =
        |request: &String| request.lines().find_map(|line| line.strip_prefix("C: ")).map(str::to_owned);
    let names: Vec<BTreeSet<_>> =
        connections.values().map(|requests| requests.iter().map(named).collect()).collect();
    assert!(names.iter().all(|names| names.len() == 1), "one number a connection: {names:?}");
    assert_eq!(names.iter().collect::<BTreeSet<_>>().len(), connections.len(), "{names:?}");
}

#[test]
fn expected_fields_and_bodies_are_checked_in_every_answer() {
    let body = scratch_path("expected");
    fs::write(&body, "0123456789").expect("a file");
    let hash = "84d89877f0d4041efb6bf91a16f0248f2fd573e6af05c19f96bedb9f882f7882";
    for driver in DRIVERS {
        for check in [
            "--expect-header content-length:10".to_owned(),
            format!("--expect-body-sha256 {hash}"),
            format!("--expect-body-file {}", body.display()),
        ] {
            let run =
                loadgen(&serve_always(RIGHT), &format!("-c 2 -n 50 --pipeline 2 {check} --driver {driver}"));
            assert_eq!((run.code, run.count("/requests/completed")), (Some(0), 50), "{check}: {run:?}");
            let wrong = RIGHT.replace("9", "8").replace("Content-Length: 10", "Content-length: 010");
            let run = loadgen(&serve_always(wrong), &format!("-c 2 -n 50 {check} --driver {driver}"));
            let kind = if check.contains("header") { "wrong_header" } else { "wrong_body" };
            assert_eq!((run.code, run.errors(kind)), (Some(1), 50), "{check}: {run:?}");
            run.assert_adds_up();
        }
    }
    fs::remove_file(&body).expect("the file goes");
}

#[test]
fn a_head_seen_before_does_not_hide_one_that_lacks_a_field() {
    let mut number = 0;
    let url = serve(move |mut stream| {
        while read_request(&mut stream) {
            number += 1;
            let field = if number % 4 == 0 { "X-A: c" } else { "X-A: b" };
            let answer = format!("HTTP/1.1 200 OK\r\n{field}\r\nContent-Length: 0\r\n\r\n");
            if stream.write_all(answer.as_bytes()).is_err() {
                return;
            }
        }
    });
    let run = loadgen(&url, "-c 1 -n 100 --expect-header X-A:b");
    assert_eq!((run.count("/requests/completed"), run.errors("wrong_header")), (75, 25), "{run:?}");
    assert!(run.out.contains("no 'X-A: b' in the answer"), "{}", run.out);
    assert_eq!(run.count("/generator/connects"), 1, "a wrong answer costs no connection");
}
