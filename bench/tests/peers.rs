//! Does the paired measurement work from end to end?

mod common;

use std::path::Path;
use std::process::{Command, Output};

use common::{build_contenders, read_report, said};

fn peers(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_peers")).args(arguments).output().unwrap()
}

#[test]
fn smoke_run_measures_the_gateway_beside_the_null_relay() {
    build_contenders();
    let report = std::env::temp_dir().join(format!("corelane-smoke-{}.json", std::process::id()));
    let output = peers(&["--smoke", "--json", report.to_str().unwrap()]);
    let said = said(&output);
    assert!(output.status.success(), "{said}");

    let report = read_report(&report);
    for (row, contender) in ["null", "engine-epoll"].iter().enumerate() {
        let row = &report["scenarios"][0]["rows"][row];
        assert_eq!(row["contender"], *contender, "{said}");
        assert!(row["failure"].is_null(), "{said}");
        assert!(row["rounds"][0]["candidate"]["requests"].as_u64().unwrap() > 100, "{row}");
        assert_eq!(row["rounds"][0]["candidate"]["errors"], 0, "{row}");
        // A debug build on a busy machine says nothing about speed; a ratio outside of this is no ratio.
        let ratio = row["median"].as_f64().unwrap();
        assert!((0.2..100.0).contains(&ratio), "{row}");
    }
}

#[test]
fn memory_of_idle_connections_is_measured() {
    build_contenders();
    let report = std::env::temp_dir().join(format!("corelane-smoke-idle-{}.json", std::process::id()));
    let output = peers(&[
        "--scenario=idle",
        "--scenario=unused",
        "--connections=200",
        "--rounds=1",
        "--json",
        report.to_str().unwrap(),
    ]);
    let said = said(&output);
    assert!(output.status.success(), "{said}");

    let report = read_report(&report);
    for (scenario, name) in ["idle", "unused"].iter().enumerate() {
        let scenario = &report["scenarios"][scenario];
        assert_eq!(scenario["name"], *name);
        for (row, contender) in ["engine-epoll", "engine-uring", "nginx", "haproxy"].iter().enumerate() {
            let row = &scenario["rows"][row];
            assert_eq!(row["contender"], *contender, "{said}");
            assert!(row["failure"].is_null(), "{said}");
            // A few connections cannot show what each costs beside what is taken once; 1 MB each is no such figure.
            assert!(row["median"].as_f64().unwrap() < 1e6, "{row}");
        }
    }
}

/// Runs `scenarios` with few connections for a moment; returns their reports and all that was printed.
fn measure(name: &str, scenarios: &[&str], candidates: &[&str]) -> (Vec<serde_json::Value>, String) {
    build_contenders();
    let report = std::env::temp_dir().join(format!("corelane-{name}-{}.json", std::process::id()));
    let mut arguments =
        vec!["--connections=8", "--rounds=1", "--seconds=1", "--json", report.to_str().unwrap()];
    for scenario in scenarios {
        arguments.extend(["--scenario", scenario]);
    }
    for candidate in candidates {
        arguments.extend(["--candidate", candidate]);
    }
    let output = peers(&arguments);
    let said = said(&output);
    assert!(output.status.success(), "{said}");
    (read_report(&report)["scenarios"].as_array().unwrap().clone(), said)
}

/// Fails unless the rows are those of `candidates`, each with something done and nothing lost.
#[track_caller]
fn assert_rows(scenario: &serde_json::Value, candidates: &[&str]) {
    let rows = scenario["rows"].as_array().unwrap();
    let names: Vec<_> = rows.iter().map(|row| row["contender"].as_str().unwrap()).collect();
    assert_eq!(names, candidates, "{scenario}");
    for row in rows {
        assert!(row["failure"].is_null(), "{row}");
        assert!(row["rounds"][0]["candidate"]["requests"].as_u64().unwrap() > 0, "{row}");
        assert_eq!(row["rounds"][0]["candidate"]["errors"], 0, "{row}");
    }
}

#[test]
fn every_runtime_of_the_workspace_has_a_row() {
    let relays = ["relay-epoll", "relay-uring", "tokio"];
    let (scenarios, _) = measure("runtimes", &["c64"], &relays);
    assert_rows(&scenarios[0], &relays);
}

#[test]
fn a_connection_for_each_request_and_large_bodies_are_measured() {
    let (scenarios, _) =
        measure("churn", &["churn", "body1m"], &["null", "engine-epoll", "nginx", "haproxy"]);
    for scenario in &scenarios {
        assert_rows(scenario, &["null", "engine-epoll", "nginx", "haproxy"]);
    }
}

#[test]
fn relays_of_bytes_are_measured_and_who_takes_none_is_left_out_aloud() {
    let asked = ["null", "engine-epoll", "engine-uring", "nginx", "haproxy", "tokio"];
    let (scenarios, said) = measure("tcp", &["tcp-ping", "tcp-bulk"], &asked);
    for scenario in &scenarios {
        assert_rows(scenario, &["null", "engine-epoll", "engine-uring", "nginx", "haproxy"]);
        assert_eq!(scenario["left_out"][0]["contender"], "tokio", "{scenario}");
    }
    assert!(said.contains("tokio         left out: it passes on HTTP requests"), "{said}");
}

#[test]
fn a_contender_that_is_not_built_fails_its_row_alone_and_says_what_builds_it() {
    build_contenders();
    // A directory where only the origin, the client and the reference lie beside the measurement.
    let built = Path::new(env!("CARGO_BIN_EXE_peers"));
    let dir = std::env::temp_dir().join(format!("corelane-not-built-{}", std::process::id()));
    std::fs::create_dir(&dir).unwrap();
    for program in ["peers", "loadgen", "null_relay"] {
        std::fs::copy(built.with_file_name(program), dir.join(program)).unwrap();
    }
    let output = Command::new(dir.join("peers"))
        .args(["--scenario=c64", "--candidate=glommio", "--rounds=1", "--seconds=1"])
        .output()
        .unwrap();
    std::fs::remove_dir_all(&dir).unwrap();
    let said = said(&output);
    assert!(!output.status.success(), "{said}");
    assert!(said.contains("glommio       FAILED: glommio_relay is not built: bench/runtimes"), "{said}");
}

#[test]
fn list_names_scenarios_and_contenders() {
    let output = peers(&["--list"]);
    let text = String::from_utf8(output.stdout).unwrap();
    for name in [
        "c64",
        "c256",
        "body16k",
        "c1",
        "c8",
        "body1m",
        "churn",
        "tcp-ping",
        "tcp-bulk",
        "latency",
        "scaling",
        "idle",
        "unused",
        "null",
        "engine-uring",
        "nginx",
        "haproxy",
        "pingora",
        "relay-epoll",
        "relay-uring",
        "monoio-uring",
        "monoio-epoll",
        "glommio",
        "tokio",
    ] {
        assert!(text.contains(&format!("  {name} ")), "{name} is missing from\n{text}");
    }
}

#[test]
fn refuses_an_unknown_scenario() {
    let output = peers(&["--scenario", "c65"]);
    assert!(!output.status.success());
    assert_eq!(String::from_utf8(output.stderr).unwrap(), "peers: no scenario \"c65\"; --list names them\n");
}
