//! Does the comparison of load generators work from end to end?

mod common;

use std::process::Command;

use common::{build_contenders, read_report, said};

#[test]
fn measures_our_client_beside_wrk_on_both_drivers() {
    build_contenders();
    let report = std::env::temp_dir().join(format!("corelane-clients-{}.json", std::process::id()));
    let output = Command::new(env!("CARGO_BIN_EXE_clients"))
        .args(["--connections=8", "--rounds=2", "--seconds=1", "--json", report.to_str().unwrap()])
        .output()
        .unwrap();
    let said = said(&output);
    assert!(output.status.success(), "{said}");

    let report = read_report(&report);
    let rows = report["tables"][0]["rows"].as_array().unwrap();
    let names: Vec<_> = rows.iter().map(|row| row["client"].as_str().unwrap()).collect();
    assert_eq!(names, ["loadgen-epoll", "loadgen-uring"], "{said}");
    for row in rows {
        for round in row["rounds"].as_array().unwrap() {
            for client in ["loadgen", "wrk"] {
                assert!(round[client]["requests"].as_u64().unwrap() > 100, "{round}");
                assert!(round[client]["cpu_s"].as_f64().unwrap() > 0.0, "{round}");
            }
        }
        // A debug build on a busy machine says nothing about speed; a ratio outside of this is no ratio.
        let ratio = row["median"].as_f64().unwrap();
        assert!((0.1..100.0).contains(&ratio), "{row}");
    }
    for verdict in ["loadgen-epoll ", "loadgen-uring "] {
        assert!(said.contains(&format!("target  {verdict}")), "{said}");
    }
}
