//! Is a terminal taken over only when there is one, and given back however the run ends?

use std::io::{BufReader, Read, Write};
use std::process::{Child, Command, Stdio};

use rustix::process::Signal;

use crate::harness::{Origin, loadgen, scratch_path, signal};

const ENTER: &str = "\x1b[?1049h";
const LEAVE: &str = "\x1b[?1049l";

/// `loadgen` on a terminal of its own, which util-linux's `script` makes. Its process id comes first.
fn on_a_terminal(line: &str) -> Child {
    let program = env!("CARGO_BIN_EXE_loadgen");
    let line = format!("stty rows 30 cols 100; echo \"pid $$.\"; exec {program} {line}");
    Command::new("script")
        .args(["--quiet", "--return", "--flush", "--command", &line, "/dev/null"])
        .env("TERM", "xterm")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("util-linux's script starts")
}

/// Reads on until `mark` has come, at the latest until the run is over; returns all that was read.
fn read_until(output: &mut impl Read, mark: &str) -> String {
    let mut seen = Vec::new();
    let mut byte = [0];
    while !seen.ends_with(mark.as_bytes()) {
        assert_eq!(output.read(&mut byte).expect("output"), 1, "{}", String::from_utf8_lossy(&seen));
        seen.push(byte[0]);
    }
    String::from_utf8_lossy(&seen).into_owned()
}

#[test]
fn a_key_or_a_signal_ends_the_run_and_gives_the_terminal_back() {
    let origin = Origin::start("");
    for end in ["q", "\x03", "signal"] {
        let json = scratch_path("live.json");
        let line = format!("{} -c 2 -t 1 -d 60s --json {}", origin.url(), json.display());
        let mut child = on_a_terminal(&line);
        let mut output = BufReader::new(child.stdout.take().expect("its output"));
        let mut keys = child.stdin.take().expect("its keys");
        let begin = read_until(&mut output, "generator");
        let process =
            begin.split("pid ").nth(1).and_then(|rest| rest.split('.').next()).expect("a process id");
        assert!(begin.contains(ENTER) && begin.contains("completed"), "{begin}");
        match end {
            "signal" => signal(process.parse().expect("a number"), Signal::TERM),
            key => keys.write_all(key.as_bytes()).expect("a key is pressed"),
        }
        let mut rest = String::new();
        output.read_to_string(&mut rest).expect("the rest");
        assert!(child.wait().expect("an end").success(), "{rest}");
        let (_, after) = rest.split_once(LEAVE).expect("the terminal is given back");
        assert!(after.contains("requests   ") && !after.contains(ENTER), "the summary stands below: {after}");
        // The run ended early, and its reports were written all the same.
        let summary = std::fs::read_to_string(&json).expect("a summary");
        std::fs::remove_file(&json).expect("it goes");
        assert!(summary.contains("\"latency_ns\""), "{summary}");
    }
}

#[test]
fn plain_lines_are_plain_with_and_without_a_terminal() {
    let origin = Origin::start("");
    let mut child = on_a_terminal(&format!("{} -c 1 -n 20 --plain", origin.url()));
    let mut text = String::new();
    child.stdout.take().expect("its output").read_to_string(&mut text).expect("all of it");
    assert!(child.wait().expect("an end").success(), "{text}");
    assert!(text.contains("requests   20 sent") && !text.contains('\x1b'), "{text}");
    let run = loadgen(&origin.url(), "-c 1 -n 20");
    assert!(!run.err.contains('\x1b') && !run.out.contains('\x1b'), "{run:?}");
}
