//! Do profiles stand for their flags, and does a missed target fail the run?

use std::fs;
use std::io::Write;
use std::process::{Command, Output};

use crate::harness::{Origin, RIGHT, loadgen, read_request, scratch_path, serve};

fn run(args: &[&str]) -> (Option<i32>, String, String) {
    let Output { status, stdout, stderr } =
        Command::new(env!("CARGO_BIN_EXE_loadgen")).args(args).output().expect("loadgen runs");
    let text = |bytes| String::from_utf8(bytes).expect("text");
    (status.code(), text(stdout), text(stderr))
}

#[test]
fn a_shipped_profile_runs_with_flags_that_override_it() {
    let origin = Origin::start("--delay 30ms");
    let run = loadgen(&origin.url(), "--profile openhim-slow-upstream -c 10 -t 1 -d 300ms");
    assert_eq!((run.code, run.count("/connections")), (Some(0), 10), "{run:?}");
    assert!(run.err.contains("it is meant for an upstream such as: loadgen origin --delay 500ms"), "{run:?}");
    assert_eq!(run.json["target"]["kept"].as_bool(), Some(true), "{run:?}");
    assert!(run.out.contains("target     p95 < 600 ms: kept ("), "{run:?}");
    let bodies = loadgen(&origin.url(), "--profile openhim-large-bodies -c 1 -t 1 -n 3 --body-size 70000");
    assert_eq!(bodies.code, Some(0), "{bodies:?}");
    assert!(bodies.count("/bytes/sent") > 210_000, "{bodies:?}");
}

#[test]
fn profiles_of_pipelines_and_of_handshakes_do_what_they_say() {
    // It answers only when sixteen requests are there.
    let url = serve(|mut stream| {
        while (0..16).all(|_| read_request(&mut stream))
            && stream.write_all(RIGHT.repeat(16).as_bytes()).is_ok()
        {}
    });
    let pipelined = loadgen(&url, "--profile pipelined -c 1 -t 1 -n 64");
    assert_eq!((pipelined.code, pipelined.count("/requests/completed")), (Some(0), 64), "{pipelined:?}");
    let origin = Origin::start("--tls");
    let private = loadgen(&origin.url(), "--profile tls-handshakes -c 2 -t 1 -n 10");
    assert_eq!((private.code, private.count("/generator/connects")), (Some(0), 10), "{private:?}");
    assert_eq!(private.count("/tls/resumed"), 0, "{private:?}");
}

#[test]
fn a_flag_that_a_profile_rules_out_is_refused_with_the_profiles_own() {
    let (code, _, err) = run(&["--profile", "churn", "--pipeline", "2", "http://h/"]);
    assert_eq!(code, Some(2), "{err}");
    assert!(err.contains("the profile churn gave: ") && err.contains(" --no-keepalive"), "{err}");
    assert!(err.contains("cannot be used with"), "{err}");
}

#[test]
fn a_missed_target_fails_the_run() {
    let origin = Origin::start("--delay 30ms");
    let args = ["--target", "p95 < 20ms", "-c", "2", "-t", "1", "-n", "20"];
    let (code, out, err) = run(&[&[origin.url().as_str()], &args[..]].concat());
    assert_eq!(code, Some(1), "{out}{err}");
    assert!(out.contains("target     p95 < 20 ms: missed ("), "{out}");
}

#[test]
fn profiles_are_listed_shown_and_read_back() {
    let (code, list, _) = run(&["profile", "list"]);
    assert_eq!((code, list.lines().count()), (Some(0), 9), "{list}");
    let (code, text, _) = run(&["profile", "show", "latency"]);
    assert!(code == Some(0) && text.contains("arrival = \"poisson\""), "{text}");
    let path = scratch_path("own.toml");
    fs::write(&path, text.replace("30s", "200ms").replace("2k", "100")).expect("a profile of one's own");
    let origin = Origin::start("");
    let own = loadgen(&origin.url(), &format!("--profile {} -t 1", path.display()));
    assert_eq!((own.code, own.json["arrival"].as_str()), (Some(0), Some("poisson")), "{own:?}");
    fs::write(&path, "rate = '1k'\nduraton = '3s'").expect("a mistake");
    let name = path.display().to_string();
    let (code, _, err) = run(&["--profile", &name, &origin.url()]);
    assert_eq!(code, Some(2), "{err}");
    assert!(err.contains(&format!("{name}:2:1: duraton: no such key")), "{err}");
    fs::remove_file(&path).expect("it goes");
    for args in [["--profile", "nothing", "http://h/"], ["profile", "show", "nothing"]] {
        let (code, _, err) = run(&args);
        assert!(code == Some(2) && err.contains("loadgen profile list"), "{err}");
    }
}
