//! What the tests of the programs that measure share.

use std::path::Path;
use std::process::{Command, Output};

/// A measurement runs the programs that lie beside it.
pub(crate) fn build_contenders() {
    let dir = Path::new(env!("CARGO_BIN_EXE_peers")).parent().unwrap();
    let mut cargo = Command::new(env!("CARGO"));
    // As `./test` builds: another choice of packages would choose other features and build anew.
    cargo.args(["build", "--workspace", "--exclude", "corelane-simulation", "--bins", "--target-dir"]);
    cargo.arg(dir.parent().unwrap());
    if dir.ends_with("release") {
        cargo.arg("--release");
    }
    assert!(cargo.status().unwrap().success(), "the contenders do not build");
}

/// All that a measurement printed.
pub(crate) fn said(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

/// What a measurement wrote to `path`, which is removed.
pub(crate) fn read_report(path: &Path) -> serde_json::Value {
    let text = std::fs::read_to_string(path).unwrap();
    std::fs::remove_file(path).unwrap();
    serde_json::from_str(&text).unwrap()
}
