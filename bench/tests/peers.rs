//! Does the paired measurement work from end to end?

use std::path::Path;
use std::process::{Command, Output};

fn peers(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_peers")).args(arguments).output().unwrap()
}

/// The measurement runs the gateway and the load generator that lie beside it.
fn build_contenders() {
    let dir = Path::new(env!("CARGO_BIN_EXE_peers")).parent().unwrap();
    let mut cargo = Command::new(env!("CARGO"));
    // The whole workspace, as the tests were built: a choice of packages would choose other features and build anew.
    cargo.args(["build", "--workspace", "--bins", "--target-dir"]).arg(dir.parent().unwrap());
    if dir.ends_with("release") {
        cargo.arg("--release");
    }
    assert!(cargo.status().unwrap().success(), "the contenders do not build");
}

#[test]
fn smoke_run_measures_the_gateway_beside_the_null_relay() {
    build_contenders();
    let report = std::env::temp_dir().join(format!("corelane-smoke-{}.json", std::process::id()));
    let output = peers(&["--smoke", "--json", report.to_str().unwrap()]);
    let said =
        format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{said}");

    let text = std::fs::read_to_string(&report).unwrap();
    std::fs::remove_file(&report).unwrap();
    let report: serde_json::Value = serde_json::from_str(&text).unwrap();
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
    let said =
        format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{said}");

    let text = std::fs::read_to_string(&report).unwrap();
    std::fs::remove_file(&report).unwrap();
    let report: serde_json::Value = serde_json::from_str(&text).unwrap();
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

#[test]
fn list_names_scenarios_and_contenders() {
    let output = peers(&["--list"]);
    let text = String::from_utf8(output.stdout).unwrap();
    for name in [
        "c64",
        "c256",
        "body16k",
        "c1",
        "latency",
        "scaling",
        "idle",
        "unused",
        "null",
        "engine-uring",
        "nginx",
        "haproxy",
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
