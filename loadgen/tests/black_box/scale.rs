//! Does `loadgen scale` measure, judge, and leave nothing running?

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::Value;

use crate::harness::{scratch_path, signal};

const PROGRAM: &str = env!("CARGO_BIN_EXE_loadgen");

/// The engine of the same build: of another package, so cargo does not name it to this test.
fn engine() -> PathBuf {
    let path = Path::new(PROGRAM).with_file_name("engine");
    assert!(path.is_file(), "no engine at {}: run `cargo build -p corelane-engine` first", path.display());
    path
}

fn scale(args: &[&str]) -> (Option<i32>, String, String) {
    let output = Command::new(PROGRAM).arg("scale").args(args).output().expect("loadgen runs");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (output.status.code(), text(&output.stdout), text(&output.stderr))
}

/// The living processes that `parent` has started.
fn children_of(parent: u32) -> Vec<u32> {
    let is_child = |process: &u32| {
        // proc_pid_stat(5): state and parent follow the command in parentheses.
        let stat = fs::read_to_string(format!("/proc/{process}/stat")).unwrap_or_default();
        stat.rsplit_once(')').is_some_and(|(_, rest)| {
            rest.split_whitespace().nth(1).and_then(|field| field.parse().ok()) == Some(parent)
        })
    };
    let entries = fs::read_dir("/proc").expect("processes").flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).filter(is_child).collect()
}

fn is_alive(process: u32) -> bool {
    fs::read_to_string(format!("/proc/{process}/stat")).is_ok_and(|stat| !stat.contains(") Z "))
}

#[test]
fn one_round_of_two_core_counts_gives_the_measured_ratio() {
    let (engine, json) = (engine(), scratch_path("scale.json"));
    let paths = (engine.to_str().expect("a path"), json.to_str().expect("a path"));
    let (code, out, err) = scale(&[
        "--cores",
        "2,1",
        "--rounds",
        "1",
        "--seconds",
        "1",
        "-c",
        "8",
        "--engine",
        paths.0,
        "--json",
        paths.1,
    ]);
    assert_eq!(code, Some(0), "{out}{err}");
    let report: Value = serde_json::from_slice(&fs::read(&json).expect("a report")).expect("JSON");
    fs::remove_file(&json).expect("the report goes");
    assert_eq!(
        (report["points"][0]["cores"].as_u64(), report["points"][1]["cores"].as_u64()),
        (Some(1), Some(2))
    );
    assert_eq!(report["points"][0]["cpu_ratio"]["median"], 1.0);
    for round in report["rounds"].as_array().expect("rounds") {
        let figure = |name: &str| round[name].as_f64().expect(name);
        assert!(figure("requests") > 0.0 && figure("p50_ns") <= figure("p99_ns"), "{round}");
        // An engine's threads cannot use more CPU time than their CPUs have.
        assert!(figure("engine_cpus") > 0.0 && figure("engine_cpus") < figure("cores") + 1.0, "{round}");
    }
    assert!(
        report["fit"].is_null() && out.contains("2 core counts cannot determine three coefficients"),
        "{out}"
    );
    let cpus = report["setup"]["cpus"].as_u64().expect("CPUs");
    assert_eq!(out.contains("Throughput is no promise here: client"), cpus < 4, "{out}");
}

#[test]
fn an_interrupt_ends_everything_it_started() {
    // The second time without a chance to clean up: then the kernel does.
    for (end, code) in [(Signal::INT, Some(130)), (Signal::KILL, None)] {
        let mut child = Command::new(PROGRAM)
            .args(["scale", "--cores", "1,2", "--seconds", "1", "--rounds", "600", "-c", "2", "--engine"])
            .arg(engine())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("loadgen starts");
        let mut line = String::new();
        let mut said = BufReader::new(child.stderr.take().expect("its progress"));
        said.read_line(&mut line).expect("a line");
        assert!(line.starts_with("round 1 of 600:"), "{line}");
        let deadline = Instant::now() + Duration::from_secs(20);
        let mut children = Vec::new();
        while children.len() < 2 {
            assert!(Instant::now() < deadline, "no second round");
            children = children_of(child.id());
        }
        signal(child.id(), end);
        assert_eq!(child.wait().expect("it ends").code(), code);
        while children.iter().any(|process| is_alive(*process)) {
            assert!(Instant::now() < deadline, "{end:?} left {children:?}");
            std::thread::yield_now();
        }
    }
}

#[test]
fn what_cannot_be_started_is_named() {
    let (code, _, err) = scale(&["--cores", "1,2", "--engine", "/nowhere/engine"]);
    assert_eq!(code, Some(2));
    assert!(err.contains("there is no engine at /nowhere/engine") && err.contains("--engine PATH"), "{err}");
    // A program that is no engine: its last words are repeated.
    let (code, _, err) = scale(&["--cores", "1,2", "--engine", "/bin/ls"]);
    assert_eq!(code, Some(2));
    assert!(
        err.contains("round 1, 1 cores: the engine ended at its start") && err.contains("--cores"),
        "{err}"
    );
}

#[test]
fn wrong_arguments_say_what_is_wanted() {
    let engine = engine();
    let engine = engine.to_str().expect("a path");
    for (args, hint) in [
        (&["--cores", "1"][..], "at least two"),
        (&["--cores", "1,1"], "named twice"),
        (&["--cores", "1,0.5"], "'0.5' is not a number of cores"),
        (&["--cores", "1,2", "--rounds", "none"], "--rounds"),
        (&["--cores", "1,8", "-c", "7", "--engine", engine], "use -c 128 or more"),
        (&["--cores", "1,2", "--json", "/nowhere/report.json", "--engine", engine], "/nowhere/report.json"),
    ] {
        let (code, out, err) = scale(args);
        assert_eq!((code, out.as_str()), (Some(2), ""), "{args:?}: {err}");
        assert!(err.contains(hint), "{args:?}: {err}");
    }
}
